//! Clients that are slow or go away, and a receiver that stops.

use std::time::Duration;

use tidegate::ack::Answer;
use tidegate::batch::Transport;
use tidegate::component::RequestFailure;
use tidegate::signal::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use crate::support::{Grpc, Harness, PATIENCE, eventually, head, read_answer, traces};

/// Whether the server has closed the connection, in time.
async fn is_closed(stream: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest))
        .await
        .is_ok()
}

#[tokio::test]
async fn a_head_that_trickles_is_cut() {
    let harness = Harness::start("read_header_timeout = \"200ms\"");
    let mut stream = harness.connect().await;
    stream
        .write_all(b"POST /v1/traces HTTP/1.1\r\n")
        .await
        .unwrap();
    assert!(is_closed(&mut stream).await);
    harness.stop().await;
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let harness = Harness::start("idle_timeout = \"200ms\"");
    let mut silent = harness.connect().await;
    let mut used = harness.connect().await;
    assert_eq!(harness.exchange(&mut used, &traces(1)).await.status, 200);
    assert!(is_closed(&mut silent).await);
    assert!(is_closed(&mut used).await);
    harness.stop().await;
}

#[tokio::test]
async fn a_body_that_trickles_is_408_and_gives_its_memory_back() {
    let harness = Harness::start("read_timeout = \"200ms\"");
    let mut stream = harness.connect().await;
    stream.write_all(head(1000).as_bytes()).await.unwrap();
    stream.write_all(b"some").await.unwrap();
    assert_eq!(read_answer(&mut stream).await.status, 408);
    assert_eq!(harness.capture.held.bytes(), 0);
    assert_eq!(
        harness.failures(),
        [(Transport::Http, RequestFailure::Failed)]
    );
    harness.stop().await;
}

#[tokio::test]
async fn a_client_that_goes_away_in_its_body_leaves_nothing() {
    let harness = Harness::start("");
    let mut stream = harness.connect().await;
    stream.write_all(head(100_000).as_bytes()).await.unwrap();
    stream.write_all(&[0; 5000]).await.unwrap();
    eventually(|| harness.capture.held.bytes() == 100_000).await;
    drop(stream);
    eventually(|| harness.capture.held.bytes() == 0).await;
    eventually(|| harness.failures() == [(Transport::Http, RequestFailure::Failed)]).await;
    assert!(harness.captured().is_empty());
    harness.stop().await;
}

#[tokio::test]
async fn a_client_that_goes_away_while_it_waits_neither_loses_nor_doubles() {
    let harness = Harness::start("");
    harness.capture.state.lock().unwrap().hold = true;
    let mut stream = harness.connect().await;
    let body = traces(5);
    stream.write_all(head(body.len()).as_bytes()).await.unwrap();
    stream.write_all(&body).await.unwrap();
    eventually(|| harness.captured().len() == 1).await;
    drop(stream);
    // The batch is still on its way, and its answer goes nowhere without harm.
    let waiting = std::mem::take(&mut harness.capture.state.lock().unwrap().waiting);
    assert_eq!(waiting.len(), 1);
    assert!(harness.capture.held.bytes() >= body.len());
    for batch in waiting {
        batch.ack.answer(Answer::Delivered);
    }
    assert_eq!(harness.captured(), [(Signal::Traces, 5, body)]);
    assert!(harness.failures().is_empty());
    harness.stop().await;
}

#[tokio::test]
async fn requests_under_way_finish_and_no_more_are_taken() {
    let harness = Harness::start("");
    harness.capture.state.lock().unwrap().hold = true;
    let mut waiting = harness.connect().await;
    let mut idle = harness.connect().await;
    let body = traces(1);
    waiting
        .write_all(head(body.len()).as_bytes())
        .await
        .unwrap();
    waiting.write_all(&body).await.unwrap();
    let mut grpc = Grpc::connect(&harness).await;
    let call = tokio::spawn(async move {
        let message = [&[0, 0, 0, 0, traces(1).len() as u8], traces(1).as_slice()].concat();
        grpc.call(
            "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            &[],
            vec![message],
        )
        .await
    });
    eventually(|| harness.captured().len() == 2).await;
    harness.shutdown.trigger();
    assert!(is_closed(&mut idle).await);
    let address = harness.http.clone();
    eventually(|| std::net::TcpStream::connect(&address).is_err()).await;
    let held = std::mem::take(&mut harness.capture.state.lock().unwrap().waiting);
    for batch in held {
        batch.ack.answer(Answer::Delivered);
    }
    assert_eq!(read_answer(&mut waiting).await.status, 200);
    assert_eq!(call.await.unwrap().code, 0);
    harness.stop().await;
}

#[tokio::test]
async fn stopping_at_once_and_twice_is_fine() {
    let harness = Harness::start("");
    harness.shutdown.trigger();
    harness.shutdown.trigger();
    harness.stop().await;
}

#[tokio::test]
async fn unix_sockets_serve_both_protocols() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let text = format!(
        "[protocols.grpc]\ntransport = \"unix\"\nendpoint = \"{}\"\n[protocols.http]\ntransport = \"unix\"\nendpoint = \"{}\"",
        path("grpc"),
        path("http")
    );
    let harness = Harness::start_with(&text, &Signal::ALL);
    let mut stream = UnixStream::connect(path("http")).await.unwrap();
    let body = traces(2);
    stream.write_all(head(body.len()).as_bytes()).await.unwrap();
    stream.write_all(&body).await.unwrap();
    assert_eq!(read_answer(&mut stream).await.status, 200);
    assert!(UnixStream::connect(path("grpc")).await.is_ok());
    drop(stream);
    harness.stop().await;
    assert!(!folder.path().join("http").exists());
}

#[tokio::test]
async fn http2_prior_knowledge_works_on_the_http_port() {
    let harness = Harness::start("idle_timeout = \"300ms\"\nread_header_timeout = \"100ms\"");
    let mut client = Grpc::connect_to(&harness.http).await;
    let reply = client
        .raw("POST", "/v1/traces", "application/x-protobuf")
        .await;
    assert_eq!(reply.http, 200);
    tokio::time::timeout(Duration::from_secs(10), client.closed())
        .await
        .unwrap();
    harness.stop().await;
}
