//! The OTLP wire format: reading, validating, splitting and rewriting requests without building objects.
//!
//! Nothing here knows of I/O, tokio, logging or configuration, and nothing is `unsafe`.

mod reader;

pub use reader::{Field, Fields, Value, WireError};
