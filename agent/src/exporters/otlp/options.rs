//! What a user writes under `[exporters.otlp_grpc]` and `[exporters.otlp_http]`: the Collector's field names.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::auth::AuthOptions;
use crate::config::Unsupported;
use crate::exporters::retry::RetryOptions;
use crate::exporters::sender::QueueOptions;
use crate::net::client_tls::ClientTlsOptions;
use crate::secret::Secret;
use crate::units::HumanDuration;

/// How requests are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Compression {
    /// The Collector's default.
    Gzip,
    /// Smaller than gzip at a third of its cost.
    Zstd,
    /// Cheap.
    Snappy,
    /// RFC 1950. Over HTTP only.
    Zlib,
    /// RFC 1950 as well, as HTTP says. Over HTTP only.
    Deflate,
    /// The frame format. Over HTTP only.
    Lz4,
    /// The framed format. Over HTTP only.
    #[serde(rename = "x-snappy-framed")]
    SnappyFramed,
    /// Not at all: on a fast network the cheapest by far.
    #[serde(alias = "")]
    None,
}

/// `compression_params`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct CompressionParams {
    /// For gzip, zlib and deflate 1 (fast) to 9 (small), for zstd 1 to 22; `0` is the usual one.
    pub(super) level: i32,
}

/// `encoding`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Format {
    /// The wire format, as it arrived.
    #[default]
    Proto,
    /// OTLP/JSON.
    Json,
}

/// `keepalive`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct KeepaliveOptions {
    /// A ping is sent when nothing came for so long while a request is under way, at least `1s`; `0` sends none.
    pub(super) time: HumanDuration,
    /// The connection is given up when the ping is not answered in this time.
    #[schemars(extend("x-more-than" = "0s"))]
    pub(super) timeout: HumanDuration,
    /// Whether pings are sent without a request under way, too.
    pub(super) permit_without_stream: bool,
}

impl Default for KeepaliveOptions {
    fn default() -> Self {
        Self {
            time: HumanDuration::from_secs(10),
            timeout: HumanDuration::from_secs(10),
            permit_without_stream: false,
        }
    }
}

/// `[exporters.otlp_grpc]`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct GrpcOptions {
    /// `host:port`, `http://host:port` or `https://host:port`. Required.
    #[schemars(extend("x-required" = true))]
    pub(super) endpoint: String,
    /// `gzip`, `zstd`, `snappy` or `none`.
    pub(super) compression: Compression,
    /// Whom to trust. Without a scheme in the endpoint, TLS is used unless `insecure` is set.
    pub(super) tls: ClientTlsOptions,
    /// Pings.
    pub(super) keepalive: KeepaliveOptions,
    /// Metadata added to every request.
    pub(super) headers: BTreeMap<String, Secret>,
    /// `:authority` of every request, instead of the endpoint's.
    pub(super) authority: String,
    /// For one attempt; `0` means no limit. After one that ran out of time the next has twice as long, up to four times this.
    pub(super) timeout: HumanDuration,
    /// What to do when the far side says "not now".
    pub(super) retry_on_failure: RetryOptions,
    /// What waits for the far side.
    pub(super) sending_queue: QueueOptions,
    /// Only `pick_first`: a connection goes to one of the endpoint's addresses.
    pub(super) balancer_name: String,
    /// Only `false`: an attempt that finds nobody there is made again later.
    pub(super) wait_for_ready: bool,
    /// Accepted, without effect: the size of reads follows the frames.
    pub(super) read_buffer_size: Unsupported,
    /// Accepted, without effect: requests are written from where they lie.
    pub(super) write_buffer_size: Unsupported,
    /// What to show to the far side.
    pub(super) auth: Option<AuthOptions>,
    /// Not supported.
    pub(super) middlewares: Unsupported,
}

impl Default for GrpcOptions {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            compression: Compression::Gzip,
            tls: ClientTlsOptions::default(),
            keepalive: KeepaliveOptions::default(),
            headers: BTreeMap::new(),
            authority: String::new(),
            timeout: HumanDuration::from_secs(5),
            retry_on_failure: RetryOptions::default(),
            sending_queue: QueueOptions::default(),
            balancer_name: String::new(),
            wait_for_ready: false,
            read_buffer_size: Unsupported::default(),
            write_buffer_size: Unsupported::default(),
            auth: None,
            middlewares: Unsupported::default(),
        }
    }
}

/// `[exporters.otlp_http]`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct HttpOptions {
    /// `http://host:port` or `https://host:port`, with a path or without: `/v1/traces` and so on is appended.
    pub(super) endpoint: String,
    /// The whole address for traces, instead.
    pub(super) traces_endpoint: String,
    /// The whole address for metrics, instead.
    pub(super) metrics_endpoint: String,
    /// The whole address for logs, instead.
    pub(super) logs_endpoint: String,
    /// `proto` or `json`.
    pub(super) encoding: Format,
    /// `gzip`, `zstd`, `snappy`, `x-snappy-framed`, `zlib`, `deflate`, `lz4` or `none`.
    pub(super) compression: Compression,
    /// The compressor's parameters.
    pub(super) compression_params: CompressionParams,
    /// Whom to trust, where the scheme is `https`.
    pub(super) tls: ClientTlsOptions,
    /// Headers added to every request; they win over ours.
    pub(super) headers: BTreeMap<String, Secret>,
    /// For one attempt; `0` means no limit. After one that ran out of time the next has twice as long, up to four times this.
    pub(super) timeout: HumanDuration,
    /// A connection without a request for so long is closed; `0` means never.
    pub(super) idle_conn_timeout: HumanDuration,
    /// Whether every request gets a connection of its own.
    pub(super) disable_keep_alives: bool,
    /// What to do when the far side says "not now".
    pub(super) retry_on_failure: RetryOptions,
    /// What waits for the far side. Each consumer has a connection of its own.
    pub(super) sending_queue: QueueOptions,
    /// Only `0`: there is a connection per consumer of the sending queue.
    #[schemars(range(max = 0))]
    pub(super) max_conns_per_host: u64,
    /// Accepted, without effect: there is a connection per consumer of the sending queue.
    pub(super) max_idle_conns: Unsupported,
    /// Accepted, without effect.
    pub(super) max_idle_conns_per_host: Unsupported,
    /// Accepted, without effect: requests are sent over HTTP/1.1.
    pub(super) force_attempt_http2: Unsupported,
    /// Accepted, without effect.
    pub(super) http2_read_idle_timeout: Unsupported,
    /// Accepted, without effect.
    pub(super) http2_ping_timeout: Unsupported,
    /// Accepted, without effect: answers are a few bytes.
    pub(super) read_buffer_size: Unsupported,
    /// Accepted, without effect: requests are written from where they lie.
    pub(super) write_buffer_size: Unsupported,
    /// Not supported.
    pub(super) profiles_endpoint: Unsupported,
    /// Not supported.
    pub(super) proxy_url: Unsupported,
    /// Not supported.
    pub(super) cookies: Unsupported,
    /// What to show to the far side.
    pub(super) auth: Option<AuthOptions>,
    /// Not supported.
    pub(super) middlewares: Unsupported,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            traces_endpoint: String::new(),
            metrics_endpoint: String::new(),
            logs_endpoint: String::new(),
            encoding: Format::Proto,
            compression: Compression::Gzip,
            compression_params: CompressionParams::default(),
            tls: ClientTlsOptions::default(),
            headers: BTreeMap::new(),
            timeout: HumanDuration::from_secs(30),
            idle_conn_timeout: HumanDuration::from_secs(90),
            disable_keep_alives: false,
            retry_on_failure: RetryOptions::default(),
            sending_queue: QueueOptions::default(),
            max_conns_per_host: 0,
            max_idle_conns: Unsupported::default(),
            max_idle_conns_per_host: Unsupported::default(),
            force_attempt_http2: Unsupported::default(),
            http2_read_idle_timeout: Unsupported::default(),
            http2_ping_timeout: Unsupported::default(),
            read_buffer_size: Unsupported::default(),
            write_buffer_size: Unsupported::default(),
            profiles_endpoint: Unsupported::default(),
            proxy_url: Unsupported::default(),
            cookies: Unsupported::default(),
            auth: None,
            middlewares: Unsupported::default(),
        }
    }
}
