//! The record of a run of `loadgen http`.

use std::time::Duration;

use super::drive::{Finished, Results};
use super::scenario::Source;
use super::summary::notes;
use super::tally::Tally;
use super::usage::Usage;
use super::value::share;
use super::verdict::Verdict;
use crate::process::Process;
use crate::record::{
    Better, Event, Input, Kind, LATENESS, Labels, Metric, Record, Start, Window, latency_figures,
};

/// Names of all figures there may be, of an open loop or a closed one; a scenario file may have both.
pub(crate) fn figures(is_open_loop: bool) -> Vec<String> {
    const ALWAYS: [&str; 17] = [
        "requests",
        "errors",
        "error_rate",
        "requests_per_second",
        "goodput",
        "bytes_received",
        "amplification",
        "checks",
        "checks_held",
        "checks_failed",
        "responses",
        "requests_unsent",
        "requests_late",
        "breakpoint",
        "cpu_seconds",
        "cpu_share_of_core",
        "rss_max",
    ];
    let mut figures: Vec<_> = ALWAYS.map(str::to_owned).into();
    figures.extend(latency_figures("latency"));
    if is_open_loop {
        figures.extend(["dropped", "recovery"].map(str::to_owned));
        figures.extend(latency_figures("service"));
        figures.extend(latency_figures(LATENESS));
    }
    figures
}

/// Figures of one scenario and, where it has several, its endpoints, into the record.
fn add(record: &mut Record, start: &Start, it: &Finished) {
    let labels = labelled("scenario", &it.name);
    let outcome = &it.outcome;
    let seconds = outcome.measured;
    tally(record, &labels, &outcome.total, seconds);
    let count = |name: &str, value: u64| {
        Metric::new(name, "", Better::Lower)
            .labels(&labels)
            .value(value as f64)
    };
    record
        .metrics
        .push(count("requests_unsent", outcome.unsent));
    record
        .metrics
        .push(count("requests_late", outcome.total.late));
    if let Some(lateness) = &outcome.lateness {
        let dropped =
            share(outcome.unsent, outcome.unsent + outcome.total.originals).unwrap_or(0.0);
        record.metrics.push(
            Metric::new("dropped", "", Better::Lower)
                .labels(&labels)
                .value(dropped),
        );
        record.add_latencies(LATENESS, &labels, lateness);
    }
    if let Some(took) = it.recovery.and_then(|it| it.took) {
        let metric = Metric::new("recovery", "s", Better::Lower);
        record
            .metrics
            .push(metric.labels(&labels).value(took.as_secs_f64()));
    }
    if it.labels.len() > 1 {
        for (label, endpoint) in it.labels.iter().zip(&outcome.endpoints) {
            let mut labels = labels.clone();
            labels.insert("endpoint".to_owned(), label.clone());
            tally(record, &labels, endpoint, seconds);
        }
    }
    let begun = outcome.start.into_std();
    let offset = begun
        .saturating_duration_since(start.instant())
        .as_secs_f64();
    let warm_up = it.load.warm_up.as_secs_f64();
    let from = offset + warm_up;
    record.windows.push(Window {
        name: it.name.clone(),
        from,
        to: from + seconds.as_secs_f64(),
    });
    if let Some(recovery) = it.recovery {
        record.events.push(Event {
            at: offset + recovery.back.as_secs_f64(),
            name: "service back".to_owned(),
            detail: it.name.clone(),
        });
    }
    if let Some(timeline) = it.work.board.timeline() {
        let wall = seconds + it.load.warm_up;
        let mut series = timeline.series(wall, &labels);
        for point in series.iter_mut().flat_map(|it| &mut it.points) {
            point.0 += offset;
        }
        record.series.extend(series);
    }
}

fn tally(record: &mut Record, labels: &Labels, tally: &Tally, time: Duration) {
    let seconds = time.as_secs_f64().max(1e-9);
    let mut push = |name: &str, unit: &str, better, value: f64| {
        record
            .metrics
            .push(Metric::new(name, unit, better).labels(labels).value(value));
    };
    let rate = |count: u64| count as f64 / seconds;
    push("requests", "", Better::Neither, tally.requests as f64);
    push("errors", "", Better::Lower, tally.errors as f64);
    push(
        "error_rate",
        "",
        Better::Lower,
        share(tally.errors, tally.requests).unwrap_or(0.0),
    );
    push(
        "requests_per_second",
        "1/s",
        Better::Higher,
        rate(tally.requests),
    );
    push("goodput", "1/s", Better::Higher, rate(tally.succeeded));
    push(
        "bytes_received",
        "bytes",
        Better::Neither,
        tally.bytes_received as f64,
    );
    if let Some(amplification) = share(tally.requests, tally.originals) {
        push("amplification", "", Better::Lower, amplification);
    }
    let passed: u64 = tally.checks.values().map(|it| it.passed).sum();
    let failed: u64 = tally.checks.values().map(|it| it.failed).sum();
    if let Some(checks) = share(passed, passed + failed) {
        push("checks", "", Better::Higher, checks);
    }
    for (name, check) in &tally.checks {
        let mut labels = labels.clone();
        labels.insert("check".to_owned(), name.clone());
        let mut push = |name: &str, better, count: u64| {
            let metric = Metric::new(name, "", better);
            record
                .metrics
                .push(metric.labels(&labels).value(count as f64));
        };
        push("checks_held", Better::Neither, check.passed);
        push("checks_failed", Better::Lower, check.failed);
    }
    for (status, count) in &tally.statuses {
        let mut labels = labels.clone();
        labels.insert("status".to_owned(), status.to_string());
        let metric = Metric::new("responses", "", Better::Neither);
        record
            .metrics
            .push(metric.labels(&labels).value(*count as f64));
    }
    let latency = tally.corrected.as_ref().unwrap_or(&tally.service);
    record.add_latencies("latency", labels, latency);
    if tally.corrected.is_some() {
        record.add_latencies("service", labels, &tally.service);
    }
}

/// The record of a scenario file.
pub(crate) fn of_plan(name: &str, source: &Source, start: &Start, results: &Results) -> Record {
    let mut record = Record::new(Kind::Http, name, start);
    record.inputs.push(Input::new("scenario", &source.text));
    let rendered = source.rendered();
    let rendered = rendered.map(|it| Input::new("scenario with --set", &it));
    record.inputs.extend(rendered);
    let round = &results.round;
    for it in &round.finished {
        add(&mut record, start, it);
    }
    if let Some((search, trials)) = &results.search {
        let metric = Metric::new("breakpoint", "1/s", Better::Higher);
        record
            .metrics
            .push(metric.value(search.highest().unwrap_or(0.0)));
        record.trials.clone_from(trials);
    }
    own(&mut record, round.usage);
    record.thresholds.clone_from(&round.thresholds);
    judge(&mut record, &round.verdict());
    record.interrupted = round.was_cut_short();
    record.notes.extend(notes(results));
    record
}

/// The record of one request sent again and again, to `name`.
pub(crate) fn of_single(
    name: &str,
    finished: &Finished,
    start: &Start,
    (usage, verdict): (Usage, &Verdict),
) -> Record {
    let mut record = Record::new(Kind::Http, name, start);
    add(&mut record, start, finished);
    own(&mut record, usage);
    judge(&mut record, verdict);
    record.interrupted = finished.outcome.interrupted;
    record
        .notes
        .extend(usage.bottleneck(std::slice::from_ref(finished)));
    record
}

fn judge(record: &mut Record, verdict: &Verdict) {
    record.passed = *verdict == Verdict::Passed;
    if let Verdict::None(why) = verdict {
        record.no_verdict = Some(why.clone());
    }
}

/// What the generator itself used.
fn own(record: &mut Record, usage: Usage) {
    let labels = labelled("process", "loadgen");
    let cpu = usage.cpu.as_secs_f64();
    let wall = usage.wall.as_secs_f64().max(1e-9);
    let mut push = |name: &str, unit: &str, value: f64| {
        let metric = Metric::new(name, unit, Better::Neither);
        record.metrics.push(metric.labels(&labels).value(value));
    };
    push("cpu_seconds", "s", cpu);
    push("cpu_share_of_core", "", cpu / wall);
    if let Ok(bytes) = Process::own().peak_memory() {
        push("rss_max", "bytes", bytes as f64);
    }
}

fn labelled(key: &str, value: &str) -> Labels {
    Labels::from([(key.to_owned(), value.to_owned())])
}
