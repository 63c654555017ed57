//! What it costs a request that everything can be changed and looked at while it runs: the loads of what may be swapped, and of whether
//! somebody taps.
#![allow(
    missing_docs,
    reason = "criterion's macros make undocumented functions"
)]
#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

use std::hint::black_box;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use tidegate::batch::{Chunk, Payload};
use tidegate::signal::Signal;
use tidegate::tap::{Point, Taps};

/// As an inlet's route: what a request takes along until it is done.
fn routes(bench: &mut Criterion) {
    let route: Arc<[Arc<String>]> = vec![Arc::new("pipeline".to_owned())].into();
    let fixed = Arc::new(route);
    let swapped = ArcSwap::new(Arc::clone(&fixed));
    let mut group = bench.benchmark_group("route of a request");
    group.bench_function("fixed", |bench| {
        bench.iter(|| black_box(Arc::clone(black_box(&fixed))));
    });
    group.bench_function("swapped, looked at", |bench| {
        bench.iter(|| black_box(black_box(&swapped).load().len()));
    });
    group.bench_function("swapped, taken along", |bench| {
        bench.iter(|| black_box(black_box(&swapped).load_full()));
    });
    group.finish();
}

fn taps(bench: &mut Criterion) {
    let payload = Payload::from(Chunk::new(Bytes::from_static(b""), 1));
    let taps = Taps::default();
    bench.bench_function("a batch that nobody taps", |bench| {
        bench.iter(|| {
            black_box(&taps).show("logs", Point::Processors, Signal::Logs, black_box(&payload));
        });
    });
}

criterion_group!(benches, routes, taps);
criterion_main!(benches);
