//! Twins of the examples `redact`, `filter` and `sample`: the same, over decoded objects and without the SDK. What a plugin makes
//! of a batch has to mean what its twin makes of it.
#![allow(
    clippy::missing_panics_doc,
    reason = "for tests, which fail by panicking"
)]

pub mod batches;
pub mod filter;
pub mod redact;
pub mod sample;

pub use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest as Logs;
pub use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest as Traces;
pub use proptest;
pub use prost::Message;

use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;

/// The text of an attribute.
fn text<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a str> {
    let pair = attributes.iter().find(|pair| pair.key == key)?;
    match pair.value.as_ref()?.value.as_ref()? {
        Any::StringValue(text) => Some(text),
        _ => None,
    }
}

fn string(text: &str) -> AnyValue {
    AnyValue {
        value: Some(Any::StringValue(text.to_owned())),
    }
}

/// Keeps the spans that `keep` wants, given the attributes of their resource; what is emptied by that goes too.
fn retain(traces: &mut Traces, mut keep: impl FnMut(&[KeyValue], &mut Span) -> bool) {
    traces.resource_spans.retain_mut(|group| {
        let resource = group.resource.as_ref();
        let resource = resource.map_or(&[][..], |resource| &resource.attributes);
        let before = group.scope_spans.len();
        group.scope_spans.retain_mut(|scope| {
            let before = scope.spans.len();
            scope.spans.retain_mut(|span| keep(resource, span));
            before == 0 || !scope.spans.is_empty()
        });
        before == group.scope_spans.len() || !group.scope_spans.is_empty()
    });
}
