//! A record as one page that needs nothing else.

mod axis;
mod chart;
mod headline;
mod ledgers;
mod names;
mod plots;
mod tables;
mod thresholds;
mod trials;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::Record;
use super::figures::shown;
use names::Names;
use plots::Plots;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

impl Record {
    pub(crate) fn html(&self) -> String {
        let names = Names::of(self);
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    title { (self.name) " · loadgen" }
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    main {
                        (self.header())
                        (headline::markup(self, &names))
                        (ledgers::section(self))
                        (trials::section(self))
                        (thresholds::section(self))
                        (charts("Latency", &plots::distributions(self, &names)))
                        (charts("Over time", &plots::over_time(self, &names)))
                        (tables::latencies(self, &names))
                        (tables::metrics(self, &names))
                        (tables::events(self))
                        (tables::environment(&self.environment))
                        (self.inputs_section())
                        footer { "Run " (self.run_id) " · loadgen " (self.environment.loadgen) }
                    }
                    script { (PreEscaped(SCRIPT)) }
                }
            }
        };
        page.into_string()
    }

    fn header(&self) -> Markup {
        let verdict = self.verdict();
        let class = if verdict == "passed" { "good" } else { "bad" };
        html! {
            header {
                h1 { (self.name) }
                p.facts {
                    span.badge.{ (class) } { (verdict) }
                    span { (self.kind) }
                    span { (self.started) " UTC" }
                    span { (shown(self.seconds, "s")) }
                    span { (self.environment.host) }
                }
                @if !self.notes.is_empty() {
                    ul.notes { @for note in &self.notes { li { (note) } } }
                }
            }
        }
    }

    fn inputs_section(&self) -> Markup {
        html! {
            h2 { "Inputs" }
            div.card {
                @for input in &self.inputs {
                    details open[self.inputs.len() == 1 || input.text.lines().count() < 4] {
                        summary { (input.name) }
                        pre { (input.text) }
                    }
                }
            }
        }
    }
}

fn charts(title: &str, plots: &Plots) -> Markup {
    html! {
        @if !plots.charts.is_empty() {
            h2 { (title) }
            div.charts { @for chart in &plots.charts { (chart.markup()) } }
            @if plots.lines_left_out > 0 {
                p.lead { (plots.lines_left_out) " more lines are not plotted: the record has them." }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::record::tests::record;
    use crate::record::{Event, ThresholdResult, Window};

    #[test]
    fn the_page_shows_everything_and_asks_nobody() {
        let mut record = record();
        record.name = "<script>alert(1)</script>".to_owned();
        record.windows.push(Window {
            name: "outage".to_owned(),
            from: 1.0,
            to: 2.0,
        });
        record.events.push(Event {
            at: 1.0,
            name: "killed".to_owned(),
            detail: "agent".to_owned(),
        });
        record.thresholds.push(ThresholdResult {
            expression: "p(99) < 10ms".to_owned(),
            value: Some(990.0),
            unit: "ms".to_owned(),
            passed: false,
            why: String::new(),
        });
        record
            .notes
            .push("the generator was the bottleneck".to_owned());
        let page = record.html();
        for part in [
            "&lt;script&gt;alert(1)",
            "outage",
            "killed",
            "p(99) &lt; 10ms",
            "crossed",
            "the generator was the bottleneck",
            "Latency distribution",
            "Latency percentiles",
            "Items per second",
            "items_refused",
            "status=503, &quot;busy&quot;",
        ] {
            assert!(page.contains(part), "{part}");
        }
        for part in [
            "<script>alert",
            "http://",
            "https://",
            "src=",
            "@import",
            "NaN",
        ] {
            assert!(!page.contains(part), "{part}");
        }
    }
}
