//! `loadgen export`: records of earlier runs in another format.

mod github;
mod markdown;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use clap::ValueEnum;

use crate::cli::WrongUsage;
use crate::record::{Better, Record};
use crate::results::Database;
use crate::stdout::print;

/// Print records of earlier runs in another format.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Files written with --record, or ids of runs stored with --save (`loadgen history` shows them)
    #[arg(required = true, value_name = "RECORD")]
    records: Vec<String>,
    /// What to make of them
    #[arg(short, long, value_enum)]
    format: Format,
    /// With github-benchmark: metrics that are to be lower (customSmallerIsBetter) or higher
    /// (customBiggerIsBetter)
    #[arg(long, value_enum, default_value = "lower")]
    better: Direction,
    /// Write here instead of standard output
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    database: Database,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// The whole record; several as an array
    Json,
    /// Metrics and series, one line for each value
    Csv,
    /// One page with plots, of one record
    Html,
    /// Tables, several records side by side
    Markdown,
    /// What github-action-benchmark reads as customSmallerIsBetter or customBiggerIsBetter
    GithubBenchmark,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Direction {
    Lower,
    Higher,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let records = args.database.records(&args.records).await?;
    let text = match (args.format, records.as_slice()) {
        (Format::Json, [record]) => record.json()?,
        (Format::Json, records) => serde_json::to_string_pretty(records)? + "\n",
        (Format::Csv, records) => Record::csv_of_all(records),
        (Format::Html, records) => page(records).map_err(WrongUsage::of)?,
        (Format::Markdown, records) => markdown::render(records),
        (Format::GithubBenchmark, records) => github::render(
            records,
            match args.better {
                Direction::Lower => Better::Lower,
                Direction::Higher => Better::Higher,
            },
        )?,
    };
    match &args.out {
        Some(path) => std::fs::write(path, text)
            .with_context(|| format!("cannot write {}", path.display()))?,
        None => print(&text)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn page(records: &[Record]) -> anyhow::Result<String> {
    ensure!(records.len() == 1, "a page shows one record");
    Ok(records.iter().map(Record::html).collect())
}
