//! `loadgen sink`: receives telemetry like a ClickHouse server or an OTLP backend, and throws it away.

mod clickhouse;
mod distinct;
mod json;
mod limits;
mod metrics;
mod otlp;
pub(crate) mod serve;
mod stats;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use rand::Rng as _;
use serde::Serialize;
use tokio::task::JoinSet;

use crate::cli::{parse_duration, parse_share};
use crate::otlp::client::Protocol;
use crate::signals::Interruptions;
use crate::stdout::print;
use clickhouse::ClickHouse;
pub(crate) use clickhouse::WINDOW as DEDUPLICATION_WINDOW;
pub(crate) use limits::Limits;
use limits::{Gate, Reached};
use otlp::Otlp;
use serve::{Body, Handler, Version, drain, full, listen, serve};
pub(crate) use stats::Stats;

/// Receive telemetry, count it and throw it away: a ClickHouse and OTLP endpoint.
///
/// The ClickHouse endpoint answers what agents ask at their start (version, tables, columns) like a server
/// that has the Collector's tables and those it was told to create; inserts are read and forgotten.
/// Once it listens, one line of JSON with the real addresses goes to standard output. `GET /stats` on any HTTP
/// endpoint answers what has been received, and `GET /metrics` in Prometheus' format; the first is printed at the end, too (Ctrl-C).
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("endpoints").required(true).multiple(true))]
pub(crate) struct Args {
    /// Listen here as a ClickHouse server (HTTP); port 0 takes a free one
    #[arg(long, value_name = "ADDR", group = "endpoints")]
    clickhouse: Option<SocketAddr>,
    /// Listen here for OTLP over HTTP
    #[arg(long, value_name = "ADDR", group = "endpoints")]
    otlp_http: Option<SocketAddr>,
    /// Listen here for OTLP over gRPC
    #[arg(long, value_name = "ADDR", group = "endpoints")]
    otlp_grpc: Option<SocketAddr>,
    /// Count rows and items, not only requests and bytes
    #[arg(long)]
    count: bool,
    /// Count them, and those that came before with the same content: what `loadgen otlp` sends uncompressed is all different
    #[arg(long)]
    distinct: bool,
    /// As ClickHouse: blocks of each table whose `insert_deduplication_token` is remembered; one of them that is sent again is
    /// acknowledged and not counted again. 0: none
    #[arg(long, value_name = "BLOCKS", default_value_t = DEDUPLICATION_WINDOW)]
    deduplication_window: u32,
    /// Wait this long before each answer to data
    #[arg(long, default_value = "0s", value_parser = parse_duration)]
    delay: Duration,
    /// Wait up to this much longer, by chance
    #[arg(long, default_value = "0s", value_parser = parse_duration)]
    jitter: Duration,
    /// Share of data requests, 0 to 1, to answer with an error
    #[arg(long, default_value_t = 0.0, value_parser = parse_share)]
    error_rate: f64,
    /// HTTP status of those errors (gRPC: the status that stands for it)
    #[arg(long, default_value = "503", value_parser = parse_status)]
    status: StatusCode,
    /// Retry hint that goes with those errors and with refusals by a limit: Retry-After, over gRPC RetryInfo
    #[arg(long, value_name = "SECONDS")]
    retry_after: Option<u32>,
    /// Take this many data requests a second, and refuse further ones with 429 (gRPC: RESOURCE_EXHAUSTED)
    #[arg(long, value_name = "REQUESTS", value_parser = crate::otlp::parse_rate)]
    limit_rate: Option<f64>,
    /// Take this many data requests at once, and refuse further ones with 503 (gRPC: UNAVAILABLE)
    #[arg(long, value_name = "REQUESTS")]
    limit_in_flight: Option<usize>,
    /// Take bodies of up to this many bytes, and refuse longer ones with 413 (gRPC: RESOURCE_EXHAUSTED)
    #[arg(long, value_name = "BYTES")]
    limit_body: Option<u64>,
    /// Stop after this long [default: when interrupted]
    #[arg(long, value_parser = parse_duration)]
    duration: Option<Duration>,
}

/// What a sink does; see [`Args`] for the fields.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) clickhouse: Option<SocketAddr>,
    pub(crate) otlp_http: Option<SocketAddr>,
    pub(crate) otlp_grpc: Option<SocketAddr>,
    pub(crate) counting: Counting,
    /// Blocks of each table that are known by their tokens.
    pub(crate) deduplication_window: u32,
    pub(crate) faults: Faults,
    pub(crate) limits: Limits,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counting {
    /// Requests and bytes only: bodies are not looked at.
    Requests,
    /// Rows and items, too.
    Items,
    /// And those of them that came before.
    Distinct,
}

/// Slowness and errors on purpose.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Faults {
    pub(crate) delay: Duration,
    /// Up to this much longer, by chance.
    pub(crate) jitter: Duration,
    pub(crate) error_rate: f64,
    pub(crate) status: StatusCode,
    pub(crate) retry_after: Option<u32>,
}

impl Faults {
    pub(crate) const NONE: Self = Self {
        delay: Duration::ZERO,
        jitter: Duration::ZERO,
        error_rate: 0.0,
        status: StatusCode::SERVICE_UNAVAILABLE,
        retry_after: None,
    };
}

/// Where a sink really listens.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Addresses {
    pub(crate) clickhouse: Option<SocketAddr>,
    pub(crate) otlp_http: Option<SocketAddr>,
    pub(crate) otlp_grpc: Option<SocketAddr>,
}

/// A sink at work; dropping it closes its listeners and connections.
#[derive(Debug)]
pub(crate) struct Sink {
    pub(crate) addresses: Addresses,
    pub(crate) stats: Arc<Stats>,
    listeners: JoinSet<()>,
}

impl Sink {
    /// Starts to listen, on the current runtime.
    ///
    /// # Errors
    /// When an address is taken or not ours.
    pub(crate) async fn start(settings: &Settings) -> anyhow::Result<Self> {
        let stats = Arc::new(Stats::default());
        let mut listeners = JoinSet::new();
        let mut addresses = Addresses::default();
        let gate = Gate::new(settings.limits);
        let endpoint = |work| Endpoint {
            work,
            faults: settings.faults,
            gate: Arc::clone(&gate),
            stats: Arc::clone(&stats),
        };
        if let Some(address) = settings.clickhouse {
            let (listener, address) = listen(address).await?;
            addresses.clickhouse = Some(address);
            let work = Work::ClickHouse(Arc::new(ClickHouse::new(
                Arc::clone(&stats),
                settings.counting,
                settings.deduplication_window,
            )));
            listeners.spawn(serve(listener, Version::Http1, endpoint(work)));
        }
        if let Some(address) = settings.otlp_http {
            let (listener, address) = listen(address).await?;
            addresses.otlp_http = Some(address);
            let otlp = Otlp::new(Arc::clone(&stats), Protocol::Http, settings.counting);
            listeners.spawn(serve(
                listener,
                Version::Http1,
                endpoint(Work::Http(Arc::new(otlp))),
            ));
        }
        if let Some(address) = settings.otlp_grpc {
            let (listener, address) = listen(address).await?;
            addresses.otlp_grpc = Some(address);
            let otlp = Otlp::new(Arc::clone(&stats), Protocol::Grpc, settings.counting);
            listeners.spawn(serve(
                listener,
                Version::Http2,
                endpoint(Work::Grpc(Arc::new(otlp))),
            ));
        }
        Ok(Self {
            addresses,
            stats,
            listeners,
        })
    }

    /// Waits as long as its listeners work, which is until it is dropped.
    pub(crate) async fn serve(&mut self) {
        while self.listeners.join_next().await.is_some() {}
    }
}

/// One of the sink's listeners.
#[derive(Debug, Clone)]
struct Endpoint {
    work: Work,
    faults: Faults,
    gate: Arc<Gate>,
    stats: Arc<Stats>,
}

#[derive(Debug, Clone)]
enum Work {
    ClickHouse(Arc<ClickHouse>),
    Http(Arc<Otlp>),
    Grpc(Arc<Otlp>),
}

impl Handler for Endpoint {
    async fn handle(self, request: Request<Incoming>) -> Result<Response<Body>, hyper::Error> {
        let (head, body) = request.into_parts();
        match head.uri.path() {
            "/stats" => {
                drain(body).await?;
                let json =
                    self.of_snapshot(|all| serde_json::to_vec_pretty(all).unwrap_or_default());
                return Ok(answer("application/json", json.await));
            }
            "/metrics" => {
                drain(body).await?;
                let text = self.of_snapshot(|all| metrics::render(all).into());
                return Ok(answer("text/plain; version=0.0.4", text.await));
            }
            _ => {}
        }
        if !self.is_data(&head) {
            return self.work(head, body).await;
        }
        let _permit = match self.gate.enter(Instant::now()) {
            Ok(permit) => permit,
            Err(reached) => {
                drain(body).await?;
                return Ok(self.refused(reached));
            }
        };
        let fails = self.faults.error_rate > 0.0 && rand::rng().random_bool(self.faults.error_rate);
        if fails {
            drain(body).await?;
            self.faults.wait().await;
            self.stats.error_injected();
            return Ok(self.error(self.faults.status));
        }
        self.faults.wait().await;
        self.work(head, body).await
    }
}

impl Faults {
    /// Waits as long as an answer is to take.
    async fn wait(&self) {
        let jitter = match self.jitter.is_zero() {
            true => Duration::ZERO,
            false => self.jitter.mul_f64(rand::rng().random()),
        };
        let delay = self.delay + jitter;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
    }
}

impl Endpoint {
    async fn work(
        &self,
        head: http::request::Parts,
        body: Incoming,
    ) -> Result<Response<Body>, hyper::Error> {
        let answered = match &self.work {
            Work::ClickHouse(clickhouse) => clickhouse.handle(head, body, &self.gate).await?,
            Work::Http(otlp) | Work::Grpc(otlp) => otlp.handle(head, body, &self.gate).await?,
        };
        Ok(answered.unwrap_or_else(|reached| self.refused(reached)))
    }

    /// Statements of an agent's start are never disturbed: faults are for data.
    fn is_data(&self, head: &http::request::Parts) -> bool {
        match self.work {
            Work::ClickHouse(_) => head
                .uri
                .query()
                .is_some_and(|query| query.to_ascii_uppercase().contains("INSERT")),
            Work::Http(_) | Work::Grpc(_) => head.method == http::Method::POST,
        }
    }

    fn refused(&self, reached: Reached) -> Response<Body> {
        self.stats.refused(reached.name());
        self.error(reached.status())
    }

    fn error(&self, status: StatusCode) -> Response<Body> {
        if matches!(self.work, Work::ClickHouse(_)) {
            return clickhouse::exception(status, self.faults.retry_after);
        }
        let protocol = if matches!(self.work, Work::Grpc(_)) {
            Protocol::Grpc
        } else {
            Protocol::Http
        };
        let mut response = otlp::refusal(protocol, status);
        if let Some(seconds) = self.faults.retry_after {
            otlp::hint(protocol, &mut response, seconds);
        }
        response
    }

    /// Renders what has come. Data is taken while its rows are counted: a client that had to wait for that would take its time to be
    /// up, and send again.
    async fn of_snapshot(&self, render: fn(&stats::Snapshot) -> Vec<u8>) -> Bytes {
        let stats = Arc::clone(&self.stats);
        let rendered = tokio::task::spawn_blocking(move || render(&stats.snapshot()));
        rendered.await.expect("counting does not panic").into()
    }
}

fn answer(content_type: &'static str, body: Bytes) -> Response<Body> {
    let mut response = Response::new(full(body));
    let content_type = HeaderValue::from_static(content_type);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let settings = Settings {
        clickhouse: args.clickhouse,
        otlp_http: args.otlp_http,
        otlp_grpc: args.otlp_grpc,
        counting: match (args.distinct, args.count) {
            (true, _) => Counting::Distinct,
            (false, true) => Counting::Items,
            (false, false) => Counting::Requests,
        },
        deduplication_window: args.deduplication_window,
        faults: Faults {
            delay: args.delay,
            jitter: args.jitter,
            error_rate: args.error_rate,
            status: args.status,
            retry_after: args.retry_after,
        },
        limits: Limits {
            rate: args.limit_rate,
            in_flight: args.limit_in_flight,
            body: args.limit_body,
        },
    };
    // One thread: the sink shares a core with the generator, and threads would only wake each other.
    let serving = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(serve_until_stopped(&settings, args.duration))
    });
    serving.await.context("the sink panicked")?
}

async fn serve_until_stopped(
    settings: &Settings,
    duration: Option<Duration>,
) -> anyhow::Result<ExitCode> {
    let mut sink = Sink::start(settings).await?;
    print(&(serde_json::to_string(&sink.addresses)? + "\n"))?;
    let mut interruptions = Interruptions::listen()?;
    let time_is_up = async {
        match duration {
            Some(duration) => tokio::time::sleep(duration).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = sink.serve() => {}
        () = time_is_up => {}
        () = interruptions.next() => {}
    }
    print(&(serde_json::to_string_pretty(&sink.stats.snapshot())? + "\n"))?;
    Ok(ExitCode::SUCCESS)
}

fn parse_status(text: &str) -> anyhow::Result<StatusCode> {
    let status: StatusCode = text
        .parse()
        .context("a status is a number from 400 to 599")?;
    ensure!(
        status.is_client_error() || status.is_server_error(),
        "a status to fail with is a number from 400 to 599"
    );
    Ok(status)
}

#[cfg(test)]
mod tests;
