//! A disk that fails: every write and sync in turn, full, read-only, unreadable.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::sim::{Fault, Sim};
use super::*;
use crate::testing::DEADLINE;
use crate::wal::{Error, OpenError};

fn quick() -> LogOptions {
    LogOptions {
        retry: Duration::from_millis(2),
        idle: Duration::from_millis(5),
        ..options()
    }
}

fn open_sim(sim: &Sim) -> Result<(Log, Reader, Recovered), OpenError> {
    Log::open_on(Arc::new(sim.clone()), Path::new("/log"), quick())
}

async fn until(what: &str, mut true_now: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !true_now() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Ten requests in three batches, the first of them delivered. What is refused is tried again, as a client would.
async fn scenario(log: &Log, reader: &mut Reader) -> (Vec<u64>, Vec<u64>) {
    let mut seqs = Vec::new();
    let mut ids = Vec::new();
    for at in 0..10 {
        let append = async || log.append(at, 7, payload(600, 3)).await;
        seqs.push(again(append).await);
    }
    for count in [3, 3, 4] {
        let start = log.batched();
        let mut end = start;
        for _ in 0..count {
            end = next(reader).await.end();
        }
        let boundary = async || log.boundary(range(start, end)).await;
        ids.push(again(boundary).await);
    }
    log.done(ids[0]).unwrap();
    (seqs, ids)
}

async fn again(work: impl AsyncFn() -> Result<u64, Error>) -> u64 {
    for _ in 0..5 {
        if let Ok(seq) = work().await {
            return seq;
        }
    }
    panic!("one failure of the disk, and the log does not recover");
}

#[tokio::test]
async fn a_log_survives_the_failure_of_any_one_operation() {
    let clean = Sim::new(1);
    let (log, mut reader, _) = open_sim(&clean).unwrap();
    let opened = clean.changes();
    scenario(&log, &mut reader).await;
    log.close().await;
    let operations = clean.changes();
    for at in opened + 1..=operations {
        for fault in [Fault::Io, Fault::Full, Fault::Short] {
            let sim = Sim::new(at);
            let (log, mut reader, _) = open_sim(&sim).unwrap();
            sim.fail(at, fault);
            let (seqs, ids) = scenario(&log, &mut reader).await;
            // One look: the writer settles the first batch meanwhile.
            let stats = log.stats();
            assert_eq!(
                stats.unsettled.items(),
                7 * 3 + stats.open_batches as u64 / 3 * 9
            );
            log.close().await;
            drop((log, reader));
            sim.power_off();
            sim.power_on();
            let (log, _reader, recovered) = open_sim(&sim).unwrap();
            let open: Vec<u64> = recovered.batches.iter().map(|batch| batch.id).collect();
            assert!(
                open.ends_with(&ids[1..]),
                "operation {at}, {fault:?}: {open:?}"
            );
            let mut found = Vec::new();
            for batch in &recovered.batches {
                for item in log.read(batch.range).await.unwrap() {
                    let Item::Request(entry) = item else {
                        panic!("operation {at}, {fault:?}: {item:?}")
                    };
                    found.push(entry.seq);
                }
            }
            assert!(seqs.ends_with(&found), "operation {at}, {fault:?}");
            assert_eq!(
                recovered.unbatched.items(),
                0,
                "a refused request came back"
            );
        }
    }
}

#[tokio::test]
async fn opening_survives_or_reports_the_failure_of_any_one_operation() {
    let clean = Sim::new(1);
    let (log, mut reader, _) = open_sim(&clean).unwrap();
    let (_, ids) = scenario(&log, &mut reader).await;
    log.close().await;
    let before = clean.contents();
    drop((log, reader));
    for at in 1..20 {
        for fault in [Fault::Io, Fault::Full] {
            let sim = Sim::new(at);
            sim.restore(&before);
            sim.fail(at, fault);
            drop(open_sim(&sim));
            sim.clear_faults();
            let (_log, _reader, recovered) = open_sim(&sim).unwrap();
            let open: Vec<u64> = recovered.batches.iter().map(|batch| batch.id).collect();
            assert_eq!(open, ids[1..], "operation {at}, {fault:?}");
            assert!(recovered.damage.is_none());
        }
    }
    for at in 1..40 {
        let sim = Sim::new(at);
        sim.restore(&before);
        sim.fail_read(at);
        drop(open_sim(&sim));
        sim.clear_faults();
        let (_log, _reader, recovered) = open_sim(&sim).unwrap();
        assert_eq!(recovered.batches.len(), 2, "read {at}");
        assert!(recovered.damage.is_none());
    }
}

#[tokio::test]
async fn a_full_disk_refuses_data_and_lets_deliveries_free_it() {
    let sim = Sim::new(1);
    let (log, mut reader, _) = open_sim(&sim).unwrap();
    sim.set_space(20_000);
    let mut accepted = 0;
    let error = loop {
        match log.append(0, 0, payload(900, 1)).await {
            Ok(_) => accepted += 1,
            Err(error) => break error,
        }
    };
    assert!(error.is_no_space(), "{error}");
    assert!(accepted > 5);
    assert!(!log.has_room(900));
    // Others take what is left; batches are still logged and settled, and space comes back.
    sim.set_space(sim.used());
    for _ in 0..accepted {
        let end = next(&mut reader).await.end();
        let id = log.boundary(range(log.batched(), end)).await.unwrap();
        log.done(id).unwrap();
    }
    until("segments are removed", || log.stats().segments == 1).await;
    sim.set_space(20_000);
    until("the log has room again", || log.has_room(900)).await;
    log.append(0, 0, payload(900, 1)).await.unwrap();
    log.close().await;
}

#[tokio::test]
async fn a_read_only_disk_is_an_error_at_the_start_and_refusals_later() {
    let sim = Sim::new(1);
    sim.set_read_only(true);
    let error = open_sim(&sim).unwrap_err().to_string();
    assert!(error.contains("/log"), "{error}");
    sim.set_read_only(false);
    let (log, mut reader, _) = open_sim(&sim).unwrap();
    log.append(0, 0, payload(10, 1)).await.unwrap();
    sim.set_read_only(true);
    assert!(matches!(
        log.append(0, 0, payload(10, 1)).await,
        Err(Error::Io { .. })
    ));
    let entry = next(&mut reader).await;
    sim.set_read_only(false);
    again(async || log.append(0, 0, payload(10, 1)).await).await;
    let id = log
        .boundary(range(log.batched(), entry.end()))
        .await
        .unwrap();
    log.done(id).unwrap();
    log.close().await;
}

#[tokio::test]
async fn a_read_that_fails_is_tried_again_where_it_stopped() {
    let sim = Sim::new(1);
    let options = LogOptions {
        cache_bytes: 0,
        ..quick()
    };
    let (log, mut reader, _) =
        Log::open_on(Arc::new(sim.clone()), Path::new("/log"), options).unwrap();
    let mut seqs = Vec::new();
    for at in 0..20 {
        seqs.push(log.append(at, 0, payload(600, 1)).await.unwrap());
    }
    sim.fail_read(sim.reads() + 1);
    sim.fail_read(sim.reads() + 3);
    let mut failures = 0;
    let mut found = Vec::new();
    while found.len() < seqs.len() {
        match reader.try_next().await {
            Ok(Some(Item::Request(entry))) => found.push(entry.seq),
            Ok(other) => panic!("{other:?}"),
            Err(error) => {
                assert!(matches!(error, Error::Io { .. }));
                failures += 1;
            }
        }
    }
    assert_eq!((found, failures), (seqs, 2));
}
