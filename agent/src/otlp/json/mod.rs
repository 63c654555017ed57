//! OTLP/JSON: the text form of the same requests, straight from and to the wire format.

mod decode;
mod decode_schema;
mod decode_text;
mod decode_value;

#[doc(hidden)]
pub use decode::fuzz_json_decode;
pub use decode::{Decoded, JsonError, decode};
