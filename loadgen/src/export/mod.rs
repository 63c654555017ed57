//! `loadgen export`: records of earlier runs in another format.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use clap::ValueEnum;

use crate::cli::WrongUsage;
use crate::record::Record;

/// Print records of earlier runs in another format.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Files written with --record
    #[arg(required = true, value_name = "RECORD")]
    records: Vec<PathBuf>,
    /// What to make of them
    #[arg(short, long, value_enum)]
    format: Format,
    /// Write here instead of standard output
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// The whole record; several as an array
    Json,
    /// Metrics and series, one line for each value
    Csv,
    /// One page with plots, of one record
    Html,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let records: Vec<_> = args
        .records
        .iter()
        .map(|path| Record::read(path))
        .collect::<Result<_, _>>()?;
    let text = render(&records, args.format)?;
    match &args.out {
        Some(path) => std::fs::write(path, text)
            .with_context(|| format!("cannot write {}", path.display()))?,
        None => std::io::stdout().write_all(text.as_bytes())?,
    }
    Ok(ExitCode::SUCCESS)
}

fn render(records: &[Record], format: Format) -> anyhow::Result<String> {
    match (format, records) {
        (Format::Json, [record]) => record.json(),
        (Format::Json, records) => Ok(serde_json::to_string_pretty(records)? + "\n"),
        (Format::Csv, records) => Ok(Record::csv_of_all(records)),
        (Format::Html, records) => {
            ensure_one(records).map_err(WrongUsage::of)?;
            Ok(records.iter().map(Record::html).collect())
        }
    }
}

fn ensure_one(records: &[Record]) -> anyhow::Result<()> {
    ensure!(records.len() == 1, "a page shows one record");
    Ok(())
}
