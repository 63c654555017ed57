//! What the exporters trust, made of what a user writes.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use http::uri::Authority;

use super::compress::Method;
use super::endpoint::{GrpcEndpoint, HttpEndpoint, Place};
use super::options::{
    Compression, CompressionParams, Format, GrpcOptions, HttpOptions, KeepaliveOptions,
};
use super::request::Packing;
use crate::auth::{AuthOptions, AuthSettings};
use crate::config::{Section, Unsupported};
use crate::exporters::sender::SenderSettings;
use crate::net::client_tls::{ClientTlsOptions, ClientTlsSettings};
use crate::net::listen::{Endpoint, Family};
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
    /// Whose credentials are shown.
    pub(super) auth: Option<AuthSettings>,
    /// How batches become messages.
    pub(super) packing: Packing,
    /// Pings, if any.
    pub(super) ping: Option<Ping>,
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
    /// Whose credentials are shown.
    pub(super) auth: Option<AuthSettings>,
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
        unsupported(section, [("middlewares", &options.middlewares)]);
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
        let auth = auth(section, options.auth);
        if auth.is_some()
            && let (Some(endpoint), true) = (&endpoint, insecure)
        {
            warn_of_listeners(section, &endpoint.place);
        }
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
            auth,
            packing: Packing {
                format: Format::Proto,
                method: method?,
                grpc: true,
            },
            sender,
        })
    }
}

fn auth(section: &mut Section<'_>, options: Option<AuthOptions>) -> Option<AuthSettings> {
    AuthSettings::resolve(options?, "auth", section)
}

/// Says so where credentials are sent in the clear, over more than this host.
fn warn_of_listeners(section: &mut Section<'_>, place: &Place) {
    let endpoint = Endpoint::Tcp {
        host: place.host.clone(),
        port: place.port,
        family: Family::Any,
    };
    if !endpoint.is_local() {
        section.warning(
            "auth",
            "credentials are sent without TLS: whoever is on the way can read them",
        );
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
        let auth = auth(section, options.auth);
        let mut places = Signal::ALL
            .into_iter()
            .filter_map(|signal| endpoints[signal].as_ref());
        if auth.is_some()
            && let Some(endpoint) = places.find(|endpoint| !endpoint.place.tls)
        {
            warn_of_listeners(section, &endpoint.place);
        }
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
            auth,
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
    let empty_text = |value: &Unsupported| value.clone().filter(|value| value.as_str() != Some(""));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Diagnostics;

    fn parse<T>(text: &str, parse: fn(&mut Section<'_>) -> Option<T>) -> Result<T, String> {
        let mut found = Diagnostics::default();
        let settings = Section::from_text("exporters.x", text, &mut found)
            .and_then(|mut section| parse(&mut section));
        match settings {
            Some(settings) if !found.has_errors() => Ok(settings),
            _ => Err(found.to_string()),
        }
    }

    #[test]
    fn the_grpc_defaults_are_the_collectors() {
        let settings = parse("endpoint = 'gw:4317'", GrpcSettings::parse).unwrap();
        assert!(settings.endpoint.place.tls);
        assert_eq!(settings.packing.method.name(), Some("gzip"));
        let ping = settings.ping.unwrap();
        assert_eq!(ping.after, Duration::from_secs(10));
        assert_eq!(ping.timeout, Duration::from_secs(10));
        assert!(!ping.while_idle);
    }

    #[test]
    fn the_http_defaults_are_the_collectors() {
        let settings = parse("endpoint = 'http://gw:4318'", HttpSettings::parse).unwrap();
        let paths = Signal::ALL.map(|signal| settings.endpoints[signal].clone().unwrap().path);
        assert_eq!(paths, ["/v1/traces", "/v1/metrics", "/v1/logs"]);
        assert_eq!(settings.packing.method.name(), Some("gzip"));
        assert_eq!(settings.packing.format, Format::Proto);
        assert_eq!(settings.idle, Some(Duration::from_secs(90)));
        assert!(settings.keep_alive);
    }

    #[test]
    fn a_signal_may_have_an_address_of_its_own() {
        let text = "endpoint = 'http://gw/base'\nlogs_endpoint = 'https://logs/in'";
        let settings = parse(text, HttpSettings::parse).unwrap();
        let path = |signal: Signal| settings.endpoints[signal].as_ref().unwrap().path.as_str();
        assert_eq!(path(Signal::Traces), "/base/v1/traces");
        assert_eq!(path(Signal::Logs), "/in");
        let only = parse("logs_endpoint = 'http://logs'", HttpSettings::parse).unwrap();
        assert!(only.endpoints[Signal::Traces].is_none());
    }

    #[test]
    fn credentials_become_a_header_and_are_never_shown() {
        let text = "endpoint = 'http://me:hunter2@gw'";
        let settings = parse(text, HttpSettings::parse).unwrap();
        assert_eq!(settings.headers[AUTHORIZATION], "Basic bWU6aHVudGVyMg==");
        let text = format!("{text}\nheaders = {{ Authorization = 'Bearer hunter3' }}");
        let settings = parse(&text, HttpSettings::parse).unwrap();
        assert_eq!(settings.headers[AUTHORIZATION], "Bearer hunter3");
        assert!(!format!("{:?}", settings.headers).contains("hunter"));
    }

    #[test]
    fn grpc_mistakes_are_explained() {
        let check = |text: &str, expected: &str| {
            let text = format!("endpoint = 'http://gw:4317'\n{text}");
            let problems = parse(&text, GrpcSettings::parse).unwrap_err();
            assert!(problems.contains(expected), "{text}: {problems}");
        };
        check("wait_for_ready = true", "wait_for_ready: must be false");
        check("balancer_name = 'round_robin'", "balancer_name: must be");
        check("compression = 'lz4'", "compression: must be `gzip`");
        check("compression = 'brotli'", "compression");
        check("auth = {}", "auth.authenticator: is required");
        check("headers = { 'a b' = 'x' }", "not a valid header");
        check("headers = { a = \"x\\ny\" }", "not a valid header");
        check(
            "headers = { grpc-timeout = '1S' }",
            "by the exporter itself",
        );
        check("headers = { Content-Type = 'x' }", "by the exporter itself");
        check("authority = 'a/b'", "authority: must be a host");
        check("keepalive = { time = '1ms' }", "keepalive.time: must be");
        check("keepalive = { timeout = 0 }", "keepalive.timeout: must be");
        check("tls = { ca_file = 'x', ca_pem = 'y' }", "tls.ca_pem");
        check("sending_queue = { num_consumers = 0 }", "num_consumers");
        let missing = parse("", GrpcSettings::parse).unwrap_err();
        assert!(missing.contains("endpoint: is required"), "{missing}");
    }

    #[test]
    fn http_mistakes_are_explained() {
        let check = |text: &str, expected: &str| {
            let text = format!("endpoint = 'http://gw:4318'\n{text}");
            let problems = parse(&text, HttpSettings::parse).unwrap_err();
            assert!(problems.contains(expected), "{text}: {problems}");
        };
        check("proxy_url = 'http://p'", "proxy_url: the Collector has");
        check("cookies = { enabled = true }", "cookies: the Collector");
        check("max_conns_per_host = 4", "max_conns_per_host: must be 0");
        check("compression_params = { level = 30 }", "level: must be");
        check("encoding = 'xml'", "encoding");
        check("headers = { content-length = '1' }", "by the exporter");
        check("traces_endpoint = 'gw'", "traces_endpoint: needs the");
        let missing = parse("", HttpSettings::parse).unwrap_err();
        assert!(missing.contains("endpoint: is required"), "{missing}");
        let wrong = parse("endpoint = 'gw:4318'", HttpSettings::parse).unwrap_err();
        assert_eq!(wrong.matches("needs the scheme").count(), 1, "{wrong}");
    }

    #[test]
    fn what_has_no_effect_is_accepted() {
        let text = "endpoint = 'http://gw:4318'\nmax_idle_conns = 5\nproxy_url = ''\n\
                    cookies = { enabled = false }\nforce_attempt_http2 = true\ncompression = ''";
        assert!(parse(text, HttpSettings::parse).is_ok());
    }
}
