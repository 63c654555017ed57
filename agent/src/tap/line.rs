//! An item in a line, for people. What it holds is anybody's text: nothing of it may steer the terminal.

use std::fmt::{self, Write as _};

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::{Metric, metric::Data, number_data_point};
use opentelemetry_proto::tonic::trace::v1::Span;

use super::item::{Point, Seen, What};
use crate::calendar::UnixNanos;

/// A longer text is cut: this is for looking, `--json` has everything.
const TEXT_MAX: usize = 400;
/// Attributes beyond these are counted.
const ATTRIBUTES_MAX: usize = 32;
/// Lists within lists are cut here.
const DEPTH_MAX: usize = 3;

const DIM: &str = "\x1b[2m";
const BOLD: &str = "\x1b[1m";
const RED: &str = "\x1b[31m";
const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const CYAN: &str = "\x1b[36m";
const RESET: &str = "\x1b[0m";

/// Appends the line, without its end. Whether it could be written.
pub(super) fn write(out: &mut Vec<u8>, item: &Seen<'_>, colour: bool) -> bool {
    let mut line = Line {
        text: String::new(),
        colour,
    };
    let written = match item.what {
        What::Span(span) => line.span(item, span),
        What::Log(record) => line.log(item, record),
        What::Point(metric, point) => line.point(item, metric, point),
    };
    out.extend_from_slice(line.text.as_bytes());
    written.is_ok()
}

struct Line {
    text: String,
    colour: bool,
}

impl Line {
    fn span(&mut self, item: &Seen<'_>, span: &Span) -> fmt::Result {
        self.time(span.end_time_unix_nano)?;
        let (word, style) = match span.status.as_ref().map_or(0, |status| status.code) {
            1 => ("OK", GREEN),
            2 => ("ERROR", RED),
            _ => ("span", DIM),
        };
        self.styled(style, &format!("{word:<5} "))?;
        self.service(item)?;
        self.styled(BOLD, &plain(&span.name))?;
        let nanos = span
            .end_time_unix_nano
            .saturating_sub(span.start_time_unix_nano);
        write!(self.text, " {}", milliseconds(nanos))?;
        if let Some(status) = span
            .status
            .as_ref()
            .filter(|status| !status.message.is_empty())
        {
            self.styled(RED, &format!(" {}", plain(&status.message)))?;
        }
        self.attributes(&span.attributes)?;
        self.ids(&span.trace_id, &span.span_id)
    }

    fn log(&mut self, item: &Seen<'_>, record: &LogRecord) -> fmt::Result {
        let time = match record.time_unix_nano {
            0 => record.observed_time_unix_nano,
            time => time,
        };
        self.time(time)?;
        let (word, style) = severity(record);
        self.styled(style, &format!("{word:<5} "))?;
        self.service(item)?;
        let body = record.body.as_ref().map(|body| value(body, 0));
        self.text.push_str(&body.unwrap_or_default());
        self.attributes(&record.attributes)?;
        self.ids(&record.trace_id, &record.span_id)
    }

    fn point(&mut self, item: &Seen<'_>, metric: &Metric, point: Point<'_>) -> fmt::Result {
        self.time(point.time())?;
        let kind = match &metric.data {
            Some(Data::Gauge(_)) => "gauge",
            Some(Data::Sum(_)) => "sum",
            Some(Data::Histogram(_) | Data::ExponentialHistogram(_)) => "hist",
            Some(Data::Summary(_)) => "summ",
            None => "",
        };
        self.styled(DIM, &format!("{kind:<5} "))?;
        self.service(item)?;
        self.styled(BOLD, &plain(&metric.name))?;
        write!(self.text, " {}", figures(point))?;
        if !metric.unit.is_empty() {
            write!(self.text, " {}", plain(&metric.unit))?;
        }
        self.attributes(point.attributes())
    }

    /// The time of day, in UTC.
    fn time(&mut self, nanos: u64) -> fmt::Result {
        let text = UnixNanos(nanos / 1_000_000 * 1_000_000).to_string();
        let clock = text.trim_end_matches('Z').split('T').nth(1).unwrap_or("");
        let (seconds, decimals) = clock.split_once('.').unwrap_or((clock, ""));
        self.styled(DIM, &format!("{seconds}.{decimals:0<3} "))
    }

    fn service(&mut self, item: &Seen<'_>) -> fmt::Result {
        let attributes = item
            .resource
            .map_or(&[][..], |resource| &resource.attributes);
        let name = attributes.iter().find(|item| item.key == "service.name");
        let name = name.and_then(|item| item.value.as_ref());
        let name = name.map_or_else(|| "-".to_owned(), |name| value(name, 0));
        self.styled(CYAN, &name)?;
        self.text.push(' ');
        Ok(())
    }

    fn attributes(&mut self, attributes: &[KeyValue]) -> fmt::Result {
        for attribute in attributes.iter().take(ATTRIBUTES_MAX) {
            self.text.push(' ');
            self.styled(DIM, &format!("{}=", plain(&attribute.key)))?;
            let written = attribute.value.as_ref().map(|item| value(item, 0));
            self.text.push_str(&written.unwrap_or_default());
        }
        match attributes.len().saturating_sub(ATTRIBUTES_MAX) {
            0 => Ok(()),
            more => self.styled(DIM, &format!(" and {more} more")),
        }
    }

    fn ids(&mut self, trace: &[u8], span: &[u8]) -> fmt::Result {
        if trace.is_empty() {
            return Ok(());
        }
        self.styled(DIM, &format!(" trace={} span={}", hex(trace), hex(span)))
    }

    fn styled(&mut self, style: &str, text: &str) -> fmt::Result {
        match self.colour {
            true => write!(self.text, "{style}{text}{RESET}"),
            false => self.text.write_str(text),
        }
    }
}

fn severity(record: &LogRecord) -> (String, &'static str) {
    let (word, style) = match record.severity_number {
        1..=4 => ("TRACE", DIM),
        5..=8 => ("DEBUG", DIM),
        9..=12 => ("INFO", GREEN),
        13..=16 => ("WARN", YELLOW),
        17..=20 => ("ERROR", RED),
        21..=24 => ("FATAL", RED),
        _ => ("-", DIM),
    };
    match record.severity_text.as_str() {
        "" => (word.to_owned(), style),
        text => (plain(text), style),
    }
}

fn figures(point: Point<'_>) -> String {
    let totals = |count: u64, sum: Option<f64>| match sum {
        Some(sum) => format!("count={count} sum={sum}"),
        None => format!("count={count}"),
    };
    match point {
        Point::Number(point) => match point.value {
            Some(number_data_point::Value::AsInt(number)) => number.to_string(),
            Some(number_data_point::Value::AsDouble(number)) => number.to_string(),
            None => "-".to_owned(),
        },
        Point::Histogram(point) => totals(point.count, point.sum),
        Point::Exponential(point) => totals(point.count, point.sum),
        Point::Summary(point) => totals(point.count, Some(point.sum)),
    }
}

fn milliseconds(nanos: u64) -> String {
    let millis = nanos as f64 / 1e6;
    match millis {
        1000.0.. => format!("{:.2}s", millis / 1000.0),
        1.0.. => format!("{millis:.1}ms"),
        _ => format!("{:.0}us", millis * 1000.0),
    }
}

/// An id in hexadecimal.
pub(super) fn hex(id: &[u8]) -> String {
    id.iter().fold(String::new(), |mut text, byte| {
        // A String takes everything.
        let _ok = write!(text, "{byte:02x}");
        text
    })
}

fn value(found: &AnyValue, depth: usize) -> String {
    match &found.value {
        None => String::new(),
        Some(Value::StringValue(text)) => plain(text),
        Some(Value::BoolValue(value)) => value.to_string(),
        Some(Value::IntValue(value)) => value.to_string(),
        Some(Value::DoubleValue(value)) => value.to_string(),
        Some(Value::BytesValue(bytes)) => format!("{} bytes", bytes.len()),
        Some(Value::StringValueStrindex(index)) => index.to_string(),
        Some(Value::ArrayValue(_) | Value::KvlistValue(_)) if depth >= DEPTH_MAX => "…".to_owned(),
        Some(Value::ArrayValue(list)) => {
            let items = list.values.iter().take(ATTRIBUTES_MAX);
            let items: Vec<_> = items.map(|item| value(item, depth + 1)).collect();
            format!("[{}]", items.join(", "))
        }
        Some(Value::KvlistValue(map)) => {
            let items = map.values.iter().take(ATTRIBUTES_MAX).map(|item| {
                let written = item.value.as_ref().map(|found| value(found, depth + 1));
                format!("{}={}", plain(&item.key), written.unwrap_or_default())
            });
            format!("{{{}}}", items.collect::<Vec<_>>().join(" "))
        }
    }
}

/// Text that a terminal shows and does not obey, and not too much of it. Control characters, and those that turn the
/// direction of writing around, are written as escapes.
fn plain(text: &str) -> String {
    let is_bad = |letter: char| {
        letter.is_control()
            || matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut shown = String::with_capacity(text.len().min(TEXT_MAX));
    for (place, letter) in text.chars().enumerate() {
        if place == TEXT_MAX {
            shown.push('…');
            break;
        }
        match is_bad(letter) {
            true => shown.extend(letter.escape_default()),
            false => shown.push(letter),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_steer_the_terminal() {
        let check = |text: &str, shown: &str| assert_eq!(plain(text), shown);
        check("käse 🧀", "käse 🧀");
        check("a\nb\x1b[2J", "a\\nb\\u{1b}[2J");
        check("\u{202e}x", "\\u{202e}x");
        assert_eq!(plain(&"x".repeat(500)).chars().count(), TEXT_MAX + 1);
    }

    #[test]
    fn times_are_readable() {
        let check = |nanos, text: &str| assert_eq!(milliseconds(nanos), text);
        check(900, "1us");
        check(12_340_000, "12.3ms");
        check(2_500_000_000, "2.50s");
    }
}
