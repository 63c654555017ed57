//! What became of the requests of a run.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::client::{Outcome, Refusal};
use crate::stats::Latencies;

/// Requests and what was in them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Amount {
    pub(crate) requests: u64,
    pub(crate) items: u64,
    /// Message bytes as sent, without framing.
    pub(crate) bytes: u64,
}

impl Amount {
    fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.items += other.items;
        self.bytes += other.bytes;
    }
}

/// Answers with one status that refused a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Refusals {
    /// Answers, those to repeated requests included.
    pub(crate) answers: u64,
    /// Answers that said when to try again.
    pub(crate) with_hint: u64,
    /// Requests for which this was the last answer.
    pub(crate) requests: u64,
    /// Items in those requests.
    pub(crate) items: u64,
}

/// Every request ends in `accepted`, one status of `refused`, one cause of `failed`, or one of `not_sent`.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) sent: Amount,
    pub(crate) accepted: Amount,
    /// Of those, what was accepted before the load's time was over.
    pub(crate) accepted_in_time: Amount,
    /// Items in accepted requests that the server said it rejected (OTLP partial success).
    pub(crate) rejected_items: u64,
    pub(crate) refused: BTreeMap<Cow<'static, str>, Refusals>,
    pub(crate) failed: BTreeMap<Cow<'static, str>, Amount>,
    /// What no connection could be made for, by cause.
    pub(crate) not_sent: BTreeMap<Cow<'static, str>, Amount>,
    /// Times a request was sent again after a refusal.
    pub(crate) retries: u64,
    /// Requests that were due but not sent before the end.
    pub(crate) unsent: u64,
    /// From when a request was due (open loop) or sent (closed loop) until it was accepted.
    pub(crate) latency: Latencies,
    /// From when the accepted attempt was sent until its answer.
    pub(crate) service: Latencies,
    /// How late idle workers woke up for a request that was due.
    pub(crate) lateness: Latencies,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self {
            sent: Amount::default(),
            accepted: Amount::default(),
            accepted_in_time: Amount::default(),
            rejected_items: 0,
            refused: BTreeMap::new(),
            failed: BTreeMap::new(),
            not_sent: BTreeMap::new(),
            retries: 0,
            unsent: 0,
            latency: Latencies::new(),
            service: Latencies::new(),
            lateness: Latencies::new(),
        }
    }

    /// Counts an answer that refused a request, whether or not it will be sent again.
    pub(crate) fn answer_refused(&mut self, refusal: &Refusal) {
        let refusals = self.refused.entry(refusal.status.clone()).or_default();
        refusals.answers += 1;
        refusals.with_hint += u64::from(refusal.retry_after.is_some());
    }

    /// Counts how a request ended.
    pub(crate) fn end(
        &mut self,
        amount: Amount,
        outcome: Outcome,
        latency: Duration,
        service: Duration,
        in_time: bool,
    ) {
        if !matches!(outcome, Outcome::NotSent(_)) {
            self.sent.add(amount);
        }
        match outcome {
            Outcome::Accepted { rejected } => {
                self.accepted.add(amount);
                if in_time {
                    self.accepted_in_time.add(amount);
                }
                self.rejected_items += rejected.min(amount.items);
                self.latency.record(latency);
                self.service.record(service);
            }
            Outcome::Refused(refusal) => {
                let refusals = self.refused.entry(refusal.status).or_default();
                refusals.requests += amount.requests;
                refusals.items += amount.items;
            }
            Outcome::Failed(cause) => self.failed.entry(cause).or_default().add(amount),
            Outcome::NotSent(cause) => self.not_sent.entry(cause).or_default().add(amount),
        }
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.sent.add(other.sent);
        self.accepted.add(other.accepted);
        self.accepted_in_time.add(other.accepted_in_time);
        self.rejected_items += other.rejected_items;
        for (status, refusals) in other.refused {
            let sum = self.refused.entry(status).or_default();
            sum.answers += refusals.answers;
            sum.with_hint += refusals.with_hint;
            sum.requests += refusals.requests;
            sum.items += refusals.items;
        }
        for (mine, theirs) in [
            (&mut self.failed, other.failed),
            (&mut self.not_sent, other.not_sent),
        ] {
            for (cause, amount) in theirs {
                mine.entry(cause).or_default().add(amount);
            }
        }
        self.retries += other.retries;
        self.unsent += other.unsent;
        self.latency.merge(&other.latency);
        self.service.merge(&other.service);
        self.lateness.merge(&other.lateness);
    }

    pub(crate) fn refused_items(&self) -> u64 {
        self.refused.values().map(|refusals| refusals.items).sum()
    }

    /// Items without an answer, those that could not be sent among them.
    pub(crate) fn failed_items(&self) -> u64 {
        let amounts = self.failed.values().chain(self.not_sent.values());
        amounts.map(|amount| amount.items).sum()
    }
}
