//! The result of a run, for people and as JSON.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::client::Protocol;
use super::drive::{Load, Run};
use super::payload::Facts;
use super::tally::Amount;
use crate::stats::LatencySummary;

/// From this share of a core on, the figures say more about the generator than about the server.
const BUSY: f64 = 0.9;
/// An idle worker that is this late shows that the generator did not get the CPU it needed.
const LATE_MILLIS: f64 = 5.0;

/// A wait for the last answer that is shorter is not worth a word.
const SHOWN_SECONDS_MIN: f64 = 0.01;
/// Why an interrupted run says nothing of the server.
pub(super) const CUT_SHORT: &str = "interrupted before its end";

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) target: String,
    pub(crate) protocol: Protocol,
    pub(crate) connections: usize,
    /// Items per second that were due; absent in a closed loop.
    pub(crate) rate: Option<f64>,
    pub(crate) payload: Facts,
    /// Until the last answer.
    pub(crate) wall_seconds: f64,
    /// The time of the load itself.
    pub(crate) load_seconds: f64,
    /// It was stopped before its end.
    pub(crate) interrupted: bool,
    #[serde(flatten)]
    pub(crate) tally: Counts,
    /// Accepted within the load's time, per second of it.
    pub(crate) items_per_second: f64,
    /// Milliseconds, from when a request was due (open loop) or first sent (closed loop) to acceptance.
    pub(crate) latency_ms: LatencySummary,
    /// Milliseconds, from sending to the answer, of the attempt that was accepted.
    pub(crate) service_ms: LatencySummary,
    pub(crate) generator: Generator,
}

/// The counts of a `Tally`.
#[derive(Debug, Serialize)]
pub(crate) struct Counts {
    pub(crate) sent: Amount,
    pub(crate) accepted: Amount,
    /// Of those, before the load's time was over.
    pub(crate) accepted_in_time: Amount,
    pub(crate) rejected_items: u64,
    pub(crate) refused: BTreeMap<String, super::tally::Refusals>,
    /// Sent, and not answered.
    pub(crate) failed: BTreeMap<String, Amount>,
    /// What no connection could be made for.
    pub(crate) not_sent: BTreeMap<String, Amount>,
    pub(crate) retries: u64,
    pub(crate) unsent_requests: u64,
}

/// How hard the generator itself worked.
#[derive(Debug, Serialize)]
pub(crate) struct Generator {
    pub(crate) cpu_seconds: f64,
    /// CPU time by wall time: 1 is a whole core.
    pub(crate) core_share: f64,
    pub(crate) items_per_cpu_second: f64,
    /// Milliseconds by which idle workers woke up late for a request (open loop).
    pub(crate) lateness_ms: LatencySummary,
    /// Whether the generator, and not the server, limited this run.
    pub(crate) was_bottleneck: bool,
}

impl Report {
    pub(crate) fn new(load: &Load, facts: &Facts, run: &Run) -> Self {
        let tally = &run.tally;
        Self {
            target: format!("{}{}", load.target.authority, load.target.path),
            protocol: load.target.protocol,
            connections: load.connections,
            rate: load.rate,
            payload: Facts {
                stamped_at_each_send: facts.stamped_at_each_send && load.stamp,
                ..facts.clone()
            },
            wall_seconds: run.wall.as_secs_f64(),
            load_seconds: run.load.as_secs_f64(),
            interrupted: run.interrupted,
            tally: Counts {
                sent: tally.sent,
                accepted: tally.accepted,
                accepted_in_time: tally.accepted_in_time,
                rejected_items: tally.rejected_items,
                refused: by_name(&tally.refused),
                failed: by_name(&tally.failed),
                not_sent: by_name(&tally.not_sent),
                retries: tally.retries,
                unsent_requests: tally.unsent,
            },
            items_per_second: per_second(tally.accepted_in_time.items, run.load),
            latency_ms: tally.latency.summary(),
            service_ms: tally.service.summary(),
            generator: Generator::new(run),
        }
    }
}

fn by_name<T: Copy>(tally: &BTreeMap<Cow<'static, str>, T>) -> BTreeMap<String, T> {
    let owned = |(name, value): (&Cow<'static, str>, &T)| (name.clone().into_owned(), *value);
    tally.iter().map(owned).collect()
}

impl Generator {
    fn new(run: &Run) -> Self {
        let core_share = run.cpu.as_secs_f64() / run.wall.as_secs_f64().max(1e-9);
        let lateness_ms = run.tally.lateness.summary();
        Self {
            cpu_seconds: run.cpu.as_secs_f64(),
            core_share,
            items_per_cpu_second: per_second(run.tally.sent.items, run.cpu),
            was_bottleneck: core_share > BUSY || lateness_ms.p99 > LATE_MILLIS,
            lateness_ms,
        }
    }
}

impl Generator {
    /// What keeps the figures from being the server's, for people.
    pub(crate) fn problem(&self) -> Option<&'static str> {
        if self.core_share > BUSY {
            return Some(
                "the generator was the bottleneck: the server may do more than this shows",
            );
        }
        self.was_bottleneck.then_some(
            "the generator was kept from its work (see lateness): the load was less even than asked for, and \
             latencies may hold waits of its own",
        )
    }
}

fn per_second(items: u64, time: Duration) -> f64 {
    items as f64 / time.as_secs_f64().max(1e-9)
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let payload = &self.payload;
        let items = payload.signal.items();
        let load = match self.rate {
            Some(rate) => format!("open loop, {rate} {items} due per second"),
            None => "closed loop".to_owned(),
        };
        writeln!(
            out,
            "{} to {} over {}, {load}",
            payload.signal, self.target, self.protocol
        )?;
        writeln!(
            out,
            "  payload    {} {items} a request, {} attributes, {:.0} B each ({:.0} B as sent, {}), {}",
            payload.items_per_request,
            payload.attributes_per_item,
            payload.bytes_per_item,
            payload.bytes_per_item_sent,
            payload.compression,
            if payload.stamped_at_each_send {
                "numbered anew at each send".to_owned()
            } else {
                format!("{} requests repeated as built", payload.requests)
            },
        )?;
        self.write_counts(out, items)?;
        self.write_latency(out)?;
        self.write_generator(out, items)
    }
}

impl Report {
    fn write_counts(&self, out: &mut fmt::Formatter<'_>, items: &str) -> fmt::Result {
        let Counts { sent, accepted, .. } = &self.tally;
        let mebibytes = sent.bytes as f64 / f64::from(1 << 20);
        let (load, wall) = (self.load_seconds, self.wall_seconds);
        write!(
            out,
            "  sent       {} {items}, {} requests, {mebibytes:.1} MiB in {load:.2} s",
            sent.items, sent.requests
        )?;
        match wall - load >= SHOWN_SECONDS_MIN {
            true => writeln!(out, ", the last answer after {wall:.2} s")?,
            false => writeln!(out)?,
        }
        let late = accepted.items - self.tally.accepted_in_time.items;
        write!(
            out,
            "  accepted   {} {items}, {} requests, {:.0} {items}/s",
            accepted.items, accepted.requests, self.items_per_second
        )?;
        match late {
            0 => writeln!(out)?,
            late => writeln!(
                out,
                " over the {load:.2} s of the load, without {late} later"
            )?,
        }
        if self.tally.rejected_items > 0 {
            writeln!(
                out,
                "  rejected   {} {items} of these (partial success)",
                self.tally.rejected_items
            )?;
        }
        for (status, refusals) in &self.tally.refused {
            writeln!(
                out,
                "  refused    {} {items}, {} requests: {status} ({} answers, {} with a retry hint)",
                refusals.items, refusals.requests, refusals.answers, refusals.with_hint
            )?;
        }
        for (name, amounts) in [
            ("failed", &self.tally.failed),
            ("not sent", &self.tally.not_sent),
        ] {
            for (cause, amount) in amounts {
                writeln!(
                    out,
                    "  {name:<10} {} {items}, {} requests: {cause}",
                    amount.items, amount.requests
                )?;
            }
        }
        if self.tally.retries > 0 {
            writeln!(out, "  retries    {}", self.tally.retries)?;
        }
        if self.tally.unsent_requests > 0 {
            writeln!(
                out,
                "  unsent     {} requests that were due",
                self.tally.unsent_requests
            )?;
        }
        Ok(())
    }

    fn write_latency(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.latency_ms.count == 0 {
            return writeln!(out, "  latency    none: nothing was accepted");
        }
        let mut line = |name: &str, note: &str, ms: &LatencySummary| {
            writeln!(
                out,
                "  {name:<10} p50 {:.2}  p90 {:.2}  p99 {:.2}  p99.9 {:.2}  max {:.2} ms  ({note})",
                ms.p50, ms.p90, ms.p99, ms.p999, ms.max
            )
        };
        if self.rate.is_none() {
            return line("latency", "from sending to acceptance", &self.latency_ms);
        }
        line("latency", "from when due to acceptance", &self.latency_ms)?;
        line("service", "from sending to the answer", &self.service_ms)
    }

    fn write_generator(&self, out: &mut fmt::Formatter<'_>, items: &str) -> fmt::Result {
        let own = &self.generator;
        writeln!(
            out,
            "  generator  {:.2} CPU seconds, {:.0} % of a core, {:.2} M {items} per CPU second",
            own.cpu_seconds,
            own.core_share * 100.0,
            own.items_per_cpu_second / 1e6
        )?;
        if let Some(problem) = own.problem() {
            writeln!(out, "  NOTE       {problem}")?;
        }
        if self.interrupted {
            writeln!(out, "NO VERDICT: {CUT_SHORT}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::client::{Outcome, Target};
    use crate::otlp::compression::Compression;
    use crate::otlp::payload::{Numbering, Pool, Shape};
    use crate::otlp::record;
    use crate::otlp::signal::Signal;
    use crate::otlp::tally::Tally;
    use crate::record::{Start, Timeline};

    /// Ten requests of 100 items, the last of which was answered 30 s after the load's 10 s.
    fn report(rate: Option<f64>) -> (Report, Run) {
        let numbering = Numbering::for_run("run");
        let (none, signal) = (Compression::None, Signal::Logs);
        let load = Load {
            target: Target::new("127.0.0.1:1", Protocol::Http, none, signal).unwrap(),
            connections: 1,
            items: None,
            duration: Duration::from_secs(10),
            rate,
            timeout: Duration::from_secs(60),
            retry: false,
            stamp: true,
            numbering,
            first_item: 0,
            teller: None,
        };
        let shape = Shape::natural(signal, 100, "run", 1);
        let pool = Pool::build(&shape, 1, none, numbering, 0).unwrap();
        let mut tally = Tally::new();
        tally.lateness.record(Duration::from_millis(1));
        for number in 0..10 {
            let amount = Amount {
                requests: 1,
                items: 100,
                bytes: 1000,
            };
            let outcome = Outcome::Accepted { rejected: 0 };
            let took = Duration::from_millis(5);
            tally.end(amount, outcome, took, took, number < 9);
        }
        let run = Run {
            tally,
            timeline: Timeline::new(std::time::Instant::now()),
            wall: Duration::from_secs(40),
            load: Duration::from_secs(10),
            interrupted: false,
            cpu: Duration::from_secs(1),
        };
        (Report::new(&load, pool.facts(), &run), run)
    }

    #[test]
    fn rates_are_over_the_time_of_the_load() {
        let (report, _) = report(None);
        assert!((report.items_per_second - 90.0).abs() < 1e-9);
        let text = report.to_string();
        for expected in [
            "in 10.00 s, the last answer after 40.00 s",
            "90 log records/s over the 10.00 s of the load, without 100 later",
        ] {
            assert!(text.contains(expected), "{text}");
        }
    }

    #[test]
    fn the_figures_that_suites_may_ask_for_are_those_of_the_record() {
        for rate in [None, Some(5.0)] {
            let (report, run) = report(rate);
            let record = record::of(&Start::now(), &report, &run, Duration::ZERO);
            let names = record.metrics.iter().map(|it| it.name.clone());
            let mut names: Vec<_> = names.collect();
            // Counted where it happens.
            names.extend(["items_refused", "items_failed"].map(str::to_owned));
            let mut known = record::figures(rate.is_some());
            names.sort();
            known.sort();
            assert_eq!(names, known);
        }
    }
}
