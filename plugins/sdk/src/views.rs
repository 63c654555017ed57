//! What a plugin sees of a batch: spans, log records, metrics, data points, resources, scopes, and their attributes.

use std::time::Duration;

use crate::node::Node;
use crate::shape::Kind;
use crate::value::{self, IntoValue, OwnedValue, Value};
use crate::wire::{self, Fields, Wire};

macro_rules! view {
    ($(#[$about:meta])* $name:ident) => {
        $(#[$about])*
        pub struct $name<'n, 'e>(pub(crate) &'n mut Node<'e>);

        impl std::fmt::Debug for $name<'_, '_> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }
    };
}

macro_rules! has_attributes {
    ($($name:ident)*) => {
        $(impl<'e> $name<'_, 'e> {
            /// Its attributes.
            pub fn attributes(&mut self) -> Attributes<'_, 'e> {
                Attributes(self.0)
            }
        })*
    };
}

macro_rules! can_go {
    ($($name:ident)*) => {
        $(impl $name<'_, '_> {
            /// Drops it, because the operator wants that: it is counted, and its sender is told nothing. `reason` is a
            /// stable word of lower case letters, digits and `_`.
            pub fn drop(&mut self, reason: &str) {
                self.0.lose(reason, None);
            }

            /// Declines it, because it is at fault: its sender is told `message`.
            pub fn reject(&mut self, reason: &str, message: &str) {
                self.0.lose(reason, Some(message));
            }
        })*
    };
}

macro_rules! stands_somewhere {
    ($($name:ident)*) => {
        $(impl $name<'_, '_> {
            /// The attribute of its resource, as it was before this pass.
            pub fn resource_attribute(&self, key: &str) -> Option<Value<'_>> {
                let group = wire::slice(self.0.input, self.0.place.resource_group.clone());
                attribute_in(part(group, 1), Kind::Resource, key)
            }

            /// The name of its scope, as it was before this pass.
            pub fn scope_name(&self) -> &str {
                let group = wire::slice(self.0.input, self.0.place.scope_group.clone());
                let scope = part(group, 1);
                wire::text(part(scope, SCOPE_NAME))
            }
        })*
    };
}

view! {
    /// Where telemetry comes from.
    Resource
}
view! {
    /// The library that made it.
    Scope
}
view! {
    /// A span.
    Span
}
view! {
    /// A log record.
    LogRecord
}
view! {
    /// A metric, with all of its data points.
    Metric
}
view! {
    /// A data point of a metric.
    DataPoint
}
view! {
    /// A span, a log record or a data point.
    Item
}
view! {
    /// An event of a span.
    Event
}
view! {
    /// Attributes: texts with values.
    Attributes
}

has_attributes! { Resource Scope Span LogRecord DataPoint Item Event }
can_go! { Span LogRecord Metric DataPoint Item }
stands_somewhere! { Span LogRecord Metric DataPoint Item Event }

/// The bytes of a field.
fn part(message: &[u8], number: u32) -> &[u8] {
    Fields::new(message, 0..message.len())
        .filter(|field| field.number == number && field.wire == Wire::Bytes)
        .last()
        .map_or(&[], |field| wire::slice(message, field.value))
}

fn attribute_in<'a>(message: &'a [u8], kind: Kind, key: &str) -> Option<Value<'a>> {
    Fields::new(message, 0..message.len())
        .filter(|field| field.number == kind.attributes() && field.wire == Wire::Bytes)
        .map(|field| wire::slice(message, field.value))
        .find(|pair| value::key(pair) == key.as_bytes())
        .map(|pair| value::pair(pair).1)
}

// === Attributes ===

/// What becomes of an attribute.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Change {
    /// It stays.
    #[default]
    Keep,
    /// It goes.
    Remove,
    /// It gets this value.
    Set(OwnedValue),
}

impl Change {
    /// It gets this text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Set(OwnedValue::Str(text.into()))
    }
}

impl Attributes<'_, '_> {
    /// The value of an attribute.
    pub fn get(&mut self, key: &str) -> Option<Value<'_>> {
        self.0.attribute(key)
    }

    /// The value of an attribute, if it is text.
    pub fn get_str(&mut self, key: &str) -> Option<&str> {
        self.get(key).and_then(Value::as_str)
    }

    /// Whether there is one.
    pub fn contains(&mut self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Sets an attribute, whether it was there or not.
    pub fn set(&mut self, key: &str, value: impl IntoValue) {
        self.0.set_attribute(key, &value);
    }

    /// Sets an attribute unless it is there.
    pub fn set_default(&mut self, key: &str, value: impl IntoValue) {
        if !self.contains(key) {
            self.0.write(None, key, &value);
        }
    }

    /// Removes an attribute. Whether it was there.
    pub fn remove(&mut self, key: &str) -> bool {
        self.0.remove_attribute(key)
    }

    /// Gives an attribute another key; one that has that key goes. Whether it was there.
    pub fn rename(&mut self, from: &str, to: &str) -> bool {
        self.0.rename_attribute(from, to)
    }

    /// Looks at each attribute and changes it.
    pub fn update(&mut self, mut change: impl FnMut(&str, Value<'_>) -> Change) {
        let mut cursor = self.0.cursor();
        while let Some((place, pair)) = self.0.next_pair(&mut cursor) {
            let Some((key, value)) = pair.map(value::pair) else {
                continue;
            };
            match change(key, value) {
                Change::Keep => {}
                Change::Remove => self.0.remove_at(place),
                Change::Set(value) => {
                    let key = key.to_owned();
                    self.0.write(Some(place), &key, &value);
                }
            }
        }
    }

    /// Keeps the attributes that `keep` wants.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, Value<'_>) -> bool) {
        self.update(|key, value| match keep(key, value) {
            true => Change::Keep,
            false => Change::Remove,
        });
    }

    /// Looks at each attribute.
    pub fn for_each(&mut self, mut look: impl FnMut(&str, Value<'_>)) {
        let mut cursor = self.0.cursor();
        while let Some((_, pair)) = self.0.next_pair(&mut cursor) {
            if let Some((key, value)) = pair.map(value::pair) {
                look(key, value);
            }
        }
    }
}

// === Resource and scope ===

const SCOPE_NAME: u32 = 1;
const SCOPE_VERSION: u32 = 2;

impl Scope<'_, '_> {
    /// The name of the library.
    pub fn name(&self) -> &str {
        self.0.text(SCOPE_NAME)
    }

    /// Sets the name.
    pub fn set_name(&mut self, name: &str) {
        self.0.set_text(SCOPE_NAME, name);
    }

    /// The version of the library.
    pub fn version(&self) -> &str {
        self.0.text(SCOPE_VERSION)
    }

    /// Sets the version.
    pub fn set_version(&mut self, version: &str) {
        self.0.set_text(SCOPE_VERSION, version);
    }

    /// The attribute of its resource, as it was before this pass.
    pub fn resource_attribute(&self, key: &str) -> Option<Value<'_>> {
        let group = wire::slice(self.0.input, self.0.place.resource_group.clone());
        attribute_in(part(group, 1), Kind::Resource, key)
    }
}

// === Spans ===

/// What a span is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanKind {
    /// Not told.
    Unspecified,
    /// Work within a service.
    Internal,
    /// A request that is served.
    Server,
    /// A request that is made.
    Client,
    /// A message that is sent.
    Producer,
    /// A message that is received.
    Consumer,
}

/// How a span ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Not told.
    Unset,
    /// Well.
    Ok,
    /// In an error.
    Error,
}

mod span {
    pub(super) const TRACE_ID: u32 = 1;
    pub(super) const SPAN_ID: u32 = 2;
    pub(super) const TRACE_STATE: u32 = 3;
    pub(super) const PARENT_SPAN_ID: u32 = 4;
    pub(super) const NAME: u32 = 5;
    pub(super) const KIND: u32 = 6;
    pub(super) const START: u32 = 7;
    pub(super) const END: u32 = 8;
    pub(super) const STATUS: u32 = 15;
    pub(super) const STATUS_MESSAGE: u32 = 2;
    pub(super) const STATUS_CODE: u32 = 3;
}

impl Span<'_, '_> {
    /// The name.
    pub fn name(&self) -> &str {
        self.0.text(span::NAME)
    }

    /// Sets the name.
    pub fn set_name(&mut self, name: &str) {
        self.0.set_text(span::NAME, name);
    }

    /// 16 bytes.
    pub fn trace_id(&self) -> &[u8] {
        self.0.bytes(span::TRACE_ID)
    }

    /// 8 bytes.
    pub fn span_id(&self) -> &[u8] {
        self.0.bytes(span::SPAN_ID)
    }

    /// 8 bytes; none if it is the root of its trace.
    pub fn parent_span_id(&self) -> &[u8] {
        self.0.bytes(span::PARENT_SPAN_ID)
    }

    /// W3C's `tracestate`.
    pub fn trace_state(&self) -> &str {
        self.0.text(span::TRACE_STATE)
    }

    /// Sets W3C's `tracestate`.
    pub fn set_trace_state(&mut self, state: &str) {
        self.0.set_text(span::TRACE_STATE, state);
    }

    /// What it is about.
    pub fn kind(&self) -> SpanKind {
        match self.0.number(span::KIND) {
            1 => SpanKind::Internal,
            2 => SpanKind::Server,
            3 => SpanKind::Client,
            4 => SpanKind::Producer,
            5 => SpanKind::Consumer,
            _ => SpanKind::Unspecified,
        }
    }

    /// When it started, in nanoseconds since 1970.
    pub fn start(&self) -> u64 {
        self.0.number(span::START)
    }

    /// When it ended, in nanoseconds since 1970.
    pub fn end(&self) -> u64 {
        self.0.number(span::END)
    }

    /// How long it took.
    pub fn duration(&self) -> Duration {
        Duration::from_nanos(self.end().saturating_sub(self.start()))
    }

    /// How it ended.
    pub fn status(&self) -> Status {
        let status = self.0.bytes(span::STATUS);
        let code = Fields::new(status, 0..status.len())
            .filter(|field| field.number == span::STATUS_CODE && field.wire == Wire::Varint)
            .last();
        match code.and_then(|field| wire::varint(status, &mut { field.value.start })) {
            Some(1) => Status::Ok,
            Some(2) => Status::Error,
            _ => Status::Unset,
        }
    }

    /// What is said of its end.
    pub fn status_message(&self) -> &str {
        wire::text(part(self.0.bytes(span::STATUS), span::STATUS_MESSAGE))
    }

    /// Sets how it ended.
    pub fn set_status(&mut self, status: Status, message: &str) {
        let mut inner = Vec::new();
        if !message.is_empty() {
            wire::put_bytes(&mut inner, span::STATUS_MESSAGE, message.as_bytes());
        }
        let code = match status {
            Status::Unset => 0,
            Status::Ok => 1,
            Status::Error => 2,
        };
        if code > 0 {
            wire::put_number(&mut inner, span::STATUS_CODE, code);
        }
        self.0
            .set(span::STATUS, |to| wire::put_bytes(to, span::STATUS, &inner));
    }
}

const EVENT_NAME: u32 = 2;

impl Event<'_, '_> {
    /// The name.
    pub fn name(&self) -> &str {
        self.0.text(EVENT_NAME)
    }

    /// Sets the name.
    pub fn set_name(&mut self, name: &str) {
        self.0.set_text(EVENT_NAME, name);
    }

    /// Removes it. It is no item, so this is not counted.
    pub fn remove(&mut self) {
        self.0.lose("", None);
    }
}

// === Log records ===

mod record {
    pub(super) const TIME: u32 = 1;
    pub(super) const SEVERITY_NUMBER: u32 = 2;
    pub(super) const SEVERITY_TEXT: u32 = 3;
    pub(super) const BODY: u32 = 5;
    pub(super) const TRACE_ID: u32 = 9;
    pub(super) const SPAN_ID: u32 = 10;
    pub(super) const OBSERVED: u32 = 11;
    pub(super) const EVENT_NAME: u32 = 12;
}

impl LogRecord<'_, '_> {
    /// 1 to 4 trace, to 8 debug, to 12 info, to 16 warn, to 20 error, to 24 fatal; 0 if not told.
    pub fn severity(&self) -> u32 {
        u32::try_from(self.0.number(record::SEVERITY_NUMBER)).unwrap_or(0)
    }

    /// The severity in the words of its source.
    pub fn severity_text(&self) -> &str {
        self.0.text(record::SEVERITY_TEXT)
    }

    /// Sets the severity, as a number and in words.
    pub fn set_severity(&mut self, number: u32, text: &str) {
        self.0.set(record::SEVERITY_NUMBER, |to| {
            wire::put_number(to, record::SEVERITY_NUMBER, number.into());
        });
        self.0.set_text(record::SEVERITY_TEXT, text);
    }

    /// What it says.
    pub fn body(&self) -> Value<'_> {
        Value::read(self.0.bytes(record::BODY))
    }

    /// Sets what it says.
    pub fn set_body(&mut self, body: impl IntoValue) {
        let mut value = Vec::new();
        body.write_to(&mut value);
        self.0
            .set(record::BODY, |to| wire::put_bytes(to, record::BODY, &value));
    }

    /// The name of the event, if it is one.
    pub fn event_name(&self) -> &str {
        self.0.text(record::EVENT_NAME)
    }

    /// Sets the name of the event.
    pub fn set_event_name(&mut self, name: &str) {
        self.0.set_text(record::EVENT_NAME, name);
    }

    /// When it happened, in nanoseconds since 1970; 0 if not told.
    pub fn time(&self) -> u64 {
        self.0.number(record::TIME)
    }

    /// When it was seen, in nanoseconds since 1970.
    pub fn observed_time(&self) -> u64 {
        self.0.number(record::OBSERVED)
    }

    /// 16 bytes, or none.
    pub fn trace_id(&self) -> &[u8] {
        self.0.bytes(record::TRACE_ID)
    }

    /// 8 bytes, or none.
    pub fn span_id(&self) -> &[u8] {
        self.0.bytes(record::SPAN_ID)
    }
}

// === Metrics ===

mod metric {
    pub(super) const NAME: u32 = 1;
    pub(super) const DESCRIPTION: u32 = 2;
    pub(super) const UNIT: u32 = 3;
}

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Values that rise and fall.
    Gauge,
    /// Values that add up.
    Sum,
    /// Distributions over bounds.
    Histogram,
    /// Distributions over bounds that grow exponentially.
    ExponentialHistogram,
    /// Quantiles.
    Summary,
    /// It has no data.
    Empty,
}

impl Metric<'_, '_> {
    /// The name.
    pub fn name(&self) -> &str {
        self.0.text(metric::NAME)
    }

    /// Sets the name.
    pub fn set_name(&mut self, name: &str) {
        self.0.set_text(metric::NAME, name);
    }

    /// What it is, in words.
    pub fn description(&self) -> &str {
        self.0.text(metric::DESCRIPTION)
    }

    /// Sets the description.
    pub fn set_description(&mut self, description: &str) {
        self.0.set_text(metric::DESCRIPTION, description);
    }

    /// What it is counted in.
    pub fn unit(&self) -> &str {
        self.0.text(metric::UNIT)
    }

    /// Sets the unit.
    pub fn set_unit(&mut self, unit: &str) {
        self.0.set_text(metric::UNIT, unit);
    }

    /// What it is.
    pub fn kind(&self) -> MetricKind {
        for (number, kind) in [
            (5, MetricKind::Gauge),
            (7, MetricKind::Sum),
            (9, MetricKind::Histogram),
            (10, MetricKind::ExponentialHistogram),
            (11, MetricKind::Summary),
        ] {
            if self.0.has(number) {
                return kind;
            }
        }
        MetricKind::Empty
    }
}

/// The value of a data point of a gauge or a sum.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    /// A whole number.
    Int(i64),
    /// A number.
    Double(f64),
}

impl From<i64> for Number {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<f64> for Number {
    fn from(value: f64) -> Self {
        Self::Double(value)
    }
}

mod point {
    pub(super) const START: u32 = 2;
    pub(super) const TIME: u32 = 3;
    pub(super) const DOUBLE: u32 = 4;
    pub(super) const INT: u32 = 6;
}

impl DataPoint<'_, '_> {
    /// The name of its metric, as it was before this pass.
    pub fn metric_name(&self) -> &str {
        let metric = wire::slice(self.0.input, self.0.place.metric.clone());
        wire::text(part(metric, metric::NAME))
    }

    /// The unit of its metric, as it was before this pass.
    pub fn metric_unit(&self) -> &str {
        let metric = wire::slice(self.0.input, self.0.place.metric.clone());
        wire::text(part(metric, metric::UNIT))
    }

    /// When the time began that it is about, in nanoseconds since 1970; 0 if not told.
    pub fn start(&self) -> u64 {
        self.0.number(point::START)
    }

    /// When it was taken, in nanoseconds since 1970.
    pub fn time(&self) -> u64 {
        self.0.number(point::TIME)
    }

    /// Its value, if it is one of a gauge or a sum.
    pub fn value(&self) -> Option<Number> {
        if self.0.kind != Kind::NumberPoint {
            return None;
        }
        if let Some(bits) = self.0.fixed64(point::INT) {
            return Some(Number::Int(bits.cast_signed()));
        }
        let bits = self.0.fixed64(point::DOUBLE)?;
        Some(Number::Double(f64::from_bits(bits)))
    }

    /// Sets its value, if it is one of a gauge or a sum.
    pub fn set_value(&mut self, value: impl Into<Number>) {
        if self.0.kind != Kind::NumberPoint {
            return;
        }
        let (number, other, bytes) = match value.into() {
            Number::Int(value) => (point::INT, point::DOUBLE, value.to_le_bytes()),
            Number::Double(value) => (point::DOUBLE, point::INT, value.to_le_bytes()),
        };
        self.0
            .set(number, |to| wire::put_fixed64(to, number, bytes));
        if self.0.fixed64(other).is_some() {
            self.0.set(other, |_| {});
        }
    }
}
