//! The table of what a client notices of reloads.

use std::fmt::Write as _;

use super::super::reload::{PERIOD, ReloadResult, Waiting};
use super::super::report::Report;
use super::STRING;

impl Report {
    /// Waiting times with and without reloads.
    pub(super) fn write_reloads(&self, text: &mut String) {
        if self.reloads.is_empty() {
            return;
        }
        writeln!(
            text,
            "\n## While the configuration changes\n\nAt half of the rate of a closed loop, once without and once with another \
             configuration every {} ms: another limit of the receiver, another timeout of the batch processor and of the \
             exporter, so everything in the pipeline is replaced. Times are from when a request was due to its answer. \
             The goal is a p99 below 10 ms.\n",
            PERIOD.as_millis()
        )
        .expect(STRING);
        text.push_str(
            "| agent | signal, protocol, compression | items/s | requests | p50 ms | p99 | max | reloads | beside them: p50 ms | \
             p99 | max | refused | failed | lost | surplus |\n",
        );
        writeln!(text, "|{}", "---|".repeat(15)).expect(STRING);
        for result in &self.reloads {
            write_row(text, result);
        }
    }
}

fn write_row(text: &mut String, result: &ReloadResult) {
    let median =
        |runs: &[Waiting], figure: fn(&Waiting) -> f64| ReloadResult::spread(runs, figure).median;
    let greatest = |runs: &[Waiting]| ReloadResult::spread(runs, |run| run.max_ms).greatest;
    let (calm, reloading) = (&result.calm, &result.reloading);
    let p99 = ReloadResult::spread(reloading, |run| run.p99_ms);
    writeln!(
        text,
        "| {} | {} | {:.0} k | {} | {:.1} | {:.1} | {:.1} | {} | {:.1} | **{:.1}** ({:.1} to {:.1}) | {:.1} | {} | {} | {} | {} |",
        result.peer,
        result.cell,
        result.rate / 1e3,
        result.sum(|run| run.requests),
        median(calm, |run| run.p50_ms),
        median(calm, |run| run.p99_ms),
        greatest(calm),
        result.sum(|run| run.reloads),
        median(reloading, |run| run.p50_ms),
        p99.median,
        p99.least,
        p99.greatest,
        greatest(reloading),
        result.sum(|run| run.refused_items),
        result.sum(|run| run.failed_items),
        result.sum(Waiting::lost_items),
        result.sum(Waiting::surplus_items),
    )
    .expect(STRING);
}
