//! The exporter itself: prepares a batch once, and sends each table until the server has it.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::available_parallelism;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

use super::encode::{Adjusted, Block, EncodeError, Encoder};
use super::failure::{Class, Failure};
use super::native::Method;
use super::schema::Watch;
use super::servers::Servers;
use super::settings::Settings;
use super::token::Token;
use crate::batch::Payload;
use crate::component::{ComponentError, Exporter, ExporterContext, Outcome, Sender};
use crate::exporters::queue::{Pace, Ticket};
use crate::exporters::sender;
use crate::memory::Reservation;
use crate::signal::Signal;
use crate::telemetry::{Counter, Telemetry, names};

/// Builds the exporter for every signal it is fed with.
pub(super) fn build(
    settings: &Settings,
    context: &ExporterContext,
) -> Result<Vec<Sender>, ComponentError> {
    let shared = Arc::new(Shared::new(settings, context)?);
    let make = |signal: &Signal| {
        let sent_bytes = context
            .telemetry
            .counter(&names::EXPORTER_BYTES, &[&context.id, signal.name()]);
        sender::spawn(context, *signal, &settings.sender, || ClickHouse {
            shared: Arc::clone(&shared),
            sent_bytes: sent_bytes.clone(),
        })
    };
    ComponentError::all(context.signals.iter().map(make))
}

fn adjusted(context: &ExporterContext, reason: &str) -> Counter {
    context
        .telemetry
        .counter(&names::CLICKHOUSE_ADJUSTED, &[&context.id, reason])
}

/// What all workers of one exporter share.
struct Shared {
    servers: Servers,
    encoders: Encoders,
    id: String,
    names: super::schema::Names,
    telemetry: Telemetry,
    negative_durations: Counter,
    metrics_without_data: Counter,
}

impl Shared {
    fn new(settings: &Settings, context: &ExporterContext) -> Result<Self, ComponentError> {
        Ok(Self {
            servers: Servers::new(
                settings.clone(),
                context.authenticators.pass(settings.auth.as_ref()),
                Watch::new(&context.id, &context.telemetry, settings.endpoints.len()),
            )
            .map_err(|cause| cause.below("tls"))?,
            encoders: Encoders::new(settings.method)
                .map_err(|cause| ComponentError::new("set up compression", cause).at("compress"))?,
            id: context.id.clone(),
            names: settings.layout.names.clone(),
            telemetry: context.telemetry.clone(),
            negative_durations: adjusted(context, "negative_duration"),
            metrics_without_data: adjusted(context, "metric_without_data"),
        })
    }
}

/// One worker.
struct ClickHouse {
    shared: Arc<Shared>,
    sent_bytes: Counter,
}

/// A batch ready to be sent, table by table.
struct Prepared {
    signal: Signal,
    /// The tables that the server does not have yet.
    parts: Vec<Part>,
    ticket: Ticket,
    /// Whether the server has some of its tables, now or since before.
    stored: bool,
    /// Rows that the server will never take, and why.
    rejected: Option<(usize, String)>,
}

struct Part {
    block: Block,
    token: Token,
    /// Its body's memory, counted where the payload's was. Nobody is asked for it: it takes the payload's place.
    _held: Option<Reservation>,
}

impl Exporter for ClickHouse {
    type Prepared = Prepared;

    async fn prepare(
        &mut self,
        signal: Signal,
        payload: Payload,
        ticket: &Ticket,
        pace: &Pace,
    ) -> Result<Prepared, String> {
        let shared = &self.shared;
        let mut adjusted = Adjusted::default();
        let turn = shared.encoders.turn().await;
        let mut encoder = shared.encoders.take().map_err(|error| error.to_string())?;
        let blocks = encode(&mut encoder, signal, &payload, &mut adjusted, pace).await;
        shared.encoders.put_back(encoder);
        drop(turn);
        let blocks = blocks.map_err(|error| error.to_string())?;
        shared
            .negative_durations
            .inc_by(adjusted.negative_durations);
        shared
            .metrics_without_data
            .inc_by(adjusted.metrics_without_data);
        let held = payload.held_in();
        let stored = blocks
            .iter()
            .any(|block| ticket.is_done(block.table.name()));
        let parts = blocks
            .into_iter()
            .filter(|block| !ticket.is_done(block.table.name()))
            .map(|block| Part {
                token: Token::new(format!("{}-{}", ticket.name(), block.table.name())),
                _held: held.map(|held| held.reserve(block.body.len())),
                block,
            })
            .collect();
        Ok(Prepared {
            signal,
            parts,
            ticket: ticket.clone(),
            stored,
            rejected: None,
        })
    }

    async fn send(&mut self, prepared: &mut Prepared, _: Option<Duration>) -> Outcome {
        // Taken out one by one as they are settled: what is left after a cancelled attempt is what is missing.
        while let Some(part) = prepared.parts.last_mut() {
            let result = self
                .shared
                .servers
                .insert(prepared.signal, &part.block, &mut part.token)
                .await;
            match result {
                Ok(()) => {
                    self.count(part);
                    prepared.stored = true;
                    prepared.ticket.part_done(part.block.table.name());
                }
                Err(Failure {
                    class,
                    message,
                    after,
                    ..
                }) => match class {
                    Class::Rejected => {
                        let (rows, cause) = prepared.rejected.get_or_insert_default();
                        *rows += part.block.rows;
                        *cause = message;
                    }
                    Class::TooLarge => return Outcome::TooLarge { cause: message },
                    _ => {
                        return Outcome::Retry {
                            cause: message,
                            after,
                        };
                    }
                },
            }
            prepared.parts.pop();
        }
        match prepared.rejected.take() {
            Some((items, cause)) => Outcome::Rejected {
                cause,
                // Where nothing of it is stored, it may be divided and sent under other names.
                items: prepared.stored.then_some(items),
            },
            None => Outcome::Delivered,
        }
    }
}

impl ClickHouse {
    fn count(&self, part: &Part) {
        let Part { block, token, .. } = part;
        let Shared {
            id,
            names,
            telemetry,
            ..
        } = &*self.shared;
        let labels = [id.as_str(), names.of(block.table)];
        let rows = telemetry.counter(&names::CLICKHOUSE_ROWS, &labels);
        rows.inc_by(block.rows as u64);
        if token.is_repeat() {
            telemetry.counter(&names::CLICKHOUSE_REPEATS, &labels).inc();
        }
        self.sent_bytes.inc_by(block.body.len() as u64);
    }
}

async fn encode(
    encoder: &mut Encoder,
    signal: Signal,
    payload: &Payload,
    adjusted: &mut Adjusted,
    pace: &Pace,
) -> Result<Vec<Block>, EncodeError> {
    let mut encoding = encoder.begin(signal);
    for chunk in payload.chunks() {
        encoding.add(chunk.bytes(), adjusted, pace).await?;
    }
    encoding.finish()
}

/// Encoders with their buffers, as many as work at the same time, which is never more than there are threads.
struct Encoders {
    method: Method,
    /// As many as there are threads: who rests amid a batch keeps its turn, or each batch under way would have buffers.
    turns: Semaphore,
    /// Guards the idle ones.
    idle: Mutex<Vec<Box<Encoder>>>,
}

/// Idle encoders beyond this many are dropped.
const IDLE_ENCODERS_MAX: usize = 16;

impl Encoders {
    fn new(method: Method) -> std::io::Result<Self> {
        let first = Encoder::new(method)?;
        Ok(Self {
            method,
            turns: Semaphore::new(available_parallelism().map_or(1, usize::from)),
            idle: Mutex::new(vec![Box::new(first)]),
        })
    }

    async fn turn(&self) -> SemaphorePermit<'_> {
        self.turns.acquire().await.expect("nobody closes it")
    }

    /// In a box: it is 17 KiB long, and workers' futures would be that much longer.
    fn take(&self) -> std::io::Result<Box<Encoder>> {
        let idle = self
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        idle.map_or_else(|| Encoder::new(self.method).map(Box::new), Ok)
    }

    fn put_back(&self, encoder: Box<Encoder>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_ENCODERS_MAX {
            idle.push(encoder);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Chunk;
    use crate::config::{Diagnostics, Section};
    use crate::memory::HeldBytes;
    use crate::testing::exporter_context;

    fn exporter() -> ClickHouse {
        let mut found = Diagnostics::default();
        let mut section = Section::from_text("x", "endpoint = 'http://ch'", &mut found).unwrap();
        let settings = Settings::parse(&mut section).unwrap();
        let context = exporter_context(&Signal::ALL);
        ClickHouse {
            shared: Arc::new(Shared::new(&settings, &context).unwrap()),
            sent_bytes: context.telemetry.counter(&names::EXPORTER_BYTES, &["", ""]),
        }
    }

    #[tokio::test]
    async fn bodies_are_held_in_place_of_the_payload() {
        let held = HeldBytes::default();
        let bytes = include_bytes!("../../../tests/golden/metrics.pb");
        let reservation = held.reserve(bytes.len());
        let chunk = Chunk::reserved(bytes.as_slice().into(), 1, reservation);
        let mut prepared = exporter()
            .prepare(
                Signal::Metrics,
                chunk.into(),
                &Ticket::for_tests(),
                &Pace::default(),
            )
            .await
            .unwrap();
        let in_flight = |prepared: &Prepared| -> usize {
            let bodies = prepared.parts.iter().map(|part| part.block.body.len());
            bodies.sum()
        };
        assert_eq!(prepared.parts.len(), 5, "a table for each kind of metric");
        while !prepared.parts.is_empty() {
            assert_eq!(held.bytes(), in_flight(&prepared));
            prepared.parts.pop();
        }
        assert_eq!(held.bytes(), 0);
    }
}
