//! Whether tables remember the tokens of inserts: without that, an insert sent twice is stored twice.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use tracing::{info, warn};

use super::{Layout, ddl};
use crate::exporters::clickhouse::encode::Table;
use crate::exporters::clickhouse::failure::{Class, Failure};
use crate::signal::Signal;
use crate::telemetry::{Telemetry, names};

/// The window of tables whose engine is not replicated; 0 unless somebody sets it.
const PLAIN_WINDOW: &str = "non_replicated_deduplication_window";
/// The window of replicated tables; there by default.
const REPLICATED_WINDOW: &str = "replicated_deduplication_window";

/// What a table does with an insert that it has seen before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Memory {
    /// Skips it.
    On,
    /// Stores it again, until this setting is more than 0.
    Off { setting: &'static str },
    /// Skips it, but the other servers of the exporter know nothing of it: each has a table of its own.
    Alone,
    /// It cannot be told, because of this.
    Unknown { why: String },
}

/// The windows of tables that do not set their own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Defaults {
    plain: u64,
    replicated: u64,
}

impl Memory {
    /// Judges by the engine, and by its parameters and settings as `system.tables` has them; `several` servers take the
    /// same blocks.
    fn of(engine: &str, engine_full: &str, defaults: Defaults, several: bool) -> Self {
        if !engine.ends_with("MergeTree") {
            let why = format!("its engine is {engine}, and the tables behind it are not looked at");
            return Self::Unknown { why };
        }
        let replicated = engine.starts_with("Replicated") || engine.starts_with("Shared");
        let (setting, default) = match replicated {
            true => (REPLICATED_WINDOW, defaults.replicated),
            false => (PLAIN_WINDOW, defaults.plain),
        };
        match setting_in(engine_full, setting).unwrap_or(default) {
            0 => Self::Off { setting },
            _ if several && !replicated => Self::Alone,
            _ => Self::On,
        }
    }
}

/// The number that a table's `SETTINGS` give to `name`.
fn setting_in(engine_full: &str, name: &str) -> Option<u64> {
    let (_, settings) = engine_full.rsplit_once("SETTINGS ")?;
    settings.split(',').find_map(|setting| {
        let (key, value) = setting.split_once('=')?;
        (key.trim() == name).then(|| value.trim().trim_matches('\'').parse().ok())?
    })
}

/// Looks what the tables of a signal remember.
///
/// # Errors
/// When the server cannot be asked. That it does not let us look is an answer.
async fn look(
    client: &clickhouse::Client,
    layout: &Layout,
    signal: Signal,
    several: bool,
) -> Result<BTreeMap<String, Memory>, Failure> {
    let tables = tables_of(layout, signal);
    let memories = match look_closely(client, layout, &tables, several).await {
        Ok(memories) => memories,
        Err(failure) if matches!(failure.class, Class::Unreachable | Class::Unavailable) => {
            return Err(failure);
        }
        Err(failure) => {
            let why = format!("the server does not let us look: {failure}");
            let unknown = Memory::Unknown { why };
            return Ok(tables
                .into_iter()
                .map(|table| (table, unknown.clone()))
                .collect());
        }
    };
    Ok(memories)
}

/// The tables that inserts of a signal go to, the one behind the view included.
fn tables_of(layout: &Layout, signal: Signal) -> Vec<String> {
    let names = Table::of(signal)
        .iter()
        .map(|table| layout.names.of(*table).to_owned());
    let lookup = (signal == Signal::Traces).then(|| ddl::lookup_table(&layout.names.traces));
    names.chain(lookup).collect()
}

async fn look_closely(
    client: &clickhouse::Client,
    layout: &Layout,
    tables: &[String],
    several: bool,
) -> Result<BTreeMap<String, Memory>, Failure> {
    let defaults = Defaults {
        plain: default_window(client, "merge_tree_settings", PLAIN_WINDOW).await?,
        replicated: default_window(client, "replicated_merge_tree_settings", REPLICATED_WINDOW)
            .await?,
    };
    let list: Vec<String> = tables.iter().map(|table| ddl::literal(table)).collect();
    let sql = format!(
        "SELECT name, engine, engine_full FROM system.tables WHERE database = {} AND name IN ({})",
        ddl::literal(&layout.database),
        list.join(", "),
    );
    let rows: Vec<(String, String, String)> = client.query_raw(&sql).fetch_all().await?;
    Ok(rows
        .into_iter()
        .map(|(name, engine, full)| {
            let memory = Memory::of(&engine, &full, defaults, several);
            (name, memory)
        })
        .collect())
}

async fn default_window(
    client: &clickhouse::Client,
    table: &str,
    setting: &str,
) -> Result<u64, Failure> {
    let sql = format!("SELECT value FROM system.{table} WHERE name = '{setting}'");
    let value: Option<String> = client.query_raw(&sql).fetch_optional().await?;
    Ok(value.and_then(|value| value.parse().ok()).unwrap_or(0))
}

/// Watches over the promise of an exporter that every row is stored once: says when it does not hold, and serves it.
pub(crate) struct Watch {
    exporter: String,
    telemetry: Telemetry,
    /// Whether a block that one server may have can go to another.
    several: bool,
    /// Guards whether each table on each server is known to skip what it has.
    kept: Mutex<BTreeMap<(String, String), bool>>,
}

impl Watch {
    /// Has seen nothing yet of the exporter's so many `servers`.
    pub(crate) fn new(exporter: &str, telemetry: &Telemetry, servers: usize) -> Self {
        Self {
            exporter: exporter.to_owned(),
            telemetry: telemetry.clone(),
            several: servers > 1,
            kept: Mutex::default(),
        }
    }

    /// Looks at the tables of `signal` on `server`; whether the promise holds for all of them.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub(super) async fn look(
        &self,
        server: &str,
        client: &clickhouse::Client,
        layout: &Layout,
        signal: Signal,
    ) -> Result<bool, Failure> {
        let memories = look(client, layout, signal, self.several).await?;
        for (table, memory) in &memories {
            self.note(server, layout, table, memory);
        }
        Ok(memories.values().all(|memory| *memory == Memory::On))
    }

    /// Serves the state and logs it if it has changed.
    fn note(&self, server: &str, layout: &Layout, table: &str, memory: &Memory) {
        let on = *memory == Memory::On;
        let (before, everywhere) = {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            let before = kept.insert((server.to_owned(), table.to_owned()), on);
            let everywhere = kept.iter().all(|((_, name), on)| name != table || *on);
            (before, everywhere)
        };
        self.telemetry
            .gauge(&names::CLICKHOUSE_EXACTLY_ONCE, &[&self.exporter, table])
            .set(i64::from(everywhere));
        let exporter = &self.exporter;
        match memory {
            Memory::On if before == Some(false) => {
                info!(
                    exporter,
                    server, table, "exactly-once is on for this table again"
                );
            }
            Memory::On => {}
            _ if before == Some(false) => {}
            Memory::Off { setting } => warn!(
                exporter,
                server,
                table,
                remedy = ddl::remember(layout, table, setting),
                "exactly-once is off for this table: it does not remember inserts, so that one sent again after a lost \
                 answer is stored twice; the remedy turns it on, `delivery = \"at_least_once\"` accepts it"
            ),
            Memory::Alone => warn!(
                exporter,
                server,
                table,
                "exactly-once is off for this table: each of the exporter's servers has its own, so that a block sent to \
                 the next server after a lost answer may be stored on both; give the servers one Replicated...MergeTree, \
                 or each server an exporter of its own; `delivery = \"at_least_once\"` accepts it"
            ),
            Memory::Unknown { why } => warn!(
                exporter,
                server,
                table,
                why,
                "exactly-once cannot be vouched for: see that the table remembers inserts \
                 (replicated_deduplication_window, non_replicated_deduplication_window), or accept it with \
                 `delivery = \"at_least_once\"`"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_and_settings_tell_what_is_remembered() {
        let defaults = Defaults {
            plain: 0,
            replicated: 10_000,
        };
        let check = |engine: &str, settings: &str, expected: &str| {
            let full = format!("{engine}('a') PARTITION BY d ORDER BY ('SETTINGS x', b){settings}");
            for several in [false, true] {
                let said = match Memory::of(engine, &full, defaults, several) {
                    Memory::On => "on".to_owned(),
                    Memory::Off { setting } => format!("off: {setting}"),
                    Memory::Alone => "alone".to_owned(),
                    Memory::Unknown { .. } => "unknown".to_owned(),
                };
                let lonely = several && expected == "on" && !engine.starts_with(['R', 'S']);
                let expected = if lonely { "alone" } else { expected };
                assert_eq!(said, expected, "{full}, several servers: {several}");
            }
        };
        let plain_off = "off: non_replicated_deduplication_window";
        let replicated_off = "off: replicated_deduplication_window";
        check("MergeTree", "", plain_off);
        check("MergeTree", " SETTINGS index_granularity = 8192", plain_off);
        check(
            "MergeTree",
            " SETTINGS index_granularity = 8192, non_replicated_deduplication_window = 100",
            "on",
        );
        check(
            "ReplacingMergeTree",
            " SETTINGS non_replicated_deduplication_window = 0, index_granularity = 8192",
            plain_off,
        );
        // The other kind's setting means nothing.
        check(
            "MergeTree",
            " SETTINGS replicated_deduplication_window = 100",
            plain_off,
        );
        check("ReplicatedMergeTree", "", "on");
        check("SharedMergeTree", "", "on");
        check(
            "ReplicatedMergeTree",
            " SETTINGS replicated_deduplication_window = 0",
            replicated_off,
        );
        check("Distributed", "", "unknown");
        check("Null", "", "unknown");
    }

    #[test]
    fn a_server_may_remember_by_default() {
        let defaults = Defaults {
            plain: 5,
            replicated: 0,
        };
        assert_eq!(
            Memory::of("MergeTree", "MergeTree ORDER BY a", defaults, false),
            Memory::On
        );
        assert_eq!(
            Memory::of(
                "ReplicatedMergeTree",
                "ReplicatedMergeTree ORDER BY a",
                defaults,
                true
            ),
            Memory::Off {
                setting: REPLICATED_WINDOW
            }
        );
    }
}
