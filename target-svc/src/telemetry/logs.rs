//! Logs on standard error: one JSON object per line, with the ids of the span it was written in.

use std::fmt::{Debug, Write as _};
use std::io::Write as _;

use opentelemetry::Context;
use opentelemetry::trace::TraceContextExt as _;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::layer::{self, Layer};

/// Writes events as they come; spans themselves are not written.
pub(crate) struct JsonLines;

impl<S: Subscriber> Layer<S> for JsonLines {
    fn on_event(&self, event: &Event<'_>, _context: layer::Context<'_, S>) {
        let mut line = render(event);
        line.push('\n');
        // A closed standard error leaves nowhere to complain; the service goes on.
        drop(std::io::stderr().lock().write_all(line.as_bytes()));
    }
}

fn render(event: &Event<'_>) -> String {
    let mut fields = Map::new();
    fields.insert("timestamp".to_owned(), Value::String(now()));
    fields.insert("level".to_owned(), event.metadata().level().as_str().into());
    fields.insert("target".to_owned(), event.metadata().target().into());
    event.record(&mut Fields(&mut fields));
    Context::map_current(|context| {
        let span = context.span();
        let ids = span.span_context();
        if ids.is_valid() {
            fields.insert("trace_id".to_owned(), ids.trace_id().to_string().into());
            fields.insert("span_id".to_owned(), ids.span_id().to_string().into());
        }
    });
    Value::Object(fields).to_string()
}

/// The time in RFC 3339; empty if the clock stands before 1970.
fn now() -> String {
    let mut text = String::new();
    match SystemTime.format_time(&mut Writer::new(&mut text)) {
        Ok(()) => text,
        Err(_) => String::new(),
    }
}

/// Event fields as JSON values.
struct Fields<'a>(&'a mut Map<String, Value>);

impl Fields<'_> {
    fn insert(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.insert(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.insert(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.insert(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.insert(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.insert(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let mut text = String::new();
        write!(text, "{value:?}").expect("a String takes any text");
        self.insert(field, text);
    }
}
