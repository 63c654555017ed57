//! `batch`: gathers items until there are enough of them or they have waited long enough.
//!
//! Merging moves handles to the request bytes and copies nothing. Unlike the Collector's, this processor loses
//! nothing when the next stage is slow: a pipeline whose queues are full refuses new data at the door.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::ack::{Ack, Answer};
use crate::batch::{Batch, Chunk, Payload};
use crate::component::{
    ComponentError, Factory, Output, Processor, ProcessorContext, ProcessorSettings,
};
use crate::config::Section;
use crate::otlp;
use crate::signal::Signal;
use crate::telemetry::{Counter, Histogram, names};
use crate::units::HumanDuration;

/// `batch`, as the registry lists it.
pub(super) const FACTORY: Factory<dyn ProcessorSettings> = Factory {
    kind: "batch",
    summary: "Gathers items into batches by count and time, and splits what is larger than a maximum.",
    signals: &Signal::ALL,
    parse,
};

/// What a user writes under `[processors.batch]`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Options {
    /// How long an item waits at most before its batch is sent; `0` sends at once.
    pub timeout: HumanDuration,
    /// Items that trigger sending. Not a limit.
    pub send_batch_size: usize,
    /// Items in a batch at most; `0` means no limit. At least `send_batch_size`.
    pub send_batch_max_size: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            timeout: HumanDuration::from_millis(200),
            send_batch_size: 8192,
            send_batch_max_size: 0,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
struct Settings {
    timeout: Duration,
    size: usize,
    max_size: Option<usize>,
}

fn parse(section: &mut Section<'_>) -> Option<Box<dyn ProcessorSettings>> {
    let options: Options = section.options()?;
    if options.send_batch_max_size != 0 && options.send_batch_max_size < options.send_batch_size {
        section.error(
            "send_batch_max_size",
            "must be 0 (no limit) or at least send_batch_size",
        );
        return None;
    }
    Some(Box::new(Settings {
        timeout: options.timeout.0,
        size: options.send_batch_size,
        max_size: (options.send_batch_max_size != 0).then_some(options.send_batch_max_size),
    }))
}

impl ProcessorSettings for Settings {
    fn build(&self, context: ProcessorContext) -> Result<Box<dyn Processor>, ComponentError> {
        let labels = [context.id.as_str()];
        let telemetry = &context.telemetry;
        telemetry.gauge(&names::BATCH_CARDINALITY, &labels).set(1);
        Ok(Box::new(Batcher {
            settings: self.clone(),
            signal: context.signal,
            pending: Payload::default(),
            deadline: None,
            send_size: telemetry.histogram(&names::BATCH_SEND_SIZE, &labels),
            size_trigger: telemetry.counter(&names::BATCH_SIZE_TRIGGER, &labels),
            timeout_trigger: telemetry.counter(&names::BATCH_TIMEOUT_TRIGGER, &labels),
        }))
    }
}

struct Batcher {
    settings: Settings,
    signal: Signal,
    pending: Payload,
    /// Set exactly when something is pending and a timeout is configured.
    deadline: Option<Instant>,
    send_size: Histogram,
    size_trigger: Counter,
    timeout_trigger: Counter,
}

impl Processor for Batcher {
    fn process(&mut self, batch: Batch, output: &mut Output) {
        self.pending.append(batch.payload);
        batch.ack.answer(Answer::Queued);
        if self.settings.timeout.is_zero() {
            self.emit_all(output);
            return;
        }
        self.emit_full(output);
        if self.pending.is_empty() {
            self.deadline = None;
        } else if self.deadline.is_none() {
            self.deadline = Some(tokio::time::Instant::now().into_std() + self.settings.timeout);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    fn wake(&mut self, now: Instant, output: &mut Output) {
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            self.timeout_trigger.inc();
            self.emit_all(output);
        }
    }

    fn drain(&mut self, output: &mut Output) {
        self.emit_all(output);
    }
}

impl Batcher {
    /// Emits while there is enough for a full batch.
    fn emit_full(&mut self, output: &mut Output) {
        while !self.pending.is_empty() && self.pending.items() >= self.settings.size {
            self.size_trigger.inc();
            self.emit_one(output);
        }
    }

    fn emit_all(&mut self, output: &mut Output) {
        while !self.pending.is_empty() {
            self.emit_one(output);
        }
        self.deadline = None;
    }

    /// Emits what is pending, at most `send_batch_max_size` items of it.
    fn emit_one(&mut self, output: &mut Output) {
        let payload = match self.settings.max_size {
            Some(max) if self.pending.items() > max => {
                take_front(self.signal, &mut self.pending, max)
            }
            _ => std::mem::take(&mut self.pending),
        };
        self.send_size.observe(payload.items() as f64);
        output.emit(Batch {
            signal: self.signal,
            payload,
            ack: Ack::settled(),
        });
        // What stays has waited no longer than what went.
        self.deadline = None;
    }
}

/// Takes exactly `items` off the front; `pending` has more than that.
fn take_front(signal: Signal, pending: &mut Payload, items: usize) -> Payload {
    let mut front = Payload::default();
    let mut rest = Payload::default();
    for chunk in std::mem::take(pending).into_chunks() {
        let room = items - front.items();
        if room == 0 {
            rest.push(chunk);
        } else if chunk.items() <= room {
            front.push(chunk);
        } else {
            let (head, tail) = split_chunk(signal, &chunk, room);
            front.push(head);
            rest.push(tail);
        }
    }
    *pending = rest;
    front
}

fn split_chunk(signal: Signal, chunk: &Chunk, items: usize) -> (Chunk, Chunk) {
    let (head, tail) = otlp::split_at(signal, chunk.bytes(), items);
    (
        chunk.derive(head, items),
        chunk.derive(tail, chunk.items() - items),
    )
}
