//! `loadgen http`: HTTP requests under a closed or an open loop, measured and reported.

mod board;
mod check;
mod connection;
mod drive;
mod journey;
mod options;
mod progress;
mod record;
mod report;
mod retry;
mod run;
mod scenario;
mod schedule;
mod stages;
mod summary;
mod tally;
mod template;
mod usage;
mod value;
mod verdict;
mod waves;
mod worker;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use http::Uri;
use tokio::sync::watch;

use self::connection::{Connection, Shared, Wire};
use self::drive::{CUT_SHORT, Finished, Stop};
use self::journey::Journey;
pub(crate) use self::options::Args;
use self::options::{Settings, Task};
use self::progress::{Progress, View, Watched};
use self::report::Report;
use self::run::{Control, Work};
use self::scenario::Source;
use self::usage::{Meter, Usage};
use self::verdict::Verdict;
use crate::cli::{EXIT_INTERRUPTED, WrongUsage};
use crate::process::Process;
use crate::record::figures::SHARE;
use crate::record::{Output, Record, Sampler, Start, ThresholdResult};
use crate::results::Results;
use crate::signals::Interruptions;
use crate::stdout::print;
use crate::tls;

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (output, view) = args.view();
    args.check_outputs().map_err(WrongUsage::of)?;
    match args.into_task().map_err(WrongUsage::of)? {
        Task::Single(settings) => single(&settings, &output, view).await,
        Task::File {
            path,
            settings,
            target,
            tls,
            save,
        } => {
            let database = save.open().map_err(WrongUsage::of)?;
            let text = std::fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))
                .map_err(WrongUsage::of)?;
            let source = Source {
                path,
                text,
                settings,
            };
            file(&source, (target, tls), (&output, database), view).await
        }
    }
}

/// One request again and again.
async fn single(settings: &Settings, output: &Output, view: View) -> anyhow::Result<ExitCode> {
    let wire = Wire {
        addresses: connection::resolve(&settings.request.uri).await?,
        protocol: settings.request.protocol,
        tls: settings.request.tls.clone(),
        trace_context: settings.request.trace_context,
    };
    let database = settings.save.open().map_err(WrongUsage::of)?;
    let stop = stop_on_signal()?;
    let control = Control {
        timeout: settings.timeout,
        start_after: Duration::ZERO,
        stop: stop.0.subscribe(),
    };
    let Settings { request, .. } = settings;
    // Without the host: one service is compared with another by it.
    let label = format!("{} {}", request.method, request.uri.path());
    let journey = Journey::single(label.clone(), settings.request.outgoing());
    let work = Work::new(
        Arc::new(journey),
        Arc::default(),
        &settings.load,
        rand::random(),
    );
    let start = Start::now();
    let meter = Meter::start();
    let sampler = Sampler::start(Process::own(), "loadgen", start.instant());
    let watched = Watched {
        name: String::new(),
        planned: settings.load.duration.map(|it| it + settings.load.warm_up),
        board: Arc::clone(&work.board),
    };
    let progress = Progress::start(vec![watched], view);
    let make_connection = |_| Connection::new(wire.clone(), None);
    let outcome = run::measure(&settings.load, &work, control, make_connection).await?;
    if let Some(progress) = progress {
        progress.finish().await;
    }
    let usage = meter.stop();
    let report = Report::new(settings, &outcome);
    print(&report.render())?;
    let finished = Finished {
        executor: settings.load.mode.name(),
        load: settings.load.clone(),
        labels: vec![label.clone()],
        name: label,
        work,
        recovery: None,
        outcome,
    };
    // Late requests say nothing against the share of failed ones, which is all that is judged here.
    let cut_short = finished.outcome.interrupted.then_some(CUT_SHORT);
    let verdict = Verdict::of(report.passed(), cut_short);
    let name = format!("{} {}", request.method, request.uri);
    let mut record = record::of_single(&name, &finished, &start, (usage, &verdict));
    print(&conclusion(&record, usage, &verdict))?;
    record.series.extend(sampler.stop().await);
    record.thresholds.push(ThresholdResult {
        expression: format!("failed and unsent requests <= {}", settings.error_rate_max),
        value: Some(report.error_rate()),
        unit: SHARE.to_owned(),
        passed: report.passed(),
        why: String::new(),
    });
    // One run, whichever table it is looked up in.
    report.run_id().clone_into(&mut record.run_id);
    let kept = keep(settings, &report, &record, database.as_ref()).await;
    output.write(&record)?;
    kept?;
    Ok(verdict.exit_code())
}

/// What comes below the figures.
fn conclusion(record: &Record, usage: Usage, verdict: &Verdict) -> String {
    let mut lines = vec![format!("\n{}", usage.shown())];
    lines.extend(record.notes.iter().map(|note| format!("note: {note}")));
    if let Verdict::None(_) = verdict {
        lines.push(verdict.shown());
    }
    lines.join("\n") + "\n"
}

/// The scenarios of a file.
async fn file(
    source: &Source,
    (target, tls): (Option<Uri>, tls::Options),
    (output, database): (&Output, Option<Results>),
    view: View,
) -> anyhow::Result<ExitCode> {
    let plan = scenario::read(source, target)
        .map_err(|mistakes| WrongUsage::of(anyhow::anyhow!(mistakes)))?;
    let host = plan.target.host().unwrap_or_default();
    let tls = tls.of(plan.target.scheme_str(), host, plan.protocol.application());
    let wire = Wire {
        tls: tls.map_err(WrongUsage::of)?,
        addresses: connection::resolve(&plan.target).await?,
        protocol: plan.protocol,
        trace_context: plan.trace_context,
    };
    let shared: Vec<Vec<Shared>> = plan
        .scenarios
        .iter()
        .map(|_| (0..plan.connections).map(|_| Shared::default()).collect())
        .collect();
    let make_connection = move |scenario: usize, worker: usize| {
        let shared = shared.get(scenario).filter(|it| !it.is_empty());
        let shared = shared.and_then(|it| it.get(worker % it.len()).cloned());
        Connection::new(wire.clone(), shared)
    };
    let stop = stop_on_signal()?;
    let start = Start::now();
    let sampler = Sampler::start(Process::own(), "loadgen", start.instant());
    let results = drive::run(&plan, view, &stop, make_connection).await?;
    let series = sampler.stop().await;
    print(&summary::render(&plan, &results))?;
    let mut record = record::of_plan(&plan.name, source, &start, &results);
    record.series.extend(series);
    let written = output.write(&record);
    if let Some(database) = database {
        database.save(&record).await?;
    }
    written?;
    Ok(results.round.verdict().exit_code())
}

/// Writes the result wherever it was asked for; one failure does not keep it from the other place.
async fn keep(
    settings: &Settings,
    report: &Report,
    record: &Record,
    database: Option<&Results>,
) -> anyhow::Result<()> {
    let written = match &settings.json {
        Some(path) => write_json(path, report),
        None => Ok(()),
    };
    let saved = match database {
        Some(database) => {
            let row = database.insert(&report.row()).await;
            row.and(database.save(record).await)
        }
        None => Ok(()),
    };
    written.and(saved)
}

fn write_json(path: &Path, report: &Report) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(report)?;
    std::fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))
}

/// A flag that turns true at the first SIGINT or SIGTERM; the second one ends the process.
fn stop_on_signal() -> anyhow::Result<Stop> {
    let mut interruptions = Interruptions::listen()?;
    let stop = Stop(Arc::new(watch::channel(false).0));
    let stopped = stop.clone();
    tokio::spawn(async move {
        for count in 0_u8.. {
            interruptions.next().await;
            if count > 0 {
                std::process::exit(EXIT_INTERRUPTED);
            }
            stop.0.send_replace(true);
        }
    });
    Ok(stopped)
}
