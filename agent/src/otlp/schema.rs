//! The OTLP 1.x messages as data, for the code that is not hot: JSON both ways, rewriting, and the mutations of the tests.
//!
//! Members stand in the order in which JSON has them.
//!
//! Source: `opentelemetry/proto/{common,resource,trace,logs,metrics}/v1` and the OTLP/JSON rules of the protocol
//! specification.

use crate::signal::Signal;

/// What a field holds on the wire, and how JSON writes it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Form {
    /// Text, which has to be UTF-8.
    String,
    /// Repeated text.
    Strings,
    /// Bytes in base64.
    Base64,
    /// A trace or span id in hexadecimal; all zeros is the same as absent.
    Id,
    /// `true` or `false`.
    Bool,
    /// `uint32`, a number.
    Uint32,
    /// `fixed32`, a number.
    Fixed32,
    /// `int32` or an enum, a number.
    Int32,
    /// `sint32` (zigzag), a number.
    Sint32,
    /// `fixed64`, decimal in quotes.
    Fixed64,
    /// `int64`, decimal in quotes.
    Int64,
    /// `sfixed64`, decimal in quotes.
    Sfixed64,
    /// `double`: a number, or one of three words in quotes.
    Double,
    /// Repeated `fixed64`, packed or not.
    Fixed64s,
    /// Repeated `uint64` varints, packed or not.
    Varints,
    /// Repeated `double`, packed or not.
    Doubles,
    /// At most one message; several occurrences on the wire are merged.
    Message(&'static Message),
    /// Repeated messages.
    Messages(&'static Message),
}

impl Form {
    /// Whether it is text, once or repeatedly.
    #[inline]
    pub(super) const fn is_text(self) -> bool {
        matches!(self, Self::String | Self::Strings)
    }

    /// Whether each occurrence on the wire is one element of an array.
    pub(super) const fn is_list(self) -> bool {
        matches!(self, Self::Messages(_) | Self::Strings)
    }

    /// Whether the value is one number or truth value.
    pub(super) const fn is_number(self) -> bool {
        matches!(
            self,
            Self::Bool
                | Self::Uint32
                | Self::Fixed32
                | Self::Int32
                | Self::Sint32
                | Self::Fixed64
                | Self::Int64
                | Self::Sfixed64
                | Self::Double
        )
    }
}

/// When a field that holds its default value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    /// Never: `proto3` without `optional`.
    Implicit,
    /// When it stands on the wire: `optional`.
    Explicit,
    /// When it is the member of the message's oneof that stands last on the wire.
    Oneof,
    /// Always, as `{}` when absent: the messages that the Collector holds by value.
    Always,
}

/// One field of a message.
#[derive(Debug, Clone, Copy)]
pub(super) struct FieldSchema {
    pub(super) number: u32,
    /// The key in JSON with its punctuation: `"name":`.
    pub(super) key: &'static str,
    pub(super) form: Form,
    pub(super) presence: Presence,
}

/// No message has more known fields, nor a higher field number.
pub(super) const FIELDS_MAX: usize = 16;

/// A message's fields.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) fields: &'static [FieldSchema],
    /// By field number: one more than the position in `fields`, or 0.
    positions: [u8; FIELDS_MAX + 1],
    /// The positions, as bits, of the fields that are written even when absent.
    pub(super) always: u32,
    /// Whether some of the fields form a oneof; no message has two.
    pub(super) has_oneof: bool,
}

impl FieldSchema {
    /// Whether it is a member of the message's oneof.
    #[inline]
    pub(super) fn is_member(&self) -> bool {
        self.presence == Presence::Oneof
    }
}

impl Message {
    /// The field of that number; `None` if it is unknown.
    #[inline]
    pub(super) fn field(&self, number: u32) -> Option<&'static FieldSchema> {
        self.indexed(number).map(|(_, field)| field)
    }

    /// The field of that number and its position in `fields`; `None` if it is unknown.
    #[inline]
    pub(super) fn indexed(&self, number: u32) -> Option<(usize, &'static FieldSchema)> {
        let found = self.positions.get(usize::try_from(number).ok()?)?;
        let position = usize::from(*found).checked_sub(1)?;
        Some((position, self.fields.get(position)?))
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
#[inline]
pub(super) fn is_key_value(message: &Message) -> bool {
    std::ptr::eq(message, &KEY_VALUE)
}

const fn message(fields: &'static [FieldSchema]) -> Message {
    assert!(fields.len() <= FIELDS_MAX, "more fields than FIELDS_MAX");
    let mut positions = [0; FIELDS_MAX + 1];
    let mut always = 0;
    let mut has_oneof = false;
    let mut position = 0;
    while position < fields.len() {
        positions[fields[position].number as usize] = position as u8 + 1;
        match fields[position].presence {
            Presence::Always => always |= 1 << position,
            Presence::Oneof => has_oneof = true,
            Presence::Implicit | Presence::Explicit => {}
        }
        position += 1;
    }
    Message {
        fields,
        positions,
        always,
        has_oneof,
    }
}

const fn entry(number: u32, key: &'static str, form: Form, presence: Presence) -> FieldSchema {
    FieldSchema {
        number,
        key,
        form,
        presence,
    }
}

macro_rules! fields {
    ($($number:literal $name:literal $form:expr, $presence:ident;)*) => {
        message(&[$(entry($number, concat!("\"", $name, "\":"), $form, Presence::$presence)),*])
    };
}

use Form::{
    Base64, Bool, Double, Doubles, Fixed32, Fixed64, Fixed64s, Id, Int32, Int64, Message as One,
    Messages as Many, Sfixed64, Sint32, String, Strings, Uint32, Varints,
};

// === common ===

static RESOURCE: Message = fields! {
    1 "attributes" Many(&KEY_VALUE), Implicit;
    2 "droppedAttributesCount" Uint32, Implicit;
    3 "entityRefs" Many(&ENTITY_REF), Implicit;
};
static ENTITY_REF: Message = fields! {
    1 "schemaUrl" String, Implicit;
    2 "type" String, Implicit;
    3 "idKeys" Strings, Implicit;
    4 "descriptionKeys" Strings, Implicit;
};
static SCOPE: Message = fields! {
    1 "name" String, Implicit;
    2 "version" String, Implicit;
    3 "attributes" Many(&KEY_VALUE), Implicit;
    4 "droppedAttributesCount" Uint32, Implicit;
};
static KEY_VALUE: Message = fields! {
    1 "key" String, Implicit;
    2 "value" One(&ANY_VALUE), Always;
    3 "keyStrindex" Int32, Implicit;
};
static ANY_VALUE: Message = fields! {
    1 "stringValue" String, Oneof;
    2 "boolValue" Bool, Oneof;
    3 "intValue" Int64, Oneof;
    4 "doubleValue" Double, Oneof;
    5 "arrayValue" One(&ARRAY), Oneof;
    6 "kvlistValue" One(&MAP), Oneof;
    7 "bytesValue" Base64, Oneof;
    8 "stringValueStrindex" Int32, Oneof;
};
static ARRAY: Message = fields! {
    1 "values" Many(&ANY_VALUE), Implicit;
};
static MAP: Message = fields! {
    1 "values" Many(&KEY_VALUE), Implicit;
};

// === traces ===

static TRACES: Message = fields! {
    1 "resourceSpans" Many(&RESOURCE_SPANS), Implicit;
};
static RESOURCE_SPANS: Message = fields! {
    1 "resource" One(&RESOURCE), Always;
    2 "scopeSpans" Many(&SCOPE_SPANS), Implicit;
    3 "schemaUrl" String, Implicit;
};
static SCOPE_SPANS: Message = fields! {
    1 "scope" One(&SCOPE), Always;
    2 "spans" Many(&SPAN), Implicit;
    3 "schemaUrl" String, Implicit;
};
static SPAN: Message = fields! {
    1 "traceId" Id, Implicit;
    2 "spanId" Id, Implicit;
    3 "traceState" String, Implicit;
    4 "parentSpanId" Id, Implicit;
    16 "flags" Fixed32, Implicit;
    5 "name" String, Implicit;
    6 "kind" Int32, Implicit;
    7 "startTimeUnixNano" Fixed64, Implicit;
    8 "endTimeUnixNano" Fixed64, Implicit;
    9 "attributes" Many(&KEY_VALUE), Implicit;
    10 "droppedAttributesCount" Uint32, Implicit;
    11 "events" Many(&EVENT), Implicit;
    12 "droppedEventsCount" Uint32, Implicit;
    13 "links" Many(&LINK), Implicit;
    14 "droppedLinksCount" Uint32, Implicit;
    15 "status" One(&STATUS), Always;
};
static EVENT: Message = fields! {
    1 "timeUnixNano" Fixed64, Implicit;
    2 "name" String, Implicit;
    3 "attributes" Many(&KEY_VALUE), Implicit;
    4 "droppedAttributesCount" Uint32, Implicit;
};
static LINK: Message = fields! {
    1 "traceId" Id, Implicit;
    2 "spanId" Id, Implicit;
    3 "traceState" String, Implicit;
    4 "attributes" Many(&KEY_VALUE), Implicit;
    5 "droppedAttributesCount" Uint32, Implicit;
    6 "flags" Fixed32, Implicit;
};
static STATUS: Message = fields! {
    2 "message" String, Implicit;
    3 "code" Int32, Implicit;
};

// === logs ===

static LOGS: Message = fields! {
    1 "resourceLogs" Many(&RESOURCE_LOGS), Implicit;
};
static RESOURCE_LOGS: Message = fields! {
    1 "resource" One(&RESOURCE), Always;
    2 "scopeLogs" Many(&SCOPE_LOGS), Implicit;
    3 "schemaUrl" String, Implicit;
};
static SCOPE_LOGS: Message = fields! {
    1 "scope" One(&SCOPE), Always;
    2 "logRecords" Many(&LOG_RECORD), Implicit;
    3 "schemaUrl" String, Implicit;
};
static LOG_RECORD: Message = fields! {
    1 "timeUnixNano" Fixed64, Implicit;
    11 "observedTimeUnixNano" Fixed64, Implicit;
    2 "severityNumber" Int32, Implicit;
    3 "severityText" String, Implicit;
    5 "body" One(&ANY_VALUE), Always;
    6 "attributes" Many(&KEY_VALUE), Implicit;
    7 "droppedAttributesCount" Uint32, Implicit;
    8 "flags" Fixed32, Implicit;
    9 "traceId" Id, Implicit;
    10 "spanId" Id, Implicit;
    12 "eventName" String, Implicit;
};

// === metrics ===

static METRICS: Message = fields! {
    1 "resourceMetrics" Many(&RESOURCE_METRICS), Implicit;
};
static RESOURCE_METRICS: Message = fields! {
    1 "resource" One(&RESOURCE), Always;
    2 "scopeMetrics" Many(&SCOPE_METRICS), Implicit;
    3 "schemaUrl" String, Implicit;
};
static SCOPE_METRICS: Message = fields! {
    1 "scope" One(&SCOPE), Always;
    2 "metrics" Many(&METRIC), Implicit;
    3 "schemaUrl" String, Implicit;
};
static METRIC: Message = fields! {
    1 "name" String, Implicit;
    2 "description" String, Implicit;
    3 "unit" String, Implicit;
    5 "gauge" One(&GAUGE), Oneof;
    7 "sum" One(&SUM), Oneof;
    9 "histogram" One(&HISTOGRAM), Oneof;
    10 "exponentialHistogram" One(&EXPONENTIAL_HISTOGRAM), Oneof;
    11 "summary" One(&SUMMARY), Oneof;
    12 "metadata" Many(&KEY_VALUE), Implicit;
};
static GAUGE: Message = fields! {
    1 "dataPoints" Many(&NUMBER_POINT), Implicit;
};
static SUM: Message = fields! {
    1 "dataPoints" Many(&NUMBER_POINT), Implicit;
    2 "aggregationTemporality" Int32, Implicit;
    3 "isMonotonic" Bool, Implicit;
};
static HISTOGRAM: Message = fields! {
    1 "dataPoints" Many(&HISTOGRAM_POINT), Implicit;
    2 "aggregationTemporality" Int32, Implicit;
};
static EXPONENTIAL_HISTOGRAM: Message = fields! {
    1 "dataPoints" Many(&EXPONENTIAL_POINT), Implicit;
    2 "aggregationTemporality" Int32, Implicit;
};
static SUMMARY: Message = fields! {
    1 "dataPoints" Many(&SUMMARY_POINT), Implicit;
};
static NUMBER_POINT: Message = fields! {
    7 "attributes" Many(&KEY_VALUE), Implicit;
    2 "startTimeUnixNano" Fixed64, Implicit;
    3 "timeUnixNano" Fixed64, Implicit;
    4 "asDouble" Double, Oneof;
    6 "asInt" Sfixed64, Oneof;
    5 "exemplars" Many(&EXEMPLAR), Implicit;
    8 "flags" Uint32, Implicit;
};
static HISTOGRAM_POINT: Message = fields! {
    9 "attributes" Many(&KEY_VALUE), Implicit;
    2 "startTimeUnixNano" Fixed64, Implicit;
    3 "timeUnixNano" Fixed64, Implicit;
    4 "count" Fixed64, Implicit;
    5 "sum" Double, Explicit;
    6 "bucketCounts" Fixed64s, Implicit;
    7 "explicitBounds" Doubles, Implicit;
    8 "exemplars" Many(&EXEMPLAR), Implicit;
    10 "flags" Uint32, Implicit;
    11 "min" Double, Explicit;
    12 "max" Double, Explicit;
};
static EXPONENTIAL_POINT: Message = fields! {
    1 "attributes" Many(&KEY_VALUE), Implicit;
    2 "startTimeUnixNano" Fixed64, Implicit;
    3 "timeUnixNano" Fixed64, Implicit;
    4 "count" Fixed64, Implicit;
    5 "sum" Double, Explicit;
    6 "scale" Sint32, Implicit;
    7 "zeroCount" Fixed64, Implicit;
    8 "positive" One(&BUCKETS), Always;
    9 "negative" One(&BUCKETS), Always;
    10 "flags" Uint32, Implicit;
    11 "exemplars" Many(&EXEMPLAR), Implicit;
    12 "min" Double, Explicit;
    13 "max" Double, Explicit;
    14 "zeroThreshold" Double, Implicit;
};
static BUCKETS: Message = fields! {
    1 "offset" Sint32, Implicit;
    2 "bucketCounts" Varints, Implicit;
};
static SUMMARY_POINT: Message = fields! {
    7 "attributes" Many(&KEY_VALUE), Implicit;
    2 "startTimeUnixNano" Fixed64, Implicit;
    3 "timeUnixNano" Fixed64, Implicit;
    4 "count" Fixed64, Implicit;
    5 "sum" Double, Implicit;
    6 "quantileValues" Many(&QUANTILE), Implicit;
    8 "flags" Uint32, Implicit;
};
static QUANTILE: Message = fields! {
    1 "quantile" Double, Implicit;
    2 "value" Double, Implicit;
};
static EXEMPLAR: Message = fields! {
    7 "filteredAttributes" Many(&KEY_VALUE), Implicit;
    2 "timeUnixNano" Fixed64, Implicit;
    3 "asDouble" Double, Oneof;
    6 "asInt" Sfixed64, Oneof;
    4 "spanId" Id, Implicit;
    5 "traceId" Id, Implicit;
};
