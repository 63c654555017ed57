//! `loadgen run`: a suite of tests over a whole pipeline: what takes part, what is done, what came of it.

mod act;
mod baseline;
mod check;
mod child;
mod container;
mod counter;
mod events;
mod fetch;
pub(crate) mod guard;
mod ledger;
mod load;
mod model;
mod monitor;
mod overview;
mod plan;
mod read;
mod report;
mod results;
mod stage;
mod template;
mod to_record;
mod trace;
mod unit;
mod variables;
mod walk;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::Context as _;
use tokio::sync::watch;

use crate::cli::{EXIT_FAILED, EXIT_LIMIT_CROSSED, WrongUsage, parse_percent};
use crate::compare::Comparison;
use crate::record::{Output, Record, Start};
use crate::results::{Results, Save};
use crate::signals::Interruptions;
use crate::stdout::print;
use baseline::Baseline;
use check::Checked;
use container::Container;
use fetch::Fetch;
use guard::Guard;
use ledger::Ledger;
use model::{Suite, Test};
use overview::Overview;
use plan::Plan;
use results::{Status, TestResult};
use stage::Stage;
use template::Templates;
use trace::{SpanIndex, Trace};
use variables::{Variant, words};

/// What a run leaves in `--out` besides its files: figures, and the report in two forms.
const REPORTS: [&str; 3] = ["record.json", "report.md", "report.html"];

/// The counts of the last line when the suite does not say.
const SUMMARY: &str = "sent={{ ledger.sent }} delivered={{ ledger.delivered }} lost={{ ledger.lost }} duplicated={{ ledger.duplicated }}";

/// Run suites of tests over a whole pipeline and report what became of every item.
///
/// The suite (docs/suites.md) names components (generators, agents, backends) and tests of ordered steps. Everything is
/// checked before anything starts; all mistakes are told at once, with file, line, column and key. Whatever was started
/// is ended with the run, also after Ctrl-C, SIGTERM and kill -9.
///
/// The report goes to standard output and, with the rendered configurations and every figure, to --out. Exit status:
/// 0 all held; 1 a test failed; 2 the suite has mistakes; 99 a limit was crossed.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The suites; several are run one after the other, with one table over all of them at the end
    #[arg(value_name = "SUITE.toml", required = true)]
    suites: Vec<PathBuf>,
    /// Only these tests
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    tests: Vec<String>,
    /// Give a variable, a list of the matrix (a,b) or `repeat` another value
    #[arg(long = "set", value_name = "NAME=VALUE")]
    settings: Vec<String>,
    /// Directory for the report, configurations, logs, for several suites with one in it for each [default: target/suites/NAME]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Check the suite and say what would run
    #[arg(long)]
    check: bool,
    /// Show every hook and event as it happens
    #[arg(long)]
    debug: bool,
    /// Where the run's own telemetry goes, OTLP over gRPC
    #[arg(long, value_name = "URL", default_value = "http://localhost:4317")]
    otlp_endpoint: String,
    /// Send the run's spans there: suite, tests, steps, hooks
    #[arg(long)]
    export_traces: bool,
    /// Send the run's figures there
    #[arg(long)]
    export_metrics: bool,
    /// The record of an earlier run to compare with
    #[arg(long, value_name = "RECORD")]
    baseline: Option<PathBuf>,
    /// With --baseline: how much worse a figure may be
    #[arg(long, value_name = "PERCENT", default_value = "10%", value_parser = parse_percent)]
    max_regression: f64,
    #[command(flatten)]
    save: Save,
    #[command(flatten)]
    output: Output,
}

/// What all tests of a run share.
pub(crate) struct Run {
    pub(crate) id: String,
    pub(crate) suite: Suite,
    pub(crate) templates: Templates,
    pub(crate) checked: Checked,
    /// Cores that may be used, as the system numbers them.
    pub(crate) cores: Vec<usize>,
    pub(crate) began: Instant,
    pub(crate) fetch: Fetch,
    out: PathBuf,
    debug: bool,
    interrupted: watch::Receiver<bool>,
    /// Locked for a moment, to add to it.
    trace: Mutex<Trace>,
    guard: Mutex<Guard>,
}

impl Run {
    /// Seconds since the run began.
    pub(crate) fn seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    pub(crate) fn is_interrupted(&self) -> bool {
        *self.interrupted.borrow()
    }

    pub(crate) fn trace(&self) -> MutexGuard<'_, Trace> {
        self.trace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn remember_container(&self, container: &Container) {
        let mut guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        guard.remember_container(container);
    }

    pub(crate) fn folder_of(&self, test: &str, variant: &Variant, repetition: u32) -> PathBuf {
        let plain = |text: &str| -> String {
            let plain = |it: char| it.is_ascii_alphanumeric() || "-_=.".contains(it);
            text.chars()
                .map(|it| if plain(it) { it } else { '_' })
                .collect()
        };
        let mut folder = self.out.join("run").join(plain(test));
        if !variant.is_empty() {
            folder = folder.join(plain(&words(variant)));
        }
        folder.join(format!("{repetition}"))
    }

    /// What the last line says after the verdict; nothing, where nothing was counted.
    fn counts(&self, results: &[TestResult]) -> anyhow::Result<String> {
        let ledgers: Vec<_> = results.iter().filter_map(|it| it.ledger.as_ref()).collect();
        if ledgers.is_empty() {
            return Ok(String::new());
        }
        let value = summary_scope(&self.suite, Ledger::total(ledgers));
        let own = self.suite.summary.as_ref();
        let own = own.map(|it| self.templates.render(&it.text, &value));
        // One that calculates may not do so with what is unknown.
        match own {
            Some(Ok(counts)) => Ok(counts),
            _ => self.templates.render(SUMMARY, &value),
        }
    }

    pub(crate) fn progress(&self, line: &str) {
        // The report has it too; nobody may be listening on stderr.
        drop(writeln!(
            std::io::stderr(),
            "[{:7.2}s] {line}",
            self.seconds()
        ));
    }

    pub(crate) fn detail(&self, line: &str) {
        if self.debug {
            self.progress(line);
        }
    }
}

/// What the `summary` of a suite knows: its variables, and the counts of all tests together.
pub(crate) fn summary_scope(suite: &Suite, total: minijinja::Value) -> minijinja::Value {
    let scope = variables::Scope::new(suite, &Variant::new());
    scope.with([("ledger".to_owned(), total)]).value()
}

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let plans = plan::plans(&args).map_err(WrongUsage::of)?;
    let read = |path: &Path| Baseline::read(path, args.max_regression);
    let baseline = args.baseline.as_deref().map(read).transpose();
    let baseline = baseline.map_err(WrongUsage::of)?;
    let database = args.save.open().map_err(WrongUsage::of)?;
    args.output.check().map_err(WrongUsage::of)?;
    if args.export_traces || args.export_metrics {
        trace::check(&args.otlp_endpoint).map_err(WrongUsage::of)?;
    }
    if args.check {
        for plan in &plans {
            print(&plan.words())?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let is_alone = plans.len() == 1;
    let mut overview = Overview::new();
    let mut worst = Outcome::Held;
    for plan in plans {
        let name = plan.suite.name.text.clone();
        let out = args.folder_of(&name, is_alone);
        let ran = perform(plan, out, &args, baseline.as_ref(), database.as_ref()).await?;
        overview.add(&name, &ran.results);
        worst = worst.max(ran.outcome);
        if ran.interrupted {
            break;
        }
    }
    if !is_alone {
        print(&format!("\n{}", overview.render()))?;
    }
    Ok(match worst {
        Outcome::Held => ExitCode::SUCCESS,
        Outcome::Crossed => ExitCode::from(EXIT_LIMIT_CROSSED),
        Outcome::Failed => ExitCode::from(EXIT_FAILED),
    })
}

impl Args {
    /// Where a suite's report goes; several do not share a folder.
    fn folder_of(&self, suite: &str, is_alone: bool) -> PathBuf {
        match &self.out {
            Some(out) if is_alone => out.clone(),
            Some(out) => out.join(suite),
            None => Path::new("target/suites").join(suite),
        }
    }
}

/// How a suite ended, the worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Held,
    Crossed,
    Failed,
}

/// A suite that has run.
struct Ran {
    results: Vec<TestResult>,
    outcome: Outcome,
    interrupted: bool,
}

/// Runs a suite and reports.
async fn perform(
    plan: Plan,
    out: PathBuf,
    args: &Args,
    baseline: Option<&Baseline>,
    database: Option<&Results>,
) -> anyhow::Result<Ran> {
    let start = Start::now();
    let run = begin(
        plan.suite,
        plan.templates,
        plan.checked,
        plan.cores,
        args,
        out,
        &start,
    )?;
    let results = all(&run, &plan.variants, plan.repeat, &args.tests).await?;
    let left = guard::end_marked(&run.id)?;
    let mut record = to_record::record(&run.suite, &run.checked, &results, &start);
    if left > 0 {
        record.notes.push(format!(
            "{left} processes had outlived their components and were ended"
        ));
    }
    let comparison = baseline.map(|it| it.compare(&mut record));
    write(&run, args, &results, &record, comparison.as_ref())?;
    if let Some(database) = database {
        database.save(&record).await?;
    }
    export(&run, args, &record).await?;
    let is_worse = comparison.as_ref().is_some_and(Comparison::has_crossed);
    let is_unknown = comparison.as_ref().is_some_and(Comparison::has_unknown);
    let interrupted = run.is_interrupted();
    let outcome = outcome(&results, is_worse, interrupted);
    Ok(Ran {
        outcome: match is_unknown {
            true => outcome.max(Outcome::Failed),
            false => outcome,
        },
        results,
        interrupted,
    })
}

fn begin(
    suite: Suite,
    templates: Templates,
    checked: Checked,
    cores: Vec<usize>,
    args: &Args,
    out: PathBuf,
    start: &Start,
) -> anyhow::Result<Run> {
    let id = format!("{:016x}", rand::random::<u64>());
    // What an earlier run has left there would be taken for this one's.
    match std::fs::remove_dir_all(out.join("run")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot clear {}", out.display()));
        }
        _ => {}
    }
    for report in REPORTS.map(|name| out.join(name)) {
        match std::fs::remove_file(&report) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", report.display()));
            }
            _ => {}
        }
    }
    std::fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    let guard = Guard::start(&id)?;
    let interrupted = interruptions()?;
    Ok(Run {
        guard: Mutex::new(guard),
        id,
        suite,
        templates,
        checked,
        cores,
        began: start.instant(),
        fetch: Fetch::new(),
        out: out.canonicalize()?,
        debug: args.debug,
        interrupted,
        trace: Mutex::new(Trace::new()),
    })
}

/// Becomes true with the first Ctrl-C or SIGTERM.
fn interruptions() -> anyhow::Result<watch::Receiver<bool>> {
    let (sender, receiver) = watch::channel(false);
    let mut interruptions = Interruptions::listen()?;
    tokio::spawn(async move {
        interruptions.next().await;
        sender.send_replace(true);
    });
    Ok(receiver)
}

/// All repetitions of all variants of all tests, interleaved: what changes over time changes for all.
async fn all(
    run: &Run,
    variants: &[Variant],
    repeat: u32,
    tests: &[String],
) -> anyhow::Result<Vec<TestResult>> {
    let name = run.suite.name.text.clone();
    let span = run.trace().begin(&format!("suite {name}"), &[], None);
    let mut results = Vec::new();
    let nothing = Variant::new();
    let before = aside(
        run,
        "before the suite",
        &nothing,
        &run.suite.hooks.before,
        span,
    );
    let mut goes_on = keep(&mut results, before.await?);
    'runs: for repetition in 1..=repeat {
        for test in &run.suite.tests {
            for variant in variants.iter().filter(|it| !run.checked.skips(it)) {
                let chosen = tests.is_empty() || tests.contains(&test.name.text);
                if !chosen || !takes_part(run, test, variant)? {
                    continue;
                }
                if !goes_on || run.is_interrupted() {
                    break 'runs;
                }
                let result = one(run, test, variant, repetition, span).await?;
                let is_well = !matches!(result.status, Status::Failed(_) | Status::Interrupted);
                goes_on = is_well || test.on_error.goes_on || run.suite.on_error.goes_on;
                results.push(result);
            }
        }
    }
    let after = aside(
        run,
        "after the suite",
        &nothing,
        &run.suite.hooks.after,
        span,
    );
    keep(&mut results, after.await?);
    let failed = results
        .iter()
        .any(|it| !matches!(it.status, Status::Passed));
    run.trace()
        .end(span, failed.then_some("not all tests passed"));
    Ok(results)
}

/// Whether to go on after the suite's hooks; they are shown only if they failed, measured or noted something.
fn keep(results: &mut Vec<TestResult>, result: Option<TestResult>) -> bool {
    let Some(result) = result else {
        return true;
    };
    let is_well = matches!(result.status, Status::Passed);
    if !is_well || !result.metrics.is_empty() || !result.notes.is_empty() {
        results.push(result);
    }
    is_well
}

/// The suite's hooks, as a test of their own.
async fn aside(
    run: &Run,
    name: &str,
    variant: &Variant,
    steps: &[model::Step],
    span: SpanIndex,
) -> anyhow::Result<Option<TestResult>> {
    if steps.is_empty() {
        return Ok(None);
    }
    let test = Test {
        name: model::Text {
            text: name.to_owned(),
            place: model::Place::default(),
        },
        when: None,
        steps: steps.to_vec(),
        windows: Vec::new(),
        hooks: model::Hooks::default(),
        on_error: model::OnError::default(),
    };
    let stage = Stage::new(run, name, variant, 1, span)?;
    Ok(Some(Box::pin(stage.perform(&test)).await))
}

fn takes_part(run: &Run, test: &Test, variant: &Variant) -> anyhow::Result<bool> {
    let Some(condition) = &test.when else {
        return Ok(true);
    };
    let scope = variables::Scope::new(&run.suite, variant);
    Ok(run
        .templates
        .evaluate(&condition.text, &scope.value())?
        .is_true())
}

/// One test, again if it failed and may be tried again.
async fn one(
    run: &Run,
    test: &Test,
    variant: &Variant,
    repetition: u32,
    span: SpanIndex,
) -> anyhow::Result<TestResult> {
    let mut attempt = 0;
    loop {
        let title = format!("{} {} #{repetition}", test.name.text, words(variant));
        run.progress(&title);
        let stage = Stage::new(run, &test.name.text, variant, repetition, span)?;
        let (retries, delay) = stage.retries(&test.on_error)?;
        let mut result = Box::pin(stage.perform(test)).await;
        run.progress(&format!("{title}: {}", report::verdict(&result)));
        let Status::Failed(why) = &result.status else {
            return Ok(result);
        };
        if attempt >= retries || run.is_interrupted() {
            if attempt > 0 {
                result.note(format!("tried {} times", attempt + 1));
            }
            return Ok(result);
        }
        attempt += 1;
        run.progress(&format!("again in {delay:?}, after: {why}"));
        tokio::time::sleep(delay).await;
    }
}

fn write(
    run: &Run,
    args: &Args,
    results: &[TestResult],
    record: &Record,
    comparison: Option<&Comparison>,
) -> anyhow::Result<()> {
    let counts = run.counts(results)?;
    // The verdict comes last.
    run.progress(&format!("the report goes to {}", run.out.display()));
    print(&report::console(record, results, comparison, &counts))?;
    let write = |name: &str, text: String| {
        let path = run.out.join(name);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    let [figures, text, page] = REPORTS;
    write(figures, record.json()?)?;
    let markdown = report::markdown(record, results, comparison, &counts);
    write(text, markdown)?;
    write(page, record.html())?;
    args.output.write(record)
}

async fn export(run: &Run, args: &Args, record: &Record) -> anyhow::Result<()> {
    if args.export_traces {
        let trace = std::mem::replace(&mut *run.trace(), Trace::new());
        trace.export(&args.otlp_endpoint, record).await?;
    }
    if args.export_metrics {
        trace::export_metrics(&args.otlp_endpoint, record).await?;
    }
    Ok(())
}

fn outcome(results: &[TestResult], is_worse: bool, interrupted: bool) -> Outcome {
    let failed = |it: &TestResult| {
        matches!(
            it.status,
            Status::Failed(_) | Status::Interrupted | Status::Unknown
        )
    };
    let crossed = |it: &TestResult| matches!(it.status, Status::Crossed);
    if interrupted || results.is_empty() || results.iter().any(failed) {
        return Outcome::Failed;
    }
    match results.iter().any(crossed) || is_worse {
        true => Outcome::Crossed,
        false => Outcome::Held,
    }
}
