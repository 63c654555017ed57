//! `tidegate plugin`: everything that an author of plugins does before one runs in an agent.

mod batches;
pub mod bench;
pub mod build;
pub mod cases;
pub mod inspect;
pub mod language;
pub mod run;
pub mod scaffold;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::Value;

use language::Language;

use super::complain;

const HELP: &str = "\
Examples:
  tidegate plugin new my-plugin && cd my-plugin
  tidegate plugin new other-plugin --language javascript
  tidegate plugin build
  tidegate plugin test
  tidegate plugin bench --config config.toml
  tidegate plugin run target/wasm32-wasip2/release/my_plugin.wasm --config config.toml requests.jsonl";

/// Make, build, test, measure and look at WebAssembly plugins.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct PluginArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: PluginCommand,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum PluginCommand {
    New(scaffold::NewArgs),
    Build(build::BuildArgs),
    Test(cases::TestArgs),
    Bench(bench::BenchArgs),
    Inspect(inspect::InspectArgs),
    Run(run::RunArgs),
}

/// `plugin`.
pub fn run(args: &PluginArgs) -> ExitCode {
    let done = match &args.command {
        PluginCommand::New(args) => scaffold::new(args),
        PluginCommand::Build(args) => build::run(args),
        PluginCommand::Test(args) => cases::run(args),
        PluginCommand::Bench(args) => bench::run(args),
        PluginCommand::Inspect(args) => inspect::run(args),
        PluginCommand::Run(args) => run::run(args),
    };
    done.unwrap_or_else(|problem| {
        complain(&format!("tidegate: {problem}\n"));
        ExitCode::FAILURE
    })
}

/// The table that a plugin is configured with, from a TOML file, as JSON.
fn config(path: Option<&Path>) -> Result<String, String> {
    let Some(path) = path else {
        return Ok("{}".to_owned());
    };
    let text = read(path)?;
    let table: Value =
        toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(table.to_string())
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// The plugin that is meant: the one given, or the only one that was built here.
fn meant(given: Option<&Path>) -> Result<PathBuf, String> {
    if let Some(given) = given {
        return Ok(given.to_owned());
    }
    let here = Path::new(".");
    let nothing =
        || "name a plugin: there is no project of one here, and so none that was built".to_owned();
    Language::of(here).ok_or_else(nothing)?.built(here)
}
