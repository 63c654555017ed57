//! An answer on its way out: held back while an error could still change its status, then streamed.

use std::io::{self, Write};
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use super::encode::{Encoder, Encoding};
use super::exception::Exception;
use super::ffi::Statistics;

/// What is held back by default, as ClickHouse's `http_response_buffer_size`.
pub(super) const HOLD_BYTES: usize = 1 << 20;
/// What `wait_end_of_query=1` or `buffer_size` can have held back: this bounds the memory of one answer. A
/// longer one is streamed all the same.
pub(super) const HOLD_BYTES_MAX: usize = 256 << 20;
/// Size of the pieces an encoded answer is handed to the connection in.
const PIECE_BYTES: usize = 256 << 10;
/// How many pieces wait for a slow client.
const PIECES_WAITING: usize = 4;
/// How long a client may not read before its query is given up: it holds a slot.
const SEND_TIMEOUT: Duration = Duration::from_secs(300);
/// Length of the random mark around an exception in the middle of an answer.
pub(super) const EXCEPTION_TAG_BYTES: usize = 16;

/// What the connection's task gets to make a response of.
#[derive(Debug)]
pub(super) enum Answer {
    /// The statement failed before anything was sent. The body is encoded.
    Failed { exception: Exception, body: Bytes },
    /// All of the answer. The body is encoded.
    Complete {
        format: String,
        statistics: Statistics,
        body: Bytes,
    },
    /// The answer's first pieces are here, the rest follows.
    Streaming {
        format: String,
        pieces: mpsc::Receiver<Bytes>,
    },
}

/// How an answer is to be sent.
#[derive(Clone, Debug)]
pub(super) struct AnswerPlan {
    pub(super) encoding: Encoding,
    /// How many bytes to hold back.
    pub(super) hold_bytes: usize,
    /// The mark around an exception in the middle of the answer.
    pub(super) exception_tag: String,
    /// The version that exceptions name.
    pub(super) version: String,
}

/// Takes an answer's bytes and decides when its head goes out.
pub(super) struct AnswerWriter {
    plan: AnswerPlan,
    format: String,
    held: Vec<u8>,
    head: Option<oneshot::Sender<Answer>>,
    stream: Option<Encoder<PieceWriter>>,
    runtime: Handle,
}

impl AnswerWriter {
    pub(super) fn new(plan: AnswerPlan, head: oneshot::Sender<Answer>, runtime: Handle) -> Self {
        Self {
            plan,
            format: String::new(),
            held: Vec::new(),
            head: Some(head),
            stream: None,
            runtime,
        }
    }

    /// Names the format that the bytes to come are in.
    pub(super) fn set_format(&mut self, format: &str) {
        format.clone_into(&mut self.format);
    }

    /// Ends the answer with the statement's outcome.
    ///
    /// # Errors
    /// When the client is gone.
    pub(super) fn finish(self, outcome: Result<Statistics, Exception>) -> io::Result<()> {
        match (self.stream, outcome) {
            (Some(stream), Ok(_)) => stream.finish()?.finish(),
            (Some(mut stream), Err(exception)) => {
                let text = tagged(
                    &exception.render(&self.plan.version),
                    &self.plan.exception_tag,
                );
                // Flushed apart, so that the mark ends a piece: clients look for it there.
                stream.flush()?;
                stream.write_all(text.as_bytes())?;
                stream.finish()?.finish()
            }
            (None, outcome) => {
                let answer = match outcome {
                    Ok(statistics) => Answer::Complete {
                        format: self.format,
                        statistics,
                        body: encode(self.plan.encoding, &self.held)?,
                    },
                    Err(exception) => {
                        let text = exception.render(&self.plan.version);
                        let body = encode(self.plan.encoding, text.as_bytes())?;
                        Answer::Failed { exception, body }
                    }
                };
                self.head
                    .map_or(Ok(()), |head| head.send(answer).map_err(|_| gone()))
            }
        }
    }

    /// Lets go of what is held: the status is 200 from now on.
    fn begin(&mut self) -> io::Result<&mut Encoder<PieceWriter>> {
        let (sender, pieces) = mpsc::channel(PIECES_WAITING);
        let answer = Answer::Streaming {
            format: self.format.clone(),
            pieces,
        };
        if let Some(head) = self.head.take() {
            head.send(answer).map_err(|_| gone())?;
        }
        let writer = PieceWriter {
            piece: Vec::with_capacity(PIECE_BYTES),
            sender,
            runtime: self.runtime.clone(),
        };
        let mut encoder = Encoder::new(self.plan.encoding, writer)?;
        encoder.write_all(&std::mem::take(&mut self.held))?;
        Ok(self.stream.insert(encoder))
    }
}

impl Write for AnswerWriter {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if let Some(stream) = &mut self.stream {
            return stream.write(data);
        }
        if self.held.len() + data.len() <= self.plan.hold_bytes {
            self.held.extend_from_slice(data);
            return Ok(data.len());
        }
        self.begin()?.write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.as_mut().map_or(Ok(()), Write::flush)
    }
}

fn gone() -> io::Error {
    io::Error::new(
        io::ErrorKind::BrokenPipe,
        "the client closed the connection or does not read",
    )
}

fn encode(encoding: Encoding, content: &[u8]) -> io::Result<Bytes> {
    let mut encoder = Encoder::new(encoding, Vec::new())?;
    encoder.write_all(content)?;
    encoder.finish().map(Bytes::from)
}

/// An exception in the middle of an answer, as ClickHouse writes it since 25.11.
fn tagged(text: &str, tag: &str) -> String {
    let length = text.len();
    format!("\r\n__exception__\r\n{tag}\r\n{text}{length} {tag}\r\n__exception__\r\n")
}

/// Cuts an encoded answer into pieces for the connection's task; waits while the client is slow.
pub(super) struct PieceWriter {
    piece: Vec<u8>,
    sender: mpsc::Sender<Bytes>,
    runtime: Handle,
}

impl PieceWriter {
    fn send(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE_BYTES));
        let sent = self.sender.send_timeout(Bytes::from(piece), SEND_TIMEOUT);
        self.runtime.block_on(sent).map_err(|_| gone())
    }

    fn finish(mut self) -> io::Result<()> {
        self.send()
    }
}

impl Write for PieceWriter {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(data);
        if self.piece.len() >= PIECE_BYTES {
            self.send()?;
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}

#[cfg(test)]
mod tests {
    use super::super::encode::ContentEncoding;
    use super::super::exception::SYNTAX_ERROR;
    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap()
    }

    fn writer(
        runtime: &tokio::runtime::Runtime,
        hold_bytes: usize,
    ) -> (AnswerWriter, oneshot::Receiver<Answer>) {
        let (head, receiver) = oneshot::channel();
        let plan = AnswerPlan {
            encoding: Encoding {
                content: ContentEncoding::Identity,
                framed: false,
            },
            hold_bytes,
            exception_tag: "abcdefghijklmnop".to_owned(),
            version: "1".to_owned(),
        };
        let mut writer = AnswerWriter::new(plan, head, runtime.handle().clone());
        writer.set_format("CSV");
        (writer, receiver)
    }

    #[test]
    fn a_short_answer_is_complete() {
        let runtime = runtime();
        let (mut writer, mut head) = writer(&runtime, 10);
        writer.write_all(b"0123456789").unwrap();
        writer.finish(Ok(Statistics::default())).unwrap();
        let Ok(Answer::Complete { format, body, .. }) = head.try_recv() else {
            panic!()
        };
        assert_eq!(
            (format.as_str(), &body[..]),
            ("CSV", b"0123456789".as_slice())
        );
    }

    #[test]
    fn an_early_exception_replaces_what_is_held() {
        let runtime = runtime();
        let (mut writer, mut head) = writer(&runtime, 10);
        writer.write_all(b"rows").unwrap();
        writer
            .finish(Err(Exception::new(SYNTAX_ERROR, "x")))
            .unwrap();
        let Ok(Answer::Failed { exception, body }) = head.try_recv() else {
            panic!()
        };
        assert_eq!(
            (exception.code, &body[..]),
            (
                62,
                b"Code: 62. DB::Exception: x (SYNTAX_ERROR) (version 1)\n".as_slice()
            )
        );
    }

    #[test]
    fn a_late_exception_ends_the_stream_between_marks() {
        let runtime = runtime();
        let (mut writer, mut head) = writer(&runtime, 3);
        writer.write_all(b"rows").unwrap();
        writer
            .finish(Err(Exception::new(SYNTAX_ERROR, "x")))
            .unwrap();
        let Ok(Answer::Streaming { mut pieces, .. }) = head.try_recv() else {
            panic!()
        };
        assert_eq!(pieces.try_recv().unwrap(), "rows");
        let expected = "\r\n__exception__\r\nabcdefghijklmnop\r\n\
             Code: 62. DB::Exception: x (SYNTAX_ERROR) (version 1)\n\
             54 abcdefghijklmnop\r\n__exception__\r\n";
        assert_eq!(pieces.try_recv().unwrap(), expected);
        assert!(pieces.try_recv().is_err());
    }

    #[test]
    fn a_client_that_left_is_noticed() {
        let runtime = runtime();
        let (mut gone_writer, head) = writer(&runtime, 3);
        drop(head);
        assert!(gone_writer.write_all(b"rows").is_err());
        let (held, head) = writer(&runtime, 3);
        drop(head);
        assert!(held.finish(Ok(Statistics::default())).is_err());
    }
}
