//! A request body that lies in several pieces, written from where they lie.

use std::convert::Infallible;
use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};

/// A sequence of bytes in pieces. Cloning copies a handle, so that every attempt reads the same pieces.
///
/// One piece of a body per frame would be one more frame and one more write for each: HTTP/2 cuts frames out of the rope
/// wherever its limits fall, and HTTP/1 writes all of it in one call.
#[derive(Debug, Clone)]
pub(super) struct Rope {
    pieces: Arc<[Bytes]>,
    /// The piece that comes next.
    at: usize,
    /// How much of it is read.
    offset: usize,
    remaining: usize,
}

impl Rope {
    /// The pieces in order.
    pub(super) fn new(pieces: Vec<Bytes>) -> Self {
        let remaining = pieces.iter().map(Bytes::len).sum();
        Self {
            pieces: pieces.into(),
            at: 0,
            offset: 0,
            remaining,
        }
    }
}

impl Buf for Rope {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn chunk(&self) -> &[u8] {
        // Empty pieces are skipped: a chunk is empty only at the end.
        let mut offset = self.offset;
        for piece in self.pieces.get(self.at..).unwrap_or_default() {
            match piece.get(offset..) {
                Some(rest) if !rest.is_empty() => return rest,
                _ => offset = 0,
            }
        }
        &[]
    }

    fn advance(&mut self, count: usize) {
        assert!(count <= self.remaining, "advanced past the end");
        self.remaining -= count;
        self.offset += count;
        while let Some(piece) = self.pieces.get(self.at)
            && self.offset >= piece.len()
        {
            self.offset -= piece.len();
            self.at += 1;
        }
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut offset = self.offset;
        let mut filled = 0;
        let rests = self
            .pieces
            .get(self.at..)
            .unwrap_or_default()
            .iter()
            .map(|piece| piece.get(std::mem::take(&mut offset)..).unwrap_or_default())
            .filter(|rest| !rest.is_empty());
        for (slice, rest) in slices.iter_mut().zip(rests) {
            *slice = IoSlice::new(rest);
            filled += 1;
        }
        filled
    }
}

/// A body of one frame, the rope.
#[derive(Debug)]
pub(super) struct Message(Option<Rope>);

impl From<Rope> for Message {
    fn from(rope: Rope) -> Self {
        Self(rope.has_remaining().then_some(rope))
    }
}

impl Body for Message {
    type Data = Rope;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Rope>, Infallible>>> {
        Poll::Ready(self.0.take().map(|rope| Ok(Frame::data(rope))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let remaining = self.0.as_ref().map_or(0, Buf::remaining);
        SizeHint::with_exact(remaining as u64)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// However it is read, it is the pieces one after the other.
        #[test]
        fn a_rope_reads_as_its_pieces(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..8),
            steps in prop::collection::vec(1usize..30, 0..40),
        ) {
            let whole = pieces.concat();
            let mut rope = Rope::new(pieces.into_iter().map(Bytes::from).collect());
            let mut read = Vec::new();
            for step in steps {
                prop_assert_eq!(rope.remaining(), whole.len() - read.len());
                prop_assert_eq!(rope.chunk().is_empty(), !rope.has_remaining());
                let mut slices = [IoSlice::new(&[]); 3];
                let filled = rope.chunks_vectored(&mut slices);
                let seen: Vec<u8> = slices.iter().take(filled).flat_map(|slice| slice.iter().copied()).collect();
                prop_assert!(whole[read.len()..].starts_with(&seen));
                prop_assert_eq!(seen.is_empty(), !rope.has_remaining());
                let step = step.min(rope.remaining());
                read.extend_from_slice(&whole[read.len()..read.len() + step]);
                rope.advance(step);
                prop_assert_eq!(&rope.clone().copy_to_bytes(rope.remaining())[..], &whole[read.len()..]);
            }
        }
    }

    #[test]
    fn a_body_is_one_frame_of_known_size() {
        let rope = Rope::new(vec![Bytes::from_static(b"ab"), Bytes::from_static(b"c")]);
        let body = Message::from(rope);
        assert_eq!(body.size_hint().exact(), Some(3));
        assert!(!body.is_end_stream());
        assert!(Message::from(Rope::new(Vec::new())).is_end_stream());
    }
}
