//! What the agent counts of each plugin.

use std::time::Duration;

use crate::component::ProcessorContext;
use crate::telemetry::{Counter, Gauge, Histogram, Telemetry, names};

/// The figures of a plugin in the pipelines of one signal.
pub(super) struct Metrics {
    telemetry: Telemetry,
    id: String,
    signal: &'static str,
    seconds: Histogram,
    bytes_in: Counter,
    bytes_out: Counter,
    /// Bytes of linear memory.
    pub(super) memory: Gauge,
    /// 1 while the plugin is not called.
    pub(super) breaker_open: Gauge,
}

impl Metrics {
    pub(super) fn register(context: &ProcessorContext) -> Self {
        let telemetry = &context.telemetry;
        let labels = [context.id.as_str(), context.signal.name()];
        Self {
            seconds: telemetry.histogram(&names::PLUGIN_SECONDS, &labels),
            bytes_in: telemetry.counter(&names::PLUGIN_BYTES_IN, &labels),
            bytes_out: telemetry.counter(&names::PLUGIN_BYTES_OUT, &labels),
            memory: telemetry.gauge(&names::PLUGIN_MEMORY, &labels),
            breaker_open: telemetry.gauge(&names::PLUGIN_BREAKER, &labels),
            telemetry: telemetry.clone(),
            id: context.id.clone(),
            signal: context.signal.name(),
        }
    }

    /// A batch of `bytes` was handed over; the call took `time`.
    pub(super) fn called(&self, time: Duration, bytes: usize) {
        self.seconds.observe(time.as_secs_f64());
        self.bytes_in.inc_by(bytes as u64);
    }

    /// What became of it, and how many bytes go on.
    pub(super) fn ended(&self, outcome: &'static str, bytes: usize) {
        let labels = [self.id.as_str(), self.signal, outcome];
        self.telemetry.counter(&names::PLUGIN_CALLS, &labels).inc();
        self.bytes_out.inc_by(bytes as u64);
    }
}
