//! What the twins cost: `cargo run --release -p twins`, beside `tidegate plugin bench`.
#![allow(clippy::print_stdout, reason = "that is what it is for")]
#![allow(clippy::expect_used, reason = "a bench fails by panicking")]

use std::hint::black_box;
use std::time::Instant;

use regex::Regex;
use twins::redact::Redact;
use twins::{Message as _, Traces, batches, filter, sample};

/// Runs of each; the quickest tenth counts, as in `tidegate plugin bench`.
const RUNS: usize = 500;

/// Nanoseconds a span, with decoding and encoding and without.
fn measure(name: &str, change: impl Fn(&mut Traces)) {
    let usual = batches::usual();
    let bytes = usual.encode_to_vec();
    let mut whole = Vec::with_capacity(RUNS);
    let mut only = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
        let start = Instant::now();
        let mut traces = Traces::decode(bytes.as_slice()).expect("it is what was encoded");
        let decoded = Instant::now();
        change(&mut traces);
        only.push(decoded.elapsed());
        black_box(traces.encode_to_vec());
        drop(traces);
        whole.push(start.elapsed());
    }
    let tenth = |mut times: Vec<std::time::Duration>| {
        times.sort_unstable();
        times
            .get(RUNS / 10)
            .map_or(0.0, |time| time.as_secs_f64() * 1e6)
    };
    let (whole, only) = (tenth(whole), tenth(only));
    println!("{name:<28} {whole:7.0} ns a span, {only:7.0} of them besides decoding and encoding");
}

fn main() {
    let masked = Redact {
        mask: vec!["password".to_owned()],
        ..Redact::default()
    };
    measure("redact, one masked key", |traces| masked.traces(traces));
    let email = Regex::new(r"[\w.+-]+@[\w-]+\.[\w.]+").expect("it is a pattern");
    let by_pattern = Redact {
        patterns: vec![("email".to_owned(), email)],
        ..Redact::default()
    };
    measure("redact, one pattern", |traces| by_pattern.traces(traces));
    let rule = filter::Rule {
        name: Some("other".to_owned()),
        ..filter::Rule::default()
    };
    measure("filter, one rule by name", |traces| {
        filter::traces(traces, std::slice::from_ref(&rule));
    });
    measure("sample, all are kept", |traces| {
        sample::traces(traces, 0, "0")
    });
}
