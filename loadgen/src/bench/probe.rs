//! What one sync of this disk costs: a request's worth of bytes, written and made durable, again and again.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Instant;

use anyhow::Context as _;
use serde::Serialize;

use crate::stats::{Latencies, LatencySummary};

/// About a request of 1,000 spans.
pub(crate) const BYTES: usize = 400 << 10;
/// What is written before it begins again from the start, as a log that is cut into files does.
const FILE_BYTES: u64 = 16 << 20;
const COUNT: usize = 300;

/// Times of writing and syncing, milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Probe {
    pub(crate) bytes: usize,
    pub(crate) sync_ms: LatencySummary,
}

/// Writes and syncs in `dir`, one after the other from this thread.
///
/// # Errors
/// As the disk says.
pub(crate) fn sync_times(dir: &Path) -> anyhow::Result<Probe> {
    let path = dir.join("probe");
    let probed = probe(&path, COUNT);
    // Removed whatever happened; the error that matters is the first.
    drop(fs::remove_file(&path));
    probed.with_context(|| format!("cannot write to {}", path.display()))
}

fn probe(path: &Path, count: usize) -> std::io::Result<Probe> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .open(path)?;
    // Neither blank nor repeating: nothing on the way can make it less.
    let mut body = vec![0; BYTES];
    let mut state = 1_u64;
    for word in body.chunks_mut(8) {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        word.copy_from_slice(&state.to_le_bytes()[..word.len()]);
    }
    let mut times = Latencies::new();
    let mut offset = 0;
    for _ in 0..count {
        let started = Instant::now();
        file.write_all_at(&body, offset)?;
        file.sync_data()?;
        times.record(started.elapsed());
        offset += BYTES as u64;
        if offset + BYTES as u64 > FILE_BYTES {
            offset = 0;
        }
    }
    Ok(Probe {
        bytes: BYTES,
        sync_ms: times.summary(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sync_is_timed_and_nothing_stays() {
        let dir = tempfile::tempdir().unwrap();
        let probe = probe(&dir.path().join("file"), 3).unwrap();
        assert_eq!(probe.sync_ms.count, 3);
        assert!(probe.sync_ms.min > 0.0);
        sync_times(&dir.path().join("absent")).unwrap_err();
    }
}
