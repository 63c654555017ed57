//! `tidegate`: the agent daemon. Arguments, logging, the runtime and exit codes.

use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use tidegate::app::NotBuilt;
use tidegate::cli::dead_letter::{self, DeadLetterCommand};
use tidegate::cli::{self, Cli, Command, EXIT_CONFIG, convert, plugin, schema, shell, tap, top};
use tidegate::config::{ConfigSources, Diagnostics, LogEncoding, LogLevel, LogSettings};
use tidegate::telemetry::logs::{self, Logs};
use tidegate::{allocator, app, localdb, process, systemd};
use tokio::runtime::Runtime;
use tracing::{error, warn};

/// The C library's, which notes who has its memory when somebody wants to know.
#[global_allocator]
static ALLOCATOR: tidegate::profile::heap::Sampling = tidegate::profile::heap::Sampling;

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(config) => run(&config.sources()),
        Command::Validate(config) => cli::validate(&config.sources()),
        Command::Components { format } => cli::components(format),
        Command::PrintConfig {
            config,
            format,
            unredacted,
        } => cli::print_config(&config.sources(), format, unredacted),
        Command::Convert(args) => convert::run(&args),
        Command::Schema(args) => schema::run(&args),
        Command::Completions(args) => shell::completions(&args),
        Command::Man(args) => shell::man(&args),
        Command::DeadLetter(args) => dead_letters(args.command),
        Command::Reload(args) => block_on(LogEncoding::Console, cli::reload::ask(args)),
        Command::Top(args) => block_on(LogEncoding::Console, top::run(args)),
        Command::Tap(args) => block_on(LogEncoding::Console, tap::run(args)),
        Command::Diff(args) => cli::reload::diff(&args),
        Command::Plugin(args) => plugin_command(&args),
        Command::Localdb(options) => {
            let notifier = systemd::adopt().notifier;
            start_logging(LogSettings::default());
            let work = async {
                localdb::run(options, notifier)
                    .await
                    .map(|()| ExitCode::SUCCESS)
            };
            block_on(LogEncoding::Console, work)
        }
    }
}

fn run(from: &ConfigSources) -> ExitCode {
    let manager = systemd::adopt();
    let configuration = match cli::configuration(from) {
        Ok(found) => found,
        Err(code) => return code,
    };
    allocator::keep_for_reuse();
    let settings = configuration.settings.telemetry.logs;
    let logs = start_logging(settings);
    log_warnings(&configuration.warnings);
    process::raise_open_files();
    let work = app::run(from.clone(), configuration, logs, manager);
    let outcome = runtime().and_then(|runtime| {
        let outcome = runtime.block_on(work);
        runtime.shutdown_timeout(LEFT_OVER_MAX);
        outcome
    });
    conclude(settings.encoding, outcome)
}

/// What an agent that has ended has left on other threads, such as the start of a plugin or a name that is being looked up, is
/// of no use to anybody.
const LEFT_OVER_MAX: Duration = Duration::from_secs(1);

fn dead_letters(command: DeadLetterCommand) -> ExitCode {
    match command {
        DeadLetterCommand::List(args) => dead_letter::list(&args),
        DeadLetterCommand::Show(args) => dead_letter::show(&args),
        DeadLetterCommand::Delete(args) => dead_letter::delete(&args),
        DeadLetterCommand::Replay(args) => {
            start_logging(LogSettings {
                level: LogLevel::Warn,
                ..LogSettings::default()
            });
            block_on(LogEncoding::Console, async {
                Ok(dead_letter::replay(&args).await)
            })
        }
    }
}

fn plugin_command(args: &plugin::PluginArgs) -> ExitCode {
    start_logging(LogSettings::default());
    plugin::run(args)
}

fn start_logging(settings: LogSettings) -> Logs {
    let json = settings.encoding == LogEncoding::Json;
    logs::start(settings.level.into(), json).expect("nothing else starts logging in this process")
}

fn log_warnings(warnings: &Diagnostics) {
    for found in &warnings.0 {
        let place = found.place.as_ref().map(ToString::to_string);
        warn!(key = found.key, place, "configuration: {}", found.message);
    }
}

fn log_errors(errors: &Diagnostics) {
    for found in &errors.0 {
        let place = found.place.as_ref().map(ToString::to_string);
        error!(key = found.key, place, "{}", found.message);
    }
}

/// The last words are for a person, unless a program reads the log.
fn last_words(problem: &anyhow::Error, encoding: LogEncoding) {
    if let Some(not_built) = problem.downcast_ref::<NotBuilt>() {
        match encoding {
            LogEncoding::Json => log_errors(&not_built.found),
            LogEncoding::Console => cli::tell(&not_built.found),
        }
    }
    match encoding {
        LogEncoding::Json => error!(problem = format!("{problem:#}"), "failed"),
        LogEncoding::Console => cli::complain(&format!("tidegate: {problem:#}\n")),
    }
}

fn runtime() -> anyhow::Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.enable_all().build().context("start the runtime")
}

fn block_on(
    encoding: LogEncoding,
    work: impl Future<Output = anyhow::Result<ExitCode>>,
) -> ExitCode {
    conclude(
        encoding,
        runtime().and_then(|runtime| runtime.block_on(work)),
    )
}

fn conclude(encoding: LogEncoding, outcome: anyhow::Result<ExitCode>) -> ExitCode {
    outcome.unwrap_or_else(|problem| {
        last_words(&problem, encoding);
        match problem.downcast_ref() {
            Some(NotBuilt {
                permanent: true, ..
            }) => ExitCode::from(EXIT_CONFIG),
            _ => ExitCode::FAILURE,
        }
    })
}
