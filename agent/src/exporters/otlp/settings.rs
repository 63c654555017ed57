//! What the exporters trust, made of what a user writes.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use http::uri::Authority;

use super::compress::Method;
use super::endpoint::{GrpcEndpoint, HttpEndpoint};
use super::options::{
    Compression, CompressionParams, Format, GrpcOptions, HttpOptions, KeepaliveOptions, Unsupported,
};
use super::request::Packing;
use crate::config::Section;
use crate::exporters::sender::SenderSettings;
use crate::net::client_tls::{ClientTlsOptions, ClientTlsSettings};
use crate::secret::Secret;
use crate::signal::{PerSignal, Signal};

/// Validated settings of the gRPC exporter.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct GrpcSettings {
    /// Where the server is.
    pub(super) endpoint: GrpcEndpoint,
    /// How TLS is spoken, where it is.
    pub(super) tls: ClientTlsSettings,
    /// Metadata of every request, the user's.
    pub(super) headers: HeaderMap,
    /// How batches become messages.
    pub(super) packing: Packing,
    /// Pings, if any.
    pub(super) ping: Option<Ping>,
    /// For one attempt, as the server is told.
    pub(super) timeout: Option<Duration>,
    /// Queue, retries, timeout.
    pub(super) sender: SenderSettings,
}

/// When a connection is asked for a sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ping {
    /// After so long without one.
    pub(super) after: Duration,
    /// The time for the answer.
    pub(super) timeout: Duration,
    /// Also without a request under way.
    pub(super) while_idle: bool,
}

/// Validated settings of the HTTP exporter.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct HttpSettings {
    /// Where each signal is posted to; at least one is there.
    pub(super) endpoints: PerSignal<Option<HttpEndpoint>>,
    /// How TLS is spoken, where it is.
    pub(super) tls: ClientTlsSettings,
    /// The user's headers of every request.
    pub(super) headers: HeaderMap,
    /// How batches become bodies.
    pub(super) packing: Packing,
    /// When a connection without requests is closed.
    pub(super) idle: Option<Duration>,
    /// Whether a connection carries more than one request.
    pub(super) keep_alive: bool,
    /// Queue, retries, timeout.
    pub(super) sender: SenderSettings,
}

/// More often than this, servers take pings for an attack and end the connection.
const PING_INTERVAL_MIN: Duration = Duration::from_secs(1);

impl GrpcSettings {
    /// Validates a component's table.
    pub(super) fn parse(section: &mut Section<'_>) -> Option<Self> {
        let options: GrpcOptions = section.options()?;
        unsupported(
            section,
            [
                ("auth", &options.auth),
                ("middlewares", &options.middlewares),
            ],
        );
        if options.wait_for_ready {
            section.error("wait_for_ready", "must be false: an attempt that finds nobody there is made again after the waits of retry_on_failure");
        }
        if !matches!(options.balancer_name.as_str(), "" | "pick_first") {
            section.error("balancer_name", "must be `pick_first`: a connection goes to one of the endpoint's addresses, and Tidegate does not spread requests over several");
        }
        let tls = client_tls(section, options.tls);
        let insecure = tls.as_ref().is_some_and(|tls| tls.insecure);
        let mut endpoint = GrpcEndpoint::parse(&options.endpoint, insecure)
            .map_err(|problem| section.error("endpoint", problem))
            .ok();
        if !options.authority.is_empty() {
            match options.authority.parse::<Authority>() {
                Ok(authority) => {
                    endpoint = endpoint.map(|endpoint| GrpcEndpoint {
                        authority,
                        ..endpoint
                    });
                }
                Err(_) => section.error("authority", "must be a host, with a port or without"),
            }
        }
        let sound = matches!(
            options.compression,
            Compression::Gzip | Compression::Zstd | Compression::Snappy | Compression::None
        );
        if !sound {
            section.error(
                "compression",
                "must be `gzip`, `zstd`, `snappy` or `none`: gRPC has no others",
            );
        }
        let method = method(section, options.compression, &CompressionParams::default());
        let headers = headers(section, &options.headers, &RESERVED_GRPC);
        let sender = SenderSettings::resolve(
            section,
            options.timeout,
            &options.retry_on_failure,
            &options.sending_queue,
        );
        Some(Self {
            ping: ping(section, &options.keepalive),
            endpoint: endpoint?,
            tls: tls?,
            headers,
            packing: Packing {
                format: Format::Proto,
                method: method?,
                grpc: true,
            },
            timeout: (!options.timeout.0.is_zero()).then_some(options.timeout.0),
            sender,
        })
    }
}

fn ping(section: &mut Section<'_>, options: &KeepaliveOptions) -> Option<Ping> {
    let after = options.time.0;
    if after.is_zero() {
        return None;
    }
    if after < PING_INTERVAL_MIN {
        section.error("keepalive.time", "must be at least 1s, or 0 for no pings");
    }
    if options.timeout.0.is_zero() {
        section.error("keepalive.timeout", "must be more than 0");
    }
    Some(Ping {
        after,
        timeout: options.timeout.0,
        while_idle: options.permit_without_stream,
    })
}

impl HttpSettings {
    /// Validates a component's table.
    pub(super) fn parse(section: &mut Section<'_>) -> Option<Self> {
        let options: HttpOptions = section.options()?;
        refuse_unsupported(section, &options);
        let endpoints = endpoints(section, &options);
        let tls = client_tls(section, options.tls);
        let method = method(section, options.compression, &options.compression_params);
        let mut headers = headers(section, &options.headers, &RESERVED_HTTP);
        authorize(&mut headers, &endpoints);
        let sender = SenderSettings::resolve(
            section,
            options.timeout,
            &options.retry_on_failure,
            &options.sending_queue,
        );
        Some(Self {
            endpoints,
            tls: tls?,
            headers,
            packing: Packing {
                format: options.encoding,
                method: method?,
                grpc: false,
            },
            idle: (!options.idle_conn_timeout.0.is_zero()).then_some(options.idle_conn_timeout.0),
            keep_alive: !options.disable_keep_alives,
            sender,
        })
    }
}

fn refuse_unsupported(section: &mut Section<'_>, options: &HttpOptions) {
    let empty_text = |value: &Unsupported| {
        let value = value.clone();
        value.filter(|value| value.as_str() != Some(""))
    };
    let cookies = options.cookies.clone().filter(|cookies| {
        let enabled = cookies.get("enabled").and_then(toml::Value::as_bool);
        enabled != Some(false)
    });
    unsupported(
        section,
        [
            ("profiles_endpoint", &empty_text(&options.profiles_endpoint)),
            ("proxy_url", &empty_text(&options.proxy_url)),
            ("cookies", &cookies),
            ("auth", &options.auth),
            ("middlewares", &options.middlewares),
        ],
    );
    if options.max_conns_per_host != 0 {
        section.error(
            "max_conns_per_host",
            "must be 0: there is one connection for each consumer; set sending_queue.num_consumers",
        );
    }
}

fn unsupported<const N: usize>(section: &mut Section<'_>, fields: [(&str, &Unsupported); N]) {
    for (key, _) in fields.iter().filter(|(_, value)| value.is_some()) {
        section.error(key, "the Collector has this, Tidegate does not");
    }
}

fn endpoints(section: &mut Section<'_>, options: &HttpOptions) -> PerSignal<Option<HttpEndpoint>> {
    let own = [
        &options.traces_endpoint,
        &options.metrics_endpoint,
        &options.logs_endpoint,
    ];
    if options.endpoint.is_empty() && own.iter().all(|text| text.is_empty()) {
        section.error(
            "endpoint",
            "is required: write `http://host:4318` or `https://host:4318`",
        );
    }
    let mut failed = false;
    PerSignal::from_fn(|signal| {
        let own = own.get(signal.index()).map_or("", |text| text.as_str());
        let (key, text, suffix) = match own {
            "" if options.endpoint.is_empty() => return None,
            "" => (
                "endpoint".to_owned(),
                options.endpoint.as_str(),
                path_of(signal),
            ),
            own => (format!("{signal}_endpoint"), own, ""),
        };
        match HttpEndpoint::parse(text, suffix) {
            Ok(endpoint) => Some(endpoint),
            Err(problem) => {
                // The common address is wrong once, not three times.
                if key != "endpoint" || !std::mem::replace(&mut failed, true) {
                    section.error(&key, problem);
                }
                None
            }
        }
    })
}

/// Where OTLP/HTTP posts a signal to.
const fn path_of(signal: Signal) -> &'static str {
    match signal {
        Signal::Traces => "/v1/traces",
        Signal::Metrics => "/v1/metrics",
        Signal::Logs => "/v1/logs",
    }
}

/// `user:password@` in an address is basic authentication, unless a header says something else.
fn authorize(headers: &mut HeaderMap, endpoints: &PerSignal<Option<HttpEndpoint>>) {
    let userinfo = Signal::ALL
        .into_iter()
        .filter_map(|signal| endpoints[signal].as_ref()?.userinfo.as_deref())
        .next();
    let Some(userinfo) = userinfo.filter(|_| !headers.contains_key(AUTHORIZATION)) else {
        return;
    };
    let value = format!("Basic {}", STANDARD.encode(userinfo));
    let mut value = HeaderValue::try_from(value).expect("base64 is a valid header");
    value.set_sensitive(true);
    headers.insert(AUTHORIZATION, value);
}

fn client_tls(section: &mut Section<'_>, options: ClientTlsOptions) -> Option<ClientTlsSettings> {
    ClientTlsSettings::resolve(options, "tls", |key, message| section.error(key, message))
}

fn method(
    section: &mut Section<'_>,
    compression: Compression,
    params: &CompressionParams,
) -> Option<Method> {
    Method::new(compression, params.level)
        .map_err(|problem| section.error("compression_params.level", problem))
        .ok()
}

/// Headers that say what the body is and how the connection works.
const RESERVED_HTTP: [&str; 5] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "transfer-encoding",
];

/// The same for gRPC; all that begin with `grpc-` belong to the protocol.
const RESERVED_GRPC: [&str; 7] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    "te",
    "transfer-encoding",
];

fn headers(
    section: &mut Section<'_>,
    table: &BTreeMap<String, Secret>,
    reserved: &[&str],
) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(table.len());
    for (name, value) in table {
        let key = format!("headers.{name}");
        let parsed = name.parse::<HeaderName>().ok();
        let value = HeaderValue::from_str(value.expose()).ok();
        let (Some(name), Some(mut value)) = (parsed, value) else {
            section.error(&key, "is not a valid header");
            continue;
        };
        let of_grpc = reserved.contains(&"te") && name.as_str().starts_with("grpc-");
        if of_grpc || reserved.contains(&name.as_str()) {
            section.error(&key, "is set by the exporter itself");
        }
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    headers
}
