//! `sending_queue.dead_letter`: what an operator writes, and what it means.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::Section;
use crate::exporters::folder_of;
use crate::signal::Signal;
use crate::units::ByteSize;

/// `sending_queue.dead_letter`: where items are kept that the destination will never take.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DeadLetterOptions {
    /// The folder of the letters: each exporter and signal has a folder of its own in it. With `storage = "wal"` the
    /// default is `dead-letter` in the queue's `directory`; in memory there is none, and such items are dropped.
    pub directory: Option<PathBuf>,
    /// Bytes that the letters of one signal may take on disk. What comes then waits in the log, with `storage = "wal"`,
    /// or is dropped.
    #[schemars(extend("x-at-least" = "1MiB"))]
    pub max_size: ByteSize,
}

impl Default for DeadLetterOptions {
    fn default() -> Self {
        Self {
            directory: None,
            max_size: ByteSize(256 << 20),
        }
    }
}

/// Validated form of [`DeadLetterOptions`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterSettings {
    root: PathBuf,
    max_size: u64,
}

/// A batch of the usual size must fit.
const MAX_SIZE_MIN: u64 = 1 << 20;

impl DeadLetterOptions {
    /// Validates; problems go to `section` under `sending_queue.dead_letter`. `queue` is the folder of a queue on disk.
    pub fn resolve(
        &self,
        section: &mut Section<'_>,
        queue: Option<&Path>,
    ) -> Option<DeadLetterSettings> {
        if self.max_size.0 < MAX_SIZE_MIN {
            section.error(
                "sending_queue.dead_letter.max_size",
                "must be at least 1 MiB",
            );
        }
        if self
            .directory
            .as_ref()
            .is_some_and(|path| path.as_os_str().is_empty())
        {
            section.error(
                "sending_queue.dead_letter.directory",
                "must not be empty: leave it out, or name a folder",
            );
        }
        let root = match (&self.directory, queue) {
            (Some(directory), _) => directory.clone(),
            (None, Some(queue)) => queue.join("dead-letter"),
            (None, None) => return None,
        };
        Some(DeadLetterSettings {
            root,
            max_size: self.max_size.0,
        })
    }
}

impl DeadLetterSettings {
    /// Where the letters of `exporter` for one signal are.
    pub fn folder(&self, exporter: &str, signal: Signal) -> PathBuf {
        self.root.join(folder_of(exporter)).join(signal.name())
    }

    /// Bytes that the letters of one signal may take on disk.
    pub fn max_size(&self) -> u64 {
        self.max_size
    }
}
