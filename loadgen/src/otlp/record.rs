//! The record of a run of `loadgen otlp`.

use std::time::Duration;

use super::drive::Run;
use super::payload::Facts;
use super::report::{Counts, Report};
use crate::process::Process;
use crate::record::{Better, Input, Kind, LATENESS, Labels, Metric, Record, Start};

/// Of one repetition, which began this long after the start.
pub(super) fn of(start: &Start, report: &Report, run: &Run, began: Duration) -> Record {
    let mut record = Record::new(Kind::Otlp, name(report), start);
    // The name of the run stands for nothing that two runs could be compared by.
    let payload = Facts {
        run: String::new(),
        ..report.payload.clone()
    };
    let payload = serde_json::to_string_pretty(&payload).unwrap_or_default();
    record.inputs.push(Input::new("payload", &payload));
    record.passed = report.tally.accepted.requests > 0;
    record.metrics = counts(&report.tally);
    record.metrics.extend(rates(report));
    record.add_latencies("latency", &Labels::new(), &run.tally.latency);
    if report.rate.is_some() {
        record.add_latencies("service", &Labels::new(), &run.tally.service);
        record.add_latencies(LATENESS, &Labels::new(), &run.tally.lateness);
    }
    record.metrics.extend(own(report));
    record.series = run.timeline.series(run.wall, &Labels::new());
    let points = record
        .series
        .iter_mut()
        .flat_map(|series| &mut series.points);
    points.for_each(|(at, _)| *at += began.as_secs_f64());
    let problem = report.generator.problem();
    record.notes.extend(problem.map(str::to_owned));
    record
}

fn name(report: &Report) -> String {
    format!(
        "{} to {} over {}",
        report.payload.signal, report.target, report.protocol
    )
}

fn labelled(key: &str, value: &str) -> Labels {
    Labels::from([(key.to_owned(), value.to_owned())])
}

fn counts(tally: &Counts) -> Vec<Metric> {
    let count = |name: &str, better, value: u64| Metric::new(name, "", better).value(value as f64);
    let mut metrics = vec![
        count("requests_sent", Better::Neither, tally.sent.requests),
        count("items_sent", Better::Neither, tally.sent.items),
        count("items_accepted", Better::Neither, tally.accepted.items),
        count("items_rejected", Better::Lower, tally.rejected_items),
        count("requests_unsent", Better::Lower, tally.unsent_requests),
        count("retries", Better::Lower, tally.retries),
        Metric::new("bytes_sent", "bytes", Better::Neither).value(tally.sent.bytes as f64),
    ];
    for (status, refusals) in &tally.refused {
        let refused = count("items_refused", Better::Lower, refusals.items);
        metrics.push(refused.labels(&labelled("status", status)));
    }
    for (cause, amount) in &tally.failed {
        let failed = count("items_failed", Better::Lower, amount.items);
        metrics.push(failed.labels(&labelled("cause", cause)));
    }
    metrics
}

fn rates(report: &Report) -> Vec<Metric> {
    let Counts { sent, accepted, .. } = &report.tally;
    let requests = accepted.requests as f64 / report.wall_seconds.max(1e-9);
    let lost = sent.requests - accepted.requests + report.tally.unsent_requests;
    let due = sent.requests + report.tally.unsent_requests;
    vec![
        Metric::new("items_per_second", "1/s", Better::Higher).value(report.items_per_second),
        Metric::new("requests_per_second", "1/s", Better::Higher).value(requests),
        Metric::new("error_rate", "", Better::Lower).value(lost as f64 / due as f64),
    ]
}

/// What the generator itself used.
fn own(report: &Report) -> Vec<Metric> {
    let own = &report.generator;
    let per_million = own.cpu_seconds / (report.tally.sent.items as f64 / 1e6);
    let mut metrics = vec![
        Metric::new("cpu_seconds", "s", Better::Neither).value(own.cpu_seconds),
        Metric::new("cpu_share_of_core", "", Better::Neither).value(own.core_share),
        Metric::new("cpu_seconds_per_million_items", "s", Better::Lower).value(per_million),
    ];
    if let Ok(bytes) = Process::own().peak_memory() {
        metrics.push(Metric::new("rss_max", "bytes", Better::Neither).value(bytes as f64));
    }
    let process = labelled("process", "loadgen");
    metrics
        .into_iter()
        .map(|metric| metric.labels(&process))
        .collect()
}
