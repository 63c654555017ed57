//! Partial success: the far side has taken a request, but not all of its items.
//!
//! Source: `Export*PartialSuccess` in the OTLP protocol. It is an answer, not a failure: what was declined is counted and
//! told to the operator, and nothing is sent again.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;
use tracing::warn;

use super::verdict::varint_field;
use crate::component::ExporterContext;
use crate::otlp::{Fields, Value};
use crate::signal::Signal;
use crate::telemetry::{Counter, names};

/// What the far side declined. No items and a message is a warning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Partial {
    items: u64,
    message: String,
}

/// Messages are cut here.
const MESSAGE_MAX: usize = 600;

impl Partial {
    /// From an `Export*ServiceResponse` in wire format; `None` where everything was taken, or where it cannot be read.
    pub(super) fn from_protobuf(response: &[u8]) -> Option<Self> {
        let field = Fields::new(response)
            .filter_map(Result::ok)
            .find(|field| field.number == 1)?;
        let Value::Bytes(partial) = field.value else {
            return None;
        };
        let text = Fields::new(partial)
            .filter_map(Result::ok)
            .find_map(|field| match field.value {
                Value::Bytes(text) if field.number == 2 => Some(String::from_utf8_lossy(text)),
                _ => None,
            });
        // It is an int64; a negative count means nothing.
        let items = varint_field(partial, 1).ok()?;
        let items = i64::try_from(items).map_or(0, i64::unsigned_abs);
        Self::new(items, &text.unwrap_or_default())
    }

    /// The same in OTLP/JSON.
    pub(super) fn from_json(response: &[u8]) -> Option<Self> {
        let response: JsonResponse = serde_json::from_slice(response).ok()?;
        let partial = response.partial_success?;
        let items = match partial.rejected? {
            Count::Number(count) => count,
            Count::Text(text) => text.parse().ok()?,
        };
        Self::new(items, &partial.error_message)
    }

    fn new(items: u64, message: &str) -> Option<Self> {
        let message: String = message
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(MESSAGE_MAX)
            .collect();
        (items > 0 || !message.is_empty()).then_some(Self { items, message })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonResponse {
    #[serde(alias = "partial_success")]
    partial_success: Option<JsonPartial>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonPartial {
    #[serde(
        alias = "rejectedSpans",
        alias = "rejectedDataPoints",
        alias = "rejectedLogRecords",
        default = "no_items"
    )]
    rejected: Option<Count>,
    #[serde(default)]
    error_message: String,
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "the type of the field it is the default of"
)]
fn no_items() -> Option<Count> {
    Some(Count::Number(0))
}

/// 64-bit integers are text in protobuf's JSON; some servers write numbers.
#[derive(Deserialize)]
#[serde(untagged)]
enum Count {
    Number(u64),
    Text(String),
}

/// Counts what the far side declined, and tells the operator from time to time.
#[derive(Debug)]
pub(super) struct Report {
    exporter: String,
    signal: Signal,
    rejected: Counter,
    /// Guards when it was told last, and what has come together since.
    since: Mutex<Since>,
}

#[derive(Debug, Default)]
struct Since {
    told: Option<Instant>,
    items: u64,
    answers: u64,
}

/// A far side that declines something of every request is told of this often.
const TELL_INTERVAL: Duration = Duration::from_secs(10);

impl Report {
    /// For one signal of an exporter.
    pub(super) fn new(context: &ExporterContext, signal: Signal) -> Self {
        let labels = [context.id.as_str()];
        Self {
            exporter: context.id.clone(),
            signal,
            rejected: context
                .telemetry
                .item_counter(&names::OTLP_REJECTED, signal, &labels),
            since: Mutex::default(),
        }
    }

    /// Notes the answer to a request of `sent` items.
    pub(super) fn note(&self, partial: &Partial, sent: usize) {
        // It cannot have declined more than it was sent.
        let items = partial.items.min(sent as u64);
        self.rejected.inc_by(items);
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        since.items += items;
        since.answers += 1;
        if since
            .told
            .is_some_and(|told| told.elapsed() < TELL_INTERVAL)
        {
            return;
        }
        let Since { items, answers, .. } = *since;
        *since = Since {
            told: Some(Instant::now()),
            ..Since::default()
        };
        drop(since);
        warn!(
            exporter = self.exporter,
            signal = %self.signal,
            rejected = items,
            answers,
            message = partial.message,
            "the far side took a request, but not all of it"
        );
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1::{
        ExportTracePartialSuccess, ExportTraceServiceResponse,
    };
    use prost::Message;

    use super::*;
    use crate::testing::{exporter_context, metric};

    fn partial(items: u64, message: &str) -> Option<Partial> {
        Some(Partial {
            items,
            message: message.to_owned(),
        })
    }

    #[test]
    fn protobuf_is_read() {
        let check = |rejected_spans, message: &str, expected| {
            let response = ExportTraceServiceResponse {
                partial_success: Some(ExportTracePartialSuccess {
                    rejected_spans,
                    error_message: message.to_owned(),
                }),
            };
            assert_eq!(Partial::from_protobuf(&response.encode_to_vec()), expected);
        };
        check(3, "too old", partial(3, "too old"));
        check(0, "soon full", partial(0, "soon full"));
        check(3, "", partial(3, ""));
        check(0, "", None);
        check(-3, "odd", partial(0, "odd"));
        assert_eq!(Partial::from_protobuf(b""), None);
        assert_eq!(Partial::from_protobuf(b"\xff\xff"), None);
        assert_eq!(Partial::from_protobuf(b"\x08\x01"), None);
    }

    #[test]
    fn json_is_read() {
        let check = |text: &str, expected| {
            assert_eq!(Partial::from_json(text.as_bytes()), expected, "{text}");
        };
        check(
            r#"{"partialSuccess":{"rejectedSpans":"3","errorMessage":"no"}}"#,
            partial(3, "no"),
        );
        check(
            r#"{"partialSuccess":{"rejectedLogRecords":2}}"#,
            partial(2, ""),
        );
        check(
            r#"{"partialSuccess":{"rejectedDataPoints":"1"},"more":1}"#,
            partial(1, ""),
        );
        check(
            r#"{"partialSuccess":{"errorMessage":"hm"}}"#,
            partial(0, "hm"),
        );
        for nothing in ["{}", r#"{"partialSuccess":{}}"#, "", "[]", "oops"] {
            check(nothing, None);
        }
    }

    #[test]
    fn what_is_declined_is_counted() {
        let context = exporter_context(&[Signal::Logs]);
        let report = Report::new(&context, Signal::Logs);
        report.note(&partial(3, "no").unwrap(), 10);
        report.note(&partial(u64::MAX, "no").unwrap(), 10);
        let name = "tidegate_otlp_rejected_log_records{exporter=\"test\"}";
        assert_eq!(metric(&context.telemetry, name), 13.0);
    }
}
