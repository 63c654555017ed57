//! A bench's report as Markdown.

mod durable;
mod overload;
mod reload;

use std::fmt::Write as _;

use super::cell::{Cell, Work};
use super::measure::{Limit, Measurement};
use super::report::{CellResult, Conditions, Failure, Report};
use crate::record::Environment;

impl Report {
    /// Tables, then what they stand on.
    pub(crate) fn markdown(&self) -> String {
        let mut text = String::from("# Benchmark\n\n");
        self.write_conditions(&mut text);
        let compared: Vec<_> = self
            .results
            .iter()
            .filter(|result| result.cell.work == Work::ClickHouse && self.is_compared(result.cell))
            .collect();
        if !compared.is_empty() {
            text.push_str(
                "\n## Next to other agents\n\nSame run, same payload, taken in turns.\n\n",
            );
            self.write_table(&mut text, &compared, Ratio::ToReference);
        }
        if let Some(reference) = self.reference() {
            let own: Vec<_> = self
                .results
                .iter()
                .filter(|result| result.peer == reference)
                .collect();
            if !own.is_empty() {
                writeln!(
                    text,
                    "\n## {reference} by signal, protocol and compression\n"
                )
                .expect(STRING);
                self.write_table(&mut text, &own, Ratio::None);
            }
        }
        self.write_passthrough(&mut text);
        self.write_durable(&mut text);
        self.write_overload(&mut text);
        self.write_reloads(&mut text);
        self.write_disturbance(&mut text);
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
            rate,
            agent_core,
            load_core,
        } = &self.conditions;
        let memory = *memory_bytes as f64 / f64::from(1 << 30);
        writeln!(
            text,
            "{cpu}, {cores} cores, {memory:.0} GiB, Linux {kernel}; loadgen {loadgen}."
        )
        .expect(STRING);
        let load = match rate {
            Some(rate) => format!("{rate} items due per second (open loop)"),
            None => "closed loop".to_owned(),
        };
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
             {warm_up_items} to warm up, {connections} connections, {load}, a new agent process for each run. \
             CPU is user and system time of the process that serves, from the first request until the sink, a \
             ClickHouse or OTLP server that discards, has everything. Latency is from sending a request to its \
             acknowledgement; rates are what the slower of the two cores allows.",
        )
        .expect(STRING);
    }

    /// Passing through: every row in proportion to the reverse proxy for the same signal.
    fn write_passthrough(&self, text: &mut String) {
        let results: Vec<_> = self
            .results
            .iter()
            .filter(|result| result.cell.work == Work::Passthrough)
            .collect();
        if results.is_empty() {
            return;
        }
        text.push_str(
            "\n## Passing through\n\nReceived and sent on over the same protocol without compression, to a sink that reads \
             whole requests and counts their items. \"Times\" is in proportion to nginx as a plain reverse proxy over HTTP \
             for the same signal; the goals are 0.8 over HTTP and 1.2 over gRPC.\n\n",
        );
        self.write_table(text, &results, Ratio::ToProxy);
    }

    fn write_table(&self, text: &mut String, results: &[&CellResult], ratio: Ratio) {
        let compared = ratio != Ratio::None;
        let first = if compared {
            "| signal, protocol, compression | agent |"
        } else {
            "| signal, protocol, compression |"
        };
        let times = if compared { " times |" } else { "" };
        writeln!(
            text,
            "{first} CPU-s per million |{times} items/s | p50 ms | p90 | p99 | max | peak MiB | idle MiB | refused | \
             failed | lost | surplus | B/item out | limit |"
        )
        .expect(STRING);
        let columns = if compared { 17 } else { 15 };
        writeln!(text, "|{}", "---|".repeat(columns)).expect(STRING);
        for result in results {
            self.write_row(text, result, ratio);
        }
    }

    fn write_row(&self, text: &mut String, result: &CellResult, ratio: Ratio) {
        let Some(cpu) = result.spread(|run| run.cpu_seconds_per_million) else {
            return;
        };
        write!(text, "| {} |", result.cell).expect(STRING);
        if ratio != Ratio::None {
            write!(text, " {} |", result.peer).expect(STRING);
        }
        write!(
            text,
            " **{:.2}** ({:.2} to {:.2}) |",
            cpu.median, cpu.least, cpu.greatest
        )
        .expect(STRING);
        let times = match ratio {
            Ratio::None => None,
            Ratio::ToReference => Some(self.ratio(result)),
            Ratio::ToProxy => Some(self.ratio_to_proxy(result)),
            Ratio::ToMemory => Some(self.ratio_to_memory(result)),
        };
        if let Some(times) = times {
            let times = times.map_or_else(|| "-".to_owned(), |times| format!("{times:.2}"));
            write!(text, " {times} |").expect(STRING);
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

    /// Says how much CPU time other processes took meanwhile.
    fn write_disturbance(&self, text: &mut String) {
        let runs = self.results.iter().flat_map(|result| &result.runs);
        let shares: Vec<_> = runs.filter_map(|run| run.other_core_share).collect();
        let disturbed = shares.iter().filter(|share| **share > DISTURBED).count();
        let worst = shares.iter().copied().fold(0.0, f64::max);
        if disturbed > 0 {
            writeln!(
                text,
                "\n**Disturbed**: in {disturbed} of {} runs other processes used more than {:.0} % of a core, \
                 {:.0} % at worst. Ratios within a cell hold better than its figures.",
                shares.len(),
                DISTURBED * 100.0,
                worst * 100.0,
            )
            .expect(STRING);
        }
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
        text.push_str("\n## Agents\n\nConfigurations as rendered, and logs, are in `run` beside this report.\n");
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

/// What a table's rows are put in proportion to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ratio {
    None,
    ToReference,
    ToProxy,
    ToMemory,
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Other processes' share of a core from which on figures cannot be trusted to a few percent.
const DISTURBED: f64 = 0.05;
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
pub(super) mod tests {
    use super::*;
    use crate::bench::peer::Peer;
    use crate::bench::report::Failure;
    use crate::otlp::client::Protocol;
    use crate::stats::LatencySummary;

    pub(super) fn run(cpu: f64, delivered: u64) -> Measurement {
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
            accepted_bytes: 400_000_000,
            refused_items: 0,
            failed_items: 0,
            delivered_items: Some(delivered),
            insert_requests: 10,
            insert_bytes: 30_000_000,
            uncounted_inserts: 0,
            disk: None,
            drain_seconds: 0.1,
            agent_core_share: 1.0,
            load_core_share: 0.5,
            other_core_share: Some(0.25),
            limited_by: Limit::Agent,
        }
    }

    pub(super) fn report() -> Report {
        let cell = *Cell::all().first().unwrap();
        let result = |peer: &str, runs| CellResult {
            peer: peer.to_owned(),
            cell,
            runs,
        };
        Report {
            environment: Environment::read(),
            started_at: 0,
            conditions: Conditions {
                items: 1_000_000,
                warm_up_items: 1000,
                repetitions: 3,
                connections: 4,
                rate: None,
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
            durable: Vec::new(),
            overload: Vec::new(),
            reloads: Vec::new(),
            failures: vec![Failure {
                peer: "rotel".to_owned(),
                cell,
                error: "it ended".to_owned(),
            }],
            skipped: vec!["nginx is not installed".to_owned()],
        }
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
            "in 5 of 5 runs other processes used more than 5 % of a core, 25 % at worst",
            "it ended",
            "nginx is not installed",
            "[processors.batch]",
            "run --config {config}",
        ] {
            assert!(text.contains(part), "{part}");
        }
    }

    #[test]
    fn passing_through_is_in_proportion_to_the_proxy() {
        let mut report = report();
        let mut add = |peer: Peer, protocol, cpu| {
            let cell = Cell {
                work: Work::Passthrough,
                protocol,
                ..*Cell::all().first().unwrap()
            };
            report.results.push(CellResult {
                peer: peer.name,
                cell,
                runs: vec![run(cpu, 1_000_000)],
            });
        };
        add(Peer::nginx_proxy("nginx".into()), Protocol::Http, 0.5);
        add(Peer::tidegate_passthrough("t".into()), Protocol::Http, 0.25);
        add(Peer::tidegate_passthrough("t".into()), Protocol::Grpc, 0.75);
        let text = report.markdown();
        for row in [
            "HTTP, none | nginx (proxy) | **0.50** (0.50 to 0.50) | 1.00 |",
            "HTTP, none | tidegate (passthrough) | **0.25** (0.25 to 0.25) | 0.50 |",
            "gRPC, none | tidegate (passthrough) | **0.75** (0.75 to 0.75) | 1.50 |",
        ] {
            assert!(text.contains(row), "{row} not in\n{text}");
        }
        assert_eq!(text.matches("nginx (proxy) |").count(), 1);
    }

    #[test]
    fn every_row_has_as_many_cells_as_its_head() {
        check_columns(&report().markdown());
    }

    pub(in super::super) fn check_columns(text: &str) {
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
