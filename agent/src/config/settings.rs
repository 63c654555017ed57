//! What the rest of the agent trusts: the whole configuration, validated.

use std::net::SocketAddr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing::level_filters::LevelFilter;

use crate::admin::Lock;
use crate::component::{ExporterSettings, ExtensionSettings, ProcessorSettings, ReceiverSettings};
use crate::net::listen::Endpoint;
use crate::pipeline::Node;

/// Components of one kind: id (`otlp`, `otlp/name`) and settings, in the order of the configuration.
pub type Components<S> = Vec<(String, Box<S>)>;

/// A configuration without errors. Every id that a pipeline names is in the list of its kind, and every component in
/// the lists is used by a pipeline or listed under `service.extensions`.
#[derive(Debug)]
pub struct Settings {
    /// Receivers that some pipeline uses.
    pub receivers: Components<dyn ReceiverSettings>,
    /// Processors that some pipeline uses.
    pub processors: Components<dyn ProcessorSettings>,
    /// Exporters that some pipeline uses.
    pub exporters: Components<dyn ExporterSettings>,
    /// Extensions in the order of `service.extensions`.
    pub extensions: Components<dyn ExtensionSettings>,
    /// The pipelines, in the order of the configuration. Each has at least one receiver and one exporter, and every
    /// component in it works for its signal.
    pub pipelines: Vec<Node>,
    /// What the agent tells about itself.
    pub telemetry: TelemetrySettings,
    /// How long a shutdown may take to deliver what was accepted: `service.drain_timeout`, 30 s by default.
    pub drain_timeout: Duration,
    /// When the configuration is read again without being asked.
    pub reload: ReloadSettings,
    /// Where the agent takes commands, if anywhere: `service.admin.endpoint`.
    pub admin: Option<Endpoint>,
    /// How that is locked.
    pub(crate) admin_lock: Lock,
}

/// `service.reload`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReloadSettings {
    /// Whether a change of its files is enough.
    pub watch: bool,
    /// How long the files must have been left alone.
    pub debounce: Duration,
}

/// `service.telemetry`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TelemetrySettings {
    /// The agent's own log.
    pub logs: LogSettings,
    /// Where Prometheus finds the agent's own metrics; `None` where `metrics.level` is `none`.
    pub metrics_address: Option<SocketAddr>,
    /// How that is locked.
    pub(crate) metrics_lock: Lock,
}

/// `service.telemetry.logs`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogSettings {
    /// The least severe level that is written.
    pub level: LogLevel,
    /// How a line looks.
    pub encoding: LogEncoding,
}

/// How severe a line of the agent's own log must be to be written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Everything, also what happens per request.
    Trace,
    /// What helps to find a fault.
    Debug,
    /// What an operator wants to see.
    #[default]
    Info,
    /// What is not as it should be.
    Warn,
    /// What failed.
    Error,
}

impl From<LogLevel> for LevelFilter {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Trace => Self::TRACE,
            LogLevel::Debug => Self::DEBUG,
            LogLevel::Info => Self::INFO,
            LogLevel::Warn => Self::WARN,
            LogLevel::Error => Self::ERROR,
        }
    }
}

/// How a line of the agent's own log looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogEncoding {
    /// For people.
    #[default]
    Console,
    /// One JSON object a line.
    Json,
}

/// How much the agent tells about itself. The Collector's words, of which two are enough here: everything is always counted,
/// as the ledger has to be, and counting costs too little for anything to be left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MetricsLevel {
    /// No endpoint.
    None,
    /// The same as `normal`.
    Basic,
    /// Everything.
    #[default]
    Normal,
    /// The same as `normal`.
    Detailed,
}
