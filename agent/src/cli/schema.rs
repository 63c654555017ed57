//! `schema`: what a configuration may say, for editors, and the reference pages.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::{complain, print};
use crate::config::{self, Coverage, Registries};

const HELP: &str = "\
Examples:
  tidegate schema > tidegate.schema.json
  tidegate schema --partial > tidegate-part.schema.json
  tidegate schema --pages docs/reference

With the first line `#:schema ./tidegate.schema.json`, a TOML file is checked and completed by editors that use
Taplo, such as Even Better TOML for Visual Studio Code.";

/// Print a JSON Schema of the configuration, for editors that complete and check it.
#[derive(Debug, Clone, Args)]
#[command(after_help = HELP)]
pub struct SchemaArgs {
    /// For a file that others complete: nothing in it is required.
    #[arg(long)]
    partial: bool,
    /// Write the reference of every field, in Markdown, into this folder instead.
    #[arg(long, value_name = "FOLDER", conflicts_with = "partial")]
    pages: Option<PathBuf>,
}

/// `schema`.
pub fn run(args: &SchemaArgs) -> ExitCode {
    let Some(folder) = &args.pages else {
        let coverage = match args.partial {
            true => Coverage::Part,
            false => Coverage::Whole,
        };
        let schema = config::json_schema(&Registries::BUILT_IN, coverage);
        return print(&format!("{schema:#}\n"));
    };
    match write_pages(folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            complain(&format!("tidegate: {problem}\n"));
            ExitCode::FAILURE
        }
    }
}

fn write_pages(folder: &Path) -> Result<(), String> {
    fs::create_dir_all(folder)
        .map_err(|error| format!("cannot make the folder {}: {error}", folder.display()))?;
    for page in config::reference(&Registries::BUILT_IN) {
        let path = folder.join(page.name);
        fs::write(&path, page.text)
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    Ok(())
}
