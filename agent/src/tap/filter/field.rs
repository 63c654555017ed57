//! What of an item a filter can ask for.

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value as Any};
use opentelemetry_proto::tonic::metrics::v1::{metric::Data, number_data_point};

use super::{Found, Value};
use crate::tap::item::{Point, Seen, What};
use crate::tap::line::hex;
use crate::units::HumanDuration;

/// A field of an item. Those that its kind has not are not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Field {
    /// A span's or metric's name, a log record's event name.
    Name,
    /// Of a log record, as a number.
    Severity,
    SeverityText,
    Body,
    /// Of a span.
    Kind,
    Status,
    /// In seconds.
    Duration,
    TraceId,
    SpanId,
    ParentSpanId,
    /// Of a metric: `gauge`, `sum`, `histogram`, `exponential_histogram`, `summary`.
    Type,
    Unit,
    /// Of a data point: its number, or its sum.
    Point,
    ScopeName,
    Attribute(String),
    Resource(String),
    Scope(String),
}

/// The fields that are written as a word.
const WORDS: &[(&str, Field)] = &[
    ("name", Field::Name),
    ("severity", Field::Severity),
    ("severity_text", Field::SeverityText),
    ("body", Field::Body),
    ("kind", Field::Kind),
    ("status", Field::Status),
    ("duration", Field::Duration),
    ("trace_id", Field::TraceId),
    ("span_id", Field::SpanId),
    ("parent_span_id", Field::ParentSpanId),
    ("type", Field::Type),
    ("unit", Field::Unit),
    ("value", Field::Point),
    ("scope", Field::ScopeName),
];

/// The field of an attribute's key.
type OfKey = fn(String) -> Field;

/// The beginnings of the others; the rest is an attribute's key.
const PREFIXES: &[(&str, OfKey)] = &[
    ("attr.", Field::Attribute),
    ("resource.", Field::Resource),
    ("scope.", Field::Scope),
];

const KINDS: &[&str] = &[
    "unspecified",
    "internal",
    "server",
    "client",
    "producer",
    "consumer",
];

const STATUSES: &[&str] = &["unset", "ok", "error"];

/// Names of severities, and the first and last number of each.
const SEVERITIES: &[(&str, f64, f64)] = &[
    ("trace", 1.0, 4.0),
    ("debug", 5.0, 8.0),
    ("info", 9.0, 12.0),
    ("warn", 13.0, 16.0),
    ("error", 17.0, 20.0),
    ("fatal", 21.0, 24.0),
];

impl Field {
    /// The field that is written `text`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut words = WORDS.iter();
        if let Some((_, field)) = words.find(|(word, _)| *word == text) {
            return Ok(field.clone());
        }
        for (prefix, make) in PREFIXES {
            match text.strip_prefix(prefix) {
                Some("") => return Err(format!("`{text}` lacks the attribute's key")),
                Some(key) => return Ok(make(key.to_owned())),
                None => {}
            }
        }
        let words: Vec<_> = WORDS.iter().map(|(word, _)| *word).collect();
        Err(format!(
            "`{text}` is no field: use {}, attr.KEY, resource.KEY or scope.KEY",
            words.join(", ")
        ))
    }

    /// What `text` means beside this field.
    pub(super) fn value(&self, text: &str) -> Result<Value, String> {
        let plain = |number: f64| (number, number);
        let numbers = match self {
            Self::Severity => Some(severity(text)?),
            Self::Duration => Some(plain(seconds(text)?)),
            Self::Kind if !KINDS.contains(&text) => return Err(one_of("kind", text, KINDS)),
            Self::Status if !STATUSES.contains(&text) => {
                return Err(one_of("status", text, STATUSES));
            }
            _ => text.parse().ok().map(plain),
        };
        Ok(Value {
            text: match self {
                // Written in either case.
                Self::TraceId | Self::SpanId | Self::ParentSpanId => text.to_ascii_lowercase(),
                _ => text.to_owned(),
            },
            numbers,
        })
    }

    /// What an item has in this field.
    pub(super) fn of<'a>(&self, item: &Seen<'a>) -> Found<'a> {
        match self {
            Self::Attribute(key) => attribute(attributes(item.what), key),
            Self::Resource(key) => attribute(
                item.resource.map_or(&[], |resource| &resource.attributes),
                key,
            ),
            Self::Scope(key) => attribute(item.scope.map_or(&[], |scope| &scope.attributes), key),
            Self::ScopeName => item.scope.map_or(Found::Nothing, |scope| text(&scope.name)),
            _ => self.of_what(item.what),
        }
    }

    fn of_what<'a>(&self, what: What<'a>) -> Found<'a> {
        match (self, what) {
            (Self::Name, What::Span(span)) => text(&span.name),
            (Self::Name, What::Log(record)) => text(&record.event_name),
            (Self::Name, What::Point(metric, _)) => text(&metric.name),
            (Self::Severity, What::Log(record)) => Found::Number(record.severity_number.into()),
            (Self::SeverityText, What::Log(record)) => text(&record.severity_text),
            (Self::Body, What::Log(record)) => any(record.body.as_ref()),
            (Self::Kind, What::Span(span)) => word(KINDS, span.kind),
            (Self::Status, What::Span(span)) => word(
                STATUSES,
                span.status.as_ref().map_or(0, |status| status.code),
            ),
            (Self::Duration, What::Span(span)) => {
                let (start, end) = (span.start_time_unix_nano, span.end_time_unix_nano);
                Found::Number(end.saturating_sub(start) as f64 / 1e9)
            }
            (Self::TraceId, What::Span(span)) => id(&span.trace_id),
            (Self::TraceId, What::Log(record)) => id(&record.trace_id),
            (Self::SpanId, What::Span(span)) => id(&span.span_id),
            (Self::SpanId, What::Log(record)) => id(&record.span_id),
            (Self::ParentSpanId, What::Span(span)) => id(&span.parent_span_id),
            (Self::Type, What::Point(metric, _)) => data_type(metric.data.as_ref()),
            (Self::Unit, What::Point(metric, _)) => text(&metric.unit),
            (Self::Point, What::Point(_, point)) => figure(point),
            _ => Found::Nothing,
        }
    }
}

fn severity(text: &str) -> Result<(f64, f64), String> {
    if let Ok(number) = text.parse() {
        return Ok((number, number));
    }
    let mut names = SEVERITIES.iter();
    let found = names.find(|(name, ..)| name.eq_ignore_ascii_case(text));
    found
        .map(|(_, first, last)| (*first, *last))
        .ok_or_else(|| {
            format!(
                "severity: `{text}` is no number and none of trace, debug, info, warn, error, fatal"
            )
        })
}

fn seconds(text: &str) -> Result<f64, String> {
    let duration: HumanDuration = text.parse()?;
    Ok(duration.0.as_secs_f64())
}

fn one_of(field: &str, text: &str, words: &[&str]) -> String {
    format!("{field}: `{text}` is none of {}", words.join(", "))
}

fn text(text: &str) -> Found<'_> {
    Found::Text(text.into())
}

fn id(id: &[u8]) -> Found<'_> {
    match id.is_empty() {
        true => Found::Nothing,
        false => Found::Text(hex(id).into()),
    }
}

fn word(words: &'static [&'static str], number: i32) -> Found<'static> {
    let place = usize::try_from(number).ok();
    let word = place.and_then(|place| words.get(place));
    word.map_or_else(|| Found::Number(number.into()), |word| text(word))
}

fn data_type(data: Option<&Data>) -> Found<'static> {
    text(match data {
        None => return Found::Nothing,
        Some(Data::Gauge(_)) => "gauge",
        Some(Data::Sum(_)) => "sum",
        Some(Data::Histogram(_)) => "histogram",
        Some(Data::ExponentialHistogram(_)) => "exponential_histogram",
        Some(Data::Summary(_)) => "summary",
    })
}

fn figure(point: Point<'_>) -> Found<'_> {
    let figure = match point {
        Point::Number(point) => match point.value {
            Some(number_data_point::Value::AsInt(number)) => Some(number as f64),
            Some(number_data_point::Value::AsDouble(number)) => Some(number),
            None => None,
        },
        Point::Histogram(point) => point.sum,
        Point::Exponential(point) => point.sum,
        Point::Summary(point) => Some(point.sum),
    };
    figure.map_or(Found::Nothing, Found::Number)
}

fn attributes(what: What<'_>) -> &[KeyValue] {
    match what {
        What::Span(span) => &span.attributes,
        What::Log(record) => &record.attributes,
        What::Point(_, point) => point.attributes(),
    }
}

fn attribute<'a>(attributes: &'a [KeyValue], key: &str) -> Found<'a> {
    let mut attributes = attributes.iter();
    let found = attributes.find(|attribute| attribute.key == key);
    any(found.and_then(|attribute| attribute.value.as_ref()))
}

/// Lists and maps are there, and have no text.
fn any(value: Option<&AnyValue>) -> Found<'_> {
    match value.and_then(|value| value.value.as_ref()) {
        Some(Any::StringValue(found)) => text(found),
        Some(Any::BoolValue(true)) => text("true"),
        Some(Any::BoolValue(false)) => text("false"),
        Some(Any::IntValue(number)) => Found::Number(*number as f64),
        Some(Any::DoubleValue(number)) => Found::Number(*number),
        Some(Any::BytesValue(bytes)) => Found::Text(hex(bytes).into()),
        Some(Any::ArrayValue(_) | Any::KvlistValue(_)) => text("…"),
        Some(Any::StringValueStrindex(_)) | None => Found::Nothing,
    }
}
