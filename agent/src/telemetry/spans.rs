//! Spans of the agent's own work, kept in memory for whoever looks: what runs now, and for each kind of work a few examples
//! of every latency and of what failed.
//!
//! There is one for a request, a batch or an attempt, never for an item. While nobody looks, a span costs one relaxed load;
//! otherwise two looks at the clock and a lock that is held for a few instructions at its beginning and its end.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

/// Where the buckets of latencies begin, after 0: those of the Collector's page.
pub const BOUNDS: [Duration; 8] = [
    Duration::from_micros(10),
    Duration::from_micros(100),
    Duration::from_millis(1),
    Duration::from_millis(10),
    Duration::from_millis(100),
    Duration::from_secs(1),
    Duration::from_secs(10),
    Duration::from_secs(100),
];

/// Buckets of latencies.
pub const BUCKETS: usize = BOUNDS.len() + 1;

/// Examples of each bucket, and of failures: enough to see a pattern on a page.
const SAMPLES_MAX: usize = 10;

/// Spans of one kind that are listed while they run; others are counted.
const RUNNING_MAX: usize = 64;

/// Bytes of an error that are kept.
const ERROR_MAX: usize = 500;

/// All kinds of work. Cloning shares them.
#[derive(Debug, Clone, Default)]
pub struct Spans(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Those who look.
    watchers: AtomicUsize,
    /// Guards the kinds by name. Who does the work keeps its kind alive.
    kinds: Mutex<BTreeMap<String, Weak<Inner>>>,
}

/// One kind of work, such as the attempts of one exporter to send. Cloning shares it.
#[derive(Debug, Clone)]
pub struct SpanKind(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    name: String,
    /// Guards what is kept.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// In no order. A place that is free has `None`.
    running: Vec<Option<Running>>,
    running_unlisted: usize,
    buckets: [Bucket; BUCKETS],
    errors: Bucket,
}

/// Work that is not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Running {
    /// When it began.
    pub at: SystemTime,
    /// The same moment, for measuring.
    pub since: Instant,
}

/// Finished work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// When it began.
    pub at: SystemTime,
    /// How long it took.
    pub took: Duration,
    /// Items it was about, if it was about items.
    pub items: usize,
    /// Bytes it was about.
    pub bytes: usize,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

/// How often, and the latest examples.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bucket {
    /// How often.
    pub count: u64,
    /// The latest, in no order.
    pub samples: Vec<Sample>,
}

impl Bucket {
    fn add(&mut self, sample: Sample) {
        let place = usize::try_from(self.count % SAMPLES_MAX as u64).unwrap_or(0);
        self.count += 1;
        match self.samples.get_mut(place) {
            Some(oldest) => *oldest = sample,
            None => self.samples.push(sample),
        }
    }
}

/// What is known of one kind of work.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Its name.
    pub name: String,
    /// What runs, the oldest first.
    pub running: Vec<Running>,
    /// What runs besides.
    pub running_unlisted: usize,
    /// Finished well, by latency.
    pub buckets: [Bucket; BUCKETS],
    /// Failed.
    pub errors: Bucket,
}

impl Spans {
    /// The work that is called `name`.
    pub fn kind(&self, name: &str) -> SpanKind {
        let mut kinds = self.kinds();
        if let Some(found) = kinds.get(name).and_then(Weak::upgrade) {
            return SpanKind(found);
        }
        let made = Arc::new(Inner {
            shared: Arc::clone(&self.0),
            name: name.to_owned(),
            state: Mutex::default(),
        });
        kinds.insert(name.to_owned(), Arc::downgrade(&made));
        SpanKind(made)
    }

    /// Spans are kept while this lives.
    pub fn watch(&self) -> Watching {
        self.0.watchers.fetch_add(1, Ordering::Relaxed);
        Watching(Arc::clone(&self.0))
    }

    /// All kinds of work that somebody may do still, by name.
    pub fn summaries(&self) -> Vec<Summary> {
        let mut kinds = self.kinds();
        kinds.retain(|_, kind| kind.strong_count() > 0);
        let all: Vec<_> = kinds.values().filter_map(Weak::upgrade).collect();
        drop(kinds);
        all.iter().map(|kind| kind.summary()).collect()
    }

    fn kinds(&self) -> MutexGuard<'_, BTreeMap<String, Weak<Inner>>> {
        self.0.kinds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody looks.
#[derive(Debug)]
pub struct Watching(Arc<Shared>);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.watchers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl SpanKind {
    /// Work begins. It ends when the span is dropped.
    pub fn start(&self) -> Span {
        match self.0.shared.watchers.load(Ordering::Relaxed) {
            0 => Span(None),
            _ => Span(Some(self.begin())),
        }
    }

    fn begin(&self) -> Live {
        let running = Running {
            at: SystemTime::now(),
            since: Instant::now(),
        };
        let mut state = self.0.state();
        let free = state.running.iter().position(Option::is_none);
        let place = match free {
            Some(place) => {
                state.running[place] = Some(running);
                Some(place)
            }
            None if state.running.len() < RUNNING_MAX => {
                state.running.push(Some(running));
                Some(state.running.len() - 1)
            }
            None => {
                state.running_unlisted += 1;
                None
            }
        };
        drop(state);
        Live {
            kind: Arc::clone(&self.0),
            place,
            running,
            items: 0,
            bytes: 0,
            error: None,
        }
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn summary(&self) -> Summary {
        let state = self.state();
        let mut running: Vec<_> = state.running.iter().flatten().copied().collect();
        running.sort_by_key(|running| running.since);
        Summary {
            name: self.name.clone(),
            running,
            running_unlisted: state.running_unlisted,
            buckets: state.buckets.clone(),
            errors: state.errors.clone(),
        }
    }
}

/// Work that is being done, if anybody looks.
#[derive(Debug)]
pub struct Span(Option<Live>);

#[derive(Debug)]
struct Live {
    kind: Arc<Inner>,
    /// Where it is listed.
    place: Option<usize>,
    running: Running,
    items: usize,
    bytes: usize,
    error: Option<String>,
}

impl Span {
    /// What it is about.
    pub fn carries(&mut self, items: usize, bytes: usize) {
        if let Some(live) = &mut self.0 {
            (live.items, live.bytes) = (items, bytes);
        }
    }

    /// It fails.
    pub fn fails(&mut self, cause: impl FnOnce() -> String) {
        if let Some(live) = &mut self.0 {
            let cause = cause();
            let end = cause.floor_char_boundary(ERROR_MAX);
            live.error = cause.get(..end).map(str::to_owned);
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let took = self.running.since.elapsed();
        let sample = Sample {
            at: self.running.at,
            took,
            items: self.items,
            bytes: self.bytes,
            error: self.error.take(),
        };
        let mut state = self.kind.state();
        match self.place {
            Some(place) => state.running[place] = None,
            None => state.running_unlisted -= 1,
        }
        if sample.error.is_some() {
            state.errors.add(sample);
            return;
        }
        let bucket = BOUNDS.iter().take_while(|bound| took >= **bound).count();
        state.buckets[bucket].add(sample);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_kept_unless_somebody_looks() {
        let spans = Spans::default();
        let kind = spans.kind("export");
        drop(kind.start());
        let watching = spans.watch();
        drop(kind.start());
        drop(watching);
        drop(kind.start());
        let [summary] = spans.summaries().try_into().unwrap();
        let counts: u64 = summary.buckets.iter().map(|bucket| bucket.count).sum();
        assert_eq!((summary.name.as_str(), counts), ("export", 1));
        drop(kind);
        assert!(spans.summaries().is_empty());
    }

    #[test]
    fn what_runs_is_listed_and_what_failed_is_apart() {
        let spans = Spans::default();
        let _watching = spans.watch();
        let kind = spans.kind("export");
        let mut all: Vec<_> = (0..RUNNING_MAX + 3).map(|_| kind.start()).collect();
        let summary = &spans.summaries()[0];
        assert_eq!(
            (summary.running.len(), summary.running_unlisted),
            (RUNNING_MAX, 3)
        );
        let mut failing = all.swap_remove(0);
        failing.carries(7, 70);
        failing.fails(|| "é".repeat(ERROR_MAX));
        drop(failing);
        drop(all);
        let summary = &spans.summaries()[0];
        assert_eq!((summary.running.len(), summary.running_unlisted), (0, 0));
        assert_eq!(summary.errors.count, 1);
        let failed = &summary.errors.samples[0];
        assert_eq!((failed.items, failed.bytes), (7, 70));
        assert_eq!(
            failed.error.as_deref(),
            Some("é".repeat(ERROR_MAX / 2).as_str())
        );
        let kept: usize = summary
            .buckets
            .iter()
            .map(|bucket| bucket.samples.len())
            .sum();
        assert!(kept <= SAMPLES_MAX * BUCKETS);
        let counted: u64 = summary.buckets.iter().map(|bucket| bucket.count).sum();
        assert_eq!(counted, RUNNING_MAX as u64 + 2);
    }
}
