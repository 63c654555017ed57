//! Segments whose files become other segments: what was in there before never counts again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::sim::{Fault, Sim};
use super::*;
use crate::wal::layout::{RECORD_HEADER, SEGMENT_HEADER, SegmentHeader};

type Contents = BTreeMap<PathBuf, Vec<u8>>;

const BODY: usize = 40;
const RECORD: usize = RECORD_HEADER + BODY;

fn open_sim(sim: &Sim) -> (Log, Reader, Recovered) {
    let options = LogOptions {
        retry: Duration::from_millis(1),
        ..options()
    };
    Log::open_on(Arc::new(sim.clone()), Path::new("/log"), options).unwrap()
}

/// Appends one request and delivers it.
async fn pass_one(log: &Log, reader: &mut Reader) {
    log.append(0, 0, payload(300, 1)).await.unwrap();
    let end = next(reader).await.end();
    let id = log.boundary(range(log.batched(), end)).await.unwrap();
    log.done(id).unwrap();
}

/// The newest segment: its path, and whether its file was another one before.
fn newest(contents: &Contents) -> (PathBuf, bool) {
    let mut segments = contents
        .iter()
        .filter(|(path, _)| path.extension().is_some_and(|end| end == "seg"));
    let (path, bytes) = segments.next_back().unwrap();
    let header = SegmentHeader::decode(&bytes[..SEGMENT_HEADER]).unwrap();
    (path.clone(), header.recycled)
}

/// A log whose newest segment has a used file and then four requests in no batch: their numbers, and the files before
/// them, before the last of them, and after it.
async fn used_log() -> (Vec<u64>, [Contents; 3]) {
    let sim = Sim::new(1);
    let (log, mut reader, _) = open_sim(&sim);
    while !newest(&sim.contents()).1 {
        pass_one(&log, &mut reader).await;
        assert!(log.stats().totals.appended_records < 1000);
    }
    let mut seqs = Vec::new();
    let first = sim.contents();
    let mut before = first.clone();
    for at in 0..4 {
        before = sim.contents();
        seqs.push(log.append(at, 0, payload(BODY, 1)).await.unwrap());
    }
    assert!(log.stats().totals.recycled_segments > 0);
    let after = sim.contents();
    assert!(newest(&after).1, "the segment is not full yet");
    log.close().await;
    (seqs, [first, before, after])
}

/// The numbers of all requests in no batch, and what was found.
async fn reopen(contents: &Contents) -> (Vec<u64>, Recovered) {
    let sim = Sim::new(2);
    sim.restore(contents);
    let (log, mut reader, recovered) = open_sim(&sim);
    let mut seqs = Vec::new();
    while let Some(item) = reader.try_next().await.unwrap() {
        match item {
            Item::Request(entry) => seqs.push(entry.seq),
            Item::Lost(loss) => panic!("{loss:?}: all is known at the start"),
        }
    }
    log.close().await;
    (seqs, recovered)
}

fn first_difference(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).position(|(a, b)| a != b).unwrap()
}

#[tokio::test]
async fn after_a_crash_only_what_was_appended_is_there() {
    let (seqs, [_, before, after]) = used_log().await;
    for (contents, expected) in [(before, &seqs[..3]), (after, &seqs[..])] {
        let (found, recovered) = reopen(&contents).await;
        assert_eq!(found, expected);
        assert!(recovered.damage.is_none());
        assert_eq!(recovered.torn_bytes, 0);
    }
}

#[tokio::test]
async fn a_write_that_was_torn_over_old_records_is_cut_off() {
    let (seqs, [_, before, after]) = used_log().await;
    let (path, _) = newest(&after);
    let (old, new) = (&before[&path], &after[&path]);
    let start = first_difference(old, new);
    for written in 0..=RECORD + RECORD_HEADER {
        let mut contents = after.clone();
        let torn = [&new[..start + written], &old[start + written..]].concat();
        contents.insert(path.clone(), torn);
        let (found, recovered) = reopen(&contents).await;
        let whole = written >= RECORD;
        assert_eq!(found, seqs[..if whole { 4 } else { 3 }], "{written} bytes");
        assert!(recovered.damage.is_none(), "{written} bytes");
        let torn = recovered.torn_bytes > 0;
        assert!(whole || torn == (written > 0), "{written} bytes");
    }
}

#[tokio::test]
async fn a_flipped_byte_before_old_records_costs_one_record_and_is_told() {
    let (seqs, [first, _, after]) = used_log().await;
    let (path, _) = newest(&after);
    let start = first_difference(&first[&path], &after[&path]);
    for at in start..after[&path].len() {
        let mut contents = after.clone();
        contents.get_mut(&path).unwrap()[at] ^= 0x10;
        let (found, recovered) = reopen(&contents).await;
        assert!(found.is_sorted() && found.iter().all(|seq| seqs.contains(seq)));
        let missing = seqs.len() - found.len();
        let told = !recovered.damage.is_none() || recovered.torn_bytes > 0;
        assert!(missing <= 1, "byte {at}: {missing} requests gone");
        assert!(missing == 0 || told, "byte {at}: nobody is told");
    }
}

#[tokio::test]
async fn a_file_with_refused_records_is_not_used_again() {
    let sim = Sim::new(1);
    let (log, mut reader, _) = open_sim(&sim);
    log.append(0, 0, payload(300, 1)).await.unwrap();
    // The write fails, and what it wrote cannot be cut off: numbers in there will be given again.
    let at = sim.changes();
    sim.fail(at + 1, Fault::Io);
    sim.fail(at + 2, Fault::Io);
    log.append(0, 0, payload(300, 1)).await.unwrap_err();
    let end = next(&mut reader).await.end();
    let id = log.boundary(range(log.batched(), end)).await.unwrap();
    log.done(id).unwrap();
    while log.stats().totals.removed_segments == 0 {
        pass_one(&log, &mut reader).await;
    }
    assert_eq!(log.stats().totals.recycled_segments, 0);
    while log.stats().totals.removed_segments < 3 {
        pass_one(&log, &mut reader).await;
    }
    assert!(log.stats().totals.recycled_segments > 0);
    log.close().await;
}
