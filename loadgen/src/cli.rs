//! The command line: one subcommand is one module with an `Args` struct and a `run` function.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::{Parser, Subcommand};

use crate::{bench, faults, otlp, prove, sink, suite};
use crate::{compare, export, history, http};

/// The work could not be done, or its result could not be kept.
pub(crate) const EXIT_FAILED: u8 = 1;
/// What was asked for makes no sense; clap uses the same.
pub(crate) const EXIT_WRONG_USAGE: u8 = 2;
/// The work was done and its result is outside the limits the caller set.
pub(crate) const EXIT_LIMIT_CROSSED: u8 = 99;
/// As a shell has it of what Ctrl-C has ended.
pub(crate) const EXIT_INTERRUPTED: i32 = 130;

/// What was asked for makes no sense, found after the command line was taken apart.
#[derive(Debug)]
pub(crate) struct WrongUsage(String);

impl WrongUsage {
    pub(crate) fn of(problem: anyhow::Error) -> anyhow::Error {
        anyhow::Error::new(Self(format!("{problem:#}")))
    }
}

impl std::fmt::Display for WrongUsage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for WrongUsage {}

/// Drive services and telemetry pipelines under measured load.
///
/// Results go to standard output, progress and logs (RUST_LOG) to standard error.
/// Exit status: 0 success; 1 the work failed or a result could not be kept; 2 wrong usage; 99 the run
/// finished outside its limits, for instance with too many errors.
#[derive(Debug, Parser)]
#[command(name = "loadgen", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Send HTTP requests to a service and measure its latency.
    Http(Box<http::Args>),
    /// Show the runs that were stored in ClickHouse with --save.
    History(history::Args),
    /// Compare runs, figure by figure, with the uncertainty of each difference.
    Compare(compare::Args),
    /// Print records of earlier runs as JSON, CSV, Markdown or a page with plots.
    Export(export::Args),
    /// Send traces, logs or metrics to an OTLP endpoint and measure it.
    Otlp(otlp::Args),
    /// Receive telemetry, count it and throw it away: a ClickHouse and OTLP endpoint.
    Sink(sink::Args),
    /// Stand between an agent and its destination and make things go wrong on purpose.
    Faults(faults::Args),
    /// Prove that nothing acknowledged is lost and nothing is stored twice: kills and faults under load.
    Prove(Box<prove::Args>),
    /// Compare agents: CPU seconds per million items, latency and memory.
    Bench(bench::Args),
    /// Run suites of tests over a whole pipeline and report what became of every item.
    Run(Box<suite::Args>),
    /// Ends what a run of a suite has left behind, once its standard input ends.
    #[command(hide = true)]
    SuiteGuard(suite::guard::Args),
}

impl Command {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Http(args) => http::run(*args).await,
            Self::History(args) => history::run(args).await,
            Self::Compare(args) => compare::run(args).await,
            Self::Export(args) => export::run(args).await,
            Self::Otlp(args) => otlp::run(args).await,
            Self::Sink(args) => sink::run(args).await,
            Self::Faults(args) => faults::run(args).await,
            Self::Prove(args) => prove::run(*args).await,
            Self::Bench(args) => bench::run(args).await,
            Self::Run(args) => suite::run(*args).await,
            Self::SuiteGuard(args) => suite::guard::run(&args),
        }
    }
}

/// Reads a span of time such as `500ms`, `1.5s`, `2m` or `1h30m`.
///
/// # Errors
///
/// A number without a unit, an unknown unit, or more than [`DURATION_MAX`].
pub(crate) fn parse_duration(text: &str) -> anyhow::Result<Duration> {
    ensure!(
        !text.is_empty(),
        "a duration is written like 500ms, 1.5s, 2m or 1h30m"
    );
    ensure!(
        !text.starts_with('-'),
        "`{text}`: a span of time cannot be negative"
    );
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let number_len = rest
            .find(|it: char| !it.is_ascii_digit() && it != '.')
            .unwrap_or(rest.len());
        let (number, tail) = rest.split_at(number_len);
        let unit_len = tail
            .find(|it: char| !it.is_ascii_alphabetic())
            .unwrap_or(tail.len());
        let (unit, next) = tail.split_at(unit_len);
        let value: f64 = number
            .parse()
            .with_context(|| format!("`{text}` has no number before `{unit}`"))?;
        let part = Duration::try_from_secs_f64(value * unit_seconds(unit, text)?)?;
        total = total
            .checked_add(part)
            .context("the duration is too long")?;
        rest = next;
    }
    ensure!(total <= DURATION_MAX, "a duration may be 7 days at most");
    Ok(total)
}

/// Longer runs are typing errors, and times stay far from where arithmetic on them could overflow.
const DURATION_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// Reads a part of a whole, from 0 to 1.
///
/// # Errors
/// What is no number, or lies outside.
pub(crate) fn parse_share(text: &str) -> anyhow::Result<f64> {
    let share: f64 = text.parse().context("not a number")?;
    ensure!((0.0..=1.0).contains(&share), "a share lies between 0 and 1");
    Ok(share)
}

/// Reads `5`, `2.5` or `2.5%`: a number of percent, 0 or more.
///
/// # Errors
/// What is no number, negative, or beyond a million.
pub(crate) fn parse_percent(text: &str) -> anyhow::Result<f64> {
    let percent: f64 = text
        .trim_end_matches('%')
        .trim()
        .parse()
        .context("a number of percent")?;
    ensure!(
        (0.0..=1e6).contains(&percent),
        "a number of percent, 0 or more"
    );
    Ok(percent)
}

fn unit_seconds(unit: &str, text: &str) -> anyhow::Result<f64> {
    match unit {
        "us" => Ok(1e-6),
        "ms" => Ok(1e-3),
        "s" => Ok(1.0),
        "m" => Ok(60.0),
        "h" => Ok(3600.0),
        "" => anyhow::bail!("`{text}` needs a unit: us, ms, s, m or h"),
        other => anyhow::bail!("`{text}` has the unknown unit `{other}`; use us, ms, s, m or h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn a_sink_that_would_listen_nowhere_is_refused() {
        let parse = |more: &[&str]| {
            let words = ["loadgen", "sink"].iter().chain(more);
            Cli::try_parse_from(words)
        };
        let error = parse(&["--count", "--delay", "1s"])
            .unwrap_err()
            .to_string();
        assert!(error.contains("--otlp-http"), "{error}");
        parse(&["--count", "--otlp-http", "127.0.0.1:0"]).unwrap();
    }

    #[test]
    fn durations_are_read_with_their_units() {
        let check = |text: &str, millis: u64| {
            assert_eq!(
                parse_duration(text).unwrap(),
                Duration::from_millis(millis),
                "{text}"
            );
        };
        check("0s", 0);
        check("500ms", 500);
        check("1.5s", 1500);
        check("2m", 120_000);
        check("1h30m", 5_400_000);
        check("1s250ms", 1250);
    }

    #[test]
    fn percentages_are_read() {
        assert_eq!(parse_percent("5").unwrap(), 5.0);
        assert_eq!(parse_percent("2.5%").unwrap(), 2.5);
        for text in ["", "-1", "-1%", "x", "much", "NaN"] {
            assert!(parse_percent(text).is_err(), "{text}");
        }
    }

    #[test]
    fn unclear_durations_are_refused() {
        for text in [
            "", "5", "s", "5 s", "-1s", "1d", "1..5s", "1e3s", "NaNs", "999999h", "5s,",
        ] {
            assert!(parse_duration(text).is_err(), "{text} was accepted");
        }
    }
}
