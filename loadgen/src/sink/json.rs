//! Items of OTLP/JSON, which few send: parsed whole.

use serde_json::Value;

use crate::otlp::signal::Signal;

/// Gives each item of an `Export…ServiceRequest` in JSON to `visit`, as JSON.
///
/// # Errors
/// Why it is none.
pub(super) fn each_item(
    signal: Signal,
    body: &[u8],
    mut visit: impl FnMut(&[u8]),
) -> Result<(), String> {
    let (resources, scopes, elements) = match signal {
        Signal::Traces => ("resourceSpans", "scopeSpans", "spans"),
        Signal::Logs => ("resourceLogs", "scopeLogs", "logRecords"),
        Signal::Metrics => ("resourceMetrics", "scopeMetrics", "metrics"),
    };
    let request: Value = serde_json::from_slice(body).map_err(|it| format!("no JSON: {it}"))?;
    for resource in list(&request, resources)? {
        for scope in list(resource, scopes)? {
            for element in list(scope, elements)? {
                match signal {
                    Signal::Traces | Signal::Logs => visit(element.to_string().as_bytes()),
                    Signal::Metrics => each_point(element, &mut visit)?,
                }
            }
        }
    }
    Ok(())
}

fn each_point(metric: &Value, visit: &mut impl FnMut(&[u8])) -> Result<(), String> {
    const KINDS: [&str; 5] = [
        "gauge",
        "sum",
        "histogram",
        "exponentialHistogram",
        "summary",
    ];
    for kind in KINDS.iter().filter_map(|kind| metric.get(kind)) {
        for point in list(kind, "dataPoints")? {
            visit(point.to_string().as_bytes());
        }
    }
    Ok(())
}

/// A list in a table; what is not there is empty.
fn list<'v>(value: &'v Value, key: &str) -> Result<&'v [Value], String> {
    let table = value.as_object();
    let table = table.ok_or_else(|| format!("a table with `{key}` is expected"))?;
    match table.get(key) {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(items)) => Ok(items),
        Some(_) => Err(format!("`{key}` is no list")),
    }
}
