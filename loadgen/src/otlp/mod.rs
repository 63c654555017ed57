//! `loadgen otlp`: sends telemetry to an OTLP endpoint under measured load.

pub(crate) mod client;
pub(crate) mod compression;
pub(crate) mod drive;
pub(crate) mod payload;
pub(crate) mod progress;
mod record;
pub(crate) mod report;
pub(crate) mod signal;
pub(crate) mod tally;
pub(crate) mod wire;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use rand::Rng as _;
use tokio::sync::watch;

use crate::cli::{EXIT_FAILED, EXIT_INTERRUPTED, WrongUsage, parse_duration};
use crate::process::Process;
use crate::record::{Output, Record, Sampler, Start, Window, check_writable};
use crate::results::Save;
use crate::signals::Interruptions;
use crate::stdout::print;
use crate::tls;
use client::{Protocol, Target};
use compression::Compression;
use drive::{Load, Run};
use payload::{MetricKind, Numbering, Pool, Shape};
use progress::Teller;
use report::Report;
use signal::Signal;

/// How long a run takes when neither --items nor --duration is given.
const DURATION_DEFAULT: Duration = Duration::from_secs(10);
/// When a run of --items ends at the latest if no --duration is given.
const DURATION_MAX: Duration = Duration::from_secs(600);

/// Send traces, logs or metrics to an OTLP endpoint and measure it.
///
/// Without --rate the load is a closed loop: each connection sends its next request when the last one is
/// answered. With --rate items fall due at a constant rate over all connections whatever the server does
/// (open loop); latency then counts from when a request was due, so a stall shows in every request it
/// delayed, and what was due but never sent is reported as unsent.
///
/// The payload is built before the run: --pool different requests with attributes of the semantic
/// conventions. Uncompressed, each send gets fresh ids and times, and each item a number of its own (attribute
/// `loadgen.item`, counting from 4398046511104, 2^42). Compressed requests are sent as built: their items are
/// unique until the pool has been through once.
///
/// Rates are over the time of the load itself, of what was accepted within it: as long as requests fell due, or were sent;
/// the wait for the last answers is told apart.
///
/// The exit status is 1 if nothing was accepted, or the run was interrupted.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to send: host:port, or http://host:port or https://host:port with a path prefix
    endpoint: String,
    /// What to send
    #[arg(short, long, value_enum, default_value = "traces")]
    signal: Signal,
    /// Transport: gRPC, or protobuf over HTTP/1.1
    #[arg(short, long, value_enum, default_value = "http")]
    protocol: Protocol,
    /// Body compression
    #[arg(short, long, value_enum, default_value = "none")]
    compression: Compression,
    /// Connections, each with one request at a time
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=4096))]
    connections: u16,
    /// Items (spans, log records, data points) in a request
    #[arg(short, long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    batch_size: u32,
    /// Stop after this many items
    #[arg(short = 'n', long, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000_000))]
    items: Option<u64>,
    /// Stop after this long [default: 10s; with --items 10m at most]
    #[arg(short, long, value_parser = parse_duration)]
    duration: Option<Duration>,
    /// Offer the load for this long before it is measured
    #[arg(long, default_value = "0s", value_parser = parse_duration)]
    warm_up: Duration,
    /// Measure this many times; the record has a value of each for `loadgen compare`
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    repetitions: u16,
    /// Open loop: items per second in total [default: closed loop]
    #[arg(short, long, value_parser = parse_rate)]
    rate: Option<f64>,
    /// Give up on an answer after this long
    #[arg(long, default_value = "30s", value_parser = parse_duration)]
    timeout: Duration,
    /// Send refused requests again where OTLP allows it, after Retry-After or RetryInfo if given
    #[arg(long)]
    retry: bool,
    /// Attributes of an item, its number included [default: 10 for spans, 8 for records, 4 for points]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    attributes: Option<u16>,
    /// Length of every string attribute's value in bytes [default: natural lengths]
    #[arg(long, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    attribute_size: Option<u32>,
    /// Different values of each string attribute, of 16 bytes or --attribute-size [default: as in nature]
    #[arg(long, value_name = "VALUES", value_parser = clap::value_parser!(u32).range(1..))]
    attribute_cardinality: Option<u32>,
    /// Kinds of metrics that data points belong to, with commas between them
    #[arg(
        long,
        value_enum,
        value_name = "KIND",
        value_delimiter = ',',
        default_values = ["gauge", "sum", "histogram"]
    )]
    metric_kinds: Vec<MetricKind>,
    /// Different requests to build; at least one for each connection
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pool: u32,
    /// Insist on unique items (true), or send requests as built (false) [default: unique if uncompressed]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    unique: Option<bool>,
    /// Name of the run: resource attribute `loadgen.run`, and what ids are derived from [default: random]
    #[arg(long)]
    run: Option<String>,
    /// Chooses the payload: the same seed gives the same names, values and sizes
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write the result as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write how many items have been sent so far as JSON, each second and at the end: what is known of a run that is killed
    #[arg(long, value_name = "FILE")]
    progress: Option<PathBuf>,
    #[command(flatten)]
    tls: tls::Options,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    save: Save,
}

impl Args {
    fn shape(&self) -> Shape {
        let run = self.run.clone().unwrap_or_else(random_run);
        let natural = Shape::natural(self.signal, self.batch_size as usize, &run, self.seed);
        Shape {
            attributes: self.attributes.map_or(natural.attributes, usize::from),
            attribute_size: self.attribute_size.map(|size| size as usize),
            cardinality: self.attribute_cardinality,
            metric_kinds: self.metric_kinds.clone(),
            ..natural
        }
    }

    /// What can be known to be wrong without looking at files or the network.
    ///
    /// # Errors
    /// Limits that make an empty run, no address, or unique items that cannot be had.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        ensure!(!self.timeout.is_zero(), "--timeout must be more than 0");
        ensure!(
            self.duration.is_none_or(|duration| !duration.is_zero()),
            "--duration must be more than 0"
        );
        client::address(&self.endpoint)?;
        self.check_unique()
    }

    /// Names of the figures that its record has.
    pub(crate) fn figures(&self) -> Vec<String> {
        record::figures(self.rate.is_some())
    }

    fn load(&self, run: &str) -> anyhow::Result<Load> {
        let cap = if self.items.is_some() {
            DURATION_MAX
        } else {
            DURATION_DEFAULT
        };
        Ok(Load {
            target: Target::with_tls(
                &self.endpoint,
                self.protocol,
                self.compression,
                self.signal,
                &self.tls,
            )?,
            connections: usize::from(self.connections),
            items: self.items,
            duration: self.duration.unwrap_or(cap),
            rate: self.rate,
            timeout: self.timeout,
            retry: self.retry,
            stamp: self.unique != Some(false),
            numbering: Numbering::for_run(run),
            first_item: 0,
            teller: self
                .progress
                .clone()
                .map(|path| Arc::new(Teller::new(path))),
        })
    }

    /// Different requests: no more than will be sent, and enough for all connections at once.
    fn pool_size(&self) -> usize {
        let asked = u64::from(self.pool).max(self.connections.into());
        let needed = match self.items.filter(|_| self.warm_up.is_zero()) {
            Some(items) => items.div_ceil(self.batch_size.into()),
            None => asked,
        };
        usize::try_from(asked.min(needed)).unwrap_or(usize::MAX)
    }

    /// # Errors
    /// When unique items are asked for and the pool would have to be sent twice as it is.
    fn check_unique(&self) -> anyhow::Result<()> {
        let enough = u64::from(self.pool) * u64::from(self.batch_size);
        let repeats = self.items.is_none_or(|items| items > enough)
            || self.repetitions > 1
            || !self.warm_up.is_zero();
        if self.unique == Some(true) && self.compression != Compression::None && repeats {
            bail!(
                "compressed requests are sent as built: unique items need --items, and a --pool that holds \
                 them all"
            );
        }
        Ok(())
    }
}

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    args.check().map_err(WrongUsage::of)?;
    let files = [&args.json, &args.progress].into_iter().flatten();
    let writable = files.map(PathBuf::as_path).try_for_each(check_writable);
    writable
        .and_then(|()| args.output.check())
        .map_err(WrongUsage::of)?;
    let shape = args.shape();
    let load = args.load(&shape.run).map_err(WrongUsage::of)?;
    let database = args.save.open().map_err(WrongUsage::of)?;
    let authority = &load.target.authority;
    let found = tokio::net::lookup_host(authority).await;
    drop(found.with_context(|| format!("cannot find {authority}"))?);
    let size = args.pool_size();
    let limit = payload::memory_max();
    let fits = payload::check_size(&shape, size, load.target.compression, limit);
    fits.map_err(WrongUsage::of)?;
    let pool = build(shape, size, &load).await?;
    let (stop, stopped) = watch::channel(false);
    let mut interruptions = Interruptions::listen()?;
    let interruption = tokio::spawn(async move {
        interruptions.next().await;
        stop.send_replace(true);
        // The second one does not wait for answers.
        interruptions.next().await;
        std::process::exit(EXIT_INTERRUPTED);
    });
    let teller = load.teller.clone();
    let telling = teller
        .clone()
        .map(|it| tokio::spawn(async move { it.tell().await }));
    let offered = offer(&args, load, pool, stopped).await;
    interruption.abort();
    if let Some(telling) = telling {
        telling.abort();
        // One that is just writing ends that first.
        drop(telling.await);
    }
    teller.map_or(Ok(()), |teller| teller.write())?;
    let (record, reports) = offered?;
    if let Some(file) = &args.json {
        let json = match reports.as_slice() {
            [report] => serde_json::to_vec_pretty(report)?,
            reports => serde_json::to_vec_pretty(reports)?,
        };
        std::fs::write(file, json).with_context(|| format!("cannot write {}", file.display()))?;
    }
    let written = args.output.write(&record);
    if let Some(database) = database {
        database.save(&record).await?;
    }
    written?;
    Ok(if record.passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(EXIT_FAILED)
    })
}

/// Warms up, offers the load as often as asked, and prints each report.
async fn offer(
    args: &Args,
    mut load: Load,
    mut pool: Pool,
    stopped: watch::Receiver<bool>,
) -> anyhow::Result<(Record, Vec<Report>)> {
    if !args.warm_up.is_zero() {
        let warming = Load {
            items: None,
            duration: args.warm_up,
            ..load.clone()
        };
        let (run, used) = drive(&warming, pool, &stopped).await?;
        load.first_item += run.tally.sent.items;
        pool = used;
    }
    let start = Start::now();
    let sampler = Sampler::start(Process::own(), "loadgen", start.instant());
    let mut record: Option<Record> = None;
    let mut reports = Vec::with_capacity(args.repetitions.into());
    for repetition in 1..=args.repetitions {
        let began = start.instant().elapsed();
        let (run, used) = drive(&load, pool, &stopped).await?;
        load.first_item += run.tally.sent.items;
        pool = used;
        let report = Report::new(&load, pool.facts(), &run);
        print(&report.to_string())?;
        let mut one = record::of(&start, &report, &run, began);
        if args.repetitions > 1 {
            one.windows.push(Window {
                name: format!("repetition {repetition}"),
                from: began.as_secs_f64(),
                to: (began + run.wall).as_secs_f64(),
            });
        }
        reports.push(report);
        match &mut record {
            Some(record) => record.absorb(one),
            None => record = Some(one),
        }
        if *stopped.borrow() {
            break;
        }
    }
    let mut record = record.context("there is one repetition at least")?;
    record.series.extend(sampler.stop().await);
    Ok((record, reports))
}

/// Offers the load once, from a thread of its own.
async fn drive(
    load: &Load,
    pool: Pool,
    stopped: &watch::Receiver<bool>,
) -> anyhow::Result<(Run, Pool)> {
    let (load, stopped) = (load.clone(), stopped.clone());
    let sending = tokio::task::spawn_blocking(move || drive::run(load, pool, stopped));
    sending.await.context("the sending thread panicked")?
}

async fn build(shape: Shape, size: usize, load: &Load) -> anyhow::Result<Pool> {
    let (compression, numbering) = (load.target.compression, load.numbering);
    let building = tokio::task::spawn_blocking(move || {
        Pool::build(&shape, size, compression, numbering, drive::unix_nanos())
    });
    building.await.context("the building thread panicked")?
}

pub(crate) fn random_run() -> String {
    format!("{:08x}", rand::rng().random::<u32>())
}

pub(crate) fn parse_rate(text: &str) -> anyhow::Result<f64> {
    let rate: f64 = text
        .parse()
        .context("a rate is a number of items per second")?;
    ensure!(
        (1e-3..=1e12).contains(&rate),
        "a rate is between 0.001 and 1e12 items per second"
    );
    Ok(rate)
}
