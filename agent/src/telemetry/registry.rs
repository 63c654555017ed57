//! The registry: hands out handles for rows of the name table and writes the Prometheus text format.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use prometheus::core::{Collector, Desc};
use prometheus::proto::{LabelPair, Metric, MetricFamily};
use prometheus::{
    CounterVec, Encoder, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts,
    TextEncoder,
};

use super::figures::Figures;
use super::names::{Kind, Spec};
use super::pool::{self, Owner, Pool};
use super::spans::Spans;
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
    families: Mutex<BTreeMap<String, (Family, Option<Signal>)>>,
    /// Guards the series that processors name.
    pools: Mutex<BTreeMap<Owner, Arc<pool::Series>>>,
    spans: Spans,
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
        match self.family_of(spec, name_of(spec, Some(signal)), false, Some(signal)) {
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

    /// The series that the processor `id` names for itself in pipelines of `signal`.
    pub fn pool(&self, id: &str, signal: Signal) -> Pool {
        let owner = (id.to_owned(), signal);
        let series = Arc::clone(self.pools().entry(owner.clone()).or_default());
        Pool::new(self.clone(), owner, series)
    }

    /// Forgets a series, if it is there. Whoever still counts there counts for nobody.
    pub(super) fn remove(&self, spec: &Spec, labels: &[&str]) {
        if let Some((family, _)) = self.families().get(spec.name) {
            family.remove(labels);
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
        TextEncoder::new().encode(&self.gather(), &mut text)?;
        Ok(text)
    }

    /// The agent's own work.
    pub fn spans(&self) -> &Spans {
        &self.0.spans
    }

    /// All counters and gauges at one moment.
    pub fn figures(&self) -> Figures {
        Figures::new(&self.gather())
    }

    fn gather(&self) -> Vec<MetricFamily> {
        let moment = self.0.moment.write();
        let _moment = moment.unwrap_or_else(PoisonError::into_inner);
        self.0.registry.gather()
    }

    /// Forgets the series of everything that does not run any more: all of them at once, so that no reading of the metrics
    /// has one column of an account and lacks another. Whoever still counts there counts for nobody; who comes back begins
    /// anew.
    pub fn retain(&self, live: &Live) {
        let moment = self
            .0
            .moment
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        for (family, signal) in self.families().values() {
            for metric in family.series() {
                let pairs = metric.get_label();
                let value_of = |name: &str| {
                    let mut pairs = pairs.iter();
                    pairs.find(|pair| pair.name() == name).map(LabelPair::value)
                };
                if !live.has(*signal, value_of) {
                    let names = family.label_names();
                    let values: Vec<&str> =
                        names.iter().filter_map(|name| value_of(name)).collect();
                    let was_there = family.remove(&values);
                    debug_assert!(was_there, "the series was there a moment ago");
                }
            }
        }
        self.pools()
            .retain(|owner, _| live.processors.contains(owner));
        drop(moment);
    }

    fn pools(&self) -> MutexGuard<'_, BTreeMap<Owner, Arc<pool::Series>>> {
        self.0.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn families(&self) -> MutexGuard<'_, BTreeMap<String, (Family, Option<Signal>)>> {
        self.0
            .families
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn family(&self, spec: &Spec, name: String, float: bool) -> Family {
        self.family_of(spec, name, float, None)
    }

    /// `signal`: whose items it is about, if its name tells.
    fn family_of(&self, spec: &Spec, name: String, float: bool, signal: Option<Signal>) -> Family {
        let mut families = self.families();
        if let Some((family, _)) = families.get(&name) {
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
        families.insert(name, (family.clone(), signal));
        family
    }
}

/// What a family is called.
pub(super) fn name_of(spec: &Spec, signal: Option<Signal>) -> String {
    match signal {
        Some(signal) => spec.name.replace("{items}", signal.items()),
        None => spec.name.to_owned(),
    }
}

/// What runs, as far as labels tell of it.
#[derive(Debug, Clone, Default)]
pub struct Live {
    /// Ids of receivers, and the signals they are there for.
    pub receivers: BTreeSet<(String, Signal)>,
    /// Ids of processors, and the signals of their pipelines.
    pub processors: BTreeSet<(String, Signal)>,
    /// Ids of exporters, and the signals that they are fed with.
    pub exporters: BTreeSet<(String, Signal)>,
    /// Pipelines and their exporters, those included whose account is still wanted though they do not run any more.
    pub accounts: BTreeSet<(String, String)>,
}

impl Live {
    /// Whether a series with these labels is of something that runs. `signal`: what its name tells.
    fn has<'a>(&self, signal: Option<Signal>, value_of: impl Fn(&str) -> Option<&'a str>) -> bool {
        let named = value_of("otel_signal").or_else(|| value_of("data_type"));
        let named = named.and_then(|name| Signal::ALL.into_iter().find(|of| of.name() == name));
        let signal = named.or(signal);
        let is_among = |ids: &BTreeSet<(String, Signal)>, label: &str| match value_of(label) {
            None => true,
            Some(id) => ids
                .iter()
                .any(|(found, of)| found == id && signal.is_none_or(|signal| signal == *of)),
        };
        if let (Some(pipeline), Some(exporter)) = (value_of("pipeline"), value_of("exporter")) {
            let account = (pipeline.to_owned(), exporter.to_owned());
            return self.accounts.contains(&account)
                || pipeline.starts_with('(') && is_among(&self.exporters, "exporter");
        }
        is_among(&self.receivers, "receiver")
            && is_among(&self.processors, "processor")
            && is_among(&self.exporters, "exporter")
    }
}

impl Family {
    fn series(&self) -> Vec<Metric> {
        let families = match self {
            Self::Counter(family) => family.collect(),
            Self::Gauge(family) => family.collect(),
            Self::FloatCounter(family) => family.collect(),
            Self::FloatGauge(family) => family.collect(),
            Self::Histogram(family) => family.collect(),
        };
        let series = families.into_iter();
        series.flat_map(|mut family| family.take_metric()).collect()
    }

    /// In the order in which values are given.
    fn label_names(&self) -> Vec<String> {
        match self {
            Self::Counter(family) => label_names(family),
            Self::Gauge(family) => label_names(family),
            Self::FloatCounter(family) => label_names(family),
            Self::FloatGauge(family) => label_names(family),
            Self::Histogram(family) => label_names(family),
        }
    }

    /// Whether it was there.
    fn remove(&self, values: &[&str]) -> bool {
        match self {
            Self::Counter(family) => family.remove_label_values(values),
            Self::Gauge(family) => family.remove_label_values(values),
            Self::FloatCounter(family) => family.remove_label_values(values),
            Self::FloatGauge(family) => family.remove_label_values(values),
            Self::Histogram(family) => family.remove_label_values(values),
        }
        .is_ok()
    }
}

fn label_names(family: &dyn Collector) -> Vec<String> {
    let descriptions = family.desc().into_iter();
    let names = descriptions.map(
        |Desc {
             variable_labels, ..
         }| variable_labels,
    );
    names.flatten().cloned().collect()
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
    fn series_of_what_is_gone_are_gone_and_others_stay() {
        let telemetry = Telemetry::default();
        let kept = ["kept", "grpc"];
        let accepted = |signal, receiver: &str| {
            telemetry
                .item_counter(&names::RECEIVER_ACCEPTED, signal, &[receiver, "grpc"])
                .inc();
        };
        accepted(Signal::Traces, kept[0]);
        accepted(Signal::Logs, kept[0]);
        accepted(Signal::Traces, "gone");
        for (pipeline, exporter) in [
            ("traces", "a"),
            ("traces", "gone"),
            ("traces/gone", "a"),
            ("(removed)", "a"),
            ("(removed)", "gone"),
            ("traces", "lost"),
        ] {
            let labels = [pipeline, exporter, "traces"];
            telemetry.counter(&names::LEDGER_ACCEPTED, &labels).inc();
            telemetry.gauge(&names::LEDGER_QUEUED, &labels).set(1);
        }
        telemetry
            .histogram(&names::BATCH_SEND_SIZE, &["gone"])
            .observe(1.0);
        telemetry
            .gauge(&names::EXPORTER_QUEUE_SIZE, &["a", "logs"])
            .set(1);
        telemetry
            .gauge(&names::EXPORTER_QUEUE_SIZE, &["a", "traces"])
            .set(1);
        telemetry.gauge(&names::HELD_BYTES, &[]).set(1);
        let pair = |id: &str| BTreeSet::from([(id.to_owned(), Signal::Traces)]);
        let live = Live {
            receivers: pair("kept"),
            processors: pair("batch"),
            exporters: pair("a"),
            accounts: ["a", "lost"]
                .map(|exporter| ("traces".to_owned(), exporter.to_owned()))
                .into(),
        };
        telemetry.retain(&live);
        let left: Vec<_> = telemetry.figures().by_name().into_keys().collect();
        let expected = [
            r#"otelcol_exporter_queue_size{data_type="traces",exporter="a"}"#,
            r#"otelcol_receiver_accepted_spans{receiver="kept",transport="grpc"}"#,
            "tidegate_held_bytes{}",
            r#"tidegate_ledger_accepted_items{exporter="a",otel_signal="traces",pipeline="(removed)"}"#,
            r#"tidegate_ledger_accepted_items{exporter="a",otel_signal="traces",pipeline="traces"}"#,
            r#"tidegate_ledger_accepted_items{exporter="lost",otel_signal="traces",pipeline="traces"}"#,
            r#"tidegate_ledger_queued_items{exporter="a",otel_signal="traces",pipeline="(removed)"}"#,
            r#"tidegate_ledger_queued_items{exporter="a",otel_signal="traces",pipeline="traces"}"#,
            r#"tidegate_ledger_queued_items{exporter="lost",otel_signal="traces",pipeline="traces"}"#,
        ];
        assert_eq!(left, expected);
        let text = String::from_utf8(telemetry.encode().unwrap()).unwrap();
        assert!(!text.contains("gone"), "{text}");
        let figures = telemetry.figures();
        let sum = |labels: &[_]| figures.sum(&names::LEDGER_ACCEPTED, None, labels);
        assert_eq!(sum(&[("exporter", "a")]), Some(2.0));
        assert_eq!(sum(&[("exporter", "gone")]), None);
        // Who comes back begins anew.
        accepted(Signal::Traces, "gone");
        let labels = [("receiver", "gone")];
        let figures = telemetry.figures();
        let sum = figures.sum(&names::RECEIVER_ACCEPTED, Some(Signal::Traces), &labels);
        assert_eq!(sum, Some(1.0));
    }

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
