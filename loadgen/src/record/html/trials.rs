//! The rates that the search for a breakpoint tried.

use maud::{Markup, html};

use crate::record::Record;
use crate::record::figures::shown;

pub(super) struct Trial {
    rate: f64,
    held: bool,
}

impl Trial {
    /// A record has its trials as notes: `tried 800.0/s: held`.
    pub(super) fn parse(note: &str) -> Option<Self> {
        let (rate, result) = note.strip_prefix("tried ")?.split_once("/s: ")?;
        let held = match result {
            "held" => true,
            "crossed" => false,
            _ => return None,
        };
        let rate = rate.parse().ok()?;
        Some(Self { rate, held })
    }
}

/// Every rate in the order they were tried, or nothing of a run without a search.
pub(super) fn section(record: &Record) -> Markup {
    let trials: Vec<_> = record
        .notes
        .iter()
        .filter_map(|it| Trial::parse(it))
        .collect();
    let greatest = trials.iter().map(|it| it.rate).fold(1e-9, f64::max);
    let highest = trials.iter().filter(|it| it.held).map(|it| it.rate);
    let highest = highest.reduce(f64::max);
    html! {
        @if !trials.is_empty() {
            h2 { "Rates tried" }
            p.lead {
                @match highest {
                    Some(rate) => { "Everything else on this page is of the trial at " (shown(rate, "1/s")) "." }
                    None => { "Not even the lowest rate kept the thresholds." }
                }
            }
            div.card { table.trials {
                tr { th.value { "Rate" } th { "" } th { "Thresholds" } }
                @for trial in &trials {
                    @let class = if trial.held { "good" } else { "bad" };
                    tr.chosen[highest == Some(trial.rate)] {
                        td.value { (shown(trial.rate, "1/s")) }
                        td.bar { i.(class) style=(format!("width:{:.1}%", trial.rate / greatest * 100.0)) {} }
                        td.(class) { @if trial.held { "held" } @else { "crossed" } }
                    }
                }
            } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::record;

    #[test]
    fn trials_are_read_from_notes() {
        let check = |note: &str, expected: Option<(f64, bool)>| {
            assert_eq!(Trial::parse(note).map(|it| (it.rate, it.held)), expected);
        };
        check("tried 800.0/s: held", Some((800.0, true)));
        check("tried 1600.5/s: crossed", Some((1600.5, false)));
        check("tried everything", None);
        check("tried 5/s: perhaps", None);
    }

    #[test]
    fn trials_are_a_table_and_no_notes() {
        let mut record = record();
        record.notes = ["tried 400.0/s: held", "tried 800.0/s: crossed", "mind this"]
            .map(str::to_owned)
            .to_vec();
        let page = record.html();
        assert!(page.contains("of the trial at 400/s"), "{page}");
        assert!(
            page.contains(r#"class="bad" style="width:100.0%""#),
            "{page}"
        );
        assert!(
            page.contains("<li>mind this</li>") && !page.contains("<li>tried"),
            "{page}"
        );
    }
}
