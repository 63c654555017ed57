//! The live progress line on standard error.

use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

use super::options::Load;
use super::worker::Live;
use crate::text::grouped;

const INTERVAL: Duration = Duration::from_secs(1);

/// The task that prints a line each second until it is told to finish.
pub(crate) struct Progress {
    task: JoinHandle<()>,
    done: oneshot::Sender<()>,
}

impl Progress {
    pub(crate) fn start(live: Arc<Live>, load: &Load, start: Instant) -> Self {
        let (done, mut finished) = oneshot::channel();
        let mut line = Line {
            planned: planned(load),
            start,
            answered: 0,
            terminal: std::io::stderr().is_terminal(),
        };
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval_at(start + INTERVAL, INTERVAL);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    _ = &mut finished => break,
                    _ = ticks.tick() => line.print(&live),
                }
            }
            line.clear();
        });
        Self { task, done }
    }

    pub(crate) async fn finish(self) {
        // Whether the task still listens or has ended, the next line waits for its end.
        drop(self.done);
        if let Err(error) = self.task.await {
            tracing::warn!(%error, "the progress line ended early");
        }
    }
}

struct Line {
    planned: Option<Duration>,
    start: Instant,
    answered: u64,
    terminal: bool,
}

impl Line {
    fn print(&mut self, live: &Live) {
        let answered = live.answered.load(Ordering::Relaxed);
        let failed = live.failed.load(Ordering::Relaxed);
        let text = render(
            self.start.elapsed(),
            self.planned,
            answered,
            answered - self.answered,
            failed,
        );
        self.answered = answered;
        let mut stderr = std::io::stderr().lock();
        // A closed standard error is no reason to end a measurement.
        drop(if self.terminal {
            write!(stderr, "\r{text}\x1b[K")
        } else {
            writeln!(stderr, "{text}")
        });
    }

    fn clear(&self) {
        if self.terminal {
            drop(write!(std::io::stderr().lock(), "\r\x1b[K"));
        }
    }
}

fn planned(load: &Load) -> Option<Duration> {
    load.duration.map(|it| it + load.warm_up)
}

fn render(
    elapsed: Duration,
    planned: Option<Duration>,
    answered: u64,
    last_second: u64,
    failed: u64,
) -> String {
    let of = planned
        .map(|it| format!(" of {:.0} s", it.as_secs_f64()))
        .unwrap_or_default();
    format!(
        "{:.0} s{of}  {} requests  {}/s  {} errors",
        elapsed.as_secs_f64(),
        grouped(answered),
        grouped(last_second),
        grouped(failed)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_tells_time_count_rate_and_errors() {
        let second = Duration::from_secs(1);
        assert_eq!(
            render(second * 3, Some(second * 20), 12_345, 4_115, 7),
            "3 s of 20 s  12,345 requests  4,115/s  7 errors"
        );
        assert_eq!(
            render(second, None, 5, 5, 0),
            "1 s  5 requests  5/s  0 errors"
        );
    }
}
