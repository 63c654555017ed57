//! Bytes that are not what was written: torn ends, flipped bytes, missing files, other versions, other owners.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::sim::Sim;
use super::*;
use crate::wal::OpenError;
use crate::wal::layout::{SEGMENT_HEADER, SegmentHeader};

type Contents = BTreeMap<PathBuf, Vec<u8>>;

fn open_sim(sim: &Sim) -> Result<(Log, Reader, Recovered), OpenError> {
    Log::open_on(Arc::new(sim.clone()), Path::new("/log"), options())
}

/// A log with `count` requests of 40 bytes, a batch of the first two, and the files of it.
async fn small_log(count: u64) -> (Vec<u64>, Contents) {
    let sim = Sim::new(1);
    let (log, mut reader, _) = open_sim(&sim).unwrap();
    let mut seqs = Vec::new();
    for at in 0..count {
        let seq = log.append(at as u32, 7, payload(40, 1 + at as usize));
        seqs.push(seq.await.unwrap());
        if at == 1 {
            next(&mut reader).await;
            let end = next(&mut reader).await.end();
            log.boundary(range(log.batched(), end)).await.unwrap();
        }
    }
    log.close().await;
    (seqs, sim.contents())
}

fn segment(contents: &mut Contents) -> &mut Vec<u8> {
    let found = contents
        .iter_mut()
        .find(|(path, _)| path.extension().is_some_and(|end| end == "seg"));
    found.unwrap().1
}

/// Everything a log gives out, batches first, by sequence number; and whether it told of a loss.
async fn read_everything(sim: &Sim) -> (Vec<u64>, Recovered, bool) {
    let (log, mut reader, recovered) = open_sim(sim).unwrap();
    let mut seqs = Vec::new();
    let mut lost = false;
    for batch in &recovered.batches {
        for item in log.read(batch.range).await.unwrap() {
            match item {
                Item::Request(entry) => seqs.push(entry.seq),
                Item::Lost(_) => lost = true,
            }
        }
    }
    while let Some(item) = reader.try_next().await.unwrap() {
        match item {
            Item::Request(entry) => seqs.push(entry.seq),
            Item::Lost(_) => lost = true,
        }
    }
    // It goes on working.
    let seq = log.append(9, 9, payload(10, 1)).await.unwrap();
    assert_eq!(next(&mut reader).await.seq, seq);
    log.close().await;
    (seqs, recovered, lost)
}

#[tokio::test]
async fn a_torn_end_is_cut_at_every_byte() {
    let (seqs, whole) = small_log(4).await;
    let full = segment(&mut whole.clone()).len();
    let last = 40 + 40;
    for missing in 1..=last {
        for zeros in [false, true] {
            let sim = Sim::new(2);
            let mut contents = whole.clone();
            let file = segment(&mut contents);
            file.truncate(full - missing);
            if zeros {
                file.resize(full + 500, 0);
            }
            sim.restore(&contents);
            let (found, recovered, lost) = read_everything(&sim).await;
            assert_eq!(found, seqs[..3], "{missing} bytes missing");
            assert!(recovered.damage.is_none() && !lost);
            let kept = last - missing;
            let torn = recovered.torn_bytes as usize;
            assert!(
                torn <= kept && (kept == 0) == (torn == 0),
                "{torn} of {kept}"
            );
        }
    }
}

#[tokio::test]
async fn a_flipped_byte_costs_one_record_and_is_told_once() {
    let (seqs, whole) = small_log(5).await;
    let len = segment(&mut whole.clone()).len();
    for at in 0..len {
        let sim = Sim::new(3);
        let mut contents = whole.clone();
        segment(&mut contents)[at] ^= 0x10;
        sim.restore(&contents);
        let (found, recovered, lost) = read_everything(&sim).await;
        assert!(!lost, "it is the newest segment: all is known at the start");
        let missing = seqs.iter().filter(|seq| !found.contains(seq)).count();
        let told = !recovered.damage.is_none() || recovered.torn_bytes > 0;
        assert!(found.is_sorted(), "byte {at}: {found:?}");
        assert!(missing <= 1, "byte {at}: {missing} requests gone");
        assert!(
            missing == 0 || told,
            "byte {at}: a loss that nobody is told of"
        );
        if at < SEGMENT_HEADER {
            assert!(missing == 0 && !told, "byte {at} of the header");
        }
        let again = read_everything(&sim).await.1;
        assert!(again.damage.is_none() && again.torn_bytes == 0, "byte {at}");
        let aside = sim
            .contents()
            .keys()
            .any(|path| path.to_str().unwrap().contains("damaged-"));
        assert_eq!(aside, recovered.damage.bytes > 0, "byte {at}");
    }
}

#[tokio::test]
async fn a_flipped_byte_in_an_older_segment_is_found_by_the_reader() {
    let (seqs, whole) = small_log(5).await;
    let len = segment(&mut whole.clone()).len();
    for at in SEGMENT_HEADER..len {
        let sim = Sim::new(4);
        sim.restore(&whole);
        // The first start makes a newer segment.
        let (log, reader, _) = open_sim(&sim).unwrap();
        let extra = log.append(9, 9, payload(10, 1)).await.unwrap();
        log.close().await;
        drop((log, reader));
        let mut contents = sim.contents();
        segment(&mut contents)[at] ^= 0x10;
        sim.restore(&contents);
        let (found, recovered, lost) = read_everything(&sim).await;
        assert!(found.contains(&extra));
        let missing = seqs.iter().filter(|seq| !found.contains(seq)).count();
        let told = !recovered.damage.is_none() || lost;
        assert!(missing <= 1, "byte {at}: {missing} requests gone");
        assert!(
            missing == 0 || told,
            "byte {at}: a loss that nobody is told of"
        );
    }
}

#[tokio::test]
async fn two_headers_damaged_cost_no_record_if_another_segment_knows_the_log() {
    let (seqs, whole) = small_log(3).await;
    let sim = Sim::new(5);
    sim.restore(&whole);
    let (log, reader, _) = open_sim(&sim).unwrap();
    let extra = log.append(9, 9, payload(10, 1)).await.unwrap();
    log.close().await;
    drop((log, reader));
    let mut contents = sim.contents();
    segment(&mut contents)[..SEGMENT_HEADER].fill(0xEE);
    sim.restore(&contents);
    let (mut found, recovered, _) = read_everything(&sim).await;
    assert_eq!(found.pop(), Some(extra));
    assert_eq!(found, seqs);
    assert!(recovered.damage.is_none());
}

#[tokio::test]
async fn a_log_whose_only_header_is_gone_is_set_aside_whole() {
    let (seqs, whole) = small_log(3).await;
    let sim = Sim::new(6);
    let mut contents = whole.clone();
    segment(&mut contents)[..SEGMENT_HEADER].fill(0xEE);
    sim.restore(&contents);
    let (found, recovered, _) = read_everything(&sim).await;
    assert!(found.is_empty());
    assert!(!recovered.damage.is_none());
    let kept = sim.contents();
    let aside = kept
        .iter()
        .find(|(path, _)| path.to_str().unwrap().contains("damaged-"));
    assert!(aside.unwrap().1.len() >= 3 * 80);
    // No number is given twice.
    let (log, _reader, _) = open_sim(&sim).unwrap();
    assert!(log.append(0, 0, payload(1, 1)).await.unwrap() > *seqs.last().unwrap());
}

#[tokio::test]
async fn a_missing_segment_is_told_and_the_rest_goes_on() {
    let sim = Sim::new(7);
    let (log, reader, _) = open_sim(&sim).unwrap();
    let mut seqs = Vec::new();
    for at in 0..30 {
        seqs.push(log.append(at, 7, payload(500, 2)).await.unwrap());
    }
    log.close().await;
    drop((log, reader));
    let mut contents = sim.contents();
    let names: Vec<PathBuf> = contents
        .keys()
        .filter(|path| path.extension().is_some_and(|end| end == "seg"))
        .cloned()
        .collect();
    contents.remove(&names[2]);
    sim.restore(&contents);
    let (found, recovered, _) = read_everything(&sim).await;
    let gone = seqs.len() - found.len();
    assert!(gone > 0);
    assert_eq!(recovered.damage.records, gone as u64);
    assert!(read_everything(&sim).await.1.damage.is_none(), "told once");
}

#[tokio::test]
async fn an_unknown_version_is_named_and_nothing_is_touched() {
    let (_, whole) = small_log(3).await;
    let sim = Sim::new(8);
    let mut contents = whole;
    let file = segment(&mut contents);
    for copy in [0, 64] {
        file[copy + 8] = 9;
        let checksum = crc32fast::hash(&file[copy..copy + 60]);
        file[copy + 60..copy + 64].copy_from_slice(&checksum.to_le_bytes());
    }
    sim.restore(&contents);
    let error = open_sim(&sim).unwrap_err();
    assert!(matches!(error, OpenError::Version { found: 9, .. }));
    let text = error.to_string();
    assert!(
        text.contains("version 9") && text.contains("version 1"),
        "{text}"
    );
    assert_eq!(sim.contents(), contents);
}

#[tokio::test]
async fn segments_of_two_logs_are_refused() {
    let (_, whole) = small_log(3).await;
    let sim = Sim::new(9);
    let mut contents = whole;
    let bytes = segment(&mut contents).clone();
    let mut header = SegmentHeader::decode(&bytes).unwrap();
    header.log.0[0] ^= 1;
    header.first_seq += 100;
    let foreign = PathBuf::from(format!("/log/{:016x}.seg", header.first_seq));
    contents.insert(foreign.clone(), header.encode().to_vec());
    sim.restore(&contents);
    let error = open_sim(&sim).unwrap_err();
    assert!(matches!(error, OpenError::Foreign { path } if path == foreign));
}

#[tokio::test]
async fn a_directory_has_one_owner() {
    let dir = temp();
    let (log, reader, _) = open(dir.path(), options());
    let error = Log::open(dir.path(), options()).unwrap_err();
    let text = error.to_string();
    let own = std::process::id().to_string();
    assert!(matches!(error, OpenError::Owned { .. }));
    assert!(
        text.contains(&own) && text.contains(dir.path().to_str().unwrap()),
        "{text}"
    );
    drop((log, reader));
    open(dir.path(), options());
}
