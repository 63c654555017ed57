//! The registry: hands out handles for rows of the name table and writes the Prometheus text format.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use prometheus::core::Collector;
use prometheus::{
    CounterVec, Encoder, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts,
    TextEncoder,
};

use super::names::{Kind, Spec};
use crate::signal::Signal;

/// A counter of whole things.
pub type Counter = prometheus::IntCounter;
/// A gauge of whole things.
pub type Gauge = prometheus::IntGauge;
/// A gauge of any value.
pub type FloatGauge = prometheus::Gauge;
/// A distribution.
pub type Histogram = prometheus::Histogram;

/// The agent's metrics. Cloning shares them.
#[derive(Clone, Default)]
pub struct Telemetry(Arc<Inner>);

#[derive(Default)]
struct Inner {
    registry: prometheus::Registry,
    /// Guards the families by full name, so that a family is registered once.
    families: Mutex<BTreeMap<String, Family>>,
    /// Held shared while figures that belong together change, and alone while they are read.
    moment: RwLock<()>,
}

#[derive(Clone)]
enum Family {
    Counter(IntCounterVec),
    Gauge(IntGaugeVec),
    FloatCounter(CounterVec),
    FloatGauge(GaugeVec),
    Histogram(HistogramVec),
}

impl std::fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Telemetry")
    }
}

const INVARIANT: &str =
    "the name table holds valid names, each used with its own kind and label count";

impl Telemetry {
    /// The counter `spec` with these label values.
    pub fn counter(&self, spec: &Spec, labels: &[&str]) -> Counter {
        match self.family(spec, spec.name.to_owned(), false) {
            Family::Counter(family) => family.with_label_values(labels),
            _ => unreachable!("{INVARIANT}"),
        }
    }

    /// The counter `spec` of this signal's items with these label values.
    pub fn item_counter(&self, spec: &Spec, signal: Signal, labels: &[&str]) -> Counter {
        match self.family(spec, spec.name.replace("{items}", signal.items()), false) {
            Family::Counter(family) => family.with_label_values(labels),
            _ => unreachable!("{INVARIANT}"),
        }
    }

    /// The gauge `spec` with these label values.
    pub fn gauge(&self, spec: &Spec, labels: &[&str]) -> Gauge {
        match self.family(spec, spec.name.to_owned(), false) {
            Family::Gauge(family) => family.with_label_values(labels),
            _ => unreachable!("{INVARIANT}"),
        }
    }

    /// The gauge `spec` of fractions with these label values.
    pub fn float_gauge(&self, spec: &Spec, labels: &[&str]) -> FloatGauge {
        match self.family(spec, spec.name.to_owned(), true) {
            Family::FloatGauge(family) => family.with_label_values(labels),
            _ => unreachable!("{INVARIANT}"),
        }
    }

    /// The histogram `spec` with these label values.
    pub fn histogram(&self, spec: &Spec, labels: &[&str]) -> Histogram {
        match self.family(spec, spec.name.to_owned(), false) {
            Family::Histogram(family) => family.with_label_values(labels),
            _ => unreachable!("{INVARIANT}"),
        }
    }

    /// Sets the unlabelled counter or gauge `spec`, a figure in seconds, to what was read elsewhere.
    pub fn set_seconds(&self, spec: &Spec, seconds: f64) {
        match self.family(spec, spec.name.to_owned(), true) {
            Family::FloatCounter(family) => {
                let counter = family.with_label_values::<&str>(&[]);
                counter.inc_by((seconds - counter.get()).max(0.0));
            }
            Family::FloatGauge(family) => family.with_label_values::<&str>(&[]).set(seconds),
            _ => unreachable!("{INVARIANT}"),
        }
    }

    /// Changes figures that belong together: all metrics read at once have all of the change or nothing of it.
    pub fn together(&self, change: impl FnOnce()) {
        let moment = self.0.moment.read().unwrap_or_else(PoisonError::into_inner);
        change();
        drop(moment);
    }

    /// All metrics in the Prometheus text format, version 0.0.4.
    ///
    /// # Errors
    /// Only when a family is inconsistent, which [`Spec`] excludes.
    pub fn encode(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::with_capacity(16 * 1024);
        let moment = self
            .0
            .moment
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let families = self.0.registry.gather();
        drop(moment);
        TextEncoder::new().encode(&families, &mut text)?;
        Ok(text)
    }

    fn family(&self, spec: &Spec, name: String, float: bool) -> Family {
        let mut families = self
            .0
            .families
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(family) = families.get(&name) {
            return family.clone();
        }
        let family = new_family(spec, &name, float);
        let collector: Box<dyn Collector> = match family.clone() {
            Family::Counter(family) => Box::new(family),
            Family::Gauge(family) => Box::new(family),
            Family::FloatCounter(family) => Box::new(family),
            Family::FloatGauge(family) => Box::new(family),
            Family::Histogram(family) => Box::new(family),
        };
        self.0.registry.register(collector).expect(INVARIANT);
        families.insert(name, family.clone());
        family
    }
}

fn new_family(spec: &Spec, name: &str, float: bool) -> Family {
    let opts = Opts::new(name, spec.help);
    match (spec.kind, float) {
        (Kind::Counter, false) => {
            Family::Counter(IntCounterVec::new(opts, spec.labels).expect(INVARIANT))
        }
        (Kind::Counter, true) => {
            Family::FloatCounter(CounterVec::new(opts, spec.labels).expect(INVARIANT))
        }
        (Kind::Gauge, false) => {
            Family::Gauge(IntGaugeVec::new(opts, spec.labels).expect(INVARIANT))
        }
        (Kind::Gauge, true) => {
            Family::FloatGauge(GaugeVec::new(opts, spec.labels).expect(INVARIANT))
        }
        (Kind::Histogram(bounds), _) => {
            let opts = HistogramOpts::new(name, spec.help).buckets(bounds.to_vec());
            Family::Histogram(HistogramVec::new(opts, spec.labels).expect(INVARIANT))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::names;
    use super::*;

    #[test]
    fn the_text_has_the_collectors_names_and_labels() {
        let telemetry = Telemetry::default();
        let labels = ["otlp", "grpc"];
        telemetry
            .item_counter(&names::RECEIVER_ACCEPTED, Signal::Traces, &labels)
            .inc_by(7);
        telemetry
            .item_counter(&names::RECEIVER_ACCEPTED, Signal::Traces, &labels)
            .inc();
        telemetry
            .gauge(&names::EXPORTER_QUEUE_SIZE, &["clickhouse", "traces"])
            .set(3);
        telemetry.set_seconds(&names::PROCESS_UPTIME, 1.5);
        let text = String::from_utf8(telemetry.encode().unwrap()).unwrap();
        for line in [
            r#"otelcol_receiver_accepted_spans{receiver="otlp",transport="grpc"} 8"#,
            r#"otelcol_exporter_queue_size{data_type="traces",exporter="clickhouse"} 3"#,
            "otelcol_process_uptime 1.5",
            "# TYPE otelcol_receiver_accepted_spans counter",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line} not in\n{text}"
            );
        }
    }
}
