//! `sending_queue`: what an operator writes, and what it means.

use std::borrow::Cow;
use std::path::PathBuf;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::memory::Sizer;
use crate::config::{Section, Unsupported};
use crate::exporters::dead_letter::{DeadLetterOptions, DeadLetterSettings};
use crate::gather::Batching;
use crate::units::{ByteSize, DURATION_PATTERN, HumanDuration};
use crate::wal::Fsync;

/// `sending_queue`: what waits for the destination.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct QueueOptions {
    /// Without a queue every client waits for the destination's answer.
    pub enabled: bool,
    /// Batches sent at the same time, at least 1.
    #[schemars(range(min = 1, max = 1024))]
    pub num_consumers: usize,
    /// How much waits in memory, in the unit of `sizer`. A full queue refuses; it drops nothing.
    #[schemars(range(min = 1))]
    pub queue_size: usize,
    /// What `queue_size` counts: `requests`, `items` or `bytes`.
    pub sizer: Sizer,
    /// Whether clients are answered only after delivery. Takes effect in pipelines without `batch`.
    pub wait_for_result: bool,
    /// Forms batches behind the queue, instead of the `batch` processor.
    pub batch: Option<BatchOptions>,
    /// Where what waits is kept: `memory`, or `wal`, a log on disk that outlives crashes and restarts.
    pub storage: Storage,
    /// The folder of the logs, for `wal`: each exporter and signal has a folder of its own in it. Without it, `queue` in
    /// the folder that systemd names in `$STATE_DIRECTORY`.
    pub directory: Option<PathBuf>,
    /// Bytes that a signal's log may take on disk, for `wal`.
    #[schemars(extend("x-at-least" = "1MiB"))]
    pub max_size: ByteSize,
    /// How long a log keeps what cannot be delivered, for `wal`; `0` means for as long as it takes.
    pub max_age: HumanDuration,
    /// What happens when a log has `max_size`: `refuse` new data, or `drop_oldest`.
    pub on_full: OnFull,
    /// When what is written is made durable, for `wal`: `always`, before the client is answered; `never`, when the
    /// kernel likes; or a time such as `100ms`, what a power cut may cost.
    pub fsync: FsyncOption,
    /// Not supported: a queue never blocks, it refuses with a hint.
    pub block_on_overflow: Unsupported,
    /// Where items are kept that the destination will never take.
    pub dead_letter: DeadLetterOptions,
}

impl Default for QueueOptions {
    fn default() -> Self {
        Self {
            enabled: true,
            num_consumers: 10,
            queue_size: 1000,
            sizer: Sizer::Requests,
            wait_for_result: false,
            batch: None,
            storage: Storage::Memory,
            directory: None,
            max_size: ByteSize(1 << 30),
            max_age: HumanDuration::from_secs(0),
            on_full: OnFull::Refuse,
            fsync: FsyncOption::default(),
            block_on_overflow: Unsupported::default(),
            dead_letter: DeadLetterOptions::default(),
        }
    }
}

/// `sending_queue.batch`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BatchOptions {
    /// How long an item waits for others at most.
    pub flush_timeout: HumanDuration,
    /// Items that complete a batch.
    pub min_size: usize,
    /// Items in a batch at most; `0` means no limit.
    pub max_size: usize,
}

impl Default for BatchOptions {
    fn default() -> Self {
        Self {
            flush_timeout: HumanDuration::from_millis(200),
            min_size: 8192,
            max_size: 0,
        }
    }
}

/// Where a queue keeps what waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Storage {
    /// In memory.
    #[default]
    Memory,
    /// In a log on disk.
    Wal,
}

/// What a full log does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFull {
    /// Refuses new data.
    #[default]
    Refuse,
    /// Gives up the oldest data, and counts it.
    DropOldest,
}

/// When what is written is made durable.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct FsyncOption(String);

impl JsonSchema for FsyncOption {
    fn schema_name() -> Cow<'static, str> {
        "Fsync".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": format!("^(always|never|{DURATION_PATTERN})$"),
            "examples": ["always", "100ms", "never"],
        })
    }
}

impl Default for FsyncOption {
    fn default() -> Self {
        Self("always".to_owned())
    }
}

impl FsyncOption {
    fn resolve(&self) -> Result<Fsync, String> {
        match self.0.as_str() {
            "always" => Ok(Fsync::Always),
            "never" => Ok(Fsync::Never),
            interval => interval
                .parse::<HumanDuration>()
                .ok()
                .filter(|interval| !interval.0.is_zero())
                .map(|interval| Fsync::Interval(interval.0))
                .ok_or_else(|| {
                    format!("`{interval}` is neither `always`, `never` nor a time such as `100ms`")
                }),
        }
    }
}

/// Validated settings of a queue.
#[derive(Debug, Clone, PartialEq)]
pub struct QueueSettings {
    pub(super) sizer: Sizer,
    pub(super) capacity: usize,
    pub(super) wait_for_result: bool,
    /// `None` leaves it to the pipelines.
    pub(super) batching: Option<Batching>,
    pub(super) durable: Option<DurableSettings>,
    pub(super) dead_letter: Option<DeadLetterSettings>,
    /// Whether batches are handed in one by one, with their names, instead of coming from pipelines.
    pub(super) replays: bool,
}

/// Validated settings of a queue on disk.
#[derive(Debug, Clone, PartialEq)]
pub struct DurableSettings {
    pub(super) directory: PathBuf,
    pub(super) max_size: u64,
    pub(super) max_age: Option<Duration>,
    pub(super) on_full: OnFull,
    pub(super) fsync: Fsync,
}

/// Segments are 1/16 of it, and a few must fit.
const MAX_SIZE_MIN: u64 = 1 << 20;

impl QueueOptions {
    /// Validates; problems go to `section` under `sending_queue`.
    pub fn resolve(&self, section: &mut Section<'_>) -> QueueSettings {
        section.refuse(
            "sending_queue.block_on_overflow",
            &self.block_on_overflow,
            "a full queue refuses with a hint when to try again",
        );
        if self.queue_size == 0 {
            section.error("sending_queue.queue_size", "must be at least 1");
        }
        let batching = self.batch.as_ref().map(|batch| {
            if batch.max_size != 0 && batch.max_size < batch.min_size {
                section.error(
                    "sending_queue.batch.max_size",
                    "must be 0 (no limit) or at least min_size",
                );
            }
            Batching {
                processor: None,
                timeout: batch.flush_timeout.0,
                size: batch.min_size,
                max_size: (batch.max_size != 0).then_some(batch.max_size),
            }
        });
        let durable = match self.storage {
            Storage::Memory => None,
            Storage::Wal => self.resolve_durable(section),
        };
        let folder = durable.as_ref().map(|durable| durable.directory.as_path());
        QueueSettings {
            dead_letter: self.dead_letter.resolve(section, folder),
            replays: false,
            sizer: self.sizer,
            capacity: self.queue_size,
            wait_for_result: self.wait_for_result || !self.enabled,
            batching,
            durable,
        }
    }

    fn resolve_durable(&self, section: &mut Section<'_>) -> Option<DurableSettings> {
        if !self.enabled {
            section.error(
                "sending_queue.enabled",
                "`storage = \"wal\"` needs a queue: remove one of the two",
            );
        }
        if self.wait_for_result {
            section.error(
                "sending_queue.wait_for_result",
                "with `storage = \"wal\"` clients are answered when their data is on disk",
            );
        }
        if self.max_size.0 < MAX_SIZE_MIN {
            section.error("sending_queue.max_size", "must be at least 1 MiB");
        }
        let fsync = self.fsync.resolve();
        if let Err(problem) = &fsync {
            section.error("sending_queue.fsync", problem.as_str());
        }
        let directory = self.directory.clone().or_else(|| {
            // systemd separates several folders by colons.
            let state = std::env::var("STATE_DIRECTORY").ok()?;
            let first = state.split(':').next().filter(|first| !first.is_empty())?;
            Some(PathBuf::from(first).join("queue"))
        });
        let Some(directory) = directory else {
            section.error(
                "sending_queue.storage",
                "`wal` needs `directory`, the folder of its logs: $STATE_DIRECTORY, which would be the default, is not set",
            );
            return None;
        };
        Some(DurableSettings {
            directory,
            max_size: self.max_size.0,
            max_age: (!self.max_age.0.is_zero()).then_some(self.max_age.0),
            on_full: self.on_full,
            fsync: fsync.ok()?,
        })
    }
}

impl QueueSettings {
    /// A short queue in memory.
    pub fn short(capacity: usize) -> Self {
        Self {
            sizer: Sizer::Requests,
            capacity,
            wait_for_result: false,
            batching: None,
            durable: None,
            dead_letter: None,
            replays: false,
        }
    }

    /// A queue for sending dead letters again: nothing on disk, nothing gathered.
    pub fn for_replay() -> Self {
        Self {
            replays: true,
            ..Self::short(1)
        }
    }

    /// Where items go that the destination will never take.
    pub fn dead_letter(&self) -> Option<&DeadLetterSettings> {
        self.dead_letter.as_ref()
    }

    /// Whether this is [`QueueSettings::for_replay`].
    pub fn replays(&self) -> bool {
        self.replays
    }

    /// What its size and capacity count.
    pub fn unit(&self) -> &'static str {
        match &self.durable {
            Some(_) => Sizer::Bytes.name(),
            None => self.sizer.name(),
        }
    }

    /// Whether what waits outlives the process.
    pub fn is_durable(&self) -> bool {
        self.durable.is_some()
    }
}
