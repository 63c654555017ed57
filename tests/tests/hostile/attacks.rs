//! What hostile clients do. Each attack goes on for a time, and lets go of everything when it returns.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::stage::Doors;

type Attack = fn(Doors, Duration) -> Pin<Box<dyn Future<Output = ()> + Send>>;

/// Every attack, by name.
pub(crate) const ATTACKS: &[(&str, Attack)] = &[
    ("slow heads", |doors, time| {
        Box::pin(slow_heads(doors, time))
    }),
    ("slow bodies", |doors, time| {
        Box::pin(slow_bodies(doors, time))
    }),
    ("many headers", |doors, time| {
        Box::pin(many_headers(doors, time))
    }),
    ("a huge header", |doors, time| {
        Box::pin(huge_header(doors, time))
    }),
    ("HTTP/2 CONTINUATION flood", |doors, time| {
        Box::pin(continuations(doors, time))
    }),
    ("HTTP/2 rapid reset", |doors, time| {
        Box::pin(rapid_reset(doors, time))
    }),
    ("HTTP/2 SETTINGS flood", |doors, time| {
        Box::pin(settings_flood(doors, time))
    }),
    ("HTTP/2 PING flood", |doors, time| {
        Box::pin(ping_flood(doors, time))
    }),
    ("HTTP/2 slow bodies", |doors, time| {
        Box::pin(http2_slow_bodies(doors, time))
    }),
    ("idle connections", |doors, time| {
        Box::pin(idle(doors, time))
    }),
    ("garbage", |doors, time| Box::pin(garbage(doors, time))),
    ("half TLS hellos", |doors, time| {
        Box::pin(half_hellos(doors, time))
    }),
    ("connect and disconnect", |doors, time| {
        Box::pin(connect_disconnect(doors, time))
    }),
    ("guessed passwords", |doors, time| {
        Box::pin(guesses(doors, time))
    }),
];

/// Connections of an attack to one door where they do much each.
const MANY: usize = 100;

/// Connections that do nothing: more than the small servers have room for, in sum thousands.
const IDLE: usize = 700;

/// Bytes written at a time by floods.
const CHUNK: usize = 16 * 1024;

/// Runs `work` for `count` connections to each door until the time is over.
async fn each<F>(
    doors: &[SocketAddr],
    count: usize,
    time: Duration,
    work: impl Fn(TcpStream, usize) -> F + Clone + Send + 'static,
) where
    F: Future<Output = std::io::Result<()>> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    for door in doors.iter().copied() {
        for number in 0..count {
            let work = work.clone();
            tasks.spawn(async move {
                // A door may close at any time: then the attacker comes again.
                loop {
                    if let Ok(stream) = TcpStream::connect(door).await {
                        work(stream, number).await.ok();
                    }
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            });
        }
    }
    tokio::time::sleep(time).await;
    tasks.shutdown().await;
}

/// Writes `piece` again and again, a little at a time.
async fn trickle(stream: &mut TcpStream, piece: &[u8]) -> std::io::Result<()> {
    loop {
        stream.write_all(piece).await?;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Writes `piece` as fast as it is taken, and reads nothing.
async fn flood(stream: &mut TcpStream, piece: &[u8]) -> std::io::Result<()> {
    let pieces = piece.repeat((CHUNK / piece.len()).max(1));
    loop {
        stream.write_all(&pieces).await?;
        tokio::task::yield_now().await;
    }
}

async fn slow_heads(doors: Doors, time: Duration) {
    each(
        &doors.plain_http(),
        MANY,
        time,
        |mut stream, _| async move {
            stream
                .write_all(b"POST /v1/logs HTTP/1.1\r\nhost: localhost\r\nx-slow: ")
                .await?;
            trickle(&mut stream, b"a").await
        },
    )
    .await;
}

async fn slow_bodies(doors: Doors, time: Duration) {
    each(&doors.plain_http(), MANY, time, |mut stream, number| async move {
        let head = match number % 2 {
            0 => "content-length: 1000000",
            _ => "transfer-encoding: chunked",
        };
        let head = format!(
            "POST /v1/logs HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-protobuf\r\n{head}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await?;
        trickle(&mut stream, b"1\r\n\n\r\n").await
    })
    .await;
}

async fn many_headers(doors: Doors, time: Duration) {
    each(&doors.plain_http(), 8, time, |mut stream, _| async move {
        stream
            .write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n")
            .await?;
        flood(&mut stream, b"x-a: b\r\n").await
    })
    .await;
}

async fn huge_header(doors: Doors, time: Duration) {
    each(&doors.plain_http(), 8, time, |mut stream, _| async move {
        stream
            .write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nx-huge: ")
            .await?;
        flood(&mut stream, b"aaaaaaaaaaaaaaaa").await
    })
    .await;
}

// === HTTP/2 ===

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

/// `POST` to `/v1/logs` of `agent`, as HPACK writes it without its tables.
const REQUEST: &[u8] =
    b"\x83\x86\x04\x08/v1/logs\x01\x05agent\x00\x0ccontent-type\x10application/grpc";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = Vec::from(length.get(1..).unwrap());
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

async fn begin_http2(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(PREFACE).await?;
    stream.write_all(&frame(SETTINGS, 0, 0, b"")).await
}

async fn continuations(doors: Doors, time: Duration) {
    each(&doors.plain_http2(), 16, time, |mut stream, _| async move {
        begin_http2(&mut stream).await?;
        stream.write_all(&frame(HEADERS, 0, 1, REQUEST)).await?;
        // A field that is not indexed, in each frame.
        flood(&mut stream, &frame(CONTINUATION, 0, 1, b"\x00\x03x-a\x01b")).await
    })
    .await;
}

async fn rapid_reset(doors: Doors, time: Duration) {
    each(&doors.plain_http2(), 16, time, |mut stream, _| async move {
        begin_http2(&mut stream).await?;
        let mut number = 1;
        loop {
            let mut frames = Vec::new();
            for _ in 0..100 {
                frames.extend(frame(HEADERS, END_HEADERS, number, REQUEST));
                frames.extend(frame(RESET, 0, number, &8u32.to_be_bytes()));
                number += 2;
            }
            stream.write_all(&frames).await?;
            tokio::task::yield_now().await;
        }
    })
    .await;
}

async fn settings_flood(doors: Doors, time: Duration) {
    each(&doors.plain_http2(), 16, time, |mut stream, _| async move {
        begin_http2(&mut stream).await?;
        flood(&mut stream, &frame(SETTINGS, 0, 0, b"")).await
    })
    .await;
}

async fn ping_flood(doors: Doors, time: Duration) {
    each(&doors.plain_http2(), 16, time, |mut stream, _| async move {
        begin_http2(&mut stream).await?;
        flood(&mut stream, &frame(PING, 0, 0, b"12345678")).await
    })
    .await;
}

async fn http2_slow_bodies(doors: Doors, time: Duration) {
    each(
        &doors.plain_http2(),
        MANY,
        time,
        |mut stream, _| async move {
            begin_http2(&mut stream).await?;
            for number in 0..20 {
                stream
                    .write_all(&frame(HEADERS, END_HEADERS, 2 * number + 1, REQUEST))
                    .await?;
            }
            trickle(&mut stream, &frame(DATA, 0, 1, b"\0")).await
        },
    )
    .await;
}

// === Whatever the protocol ===

async fn idle(doors: Doors, time: Duration) {
    let room = usize::try_from(tidegate::process::open_files_max()).unwrap_or(usize::MAX);
    each(
        &doors.all(),
        IDLE.min(room / 16),
        time,
        |mut stream, _| async move {
            let mut nothing = [0; 64];
            // Until the agent has enough of it.
            while stream.read(&mut nothing).await? > 0 {}
            Ok(())
        },
    )
    .await;
}

/// Numbers that look random, the same in every run.
fn noise(seed: usize) -> impl Iterator<Item = u8> {
    let mut state = seed as u64 ^ 0x9e37_79b9_7f4a_7c15;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    })
}

async fn garbage(doors: Doors, time: Duration) {
    each(&doors.all(), 16, time, |mut stream, number| async move {
        let bytes: Vec<u8> = noise(number).take(CHUNK).collect();
        stream.write_all(&bytes).await?;
        stream.shutdown().await
    })
    .await;
}

async fn half_hellos(doors: Doors, time: Duration) {
    each(&doors.all(), MANY, time, |mut stream, number| async move {
        // A record of a handshake with a hello of 512 bytes, of which some come.
        stream
            .write_all(&[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3])
            .await?;
        let bytes: Vec<u8> = noise(number).take(number * 4).collect();
        stream.write_all(&bytes).await?;
        let mut answer = [0; 64];
        while stream.read(&mut answer).await? > 0 {}
        Ok(())
    })
    .await;
}

async fn connect_disconnect(doors: Doors, time: Duration) {
    let until = Instant::now() + time;
    let mut tasks = JoinSet::new();
    for door in doors.all() {
        for number in 0..4 {
            tasks.spawn(async move {
                while Instant::now() < until {
                    let Ok(stream) = TcpStream::connect(door).await else {
                        continue;
                    };
                    if number % 2 == 0 {
                        // A reset, where the others close as one should.
                        stream.set_zero_linger().ok();
                    }
                    drop(stream);
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            });
        }
    }
    tasks.join_all().await;
}

/// Each guess would cost a few hundred milliseconds of a core.
async fn guesses(doors: Doors, time: Duration) {
    each(&[doors.http_slow], 50, time, |mut stream, number| async move {
        loop {
            let request = format!(
                "POST /v1/logs HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\
                 authorization: Basic bWU6{}\r\n\r\n{{}}",
                ["QQ==", "Qg==", "Qw==", "RA=="].get(number % 4).unwrap()
            );
            stream.write_all(request.as_bytes()).await?;
            let mut answer = [0; 1024];
            let length = stream.read(&mut answer).await?;
            let answer = String::from_utf8_lossy(answer.get(..length).unwrap_or_default()).into_owned();
            let expected = answer.starts_with("HTTP/1.1 401") || answer.starts_with("HTTP/1.1 503");
            assert!(expected || length == 0, "{answer}");
            if length == 0 {
                return Ok(());
            }
        }
    })
    .await;
}
