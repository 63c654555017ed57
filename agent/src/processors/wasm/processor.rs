//! The processor that a pipeline sees: hands batches to an instance and accounts for what comes of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::breaker::Breaker;
use super::instance::{Failure, Instance, Setting};
use super::load::Plugin;
use super::metrics::Metrics;
use super::options::OnError;
use super::outcome::{Lost, Next, Reasons, Verdict, judge};
use crate::ack::{Refusal, RefusalReason};
use crate::batch::{Batch, Chunk};
use crate::component::{ComponentError, Output, Processor, ProcessorContext};
use crate::memory::HeldBytes;
use crate::status::{Condition, Reporter};

/// What is not processed because the plugin failed: a reason in the ledger and in metrics.
pub(super) const FAILED: &str = "plugin_failed";

/// A plugin in a pipeline.
pub(super) struct Wasm {
    id: String,
    plugin: Arc<Plugin>,
    setting: Setting,
    on_error: OnError,
    /// `None` after a failure, until the next batch.
    instance: Option<Instance>,
    breaker: Breaker,
    reasons: Reasons,
    next_tick: Option<Instant>,
    metrics: Metrics,
    status: Reporter,
    held: HeldBytes,
}

impl Wasm {
    /// Starts an instance of `plugin`.
    pub(super) fn start(
        context: ProcessorContext,
        plugin: Arc<Plugin>,
        setting: Setting,
        on_error: OnError,
    ) -> Result<Self, ComponentError> {
        let metrics = Metrics::register(&context);
        let ProcessorContext {
            id, status, held, ..
        } = context;
        let instance = Instance::start(&plugin, &setting).map_err(not_started)?;
        metrics.memory.set(gauge(instance.memory()));
        metrics.breaker_open.set(0);
        Ok(Self {
            next_tick: instance.tick_interval.map(|interval| now() + interval),
            instance: Some(instance),
            breaker: Breaker::default(),
            reasons: Reasons::default(),
            id,
            plugin,
            setting,
            on_error,
            metrics,
            status,
            held,
        })
    }

    /// What the plugin makes of a batch.
    fn attempt(&mut self, batch: &Batch) -> Result<Verdict, Failure> {
        if self.breaker.is_open(now()).is_some() {
            return Err(Failure::Skipped);
        }
        let instance = match &mut self.instance {
            Some(instance) => instance,
            empty => empty.insert(Instance::start(&self.plugin, &self.setting)?),
        };
        let input = batch.payload.to_bytes();
        let began = Instant::now();
        let outcome = instance.process(&input);
        self.metrics.called(began.elapsed(), input.len());
        self.metrics.memory.set(gauge(instance.memory()));
        judge(
            outcome?,
            self.setting.signal,
            &input,
            batch.items(),
            self.setting.output_max,
            &mut self.reasons,
        )
    }

    fn settle(&self, verdict: Verdict, mut batch: Batch, output: &mut Output) {
        for Lost {
            reason,
            items,
            fault,
        } in verdict.losses
        {
            match fault {
                Some(message) => output.reject(&mut batch.ack, reason, items, message),
                None => output.discard(reason, items),
            }
        }
        match verdict.data {
            Next::Same => {
                self.metrics.ended("unchanged", batch.payload.byte_len());
                output.emit(batch);
            }
            Next::Changed(checked) => {
                let length = checked.bytes.len();
                self.metrics.ended("changed", length);
                let held = self.held.reserve(length);
                batch.payload = Chunk::reserved(checked.bytes, checked.items, held).into();
                output.emit(batch);
            }
            Next::Nothing => {
                self.metrics.ended("nothing", 0);
                output.take_over(batch.ack);
            }
        }
    }

    /// Takes note of a failure. What is not merely an error has left the instance in a state that nobody knows.
    fn note(&mut self, failure: &Failure) {
        self.metrics.ended(failure.name(), 0);
        if *failure == Failure::Skipped {
            return;
        }
        if !matches!(failure, Failure::Error(_)) {
            self.instance = None;
        }
        let pause = self.breaker.failed(now());
        let processor = self.id.as_str();
        let signal = self.setting.signal.name();
        if self.breaker.is_news(now()) {
            warn!(
                processor,
                signal,
                reason = failure.name(),
                "the plugin failed: {failure}"
            );
        }
        if let Some(pause) = pause {
            self.metrics.breaker_open.set(1);
            let cause =
                format!("the plugin keeps failing and is not called for {pause:?}: {failure}");
            self.status.fails(Condition::Plugin, &cause);
            let failures = self.breaker.failures();
            warn!(
                processor,
                signal,
                failures,
                ?pause,
                "the plugin keeps failing and is not called for a while: {failure}"
            );
        }
    }

    fn note_success(&mut self) {
        if self.breaker.succeeded() {
            self.metrics.breaker_open.set(0);
            self.status.works(Condition::Plugin);
            let signal = self.setting.signal.name();
            info!(processor = self.id, signal, "the plugin works again");
        }
    }

    /// Does with a batch what the operator wants done when the plugin fails.
    fn fall_back(&self, failure: &Failure, batch: Batch, output: &mut Output) {
        let items = batch.items();
        match self.on_error {
            OnError::Pass => output.emit(batch),
            OnError::Drop => {
                output.discard(FAILED, items);
                output.take_over(batch.ack);
            }
            OnError::Refuse => {
                let refusal = self.refusal(failure, Refusal::DEFAULT_RETRY_AFTER);
                output.refuse(batch.ack, FAILED, items, refusal);
            }
        }
    }

    /// Without the plugin's own words, in which there may be something of the telemetry of others: these are in the log.
    fn refusal(&self, failure: &Failure, after: Duration) -> Refusal {
        let outline = failure.outline();
        let message = format!("the plugin of processor `{}` failed: {outline}", self.id);
        Refusal::retry(RefusalReason::Plugin, message, after)
    }
}

impl Processor for Wasm {
    fn ready(&self, _: usize) -> Result<(), Refusal> {
        match self.breaker.is_open(now()) {
            Some(left) if self.on_error == OnError::Refuse => {
                Err(self.refusal(&Failure::Skipped, left.max(Refusal::DEFAULT_RETRY_AFTER)))
            }
            _ => Ok(()),
        }
    }

    fn may_take_long(&self) -> bool {
        true
    }

    fn process(&mut self, batch: Batch, output: &mut Output) {
        if batch.payload.is_empty() {
            output.emit(batch);
            return;
        }
        match self.attempt(&batch) {
            Ok(verdict) => {
                self.note_success();
                self.settle(verdict, batch, output);
            }
            Err(failure) => {
                self.note(&failure);
                self.fall_back(&failure, batch, output);
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.next_tick
    }

    fn wake(&mut self, now: Instant, _: &mut Output) {
        if self.next_tick.is_none_or(|at| at > now) {
            return;
        }
        let Some(instance) = &mut self.instance else {
            // The next batch starts one. Until then there is nothing to be done from time to time.
            self.next_tick = self.next_tick.map(|_| now + Duration::from_secs(1));
            return;
        };
        self.next_tick = instance.tick_interval.map(|interval| now + interval);
        if let Err(failure) = instance.tick() {
            self.note(&failure);
        }
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// A plugin that has got the same configuration does the same again; only time is another the next time.
fn not_started(failure: Failure) -> ComponentError {
    let key = match failure {
        Failure::Timeout(_) => {
            let attempted =
                "start the plugin, which may take ten times its `timeout`, at least a second";
            return ComponentError::new(attempted, failure).at("timeout");
        }
        // What a plugin finds wrong is what it was given.
        Failure::Error(_) => "config",
        Failure::Memory(_) => "memory_limit",
        _ => "path",
    };
    ComponentError::new("start the plugin", failure)
        .at(key)
        .permanent()
}

fn gauge(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
