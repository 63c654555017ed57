//! Compares what was acknowledged with what is stored.

use std::collections::BTreeMap;

use serde::Serialize;

use super::items::CONNECTION_SHIFT;
use super::sender::{Fate, Record, Sent};
use super::tables::Stored;

/// Examples of each kind that are kept.
const EXAMPLES_MAX: usize = 8;

/// Items by what the clients were told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Told {
    pub(super) accepted: u64,
    pub(super) refused: u64,
    pub(super) unanswered: u64,
    /// Items that the agent said it rejected of requests that it accepted (OTLP partial success).
    pub(super) rejected: u64,
    /// Requests by status or cause, those that were accepted left out.
    pub(super) statuses: BTreeMap<String, u64>,
    /// Answers that refused for now, and those among them without a hint.
    pub(super) refusals: u64,
    pub(super) refusals_without_hint: u64,
    /// Answers that refused for good.
    pub(super) permanent_refusals: u64,
    pub(super) not_connected: u64,
}

/// Items by what is wrong with them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Wrong {
    /// Acknowledged and not stored.
    pub(super) lost: u64,
    /// Acknowledged and stored more than once.
    pub(super) duplicated: u64,
    /// Refused and stored nevertheless.
    pub(super) refused_but_stored: u64,
    /// Without an answer and stored more than once.
    pub(super) unanswered_and_duplicated: u64,
    /// Stored and never sent.
    pub(super) never_sent: u64,
    /// Points in another table than theirs.
    pub(super) misplaced: u64,
    /// The first ranges of each kind, in words.
    pub(super) examples: Vec<String>,
}

/// Sums up what the clients were told.
pub(super) fn told(records: &[Record]) -> Told {
    let mut told = Told::default();
    for record in records {
        told.refusals += record.refusals;
        told.refusals_without_hint += record.without_hint;
        told.permanent_refusals += record.permanent;
        told.not_connected += record.not_connected;
        for sent in &record.sent {
            let items = u64::from(sent.items);
            let mut status = |text: String| *told.statuses.entry(text).or_default() += 1;
            match &sent.fate {
                Fate::Accepted => told.accepted += items,
                Fate::PartlyRejected(rejected) => {
                    status("partial success".to_owned());
                    told.accepted += items;
                    told.rejected += rejected;
                }
                Fate::Refused(with) => {
                    status(format!("{}: {with}", record.protocol));
                    told.refused += items;
                }
                Fate::Unanswered(cause) => {
                    status(format!("{}: {cause}", record.protocol));
                    told.unanswered += items;
                }
            }
        }
    }
    told
}

/// Finds every item that is not where it should be.
pub(super) fn compare(records: &[Record], mut stored: Stored) -> Wrong {
    let mut wrong = Wrong {
        misplaced: stored.misplaced.len() as u64,
        ..Wrong::default()
    };
    for record in records {
        for sent in &record.sent {
            let (mut none, mut more, mut any) = (0, 0, 0);
            for number in sent.first..sent.first + u64::from(sent.items) {
                match stored.rows.remove(&number) {
                    None => none += 1,
                    Some(1) => any += 1,
                    Some(_) => more += 1,
                }
            }
            wrong.add(record, sent, none, any, more);
        }
    }
    wrong.never_sent = stored.rows.len() as u64;
    if let Some(number) = stored.rows.keys().next() {
        let text = format!("stored and never sent: {}", name(*number));
        wrong.examples.push(text);
    }
    if let Some(number) = stored.misplaced.first() {
        let text = format!("in another table: {}", name(*number));
        wrong.examples.push(text);
    }
    wrong
}

impl Wrong {
    /// Counts a request of which `none` items are not stored, `once` are and `more` are more than once.
    fn add(&mut self, record: &Record, sent: &Sent, none: u64, once: u64, more: u64) {
        let found = |column: &mut u64, items: u64, what: &str, examples: &mut Vec<String>| {
            if items == 0 {
                return;
            }
            let known = examples
                .iter()
                .filter(|text| text.starts_with(what))
                .count();
            if known < EXAMPLES_MAX {
                examples.push(format!(
                    "{what}: {items} of {} {} from {} over {}, answered at {:.3} s ({:?})",
                    sent.items,
                    record.signal.items(),
                    name(sent.first),
                    record.protocol,
                    sent.known.as_secs_f64(),
                    sent.fate
                ));
            }
            *column += items;
        };
        let examples = &mut self.examples;
        match &sent.fate {
            Fate::Accepted => {
                found(&mut self.lost, none, "lost", examples);
                found(&mut self.duplicated, more, "duplicated", examples);
            }
            // Which of the items were rejected the answer does not say; only as many may be missing.
            Fate::PartlyRejected(rejected) => {
                found(
                    &mut self.lost,
                    none.saturating_sub(*rejected),
                    "lost",
                    examples,
                );
                found(&mut self.duplicated, more, "duplicated", examples);
            }
            Fate::Refused(_) => {
                found(
                    &mut self.refused_but_stored,
                    once + more,
                    "refused but stored",
                    examples,
                );
            }
            Fate::Unanswered(_) => found(
                &mut self.unanswered_and_duplicated,
                more,
                "unanswered and duplicated",
                examples,
            ),
        }
    }
}

/// A number as people read it.
fn name(number: u64) -> String {
    let mask = (1 << CONNECTION_SHIFT) - 1;
    format!(
        "item {} of connection {} (loadgen.seq {number})",
        number & mask,
        number >> CONNECTION_SHIFT
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::otlp::client::Protocol;
    use crate::otlp::signal::Signal;

    fn record(fates: Vec<Fate>) -> Record {
        let sent = (0..)
            .zip(fates)
            .map(|(index, fate)| Sent {
                first: index * 10,
                items: 10,
                fate,
                known: Duration::ZERO,
                took: Duration::ZERO,
            })
            .collect();
        Record {
            signal: Signal::Logs,
            protocol: Protocol::Http,
            sent,
            refusals: 0,
            without_hint: 0,
            permanent: 0,
            not_connected: 0,
        }
    }

    fn stored(rows: impl IntoIterator<Item = (u64, u64)>) -> Stored {
        Stored {
            rows: rows.into_iter().collect(),
            misplaced: Vec::new(),
        }
    }

    /// One request of ten items with this fate: what is wrong when these numbers are stored so often.
    fn check(fate: Fate, rows: &[(u64, u64)], expected: Wrong) {
        let text = format!("{fate:?} {rows:?}");
        let mut found = compare(&[record(vec![fate])], stored(rows.iter().copied()));
        let examples = std::mem::take(&mut found.examples);
        assert_eq!(found, expected, "{text}");
        assert_eq!(examples.is_empty(), expected == Wrong::default(), "{text}");
    }

    #[test]
    fn everything_once_is_right() {
        let once: Vec<_> = (0..10).map(|number| (number, 1)).collect();
        check(Fate::Accepted, &once, Wrong::default());
        check(Fate::Unanswered("timeout".into()), &once, Wrong::default());
        check(Fate::Unanswered("timeout".into()), &[], Wrong::default());
        check(Fate::Refused("503".into()), &[], Wrong::default());
        check(Fate::PartlyRejected(2), &once[..8], Wrong::default());
    }

    #[test]
    fn every_deviation_is_found() {
        let most: Vec<_> = (0..8).map(|number| (number, 1 + number / 7)).collect();
        let lost = Wrong {
            lost: 2,
            duplicated: 1,
            ..Wrong::default()
        };
        check(Fate::Accepted, &most, lost);
        let refused_but_stored = Wrong {
            refused_but_stored: 8,
            ..Wrong::default()
        };
        check(Fate::Refused("503".into()), &most, refused_but_stored);
        let unanswered = Wrong {
            unanswered_and_duplicated: 1,
            ..Wrong::default()
        };
        check(Fate::Unanswered("timeout".into()), &most, unanswered);
        let never_sent = Wrong {
            never_sent: 1,
            ..Wrong::default()
        };
        check(Fate::Refused("503".into()), &[(77, 1)], never_sent);
    }

    #[test]
    fn what_clients_were_told_is_summed_up() {
        let fates = vec![
            Fate::Accepted,
            Fate::Refused("503".into()),
            Fate::Unanswered("timeout".into()),
            Fate::PartlyRejected(3),
        ];
        let told = told(&[record(fates)]);
        assert_eq!(
            (told.accepted, told.refused, told.unanswered, told.rejected),
            (20, 10, 10, 3)
        );
        assert_eq!(told.statuses["HTTP: 503"], 1);
    }
}
