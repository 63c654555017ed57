//! Exporters: the registry, and what all of them share.

pub mod clickhouse;
pub mod dead_letter;
pub mod debug;
pub mod file;
pub mod otlp;
pub mod queue;
pub mod retry;
pub mod sender;

use crate::component::{ExporterSettings, Factory};

/// Every exporter.
pub const EXPORTERS: &[Factory<dyn ExporterSettings>] = &[
    clickhouse::FACTORY,
    debug::FACTORY,
    file::FACTORY,
    otlp::GRPC,
    otlp::GRPC_OLDER,
    otlp::HTTP,
    otlp::HTTP_OLDER,
];
