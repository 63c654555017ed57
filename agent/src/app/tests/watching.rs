//! What the agent tells about itself, and shows of what passes.

use super::*;
use crate::overview::Document;

const LIMITER: &str =
    "[processors.memory_limiter]\nlimit_mib = 1000\nspike_limit_mib = 200\ncheck_interval = '1s'\n";

fn limited(http: SocketAddr) -> String {
    text(http, LIMITER, "").replace(
        "receivers = ['otlp']",
        "receivers = ['otlp']\nprocessors = ['memory_limiter']",
    )
}

/// The sum that every account has to have, at any moment.
fn adds_up(document: &Document) {
    for flow in document.pipelines.iter().flat_map(|row| &row.flows) {
        let dropped: u64 = flow.dropped.values().sum();
        assert_eq!(
            flow.accepted,
            flow.delivered + flow.queued + dropped,
            "{flow:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_overview_shows_what_runs_now_and_what_was_done() {
    let http = free();
    let mut bench = Bench::start(&limited(http)).await;
    let mut client = Kept::connect(http).await;
    assert_eq!(client.post("/v1/logs").await, 200);
    adds_up(&bench.agent.overview.document());
    bench.all_is_delivered(3.0).await;
    let document = bench.agent.overview.document();
    adds_up(&document);
    assert_eq!(document.version, crate::overview::VERSION);
    assert_eq!(document.agent.phase, "ready");
    assert!(document.agent.resident_bytes > 0 && document.agent.tasks > 0);
    let [pipeline] = &document.pipelines[..] else {
        panic!("{document:#?}");
    };
    assert_eq!(pipeline.flows[0].delivered, 3);
    let received = document.receivers.iter();
    let received = received.filter(|row| row.signal == "logs" && row.transport == "http");
    let received: Vec<_> = received.map(|row| (row.accepted, row.requests)).collect();
    assert_eq!(received, [(3, 1)]);
    assert!(document.receivers.iter().all(|row| row.signal == "logs"));
    let limit = document.processors[0].memory_limit.as_ref().unwrap();
    assert_eq!(limit.refuses_above_bytes, 800 << 20);
    let exporter = &document.exporters[0];
    assert_eq!((exporter.id.as_str(), exporter.sent), ("file", 3));
    assert_eq!(exporter.queue.storage, "memory");

    bench.becomes(&text(http, "", "")).await;
    assert_eq!(bench.reload("x = 1").await.outcome, Outcome::Refused);
    let document = bench.agent.overview.document();
    assert!(document.processors.is_empty());
    let reload = &document.reload;
    assert_eq!((reload.reloaded, reload.refused), (1, 1));
    assert_eq!(reload.last_outcome.as_deref(), Some("refused"));
    assert!(!reload.problems.is_empty());
    let text = serde_json::to_string(&document).unwrap();
    assert_eq!(serde_json::from_str::<Document>(&text).unwrap(), document);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tap_outlives_reloads_of_its_pipeline_and_ends_with_it() {
    let http = free();
    let mut bench = Bench::start(&text(http, "", "")).await;
    let wanted = crate::tap::Wanted::parse("pipeline=logs&format=json&limit=6").unwrap();
    let feed = crate::tap::start(&bench.agent.taps, wanted, Default::default());
    let feed = feed.unwrap().unwrap();
    let reading = tokio::spawn(feed.collect());
    let mut client = Kept::connect(http).await;
    assert_eq!(client.post("/v1/logs").await, 200);
    bench.becomes(&limited(http)).await;
    assert_eq!(client.post("/v1/logs").await, 200);
    let shown = tokio::time::timeout(crate::testing::DEADLINE, reading).await;
    let shown = shown.unwrap().unwrap().unwrap().to_bytes();
    let shown = String::from_utf8(shown.to_vec()).unwrap();
    assert_eq!(shown.lines().count(), 6, "{shown}");
    eventually("the end of the tap", || !bench.agent.taps.is_open()).await;

    let wanted = crate::tap::Wanted::parse("pipeline=logs").unwrap();
    let feed = crate::tap::start(&bench.agent.taps, wanted, Default::default());
    let reading = tokio::spawn(feed.unwrap().unwrap().collect());
    let other = text(http, "", "").replace("pipelines.logs", "pipelines.\"logs/2\"");
    bench.becomes(&other).await;
    let shown = tokio::time::timeout(crate::testing::DEADLINE, reading).await;
    let shown = shown.unwrap().unwrap().unwrap().to_bytes();
    assert!(shown.ends_with(b"the pipeline is gone\"}}\n"), "{shown:?}");
    bench.stop().await;
}
