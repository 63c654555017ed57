//! `loadgen prove overload`: clients offer more than the destination takes, and keep offering what was refused.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::crowd::Crowd;
use super::items::{CONNECTION_SHIFT, Run};
use super::ledger::{Ledger, Watching};
use super::report::Overload;
use super::sender::Manner;
use super::stage::Stage;
use super::{ANSWER_MAX, CommonArgs, announce, conclude};
use crate::cli::parse_duration;
use crate::faults::fault::{Fault, Rule};

/// Load after the first delivery before capacity is measured: the queue must be full by then.
const WARM_UP: Duration = Duration::from_secs(2);
/// The first delivery comes within this time.
const FIRST_MAX: Duration = Duration::from_secs(60);
/// Batches under way for each signal: with many, all would take long and end at the same time.
const CONSUMERS: u32 = 2;
/// Text in each item, so that rows have a size that compression does not take away.
const PADDING: usize = 200;
/// The queue in memory: a few seconds of what the destination takes.
const QUEUE_BYTES: u64 = 2 << 20;
/// An insert of one batch takes that long at the slowest rate.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Offer more than the destination takes: memory stays bounded, refusals carry hints, everything arrives in the end.
///
/// The destination takes --rate bytes per second. First measures how many items that is, then has clients send --times
/// as many for --duration. Clients are honest: what is refused they send again when the hint says so, until it is
/// accepted.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    common: CommonArgs,
    /// How much more is offered than the destination takes
    #[arg(long, default_value_t = 5.0)]
    times: f64,
    /// For how long
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    duration: Duration,
    /// How long capacity is measured
    #[arg(long, default_value = "5s", value_parser = parse_duration)]
    measure: Duration,
    /// Bytes per second that the destination takes
    #[arg(long, default_value_t = 1 << 20, value_parser = clap::value_parser!(u64).range(1024..))]
    rate: u64,
    /// Connections; signals and protocols take turns
    #[arg(long, default_value_t = 48, value_parser = clap::value_parser!(u16).range(1..=1024))]
    connections: u16,
    /// The most memory the agent may take, MiB
    #[arg(long, default_value_t = 64)]
    memory_max: u64,
    /// How long clients keep sending what was refused after the end of the load
    #[arg(long, default_value = "10m", value_parser = parse_duration)]
    patience: Duration,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    ensure!(
        args.times >= 1.0 && args.times <= 1000.0,
        "--times is from 1 to 1000"
    );
    let seed = args.common.seed();
    announce(seed)?;
    let mut random = StdRng::seed_from_u64(seed);
    let run = Arc::new(Run::new(seed, PADDING));
    let mut setting = args
        .common
        .setting(seed, &run, include_str!("overload.toml"))?;
    setting.memory_queue_bytes = QUEUE_BYTES;
    setting.consumers = CONSUMERS;
    setting.timeout = TIMEOUT;
    setting.memory_mib = args.memory_max;
    let mut stage = Stage::set(&setting, &mut random).await?;
    let throttle = Fault::Throttle {
        bytes_per_second: args.rate,
    };
    stage.proxy.board.set(Rule::spread(&[throttle], 1.0));
    let start = Instant::now();
    let watching = Watching::start(stage.http.clone(), stage.metrics, seed);

    let crowd = Crowd::start(
        &stage,
        &run,
        &args.flood(),
        args.connections,
        seed,
        start,
        0,
    )?;
    warm_up(&stage).await?;
    let capacity = delivered_per_second(&stage, args.measure).await?;
    let mut records = crowd.stop().await?;
    ensure!(
        capacity >= 1.0,
        "nothing was delivered within {:?}",
        args.measure
    );

    let wanted = capacity * args.times;
    let manner = args.load(wanted);
    let begun = Instant::now();
    let skip = 1 << (CONNECTION_SHIFT - 1);
    let crowd = Crowd::start(&stage, &run, &manner, args.connections, seed, start, skip)?;
    tokio::time::sleep(args.duration).await;
    let (offered, ended) = (crowd.offered() as f64, Instant::now());
    records.extend(crowd.stop().await?);

    let (mut report, _) = conclude(
        &mut stage,
        &run,
        &records,
        &[],
        watching,
        args.common.settle,
    )
    .await?;
    report.overload = Some(Overload {
        capacity,
        wanted,
        offered: offered / (ended - begun).as_secs_f64(),
        memory_max_bytes: args.memory_max << 20,
        caught_up: ended.elapsed(),
    });
    report.seed = seed;
    report.storage = args.common.storage;
    report.took = start.elapsed();
    stage.close().await?;
    args.common.finish(&report, &setting.dir)
}

impl Args {
    /// As fast as the agent lets them: finds out what the destination takes.
    fn flood(&self) -> Manner {
        Manner {
            items_max: FLOOD_ITEMS,
            full: true,
            rate: 1e12,
            resends: true,
            catches_up: false,
            patience: self.patience,
            timeout: ANSWER_MAX,
        }
    }

    /// About one request a second from each client, in all as many items as `wanted`.
    fn load(&self, wanted: f64) -> Manner {
        let each = wanted / f64::from(self.connections);
        Manner {
            items_max: (each as u32).clamp(1, LOAD_ITEMS_MAX),
            rate: each,
            catches_up: true,
            ..self.flood()
        }
    }
}

/// Items in a request while capacity is measured.
const FLOOD_ITEMS: u32 = 200;
/// Items in a request of the load, at most; with more to send clients send more often.
const LOAD_ITEMS_MAX: u32 = 5_000;

async fn warm_up(stage: &Stage) -> anyhow::Result<()> {
    let deadline = Instant::now() + FIRST_MAX;
    while Ledger::scrape(&stage.http, stage.metrics)
        .await?
        .total()
        .delivered
        == 0
    {
        ensure!(
            Instant::now() < deadline,
            "nothing was delivered within {FIRST_MAX:?}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokio::time::sleep(WARM_UP).await;
    Ok(())
}

/// Items that the agent delivers per second, over `measure`.
async fn delivered_per_second(stage: &Stage, measure: Duration) -> anyhow::Result<f64> {
    let before = Ledger::scrape(&stage.http, stage.metrics).await?.total();
    let begun = Instant::now();
    tokio::time::sleep(measure).await;
    let after = Ledger::scrape(&stage.http, stage.metrics).await?.total();
    Ok((after.delivered - before.delivered) as f64 / begun.elapsed().as_secs_f64())
}
