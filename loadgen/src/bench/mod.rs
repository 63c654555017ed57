//! `loadgen bench`: measures agents as child processes, next to each other.

mod agent;
mod cell;
mod durable;
mod markdown;
mod measure;
mod overload;
mod peer;
mod probe;
mod reload;
mod report;
mod scrape;
mod sink;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use tokio::sync::watch;

use crate::cli::{EXIT_FAILED, EXIT_LIMIT_CROSSED, parse_duration};
use crate::otlp::client::Protocol;
use crate::otlp::compression::Compression;
use crate::otlp::drive::unix_nanos;
use crate::otlp::payload::{Numbering, Pool, Shape};
use crate::otlp::signal::Signal;
use crate::process;
use crate::record::Environment;
use crate::signals::Interruptions;
use crate::stdout::print;
use cell::{Cell, Work};
use measure::Bench;
use peer::Peer;
use report::{CellResult, Conditions, Failure, Report};

const NGINX: &str = "/usr/sbin/nginx";
const SEED: u64 = 1;
/// Different requests in a payload.
const POOL: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum AgentName {
    Tidegate,
    Rotel,
    Nginx,
}

/// Compare agents: CPU seconds per million items, latency and memory.
///
/// Starts each agent as a child process on a core of its own, sends it the same payload over OTLP from the other
/// core, and lets it write to a ClickHouse server that discards. Every signal, protocol and compression for
/// tidegate; other agents (rotel, and nginx as the floor) where requests are uncompressed over HTTP, taken in
/// turns with it. Then tidegate passing requests on as OTLP, next to nginx as a plain reverse proxy, and tidegate with
/// its queue on disk next to itself with its queue in memory; then tidegate offered twice what it can take, and tidegate while its configuration changes ten times a second. Prints the tables as Markdown and writes report.md and
/// report.json.
///
/// The exit status is 1 if a measurement failed, 99 if something was lost that a queue on disk had accepted. Only loopback addresses are used; all agents are stopped at the
/// end, however it comes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A smoke test: few items, one repetition, eleven combinations, tidegate only unless --agents says otherwise
    #[arg(long)]
    quick: bool,
    /// Agents to measure; the first is what others are compared with [default: all that are there]
    #[arg(long, value_enum, value_delimiter = ',')]
    agents: Vec<AgentName>,
    /// The tidegate binary
    #[arg(long, default_value = "target/release/tidegate")]
    tidegate: PathBuf,
    /// Use this configuration instead of the built-in one; {http_port}, {grpc_port} and {sink} are filled in
    #[arg(long, value_name = "FILE")]
    tidegate_config: Option<PathBuf>,
    /// The Rotel binary (tests/bench/fetch-rotel.sh gets it)
    #[arg(long, default_value = "target/bench/rotel/rotel-agent")]
    rotel: PathBuf,
    /// Items in each measurement [default: 2000000, with --quick 20000]
    #[arg(short = 'n', long, value_parser = clap::value_parser!(u64).range(1000..=1_000_000_000))]
    items: Option<u64>,
    /// Items sent before each measurement, to warm up [default: a tenth of --items]
    #[arg(long, value_parser = clap::value_parser!(u64).range(0..=1_000_000_000))]
    warm_up: Option<u64>,
    /// Repetitions of each measurement [default: 3, with --quick 1]
    #[arg(short, long, value_parser = clap::value_parser!(u8).range(1..=100))]
    repetitions: Option<u8>,
    /// Connections, each with one request at a time
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=4096))]
    connections: u16,
    /// Items in a request
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    batch_size: u32,
    /// Open loop: items due per second in total [default: closed loop, as fast as answers come]
    #[arg(long, value_parser = crate::otlp::parse_rate)]
    rate: Option<f64>,
    /// Only this work: writing to ClickHouse, passing through, keeping the queue on disk, being offered too much, or being reloaded
    #[arg(long, value_enum, value_delimiter = ',')]
    work: Vec<Work>,
    /// Only these signals
    #[arg(long, value_enum, value_delimiter = ',')]
    signals: Vec<Signal>,
    /// Only these protocols
    #[arg(long, value_enum, value_delimiter = ',')]
    protocols: Vec<Protocol>,
    /// Only these compressions
    #[arg(long, value_enum, value_delimiter = ',')]
    compressions: Vec<Compression>,
    /// MiB in the queue on disk when its agent is killed, to see it recover [default: 1024, with --quick 16]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    queued_mib: Option<u64>,
    /// Longest time for sending in one measurement, and again for draining
    #[arg(long, default_value = "2m", value_parser = parse_duration)]
    time_limit: Duration,
    /// Directory for the report and the agents' files
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (stop, stopped) = watch::channel(false);
    let mut interruptions = Interruptions::listen()?;
    let measuring = tokio::task::spawn_blocking(move || measure_all(&args, stopped));
    tokio::pin!(measuring);
    let report = tokio::select! {
        report = &mut measuring => report,
        () = interruptions.next() => {
            stop.send_replace(true);
            measuring.await
        }
    };
    let report = report.context("the measuring thread panicked")??;
    let failed = !report.failures.is_empty() || report.results.is_empty();
    Ok(match report.durably_lost_items() {
        _ if failed => ExitCode::from(EXIT_FAILED),
        0 => ExitCode::SUCCESS,
        _ => ExitCode::from(EXIT_LIMIT_CROSSED),
    })
}

/// Measures everything from the calling thread, and writes the report.
fn measure_all(args: &Args, stop: watch::Receiver<bool>) -> anyhow::Result<Report> {
    let (mut peers, skipped) = args.peers()?;
    peers.iter_mut().for_each(Peer::ask_version);
    let cores = process::allowed_cores().context("cannot read which cores we may use")?;
    let (agent_core, load_core) = match cores.as_slice() {
        [agent, load, ..] => (Some(*agent), Some(*load)),
        _ => (None, None),
    };
    let environment = Environment::read();
    let started_at = unix_nanos() / 1_000_000_000;
    if let Some(core) = load_core {
        process::pin_to(core).context("cannot pin the generator")?;
    }
    let run = crate::otlp::random_run();
    let dir = args.out.join("run");
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let dir = dir
        .canonicalize()
        .with_context(|| format!("cannot find {}", dir.display()))?;
    let bench = args.bench(agent_core, Numbering::for_run(&run), dir, stop);
    let mut report = Report {
        environment,
        started_at,
        conditions: Conditions {
            items: bench.items,
            warm_up_items: bench.warm_up_items,
            repetitions: args.repetitions(),
            connections: bench.connections,
            rate: bench.rate,
            agent_core,
            load_core,
        },
        peers,
        payloads: Vec::new(),
        results: Vec::new(),
        durable: Vec::new(),
        overload: Vec::new(),
        reloads: Vec::new(),
        failures: Vec::new(),
        skipped,
    };
    for cell in args.cells() {
        measure_cell(args, &bench, cell, &run, &mut report)?;
        if *bench.stop.borrow() {
            report
                .skipped
                .push("interrupted: the rest was not measured".to_owned());
            break;
        }
    }
    write_report(&report, &args.out)?;
    Ok(report)
}

/// All repetitions of all agents in one cell, taken in turns. An agent that failed is not tried again.
fn measure_cell(
    args: &Args,
    bench: &Bench,
    cell: Cell,
    run: &str,
    report: &mut Report,
) -> anyhow::Result<()> {
    let peers: Vec<_> = report
        .peers
        .iter()
        .filter(|peer| peer.takes_part(cell))
        .cloned()
        .collect();
    if peers.is_empty() {
        return Ok(());
    }
    let shape = args.shape(cell.signal, run);
    let size = bench.connections.max(POOL);
    let build = || {
        Pool::build(
            &shape,
            size,
            cell.compression,
            bench.numbering,
            unix_nanos(),
        )
    };
    let mut pool = build()?;
    report.note_payload(pool.facts());
    let mut results: Vec<_> = peers
        .iter()
        .map(|peer| CellResult::new(peer, cell))
        .collect();
    let mut failed = BTreeSet::new();
    for repetition in 1..=args.repetitions() {
        for (peer, result) in peers.iter().zip(&mut results) {
            if failed.contains(&peer.name) || *bench.stop.borrow() {
                continue;
            }
            let (returned, measured) = bench.measure(peer, cell, pool);
            pool = match returned {
                Some(pool) => pool,
                None => build()?,
            };
            let turn = format!("{cell}: {} {repetition}/{}", peer.name, args.repetitions());
            match measured {
                Ok(run) => {
                    let rate = run.items_per_second / 1e3;
                    progress(&format!(
                        "{turn}: {:.2} CPU-s per million, {rate:.0} k/s",
                        run.cpu_seconds_per_million
                    ));
                    result.runs.push(run);
                }
                Err(error) => {
                    progress(&format!("{turn}: {error:#}"));
                    failed.insert(peer.name.clone());
                    report.failures.push(Failure::new(peer, cell, &error));
                }
            }
        }
    }
    results.retain(|result| !result.runs.is_empty());
    for (peer, result) in pairs(&peers, &results) {
        if !*bench.stop.borrow() {
            measure_besides(args, bench, peer, result, &build, report)?;
        }
    }
    report.results.extend(results);
    Ok(())
}

/// What is measured of some work besides its throughput.
fn measure_besides(
    args: &Args,
    bench: &Bench,
    peer: &Peer,
    result: &CellResult,
    build: &impl Fn() -> anyhow::Result<Pool>,
    report: &mut Report,
) -> anyhow::Result<()> {
    let measured = if peer.work == Work::Durable && peer.durable {
        bench
            .measure_durable(peer, result, build()?, args.queued_bytes())
            .map(|durable| report.durable.push(durable))
    } else if peer.work == Work::Overload {
        bench
            .measure_overload(peer, result, build()?)
            .map(|overload| report.overload.push(overload))
    } else if peer.work == Work::Reload {
        bench
            .measure_reloads(peer, result, build()?)
            .map(|reloads| report.reloads.push(reloads))
    } else {
        return Ok(());
    };
    if let Err(error) = measured {
        progress(&format!("{}: {}: {error:#}", result.cell, peer.name));
        report
            .failures
            .push(Failure::new(peer, result.cell, &error));
    }
    Ok(())
}

/// The results with their agents.
fn pairs<'a>(
    peers: &'a [Peer],
    results: &'a [CellResult],
) -> impl Iterator<Item = (&'a Peer, &'a CellResult)> {
    results.iter().filter_map(|result| {
        let peer = peers.iter().find(|peer| peer.name == result.peer)?;
        Some((peer, result))
    })
}

fn write_report(report: &Report, out: &Path) -> anyhow::Result<()> {
    let markdown = report.markdown();
    let write = |name: &str, bytes: &[u8]| {
        let path = out.join(name);
        fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))
    };
    write("report.md", markdown.as_bytes())?;
    write("report.json", &serde_json::to_vec_pretty(report)?)?;
    print(&markdown)
}

fn progress(line: &str) {
    // The report has it too; nobody may be listening on stderr.
    drop(writeln!(std::io::stderr(), "{line}"));
}

impl Args {
    fn shape(&self, signal: Signal, run: &str) -> Shape {
        Shape::natural(signal, self.batch_size as usize, run, SEED)
    }

    fn repetitions(&self) -> usize {
        usize::from(self.repetitions.unwrap_or(if self.quick { 1 } else { 3 }))
    }

    fn queued_bytes(&self) -> u64 {
        self.queued_mib
            .unwrap_or(if self.quick { 16 } else { 1024 })
            << 20
    }

    fn bench(
        &self,
        agent_core: Option<usize>,
        numbering: Numbering,
        dir: PathBuf,
        stop: watch::Receiver<bool>,
    ) -> Bench {
        let items = self
            .items
            .unwrap_or(if self.quick { 20_000 } else { 2_000_000 });
        Bench {
            items,
            warm_up_items: self.warm_up.unwrap_or(items / 10),
            connections: usize::from(self.connections),
            rate: self.rate,
            settle: Duration::from_millis(if self.quick { 100 } else { 1000 }),
            quiet: Duration::from_secs(if self.quick { 1 } else { 3 }),
            time_max: self.time_limit,
            agent_core,
            numbering,
            dir,
            stop,
        }
    }

    fn cells(&self) -> Vec<Cell> {
        let wanted = |cell: &Cell| {
            (self.work.is_empty() || self.work.contains(&cell.work))
                && (self.signals.is_empty() || self.signals.contains(&cell.signal))
                && (self.protocols.is_empty() || self.protocols.contains(&cell.protocol))
                && (self.compressions.is_empty() || self.compressions.contains(&cell.compression))
        };
        let filtered =
            !(self.signals.is_empty() && self.protocols.is_empty() && self.compressions.is_empty());
        let cells = if self.quick && !filtered {
            Cell::quick()
        } else {
            Cell::all()
        };
        cells.into_iter().filter(wanted).collect()
    }

    /// The agents to measure, and why others are not.
    fn peers(&self) -> anyhow::Result<(Vec<Peer>, Vec<String>)> {
        let by_default: &[_] = match self.quick {
            true => &[AgentName::Tidegate],
            false => &[AgentName::Tidegate, AgentName::Rotel, AgentName::Nginx],
        };
        let names = if self.agents.is_empty() {
            by_default
        } else {
            &self.agents
        };
        let (mut peers, mut skipped) = (Vec::new(), Vec::new());
        for name in names {
            let peer = self.peer(*name)?;
            if peer.binary.is_file() {
                let others = name.at_other_work(&peer, self.tidegate_config.is_some());
                peers.push(peer);
                peers.extend(others);
                continue;
            }
            let missing = format!(
                "{}: {} is not there{}",
                peer.name,
                peer.binary.display(),
                name.remedy()
            );
            if *name == AgentName::Tidegate || !self.agents.is_empty() {
                bail!(missing);
            }
            skipped.push(missing);
        }
        Ok((peers, skipped))
    }

    fn peer(&self, name: AgentName) -> anyhow::Result<Peer> {
        let absolute = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        Ok(match name {
            AgentName::Tidegate => {
                let read = |path: &PathBuf| {
                    fs::read_to_string(path)
                        .with_context(|| format!("cannot read {}", path.display()))
                };
                let config = self.tidegate_config.as_ref().map(read).transpose()?;
                Peer::tidegate(absolute(&self.tidegate), config)
            }
            AgentName::Rotel => Peer::rotel(absolute(&self.rotel)),
            AgentName::Nginx => Peer::nginx(PathBuf::from(NGINX)),
        })
    }
}

impl AgentName {
    /// The same binary in other configurations, for those that have some. A configuration of the user's is for one work
    /// only.
    fn at_other_work(self, peer: &Peer, configured: bool) -> Vec<Peer> {
        let binary = peer.binary.clone();
        match self {
            Self::Tidegate if configured => Vec::new(),
            Self::Tidegate => vec![
                Peer::tidegate_passthrough(binary.clone()),
                Peer::tidegate_in_memory(binary.clone()),
                Peer::tidegate_durable(binary.clone()),
                Peer::tidegate_overload(binary.clone()),
                Peer::tidegate_reloading(binary.clone()),
                Peer::tidegate_reloading_durable(binary),
            ],
            Self::Nginx => vec![
                Peer::nginx_proxy(binary.clone()),
                Peer::nginx_proxy_keeping(binary),
            ],
            Self::Rotel => Vec::new(),
        }
    }

    fn remedy(self) -> &'static str {
        match self {
            Self::Tidegate => " (cargo build --release -p tidegate)",
            Self::Rotel => " (tests/bench/fetch-rotel.sh)",
            Self::Nginx => " (apt-get install nginx-light)",
        }
    }
}
