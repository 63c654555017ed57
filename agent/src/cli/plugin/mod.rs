//! `tidegate plugin`: everything that an author of plugins does before one runs in an agent.

mod batches;
pub mod bench;
pub mod build;
pub mod cases;
pub mod conditions;
pub mod inspect;
pub mod language;
pub mod run;
pub mod scaffold;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use language::Language;

use super::complain;

const HELP: &str = "\
Examples:
  tidegate plugin new my-plugin && cd my-plugin
  tidegate plugin new other-plugin --language javascript
  tidegate plugin build
  tidegate plugin test
  tidegate plugin bench --config config.toml
  tidegate plugin run target/wasm32-wasip2/release/my_plugin.wasm --config config.toml requests.jsonl
  tidegate plugin run enrich.wasm --config config.toml --file table=hosts.csv requests.jsonl";

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

fn read(path: &Path) -> Result<String, String> {
    let content = std::fs::read(path).map_err(|error| error.to_string());
    let text = content.and_then(text);
    text.map_err(|problem| format!("{}: {problem}", path.display()))
}

/// What was read, if it is text.
fn text(content: Vec<u8>) -> Result<String, String> {
    let tool = match content.as_slice() {
        [0x1f, 0x8b, ..] => Some("gunzip"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some("unzstd"),
        _ => None,
    };
    if let Some(tool) = tool {
        return Err(format!(
            "it is compressed, and is to be given to `{tool}` first"
        ));
    }
    String::from_utf8(content).map_err(|error| error.utf8_error().to_string())
}

/// The plugin that is meant: the one given, or the only one that was built here. Says so if that is no longer what the
/// source says.
fn meant(given: Option<&Path>) -> Result<PathBuf, String> {
    if let Some(given) = given {
        return Ok(given.to_owned());
    }
    let here = Path::new(".");
    let nothing =
        || "name a plugin: there is no project of one here, and so none that was built".to_owned();
    let language = Language::of(here).ok_or_else(nothing)?;
    let built = language.built(here)?;
    if let Some(source) = language.newer_source(here, &built) {
        let source = source.strip_prefix(".").unwrap_or(&source);
        complain(&format!(
            "tidegate: {} has changed since the plugin was built; `tidegate plugin build` builds it anew\n",
            source.display()
        ));
    }
    Ok(built)
}
