//! The rates that the search for a breakpoint tried.

use maud::{Markup, html};

use crate::record::figures::shown;
use crate::record::{Record, TrialResult};

/// Every rate in the order they were tried, or nothing of a run without a search.
pub(super) fn section(record: &Record) -> Markup {
    let trials = &record.trials;
    let greatest = trials.iter().map(|it| it.rate).fold(1e-9, f64::max);
    let held = trials.iter().filter(|it| it.result == TrialResult::Held);
    let highest = held.map(|it| it.rate);
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
                tr { th.value { "Rate" } th { "" } th { "Thresholds" } th { "Why" } }
                @for trial in trials {
                    @let class = if trial.result == TrialResult::Held { "good" } else { "bad" };
                    tr.chosen[highest == Some(trial.rate)] {
                        td.value { (shown(trial.rate, "1/s")) }
                        td.bar { i.(class) style=(format!("width:{:.1}%", trial.rate / greatest * 100.0)) {} }
                        td.(class) { (trial.result.name()) }
                        td { (trial.why) }
                    }
                }
            } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Trial;
    use crate::record::tests::record;

    #[test]
    fn trials_are_a_table() {
        let mut record = record();
        let trial = |rate: f64, result, why: &str| Trial {
            rate,
            result,
            why: why.to_owned(),
        };
        record.trials = vec![
            trial(400.0, TrialResult::Held, ""),
            trial(800.0, TrialResult::Crossed, "error_rate < 1%"),
        ];
        let page = record.html();
        assert!(page.contains("of the trial at 400/s"), "{page}");
        assert!(
            page.contains(r#"class="bad" style="width:100.0%""#),
            "{page}"
        );
        assert!(page.contains("<td>error_rate &lt; 1%</td>"), "{page}");
    }
}
