//! Spans as rows of `otel_traces`.

use super::super::native::{
    Array, Column, Columns, Compressor, Labels, Maps, Offsets, Stream, Texts, Visit, Words,
};
use super::hex::push_id;
use super::shared::{Resource, Scope, fill_text, next_field, push_attribute, tag};
use super::{Adjusted, EncodeError, LABEL, MAP, MAPS, SEAL_ROWS, enum_name, seal};
use crate::exporters::queue::Pace;
use crate::otlp::{Field, Fields, Value};

const KINDS: [&[u8]; 6] = [
    b"Unspecified",
    b"Internal",
    b"Server",
    b"Client",
    b"Producer",
    b"Consumer",
];
const STATUSES: [&[u8]; 3] = [b"Unset", b"Ok", b"Error"];

/// The columns of `otel_traces`, being filled.
#[derive(Debug, Default)]
pub(super) struct Traces {
    rows: usize,
    timestamp: Words,
    trace_id: Texts,
    span_id: Texts,
    parent_span_id: Texts,
    trace_state: Stream,
    span_name: Labels,
    span_kind: Labels,
    service_name: Labels,
    resource_attributes: Maps,
    scope_name: Stream,
    scope_version: Stream,
    span_attributes: Maps,
    duration: Words,
    status_code: Labels,
    status_message: Stream,
    events: Offsets,
    event_timestamp: Stream,
    event_name: Labels,
    event_attributes: Maps,
    links: Offsets,
    link_trace_id: Texts,
    link_span_id: Texts,
    link_trace_state: Stream,
    link_attributes: Maps,
}

impl Columns for Traces {
    fn visit(&mut self, visit: Visit<'_>) -> std::io::Result<()> {
        visit("Timestamp", "DateTime64(9)", &mut self.timestamp)?;
        visit("TraceId", "String", &mut self.trace_id)?;
        visit("SpanId", "String", &mut self.span_id)?;
        visit("ParentSpanId", "String", &mut self.parent_span_id)?;
        visit("TraceState", "String", &mut self.trace_state)?;
        visit("SpanName", LABEL, &mut self.span_name)?;
        visit("SpanKind", LABEL, &mut self.span_kind)?;
        visit("ServiceName", LABEL, &mut self.service_name)?;
        visit("ResourceAttributes", MAP, &mut self.resource_attributes)?;
        visit("ScopeName", "String", &mut self.scope_name)?;
        visit("ScopeVersion", "String", &mut self.scope_version)?;
        visit("SpanAttributes", MAP, &mut self.span_attributes)?;
        visit("Duration", "UInt64", &mut self.duration)?;
        visit("StatusCode", LABEL, &mut self.status_code)?;
        visit("StatusMessage", "String", &mut self.status_message)?;
        let mut array = |name, kind, offsets: &mut Offsets, elements: &mut dyn Column| {
            visit(name, kind, &mut Array { offsets, elements })
        };
        let events = &mut self.events;
        array(
            "Events.Timestamp",
            "Array(DateTime64(9))",
            events,
            &mut self.event_timestamp,
        )?;
        array(
            "Events.Name",
            "Array(LowCardinality(String))",
            events,
            &mut self.event_name,
        )?;
        array(
            "Events.Attributes",
            MAPS,
            events,
            &mut self.event_attributes,
        )?;
        let links = &mut self.links;
        array(
            "Links.TraceId",
            "Array(String)",
            links,
            &mut self.link_trace_id,
        )?;
        array(
            "Links.SpanId",
            "Array(String)",
            links,
            &mut self.link_span_id,
        )?;
        array(
            "Links.TraceState",
            "Array(String)",
            links,
            &mut self.link_trace_state,
        )?;
        array("Links.Attributes", MAPS, links, &mut self.link_attributes)
    }

    fn rows(&self) -> usize {
        self.rows
    }

    fn reset_rows(&mut self) {
        self.rows = 0;
    }
}

impl Traces {
    /// Appends the spans of an `ExportTraceServiceRequest`.
    pub(super) async fn request(
        &mut self,
        message: &[u8],
        compressor: &mut Compressor,
        adjusted: &mut Adjusted,
        pace: &Pace,
    ) -> Result<(), EncodeError> {
        for field in Fields::new(message) {
            if let Field {
                number: 1,
                value: Value::Bytes(resource_spans),
            } = field?
            {
                self.resource_spans(resource_spans, compressor, adjusted, pace)
                    .await?;
            }
        }
        Ok(())
    }

    async fn resource_spans(
        &mut self,
        message: &[u8],
        compressor: &mut Compressor,
        adjusted: &mut Adjusted,
        pace: &Pace,
    ) -> Result<(), EncodeError> {
        let before = self.rows;
        let mut resource = Resource::default();
        for field in Fields::new(message) {
            match field? {
                Field {
                    number: 1,
                    value: Value::Bytes(fields),
                } => resource.read(fields)?,
                Field {
                    number: 2,
                    value: Value::Bytes(scope_spans),
                } => {
                    self.scope_spans(scope_spans, compressor, adjusted, pace)
                        .await?;
                }
                _ => {}
            }
        }
        let rows = self.rows - before;
        self.service_name.repeat(resource.service_name(), rows);
        resource
            .attributes
            .fill(&mut self.resource_attributes, rows, compressor)?;
        Ok(())
    }

    async fn scope_spans(
        &mut self,
        message: &[u8],
        compressor: &mut Compressor,
        adjusted: &mut Adjusted,
        pace: &Pace,
    ) -> Result<(), EncodeError> {
        let before = self.rows;
        let mut scope = Scope::default();
        for field in Fields::new(message) {
            match field? {
                Field {
                    number: 1,
                    value: Value::Bytes(fields),
                } => scope.read(fields)?,
                Field {
                    number: 2,
                    value: Value::Bytes(span),
                } => {
                    self.span(span, adjusted)?;
                    if self.rows.is_multiple_of(SEAL_ROWS) {
                        seal(self, compressor)?;
                    }
                    if self.rows.is_multiple_of(Pace::ITEMS) {
                        pace.rest().await;
                    }
                }
                _ => {}
            }
        }
        let rows = self.rows - before;
        fill_text(&mut self.scope_name, scope.name, rows, compressor)?;
        fill_text(&mut self.scope_version, scope.version, rows, compressor)
    }

    fn span(&mut self, message: &[u8], adjusted: &mut Adjusted) -> Result<(), EncodeError> {
        let mut span = Scalars::default();
        let mut fields = Fields::new(message);
        while let Some(field) = next_field(&mut fields, &mut self.span_attributes, tag(9)) {
            let Field { number, value } = field?;
            match (number, value) {
                (1, Value::Bytes(id)) => span.trace_id = id,
                (2, Value::Bytes(id)) => span.span_id = id,
                (3, Value::Bytes(text)) => span.trace_state = text,
                (4, Value::Bytes(id)) => span.parent_span_id = id,
                (5, Value::Bytes(text)) => span.name = text,
                (6, Value::Varint(kind)) => span.kind = kind,
                (7, Value::Fixed64(time)) => span.start = time,
                (8, Value::Fixed64(time)) => span.end = time,
                (9, Value::Bytes(pair)) => push_attribute(&mut self.span_attributes, pair)?,
                (11, Value::Bytes(event)) => self.event(event)?,
                (13, Value::Bytes(link)) => self.link(link)?,
                (15, Value::Bytes(status)) => span.status(status)?,
                _ => {}
            }
        }
        self.span_attributes.end_row();
        self.events.end_row();
        self.links.end_row();
        self.scalars(&span, adjusted);
        self.rows += 1;
        Ok(())
    }

    fn scalars(&mut self, span: &Scalars<'_>, adjusted: &mut Adjusted) {
        self.timestamp.push(span.start);
        push_id::<16>(self.trace_id.stream(), span.trace_id);
        push_id::<8>(self.span_id.stream(), span.span_id);
        push_id::<8>(self.parent_span_id.stream(), span.parent_span_id);
        self.trace_state.text(span.trace_state);
        self.span_name.push(span.name);
        self.span_kind.push(enum_name(&KINDS, span.kind));
        if span.end < span.start {
            adjusted.negative_durations += 1;
        }
        self.duration.push(span.end.saturating_sub(span.start));
        self.status_code
            .push(enum_name(&STATUSES, span.status_code));
        self.status_message.text(span.status_message);
    }

    fn event(&mut self, message: &[u8]) -> Result<(), EncodeError> {
        let (mut time, mut name): (u64, &[u8]) = (0, &[]);
        for field in Fields::new(message) {
            let Field { number, value } = field?;
            match (number, value) {
                (1, Value::Fixed64(nanos)) => time = nanos,
                (2, Value::Bytes(text)) => name = text,
                (3, Value::Bytes(pair)) => push_attribute(&mut self.event_attributes, pair)?,
                _ => {}
            }
        }
        self.event_timestamp.u64(time);
        self.event_name.push(name);
        self.event_attributes.end_row();
        self.events.add();
        Ok(())
    }

    fn link(&mut self, message: &[u8]) -> Result<(), EncodeError> {
        let (mut trace_id, mut span_id, mut trace_state): (&[u8], &[u8], &[u8]) = (&[], &[], &[]);
        for field in Fields::new(message) {
            let Field { number, value } = field?;
            match (number, value) {
                (1, Value::Bytes(id)) => trace_id = id,
                (2, Value::Bytes(id)) => span_id = id,
                (3, Value::Bytes(text)) => trace_state = text,
                (4, Value::Bytes(pair)) => push_attribute(&mut self.link_attributes, pair)?,
                _ => {}
            }
        }
        push_id::<16>(self.link_trace_id.stream(), trace_id);
        push_id::<8>(self.link_span_id.stream(), span_id);
        self.link_trace_state.text(trace_state);
        self.link_attributes.end_row();
        self.links.add();
        Ok(())
    }
}

/// The fields of a span that may come in any order.
#[derive(Debug, Default)]
struct Scalars<'a> {
    trace_id: &'a [u8],
    span_id: &'a [u8],
    parent_span_id: &'a [u8],
    trace_state: &'a [u8],
    name: &'a [u8],
    kind: u64,
    start: u64,
    end: u64,
    status_code: u64,
    status_message: &'a [u8],
}

impl<'a> Scalars<'a> {
    /// Adds the fields of a `Status`. Several are read as one.
    fn status(&mut self, message: &'a [u8]) -> Result<(), EncodeError> {
        for field in Fields::new(message) {
            let Field { number, value } = field?;
            match (number, value) {
                (2, Value::Bytes(text)) => self.status_message = text,
                (3, Value::Varint(code)) => self.status_code = code,
                _ => {}
            }
        }
        Ok(())
    }
}
