//! What a log on disk costs: commits, CPU per byte, write amplification, recovery, memory.
//!
//! `cargo bench -p tidegate --bench wal`; the directory is made in `TMPDIR`, which decides which disk is measured.
//! `WAL_BENCH_MB` (1024) is the size of the log that is recovered.

#![allow(
    clippy::unwrap_used,
    reason = "a measurement that fails has nothing to report"
)]
#![allow(clippy::print_stdout, reason = "the figures are the output")]

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidegate::batch::Chunk;
use tidegate::wal::{Fsync, Item, Log, LogOptions, Range};

/// Appends under way at once: as many as clients that wait.
const CONCURRENT: usize = 32;

/// CPU time of this process, user and system.
fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = text.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

fn status_kb(key: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with(key)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

async fn append_all(log: &Log, body: &Bytes, count: usize) -> Vec<Duration> {
    let mut tasks = Vec::new();
    for _ in 0..CONCURRENT {
        let (log, body) = (log.clone(), body.clone());
        tasks.push(tokio::spawn(async move {
            let mut waits = Vec::with_capacity(count / CONCURRENT);
            for _ in 0..count / CONCURRENT {
                let payload = Chunk::new(body.clone(), 10).into();
                let begun = Instant::now();
                log.append(0, 1, payload).await.unwrap();
                waits.push(begun.elapsed());
            }
            waits
        }));
    }
    let mut waits = Vec::new();
    for task in tasks {
        waits.extend(task.await.unwrap());
    }
    waits.sort_unstable();
    waits
}

async fn commits(name: &str, body_len: usize, count: usize, fsync: Fsync) {
    let dir = tempfile::tempdir().unwrap();
    let options = LogOptions {
        fsync,
        ..LogOptions::default()
    };
    let (log, _reader, _) = Log::open(dir.path(), options).unwrap();
    let body = Bytes::from(vec![0x5A; body_len]);
    let (wall, used) = (Instant::now(), cpu());
    let waits = append_all(&log, &body, count).await;
    let (wall, used) = (wall.elapsed(), cpu() - used);
    let totals = log.stats().totals;
    let bytes = totals.appended_bytes as f64;
    println!(
        "{name:28} {:>9.0} records/s {:>7.1} MB/s  cpu {:>6.3} ns/byte {:>7.0} ns/record  p50 {:>6.2} ms p99 {:>6.2} ms  {:>5.1} records/group  amplification {:.4}",
        count as f64 / wall.as_secs_f64(),
        bytes / wall.as_secs_f64() / 1e6,
        used.as_nanos() as f64 / bytes,
        used.as_nanos() as f64 / count as f64,
        waits[waits.len() / 2].as_secs_f64() * 1e3,
        waits[waits.len() * 99 / 100].as_secs_f64() * 1e3,
        totals.appended_records as f64 / totals.groups as f64,
        totals.written_bytes as f64 / bytes,
    );
    log.close().await;
}

/// Requests appended, read, put into batches and settled as a queue does: bytes written to files for each body byte.
async fn whole_life(body_len: usize, count: usize) {
    let dir = tempfile::tempdir().unwrap();
    let (log, mut reader, _) = Log::open(dir.path(), LogOptions::default()).unwrap();
    let body = Bytes::from(vec![0x5A; body_len]);
    let used = cpu();
    let appending = {
        let log = log.clone();
        tokio::spawn(async move { append_all(&log, &body, count).await.len() })
    };
    let mut read = 0;
    while read < count / CONCURRENT * CONCURRENT {
        let mut end = log.batched();
        for _ in 0..8 {
            let Some(Item::Request(entry)) = reader.next().await.unwrap() else {
                panic!("no request")
            };
            end = entry.end();
            read += 1;
        }
        let start = log.batched();
        let id = log.boundary(Range { start, end }).await.unwrap();
        log.done(id).unwrap();
    }
    appending.await.unwrap();
    let used = cpu() - used;
    let totals = log.stats().totals;
    println!(
        "append to done, {body_len} B bodies, 8 a batch: amplification {:.4}, cpu {:.3} ns/byte, {} syncs, {} segments removed, {} B left",
        totals.written_bytes as f64 / totals.appended_bytes as f64,
        used.as_nanos() as f64 / totals.appended_bytes as f64,
        totals.syncs,
        totals.removed_segments,
        log.stats().disk_bytes,
    );
    log.close().await;
}

async fn recovery(name: &str, dir: &Path, body_len: usize) {
    let megabytes: usize = std::env::var("WAL_BENCH_MB").map_or(1024, |text| text.parse().unwrap());
    let count = (megabytes << 20) / body_len;
    let options = LogOptions {
        fsync: Fsync::Never,
        ..LogOptions::default()
    };
    let (log, reader, _) = Log::open(dir, options.clone()).unwrap();
    let body = Bytes::from(vec![0x5A; body_len]);
    append_all(&log, &body, count).await;
    log.close().await;
    drop((log, reader));
    let synced = std::process::Command::new("sync").status();
    assert!(synced.is_ok());
    let before = status_kb("VmRSS");
    let begun = Instant::now();
    let (log, mut reader, found) = Log::open(dir, options).unwrap();
    let opened = begun.elapsed();
    let after = status_kb("VmRSS");
    let begun = Instant::now();
    let used = cpu();
    let mut items = 0;
    while let Some(item) = reader.try_next().await.unwrap() {
        let Item::Request(_) = item else {
            panic!("{item:?}")
        };
        items += 1;
        // As a queue does: what is read does not stay unbatched for ever.
        if items % 1000 == 0 || items as u64 * 10 == found.unbatched.items() {
            let Item::Request(entry) = &item else {
                continue;
            };
            let start = log.batched();
            let end = entry.end();
            let id = log.boundary(Range { start, end }).await.unwrap();
            log.done(id).unwrap();
        }
    }
    let bytes = log.stats().totals.disk_read_bytes as f64;
    println!(
        "{name}: {megabytes} MB, {} records, {} segments: opened in {:.3} s (RSS {} -> {} KB); drained at {:.0} MB/s, cpu {:.3} ns/byte, peak RSS {} KB",
        found.unbatched.items() / 10,
        found.segments,
        opened.as_secs_f64(),
        before,
        after,
        bytes / begun.elapsed().as_secs_f64() / 1e6,
        (cpu() - used).as_nanos() as f64 / bytes,
        status_kb("VmHWM"),
    );
    log.close().await;
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    if std::env::args().any(|argument| argument == "--test") {
        return commits("smoke", 400, 320, Fsync::Always).await;
    }
    commits("400 KiB, fsync always", 400 << 10, 3_200, Fsync::Always).await;
    commits("400 KiB, fsync never", 400 << 10, 3_200, Fsync::Never).await;
    commits("400 B, fsync always", 400, 64_000, Fsync::Always).await;
    commits("400 B, fsync never", 400, 640_000, Fsync::Never).await;
    whole_life(400 << 10, 3_200).await;
    whole_life(40 << 10, 16_000).await;
    for (name, body_len) in [("recovery, 400 KiB", 400 << 10), ("recovery, 400 B", 400)] {
        let dir = tempfile::tempdir().unwrap();
        recovery(name, dir.path(), body_len).await;
    }
}
