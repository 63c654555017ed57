//! The document's form. Counters are since the start of the process; what is new in a later version is added beside.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Rises when a reader of the version before could misunderstand something.
pub const VERSION: u32 = 1;

/// Everything at one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// See [`VERSION`].
    pub version: u32,
    /// The process.
    pub agent: Agent,
    /// How its configuration was read again.
    pub reload: Reload,
    /// In the order of the configuration.
    pub pipelines: Vec<Pipeline>,
    /// One for each transport and signal.
    pub receivers: Vec<Receiver>,
    /// One for each signal.
    pub processors: Vec<Processor>,
    /// One for each signal.
    pub exporters: Vec<Exporter>,
}

/// The process.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Agent {
    /// Of the binary.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// `starting`, `ready` or `stopping`.
    pub phase: String,
    /// Since it started.
    pub uptime_seconds: f64,
    /// Processor time, user and system.
    pub cpu_seconds: f64,
    /// Physical memory.
    pub resident_bytes: u64,
    /// Telemetry in requests, batches and queues in memory.
    pub held_bytes: u64,
    /// Tasks of its runtime.
    pub tasks: u64,
    /// As the metric `tidegate_config_hash`.
    pub config_hash: u64,
}

/// How the configuration was read again.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Reload {
    /// Times it was taken.
    pub reloaded: u64,
    /// Times nothing in it had changed.
    pub unchanged: u64,
    /// Times it was refused.
    pub refused: u64,
    /// `reloaded`, `unchanged` or `refused`; absent if it never was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_outcome: Option<String>,
    /// When, as in RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_at: Option<String>,
    /// Why it was refused, if it was.
    #[serde(default)]
    pub problems: Vec<String>,
}

/// A pipeline.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Pipeline {
    /// `traces` or `traces/name`.
    pub id: String,
    /// `traces`, `metrics` or `logs`.
    pub signal: String,
    /// Ids.
    pub receivers: Vec<String>,
    /// Ids, in order.
    pub processors: Vec<String>,
    /// Ids.
    pub exporters: Vec<String>,
    /// The ledger, one account for each exporter.
    pub flows: Vec<Flow>,
}

/// An account of the ledger, in items: `accepted = delivered + queued + dropped`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Flow {
    /// On whose behalf.
    pub exporter: String,
    /// Taken responsibility for.
    pub accepted: u64,
    /// Acknowledged by the destination.
    pub delivered: u64,
    /// Neither delivered nor dropped.
    pub queued: u64,
    /// Given up, by reason.
    pub dropped: BTreeMap<String, u64>,
}

/// A receiver, one transport and signal of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Receiver {
    /// `otlp` or `otlp/name`.
    pub id: String,
    /// `grpc` or `http`.
    pub transport: String,
    /// `traces`, `metrics` or `logs`.
    pub signal: String,
    /// Items.
    pub accepted: u64,
    /// Items, estimated where a request was refused unread.
    pub refused: u64,
    /// Bytes of accepted requests, decompressed.
    pub accepted_bytes: u64,
    /// Requests that were accepted.
    pub requests: u64,
    /// Requests refused with a hint when to come again.
    pub requests_refused: u64,
    /// Requests at fault.
    pub requests_failed: u64,
}

/// A processor, over all pipelines of a signal.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Processor {
    /// `batch` or `batch/name`.
    pub id: String,
    /// `traces`, `metrics` or `logs`.
    pub signal: String,
    /// Items passed to it.
    pub incoming: u64,
    /// Items it passed on.
    pub outgoing: u64,
    /// Items that a memory limiter refused at the door.
    pub refused: u64,
    /// Items declined for what they are, by reason.
    pub rejected: BTreeMap<String, u64>,
    /// Of a memory limiter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_limit: Option<MemoryLimit>,
}

/// When a memory limiter refuses.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MemoryLimit {
    /// To be compared with the process's resident memory and the telemetry that it holds.
    pub refuses_above_bytes: u64,
}

/// An exporter, one signal of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Exporter {
    /// `clickhouse` or `clickhouse/name`.
    pub id: String,
    /// `traces`, `metrics` or `logs`.
    pub signal: String,
    /// Items that the destination has.
    pub sent: u64,
    /// Items given up.
    pub failed: u64,
    /// Items that the queue did not take.
    pub enqueue_failed: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Attempts that succeeded.
    pub attempts: u64,
    /// Attempts that are made again.
    pub retries: u64,
    /// Batches being sent now.
    pub in_flight: u64,
    /// Items that went into dead letters.
    pub dead_letter_items: u64,
    /// What dead letters take on disk now.
    pub dead_letter_bytes: u64,
    /// What waits.
    pub queue: Queue,
}

/// A sending queue.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Queue {
    /// `memory` or `wal`.
    pub storage: String,
    /// What size and capacity count: `requests`, `items` or `bytes`.
    pub unit: String,
    /// Items accepted for this exporter and not settled: what processors hold back, waits here, or is being sent.
    pub items: u64,
    /// In `unit`.
    pub size: u64,
    /// In `unit`.
    pub capacity: u64,
    /// On disk, where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<u64>,
    /// How long the oldest item on disk has waited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_age_seconds: Option<u64>,
}
