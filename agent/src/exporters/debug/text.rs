//! Values, ids, times and enums as text.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use serde_json::Value as Json;

use crate::calendar::UnixNanos;

/// An attribute value without its type.
pub(super) fn plain(value: Option<&AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        Some(Value::BytesValue(bytes)) => STANDARD.encode(bytes),
        Some(Value::ArrayValue(_) | Value::KvlistValue(_)) => json(value).to_string(),
        Some(Value::BoolValue(value)) => value.to_string(),
        Some(Value::IntValue(value)) => value.to_string(),
        Some(Value::StringValueStrindex(index)) => index.to_string(),
        None => String::new(),
    }
}

/// An attribute value in its type: `Str(text)`.
pub(super) fn typed(value: Option<&AnyValue>) -> String {
    let kind = match value.and_then(|value| value.value.as_ref()) {
        None => "Empty",
        Some(Value::StringValue(_)) => "Str",
        Some(Value::BoolValue(_)) => "Bool",
        Some(Value::IntValue(_)) => "Int",
        Some(Value::DoubleValue(_)) => "Double",
        Some(Value::ArrayValue(_)) => "Slice",
        Some(Value::KvlistValue(_)) => "Map",
        Some(Value::BytesValue(_)) => "Bytes",
        Some(Value::StringValueStrindex(_)) => "StrIndex",
    };
    format!("{kind}({})", plain(value))
}

fn json(value: Option<&AnyValue>) -> Json {
    match value.and_then(|value| value.value.as_ref()) {
        None => Json::Null,
        Some(Value::BoolValue(value)) => (*value).into(),
        Some(Value::IntValue(value)) => (*value).into(),
        Some(Value::DoubleValue(number)) if number.is_finite() => (*number).into(),
        Some(Value::ArrayValue(array)) => {
            array.values.iter().map(|value| json(Some(value))).collect()
        }
        Some(Value::KvlistValue(map)) => {
            let members = map
                .values
                .iter()
                .map(|item| (item.key.clone(), json(item.value.as_ref())));
            Json::Object(members.collect())
        }
        Some(_) => plain(value).into(),
    }
}

/// Attributes as `key=value`, joined by `separator`.
pub(super) fn pairs(attributes: &[KeyValue], separator: &str) -> String {
    let pairs: Vec<String> = attributes
        .iter()
        .map(|item| format!("{}={}", item.key, plain(item.value.as_ref())))
        .collect();
    pairs.join(separator)
}

/// An id in hexadecimal; nothing for the invalid id.
pub(super) struct Id<'a>(pub(super) &'a [u8]);

impl fmt::Display for Id<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.iter().all(|byte| *byte == 0) {
            return Ok(());
        }
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A time in nanoseconds since 1970, as the Collector writes it.
pub(super) struct Time(pub(super) u64);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = UnixNanos(self.0).to_string();
        write!(
            f,
            "{} +0000 UTC",
            text.trim_end_matches('Z').replace('T', " ")
        )
    }
}

/// The name of an enum's value by its number; the number itself where there is none.
pub(super) fn enum_name(names: &[&str], number: i32) -> String {
    usize::try_from(number)
        .ok()
        .and_then(|index| names.get(index))
        .map_or_else(|| number.to_string(), |name| (*name).to_owned())
}

/// `SpanKind`.
pub(super) const SPAN_KINDS: &[&str] = &[
    "Unspecified",
    "Internal",
    "Server",
    "Client",
    "Producer",
    "Consumer",
];

/// `Status.StatusCode`.
pub(super) const STATUS_CODES: &[&str] = &["Unset", "Ok", "Error"];

/// `AggregationTemporality`.
pub(super) const TEMPORALITIES: &[&str] = &["Unspecified", "Delta", "Cumulative"];

/// `SeverityNumber`.
pub(super) const SEVERITIES: &[&str] = &[
    "Unspecified",
    "Trace",
    "Trace2",
    "Trace3",
    "Trace4",
    "Debug",
    "Debug2",
    "Debug3",
    "Debug4",
    "Info",
    "Info2",
    "Info3",
    "Info4",
    "Warn",
    "Warn2",
    "Warn3",
    "Warn4",
    "Error",
    "Error2",
    "Error3",
    "Error4",
    "Fatal",
    "Fatal2",
    "Fatal3",
    "Fatal4",
];
