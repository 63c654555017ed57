//! OTLP/JSON both ways: the first byte chooses the signal, the rest is text to decode and bytes to encode.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate::otlp::json::{fuzz_json_decode, fuzz_json_encode};
use tidegate::signal::Signal;

fuzz_target!(|input: &[u8]| {
    let Some((first, rest)) = input.split_first() else {
        return;
    };
    let signal = Signal::ALL[usize::from(*first) % Signal::ALL.len()];
    fuzz_json_decode(signal, rest);
    fuzz_json_encode(signal, rest);
});
