//! The command line: what can be asked for, how it is asked, and the commands that only read the configuration.

mod agent;
pub mod convert;
pub mod dead_letter;
mod find;
mod key;
pub mod plugin;
pub mod reload;
pub mod schema;
pub mod shell;
pub mod tap;
pub mod top;

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::LazyLock;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde_json::json;

use crate::component::Factory;
use crate::config::{
    self, ConfigSources, Configuration, Diagnostics, Format, ProcessEnvironment, Registries,
    Settings, Source,
};
use crate::telemetry::journal::{self, Priority};

/// The configuration is wrong: `EX_CONFIG` of sysexits.h, which service managers know not to restart after.
pub const EXIT_CONFIG: u8 = 78;

static VERSION: LazyLock<String> = LazyLock::new(|| {
    let platform = format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS);
    let commit =
        option_env!("TIDEGATE_COMMIT").map_or_else(String::new, |commit| format!(", {commit}"));
    format!("{} ({platform}{commit})", env!("CARGO_PKG_VERSION"))
});

const AFTER_HELP: &str = "\
Examples:
  tidegate validate --config agent.toml
  tidegate run --config agent.toml
  tidegate run --config base.toml --config site.toml --set exporters.clickhouse.ttl=72h
  tidegate print-config --config /etc/tidegate/conf.d

A first configuration, OTLP in and ClickHouse out:
  [receivers.otlp.protocols.grpc]
  endpoint = \"127.0.0.1:4317\"
  [exporters.clickhouse]
  endpoint = \"http://127.0.0.1:8123\"
  [service.pipelines.traces]
  receivers = [\"otlp\"]
  exporters = [\"clickhouse\"]

Exit codes:
  0   it worked; for `run`: everything accepted was delivered
  1   it failed while running
  2   the command line is wrong
  3   `convert` only: something has no counterpart
  78  the configuration is wrong, or what is in a file that it names; every problem is on standard error";

const CONFIG_HELP: &str = "\
Values may contain `${env:NAME}`, `${env:NAME:-default}`, `${file:path}` and `${credential:NAME}` (of systemd);
`$$` is a plain `$`.
An environment variable that is not set and has no default is an error.

Examples:
  --config agent.toml                      one file
  --config base.toml --config site.toml    the later one wins, table by table
  --config /etc/tidegate/conf.d            every *.toml file in a folder, in the order of their names
  --config -                               standard input
  --set service.telemetry.logs.level=debug
  --set 'exporters.\"clickhouse/archive\".endpoint=http://10.0.0.7:8123'

Exit codes: 0 it worked, 1 it failed while running, 2 wrong command line, 78 wrong configuration.";

/// Tidegate, an OpenTelemetry agent made for ClickHouse: takes in traces, metrics and logs, and loses none of them.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version = VERSION.as_str(), max_term_width = 100, after_help = AFTER_HELP)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What can be asked for.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the agent until SIGTERM or SIGINT, then deliver what was accepted and stop.
    #[command(after_help = CONFIG_HELP)]
    Run(ConfigArgs),
    /// Check a configuration and report everything that is wrong with it.
    #[command(after_help = CONFIG_HELP)]
    Validate(ConfigArgs),
    /// List the components that this agent has.
    Components {
        /// How to write the list.
        #[arg(long, value_enum, default_value_t)]
        format: ListFormat,
    },
    /// Print the configuration as it is after merging and substitution, without secrets.
    #[command(after_help = CONFIG_HELP)]
    PrintConfig {
        /// Where the configuration is.
        #[command(flatten)]
        config: ConfigArgs,
        /// How to write it.
        #[arg(long, value_enum, default_value_t)]
        format: PrintFormat,
        /// Print secrets too.
        #[arg(long)]
        unredacted: bool,
    },
    /// Have the running agent read its configuration again.
    #[command(after_help = reload::RELOAD_HELP)]
    Reload(reload::ReloadArgs),
    /// Say what a configuration would change where another one runs. Needs no agent.
    #[command(after_help = reload::DIFF_HELP)]
    Diff(reload::DiffArgs),
    Top(top::TopArgs),
    Tap(tap::TapArgs),
    Convert(convert::ConvertArgs),
    Schema(schema::SchemaArgs),
    Completions(shell::CompletionsArgs),
    Man(shell::ManArgs),
    /// Look at what a destination would never take, send it again, or delete it.
    DeadLetter(dead_letter::DeadLetterArgs),
    Plugin(plugin::PluginArgs),
    Localdb(crate::localdb::Options),
}

/// Where the configuration is.
#[derive(Debug, Clone, Args)]
pub struct ConfigArgs {
    /// A TOML file, a folder of them, or `-` for standard input; later ones win. May be repeated.
    #[arg(long, short, value_name = "FILE", required = true, num_args = 1..)]
    config: Vec<String>,
    /// Set one value, over all files: the value is TOML, or else text. May be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = config::check_assignment)]
    set: Vec<String>,
}

impl ConfigArgs {
    /// The same for the loader.
    pub fn sources(&self) -> ConfigSources {
        ConfigSources {
            sources: self
                .config
                .iter()
                .map(|argument| Source::from_argument(argument))
                .collect(),
            sets: self.set.clone(),
        }
    }
}

/// How to write a list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum ListFormat {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// How to write a configuration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum PrintFormat {
    /// As it is read.
    #[default]
    Toml,
    /// For programs.
    Json,
}

impl From<PrintFormat> for Format {
    fn from(format: PrintFormat) -> Self {
        match format {
            PrintFormat::Toml => Self::Toml,
            PrintFormat::Json => Self::Json,
        }
    }
}

/// The settings, and the warnings that came with them; errors are reported.
///
/// # Errors
/// With the exit code to end with.
pub fn settings(from: &ConfigSources) -> Result<(Settings, Diagnostics), ExitCode> {
    config::load_settings(from).map_err(|found| refuse(&found))
}

/// The configuration for `run`; errors are reported.
///
/// # Errors
/// With the exit code to end with.
pub fn configuration(from: &ConfigSources) -> Result<Configuration, ExitCode> {
    config::load_configuration(from).map_err(|found| refuse(&found))
}

/// `validate`.
pub fn validate(from: &ConfigSources) -> ExitCode {
    match config::load_settings(from) {
        Err(found) => refuse(&found),
        Ok((settings, found)) => {
            tell(&found);
            let pipelines = settings.pipelines.len();
            let warnings = match found.0.len() {
                0 => String::new(),
                _ => format!(" ({})", found.summary()),
            };
            let ending = if pipelines == 1 { "" } else { "s" };
            print(&format!(
                "the configuration is valid: {pipelines} pipeline{ending}{warnings}\n"
            ))
        }
    }
}

/// `print-config`.
pub fn print_config(from: &ConfigSources, format: PrintFormat, unredacted: bool) -> ExitCode {
    let (tree, found) = config::load(&from.sources, &from.sets, &ProcessEnvironment);
    if found.has_errors() {
        return refuse(&found);
    }
    // Options decide which type a substitution has. What they complain about is for `validate` to tell.
    drop(config::settings_of(&tree, found, &Registries::BUILT_IN));
    match config::render(&tree, format.into(), !unredacted) {
        Ok(text) => print(&text),
        Err(problem) => {
            complain(&format!(
                "tidegate: the configuration cannot be printed: {problem}\n"
            ));
            ExitCode::FAILURE
        }
    }
}

/// `components`.
pub fn components(format: ListFormat) -> ExitCode {
    let Registries {
        receivers,
        processors,
        exporters,
        extensions,
    } = Registries::BUILT_IN;
    let groups = [
        ("receivers", rows(receivers)),
        ("processors", rows(processors)),
        ("exporters", rows(exporters)),
        ("extensions", rows(extensions)),
    ];
    match format {
        ListFormat::Text => print(&component_text(&groups)),
        ListFormat::Json => print(&component_json(&groups)),
    }
}

/// One component in a list.
struct Row {
    kind: &'static str,
    summary: &'static str,
    signals: Vec<&'static str>,
}

fn rows<S: ?Sized>(registry: &'static [Factory<S>]) -> Vec<Row> {
    registry
        .iter()
        .map(|factory| Row {
            kind: factory.kind,
            summary: factory.summary,
            signals: factory.signals.iter().map(|signal| signal.name()).collect(),
        })
        .collect()
}

fn component_text(groups: &[(&str, Vec<Row>)]) -> String {
    let mut text = String::new();
    for (group, rows) in groups {
        text.push_str(group);
        text.push('\n');
        for row in rows {
            let signals = match row.signals.is_empty() {
                true => String::new(),
                false => format!(" [{}]", row.signals.join(", ")),
            };
            writeln!(text, "  {:<16} {}{signals}", row.kind, row.summary)
                .expect("a String takes everything");
        }
    }
    text
}

fn component_json(groups: &[(&str, Vec<Row>)]) -> String {
    let groups: serde_json::Map<_, _> = groups
        .iter()
        .map(|(group, rows)| {
            let rows = rows
                .iter()
                .map(
                    |row| json!({"kind": row.kind, "summary": row.summary, "signals": row.signals}),
                )
                .collect();
            ((*group).to_owned(), serde_json::Value::Array(rows))
        })
        .collect();
    let all = json!({"version": env!("CARGO_PKG_VERSION"), "components": groups});
    format!("{all:#}\n")
}

/// Reports problems and gives the exit code for them.
fn refuse(found: &Diagnostics) -> ExitCode {
    tell(found);
    complain(&format!(
        "tidegate: the configuration is not valid: {}\n",
        found.summary()
    ));
    ExitCode::from(EXIT_CONFIG)
}

/// Reports problems: to a terminal with the lines they are about, else one line each.
pub fn tell(found: &Diagnostics) {
    let text = match io::stderr().is_terminal() {
        true => found.with_excerpts(),
        false => found.to_string(),
    };
    complain(&text);
}

/// Writes to standard error; with a priority for each line where the journal reads it.
pub fn complain(text: &str) {
    if journal::is_read() {
        let text = journal::prefixed(text, |line| match line.contains(": warning: ") {
            true => Priority::Warning,
            false => Priority::Error,
        });
        let _gone = io::stderr().write_all(text.as_bytes());
        return;
    }
    // There is nowhere left to say that standard error is gone.
    let _gone = io::stderr().write_all(text.as_bytes());
}

/// Writes to standard output. A reader that went away early is no failure.
fn print(text: &str) -> ExitCode {
    print_bytes(text.as_bytes())
}

fn print_bytes(bytes: &[u8]) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!(
                "tidegate: cannot write to standard output: {error}\n"
            ));
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn files_and_sets_keep_their_order() {
        let arguments = [
            "tidegate", "run", "-c", "a", "-", "--set", "x=1", "-c", "b", "--set", "y=2",
        ];
        let Command::Run(config) = Cli::try_parse_from(arguments).unwrap().command else {
            panic!("another command");
        };
        let sources = config.sources();
        let expected = [
            Source::Path("a".into()),
            Source::Stdin,
            Source::Path("b".into()),
        ];
        assert_eq!(sources.sources, expected);
        assert_eq!(sources.sets, ["x=1", "y=2"]);
    }
}
