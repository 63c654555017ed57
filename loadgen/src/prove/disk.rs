//! `loadgen prove disk`: the queue's disk fills up and becomes read-only, and comes back.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::crowd::Crowd;
use super::items::Run;
use super::ledger::Watching;
use super::rounds::Done;
use super::sender::Manner;
use super::small_disk::SmallDisk;
use super::stage::{QUEUE, Stage, Storage};
use super::{CommonArgs, announce, conclude};
use crate::faults::fault::Rule;
use crate::otlp::parse_rate;

/// The log of a signal may take more than the disk has, and its segments are small beside it.
const LOG_MIB: u64 = 64;
/// Text in each item: the disk is full soon.
const PADDING: usize = 600;
/// Answers of a kind, by each protocol, until the next thing happens.
const ANSWERS: u64 = 20;
/// They come within this time. Generous: the machine may be busy.
const ANSWERS_MAX: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(50);

/// Fill the disk of the queue and make it read-only: refusals carry hints, what was accepted arrives in the end.
///
/// The queue is on a file system in memory of --size MiB in a mount namespace of its own (`unshare`). The database goes
/// away until the disk is full and both protocols refuse, and comes back. Then, while the database takes everything, nothing
/// can be written anew below the queue's folder, until both protocols refuse again. With --restart the agent is
/// killed instead and started on a read-only file system, which it must decline, and again when that can be written.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    common: CommonArgs,
    /// Size of the file system, MiB
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u64).range(8..))]
    size: u64,
    /// Kill the agent and start it while the file system is read-only
    #[arg(long)]
    restart: bool,
    /// Items per second, over all connections
    #[arg(long, default_value = "6000", value_parser = parse_rate)]
    rate: f64,
    /// Connections; signals and protocols take turns
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u16).range(6..=1024))]
    connections: u16,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let seed = args.common.seed();
    ensure!(
        args.common.storage == Storage::Wal,
        "a queue in memory needs no disk"
    );
    announce(seed)?;
    let run = Arc::new(Run::new(seed, PADDING));
    let mut setting = args
        .common
        .setting(seed, &run, include_str!("agent.toml"))?;
    let disk = SmallDisk::mount(&setting.dir.join(QUEUE), args.size)?;
    setting.within = disk.within();
    setting.wal_mib = LOG_MIB;
    let mut stage = Stage::set(&setting, &mut StdRng::seed_from_u64(seed)).await?;
    let start = Instant::now();
    let manner = args.manner();
    let crowd = Crowd::start(&stage, &run, &manner, args.connections, seed, start, 0)?;
    let watching = Watching::start(stage.http.clone(), stage.metrics, seed);

    let mut play = Play {
        stage: &mut stage,
        disk: &disk,
        start,
        rounds: Vec::new(),
    };
    play.fill().await?;
    if args.restart {
        play.restart_read_only().await?;
    } else {
        play.read_only().await?;
    }
    let rounds = play.rounds;
    let records = crowd.stop().await?;
    let (mut report, _) = conclude(
        &mut stage,
        &run,
        &records,
        &[],
        watching,
        args.common.settle,
    )
    .await?;
    report.seed = seed;
    report.storage = Storage::Wal;
    report.took = start.elapsed();
    report.ledger_is_whole = !args.restart;
    report.rounds = rounds;
    stage.close().await?;
    args.common.finish(&report, &setting.dir)
}

impl Args {
    fn manner(&self) -> Manner {
        Manner::steady(200, self.rate / f64::from(self.connections))
    }
}

/// What is done to disk and database, while clients send.
struct Play<'a> {
    stage: &'a mut Stage,
    disk: &'a SmallDisk,
    start: Instant,
    rounds: Vec<Done>,
}

impl Play<'_> {
    /// The database is away until the disk is full, and comes back.
    async fn fill(&mut self) -> anyhow::Result<()> {
        self.answers("success").await?;
        self.stage.proxy.board.set(vec![Rule::parse("refuse")?]);
        self.answers("refused").await?;
        let free = self.disk.free_bytes()?;
        self.note(format!("full disk ({} KiB free)", free >> 10));
        self.stage.proxy.board.set(Vec::new());
        self.answers("success").await
    }

    /// The folder is read-only until the segments that are open are full, and can be written again.
    async fn read_only(&mut self) -> anyhow::Result<()> {
        self.disk.cover_read_only()?;
        self.answers("refused").await?;
        self.note("read-only folder".to_owned());
        self.disk.uncover()?;
        self.answers("success").await
    }

    /// The agent is killed with a full queue, declines to start on a read-only file system, and starts on a writable one.
    async fn restart_read_only(&mut self) -> anyhow::Result<()> {
        self.stage.proxy.board.set(vec![Rule::parse("refuse")?]);
        self.answers("refused").await?;
        self.stage.agent.kill()?;
        self.disk.read_only()?;
        self.stage.agent.start()?;
        let log = self.stage.agent.fails().await?;
        ensure!(
            log.contains("Read-only file system") && log.contains(QUEUE),
            "an agent whose queue cannot be written does not say so:\n{log}"
        );
        self.note("started on a read-only file system".to_owned());
        self.disk.writable()?;
        self.stage.agent.start()?;
        self.stage.agent.serves().await?;
        self.stage.proxy.board.set(Vec::new());
        self.answers("success").await
    }

    /// Waits until the agent has given more answers of this outcome by each protocol.
    async fn answers(&mut self, outcome: &str) -> anyhow::Result<()> {
        let before = self.requests(outcome).await?;
        let deadline = Instant::now() + ANSWERS_MAX;
        loop {
            self.stage.agent.check_alive()?;
            let now = self.requests(outcome).await?;
            let enough = |(now, before): (&u64, &u64)| *now >= before + ANSWERS;
            if now.iter().zip(&before).all(enough) {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "no more answers of outcome {outcome} within {ANSWERS_MAX:?}: {before:?}, then {now:?}"
            );
            tokio::time::sleep(POLL).await;
        }
    }

    /// Requests by gRPC and by HTTP that ended with this outcome, according to the agent.
    async fn requests(&self, outcome: &str) -> anyhow::Result<[u64; 2]> {
        let url = format!("http://{}/metrics", self.stage.metrics);
        let text = self.stage.http.get(&url).await;
        let text = text.context("the agent's metrics")?;
        let text = String::from_utf8_lossy(&text);
        let outcome = format!("outcome=\"{outcome}\"");
        Ok(["grpc", "http"].map(|transport| {
            let transport = format!("transport=\"{transport}\"");
            text.lines()
                .filter(|line| line.starts_with("otelcol_receiver_requests{"))
                .filter(|line| line.contains(&outcome) && line.contains(&transport))
                .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
                .sum()
        }))
    }

    fn note(&mut self, what: String) {
        self.rounds.push(Done {
            at: self.start.elapsed(),
            what,
        });
    }
}
