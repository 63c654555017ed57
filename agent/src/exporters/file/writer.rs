//! One file: opened with its torn tail cut off, appended to in whole records or not at all, rotated, synced.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use thiserror::Error;
use tracing::{info, warn};

use super::backups;
use super::options::Rotation;
use super::tail::{self, Framing, Tail};
use crate::telemetry::Counter;

/// What a file could not do. All of it may work later.
#[derive(Debug, Error)]
pub(super) enum WriteError {
    /// Another process, or the configuration before a reload, still writes to it.
    #[error("{path} is locked: another process writes to it")]
    Locked { path: String },
    /// It holds something else; appending would spoil it, and so would cutting.
    #[error(
        "{path} holds something at byte {offset} that this exporter, with its format and compression, did not write; \
         move the file away or write to another"
    )]
    Foreign { path: String, offset: u64 },
    /// The system refused.
    #[error("{attempted} {path}: {cause}")]
    Io {
        attempted: &'static str,
        path: String,
        cause: io::Error,
    },
}

impl WriteError {
    /// Whether no record can ever go to this path: one made from data goes elsewhere then, or it would block the exporter.
    pub(super) fn rules_out_the_path(&self) -> bool {
        use io::ErrorKind::{InvalidFilename, IsADirectory, NotADirectory};
        match self {
            Self::Io { cause, .. } => {
                matches!(cause.kind(), InvalidFilename | IsADirectory | NotADirectory)
                    || cause.kind() == io::ErrorKind::AlreadyExists
            }
            Self::Foreign { .. } => true,
            Self::Locked { .. } => false,
        }
    }

    /// Whether there is no such folder.
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Self::Io { cause, .. } if cause.kind() == io::ErrorKind::NotFound)
    }

    fn io(attempted: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.display().to_string();
        move |cause| Self::Io {
            attempted,
            path,
            cause,
        }
    }
}

/// The operations on an open file that can fail half-way; a seam for tests that make them fail.
pub(super) trait Appendable: Send {
    /// Appends all of `bytes`, or fails having appended any part of them.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Cuts the file to `len` bytes.
    fn truncate(&mut self, len: u64) -> io::Result<()>;
    /// Forces the file to the disk.
    fn sync(&mut self) -> io::Result<()>;
    /// The file itself, for what does not fail half-way.
    fn file(&self) -> &File;
}

impl Appendable for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn file(&self) -> &File {
        self
    }
}

/// How the files of one exporter are written.
#[derive(Clone)]
pub(super) struct WriterSettings {
    pub(super) framing: Framing,
    pub(super) truncate_at_start: bool,
    pub(super) directory_mode: Option<u32>,
    pub(super) rotation: Option<Rotation>,
    /// Whether every append is synced.
    pub(super) sync_always: bool,
    /// Whether files are synced before they are closed.
    pub(super) sync_at_close: bool,
    /// Lets tests put something between the writer and the file.
    pub(super) wrap: fn(File) -> Box<dyn Appendable>,
    pub(super) torn_tails: Counter,
    pub(super) rotations: Counter,
}

/// One file, opened when it is first needed and again whenever its path leads elsewhere.
pub(super) struct Writer {
    path: PathBuf,
    settings: WriterSettings,
    open: Option<Open>,
    /// Whether the file was written to before, by this writer or by the one that it follows: only a file that nobody has
    /// written to since the start may be truncated.
    begun: bool,
}

struct Open {
    file: Box<dyn Appendable>,
    /// Device and inode, to notice when the path leads elsewhere.
    identity: (u64, u64),
    /// Whether something was appended since the last sync.
    dirty: bool,
    /// Whether what is not to stay in it has been taken away. Until there is something to write it is as it was: an exporter
    /// that is built and never started, as for a dry run of a reload, changes nothing.
    tidy: bool,
}

impl Writer {
    pub(super) fn new(path: PathBuf, settings: WriterSettings) -> Self {
        Self {
            path,
            settings,
            open: None,
            begun: false,
        }
    }

    /// Opens the file, so that what prevents writing is known now. What is in it stays.
    pub(super) fn open(&mut self) -> Result<(), WriteError> {
        self.opened().map(drop)
    }

    /// Appends `parts`, one whole record, or nothing: what a failure left behind is cut off again.
    pub(super) fn append(&mut self, parts: &[&[u8]]) -> Result<(), WriteError> {
        let record_len: u64 = parts.iter().map(|part| part.len() as u64).sum();
        self.reopen_if_moved()?;
        self.tidy()?;
        let mut before = self.opened_len()?;
        if self.is_full(before, record_len) {
            self.rotate()?;
            before = self.opened_len()?;
        }
        let sync = self.settings.sync_always;
        let path = self.path.clone();
        let open = self.opened()?;
        let Err(cause) = open.write(parts, sync) else {
            return Ok(());
        };
        if let Err(cause) = open.file.truncate(before) {
            warn!(path = %path.display(), %cause, "cutting off a half-written record failed; it is tried again when the file is next opened");
            self.open = None;
        }
        Err(WriteError::io("write to", &path)(cause))
    }

    /// Forces what was appended to the disk.
    pub(super) fn sync(&mut self) -> Result<(), WriteError> {
        match &mut self.open {
            Some(open) if open.dirty => {
                open.file
                    .sync()
                    .map_err(WriteError::io("sync", &self.path))?;
                open.dirty = false;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Closes the file; it is opened again by the next append.
    pub(super) fn close(&mut self) -> Result<(), WriteError> {
        let synced = if self.settings.sync_at_close {
            self.sync()
        } else {
            Ok(())
        };
        self.open = None;
        synced
    }

    fn is_full(&self, len: u64, more: u64) -> bool {
        self.settings
            .rotation
            .as_ref()
            .is_some_and(|rotation| len > 0 && len.saturating_add(more) > rotation.max_bytes)
    }

    fn rotate(&mut self) -> Result<(), WriteError> {
        let Some(rotation) = self.settings.rotation.clone() else {
            return Ok(());
        };
        if self.settings.sync_at_close {
            self.sync()?;
        }
        let now = SystemTime::now();
        let backup = backups::rotate(&self.path, &rotation, now)
            .map_err(WriteError::io("rotate", &self.path))?;
        self.open = None;
        self.settings.rotations.inc();
        info!(path = %self.path.display(), backup = %backup.display(), "file rotated");
        backups::expire(&self.path, &rotation, now);
        Ok(())
    }

    /// Lets go of a file that was renamed, removed or replaced under its path, as by logrotate.
    fn reopen_if_moved(&mut self) -> Result<(), WriteError> {
        let Some(open) = &self.open else {
            return Ok(());
        };
        let leads_here = std::fs::metadata(&self.path)
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == open.identity);
        if leads_here {
            return Ok(());
        }
        info!(path = %self.path.display(), "the file was moved or removed: opening it anew");
        self.close()
    }

    fn opened(&mut self) -> Result<&mut Open, WriteError> {
        if self.open.is_none() {
            let opened = self.open_now();
            self.begun |= matches!(&opened, Err(WriteError::Locked { .. }));
            self.open = Some(opened?);
        }
        Ok(self.open.as_mut().expect("opened above"))
    }

    fn opened_len(&mut self) -> Result<u64, WriteError> {
        let metadata = self.opened()?.file.file().metadata();
        Ok(metadata
            .map_err(WriteError::io("look at", &self.path))?
            .len())
    }

    fn open_now(&self) -> Result<Open, WriteError> {
        self.make_folder()?;
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(FILE_MODE)
            .open(&self.path)
            .map_err(WriteError::io("open", &self.path))?;
        let metadata = file
            .metadata()
            .map_err(WriteError::io("look at", &self.path))?;
        if !metadata.is_file() {
            // A pipe or a terminal has no end to look at and none to cut.
            let cause = io::Error::other("not a regular file");
            return Err(WriteError::io("open", &self.path)(cause));
        }
        self.lock(&file)?;
        if metadata.len() == 0 && self.settings.sync_at_close {
            self.sync_folder()?;
        }
        if !self.truncates() {
            self.torn_tail(&file)?;
        }
        Ok(Open {
            file: (self.settings.wrap)(file),
            identity: (metadata.dev(), metadata.ino()),
            dirty: false,
            tidy: false,
        })
    }

    fn make_folder(&self) -> Result<(), WriteError> {
        let (Some(mode), Some(folder)) = (self.settings.directory_mode, self.path.parent()) else {
            return Ok(());
        };
        make_folder(folder, mode)
    }

    /// Forces the name of a new file to the disk: without it a synced file may be lost all the same.
    fn sync_folder(&self) -> Result<(), WriteError> {
        let folder = match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(WriteError::io("sync the folder", folder))
    }

    /// Two writers would cut off each other's records: the second waits. The lock ends with the file.
    fn lock(&self, file: &File) -> Result<(), WriteError> {
        match file.try_lock() {
            Ok(()) => Ok(()),
            Err(TryLockError::WouldBlock) => Err(WriteError::Locked {
                path: self.path.display().to_string(),
            }),
            Err(TryLockError::Error(cause)) if cause.kind() == io::ErrorKind::Unsupported => {
                warn!(path = %self.path.display(), "the file system knows no locks: make sure that nobody else writes to the file");
                Ok(())
            }
            Err(TryLockError::Error(cause)) => Err(WriteError::io("lock", &self.path)(cause)),
        }
    }

    /// Whether what is in the file is to go.
    fn truncates(&self) -> bool {
        self.settings.truncate_at_start && !self.begun
    }

    /// The end of the last whole record, if something follows it.
    fn torn_tail(&self, file: &File) -> Result<Option<u64>, WriteError> {
        let tail = tail::inspect(file, self.settings.framing)
            .map_err(WriteError::io("read", &self.path))?;
        match tail {
            Tail::Whole => Ok(None),
            Tail::Foreign(offset) => Err(WriteError::Foreign {
                path: self.path.display().to_string(),
                offset,
            }),
            Tail::Torn(good) => Ok(Some(good)),
        }
    }

    /// Takes away what is not to stay in the file, before the first record.
    fn tidy(&mut self) -> Result<(), WriteError> {
        self.opened()?;
        let Some(open) = self.open.as_ref().filter(|open| !open.tidy) else {
            return Ok(());
        };
        let file = open.file.file();
        if self.truncates() {
            file.set_len(0)
                .map_err(WriteError::io("truncate", &self.path))?;
        } else if let Some(good) = self.torn_tail(file)? {
            file.set_len(good)
                .map_err(WriteError::io("cut the torn end of", &self.path))?;
            self.settings.torn_tails.inc();
            warn!(path = %self.path.display(), good_bytes = good, "the last record was unfinished, as after a crash: cut off");
        }
        self.opened()?.tidy = true;
        self.begun = true;
        Ok(())
    }
}

/// Makes a folder and those above it.
pub(super) fn make_folder(folder: &Path, mode: u32) -> Result<(), WriteError> {
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(folder)
        .map_err(WriteError::io("make the folder", folder))
}

/// Telemetry may hold what is not for everybody: only the owner reads it, as with the Collector.
const FILE_MODE: u32 = 0o600;

impl Open {
    fn write(&mut self, parts: &[&[u8]], sync: bool) -> io::Result<()> {
        for part in parts {
            self.file.append(part)?;
        }
        self.dirty = !sync;
        if sync { self.file.sync() } else { Ok(()) }
    }
}
