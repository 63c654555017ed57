//! `plugin bench`: what a plugin costs for each item.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use super::super::print;
use super::conditions::ConditionArgs;
use super::{batches, meant, read};
use crate::otlp::{Checked, check};
use crate::processors::wasm::workbench::{Workbench, describe};

/// Measure what a plugin costs for each item.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// The plugin; by default the one that was built here.
    plugin: Option<PathBuf>,
    /// A file of requests in OTLP/JSON. By default 1,000 spans of about 430 bytes with 10 attributes each.
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// How long to measure.
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0)]
    seconds: f64,
    #[command(flatten)]
    conditions: ConditionArgs,
}

pub(super) fn run(args: &BenchArgs) -> Result<ExitCode, String> {
    let path = meant(args.plugin.as_deref())?;
    let conditions = args.conditions.read()?;
    let requests = match &args.input {
        Some(input) => batches::parse_all(&read(input)?)
            .map_err(|error| format!("{}: {error}", input.display()))?,
        None => vec![batches::parse(&usual())?],
    };
    let (signal, first) = requests.first().ok_or("there is nothing in the input")?;
    // The first time it may have to be compiled; what stays is how long it takes from the cache.
    let first_load = load_time(&path)?;
    let cached_load = load_time(&path)?;
    let mut bench = Workbench::start(&path, *signal, &conditions)
        .map_err(|error| format!("{}: {error}{}", path.display(), args.conditions.hint()))?;
    // The first call pays for memory that is never given back.
    let made = bench.process(first)?;
    let duration = Duration::try_from_secs_f64(args.seconds).map_err(|error| error.to_string())?;
    let same = requests.iter().filter(|(of, _)| of == signal);
    let requests: Vec<&Checked> = same.map(|(_, request)| request).collect();
    let with = fastest(&requests, duration, |request| {
        bench.process(request).map(drop)
    })?;
    let without = fastest(&requests, duration / 4, |request| {
        let checked = check(*signal, request.bytes.clone());
        checked.map(drop).map_err(|error| error.to_string())
    })?;
    let mut text = String::new();
    let outcome = match (made.unchanged, &made.bytes) {
        (true, _) => "unchanged",
        (false, Some(_)) => "changed",
        (false, None) => "dropped",
    };
    let items = first.items;
    let _cannot_fail = write!(
        text,
        "batch     {items} {}, {} bytes; it comes out {outcome}\nplugin    {with:.1} ns an item\n\
         compare   {without:.1} ns an item for the check that every request passes\n\
         memory    {} KiB\nload      {:.1} ms, and {:.1} ms once it is in the cache\n",
        signal.items(),
        first.bytes.len(),
        bench.memory() / 1024,
        first_load.as_secs_f64() * 1e3,
        cached_load.as_secs_f64() * 1e3,
    );
    Ok(print(&text))
}

fn load_time(path: &Path) -> Result<Duration, String> {
    describe(path)
        .map(|description| description.load_time)
        .map_err(|error| format!("{}: {error}", path.display()))
}

/// Nanoseconds an item, of the quickest tenth of all runs: what the machine does besides is not the plugin's fault.
fn fastest(
    requests: &[&Checked],
    duration: Duration,
    mut run: impl FnMut(&Checked) -> Result<(), String>,
) -> Result<f64, String> {
    let mut times = Vec::new();
    let began = Instant::now();
    while began.elapsed() < duration || times.is_empty() {
        for request in requests.iter().filter(|request| request.items > 0) {
            let start = Instant::now();
            run(request)?;
            times.push(start.elapsed().as_secs_f64() * 1e9 / request.items as f64);
        }
        if requests.iter().all(|request| request.items == 0) {
            return Err("there are no items in the input".to_owned());
        }
    }
    times.sort_by(f64::total_cmp);
    let quickest = times.get(times.len() / 10).copied();
    quickest.ok_or_else(|| "there was no run".to_owned())
}

/// What a service sends, more or less.
fn usual() -> String {
    let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    let span = |number: usize| {
        json!({
            "traceId": format!("{:032x}", number / 8 + 1),
            "spanId": format!("{:016x}", number + 1),
            "parentSpanId": format!("{:016x}", number),
            "name": "GET /api/checkout",
            "kind": 2,
            "startTimeUnixNano": (1_767_225_600_000_000_000_u64 + number as u64).to_string(),
            "endTimeUnixNano": (1_767_225_600_003_000_000_u64 + number as u64).to_string(),
            "attributes": [
                text("http.request.method", "GET"),
                text("url.path", "/api/checkout"),
                text("url.scheme", "https"),
                text("server.address", "shop.example.org"),
                json!({"key": "http.response.status_code", "value": {"intValue": "200"}}),
                text("network.protocol.version", "1.1"),
                text("user_agent.original", "Mozilla/5.0 (X11; Linux x86_64)"),
                text("client.address", "192.0.2.17"),
                json!({"key": "retried", "value": {"boolValue": false}}),
                text("customer", &format!("customer-{number:06}")),
            ],
        })
    };
    let spans: Vec<_> = (0..1000).map(span).collect();
    let scopes = json!([{"scope": {"name": "bench"}, "spans": spans}]);
    let resource = json!({"attributes": [text("service.name", "shop")]});
    json!({"resourceSpans": [{"resource": resource, "scopeSpans": scopes}]}).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::Signal;

    #[test]
    fn the_usual_batch_is_what_it_says() {
        let (signal, batch) = batches::parse(&usual()).unwrap();
        assert_eq!((signal, batch.items), (Signal::Traces, 1000));
        let each = batch.bytes.len() / batch.items;
        assert!((400..460).contains(&each), "{each}");
    }
}
