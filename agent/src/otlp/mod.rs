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

#[doc(hidden)]
pub use check::fuzz_check;
pub use check::{Checked, check};
pub use reader::{Field, Fields, Value, WireError};
#[doc(hidden)]
pub use split::fuzz_split;
pub use split::{Splitter, split};
