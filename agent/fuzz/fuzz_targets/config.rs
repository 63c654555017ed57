#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| tidegate::config::fuzz_load(text));
