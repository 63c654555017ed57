//! The OTLP wire format: reading, validating, splitting and rewriting requests without building objects.
//!
//! Nothing here knows of I/O, tokio, logging or configuration, and nothing is `unsafe`.

mod check;
pub mod json;
mod reader;
mod rewrite;
mod schema;
mod split;
#[doc(hidden)]
pub mod testing;

pub use check::{Checked, Edit, check, check_edited};
pub use reader::{Field, Fields, Value, WireError};
pub use split::{Splitter, split};

/// Holds [`check`], the rewrite and [`split`] to what prost makes of `input`; panics where they differ.
#[doc(hidden)]
pub fn fuzz_request(signal: crate::signal::Signal, input: &[u8]) {
    check::fuzz_check(signal, input);
    split::fuzz_split(signal, input);
}

/// Holds [`check_edited`] to [`check`] for edits of `input` that `seed` decides; panics where they differ.
#[doc(hidden)]
pub fn fuzz_edits(signal: crate::signal::Signal, input: &[u8], seed: u64) {
    check::fuzz_edits(signal, input, seed);
}
