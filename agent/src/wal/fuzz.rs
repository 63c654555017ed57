//! Arbitrary bytes as a segment: opened, read and written on without a panic, a hang or unbounded memory.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::batch::Chunk;

use super::files::{Files, LogFile};
use super::layout::{LogId, RECORD_HEADER, RecordHeader, SEGMENT_HEADER, SegmentHeader};
use super::{Fsync, Log, LogOptions, Range};

/// A log of one segment with `input` as its content is opened, read to its end and used.
///
/// The first byte says whether headers that could be a record's get the right checksums, without which hardly any input
/// would be more than damage; and whether the file was another segment before.
///
/// # Panics
/// If the log does what it must not: that is what is looked for.
pub fn fuzz_segment(input: &[u8]) {
    let [mend, content @ ..] = input else { return };
    let log = LogId([7; 16]);
    let header = SegmentHeader {
        log,
        first_seq: 1 << 32,
        follows: 0,
        recycled: mend & 2 != 0,
    };
    let mut bytes = header.encode().to_vec();
    bytes.extend_from_slice(content);
    if mend % 2 == 1 {
        seal_records(&mut bytes, log);
    }
    let disk = Memory::default();
    let path = Path::new("/log").join(super::layout::segment_name(header.first_seq));
    disk.files()
        .insert(path, Arc::new(MemoryFile(Mutex::new(bytes))));
    let options = LogOptions {
        segment_bytes: 4096,
        fsync: Fsync::Never,
        ..LogOptions::default()
    };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().build() else {
        return;
    };
    runtime.block_on(use_log(disk, options, input.len()));
}

async fn use_log(disk: Memory, options: LogOptions, input_len: usize) {
    let opened = Log::open_on(Arc::new(disk), Path::new("/log"), options);
    let (log, mut reader, found) = opened.expect("a disk that does not fail, and a known version");
    for batch in &found.batches {
        let items = log.read(batch.range).await.expect("memory can be read");
        assert!(items.len() <= input_len);
    }
    let mut end = log.batched();
    let mut count = 0;
    while let Some(item) = reader.try_next().await.expect("memory can be read") {
        end = end.max(item.end());
        count += 1;
        assert!(count <= input_len);
    }
    let payload = Chunk::new(vec![1, 2, 3].into(), 1).into();
    let seq = log.append(0, 0, payload).await.expect("memory is writable");
    let read = reader.try_next().await.expect("memory can be read");
    assert_eq!(read.map(|item| item.first_seq()), Some(seq));
    let start = log.batched();
    let end = super::Position::after(seq).max(end);
    let id = log.boundary(Range { start, end }).await;
    log.done(id.expect("it continues the batches before it"))
        .expect("the batch is open");
    log.close().await;
}

/// Gives what looks like records sound checksums and consecutive numbers.
fn seal_records(bytes: &mut [u8], log: LogId) {
    let mut at = SEGMENT_HEADER;
    let mut seq = 1 << 32;
    while bytes.len() >= at + RECORD_HEADER {
        let fields = &bytes[at..at + RECORD_HEADER];
        let Some(mut header) = RecordHeader::unchecked(fields) else {
            return;
        };
        header.body_len %= 256;
        header.seq = seq;
        let body = at + RECORD_HEADER..at + RECORD_HEADER + header.body_len as usize;
        if body.end > bytes.len() {
            return;
        }
        let mut hasher = log.hasher();
        hasher.update(&bytes[body]);
        header.body_checksum = hasher.finalize();
        bytes[at..at + RECORD_HEADER].copy_from_slice(&header.encode(log));
        seq = header.next_seq();
        at += usize::try_from(header.stride()).unwrap_or(usize::MAX);
    }
}

/// A disk in memory that does not fail.
#[derive(Debug, Clone, Default)]
struct Memory(Arc<Mutex<BTreeMap<PathBuf, Arc<MemoryFile>>>>);

impl Memory {
    fn files(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Arc<MemoryFile>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Files for Memory {
    fn create_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, _path: &Path) -> io::Result<Box<dyn Send>> {
        Ok(Box::new(()))
    }

    fn list(&self, _dir: &Path) -> io::Result<Vec<String>> {
        let files = self.files();
        let names = files.keys().filter_map(|path| path.file_name()?.to_str());
        Ok(names.map(str::to_owned).collect())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn LogFile>> {
        let file = Arc::new(MemoryFile::default());
        self.files().insert(path.to_owned(), Arc::clone(&file));
        Ok(file)
    }

    fn reopen(&self, path: &Path) -> io::Result<Arc<dyn LogFile>> {
        self.open(path)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn LogFile>> {
        let found = self.files().get(path).cloned();
        Ok(found.ok_or(io::ErrorKind::NotFound)?)
    }

    fn cut(&self, path: &Path, len: u64) -> io::Result<()> {
        self.open(path)?.set_len(len)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let removed = self.files().remove(path);
        removed
            .map(drop)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut files = self.files();
        let file = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Debug, Default)]
struct MemoryFile(Mutex<Vec<u8>>);

impl MemoryFile {
    fn content(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

impl LogFile for MemoryFile {
    fn preallocate(&self, len: u64) -> io::Result<()> {
        let mut content = self.content();
        let len = index(len).max(content.len());
        content.resize(len, 0);
        Ok(())
    }

    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let mut content = self.content();
        let mut at = index(offset);
        for part in parts {
            let end = at + part.len();
            if content.len() < end {
                content.resize(end, 0);
            }
            content[at..end].copy_from_slice(part);
            at = end;
        }
        Ok(at - index(offset))
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let content = self.content();
        let start = index(offset).min(content.len());
        let count = buffer.len().min(content.len() - start);
        buffer[..count].copy_from_slice(&content[start..start + count]);
        Ok(count)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.content().resize(index(len), 0);
        Ok(())
    }

    fn byte_len(&self) -> io::Result<u64> {
        Ok(self.content().len() as u64)
    }
}
