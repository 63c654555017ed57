//! What guests log, among what the agent logs: cut, and only so and so much of it.

use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;
use tracing::{debug, error, info, trace, warn};

use super::bindings::Level;
use crate::telemetry::Counter;

/// Lines at once; a start that goes wrong has a lot to say.
const LINES_BURST: u32 = 20;

/// Lines per second afterwards.
const LINES_PER_SECOND: f64 = 2.0;

/// Bytes of a line.
const LINE_MAX: usize = 1024;

/// The log of one plugin in one pipeline.
pub(super) struct GuestLog {
    processor: String,
    signal: &'static str,
    discarded: Counter,
    /// Guards the allowance.
    allowance: Mutex<Allowance>,
}

struct Allowance {
    lines: f64,
    at: Instant,
    left_out: u64,
}

impl GuestLog {
    pub(super) fn new(processor: &str, signal: &'static str, discarded: Counter) -> Self {
        Self {
            processor: processor.to_owned(),
            signal,
            discarded,
            allowance: Mutex::new(Allowance {
                lines: f64::from(LINES_BURST),
                at: Instant::now(),
                left_out: 0,
            }),
        }
    }

    /// Logs a line, if there is room for it.
    pub(super) fn line(&self, level: Level, message: &str) {
        let Some(left_out) = self.take() else {
            self.discarded.inc();
            return;
        };
        let (processor, signal) = (self.processor.as_str(), self.signal);
        let message = told(message);
        if left_out > 0 {
            info!(processor, signal, left_out, "plugin: lines were left out");
        }
        match level {
            Level::Trace => trace!(processor, signal, "plugin: {message}"),
            Level::Debug => debug!(processor, signal, "plugin: {message}"),
            Level::Info => info!(processor, signal, "plugin: {message}"),
            Level::Warn => warn!(processor, signal, "plugin: {message}"),
            Level::Error => error!(processor, signal, "plugin: {message}"),
        }
    }

    /// Whether there is room for a line; if so, how many were left out before it.
    fn take(&self) -> Option<u64> {
        let mut allowance = self
            .allowance
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let more = now.duration_since(allowance.at).as_secs_f64() * LINES_PER_SECOND;
        allowance.lines = (allowance.lines + more).min(f64::from(LINES_BURST));
        allowance.at = now;
        if allowance.lines < 1.0 {
            allowance.left_out += 1;
            return None;
        }
        allowance.lines -= 1.0;
        Some(std::mem::take(&mut allowance.left_out))
    }
}

/// What a plugin says, on one line of at most about a KiB: nobody can take it for another line of the log.
pub(super) fn told(message: &str) -> String {
    escaped(cut(message))
}

/// A text on one line, which says nothing to a terminal.
pub(super) fn escaped(text: &str) -> String {
    let mut line = String::new();
    for letter in text.chars() {
        match letter.is_control() {
            true => line.extend(letter.escape_default()),
            false => line.push(letter),
        }
    }
    line
}

fn cut(message: &str) -> &str {
    let end = message.floor_char_boundary(LINE_MAX);
    message.get(..end).unwrap_or_default().trim_end()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::telemetry::{Telemetry, names};

    #[tokio::test(start_paused = true)]
    async fn a_storm_is_cut_off_and_calm_brings_lines_back() {
        let discarded =
            Telemetry::default().counter(&names::PLUGIN_LOG_DISCARDED, &["wasm", "logs"]);
        let log = GuestLog::new("wasm", "logs", discarded.clone());
        for _ in 0..100_000 {
            log.line(Level::Info, "storm");
        }
        assert_eq!(discarded.get(), 100_000 - u64::from(LINES_BURST));
        assert_eq!(log.take(), None);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(log.take(), Some(100_000 - u64::from(LINES_BURST) + 1));
    }

    #[test]
    fn what_is_said_stays_on_its_line() {
        assert_eq!(told("a\nERROR b\r\tc\n"), "a\\nERROR b\\r\\tc");
        assert_eq!(told("\u{1b}[31mü"), "\\u{1b}[31mü");
        assert!(told(&"\n".repeat(20_000_000)).is_empty());
        assert!(told(&"x\n".repeat(20_000_000)).len() <= 2 * LINE_MAX);
    }

    #[test]
    fn lines_are_cut_between_characters() {
        assert_eq!(cut("short\n"), "short");
        assert_eq!(cut(&"ü".repeat(LINE_MAX)).len(), LINE_MAX);
        assert_eq!(
            cut(&format!("x{}", "ü".repeat(LINE_MAX))).len(),
            LINE_MAX - 1
        );
    }
}
