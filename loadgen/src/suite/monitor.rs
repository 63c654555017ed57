//! What components use while they run: looked at every so often, and at the edges of windows.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::counter::{self, Source};
use super::fetch::Fetch;
use crate::process::{Families, Usage};
use crate::prometheus;

/// How often the sampler looks whom to ask.
const TURN: Duration = Duration::from_millis(50);
/// An endpoint that takes longer is not asked for this sample.
const SCRAPE_MAX: Duration = Duration::from_secs(2);
/// Points of a series; beyond, every other one is dropped: the rest still spans the whole test.
const POINTS_MAX: usize = 7_200;
/// Series of one test: agents have a few hundred metrics.
const SERIES_MAX: usize = 4_000;

/// Whom to ask what.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    pub(crate) process: bool,
    pub(crate) interval: Duration,
    pub(crate) prometheus: Option<Scrape>,
    /// Counters that are read with every sample.
    pub(crate) counters: Vec<(String, Source)>,
}

#[derive(Debug, Clone)]
pub(crate) struct Scrape {
    pub(crate) url: String,
    pub(crate) include: Vec<String>,
    pub(crate) exclude: Vec<String>,
}

impl Scrape {
    fn wants(&self, name: &str) -> bool {
        let any = |patterns: &[String]| patterns.iter().any(|it| prometheus::matches(it, name));
        (self.include.is_empty() || any(&self.include)) && !any(&self.exclude)
    }
}

/// Component and metric.
pub(crate) type Key = (String, String);

/// Values by time in seconds since the run began.
pub(crate) type Points = Vec<(f64, f64)>;

/// What grows only; other metrics go up and down.
const CUMULATIVE: [&str; 3] = ["cpu_seconds", "disk_read", "disk_written"];

pub(crate) fn is_cumulative(metric: &str) -> bool {
    CUMULATIVE.contains(&metric)
}

/// The unit of what a process uses; of others nobody knows.
pub(crate) fn unit(metric: &str) -> &'static str {
    match metric {
        "cpu" => "cores",
        "cpu_seconds" => "s",
        "rss" | "disk_read" | "disk_written" => "bytes",
        _ => "",
    }
}

/// The unit of a window's figure of what a process uses: what grows only is told by its rate there.
pub(crate) fn unit_in_window(metric: &str, figure: &str) -> &'static str {
    match (metric, figure) {
        ("cpu", "delta") => "s",
        ("disk_read" | "disk_written", "min" | "avg" | "max") => "bytes/s",
        _ => unit(metric),
    }
}

#[derive(Debug)]
struct Watched {
    subject: Subject,
    due: Instant,
    /// Nothing is asked of it.
    stopped: bool,
    /// It is asked, but need not answer: it starts, or stops.
    may_be_silent: bool,
    process: Option<u32>,
    /// What its earlier lives have used, and this one so far.
    before: Usage,
    now: Usage,
}

#[derive(Debug)]
struct Board {
    began: Instant,
    watched: BTreeMap<String, Watched>,
    series: BTreeMap<Key, Points>,
    /// Why something could not be asked; by component.
    problems: BTreeMap<String, String>,
}

/// The sampler of one test. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Monitors {
    /// Locked while numbers are written down; never while somebody is waited for.
    board: Arc<Mutex<Board>>,
    fetch: Fetch,
    task: JoinHandle<()>,
}

impl Monitors {
    /// `began` is what times count from.
    pub(crate) fn start(began: Instant, fetch: Fetch) -> Self {
        let board = Arc::new(Mutex::new(Board {
            began,
            watched: BTreeMap::new(),
            series: BTreeMap::new(),
            problems: BTreeMap::new(),
        }));
        let task = tokio::spawn(sample_for_ever(Arc::clone(&board), fetch.clone()));
        Self { board, fetch, task }
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        lock(&self.board)
    }

    /// From now on this component is looked at.
    pub(crate) fn watch(&self, component: &str, subject: Subject) {
        let mut board = self.board();
        let earlier = board.watched.remove(component);
        let (process, before, now) = earlier.map_or_else(
            || (None, Usage::default(), Usage::default()),
            |it| (it.process, it.before, it.now),
        );
        let watched = Watched {
            subject,
            due: Instant::now(),
            stopped: false,
            may_be_silent: false,
            process,
            before,
            now,
        };
        board.watched.insert(component.to_owned(), watched);
    }

    pub(crate) fn forget(&self, component: &str) {
        self.board().watched.remove(component);
    }

    /// The component's process is this one now. What the last one has used still counts.
    pub(crate) fn process(&self, component: &str, process: Option<u32>) {
        let mut board = self.board();
        let Some(watched) = board.watched.get_mut(component) else {
            return;
        };
        watched.before.cpu += watched.now.cpu;
        watched.before.read_bytes += watched.now.read_bytes;
        watched.before.written_bytes += watched.now.written_bytes;
        watched.now = Usage::default();
        watched.process = process;
    }

    /// Whether it is no news when its endpoints do not answer: not yet, or no longer.
    pub(crate) fn may_be_silent(&self, component: &str, may_be_silent: bool) {
        if let Some(watched) = self.board().watched.get_mut(component) {
            watched.may_be_silent = may_be_silent;
        }
    }

    /// It was stopped on purpose: until it is watched again, that its endpoints do not answer is no news.
    pub(crate) fn stopped(&self, component: &str) {
        self.process(component, None);
        if let Some(watched) = self.board().watched.get_mut(component) {
            watched.stopped = true;
        }
    }

    /// Looks at all processes at once, as at the edge of a window.
    pub(crate) fn sample_processes(&self) {
        self.board().sample_processes(|_| true);
    }

    /// Asks all endpoints now.
    pub(crate) async fn sample_endpoints(&self) {
        sample_endpoints(&self.board, &self.fetch, |_| true).await;
    }

    /// Everything there is so far.
    pub(crate) fn series(&self) -> BTreeMap<Key, Points> {
        self.board().series.clone()
    }

    pub(crate) fn problems(&self) -> Vec<String> {
        let board = self.board();
        let problem = |(component, why): (&String, &String)| format!("{component}: {why}");
        board.problems.iter().map(problem).collect()
    }
}

impl Drop for Monitors {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(board: &Mutex<Board>) -> MutexGuard<'_, Board> {
    board.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn sample_for_ever(board: Arc<Mutex<Board>>, fetch: Fetch) {
    loop {
        tokio::time::sleep(TURN).await;
        let now = Instant::now();
        let is_due = |watched: &Watched| watched.due <= now;
        if !lock(&board).watched.values().any(is_due) {
            continue;
        }
        lock(&board).sample_processes(is_due);
        sample_endpoints(&board, &fetch, is_due).await;
        for watched in lock(&board).watched.values_mut() {
            if is_due(watched) {
                watched.due = now + watched.subject.interval;
            }
        }
    }
}

impl Board {
    fn sample_processes(&mut self, which: impl Fn(&Watched) -> bool) {
        let Ok(families) = Families::read() else {
            return;
        };
        let at = self.began.elapsed().as_secs_f64();
        let mut found = Vec::new();
        for (component, watched) in &mut self.watched {
            let process = watched.process.filter(|_| watched.subject.process);
            // One that has just ended has nothing more to say.
            let Some(usage) = process.and_then(|pid| families.usage(pid)) else {
                continue;
            };
            // So has one without memory: it is about to be taken off the list, and would be the least of everything.
            if !which(watched) || usage.memory_bytes == 0 {
                continue;
            }
            watched.now = usage;
            let before = watched.before;
            let cpu = before.cpu + usage.cpu;
            let figures = [
                ("cpu_seconds", cpu.as_secs_f64()),
                ("rss", usage.memory_bytes as f64),
                ("threads", usage.threads as f64),
                ("files", usage.files as f64),
                ("disk_read", (before.read_bytes + usage.read_bytes) as f64),
                (
                    "disk_written",
                    (before.written_bytes + usage.written_bytes) as f64,
                ),
            ];
            found.extend(figures.map(|(name, value)| (component.clone(), name, value)));
        }
        for (component, name, value) in found {
            self.push((component, name.to_owned()), at, value);
        }
    }

    fn problem(&mut self, component: &str, why: String) {
        let watched = self.watched.get(component);
        if watched.is_some_and(|it| !it.stopped && !it.may_be_silent) {
            self.problems.insert(component.to_owned(), why);
        }
    }

    fn push(&mut self, key: Key, at: f64, value: f64) {
        if !self.series.contains_key(&key) && self.series.len() >= SERIES_MAX {
            let why = format!("more than {SERIES_MAX} series: the rest is not kept");
            self.problems.insert(key.0, why);
            return;
        }
        let points = self.series.entry(key).or_default();
        points.push((at, value));
        if points.len() > POINTS_MAX {
            let mut keep = false;
            points.retain(|_| {
                keep = !keep;
                keep
            });
        }
    }
}

async fn sample_endpoints(board: &Mutex<Board>, fetch: &Fetch, which: impl Fn(&Watched) -> bool) {
    let due: Vec<(String, Subject)> = lock(board)
        .watched
        .iter()
        .filter(|(_, watched)| !watched.stopped && which(watched))
        .map(|(component, watched)| (component.clone(), watched.subject.clone()))
        .collect();
    for (component, subject) in due {
        if let Some(scrape) = &subject.prometheus {
            let scraped = fetch.get(&scrape.url, SCRAPE_MAX).await;
            let mut board = lock(board);
            let at = board.began.elapsed().as_secs_f64();
            match scraped {
                Ok(text) => {
                    // What is asked before it listens does not answer yet.
                    board.problems.remove(&component);
                    for (name, value) in prometheus::sums(&text) {
                        if scrape.wants(&name) {
                            board.push((component.clone(), name), at, value);
                        }
                    }
                }
                Err(error) => {
                    board.problem(&component, format!("metrics were not read: {error:#}"));
                }
            }
        }
        for (name, source) in &subject.counters {
            let read = counter::read(source, fetch).await;
            let mut board = lock(board);
            let at = board.began.elapsed().as_secs_f64();
            match read {
                Ok(value) => {
                    let value = value.unwrap_or(0.0);
                    board.push((component.clone(), name.clone()), at, value);
                }
                Err(error) => {
                    let why = format!("counter {name} was not read: {error:#}");
                    board.problem(&component, why);
                }
            }
        }
    }
}

/// A metric of a component within a window.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Resource {
    pub(crate) component: String,
    pub(crate) metric: String,
    pub(crate) min: f64,
    pub(crate) avg: f64,
    pub(crate) max: f64,
    /// From its first value to its last.
    pub(crate) delta: f64,
}

/// Two looks at a process closer than this say little about its rate: CPU time comes in steps of 10 ms.
pub(super) const RATE_SECONDS_MIN: f64 = 0.1;
/// The looks at a window's edges are a little before and after them.
const EDGE_SECONDS: f64 = 0.05;

/// What was used between two times.
pub(crate) fn within(series: &BTreeMap<Key, Points>, from: f64, to: f64) -> Vec<Resource> {
    let mut found = Vec::new();
    for ((component, metric), points) in series {
        let points: Points = points
            .iter()
            .filter(|(at, _)| *at >= from - EDGE_SECONDS && *at <= to + EDGE_SECONDS)
            .copied()
            .collect();
        let (Some(first), Some(last)) = (points.first(), points.last()) else {
            continue;
        };
        let delta = last.1 - first.1;
        let rates = is_cumulative(metric).then(|| rates(&points));
        let values: Vec<f64> = match &rates {
            Some(rates) => rates.clone(),
            None => points.iter().map(|(_, value)| *value).collect(),
        };
        if values.is_empty() {
            continue;
        }
        let avg = match rates {
            Some(_) => delta / (last.0 - first.0),
            None => values.iter().sum::<f64>() / values.len() as f64,
        };
        found.push(Resource {
            component: component.clone(),
            metric: match metric.as_str() {
                "cpu_seconds" => "cpu".to_owned(),
                other => other.to_owned(),
            },
            min: values.iter().copied().fold(f64::INFINITY, f64::min),
            avg,
            max: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            delta,
        });
    }
    found
}

/// The rates between looks far enough apart; together they cover everything from the first to the last.
fn rates(points: &Points) -> Vec<f64> {
    let Some((first, rest)) = points.split_first() else {
        return Vec::new();
    };
    let mut marks = vec![*first];
    for point in rest {
        let far = |mark: &(f64, f64)| point.0 - mark.0 >= RATE_SECONDS_MIN;
        if marks.last().is_some_and(far) {
            marks.push(*point);
        }
    }
    // A last look that is too close moves the end of what was before it.
    if let (Some(end), Some(last)) = (marks.last_mut(), rest.last()) {
        *end = *last;
    }
    let pairs = marks.iter().zip(marks.iter().skip(1));
    pairs
        .map(|(from, to)| (to.1 - from.1) / (to.0 - from.0))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_have_rates_of_what_grows_and_values_of_the_rest() {
        let mut series = BTreeMap::new();
        let key = |name: &str| ("agent".to_owned(), name.to_owned());
        series.insert(
            key("cpu_seconds"),
            vec![(0.0, 5.0), (1.0, 5.5), (2.0, 6.5), (3.0, 6.5), (9.0, 9.0)],
        );
        series.insert(key("rss"), vec![(0.5, 100.0), (1.5, 300.0), (9.0, 900.0)]);
        let found = within(&series, 0.0, 3.0);
        let [cpu, rss] = found.as_slice() else {
            panic!("{found:?}");
        };
        assert_eq!(
            (cpu.metric.as_str(), cpu.min, cpu.avg, cpu.max),
            ("cpu", 0.0, 0.5, 1.0)
        );
        assert!((cpu.delta - 1.5).abs() < 1e-9);
        assert_eq!(
            (rss.min, rss.avg, rss.max, rss.delta),
            (100.0, 200.0, 300.0, 200.0)
        );
        assert!(within(&series, 4.0, 5.0).is_empty());
    }

    #[test]
    fn an_average_is_between_the_least_and_the_most() {
        let key = ("agent".to_owned(), "disk_written".to_owned());
        let check = |points: &[(f64, f64)], expected: Option<(f64, f64, f64)>| {
            let series = BTreeMap::from([(key.clone(), points.to_vec())]);
            let found = within(&series, 0.0, 10.0);
            let found = found.first().map(|found| (found.min, found.avg, found.max));
            assert_eq!(found, expected, "{points:?}");
        };
        check(
            &[(0.0, 0.0), (1.0, 2.0), (2.0, 2.0), (2.0625, 35.0)],
            Some((2.0, 35.0 / 2.0625, 33.0 / 1.0625)),
        );
        check(&[(0.0, 0.0), (0.01, 1.0), (0.02, 2.0)], None);
        check(&[(0.0, 1.0)], None);
    }

    #[tokio::test]
    async fn a_process_is_watched_over_its_lives() {
        let monitors = Monitors::start(Instant::now(), Fetch::new());
        let subject = Subject {
            process: true,
            interval: Duration::from_secs(600),
            prometheus: None,
            counters: Vec::new(),
        };
        monitors.watch("own", subject);
        monitors.process("own", Some(std::process::id()));
        monitors.sample_processes();
        let cpu = |monitors: &Monitors| {
            let series = monitors.series();
            let points = &series[&("own".to_owned(), "cpu_seconds".to_owned())];
            points.last().unwrap().1
        };
        let first = cpu(&monitors);
        // The same once more: as if it were another life that has used as much.
        monitors.process("own", Some(std::process::id()));
        monitors.sample_processes();
        assert!(cpu(&monitors) >= 2.0 * first);
        monitors.process("own", None);
        let count = monitors.series().len();
        monitors.sample_processes();
        assert_eq!(monitors.series().len(), count);
    }
}
