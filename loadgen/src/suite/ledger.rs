//! What became of every item: sent, accepted, refused, delivered, lost, twice; and what of that is not known.

use std::collections::BTreeMap;

use minijinja::{ErrorKind, Value};

use crate::count::Count;
use crate::text::grouped;

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
    pub(crate) sent: Count,
    /// The first hop answered that it has them.
    pub(crate) accepted: Count,
    /// Of those, declined as OTLP partial success.
    pub(crate) rejected: Count,
    /// The last answer was no.
    pub(crate) refused: Count,
    /// No answer: nobody knows.
    pub(crate) failed: Count,
    /// Due in an open loop, and never sent.
    pub(crate) unsent: Count,
    /// At the end of the pipeline when the ledger was closed.
    pub(crate) delivered: Count,
    /// Of those, more than once, where the backend can tell.
    pub(crate) counted_twice: Option<Count>,
    /// Why the pipeline was not given the time to deliver, if it was not.
    pub(crate) not_drained: Option<String>,
    /// What could not be asked, when, and why.
    pub(crate) not_asked: Vec<String>,
    /// From the first load's start until all was delivered, or the ledger was closed.
    pub(crate) seconds: f64,
    /// How many loads had ended by then.
    pub(crate) loads: usize,
}

/// Something that an expression asks for, and nobody knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} is unknown{bounds}: {why}")]
pub(crate) struct Unknown {
    what: String,
    bounds: String,
    why: String,
}

impl Unknown {
    /// `what` as an expression calls it.
    pub(crate) fn new(what: String, bounds: Option<String>, why: String) -> Self {
        let bounds = bounds.map_or_else(String::new, |it| format!(" ({it})"));
        Self { what, bounds, why }
    }

    /// As a value: whatever is done with it is this error.
    pub(crate) fn value(self) -> Value {
        let error = minijinja::Error::new(ErrorKind::InvalidOperation, self.to_string());
        Value::from(error.with_source(self))
    }
}

impl Ledger {
    /// What must arrive. A load of which nothing is known has rejected no more than it has accepted.
    pub(crate) fn expected(&self) -> Count {
        let kept = |accepted: u64| accepted.saturating_sub(self.rejected.at_least);
        Count {
            at_least: kept(self.accepted.at_least),
            at_most: self.accepted.at_most.map(kept),
        }
    }

    /// The pipeline was given the time to deliver.
    pub(crate) fn complete(&self) -> bool {
        self.not_drained.is_none()
    }

    /// A count at the end of the pipeline as it will be: what was under way when the ledger was closed is still to come.
    fn in_the_end(&self, count: Count) -> Count {
        match self.complete() {
            true => count,
            false => count.or_more(),
        }
    }

    /// Of what was delivered, how much there is once too often: counted where numbers were compared, otherwise what is
    /// more than could have been accepted.
    pub(crate) fn duplicated(&self) -> Count {
        let surplus = || self.delivered.without(self.expected() + self.failed);
        self.in_the_end(self.counted_twice.unwrap_or_else(surplus))
    }

    /// Accepted, and not there.
    pub(crate) fn lost(&self) -> Count {
        // Without numbers to compare, all that is there may be the expected.
        let twice = self.counted_twice.unwrap_or_default();
        let once = self.in_the_end(self.delivered.without(twice));
        self.expected().without(once)
    }

    pub(crate) fn lost_percent(&self) -> Option<f64> {
        let lost = self.lost().known()? as f64;
        match self.expected().known()? {
            0 => Some(0.0),
            expected => Some(lost / expected as f64 * 100.0),
        }
    }

    pub(crate) fn attempted(&self) -> Count {
        self.sent + self.unsent
    }

    /// How fast all was delivered; of what had not drained nobody knows.
    pub(crate) fn delivered_per_second(&self) -> Option<f64> {
        Some(self.delivered_in_all()? as f64 / self.seconds.max(1e-9))
    }

    /// How many have paid for what was used, if that is known and there are any: what was under way has cost something, too.
    pub(crate) fn delivered_some(&self) -> Option<f64> {
        let delivered = self.delivered_in_all().filter(|it| *it > 0)?;
        Some(delivered as f64)
    }

    fn delivered_in_all(&self) -> Option<u64> {
        self.delivered.known().filter(|_| self.complete())
    }

    /// Every count by its name.
    pub(crate) fn counts(&self) -> [(&'static str, Count); 11] {
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

    /// Something of it is not known.
    pub(crate) fn has_unknown(&self) -> bool {
        self.counts()
            .iter()
            .any(|(_, count)| count.known().is_none())
    }

    /// Why what is unknown is so.
    pub(crate) fn whys(&self) -> Vec<String> {
        let not_drained = self.not_drained.iter().map(|why| {
            format!("not drained ({why}): what was under way was not there yet, and may still come")
        });
        self.not_asked.iter().cloned().chain(not_drained).collect()
    }

    /// For expressions: a field that is not known is an error that says so, in whatever it is used.
    pub(crate) fn value(&self) -> Value {
        let unknown = |field: &str, bounds: Option<String>| {
            Unknown::new(format!("ledger.{field}"), bounds, self.whys().join("; ")).value()
        };
        let mut fields = BTreeMap::new();
        for (name, count) in self.counts() {
            let value = count.known().map(Value::from);
            fields.insert(name, value.unwrap_or_else(|| unknown(name, count.bounds())));
        }
        for (name, number) in [
            ("lost_percent", self.lost_percent()),
            ("delivered_per_second", self.delivered_per_second()),
        ] {
            let value = number.map(Value::from);
            fields.insert(name, value.unwrap_or_else(|| unknown(name, None)));
        }
        fields.insert("complete", Value::from(self.complete()));
        fields.insert("seconds", Value::from(self.seconds));
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
    /// One that is not known is a text that says so.
    pub(crate) fn total<'l>(ledgers: impl IntoIterator<Item = &'l Self>) -> Value {
        let mut total = BTreeMap::from(Self::default().counts());
        for ledger in ledgers {
            for (name, count) in ledger.counts() {
                let sum = total.entry(name).or_default();
                *sum = *sum + count;
            }
        }
        let value = |count: Count| {
            let number = count.known().map(Value::from);
            number.unwrap_or_else(|| Value::from(count.to_string()))
        };
        Value::from_pairs(total.into_iter().map(|(name, sum)| (name, value(sum))))
    }

    /// What a reader of the figures must know.
    pub(crate) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some(why) = &self.not_drained {
            notes.push(format!(
                "not drained: the ledger was closed before the pipeline had drained ({why}). What was under way was \
                 not there yet, and is not called lost"
            ));
        }
        notes.extend(self.not_asked.iter().map(|why| format!("unknown: {why}")));
        notes.extend(self.reconciliation());
        if self.failed.at_least > 0 && self.delivered.at_least > 0 {
            notes.push(format!(
                "{} items had no answer: as many of those delivered may be among them, and hide as many lost",
                self.failed
            ));
        }
        if self.counted_twice.is_none() && self.delivered.at_least > 0 {
            notes.push(
                "duplicates were not looked for: `duplicated` is what is more than could have been accepted"
                    .to_owned(),
            );
        }
        notes
    }

    /// What is known of what was lost and what is there twice, where it is not all.
    fn reconciliation(&self) -> Option<String> {
        let (lost, duplicated) = (self.lost(), self.duplicated());
        if lost.known().is_some() && duplicated.known().is_some() {
            return None;
        }
        let words = |name: &str, count: Count| match (count.known(), count.bounds()) {
            (Some(number), _) => format!("{} {name}", grouped(number)),
            (None, Some(bounds)) => format!("{bounds} {name}"),
            (None, None) => format!("an unknown number {name}"),
        };
        let parts = [
            words("sent", self.sent),
            words("accepted", self.accepted),
            words("delivered", self.delivered),
        ];
        let [lost, duplicated] = [words("lost", lost), words("duplicated", duplicated)];
        Some(format!(
            "what is known: {}; so {lost}, and {duplicated}",
            parts.join(", ")
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(accepted: u64, failed: u64, delivered: u64, counted_twice: Option<u64>) -> Ledger {
        Ledger {
            sent: Count::of(accepted + failed),
            accepted: Count::of(accepted),
            failed: Count::of(failed),
            delivered: Count::of(delivered),
            counted_twice: counted_twice.map(Count::of),
            ..Ledger::default()
        }
    }

    fn check(ledger: &Ledger, lost: &str, duplicated: &str) {
        let found = [ledger.lost(), ledger.duplicated()].map(|it| it.to_string());
        assert_eq!(found, [lost, duplicated], "{ledger:?}");
    }

    #[test]
    fn lost_and_twice_do_not_make_up_for_each_other() {
        check(&ledger(100, 0, 100, None), "0", "0");
        check(&ledger(100, 0, 90, None), "10", "0");
        check(&ledger(100, 0, 110, None), "0", "10");
        check(&ledger(100, 0, 100, Some(10)), "10", "10");
        check(&ledger(100, 20, 110, None), "0", "0");
        check(&ledger(100, 20, 125, None), "0", "5");
        check(&ledger(0, 0, 0, None), "0", "0");
    }

    #[test]
    fn what_could_not_be_asked_is_no_zero() {
        // A load that has left no record, beside one of 100.
        let killed = |delivered: u64, counted_twice: Option<u64>| Ledger {
            sent: Count::at_least(100),
            accepted: Count::at_least(100),
            rejected: Count::at_least(0),
            refused: Count::at_least(0),
            failed: Count::at_least(0),
            unsent: Count::at_least(0),
            ..ledger(100, 0, delivered, counted_twice)
        };
        check(&killed(250, None), "unknown", "unknown(<=150)");
        check(&killed(250, Some(3)), "unknown", "3");
        // As many are missing of what is known to have been accepted.
        check(&killed(90, Some(0)), "unknown(>=10)", "0");
        // A backend that does not answer.
        let silent = Ledger {
            delivered: Count::at_least(0),
            counted_twice: Some(Count::at_least(0)),
            ..ledger(100, 0, 0, None)
        };
        check(&silent, "unknown(<=100)", "unknown");
        assert_eq!(silent.delivered_per_second(), None);
        // One that says how many there are, and not how many there are twice.
        let silent = Ledger {
            counted_twice: Some(Count::at_least(0)),
            ..ledger(100, 0, 90, None)
        };
        check(&silent, "unknown(10..100)", "unknown");
    }

    #[test]
    fn what_is_under_way_is_not_lost() {
        let open = |delivered: u64, counted_twice: Option<u64>| Ledger {
            not_drained: Some("the run was interrupted".to_owned()),
            ..ledger(100, 0, delivered, counted_twice)
        };
        check(&open(90, Some(2)), "unknown(<=12)", "unknown(>=2)");
        check(&open(90, None), "unknown(<=10)", "unknown");
        assert_eq!(open(90, Some(2)).delivered_per_second(), None);
        // All have come: none is lost, whatever else there is to come.
        check(&open(100, None), "0", "unknown");
        check(&open(105, None), "0", "unknown(>=5)");
        let notes = open(90, Some(2)).notes().join("\n");
        let expected =
            "100 sent, 100 accepted, 90 delivered; so at most 12 lost, and at least 2 duplicated";
        assert!(notes.contains(expected), "{notes}");
    }

    #[test]
    fn expressions_know_every_field() {
        let value = ledger(1, 0, 1, None).value();
        for field in FIELDS {
            assert!(!value.get_attr(field).unwrap().is_undefined(), "{field}");
        }
    }

    #[test]
    fn no_expression_holds_over_what_is_not_known() {
        let open = Ledger {
            not_drained: Some("the run was interrupted".to_owned()),
            ..ledger(100, 0, 90, Some(0))
        };
        let templates = super::super::template::Templates::new();
        let context = Value::from_pairs([("ledger", open.value())]);
        for expression in [
            "ledger.lost == 0",
            "ledger.lost != 0",
            "ledger.lost < 1000",
            "not ledger.lost > 5",
            "ledger['duplicated'] + 1 > 0",
            "ledger.lost_percent < 100",
        ] {
            let error = templates.evaluate(expression, &context).unwrap_err();
            assert!(error.is::<Unknown>(), "{expression}: {error}");
        }
        let error = templates.evaluate("ledger.lost == 0", &context);
        let error = error.unwrap_err().to_string();
        let expected = "ledger.lost is unknown (at most 10): not drained (the run was interrupted)";
        assert!(error.starts_with(expected), "{error}");
        let known = templates.evaluate("ledger.delivered == 90", &context);
        assert!(known.unwrap().is_true());
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
        let open = Ledger {
            not_drained: Some("the run was interrupted".to_owned()),
            ..other
        };
        let total = Ledger::total([&one, &open]);
        let duplicated = total.get_attr("duplicated").unwrap();
        assert_eq!(duplicated.to_string(), "unknown(>=10)");
    }

    #[test]
    fn what_is_uncertain_is_said() {
        assert!(ledger(100, 0, 100, Some(0)).notes().is_empty());
        assert_eq!(ledger(100, 5, 100, None).notes().len(), 2);
    }
}
