//! `loadgen history`: recent runs as a table or as JSON.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::bail;

use crate::record::Kind;
use crate::record::figures::{number, shown};
use crate::results::{BenchmarkRow, Database, SavedRun};
use crate::stdout::print;
use crate::text::{Table, utc_time};

/// Digits of a run id that are shown: enough to tell runs apart, and to name one to compare and export.
const ID_DIGITS: usize = 10;

/// What runs of all kinds have.
const COMMON: [&str; 10] = [
    "time (UTC)",
    "kind",
    "name",
    "took",
    "result",
    "rate",
    "p50 ms",
    "p99 ms",
    "errors",
    "run",
];

/// Show the runs that were stored in ClickHouse with --save, newest first.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only runs whose endpoint or name contains this text
    #[arg(short, long, value_name = "TEXT")]
    endpoint: Option<String>,
    /// Only runs of this kind
    #[arg(short, long, value_enum)]
    kind: Option<Kind>,
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
    let results = args.database.open()?;
    let endpoint = args.endpoint.as_deref();
    let rows = match args.kind {
        None | Some(Kind::Http) => results.recent(endpoint, args.last).await?,
        Some(_) => Some(Vec::new()),
    };
    let kind = args.kind.map(Kind::name);
    let runs = results.recent_runs(endpoint, kind, args.last).await?;
    if rows.is_none() && runs.is_none() {
        bail!(
            "no run has been saved in {} yet; measuring commands do with --save",
            results.address()
        );
    }
    let history = History::new(
        rows.unwrap_or_default(),
        runs.unwrap_or_default(),
        args.last as usize,
    );
    let text = if args.json {
        history.json_lines()?
    } else {
        history.tables()
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// The newest runs of all kinds, each once.
struct History {
    /// Rows of `benchmark_results`.
    rows: Vec<BenchmarkRow>,
    /// What came of them, by the run's id, where their records are there, too.
    results: BTreeMap<String, &'static str>,
    /// Records of runs that have no such row.
    runs: Vec<SavedRun>,
}

impl History {
    /// Both newest first.
    fn new(mut rows: Vec<BenchmarkRow>, runs: Vec<SavedRun>, last: usize) -> Self {
        let is_row = |run: &SavedRun| rows.iter().any(|row| row.run_id == run.run_id);
        let (twice, mut runs): (Vec<_>, Vec<_>) = runs.into_iter().partition(is_row);
        let results = twice.into_iter().map(|it| (it.verdict(), it.run_id));
        let results = results.map(|(verdict, id)| (id, verdict)).collect();
        while rows.len() + runs.len() > last {
            match (rows.last(), runs.last()) {
                (Some(row), Some(run)) if row.timestamp > run.started => runs.pop().is_some(),
                (Some(_), _) => rows.pop().is_some(),
                _ => runs.pop().is_some(),
            };
        }
        Self {
            rows,
            results,
            runs,
        }
    }

    fn json_lines(&self) -> anyhow::Result<String> {
        let mut lines = Vec::with_capacity(self.rows.len() + self.runs.len());
        for row in &self.rows {
            lines.push((row.timestamp, serde_json::to_string(&self.json_row(row))?));
        }
        for run in &self.runs {
            let mut value = serde_json::to_value(run)?;
            value["time"] = utc_time(run.started).into();
            value["result"] = run.verdict().into();
            value["figures"] = run
                .figures
                .iter()
                .map(|(name, value)| (name.clone(), (*value).into()))
                .collect::<serde_json::Map<_, _>>()
                .into();
            lines.push((run.started, value.to_string()));
        }
        lines.sort_by_key(|(time, _)| std::cmp::Reverse(*time));
        Ok(lines.into_iter().map(|(_, line)| line + "\n").collect())
    }

    fn tables(&self) -> String {
        match (self.rows.as_slice(), self.runs.as_slice()) {
            ([], []) => "no runs\n".to_owned(),
            (_, []) => self.rows_table(),
            _ => self.common_table(),
        }
    }

    /// What runs of all kinds have, the newest first.
    fn common_table(&self) -> String {
        let rows = self
            .rows
            .iter()
            .map(|row| (row.timestamp, self.of_row(row)));
        let runs = self.runs.iter().map(|run| (run.started, of_run(run)));
        let mut lines: Vec<_> = rows.chain(runs).collect();
        lines.sort_by_key(|(time, _)| std::cmp::Reverse(*time));
        let mut table = Table::new(&COMMON);
        for (_, line) in lines {
            table.push(line.into());
        }
        table.render()
    }

    fn of_row(&self, row: &BenchmarkRow) -> [String; COMMON.len()] {
        [
            utc_time(row.timestamp),
            Kind::Http.name().to_owned(),
            format!("{} {}", row.method, row.endpoint),
            shown(row.duration, "s"),
            self.result(row).unwrap_or("-").to_owned(),
            format!("{} requests/s", number(row.throughput)),
            number(row.p50_latency),
            number(row.p99_latency),
            shown(row.error_rate * 100.0, "%"),
            named(&row.run_id),
        ]
    }

    fn result(&self, row: &BenchmarkRow) -> Option<&'static str> {
        self.results.get(&row.run_id).copied()
    }

    fn json_row<'a>(&self, row: &'a BenchmarkRow) -> JsonRow<'a> {
        JsonRow {
            time: utc_time(row.timestamp),
            result: self.result(row),
            row,
        }
    }

    fn rows_table(&self) -> String {
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
            "result",
            "run",
        ]);
        for row in &self.rows {
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
                self.result(row).unwrap_or("-").to_owned(),
                named(&row.run_id),
            ]);
        }
        table.render()
    }
}

/// A run's name for people; of old rows it is not known.
fn named(run_id: &str) -> String {
    match run_id {
        "" => "-".to_owned(),
        id => id.chars().take(ID_DIGITS).collect(),
    }
}

fn of_run(run: &SavedRun) -> [String; COMMON.len()] {
    let figure = |name: &str| run.figure(name).map_or_else(|| "-".to_owned(), number);
    let rate = [
        "items_per_second",
        "iterations_per_second",
        "requests_per_second",
    ]
    .into_iter()
    .find_map(|name| Some((run.figure(name)?, name.split('_').next()?)));
    [
        utc_time(run.started),
        run.kind.clone(),
        run.name.clone(),
        shown(run.seconds, "s"),
        run.verdict().to_owned(),
        rate.map_or_else(
            || "-".to_owned(),
            |(rate, of)| format!("{} {of}/s", number(rate)),
        ),
        figure("latency_p50"),
        figure("latency_p99"),
        run.figure("error_rate")
            .map_or_else(|| "-".to_owned(), |share| shown(share * 100.0, "%")),
        named(&run.run_id),
    ]
}

/// A row with its time as text, and what came of the run, besides.
#[derive(serde::Serialize)]
struct JsonRow<'a> {
    time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'static str>,
    #[serde(flatten)]
    row: &'a BenchmarkRow,
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
        let text = History::new(rows(), Vec::new(), 20).tables();
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
        assert_eq!(
            History::new(Vec::new(), Vec::new(), 1).tables(),
            "no runs\n"
        );
    }

    #[test]
    fn json_has_an_object_for_each_run() {
        let text = History::new(rows(), Vec::new(), 20).json_lines().unwrap();
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

    fn saved(run_id: &str, started: i64) -> SavedRun {
        SavedRun {
            run_id: run_id.to_owned(),
            kind: "otlp".to_owned(),
            name: "traces to a".to_owned(),
            started,
            seconds: 10.0,
            passed: 1,
            interrupted: 0,
            host: String::new(),
            version: String::new(),
            no_verdict: String::new(),
            figures: vec![
                ("items_per_second".to_owned(), 12_345.0),
                ("error_rate".to_owned(), 0.5),
            ],
        }
    }

    #[test]
    fn the_newest_runs_of_all_kinds_are_shown_once() {
        let mut rows = rows();
        rows[0].run_id = "same".to_owned();
        let time = rows[0].timestamp;
        let runs = vec![
            saved("0123456789abcdef", time + 1),
            saved("same", time),
            saved("old", time - 1),
        ];
        let history = History::new(rows, runs, 3);
        assert_eq!((history.rows.len(), history.runs.len()), (2, 1));
        let text = history.tables();
        assert!(text.contains("12,345 items/s"), "{text}");
        // One table, the newest first, whatever they are.
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(lines[0].starts_with("time (UTC)           kind  name"));
        assert!(lines[1].ends_with("50 %    0123456789"), "{text}");
        assert!(
            lines[2].contains("  http  GET http://a/  ") && lines[2].ends_with("  same"),
            "{text}"
        );
        let json = history.json_lines().unwrap();
        let first: serde_json::Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
        assert_eq!(first["figures"]["items_per_second"], 12_345.0);
        assert_eq!(json.lines().count(), 3);
    }

    #[test]
    fn a_run_without_a_verdict_has_not_failed() {
        let mut busy = saved("busy", 3);
        (busy.passed, busy.no_verdict) = (0, "the machine was full".to_owned());
        let mut cut = saved("cut", 2);
        (cut.passed, cut.interrupted) = (0, 1);
        let mut failed = saved("failed", 1);
        failed.passed = 0;
        let mut rows = rows();
        // The second is of an older version, without a record.
        rows[0].run_id = "busy".to_owned();
        let history = History::new(rows, vec![busy, cut, failed], 20);
        let text = history.tables();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 5, "{text}");
        assert!(
            lines[1].contains("  no verdict  ") && lines[1].ends_with("  busy"),
            "{text}"
        );
        assert!(
            lines[2].contains("  -            ") && lines[2].ends_with("  -"),
            "{text}"
        );
        assert!(lines[3].contains("  interrupted  "), "{text}");
        assert!(lines[4].contains("  failed  "), "{text}");
        let json = history.json_lines().unwrap();
        let results = json.lines().map(|line| {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            value["result"].as_str().unwrap_or("-").to_owned()
        });
        let results: Vec<_> = results.collect();
        assert_eq!(results, ["no verdict", "-", "interrupted", "failed"]);
    }
}
