//! The statements that make the schema, from the templates in `sql/`.

use std::time::Duration;

use super::{Layout, Version};
use crate::exporters::clickhouse::encode::Table;

/// A table engine as it stands in a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Engine {
    /// Letters and digits only.
    pub(crate) name: String,
    /// What stands in the parentheses, as the operator wrote it.
    pub(crate) params: String,
}

impl Engine {
    fn render(&self) -> String {
        format!("{}({})", self.name, self.params)
    }

    /// The window of remembered inserts. Replicated engines have one by default.
    fn dedup(&self) -> &'static str {
        let plain = self.name.ends_with("MergeTree")
            && !self.name.starts_with("Replicated")
            && !self.name.starts_with("Shared");
        if plain {
            ", non_replicated_deduplication_window = 1000"
        } else {
            ""
        }
    }
}

/// Text indexes are for general use from this version on.
const TEXT_INDEXES: Version = Version {
    major: 26,
    minor: 2,
};

/// Quotes a name.
pub(super) fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('\\', "\\\\").replace('`', "\\`"))
}

/// A string literal.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// `CREATE DATABASE`; the database `default` exists on every server.
pub(super) fn create_database(layout: &Layout) -> Option<String> {
    (layout.database != "default").then(|| {
        format!(
            "CREATE DATABASE IF NOT EXISTS {}{}",
            quoted(&layout.database),
            on_cluster(layout)
        )
    })
}

/// The table from which a trace's time is looked up, beside the table of spans.
pub(super) fn lookup_table(traces: &str) -> String {
    format!("{traces}_trace_id_ts")
}

/// How many inserts a table remembers that is told to.
const WINDOW: u32 = 1000;

/// The statement that makes a table remember inserts.
pub(super) fn remember(layout: &Layout, table: &str, setting: &str) -> String {
    format!(
        "ALTER TABLE {}{} MODIFY SETTING {setting} = {WINDOW}",
        layout.full_name(table),
        on_cluster(layout)
    )
}

/// The statements that make `table` and what belongs to it, in order.
pub(super) fn create_table(layout: &Layout, table: Table, version: Version) -> Vec<String> {
    let name = layout.names.of(table);
    match table {
        Table::Traces => {
            let lookup = lookup_table(name);
            let view = format!("{lookup}_mv");
            vec![
                render(layout, include_str!("sql/traces.sql"), name, "Timestamp"),
                render(
                    layout,
                    include_str!("sql/trace_lookup.sql"),
                    &lookup,
                    "Start",
                ),
                render(layout, include_str!("sql/trace_lookup_view.sql"), &view, "")
                    .replace("{target}", &layout.full_name(&lookup))
                    .replace("{source}", &layout.full_name(name)),
            ]
        }
        Table::Logs => {
            let indexes = if version >= TEXT_INDEXES {
                include_str!("sql/logs_indexes_text.sql")
            } else {
                include_str!("sql/logs_indexes_bloom.sql")
            };
            let template = include_str!("sql/logs.sql").replace("{indexes}\n", indexes);
            vec![render(layout, &template, name, "Timestamp")]
        }
        Table::Gauge => vec![metrics(layout, include_str!("sql/gauge.sql"), name)],
        Table::Sum => vec![metrics(layout, include_str!("sql/sum.sql"), name)],
        Table::Histogram => vec![metrics(layout, include_str!("sql/histogram.sql"), name)],
        Table::ExponentialHistogram => {
            vec![metrics(
                layout,
                include_str!("sql/exponential_histogram.sql"),
                name,
            )]
        }
        Table::Summary => vec![metrics(layout, include_str!("sql/summary.sql"), name)],
    }
}

fn metrics(layout: &Layout, columns: &str, name: &str) -> String {
    let columns = columns.replace("{exemplars}\n", include_str!("sql/exemplars.sql"));
    let template = include_str!("sql/metrics.sql").replace("{columns}\n", &columns);
    render(layout, &template, name, "TimeUnix")
}

fn render(layout: &Layout, template: &str, name: &str, time_column: &str) -> String {
    let ttl = layout
        .ttl
        .map(|ttl| format!("TTL toDateTime({time_column}) + {}\n", interval(ttl)));
    template
        .trim_end()
        .replace("{dedup}", layout.engine.dedup())
        .replace("{ttl}", ttl.as_deref().unwrap_or_default())
        .replace("{on_cluster}", &on_cluster(layout))
        .replace("{table}", &layout.full_name(name))
        // Last: its parameters have ClickHouse's own macros, such as `{table}`.
        .replace("{engine}", &layout.engine.render())
}

fn on_cluster(layout: &Layout) -> String {
    layout
        .cluster
        .as_ref()
        .map(|cluster| format!(" ON CLUSTER {}", quoted(cluster)))
        .unwrap_or_default()
}

/// The largest unit that gives a whole number.
fn interval(ttl: Duration) -> String {
    let seconds = ttl.as_secs();
    [("Day", 86_400), ("Hour", 3_600), ("Minute", 60)]
        .into_iter()
        .find(|(_, size)| seconds.is_multiple_of(*size))
        .map_or_else(
            || format!("toIntervalSecond({seconds})"),
            |(unit, size)| format!("toInterval{unit}({})", seconds / size),
        )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Names;
    use super::*;
    use crate::signal::Signal;

    fn layout(engine: &str, params: &str) -> Layout {
        Layout {
            database: "otel".to_owned(),
            cluster: None,
            engine: Engine {
                name: engine.to_owned(),
                params: params.to_owned(),
            },
            ttl: None,
            names: Names {
                logs: "otel_logs".to_owned(),
                traces: "otel_traces".to_owned(),
                gauge: "otel_metrics_gauge".to_owned(),
                sum: "otel_metrics_sum".to_owned(),
                histogram: "otel_metrics_histogram".to_owned(),
                exponential_histogram: "otel_metrics_exponential_histogram".to_owned(),
                summary: "otel_metrics_summary".to_owned(),
            },
        }
    }

    /// `tests/ddl/` holds the statements of a schema in one file for each signal. To accept a change, run the test
    /// with `TIDEGATE_BLESS=1` and read the difference.
    fn check(name: &str, layout: &Layout, version: Version) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ddl");
        for signal in Signal::ALL {
            let statements = layout.statements(signal, version).join(";\n\n") + ";\n";
            let path = folder.join(format!("{name}_{signal}.sql"));
            if std::env::var_os("TIDEGATE_BLESS").is_some() {
                std::fs::write(&path, &statements).unwrap();
            }
            let expected = std::fs::read_to_string(&path).unwrap();
            assert_eq!(statements, expected, "{}", path.display());
        }
    }

    #[test]
    fn statements_are_as_accepted() {
        let current = Version {
            major: 26,
            minor: 2,
        };
        let older = Version {
            major: 25,
            minor: 8,
        };
        check("plain", &layout("MergeTree", ""), current);
        let replicated = Layout {
            cluster: Some("main".to_owned()),
            ttl: Some(Duration::from_secs(72 * 3600)),
            ..layout(
                "ReplicatedMergeTree",
                "'/clickhouse/tables/{shard}/{uuid}', '{replica}'",
            )
        };
        check("replicated_older", &replicated, older);
    }

    #[test]
    fn no_placeholder_is_left() {
        for signal in Signal::ALL {
            let text = layout("MergeTree", "")
                .statements(signal, TEXT_INDEXES)
                .concat();
            assert!(!text.contains(['{', '}']), "{text}");
        }
    }

    #[test]
    fn macros_in_engine_parameters_are_left_to_the_server() {
        let params = "'/clickhouse/{shard}/{table}', '{replica}'";
        for signal in Signal::ALL {
            let layout = layout("ReplicatedMergeTree", params);
            let text = layout.statements(signal, TEXT_INDEXES).concat();
            assert!(
                text.contains(&format!("ReplicatedMergeTree({params})")),
                "{text}"
            );
        }
    }

    #[test]
    fn intervals_have_the_largest_exact_unit() {
        let check = |seconds, expected: &str| {
            assert_eq!(interval(Duration::from_secs(seconds)), expected);
        };
        check(259_200, "toIntervalDay(3)");
        check(90_000, "toIntervalHour(25)");
        check(90 * 60, "toIntervalMinute(90)");
        check(61, "toIntervalSecond(61)");
    }

    #[test]
    fn names_cannot_leave_their_quotes() {
        assert_eq!(quoted("a`b\\c"), r"`a\`b\\c`");
    }
}
