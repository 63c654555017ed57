//! What it costs to turn a batch into the body of an insert, in CPU time: with each compression, and compression alone.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark stops on errors and prints what it counted"
)]

mod support;

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tidegate::batch::Payload;
use tidegate::exporters::clickhouse::encode::{Adjusted, Encoder};
use tidegate::exporters::clickhouse::native::{Compressor, Method};
use tidegate::signal::Signal;

#[global_allocator]
static ALLOCATOR: support::Counting = support::Counting;

/// As the batch processor sends them: 8 requests of 1,024 items.
fn payload(signal: Signal) -> Payload {
    match signal {
        Signal::Traces => support::traces(8, 1024),
        Signal::Logs => support::logs(8, 1024),
        Signal::Metrics => support::metrics(8, 1000),
    }
}

fn encode(encoder: &mut Encoder, signal: Signal, payload: &Payload) -> usize {
    let blocks = encoder
        .encode(signal, payload, &mut Adjusted::default())
        .unwrap();
    blocks.iter().map(|block| block.body.len()).sum()
}

fn facts(signal: Signal, method: Method, payload: &Payload) {
    let mut encoder = Encoder::new(method).unwrap();
    encode(&mut encoder, signal, payload);
    let before = support::allocations();
    let bytes = encode(&mut encoder, signal, payload);
    let allocations = support::allocations() - before;
    let items = payload.items() as f64;
    println!(
        "{signal} {method:?}: {:.0} B/item in, {:.1} B/item out, {:.4} allocations/item",
        payload.byte_len() as f64 / items,
        bytes as f64 / items,
        allocations as f64 / items,
    );
}

fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("clickhouse");
    group
        .measurement_time(Duration::from_secs(3))
        .warm_up_time(Duration::from_millis(500))
        .sample_size(20);
    for signal in Signal::ALL {
        let payload = payload(signal);
        group.throughput(Throughput::Elements(payload.items() as u64));
        for method in [Method::None, Method::Lz4, Method::Zstd] {
            facts(signal, method, &payload);
            let mut encoder = Encoder::new(method).unwrap();
            group.bench_function(
                BenchmarkId::new(format!("encode-{method:?}"), signal),
                |bencher| {
                    bencher.iter_custom(|times| {
                        support::cpu_time(times, || encode(&mut encoder, signal, &payload))
                    });
                },
            );
        }
        let plain = Encoder::new(Method::None)
            .unwrap()
            .encode(signal, &payload, &mut Adjusted::default())
            .unwrap();
        let mut compressor = Compressor::new(Method::Lz4).unwrap();
        let mut out = Vec::new();
        group.bench_function(BenchmarkId::new("compress-Lz4", signal), |bencher| {
            bencher.iter_custom(|times| {
                support::cpu_time(times, || {
                    out.clear();
                    for block in &plain {
                        compressor.append(&block.body, &mut out).unwrap();
                    }
                    out.len()
                })
            });
        });
    }
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
