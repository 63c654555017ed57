//! One HTTP/1.1 connection through the proxy: requests are forwarded whole, unless a fault hits them.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncWriteExt as _, Interest};
use tokio::net::TcpStream;

use super::board::Board;
use super::fault::{Fault, Form};
use super::wire::{BodyRead, Head, Wire, carries_data};

/// Throttled traffic passes in pieces of this size.
const PIECE: usize = 4 << 10;
/// How often a client that nobody answers is looked at.
const POLL: Duration = Duration::from_millis(100);

/// How the connection goes on after a request.
enum Next {
    Request,
    Close,
    /// With a reset: the client may not even see what was sent before.
    Reset,
}

/// Serves a client's connection to its end.
pub(super) async fn relay(client: TcpStream, to: SocketAddr, board: &Board) {
    let mut relay = Relay {
        client: Wire::new(client),
        server: None,
        to,
        board,
    };
    let ended = relay.run().await;
    match ended {
        Ok(Next::Reset) => {
            relay.client.reset();
            relay.server.into_iter().for_each(Wire::reset);
        }
        Ok(Next::Request | Next::Close) => {}
        Err(error) => {
            tracing::debug!(%error, "connection broke off");
            relay.client.reset();
        }
    }
}

struct Relay<'a> {
    client: Wire,
    /// The connection to the destination, made for the first request that is forwarded.
    server: Option<Wire>,
    to: SocketAddr,
    board: &'a Board,
}

impl Relay<'_> {
    async fn run(&mut self) -> io::Result<Next> {
        loop {
            let Some(head) = self.next_head().await? else {
                return Ok(Next::Close);
            };
            let carries_data = carries_data(&head.bytes);
            self.board.count(|counts| {
                counts.requests += 1;
                counts.inserts += u64::from(carries_data);
            });
            let closes = head.closes;
            match self.request(head, self.board.draw(carries_data)).await? {
                Next::Request if closes => return Ok(Next::Close),
                Next::Request => {}
                end => return Ok(end),
            }
        }
    }

    /// The next request; none when the client or the idle destination closes the connection.
    async fn next_head(&mut self) -> io::Result<Option<Head>> {
        let Some(server) = &mut self.server else {
            return self.client.request_head().await;
        };
        tokio::select! {
            biased;
            head = self.client.request_head() => head,
            () = server.ended() => Ok(None),
        }
    }

    async fn request(&mut self, head: Head, fault: Option<Fault>) -> io::Result<Next> {
        match fault {
            Some(Fault::BlackHole { read: false }) => {
                gone(&self.client.stream).await?;
                return Ok(Next::Reset);
            }
            Some(Fault::Throttle { bytes_per_second }) => {
                return self.throttled(head, bytes_per_second).await;
            }
            _ => {}
        }
        let body = self.client.body(head.framing).await?;
        let request = [head.bytes, body];
        match fault {
            None | Some(Fault::Throttle { .. } | Fault::BlackHole { read: false }) => {
                self.pass(&request).await
            }
            Some(Fault::Delay { by }) => {
                tokio::time::sleep(by).await;
                self.pass(&request).await
            }
            Some(Fault::CutBefore | Fault::Refuse { .. }) => Ok(Next::Reset),
            Some(Fault::CutRequest) => self.half_forwarded(&request).await,
            Some(Fault::CutAfter) => {
                self.forward(&request).await?;
                Ok(Next::Reset)
            }
            Some(Fault::CutAnswer) => {
                let answer = self.forward(&request).await?;
                let half = answer.bytes.slice(..answer.bytes.len() / 2);
                self.client.stream.write_all(&half).await?;
                // What was sent arrives: the end is in order, only early.
                Ok(Next::Close)
            }
            Some(Fault::BlackHole { read: true }) => {
                self.client.ended().await;
                Ok(Next::Reset)
            }
            Some(Fault::Slow { gap }) => self.slow(&request, gap).await,
            Some(Fault::Status {
                code,
                retry_after,
                forwarded,
            }) => {
                let answer = status_answer(code, retry_after);
                self.instead(&request, forwarded, answer).await
            }
            Some(Fault::Exception {
                code,
                forwarded,
                form,
                split,
            }) => {
                let mut answer = exception_answer(code, form);
                if split {
                    let half = answer.len() - EXCEPTION_TAIL;
                    let tail = answer.split_off(half);
                    self.client.stream.write_all(answer.as_bytes()).await?;
                    tokio::time::sleep(POLL).await;
                    answer = tail;
                }
                self.instead(&request, forwarded, answer).await
            }
        }
    }

    async fn pass(&mut self, request: &[Bytes; 2]) -> io::Result<Next> {
        let answer = self.forward(request).await?;
        self.client.stream.write_all(&answer.bytes).await?;
        Ok(answer.next)
    }

    async fn slow(&mut self, request: &[Bytes; 2], gap: Duration) -> io::Result<Next> {
        let answer = self.forward(request).await?;
        for byte in &answer.bytes {
            self.client.stream.write_all(&[*byte]).await?;
            tokio::time::sleep(gap).await;
        }
        Ok(answer.next)
    }

    /// Answers `answer`, with or without the destination having the request.
    async fn instead(
        &mut self,
        request: &[Bytes; 2],
        forwarded: bool,
        answer: String,
    ) -> io::Result<Next> {
        let mut next = Next::Request;
        if forwarded {
            next = self.forward(request).await?.next;
        }
        self.client.stream.write_all(answer.as_bytes()).await?;
        Ok(next)
    }

    async fn half_forwarded(&mut self, [head, body]: &[Bytes; 2]) -> io::Result<Next> {
        let server = self.server().await?;
        let half = body.get(..body.len() / 2).unwrap_or_default();
        server.stream.write_all(head).await?;
        server.stream.write_all(half).await?;
        server.stream.flush().await?;
        Ok(Next::Reset)
    }

    /// Reads, forwards and answers at the rate that all throttled requests share.
    async fn throttled(&mut self, head: Head, bytes_per_second: u64) -> io::Result<Next> {
        let mut request = [head.bytes, Bytes::new()];
        let mut read = BodyRead::new(head.framing);
        let mut body = BytesMut::new();
        while let Some(piece) = self.client.body_piece(&mut read).await? {
            self.board.throttle(piece.len(), bytes_per_second).await;
            body.extend_from_slice(&piece);
        }
        request[1] = body.freeze();
        let answer = self.forward(&request).await?;
        for piece in answer.bytes.chunks(PIECE) {
            self.board.throttle(piece.len(), bytes_per_second).await;
            self.client.stream.write_all(piece).await?;
        }
        Ok(answer.next)
    }

    /// Sends a request on and reads the whole answer.
    async fn forward(&mut self, request: &[Bytes; 2]) -> io::Result<Answer> {
        let answer = self.exchange(request).await;
        self.board.count(|counts| match &answer {
            Ok(_) => counts.answers += 1,
            Err(_) => counts.destination_failed += 1,
        });
        answer
    }

    async fn exchange(&mut self, [head, body]: &[Bytes; 2]) -> io::Result<Answer> {
        let server = self.server().await?;
        server.stream.write_all(head).await?;
        server.stream.write_all(body).await?;
        let head = server.answer_head().await?;
        let mut bytes = BytesMut::from(head.bytes.as_ref());
        bytes.extend_from_slice(&server.body(head.framing).await?);
        Ok(Answer {
            bytes: bytes.freeze(),
            next: if head.closes {
                Next::Close
            } else {
                Next::Request
            },
        })
    }

    async fn server(&mut self) -> io::Result<&mut Wire> {
        if self.server.is_none() {
            let stream = TcpStream::connect(self.to).await?;
            stream.set_nodelay(true)?;
            self.server = Some(Wire::new(stream));
        }
        self.server
            .as_mut()
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

/// Waits until the client has closed its side, without reading from it.
pub(super) async fn gone(client: &TcpStream) -> io::Result<()> {
    while !client.ready(Interest::READABLE).await?.is_read_closed() {
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

/// The destination's whole answer as it came.
struct Answer {
    bytes: Bytes,
    next: Next,
}

fn status_answer(code: u16, retry_after: Option<u32>) -> String {
    let reason = http::StatusCode::from_u16(code)
        .ok()
        .and_then(|code| code.canonical_reason())
        .unwrap_or("Injected");
    let hint = retry_after
        .map(|seconds| format!("Retry-After: {seconds}\r\n"))
        .unwrap_or_default();
    let body = "injected fault\n";
    format!(
        "HTTP/1.1 {code} {reason}\r\n{hint}Content-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// The text is a real server's: clients know it by its end.
fn exception_answer(code: u32, form: Form) -> String {
    let text = format!(
        "Code: {code}. DB::Exception: Injected by the fault proxy. (INJECTED) (version 26.7.2.1 (official build))\n"
    );
    let (header, body) = match form {
        Form::Header => (format!("X-ClickHouse-Exception-Code: {code}\r\n"), text),
        Form::Bare => (String::new(), text),
        Form::Tagged => (
            format!("X-ClickHouse-Exception-Tag: {TAG}\r\n"),
            format!(
                "\r\n__exception__\r\n{TAG}\r\n{text}{} {TAG}\r\n__exception__\r\n",
                text.len()
            ),
        ),
    };
    format!(
        "HTTP/1.1 200 OK\r\n{header}Content-Type: text/plain; charset=UTF-8\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// What servers draw anew for each answer.
const TAG: &str = "rnywyenlaeqynhmu";
/// Bytes in the second piece of an exception that comes in two.
const EXCEPTION_TAIL: usize = 10;
