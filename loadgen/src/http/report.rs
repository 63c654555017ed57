//! The result of a run: as text, as JSON, and as a row of `benchmark_results`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::options::{Mode, Settings};
use super::run::Outcome;
use super::tally::{LATE_AFTER, Tally};
use crate::results::BenchmarkRow;
use crate::stats::{Latencies, LatencySummary};
use crate::text::{Table, bytes, grouped, utc_time};

/// Everything worth keeping about a run. Latencies are milliseconds, times seconds.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    run_id: String,
    started: String,
    #[serde(skip)]
    started_unix_ms: i64,
    host: String,
    version: &'static str,
    endpoint: String,
    method: String,
    protocol: &'static str,
    mode: &'static str,
    workers: usize,
    /// Requests falling due per second; null in a closed loop.
    target_rate: Option<f64>,
    warm_up: f64,
    warm_up_requests: u64,
    duration: f64,
    interrupted: bool,
    requests: u64,
    errors: u64,
    late: u64,
    unsent: u64,
    abandoned: u64,
    /// Longest time between falling due and being sent, milliseconds.
    delay_max: f64,
    /// Share of failed and unsent requests.
    error_rate: f64,
    error_rate_max: f64,
    passed: bool,
    throughput: f64,
    bytes_received: u64,
    statuses: BTreeMap<String, u64>,
    failures: BTreeMap<&'static str, FailureReport>,
    latency: LatencyReport,
    per_worker: Vec<LatencySummary>,
    histograms: Histograms,
}

#[derive(Debug, Serialize)]
struct FailureReport {
    count: u64,
    example: String,
}

#[derive(Debug, Serialize)]
struct LatencyReport {
    /// From sending to the end of the answer.
    service: LatencySummary,
    /// From falling due; null in a closed loop.
    corrected: Option<LatencySummary>,
}

/// Every bucket as (highest latency in nanoseconds, count).
#[derive(Debug, Serialize)]
struct Histograms {
    service: Vec<(u64, u64)>,
    corrected: Option<Vec<(u64, u64)>>,
}

impl Report {
    pub(crate) fn new(settings: &Settings, outcome: &Outcome) -> Self {
        let total = &outcome.total;
        let duration = outcome.measured.as_secs_f64();
        let error_rate = error_rate(total, outcome.unsent);
        let started_unix_ms = unix_millis(outcome.started);
        Self {
            run_id: format!("{:032x}", rand::random::<u128>()),
            started: utc_time(started_unix_ms),
            started_unix_ms,
            host: sysinfo::System::host_name().unwrap_or_default(),
            version: env!("CARGO_PKG_VERSION"),
            endpoint: settings.request.uri.to_string(),
            method: settings.request.method.to_string(),
            protocol: settings.request.protocol.name(),
            mode: settings.load.mode.name(),
            workers: settings.load.workers,
            target_rate: match settings.load.mode {
                Mode::Open { rate } => Some(rate),
                _ => None,
            },
            warm_up: settings.load.warm_up.as_secs_f64(),
            warm_up_requests: total.warm_up,
            duration,
            interrupted: outcome.interrupted,
            requests: total.requests,
            errors: total.errors,
            late: total.late,
            unsent: outcome.unsent,
            abandoned: total.abandoned,
            delay_max: total.delay_max.as_secs_f64() * 1e3,
            error_rate,
            error_rate_max: settings.error_rate_max,
            passed: total.requests > total.errors && error_rate <= settings.error_rate_max,
            throughput: if duration > 0.0 {
                total.requests as f64 / duration
            } else {
                0.0
            },
            bytes_received: total.bytes_received,
            statuses: total
                .statuses
                .iter()
                .map(|(status, count)| (status.to_string(), *count))
                .collect(),
            failures: failures(total),
            latency: LatencyReport {
                service: total.service.summary(),
                corrected: total.corrected.as_ref().map(Latencies::summary),
            },
            per_worker: outcome.workers.iter().map(Latencies::summary).collect(),
            histograms: Histograms {
                service: total.service.buckets(),
                corrected: total.corrected.as_ref().map(Latencies::buckets),
            },
        }
    }

    /// At least one request succeeded, and failed and unsent ones are within the limit.
    pub(crate) fn passed(&self) -> bool {
        self.passed
    }

    pub(crate) fn error_rate(&self) -> f64 {
        self.error_rate
    }

    pub(crate) fn run_id(&self) -> &str {
        &self.run_id
    }

    pub(crate) fn row(&self) -> BenchmarkRow {
        let service = self.latency.service;
        let latency = self.latency.corrected.unwrap_or(service);
        BenchmarkRow {
            timestamp: self.started_unix_ms,
            endpoint: self.endpoint.clone(),
            avg_latency: latency.avg,
            p95_latency: latency.p95,
            p99_latency: latency.p99,
            min_latency: latency.min,
            max_latency: latency.max,
            total_requests: self.requests,
            run_id: self.run_id.clone(),
            method: self.method.clone(),
            mode: self.mode.to_owned(),
            protocol: self.protocol.to_owned(),
            p50_latency: latency.p50,
            p90_latency: latency.p90,
            p999_latency: latency.p999,
            service_avg_latency: service.avg,
            service_p50_latency: service.p50,
            service_p95_latency: service.p95,
            service_p99_latency: service.p99,
            service_max_latency: service.max,
            errors: self.errors,
            error_rate: self.error_rate,
            throughput: self.throughput,
            duration: self.duration,
            workers: u32::try_from(self.workers).unwrap_or(u32::MAX),
            target_rate: self.target_rate.unwrap_or_default(),
            late: self.late,
            unsent: self.unsent,
            bytes_received: self.bytes_received,
            host: self.host.clone(),
            version: self.version.to_owned(),
            statuses: self.statuses.clone(),
            error_kinds: self
                .failures
                .iter()
                .map(|(kind, it)| ((*kind).to_owned(), it.count))
                .collect(),
        }
    }

    /// The summary for people.
    pub(crate) fn render(&self) -> String {
        let mut lines = Table::new(&["target", &format!("{} {}", self.method, self.endpoint)]);
        for (name, value) in self.lines() {
            lines.push(vec![name.to_owned(), value]);
        }
        let mut text = lines.render();
        for (kind, failure) in &self.failures {
            writeln!(
                text,
                "  {kind}: {}, first: {}",
                grouped(failure.count),
                failure.example
            )
            .expect("a String takes any text");
        }
        text.push('\n');
        text.push_str(&self.latency_table());
        text
    }

    fn lines(&self) -> Vec<(&'static str, String)> {
        let pace = match self.target_rate {
            Some(rate) => format!("open loop, {rate} requests/s"),
            None => "closed loop".to_owned(),
        };
        let interrupted = if self.interrupted {
            ", interrupted"
        } else {
            ""
        };
        let percent = self.error_rate * 100.0;
        let failed = if self.passed { "" } else { "  FAILED" };
        let mut lines = vec![
            (
                "mode",
                format!("{pace}, {} workers, {}", self.workers, self.protocol),
            ),
            (
                "measured",
                format!(
                    "{:.2} s after {} s warm-up with {} requests{interrupted}",
                    self.duration,
                    self.warm_up,
                    grouped(self.warm_up_requests)
                ),
            ),
            ("requests", grouped(self.requests)),
            ("throughput", format!("{:.1} requests/s", self.throughput)),
            ("errors", grouped(self.errors)),
            (
                "error rate",
                format!(
                    "{percent:.2} % failed or unsent, limit {} %{failed}",
                    self.error_rate_max * 100.0
                ),
            ),
        ];
        if self.target_rate.is_some() {
            let late_ms = LATE_AFTER.as_millis();
            lines.push((
                "late",
                format!(
                    "{} sent over {late_ms} ms after due, longest {:.1} ms",
                    grouped(self.late),
                    self.delay_max
                ),
            ));
            lines.push(("unsent", grouped(self.unsent)));
        }
        if self.abandoned > 0 {
            lines.push((
                "abandoned",
                format!("{} in flight at the interruption", grouped(self.abandoned)),
            ));
        }
        lines.push(("received", bytes(self.bytes_received)));
        let statuses: Vec<_> = self
            .statuses
            .iter()
            .map(|(status, it)| format!("{status}: {}", grouped(*it)))
            .collect();
        lines.push((
            "statuses",
            if statuses.is_empty() {
                "none".to_owned()
            } else {
                statuses.join("  ")
            },
        ));
        lines
    }

    fn latency_table(&self) -> String {
        let mut table = Table::new(&[
            "latency ms",
            "average",
            "min",
            "p50",
            "p90",
            "p95",
            "p99",
            "p99.9",
            "max",
        ]);
        let mut push = |name: &str, it: &LatencySummary| {
            let figures = [
                it.avg, it.min, it.p50, it.p90, it.p95, it.p99, it.p999, it.max,
            ];
            let cells = figures.iter().map(|figure| format!("{figure:.3}"));
            table.push(std::iter::once(name.to_owned()).chain(cells).collect());
        };
        push("service", &self.latency.service);
        if let Some(corrected) = &self.latency.corrected {
            push("corrected", corrected);
        }
        table.render()
    }
}

/// Unsent requests are failures too: the service was asked for a rate and did not take it.
fn error_rate(total: &Tally, unsent: u64) -> f64 {
    let all = total.requests + unsent;
    if all == 0 {
        0.0
    } else {
        (total.errors + unsent) as f64 / all as f64
    }
}

fn failures(total: &Tally) -> BTreeMap<&'static str, FailureReport> {
    let report = |it: &super::tally::FailureCount| FailureReport {
        count: it.count,
        example: it.example.clone(),
    };
    total
        .failures
        .iter()
        .map(|(kind, it)| (kind.name(), report(it)))
        .collect()
}

fn unix_millis(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
