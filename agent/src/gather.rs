//! Gathering requests and taking items out in order: what batches are made from.
//!
//! Merging moves handles to the request bytes and copies nothing; only a request that is divided is copied, once.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use crate::batch::{Chunk, Payload};
use crate::otlp::Splitter;
use crate::signal::Signal;

/// When a batch is complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batching {
    /// The processor that was told so, whose metrics tell of the batches; `None` if the queue itself was.
    pub processor: Option<String>,
    /// How long an item waits for others at most; zero means not at all.
    pub timeout: Duration,
    /// Items that complete a batch.
    pub size: usize,
    /// Items in a batch at most.
    pub max_size: Option<usize>,
}

impl Default for Batching {
    /// Every request is a batch.
    fn default() -> Self {
        Self {
            processor: None,
            timeout: Duration::ZERO,
            size: 0,
            max_size: None,
        }
    }
}

/// Requests that wait, in order. One that went in part stays in front with its [`Splitter`].
pub struct Gather {
    signal: Signal,
    cut: Option<Cut>,
    chunks: VecDeque<Chunk>,
    /// Items in `cut` and `chunks`.
    items: usize,
}

/// A request of which some items have gone already.
struct Cut {
    splitter: Splitter,
    chunk: Chunk,
    /// Items that have not gone yet; at least 1.
    left: usize,
}

impl Gather {
    /// Holds nothing yet.
    pub fn new(signal: Signal) -> Self {
        Self {
            signal,
            cut: None,
            chunks: VecDeque::new(),
            items: 0,
        }
    }

    /// Spans, log records or data points that wait.
    pub fn items(&self) -> usize {
        self.items
    }

    /// Appends requests.
    pub fn append(&mut self, payload: Payload) {
        self.items += payload.items();
        self.chunks.extend(payload.into_chunks());
    }

    /// Takes the first `items`, or all there are.
    pub fn take(&mut self, items: usize) -> Payload {
        let mut front = Payload::default();
        while front.items() < items {
            let room = items - front.items();
            let Some(chunk) = self.take_chunk(room) else {
                break;
            };
            front.push(chunk);
        }
        self.items -= front.items();
        debug_assert_eq!(
            self.items == 0,
            self.cut.is_none() && self.chunks.is_empty()
        );
        front
    }

    /// The next request whole, or as much of it as has at most `room` items.
    fn take_chunk(&mut self, room: usize) -> Option<Chunk> {
        if let Some(cut) = &mut self.cut {
            let piece = cut.take(room);
            if cut.left == 0 {
                self.cut = None;
            }
            return piece;
        }
        let chunk = self.chunks.pop_front()?;
        if chunk.items() <= room {
            return Some(chunk);
        }
        let cut = self.cut.insert(Cut {
            splitter: Splitter::new(self.signal, chunk.bytes().clone()),
            left: chunk.items(),
            chunk,
        });
        cut.take(room)
    }
}

impl Cut {
    /// The next items, at most `room`.
    fn take(&mut self, room: usize) -> Option<Chunk> {
        let piece = self
            .splitter
            .take(room)
            .map(|(bytes, items)| self.chunk.derive(bytes, items));
        // The splitter finds as many items as the check counted; were it fewer, the rest must not be waited for.
        self.left = piece
            .as_ref()
            .map_or(0, |piece| self.left.saturating_sub(piece.items()));
        piece
    }
}

/// The items of `payload` that are in `wanted`, counted from 0.
pub fn part(signal: Signal, payload: Payload, wanted: Range<usize>) -> Payload {
    if wanted.start == 0 && wanted.end >= payload.items() {
        return payload;
    }
    let mut gather = Gather::new(signal);
    gather.append(payload);
    if wanted.start > 0 {
        drop(gather.take(wanted.start));
    }
    gather.take(wanted.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::request;

    #[test]
    fn a_part_is_the_same_whatever_was_taken_before() {
        for signal in Signal::ALL {
            let whole: Payload = request(signal, "checkout", 10).into();
            assert_eq!(
                part(signal, whole.clone(), 0..10).to_bytes(),
                whole.to_bytes()
            );
            let mut gather = Gather::new(signal);
            gather.append(whole.clone());
            let mut start = 0;
            for length in [3, 1, 4, 2] {
                let taken = gather.take(length);
                assert_eq!(taken.items(), length);
                let again = part(signal, whole.clone(), start..start + length);
                assert_eq!(again.to_bytes(), taken.to_bytes(), "{signal} {start}");
                start += length;
            }
            assert_eq!(gather.items(), 0);
        }
    }
}
