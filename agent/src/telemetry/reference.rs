//! The reference of all metrics, made from the table: `docs/telemetry.md`.

use super::names::{Kind, Spec, TABLE};

/// The text of `docs/telemetry.md`.
pub fn markdown() -> String {
    let mut text = String::from(HEAD);
    for (title, prefix) in [
        ("Names of the Collector", "otelcol_"),
        ("Tidegate's own", "tidegate_"),
    ] {
        text += &format!("\n## {title}\n\n{COLUMNS}");
        let rows = TABLE.iter().filter(|spec| spec.name.starts_with(prefix));
        text.extend(rows.map(row));
    }
    text
}

const HEAD: &str = "\
<!-- Made from agent/src/telemetry/names.rs; `UPDATE_DOCS=1 cargo test -p tidegate reference` writes it anew. -->
# Metrics of the agent

`GET /metrics` on `service.telemetry.metrics.address`, by default `127.0.0.1:8888`, answers in the Prometheus text format.

The names that begin with `otelcol_` are the Collector's, with its labels, without `_total`, so that its dashboards work. What
the Collector does not measure begins with `tidegate_`. The ledger accounts for every item: in each pipeline and for each
exporter, accepted = delivered + queued + dropped, whatever happens. Series of
what was removed from the configuration end; the account of an exporter that gave something up stays until the agent stops.

`{items}` stands for `spans`, `metric_points` or `log_records`: one metric for each.

One of the names has a label more here, which sums leave out: `otelcol_receiver_requests`, which the Collector serves behind a
feature gate only, has `otel_signal`. Not served, and what to look at instead:

| metric of the Collector | instead |
|---|---|
| `otelcol_processor_internal_duration` | nothing: a processor works for microseconds, within the request |
| `otelcol_processor_batch_batch_send_size_bytes` | `tidegate_exporter_sent_bytes`, `otelcol_processor_batch_batch_send_size` |
| `otelcol_exporter_enqueue_size`, `otelcol_exporter_enqueue_size_bytes` | `otelcol_exporter_queue_size`, with `sizer = \"items\"` or `\"bytes\"` |
| `otelcol_exporter_queue_batch_send_size`, `…_bytes` | the same |
| `otelcol_receiver_failed_{items}` | `otelcol_receiver_requests` with `outcome=\"failure\"`: what cannot be read has no items |
| `otelcol_process_runtime_*` | nothing: they are about Go's heap; `otelcol_process_memory_rss`, `tidegate_held_bytes` |
| `http.server.*`, `rpc.server.*`, `otelcol_scraper_*` | nothing |
";

const COLUMNS: &str = "| name | kind | labels | what it tells |\n|---|---|---|---|\n";

fn row(spec: &Spec) -> String {
    let kind = match spec.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram(_) => "histogram",
    };
    let labels: Vec<String> = spec
        .labels
        .iter()
        .map(|label| format!("`{label}`"))
        .collect();
    let (name, labels, help) = (spec.name, labels.join(", "), spec.help);
    format!("| `{name}` | {kind} | {labels} | {help} |\n")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// With `UPDATE_DOCS` set it writes the file first.
    #[test]
    fn the_reference_is_up_to_date() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/telemetry.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&path, markdown()).unwrap();
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            found == markdown(),
            "docs/telemetry.md is out of date: UPDATE_DOCS=1 cargo test -p tidegate reference"
        );
    }

    #[test]
    fn every_metric_is_in_the_reference_once() {
        let text = markdown();
        for spec in TABLE {
            let start = format!("| `{}` |", spec.name);
            assert_eq!(text.matches(&start).count(), 1, "{}", spec.name);
            assert!(!spec.help.contains('|'), "{}: breaks the table", spec.name);
        }
    }
}
