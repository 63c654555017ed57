//! The view as lines of text with styles: the same on a terminal and without one.

use super::figures::{bytes, duration, rate, short};
use super::view::{ExporterRow, FlowRow, ProcessorRow, ReceiverRow, View, fullness, sum};

/// How a piece of a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Style {
    #[default]
    Plain,
    Dim,
    Title,
    Bad,
    Good,
}

/// A line in pieces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Line(pub(super) Vec<(Style, String)>);

impl Line {
    fn of(style: Style, text: impl Into<String>) -> Self {
        Self(vec![(style, text.into())])
    }

    fn and(mut self, style: Style, text: impl Into<String>) -> Self {
        self.0.push((style, text.into()));
        self
    }

    /// Without styles.
    pub(super) fn text(&self) -> String {
        self.0.iter().map(|(_, text)| text.as_str()).collect()
    }
}

/// What rows are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Order {
    /// As in the configuration.
    #[default]
    Configured,
    Name,
    Rate,
    /// What waits.
    Queued,
    /// What was refused, dropped, or failed.
    Trouble,
}

impl Order {
    pub(super) fn next(self) -> Self {
        match self {
            Self::Configured => Self::Name,
            Self::Name => Self::Rate,
            Self::Rate => Self::Queued,
            Self::Queued => Self::Trouble,
            Self::Trouble => Self::Configured,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Configured => "configuration",
            Self::Name => "name",
            Self::Rate => "rate",
            Self::Queued => "queue",
            Self::Trouble => "trouble",
        }
    }
}

/// What somebody wants to see.
#[derive(Debug, Clone, Default)]
pub(super) struct Wish {
    pub(super) order: Order,
    /// Rows whose names do not have this are left out.
    pub(super) filter: String,
}

/// A row of a table, and what it is sorted by.
struct Row {
    name: String,
    cells: Vec<String>,
    style: Style,
    rate: f64,
    queued: f64,
    trouble: f64,
}

/// Everything.
pub(super) fn lines(view: &View, wish: &Wish) -> Vec<Line> {
    let mut lines = head(view);
    let mut table = |title: &str, columns: &[&str], rows: Vec<Row>| {
        lines.push(Line::default());
        lines.extend(table(title, columns, wish.apply(rows)));
    };
    table(
        "RECEIVERS",
        RECEIVERS,
        view.receivers.iter().map(receiver).collect(),
    );
    table(
        "PIPELINES",
        PIPELINES,
        view.pipelines.iter().map(flow).collect(),
    );
    table(
        "PROCESSORS",
        PROCESSORS,
        view.processors.iter().map(processor).collect(),
    );
    table(
        "EXPORTERS",
        EXPORTERS,
        view.exporters.iter().map(exporter).collect(),
    );
    lines
}

/// What the columns mean.
pub(super) const HELP: &[&str] = &[
    "Rates are items in a second: spans, log records, data points. Totals are since the agent started.",
    "",
    "RECEIVERS   one row for each transport and signal",
    "  in/s, bytes/s   accepted items, and the bytes of their requests, decompressed",
    "  refused/s       sent back for now: memory short, a queue full; the client comes again",
    "  failed          requests that were at fault: malformed, too large",
    "PIPELINES   the ledger, one row for each exporter: accepted = delivered + queued + dropped",
    "  queued          accepted and not settled: held by processors, waiting, or being sent",
    "  dropped         given up, by reason",
    "PROCESSORS  over all pipelines of a signal",
    "EXPORTERS   one row for each signal",
    "  queue           how full, and of what: requests, items or bytes",
    "  oldest          how long the oldest item of a queue on disk has waited",
    "  retries         attempts that had to be made again",
    "  failed, letters items given up, and items in dead letters",
    "",
    "Keys: q or Esc quit   s sort   / filter, Enter keeps it, Esc drops it   p or space pause",
    "      up, down, PageUp, PageDown, Home, End scroll   ? this help",
];

const RECEIVERS: &[&str] = &[
    "receiver",
    "signal",
    "in/s",
    "bytes/s",
    "refused/s",
    "accepted",
    "refused",
    "failed",
];
const PIPELINES: &[&str] = &[
    "pipeline > exporter",
    "signal",
    "in/s",
    "out/s",
    "accepted",
    "delivered",
    "queued",
    "dropped",
];
const PROCESSORS: &[&str] = &[
    "processor",
    "signal",
    "in/s",
    "out/s",
    "refused",
    "rejected",
];
const EXPORTERS: &[&str] = &[
    "exporter", "signal", "sent/s", "bytes/s", "waiting", "queue", "oldest", "sending", "retries",
    "failed", "letters",
];

fn head(view: &View) -> Vec<Line> {
    let row = &view.agent;
    let agent = &row.agent;
    let phase = match agent.phase.as_str() {
        "ready" => Style::Good,
        _ => Style::Bad,
    };
    let cpu = row.cpu_percent;
    let cpu = cpu.map_or_else(|| "-".to_owned(), |cpu| format!("{cpu:.1} %"));
    let mut lines = vec![
        Line::of(Style::Title, format!("tidegate {}", agent.version))
            .and(Style::Plain, format!("  pid {}  ", agent.pid))
            .and(phase, agent.phase.clone())
            .and(
                Style::Plain,
                format!(
                    "  up {}  cpu {cpu}  resident {}  held {}  tasks {}",
                    duration(agent.uptime_seconds),
                    bytes(agent.resident_bytes as f64),
                    bytes(agent.held_bytes as f64),
                    agent.tasks
                ),
            ),
    ];
    lines.extend(limits(view));
    lines.extend(reload(view));
    lines
}

/// How near each memory limiter is to refusing.
fn limits(view: &View) -> Vec<Line> {
    let mut seen: Vec<&str> = Vec::new();
    let mut lines = Vec::new();
    for row in &view.processors {
        let id = row.processor.id.as_str();
        let Some(limit) = row
            .processor
            .memory_limit
            .as_ref()
            .filter(|_| !seen.contains(&id))
        else {
            continue;
        };
        seen.push(id);
        let agent = &view.agent.agent;
        let used = agent.resident_bytes.max(agent.held_bytes) as f64;
        let percent = used / (limit.refuses_above_bytes as f64).max(1.0) * 100.0;
        let text = format!(
            "{id}: {} of {}, {percent:.0} %",
            bytes(used),
            bytes(limit.refuses_above_bytes as f64)
        );
        let style = if percent >= 100.0 {
            Style::Bad
        } else {
            Style::Plain
        };
        lines.push(Line::of(Style::Dim, "memory  ").and(style, text));
    }
    lines
}

fn reload(view: &View) -> Vec<Line> {
    let reload = &view.reload;
    let counts = format!(
        "  ({} taken, {} unchanged, {} refused)",
        reload.reloaded, reload.unchanged, reload.refused
    );
    let line = Line::of(Style::Dim, "reload  ");
    let (Some(outcome), Some(at)) = (&reload.last_outcome, &reload.last_at) else {
        return vec![line.and(Style::Plain, "none since it started")];
    };
    let style = match outcome.as_str() {
        "refused" => Style::Bad,
        _ => Style::Good,
    };
    // Seconds are enough.
    let at = at.split('.').next().unwrap_or(at).trim_end_matches('Z');
    let mut lines = vec![
        line.and(style, outcome.clone())
            .and(Style::Plain, format!(" {at}Z{counts}")),
    ];
    let problems = reload.problems.iter();
    lines.extend(problems.map(|problem| Line::of(Style::Bad, format!("        {problem}"))));
    lines
}

fn receiver(row: &ReceiverRow) -> Row {
    let receiver = &row.receiver;
    let refusing = row.refused_per_second.unwrap_or(0.0);
    Row {
        name: format!("{} {}", receiver.id, receiver.transport),
        cells: vec![
            receiver.signal.clone(),
            rate(row.accepted_per_second),
            row.bytes_per_second.map_or_else(|| "-".to_owned(), bytes),
            rate(row.refused_per_second),
            short(receiver.accepted as f64),
            short(receiver.refused as f64),
            short(receiver.requests_failed as f64),
        ],
        style: if refusing > 0.0 {
            Style::Bad
        } else {
            Style::Plain
        },
        rate: row.accepted_per_second.unwrap_or(0.0),
        queued: 0.0,
        trouble: (receiver.refused + receiver.requests_failed) as f64,
    }
}

fn flow(row: &FlowRow) -> Row {
    let flow = &row.flow;
    let dropped = sum(&flow.dropped);
    let mut reasons: Vec<_> = flow
        .dropped
        .iter()
        .filter(|(_, items)| **items > 0)
        .collect();
    reasons.sort_by(|one, other| other.1.cmp(one.1));
    let reasons: Vec<_> = reasons
        .into_iter()
        .map(|(reason, items)| format!("{reason} {}", short(*items as f64)))
        .collect();
    let dropping = row.dropped_per_second.unwrap_or(0.0);
    let name = format!("{} > {}", row.pipeline, flow.exporter);
    Row {
        name: match row.current {
            true => name,
            false => format!("{name} (before)"),
        },
        cells: vec![
            row.signal.clone(),
            rate(row.accepted_per_second),
            rate(row.delivered_per_second),
            short(flow.accepted as f64),
            short(flow.delivered as f64),
            short(flow.queued as f64),
            match reasons.is_empty() {
                true => "0".to_owned(),
                false => reasons.join(", "),
            },
        ],
        style: match (row.current, dropping > 0.0) {
            (_, true) => Style::Bad,
            (false, _) => Style::Dim,
            (true, _) => Style::Plain,
        },
        rate: row.accepted_per_second.unwrap_or(0.0),
        queued: flow.queued as f64,
        trouble: dropped as f64,
    }
}

fn processor(row: &ProcessorRow) -> Row {
    let processor = &row.processor;
    let rejected = sum(&processor.rejected);
    Row {
        name: processor.id.clone(),
        cells: vec![
            processor.signal.clone(),
            rate(row.incoming_per_second),
            rate(row.outgoing_per_second),
            short(processor.refused as f64),
            short(rejected as f64),
        ],
        style: Style::Plain,
        rate: row.incoming_per_second.unwrap_or(0.0),
        queued: 0.0,
        trouble: (processor.refused + rejected) as f64,
    }
}

fn exporter(row: &ExporterRow) -> Row {
    let exporter = &row.exporter;
    let queue = &exporter.queue;
    let (size, capacity) = (queue.size as f64, queue.capacity as f64);
    let filled = match queue.unit.as_str() {
        "bytes" => format!("{} of {}", bytes(size), bytes(capacity)),
        unit => format!("{} of {} {unit}", short(size), short(capacity)),
    };
    let oldest = queue.oldest_age_seconds;
    let retrying = row.retries_per_second.unwrap_or(0.0);
    let is_bad = retrying > 0.0 || fullness(queue) >= 0.9;
    Row {
        name: exporter.id.clone(),
        cells: vec![
            exporter.signal.clone(),
            rate(row.sent_per_second),
            row.bytes_per_second.map_or_else(|| "-".to_owned(), bytes),
            short(queue.items as f64),
            filled,
            oldest.map_or_else(|| "-".to_owned(), |age| duration(age as f64)),
            short(exporter.in_flight as f64),
            short(exporter.retries as f64),
            short((exporter.failed + exporter.enqueue_failed) as f64),
            short(exporter.dead_letter_items as f64),
        ],
        style: if is_bad { Style::Bad } else { Style::Plain },
        rate: row.sent_per_second.unwrap_or(0.0),
        queued: queue.items as f64,
        trouble: (exporter.failed + exporter.retries + exporter.dead_letter_items) as f64,
    }
}

impl Wish {
    fn apply(&self, mut rows: Vec<Row>) -> Vec<Row> {
        rows.retain(|row| row.name.contains(&self.filter));
        let by =
            |key: fn(&Row) -> f64| move |one: &Row, other: &Row| key(other).total_cmp(&key(one));
        match self.order {
            Order::Configured => {}
            Order::Name => rows.sort_by(|one, other| one.name.cmp(&other.name)),
            Order::Rate => rows.sort_by(by(|row| row.rate)),
            Order::Queued => rows.sort_by(by(|row| row.queued)),
            Order::Trouble => rows.sort_by(by(|row| row.trouble)),
        }
        rows
    }
}

/// Names and signals on the left of their columns, figures on the right.
fn table(title: &str, columns: &[&str], rows: Vec<Row>) -> Vec<Line> {
    let first = columns.first().copied().unwrap_or_default();
    let mut widths: Vec<usize> = columns
        .iter()
        .map(|column| column.chars().count())
        .collect();
    for row in &rows {
        let cells = std::iter::once(&row.name).chain(&row.cells);
        for (width, cell) in widths.iter_mut().zip(cells) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let write = |cells: &mut dyn Iterator<Item = &str>| {
        let padded = cells.zip(&widths).enumerate();
        let padded = padded.map(|(place, (cell, width))| match place {
            0 | 1 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        padded.collect::<Vec<_>>().join("  ")
    };
    let names = columns.iter().skip(1).copied();
    let head = write(&mut std::iter::once(first).chain(names));
    let mut lines = vec![Line::of(Style::Title, title), Line::of(Style::Dim, head)];
    if rows.is_empty() {
        lines.push(Line::of(Style::Dim, "none"));
    }
    for row in rows {
        let cells = row.cells.iter().map(String::as_str);
        let text = write(&mut std::iter::once(row.name.as_str()).chain(cells));
        lines.push(Line::of(row.style, text));
    }
    lines
}
