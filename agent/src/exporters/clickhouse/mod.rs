//! Exports to ClickHouse: OTLP wire bytes into Native columns, over HTTP.

pub mod encode;
pub mod native;
