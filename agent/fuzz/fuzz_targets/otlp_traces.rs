#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate::otlp::fuzz_request(tidegate::signal::Signal::Traces, data));
