//! The Tidegate agent: an OpenTelemetry daemon made for ClickHouse.
pub mod localdb;
