//! Keeps the bytes of damaged records aside, for whoever wants to look at them.

use std::io::{self, IoSlice};
use std::path::Path;

use super::files::{Files, write_full};
use super::scan::Scan;
use super::shared::Shared;

/// Files kept; further damage is counted and not copied.
const FILES_MAX: usize = 100;
/// Bytes copied at once.
const STEP: u64 = 256 * 1024;

/// The beginning of the names of these files.
const PREFIX: &str = "damaged-";

/// The name of the file for damage that begins with record `seq`.
pub(super) fn name(seq: u64) -> String {
    format!("{PREFIX}{seq:016x}.bin")
}

/// Copies `span` of a segment to `damaged-<seq>.bin`. Damage is counted whether or not this succeeds.
pub(super) fn salvage(shared: &Shared, seq: u64, scan: &Scan, span: std::ops::Range<u64>) {
    // A copy that cannot be made must not keep the log from being read; the bytes stay in the segment.
    copy(&*shared.files, &shared.dir, seq, scan, span).ok();
}

/// Copies `span` of a segment to `damaged-<seq>.bin` in `dir`, unless there are many already.
pub(super) fn copy(
    files: &dyn Files,
    dir: &Path,
    seq: u64,
    scan: &Scan,
    span: std::ops::Range<u64>,
) -> io::Result<()> {
    let names = files.list(dir)?;
    let present = names.iter().filter(|name| name.starts_with(PREFIX));
    if span.is_empty() || present.count() >= FILES_MAX {
        return Ok(());
    }
    let target = files.create(&dir.join(name(seq)))?;
    let mut from = span.start;
    while from < span.end {
        let bytes = scan.raw(from, span.end.min(from + STEP))?;
        if bytes.is_empty() {
            break;
        }
        write_full(&*target, &mut [IoSlice::new(&bytes)], from - span.start)?;
        from += bytes.len() as u64;
    }
    target.sync()?;
    files.sync_dir(dir)
}
