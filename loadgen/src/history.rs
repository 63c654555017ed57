//! `loadgen history`: recent runs as a table or as JSON.

use std::io::Write as _;
use std::process::ExitCode;

use crate::results::{BenchmarkRow, Database};
use crate::text::{Table, utc_time};

/// Show the runs that `loadgen http --save` has stored in ClickHouse, newest first.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only runs whose endpoint contains this text
    #[arg(short, long, value_name = "TEXT")]
    endpoint: Option<String>,
    /// How many runs to show
    #[arg(short = 'n', long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    last: u32,
    /// Print one JSON object per run, with every column
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    database: Database,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let rows = args
        .database
        .open()?
        .recent(args.endpoint.as_deref(), args.last)
        .await?;
    let text = if args.json {
        json_lines(&rows)?
    } else {
        table(&rows)
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn json_lines(rows: &[BenchmarkRow]) -> anyhow::Result<String> {
    let mut lines = String::new();
    for row in rows {
        lines.push_str(&serde_json::to_string(&JsonRow::from(row))?);
        lines.push('\n');
    }
    Ok(lines)
}

/// A row with its time as text besides.
#[derive(serde::Serialize)]
struct JsonRow<'a> {
    time: String,
    #[serde(flatten)]
    row: &'a BenchmarkRow,
}

impl<'a> From<&'a BenchmarkRow> for JsonRow<'a> {
    fn from(row: &'a BenchmarkRow) -> Self {
        Self {
            time: utc_time(row.timestamp),
            row,
        }
    }
}

fn table(rows: &[BenchmarkRow]) -> String {
    if rows.is_empty() {
        return "no runs\n".to_owned();
    }
    let mut table = Table::new(&[
        "time (UTC)",
        "endpoint",
        "mode",
        "workers",
        "requests",
        "errors",
        "unsent",
        "req/s",
        "avg ms",
        "p50",
        "p95",
        "p99",
        "p99.9",
        "max",
    ]);
    for row in rows {
        let mode = match row.mode.as_str() {
            "open" => format!("open {}/s", row.target_rate),
            other => other.to_owned(),
        };
        table.push(vec![
            utc_time(row.timestamp),
            format!("{} {}", row.method, row.endpoint),
            mode,
            row.workers.to_string(),
            row.total_requests.to_string(),
            row.errors.to_string(),
            row.unsent.to_string(),
            format!("{:.1}", row.throughput),
            format!("{:.3}", row.avg_latency),
            format!("{:.3}", row.p50_latency),
            format!("{:.3}", row.p95_latency),
            format!("{:.3}", row.p99_latency),
            format!("{:.3}", row.p999_latency),
            format!("{:.3}", row.max_latency),
        ]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<BenchmarkRow> {
        let closed = BenchmarkRow {
            timestamp: 1_767_225_600_000,
            endpoint: "http://a/".to_owned(),
            method: "GET".to_owned(),
            mode: "closed".to_owned(),
            workers: 8,
            total_requests: 1000,
            avg_latency: 1.25,
            ..BenchmarkRow::default()
        };
        let open = BenchmarkRow {
            mode: "open".to_owned(),
            target_rate: 250.0,
            total_requests: 7,
            statuses: [("200".to_owned(), 6), ("503".to_owned(), 1)].into(),
            ..closed.clone()
        };
        vec![closed, open]
    }

    #[test]
    fn the_table_has_a_line_for_each_run() {
        let text = table(&rows());
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(lines[0].starts_with("time (UTC)           endpoint"));
        assert!(
            lines[1]
                .starts_with("2026-01-01 00:00:00  GET http://a/  closed            8      1000"),
            "{text}"
        );
        assert!(
            lines[2].contains("  open 250/s        8         7"),
            "{text}"
        );
        assert_eq!(table(&[]), "no runs\n");
    }

    #[test]
    fn json_has_an_object_for_each_run() {
        let text = json_lines(&rows()).unwrap();
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|it| serde_json::from_str(it).unwrap())
            .collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(
            lines[1]["statuses"],
            serde_json::json!({"200": 6, "503": 1})
        );
        assert_eq!(lines[0]["time"], "2026-01-01 00:00:00");
    }
}
