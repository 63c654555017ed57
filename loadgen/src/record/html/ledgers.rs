//! What became of every item of a suite: the counts that its other reports show, as the record has them.

use maud::{Markup, html};

use super::names;
use super::tables::table;
use crate::record::figures::shown;
use crate::record::{Ledger, Record};

/// Counts and their titles, in the order of their way through the pipeline.
const COLUMNS: [(&str, &str); 10] = [
    ("attempted", "attempted"),
    ("sent", "sent"),
    ("accepted", "accepted"),
    ("rejected", "rejected"),
    ("refused", "refused"),
    ("failed", "failed"),
    ("unsent", "unsent"),
    ("delivered", "delivered"),
    ("lost", "lost"),
    ("duplicated", "twice"),
];
/// What should be nothing.
const BAD: [&str; 2] = ["lost", "duplicated"];

/// A row for each test, variant and repetition; nothing of what is no suite.
pub(super) fn section(record: &Record) -> Markup {
    let ledgers = &record.ledgers;
    let repeated = ledgers.iter().any(|it| it.repetition > 1);
    html! {
        @if !ledgers.is_empty() {
            h2 { "Ledger" }
            p.lead { "Items: what was sent, what the first hop said it has, what the end of the pipeline has." }
            (table("wide ledgers", html! {
                tr {
                    th { "" }
                    @if repeated { th.value { "#" } }
                    th.value { "duration" }
                    @for (_, title) in COLUMNS { th.value { (title) } }
                }
                @for ledger in ledgers {
                    tr {
                        td {
                            (names::all(&ledger.labels))
                            @if !ledger.drained { small { "not drained" } }
                        }
                        @if repeated { td.value { (ledger.repetition) } }
                        td.value { (shown(ledger.seconds, "s")) }
                        @for (name, _) in COLUMNS { (cell(ledger, name)) }
                    }
                }
            }))
            @for why in reasons(ledgers) { p.lead { "Unknown: " (why) "." } }
        }
    }
}

fn cell(ledger: &Ledger, name: &str) -> Markup {
    let Some(count) = ledger.count(name) else {
        return html! { td.value { "-" } };
    };
    let is_bad = BAD.contains(&name) && count.at_least > 0;
    html! { td.value.bad[is_bad] { (count.shown()) } }
}

/// Why something is not known, each reason once.
fn reasons(ledgers: &[Ledger]) -> Vec<&str> {
    let mut reasons: Vec<&str> = Vec::new();
    for why in ledgers.iter().flat_map(|it| &it.unknown) {
        if !reasons.contains(&why.as_str()) {
            reasons.push(why);
        }
    }
    reasons
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::record::Bounds;
    use crate::record::tests::{labels, record};

    fn ledger(signal: &str) -> Ledger {
        let counts = COLUMNS.map(|(name, _)| (name.to_owned(), Some(0)));
        let mut items = BTreeMap::from(counts);
        items.insert("sent".to_owned(), Some(12_345));
        Ledger {
            labels: labels(&[("test", "load"), ("signal", signal)]),
            repetition: 1,
            drained: true,
            seconds: 2.5,
            items,
            bounds: BTreeMap::new(),
            unknown: Vec::new(),
        }
    }

    /// The texts of the cells of each row.
    fn rows(page: &str) -> Vec<Vec<String>> {
        let rows = page.split("<tr>").skip(1);
        let text = |cell: &str| {
            let parts = cell
                .split('<')
                .skip(1)
                .map(|it| it.split_once('>').map_or("", |it| it.1));
            let parts = parts.filter(|it| !it.is_empty());
            parts.collect::<Vec<_>>().join(" ")
        };
        let cells = |row: &str| {
            row.split("</td>")
                .map(text)
                .filter(|it| !it.is_empty())
                .collect()
        };
        rows.skip(1).map(cells).collect()
    }

    #[test]
    fn each_test_and_signal_has_its_row_with_what_is_not_known() {
        let mut record = record();
        let mut killed = ledger("logs");
        killed.drained = false;
        killed.items.insert("lost".to_owned(), None);
        killed.items.insert("failed".to_owned(), None);
        let bounds = Bounds {
            at_least: 3,
            at_most: Some(1700),
        };
        killed.bounds.insert("lost".to_owned(), bounds);
        killed.unknown = vec!["the load was killed".to_owned()];
        record.ledgers = vec![ledger("traces"), killed];
        let page = section(&record).into_string();
        let expected = [
            "load · signal=traces|2.5 s|0|12,345|0|0|0|0|0|0|0|0",
            "load · signal=logs not drained|2.5 s|0|12,345|0|0|0|unknown|0|0|unknown(3..1,700)|0",
        ];
        let found = rows(&page);
        for (row, expected) in found.iter().zip(expected) {
            assert!(row.join("|").starts_with(expected), "{row:?}\n{page}");
        }
        assert_eq!(found.len(), 2, "{page}");
        assert!(page.contains("Unknown: the load was killed."), "{page}");
        assert_eq!(page.matches("value bad").count(), 1, "{page}");
    }

    #[test]
    fn repetitions_have_a_number_and_other_runs_have_no_ledger() {
        let mut record = record();
        assert_eq!(section(&record).into_string(), "");
        let second = Ledger {
            repetition: 2,
            ..ledger("logs")
        };
        record.ledgers = vec![ledger("logs"), second];
        let page = record.html();
        assert!(page.contains(">Ledger<") && page.contains(">#<"), "{page}");
    }
}
