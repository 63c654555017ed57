//! Exporters: the registry, and what all of them share.

pub mod clickhouse;
pub mod dead_letter;
pub mod debug;
pub mod file;
mod hint;
pub mod otlp;
pub mod queue;
pub mod retry;
pub mod sender;

use crate::component::{ExporterSettings, Factory};

/// The name of an exporter's own folder: its id, with what a name cannot hold as in a URL, so that no two share one.
pub fn folder_of(id: &str) -> String {
    id.replace('%', "%25").replace('/', "%2F")
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_exporters_share_a_folder() {
        for (id, folder) in [
            ("clickhouse", "clickhouse"),
            ("clickhouse/a", "clickhouse%2Fa"),
            ("clickhouse_a", "clickhouse_a"),
            ("clickhouse%2Fa", "clickhouse%252Fa"),
        ] {
            assert_eq!(folder_of(id), folder);
        }
    }
}
