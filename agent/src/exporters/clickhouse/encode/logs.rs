//! Log records as rows of `otel_logs`.

use std::borrow::Cow;

use super::super::native::{Columns, Compressor, Labels, Maps, Stream, Texts, Visit, Words};
use super::hex::push_id;
use super::shared::{Resource, Scope, fill_text, next_field, push_attribute, tag};
use super::value::{append_value, merged};
use super::{EncodeError, LABEL, MAP, SEAL_ROWS, low_u8, seal};
use crate::exporters::queue::Pace;
use crate::otlp::{Field, Fields, Value};

/// The columns of `otel_logs`, being filled.
#[derive(Debug, Default)]
pub(super) struct Logs {
    rows: usize,
    timestamp: Words,
    trace_id: Texts,
    span_id: Texts,
    trace_flags: Stream,
    severity_text: Labels,
    severity_number: Stream,
    service_name: Labels,
    body: Stream,
    resource_schema_url: Labels,
    resource_attributes: Maps,
    scope_schema_url: Labels,
    scope_name: Stream,
    scope_version: Labels,
    scope_attributes: Maps,
    log_attributes: Maps,
    event_name: Stream,
}

impl Columns for Logs {
    fn visit(&mut self, visit: Visit<'_>) -> std::io::Result<()> {
        visit("Timestamp", "DateTime64(9)", &mut self.timestamp)?;
        visit("TraceId", "String", &mut self.trace_id)?;
        visit("SpanId", "String", &mut self.span_id)?;
        visit("TraceFlags", "UInt8", &mut self.trace_flags)?;
        visit("SeverityText", LABEL, &mut self.severity_text)?;
        visit("SeverityNumber", "UInt8", &mut self.severity_number)?;
        visit("ServiceName", LABEL, &mut self.service_name)?;
        visit("Body", "String", &mut self.body)?;
        visit("ResourceSchemaUrl", LABEL, &mut self.resource_schema_url)?;
        visit("ResourceAttributes", MAP, &mut self.resource_attributes)?;
        visit("ScopeSchemaUrl", LABEL, &mut self.scope_schema_url)?;
        visit("ScopeName", "String", &mut self.scope_name)?;
        visit("ScopeVersion", LABEL, &mut self.scope_version)?;
        visit("ScopeAttributes", MAP, &mut self.scope_attributes)?;
        visit("LogAttributes", MAP, &mut self.log_attributes)?;
        visit("EventName", "String", &mut self.event_name)
    }

    fn rows(&self) -> usize {
        self.rows
    }

    fn reset_rows(&mut self) {
        self.rows = 0;
    }
}

impl Logs {
    /// Appends the records of an `ExportLogsServiceRequest`.
    pub(super) async fn request(
        &mut self,
        message: &[u8],
        compressor: &mut Compressor,
        pace: &Pace,
    ) -> Result<(), EncodeError> {
        for field in Fields::new(message) {
            if let Field {
                number: 1,
                value: Value::Bytes(resource_logs),
            } = field?
            {
                self.resource_logs(resource_logs, compressor, pace).await?;
            }
        }
        Ok(())
    }

    async fn resource_logs(
        &mut self,
        message: &[u8],
        compressor: &mut Compressor,
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
                    value: Value::Bytes(scope_logs),
                } => {
                    self.scope_logs(scope_logs, compressor, pace).await?;
                }
                Field {
                    number: 3,
                    value: Value::Bytes(url),
                } => resource.schema_url = url,
                _ => {}
            }
        }
        let rows = self.rows - before;
        self.service_name.repeat(resource.service_name(), rows);
        self.resource_schema_url.repeat(resource.schema_url, rows);
        resource
            .attributes
            .fill(&mut self.resource_attributes, rows, compressor)?;
        Ok(())
    }

    async fn scope_logs(
        &mut self,
        message: &[u8],
        compressor: &mut Compressor,
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
                    value: Value::Bytes(record),
                } => {
                    self.record(record)?;
                    if self.rows.is_multiple_of(SEAL_ROWS) {
                        seal(self, compressor)?;
                    }
                    if self.rows.is_multiple_of(Pace::ITEMS) {
                        pace.rest().await;
                    }
                }
                Field {
                    number: 3,
                    value: Value::Bytes(url),
                } => scope.schema_url = url,
                _ => {}
            }
        }
        let rows = self.rows - before;
        self.scope_schema_url.repeat(scope.schema_url, rows);
        self.scope_version.repeat(scope.version, rows);
        scope
            .attributes
            .fill(&mut self.scope_attributes, rows, compressor)?;
        fill_text(&mut self.scope_name, scope.name, rows, compressor)
    }

    fn record(&mut self, message: &[u8]) -> Result<(), EncodeError> {
        let mut record = Scalars::default();
        let mut fields = Fields::new(message);
        while let Some(field) = next_field(&mut fields, &mut self.log_attributes, tag(6)) {
            let Field { number, value } = field?;
            match (number, value) {
                (1, Value::Fixed64(time)) => record.time = time,
                (2, Value::Varint(severity)) => record.severity = severity,
                (3, Value::Bytes(text)) => record.severity_text = text,
                (5, Value::Bytes(any)) => record.body = Some(merged(record.body, any)),
                (6, Value::Bytes(pair)) => push_attribute(&mut self.log_attributes, pair)?,
                (8, Value::Fixed32(flags)) => record.flags = flags,
                (9, Value::Bytes(id)) => record.trace_id = id,
                (10, Value::Bytes(id)) => record.span_id = id,
                (11, Value::Fixed64(time)) => record.observed = time,
                (12, Value::Bytes(text)) => record.event_name = text,
                _ => {}
            }
        }
        self.log_attributes.end_row();
        self.scalars(&record)?;
        self.rows += 1;
        Ok(())
    }

    fn scalars(&mut self, record: &Scalars<'_>) -> Result<(), EncodeError> {
        let time = if record.time == 0 {
            record.observed
        } else {
            record.time
        };
        self.timestamp.push(time);
        push_id::<16>(self.trace_id.stream(), record.trace_id);
        push_id::<8>(self.span_id.stream(), record.span_id);
        self.trace_flags.u8(low_u8(u64::from(record.flags)));
        self.severity_text.push(record.severity_text);
        self.severity_number.u8(low_u8(record.severity));
        append_value(
            self.body.buffer(),
            record.body.as_deref().unwrap_or_default(),
        )?;
        self.event_name.text(record.event_name);
        Ok(())
    }
}

/// The fields of a record that may come in any order.
#[derive(Debug, Default)]
struct Scalars<'a> {
    time: u64,
    observed: u64,
    severity: u64,
    severity_text: &'a [u8],
    body: Option<Cow<'a, [u8]>>,
    flags: u32,
    trace_id: &'a [u8],
    span_id: &'a [u8],
    event_name: &'a [u8],
}
