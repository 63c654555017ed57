//! The figures of a record as tables.

use maud::{Markup, html};

use super::names::{FIGURES, Names, of_value, spaced, without_values};
use crate::record::figures::{median, shown};
use crate::record::{Better, Environment, Labels, Metric, Record};
use crate::text;

/// A table in a box that scrolls where the screen is narrower.
pub(super) fn table(class: &str, rows: Markup) -> Markup {
    html! { div.card { table.(class) { (rows) } } }
}

/// Figures of each distribution beside each other.
pub(super) fn latencies(record: &Record, names: &Names) -> Markup {
    html! {
        @if !record.distributions.is_empty() {
            h2 { "Latency in figures" }
            (table("wide", html! {
                tr {
                    th { "" } th.value { "values" }
                    @for (_, title) in FIGURES { th.value { (title) } }
                }
                @for distribution in &record.distributions {
                    tr {
                        td {
                            (spaced(&distribution.name))
                            small { (names.line(&distribution.labels)) }
                        }
                        td.value { (text::grouped(distribution.count())) }
                        @for (figure, _) in FIGURES {
                            td.value { (latency(record, &distribution.name, figure, &distribution.labels)) }
                        }
                    }
                }
            }))
        }
    }
}

fn latency(record: &Record, name: &str, figure: &str, labels: &Labels) -> String {
    let name = format!("{name}_{figure}");
    let mut metrics = record.metrics.iter();
    metrics
        .find(|it| it.name == name && it.labels == *labels)
        .map_or_else(String::new, middle)
}

/// Metrics that the table of latencies does not show, those of one subject together.
pub(super) fn metrics(record: &Record, names: &Names) -> Markup {
    let is_figure = |metric: &Metric| {
        record.distributions.iter().any(|it| {
            let rest = metric.name.strip_prefix(&it.name);
            let figure = rest.and_then(|rest| rest.strip_prefix('_'));
            it.labels == metric.labels && FIGURES.iter().any(|(name, _)| figure == Some(*name))
        })
    };
    let mut groups: Vec<(Labels, Vec<&Metric>)> = Vec::new();
    for metric in record.metrics.iter().filter(|it| !is_figure(it)) {
        let subject = without_values(&metric.labels);
        match groups.iter_mut().find(|it| it.0 == subject) {
            Some((_, group)) => group.push(metric),
            None => groups.push((subject, vec![metric])),
        }
    }
    html! {
        @if !groups.is_empty() {
            h2 { "Metrics" }
            div.groups {
                @for (labels, group) in &groups {
                    section { h3 { (subject(names, labels)) } (group_of_metrics(group)) }
                }
            }
        }
    }
}

fn subject(names: &Names, labels: &Labels) -> String {
    match names.subject(labels) {
        text if text.is_empty() => "Whole run".to_owned(),
        text => text,
    }
}

fn group_of_metrics(metrics: &[&Metric]) -> Markup {
    let repeated = metrics.iter().any(|it| it.values.len() > 1);
    table(
        "metrics",
        html! {
            tr {
                th { "Metric" } th.value { @if repeated { "Median" } @else { "Value" } }
                @if repeated { th.value { "Least to greatest" } th.value { "Runs" } }
                th { "Better" }
            }
            @for metric in metrics {
                tr {
                    td { (metric.name) " " span.soft { (of_value(&metric.labels)) } }
                    td.value { (middle(metric)) }
                    @if repeated {
                        td.value { (spread(metric)) }
                        td.value { (metric.values.len()) }
                    }
                    td.soft { (metric.better.text()) }
                }
            }
        },
    )
}

pub(super) fn events(record: &Record) -> Markup {
    html! {
        @if !record.windows.is_empty() || !record.events.is_empty() {
            h2 { "Windows and events" }
            (table("events", html! {
                tr { th.value { "From" } th.value { "To" } th { "What" } th { "" } }
                @for window in &record.windows {
                    tr {
                        td.value { (shown(window.from, "s")) } td.value { (shown(window.to, "s")) }
                        td { (window.name) } td.soft { "window" }
                    }
                }
                @for event in &record.events {
                    tr {
                        td.value { (shown(event.at, "s")) } td.value { }
                        td { (event.name) } td.soft { (event.detail) }
                    }
                }
            }))
        }
    }
}

pub(super) fn environment(environment: &Environment) -> Markup {
    let [one, five, fifteen] = environment.load_average;
    let cpu = format!("{}, {} cores", environment.cpu, environment.cores);
    let rows = [
        ("Host", environment.host.clone()),
        ("CPU", cpu),
        ("Memory", text::bytes(environment.memory_bytes)),
        ("Kernel", environment.kernel.clone()),
        ("Load average at start", format!("{one} {five} {fifteen}")),
    ];
    html! {
        h2 { "Environment" }
        (table("environment", html! {
            @for (name, value) in rows { tr { th { (name) } td { (value) } } }
            @if let Some(disturbed) = &environment.disturbed {
                tr {
                    th { "CPU used by others" }
                    td {
                        (shown(disturbed.others_cpu_seconds, "s"))
                        " (what was measured is among them if it ran here)"
                    }
                }
                tr { th { "CPU stolen" } td { (shown(disturbed.stolen_seconds, "s")) } }
            }
        }))
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

/// The median of the repetitions.
pub(super) fn middle(metric: &Metric) -> String {
    median(&metric.values).map_or_else(|| "no value".to_owned(), |value| metric.shown(value))
}

fn spread(metric: &Metric) -> String {
    let least = metric.values.iter().copied().reduce(f64::min);
    let greatest = metric.values.iter().copied().reduce(f64::max);
    match (least, greatest) {
        (Some(least), Some(greatest)) => {
            format!("{} to {}", metric.shown(least), metric.shown(greatest))
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::record;

    #[test]
    fn metrics_of_one_subject_are_one_table() {
        let mut record = record();
        for scenario in ["customers", "readers"] {
            for status in ["200", "503"] {
                let labels = [("scenario", scenario), ("status", status)];
                let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
                let metric = Metric::new("responses", "", Better::Neither);
                record
                    .metrics
                    .push(metric.labels(&Labels::from(labels)).value(1.0));
            }
        }
        let page = metrics(&record, &Names::of(&record)).into_string();
        let titles = ["Whole run", "customers", "readers"].map(|it| format!("<h3>{it}</h3>"));
        assert!(titles.iter().all(|title| page.contains(title)), "{page}");
        assert_eq!(page.matches("<table").count(), titles.len(), "{page}");
        assert_eq!(
            page.matches("responses <span class=\"soft\">status=503<")
                .count(),
            2,
            "{page}"
        );
    }
}
