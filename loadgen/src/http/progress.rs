//! Live progress on standard error: in place on a terminal, else a line each second.

use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

use super::board::Board;
use crate::text::grouped;

const INTERVAL: Duration = Duration::from_secs(1);

/// How progress is shown.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct View {
    /// Also without a terminal.
    pub(crate) forced: bool,
    /// Lines below each other, also on a terminal.
    pub(crate) plain: bool,
}

/// A scenario that is watched.
pub(crate) struct Watched {
    /// Empty for the only one.
    pub(crate) name: String,
    /// Whole time, `None` if that is not known.
    pub(crate) planned: Option<Duration>,
    pub(crate) board: Arc<Board>,
}

/// The task that prints each second until it is told to finish.
pub(crate) struct Progress {
    task: JoinHandle<()>,
    done: oneshot::Sender<()>,
}

impl Progress {
    /// Nothing is shown where there is no terminal, unless that is forced.
    pub(crate) fn start(watched: Vec<Watched>, view: View) -> Option<Self> {
        let terminal = std::io::stderr().is_terminal();
        if !terminal && !view.forced && !view.plain {
            return None;
        }
        let (done, mut finished) = oneshot::channel();
        let start = Instant::now();
        let mut screen = Screen {
            lines: watched.into_iter().map(Line::new).collect(),
            start,
            in_place: terminal && !view.plain,
            drawn: 0,
        };
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval_at(start + INTERVAL, INTERVAL);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    _ = &mut finished => break,
                    _ = ticks.tick() => screen.draw(),
                }
            }
            screen.clear();
        });
        Some(Self { task, done })
    }

    pub(crate) async fn finish(self) {
        // Whether the task still listens or has ended, the next line waits for its end.
        drop(self.done);
        if let Err(error) = self.task.await {
            tracing::warn!(%error, "the progress line ended early");
        }
    }
}

struct Screen {
    lines: Vec<Line>,
    start: Instant,
    in_place: bool,
    /// Lines on the terminal that the next drawing takes the place of.
    drawn: usize,
}

struct Line {
    watched: Watched,
    answered: u64,
}

impl Screen {
    fn draw(&mut self) {
        let elapsed = self.start.elapsed();
        let text: Vec<_> = self
            .lines
            .iter_mut()
            .map(|line| line.text(elapsed))
            .collect();
        let mut stderr = std::io::stderr().lock();
        let mut shown = String::new();
        if self.in_place {
            shown.push_str(&up(self.drawn));
        }
        for line in &text {
            shown.push_str(line);
            shown.push_str(if self.in_place { "\x1b[K\n" } else { "\n" });
        }
        self.drawn = text.len();
        // A closed standard error is no reason to end a measurement.
        drop(stderr.write_all(shown.as_bytes()));
    }

    fn clear(&self) {
        if self.in_place {
            drop(write!(std::io::stderr().lock(), "{}\x1b[J", up(self.drawn)));
        }
    }
}

/// To the beginning of the line so many above.
fn up(lines: usize) -> String {
    match lines {
        0 => "\r".to_owned(),
        lines => format!("\r\x1b[{lines}A"),
    }
}

impl Line {
    fn new(watched: Watched) -> Self {
        Self {
            watched,
            answered: 0,
        }
    }

    fn text(&mut self, elapsed: Duration) -> String {
        let board = &self.watched.board;
        let answered = board.live.answered.load(Ordering::Relaxed);
        let failed = board.live.failed.load(Ordering::Relaxed);
        let last_second = answered.saturating_sub(self.answered);
        self.answered = answered;
        let line = render(elapsed, self.watched.planned, answered, last_second, failed);
        let total = board.total();
        let p99 = total
            .corrected
            .as_ref()
            .unwrap_or(&total.service)
            .summary()
            .p99;
        let name = match self.watched.name.as_str() {
            "" => String::new(),
            name => format!("{name}: "),
        };
        format!("{name}{line}  p99 {p99:.1} ms")
    }
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
