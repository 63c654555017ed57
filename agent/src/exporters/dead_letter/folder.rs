//! Where dead letters are put: written under a temporary name, made durable, then named; bounded.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use thiserror::Error;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::letter::{self, Header, Reason, SUFFIX};
use super::options::DeadLetterSettings;
use crate::batch::Payload;
use crate::calendar::UnixNanos;
use crate::component::{ComponentError, ExporterContext};
use crate::signal::Signal;
use crate::telemetry::{Counter, Gauge, names};

/// The folder inside a folder of letters where those are moved that were sent again and are to be kept.
pub const REPLAYED: &str = "replayed";

/// A file takes at least this much of a disk. With it, `max_size` bounds the number of files, too.
const BLOCK: u64 = 4096;
/// How often the figure is brought up to date: letters are removed by others.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);
/// A temporary file that is older was left behind by a crash.
const ABANDONED: Duration = Duration::from_secs(600);

/// The letters of one exporter for one signal. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Folder {
    shared: Arc<Shared>,
    /// Ends the upkeep with the last clone.
    _upkeep: Arc<DropGuard>,
}

#[derive(Debug)]
struct Shared {
    exporter: String,
    signal: Signal,
    path: PathBuf,
    max_size: u64,
    /// Guards the bytes that letters take on disk, and the right to write one.
    used: Mutex<u64>,
    letters: Counter,
    items: Counter,
    failures: Counter,
    disk: Gauge,
}

/// What goes into a letter.
#[derive(Debug)]
pub struct Draft {
    /// The batch's name.
    pub batch: String,
    /// Parts of the batch that the destination has.
    pub parts_done: Vec<String>,
    /// The pipelines that the items came through.
    pub pipelines: Vec<String>,
    /// The class of the reason.
    pub reason: Reason,
    /// The destination's words.
    pub cause: String,
    /// How many of the items the destination did not take.
    pub rejected: usize,
    /// When the oldest of the items came, in milliseconds since 1970, if that is known over restarts.
    pub since_unix_ms: Option<u64>,
    /// The items.
    pub payload: Payload,
}

/// Why a letter was not written.
#[derive(Debug, Error)]
pub enum Unwritten {
    /// There is no room for it.
    #[error(
        "{path} has {used} bytes of dead letters and max_size is {max_size}: look at them with `tidegate dead-letter \
         list`, then replay or delete them, or raise sending_queue.dead_letter.max_size"
    )]
    Full {
        /// The folder.
        path: String,
        /// What is taken.
        used: u64,
        /// What may be taken.
        max_size: u64,
    },
    /// The disk refuses.
    #[error("write a dead letter to {path}: {cause}")]
    Io {
        /// The folder.
        path: String,
        /// What the system says.
        cause: io::Error,
    },
}

impl Folder {
    /// The folder for the exporter that is being built, and the task that looks after it, which ends with the last clone.
    ///
    /// # Errors
    /// When the folder is not there and cannot be made.
    pub fn open(
        context: &ExporterContext,
        signal: Signal,
        settings: &DeadLetterSettings,
    ) -> Result<(Self, JoinHandle<()>), ComponentError> {
        let path = settings.folder(&context.id, signal);
        fs::create_dir_all(&path).map_err(|cause| {
            let attempted = format!("make the folder {} for dead letters", path.display());
            ComponentError::new(attempted, cause).at("sending_queue.dead_letter.directory")
        })?;
        let labels = [context.id.as_str(), signal.name()];
        let telemetry = &context.telemetry;
        let shared = Arc::new(Shared {
            exporter: context.id.clone(),
            signal,
            path,
            max_size: settings.max_size(),
            used: Mutex::new(0),
            letters: telemetry.counter(&names::DEAD_LETTERS, &labels),
            items: telemetry.counter(&names::DEAD_LETTER_ITEMS, &labels),
            failures: telemetry.counter(&names::DEAD_LETTER_FAILURES, &labels),
            disk: telemetry.gauge(&names::DEAD_LETTER_DISK_BYTES, &labels),
        });
        shared.look();
        let gone = CancellationToken::new();
        let upkeep = tokio::spawn(look_now_and_then(Arc::clone(&shared), gone.clone()));
        let folder = Self {
            shared,
            _upkeep: Arc::new(gone.drop_guard()),
        };
        Ok((folder, upkeep))
    }

    /// Writes a letter: it is on disk, under its name, when this returns. The same batch has the same file.
    ///
    /// # Errors
    /// When there is no room, or the disk refuses. Nothing of it is there then.
    pub async fn write(&self, draft: Draft) -> Result<PathBuf, Unwritten> {
        let shared = Arc::clone(&self.shared);
        let writing = tokio::task::spawn_blocking(move || shared.write(draft));
        let written = writing
            .await
            .unwrap_or_else(|panic| Err(self.shared.failed(io::Error::other(panic.to_string()))));
        if written.is_err() {
            self.shared.failures.inc();
        }
        written
    }
}

async fn look_now_and_then(shared: Arc<Shared>, gone: CancellationToken) {
    while gone
        .run_until_cancelled(tokio::time::sleep(LOOK_INTERVAL))
        .await
        .is_some()
    {
        let shared = Arc::clone(&shared);
        // A panic in there is reported by the hook, and the next look comes.
        drop(tokio::task::spawn_blocking(move || shared.look()).await);
    }
}

impl Shared {
    /// Brings the figure up to date.
    fn look(&self) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(found) = space_used(&self.path) {
            *used = found;
        }
        self.disk.set(i64::try_from(*used).unwrap_or(i64::MAX));
    }

    fn write(&self, draft: Draft) -> Result<PathBuf, Unwritten> {
        let Draft {
            batch,
            parts_done,
            pipelines,
            reason,
            cause,
            rejected,
            since_unix_ms,
            payload,
        } = draft;
        let now = SystemTime::now();
        let header = Header {
            exporter: self.exporter.clone(),
            signal: self.signal,
            pipelines,
            reason,
            cause: letter::shortened(&cause),
            time: UnixNanos::from(now).to_string(),
            items: payload.items(),
            rejected,
            bytes: payload.byte_len() as u64,
            batch,
            parts_done,
        };
        let since = since_unix_ms.unwrap_or_else(|| UnixNanos::from(now).0 / 1_000_000);
        let name = format!("{since:013}-{}{SUFFIX}", as_file_name(&header.batch));
        let wanted = on_disk(header.bytes + ROOM_FOR_LINE);
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if *used + wanted > self.max_size {
            *used = space_used(&self.path).map_err(|cause| self.failed(cause))?;
        }
        if *used + wanted > self.max_size {
            return Err(Unwritten::Full {
                path: self.path.display().to_string(),
                used: *used,
                max_size: self.max_size,
            });
        }
        let path = self.path.join(name);
        let length = put(&path, &header, &payload).map_err(|cause| self.failed(cause))?;
        *used += on_disk(length);
        self.disk.set(i64::try_from(*used).unwrap_or(i64::MAX));
        self.letters.inc();
        self.items.inc_by(rejected as u64);
        Ok(path)
    }

    fn failed(&self, cause: io::Error) -> Unwritten {
        Unwritten::Io {
            path: self.path.display().to_string(),
            cause,
        }
    }
}

/// More than a first line usually takes.
const ROOM_FOR_LINE: u64 = BLOCK;

/// What a file of `length` bytes takes.
fn on_disk(length: u64) -> u64 {
    length.next_multiple_of(BLOCK)
}

/// A batch's name as part of a file's; that of our own queues is hexadecimal digits and dashes, and stays as it is.
fn as_file_name(batch: &str) -> String {
    let plain = |letter: char| match letter {
        letter if letter.is_ascii_alphanumeric() || letter == '-' => letter,
        _ => '_',
    };
    batch.chars().take(NAME_MAX).map(plain).collect()
}

/// File systems take names of 255 bytes.
const NAME_MAX: usize = 160;

/// Writes a letter that was read again, in place of the one that is there, as with more parts that are done.
///
/// # Errors
/// When the disk refuses; the old one is still there then.
pub fn rewrite(path: &Path, header: &Header, payload: &Payload) -> io::Result<()> {
    put(path, header, payload).map(drop)
}

/// Writes a letter to `path`, in place of any that is there.
fn put(path: &Path, header: &Header, payload: &Payload) -> io::Result<u64> {
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    fs::create_dir_all(folder)?;
    let temporary = path.with_extension("letter.tmp");
    let written = write_whole(&temporary, header, payload).and_then(|length| {
        fs::rename(&temporary, path)?;
        File::open(folder)?.sync_all()?;
        Ok(length)
    });
    if written.is_err() {
        // Best effort: what is left is removed when it is old.
        drop(fs::remove_file(&temporary));
    }
    written
}

fn write_whole(path: &Path, header: &Header, payload: &Payload) -> io::Result<u64> {
    // Telemetry is nobody else's business.
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    let mut out = BufWriter::new(file);
    let length = letter::write(header, payload, &mut out)?;
    out.flush()?;
    out.get_ref().sync_all()?;
    Ok(length)
}

/// What the files in a folder take; what crashes have left there is removed.
fn space_used(folder: &Path) -> io::Result<u64> {
    let mut used = 0;
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        // Gone meanwhile.
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        if !metadata.is_file() {
            continue;
        }
        let is_temporary = entry.file_name().to_string_lossy().ends_with(".letter.tmp");
        let age = metadata.modified()?.elapsed().unwrap_or_default();
        if is_temporary && age > ABANDONED && fs::remove_file(entry.path()).is_ok() {
            continue;
        }
        used += on_disk(metadata.len());
    }
    Ok(used)
}
