//! The figures of one moment, to be looked up by the rows of the name table.

use std::collections::BTreeMap;

use prometheus::proto::{MetricFamily, MetricType};

use super::names::Spec;
use super::registry::name_of;
use crate::signal::Signal;

/// All counters and gauges as they were at one moment.
#[derive(Debug, Default)]
pub struct Figures {
    families: BTreeMap<String, Vec<Figure>>,
}

/// One counter or gauge.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    labels: Vec<(String, String)>,
    value: f64,
}

impl Figures {
    pub(super) fn new(families: &[MetricFamily]) -> Self {
        let families = families.iter().map(|family| {
            let metrics = family.get_metric().iter();
            let figures = metrics.filter_map(|metric| {
                let value = match family.get_field_type() {
                    MetricType::COUNTER => metric.get_counter().get_value(),
                    MetricType::GAUGE => metric.get_gauge().get_value(),
                    _ => return None,
                };
                let labels = metric.get_label().iter();
                let labels = labels.map(|pair| (pair.name().to_owned(), pair.value().to_owned()));
                Some(Figure {
                    labels: labels.collect(),
                    value,
                })
            });
            (family.name().to_owned(), figures.collect())
        });
        Self {
            families: families.collect(),
        }
    }

    /// Every figure of `spec`.
    pub fn of(&self, spec: &Spec) -> &[Figure] {
        self.named(spec.name)
    }

    /// Every figure of `spec` for this signal's items.
    pub fn items(&self, spec: &Spec, signal: Signal) -> &[Figure] {
        self.named(&name_of(spec, Some(signal)))
    }

    /// The sum of those figures of `spec` that have these labels; `None` if there are none. `signal`: whose items it is
    /// about, if its name tells.
    pub fn sum(&self, spec: &Spec, signal: Option<Signal>, labels: &[(&str, &str)]) -> Option<f64> {
        let figures = self.named(&name_of(spec, signal)).iter();
        let values = figures.filter(|figure| figure.has(labels));
        values
            .map(|figure| figure.value)
            .reduce(|sum, value| sum + value)
    }

    /// Every figure by its name and labels, as Prometheus writes them.
    pub fn by_name(&self) -> BTreeMap<String, f64> {
        let families = self.families.iter();
        let all = families.flat_map(|(name, figures)| {
            let figures = figures.iter();
            figures.map(move |figure| (figure.full_name(name), figure.value))
        });
        all.collect()
    }

    fn named(&self, name: &str) -> &[Figure] {
        self.families.get(name).map_or(&[], Vec::as_slice)
    }
}

impl Figure {
    /// The value of a label; empty where there is none of this name.
    pub fn label(&self, name: &str) -> &str {
        let mut labels = self.labels.iter();
        labels
            .find(|(label, _)| label == name)
            .map_or("", |(_, value)| value)
    }

    /// Whether each of these labels has this value.
    pub fn has(&self, labels: &[(&str, &str)]) -> bool {
        labels
            .iter()
            .all(|(name, value)| self.label(name) == *value)
    }

    fn full_name(&self, family: &str) -> String {
        let labels = self.labels.iter();
        let labels: Vec<_> = labels
            .map(|(name, value)| format!("{name}={value:?}"))
            .collect();
        format!("{family}{{{}}}", labels.join(","))
    }

    /// The value in whole things.
    pub fn count(&self) -> u64 {
        // Counters are whole and small enough; a gauge that is below 0 for a moment counts as 0.
        self.value.max(0.0) as u64
    }
}

/// The sum of those figures that have these labels.
pub fn total(figures: &[Figure], labels: &[(&str, &str)]) -> u64 {
    let figures = figures.iter().filter(|figure| figure.has(labels));
    figures.map(Figure::count).sum()
}
