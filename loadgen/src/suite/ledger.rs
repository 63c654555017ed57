//! What became of every item: sent, accepted, refused, delivered, lost, twice.

use std::collections::BTreeMap;

use minijinja::Value;

/// What expressions may ask of a ledger.
pub(crate) const FIELDS: [&str; 15] = [
    "attempted",
    "sent",
    "accepted",
    "rejected",
    "refused",
    "failed",
    "unsent",
    "expected",
    "delivered",
    "lost",
    "lost_percent",
    "duplicated",
    "complete",
    "seconds",
    "delivered_per_second",
];

/// Items of a test, from its start to its drain.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Ledger {
    /// Given to the pipeline, each once however often it was tried.
    pub(crate) sent: u64,
    /// The first hop answered that it has them.
    pub(crate) accepted: u64,
    /// Of those, declined as OTLP partial success.
    pub(crate) rejected: u64,
    /// The last answer was no.
    pub(crate) refused: u64,
    /// No answer: nobody knows.
    pub(crate) failed: u64,
    /// Due in an open loop, and never sent.
    pub(crate) unsent: u64,
    /// At the end of the pipeline.
    pub(crate) delivered: u64,
    /// Of those, more than once, where the backend can tell.
    pub(crate) counted_twice: Option<u64>,
    /// The pipeline was given the time to deliver.
    pub(crate) complete: bool,
    /// From the first load's start until all was delivered.
    pub(crate) seconds: f64,
}

impl Ledger {
    /// What must arrive.
    pub(crate) fn expected(&self) -> u64 {
        self.accepted.saturating_sub(self.rejected)
    }

    /// Of what was delivered, how much there is once too often: counted where numbers were compared, otherwise what is
    /// more than could have been accepted.
    pub(crate) fn duplicated(&self) -> u64 {
        let surplus = self.delivered.saturating_sub(self.expected() + self.failed);
        self.counted_twice.unwrap_or(surplus)
    }

    /// Accepted, and not there.
    pub(crate) fn lost(&self) -> u64 {
        let once = self.delivered.saturating_sub(self.duplicated());
        self.expected().saturating_sub(once)
    }

    pub(crate) fn lost_percent(&self) -> f64 {
        match self.expected() {
            0 => 0.0,
            expected => self.lost() as f64 / expected as f64 * 100.0,
        }
    }

    pub(crate) fn attempted(&self) -> u64 {
        self.sent + self.unsent
    }

    pub(crate) fn delivered_per_second(&self) -> f64 {
        self.delivered as f64 / self.seconds.max(1e-9)
    }

    fn counts(&self) -> [(&'static str, u64); 11] {
        [
            ("attempted", self.attempted()),
            ("sent", self.sent),
            ("accepted", self.accepted),
            ("rejected", self.rejected),
            ("refused", self.refused),
            ("failed", self.failed),
            ("unsent", self.unsent),
            ("expected", self.expected()),
            ("delivered", self.delivered),
            ("lost", self.lost()),
            ("duplicated", self.duplicated()),
        ]
    }

    /// For expressions.
    pub(crate) fn value(&self) -> Value {
        let counts = self.counts().into_iter();
        let mut fields: BTreeMap<&str, Value> = counts
            .map(|(name, number)| (name, Value::from(number)))
            .collect();
        fields.insert("lost_percent", Value::from(self.lost_percent()));
        fields.insert("complete", Value::from(self.complete));
        fields.insert("seconds", Value::from(self.seconds));
        let rate = Value::from(self.delivered_per_second());
        fields.insert("delivered_per_second", rate);
        Value::from_pairs(fields)
    }

    /// The unit of a field.
    pub(crate) fn unit(field: &str) -> &'static str {
        match field {
            "lost_percent" => "%",
            "seconds" => "s",
            "delivered_per_second" => "1/s",
            _ => "",
        }
    }

    /// The counts of several tests: each is a sum, so that what one has too much does not make up for what another lacks.
    pub(crate) fn total<'l>(ledgers: impl IntoIterator<Item = &'l Self>) -> Value {
        let mut total = BTreeMap::from(Self::default().counts());
        for ledger in ledgers {
            for (name, count) in ledger.counts() {
                *total.entry(name).or_default() += count;
            }
        }
        Value::from_pairs(total)
    }

    /// What a reader of the figures must know.
    pub(crate) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if !self.complete {
            notes.push("the ledger was closed before the pipeline had drained".to_owned());
        }
        if self.failed > 0 && self.delivered > 0 {
            notes.push(format!(
                "{} items had no answer: as many of those delivered may be among them, and hide as many lost",
                self.failed
            ));
        }
        if self.counted_twice.is_none() && self.delivered > 0 {
            notes.push(
                "duplicates were not looked for: `duplicated` is what is more than could have been accepted"
                    .to_owned(),
            );
        }
        notes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(accepted: u64, failed: u64, delivered: u64, counted_twice: Option<u64>) -> Ledger {
        Ledger {
            sent: accepted + failed,
            accepted,
            failed,
            delivered,
            counted_twice,
            complete: true,
            ..Ledger::default()
        }
    }

    #[test]
    fn lost_and_twice_do_not_make_up_for_each_other() {
        let check = |ledger: Ledger, lost: u64, duplicated: u64| {
            assert_eq!(
                (ledger.lost(), ledger.duplicated()),
                (lost, duplicated),
                "{ledger:?}"
            );
        };
        check(ledger(100, 0, 100, None), 0, 0);
        check(ledger(100, 0, 90, None), 10, 0);
        check(ledger(100, 0, 110, None), 0, 10);
        check(ledger(100, 0, 100, Some(10)), 10, 10);
        check(ledger(100, 20, 110, None), 0, 0);
        check(ledger(100, 20, 125, None), 0, 5);
        check(ledger(0, 0, 0, None), 0, 0);
    }

    #[test]
    fn expressions_know_every_field() {
        let value = ledger(1, 0, 1, None).value();
        for field in FIELDS {
            assert!(!value.get_attr(field).unwrap().is_undefined(), "{field}");
        }
    }

    #[test]
    fn tests_do_not_make_up_for_each_other_in_the_total() {
        let (one, other) = (ledger(100, 0, 90, None), ledger(100, 0, 110, None));
        let total = Ledger::total([&one, &other]);
        let check = |field: &str, expected: u64| {
            assert_eq!(total.get_attr(field).unwrap(), Value::from(expected));
        };
        check("sent", 200);
        check("delivered", 200);
        check("lost", 10);
        check("duplicated", 10);
    }

    #[test]
    fn what_is_uncertain_is_said() {
        assert!(ledger(100, 0, 100, Some(0)).notes().is_empty());
        assert_eq!(ledger(100, 5, 100, None).notes().len(), 2);
    }
}
