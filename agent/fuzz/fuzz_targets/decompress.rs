//! Request bodies in every encoding, arbitrary ones and damaged ones.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tidegate::receivers::otlp::fuzz_inflate(input));
