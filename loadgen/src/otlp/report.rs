//! The result of a run, for people and as JSON.

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

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) target: String,
    pub(crate) protocol: Protocol,
    pub(crate) connections: usize,
    /// Items per second that were due; absent in a closed loop.
    pub(crate) rate: Option<f64>,
    pub(crate) payload: Facts,
    pub(crate) wall_seconds: f64,
    #[serde(flatten)]
    pub(crate) tally: Counts,
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
    pub(crate) rejected_items: u64,
    pub(crate) refused: std::collections::BTreeMap<String, super::tally::Refusals>,
    pub(crate) failed: std::collections::BTreeMap<String, Amount>,
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
        let own = |map: &std::collections::BTreeMap<std::borrow::Cow<'static, str>, _>| {
            map.iter()
                .map(|(key, value)| (key.clone().into_owned(), *value))
                .collect()
        };
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
            tally: Counts {
                sent: tally.sent,
                accepted: tally.accepted,
                rejected_items: tally.rejected_items,
                refused: own(&tally.refused),
                failed: tally
                    .failed
                    .iter()
                    .map(|(key, value)| (key.clone().into_owned(), *value))
                    .collect(),
                retries: tally.retries,
                unsent_requests: tally.unsent,
            },
            items_per_second: per_second(tally.accepted.items, run.wall),
            latency_ms: tally.latency.summary(),
            service_ms: tally.service.summary(),
            generator: Generator::new(run),
        }
    }
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
        writeln!(
            out,
            "  sent       {} {items}, {} requests, {mebibytes:.1} MiB in {:.2} s",
            sent.items, sent.requests, self.wall_seconds
        )?;
        writeln!(
            out,
            "  accepted   {} {items}, {} requests, {:.0} {items}/s",
            accepted.items, accepted.requests, self.items_per_second
        )?;
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
        for (cause, amount) in &self.tally.failed {
            writeln!(
                out,
                "  failed     {} {items}, {} requests: {cause}",
                amount.items, amount.requests
            )?;
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
        match own.problem() {
            Some(problem) => writeln!(out, "  NOTE       {problem}"),
            None => Ok(()),
        }
    }
}
