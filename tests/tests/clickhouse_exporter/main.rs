//! The ClickHouse exporter against the real engine: schema, rows, queries, retries, failover.

mod golden;
mod memory;
mod outage;
mod schema;
mod support;
mod tls;
