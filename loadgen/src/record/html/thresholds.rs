//! What was to hold, and what was measured.

use maud::{Markup, html};

use super::tables::table;
use crate::record::Record;

pub(super) fn section(record: &Record) -> Markup {
    html! {
        @if !record.thresholds.is_empty() {
            h2 { "Thresholds" }
            (table("thresholds", html! {
                tr { th { "Expression" } th.value { "Measured" } th { "Result" } }
                @for threshold in &record.thresholds {
                    tr {
                        td { (expression(&threshold.expression)) }
                        td.value { (threshold.measured()) }
                        @if threshold.passed { td.good { "held" } } @else { td.bad { (threshold.verdict()) } }
                    }
                }
            }))
        }
    }
}

/// It may be broken before its labels: on a phone it would push the result off the screen.
fn expression(text: &str) -> Markup {
    html! {
        @for (index, part) in text.split('{').enumerate() {
            @if index > 0 { wbr; "{" }
            (part)
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::record::ThresholdResult;
    use crate::record::figures::SHARE;
    use crate::record::tests::record;

    #[test]
    fn values_have_their_unit() {
        let mut record = record();
        for (value, unit) in [(Some(25.231), "ms"), (Some(0.0125), SHARE), (None, "ms")] {
            record.thresholds.push(ThresholdResult {
                expression: "what{scenario=a} < 7".to_owned(),
                value,
                unit: unit.to_owned(),
                passed: true,
                why: String::new(),
            });
        }
        let page = record.html();
        for cell in ["25.23 ms", "1.25 %", "nothing"] {
            let cell = format!("<td class=\"value\">{cell}</td>");
            assert!(page.contains(&cell), "{cell}\n{page}");
        }
    }
}
