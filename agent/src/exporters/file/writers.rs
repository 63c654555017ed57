//! The open files of one exporter, as many as are allowed: the one unused for longest gives way.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tracing::{error, info};

use super::writer::{WriteError, Writer, WriterSettings};

/// Files by path.
pub(super) struct Writers {
    settings: WriterSettings,
    open_max: usize,
    /// Each with the time of its last use.
    by_path: BTreeMap<PathBuf, (u64, Writer)>,
    /// Counts uses.
    clock: u64,
    /// Whether the last sync failed: changes are logged, not attempts.
    sync_failing: bool,
}

impl Writers {
    pub(super) fn new(settings: WriterSettings, open_max: usize) -> Self {
        Self {
            settings,
            open_max,
            by_path: BTreeMap::new(),
            clock: 0,
            sync_failing: false,
        }
    }

    /// Opens `path` now.
    pub(super) fn open(&mut self, path: &Path) -> Result<(), WriteError> {
        self.writer(path).open()
    }

    /// Appends one record to the file at `path`.
    pub(super) fn append(&mut self, path: &Path, record: &[&[u8]]) -> Result<(), WriteError> {
        self.writer(path).append(record)
    }

    /// Forces everything appended to the disk. Failures are logged, and tried again the next time.
    pub(super) fn sync(&mut self) {
        let mut failed = None;
        for (_, writer) in self.by_path.values_mut() {
            failed = writer.sync().err().or(failed);
        }
        match &failed {
            Some(cause) if !self.sync_failing => error!(%cause, "forcing data to the disk failed"),
            None if self.sync_failing => info!("forcing data to the disk works again"),
            _ => {}
        }
        self.sync_failing = failed.is_some();
    }

    /// Forces everything appended to the disk, unless that is left to the system; the last failure, if any. The files
    /// stay open and locked until the last worker is gone: whoever waits for them must not come in between.
    pub(super) fn finish(&mut self) -> Result<(), WriteError> {
        if !self.settings.sync_at_close {
            return Ok(());
        }
        let mut finished = Ok(());
        for (_, writer) in self.by_path.values_mut() {
            finished = writer.sync().and(finished);
        }
        finished
    }

    fn writer(&mut self, path: &Path) -> &mut Writer {
        if !self.by_path.contains_key(path) && self.by_path.len() >= self.open_max {
            self.evict();
        }
        self.clock += 1;
        let entry = self
            .by_path
            .entry(path.to_owned())
            .or_insert_with(|| (0, Writer::new(path.to_owned(), self.settings.clone())));
        entry.0 = self.clock;
        &mut entry.1
    }

    fn evict(&mut self) {
        let oldest = self.by_path.iter().min_by_key(|(_, (used, _))| *used);
        let Some(path) = oldest.map(|(path, _)| path.clone()) else {
            return;
        };
        let evicted = self.by_path.remove(&path);
        if let Some(Err(cause)) = evicted.map(|(_, mut writer)| writer.close()) {
            error!(%cause, "closing a file failed");
        }
    }
}
