//! One signal's way in, for both protocols: read, inflate, check, hand over, wait for the answer.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;

use super::decompress;
use super::encoding::Encoding;
use super::heavy::{self, is_heavy};
use super::problem::Problem;
use super::room::{DecodeRoom, Room};
use crate::ack::{Ack, Answer, Rejected};
use crate::batch::{Batch, Chunk, Transport};
use crate::component::{Intake, RequestFailure};
use crate::memory::Reservation;
use crate::otlp::{self, json};
use crate::signal::Signal;
use crate::telemetry::spans::SpanKind;

/// How a request is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// The protobuf wire format.
    Protobuf,
    /// OTLP/JSON.
    Json,
}

/// A request's bytes and the memory reserved for them.
pub(super) type Held = (Bytes, Reservation);

/// One signal's entrance by one protocol.
pub(super) struct Door {
    pub(super) signal: Signal,
    pub(super) transport: Transport,
    pub(super) intake: Arc<dyn Intake>,
    /// Bytes of a request, before and after decompression.
    pub(super) size_max: usize,
    pub(super) spans: SpanKind,
}

impl Door {
    /// A buffer for a request.
    pub(super) fn room(&self) -> Room<'_> {
        Room::new(self.intake.as_ref(), self.size_max)
    }

    /// Takes the request that `read` gathers, of `declared` bytes if it told them, and resolves when somebody has taken
    /// responsibility for it: to what was declined of it, if anything.
    ///
    /// Dropping the future before the request is complete loses nothing: nobody was told that it was accepted. Dropping it
    /// afterwards leaves the batch on its way.
    ///
    /// # Errors
    /// Why the request was not accepted. It is counted.
    pub(super) async fn receive(
        &self,
        read: impl Future<Output = Result<(Held, Encoding), Problem>>,
        format: Format,
        declared: Option<usize>,
    ) -> Result<Option<Rejected>, Problem> {
        let attempt = Attempt::new(self);
        let mut span = self.spans.start();
        let understood = match read.await {
            Ok((held, encoding)) if is_heavy(&held.0, encoding, format, self.size_max) => {
                heavy::beside(|| self.understand(held, encoding, format)).await
            }
            Ok((held, encoding)) => self.understand(held, encoding, format),
            Err(problem) => Err(problem),
        };
        match understood {
            Ok(request) => {
                attempt.ends_well();
                span.carries(request.chunk.items(), request.chunk.bytes().len());
                let outcome = self.hand_over(request).await;
                if let Err(problem) = &outcome {
                    span.fails(|| problem.message());
                }
                outcome
            }
            Err(problem) => {
                span.fails(|| problem.message());
                attempt.fails(problem.failure(declared));
                Err(problem)
            }
        }
    }

    fn understand(
        &self,
        held: Held,
        encoding: Encoding,
        format: Format,
    ) -> Result<Request, Problem> {
        let held = self.expand(held, encoding)?;
        let (bytes, mut reserved) = match format {
            Format::Protobuf => held,
            Format::Json => self.decode(held)?,
        };
        let before = bytes.as_ptr();
        let checked = otlp::check(self.signal, bytes)
            .map_err(|error| Problem::Malformed(format!("unmarshal: {error}")))?;
        if checked.bytes.as_ptr() != before {
            reserved.resize(checked.bytes.len());
        }
        Ok(Request {
            chunk: Chunk::reserved(checked.bytes, checked.items, reserved),
            repaired: checked.repaired_strings,
        })
    }

    fn expand(&self, held: Held, encoding: Encoding) -> Result<Held, Problem> {
        if encoding == Encoding::Identity {
            return Ok(held);
        }
        let mut room = self.room();
        decompress::inflate(encoding, &held.0, &mut room)?;
        room.finish()
    }

    /// The wire format of a JSON request. It is nearly always shorter than half the text; arrays of numbers are not.
    fn decode(&self, held: Held) -> Result<Held, Problem> {
        let (text, _reserved) = held;
        let mut room = DecodeRoom::new(self.room(), text.len() / 2)?;
        match json::decode_to(self.signal, &text, &mut room) {
            Ok(()) => room.finish(),
            Err(error) => Err(room
                .take_problem()
                .unwrap_or_else(|| Problem::Malformed(format!("unmarshal: {error}")))),
        }
    }

    async fn hand_over(&self, request: Request) -> Result<Option<Rejected>, Problem> {
        if request.repaired > 0 {
            self.intake.count_repaired(self.transport, request.repaired);
        }
        if request.chunk.items() == 0 {
            return Ok(None);
        }
        let (ack, answered) = Ack::channel();
        let batch = Batch {
            signal: self.signal,
            payload: request.chunk.into(),
            ack,
        };
        self.intake.submit(batch, self.transport);
        match answered.await {
            Answer::Delivered | Answer::Queued => Ok(None),
            Answer::Partial(rejected) => Ok(Some(rejected)),
            Answer::Refused(refusal) => Err(Problem::Refused(refusal)),
        }
    }
}

/// A request that was understood.
struct Request {
    chunk: Chunk,
    /// Strings repaired.
    repaired: usize,
}

/// A request that has not become a batch yet. It is counted however it ends, also when its client goes away.
struct Attempt<'a> {
    door: &'a Door,
    open: bool,
}

impl<'a> Attempt<'a> {
    fn new(door: &'a Door) -> Self {
        Self { door, open: true }
    }

    fn ends_well(mut self) {
        self.open = false;
    }

    fn fails(mut self, failure: RequestFailure) {
        self.open = false;
        self.door.intake.count_failure(self.door.transport, failure);
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if self.open {
            self.door
                .intake
                .count_failure(self.door.transport, RequestFailure::Failed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;
    use crate::ack::Refusal;
    use crate::memory::HeldBytes;
    use crate::telemetry::Telemetry;

    /// Memory is admitted only once another task of the runtime has run meanwhile.
    struct Waiting {
        runtime: tokio::runtime::Handle,
        held: HeldBytes,
        waited: Mutex<Vec<bool>>,
    }

    impl Intake for Waiting {
        fn admit(&self, bytes: usize) -> Result<Reservation, Refusal> {
            let (sender, receiver) = channel();
            self.runtime.spawn(async move { sender.send(()) });
            let ran = receiver.recv_timeout(Duration::from_secs(20)).is_ok();
            self.waited.lock().unwrap().push(ran);
            Ok(self.held.reserve(bytes))
        }

        fn submit(&self, batch: Batch, _transport: Transport) {
            batch.ack.answer(Answer::Delivered);
        }

        fn count_failure(&self, _transport: Transport, _failure: RequestFailure) {}

        fn count_repaired(&self, _transport: Transport, _strings: usize) {}
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn others_go_on_while_a_large_body_is_inflated() {
        let intake = Arc::new(Waiting {
            runtime: tokio::runtime::Handle::current(),
            held: HeldBytes::default(),
            waited: Mutex::default(),
        });
        let golden: &[u8] = include_bytes!("../../../tests/golden/traces.pb");
        let body = golden.repeat((2 << 20) / golden.len());
        let mut compressor = libdeflater::Compressor::new(libdeflater::CompressionLvl::fastest());
        let mut gzip = vec![0; compressor.gzip_compress_bound(body.len())];
        let length = compressor.gzip_compress(&body, &mut gzip).unwrap();
        gzip.truncate(length);
        let door = Door {
            signal: Signal::Traces,
            transport: Transport::Http,
            intake: Arc::clone(&intake) as Arc<dyn Intake>,
            size_max: 20 << 20,
            spans: Telemetry::default().spans().kind("test"),
        };
        let held: Held = (gzip.into(), intake.held.reserve(length));
        // On the only worker, not on the thread of the test.
        let task = tokio::spawn(async move {
            let read = std::future::ready(Ok((held, Encoding::Gzip)));
            door.receive(read, Format::Protobuf, None).await
        });
        task.await.unwrap().unwrap();
        assert_eq!(*intake.waited.lock().unwrap(), [true]);
    }
}
