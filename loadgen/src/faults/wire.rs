//! HTTP/1.1 messages as they stand on the wire: where one ends, and what a request is for. Nothing is changed.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

/// A message's head is at most this long.
const HEAD_MAX: usize = 64 << 10;
/// A message's body is at most this long: it is kept in memory, to be forwarded or not.
const BODY_MAX: u64 = 256 << 20;
/// Bytes read at once.
const READ: usize = 64 << 10;

/// A connection, and what was read from it beyond the message before.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) stream: TcpStream,
    buffer: BytesMut,
}

/// How the end of a body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    Length(u64),
    Chunked,
    UntilClosed,
}

/// Everything up to and including the empty line.
#[derive(Debug, Clone)]
pub(super) struct Head {
    pub(super) bytes: Bytes,
    pub(super) framing: Framing,
    /// Whether this message is the connection's last.
    pub(super) closes: bool,
}

impl Wire {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
        }
    }

    /// Closes the connection with a reset: whatever is under way is lost.
    pub(super) fn reset(self) {
        // Without it the connection ends in order, which is a cut as well.
        drop(self.stream.set_zero_linger());
    }

    /// Reads more; how much, 0 at the end.
    async fn fill(&mut self) -> io::Result<usize> {
        self.buffer.reserve(READ);
        self.stream.read_buf(&mut self.buffer).await
    }

    /// Waits until the other side closes or says something unasked.
    pub(super) async fn ended(&mut self) {
        // An error is an end too.
        drop(self.fill().await);
    }

    /// The next request's head; `None` when the connection ended before it.
    pub(super) async fn request_head(&mut self) -> io::Result<Option<Head>> {
        let Some(bytes) = self.head().await? else {
            return Ok(None);
        };
        let framing = framing(&bytes)?.unwrap_or(Framing::Length(0));
        Ok(Some(Head {
            framing,
            closes: closes(&bytes),
            bytes,
        }))
    }

    /// The next answer's head.
    pub(super) async fn answer_head(&mut self) -> io::Result<Head> {
        let bytes = self
            .head()
            .await?
            .ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        let without_body = matches!(status(&bytes), Some(100..200 | 204 | 304));
        let framing = if without_body {
            Framing::Length(0)
        } else {
            framing(&bytes)?.unwrap_or(Framing::UntilClosed)
        };
        Ok(Head {
            framing,
            closes: closes(&bytes) || framing == Framing::UntilClosed,
            bytes,
        })
    }

    async fn head(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                return Ok(Some(self.buffer.split_to(end + 4).freeze()));
            }
            if self.buffer.len() > HEAD_MAX {
                return Err(invalid("a head of more than 64 KiB"));
            }
            if self.fill().await? == 0 {
                return if self.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
        }
    }

    /// The next piece of a body of which `read` tells how far it has got; `None` at its end.
    pub(super) async fn body_piece(&mut self, read: &mut BodyRead) -> io::Result<Option<Bytes>> {
        loop {
            if let Some(bytes) = read.take(&mut self.buffer)? {
                return Ok((!bytes.is_empty()).then_some(bytes));
            }
            if self.fill().await? == 0 {
                return if read.framing == Framing::UntilClosed {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
        }
    }

    /// A whole body, with its chunks' frames.
    pub(super) async fn body(&mut self, framing: Framing) -> io::Result<Bytes> {
        let mut read = BodyRead::new(framing);
        let mut whole = BytesMut::new();
        while let Some(piece) = self.body_piece(&mut read).await? {
            whole.extend_from_slice(&piece);
        }
        Ok(whole.freeze())
    }
}

/// How far a body has been read.
#[derive(Debug)]
pub(super) struct BodyRead {
    framing: Framing,
    /// Bytes until its end, or until the next chunk's frame.
    left: u64,
    total: u64,
    done: bool,
}

impl BodyRead {
    pub(super) fn new(framing: Framing) -> Self {
        let left = match framing {
            Framing::Length(length) => length,
            Framing::Chunked => 0,
            Framing::UntilClosed => u64::MAX,
        };
        Self {
            framing,
            left,
            total: 0,
            done: left == 0 && framing != Framing::Chunked,
        }
    }

    /// Takes what belongs to the body out of `buffer`: nothing at its end, `None` when more must be read first.
    fn take(&mut self, buffer: &mut BytesMut) -> io::Result<Option<Bytes>> {
        if self.done {
            return Ok(Some(Bytes::new()));
        }
        if self.left == 0 && !self.next_chunk(buffer)? {
            return Ok(None);
        }
        if buffer.is_empty() {
            return Ok(None);
        }
        let size = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        self.left -= size as u64;
        self.total += size as u64;
        if self.total > BODY_MAX {
            return Err(invalid("a body of more than 256 MiB"));
        }
        self.done |= self.left == 0 && self.framing != Framing::Chunked;
        Ok(Some(buffer.split_to(size).freeze()))
    }

    /// Reads a chunk's frame; whether it was there. Frame, bytes and line end then count as left.
    fn next_chunk(&mut self, buffer: &BytesMut) -> io::Result<bool> {
        let Some(end) = find(buffer, b"\r\n") else {
            return Ok(false);
        };
        let line = buffer.get(..end).unwrap_or_default();
        let digits = line.split(|&byte| byte == b';').next().unwrap_or_default();
        let size = std::str::from_utf8(digits)
            .ok()
            .and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok())
            .filter(|size| *size <= BODY_MAX)
            .ok_or_else(|| invalid("a chunk without a size"))?;
        if size > 0 {
            self.left = end as u64 + 2 + size + 2;
            return Ok(true);
        }
        // After the last chunk come trailers, if any, and an empty line.
        let rest = buffer.get(end..).unwrap_or_default();
        let Some(trailers) = find(rest, b"\r\n\r\n") else {
            return Ok(false);
        };
        self.left = (end + trailers + 4) as u64;
        self.framing = Framing::Length(0);
        Ok(true)
    }
}

/// Whether a request carries data: an INSERT in the URL's `query`, or an OTLP export.
pub(super) fn carries_data(head: &[u8]) -> bool {
    let line = head.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let target = line.split(' ').nth(1).unwrap_or_default();
    let (path, parameters) = target.split_once('?').unwrap_or((target, ""));
    let is_insert = |parameter: &str| {
        let query = parameter.strip_prefix("query=").map(|query| {
            query
                .replace("%20", "+")
                .replace("%0A", "+")
                .trim_start_matches('+')
                .to_ascii_uppercase()
        });
        query.is_some_and(|query| query.starts_with("INSERT"))
    };
    let otlp = ["/v1/traces", "/v1/logs", "/v1/metrics"];
    parameters.split('&').any(is_insert) || otlp.iter().any(|end| path.ends_with(end))
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes
        .windows(needle.len())
        .position(|window| window == needle)
}

fn status(head: &[u8]) -> Option<u16> {
    std::str::from_utf8(head.get(9..12)?).ok()?.parse().ok()
}

fn framing(head: &[u8]) -> io::Result<Option<Framing>> {
    if header(head, "transfer-encoding").is_some_and(|value| value.ends_with("chunked")) {
        return Ok(Some(Framing::Chunked));
    }
    let Some(length) = header(head, "content-length") else {
        return Ok(None);
    };
    let length = length
        .parse()
        .map_err(|_| invalid("a content-length that is no number"))?;
    Ok(Some(Framing::Length(length)))
}

fn closes(head: &[u8]) -> bool {
    header(head, "connection").is_some_and(|value| value == "close")
}

/// A header's value in lower case.
fn header(head: &[u8], name: &str) -> Option<String> {
    let head = std::str::from_utf8(head).ok()?;
    let value = head.lines().skip(1).find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then_some(value)
    })?;
    Some(value.trim().to_ascii_lowercase())
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;

    /// A connection on which `text` arrives in pieces, and then nothing more.
    async fn wire(text: &'static str, pieces: usize) -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut sender = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        tokio::spawn(async move {
            for piece in text.as_bytes().chunks(pieces) {
                sender.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
        });
        Wire::new(stream)
    }

    #[tokio::test]
    async fn messages_end_where_their_framing_says() {
        let check = async |text: &'static str, body: &str, rest: &str| {
            for pieces in [1, 3, 1000] {
                let mut wire = wire(text, pieces).await;
                let head = wire.request_head().await.unwrap().unwrap();
                let found = wire.body(head.framing).await.unwrap();
                assert_eq!(found, body.as_bytes(), "{text}");
                let mut left = wire.buffer.to_vec();
                wire.stream.read_to_end(&mut left).await.unwrap();
                assert_eq!(left, rest.as_bytes(), "{text}");
            }
        };
        check("GET / HTTP/1.1\r\nHost: x\r\n\r\nGET", "", "GET").await;
        check(
            "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcNEXT",
            "abc",
            "NEXT",
        )
        .await;
        let chunks = "3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nTrailer: 1\r\n\r\n";
        check(
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nTrailer: 1\r\n\r\nNEXT",
            chunks,
            "NEXT",
        )
        .await;
        check(
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nNEXT",
            "0\r\n\r\n",
            "NEXT",
        )
        .await;
    }

    #[tokio::test]
    async fn an_answer_without_length_ends_with_the_connection() {
        let mut wire = wire("HTTP/1.1 200 OK\r\n\r\nall of it", 4).await;
        let head = wire.answer_head().await.unwrap();
        assert!(head.closes);
        assert_eq!(wire.body(head.framing).await.unwrap(), "all of it");
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_an_error() {
        let mut wire = wire("POST / HTTP/1.1\r\nContent-Length: 30\r\n\r\nabc", 100).await;
        let head = wire.request_head().await.unwrap().unwrap();
        assert!(wire.body(head.framing).await.is_err());
    }

    #[test]
    fn requests_with_data_are_recognised() {
        let check = |target: &str, expected| {
            let head = format!("POST {target} HTTP/1.1\r\n\r\n");
            assert_eq!(carries_data(head.as_bytes()), expected, "{target}");
        };
        check("/?query=INSERT+INTO+x&database=d", true);
        check("/?async_insert=0&query=%20insert%20into", true);
        check("/?query=SELECT+'INSERT'", false);
        check("/?async_insert=0&max_insert_threads=2", false);
        check("/v1/traces", true);
        check("/prefix/v1/logs?x=y", true);
        check("/", false);
    }
}
