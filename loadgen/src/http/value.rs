//! The value of a threshold's metric, from the tallies of the endpoints that it is about.

use super::drive::Recovery;
use super::scenario::threshold::{Metric, Threshold};
use super::tally::Tally;

/// What is known of a scenario, finished or still running.
pub(crate) struct Part<'a> {
    pub(crate) scenario: &'a str,
    pub(crate) labels: &'a [String],
    pub(crate) endpoints: Vec<Tally>,
    pub(crate) unsent: u64,
    pub(crate) seconds: f64,
    pub(crate) recovery: Option<Recovery>,
}

/// `None` where nothing was measured.
pub(crate) fn value<'a>(
    threshold: &Threshold,
    parts: impl Iterator<Item = Part<'a>>,
) -> Option<f64> {
    let is_meant = |part: &Part<'_>| {
        threshold
            .scenario
            .as_deref()
            .is_none_or(|it| it == part.scenario)
    };
    let mut sum: Option<Tally> = None;
    let (mut unsent, mut seconds) = (0, 0.0_f64);
    let (mut recovery, mut recovered) = (None, true);
    for part in parts.filter(is_meant) {
        let is_meant = |label: &str| threshold.endpoint.as_deref().is_none_or(|it| it == label);
        for (_, tally) in part
            .labels
            .iter()
            .zip(&part.endpoints)
            .filter(|(label, _)| is_meant(label))
        {
            match &mut sum {
                Some(sum) => merge(sum, tally),
                None => sum = Some(tally.clone()),
            }
        }
        unsent += part.unsent;
        seconds = seconds.max(part.seconds);
        if let Some(it) = part.recovery {
            recovered &= it.took.is_some();
            recovery = recovery.max(it.took);
        }
    }
    let sum = sum?;
    match threshold.metric {
        Metric::Dropped => share(unsent, unsent + sum.originals),
        Metric::Recovery => recovery
            .filter(|_| recovered)
            .map(|it| it.as_secs_f64() * 1e3),
        metric => of_tally(metric, &sum, seconds),
    }
}

/// Where an open loop is among them, its latencies from when requests fell due count, and beside them the service times of closed loops,
/// which have no others.
fn merge(sum: &mut Tally, tally: &Tally) {
    let corrected = match (sum.corrected.take(), &tally.corrected) {
        (None, None) => None,
        (mine, theirs) => {
            let mut all = mine.unwrap_or_else(|| sum.service.clone());
            all.merge(theirs.as_ref().unwrap_or(&tally.service));
            Some(all)
        }
    };
    sum.merge(tally);
    sum.corrected = corrected;
}

fn of_tally(metric: Metric, tally: &Tally, seconds: f64) -> Option<f64> {
    let per_second = |count: u64| (seconds > 0.0).then(|| count as f64 / seconds);
    let figure = |latencies: &crate::stats::Latencies| {
        let summary = latencies.summary();
        (summary.count > 0).then_some(summary)
    };
    match metric {
        Metric::Latency(it) => {
            let latencies = tally.corrected.as_ref().unwrap_or(&tally.service);
            figure(latencies).map(|summary| it.of(&summary))
        }
        Metric::Service(it) => figure(&tally.service).map(|summary| it.of(&summary)),
        Metric::ErrorRate => share(tally.errors, tally.requests),
        Metric::Checks => {
            let passed: u64 = tally.checks.values().map(|it| it.passed).sum();
            let failed: u64 = tally.checks.values().map(|it| it.failed).sum();
            share(passed, passed + failed)
        }
        Metric::Requests => Some(tally.requests as f64),
        Metric::Throughput => per_second(tally.requests),
        Metric::Goodput => per_second(tally.succeeded),
        Metric::Amplification => share(tally.requests, tally.originals),
        Metric::Dropped | Metric::Recovery => None,
    }
}

pub(crate) fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::super::tally::Times;
    use super::super::worker::Answer;
    use super::*;

    /// One request that was due 900 ms before it was sent, and took 100 ms.
    fn tally(open_loop: bool) -> Tally {
        let due = Instant::now();
        let times = Times {
            due,
            sent: due + Duration::from_millis(900),
            ended: due + Duration::from_secs(1),
        };
        let answer = Answer {
            status: 200,
            ..Answer::default()
        };
        let mut tally = Tally::new(open_loop);
        tally.record(times, &Ok(answer), &[]);
        tally
    }

    #[test]
    fn an_open_loop_counts_from_the_time_due_also_beside_a_closed_one() {
        let labels = ["x".to_owned()];
        let part = |open_loop| Part {
            scenario: "s",
            labels: &labels,
            endpoints: vec![tally(open_loop)],
            unsent: 0,
            seconds: 1.0,
            recovery: None,
        };
        let check = |loops: &[bool], threshold: &str, expected: f64| {
            let threshold = Threshold::parse(threshold).unwrap();
            let found = value(&threshold, loops.iter().map(|it| part(*it))).unwrap();
            assert!(
                (found - expected).abs() < expected / 100.0,
                "{loops:?}: {found}"
            );
        };
        check(&[true], "latency_max < 1s", 1000.0);
        check(&[false, false], "latency_max < 1s", 100.0);
        for loops in [[true, false], [false, true]] {
            check(&loops, "latency_max < 1s", 1000.0);
            check(&loops, "latency_min < 1s", 100.0);
            check(&loops, "service_max < 1s", 100.0);
            check(&loops, "requests > 0", 2.0);
        }
    }
}
