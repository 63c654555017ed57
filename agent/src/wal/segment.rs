//! The segment being written: begun durably, written at its end, cut back after a failure, sealed.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::Error;
use super::files::{Files, LogFile, write_full};
use super::layout::{PREPARED, SEGMENT_HEADER, SegmentHeader, segment_name};

/// A file with its space reserved, to become a segment.
#[derive(Debug)]
pub(super) struct Prepared {
    file: Arc<dyn LogFile>,
    capacity: u64,
}

impl Prepared {
    /// Makes the file, `capacity` bytes long; 0 reserves nothing.
    pub(super) fn make(files: &dyn Files, dir: &Path, capacity: u64) -> Result<Self, Error> {
        let path = dir.join(PREPARED);
        let file = files
            .create(&path)
            .map_err(|error| Error::io("create", &path, error))?;
        let prepared = Self { file, capacity };
        if capacity > 0
            && let Err(error) = prepared.file.preallocate(capacity)
        {
            // What little was reserved goes back; the error that matters is the first.
            files.remove(&path).ok();
            return Err(Error::io("reserve space for", &path, error));
        }
        Ok(prepared)
    }

    pub(super) fn capacity(&self) -> u64 {
        self.capacity
    }
}

/// The segment being written.
#[derive(Debug)]
pub(super) struct Active {
    file: Arc<dyn LogFile>,
    pub(super) path: PathBuf,
    /// Where the next record goes.
    pub(super) written: u64,
    /// All before this offset, and all records below this number, have been synced.
    pub(super) synced: Mark,
    /// Bytes reserved.
    pub(super) capacity: u64,
}

/// An offset in a segment and the number of the record there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) offset: u64,
    pub(super) seq: u64,
}

impl Active {
    /// Makes a segment of a prepared file. Durable on return unless `durable` is false.
    pub(super) fn begin(
        files: &dyn Files,
        dir: &Path,
        prepared: Prepared,
        header: &SegmentHeader,
        durable: bool,
    ) -> Result<Self, Error> {
        let Prepared { file, capacity } = prepared;
        let temporary = dir.join(PREPARED);
        let path = dir.join(segment_name(header.first_seq));
        write_full(&*file, &mut [IoSlice::new(&header.encode())], 0)
            .map_err(|error| Error::io("write", &temporary, error))?;
        if durable {
            file.sync()
                .map_err(|error| Error::io("sync", &temporary, error))?;
        }
        files
            .rename(&temporary, &path)
            .map_err(|error| Error::io("name", &path, error))?;
        if durable {
            files
                .sync_dir(dir)
                .map_err(|error| Error::io("sync", dir, error))?;
        }
        Ok(Self {
            file,
            path,
            written: SEGMENT_HEADER as u64,
            synced: Mark {
                offset: SEGMENT_HEADER as u64,
                seq: header.first_seq,
            },
            capacity,
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.written == SEGMENT_HEADER as u64
    }

    /// Reserves space for `capacity` bytes in all.
    pub(super) fn reserve(&mut self, capacity: u64) -> Result<(), Error> {
        self.file
            .preallocate(capacity)
            .map_err(|error| Error::io("reserve space for", &self.path, error))?;
        self.capacity = capacity;
        Ok(())
    }

    /// Writes at the end.
    pub(super) fn write(&mut self, parts: &mut [IoSlice<'_>], len: u64) -> Result<(), Error> {
        write_full(&*self.file, parts, self.written)
            .map_err(|error| Error::io("write", &self.path, error))?;
        self.written += len;
        Ok(())
    }

    /// Makes what is written durable; `next_seq` is the number of the record that comes next.
    pub(super) fn sync(&mut self, next_seq: u64) -> Result<(), Error> {
        self.file
            .sync()
            .map_err(|error| Error::io("sync", &self.path, error))?;
        self.synced = Mark {
            offset: self.written,
            seq: next_seq,
        };
        Ok(())
    }

    /// Removes what is behind `offset`, durably: after it nothing is written to this segment any more.
    pub(super) fn cut(&self, offset: u64) -> io::Result<()> {
        self.file.set_len(offset)?;
        self.file.sync()
    }

    /// Gives back reserved space that was not used.
    pub(super) fn release(&mut self) -> io::Result<()> {
        self.capacity = self.written;
        self.file.set_len(self.written)
    }
}
