//! The agent's own metrics: one registry, one table of names, handles that cost an atomic add.

pub mod logs;
pub mod names;
pub mod reference;
mod registry;
pub mod server;

pub use registry::{Counter, FloatGauge, Gauge, Histogram, Telemetry};
