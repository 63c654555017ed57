//! Opening a log: taking its directory, reading what is there, beginning a segment, starting the writer.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use super::error::{Error, OpenError};
use super::files::Files;
use super::layout::{LOCK, LogId, PREPARED, SegmentHeader};
use super::options::{Fsync, LogOptions};
use super::recover::{Recovered, Scanned, scan_log};
use super::segment::{Active, Prepared};
use super::shared::Shared;
use super::state::{Segment, State};
use super::writer::Writer;

/// A log that is open.
pub(super) struct Opened {
    pub(super) shared: Arc<Shared>,
    pub(super) thread: JoinHandle<()>,
    pub(super) report: Recovered,
    /// Numbers of what is lost, to be noted as told.
    pub(super) losses: Vec<std::ops::Range<u64>>,
}

/// Opens the log in `dir`.
pub(super) fn open(
    files: Arc<dyn Files>,
    dir: &Path,
    options: LogOptions,
) -> Result<Opened, OpenError> {
    files
        .create_dir(dir)
        .map_err(|error| OpenError::io("create", dir, error))?;
    let lock = lock(&*files, dir)?;
    let scanned = scan_log(&*files, dir, LogId(random_id()))?;
    settle_files(&*files, &scanned)?;
    let header = SegmentHeader {
        log: scanned.log,
        first_seq: (scanned.highest_seq | u64::from(u32::MAX)) + 1,
        follows: scanned.end_seq,
        recycled: false,
    };
    let active = begin(&*files, dir, &header, options.fsync)?;
    for path in scanned.empty.iter().chain([&dir.join(PREPARED)]) {
        // What stays is found again at the next start.
        files.remove(path).ok();
    }
    let (state, report, losses) = state(scanned, &header, options.cache_bytes);
    let shared = Arc::new(Shared::new(
        options,
        files,
        dir.to_owned(),
        header.log,
        state,
    ));
    let writer = Writer::new(Arc::clone(&shared), active, header.first_seq, lock);
    let thread = std::thread::Builder::new()
        .name("wal".to_owned())
        .spawn(move || writer.run())
        .map_err(|error| OpenError::io("start the writer of", dir, error))?;
    Ok(Opened {
        shared,
        thread,
        report,
        losses,
    })
}

/// Makes durable what was found, for only what is durable may be the reason to remove something; and puts aside files
/// that say nothing.
fn settle_files(files: &dyn Files, scanned: &Scanned) -> Result<(), OpenError> {
    if let Some((path, end)) = &scanned.newest {
        files
            .cut(path, *end)
            .map_err(|error| OpenError::io("cut", path, error))?;
    }
    for (path, aside) in &scanned.aside {
        files
            .rename(path, aside)
            .map_err(|error| OpenError::io("put aside", path, error))?;
    }
    Ok(())
}

fn state(
    scanned: Scanned,
    header: &SegmentHeader,
    cache_bytes: usize,
) -> (State, Recovered, Vec<std::ops::Range<u64>>) {
    let mut state = State::new(scanned.books, header.first_seq, cache_bytes);
    state.segments.extend(scanned.segments);
    state
        .segments
        .push_back(Segment::new(header.first_seq, header.follows));
    state.data_end = scanned.data_end;
    for batch in &scanned.report.batches {
        state.unsettled.add_all(&batch.tally);
    }
    state.unsettled.add_all(&scanned.report.unbatched);
    (state, scanned.report, scanned.losses)
}

fn lock(files: &dyn Files, dir: &Path) -> Result<Box<dyn Send>, OpenError> {
    let path = dir.join(LOCK);
    files.lock(&path).map_err(|error| {
        if error.kind() != io::ErrorKind::WouldBlock {
            return OpenError::io("lock", &path, error);
        }
        let owner = error.to_string();
        OpenError::Owned {
            dir: dir.to_owned(),
            owner: Some(owner).filter(|owner| owner.parse::<u32>().is_ok()),
        }
    })
}

fn begin(
    files: &dyn Files,
    dir: &Path,
    header: &SegmentHeader,
    fsync: Fsync,
) -> Result<Active, OpenError> {
    Prepared::make(files, dir, 0)
        .and_then(|file| Active::begin(files, dir, file, header, fsync != Fsync::Never))
        .map_err(|error| match error {
            Error::Io {
                action,
                path,
                source,
            } => OpenError::Io {
                action,
                path,
                source: io::Error::new(source.kind(), source),
            },
            other => OpenError::io("begin", dir, io::Error::other(other)),
        })
}

/// Sixteen bytes that no other log has.
fn random_id() -> [u8; 16] {
    use std::hash::BuildHasher as _;
    // The standard library seeds its hash tables from the system's random numbers.
    let random = || std::collections::hash_map::RandomState::new().hash_one(std::process::id());
    let mut id = [0; 16];
    id[..8].copy_from_slice(&random().to_le_bytes());
    id[8..].copy_from_slice(&random().to_le_bytes());
    id
}
