//! OTLP/JSON: the text form of the same requests, straight from and to the wire format.

mod encode;
mod encode_schema;
mod encode_text;

pub use encode::encode;
