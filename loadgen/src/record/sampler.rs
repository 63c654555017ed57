//! Looks at a process once a second: CPU and memory over the time of a run.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{Labels, POINTS_MAX, Series};
use crate::process::Process;

const INTERVAL: Duration = Duration::from_secs(1);

/// A task that samples until it is stopped; dropping it ends the task.
#[derive(Debug)]
pub(crate) struct Sampler {
    /// Dropped to stop.
    stop: oneshot::Sender<()>,
    task: JoinHandle<Samples>,
    labels: Labels,
}

#[derive(Debug)]
struct Samples {
    process: Process,
    start: Instant,
    last: (Instant, Duration),
    /// Cores in use.
    cpu: Vec<(f64, f64)>,
    /// Resident bytes.
    memory: Vec<(f64, f64)>,
}

impl Sampler {
    /// Samples `process` from now on; `name` becomes label `process`, and seconds count from `start`.
    pub(crate) fn start(process: Process, name: &str, start: Instant) -> Self {
        let (stop, stopped) = oneshot::channel();
        let samples = Samples {
            process,
            start,
            last: (Instant::now(), process.cpu().unwrap_or_default()),
            cpu: Vec::new(),
            memory: Vec::new(),
        };
        Self {
            stop,
            task: tokio::spawn(samples.take_until(stopped)),
            labels: Labels::from([("process".to_owned(), name.to_owned())]),
        }
    }

    /// `cpu` (cores in use) and `rss` (bytes) over time.
    pub(crate) async fn stop(self) -> Vec<Series> {
        drop(self.stop);
        let Ok(samples) = self.task.await else {
            return Vec::new();
        };
        let series = |name: &str, unit: &str, points| Series {
            name: name.to_owned(),
            labels: self.labels.clone(),
            unit: unit.to_owned(),
            points,
        };
        vec![
            series("cpu", "cores", samples.cpu),
            series("rss", "bytes", samples.memory),
        ]
    }
}

impl Samples {
    async fn take_until(mut self, mut stopped: oneshot::Receiver<()>) -> Self {
        let mut interval = INTERVAL;
        loop {
            let stopped = tokio::select! {
                () = tokio::time::sleep(interval) => false,
                _ = &mut stopped => true,
            };
            // After less than half an interval, CPU time in clock ticks says little about the rate.
            if !stopped || self.last.0.elapsed() > interval / 2 || self.cpu.is_empty() {
                self.take();
            }
            if stopped {
                return self;
            }
            if self.cpu.len() >= POINTS_MAX {
                self.cpu = thinned(&self.cpu);
                self.memory = thinned(&self.memory);
                interval *= 2;
            }
        }
    }

    /// Adds a point to each series; none of a process that has ended.
    fn take(&mut self) {
        let now = Instant::now();
        let at = now.saturating_duration_since(self.start).as_secs_f64();
        if let Ok(cpu) = self.process.cpu() {
            let used = cpu.saturating_sub(self.last.1).as_secs_f64();
            let time = (now - self.last.0).as_secs_f64().max(1e-9);
            self.cpu.push((at, used / time));
            self.last = (now, cpu);
        }
        if let Ok(memory) = self.process.memory() {
            self.memory.push((at, memory as f64));
        }
    }
}

/// Each two points become one.
pub(super) fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mean = |pair: &[(f64, f64)]| {
        let sum: f64 = pair.iter().map(|(_, value)| value).sum();
        let at = pair.last().map_or(0.0, |(at, _)| *at);
        (at, sum / pair.len() as f64)
    };
    points.chunks(2).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_short_run_has_a_sample_too() {
        let series = Sampler::start(Process::own(), "loadgen", Instant::now())
            .stop()
            .await;
        let names: Vec<_> = series.iter().map(|series| series.name.as_str()).collect();
        assert_eq!(names, ["cpu", "rss"]);
        assert!(series[1].points[0].1 > 100_000.0);
    }

    #[test]
    fn thinning_keeps_the_mean_and_the_end() {
        let points = [(1.0, 1.0), (2.0, 3.0), (3.0, 7.0)];
        assert_eq!(thinned(&points), [(2.0, 2.0), (3.0, 7.0)]);
    }
}
