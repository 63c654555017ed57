//! OTLP/JSON: the text form of the same requests, straight from and to the wire format.

mod decode;

pub use decode::{Decoded, JsonError, decode};
