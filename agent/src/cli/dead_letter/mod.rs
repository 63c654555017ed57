//! `tidegate dead-letter`: looks at what a destination would never take, sends it again, or deletes it.

mod find;
mod replay;
mod show;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgGroup, Args, Subcommand};

use super::{complain, print};
use crate::config::{ConfigSources, Settings, Source};
use crate::exporters::dead_letter::{Letter, SUFFIX};
use crate::units::HumanDuration;

pub use replay::replay;

const ABOUT: &str = "\
A dead letter is a file with items that a destination will never take as they are, such as a row that violates a
constraint: the exporter has put it aside so that everything else goes on. Each says why. What to do about one:

  1. tidegate dead-letter list   --config agent.toml       which there are
  2. tidegate dead-letter show   FILE                      what is in it, and the destination's words
  3. mend the cause: the table, the limit, the permission
  4. tidegate dead-letter replay --config agent.toml       send them again; what is taken is removed
     tidegate dead-letter delete FILE                      or give it up

The agent may run meanwhile. It puts them in `dead-letter` in the folder of `sending_queue.directory`, or where
`sending_queue.dead_letter.directory` says. Files can be copied and moved as they are.

Exit codes: 0 it worked, 1 it did not, or not for all of them, 2 wrong command line, 78 wrong configuration.";

const REPLAY_ABOUT: &str = "\
Builds the exporter as the configuration has it, with one worker and nothing on disk, so that it does not disturb an agent
that runs. A letter goes out under the name its batch had, with the tables left out that have their share already:
ClickHouse stores nothing twice, as far as its deduplication window reaches. A letter that is taken is removed, or with
`--keep` moved to the folder `replayed` beside it. One that is still rejected stays, and says why.

Examples:
  tidegate dead-letter replay --config agent.toml                       all of them
  tidegate dead-letter replay --config agent.toml clickhouse            those of one exporter
  tidegate dead-letter replay --config agent.toml /path/to/*.letter     these
  tidegate dead-letter replay --config agent.toml clickhouse/b x.letter this one, through another exporter than its own
  tidegate dead-letter replay --config agent.toml --dry-run             read them and send nothing

The configuration is read as `tidegate run` reads it, with the variables it needs: under systemd, where the default folder
is meant, STATE_DIRECTORY=/var/lib/tidegate.

Exit codes: 0 all were taken, 1 some were not, 2 wrong command line, 78 wrong configuration.";

/// What to do with dead letters.
#[derive(Debug, Args)]
#[command(after_help = ABOUT)]
pub struct DeadLetterArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: DeadLetterCommand,
}

/// What can be done with dead letters.
#[derive(Debug, Subcommand)]
pub enum DeadLetterCommand {
    /// List the dead letters that there are, the oldest of each exporter first.
    List(ListArgs),
    /// Show what is in a dead letter: why it is one, then the items as OTLP/JSON.
    Show(ShowArgs),
    /// Send dead letters again.
    #[command(after_help = REPLAY_ABOUT)]
    Replay(ReplayArgs),
    /// Delete dead letters.
    Delete(DeleteArgs),
}

/// `dead-letter list`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("place").required(true).multiple(true).args(["config", "directory"])))]
pub struct ListArgs {
    /// Where the configuration is that says where dead letters are.
    #[command(flatten)]
    config: FromConfig,
    /// A folder to look through, with the folders in it. May be repeated.
    #[arg(long, short, value_name = "DIR")]
    directory: Vec<PathBuf>,
    /// Write JSON: an array with an object for each.
    #[arg(long)]
    json: bool,
}

/// `dead-letter show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The dead letter.
    file: PathBuf,
    /// Write one JSON object: `letter` says what and why, `request` is the OTLP request.
    #[arg(long, conflicts_with = "raw")]
    json: bool,
    /// Write the OTLP request only, as protobuf.
    #[arg(long)]
    raw: bool,
}

/// `dead-letter delete`.
#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// The dead letters.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// `dead-letter replay`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("from").required(true).args(["config"])))]
pub struct ReplayArgs {
    /// Where the configuration is.
    #[command(flatten)]
    config: FromConfig,
    /// An exporter, such as `clickhouse/archive`, and dead letters, whose names end in `.letter`. Without an exporter,
    /// each goes through its own; without files, all of them go.
    #[arg(value_name = "EXPORTER|FILE")]
    what: Vec<String>,
    /// Move what was taken to the folder `replayed` beside it, instead of removing it.
    #[arg(long)]
    keep: bool,
    /// Read and check the letters, and send nothing.
    #[arg(long)]
    dry_run: bool,
    /// How long to try for each letter while the destination is away.
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    timeout: HumanDuration,
}

/// Where the configuration is; one file at a time, as other words may follow.
#[derive(Debug, Args)]
struct FromConfig {
    /// A TOML file, a folder of them, or `-` for standard input; later ones win. May be repeated.
    #[arg(long, short, value_name = "FILE")]
    config: Vec<String>,
    /// Set one value, over all files. May be repeated.
    #[arg(long, value_name = "KEY=VALUE", requires = "config")]
    set: Vec<String>,
}

impl FromConfig {
    /// `None` if there is none.
    fn settings(&self) -> Option<Result<Settings, ExitCode>> {
        if self.config.is_empty() {
            return None;
        }
        let sources = ConfigSources {
            sources: self
                .config
                .iter()
                .map(|argument| Source::from_argument(argument))
                .collect(),
            sets: self.set.clone(),
        };
        Some(super::settings(&sources).map(|(settings, _)| settings))
    }
}

/// `dead-letter list`.
pub fn list(args: &ListArgs) -> ExitCode {
    let mut found = Vec::new();
    match args.config.settings() {
        Some(Ok(settings)) => {
            for place in find::places(&settings) {
                if let Err(problem) = find::in_folder(&place.folder, &mut found) {
                    return fail(&problem);
                }
            }
        }
        Some(Err(code)) => return code,
        None => {}
    }
    for directory in &args.directory {
        if let Err(problem) = find::below(directory, &mut found) {
            return fail(&problem);
        }
    }
    show::list(&found, args.json)
}

/// `dead-letter show`.
pub fn show(args: &ShowArgs) -> ExitCode {
    match Letter::open(&args.file) {
        Ok(letter) if args.raw => super::print_bytes(letter.body()),
        Ok(letter) => show::letter(&args.file, &letter, args.json),
        Err(problem) => fail(&format!("{}: {problem}", args.file.display())),
    }
}

/// `dead-letter delete`.
pub fn delete(args: &DeleteArgs) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for file in &args.files {
        match delete_one(file) {
            Ok(items) => {
                print(&format!("deleted {} ({items})\n", file.display()));
            }
            Err(problem) => code = fail(&format!("{}: {problem}", file.display())),
        }
    }
    code
}

fn delete_one(file: &std::path::Path) -> Result<String, String> {
    if !file.to_string_lossy().ends_with(SUFFIX) {
        return Err(format!(
            "is no dead letter: its name does not end in `{SUFFIX}`"
        ));
    }
    let header = Letter::glance(file).map_err(|problem| {
        format!("{problem}; delete it as any other file if you know what it is")
    })?;
    find::remove(file).map_err(|error| format!("delete it: {error}"))?;
    Ok(show::count(header.items, "item"))
}

/// Reports a failure and gives the exit code for it.
fn fail(problem: &str) -> ExitCode {
    complain(&format!("tidegate: {problem}\n"));
    ExitCode::FAILURE
}
