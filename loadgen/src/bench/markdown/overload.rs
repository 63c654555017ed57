//! The table of loads that are too high.

use std::fmt::Write as _;

use super::super::overload::{LIMIT_MIB, Overload, OverloadResult};
use super::super::report::Report;
use super::{STRING, mebibytes};

impl Report {
    /// Twice what an agent can take.
    pub(super) fn write_overload(&self, text: &mut String) {
        if self.overload.is_empty() {
            return;
        }
        writeln!(
            text,
            "\n## Offered twice what it can take\n\nPassing through under a memory limit of {LIMIT_MIB} MiB, over 32 \
             connections whose clients heed refusals and send again. \"Peak\" is what it passes on in a closed loop over \
             the usual connections, goodput what it accepted and passed on, until everything had arrived. Times are from \
             sending to the answer. The goals are 95 % of the peak, and a peak memory under the limit.\n"
        )
        .expect(STRING);
        text.push_str(
            "| signal, protocol, compression | peak items/s | offered | goodput | of peak | p50 ms | p99 | peak MiB | \
             refusals | with a hint | never accepted | failed | lost | surplus |\n",
        );
        writeln!(text, "|{}", "---|".repeat(14)).expect(STRING);
        for result in &self.overload {
            write_row(text, result);
        }
    }
}

fn write_row(text: &mut String, result: &OverloadResult) {
    let goodput = result.spread(|run| run.goodput);
    let of_peak = |value: f64| 100.0 * value / result.peak;
    let peak = result.runs.iter().map(|run| run.peak_bytes).max();
    writeln!(
        text,
        "| {} | {:.0} k | {:.0} k | {:.0} k | **{:.1} %** ({:.1} to {:.1}) | {:.1} | {:.1} | {:.0} | {} | {} | {} | {} | {} | {} |",
        result.cell,
        result.peak / 1e3,
        result.spread(|run| run.offered).median / 1e3,
        goodput.median / 1e3,
        of_peak(goodput.median),
        of_peak(goodput.least),
        of_peak(goodput.greatest),
        result.spread(|run| run.p50_ms).median,
        result.spread(|run| run.p99_ms).median,
        mebibytes(peak.unwrap_or(0)),
        result.sum(|run| run.refusals),
        result.sum(|run| run.refusals_with_hint),
        result.sum(|run| run.refused_requests),
        result.sum(|run| run.failed_items),
        result.sum(Overload::lost_items),
        result.sum(Overload::surplus_items),
    )
    .expect(STRING);
}
