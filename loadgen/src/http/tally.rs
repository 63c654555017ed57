//! What happened to the requests: one tally for each worker, merged at the end.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::worker::{Answer, Failure, FailureKind};
use crate::stats::Latencies;

/// A request is late if it is sent this long after it fell due. Below, the lateness may be this process's own.
pub(crate) const LATE_AFTER: Duration = Duration::from_millis(5);

/// Statuses from here on are errors.
const ERROR_STATUS_MIN: u16 = 400;

/// Measured requests and their times; warm-up requests are counted and nothing else.
#[derive(Debug, Clone)]
pub(crate) struct Tally {
    /// From sending to the end of the answer.
    pub(crate) service: Latencies,
    /// From falling due to the end of the answer; only in an open loop.
    pub(crate) corrected: Option<Latencies>,
    pub(crate) requests: u64,
    pub(crate) errors: u64,
    pub(crate) statuses: BTreeMap<u16, u64>,
    pub(crate) failures: BTreeMap<FailureKind, FailureCount>,
    pub(crate) bytes_received: u64,
    /// Requests sent more than [`LATE_AFTER`] after they fell due.
    pub(crate) late: u64,
    /// The longest time between falling due and being sent.
    pub(crate) delay_max: Duration,
    pub(crate) warm_up: u64,
    /// Sent, but given up because the run was interrupted.
    pub(crate) abandoned: u64,
    /// What was to be done, however many requests it took.
    pub(crate) originals: u64,
    /// Originals that succeeded in the end.
    pub(crate) succeeded: u64,
    pub(crate) checks: BTreeMap<String, CheckCount>,
}

/// How often a check held and did not, with the first case in which it did not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CheckCount {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) example: Option<String>,
}

/// Failures of one kind, with the first one's message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FailureCount {
    pub(crate) count: u64,
    pub(crate) example: String,
}

/// When a request fell due (in a closed loop: was sent), was sent, and ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub(crate) due: Instant,
    pub(crate) sent: Instant,
    pub(crate) ended: Instant,
}

impl Tally {
    pub(crate) fn new(open_loop: bool) -> Self {
        Self {
            service: Latencies::new(),
            corrected: open_loop.then(Latencies::new),
            requests: 0,
            errors: 0,
            statuses: BTreeMap::new(),
            failures: BTreeMap::new(),
            bytes_received: 0,
            late: 0,
            delay_max: Duration::ZERO,
            warm_up: 0,
            abandoned: 0,
            originals: 0,
            succeeded: 0,
            checks: BTreeMap::new(),
        }
    }

    /// Counts a measured request; true if it was a success, by its status or because it was expected.
    pub(crate) fn record(
        &mut self,
        times: Times,
        result: &Result<Answer, Failure>,
        expected: &[u16],
    ) -> bool {
        self.requests += 1;
        self.record_delay(times);
        match result {
            Ok(answer) => {
                self.record_latency(times);
                self.bytes_received += answer.bytes;
                *self.statuses.entry(answer.status).or_default() += 1;
                let success = is_success(answer.status, expected);
                self.errors += u64::from(!success);
                success
            }
            Err(failure) => {
                // A connection that fails at once would make a dead service look fast.
                if failure.kind == FailureKind::Timeout {
                    self.record_latency(times);
                }
                self.errors += 1;
                self.record_failure(failure.kind, 1, &failure.message);
                false
            }
        }
    }

    pub(crate) fn record_check(&mut self, name: &str, result: Result<(), String>) {
        let count = self.checks.entry(name.to_owned()).or_default();
        match result {
            Ok(()) => count.passed += 1,
            Err(reason) => {
                count.failed += 1;
                count.example.get_or_insert(reason);
            }
        }
    }

    fn record_delay(&mut self, times: Times) {
        let delay = times.sent.saturating_duration_since(times.due);
        self.late += u64::from(delay > LATE_AFTER);
        self.delay_max = self.delay_max.max(delay);
    }

    fn record_latency(&mut self, times: Times) {
        self.service
            .record(times.ended.saturating_duration_since(times.sent));
        if let Some(corrected) = &mut self.corrected {
            corrected.record(times.ended.saturating_duration_since(times.due));
        }
    }

    fn record_failure(&mut self, kind: FailureKind, count: u64, example: &str) {
        let entry = self.failures.entry(kind);
        entry
            .or_insert_with(|| FailureCount {
                count: 0,
                example: example.to_owned(),
            })
            .count += count;
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.service.merge(&other.service);
        if let (Some(mine), Some(theirs)) = (&mut self.corrected, &other.corrected) {
            mine.merge(theirs);
        }
        self.requests += other.requests;
        self.errors += other.errors;
        for (&status, count) in &other.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
        for (&kind, failures) in &other.failures {
            self.record_failure(kind, failures.count, &failures.example);
        }
        self.bytes_received += other.bytes_received;
        self.late += other.late;
        self.delay_max = self.delay_max.max(other.delay_max);
        self.warm_up += other.warm_up;
        self.abandoned += other.abandoned;
        self.originals += other.originals;
        self.succeeded += other.succeeded;
        for (name, theirs) in &other.checks {
            let mine = self.checks.entry(name.clone()).or_default();
            mine.passed += theirs.passed;
            mine.failed += theirs.failed;
            if mine.example.is_none() {
                mine.example.clone_from(&theirs.example);
            }
        }
    }
}

/// Statuses below 400, or those that are expected where any are named.
pub(crate) fn is_success(status: u16, expected: &[u16]) -> bool {
    match expected {
        [] => status < ERROR_STATUS_MIN,
        expected => expected.contains(&status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(due: u64, sent: u64, ended: u64) -> Times {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        Times {
            due: at(due),
            sent: at(sent),
            ended: at(ended),
        }
    }

    fn answer(status: u16) -> Result<Answer, Failure> {
        Ok(Answer {
            status,
            bytes: 10,
            ..Answer::default()
        })
    }

    fn failure(kind: FailureKind, message: &str) -> Result<Answer, Failure> {
        Err(Failure {
            kind,
            message: message.to_owned(),
        })
    }

    #[test]
    fn statuses_from_400_are_errors() {
        let mut tally = Tally::new(false);
        for (status, success) in [
            (200, true),
            (204, true),
            (304, true),
            (399, true),
            (400, false),
            (503, false),
        ] {
            assert_eq!(
                tally.record(times(0, 0, 1), &answer(status), &[]),
                success,
                "{status}"
            );
        }
        assert_eq!(
            (tally.requests, tally.errors, tally.bytes_received),
            (6, 2, 60)
        );
    }

    #[test]
    fn corrected_latency_counts_from_the_time_due() {
        let mut tally = Tally::new(true);
        tally.record(times(0, 900, 1000), &answer(200), &[]);
        let corrected = tally.corrected.as_ref().unwrap().summary();
        assert!((tally.service.summary().max - 100.0).abs() < 0.1);
        assert!((corrected.max - 1000.0).abs() < 1.0);
        assert_eq!(
            (tally.late, tally.delay_max),
            (1, Duration::from_millis(900))
        );
    }

    #[test]
    fn timeouts_count_as_latency_and_quick_failures_do_not() {
        let mut tally = Tally::new(false);
        tally.record(
            times(0, 0, 1),
            &failure(FailureKind::Connect, "refused"),
            &[],
        );
        assert_eq!(tally.service.summary().count, 0);
        tally.record(
            times(0, 0, 50),
            &failure(FailureKind::Timeout, "no answer"),
            &[],
        );
        assert_eq!(tally.service.summary().count, 1);
        assert_eq!(tally.errors, 2);
    }

    #[test]
    fn merging_adds_up_and_keeps_the_first_message() {
        let mut first = Tally::new(true);
        first.record(times(0, 0, 1), &answer(200), &[]);
        first.record(times(0, 0, 1), &failure(FailureKind::Connect, "first"), &[]);
        let mut second = Tally::new(true);
        second.record(times(0, 10, 20), &answer(200), &[]);
        second.record(
            times(0, 0, 1),
            &failure(FailureKind::Connect, "second"),
            &[],
        );
        second.warm_up = 3;
        first.merge(&second);
        assert_eq!(
            (first.requests, first.errors, first.late, first.warm_up),
            (4, 2, 1, 3)
        );
        assert_eq!(first.statuses, BTreeMap::from([(200, 2)]));
        let expected = FailureCount {
            count: 2,
            example: "first".to_owned(),
        };
        assert_eq!(
            first.failures,
            BTreeMap::from([(FailureKind::Connect, expected)])
        );
    }
}
