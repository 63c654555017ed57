//! The pages, all but that of spans.

use std::time::{Duration, SystemTime};

use http::StatusCode;

use super::super::page::{Cell, Page};
use crate::admin::{self, Answer};
use crate::calendar::UnixNanos;
use crate::health::{Health, Phase};
use crate::process;
use crate::signal::Signal;
use crate::status::{Aggregate, EXTENSIONS, PIPELINE, Priority, Statuses};
use crate::telemetry::Telemetry;
use crate::telemetry::figures::Figures;
use crate::telemetry::names::{self, Spec};

/// The ways between the pages.
pub(super) const LINKS: &[(&str, &str)] = &[
    ("Service", "/debug/servicez"),
    ("Pipelines", "/debug/pipelinez"),
    ("Extensions", "/debug/extensionz"),
    ("Spans", "/debug/tracez"),
    ("Configuration", "/debug/configz"),
    ("Features", "/debug/featurez"),
];

/// Where what is shown comes from.
pub(super) struct Pages {
    pub(super) health: Health,
    pub(super) statuses: Statuses,
    pub(super) telemetry: Telemetry,
}

impl Pages {
    /// The process, and how it is as a whole.
    pub(super) fn service(&self) -> Answer {
        let mut page = Page::new("Service", LINKS);
        let uptime = self.health.since().elapsed();
        let started = SystemTime::now().checked_sub(uptime);
        let phase = match self.health.phase() {
            Phase::Starting => "starting",
            Phase::Ready => "ready",
            Phase::Stopping => "stopping",
        };
        let all = self.statuses.aggregate(Priority::Permanent);
        let row = |name: &str, value: String| vec![Cell::text(name), Cell::Text(value)];
        let rows = [
            row("Version", format!("tidegate {}", env!("CARGO_PKG_VERSION"))),
            row(
                "Platform",
                format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            ),
            row("Process", std::process::id().to_string()),
            row("Started", started.map_or_else(String::new, moment)),
            row("Uptime", rounded(uptime)),
            row("Phase", phase.to_owned()),
            row("Status", described(&all)),
            row("Memory resident", bytes(process::resident_bytes())),
            row("Processor time", format!("{:.2} s", process::cpu_seconds())),
        ];
        page.table(&[], rows);
        self.last_reload(&mut page);
        page.answer()
    }

    fn last_reload(&self, page: &mut Page) {
        page.heading("Configuration");
        let Some(reloaded) = self.health.reloaded() else {
            return page.paragraph("As it was when the agent started.");
        };
        page.paragraph(&format!(
            "Last read again at {}: {}.",
            moment(reloaded.at),
            reloaded.outcome
        ));
        if !reloaded.problems.is_empty() {
            page.verbatim(&reloaded.problems.join("\n"));
        }
    }

    /// What every pipeline is made of, how it is, and what went through it.
    pub(super) fn pipelines(&self) -> Answer {
        let mut page = Page::new("Pipelines", LINKS);
        let all = self.statuses.aggregate(Priority::Permanent);
        let figures = self.telemetry.figures();
        for (key, pipeline) in &all.components {
            let Some(id) = key.strip_prefix(PIPELINE) else {
                continue;
            };
            page.heading(id);
            page.paragraph(&described(pipeline));
            let signal = Signal::of_pipeline(id).unwrap_or(Signal::Traces);
            let components = pipeline.components.iter();
            let rows = components.map(|(key, component)| {
                let (kind, name) = key.split_once(':').unwrap_or((key, ""));
                let [taken, passed, more] = traffic(&figures, kind, name, id, signal);
                vec![
                    Cell::text(kind),
                    Cell::text(name),
                    Cell::Text(described(component)),
                    Cell::Text(since(component)),
                    Cell::Number(taken),
                    Cell::Number(passed),
                    Cell::Text(more),
                ]
            });
            let heads = [
                "Kind",
                "Component",
                "Status",
                "Since",
                "Items in",
                "Items out",
                "More",
            ];
            page.table(&heads, rows);
        }
        if !all.components.keys().any(|key| key.starts_with(PIPELINE)) {
            page.paragraph("None runs yet.");
        }
        page.paragraph(
            "Receivers, processors and exporters count for all pipelines of a signal that they are in; what an exporter took in \
             counts for this pipeline.",
        );
        page.answer()
    }

    /// The extensions and how they are.
    pub(super) fn extensions(&self) -> Answer {
        let mut page = Page::new("Extensions", LINKS);
        let mut all = self.statuses.aggregate(Priority::Permanent);
        let extensions = all.components.remove(EXTENSIONS);
        let components = extensions.map(|of| of.components).unwrap_or_default();
        let rows = components.iter().map(|(key, component)| {
            let (_, name) = key.split_once(':').unwrap_or(("", key));
            vec![
                Cell::text(name),
                Cell::Text(described(component)),
                Cell::Text(since(component)),
            ]
        });
        page.table(&["Extension", "Status", "Since"], rows);
        page.answer()
    }

    /// The Collector lists its feature gates here.
    pub(super) fn features(&self) -> Answer {
        let mut page = Page::new("Features", LINKS);
        page.paragraph(
            "There are no feature gates: what the agent can do is in every build, and what it does stands in its configuration.",
        );
        page.answer()
    }

    /// The configuration that runs, without secrets.
    pub(super) fn configuration(&self) -> Answer {
        let mut page = Page::new("Configuration", LINKS);
        page.paragraph("What runs, from all sources, merged and expanded. Secrets are not shown.");
        match self.health.shown() {
            Some(shown) => page.verbatim(&shown.toml),
            None => page.paragraph("Nothing runs yet."),
        }
        self.last_reload(&mut page);
        page.answer()
    }

    /// All figures, for programs.
    pub(super) fn figures(&self) -> Answer {
        let figures = serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "uptime_seconds": self.health.since().elapsed().as_secs_f64(),
            "cpu_seconds": process::cpu_seconds(),
            "memory_resident_bytes": process::resident_bytes(),
            "metrics": self.telemetry.figures().by_name(),
        });
        let body = serde_json::to_vec_pretty(&figures).expect("texts and numbers are JSON");
        admin::answer(StatusCode::OK, "application/json", body)
    }
}

/// Items that came in, items that went out, and what else there is to know.
fn traffic(
    figures: &Figures,
    kind: &str,
    name: &str,
    pipeline: &str,
    signal: Signal,
) -> [String; 3] {
    let sum =
        |spec: &Spec, signal, labels: &[(&str, &str)]| figure(figures.sum(spec, signal, labels));
    match kind {
        "receiver" => {
            let labels = [("receiver", name)];
            let refused = sum(&names::RECEIVER_REFUSED, Some(signal), &labels);
            let accepted = sum(&names::RECEIVER_ACCEPTED, Some(signal), &labels);
            [String::new(), accepted, format!("{refused} refused")]
        }
        "processor" => {
            let labels = [("processor", name), ("otel_signal", signal.name())];
            [
                sum(&names::PROCESSOR_INCOMING, None, &labels),
                sum(&names::PROCESSOR_OUTGOING, None, &labels),
                String::new(),
            ]
        }
        "exporter" => {
            let account = [("exporter", name), ("pipeline", pipeline)];
            let ledger = |spec| sum(spec, None, &account);
            let of_queue = [("exporter", name), ("data_type", signal.name())];
            let more = format!(
                "{} waiting, {} dropped; queue {} of {}",
                ledger(&names::LEDGER_QUEUED),
                ledger(&names::LEDGER_DROPPED),
                sum(&names::EXPORTER_QUEUE_SIZE, None, &of_queue),
                sum(&names::EXPORTER_QUEUE_CAPACITY, None, &of_queue),
            );
            [
                ledger(&names::LEDGER_ACCEPTED),
                ledger(&names::LEDGER_DELIVERED),
                more,
            ]
        }
        _ => [const { String::new() }; 3],
    }
}

/// `OK`, or the error with its cause.
fn described(aggregate: &Aggregate) -> String {
    let status = aggregate.event.status.name().trim_start_matches("Status");
    match &aggregate.event.error {
        Some(error) => format!("{status}: {error}"),
        None => status.to_owned(),
    }
}

fn since(aggregate: &Aggregate) -> String {
    let event = &aggregate.event;
    format!(
        "{} ({} ago)",
        moment(event.at),
        rounded(event.since.elapsed())
    )
}

/// To the second.
pub(super) fn moment(time: SystemTime) -> String {
    let nanos = UnixNanos::from(time).0;
    UnixNanos(nanos - nanos % 1_000_000_000).to_string()
}

/// As exact as a person wants it.
pub(super) fn rounded(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{:.3} ms", duration.as_secs_f64() * 1e3),
        1..60 => format!("{:.1} s", duration.as_secs_f64()),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

pub(super) fn bytes(bytes: u64) -> String {
    match bytes {
        0..10_240 => format!("{bytes} B"),
        10_240..10_485_760 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}

fn figure(figure: Option<f64>) -> String {
    figure.map_or_else(|| "-".to_owned(), |figure| figure.to_string())
}
