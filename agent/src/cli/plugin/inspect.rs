//! `plugin inspect`: what a plugin says of itself, and what it wants.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::super::print;
use super::meant;
use crate::processors::wasm::workbench::describe;

/// Say what a plugin is: its name, signals and configuration, what it imports, how large it is.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// The plugin; by default the one that was built here.
    plugin: Option<PathBuf>,
}

pub(super) fn run(args: &InspectArgs) -> Result<ExitCode, String> {
    let path = meant(args.plugin.as_deref())?;
    let found = describe(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let signals: Vec<&str> = found.signals.iter().map(|signal| signal.name()).collect();
    let schema = match found.config_schema.as_str() {
        "" => "it offers no schema",
        schema => schema,
    };
    let text = format!(
        "name      {}\nversion   {}\nsummary   {}\nsignals   {}\nworld     {}\nsize      {} KiB\nmemory    {} KiB after the start\n\
         loaded    in {:.1?}\nlimits    {}, unless its table says otherwise\n\
         sha256    {}\nimports   {}\nconfig    {schema}\n",
        found.name,
        found.version,
        found.summary,
        signals.join(", "),
        found.world,
        found.file_bytes / 1024,
        found.memory_bytes / 1024,
        found.load_time,
        found.limits,
        found.sha256,
        found.imports.join("\n          "),
    );
    Ok(print(&text))
}
