//! The record of a run of `loadgen otlp`.

use std::time::Duration;

use super::drive::Run;
use super::payload::Facts;
use super::report::{CUT_SHORT, Counts, Report};
use crate::process::Process;
use crate::record::{
    Better, Input, Kind, LATENESS, Labels, Metric, Record, Start, latency_figures,
};

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
    let accepted = report.tally.accepted.requests > 0;
    record.passed = accepted && !report.interrupted;
    record.interrupted = report.interrupted;
    record.no_verdict = (accepted && report.interrupted).then(|| CUT_SHORT.to_owned());
    record.metrics = counts(report);
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

/// Names of what [`of`] has for every run in which something was accepted, and of what it counts where it happens.
pub(super) fn figures(is_open_loop: bool) -> Vec<String> {
    const ALWAYS: [&str; 19] = [
        "requests_sent",
        "items_sent",
        "items_accepted",
        "items_rejected",
        "items_refused",
        "items_failed",
        "items_unsent",
        "requests_unsent",
        "retries",
        "bytes_sent",
        "items_per_second",
        "requests_per_second",
        "error_rate",
        "load_seconds",
        "wall_seconds",
        "cpu_seconds",
        "cpu_share_of_core",
        "cpu_seconds_per_million_items",
        "rss_max",
    ];
    let distributions = match is_open_loop {
        true => &["latency", "service", LATENESS][..],
        false => &["latency"],
    };
    let latencies = distributions.iter().flat_map(|it| latency_figures(it));
    ALWAYS
        .map(str::to_owned)
        .into_iter()
        .chain(latencies)
        .collect()
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

fn counts(report: &Report) -> Vec<Metric> {
    let tally = &report.tally;
    let (unsent, unsent_items) = unsent(report);
    let count = |name: &str, better, value: u64| Metric::new(name, "", better).value(value as f64);
    let mut metrics = vec![
        count("requests_sent", Better::Neither, tally.sent.requests),
        count("items_sent", Better::Neither, tally.sent.items),
        count("items_accepted", Better::Neither, tally.accepted.items),
        count("items_rejected", Better::Lower, tally.rejected_items),
        count("items_unsent", Better::Lower, unsent_items),
        count("requests_unsent", Better::Lower, unsent),
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

/// Requests and items that were due and never sent: when the load ended, or for want of a connection.
fn unsent(report: &Report) -> (u64, u64) {
    let tally = &report.tally;
    let of_each = report.payload.items_per_request as u64;
    let amounts = tally.not_sent.values();
    let due = (tally.unsent_requests, tally.unsent_requests * of_each);
    amounts.fold(due, |(requests, items), it| {
        (requests + it.requests, items + it.items)
    })
}

fn rates(report: &Report) -> Vec<Metric> {
    let Counts {
        sent,
        accepted,
        accepted_in_time,
        ..
    } = &report.tally;
    let requests = accepted_in_time.requests as f64 / report.load_seconds.max(1e-9);
    let due = sent.requests + unsent(report).0;
    let lost = due - accepted.requests;
    let error_rate = lost as f64 / due.max(1) as f64;
    let seconds = |name: &str, value| Metric::new(name, "s", Better::Neither).value(value);
    vec![
        Metric::new("items_per_second", "1/s", Better::Higher).value(report.items_per_second),
        Metric::new("requests_per_second", "1/s", Better::Higher).value(requests),
        Metric::new("error_rate", "", Better::Lower).value(error_rate),
        seconds("load_seconds", report.load_seconds),
        seconds("wall_seconds", report.wall_seconds),
    ]
}

/// What the generator itself used.
fn own(report: &Report) -> Vec<Metric> {
    let own = &report.generator;
    let per_million = own.cpu_seconds / (report.tally.sent.items.max(1) as f64 / 1e6);
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
