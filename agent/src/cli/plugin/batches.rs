//! Batches from OTLP/JSON, and back.

use crate::otlp::{Checked, check, json};
use crate::signal::Signal;

/// The signal of a request in OTLP/JSON, by its only field.
pub(super) fn signal(text: &str) -> Option<Signal> {
    let value: serde_json::Value = serde_json::from_str(text).ok()?;
    let object = value.as_object()?;
    let (field, _) = object.iter().next()?;
    match field.as_str() {
        "resourceSpans" | "resource_spans" => Some(Signal::Traces),
        "resourceMetrics" | "resource_metrics" => Some(Signal::Metrics),
        "resourceLogs" | "resource_logs" => Some(Signal::Logs),
        _ => None,
    }
}

/// Reads a request in OTLP/JSON.
pub(super) fn parse(text: &str) -> Result<(Signal, Checked), String> {
    let signal = signal(text).ok_or(
        "it is not OTLP/JSON: an object with resourceSpans, resourceMetrics or resourceLogs",
    )?;
    let bytes = json::decode(signal, text.as_bytes()).map_err(|error| error.to_string())?;
    let checked = check(signal, bytes.into()).map_err(|error| error.to_string())?;
    Ok((signal, checked))
}

/// Requests in a text: one, over as many lines as it likes, or one per line.
pub(super) fn parse_all(text: &str) -> Result<Vec<(Signal, Checked)>, String> {
    if let Ok(only) = parse(text) {
        return Ok(vec![only]);
    }
    let lines = text.lines().enumerate();
    lines
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(number, line)| parse(line).map_err(|error| format!("line {}: {error}", number + 1)))
        .collect()
}

/// A request as OTLP/JSON on one line.
pub(super) fn render(signal: Signal, bytes: Option<&[u8]>) -> Result<String, String> {
    let mut text = Vec::new();
    json::encode(signal, bytes.into_iter(), &mut text).map_err(|error| error.to_string())?;
    String::from_utf8(text).map_err(|error| error.to_string())
}
