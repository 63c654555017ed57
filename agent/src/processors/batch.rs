//! `batch`: gathers items until there are enough of them or they have waited long enough.
//!
//! Merging moves handles to the request bytes and copies nothing. Unlike the Collector's, this processor loses
//! nothing when the next stage is slow: a pipeline whose queues are full refuses new data at the door.

use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ack::Ack;
use crate::batch::Batch;
use crate::component::{
    ComponentError, Factory, Output, Processor, ProcessorContext, ProcessorSettings,
};
use crate::config::{Section, Unsupported};
use crate::gather::{Batching, Gather};
use crate::signal::Signal;
use crate::telemetry::{Counter, Histogram, names};
use crate::units::HumanDuration;

/// `batch`, as the registry lists it.
pub(super) const FACTORY: Factory<dyn ProcessorSettings> = Factory {
    kind: "batch",
    summary: "Gathers items into batches by count and time, and splits what is larger than a maximum.",
    signals: &Signal::ALL,
    schema: |generator| generator.subschema_for::<Options>(),
    parse,
};

/// What a user writes under `[processors.batch]`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Options {
    /// How long an item waits at most before its batch is sent; `0` sends at once.
    pub timeout: HumanDuration,
    /// Items that trigger sending. Not a limit.
    pub send_batch_size: usize,
    /// Items in a batch at most; `0` means no limit. At least `send_batch_size`.
    pub send_batch_max_size: usize,
    /// Not supported; an empty list is accepted.
    pub metadata_keys: Unsupported,
    /// Accepted, without effect: a bound on what `metadata_keys` makes.
    pub metadata_cardinality_limit: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            timeout: HumanDuration::from_millis(200),
            send_batch_size: 8192,
            send_batch_max_size: 0,
            metadata_keys: Unsupported::default(),
            metadata_cardinality_limit: 1000,
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
    section.refuse(
        "metadata_keys",
        &options.metadata_keys,
        "client metadata does not travel with batches, and one batch holds the data of all clients; leave it out",
    );
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
    fn batching(&self, id: &str) -> Option<Batching> {
        Some(Batching {
            processor: Some(id.to_owned()),
            timeout: self.timeout,
            size: self.size,
            max_size: self.max_size,
        })
    }

    fn build(&self, context: ProcessorContext) -> Result<Box<dyn Processor>, ComponentError> {
        let labels = [context.id.as_str()];
        let telemetry = &context.telemetry;
        telemetry.gauge(&names::BATCH_CARDINALITY, &labels).set(1);
        Ok(Box::new(Batcher {
            settings: self.clone(),
            signal: context.signal,
            pending: Gather::new(context.signal),
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
    pending: Gather,
    /// Set exactly when something is pending and a timeout is configured.
    deadline: Option<Instant>,
    send_size: Histogram,
    size_trigger: Counter,
    timeout_trigger: Counter,
}

impl Processor for Batcher {
    fn process(&mut self, batch: Batch, output: &mut Output) {
        self.pending.append(batch.payload);
        output.take_over(batch.ack);
        if self.settings.timeout.is_zero() {
            self.emit_all(output);
            return;
        }
        self.emit_full(output);
        if self.pending.items() == 0 {
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
        while self.pending.items() > 0 && self.pending.items() >= self.settings.size {
            self.size_trigger.inc();
            self.emit_one(output);
        }
    }

    fn emit_all(&mut self, output: &mut Output) {
        while self.pending.items() > 0 {
            self.emit_one(output);
        }
        self.deadline = None;
    }

    /// Emits what is pending, at most `send_batch_max_size` items of it.
    fn emit_one(&mut self, output: &mut Output) {
        let most = self.settings.max_size.unwrap_or(usize::MAX);
        let payload = self.pending.take(most);
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
    use prost::Message;

    use super::*;
    use crate::batch::Chunk;
    use crate::memory::HeldBytes;
    use crate::status::Reporter;
    use crate::telemetry::Telemetry;

    fn request(names: std::ops::Range<usize>) -> Batch {
        let items = names.len();
        let spans = names.map(|name| Span {
            name: name.to_string(),
            ..Span::default()
        });
        let request = ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                scope_spans: vec![ScopeSpans {
                    spans: spans.collect(),
                    ..ScopeSpans::default()
                }],
                ..ResourceSpans::default()
            }],
        };
        Batch {
            signal: Signal::Traces,
            payload: Chunk::new(Bytes::from(request.encode_to_vec()), items).into(),
            ack: Ack::settled(),
        }
    }

    fn names(batch: &Batch) -> Vec<usize> {
        let decoded = ExportTraceServiceRequest::decode(batch.payload.to_bytes()).unwrap();
        let scopes = decoded
            .resource_spans
            .into_iter()
            .flat_map(|resource| resource.scope_spans);
        scopes
            .flat_map(|scope| scope.spans)
            .map(|span| span.name.parse().unwrap())
            .collect()
    }

    /// Sizes of the batches that are emitted at once, and after the timeout; the items keep their order.
    fn check(options: Options, requests: &[(usize, usize)], at_once: &[usize], later: &[usize]) {
        let settings = Settings {
            timeout: options.timeout.0,
            size: options.send_batch_size,
            max_size: (options.send_batch_max_size != 0).then_some(options.send_batch_max_size),
        };
        let mut batcher = settings
            .build(ProcessorContext {
                id: "batch".to_owned(),
                signal: Signal::Traces,
                telemetry: Telemetry::default(),
                status: Reporter::default(),
                held: HeldBytes::default(),
            })
            .unwrap();
        let mut output = Output::default();
        for range in requests {
            batcher.process(request(range.0..range.1), &mut output);
        }
        let sizes = |batches: &[Batch]| batches.iter().map(Batch::items).collect::<Vec<_>>();
        assert_eq!(sizes(&output.batches), at_once, "at once");
        let emitted = output.batches.len();
        assert_eq!(batcher.deadline().is_some(), !later.is_empty());
        if let Some(deadline) = batcher.deadline() {
            batcher.wake(deadline - Duration::from_nanos(1), &mut output);
            assert_eq!(output.batches.len(), emitted, "before the deadline");
            batcher.wake(deadline, &mut output);
        }
        assert_eq!(sizes(&output.batches[emitted..]), later, "later");
        assert_eq!(batcher.deadline(), None);
        let seen: Vec<_> = output.batches.iter().flat_map(names).collect();
        let sent: Vec<_> = requests.iter().flat_map(|range| range.0..range.1).collect();
        assert_eq!(seen, sent);
    }

    fn options(send_batch_size: usize, send_batch_max_size: usize) -> Options {
        Options {
            send_batch_size,
            send_batch_max_size,
            ..Options::default()
        }
    }

    #[test]
    fn the_size_triggers_and_does_not_limit() {
        check(
            options(10, 0),
            &[(0, 4), (4, 8), (8, 25), (25, 28)],
            &[25],
            &[3],
        );
        check(options(10, 0), &[(0, 10)], &[10], &[]);
        check(options(0, 0), &[(0, 3), (3, 4)], &[3, 1], &[]);
    }

    #[test]
    fn the_maximum_splits_exactly() {
        check(options(10, 10), &[(0, 25)], &[10, 10], &[5]);
        check(options(10, 12), &[(0, 9), (9, 30)], &[12, 12], &[6]);
        check(
            options(5, 7),
            &[(0, 1), (1, 40), (40, 41)],
            &[7, 7, 7, 7, 7, 5],
            &[1],
        );
        check(options(1, 1), &[(0, 4)], &[1, 1, 1, 1], &[]);
    }

    #[test]
    fn without_a_timeout_everything_goes_at_once() {
        let options = Options {
            timeout: HumanDuration::default(),
            ..options(100, 100)
        };
        check(options, &[(0, 3), (3, 5)], &[3, 2], &[]);
    }

    #[test]
    fn a_maximum_below_the_trigger_is_an_error() {
        let mut found = crate::config::Diagnostics::default();
        let text = "send_batch_size = 10\nsend_batch_max_size = 9";
        let mut section = Section::from_text("processors.batch", text, &mut found).unwrap();
        assert!(parse(&mut section).is_none());
        assert!(found.has_errors());
    }

    #[test]
    fn keys_of_client_metadata_are_refused_and_none_accepted() {
        let check = |text: &str, expected: &str| {
            let mut found = crate::config::Diagnostics::default();
            let mut section = Section::from_text("processors.batch", text, &mut found).unwrap();
            parse(&mut section);
            assert!(found.to_string().contains(expected), "{found}");
            assert_eq!(found.has_errors(), !expected.is_empty(), "{found}");
        };
        check("metadata_keys = []\nmetadata_cardinality_limit = 1000", "");
        check(
            "metadata_keys = ['x-tenant']",
            "metadata_keys: the Collector has this, Tidegate does not: client metadata",
        );
    }
}
