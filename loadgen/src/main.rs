//! `loadgen`: drives services and telemetry pipelines under measured load.

mod bench;
mod cli;
mod compare;
mod count;
mod document;
mod export;
mod faults;
mod history;
mod http;
mod otlp;
mod process;
mod prometheus;
mod prove;
mod record;
mod results;
mod signals;
mod sink;
mod stats;
mod stdout;
mod suite;
mod text;
mod tls;

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::Parser as _;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    init_logging();
    match run(cli) {
        Ok(code) => code,
        Err(error) => report(&error),
    }
}

fn run(cli: cli::Cli) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("loadgen")
        .build()?;
    runtime.block_on(cli.command.run())
}

/// Logs go to stderr, results to stdout; `RUST_LOG` chooses the level.
fn init_logging() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // Where nobody reads on, to say so would be a panic.
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}

fn report(error: &anyhow::Error) -> ExitCode {
    // Nothing is left to tell when stderr is closed; the exit code still says it.
    drop(writeln!(std::io::stderr(), "loadgen: {error:#}"));
    ExitCode::from(match error.is::<cli::WrongUsage>() {
        true => cli::EXIT_WRONG_USAGE,
        false => cli::EXIT_FAILED,
    })
}
