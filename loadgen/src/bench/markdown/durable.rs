//! The tables of the queue on disk.

use std::fmt::Write as _;

use super::super::cell::Work;
use super::super::durable::{DurableResult, HalfLoad, spread};
use super::super::measure::{Disk, Measurement};
use super::super::report::{CellResult, Report, Spread};
use super::{Ratio, STRING, mebibytes};

impl Report {
    /// The queue on disk next to the queue in memory, and what is measured of it alone.
    pub(super) fn write_durable(&self, text: &mut String) {
        let results: Vec<_> = self
            .results
            .iter()
            .filter(|result| result.cell.work == Work::Durable)
            .collect();
        if results.is_empty() {
            return;
        }
        text.push_str(
            "\n## Queue on disk\n\nThe same binary with its queue on disk, synced before clients are answered, and in memory. \
             \"Times\" is in proportion to memory; the goal is 1.3.\n\n",
        );
        self.write_table(text, &results, Ratio::ToMemory);
        write_disk(text, &results);
        write_half_load(text, &self.durable);
        write_recovery(text, &self.durable);
    }
}

/// What went to the disk for each byte accepted.
fn write_disk(text: &mut String, results: &[&CellResult]) {
    let on_disk: Vec<_> = results
        .iter()
        .filter(|result| result.runs.iter().any(|run| run.disk.is_some()))
        .collect();
    if on_disk.is_empty() {
        return;
    }
    text.push_str(
        "\nBytes written for each byte of OTLP accepted, by the agent's account of its queue's files, by the disk's, whoever \
         wrote them, and by the kernel's of the process, which counts the whole of what is changed in part; the goal is \
         1.1.\n\n\
         | signal, protocol, compression | queue | disk | process | syncs per 1,000 requests |\n|---|---|---|---|---|\n",
    );
    for result in on_disk {
        let total =
            |figure: fn(&Disk) -> u64| result.sum(|run| run.disk.as_ref().map_or(0, figure)) as f64;
        let accepted = result.sum(|run| run.accepted_bytes).max(1) as f64;
        let requests = result.sum(|run| run.latency_ms.count).max(1) as f64;
        writeln!(
            text,
            "| {} | {:.3} | {:.3} | {:.3} | {:.0} |",
            result.cell,
            total(|disk| disk.queue.written_bytes) / accepted,
            total(|disk| disk.device_bytes.unwrap_or(0)) / accepted,
            total(|disk| disk.process_bytes) / accepted,
            total(|disk| disk.queue.syncs) * 1e3 / requests,
        )
        .expect(STRING);
    }
}

fn write_half_load(text: &mut String, durable: &[DurableResult]) {
    let measured = durable.iter().filter(|result| !result.half_load.is_empty());
    let mut measured = measured.peekable();
    let Some(probe) = measured.peek().and_then(|result| result.half_load.first()) else {
        return;
    };
    writeln!(
        text,
        "\n### Answers at half load\n\nOpen loop at half of the rate at which everything was delivered above. A commit is what the queue's own \
         writes with their `fdatasync` took in the same run, by the agent's account; \"times\" is p99 of the acknowledgement in \
         proportion to the median and to p99 of that. The goal is 3. A probe is a write of {} KiB and `fdatasync`, one right \
         after the other, taken just before each run while nobody else uses the disk.\n",
        probe.probe.bytes >> 10,
    )
    .expect(STRING);
    text.push_str(
        "| signal, protocol, compression | items/s due | CPU-s per million | p50 ms | p90 | p99 | max | commit median ms | \
         commit p99 | times median | times p99 | probe median ms | probe p99 | refused | failed | lost | surplus |\n",
    );
    writeln!(text, "|{}", "---|".repeat(17)).expect(STRING);
    for result in measured {
        write_half_load_row(text, result);
    }
}

fn write_half_load_row(text: &mut String, result: &DurableResult) {
    let runs = &result.half_load;
    let median = |figure: fn(&HalfLoad) -> f64| spread(runs, figure).median;
    let sum = |figure: fn(&Measurement) -> u64| runs.iter().map(|half| figure(&half.run)).sum();
    let [refused, failed, lost, surplus]: [u64; 4] = [
        sum(|run| run.refused_items),
        sum(|run| run.failed_items),
        sum(Measurement::lost_items),
        sum(Measurement::surplus_items),
    ];
    let p99 = spread(runs, |half| half.run.latency_ms.p99);
    // Agents that do not tell have none.
    let commit = |share: f64, figure: fn(&HalfLoad, f64) -> f64| {
        let known = runs.iter().filter_map(|half| {
            let took = half.run.disk.as_ref()?.queue.commit_ms(share)?;
            Some(figure(half, took))
        });
        Spread::of(known).map_or_else(|| "-".to_owned(), |spread| format!("{:.2}", spread.median))
    };
    let took = |_: &HalfLoad, took: f64| took;
    let times = |half: &HalfLoad, took: f64| half.run.latency_ms.p99 / took;
    writeln!(
        text,
        "| {} | {:.0} k | {:.2} | {:.1} | {:.1} | **{:.1}** ({:.1} to {:.1}) | {:.1} | {} | {} | {} | {} | {:.2} | {:.2} | \
         {refused} | {failed} | {lost} | {surplus} |",
        result.cell,
        median(|half| half.rate) / 1e3,
        median(|half| half.run.cpu_seconds_per_million),
        median(|half| half.run.latency_ms.p50),
        median(|half| half.run.latency_ms.p90),
        p99.median,
        p99.least,
        p99.greatest,
        spread(runs, |half| half.run.latency_ms.max).greatest,
        commit(0.5, took),
        commit(0.99, took),
        commit(0.5, times),
        commit(0.99, times),
        median(|half| half.probe.sync_ms.p50),
        median(|half| half.probe.sync_ms.p99),
    )
    .expect(STRING);
}

fn write_recovery(text: &mut String, durable: &[DurableResult]) {
    let recovered: Vec<_> = durable
        .iter()
        .filter_map(|result| Some((result.cell, result.recovery?)))
        .collect();
    if recovered.is_empty() {
        return;
    }
    text.push_str(
        "\n### After a crash\n\nThe queue is filled with the sink away, the agent killed, its files taken out of the page \
         cache, and the agent started with the sink there. Times are from the start: until it accepts connections (goal 5 \
         s), has answered a request, and has delivered everything. The goal for memory is 64 MiB throughout.\n\n\
         | signal, protocol, compression | queued MiB | files MiB | peak MiB filling | MiB at the end | ready s | answered s \
         | delivered s | CPU-s per million | peak MiB delivering | refused | failed | lost | surplus |\n",
    );
    writeln!(text, "|{}", "---|".repeat(14)).expect(STRING);
    for (cell, recovery) in recovered {
        writeln!(
            text,
            "| {cell} | {:.0} | {:.0} | {:.0} | {:.0} | **{:.2}** | {:.2} | {:.1} | {:.2} | {:.0} | {} | {} | {} | {} |",
            mebibytes(recovery.queued_bytes),
            mebibytes(recovery.file_bytes),
            mebibytes(recovery.queued_peak_bytes),
            mebibytes(recovery.queued_memory_bytes),
            recovery.ready_seconds,
            recovery.answered_seconds,
            recovery.delivered_seconds,
            recovery.cpu_seconds_per_million,
            mebibytes(recovery.drain_peak_bytes),
            recovery.refused_items,
            recovery.failed_items,
            recovery.lost_items(),
            recovery.surplus_items(),
        )
        .expect(STRING);
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::cell::Cell;
    use super::super::super::durable::Recovery;
    use super::super::super::peer::Peer;
    use super::super::super::probe::Probe;
    use super::super::super::scrape::LogFigures;
    use super::super::tests::{check_columns, report, run};
    use super::*;
    use crate::stats::LatencySummary;

    const RECOVERY: Recovery = Recovery {
        accepted_items: 2_000_000,
        queued_bytes: 1 << 30,
        file_bytes: 1025 << 20,
        refused_items: 0,
        failed_items: 0,
        queued_peak_bytes: 50 << 20,
        queued_memory_bytes: 40 << 20,
        ready_seconds: 0.25,
        answered_seconds: 0.5,
        delivered_seconds: 3.0,
        cpu_seconds_per_million: 1.5,
        drain_peak_bytes: 60 << 20,
        delivered_items: 1_999_000,
    };

    /// The report of a queue on disk that lost items in a run at half load and after a crash.
    fn durable_report() -> Report {
        let mut report = report();
        let cell = Cell {
            work: Work::Durable,
            ..*Cell::all().first().unwrap()
        };
        let peers = [
            Peer::tidegate_in_memory("t".into()),
            Peer::tidegate_durable("t".into()),
        ];
        for (peer, cpu) in peers.iter().zip([1.0, 1.25]) {
            let mut run = run(cpu, 1_000_000);
            run.disk = peer.durable.then(|| Disk {
                queue: LogFigures {
                    written_bytes: 410_000_000,
                    syncs: 500,
                    ..LogFigures::default()
                },
                process_bytes: 440_000_000,
                device_bytes: Some(420_000_000),
            });
            run.latency_ms.count = 1000;
            report.results.push(CellResult {
                peer: peer.name.clone(),
                cell,
                runs: vec![run],
            });
        }
        let half = HalfLoad {
            rate: 500_000.0,
            probe: Probe {
                bytes: 400 << 10,
                sync_ms: LatencySummary {
                    p50: 2.0,
                    p99: 4.0,
                    ..LatencySummary::default()
                },
            },
            run: Measurement {
                disk: Some(Disk {
                    queue: LogFigures {
                        commits: vec![(Some(0.001), 0), (Some(0.002), 100), (None, 0)],
                        ..LogFigures::default()
                    },
                    process_bytes: 0,
                    device_bytes: None,
                }),
                ..run(1.5, 999_999)
            },
        };
        report.durable.push(DurableResult {
            peer: "tidegate (durable)".to_owned(),
            cell,
            half_load: vec![half],
            recovery: Some(RECOVERY),
        });
        report.peers.extend(peers);
        report
    }

    #[test]
    fn the_queue_on_disk_is_in_proportion_to_memory_and_to_the_disk() {
        let report = durable_report();
        let text = report.markdown();
        for row in [
            "none | tidegate (memory) | **1.00** (1.00 to 1.00) | 1.00 |",
            "none | tidegate (durable) | **1.25** (1.25 to 1.25) | 1.25 |",
            "none | 1.025 | 1.050 | 1.100 | 500 |",
            "none | 500 k | 1.50 | 1.0 | 2.0 | **3.0** (3.0 to 3.0) | 4.0 | 1.50 | 1.99 | 2.00 | 1.51 | 2.00 | 4.00 | 0 | 0 | 1 | 0 |",
            "none | 1024 | 1025 | 50 | 40 | **0.25** | 0.50 | 3.0 | 1.50 | 60 | 0 | 0 | 1000 | 0 |",
        ] {
            assert!(text.contains(row), "{row} not in\n{text}");
        }
        check_columns(&text);
    }

    #[test]
    fn what_a_queue_on_disk_lost_is_told() {
        assert_eq!(durable_report().durably_lost_items(), 1001);
        assert_eq!(report().durably_lost_items(), 0);
    }
}
