//! A batch made ready to send: framed, encoded or compressed once, and kept for every attempt.

use std::sync::LazyLock;

use bytes::Bytes;
use tokio::sync::Semaphore;

use super::compress::Method;
use super::options::Format;
use super::rope::Rope;
use crate::batch::Payload;
use crate::otlp::json;
use crate::signal::Signal;

/// The compression flag and the length before a gRPC message.
pub(super) const PREFIX: usize = 5;

/// How batches become request bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Packing {
    /// The wire format or JSON.
    pub(super) format: Format,
    /// The compression.
    pub(super) method: Method,
    /// Whether the body is a gRPC message.
    pub(super) grpc: bool,
}

/// A request body that can be sent any number of times.
#[derive(Debug)]
pub(super) struct Packed {
    /// The body.
    pub(super) body: Rope,
    /// Its length.
    pub(super) byte_len: usize,
    /// Spans, log records or data points in it.
    pub(super) items: usize,
    /// What the body's pieces are cut from, with the memory reserved for it; `None` where the body is a copy.
    _source: Option<Payload>,
}

/// A batch of this many bytes is compressed in a millisecond or two: requests can wait for that.
const AT_ONCE_MAX: usize = 64 << 10;

/// Batches that are compressed or written as JSON at a time, for all exporters: one for each processor, as if the runtime's own
/// threads did it. After a reload each worker prepares a batch anew.
static PACKING: LazyLock<Semaphore> = LazyLock::new(|| {
    let processors = std::thread::available_parallelism();
    Semaphore::new(processors.map_or(1, std::num::NonZero::get))
});

impl Packing {
    /// As [`Packing::pack`]. What takes long is done beside the runtime's threads, so that no request has to wait for it: a
    /// batch of 8,192 spans is compressed in 80 ms.
    ///
    /// # Errors
    /// Why it can never be sent.
    pub(super) async fn pack_beside(
        self,
        signal: Signal,
        payload: Payload,
    ) -> Result<Packed, String> {
        let is_plain = self.format == Format::Proto && self.method.is_none();
        if is_plain || payload.byte_len() <= AT_ONCE_MAX {
            return self.pack(signal, payload);
        }
        let _permit = PACKING.acquire().await.expect("it is never closed");
        let packing = tokio::task::spawn_blocking(move || self.pack(signal, payload));
        match packing.await {
            Ok(packed) => packed,
            Err(ended) => match ended.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // Only because the runtime ends, and this with it.
                Err(_) => std::future::pending().await,
            },
        }
    }

    /// The body of `payload`. Without compression, in the wire format, no byte is copied.
    ///
    /// # Errors
    /// Why it can never be sent.
    pub(super) fn pack(self, signal: Signal, payload: Payload) -> Result<Packed, String> {
        let items = payload.items();
        let (pieces, source) = match (self.format, self.method.is_none()) {
            (Format::Proto, true) => {
                let chunks = payload.chunks().iter();
                let pieces: Vec<Bytes> = chunks.map(|chunk| chunk.bytes().clone()).collect();
                (pieces, Some(payload))
            }
            (Format::Proto, false) => {
                let bytes = self.method.compress(&payload.to_bytes(), self.grpc)?;
                (vec![bytes], None)
            }
            (Format::Json, plain) => {
                let text = to_json(signal, &payload)?;
                let bytes = if plain {
                    text.into()
                } else {
                    self.method.compress(&text, self.grpc)?
                };
                (vec![bytes], None)
            }
        };
        let pieces = if self.grpc {
            self.framed(pieces)?
        } else {
            pieces
        };
        let byte_len = pieces.iter().map(Bytes::len).sum();
        Ok(Packed {
            body: Rope::new(pieces),
            byte_len,
            items,
            _source: source,
        })
    }

    /// A gRPC message: its flag and length, then itself.
    fn framed(self, message: Vec<Bytes>) -> Result<Vec<Bytes>, String> {
        let length: usize = message.iter().map(Bytes::len).sum();
        let length = u32::try_from(length).map_err(|_| {
            format!("a batch of {length} bytes is too large for a gRPC message; set send_batch_max_size on `batch`")
        })?;
        let [a, b, c, d] = length.to_be_bytes();
        let prefix: [u8; PREFIX] = [u8::from(!self.method.is_none()), a, b, c, d];
        let mut pieces = Vec::with_capacity(message.len() + 1);
        pieces.push(Bytes::copy_from_slice(&prefix));
        pieces.extend(message);
        Ok(pieces)
    }
}

fn to_json(signal: Signal, payload: &Payload) -> Result<Vec<u8>, String> {
    // Names and quotes about double the wire format.
    let mut text = Vec::with_capacity(payload.byte_len().saturating_mul(2));
    let chunks = payload.chunks().iter().map(|chunk| &chunk.bytes()[..]);
    json::encode(signal, chunks, &mut text).map_err(|error| format!("encode as JSON: {error}"))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use bytes::Buf;

    use super::super::options::Compression;
    use super::*;
    use crate::testing::request;

    fn packing(format: Format, compression: Compression, grpc: bool) -> Packing {
        Packing {
            format,
            method: Method::new(compression, 0).unwrap(),
            grpc,
        }
    }

    fn payload() -> Payload {
        let mut payload = Payload::from(request(Signal::Traces, "checkout", 3));
        payload.push(request(Signal::Traces, "cart", 2));
        payload
    }

    #[test]
    fn plain_requests_are_the_bytes_that_arrived_where_they_lie() {
        let payload = payload();
        let first = payload.chunks()[0].bytes().clone();
        let whole = payload.to_bytes();
        let packed = packing(Format::Proto, Compression::None, false)
            .pack(Signal::Traces, payload)
            .unwrap();
        assert_eq!(packed.body.chunk().as_ptr(), first.as_ptr());
        assert_eq!((packed.items, packed.byte_len), (5, whole.len()));
        let mut body = packed.body;
        assert_eq!(body.copy_to_bytes(body.remaining()), whole);
    }

    #[test]
    fn a_grpc_message_has_its_flag_and_length() {
        let check = |compression, flag: u8| {
            let packing = packing(Format::Proto, compression, true);
            let mut body = packing.pack(Signal::Traces, payload()).unwrap().body;
            assert_eq!(body.get_u8(), flag);
            assert_eq!(body.get_u32() as usize, body.remaining());
        };
        check(Compression::None, 0);
        check(Compression::Gzip, 1);
    }

    #[test]
    fn json_is_one_document() {
        let packed = packing(Format::Json, Compression::None, false)
            .pack(Signal::Traces, payload())
            .unwrap();
        let mut body = packed.body;
        let text = body.copy_to_bytes(body.remaining());
        let document: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(document["resourceSpans"].as_array().unwrap().len(), 2);
    }
}
