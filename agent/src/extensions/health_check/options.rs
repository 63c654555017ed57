//! What a user writes under `[extensions.health_check]`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::auth::AuthOptions;
use crate::net::server_tls::TlsOptions;
use crate::units::HumanDuration;

/// `[extensions.health_check]`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct HealthCheckOptions {
    /// Where to listen, without `use_v2`.
    #[schemars(regex(pattern = ":[0-9]+$"))]
    pub endpoint: String,
    /// The path that answers, without `use_v2`; one that ends in `/` with all that begin with it.
    #[schemars(regex(pattern = "^/"))]
    pub path: String,
    /// What is answered instead of JSON, without `use_v2`.
    pub response_body: ResponseBody,
    /// Certificates, without `use_v2`; absent means plaintext.
    pub tls: Option<TlsOptions>,
    /// Who may ask, without `use_v2`; absent means whoever reaches the address.
    pub auth: Option<AuthOptions>,
    /// Tells how pipelines and components are, as the Collector's `healthcheckv2`. It takes `http`, `grpc` or both, and
    /// the fields above have no effect.
    pub use_v2: bool,
    /// Which errors of components make it unhealthy, with `use_v2`.
    pub component_health: ComponentHealth,
    /// Health over HTTP, with `use_v2`.
    pub http: Option<HttpOptions>,
    /// Health over gRPC (`grpc.health.v1`), with `use_v2`.
    pub grpc: Option<GrpcOptions>,
}

impl Default for HealthCheckOptions {
    fn default() -> Self {
        Self {
            endpoint: HTTP_ENDPOINT.to_owned(),
            path: "/".to_owned(),
            response_body: ResponseBody::default(),
            tls: None,
            auth: None,
            use_v2: false,
            component_health: ComponentHealth::default(),
            http: None,
            grpc: None,
        }
    }
}

const HTTP_ENDPOINT: &str = "127.0.0.1:13133";

/// `response_body`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ResponseBody {
    /// The body while the agent is up; empty for JSON.
    pub healthy: String,
    /// The body otherwise; empty for JSON.
    pub unhealthy: String,
}

/// `component_health`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ComponentHealth {
    /// Whether an error that somebody has to look at makes it unhealthy, such as data that the destination will never take.
    pub include_permanent_errors: bool,
    /// Whether an error that may mend itself makes it unhealthy once it lasts `recovery_duration`, such as a destination that
    /// is away.
    pub include_recoverable_errors: bool,
    /// How long an error may last that may mend itself, with `include_recoverable_errors`.
    pub recovery_duration: HumanDuration,
}

impl Default for ComponentHealth {
    fn default() -> Self {
        Self {
            include_permanent_errors: false,
            include_recoverable_errors: false,
            recovery_duration: HumanDuration::from_secs(60),
        }
    }
}

/// `http`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct HttpOptions {
    /// Where to listen.
    #[schemars(regex(pattern = ":[0-9]+$"))]
    pub endpoint: String,
    /// The health of the agent, or of the pipeline in `?pipeline=`; with all of its parts if `?verbose` is asked for.
    pub status: StatusPath,
    /// The configuration that runs as JSON, without secrets.
    pub config: ConfigPath,
    /// Certificates; absent means plaintext.
    pub tls: Option<TlsOptions>,
    /// Who may ask; absent means whoever reaches the address.
    pub auth: Option<AuthOptions>,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            endpoint: HTTP_ENDPOINT.to_owned(),
            status: StatusPath::default(),
            config: ConfigPath::default(),
            tls: None,
            auth: None,
        }
    }
}

/// `http.status`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct StatusPath {
    /// Whether it is there.
    pub enabled: bool,
    /// Its path.
    #[schemars(regex(pattern = "^/"))]
    pub path: String,
}

impl Default for StatusPath {
    fn default() -> Self {
        Self {
            enabled: true,
            path: "/status".to_owned(),
        }
    }
}

/// `http.config`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ConfigPath {
    /// Whether it is there.
    pub enabled: bool,
    /// Its path.
    #[schemars(regex(pattern = "^/"))]
    pub path: String,
}

impl Default for ConfigPath {
    fn default() -> Self {
        Self {
            enabled: false,
            path: "/config".to_owned(),
        }
    }
}

/// `grpc`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct GrpcOptions {
    /// Where to listen: an address and a port, or the path of a unix socket.
    pub endpoint: String,
    /// `tcp`, `tcp4`, `tcp6` or `unix`.
    #[schemars(extend("enum" = ["tcp", "tcp4", "tcp6", "unix"]))]
    pub transport: String,
    /// Certificates; absent means plaintext.
    pub tls: Option<TlsOptions>,
    /// Who may ask; absent means whoever reaches the address.
    pub auth: Option<AuthOptions>,
}

impl Default for GrpcOptions {
    fn default() -> Self {
        Self {
            endpoint: "127.0.0.1:13132".to_owned(),
            transport: "tcp".to_owned(),
            tls: None,
            auth: None,
        }
    }
}
