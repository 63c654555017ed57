//! The OTLP 1.x messages as JSON is read: names, field numbers, and how a value becomes wire format.
//!
//! Source: `opentelemetry/proto/{common,resource,trace,logs,metrics}/v1` and the OTLP/JSON rules of the protocol
//! specification.

use crate::signal::Signal;

/// How a value is read and written.
#[derive(Debug, Clone, Copy)]
pub(super) enum Form {
    String,
    /// Repeated text.
    Strings,
    /// Bytes in base64.
    Base64,
    /// Bytes in hexadecimal: nothing, or exactly so many.
    Id(usize),
    Bool,
    /// A varint of 32 bits.
    Uint32,
    Fixed32,
    /// A varint of 32 bits with sign.
    Int32,
    /// A number, or one of the names.
    Enum(&'static [(&'static str, i32)]),
    /// A zigzag varint.
    Sint32,
    Fixed64,
    Sfixed64,
    /// A varint.
    Int64,
    Double,
    /// Repeated `fixed64`, written packed.
    Fixed64s,
    /// Repeated `uint64` varints, written packed.
    Varints,
    /// Repeated `double`, written packed.
    Doubles,
    One(&'static Message),
    Many(&'static Message),
}

/// One field of a message.
#[derive(Debug)]
pub(super) struct FieldSchema {
    /// In lowerCamelCase.
    pub(super) name: &'static str,
    pub(super) number: u32,
    pub(super) form: Form,
    /// Whether a default value is written too: `optional` fields and the members of a oneof.
    pub(super) explicit: bool,
}

/// A message's fields; at most 32.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) fields: &'static [FieldSchema],
}

impl Message {
    /// The position of the field of that name, in lowerCamelCase or snake_case. Fields mostly come in one order, so the
    /// search starts at `hint`.
    pub(super) fn position(&self, key: &[u8], hint: usize) -> Option<usize> {
        let count = self.fields.len();
        let (before, from_hint) = self.fields.split_at(hint.min(count));
        let found =
            |fields: &[FieldSchema]| fields.iter().position(|field| field.name.as_bytes() == key);
        found(from_hint)
            .map(|position| position + before.len())
            .or_else(|| found(before))
            .or_else(|| {
                let snake = key.contains(&b'_');
                snake.then(|| self.position_of_snake(key)).flatten()
            })
    }

    #[cold]
    fn position_of_snake(&self, key: &[u8]) -> Option<usize> {
        self.fields
            .iter()
            .position(|field| is_snake_of(key, field.name))
    }
}

/// Whether `key` is `camel` in snake_case.
fn is_snake_of(key: &[u8], camel: &str) -> bool {
    let mut rest = key.iter();
    for byte in camel.bytes() {
        if byte.is_ascii_uppercase() && rest.next() != Some(&b'_') {
            return false;
        }
        if rest.next() != Some(&byte.to_ascii_lowercase()) {
            return false;
        }
    }
    rest.next().is_none()
}

/// The request of `signal`.
pub(super) fn request(signal: Signal) -> &'static Message {
    match signal {
        Signal::Traces => &TRACES,
        Signal::Metrics => &METRICS,
        Signal::Logs => &LOGS,
    }
}

const fn field(name: &'static str, number: u32, form: Form) -> FieldSchema {
    FieldSchema {
        name,
        number,
        form,
        explicit: false,
    }
}

const fn explicit(name: &'static str, number: u32, form: Form) -> FieldSchema {
    FieldSchema {
        name,
        number,
        form,
        explicit: true,
    }
}

const fn message(fields: &'static [FieldSchema]) -> Message {
    Message { fields }
}

use Form::{
    Base64, Bool, Double, Doubles, Enum, Fixed32, Fixed64, Fixed64s, Id, Int32, Int64, Many, One,
    Sfixed64, Sint32, String, Strings, Uint32, Varints,
};

const TRACE_ID: Form = Id(16);
const SPAN_ID: Form = Id(8);

// === common, resource ===

static ANY_VALUE: Message = message(&[
    explicit("stringValue", 1, String),
    explicit("boolValue", 2, Bool),
    explicit("intValue", 3, Int64),
    explicit("doubleValue", 4, Double),
    explicit("arrayValue", 5, One(&ARRAY_VALUE)),
    explicit("kvlistValue", 6, One(&KEY_VALUE_LIST)),
    explicit("bytesValue", 7, Base64),
    // An index into the table of strings that only profiles have.
    explicit("stringValueStrindex", 8, Int32),
]);
static ARRAY_VALUE: Message = message(&[field("values", 1, Many(&ANY_VALUE))]);
static KEY_VALUE_LIST: Message = message(&[field("values", 1, Many(&KEY_VALUE))]);
static KEY_VALUE: Message = message(&[
    field("key", 1, String),
    field("value", 2, One(&ANY_VALUE)),
    // As above.
    field("keyStrindex", 3, Int32),
]);
static RESOURCE: Message = message(&[
    field("attributes", 1, Many(&KEY_VALUE)),
    field("droppedAttributesCount", 2, Uint32),
    field("entityRefs", 3, Many(&ENTITY_REF)),
]);
static ENTITY_REF: Message = message(&[
    field("schemaUrl", 1, String),
    field("type", 2, String),
    field("idKeys", 3, Strings),
    field("descriptionKeys", 4, Strings),
]);
static SCOPE: Message = message(&[
    field("name", 1, String),
    field("version", 2, String),
    field("attributes", 3, Many(&KEY_VALUE)),
    field("droppedAttributesCount", 4, Uint32),
]);

// === traces ===

const SPAN_KIND: Form = Enum(&[
    ("SPAN_KIND_UNSPECIFIED", 0),
    ("SPAN_KIND_INTERNAL", 1),
    ("SPAN_KIND_SERVER", 2),
    ("SPAN_KIND_CLIENT", 3),
    ("SPAN_KIND_PRODUCER", 4),
    ("SPAN_KIND_CONSUMER", 5),
]);
const STATUS_CODE: Form = Enum(&[
    ("STATUS_CODE_UNSET", 0),
    ("STATUS_CODE_OK", 1),
    ("STATUS_CODE_ERROR", 2),
]);

static TRACES: Message = message(&[field("resourceSpans", 1, Many(&RESOURCE_SPANS))]);
static RESOURCE_SPANS: Message = message(&[
    field("resource", 1, One(&RESOURCE)),
    field("scopeSpans", 2, Many(&SCOPE_SPANS)),
    field("schemaUrl", 3, String),
]);
static SCOPE_SPANS: Message = message(&[
    field("scope", 1, One(&SCOPE)),
    field("spans", 2, Many(&SPAN)),
    field("schemaUrl", 3, String),
]);
static SPAN: Message = message(&[
    field("traceId", 1, TRACE_ID),
    field("spanId", 2, SPAN_ID),
    field("traceState", 3, String),
    field("parentSpanId", 4, SPAN_ID),
    field("flags", 16, Fixed32),
    field("name", 5, String),
    field("kind", 6, SPAN_KIND),
    field("startTimeUnixNano", 7, Fixed64),
    field("endTimeUnixNano", 8, Fixed64),
    field("attributes", 9, Many(&KEY_VALUE)),
    field("droppedAttributesCount", 10, Uint32),
    field("events", 11, Many(&EVENT)),
    field("droppedEventsCount", 12, Uint32),
    field("links", 13, Many(&LINK)),
    field("droppedLinksCount", 14, Uint32),
    field("status", 15, One(&STATUS)),
]);
static EVENT: Message = message(&[
    field("timeUnixNano", 1, Fixed64),
    field("name", 2, String),
    field("attributes", 3, Many(&KEY_VALUE)),
    field("droppedAttributesCount", 4, Uint32),
]);
static LINK: Message = message(&[
    field("traceId", 1, TRACE_ID),
    field("spanId", 2, SPAN_ID),
    field("traceState", 3, String),
    field("attributes", 4, Many(&KEY_VALUE)),
    field("droppedAttributesCount", 5, Uint32),
    field("flags", 6, Fixed32),
]);
static STATUS: Message = message(&[field("message", 2, String), field("code", 3, STATUS_CODE)]);

// === logs ===

const SEVERITY: Form = Enum(&[
    ("SEVERITY_NUMBER_UNSPECIFIED", 0),
    ("SEVERITY_NUMBER_TRACE", 1),
    ("SEVERITY_NUMBER_TRACE2", 2),
    ("SEVERITY_NUMBER_TRACE3", 3),
    ("SEVERITY_NUMBER_TRACE4", 4),
    ("SEVERITY_NUMBER_DEBUG", 5),
    ("SEVERITY_NUMBER_DEBUG2", 6),
    ("SEVERITY_NUMBER_DEBUG3", 7),
    ("SEVERITY_NUMBER_DEBUG4", 8),
    ("SEVERITY_NUMBER_INFO", 9),
    ("SEVERITY_NUMBER_INFO2", 10),
    ("SEVERITY_NUMBER_INFO3", 11),
    ("SEVERITY_NUMBER_INFO4", 12),
    ("SEVERITY_NUMBER_WARN", 13),
    ("SEVERITY_NUMBER_WARN2", 14),
    ("SEVERITY_NUMBER_WARN3", 15),
    ("SEVERITY_NUMBER_WARN4", 16),
    ("SEVERITY_NUMBER_ERROR", 17),
    ("SEVERITY_NUMBER_ERROR2", 18),
    ("SEVERITY_NUMBER_ERROR3", 19),
    ("SEVERITY_NUMBER_ERROR4", 20),
    ("SEVERITY_NUMBER_FATAL", 21),
    ("SEVERITY_NUMBER_FATAL2", 22),
    ("SEVERITY_NUMBER_FATAL3", 23),
    ("SEVERITY_NUMBER_FATAL4", 24),
]);

static LOGS: Message = message(&[field("resourceLogs", 1, Many(&RESOURCE_LOGS))]);
static RESOURCE_LOGS: Message = message(&[
    field("resource", 1, One(&RESOURCE)),
    field("scopeLogs", 2, Many(&SCOPE_LOGS)),
    field("schemaUrl", 3, String),
]);
static SCOPE_LOGS: Message = message(&[
    field("scope", 1, One(&SCOPE)),
    field("logRecords", 2, Many(&LOG_RECORD)),
    field("schemaUrl", 3, String),
]);
static LOG_RECORD: Message = message(&[
    field("timeUnixNano", 1, Fixed64),
    field("observedTimeUnixNano", 11, Fixed64),
    field("severityNumber", 2, SEVERITY),
    field("severityText", 3, String),
    field("body", 5, One(&ANY_VALUE)),
    field("attributes", 6, Many(&KEY_VALUE)),
    field("droppedAttributesCount", 7, Uint32),
    field("flags", 8, Fixed32),
    field("traceId", 9, TRACE_ID),
    field("spanId", 10, SPAN_ID),
    field("eventName", 12, String),
]);

// === metrics ===

const TEMPORALITY: Form = Enum(&[
    ("AGGREGATION_TEMPORALITY_UNSPECIFIED", 0),
    ("AGGREGATION_TEMPORALITY_DELTA", 1),
    ("AGGREGATION_TEMPORALITY_CUMULATIVE", 2),
]);

static METRICS: Message = message(&[field("resourceMetrics", 1, Many(&RESOURCE_METRICS))]);
static RESOURCE_METRICS: Message = message(&[
    field("resource", 1, One(&RESOURCE)),
    field("scopeMetrics", 2, Many(&SCOPE_METRICS)),
    field("schemaUrl", 3, String),
]);
static SCOPE_METRICS: Message = message(&[
    field("scope", 1, One(&SCOPE)),
    field("metrics", 2, Many(&METRIC)),
    field("schemaUrl", 3, String),
]);
static METRIC: Message = message(&[
    field("name", 1, String),
    field("description", 2, String),
    field("unit", 3, String),
    explicit("gauge", 5, One(&GAUGE)),
    explicit("sum", 7, One(&SUM)),
    explicit("histogram", 9, One(&HISTOGRAM)),
    explicit("exponentialHistogram", 10, One(&EXPONENTIAL_HISTOGRAM)),
    explicit("summary", 11, One(&SUMMARY)),
    field("metadata", 12, Many(&KEY_VALUE)),
]);
static GAUGE: Message = message(&[field("dataPoints", 1, Many(&NUMBER_POINT))]);
static SUM: Message = message(&[
    field("dataPoints", 1, Many(&NUMBER_POINT)),
    field("aggregationTemporality", 2, TEMPORALITY),
    field("isMonotonic", 3, Bool),
]);
static HISTOGRAM: Message = message(&[
    field("dataPoints", 1, Many(&HISTOGRAM_POINT)),
    field("aggregationTemporality", 2, TEMPORALITY),
]);
static EXPONENTIAL_HISTOGRAM: Message = message(&[
    field("dataPoints", 1, Many(&EXPONENTIAL_POINT)),
    field("aggregationTemporality", 2, TEMPORALITY),
]);
static SUMMARY: Message = message(&[field("dataPoints", 1, Many(&SUMMARY_POINT))]);
static NUMBER_POINT: Message = message(&[
    field("attributes", 7, Many(&KEY_VALUE)),
    field("startTimeUnixNano", 2, Fixed64),
    field("timeUnixNano", 3, Fixed64),
    explicit("asDouble", 4, Double),
    explicit("asInt", 6, Sfixed64),
    field("exemplars", 5, Many(&EXEMPLAR)),
    field("flags", 8, Uint32),
]);
static HISTOGRAM_POINT: Message = message(&[
    field("attributes", 9, Many(&KEY_VALUE)),
    field("startTimeUnixNano", 2, Fixed64),
    field("timeUnixNano", 3, Fixed64),
    field("count", 4, Fixed64),
    explicit("sum", 5, Double),
    field("bucketCounts", 6, Fixed64s),
    field("explicitBounds", 7, Doubles),
    field("exemplars", 8, Many(&EXEMPLAR)),
    field("flags", 10, Uint32),
    explicit("min", 11, Double),
    explicit("max", 12, Double),
]);
static EXPONENTIAL_POINT: Message = message(&[
    field("attributes", 1, Many(&KEY_VALUE)),
    field("startTimeUnixNano", 2, Fixed64),
    field("timeUnixNano", 3, Fixed64),
    field("count", 4, Fixed64),
    explicit("sum", 5, Double),
    field("scale", 6, Sint32),
    field("zeroCount", 7, Fixed64),
    field("positive", 8, One(&BUCKETS)),
    field("negative", 9, One(&BUCKETS)),
    field("flags", 10, Uint32),
    field("exemplars", 11, Many(&EXEMPLAR)),
    explicit("min", 12, Double),
    explicit("max", 13, Double),
    field("zeroThreshold", 14, Double),
]);
static BUCKETS: Message = message(&[
    field("offset", 1, Sint32),
    field("bucketCounts", 2, Varints),
]);
static SUMMARY_POINT: Message = message(&[
    field("attributes", 7, Many(&KEY_VALUE)),
    field("startTimeUnixNano", 2, Fixed64),
    field("timeUnixNano", 3, Fixed64),
    field("count", 4, Fixed64),
    field("sum", 5, Double),
    field("quantileValues", 6, Many(&QUANTILE)),
    field("flags", 8, Uint32),
]);
static QUANTILE: Message = message(&[field("quantile", 1, Double), field("value", 2, Double)]);
static EXEMPLAR: Message = message(&[
    field("filteredAttributes", 7, Many(&KEY_VALUE)),
    field("timeUnixNano", 2, Fixed64),
    explicit("asDouble", 3, Double),
    explicit("asInt", 6, Sfixed64),
    field("spanId", 4, SPAN_ID),
    field("traceId", 5, TRACE_ID),
]);

#[cfg(test)]
mod tests {
    use super::super::super::schema::{self, Kind};
    use super::*;

    fn is_same(form: Form, kind: Kind) -> bool {
        match form {
            String | Strings => matches!(kind, Kind::String),
            Base64 => matches!(kind, Kind::Bytes),
            Id(16) => matches!(kind, Kind::TraceId),
            Id(_) => matches!(kind, Kind::SpanId),
            Bool | Uint32 | Enum(_) | Sint32 | Int32 | Int64 => matches!(kind, Kind::Varint),
            Fixed32 => matches!(kind, Kind::Fixed32),
            Fixed64 | Sfixed64 | Double => matches!(kind, Kind::Fixed64),
            Fixed64s | Doubles => matches!(kind, Kind::Fixed64s),
            Varints => matches!(kind, Kind::Varints),
            One(_) => matches!(kind, Kind::Message(_)),
            Many(_) => matches!(kind, Kind::Messages(_)),
        }
    }

    fn compare(ours: &'static Message, wire: &'static schema::Message, depth: u32) {
        assert!(ours.fields.len() <= 32);
        for field in ours.fields {
            let found = wire.field(field.number);
            let found = found.unwrap_or_else(|| panic!("{} is not on the wire", field.name));
            assert!(is_same(field.form, found.kind), "{}", field.name);
            assert!(
                !found.oneof || field.explicit,
                "{} is in a oneof",
                field.name
            );
            if let (
                One(inner) | Many(inner),
                Kind::Message(wire_inner) | Kind::Messages(wire_inner),
            ) = (field.form, found.kind)
                && depth > 0
            {
                compare(inner, wire_inner, depth - 1);
            }
        }
        for number in 1..40 {
            let known = ours.fields.iter().any(|field| field.number == number);
            assert_eq!(
                known,
                wire.field(number).is_some(),
                "field {number} of the message with {}",
                ours.fields[0].name
            );
        }
    }

    #[test]
    fn the_schema_is_that_of_the_wire() {
        for signal in Signal::ALL {
            compare(request(signal), schema::request(signal), 12);
        }
    }

    #[test]
    fn names_are_found_in_both_spellings_from_any_hint() {
        let check = |key: &str, expected: Option<&str>| {
            for hint in 0..=SPAN.fields.len() + 1 {
                let found = SPAN.position(key.as_bytes(), hint);
                let found = found.map(|position| SPAN.fields[position].name);
                assert_eq!(found, expected, "{key} from {hint}");
            }
        };
        check("name", Some("name"));
        check("traceId", Some("traceId"));
        check("trace_id", Some("traceId"));
        check("end_time_unix_nano", Some("endTimeUnixNano"));
        for wrong in [
            "",
            "_",
            "Name",
            "traceid",
            "trace__id",
            "trace_Id",
            "trace_id_",
            "n_ame",
        ] {
            check(wrong, None);
        }
    }
}
