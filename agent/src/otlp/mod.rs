//! The OTLP wire format: reading, validating, splitting and rewriting requests without building objects.
//!
//! Nothing here knows of I/O, tokio, logging or configuration, and nothing is `unsafe`.

mod check;
pub mod json;
mod reader;
mod rewrite;
mod schema;
#[doc(hidden)]
pub mod testing;

#[doc(hidden)]
pub use check::fuzz_check;
pub use check::{Checked, check};
pub use reader::{Field, Fields, Value, WireError};

/// TEMP
pub fn split_at(
    _s: crate::signal::Signal,
    b: &bytes::Bytes,
    _n: usize,
) -> (bytes::Bytes, bytes::Bytes) {
    (b.clone(), b.clone())
}
