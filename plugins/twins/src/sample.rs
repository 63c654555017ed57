//! The twin of `sample`, for batches whose tracestate is empty or has no part of OpenTelemetry's.

use crate::{Traces, retain};

/// Keeps spans whose trace has a randomness of at least `threshold`, and writes that into their tracestate as `digits`.
pub fn traces(traces: &mut Traces, threshold: u64, digits: &str) {
    retain(traces, |_, span| {
        let Some(last) = span.trace_id.last_chunk::<8>() else {
            return true;
        };
        if u64::from_be_bytes(*last) % (1 << 56) < threshold {
            return false;
        }
        let others = std::mem::take(&mut span.trace_state);
        span.trace_state = format!("ot=th:{digits}");
        if !others.is_empty() {
            span.trace_state += &format!(",{others}");
        }
        true
    });
}
