//! What a user writes under `[receivers.otlp]`: the Collector's field names, units as text.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::auth::AuthOptions;
use crate::config::Unsupported;
use crate::net::server_tls::TlsOptions;
use crate::units::{ByteSize, HumanDuration};

/// The whole table.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OtlpOptions {
    /// The protocols to serve, at least one.
    pub(super) protocols: ProtocolsOptions,
}

/// `[receivers.otlp.protocols]`.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ProtocolsOptions {
    /// OTLP over gRPC; absent means not served.
    pub(super) grpc: Option<GrpcOptions>,
    /// OTLP over HTTP; absent means not served.
    pub(super) http: Option<HttpOptions>,
    /// OTLP over Apache Arrow: not supported.
    pub(super) arrow: Unsupported,
}

/// `[receivers.otlp.protocols.grpc]`.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct GrpcOptions {
    /// `host:port`, or a path with `transport = "unix"`.
    pub(super) endpoint: String,
    /// `tcp`, `tcp4`, `tcp6` or `unix`.
    pub(super) transport: String,
    /// Certificates; absent means plaintext.
    pub(super) tls: Option<TlsOptions>,
    /// The largest message, in MiB, before and after decompression.
    #[schemars(range(min = 1, max = 4094))]
    pub(super) max_recv_msg_size_mib: u32,
    /// Requests under way on one connection.
    #[schemars(range(min = 1))]
    pub(super) max_concurrent_streams: u32,
    /// Accepted, without effect: the size of reads follows the frames.
    pub(super) read_buffer_size: Unsupported,
    /// Accepted, without effect: answers are a few bytes.
    pub(super) write_buffer_size: Unsupported,
    /// Pings and the age of connections.
    pub(super) keepalive: KeepaliveOptions,
    /// Who may send; absent means anybody.
    pub(super) auth: Option<AuthOptions>,
    /// Not supported; `false` is accepted.
    pub(super) include_metadata: bool,
    /// Not supported.
    pub(super) middlewares: Unsupported,
}

impl Default for GrpcOptions {
    fn default() -> Self {
        Self {
            endpoint: "localhost:4317".to_owned(),
            transport: "tcp".to_owned(),
            tls: None,
            max_recv_msg_size_mib: 4,
            max_concurrent_streams: 1000,
            read_buffer_size: Unsupported::default(),
            write_buffer_size: Unsupported::default(),
            keepalive: KeepaliveOptions::default(),
            auth: None,
            include_metadata: false,
            middlewares: Unsupported::default(),
        }
    }
}

/// `[receivers.otlp.protocols.grpc.keepalive]`.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct KeepaliveOptions {
    /// What the server does.
    pub(super) server_parameters: ServerParametersOptions,
    /// What clients may do: accepted, without effect.
    pub(super) enforcement_policy: Unsupported,
}

/// `[receivers.otlp.protocols.grpc.keepalive.server_parameters]`. 0 is no limit.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ServerParametersOptions {
    /// A connection without a request for so long is closed, gently; the Collector leaves it open.
    pub(super) max_connection_idle: HumanDuration,
    /// A connection is asked to end at this age.
    pub(super) max_connection_age: HumanDuration,
    /// And is cut so long afterwards.
    pub(super) max_connection_age_grace: HumanDuration,
    /// A ping is sent after so long without a sign of life.
    pub(super) time: HumanDuration,
    /// And the connection closed when it is not answered in this time.
    pub(super) timeout: HumanDuration,
}

impl Default for ServerParametersOptions {
    fn default() -> Self {
        Self {
            // As over HTTP. Clients of gRPC open a new connection without losing a request.
            max_connection_idle: HumanDuration::from_secs(300),
            max_connection_age: HumanDuration::default(),
            max_connection_age_grace: HumanDuration::default(),
            time: HumanDuration::from_secs(2 * 60 * 60),
            timeout: HumanDuration::from_secs(20),
        }
    }
}

/// `[receivers.otlp.protocols.http]`.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct HttpOptions {
    /// `host:port`, or a path with `transport = "unix"`.
    pub(super) endpoint: String,
    /// `tcp`, `tcp4`, `tcp6` or `unix`.
    pub(super) transport: String,
    /// Certificates; absent means plaintext.
    pub(super) tls: Option<TlsOptions>,
    /// Answers to browsers from other origins.
    pub(super) cors: Option<CorsOptions>,
    /// The largest body, before and after decompression; 0 is the default of 20 MiB.
    pub(super) max_request_body_size: ByteSize,
    /// Headers added to every response.
    pub(super) response_headers: BTreeMap<String, String>,
    /// The encodings accepted; `""` is none.
    pub(super) compression_algorithms: Option<Vec<String>>,
    /// For a whole request body; 0 is no limit.
    pub(super) read_timeout: HumanDuration,
    /// For a request head; 0 is no limit.
    pub(super) read_header_timeout: HumanDuration,
    /// For a client that does not read its response; 0 is no limit.
    pub(super) write_timeout: HumanDuration,
    /// For a connection between requests; 0 is no limit.
    pub(super) idle_timeout: HumanDuration,
    /// Whether a connection may carry more than one request.
    pub(super) keep_alives_enabled: bool,
    /// Where traces are posted.
    pub(super) traces_url_path: String,
    /// Where metrics are posted.
    pub(super) metrics_url_path: String,
    /// Where logs are posted.
    pub(super) logs_url_path: String,
    /// Who may send; absent means anybody.
    pub(super) auth: Option<AuthOptions>,
    /// Not supported; `false` is accepted.
    pub(super) include_metadata: bool,
    /// Not supported.
    pub(super) middlewares: Unsupported,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            endpoint: "localhost:4318".to_owned(),
            transport: "tcp".to_owned(),
            tls: None,
            cors: None,
            max_request_body_size: ByteSize(0),
            response_headers: BTreeMap::new(),
            compression_algorithms: None,
            // 20 MiB in a minute is 3 Mbit/s: slower than any link that telemetry is sent over, and short enough
            // that a client which trickles cannot hold its reservation of memory for long.
            read_timeout: HumanDuration::from_secs(60),
            read_header_timeout: HumanDuration::from_secs(60),
            write_timeout: HumanDuration::from_secs(30),
            // Metrics are exported every 60 s by default: closing a connection in the moment in which it is used again
            // costs a request, so the limit keeps well away from that.
            idle_timeout: HumanDuration::from_secs(300),
            keep_alives_enabled: true,
            traces_url_path: "/v1/traces".to_owned(),
            metrics_url_path: "/v1/metrics".to_owned(),
            logs_url_path: "/v1/logs".to_owned(),
            auth: None,
            include_metadata: false,
            middlewares: Unsupported::default(),
        }
    }
}

/// `cors`.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct CorsOptions {
    /// Origins such as `https://*.example.com`; empty turns CORS off.
    pub(super) allowed_origins: Vec<String>,
    /// Request headers allowed besides the safe ones; `*` is all.
    pub(super) allowed_headers: Vec<String>,
    /// Response headers that scripts may read.
    pub(super) exposed_headers: Vec<String>,
    /// Seconds for which a browser may keep the answer to a preflight.
    pub(super) max_age: u32,
}
