//! Hostile clients: whatever they do to every door, honest ones are served, every item is accounted for, and memory and
//! descriptors come back. `HOSTILE_SECONDS` makes each attack last longer than a second.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    clippy::print_stderr,
    reason = "the figures are what the test is run for by hand"
)]

mod attacks;
mod honest;
mod stage;

use std::time::Duration;

use attacks::ATTACKS;
use stage::Stage;

/// How long each attack goes on.
fn duration() -> Duration {
    let seconds = std::env::var("HOSTILE_SECONDS").ok();
    let seconds = seconds.and_then(|text| text.parse().ok()).unwrap_or(1);
    Duration::from_secs(seconds)
}

/// What the attacks may cost while they go on, besides what the agent has at the start: the buffers of thousands of
/// connections, which are bounded in number and size. Measured: see `docs/security.md`.
const MEMORY_PEAK_MAX: u64 = 400 << 20;

/// What may stay: the allocator keeps some of what was freed.
const MEMORY_LEFT_MAX: u64 = 64 << 20;

/// Descriptors that may stay: exporters' and scrapers' connections come and go.
const DESCRIPTORS_LEFT_MAX: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn honest_clients_are_served_whatever_others_do() {
    // Thousands of connections have two ends.
    tidegate::process::raise_open_files();
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::start(folder.path());
    let honest = honest::Clients::start(&stage);
    honest.settle().await;
    let (memory, descriptors) = (stage.memory(), stage.descriptors());
    for (name, attack) in ATTACKS {
        let before = honest.answered();
        attack(stage.doors, duration()).await;
        honest.goes_on(name, before).await;
        eprintln!(
            "{name:<28} memory {:>4} MiB, peak {:>4} MiB, descriptors {:>5}, honest answers {:>5}",
            stage.memory() >> 20,
            stage.memory_peak() >> 20,
            stage.descriptors(),
            honest.answered() - before,
        );
        assert!(
            stage.memory_peak() < memory + MEMORY_PEAK_MAX,
            "{name}: memory"
        );
    }
    stage
        .eventually_quiet(memory + MEMORY_LEFT_MAX, descriptors + DESCRIPTORS_LEFT_MAX)
        .await;
    let sent = honest.stop().await;
    stage.balances(&sent).await;
    eprintln!(
        "memory {} MiB, was {} MiB; descriptors {}, were {}; {sent:?}",
        stage.memory() >> 20,
        memory >> 20,
        stage.descriptors(),
        descriptors,
    );
    stage.stop();
}
