//! Batches from OTLP/JSON, and back.

use serde_json::Value;

use crate::otlp::{Checked, check, json};
use crate::signal::Signal;

/// The signal of a request in OTLP/JSON, by its only field.
fn signal(request: &Value) -> Option<Signal> {
    let (field, _) = request.as_object()?.iter().next()?;
    match field.as_str() {
        "resourceSpans" | "resource_spans" => Some(Signal::Traces),
        "resourceMetrics" | "resource_metrics" => Some(Signal::Metrics),
        "resourceLogs" | "resource_logs" => Some(Signal::Logs),
        _ => None,
    }
}

/// Reads a request in OTLP/JSON.
pub(super) fn parse(text: &str) -> Result<(Signal, Checked), String> {
    let request = serde_json::from_str(text).map_err(|error| format!("it is no JSON: {error}"))?;
    let signal = signal(&request).ok_or(
        "it is not OTLP/JSON: an object with resourceSpans, resourceMetrics or resourceLogs",
    )?;
    let bytes = json::decode(signal, text.as_bytes()).map_err(|error| error.to_string())?;
    let checked = check(signal, bytes.into()).map_err(|error| error.to_string())?;
    Ok((signal, checked))
}

/// Requests in a text: one, over as many lines as it likes, or one per line. What has no field is of no signal, and left out.
pub(super) fn parse_all(text: &str) -> Result<Vec<(Signal, Checked)>, String> {
    let is_whole = |text: &str| serde_json::from_str::<Value>(text).is_ok();
    let is_empty = |text: &str| matches!(text.trim(), "" | "{}");
    if is_empty(text) {
        return Ok(Vec::new());
    }
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    // What is whole on its first line, and more follows, is one per line.
    if is_whole(text) || !lines.next().is_some_and(is_whole) {
        return Ok(vec![parse(text)?]);
    }
    let lines = text.lines().enumerate();
    lines
        .filter(|(_, line)| !is_empty(line))
        .map(|(number, line)| parse(line).map_err(|error| format!("line {}: {error}", number + 1)))
        .collect()
}

/// A request as OTLP/JSON on one line.
pub(super) fn render(signal: Signal, bytes: Option<&[u8]>) -> Result<String, String> {
    let mut text = Vec::new();
    json::encode(signal, bytes.into_iter(), &mut text).map_err(|error| error.to_string())?;
    String::from_utf8(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let check = |text: &str, expected: &str| {
            let problem = parse_all(text).unwrap_err();
            assert!(problem.contains(expected), "{text}: {problem}");
        };
        check(
            "{\n  \"resourceLogs\": []\n  \"x\": 1\n}",
            "line 3 column 3",
        );
        check("{\"resourceLogs\":[}", "it is no JSON");
        check(
            "{\"resourceLogs\":[]}\n{\"resourceLogs\":[}",
            "line 2: it is no JSON",
        );
        check("{\"spans\":[]}", "resourceSpans");
        check("[]", "resourceSpans");
    }

    #[test]
    fn requests_stand_on_many_lines_or_one_each() {
        let count = |text: &str| parse_all(text).unwrap().len();
        assert_eq!(count("\n"), 0);
        assert_eq!(count("{}\n{\"resourceLogs\":[]}\n{}\n"), 1);
        assert_eq!(count("{\n\"resourceLogs\": [\n]}\n"), 1);
        assert_eq!(
            count("{\"resourceLogs\":[]}\n\n{\"resourceSpans\":[]}\n"),
            2
        );
    }
}
