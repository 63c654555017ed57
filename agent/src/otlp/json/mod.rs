//! OTLP/JSON: the text form of the same requests, straight from and to the wire format.

mod decode;
#[cfg(test)]
mod decode_tests;
mod decode_text;
mod decode_wire;
mod encode;
mod encode_text;
mod encode_value;

pub use decode::{DecodeError, decode, decode_to, fuzz_json_decode};
pub use decode_wire::{NoRoom, Output};
pub use encode::{encode, fuzz_json_encode};
