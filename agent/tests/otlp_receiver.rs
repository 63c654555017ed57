//! The `otlp` receiver over real sockets: every status, encoding, limit and hint, with an intake that captures.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod otlp_receiver_support;

use otlp_receiver_support::{Harness, traces};

#[tokio::test]
async fn a_plain_protobuf_post_is_captured_byte_for_byte() {
    let harness = Harness::start("").await;
    let body = traces(3);
    let answer = harness
        .post(
            "/v1/traces",
            &[("content-type", "application/x-protobuf")],
            &body,
        )
        .await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.header("content-type"),
        Some("application/x-protobuf")
    );
    assert!(answer.body.is_empty());
    assert_eq!(harness.captured(), vec![(3, body)]);
    harness.stop().await;
}
