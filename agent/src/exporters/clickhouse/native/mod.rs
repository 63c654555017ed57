//! ClickHouse's Native format, written column by column, compressed as it goes.
//!
//! Knows nothing of OpenTelemetry. The format as a client of revision 0 writes it: the number of columns and of
//! rows, then for each column its name, its type, and its substreams one after the other.

mod block;
mod columns;
#[cfg(test)]
pub(crate) mod decode;
mod dictionary;
mod frame;
mod lz4;
mod stream;
mod texts;
mod words;

pub use block::{BlockWriter, Columns, Visit, assemble, reset};
pub use columns::{Array, Column, Labels, Maps, Offsets, Texts, Words};
pub use frame::{Compressor, Method, Worth};
pub use stream::{Stream, append_text};
