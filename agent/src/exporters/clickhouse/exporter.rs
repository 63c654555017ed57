//! The exporter itself: prepares a batch once, and sends each table until the server has it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::encode::{Adjusted, Block, Encoder};
use super::failure::{Class, Failure};
use super::native::Method;
use super::schema::Watch;
use super::servers::Servers;
use super::settings::Settings;
use crate::batch::Payload;
use crate::component::{ComponentError, Exporter, ExporterContext, Outcome, Sender};
use crate::exporters::sender;
use crate::signal::Signal;
use crate::telemetry::{Counter, Telemetry, names};

/// Builds the exporter for every signal it is fed with.
pub(super) fn build(
    settings: &Settings,
    context: &ExporterContext,
) -> Result<Vec<Sender>, ComponentError> {
    let shared = Arc::new(Shared {
        servers: Servers::new(
            settings.clone(),
            Watch::new(&context.id, &context.telemetry),
        ),
        encoders: Encoders::new(settings.method)
            .map_err(|cause| ComponentError::new("set up compression", cause))?,
        tokens: Tokens::default(),
        id: context.id.clone(),
        names: settings.layout.names.clone(),
        telemetry: context.telemetry.clone(),
        negative_durations: adjusted(context, "negative_duration"),
        metrics_without_data: adjusted(context, "metric_without_data"),
    });
    let make = |signal: &Signal| {
        let sent_bytes = context
            .telemetry
            .counter(&names::EXPORTER_BYTES, &[&context.id, signal.name()]);
        sender::spawn(context, *signal, &settings.sender, || ClickHouse {
            shared: Arc::clone(&shared),
            sent_bytes: sent_bytes.clone(),
        })
    };
    Ok(context.signals.iter().map(make).collect())
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
    tokens: Tokens,
    id: String,
    names: super::schema::Names,
    telemetry: Telemetry,
    negative_durations: Counter,
    metrics_without_data: Counter,
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
}

struct Part {
    block: Block,
    /// Says which insert this is: the server stores it once, however often it is sent.
    token: String,
}

impl Exporter for ClickHouse {
    type Prepared = Prepared;

    fn prepare(&mut self, signal: Signal, payload: Payload) -> Result<Prepared, String> {
        let shared = &self.shared;
        let mut adjusted = Adjusted::default();
        let blocks = shared
            .encoders
            .with(|encoder| encoder.encode(signal, &payload, &mut adjusted))
            .map_err(|error| error.to_string())?
            .map_err(|error| error.to_string())?;
        shared
            .negative_durations
            .inc_by(adjusted.negative_durations);
        shared
            .metrics_without_data
            .inc_by(adjusted.metrics_without_data);
        let token = shared.tokens.next();
        let parts = blocks
            .into_iter()
            .map(|block| Part {
                token: format!("{token}-{}", block.table.name()),
                block,
            })
            .collect();
        Ok(Prepared { signal, parts })
    }

    async fn send(&mut self, prepared: &mut Prepared) -> Outcome {
        let mut rejection = None;
        // Taken out one by one as they are settled: what is left after a cancelled attempt is what is missing.
        while let Some(part) = prepared.parts.last() {
            let result = self
                .shared
                .servers
                .insert(prepared.signal, &part.block, &part.token)
                .await;
            match result {
                Ok(()) => self.count(&part.block),
                Err(Failure {
                    class: Class::Rejected,
                    message,
                }) => rejection = Some(message),
                Err(failure) => {
                    return Outcome::Retry {
                        cause: failure.message,
                        after: None,
                    };
                }
            }
            prepared.parts.pop();
        }
        match rejection {
            Some(cause) => Outcome::Rejected { cause },
            None => Outcome::Delivered,
        }
    }
}

impl ClickHouse {
    fn count(&self, block: &Block) {
        let Shared {
            id,
            names,
            telemetry,
            ..
        } = &*self.shared;
        let rows = telemetry.counter(&names::CLICKHOUSE_ROWS, &[id, names.of(block.table)]);
        rows.inc_by(block.rows as u64);
        self.sent_bytes.inc_by(block.body.len() as u64);
    }
}

/// Encoders with their buffers, as many as work at the same time, which is never more than there are threads.
struct Encoders {
    method: Method,
    /// Guards the idle ones.
    idle: Mutex<Vec<Encoder>>,
}

/// Idle encoders beyond this many are dropped.
const IDLE_ENCODERS_MAX: usize = 16;

impl Encoders {
    fn new(method: Method) -> std::io::Result<Self> {
        let first = Encoder::new(method)?;
        Ok(Self {
            method,
            idle: Mutex::new(vec![first]),
        })
    }

    fn with<T>(&self, work: impl FnOnce(&mut Encoder) -> T) -> std::io::Result<T> {
        let idle = self
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        let mut encoder = match idle {
            Some(encoder) => encoder,
            None => Encoder::new(self.method)?,
        };
        let result = work(&mut encoder);
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_ENCODERS_MAX {
            idle.push(encoder);
        }
        Ok(result)
    }
}

/// Names for inserts that no other insert has, on this or any other machine.
struct Tokens {
    /// 128 random bits of this process.
    process: String,
    next: AtomicU64,
}

impl Default for Tokens {
    fn default() -> Self {
        use std::hash::{BuildHasher, RandomState};
        let now = std::time::SystemTime::now();
        let half = || RandomState::new().hash_one((now, std::process::id()));
        Self {
            process: format!("{:016x}{:016x}", half(), half()),
            next: AtomicU64::new(0),
        }
    }
}

impl Tokens {
    fn next(&self) -> String {
        format!(
            "{}-{:x}",
            self.process,
            self.next.fetch_add(1, Ordering::Relaxed)
        )
    }
}
