#![no_main]

use tidegate::signal::Signal;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((head, request)) = data.split_first_chunk::<8>() else {
        return;
    };
    let seed = u64::from_le_bytes(*head);
    let signal = match seed & 1 {
        0 => Signal::Traces,
        _ => Signal::Logs,
    };
    tidegate::otlp::fuzz_edits(signal, request, seed >> 1);
});
