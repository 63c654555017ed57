//! What the sink has received.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use super::clickhouse::Pending;
use super::distinct::Distinct;

/// Inserts wait in memory to be counted when somebody asks, up to this many bytes; further ones are counted
/// as they come. Counting later keeps the sink cheap while a measurement runs.
const PENDING_BYTES_MAX: usize = 512 << 20;
/// Statements the sink could not answer, kept as examples.
const EXAMPLES_MAX: usize = 16;
const EXAMPLE_CHARACTERS_MAX: usize = 300;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Received {
    pub(crate) requests: u64,
    /// Body bytes as received, without HTTP framing.
    pub(crate) bytes: u64,
    /// Rows or items, where they are counted.
    pub(crate) items: u64,
    /// Of those, how many came before with the same content, where that is looked for and they are not too many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) duplicated: Option<u64>,
    /// Requests whose items could not be counted.
    pub(crate) uncounted: u64,
    /// Why the last of them could not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) problem: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Snapshot {
    /// Inserts by table.
    pub(crate) tables: BTreeMap<String, Received>,
    /// OTLP requests by signal and protocol, such as `traces over HTTP`.
    pub(crate) otlp: BTreeMap<String, Received>,
    /// Statements other than inserts by their first word.
    pub(crate) statements: BTreeMap<String, u64>,
    /// Some statements that the sink could not answer.
    pub(crate) unknown_statements: Vec<String>,
    /// Blocks that were sent again with the token of one that was taken, by table. They count in nothing else.
    pub(crate) deduplicated_blocks: BTreeMap<String, u64>,
    /// Requests answered with an error on purpose.
    pub(crate) injected_errors: u64,
    /// Requests refused because a limit was reached, by limit.
    pub(crate) refused: BTreeMap<&'static str, u64>,
}

impl Snapshot {
    /// Rows in all of the tables that carry items, and OTLP items.
    pub(crate) fn items(&self) -> u64 {
        self.tables
            .values()
            .chain(self.otlp.values())
            .map(|received| received.items)
            .sum()
    }

    pub(crate) fn requests(&self) -> u64 {
        self.tables
            .values()
            .chain(self.otlp.values())
            .map(|received| received.requests)
            .sum()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.tables
            .values()
            .chain(self.otlp.values())
            .map(|received| received.bytes)
            .sum()
    }

    pub(crate) fn uncounted(&self) -> u64 {
        self.tables
            .values()
            .chain(self.otlp.values())
            .map(|received| received.uncounted)
            .sum()
    }
}

/// What a body holds.
#[derive(Debug)]
pub(crate) enum Found {
    /// So many items.
    Number(u64),
    /// One item for each, with its content in 64 bits.
    Prints(Vec<u64>),
}

#[derive(Debug, Default)]
pub(crate) struct Stats {
    /// Held while a few numbers are added, or the contents of a request that came before are looked for.
    inner: Mutex<Inner>,
    /// Held while pending inserts are counted, so that nobody reads between taking and adding.
    counting: Mutex<()>,
}

#[derive(Debug, Default)]
struct Inner {
    snapshot: Snapshot,
    distinct: Distinct,
    pending: Vec<Pending>,
    pending_bytes: usize,
}

impl Stats {
    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an insert whose rows nobody asks for.
    pub(super) fn inserted(&self, table: String, bytes: u64) {
        let mut inner = self.inner();
        let received = inner.snapshot.tables.entry(table).or_default();
        received.requests += 1;
        received.bytes += bytes;
    }

    /// Counts an insert, its rows later if there is room for it until then.
    pub(super) fn inserted_to_count(&self, pending: Pending, bytes: u64) {
        {
            let mut inner = self.inner();
            let received = inner
                .snapshot
                .tables
                .entry(pending.table.clone())
                .or_default();
            received.requests += 1;
            received.bytes += bytes;
            if inner.pending_bytes + pending.bytes() <= PENDING_BYTES_MAX {
                inner.pending_bytes += pending.bytes();
                inner.pending.push(pending);
                return;
            }
        }
        // This one alone: all at once would keep clients waiting for seconds, who then send again.
        self.count(&pending);
    }

    /// Counts a block that was taken before.
    pub(super) fn deduplicated(&self, table: String) {
        let mut inner = self.inner();
        let blocks = inner.snapshot.deduplicated_blocks.entry(table);
        *blocks.or_default() += 1;
    }

    /// Counts an OTLP request with items `of` a signal; `items` is why they could not be counted, or what was asked for.
    pub(super) fn received(&self, kind: &str, of: &str, bytes: u64, items: Result<Found, String>) {
        let mut inner = self.inner();
        let Inner {
            snapshot, distinct, ..
        } = &mut *inner;
        let received = snapshot.otlp.entry(kind.to_owned()).or_default();
        received.requests += 1;
        received.bytes += bytes;
        received.add(of, items, distinct);
    }

    pub(super) fn asked(&self, statement: &str, answered: bool) {
        let word = statement
            .split_ascii_whitespace()
            .next()
            .unwrap_or("")
            .to_ascii_uppercase();
        let word = word.chars().take(20).collect();
        let mut inner = self.inner();
        *inner.snapshot.statements.entry(word).or_default() += 1;
        if !answered && inner.snapshot.unknown_statements.len() < EXAMPLES_MAX {
            let example = statement.chars().take(EXAMPLE_CHARACTERS_MAX).collect();
            inner.snapshot.unknown_statements.push(example);
        }
    }

    pub(super) fn error_injected(&self) {
        self.inner().snapshot.injected_errors += 1;
    }

    pub(super) fn refused(&self, limit: &'static str) {
        *self.inner().snapshot.refused.entry(limit).or_default() += 1;
    }

    fn count_pending(&self) {
        let _one_at_a_time = self.counting.lock().unwrap_or_else(PoisonError::into_inner);
        let pending = {
            let mut inner = self.inner();
            inner.pending_bytes = 0;
            std::mem::take(&mut inner.pending)
        };
        for insert in pending {
            self.count(&insert);
        }
    }

    fn count(&self, insert: &Pending) {
        let rows = insert.count();
        let mut inner = self.inner();
        let Inner {
            snapshot, distinct, ..
        } = &mut *inner;
        let received = snapshot.tables.entry(insert.table.clone()).or_default();
        received.add(&insert.table, rows, distinct);
    }

    /// Everything received so far, with all rows counted, which may take seconds: not for a thread that serves.
    pub(crate) fn snapshot(&self) -> Snapshot {
        self.count_pending();
        let inner = self.inner();
        let mut snapshot = inner.snapshot.clone();
        if inner.distinct.is_full() {
            let all = snapshot
                .tables
                .values_mut()
                .chain(snapshot.otlp.values_mut());
            all.for_each(|received| received.duplicated = None);
        }
        snapshot
    }
}

impl Received {
    fn add(&mut self, of: &str, items: Result<Found, String>, distinct: &mut Distinct) {
        match items {
            Ok(Found::Number(items)) => self.items += items,
            Ok(Found::Prints(prints)) => {
                self.items += prints.len() as u64;
                *self.duplicated.get_or_insert(0) += distinct.add(of, &prints);
            }
            Err(problem) => {
                self.uncounted += 1;
                self.problem = Some(problem);
            }
        }
    }
}
