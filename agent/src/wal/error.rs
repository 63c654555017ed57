//! What can go wrong with a log.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::layout::VERSION;

/// Why an operation on an open log failed. Nothing of it is in the log.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The file system refused. Trying again can help once its state has changed.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// More appends wait for the disk than [`super::LogOptions::pending_bytes`] allows. Trying again later helps.
    #[error("too many writes wait for the disk")]
    Busy,
    /// The body is longer than 4 GiB or has more than 2^32 items.
    #[error("a body of {0} bytes is too long for a record")]
    TooLong(u64),
    /// The log has been closed.
    #[error("the log is closed")]
    Closed,
    /// There is no open batch with this id, or it is being settled already.
    #[error("there is no open batch {0}")]
    UnknownBatch(u64),
    /// The range does not begin where the last batch ended, as when the boundary before it could not be written; or
    /// it is empty, or not read yet, or the cuts of a split lie outside of the batch.
    #[error("the range does not continue the batches before it")]
    OutOfOrder,
}

impl Error {
    /// Whether the disk, or the quota on it, is full.
    pub fn is_no_space(&self) -> bool {
        let Self::Io { source, .. } = self else {
            return false;
        };
        matches!(
            source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        )
    }

    pub(super) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            action,
            path: path.to_owned(),
            source: Arc::new(source),
        }
    }
}

/// Why a log could not be opened. Its files are as they were.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process, or another part of this one, has the directory.
    #[error("{} is in use by {}", dir.display(), described(owner.as_deref()))]
    Owned {
        /// The log's directory.
        dir: PathBuf,
        /// The owner's process id, if it could be read.
        owner: Option<String>,
    },
    /// A segment is of another version.
    #[error("{} has format version {found}; this program reads version {VERSION}", path.display())]
    Version {
        /// The segment.
        path: PathBuf,
        /// The version in its header.
        found: u16,
    },
    /// Segments of two logs are in the directory.
    #[error("{} belongs to another log than the segments before it", path.display())]
    Foreign {
        /// The first segment that does not fit.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl OpenError {
    pub(super) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }
}

fn described(owner: Option<&str>) -> String {
    owner.map_or_else(
        || "another owner".to_owned(),
        |pid| format!("process {pid}"),
    )
}
