//! What tests, benches and fuzz targets of the wire format share: random requests, mutations of them, and prost as
//! the oracle. Not part of the agent's work.

mod edits;
mod mutate;
mod oracle;
mod random;

pub use edits::{RandomEdits, random_edits};
pub use mutate::{mutate_bytes, mutate_fields, nested_values};
pub use oracle::Tree;
pub use random::{Random, random_request};
