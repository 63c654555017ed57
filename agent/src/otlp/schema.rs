//! The OTLP 1.x messages as data, for the code that is not hot: rewriting, splitting, and the oracle of the tests.
//!
//! Source: `opentelemetry/proto/{common,resource,trace,logs,metrics}/v1`, field numbers and types.

use crate::signal::Signal;

/// What a field holds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Varint,
    Fixed64,
    Fixed32,
    String,
    Bytes,
    TraceId,
    SpanId,
    /// Repeated varints, packed or not.
    Varints,
    /// Repeated fixed64 or double, packed or not.
    Fixed64s,
    /// Repeated messages.
    Messages(&'static Message),
    /// At most one message; when it occurs more than once, the occurrences are merged.
    Message(&'static Message),
}

/// One field of a message.
#[derive(Debug)]
pub(super) struct FieldSchema {
    pub(super) number: u32,
    pub(super) kind: Kind,
    /// Whether it is a member of the message's oneof; no message has two.
    pub(super) oneof: bool,
}

/// A message's fields.
#[derive(Debug)]
pub(super) struct Message {
    fields: &'static [FieldSchema],
}

impl Message {
    /// The field of that number; `None` if it is unknown.
    pub(super) fn field(&self, number: u32) -> Option<&'static FieldSchema> {
        self.fields.iter().find(|field| field.number == number)
    }

    /// Whether some of the fields form a oneof.
    pub(super) fn has_oneof(&self) -> bool {
        self.fields.iter().any(|field| field.oneof)
    }
}

/// The request of `signal`.
pub(super) fn request(signal: Signal) -> &'static Message {
    match signal {
        Signal::Traces => &TRACES,
        Signal::Metrics => &METRICS,
        Signal::Logs => &LOGS,
    }
}

/// Whether `message` is an attribute.
pub(super) fn is_key_value(message: &Message) -> bool {
    std::ptr::eq(message, &KEY_VALUE)
}

use Kind::{
    Bytes, Fixed32, Fixed64, Fixed64s, Message as One, Messages as Many, SpanId, String, TraceId,
    Varint, Varints,
};

const fn message(fields: &'static [FieldSchema]) -> Message {
    Message { fields }
}

const fn field(number: u32, kind: Kind) -> FieldSchema {
    FieldSchema {
        number,
        kind,
        oneof: false,
    }
}

const fn member(number: u32, kind: Kind) -> FieldSchema {
    FieldSchema {
        number,
        kind,
        oneof: true,
    }
}

static TRACES: Message = message(&[field(1, Many(&RESOURCE_SPANS))]);
static RESOURCE_SPANS: Message = message(&[
    field(1, One(&RESOURCE)),
    field(2, Many(&SCOPE_SPANS)),
    field(3, String),
]);
static SCOPE_SPANS: Message = message(&[
    field(1, One(&SCOPE)),
    field(2, Many(&SPAN)),
    field(3, String),
]);

static LOGS: Message = message(&[field(1, Many(&RESOURCE_LOGS))]);
static RESOURCE_LOGS: Message = message(&[
    field(1, One(&RESOURCE)),
    field(2, Many(&SCOPE_LOGS)),
    field(3, String),
]);
static SCOPE_LOGS: Message = message(&[
    field(1, One(&SCOPE)),
    field(2, Many(&LOG_RECORD)),
    field(3, String),
]);

static METRICS: Message = message(&[field(1, Many(&RESOURCE_METRICS))]);
static RESOURCE_METRICS: Message = message(&[
    field(1, One(&RESOURCE)),
    field(2, Many(&SCOPE_METRICS)),
    field(3, String),
]);
static SCOPE_METRICS: Message = message(&[
    field(1, One(&SCOPE)),
    field(2, Many(&METRIC)),
    field(3, String),
]);

static RESOURCE: Message = message(&[
    field(1, Many(&KEY_VALUE)),
    field(2, Varint),
    field(3, Many(&ENTITY_REF)),
]);
static ENTITY_REF: Message = message(&[
    field(1, String),
    field(2, String),
    field(3, String),
    field(4, String),
]);
static SCOPE: Message = message(&[
    field(1, String),
    field(2, String),
    field(3, Many(&KEY_VALUE)),
    field(4, Varint),
]);
static KEY_VALUE: Message = message(&[
    field(1, String),
    field(2, One(&ANY_VALUE)),
    field(3, Varint),
]);
static ANY_VALUE: Message = message(&[
    member(1, String),
    member(2, Varint),
    member(3, Varint),
    member(4, Fixed64),
    member(5, One(&ARRAY)),
    member(6, One(&MAP)),
    member(7, Bytes),
    member(8, Varint),
]);
static ARRAY: Message = message(&[field(1, Many(&ANY_VALUE))]);
static MAP: Message = message(&[field(1, Many(&KEY_VALUE))]);

static SPAN: Message = message(&[
    field(1, TraceId),
    field(2, SpanId),
    field(3, String),
    field(4, SpanId),
    field(5, String),
    field(6, Varint),
    field(7, Fixed64),
    field(8, Fixed64),
    field(9, Many(&KEY_VALUE)),
    field(10, Varint),
    field(11, Many(&EVENT)),
    field(12, Varint),
    field(13, Many(&LINK)),
    field(14, Varint),
    field(15, One(&STATUS)),
    field(16, Fixed32),
]);
static EVENT: Message = message(&[
    field(1, Fixed64),
    field(2, String),
    field(3, Many(&KEY_VALUE)),
    field(4, Varint),
]);
static LINK: Message = message(&[
    field(1, TraceId),
    field(2, SpanId),
    field(3, String),
    field(4, Many(&KEY_VALUE)),
    field(5, Varint),
    field(6, Fixed32),
]);
static STATUS: Message = message(&[field(2, String), field(3, Varint)]);

static LOG_RECORD: Message = message(&[
    field(1, Fixed64),
    field(2, Varint),
    field(3, String),
    field(5, One(&ANY_VALUE)),
    field(6, Many(&KEY_VALUE)),
    field(7, Varint),
    field(8, Fixed32),
    field(9, TraceId),
    field(10, SpanId),
    field(11, Fixed64),
    field(12, String),
]);

static METRIC: Message = message(&[
    field(1, String),
    field(2, String),
    field(3, String),
    member(5, One(&GAUGE)),
    member(7, One(&SUM)),
    member(9, One(&HISTOGRAM)),
    member(10, One(&EXPONENTIAL_HISTOGRAM)),
    member(11, One(&SUMMARY)),
    field(12, Many(&KEY_VALUE)),
]);
static GAUGE: Message = message(&[field(1, Many(&NUMBER_POINT))]);
static SUM: Message = message(&[
    field(1, Many(&NUMBER_POINT)),
    field(2, Varint),
    field(3, Varint),
]);
static HISTOGRAM: Message = message(&[field(1, Many(&HISTOGRAM_POINT)), field(2, Varint)]);
static EXPONENTIAL_HISTOGRAM: Message =
    message(&[field(1, Many(&EXPONENTIAL_POINT)), field(2, Varint)]);
static SUMMARY: Message = message(&[field(1, Many(&SUMMARY_POINT))]);
static NUMBER_POINT: Message = message(&[
    field(2, Fixed64),
    field(3, Fixed64),
    member(4, Fixed64),
    field(5, Many(&EXEMPLAR)),
    member(6, Fixed64),
    field(7, Many(&KEY_VALUE)),
    field(8, Varint),
]);
static HISTOGRAM_POINT: Message = message(&[
    field(2, Fixed64),
    field(3, Fixed64),
    field(4, Fixed64),
    field(5, Fixed64),
    field(6, Fixed64s),
    field(7, Fixed64s),
    field(8, Many(&EXEMPLAR)),
    field(9, Many(&KEY_VALUE)),
    field(10, Varint),
    field(11, Fixed64),
    field(12, Fixed64),
]);
static EXPONENTIAL_POINT: Message = message(&[
    field(1, Many(&KEY_VALUE)),
    field(2, Fixed64),
    field(3, Fixed64),
    field(4, Fixed64),
    field(5, Fixed64),
    field(6, Varint),
    field(7, Fixed64),
    field(8, One(&BUCKETS)),
    field(9, One(&BUCKETS)),
    field(10, Varint),
    field(11, Many(&EXEMPLAR)),
    field(12, Fixed64),
    field(13, Fixed64),
    field(14, Fixed64),
]);
static BUCKETS: Message = message(&[field(1, Varint), field(2, Varints)]);
static SUMMARY_POINT: Message = message(&[
    field(2, Fixed64),
    field(3, Fixed64),
    field(4, Fixed64),
    field(5, Fixed64),
    field(6, Many(&QUANTILE)),
    field(7, Many(&KEY_VALUE)),
    field(8, Varint),
]);
static QUANTILE: Message = message(&[field(1, Fixed64), field(2, Fixed64)]);
static EXEMPLAR: Message = message(&[
    field(2, Fixed64),
    member(3, Fixed64),
    field(4, SpanId),
    field(5, TraceId),
    member(6, Fixed64),
    field(7, Many(&KEY_VALUE)),
]);
