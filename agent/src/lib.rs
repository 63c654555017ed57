//! The Tidegate agent: an OpenTelemetry daemon made for ClickHouse.
