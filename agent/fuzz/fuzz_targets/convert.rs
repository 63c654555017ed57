#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| tidegate::convert::fuzz_convert(text));
