//! Every field of every item.

mod metrics;

use std::fmt::{self, Write};

use opentelemetry_proto::tonic::collector::{
    logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
    trace::v1::ExportTraceServiceRequest,
};
use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{Span, span::Event, span::Link};
use prost::Message;

use super::RenderError;
use super::text::{Id, SEVERITIES, SPAN_KINDS, STATUS_CODES, Time, enum_name, typed};
use crate::signal::Signal;

/// Appends a request.
pub(super) fn write(text: &mut String, signal: Signal, bytes: &[u8]) -> Result<(), RenderError> {
    match signal {
        Signal::Traces => traces(text, &ExportTraceServiceRequest::decode(bytes)?)?,
        Signal::Metrics => metrics::write(text, &ExportMetricsServiceRequest::decode(bytes)?)?,
        Signal::Logs => logs(text, &ExportLogsServiceRequest::decode(bytes)?)?,
    }
    Ok(())
}

fn traces(text: &mut String, request: &ExportTraceServiceRequest) -> fmt::Result {
    for (index, entry) in request.resource_spans.iter().enumerate() {
        writeln!(text, "ResourceSpans #{index}")?;
        resource(text, &entry.schema_url, entry.resource.as_ref())?;
        for (index, entry) in entry.scope_spans.iter().enumerate() {
            writeln!(text, "ScopeSpans #{index}")?;
            scope(text, "ScopeSpans", &entry.schema_url, entry.scope.as_ref())?;
            for (index, item) in entry.spans.iter().enumerate() {
                writeln!(text, "Span #{index}")?;
                span(text, item)?;
            }
        }
    }
    Ok(())
}

fn logs(text: &mut String, request: &ExportLogsServiceRequest) -> fmt::Result {
    for (index, entry) in request.resource_logs.iter().enumerate() {
        writeln!(text, "ResourceLog #{index}")?;
        resource(text, &entry.schema_url, entry.resource.as_ref())?;
        for (index, entry) in entry.scope_logs.iter().enumerate() {
            writeln!(text, "ScopeLogs #{index}")?;
            scope(text, "ScopeLogs", &entry.schema_url, entry.scope.as_ref())?;
            for (index, item) in entry.log_records.iter().enumerate() {
                writeln!(text, "LogRecord #{index}")?;
                record(text, item)?;
            }
        }
    }
    Ok(())
}

fn resource(text: &mut String, schema_url: &str, resource: Option<&Resource>) -> fmt::Result {
    writeln!(text, "Resource SchemaURL: {schema_url}")?;
    let Some(resource) = resource else {
        return Ok(());
    };
    attributes(text, "", "Resource attributes", &resource.attributes)?;
    dropped(
        text,
        "",
        "DroppedAttributesCount",
        resource.dropped_attributes_count,
    )?;
    for (index, entity) in resource.entity_refs.iter().enumerate() {
        writeln!(text, "EntityRef #{index}")?;
        writeln!(text, "     -> SchemaURL: {}", entity.schema_url)?;
        writeln!(text, "     -> Type: {}", entity.r#type)?;
        writeln!(text, "     -> IdKeys: {}", entity.id_keys.join(", "))?;
        let keys = entity.description_keys.join(", ");
        writeln!(text, "     -> DescriptionKeys: {keys}")?;
    }
    Ok(())
}

fn scope(
    text: &mut String,
    title: &str,
    schema_url: &str,
    scope: Option<&InstrumentationScope>,
) -> fmt::Result {
    writeln!(text, "{title} SchemaURL: {schema_url}")?;
    let Some(scope) = scope else {
        return writeln!(text, "InstrumentationScope");
    };
    writeln!(
        text,
        "InstrumentationScope {} {}",
        scope.name, scope.version
    )?;
    attributes(
        text,
        "",
        "InstrumentationScope attributes",
        &scope.attributes,
    )?;
    dropped(
        text,
        "",
        "DroppedAttributesCount",
        scope.dropped_attributes_count,
    )
}

/// A heading and a line per attribute; nothing without attributes.
fn attributes(text: &mut String, indent: &str, heading: &str, items: &[KeyValue]) -> fmt::Result {
    if items.is_empty() {
        return Ok(());
    }
    writeln!(text, "{indent}{heading}:")?;
    items.iter().try_for_each(|item| {
        let value = typed(item.value.as_ref());
        writeln!(text, "{indent}     -> {}: {value}", item.key)
    })
}

/// A count of what an SDK left out, unless it is 0.
fn dropped(text: &mut String, indent: &str, name: &str, count: u32) -> fmt::Result {
    if count == 0 {
        return Ok(());
    }
    writeln!(text, "{indent}{name}: {count}")
}

fn span(text: &mut String, span: &Span) -> fmt::Result {
    let mut line = |name: &str, value: &dyn fmt::Display| writeln!(text, "    {name:<15}: {value}");
    line("Trace ID", &Id(&span.trace_id))?;
    line("Parent ID", &Id(&span.parent_span_id))?;
    line("ID", &Id(&span.span_id))?;
    line("Name", &span.name)?;
    line("Kind", &enum_name(SPAN_KINDS, span.kind))?;
    if !span.trace_state.is_empty() {
        line("TraceState", &span.trace_state)?;
    }
    line("Start time", &Time(span.start_time_unix_nano))?;
    line("End time", &Time(span.end_time_unix_nano))?;
    let status = span.status.clone().unwrap_or_default();
    line("Status code", &enum_name(STATUS_CODES, status.code))?;
    line("Status message", &status.message)?;
    if span.flags != 0 {
        line("Flags", &span.flags)?;
    }
    dropped(
        text,
        "    ",
        "DroppedAttributesCount",
        span.dropped_attributes_count,
    )?;
    dropped(
        text,
        "    ",
        "DroppedEventsCount",
        span.dropped_events_count,
    )?;
    dropped(text, "    ", "DroppedLinksCount", span.dropped_links_count)?;
    attributes(text, "", "Attributes", &span.attributes)?;
    if !span.events.is_empty() {
        writeln!(text, "Events:")?;
    }
    for (index, item) in span.events.iter().enumerate() {
        writeln!(text, "SpanEvent #{index}")?;
        event(text, item)?;
    }
    if !span.links.is_empty() {
        writeln!(text, "Links:")?;
    }
    for (index, item) in span.links.iter().enumerate() {
        writeln!(text, "SpanLink #{index}")?;
        link(text, item)?;
    }
    Ok(())
}

fn event(text: &mut String, event: &Event) -> fmt::Result {
    writeln!(text, "     -> Name: {}", event.name)?;
    writeln!(text, "     -> Timestamp: {}", Time(event.time_unix_nano))?;
    dropped(
        text,
        "     -> ",
        "DroppedAttributesCount",
        event.dropped_attributes_count,
    )?;
    attributes(text, "     -> ", "Attributes", &event.attributes)
}

fn link(text: &mut String, link: &Link) -> fmt::Result {
    writeln!(text, "     -> Trace ID: {}", Id(&link.trace_id))?;
    writeln!(text, "     -> ID: {}", Id(&link.span_id))?;
    writeln!(text, "     -> TraceState: {}", link.trace_state)?;
    if link.flags != 0 {
        writeln!(text, "     -> Flags: {}", link.flags)?;
    }
    dropped(
        text,
        "     -> ",
        "DroppedAttributesCount",
        link.dropped_attributes_count,
    )?;
    attributes(text, "     -> ", "Attributes", &link.attributes)
}

fn record(text: &mut String, record: &LogRecord) -> fmt::Result {
    writeln!(
        text,
        "ObservedTimestamp: {}",
        Time(record.observed_time_unix_nano)
    )?;
    writeln!(text, "Timestamp: {}", Time(record.time_unix_nano))?;
    writeln!(text, "SeverityText: {}", record.severity_text)?;
    let severity = enum_name(SEVERITIES, record.severity_number);
    writeln!(
        text,
        "SeverityNumber: {severity}({})",
        record.severity_number
    )?;
    if !record.event_name.is_empty() {
        writeln!(text, "EventName: {}", record.event_name)?;
    }
    writeln!(text, "Body: {}", typed(record.body.as_ref()))?;
    attributes(text, "", "Attributes", &record.attributes)?;
    dropped(
        text,
        "",
        "DroppedAttributesCount",
        record.dropped_attributes_count,
    )?;
    writeln!(text, "Trace ID: {}", Id(&record.trace_id))?;
    writeln!(text, "Span ID: {}", Id(&record.span_id))?;
    writeln!(text, "Flags: {}", record.flags)
}
