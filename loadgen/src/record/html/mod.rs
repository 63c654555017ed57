//! A record as one page that needs nothing else.

mod axis;
mod chart;
mod plots;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::figures::{median, shown};
use super::{Better, Environment, Labels, Metric, Record};
use crate::text;
use plots::spaced;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

/// What most readers look for first, in this order, as far as a record has it.
const HEADLINES: [&str; 12] = [
    "items_per_second",
    "requests_per_second",
    "iterations_per_second",
    "latency_p50",
    "latency_p99",
    "latency_max",
    "error_rate",
    "items_lost",
    "items_duplicated",
    "cpu_seconds_per_million_items",
    "rss_max",
    "requests_unsent",
];
const HEADLINES_MAX: usize = 8;
/// Figures of a distribution, as [`Record::add_latencies`] names them, and what they are called.
const FIGURES: [(&str, &str); 8] = [
    ("avg", "average"),
    ("min", "min"),
    ("p50", "p50"),
    ("p90", "p90"),
    ("p95", "p95"),
    ("p99", "p99"),
    ("p999", "p99.9"),
    ("max", "max"),
];

impl Record {
    pub(crate) fn html(&self) -> String {
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
                        (self.tiles())
                        (self.thresholds_section())
                        (charts("Latency", &plots::distributions(self)))
                        (charts("Over time", &plots::over_time(self)))
                        (self.latency_table())
                        (self.metrics_table())
                        (self.events_table())
                        (self.environment.markup())
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
        let (class, verdict) = match (self.passed, self.interrupted) {
            (_, true) => ("bad", "interrupted"),
            (true, false) => ("good", "passed"),
            (false, false) => ("bad", "failed"),
        };
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

    fn tiles(&self) -> Markup {
        let found = HEADLINES.iter().flat_map(|name| {
            let named = self.metrics.iter().filter(move |it| it.name == *name);
            named.filter(|it| it.labels.keys().all(|key| key == "process"))
        });
        html! {
            ul.tiles {
                @for metric in found.take(HEADLINES_MAX) {
                    li {
                        small {
                            (spaced(&metric.name))
                            @for value in metric.labels.values() { " (" (value) ")" }
                        }
                        b { (middle(metric)) }
                    }
                }
            }
        }
    }

    fn thresholds_section(&self) -> Markup {
        html! {
            @if !self.thresholds.is_empty() {
                h2 { "Thresholds" }
                div.card { table {
                    tr { th { "Expression" } th.value { "Measured" } th { "Result" } }
                    @for threshold in &self.thresholds {
                        tr {
                            td { (threshold.expression) }
                            td.value { (threshold.value.map_or_else(|| "nothing".to_owned(), |it| shown(it, ""))) }
                            @if threshold.passed { td.good { "held" } } @else { td.bad { "crossed" } }
                        }
                    }
                } }
            }
        }
    }

    /// Figures of each distribution beside each other.
    fn latency_table(&self) -> Markup {
        html! {
            @if !self.distributions.is_empty() {
                h2 { "Latency in figures" }
                div.card { table {
                    tr {
                        th { "" } th.value { "values" }
                        @for (_, title) in FIGURES { th.value { (title) } }
                    }
                    @for distribution in &self.distributions {
                        tr {
                            td { (spaced(&distribution.name)) " " (label_text(&distribution.labels)) }
                            td.value { (text::grouped(distribution.count())) }
                            @for (figure, _) in FIGURES {
                                td.value { (self.figure(&distribution.name, figure, &distribution.labels)) }
                            }
                        }
                    }
                } }
            }
        }
    }

    fn figure(&self, name: &str, figure: &str, labels: &Labels) -> String {
        let name = format!("{name}_{figure}");
        let mut metrics = self.metrics.iter();
        metrics
            .find(|it| it.name == name && it.labels == *labels)
            .map_or_else(String::new, middle)
    }

    /// Metrics that the table of latencies does not show.
    fn metrics_table(&self) -> Markup {
        let is_figure = |metric: &Metric| {
            self.distributions.iter().any(|it| {
                let rest = metric.name.strip_prefix(&it.name);
                let figure = rest.and_then(|rest| rest.strip_prefix('_'));
                it.labels == metric.labels && FIGURES.iter().any(|(name, _)| figure == Some(*name))
            })
        };
        let rest: Vec<_> = self.metrics.iter().filter(|it| !is_figure(it)).collect();
        let repeated = rest.iter().any(|it| it.values.len() > 1);
        html! {
            @if !rest.is_empty() {
                h2 { "Metrics" }
                div.card { table {
                    tr {
                        th { "Metric" } th.value { @if repeated { "Median" } @else { "Value" } }
                        @if repeated { th.value { "Least to greatest" } th.value { "Runs" } }
                        th { "Better" }
                    }
                    @for metric in rest {
                        tr {
                            td {
                                (metric.name)
                                @if !metric.labels.is_empty() { small { (label_text(&metric.labels)) } }
                            }
                            td.value { (middle(metric)) }
                            @if repeated {
                                td.value { (spread(metric)) }
                                td.value { (metric.values.len()) }
                            }
                            td.labels { (metric.better.text()) }
                        }
                    }
                } }
            }
        }
    }

    fn events_table(&self) -> Markup {
        html! {
            @if !self.windows.is_empty() || !self.events.is_empty() {
                h2 { "Windows and events" }
                div.card { table {
                    tr { th.value { "From" } th.value { "To" } th { "What" } th { "" } }
                    @for window in &self.windows {
                        tr {
                            td.value { (shown(window.from, "s")) } td.value { (shown(window.to, "s")) }
                            td { (window.name) } td.labels { "window" }
                        }
                    }
                    @for event in &self.events {
                        tr {
                            td.value { (shown(event.at, "s")) } td.value { }
                            td { (event.name) } td.labels { (event.detail) }
                        }
                    }
                } }
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

impl Environment {
    fn markup(&self) -> Markup {
        let [one, five, fifteen] = self.load_average;
        let rows = [
            ("Host", self.host.clone()),
            ("CPU", format!("{}, {} cores", self.cpu, self.cores)),
            ("Memory", text::bytes(self.memory_bytes)),
            ("Kernel", self.kernel.clone()),
            ("Load average at start", format!("{one} {five} {fifteen}")),
        ];
        html! {
            h2 { "Environment" }
            div.card { table {
                @for (name, value) in rows { tr { th { (name) } td { (value) } } }
                @if let Some(disturbed) = &self.disturbed {
                    tr {
                        th { "CPU used by others" }
                        td {
                            (shown(disturbed.others_cpu_seconds, "s"))
                            " (what was measured is among them if it ran here)"
                        }
                    }
                    tr { th { "CPU stolen" } td { (shown(disturbed.stolen_seconds, "s")) } }
                }
            } }
        }
    }
}

impl Better {
    fn text(self) -> &'static str {
        match self {
            Self::Higher => "higher",
            Self::Lower => "lower",
            Self::Neither => "",
        }
    }
}

fn charts(title: &str, charts: &[chart::Chart]) -> Markup {
    html! {
        @if !charts.is_empty() {
            h2 { (title) }
            div.charts { @for chart in charts { (chart.markup()) } }
        }
    }
}

/// The median of the repetitions.
fn middle(metric: &Metric) -> String {
    median(&metric.values).map_or_else(|| "no value".to_owned(), |value| figure(metric, value))
}

fn spread(metric: &Metric) -> String {
    let least = metric.values.iter().copied().reduce(f64::min);
    let greatest = metric.values.iter().copied().reduce(f64::max);
    match (least, greatest) {
        (Some(least), Some(greatest)) => {
            format!("{} to {}", figure(metric, least), figure(metric, greatest))
        }
        _ => String::new(),
    }
}

/// A value of the metric with its unit; shares in percent.
fn figure(metric: &Metric, value: f64) -> String {
    if metric.name.ends_with("_rate") && metric.unit.is_empty() {
        return shown(value * 100.0, "%");
    }
    shown(value, &metric.unit)
}

fn label_text(labels: &Labels) -> String {
    let labels: Vec<_> = labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    labels.join(", ")
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
            passed: false,
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
