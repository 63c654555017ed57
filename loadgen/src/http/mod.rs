//! `loadgen http`: HTTP requests under a closed or an open loop, measured and reported.

mod connection;
mod options;
mod progress;
mod report;
mod run;
mod schedule;
mod tally;
mod worker;

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use self::connection::Connection;
pub(crate) use self::options::Args;
use self::options::Settings;
use self::report::Report;
use self::run::Control;
use crate::cli::{EXIT_LIMIT_CROSSED, WrongUsage};

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let settings = args.into_settings().map_err(WrongUsage::of)?;
    let addresses = connection::resolve(&settings.request.uri).await?;
    let database = settings
        .save
        .as_ref()
        .map(crate::results::Database::open)
        .transpose()?;
    let control = Control {
        timeout: settings.timeout,
        progress: settings.progress || std::io::stderr().is_terminal(),
        stop: stop_on_signal()?,
    };
    let make_connection = || Connection::new(settings.request.clone(), addresses.clone());
    let outcome = run::measure(&settings.load, control, make_connection).await?;
    let report = Report::new(&settings, &outcome);
    std::io::stdout()
        .write_all(report.render().as_bytes())
        .context("cannot print the result")?;
    keep(&settings, &report, database.as_ref()).await?;
    let passed = report.passed();
    Ok(if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(EXIT_LIMIT_CROSSED)
    })
}

/// Writes the result wherever it was asked for; one failure does not keep it from the other place.
async fn keep(
    settings: &Settings,
    report: &Report,
    database: Option<&crate::results::Results>,
) -> anyhow::Result<()> {
    let written = match &settings.json {
        Some(path) => write_json(path, report),
        None => Ok(()),
    };
    let saved = match database {
        Some(database) => database.insert(&report.row()).await,
        None => Ok(()),
    };
    written.and(saved)
}

fn write_json(path: &Path, report: &Report) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(report)?;
    std::fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))
}

/// A flag that turns true at the first SIGINT or SIGTERM; the second one ends the process.
fn stop_on_signal() -> anyhow::Result<watch::Receiver<bool>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        for count in 0_u8.. {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if count > 0 {
                std::process::exit(130);
            }
            stop.send_replace(true);
        }
    });
    Ok(stopped)
}
