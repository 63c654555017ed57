//! Dead letters: nothing makes the reader panic, and what it reads can be written again.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tidegate::exporters::dead_letter::fuzz_letter(input));
