//! `loadgen compare`: what differs between runs, and whether that may be chance.

mod context;
mod estimate;
mod figures;
mod report;
mod unknown;
mod verdict;

use std::process::ExitCode;

use anyhow::{Context as _, bail};

use crate::cli::{EXIT_FAILED, EXIT_LIMIT_CROSSED, WrongUsage, parse_percent};
use crate::record::Record;
use crate::results::Database;
use crate::stdout::print;
pub(crate) use report::Comparison;

/// Compare runs, figure by figure, with the uncertainty of each difference.
///
/// Every further run is compared with the first. A run is a file written with --record or the id of a run stored
/// with --save; several with commas between them are repetitions of one run.
///
/// A difference comes with the interval that holds the true one in 95 of 100 comparisons: from repetitions by
/// Welch; from one run each, for percentiles from the order statistics of their histograms, and for rates from
/// blocks of consecutive seconds. Where the interval holds zero, no difference is shown.
///
/// The exit status is 99 if a metric is worse by more than --max-regression, 1 if the later run does not know one that
/// the first has, and 2 if nothing can be held to it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The runs, the one to compare with first
    #[arg(required = true, num_args = 2.., value_name = "RUN[,RUN…]")]
    runs: Vec<String>,
    /// Only metrics of this name; may be repeated
    #[arg(short, long = "metric", value_name = "NAME")]
    metrics: Vec<String>,
    /// Fail if a metric is worse by more than this and that is no chance; a metric chosen with --metric fails by
    /// its figures alone if its uncertainty is unknown
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent)]
    max_regression: Option<f64>,
    /// Print the comparison as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    database: Database,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut sides = Vec::with_capacity(args.runs.len());
    for run in &args.runs {
        let names: Vec<_> = run.split(',').map(str::to_owned).collect();
        let records = args.database.records(&names).await?;
        sides.push(merged(records).map_err(WrongUsage::of)?);
    }
    let (first, others) = sides.split_first().context("clap asks for two runs")?;
    let mut crossed = false;
    let mut comparisons = Vec::with_capacity(others.len());
    for other in others {
        ensure_alike(first, other).map_err(WrongUsage::of)?;
        let comparison = Comparison::new(first, other, &args.metrics, args.max_regression);
        if comparison.differences.is_empty() && !comparison.has_unknown() {
            let problem = anyhow::anyhow!("the runs have no metric in common that was asked for");
            return Err(WrongUsage::of(problem));
        }
        crossed |= comparison.has_crossed();
        comparisons.push(comparison);
    }
    let text = if args.json {
        serde_json::to_string_pretty(&comparisons)? + "\n"
    } else {
        let texts: Vec<_> = comparisons.iter().map(Comparison::to_string).collect();
        texts.join("\n")
    };
    print(&text)?;
    let tell = comparisons
        .iter()
        .all(Comparison::tells_of_what_was_measured);
    if args.max_regression.is_some() && !tell {
        let problem = anyhow::anyhow!(
            "the runs have no figure in common but loadgen's own: nothing was held to --max-regression"
        );
        return Err(WrongUsage::of(problem));
    }
    let unknown = comparisons.iter().any(Comparison::has_unknown);
    Ok(match (crossed, unknown && args.max_regression.is_some()) {
        (true, _) => ExitCode::from(EXIT_LIMIT_CROSSED),
        (false, true) => ExitCode::from(EXIT_FAILED),
        (false, false) => ExitCode::SUCCESS,
    })
}

/// Repetitions as one record: each metric has the values of all.
fn merged(records: Vec<Record>) -> anyhow::Result<Record> {
    let mut records = records.into_iter();
    let mut whole = records.next().context("a run has no name")?;
    for record in records {
        ensure_alike(&whole, &record)?;
        whole.absorb(record);
        // The seconds of two runs do not follow on each other, and repetitions tell more than they do.
        whole.series.clear();
    }
    Ok(whole)
}

fn ensure_alike(first: &Record, second: &Record) -> anyhow::Result<()> {
    if first.kind != second.kind {
        bail!(
            "run {} is of kind {} and run {} of kind {}: their figures mean different things",
            first.run_id,
            first.kind,
            second.run_id,
            second.kind
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests;
