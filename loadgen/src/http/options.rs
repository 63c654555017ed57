//! What a user writes after `loadgen http`, and the trusted settings made from it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

use super::journey::Outgoing;
use super::progress::View;
use super::stages::Stage;
use crate::cli::{parse_duration, parse_share};
use crate::record::{Output, check_writable};
use crate::results::Save;
use crate::tls::{self, Tls};

/// Workers own a connection and two histograms (about 0.2 MB each), so this bounds memory below 2 GB.
pub(crate) const WORKERS_MAX: u64 = 4096;
/// Far beyond any run, and small enough for times computed from it.
const REQUESTS_MAX: u64 = 1_000_000_000_000;
/// A body is held in memory once and shared by all workers.
const BODY_BYTES_MAX: u64 = 1 << 30;
const DURATION_DEFAULT: Duration = Duration::from_secs(10);

/// Send HTTP requests to a service and measure its latency.
///
/// Without --rate the load is a closed loop: each worker sends its next request when the last one is
/// answered, so a slow service lowers the load. With --rate requests fall due at a constant rate whatever
/// the service does (open loop); latency is then also measured from the time a request fell due
/// ("corrected"), so that a stall shows in every request it delayed.
///
/// A request fails by a status of 400 and above, a timeout or a broken connection. Latency counts
/// every answer and every timeout. The exit status is 99 if no request succeeded or if failed and unsent
/// requests exceed --max-error-rate.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to send requests, e.g. http://127.0.0.1:8080/api/vector/add, or https://; with
    /// --scenario: what takes the place of its `target`
    #[arg(required_unless_present = "scenario", value_parser = parse_url)]
    url: Option<Uri>,
    /// Run the scenarios of a TOML file (docs/loadgen-scenarios.md)
    #[arg(long, value_name = "FILE", conflicts_with_all = [
        "method", "headers", "body_source", "workers", "rate", "duration", "requests", "warm_up",
        "timeout", "http2", "trace_context", "max_error_rate", "json",
    ])]
    scenario: Option<PathBuf>,
    /// Give a key of the scenario file another value, e.g. scenario.NAME.duration=10s; may be repeated
    #[arg(long = "set", value_name = "KEY.PATH=VALUE", requires = "scenario")]
    settings: Vec<String>,
    /// Request method [default: POST with a body, else GET]
    #[arg(short = 'X', long)]
    method: Option<Method>,
    /// Add a header, `Name: value`; may be repeated
    #[arg(short = 'H', long = "header", value_name = "HEADER", value_parser = parse_header)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Request body (content type application/json unless a header says otherwise)
    #[arg(long, group = "body_source")]
    body: Option<String>,
    /// Read the request body from a file
    #[arg(long, group = "body_source", value_name = "FILE")]
    body_file: Option<PathBuf>,
    /// Make a body for target-svc's POST /api/vector/add: two vectors of N numbers
    #[arg(long, group = "body_source", value_name = "N", value_parser = clap::value_parser!(u32).range(..=10_000_000))]
    vector_size: Option<u32>,
    /// Concurrent workers, each with one connection; the bound on requests in flight
    #[arg(short, long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=WORKERS_MAX))]
    workers: u64,
    /// Open loop: requests per second that fall due [default: closed loop]
    #[arg(short, long, value_name = "R", value_parser = parse_rate)]
    rate: Option<f64>,
    /// How long to measure, e.g. 30s, 500ms, 2m [default: 10s, or until --requests are done]
    #[arg(short, long, value_parser = parse_duration)]
    duration: Option<Duration>,
    /// How many measured requests to send at most
    #[arg(short = 'n', long, value_parser = clap::value_parser!(u64).range(1..=REQUESTS_MAX))]
    requests: Option<u64>,
    /// Load that comes before the measurement and is not counted in it
    #[arg(long, default_value = "0s", value_parser = parse_duration)]
    warm_up: Duration,
    /// Give a request up after this long
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    timeout: Duration,
    /// Speak HTTP/2 instead of HTTP/1.1: with prior knowledge, and over TLS if the server agrees (ALPN)
    #[arg(long)]
    http2: bool,
    /// Send a W3C `traceparent` header (sampled) with each request
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    trace_context: bool,
    /// Share of failed and unsent requests, 0 to 1, above which the run has failed
    #[arg(long, default_value_t = 0.01, value_parser = parse_share)]
    max_error_rate: f64,
    /// Show a live progress line even if standard error is no terminal
    #[arg(long)]
    progress: bool,
    /// Show progress as plain lines, on a terminal as well
    #[arg(long)]
    no_tui: bool,
    /// Write the whole result as JSON, with the raw histograms
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    tls: tls::Options,
    #[command(flatten)]
    save: Save,
    #[command(flatten)]
    output: Output,
}

/// What is to be run.
pub(crate) enum Task {
    /// One request again and again.
    Single(Box<Settings>),
    /// The scenarios of a file.
    File {
        path: PathBuf,
        /// `KEY.PATH=VALUE`, in place of what it says.
        settings: Vec<String>,
        target: Option<Uri>,
        tls: tls::Options,
        /// Where to store the record.
        save: Box<Save>,
    },
}

/// Everything a run needs, checked.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) request: RequestTemplate,
    pub(crate) load: Load,
    pub(crate) timeout: Duration,
    /// Share of failed and unsent requests above which the run has failed, 0 to 1.
    pub(crate) error_rate_max: f64,
    pub(crate) json: Option<PathBuf>,
    /// Where to store the result; `None` is nowhere.
    pub(crate) save: Save,
}

/// The request that is sent again and again.
#[derive(Debug, Clone)]
pub(crate) struct RequestTemplate {
    pub(crate) uri: Uri,
    pub(crate) method: Method,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) protocol: Protocol,
    /// Whom to trust, of an `https` URL.
    pub(crate) tls: Option<Tls>,
    pub(crate) trace_context: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

/// How much to send, how fast and for how long.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Load {
    pub(crate) workers: usize,
    pub(crate) mode: Mode,
    pub(crate) warm_up: Duration,
    /// Measured time; `None` only when `requests` bounds the run.
    pub(crate) duration: Option<Duration>,
    /// Measured requests at most.
    pub(crate) requests: Option<u64>,
}

/// What decides when the next iteration begins.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Mode {
    /// A worker's last answer.
    Closed,
    /// The same, with a number of workers that changes.
    Crowd(Vec<Stage>),
    /// The clock: `rate` iterations fall due each second.
    Open { rate: f64 },
    /// The clock, at a rate that changes.
    Shaped(Vec<Stage>),
}

impl Mode {
    pub(crate) fn name(&self) -> &'static str {
        match self.is_open() {
            false => "closed",
            true => "open",
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self, Self::Open { .. } | Self::Shaped(_))
    }

    /// The rate over time; `None` in a closed loop.
    pub(crate) fn arrivals(&self, duration: Option<Duration>) -> Option<Vec<Stage>> {
        match self {
            Self::Closed | Self::Crowd(_) => None,
            Self::Open { rate } => {
                let forever = duration.unwrap_or(Duration::MAX);
                Some(vec![Stage::constant(*rate, forever)])
            }
            Self::Shaped(stages) => Some(stages.clone()),
        }
    }
}

impl RequestTemplate {
    pub(crate) fn outgoing(&self) -> Outgoing {
        Outgoing {
            uri: self.uri.clone(),
            method: self.method.clone(),
            headers: self.headers.clone(),
            body: self.body.clone(),
            keep_body: false,
        }
    }
}

impl Protocol {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Http1 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
        }
    }

    /// As TLS names it.
    pub(crate) fn application(self) -> &'static [u8] {
        match self {
            Self::Http1 => tls::HTTP1,
            Self::Http2 => tls::HTTP2,
        }
    }
}

impl Args {
    /// Where the record goes, and how progress is shown.
    pub(crate) fn view(&self) -> (Output, View) {
        let view = View {
            forced: self.progress,
            plain: self.no_tui,
        };
        (self.output.clone(), view)
    }

    /// # Errors
    ///
    /// A result could not be written.
    pub(crate) fn check_outputs(&self) -> anyhow::Result<()> {
        self.json.as_deref().map_or(Ok(()), check_writable)?;
        self.output.check()
    }

    /// What can be known to be wrong without looking at files or the network.
    ///
    /// # Errors
    ///
    /// Limits that make an empty run.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        ensure!(!self.timeout.is_zero(), "--timeout must be longer than 0");
        self.load().map(drop)
    }

    /// Names of the figures that its record may have.
    pub(crate) fn figures(&self) -> Vec<String> {
        super::record::figures(self.rate.is_some() || self.scenario.is_some())
    }

    /// # Errors
    ///
    /// What [`Args::into_settings`] refuses.
    pub(crate) fn into_task(self) -> anyhow::Result<Task> {
        match self.scenario {
            Some(path) => Ok(Task::File {
                path,
                settings: self.settings,
                target: self.url,
                tls: self.tls,
                save: Box::new(self.save),
            }),
            None => Ok(Task::Single(Box::new(self.into_settings()?))),
        }
    }

    /// # Errors
    ///
    /// A body that cannot be read, nobody to trust, or limits that make an empty run.
    pub(crate) fn into_settings(self) -> anyhow::Result<Settings> {
        self.check()?;
        Ok(Settings {
            load: self.load()?,
            request: self.request()?,
            timeout: self.timeout,
            error_rate_max: self.max_error_rate,
            json: self.json,
            save: self.save,
        })
    }

    fn load(&self) -> anyhow::Result<Load> {
        let duration = match (self.duration, self.requests) {
            (None, None) => Some(DURATION_DEFAULT),
            (given, _) => given,
        };
        ensure!(
            duration.is_none_or(|it| !it.is_zero()),
            "--duration must be longer than 0"
        );
        Ok(Load {
            workers: usize::try_from(self.workers)?,
            mode: self.rate.map_or(Mode::Closed, |rate| Mode::Open { rate }),
            warm_up: self.warm_up,
            duration,
            requests: self.requests,
        })
    }

    fn request(&self) -> anyhow::Result<RequestTemplate> {
        let url = self.url.clone().context("a URL is missing")?;
        let authority = url.authority().context("the URL has no host")?;
        let body = self.read_body()?;
        let default_method = if body.is_some() {
            Method::POST
        } else {
            Method::GET
        };
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_str(authority.as_str())?);
        headers.insert(
            USER_AGENT,
            HeaderValue::from_static(concat!("loadgen/", env!("CARGO_PKG_VERSION"))),
        );
        if body.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        replace_headers(&mut headers, &self.headers);
        let protocol = if self.http2 {
            Protocol::Http2
        } else {
            Protocol::Http1
        };
        if protocol == Protocol::Http2 {
            // HTTP/2 carries the host in `:authority`.
            headers.remove(HOST);
        }
        let host = authority.host();
        let tls = self
            .tls
            .of(url.scheme_str(), host, protocol.application())?;
        Ok(RequestTemplate {
            tls,
            uri: url.clone(),
            method: self.method.clone().unwrap_or(default_method),
            headers,
            body: body.unwrap_or_default(),
            protocol,
            trace_context: self.trace_context,
        })
    }

    fn read_body(&self) -> anyhow::Result<Option<Bytes>> {
        if let Some(text) = &self.body {
            return Ok(Some(Bytes::from(text.clone())));
        }
        if let Some(size) = self.vector_size {
            return Ok(Some(vector_body(size)));
        }
        let Some(path) = &self.body_file else {
            return Ok(None);
        };
        let size = std::fs::metadata(path)
            .with_context(|| format!("cannot read {}", path.display()))?
            .len();
        if size > BODY_BYTES_MAX {
            bail!(
                "{} has {size} bytes; a body may have {BODY_BYTES_MAX}",
                path.display()
            );
        }
        let body =
            std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Some(Bytes::from(body)))
    }
}

/// # Errors
///
/// A URL that is not http or https with a host, with what was probably meant.
fn parse_url(text: &str) -> anyhow::Result<Uri> {
    let read = |text: &str| {
        let uri = text.parse::<Uri>().ok()?;
        (is_http(&uri) && uri.host().is_some_and(|it| !it.is_empty())).then_some(uri)
    };
    if let Some(uri) = read(text) {
        return Ok(uri);
    }
    let meant = format!("http://{text}");
    match read(&meant) {
        Some(_) if !text.contains("://") => {
            bail!("the URL must start with http:// or https://: write `{meant}`")
        }
        _ => bail!("the URL must start with http:// or https:// and a host"),
    }
}

/// Whether the URL is one that is spoken to.
pub(crate) fn is_http(url: &Uri) -> bool {
    matches!(url.scheme_str(), Some("http" | "https"))
}

/// Two vectors of `size` numbers that differ from element to element and are the same in every run.
fn vector_body(size: u32) -> Bytes {
    let numbers = |step: f64| {
        (0..size)
            .map(move |index| f64::from(index) * step)
            .collect::<Vec<_>>()
    };
    let body = serde_json::json!({ "a": numbers(0.5), "b": numbers(1.25) });
    Bytes::from(body.to_string())
}

/// The user's headers take the place of ours; a name given twice is sent twice.
fn replace_headers(headers: &mut HeaderMap, given: &[(HeaderName, HeaderValue)]) {
    for (name, _) in given {
        headers.remove(name);
    }
    for (name, value) in given {
        headers.append(name.clone(), value.clone());
    }
}

fn parse_header(text: &str) -> anyhow::Result<(HeaderName, HeaderValue)> {
    let (name, value) = text
        .split_once(':')
        .context("a header is written `Name: value`")?;
    Ok((name.trim().parse()?, value.trim().parse()?))
}

fn parse_rate(text: &str) -> anyhow::Result<f64> {
    let rate: f64 = text.parse().context("not a number")?;
    ensure!(
        (0.001..=10_000_000.0).contains(&rate),
        "a rate lies between 0.001 and 10000000 per second"
    );
    Ok(rate)
}

#[cfg(test)]
mod tests;
