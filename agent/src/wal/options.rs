//! How a log behaves, with defaults for a queue of OTLP requests.

use std::time::Duration;

/// When what is written is made durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fsync {
    /// Before it is answered. A power cut loses nothing.
    #[default]
    Always,
    /// This often. A power cut loses what came since; the end of the process loses nothing.
    Interval(Duration),
    /// When the kernel likes. A power cut loses what the kernel had not written.
    Never,
}

/// How a log behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogOptions {
    /// Bytes of a segment file. A longer body gets a segment of its own size.
    pub segment_bytes: u64,
    /// When appends are made durable.
    pub fsync: Fsync,
    /// Bytes of recent bodies kept in memory for the reader.
    pub cache_bytes: usize,
    /// Bytes of bodies that may wait for the disk at once; more is refused as [`super::Error::Busy`].
    pub pending_bytes: usize,
    /// How long the log must have been idle and empty before its files shrink.
    pub idle: Duration,
    /// How long until the disk is asked again for what it refused.
    pub retry: Duration,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 16 << 20,
            fsync: Fsync::Always,
            cache_bytes: 16 << 20,
            pending_bytes: 64 << 20,
            idle: Duration::from_secs(5),
            retry: Duration::from_secs(1),
        }
    }
}

impl LogOptions {
    /// Bytes at a segment's end that data leaves to control records: what is delivered can be noted, and so space be
    /// won back, when the disk gives no more.
    pub(super) fn reserve(&self) -> u64 {
        (self.segment_bytes / 8).min(64 << 10)
    }
}
