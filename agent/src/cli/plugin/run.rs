//! `plugin run`: requests in OTLP/JSON through a plugin.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::super::{complain, print};
use super::{batches, config, meant, read};
use crate::processors::wasm::workbench::Workbench;

/// Run requests in OTLP/JSON through a plugin and print what comes out.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The plugin.
    plugin: PathBuf,
    /// A file of requests in OTLP/JSON, one, or one per line, as the `file` exporter writes them; `-` for standard input.
    #[arg(default_value = "-")]
    input: PathBuf,
    /// A TOML file with the plugin's configuration.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(super) fn run(args: &RunArgs) -> Result<ExitCode, String> {
    let path = meant(Some(&args.plugin))?;
    let config = config(args.config.as_deref())?;
    let text = match args.input.to_str() {
        Some("-") => {
            let mut text = String::new();
            let read = std::io::stdin().read_to_string(&mut text);
            read.map_err(|error| format!("standard input: {error}"))?;
            text
        }
        _ => read(&args.input)?,
    };
    let mut benches = BTreeMap::new();
    for (signal, request) in batches::parse_all(&text)? {
        let bench = match benches.remove(&signal) {
            Some(bench) => bench,
            None => Workbench::start(&path, signal, &config)
                .map_err(|error| format!("{}: {error}", path.display()))?,
        };
        let bench: &mut Workbench = benches.entry(signal).or_insert(bench);
        let made = bench.process(&request)?;
        for (reason, items) in made.losses {
            complain(&format!("{items} {} dropped: {reason}\n", signal.items()));
        }
        print(&(batches::render(signal, made.bytes.as_deref())? + "\n"));
    }
    for bench in benches.values() {
        complain(&bench.metrics());
    }
    Ok(ExitCode::SUCCESS)
}
