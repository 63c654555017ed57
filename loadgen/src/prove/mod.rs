//! `loadgen prove`: kills and disturbs agent and database under load, then compares what was acknowledged with what is
//! stored.

mod children;
mod crowd;
mod disk;
mod http;
mod items;
mod ledger;
mod overload;
mod pauses;
mod reloads;
mod report;
mod rounds;
mod sender;
mod small_disk;
mod stage;
mod tables;
mod verdict;

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::cli::{EXIT_LIMIT_CROSSED, parse_duration};
use crate::faults::fault::{Fault, Rule};
use crate::otlp::parse_rate;
use crate::stdout::print;
use crowd::Crowd;
use items::Run;
use ledger::Watching;
use pauses::{Reloaded, Reloads, Usage, have_left_something};
use report::Report;
use rounds::{Play, Script};
use sender::{Manner, Record};
use stage::{Setting, Stage, Storage};

/// An answer that takes longer than this counts as none.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Prove that nothing acknowledged is lost and nothing is stored twice.
///
/// Starts a database (`tidegate localdb`), a fault proxy and an agent, sends uniquely numbered spans, log records and
/// metric points of every kind over OTLP/HTTP and gRPC, and writes down what became of each request. Meanwhile agent
/// and database are killed (SIGKILL) and started again and inserts are disturbed, as asked for. At the end the agent is
/// stopped in order and the database is read: every acknowledged item must be there exactly once, refused ones not at
/// all, those without an answer at most once; the lookup view of traces must agree with the spans; the agent's ledger
/// must have added up in every scrape.
///
/// The exit status is 0 if all of that holds, 99 if it does not, 1 if it could not be found out.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    mode: Option<Mode>,
    #[command(flatten)]
    faults: FaultArgs,
}

#[derive(Debug, clap::Subcommand)]
enum Mode {
    /// Offer more than the destination takes: memory stays bounded, refusals carry hints, everything arrives in the end
    Overload(overload::Args),
    /// Fill the disk of the queue and make it read-only: refusals carry hints, what was accepted arrives in the end
    Disk(disk::Args),
}

/// What every proof needs.
#[derive(Debug, clap::Args)]
struct CommonArgs {
    /// The tidegate binary [default: the one beside this program]
    #[arg(long, value_name = "FILE")]
    tidegate: Option<PathBuf>,
    /// Use this configuration of the agent; {http}, {grpc}, {metrics}, {clickhouse}, {dir} and {queue} are filled in
    #[arg(long, value_name = "FILE")]
    agent_config: Option<PathBuf>,
    /// Where the agent keeps what is not delivered yet
    #[arg(long, value_enum, default_value = "wal")]
    storage: Storage,
    /// A ClickHouse that is there, host:port [default: starts `tidegate localdb`]
    #[arg(long, value_name = "ADDR")]
    database: Option<SocketAddr>,
    /// Folder for data, logs and configuration [default: a new one, kept only if something is wrong]
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Decides sizes, moments and order of everything that happens [default: another one each time]
    #[arg(long)]
    seed: Option<u64>,
    /// At the end, how long to wait for the agent while it delivers nothing
    #[arg(long, default_value = "30s", value_parser = parse_duration)]
    settle: Duration,
    /// Write the result as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct FaultArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// Rounds in which the agent is killed
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(..=100_000))]
    agent_kills: u32,
    /// Rounds in which the database is killed
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(..=100_000))]
    database_kills: u32,
    /// Rounds in which both are
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(..=100_000))]
    both_kills: u32,
    /// Rounds in which the agent is given another configuration, good or bad
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=100_000))]
    reloads: u32,
    /// Faults of the proxy, as of `loadgen faults`, or `all`; separated by commas
    #[arg(long, value_delimiter = ',', value_name = "FAULT")]
    faults: Vec<String>,
    /// Rounds for each of these faults, in which it hits every insert
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(..=100_000))]
    fault_rounds: u32,
    /// Share of the inserts that one of these faults hits all the time
    #[arg(long, default_value_t = 0.05)]
    fault_share: f64,
    /// Connections; signals and protocols take turns
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u16).range(1..=1024))]
    connections: u16,
    /// Items per second, over all connections
    #[arg(long, default_value = "3000", value_parser = parse_rate)]
    rate: f64,
    /// Items in a request, at most
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    batch_size: u32,
    /// Send for this long after the last round
    #[arg(long, default_value = "0s", value_parser = parse_duration)]
    duration: Duration,
    /// Also check that rows came in the order in which each connection sent them; the agent then sends one batch at a time
    #[arg(long)]
    check_order: bool,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.mode {
        Some(Mode::Overload(args)) => overload::run(args).await,
        Some(Mode::Disk(args)) => disk::run(args).await,
        None => kill_and_disturb(args.faults).await,
    }
}

impl CommonArgs {
    fn seed(&self) -> u64 {
        self.seed
            .unwrap_or_else(|| rand::rng().random::<u32>().into())
    }

    /// The setting of a stage with this configuration if none was given.
    fn setting(&self, seed: u64, run: &Run, config: &str) -> anyhow::Result<Setting> {
        let config = match &self.agent_config {
            Some(path) => std::fs::read_to_string(path)
                .with_context(|| format!("cannot read {}", path.display()))?,
            None => config.to_owned(),
        };
        let beside = std::env::current_exe()?.with_file_name("tidegate");
        let dir = self
            .dir
            .clone()
            .unwrap_or_else(|| std::env::temp_dir().join(format!("loadgen-prove-{}", run.name)));
        let tidegate = self.tidegate.clone().unwrap_or(beside);
        Ok(Setting {
            tidegate: std::path::absolute(tidegate)?,
            config,
            storage: self.storage,
            memory_queue_bytes: 64 << 20,
            wal_mib: 1024,
            within: Vec::new(),
            consumers: 10,
            timeout: Duration::from_secs(2),
            memory_mib: 0,
            database: self.database,
            dir: std::path::absolute(dir)?,
            seed,
        })
    }

    /// Prints and writes the report; removes what nobody asked for.
    fn finish(&self, report: &Report, dir: &Path) -> anyhow::Result<ExitCode> {
        print(&report.to_string())?;
        if let Some(file) = &self.json {
            let json = serde_json::to_vec_pretty(report)?;
            std::fs::write(file, json)
                .with_context(|| format!("cannot write {}", file.display()))?;
        }
        let holds = report.violations().is_empty();
        if !holds {
            print(&format!("kept       {}\n", dir.display()))?;
            return Ok(ExitCode::from(EXIT_LIMIT_CROSSED));
        }
        if self.dir.is_none() {
            std::fs::remove_dir_all(dir)
                .with_context(|| format!("cannot remove {}", dir.display()))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl FaultArgs {
    fn script(&self) -> anyhow::Result<Script> {
        ensure!(
            (0.0..=1.0).contains(&self.fault_share),
            "--fault-share is from 0 to 1"
        );
        ensure!(
            self.common.database.is_none() || self.database_kills + self.both_kills == 0,
            "a database that was given is not killed: --database-kills 0 --both-kills 0"
        );
        Ok(Script {
            agent_kills: self.agent_kills,
            database_kills: self.database_kills,
            both_kills: self.both_kills,
            reloads: self.reloads,
            faults: self
                .faults
                .iter()
                .flat_map(|text| match text.as_str() {
                    "all" => Fault::ALL.to_vec(),
                    one => vec![one],
                })
                .map(|text| Ok(Rule::parse(text)?.fault))
                .collect::<anyhow::Result<_>>()?,
            fault_rounds: self.fault_rounds,
            fault_share: self.fault_share,
        })
    }

    fn manner(&self) -> Manner {
        Manner::steady(self.batch_size, self.rate / f64::from(self.connections))
    }
}

async fn kill_and_disturb(args: FaultArgs) -> anyhow::Result<ExitCode> {
    let seed = args.common.seed();
    let script = args.script()?;
    announce(seed)?;
    let mut random = StdRng::seed_from_u64(seed);
    let run = Arc::new(Run::new(seed, 0));
    let mut setting = args
        .common
        .setting(seed, &run, include_str!("agent.toml"))?;
    if args.check_order {
        setting.consumers = 1;
    }
    if args.reloads > 0 {
        setting.timeout = reloads::TIMEOUT;
    }
    let mut stage = Stage::set(&setting, &mut random).await?;
    let start = Instant::now();
    let crowd = Crowd::start(
        &stage,
        &run,
        &args.manner(),
        args.connections,
        seed,
        start,
        0,
    )?;
    let watching = Watching::start(stage.http.clone(), stage.metrics, seed);
    if args.check_order {
        remember_order(&stage, &run).await?;
    }
    let mut play = Play {
        stage: &mut stage,
        script: &script,
        random: &mut random,
        start,
        reloads: Vec::new(),
    };
    let rounds = play.run().await?;
    let reloads = play.reloads;
    tokio::time::sleep(args.duration).await;
    let records = crowd.stop().await?;
    let settle = args.common.settle;
    let (mut report, usage) =
        conclude(&mut stage, &run, &records, &reloads, watching, settle).await?;
    if args.check_order {
        report.order = Some(stage.tables(&run).order().await?);
    }
    if !reloads.is_empty() {
        report.reloads = Some(Reloads::new(&reloads, &records, usage, script.is_quiet()));
        // Nothing else happens that could be the reason.
        report.refuses_nothing = script.is_quiet();
    }
    report.seed = seed;
    report.storage = args.common.storage;
    report.took = start.elapsed();
    // Reloads let some items go two ways.
    report.ledger_is_whole = script.agent_kills + script.both_kills + script.reloads == 0;
    report.rounds = rounds;
    stage.close().await?;
    args.common.finish(&report, &setting.dir)
}

/// The seed goes out before anything can go wrong.
fn announce(seed: u64) -> anyhow::Result<()> {
    let mut error = std::io::stderr().lock();
    writeln!(error, "seed {seed}")?;
    Ok(())
}

/// Waits for the tables to be made, then lets them keep the order of blocks.
async fn remember_order(stage: &Stage, run: &Run) -> anyhow::Result<()> {
    let tables = stage.tables(run);
    let deadline = Instant::now() + Duration::from_secs(60);
    while !tables.are_there().await? {
        ensure!(
            Instant::now() < deadline,
            "the agent has not made all tables within a minute"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tables.remember_order().await
}

/// Waits until everything is delivered, stops the agent, and compares.
async fn conclude(
    stage: &mut Stage,
    run: &Run,
    records: &[Record],
    reloads: &[Reloaded],
    watching: Watching,
    settle: Duration,
) -> anyhow::Result<(Report, Usage)> {
    let (ledger_end, settled) = stage.settle(settle).await?;
    let mut ledger = watching.stop().await?;
    ledger.see(&ledger_end);
    let agent_peak_bytes = stage.agent.peak_memory();
    let is_enough = |usage| !have_left_something(reloads, usage);
    let usage = stage.usage_at_rest(is_enough).await;
    let status = stage.stop_agent().await?;
    let tables = stage.tables(run);
    let stored = tables.stored().await?;
    let report = Report {
        run: run.name.clone(),
        seed: 0,
        storage: Storage::Memory,
        took: Duration::ZERO,
        rounds: Vec::new(),
        told: verdict::told(records),
        rows: stored.rows.values().sum(),
        wrong: verdict::compare(records, stored),
        lookup: tables.lookup().await?,
        order: None,
        ledger,
        ledger_end,
        settled,
        agent_end: status.to_string(),
        agent_ended_well: status.success(),
        agent_peak_bytes,
        proxy: stage.proxy.board.counts(),
        overload: None,
        reloads: None,
        refuses_nothing: false,
        ledger_is_whole: true,
    };
    Ok((report, usage))
}
