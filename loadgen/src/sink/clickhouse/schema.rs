//! The tables the sink pretends to have: the Collector's, and whatever it was told to create.

use std::collections::BTreeMap;

use super::types::{Type, split_top_level};

/// Tables remembered at most; an agent creates ten.
const TABLES_MAX: usize = 256;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) type_name: String,
}

/// Tables by name, without their databases.
#[derive(Debug)]
pub(crate) struct Schema {
    tables: BTreeMap<String, Vec<Column>>,
}

impl Schema {
    /// The tables of the Collector's ClickHouse exporter.
    pub(crate) fn of_the_collector() -> Self {
        let mut schema = Self {
            tables: BTreeMap::new(),
        };
        for (table, parts) in TABLES {
            schema
                .tables
                .insert(table.to_owned(), columns(&parts.concat()));
        }
        schema
    }

    /// Notes the columns of a `CREATE TABLE` statement; other statements change nothing.
    pub(crate) fn learn(&mut self, statement: &str) {
        let Some((head, rest)) = statement.split_once('(') else {
            return;
        };
        let mut words = head.split_ascii_whitespace();
        if !words.any(|word| word.eq_ignore_ascii_case("TABLE")) {
            return;
        }
        let skipped = ["IF", "NOT", "EXISTS"];
        let name = words.find(|word| !skipped.iter().any(|skip| word.eq_ignore_ascii_case(skip)));
        let Some(name) = name else { return };
        let columns = columns(until_closed(rest));
        if !columns.is_empty() && self.tables.len() < TABLES_MAX {
            self.tables.insert(bare(name), columns);
        }
    }

    pub(crate) fn tables(&self) -> impl Iterator<Item = (&str, &[Column])> {
        self.tables
            .iter()
            .map(|(name, columns)| (name.as_str(), columns.as_slice()))
    }

    pub(crate) fn columns(&self, table: &str) -> Option<&[Column]> {
        self.tables.get(table).map(Vec::as_slice)
    }

    /// Types of the named columns, or of all when no names are given; `None` when one is not known.
    pub(crate) fn types(&self, table: &str, names: &[String]) -> Option<Vec<Type>> {
        let columns = self.columns(table)?;
        let parse = |column: &Column| Type::parse(&column.type_name).ok();
        if names.is_empty() {
            return columns.iter().map(parse).collect();
        }
        names
            .iter()
            .map(|name| {
                columns
                    .iter()
                    .find(|column| column.name == *name)
                    .and_then(parse)
            })
            .collect()
    }
}

/// The last part of a perhaps quoted, perhaps qualified name.
pub(crate) fn bare(name: &str) -> String {
    let last = name.rsplit('.').next().unwrap_or(name);
    last.trim_matches(|character| matches!(character, '`' | '"' | ';' | '(' | ')'))
        .to_owned()
}

/// The text up to the parenthesis that closes one opened before it.
fn until_closed(text: &str) -> &str {
    let mut depth = 1_usize;
    for (index, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return text.get(..index).unwrap_or(text);
        }
    }
    text
}

/// The stored columns of a table definition; Nested ones become the arrays they are stored as.
fn columns(definitions: &str) -> Vec<Column> {
    const NO_COLUMN: [&str; 5] = ["INDEX", "CONSTRAINT", "PROJECTION", "PRIMARY", "ORDER"];
    let mut columns = Vec::new();
    for definition in split_top_level(definitions) {
        let Some((name, rest)) = definition.split_once(char::is_whitespace) else {
            continue;
        };
        let rest = rest.trim();
        let computed = rest
            .split_ascii_whitespace()
            .any(|word| word == "MATERIALIZED" || word == "ALIAS");
        if NO_COLUMN.contains(&name) || computed {
            continue;
        }
        let name = name.trim_matches(|character| matches!(character, '`' | '"'));
        let type_name = type_at_start(rest);
        let Some(nested) = type_name.strip_prefix("Nested").map(str::trim) else {
            columns.push(Column {
                name: name.to_owned(),
                type_name: type_name.to_owned(),
            });
            continue;
        };
        let inner = nested
            .strip_prefix('(')
            .and_then(|inner| inner.strip_suffix(')'))
            .unwrap_or_default();
        for column in self::columns(inner) {
            columns.push(Column {
                name: format!("{name}.{}", column.name),
                type_name: format!("Array({})", column.type_name),
            });
        }
    }
    columns
}

/// A type's name and arguments, without what may follow (codec, default).
fn type_at_start(text: &str) -> &str {
    let word = text
        .find(|character: char| character.is_whitespace() || character == '(')
        .unwrap_or(text.len());
    let (_, after) = text.split_at(word);
    let Some(arguments) = after.trim_start().strip_prefix('(') else {
        return text.get(..word).unwrap_or(text);
    };
    let skipped = text.len() - arguments.len();
    text.get(..skipped + until_closed(arguments).len() + 1)
        .unwrap_or(text)
}

const ATTRIBUTES: &str = "Map(LowCardinality(String), String)";
const EXEMPLARS: &str = "Exemplars Nested (FilteredAttributes Map(LowCardinality(String), String), \
    TimeUnix DateTime64(9), Value Float64, SpanId String, TraceId String),";
const POINT: &str = "ResourceAttributes Map(LowCardinality(String), String), ResourceSchemaUrl String, \
    ScopeName String, ScopeVersion String, ScopeAttributes Map(LowCardinality(String), String), \
    ScopeDroppedAttrCount UInt32, ScopeSchemaUrl String, ServiceName LowCardinality(String), MetricName String, \
    MetricDescription String, MetricUnit String, Attributes Map(LowCardinality(String), String), \
    StartTimeUnix DateTime64(9), TimeUnix DateTime64(9), Flags UInt32,";

const TABLES: [(&str, &[&str]); 8] = [
    (
        "otel_traces",
        &[
            "Timestamp DateTime64(9), TraceId String, SpanId String, ParentSpanId String, TraceState String, \
        SpanName LowCardinality(String), SpanKind LowCardinality(String), ServiceName LowCardinality(String), \
        ResourceAttributes ",
            ATTRIBUTES,
            ", ScopeName String, ScopeVersion String, SpanAttributes ",
            ATTRIBUTES,
            ", Duration UInt64, StatusCode LowCardinality(String), StatusMessage String, \
        Events Nested (Timestamp DateTime64(9), Name LowCardinality(String), Attributes ",
            ATTRIBUTES,
            "), Links Nested (TraceId String, SpanId String, TraceState String, Attributes ",
            ATTRIBUTES,
            ")",
        ],
    ),
    (
        "otel_traces_trace_id_ts",
        &["TraceId String, Start DateTime, End DateTime"],
    ),
    (
        "otel_logs",
        &[
            "Timestamp DateTime64(9), TraceId String, SpanId String, TraceFlags UInt8, \
        SeverityText LowCardinality(String), SeverityNumber UInt8, ServiceName LowCardinality(String), Body String, \
        ResourceSchemaUrl LowCardinality(String), ResourceAttributes ",
            ATTRIBUTES,
            ", ScopeSchemaUrl LowCardinality(String), ScopeName String, ScopeVersion LowCardinality(String), \
        ScopeAttributes ",
            ATTRIBUTES,
            ", LogAttributes ",
            ATTRIBUTES,
            ", EventName String",
        ],
    ),
    ("otel_metrics_gauge", &[POINT, EXEMPLARS, "Value Float64"]),
    (
        "otel_metrics_sum",
        &[
            POINT,
            EXEMPLARS,
            "Value Float64, AggregationTemporality Int32, IsMonotonic Boolean",
        ],
    ),
    (
        "otel_metrics_histogram",
        &[
            POINT,
            EXEMPLARS,
            "Count UInt64, Sum Float64, BucketCounts Array(UInt64), \
        ExplicitBounds Array(Float64), Min Float64, Max Float64, AggregationTemporality Int32",
        ],
    ),
    (
        "otel_metrics_exponential_histogram",
        &[
            POINT,
            EXEMPLARS,
            "Count UInt64, Sum Float64, Scale Int32, \
        ZeroCount UInt64, PositiveOffset Int32, PositiveBucketCounts Array(UInt64), NegativeOffset Int32, \
        NegativeBucketCounts Array(UInt64), Min Float64, Max Float64, AggregationTemporality Int32",
        ],
    ),
    (
        "otel_metrics_summary",
        &[
            POINT,
            "Count UInt64, Sum Float64, \
        ValueAtQuantiles Nested (Quantile Float64, Value Float64)",
        ],
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_of_the_built_in_tables_can_be_stepped_over() {
        let schema = Schema::of_the_collector();
        assert_eq!(schema.tables().count(), TABLES.len());
        for (table, columns) in schema.tables() {
            let types = schema
                .types(table, &[])
                .unwrap_or_else(|| panic!("{table}: {columns:?}"));
            assert!(types.len() >= 3, "{table}");
        }
        assert_eq!(schema.columns("otel_traces").unwrap().len(), 22);
    }

    #[test]
    fn created_tables_are_learnt_without_computed_columns_and_indexes() {
        let mut schema = Schema::of_the_collector();
        schema.learn(
            "CREATE TABLE IF NOT EXISTS \"db\".`my_logs` ON CLUSTER c (
                `Timestamp` DateTime64(9) CODEC(Delta(8), ZSTD(1)),
                Body String DEFAULT 'a, (b' CODEC(ZSTD(1)),
                Events Nested (Name LowCardinality(String), Attributes Map(String, String)) CODEC(ZSTD(1)),
                Extra LowCardinality(String) MATERIALIZED Body,
                INDEX idx Body TYPE bloom_filter(0.01) GRANULARITY 1
            ) ENGINE = MergeTree() ORDER BY (Timestamp)",
        );
        let columns: Vec<_> = schema
            .columns("my_logs")
            .unwrap()
            .iter()
            .map(|column| (column.name.as_str(), column.type_name.as_str()))
            .collect();
        assert_eq!(
            columns,
            [
                ("Timestamp", "DateTime64(9)"),
                ("Body", "String"),
                ("Events.Name", "Array(LowCardinality(String))"),
                ("Events.Attributes", "Array(Map(String, String))"),
            ]
        );
    }

    #[test]
    fn other_statements_teach_nothing() {
        let mut schema = Schema::of_the_collector();
        for statement in [
            "CREATE DATABASE x",
            "",
            "CREATE MATERIALIZED VIEW v TO t AS SELECT min(a) FROM b",
            "(",
        ] {
            schema.learn(statement);
        }
        assert_eq!(schema.tables().count(), TABLES.len());
    }
}
