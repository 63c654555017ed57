//! The result of a bench, as Markdown and as JSON.

use std::fmt::Write as _;

use serde::Serialize;

use super::cell::Cell;
use super::environment::Environment;
use super::measure::{Limit, Measurement};
use super::peer::Peer;
use crate::otlp::payload::Facts;

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) environment: Environment,
    pub(crate) conditions: Conditions,
    pub(crate) peers: Vec<Peer>,
    pub(crate) payloads: Vec<Facts>,
    pub(crate) results: Vec<CellResult>,
    pub(crate) failures: Vec<Failure>,
    /// Agents that were not measured, and why.
    pub(crate) skipped: Vec<String>,
}

/// How every measurement was made.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Conditions {
    pub(crate) items: u64,
    pub(crate) warm_up_items: u64,
    pub(crate) repetitions: usize,
    pub(crate) connections: usize,
    pub(crate) agent_core: Option<usize>,
    pub(crate) load_core: Option<usize>,
}

/// The repetitions of one agent in one cell.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct CellResult {
    pub(crate) peer: String,
    pub(crate) cell: Cell,
    pub(crate) runs: Vec<Measurement>,
}

/// A measurement that could not be made.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Failure {
    pub(crate) peer: String,
    pub(crate) cell: Cell,
    pub(crate) error: String,
}

/// Median, least and greatest of the repetitions.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Spread {
    median: f64,
    least: f64,
    greatest: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<_> = values.collect();
        values.sort_by(f64::total_cmp);
        let (least, greatest) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let upper = *values.get(middle)?;
        let median = if values.len() % 2 == 1 {
            upper
        } else {
            (values.get(middle - 1)? + upper) / 2.0
        };
        Some(Self {
            median,
            least,
            greatest,
        })
    }
}

impl CellResult {
    fn spread(&self, figure: impl Fn(&Measurement) -> f64) -> Option<Spread> {
        Spread::of(self.runs.iter().map(figure))
    }

    fn median(&self, figure: impl Fn(&Measurement) -> f64) -> f64 {
        self.spread(figure).map_or(0.0, |spread| spread.median)
    }

    fn sum(&self, figure: impl Fn(&Measurement) -> u64) -> u64 {
        self.runs.iter().map(figure).sum()
    }

    fn greatest(&self, figure: impl Fn(&Measurement) -> u64) -> u64 {
        self.runs.iter().map(figure).max().unwrap_or(0)
    }
}

impl Report {
    /// The agent that the others are compared with.
    fn reference(&self) -> Option<&str> {
        self.peers.first().map(|peer| peer.name.as_str())
    }

    fn result(&self, peer: &str, cell: Cell) -> Option<&CellResult> {
        self.results
            .iter()
            .find(|result| result.peer == peer && result.cell == cell)
    }

    /// How many times the reference's CPU time this agent took, by the medians.
    pub(crate) fn ratio(&self, result: &CellResult) -> Option<f64> {
        let reference = self.result(self.reference()?, result.cell)?;
        let reference = reference.spread(|run| run.cpu_seconds_per_million)?.median;
        let own = result.spread(|run| run.cpu_seconds_per_million)?.median;
        (reference > 0.0).then_some(own / reference)
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text = String::from("# Benchmark\n\n");
        self.write_conditions(&mut text);
        let compared: Vec<_> = self
            .results
            .iter()
            .filter(|result| self.is_compared(result.cell))
            .collect();
        if !compared.is_empty() {
            text.push_str(
                "\n## Next to other agents\n\nSame run, same payload, taken in turns.\n\n",
            );
            self.write_table(&mut text, &compared, true);
        }
        if let Some(reference) = self.reference() {
            let own: Vec<_> = self
                .results
                .iter()
                .filter(|result| result.peer == reference)
                .collect();
            writeln!(
                text,
                "\n## {reference} by signal, protocol and compression\n"
            )
            .expect(STRING);
            self.write_table(&mut text, &own, false);
        }
        self.write_failures(&mut text);
        self.write_payloads(&mut text);
        self.write_peers(&mut text);
        text
    }

    fn is_compared(&self, cell: Cell) -> bool {
        self.results
            .iter()
            .filter(|result| result.cell == cell)
            .count()
            > 1
    }

    fn write_conditions(&self, text: &mut String) {
        let Environment {
            cpu,
            cores,
            memory_bytes,
            kernel,
            loadgen,
            ..
        } = &self.environment;
        let Conditions {
            items,
            warm_up_items,
            repetitions,
            connections,
            agent_core,
            load_core,
        } = &self.conditions;
        let memory = *memory_bytes as f64 / f64::from(1 << 30);
        writeln!(
            text,
            "{cpu}, {cores} cores, {memory:.0} GiB, Linux {kernel}; loadgen {loadgen}."
        )
        .expect(STRING);
        let pinned = match (agent_core, load_core) {
            (Some(agent), Some(load)) => {
                format!("Agent alone on core {agent}; generator and sink on core {load}.")
            }
            _ => "Agent, generator and sink share all cores: CPU time counts, rates and latencies say little."
                .to_owned(),
        };
        writeln!(
            text,
            "{pinned} Each figure is the median of {repetitions} runs (least to greatest) of {items} items after \
             {warm_up_items} to warm up, {connections} connections, closed loop, a new agent process for each run. \
             CPU is user and system time of the process that serves, from the first request until the sink, a \
             ClickHouse server that discards, has every row. Latency is from sending a request to its \
             acknowledgement; rates are what the slower of the two cores allows.",
        )
        .expect(STRING);
    }

    fn write_table(&self, text: &mut String, results: &[&CellResult], compared: bool) {
        let first = if compared {
            "| signal, protocol, compression | agent |"
        } else {
            "| signal, protocol, compression |"
        };
        let ratio = if compared { " times |" } else { "" };
        writeln!(
            text,
            "{first} CPU-s per million |{ratio} items/s | p50 ms | p90 | p99 | max | peak MiB | idle MiB | refused | \
             failed | lost | surplus | B/item out | limit |"
        )
        .expect(STRING);
        let columns = if compared { 16 } else { 14 };
        writeln!(text, "|{}", "---|".repeat(columns)).expect(STRING);
        for result in results {
            self.write_row(text, result, compared);
        }
    }

    fn write_row(&self, text: &mut String, result: &CellResult, compared: bool) {
        let Some(cpu) = result.spread(|run| run.cpu_seconds_per_million) else {
            return;
        };
        write!(text, "| {} |", result.cell).expect(STRING);
        if compared {
            write!(text, " {} |", result.peer).expect(STRING);
        }
        write!(
            text,
            " **{:.2}** ({:.2} to {:.2}) |",
            cpu.median, cpu.least, cpu.greatest
        )
        .expect(STRING);
        if compared {
            let ratio = self
                .ratio(result)
                .map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
            write!(text, " {ratio} |").expect(STRING);
        }
        let latency = |figure: fn(&Measurement) -> f64| result.median(figure);
        let max = result
            .spread(|run| run.latency_ms.max)
            .map_or(0.0, |spread| spread.greatest);
        write!(
            text,
            " {:.0} k | {:.1} | {:.1} | {:.1} | {max:.1} |",
            result.median(|run| run.items_per_second) / 1e3,
            latency(|run| run.latency_ms.p50),
            latency(|run| run.latency_ms.p90),
            latency(|run| run.latency_ms.p99),
        )
        .expect(STRING);
        let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let delivered = result.sum(|run| run.delivered_items.unwrap_or(0));
        let out = match delivered {
            0 => "-".to_owned(),
            items => format!(
                "{:.0}",
                result.sum(|run| run.insert_bytes) as f64 / items as f64
            ),
        };
        writeln!(
            text,
            " {:.0} | {:.0} | {} | {} | {} | {} | {out} | {} |",
            mebibytes(result.greatest(|run| run.peak_bytes)),
            mebibytes(result.greatest(|run| run.idle_bytes)),
            result.sum(|run| run.refused_items),
            result.sum(|run| run.failed_items),
            result.sum(Measurement::lost_items),
            result.sum(Measurement::surplus_items),
            limit(result),
        )
        .expect(STRING);
    }

    fn write_failures(&self, text: &mut String) {
        let uncounted: u64 = self
            .results
            .iter()
            .map(|result| result.sum(|run| run.uncounted_inserts))
            .sum();
        if self.failures.is_empty() && self.skipped.is_empty() && uncounted == 0 {
            return;
        }
        text.push_str("\n## Not measured\n\n");
        for Failure { peer, cell, error } in &self.failures {
            writeln!(text, "- {peer}, {cell}: {}", error.replace('\n', "\n    ")).expect(STRING);
        }
        for skipped in &self.skipped {
            writeln!(text, "- {skipped}").expect(STRING);
        }
        if uncounted > 0 {
            writeln!(
                text,
                "- {uncounted} inserts had rows the sink could not count; they show as lost"
            )
            .expect(STRING);
        }
    }

    fn write_payloads(&self, text: &mut String) {
        text.push_str("\n## Payload\n\n");
        text.push_str("| signal | compression | items a request | attributes | B/item | B/item as sent | requests |\n");
        text.push_str("|---|---|---|---|---|---|---|\n");
        for facts in &self.payloads {
            let sending = if facts.stamped_at_each_send {
                "numbered anew at each send"
            } else {
                "repeated as built"
            };
            writeln!(
                text,
                "| {} | {} | {} | {} | {:.0} | {:.1} | {} different, {sending} |",
                facts.signal,
                facts.compression,
                facts.items_per_request,
                facts.attributes_per_item,
                facts.bytes_per_item,
                facts.bytes_per_item_sent,
                facts.requests,
            )
            .expect(STRING);
        }
    }

    fn write_peers(&self, text: &mut String) {
        text.push_str("\n## Agents\n");
        for peer in &self.peers {
            writeln!(
                text,
                "\n**{}**, {}: {}.\n",
                peer.name, peer.version, peer.note
            )
            .expect(STRING);
            writeln!(
                text,
                "    {} {}",
                peer.binary.display(),
                peer.arguments.join(" ")
            )
            .expect(STRING);
            if let Some((name, config)) = &peer.config {
                writeln!(text, "\n    # {name}").expect(STRING);
                for line in config.lines() {
                    writeln!(text, "    {line}").expect(STRING);
                }
            }
        }
    }
}

const STRING: &str = "writing to a String cannot fail";

/// What limited most of the runs.
fn limit(result: &CellResult) -> &'static str {
    let count = |limit| {
        result
            .runs
            .iter()
            .filter(|run| run.limited_by == limit)
            .count()
    };
    let (agent, load) = (count(Limit::Agent), count(Limit::Load));
    if 2 * agent > result.runs.len() {
        "agent"
    } else if 2 * load > result.runs.len() {
        "load"
    } else {
        "neither"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::LatencySummary;

    fn run(cpu: f64, delivered: u64) -> Measurement {
        Measurement {
            cpu_seconds_per_million: cpu,
            cpu_seconds: cpu,
            seconds: 1.0,
            items_per_second: 1e6,
            latency_ms: LatencySummary {
                p50: 1.0,
                p90: 2.0,
                p99: 3.0,
                max: 4.0,
                ..LatencySummary::default()
            },
            idle_bytes: 10 << 20,
            peak_bytes: 50 << 20,
            sent_items: 1_000_000,
            accepted_items: 1_000_000,
            refused_items: 0,
            failed_items: 0,
            delivered_items: Some(delivered),
            insert_requests: 10,
            insert_bytes: 30_000_000,
            uncounted_inserts: 0,
            drain_seconds: 0.1,
            agent_core_share: 1.0,
            load_core_share: 0.5,
            limited_by: Limit::Agent,
        }
    }

    fn report() -> Report {
        let cell = *Cell::all().first().unwrap();
        let result = |peer: &str, runs| CellResult {
            peer: peer.to_owned(),
            cell,
            runs,
        };
        Report {
            environment: Environment::read(),
            conditions: Conditions {
                items: 1_000_000,
                warm_up_items: 1000,
                repetitions: 3,
                connections: 4,
                agent_core: Some(0),
                load_core: Some(1),
            },
            peers: vec![
                Peer::tidegate("target/release/tidegate".into(), None),
                Peer::rotel("rotel-agent".into()),
            ],
            payloads: Vec::new(),
            results: vec![
                result(
                    "tidegate",
                    vec![
                        run(0.9, 1_000_000),
                        run(0.7, 1_000_000),
                        run(0.8, 1_000_000),
                    ],
                ),
                result("rotel", vec![run(5.6, 999_000), run(5.6, 1_000_500)]),
            ],
            failures: vec![Failure {
                peer: "rotel".to_owned(),
                cell,
                error: "it ended".to_owned(),
            }],
            skipped: vec!["nginx is not installed".to_owned()],
        }
    }

    #[test]
    fn the_median_is_between_least_and_greatest() {
        let check = |values: &[f64], expected| {
            let spread = Spread::of(values.iter().copied());
            assert_eq!(
                spread.map(|spread| (spread.median, spread.least, spread.greatest)),
                expected
            );
        };
        check(&[], None);
        check(&[2.0], Some((2.0, 2.0, 2.0)));
        check(&[3.0, 1.0], Some((2.0, 1.0, 3.0)));
        check(&[9.0, 1.0, 2.0], Some((2.0, 1.0, 9.0)));
    }

    #[test]
    fn the_table_has_medians_ratios_and_losses() {
        let text = report().markdown();
        let row = |name: &str| {
            text.lines()
                .find(|line| line.contains(&format!("| {name} |")))
                .unwrap()
        };
        assert!(row("tidegate").contains("| **0.80** (0.70 to 0.90) | 1.00 | 1000 k | 1.0 | 2.0 | 3.0 | 4.0 | 50 | 10 | 0 | 0 | 0 | 0 | 30 | agent |"), "{text}");
        assert!(
            row("rotel").contains("| **5.60** (5.60 to 5.60) | 7.00 |"),
            "{text}"
        );
        assert!(row("rotel").contains("| 0 | 0 | 1000 | 500 |"), "{text}");
        for part in [
            "## Not measured",
            "it ended",
            "nginx is not installed",
            "[processors.batch]",
            "run --config {config}",
        ] {
            assert!(text.contains(part), "{part}");
        }
    }

    #[test]
    fn every_row_has_as_many_cells_as_its_head() {
        let text = report().markdown();
        let mut columns = None;
        for line in text.lines() {
            columns = line.starts_with('|').then(|| {
                let cells = line.matches('|').count();
                assert_eq!(columns.unwrap_or(cells), cells, "{line}");
                cells
            });
        }
    }

    #[test]
    fn json_has_every_run() {
        let json = serde_json::to_value(report()).unwrap();
        assert_eq!(
            json["results"][0]["runs"][2]["cpu_seconds_per_million"],
            0.8
        );
        assert_eq!(json["results"][1]["runs"][0]["delivered_items"], 999_000);
        assert_eq!(json["peers"][1]["arguments"][0], "start");
    }
}
