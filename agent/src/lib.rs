//! The Tidegate agent: an OpenTelemetry daemon made for ClickHouse.
//!
//! Telemetry stays the bytes it arrived as: a [`batch::Batch`] is a validated OTLP request in wire format with an
//! obligation to answer, and no stage builds per-item objects. `docs/architecture.md` is the map.

pub mod ack;
mod admin;
pub mod allocator;
pub mod app;
mod aside;
pub mod batch;
pub mod calendar;
pub mod claim;
pub mod cli;
pub mod component;
pub mod config;
pub mod convert;
pub mod exporters;
pub mod extensions;
pub mod fingerprint;
pub mod gather;
pub mod health;
pub mod ledger;
pub mod localdb;
pub mod memory;
pub mod net;
pub mod otlp;
pub mod pipeline;
pub mod process;
pub mod processors;
pub mod receivers;
pub mod reload;
pub mod secret;
mod side;
pub mod signal;
pub mod telemetry;
#[cfg(test)]
mod testing;
pub mod units;
pub mod waiting_room;
pub mod wal;
