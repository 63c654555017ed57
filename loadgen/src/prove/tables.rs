//! What the database has of a run: how often each number is stored, and whether the views agree.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use serde::Serialize;

use super::http::Http;
use super::items::{CONNECTION_SHIFT, METRIC_TABLES, NUMBER_KEY, RUN_KEY, Run};

/// A database of one run.
#[derive(Debug)]
pub(super) struct Tables {
    http: Http,
    /// Ends where the parameters begin.
    url: String,
    run: Run,
}

/// A table with items, and where in it their number stands.
#[derive(Debug, Clone)]
struct Table {
    name: String,
    attributes: &'static str,
    /// For points: the remainder that its numbers have.
    remainder: Option<u64>,
}

/// How often each number is stored, over all tables.
#[derive(Debug, Default)]
pub(super) struct Stored {
    pub(super) rows: BTreeMap<u64, u64>,
    /// Points in another table than theirs.
    pub(super) misplaced: Vec<u64>,
}

/// How the lookup view of traces agrees with the spans.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Lookup {
    pub(super) traces: u64,
    /// Traces that the view has not, has more than once, or with other times.
    pub(super) wrong: u64,
}

/// Whether rows came in the order in which each connection sent them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Order {
    /// Blocks looked at, for each connection.
    pub(super) blocks: u64,
    /// Blocks with a number below one in an earlier block.
    pub(super) out_of_order: u64,
    pub(super) examples: Vec<String>,
}

fn tables() -> Vec<Table> {
    let mut tables = vec![
        Table {
            name: "otel_traces".to_owned(),
            attributes: "SpanAttributes",
            remainder: None,
        },
        Table {
            name: "otel_logs".to_owned(),
            attributes: "LogAttributes",
            remainder: None,
        },
    ];
    tables.extend((0..).zip(METRIC_TABLES).map(|(remainder, name)| Table {
        name: format!("otel_metrics_{name}"),
        attributes: "Attributes",
        remainder: Some(remainder),
    }));
    tables
}

impl Tables {
    pub(super) fn new(http: Http, url: String, run: Run) -> Self {
        Self { http, url, run }
    }

    async fn query(&self, sql: String) -> anyhow::Result<bytes::Bytes> {
        self.http
            .post(&self.url, sql.clone())
            .await
            .with_context(|| format!("query {sql}"))
    }

    async fn text(&self, sql: String) -> anyhow::Result<String> {
        Ok(String::from_utf8_lossy(&self.query(sql).await?)
            .trim()
            .to_owned())
    }

    async fn exists(&self, table: &str) -> anyhow::Result<bool> {
        Ok(self.text(format!("EXISTS TABLE {table}")).await? == "1")
    }

    fn of_run(&self) -> String {
        format!("ResourceAttributes['{RUN_KEY}'] = '{}'", self.run.name)
    }

    /// How often each number is stored.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(super) async fn stored(&self) -> anyhow::Result<Stored> {
        let mut stored = Stored::default();
        for table in tables() {
            if !self.exists(&table.name).await? {
                continue;
            }
            let rows = self
                .query(format!(
                    "SELECT toUInt64OrDefault({}['{NUMBER_KEY}'], 18446744073709551615) AS number, count() AS rows \
                     FROM {} WHERE {} GROUP BY number ORDER BY number FORMAT RowBinary",
                    table.attributes,
                    table.name,
                    self.of_run()
                ))
                .await?;
            ensure!(rows.len() % 16 == 0, "two numbers a row");
            for row in rows.chunks_exact(16) {
                let (number, rows) = row.split_at(8);
                let number = u64::from_le_bytes(number.try_into()?);
                *stored.rows.entry(number).or_default() += u64::from_le_bytes(rows.try_into()?);
                let at_home = table
                    .remainder
                    .is_none_or(|mine| number % METRIC_TABLES.len() as u64 == mine);
                if !at_home {
                    stored.misplaced.push(number);
                }
            }
        }
        Ok(stored)
    }

    /// Compares the lookup table of traces with the spans: each span of a run is its own trace, so both have as many
    /// rows of each, with the same times.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(super) async fn lookup(&self) -> anyhow::Result<Lookup> {
        if !self.exists("otel_traces").await? || !self.exists("otel_traces_trace_id_ts").await? {
            return Ok(Lookup::default());
        }
        let prefix = format!("{:016x}", self.run.trace_prefix);
        let text = self
            .text(format!(
                "SELECT count(), countIf(spans != lookups OR begun != Begun OR ended != Ended) FROM \
                 (SELECT TraceId, count() AS spans, toDateTime(min(Timestamp)) AS begun, toDateTime(max(Timestamp)) AS ended \
                 FROM otel_traces WHERE startsWith(TraceId, '{prefix}') GROUP BY TraceId) AS a FULL OUTER JOIN \
                 (SELECT TraceId, count() AS lookups, min(Start) AS Begun, max(End) AS Ended \
                 FROM otel_traces_trace_id_ts WHERE startsWith(TraceId, '{prefix}') GROUP BY TraceId) AS b \
                 USING TraceId FORMAT TSV"
            ))
            .await?;
        let (traces, wrong) = text.split_once('\t').context("two numbers")?;
        Ok(Lookup {
            traces: traces.parse()?,
            wrong: wrong.parse()?,
        })
    }

    /// Makes the tables remember in which order blocks came in, through merges.
    ///
    /// # Errors
    /// When the tables are not there.
    pub(super) async fn remember_order(&self) -> anyhow::Result<()> {
        for table in tables() {
            self.query(format!(
                "ALTER TABLE {} MODIFY SETTING enable_block_number_column = 1",
                table.name
            ))
            .await?;
        }
        Ok(())
    }

    /// Whether all tables are there.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(super) async fn are_there(&self) -> anyhow::Result<bool> {
        for table in tables() {
            if !self.exists(&table.name).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether the numbers of each connection ascend from block to block, in every table.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(super) async fn order(&self) -> anyhow::Result<Order> {
        let mut order = Order::default();
        for table in tables() {
            let blocks = self
                .text(format!(
                    "SELECT bitShiftRight(number, {CONNECTION_SHIFT}) AS connection, _block_number AS block, \
                     min(number), max(number) FROM \
                     (SELECT toUInt64({}['{NUMBER_KEY}']) AS number, _block_number FROM {} WHERE {}) \
                     GROUP BY connection, block ORDER BY connection, block FORMAT TSV",
                    table.attributes,
                    table.name,
                    self.of_run()
                ))
                .await?;
            order.check(&table.name, &blocks)?;
        }
        Ok(order)
    }
}

impl Order {
    /// Reads lines of connection, block, least and greatest number, in the order of blocks.
    fn check(&mut self, table: &str, lines: &str) -> anyhow::Result<()> {
        let mut before: Option<(u64, u64)> = None;
        for line in lines.lines() {
            let fields: Vec<u64> = line
                .split('\t')
                .map(str::parse)
                .collect::<Result<_, _>>()
                .with_context(|| format!("four numbers, not `{line}`"))?;
            let &[connection, block, least, greatest] = fields.as_slice() else {
                anyhow::bail!("four numbers, not `{line}`");
            };
            self.blocks += 1;
            if let Some((of, latest)) = before
                && of == connection
                && least <= latest
            {
                self.out_of_order += 1;
                if self.examples.len() < 5 {
                    let mask = (1 << CONNECTION_SHIFT) - 1;
                    self.examples.push(format!(
                        "{table}, connection {connection}: block {block} begins with item {}, an earlier one has {}",
                        least & mask,
                        latest & mask
                    ));
                }
            }
            let latest = match before {
                Some((of, latest)) if of == connection => latest.max(greatest),
                _ => greatest,
            };
            before = Some((connection, latest));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_that_go_back_are_found() {
        let check = |lines: &str, expected| {
            let mut order = Order::default();
            order.check("t", lines).unwrap();
            assert_eq!(order.out_of_order, expected, "{lines}");
        };
        check("", 0);
        check("0\t1\t0\t9\n0\t2\t10\t19\n1\t1\t5\t5\n", 0);
        check("0\t1\t0\t9\n0\t2\t9\t19\n", 1);
        check("0\t1\t10\t19\n0\t2\t0\t9\n0\t3\t15\t15\n0\t4\t20\t21\n", 2);
        assert!(Order::default().check("t", "1\t2\n").is_err());
    }
}
