//! From options to what the receiver trusts: every problem is reported with its key.

use std::collections::BTreeMap;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::cors::CorsSettings;
use super::encoding::{Encoding, Encodings};
use super::options::{GrpcOptions, HttpOptions, OtlpOptions, ServerParametersOptions};
use crate::auth::{AuthOptions, AuthSettings};
use crate::config::{Section, Unsupported};
use crate::net::listen::Endpoint;
use crate::net::server_tls::TlsOptions;
use crate::net::tls::TlsSettings;
use crate::signal::{PerSignal, Signal};
use crate::units::HumanDuration;

/// The Collector's default, and what its 0 stands for.
const BODY_MAX_DEFAULT: usize = 20 << 20;

/// The message length of gRPC is a `u32`.
const MESSAGE_MAX_MIB: u32 = (u32::MAX >> 20) - 1;

/// A receiver's settings. At least one of the two is there.
#[derive(Debug, Clone, PartialEq)]
pub struct OtlpSettings {
    pub(super) grpc: Option<GrpcSettings>,
    pub(super) http: Option<HttpSettings>,
}

/// OTLP over gRPC.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct GrpcSettings {
    pub(super) endpoint: Endpoint,
    pub(super) tls: Option<TlsSettings>,
    pub(super) auth: Option<AuthSettings>,
    /// Bytes, before and after decompression.
    pub(super) message_max: usize,
    pub(super) streams_max: u32,
    pub(super) idle: Option<Duration>,
    pub(super) age: Option<Duration>,
    pub(super) age_grace: Option<Duration>,
    pub(super) ping_after: Option<Duration>,
    pub(super) ping_timeout: Duration,
}

/// OTLP over HTTP.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct HttpSettings {
    pub(super) endpoint: Endpoint,
    pub(super) tls: Option<TlsSettings>,
    pub(super) auth: Option<AuthSettings>,
    pub(super) cors: Option<CorsSettings>,
    /// Bytes, before and after decompression.
    pub(super) body_max: usize,
    pub(super) response_headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) encodings: Encodings,
    pub(super) read_timeout: Option<Duration>,
    pub(super) head_timeout: Option<Duration>,
    pub(super) write_timeout: Option<Duration>,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) keep_alive: bool,
    /// Each starts with a slash; no two are the same.
    pub(super) paths: PerSignal<String>,
}

impl OtlpSettings {
    /// Decodes and validates the table; problems are reported to `section`.
    pub fn parse(section: &mut Section<'_>) -> Option<Self> {
        let options: OtlpOptions = section.options()?;
        let mut check = Check {
            section,
            failed: false,
        };
        let protocols = options.protocols;
        check.unsupported("protocols.arrow", &protocols.arrow, "OTLP over Arrow");
        if protocols.grpc.is_none() && protocols.http.is_none() {
            check.error(
                "protocols",
                "must specify at least one protocol when using the OTLP receiver: `[….protocols.grpc]` or `[….protocols.http]`",
            );
        }
        let grpc = protocols.grpc.map(|options| check.grpc(options));
        let http = protocols.http.map(|options| check.http(options));
        // Every part has been looked at, so that all problems are reported at once.
        let settings = OtlpSettings {
            grpc: optional(grpc)?,
            http: optional(http)?,
        };
        (!check.failed).then_some(settings)
    }
}

/// `None` when it was there and had problems.
fn optional<T>(found: Option<Option<T>>) -> Option<Option<T>> {
    match found {
        Some(None) => None,
        Some(settings) => Some(settings),
        None => Some(None),
    }
}

fn limit(duration: HumanDuration) -> Option<Duration> {
    (!duration.0.is_zero()).then_some(duration.0)
}

struct Check<'a, 'b> {
    section: &'a mut Section<'b>,
    failed: bool,
}

impl Check<'_, '_> {
    fn error(&mut self, key: &str, message: impl Into<String>) {
        self.failed = true;
        self.section.error(key, message);
    }

    fn unsupported(&mut self, key: &str, value: &Unsupported, what: &str) {
        if value.is_some() {
            self.error(
                key,
                format!("the Collector has this, Tidegate does not: {what} is not supported"),
            );
        }
    }

    fn without_effect(&mut self, key: &str, value: &Unsupported, why: &str) {
        if value.is_some() {
            self.section
                .warning(key, format!("accepted, but without effect: {why}"));
        }
    }

    fn endpoint(&mut self, prefix: &str, transport: &str, endpoint: &str) -> Option<Endpoint> {
        match Endpoint::parse(transport, endpoint) {
            Ok(endpoint) => Some(endpoint),
            Err(message) => {
                let key = if message.contains("transport") {
                    "transport"
                } else {
                    "endpoint"
                };
                self.error(&format!("{prefix}.{key}"), message);
                None
            }
        }
    }

    fn grpc(&mut self, options: GrpcOptions) -> Option<GrpcSettings> {
        let prefix = "protocols.grpc";
        self.unsupported(
            &format!("{prefix}.middlewares"),
            &options.middlewares,
            "middleware",
        );
        self.metadata(prefix, options.include_metadata);
        self.without_effect(
            &format!("{prefix}.read_buffer_size"),
            &options.read_buffer_size,
            "the size of reads follows the frames",
        );
        self.without_effect(
            &format!("{prefix}.write_buffer_size"),
            &options.write_buffer_size,
            "answers are a few bytes",
        );
        self.without_effect(
            &format!("{prefix}.keepalive.enforcement_policy"),
            &options.keepalive.enforcement_policy,
            "clients may ping as often as they like",
        );
        let message_max = options.max_recv_msg_size_mib;
        if message_max == 0 || message_max > MESSAGE_MAX_MIB {
            self.error(
                &format!("{prefix}.max_recv_msg_size_mib"),
                format!("must be from 1 to {MESSAGE_MAX_MIB}"),
            );
        }
        if options.max_concurrent_streams == 0 {
            self.error(
                &format!("{prefix}.max_concurrent_streams"),
                "must be at least 1",
            );
        }
        let tls = optional(options.tls.map(|tls| self.tls(prefix, tls)));
        let auth = optional(options.auth.map(|auth| self.auth(prefix, auth)));
        let endpoint = self.endpoint(prefix, &options.transport, &options.endpoint);
        if let (Some(tls), Some(auth)) = (&tls, &auth) {
            self.warn_of_strangers(prefix, endpoint.as_ref(), tls.as_ref(), auth.as_ref());
        }
        let parameters: ServerParametersOptions = options.keepalive.server_parameters;
        Some(GrpcSettings {
            endpoint: endpoint?,
            tls: tls?,
            auth: auth?,
            message_max: usize::try_from(message_max).ok()? << 20,
            streams_max: options.max_concurrent_streams,
            idle: limit(parameters.max_connection_idle),
            age: limit(parameters.max_connection_age),
            age_grace: limit(parameters.max_connection_age_grace),
            ping_after: limit(parameters.time),
            ping_timeout: parameters.timeout.0,
        })
    }

    fn http(&mut self, options: HttpOptions) -> Option<HttpSettings> {
        let prefix = "protocols.http";
        self.unsupported(
            &format!("{prefix}.middlewares"),
            &options.middlewares,
            "middleware",
        );
        self.metadata(prefix, options.include_metadata);
        let body_max = match usize::try_from(options.max_request_body_size.0) {
            Ok(0) => Some(BODY_MAX_DEFAULT),
            Ok(bytes) if isize::try_from(bytes).is_ok() => Some(bytes),
            _ => {
                self.error(&format!("{prefix}.max_request_body_size"), "too large");
                None
            }
        };
        let paths = self.paths([
            ("traces_url_path", options.traces_url_path),
            ("metrics_url_path", options.metrics_url_path),
            ("logs_url_path", options.logs_url_path),
        ]);
        let encodings = self.encodings(options.compression_algorithms);
        let response_headers = self.response_headers(options.response_headers);
        let cors = options.cors.map(|cors| {
            CorsSettings::parse(cors, |key, message| {
                self.section
                    .warning(&format!("{prefix}.cors.{key}"), message);
            })
        });
        let tls = optional(options.tls.map(|tls| self.tls(prefix, tls)));
        let auth = optional(options.auth.map(|auth| self.auth(prefix, auth)));
        let endpoint = self.endpoint(prefix, &options.transport, &options.endpoint);
        if let (Some(tls), Some(auth)) = (&tls, &auth) {
            self.warn_of_strangers(prefix, endpoint.as_ref(), tls.as_ref(), auth.as_ref());
        }
        Some(HttpSettings {
            endpoint: endpoint?,
            tls: tls?,
            auth: auth?,
            cors: cors.flatten(),
            body_max: body_max?,
            response_headers,
            encodings,
            read_timeout: limit(options.read_timeout),
            head_timeout: limit(options.read_header_timeout),
            write_timeout: limit(options.write_timeout),
            idle_timeout: limit(options.idle_timeout),
            keep_alive: options.keep_alives_enabled,
            paths,
        })
    }

    fn metadata(&mut self, prefix: &str, wanted: bool) {
        if wanted {
            self.error(
                &format!("{prefix}.include_metadata"),
                "the Collector has this, Tidegate does not: client metadata does not travel with batches",
            );
        }
    }

    fn paths(&mut self, options: [(&str, String); 3]) -> PerSignal<String> {
        let mut paths = PerSignal::<String>::default();
        for (signal, (key, text)) in Signal::ALL.into_iter().zip(options) {
            let path = if text.starts_with('/') {
                text
            } else {
                format!("/{text}")
            };
            let odd = |c: char| c.is_whitespace() || c.is_control() || "?#{}".contains(c);
            let key = format!("protocols.http.{key}");
            if path.contains(odd) {
                self.error(&key, format!("`{path}` is not a path"));
            }
            if Signal::ALL.into_iter().any(|other| paths[other] == path) {
                self.error(&key, format!("`{path}` is taken by another signal"));
            }
            paths[signal] = path;
        }
        paths
    }

    fn encodings(&mut self, names: Option<Vec<String>>) -> Encodings {
        let Some(names) = names else {
            return Encodings::ALL;
        };
        let mut encodings = Encodings::default();
        for name in names {
            match Encoding::named(&name) {
                Some(encoding) => encodings.insert(encoding),
                None => self.error(
                    "protocols.http.compression_algorithms",
                    format!(
                        "unknown encoding `{name}`: use {}, or \"\" for none",
                        Encoding::NAMES
                            .into_iter()
                            .filter(|name| !name.is_empty())
                            .collect::<Vec<_>>()
                            .join(", ")
                    ),
                ),
            }
        }
        encodings
    }

    fn response_headers(
        &mut self,
        table: BTreeMap<String, String>,
    ) -> Vec<(HeaderName, HeaderValue)> {
        let mut headers = Vec::with_capacity(table.len());
        for (name, value) in table {
            let key = format!("protocols.http.response_headers.{name}");
            match (name.parse::<HeaderName>(), HeaderValue::from_str(&value)) {
                (Ok(name), Ok(value)) => headers.push((name, value)),
                _ => self.error(&key, "is not a valid header"),
            }
        }
        headers
    }

    fn tls(&mut self, prefix: &str, options: TlsOptions) -> Option<TlsSettings> {
        let settings = TlsSettings::resolve(options, &format!("{prefix}.tls"), self.section);
        self.failed |= settings.is_none();
        settings
    }

    fn auth(&mut self, prefix: &str, options: AuthOptions) -> Option<AuthSettings> {
        let settings = AuthSettings::resolve(options, &format!("{prefix}.auth"), self.section);
        self.failed |= settings.is_none();
        settings
    }

    /// Says so where anybody who reaches the address may send.
    fn warn_of_strangers(
        &mut self,
        prefix: &str,
        endpoint: Option<&Endpoint>,
        tls: Option<&TlsSettings>,
        auth: Option<&AuthSettings>,
    ) {
        let asks = auth.is_some() || tls.is_some_and(|tls| tls.client_ca.is_some());
        if !asks && endpoint.is_some_and(|endpoint| !endpoint.is_local()) {
            self.section.warning(
                &format!("{prefix}.endpoint"),
                "whoever reaches this address can send data: set `auth`, or `tls.client_ca_file`, or listen on a loopback address",
            );
        }
    }
}
