//! Items that a processor declines: who is told, and what the books say.

use super::*;
use crate::ack::Rejected;
use crate::component::{ComponentError, ProcessorContext};

/// A processor that declines what is 200 and more, discards what is 100 and more, and passes on the rest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Picky;

impl ProcessorSettings for Picky {
    fn build(&self, _context: ProcessorContext) -> Result<Box<dyn Processor>, ComponentError> {
        Ok(Box::new(*self))
    }
}

impl Processor for Picky {
    fn process(&mut self, mut batch: Batch, output: &mut Output) {
        let bytes = batch.payload.to_bytes();
        let good: Vec<u8> = bytes.iter().copied().filter(|byte| *byte < 100).collect();
        let bad = bytes.iter().filter(|byte| **byte >= 200).count();
        if bad > 0 {
            output.reject(&mut batch.ack, "too_large", bad, "over 199");
        }
        if good.len() + bad < bytes.len() {
            output.discard("filtered", bytes.len() - good.len() - bad);
        }
        if good.is_empty() {
            output.take_over(batch.ack);
            return;
        }
        let items = good.len();
        output.emit(Batch {
            payload: Chunk::new(good.into(), items).into(),
            ..batch
        });
    }
}

fn rejected(items: usize) -> Answer {
    Answer::Partial(Rejected {
        items,
        message: "over 199".into(),
    })
}

/// The value of a metric.
fn metric(bench: &Bench, name: &str) -> f64 {
    crate::testing::metric(&bench.telemetry, name)
}

#[tokio::test(start_paused = true)]
async fn every_client_hears_of_its_own_items_although_batches_are_merged() {
    let keeper = Keeper::open();
    let bench = start(
        &[("picky", ""), ("batch", "send_batch_size = 4")],
        &[("keeper", &keeper)],
    );
    assert_eq!(bench.submit_bytes(vec![1, 200, 2]).await, rejected(1));
    assert_eq!(bench.submit_bytes(vec![201, 3, 202]).await, rejected(2));
    assert_eq!(bench.submit_bytes(vec![4, 100]).await, Answer::Queued);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(keeper.bytes(), [1, 2, 3, 4]);
    assert_eq!(keeper.sizes(), [4]);
    // What was declined is on no book; what was filtered was accepted and dropped.
    assert_eq!(bench.ledger("keeper"), [5, 4, 0, 1]);
    for (name, expected) in [
        (
            r#"otelcol_receiver_accepted_spans{receiver="test",transport="http"}"#,
            5.0,
        ),
        (
            r#"otelcol_receiver_refused_spans{receiver="test",transport="http"}"#,
            3.0,
        ),
        (
            r#"otelcol_receiver_requests{otel_signal="traces",outcome="success",receiver="test",transport="http"}"#,
            3.0,
        ),
        (
            r#"tidegate_processor_rejected_items{otel_signal="traces",processor="picky",reason="too_large"}"#,
            3.0,
        ),
        (
            r#"otelcol_processor_outgoing_items{otel_signal="traces",processor="picky"}"#,
            4.0,
        ),
    ] {
        assert_eq!(metric(&bench, name), expected, "{name}");
    }
    assert_eq!(bench.running.stop(Duration::from_secs(1)).await.given_up, 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_of_which_nothing_is_good_enters_no_book() {
    let keeper = Keeper::open();
    let bench = start(&[("picky", "")], &[("keeper", &keeper)]);
    assert_eq!(bench.submit_bytes(vec![200, 201]).await, rejected(2));
    assert_eq!(bench.ledger("keeper"), [0, 0, 0, 0]);
    assert_eq!(bench.submit_bytes(vec![100, 101]).await, Answer::Queued);
    assert_eq!(bench.ledger("keeper"), [2, 0, 0, 2]);
    assert_eq!(bench.held.bytes(), 0);
    bench.running.stop(Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn declined_items_are_told_once_the_others_are_delivered_and_not_with_a_refusal() {
    let keeper = Keeper {
        wait_for_result: true,
        queue_size: 8,
        ..Keeper::with_permits(0)
    };
    let bench = start(&[("picky", "")], &[("keeper", &keeper)]);
    let mut first = bench.submit_bytes(vec![1, 200]);
    let second = bench.submit_bytes(vec![2, 201]);
    let early = tokio::time::timeout(Duration::from_secs(5), &mut first).await;
    assert!(early.is_err(), "answered before delivery: {early:?}");
    keeper.permits.add_permits(1);
    assert_eq!(first.await, rejected(1));
    bench.running.stop(Duration::ZERO).await;
    // It is sent again whole, and what is declined is told then.
    assert!(matches!(second.await, Answer::Refused(_)));
    assert_eq!(keeper.bytes(), [1]);
}

#[tokio::test(start_paused = true)]
async fn what_is_declined_after_its_sender_was_answered_is_dropped() {
    let keeper = Keeper::open();
    let bench = start(
        &[("batch", "send_batch_size = 3"), ("picky", "")],
        &[("keeper", &keeper)],
    );
    assert_eq!(bench.submit_bytes(vec![1, 200]).await, Answer::Queued);
    assert_eq!(bench.submit_bytes(vec![2, 3]).await, Answer::Queued);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(bench.submit_bytes(vec![201]).await, Answer::Queued);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(keeper.bytes(), [1, 2, 3]);
    assert_eq!(bench.ledger("keeper"), [5, 3, 0, 2]);
    let dropped = r#"tidegate_ledger_dropped_items{exporter="keeper",otel_signal="traces",pipeline="traces",reason="too_large"}"#;
    assert_eq!(metric(&bench, dropped), 2.0);
    bench.running.stop(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn with_a_log_only_the_others_are_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let (durable, memory) = (Keeper::open().durable(folder.path()), Keeper::open());
    let processors = [("picky", ""), ("batch", "send_batch_size = 3")];
    let bench = start(&processors, &[("durable", &durable), ("memory", &memory)]);
    assert_eq!(bench.submit_bytes(vec![1, 200, 100]).await, rejected(1));
    assert_eq!(bench.submit_bytes(vec![201, 202]).await, rejected(2));
    assert_eq!(bench.submit_bytes(vec![2, 3]).await, Answer::Queued);
    for (id, keeper) in [("durable", &durable), ("memory", &memory)] {
        kept(keeper, 3).await;
        assert_eq!(keeper.bytes(), [1, 2, 3], "{id}");
    }
    let telemetry = bench.telemetry.clone();
    let ending = bench.running.stop(Duration::from_secs(5)).await;
    assert_eq!((ending.given_up, ending.stays), (0, 0));
    for (column, expected) in [("accepted", 4.0), ("delivered", 3.0), ("dropped", 1.0)] {
        let name = format!("tidegate_ledger_{column}_items{{exporter=\"durable\"");
        assert_eq!(
            crate::testing::metric(&telemetry, &name),
            expected,
            "{column}"
        );
    }
}
