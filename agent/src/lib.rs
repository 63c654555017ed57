//! The Tidegate agent: an OpenTelemetry daemon made for ClickHouse.
//!
//! Telemetry stays the bytes it arrived as: a [`batch::Batch`] is a validated OTLP request in wire format with an
//! obligation to answer, and no stage builds per-item objects. `docs/architecture.md` is the map.

/// As in the binary, so that its tests have something to see.
#[cfg(test)]
#[global_allocator]
static ALLOCATOR: profile::heap::Sampling = profile::heap::Sampling;

pub mod ack;
mod admin;
pub mod allocator;
pub mod app;
mod aside;
pub mod auth;
pub mod batch;
pub mod calendar;
pub mod claim;
pub mod cli;
pub mod component;
pub mod config;
pub mod convert;
pub mod exporters;
pub mod extensions;
pub mod failure;
mod files;
pub mod fingerprint;
pub mod gather;
pub mod health;
pub mod ledger;
pub mod localdb;
pub mod memory;
pub mod net;
pub mod otlp;
pub mod overview;
pub mod pipeline;
pub mod process;
pub mod processors;
pub mod profile;
pub mod progress;
pub mod receivers;
pub mod reload;
pub mod secret;
mod side;
pub mod signal;
pub mod status;
pub mod systemd;
pub mod tap;
pub mod telemetry;
#[cfg(test)]
mod testing;
pub mod units;
pub mod waiting_room;
pub mod wal;
