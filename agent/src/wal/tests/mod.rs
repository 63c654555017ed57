//! Tests of the log: on the real file system, on a simulated one that crashes and fails, and against a model.

use std::path::Path;

use bytes::Bytes;
use tempfile::TempDir;

use super::cursor::visit_requests;
use super::{Entry, Item, Log, LogOptions, Position, Range, Reader, Recovered};
use crate::batch::{Chunk, Payload};

mod damage;
mod disk;
mod faults;
mod hostile;
mod model;
mod recycle;
mod sim;

/// Small segments, so that a few records fill several.
fn options() -> LogOptions {
    LogOptions {
        segment_bytes: 4096,
        ..LogOptions::default()
    }
}

fn payload(len: usize, items: usize) -> Payload {
    let body: Vec<u8> = (0..len).map(|at| (at * 7 + items) as u8).collect();
    Chunk::new(Bytes::from(body), items).into()
}

fn open(dir: &Path, options: LogOptions) -> (Log, Reader, Recovered) {
    Log::open(dir, options).unwrap()
}

async fn next(reader: &mut Reader) -> Entry {
    match reader.try_next().await.unwrap() {
        Some(Item::Request(entry)) => entry,
        other => panic!("{other:?} instead of a request"),
    }
}

fn temp() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn range(start: Position, end: Position) -> Range {
    Range { start, end }
}
