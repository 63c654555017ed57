#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tidegate::wal::fuzz_segment(input));
