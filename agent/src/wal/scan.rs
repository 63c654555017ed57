//! Walking a segment file: record headers with read-ahead, bodies with their checksums, and the way back to sound
//! records behind damage.

use std::io;
use std::sync::Arc;

use super::files::{LogFile, read_full};
use super::layout::{ALIGNMENT, LogId, RECORD_HEADER, RecordHeader, may_begin_record};

/// Bytes read at once.
const WINDOW: usize = 256 * 1024;
/// Bytes read at once where bodies are skipped and long.
const WINDOW_SPARSE: usize = 4096;
/// Bodies from here on are skipped by reading elsewhere, not by reading through them.
const BODY_SPARSE: u32 = 64 * 1024;

/// What is found where a record may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// A header that is sound and whose body lies within the segment. The body has not been looked at.
    Record(RecordHeader),
    /// Nothing was ever written here.
    Nothing,
    /// Something else.
    Damage,
}

/// Reads a segment file up to a limit. Holds at most 256 KiB of it.
#[derive(Debug)]
pub(super) struct Scan {
    file: Arc<dyn LogFile>,
    log: LogId,
    /// Where the segment's content ends.
    limit: u64,
    window: Vec<u8>,
    /// Offset of the window in the file.
    start: u64,
    last_body_len: u32,
}

impl Scan {
    pub(super) fn new(file: Arc<dyn LogFile>, log: LogId, limit: u64) -> Self {
        Self {
            file,
            log,
            limit,
            window: Vec::new(),
            start: 0,
            last_body_len: 0,
        }
    }

    /// The bytes between two offsets as they are.
    pub(super) fn raw(&self, from: u64, to: u64) -> io::Result<Vec<u8>> {
        let len = usize::try_from(to.min(self.limit).saturating_sub(from)).unwrap_or(0);
        let mut bytes = vec![0; len];
        let read = read_full(&*self.file, &mut bytes, from)?;
        bytes.truncate(read);
        Ok(bytes)
    }

    /// Lets the scan see what has been appended.
    pub(super) fn extend(&mut self, limit: u64) {
        if limit > self.limit {
            // The last bytes of the window may have been read before they were written.
            self.window.clear();
            self.limit = limit;
        }
    }

    /// What is at `offset`.
    pub(super) fn header(&mut self, offset: u64) -> io::Result<Found> {
        if offset.saturating_add(RECORD_HEADER as u64) > self.limit {
            return self.rest(offset);
        }
        let ahead = if self.last_body_len >= BODY_SPARSE {
            WINDOW_SPARSE
        } else {
            WINDOW
        };
        let log = self.log;
        let limit = self.limit;
        let bytes = self.bytes(offset, RECORD_HEADER, ahead)?;
        let Some(header) = RecordHeader::decode(bytes, log) else {
            let blank = bytes.len() == RECORD_HEADER && bytes.iter().all(|byte| *byte == 0);
            return Ok(if blank { Found::Nothing } else { Found::Damage });
        };
        let body_end = offset + RECORD_HEADER as u64 + u64::from(header.body_len);
        if body_end > limit {
            return Ok(Found::Damage);
        }
        self.last_body_len = header.body_len;
        Ok(Found::Record(header))
    }

    /// The bytes after the last place where a whole header fits.
    fn rest(&mut self, offset: u64) -> io::Result<Found> {
        let len = usize::try_from(self.limit.saturating_sub(offset)).unwrap_or(usize::MAX);
        let blank = len == 0 || self.bytes(offset, len, len)?.iter().all(|byte| *byte == 0);
        Ok(if blank { Found::Nothing } else { Found::Damage })
    }

    /// The body of the record at `offset`; `None` if its checksum is wrong.
    pub(super) fn body(&self, offset: u64, header: &RecordHeader) -> io::Result<Option<Vec<u8>>> {
        let from = offset + RECORD_HEADER as u64;
        let len = header.body_len as usize;
        let mut body = vec![0; len];
        let mut have = 0;
        if let Some(at) = self.position(from) {
            have = len.min(self.window.len() - at);
            body[..have].copy_from_slice(&self.window[at..at + have]);
        }
        if have < len {
            have += read_full(&*self.file, &mut body[have..], from + have as u64)?;
        }
        let mut hasher = self.log.hasher();
        hasher.update(&body);
        let sound = have == len && hasher.finalize() == header.body_checksum;
        Ok(sound.then_some(body))
    }

    /// Whether the checksum of the body at `offset` is right, in bounded memory.
    pub(super) fn body_is_sound(&mut self, offset: u64, header: &RecordHeader) -> io::Result<bool> {
        let mut from = offset + RECORD_HEADER as u64;
        let end = from + u64::from(header.body_len);
        let mut hasher = self.log.hasher();
        while from < end {
            let want = usize::try_from(end - from)
                .unwrap_or(usize::MAX)
                .min(WINDOW);
            let bytes = self.bytes(from, want, WINDOW)?;
            if bytes.len() < want {
                return Ok(false);
            }
            hasher.update(bytes);
            from += want as u64;
        }
        Ok(hasher.finalize() == header.body_checksum)
    }

    /// The first wholly sound record at or after `offset` with a sequence number in `seqs`.
    pub(super) fn resync(
        &mut self,
        offset: u64,
        seqs: std::ops::Range<u64>,
    ) -> io::Result<Option<(u64, RecordHeader)>> {
        let mut at = offset.next_multiple_of(ALIGNMENT);
        while at.saturating_add(RECORD_HEADER as u64) <= self.limit {
            let Some(skip) = self.next_candidate(at)? else {
                return Ok(None);
            };
            at += skip;
            if let Found::Record(header) = self.header(at)?
                && seqs.contains(&header.seq)
                && self.body_is_sound(at, &header)?
            {
                return Ok(Some((at, header)));
            }
            at += ALIGNMENT;
        }
        Ok(None)
    }

    /// How far behind `at` the next place is that may begin a record.
    fn next_candidate(&mut self, at: u64) -> io::Result<Option<u64>> {
        let mut skip = 0;
        loop {
            let left = self.limit.saturating_sub(at + skip);
            if left < RECORD_HEADER as u64 {
                return Ok(None);
            }
            let want = usize::try_from(left).unwrap_or(usize::MAX).min(WINDOW);
            let bytes = self.bytes(at + skip, RECORD_HEADER.min(want), want)?;
            if bytes.is_empty() {
                return Ok(None);
            }
            let start = self.position(at + skip).unwrap_or(0);
            let steps = self.window[start..].chunks(ALIGNMENT as usize);
            let found = steps.clone().position(may_begin_record);
            if let Some(step) = found {
                return Ok(Some(skip + step as u64 * ALIGNMENT));
            }
            skip += steps.len() as u64 * ALIGNMENT;
        }
    }

    fn position(&self, offset: u64) -> Option<usize> {
        let at = usize::try_from(offset.checked_sub(self.start)?).ok()?;
        (at < self.window.len()).then_some(at)
    }

    /// `len` bytes at `offset`, fewer if the file ends before; reads `ahead` bytes if it must read.
    fn bytes(&mut self, offset: u64, len: usize, ahead: usize) -> io::Result<&[u8]> {
        let have = self
            .position(offset)
            .is_some_and(|at| self.window.len() - at >= len);
        if !have {
            let left = usize::try_from(self.limit.saturating_sub(offset)).unwrap_or(usize::MAX);
            self.window.resize(len.max(ahead).min(left), 0);
            self.start = offset;
            let read = read_full(&*self.file, &mut self.window, offset);
            self.window.truncate(*read.as_ref().unwrap_or(&0));
            read?;
        }
        let at = self.position(offset).unwrap_or(self.window.len());
        let end = self.window.len().min(at + len);
        Ok(&self.window[at..end])
    }
}
