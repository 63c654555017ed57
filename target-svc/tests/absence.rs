//! The service without a collector, and with one that comes late or hangs.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use support::{Collector, Service};
use tokio::net::TcpListener;

const ADD: &str = r#"{"a":[1,2],"b":[3,4]}"#;

/// An address of loopback where nobody listens.
async fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
}

#[tokio::test]
async fn without_a_collector_it_serves_counts_and_stays_quiet() {
    let endpoint = format!("http://{}", free_address().await);
    let small = [
        "--span-queue",
        "100",
        "--log-queue",
        "100",
        "--span-batch",
        "10",
        "--log-batch",
        "10",
    ];
    let service = Service::start(&endpoint, &small, &[]).await;
    let mut client = service.client().await;
    for _ in 0..1000 {
        assert_eq!(client.add(ADD).await.status, 200);
    }
    let start = Instant::now();
    let stopped = service.stop().await;
    assert!(stopped.success);
    assert!(
        start.elapsed() < Duration::from_secs(20),
        "it took {:?} to stop",
        start.elapsed()
    );

    let spans = &stopped.counts["spans"];
    let count = |name: &str| spans[name].as_u64().unwrap();
    assert_eq!((count("created"), count("exported")), (2000, 0));
    assert_eq!(count("failed") + count("dropped") + count("pending"), 2000);
    assert!(
        count("dropped") >= 1000,
        "a queue of 100 cannot have held more: {spans}"
    );
    let own = stopped
        .log
        .iter()
        .filter(|it| it["target"] == "target_svc::telemetry::watch")
        .count();
    assert!(
        own <= 6,
        "losing telemetry is told once for each signal, not {own} times"
    );
    assert_eq!(
        stopped.log.last().unwrap()["message"],
        "telemetry incomplete"
    );
}

#[tokio::test]
async fn a_collector_that_comes_late_gets_the_telemetry() {
    let address = free_address().await;
    let service = Service::start(&format!("http://{address}"), &[], &[]).await;
    let mut client = service.client().await;
    client.add(ADD).await;
    let collector = Collector::start_at(address).await;
    collector
        .until("a span", |collector| {
            !collector.spans().is_empty()
                || !collector.logs().is_empty()
                || !collector.metrics().is_empty()
        })
        .await;
    for _ in 0..10 {
        client.add(ADD).await;
    }
    let stopped = service.stop().await;
    let exported = stopped.counts["spans"]["exported"].as_u64().unwrap();
    assert!(exported >= 20, "{}", stopped.counts);
    assert_eq!(collector.spans().len() as u64, exported);
}

#[tokio::test]
async fn a_collector_that_never_answers_does_not_hold_up_the_end() {
    let hanging = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", hanging.local_addr().unwrap());
    let service = Service::start(&endpoint, &["--shutdown-timeout-ms", "500"], &[]).await;
    assert_eq!(service.client().await.add(ADD).await.status, 200);
    let start = Instant::now();
    let stopped = service.stop().await;
    assert!(stopped.success);
    assert!(
        start.elapsed() < Duration::from_secs(20),
        "it took {:?} to stop",
        start.elapsed()
    );
    assert_eq!(stopped.counts["spans"]["pending"], 2, "{}", stopped.counts);
}
