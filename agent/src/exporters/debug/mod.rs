//! `debug`: telemetry as text for people, on the terminal or in the log.
//!
//! The formats are close to those of the Collector's exporter. They are for reading, not for parsing.

mod detailed;
mod normal;
mod sampler;
mod summary;
#[cfg(test)]
mod tests;
mod text;

use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::sampler::Sampler;
use crate::batch::Payload;
use crate::component::{
    ComponentError, Exporter, ExporterContext, ExporterSettings, Factory, Outcome, Sender,
};
use crate::exporters::queue::{Pace, Ticket};
use crate::exporters::sender::{self, SenderSettings};
use crate::signal::Signal;
use crate::telemetry::{Counter, names};

/// The `debug` exporter.
pub const FACTORY: Factory<dyn ExporterSettings> = Factory {
    kind: "debug",
    summary: "Shows telemetry as text on the terminal or in the agent's log.",
    signals: &Signal::ALL,
    schema: |generator| generator.subschema_for::<DebugOptions>(),
    parse: |section| {
        let options: DebugOptions = section.options()?;
        Some(Box::new(options))
    },
};

/// How much is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verbosity {
    /// A line per batch, with counts.
    #[default]
    Basic,
    /// About a line per span, log record or data point.
    Normal,
    /// Every field.
    Detailed,
}

/// Where text goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output.
    #[default]
    Stdout,
    /// Standard error.
    Stderr,
}

/// `[exporters.debug]`. There is nothing to validate beyond the types.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DebugOptions {
    /// `basic`, `normal` or `detailed`.
    pub verbosity: Verbosity,
    /// Batches shown in each second before sampling begins, for each signal.
    pub sampling_initial: u64,
    /// After those, every so many-th batch is shown: 1 shows all, 0 none.
    pub sampling_thereafter: u64,
    /// `stdout` or `stderr`.
    pub output: Stream,
    /// Whether text goes to the agent's log instead.
    pub use_internal_logger: bool,
}

impl Default for DebugOptions {
    fn default() -> Self {
        Self {
            verbosity: Verbosity::Basic,
            sampling_initial: 2,
            sampling_thereafter: 1,
            output: Stream::Stdout,
            use_internal_logger: false,
        }
    }
}

/// Takes finished text.
type Sink = Arc<dyn Fn(&str) -> io::Result<()> + Send + Sync>;

impl ExporterSettings for DebugOptions {
    fn build(&self, context: &ExporterContext) -> Result<Vec<Sender>, ComponentError> {
        self.build_with(context, &self.sink(&context.id))
    }
}

impl DebugOptions {
    fn build_with(
        &self,
        context: &ExporterContext,
        sink: &Sink,
    ) -> Result<Vec<Sender>, ComponentError> {
        let start = |signal: &Signal| {
            sender::spawn(context, *signal, &SenderSettings::direct(), || {
                DebugExporter {
                    verbosity: self.verbosity,
                    sampler: Sampler::new(self.sampling_initial, self.sampling_thereafter),
                    sink: Arc::clone(sink),
                    bytes: context
                        .telemetry
                        .counter(&names::EXPORTER_BYTES, &[&context.id, signal.name()]),
                }
            })
        };
        context.signals.iter().map(start).collect()
    }

    fn sink(&self, id: &str) -> Sink {
        if self.use_internal_logger {
            let id = id.to_owned();
            return Arc::new(move |text| {
                tracing::info!(exporter = id, "{}", text.trim_end());
                Ok(())
            });
        }
        match self.output {
            Stream::Stdout => Arc::new(|text| print_to(&mut io::stdout().lock(), text)),
            Stream::Stderr => Arc::new(|text| print_to(&mut io::stderr().lock(), text)),
        }
    }
}

fn print_to(stream: &mut impl Write, text: &str) -> io::Result<()> {
    stream.write_all(printable(text).as_bytes())?;
    stream.flush()
}

/// Control characters in telemetry would command the terminal: they are shown as escapes.
fn printable(text: &str) -> std::borrow::Cow<'_, str> {
    let commands = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if !text.contains(commands) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if commands(character) {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown.into()
}

struct DebugExporter {
    verbosity: Verbosity,
    sampler: Sampler,
    sink: Sink,
    bytes: Counter,
}

impl Exporter for DebugExporter {
    /// The text; `None` when sampling left the batch out.
    type Prepared = Option<Arc<str>>;

    async fn prepare(
        &mut self,
        signal: Signal,
        payload: Payload,
        _ticket: &Ticket,
        _pace: &Pace,
    ) -> Result<Self::Prepared, String> {
        if !self.sampler.takes(Instant::now()) {
            return Ok(None);
        }
        let text = render(self.verbosity, signal, &payload);
        text.map(|text| Some(text.into()))
            .map_err(|error| format!("show a batch: {error}"))
    }

    async fn send(&mut self, prepared: &mut Self::Prepared, _: Option<Duration>) -> Outcome {
        let Some(text) = prepared.clone() else {
            return Outcome::Delivered;
        };
        let sink = Arc::clone(&self.sink);
        self.bytes.inc_by(text.len() as u64);
        // A terminal may be slow, and a pipe may be full.
        let shown = tokio::task::spawn_blocking(move || sink(&text)).await;
        match shown {
            Ok(Ok(())) => Outcome::Delivered,
            Ok(Err(error)) => Outcome::Rejected {
                cause: format!("write debug output: {error}"),
                items: None,
            },
            Err(error) => Outcome::Rejected {
                cause: format!("write debug output: {error}"),
                items: None,
            },
        }
    }
}

/// Why a batch cannot be shown.
#[derive(Debug, thiserror::Error)]
enum RenderError {
    #[error("not a valid request: {0}")]
    Wire(#[from] crate::otlp::WireError),
    #[error("not a valid request: {0}")]
    Decode(#[from] prost::DecodeError),
    #[error("the text cannot be formed")]
    Format(#[from] fmt::Error),
}

fn render(verbosity: Verbosity, signal: Signal, payload: &Payload) -> Result<String, RenderError> {
    let mut text = summary::line(signal, payload)?;
    match verbosity {
        Verbosity::Basic => {}
        Verbosity::Normal => normal::write(&mut text, signal, &payload.to_bytes())?,
        Verbosity::Detailed => detailed::write(&mut text, signal, &payload.to_bytes())?,
    }
    Ok(text)
}
