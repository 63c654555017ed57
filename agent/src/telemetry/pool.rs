//! Series that are named by what runs in the agent, such as a plugin: they outlive their users, until there are too many.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::names::{Kind, Spec};
use super::registry::{Counter, FloatGauge, Histogram, Telemetry};
use crate::signal::Signal;

/// Series of one pool that are kept though nobody uses them.
const SERIES_MAX: usize = 200;

/// Who names the series: the id of a processor and the signal of its pipelines.
pub(super) type Owner = (String, Signal);

/// The series of a processor for a signal, whatever its configuration is. Cloning shares them.
///
/// A counter so goes on when its plugin is configured anew. Those that nobody uses make room, the longest unused first,
/// as soon as there are more than 200; those in use are the business of who uses them.
#[derive(Clone)]
pub struct Pool {
    telemetry: Telemetry,
    owner: Owner,
    series: Arc<Series>,
}

/// What is in a pool.
#[derive(Default)]
pub(super) struct Series(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// How often a series was lent.
    lent: u64,
    series: BTreeMap<Key, Entry>,
}

/// The name of the family, and the labels after those of the owner.
type Key = (&'static str, [String; 2]);

struct Entry {
    spec: &'static Spec,
    figure: Arc<Figure>,
    /// The last time it was lent, counted by [`Known::lent`].
    last: u64,
}

/// A series of any kind.
pub enum Figure {
    /// Counts.
    Counter(Counter),
    /// Goes up and down.
    Gauge(FloatGauge),
    /// Observes.
    Histogram(Histogram),
}

impl Pool {
    pub(super) fn new(telemetry: Telemetry, owner: Owner, series: Arc<Series>) -> Self {
        Self {
            telemetry,
            owner,
            series,
        }
    }

    /// A series of the family `spec`, whose labels are the owner's two and these. It is in use until it is dropped.
    pub fn lend(&self, spec: &'static Spec, labels: [&str; 2]) -> Arc<Figure> {
        let mut known = self.known();
        known.lent += 1;
        let last = known.lent;
        let key = (spec.name, labels.map(str::to_owned));
        let entry = known.series.entry(key).or_insert_with(|| Entry {
            spec,
            figure: Arc::new(self.figure(spec, labels)),
            last,
        });
        entry.last = last;
        let figure = Arc::clone(&entry.figure);
        self.make_room(&mut known);
        figure
    }

    fn figure(&self, spec: &Spec, [name, label]: [&str; 2]) -> Figure {
        let labels = [self.owner.0.as_str(), self.owner.1.name(), name, label];
        match spec.kind {
            Kind::Counter => Figure::Counter(self.telemetry.counter(spec, &labels)),
            Kind::Gauge => Figure::Gauge(self.telemetry.float_gauge(spec, &labels)),
            Kind::Histogram(_) => Figure::Histogram(self.telemetry.histogram(spec, &labels)),
        }
    }

    /// Forgets what nobody uses, as far as there is too much.
    fn make_room(&self, known: &mut Known) {
        let excess = known.series.len().saturating_sub(SERIES_MAX);
        if excess == 0 {
            return;
        }
        let unused = known.series.iter();
        let unused = unused.filter(|(_, entry)| Arc::strong_count(&entry.figure) == 1);
        let mut unused: Vec<(u64, Key)> = unused
            .map(|(key, entry)| (entry.last, key.clone()))
            .collect();
        unused.sort_unstable();
        for (_, key) in unused.into_iter().take(excess) {
            if let Some(entry) = known.series.remove(&key) {
                let (_, [name, label]) = &key;
                let labels = [self.owner.0.as_str(), self.owner.1.name(), name, label];
                self.telemetry.remove(entry.spec, &labels);
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.series.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::telemetry::{Live, names};
    use crate::testing::metric;

    fn count(pool: &Pool, label: &str) -> Arc<Figure> {
        let figure = pool.lend(&names::PLUGIN_COUNTER, ["seen", label]);
        match &*figure {
            Figure::Counter(counter) => counter.inc(),
            _ => panic!("not a counter"),
        }
        figure
    }

    fn labels(telemetry: &Telemetry) -> BTreeSet<String> {
        let figures = telemetry.figures().by_name().into_keys();
        let after = |name: String| name.split("label=\"").nth(1).map(str::to_owned);
        let label = |rest: String| rest.split('"').next().unwrap_or_default().to_owned();
        figures.filter_map(after).map(label).collect()
    }

    #[test]
    fn a_series_goes_on_with_its_next_user() {
        let telemetry = Telemetry::default();
        drop(count(&telemetry.pool("wasm", Signal::Logs), "a"));
        drop(count(&telemetry.pool("wasm", Signal::Logs), "a"));
        drop(count(&telemetry.pool("wasm", Signal::Traces), "a"));
        let name = r#"tidegate_plugin_counter{label="a",name="seen",otel_signal="logs""#;
        assert_eq!(metric(&telemetry, name), 2.0);
    }

    #[test]
    fn what_nobody_uses_makes_room_the_longest_unused_first() {
        let telemetry = Telemetry::default();
        let pool = telemetry.pool("wasm", Signal::Logs);
        let _used = count(&pool, "used");
        for number in 0..SERIES_MAX {
            drop(count(&pool, &format!("old-{number}")));
        }
        let left = labels(&telemetry);
        assert!(left.len() == SERIES_MAX && !left.contains("old-0") && left.contains("used"));
        drop(count(&pool, "old-1"));
        let _new: Vec<_> = (0..SERIES_MAX - 2)
            .map(|number| count(&pool, &format!("new-{number}")))
            .collect();
        let left = labels(&telemetry);
        assert!(left.contains("old-1") && left.contains("used"), "{left:?}");
        assert_eq!(left.len(), SERIES_MAX);
        assert!(!left.contains("old-2"));
    }

    #[test]
    fn what_is_in_use_stays_however_much_it_is() {
        let telemetry = Telemetry::default();
        let pool = telemetry.pool("wasm", Signal::Logs);
        let lend = |number| count(&pool, &format!("{number}"));
        let used: Vec<_> = (0..2 * SERIES_MAX).map(lend).collect();
        assert_eq!(labels(&telemetry).len(), 2 * SERIES_MAX);
        drop(used);
        drop(count(&pool, "next"));
        assert_eq!(labels(&telemetry).len(), SERIES_MAX);
    }

    #[test]
    fn a_processor_that_comes_back_begins_anew() {
        let telemetry = Telemetry::default();
        drop(count(&telemetry.pool("wasm", Signal::Logs), "a"));
        telemetry.retain(&Live::default());
        assert!(labels(&telemetry).is_empty());
        drop(count(&telemetry.pool("wasm", Signal::Logs), "a"));
        assert_eq!(metric(&telemetry, "tidegate_plugin_counter"), 1.0);
    }
}
