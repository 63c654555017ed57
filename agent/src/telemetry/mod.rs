//! The agent's own metrics: one registry, one table of names, handles that cost an atomic add.

pub mod figures;
pub mod journal;
pub mod logs;
pub mod names;
mod pool;
pub mod reference;
mod registry;
pub mod server;
pub mod spans;

pub use pool::{Figure, Pool};
pub use registry::{Counter, FloatGauge, Gauge, Histogram, Live, Telemetry};
