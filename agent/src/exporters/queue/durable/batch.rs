//! A batch that is in a log: read again, divided, settled.

use std::time::Duration;

use tracing::{debug, error};

use super::super::{Delivery, Keeping, Parts, Settlement, Ticket};
use super::{Queue, Request, now_ms};
use crate::batch::Payload;
use crate::ledger::Custody;
use crate::wal::{Entry, Error, Item, Range};

/// A batch in a log.
#[derive(Debug, Clone)]
pub(in super::super) struct Batch {
    pub(super) queue: Queue,
    pub(super) id: u64,
    pub(super) range: Range,
    /// When its first request came, in milliseconds since 1970.
    pub(super) oldest_ms: u64,
}

impl Batch {
    /// The batch on its way out.
    pub(super) fn delivery(
        self,
        payload: Payload,
        custodies: Vec<Custody>,
        done: Parts,
    ) -> Delivery {
        Delivery {
            payload,
            ticket: Ticket {
                name: format!("{:032x}-{:x}", self.queue.0.log.id(), self.id).into(),
                done: done.clone(),
                log: Some(self.clone()),
            },
            settlement: Settlement {
                custodies,
                acks: Vec::new(),
                done,
                keeping: Keeping::Log(self),
            },
        }
    }

    pub(in super::super) fn part_done(&self, part: &str) {
        self.noted(self.queue.0.log.part_done(self.id, part));
    }

    pub(in super::super) fn done(&self) {
        self.noted(self.queue.0.log.done(self.id));
    }

    pub(in super::super) fn dropped(&self, reason: &str) {
        self.noted(self.queue.0.log.drop_batch(self.id, reason));
    }

    /// A note that is not in the log costs a repetition after the next start, which has the same name.
    fn noted(&self, outcome: Result<(), Error>) {
        if let Err(cause) = outcome {
            debug!(exporter = self.queue.0.exporter, batch = self.id, %cause, "a batch's progress was not noted");
        }
    }

    pub(in super::super) fn oldest_ms(&self) -> u64 {
        self.oldest_ms
    }

    pub(in super::super) fn is_expired(&self) -> bool {
        let age = Duration::from_millis(now_ms().saturating_sub(self.oldest_ms));
        self.queue
            .0
            .settings
            .load()
            .max_age
            .is_some_and(|max| age > max)
    }

    /// Two batches in place of this one, cut after `at` items; `None` if the log cannot do that now.
    pub(in super::super) async fn split(&self, at: usize, done: &Parts) -> Option<[Delivery; 2]> {
        match self.try_split(at, done).await {
            Ok(halves) => halves,
            Err(cause) => {
                error!(exporter = self.queue.0.exporter, batch = self.id, %cause, "a batch could not be divided");
                None
            }
        }
    }

    async fn try_split(&self, at: usize, done: &Parts) -> Result<Option<[Delivery; 2]>, Error> {
        let entries = self.entries().await?;
        let Some(cut) = position_after(&entries, at) else {
            return Ok(None);
        };
        let log = &self.queue.0.log;
        let id = log.split(self.id, vec![cut]).await?;
        let ranges = [(self.range.start, cut, id), (cut, self.range.end, id + 1)];
        let mut halves = ranges.map(|(start, end, id)| {
            let range = Range { start, end };
            let mut inside = entries.clone();
            for entry in &mut inside {
                let part = range.items_of(entry.seq, super::to_u32(entry.payload.items()));
                entry.items = part.start.max(entry.items.start)..part.end.min(entry.items.end);
            }
            inside.retain(|entry| !entry.items.is_empty());
            let oldest_ms = inside.first().map_or(self.oldest_ms, |entry| entry.unix_ms);
            let shares = inside.iter().map(|entry| (entry.origin, entry.items.len()));
            let custodies = self.queue.custodies(shares);
            let payload = self.payload_of(inside);
            let batch = Self {
                queue: self.queue.clone(),
                id,
                range,
                oldest_ms,
            };
            Some(batch.delivery(payload, custodies, done.inherited()))
        });
        let [first, second] = &mut halves;
        Ok(first
            .take()
            .zip(second.take())
            .map(|(first, second)| [first, second]))
    }

    /// The items again.
    pub(in super::super) async fn read(&self) -> Result<Payload, String> {
        let entries = self.entries().await.map_err(|cause| cause.to_string())?;
        Ok(self.payload_of(entries))
    }

    /// The requests of the batch that can be read.
    pub(super) async fn entries(&self) -> Result<Vec<Entry>, Error> {
        let items = self.queue.0.log.read(self.range).await?;
        Ok(items
            .into_iter()
            .filter_map(|item| match item {
                Item::Request(entry) if !entry.items.is_empty() => Some(entry),
                _ => None,
            })
            .collect())
    }

    /// The items of `entries` that are meant.
    pub(super) fn payload_of(&self, entries: Vec<Entry>) -> Payload {
        let mut whole = Payload::default();
        for entry in entries {
            let wanted = entry.items.start as usize..entry.items.end as usize;
            whole.append(crate::gather::part(
                self.queue.0.signal,
                entry.payload,
                wanted,
            ));
        }
        whole
    }
}

/// The place behind the first `items` of `entries`; `None` if there are not more.
fn position_after(entries: &[Entry], items: usize) -> Option<crate::wal::Position> {
    let mut left = items;
    for entry in entries {
        let mut request = Request::of(entry);
        if request.items() > left {
            let front = super::Part::split(&mut request, left);
            return (left > 0)
                .then(|| front.end())
                .or(Some(crate::wal::Position {
                    seq: entry.seq,
                    item: entry.items.start,
                }));
        }
        left -= request.items();
    }
    None
}
