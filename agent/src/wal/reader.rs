//! The one reader of a log: every request once, in order, from memory if it is there still and else from disk.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;

use tokio::task::JoinHandle;

use super::books::Tally;
use super::cursor::{Cursor, Reading, read_some, visit_requests};
use super::entry::{Entry, Item, Loss};
use super::error::Error;
use super::group::Order;
use super::layout::Control;
use super::log::send;
use super::position::{Position, Range};
use super::shared::Shared;
use super::state::OnDisk;

/// Reads a log from the first data that is in no batch. There is one per log.
#[derive(Debug)]
pub struct Reader {
    pub(super) shared: Arc<Shared>,
    /// Read from disk and not given out.
    ready: VecDeque<Item>,
    cursor: Option<Cursor>,
    /// A reading under way; kept here so that dropping the future of [`Reader::next`] loses nothing.
    reading: Option<JoinHandle<Result<Reading, Error>>>,
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            ready: VecDeque::new(),
            cursor: None,
            reading: None,
        }
    }

    /// The next request, waiting for one; `None` once the log is closed. Cancel safe.
    ///
    /// What is given out must be put into batches in this order, with [`super::Log::boundary`], or be given up with
    /// [`Reader::drop_oldest`].
    ///
    /// # Errors
    /// [`Error::Io`] if the disk cannot be read: the next call tries again, [`Reader::skip`] goes past it.
    pub async fn next(&mut self) -> Result<Option<Item>, Error> {
        loop {
            let shared = Arc::clone(&self.shared);
            let readable = shared.readable.notified();
            if let Some(item) = self.try_next().await? {
                return Ok(Some(item));
            }
            if shared.state().closed {
                return Ok(None);
            }
            readable.await;
        }
    }

    /// The next request, if one has been committed. Waits for the disk only. Cancel safe.
    ///
    /// # Errors
    /// As [`Reader::next`].
    pub async fn try_next(&mut self) -> Result<Option<Item>, Error> {
        loop {
            if let Some(item) = self.give_ready() {
                return Ok(Some(item));
            }
            if self.reading.is_none() {
                let mut state = self.shared.state();
                let start = state.read;
                match state.take_recent() {
                    Ok(None) => return Ok(None),
                    Ok(Some(recent)) => {
                        let entry = Entry::from_memory(recent, start);
                        state.hand_out(entry.handed());
                        return Ok(Some(Item::Request(entry)));
                    }
                    Err(OnDisk) => {}
                }
                let range = Range {
                    start,
                    end: state.data_end,
                };
                drop(state);
                self.begin_reading(range);
            }
            self.finish_reading().await?;
        }
    }

    fn begin_reading(&mut self, range: Range) {
        let shared = Arc::clone(&self.shared);
        let cursor = self.cursor.take();
        let read = move || read_some(&shared, cursor, range);
        self.reading = Some(tokio::task::spawn_blocking(read));
    }

    async fn finish_reading(&mut self) -> Result<(), Error> {
        let Some(reading) = &mut self.reading else {
            return Ok(());
        };
        let outcome = reading.await;
        self.reading = None;
        // A reading ends early only with the runtime.
        let Reading { items, cursor } = outcome.map_err(|_| Error::Closed)??;
        self.cursor = cursor;
        if items.is_empty() {
            self.lose_rest();
        }
        self.ready.extend(items);
        Ok(())
    }

    /// Data that should be there is not: what is left of it is lost.
    fn lose_rest(&mut self) {
        let state = self.shared.state();
        if state.read < state.data_end {
            self.ready.push_back(Item::Lost(Loss {
                seqs: state.read.seq..state.data_end.seq,
                bytes: 0,
                request: None,
            }));
        }
    }

    fn give_ready(&mut self) -> Option<Item> {
        loop {
            let item = self.ready.pop_front()?;
            let mut state = self.shared.state();
            if item.first_seq() < state.read.seq {
                continue;
            }
            match &item {
                Item::Request(entry) => {
                    let handed = entry.handed();
                    state.totals.disk_read_bytes += handed.bytes;
                    state.hand_out(handed);
                }
                Item::Lost(loss) => state.lose(loss),
            }
            return Some(item);
        }
    }

    /// Goes past what the disk does not let be read, after [`Error::Io`] again and again: to the next place that is
    /// known, up to 256 KiB on. `None` if there is nothing to skip.
    pub async fn skip(&mut self) -> Option<Loss> {
        // Its failure is why the caller is here.
        self.finish_reading().await.ok();
        let mut state = self.shared.state();
        if state.read >= state.data_end {
            return None;
        }
        let loss = Loss {
            seqs: state.read.seq..state.next_known(),
            bytes: 0,
            request: None,
        };
        state.lose(&loss);
        Some(loss)
    }

    /// Gives up the oldest data that is in no batch, given out or not, in whole requests, until at least `bytes` bytes
    /// of bodies are gone; `None` if there is nothing to give up. Whatever was given out and lies before the end of
    /// what is given up must be forgotten. The reader goes on behind it. Not cancel safe: without the outcome nobody
    /// knows what is gone.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::OutOfOrder`] while a boundary is under way.
    pub async fn drop_oldest(&mut self, bytes: u64, reason: &str) -> Result<Option<Given>, Error> {
        self.give_up(reason, move |tally, _| tally.bytes() >= bytes)
            .await
    }

    /// Gives up data that is in no batch and was appended before `unix_ms`, from the oldest on until the first that
    /// was not. Otherwise as [`Reader::drop_oldest`].
    ///
    /// # Errors
    /// As [`Reader::drop_oldest`].
    pub async fn expire(&mut self, unix_ms: u64, reason: &str) -> Result<Option<Given>, Error> {
        self.give_up(reason, move |_, appended| appended >= unix_ms)
            .await
    }

    /// Gives up requests until `enough` says so of what has been given up and the time of the next.
    async fn give_up(
        &self,
        reason: &str,
        enough: impl Fn(&Tally, u64) -> bool + Send + 'static,
    ) -> Result<Option<Given>, Error> {
        let shared = Arc::clone(&self.shared);
        let measure = move || measure(&shared, enough);
        let given = tokio::task::spawn_blocking(measure)
            .await
            .map_err(|_| Error::Closed)??;
        if given.range.end <= given.range.start {
            return Ok(None);
        }
        let order = Order::Control {
            control: Control::DroppedRange {
                range: given.range,
                reason: reason.to_owned(),
            },
            tallies: vec![given.tally.clone()],
            applied: false,
        };
        send(&self.shared, order).await?;
        Ok(Some(given))
    }
}

/// Data given up before it was in a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// From where to where.
    pub range: Range,
    /// What was in there.
    pub tally: Tally,
}

fn measure(shared: &Shared, enough: impl Fn(&Tally, u64) -> bool) -> Result<Given, Error> {
    let (start, data_end) = {
        let state = shared.state();
        (state.books.batched(), state.data_end)
    };
    let mut range = Range { start, end: start };
    let rest = Range {
        start,
        end: data_end,
    };
    let mut tally = Tally::default();
    visit_requests(shared, start.seq, |header| {
        if header.seq >= data_end.seq || enough(&tally, header.unix_ms) {
            return ControlFlow::Break(());
        }
        let count = (header.items, u64::from(header.body_len));
        tally.add_part(rest, header.seq, header.origin, count);
        range.end = Position::after(header.seq);
        ControlFlow::Continue(())
    })?;
    Ok(Given { range, tally })
}
