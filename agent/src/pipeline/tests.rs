//! Whole pipelines in process: merging, fan-out, refusal, timers, drain, and a balanced ledger throughout.

mod swap;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;

use super::*;
use crate::ack::{Ack, Answer, Answered};
use crate::batch::{Chunk, Payload, Transport};
use crate::component::{
    Exporter, ExporterContext, ExporterSettings, Factory, Intake, Outcome, ProcessorSettings,
    RequestFailure, Sender,
};
use crate::config::{Diagnostics, Section};
use crate::exporters::queue::{Pace, Storage, Ticket};
use crate::exporters::retry::RetryOptions;
use crate::exporters::sender::{self, QueueOptions, SenderSettings};
use crate::memory::HeldBytes;
use crate::processors::PROCESSORS;
use crate::units::HumanDuration;

mod partial;
mod slow;

/// An exporter that keeps what it is sent; each batch needs a permit.
#[derive(Debug, Clone)]
struct Keeper {
    kept: Arc<Mutex<Vec<Vec<u8>>>>,
    permits: Arc<Semaphore>,
    queue_size: usize,
    wait_for_result: bool,
    /// Where the queue's log is, if it has one.
    log: Option<std::path::PathBuf>,
}

impl Keeper {
    fn open() -> Self {
        Self::with_permits(Semaphore::MAX_PERMITS)
    }

    fn with_permits(permits: usize) -> Self {
        Self {
            kept: Arc::default(),
            permits: Arc::new(Semaphore::new(permits)),
            queue_size: 1,
            wait_for_result: false,
            log: None,
        }
    }

    /// The same with its queue in a log.
    fn durable(self, folder: &std::path::Path) -> Self {
        Self {
            log: Some(folder.to_owned()),
            ..self
        }
    }

    fn sizes(&self) -> Vec<usize> {
        self.kept.lock().unwrap().iter().map(Vec::len).collect()
    }

    fn bytes(&self) -> Vec<u8> {
        self.kept.lock().unwrap().concat()
    }
}

impl Exporter for Keeper {
    type Prepared = Payload;

    async fn prepare(
        &mut self,
        _signal: Signal,
        payload: Payload,
        _ticket: &Ticket,
        _pace: &Pace,
    ) -> Result<Payload, String> {
        Ok(payload)
    }

    async fn send(&mut self, prepared: &mut Payload, _: Option<Duration>) -> Outcome {
        self.permits.acquire().await.unwrap().forget();
        self.kept.lock().unwrap().push(prepared.to_bytes().to_vec());
        Outcome::Delivered
    }
}

impl PartialEq for Keeper {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.kept, &other.kept)
            && self.queue_size == other.queue_size
            && self.wait_for_result == other.wait_for_result
            && self.log == other.log
    }
}

impl ExporterSettings for Keeper {
    fn build(
        &self,
        context: &ExporterContext,
    ) -> Result<Vec<Sender>, crate::component::ComponentError> {
        let queue = QueueOptions {
            num_consumers: 1,
            queue_size: self.queue_size,
            wait_for_result: self.wait_for_result,
            storage: match self.log {
                Some(_) => Storage::Wal,
                None => Storage::Memory,
            },
            directory: self.log.clone(),
            ..QueueOptions::default()
        };
        let mut found = Diagnostics::default();
        let settings = Section::empty("exporters.keeper", &mut found, |section| {
            SenderSettings::resolve(
                section,
                HumanDuration::from_secs(0),
                &RetryOptions::default(),
                &queue,
            )
        });
        context
            .signals
            .iter()
            .map(|signal| sender::spawn(context, *signal, &settings, || self.clone()))
            .collect()
    }
}

fn processor(kind: &str, text: &str) -> Box<dyn ProcessorSettings> {
    if kind == "picky" {
        return Box::new(partial::Picky);
    }
    let factory: &Factory<dyn ProcessorSettings> = PROCESSORS
        .iter()
        .find(|factory| factory.kind == kind)
        .unwrap();
    let mut found = Diagnostics::default();
    let mut section = Section::from_text(kind, text, &mut found).unwrap();
    let settings = (factory.parse)(&mut section);
    settings.unwrap_or_else(|| panic!("{found}"))
}

/// A running pipeline `traces` with one receiver's inlet in front of it.
struct Bench {
    telemetry: Telemetry,
    held: HeldBytes,
    inlet: Inlet,
    running: Running,
}

fn start(processors: &[(&str, &str)], exporters: &[(&str, &Keeper)]) -> Bench {
    let (telemetry, held) = (Telemetry::default(), HeldBytes::default());
    let built: Vec<_> = processors
        .iter()
        .map(|(kind, text)| (*kind, processor(kind, text)))
        .collect();
    let nodes = [Node {
        id: "traces".to_owned(),
        signal: Signal::Traces,
        receivers: vec!["test".to_owned()],
        processors: processors
            .iter()
            .map(|(kind, _)| (*kind).to_owned())
            .collect(),
        exporters: exporters.iter().map(|(id, _)| (*id).to_owned()).collect(),
    }];
    let plan = Plan {
        receivers: [].into(),
        processors: built
            .iter()
            .map(|(kind, settings)| (*kind, settings.as_ref()))
            .collect(),
        exporters: exporters
            .iter()
            .map(|(id, keeper)| (*id, *keeper as &dyn ExporterSettings))
            .collect(),
        pipelines: &nodes,
        held_max: 1 << 20,
        files: crate::fingerprint::Fingerprints::NONE,
    };
    let world = World {
        telemetry: telemetry.clone(),
        held: held.clone(),
        ..World::default()
    };
    let built = plan.build(&world).unwrap();
    let pipelines = built.pipelines.iter();
    let pipelines = pipelines.map(|placed| Arc::clone(&placed.pipeline));
    let inlet = Inlet::new(
        &telemetry,
        "test",
        Signal::Traces,
        pipelines.collect(),
        held.clone(),
        1 << 20,
    );
    Bench {
        running: built.start(),
        telemetry,
        held,
        inlet,
    }
}

impl Bench {
    /// Submits `items` one-byte items, all of value `byte`; bytes count as items here.
    fn submit(&self, byte: u8, items: usize) -> Answered {
        self.submit_bytes(vec![byte; items])
    }

    /// Submits an item for each byte.
    fn submit_bytes(&self, bytes: Vec<u8>) -> Answered {
        let (ack, answered) = Ack::channel();
        let items = bytes.len();
        let reservation = self.held.reserve(items);
        let chunk = Chunk::reserved(Bytes::from(bytes), items, reservation);
        self.inlet.submit(
            Batch {
                signal: Signal::Traces,
                payload: chunk.into(),
                ack,
            },
            Transport::Http,
        );
        answered
    }

    /// Values of the ledger's columns for one exporter: accepted, delivered, queued, dropped.
    fn ledger(&self, exporter: &str) -> [i64; 4] {
        let text = String::from_utf8(self.telemetry.encode().unwrap()).unwrap();
        let sum = |column: &str| {
            text.lines()
                .filter(|line| line.starts_with(&format!("tidegate_ledger_{column}_items{{")))
                .filter(|line| line.contains(&format!("exporter=\"{exporter}\"")))
                .map(|line| line.rsplit(' ').next().unwrap().parse::<i64>().unwrap())
                .sum()
        };
        let columns = ["accepted", "delivered", "queued", "dropped"].map(sum);
        assert_eq!(
            columns[0],
            columns[1] + columns[2] + columns[3],
            "{columns:?}"
        );
        columns
    }
}

fn queue_is_full(answer: &Answer) -> bool {
    matches!(answer, Answer::Refused(refusal) if refusal.reason == RefusalReason::QueueFull && refusal.retry_after.is_some())
}

#[tokio::test(start_paused = true)]
async fn batches_are_merged_by_count_and_by_time() {
    let keeper = Keeper::open();
    let bench = start(&[("batch", "send_batch_size = 10")], &[("keeper", &keeper)]);
    for _ in 0..3 {
        assert_eq!(bench.submit(1, 4).await, Answer::Queued);
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(keeper.sizes(), [12]);
    bench.submit(2, 3).await;
    tokio::time::sleep(Duration::from_millis(199)).await;
    assert_eq!(keeper.sizes(), [12]);
    tokio::time::sleep(Duration::from_millis(2)).await;
    assert_eq!(keeper.sizes(), [12, 3]);
    assert_eq!(bench.ledger("keeper"), [15, 15, 0, 0]);
    assert_eq!(bench.held.bytes(), 0);
    assert_eq!(bench.running.stop(Duration::from_secs(1)).await.given_up, 0);
}

#[tokio::test(start_paused = true)]
async fn a_zero_timeout_sends_at_once() {
    let keeper = Keeper::open();
    let bench = start(&[("batch", "timeout = \"0s\"")], &[("keeper", &keeper)]);
    bench.submit(1, 2).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(keeper.sizes(), [2]);
    bench.running.stop(Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses_at_the_door_and_loses_nothing() {
    let keeper = Keeper::with_permits(0);
    let bench = start(&[], &[("keeper", &keeper)]);
    assert_eq!(bench.submit(1, 1).await, Answer::Queued);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(bench.submit(2, 1).await, Answer::Queued);
    assert!(queue_is_full(&bench.submit(3, 1).await));
    assert!(bench.inlet.admit(1).is_err());
    assert_eq!(bench.ledger("keeper"), [2, 0, 2, 0]);
    keeper.permits.add_permits(2);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(keeper.bytes(), [1, 2]);
    assert_eq!(bench.submit(4, 1).await, Answer::Queued);
    keeper.permits.add_permits(1);
    assert_eq!(bench.running.stop(Duration::from_secs(1)).await.given_up, 0);
    assert_eq!(keeper.bytes(), [1, 2, 4]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_goes_to_all_exporters_or_to_none() {
    let (open, closed) = (Keeper::open(), Keeper::with_permits(0));
    let bench = start(&[], &[("open", &open), ("closed", &closed)]);
    bench.submit(1, 1).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    bench.submit(2, 1).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(queue_is_full(&bench.submit(3, 1).await));
    assert_eq!(open.bytes(), [1, 2]);
    assert_eq!(bench.ledger("open"), [2, 2, 0, 0]);
    assert_eq!(bench.ledger("closed"), [2, 0, 2, 0]);
    closed.permits.add_permits(9);
    bench.running.stop(Duration::from_secs(1)).await;
    assert_eq!(closed.bytes(), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn clients_wait_for_delivery_where_the_queue_says_so() {
    let keeper = Keeper {
        wait_for_result: true,
        ..Keeper::with_permits(0)
    };
    let bench = start(&[], &[("keeper", &keeper)]);
    let mut answered = bench.submit(1, 1);
    assert!(
        tokio::time::timeout(Duration::from_secs(5), &mut answered)
            .await
            .is_err()
    );
    keeper.permits.add_permits(1);
    assert_eq!(answered.await, Answer::Delivered);
    bench.running.stop(Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn stopping_drains_what_processors_hold() {
    let keeper = Keeper::open();
    let bench = start(&[("batch", "")], &[("keeper", &keeper)]);
    bench.submit(7, 5).await;
    assert_eq!(bench.running.stop(Duration::from_secs(1)).await.given_up, 0);
    assert_eq!(keeper.sizes(), [5]);
}

#[tokio::test(start_paused = true)]
async fn a_drain_cut_short_counts_what_it_gives_up() {
    let keeper = Keeper {
        queue_size: 10,
        ..Keeper::with_permits(0)
    };
    let bench = start(&[], &[("keeper", &keeper)]);
    for byte in 0..3 {
        bench.submit(byte, 2).await;
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(
        bench
            .running
            .stop(Duration::from_secs(1))
            .await
            .given_up_now,
        6
    );
    let text = String::from_utf8(bench.telemetry.encode().unwrap()).unwrap();
    let dropped = r#"tidegate_ledger_dropped_items{exporter="keeper",otel_signal="traces",pipeline="traces",reason="shutdown"} 6"#;
    assert!(text.lines().any(|line| line == dropped), "{text}");
    assert_eq!(bench.held.bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_memory_limiter_refuses_before_anything_is_buffered() {
    let keeper = Keeper::with_permits(0);
    // The test process is larger than a MiB already.
    let bench = start(
        &[("memory_limiter", "limit_mib = 1")],
        &[("keeper", &keeper)],
    );
    let refusal = bench.inlet.admit(1).unwrap_err();
    assert_eq!(refusal.reason, RefusalReason::MemoryLimit);
    assert!(refusal.retry_after.is_some());
    assert!(matches!(bench.submit(1, 3).await, Answer::Refused(_)));
    let text = String::from_utf8(bench.telemetry.encode().unwrap()).unwrap();
    for line in [
        r#"otelcol_processor_memory_limiter_refused_spans{processor="memory_limiter"} 3"#,
        r#"otelcol_receiver_refused_spans{receiver="test",transport="http"} 3"#,
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "{line} not in\n{text}"
        );
    }
    assert_eq!(bench.ledger("keeper"), [0, 0, 0, 0]);
    bench.running.stop(Duration::ZERO).await;
}

#[tokio::test(start_paused = true)]
async fn the_process_holds_no_more_than_its_budget() {
    let keeper = Keeper::open();
    let bench = start(&[], &[("keeper", &keeper)]);
    let most = bench.inlet.admit(1 << 20).unwrap();
    assert_eq!(
        bench.inlet.admit(1).unwrap_err().reason,
        RefusalReason::MemoryLimit
    );
    drop(most);
    assert!(bench.inlet.admit(1).is_ok());
    bench.running.stop(Duration::ZERO).await;
}

/// Waits until the keeper has so many bytes.
async fn kept(keeper: &Keeper, bytes: usize) {
    crate::testing::eventually("delivery", || keeper.bytes().len() >= bytes).await;
}

#[tokio::test]
async fn with_a_log_batches_are_formed_behind_it_for_every_exporter() {
    let folder = tempfile::tempdir().unwrap();
    let durable = Keeper::open().durable(folder.path());
    // Room for all, however late its worker looks.
    let memory = Keeper {
        queue_size: 10,
        ..Keeper::open()
    };
    let processors = [("batch", "send_batch_size = 6\ntimeout = \"1h\"")];
    let bench = start(&processors, &[("durable", &durable), ("memory", &memory)]);
    for byte in 1..=3 {
        // Answered although nothing is sent for an hour: it is on disk.
        assert_eq!(bench.submit(byte, 2).await, Answer::Queued);
    }
    for keeper in [&durable, &memory] {
        kept(keeper, 6).await;
        assert_eq!(keeper.sizes(), [6]);
        assert_eq!(keeper.bytes(), [1, 1, 2, 2, 3, 3]);
    }
    assert_eq!(bench.submit(4, 1).await, Answer::Queued);
    assert_eq!(bench.ledger("durable")[0], 7);
    let ending = bench.running.stop(Duration::from_secs(5)).await;
    assert_eq!((ending.given_up, ending.stays), (0, 0));
    assert_eq!((durable.sizes(), memory.sizes()), (vec![6, 1], vec![6, 1]));
}

#[tokio::test]
async fn what_a_stop_does_not_deliver_stays_in_the_log_and_goes_out_after_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let closed = Keeper::with_permits(0).durable(folder.path());
    let bench = start(&[], &[("keeper", &closed)]);
    for byte in 1..=3 {
        assert_eq!(bench.submit(byte, 2).await, Answer::Queued);
    }
    let ending = bench.running.stop(Duration::from_millis(50)).await;
    assert_eq!((ending.given_up, ending.stays), (0, 6));
    let open = Keeper::open().durable(folder.path());
    let bench = start(&[], &[("keeper", &open)]);
    kept(&open, 6).await;
    assert_eq!(open.bytes(), [1, 1, 2, 2, 3, 3]);
    let ending = bench.running.stop(Duration::from_secs(5)).await;
    assert_eq!((ending.given_up, ending.stays), (0, 0));
}

#[tokio::test]
async fn a_log_that_is_in_use_keeps_the_pipeline_from_being_built() {
    let folder = tempfile::tempdir().unwrap();
    let keeper = Keeper::open().durable(folder.path());
    let bench = start(&[], &[("keeper", &keeper)]);
    let context = ExporterContext {
        id: "keeper".to_owned(),
        ..crate::testing::exporter_context(&[Signal::Traces])
    };
    let error = keeper.build(&context).unwrap_err();
    assert!(error.to_string().contains("in use by process"), "{error}");
    bench.running.stop(Duration::from_secs(5)).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_unread_is_estimated_where_the_collectors_users_look() {
    let (full, open) = (Keeper::with_permits(0), Keeper::open());
    let bench = start(&[], &[("full", &full), ("open", &open)]);
    // Ten items of a byte each; one in the worker's hands and one in the queue.
    for byte in 0..2 {
        bench.submit(byte, 10).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let refusal = bench.inlet.admit(30).unwrap_err();
    for bytes in [Some(30), None, Some(0)] {
        bench.inlet.count_failure(
            Transport::Http,
            RequestFailure::Refused {
                reason: refusal.reason,
                bytes,
            },
        );
    }
    let text = String::from_utf8(bench.telemetry.encode().unwrap()).unwrap();
    for line in [
        // By its length, by the requests so far, and at least one.
        r#"otelcol_receiver_refused_spans{receiver="test",transport="http"} 41"#,
        r#"otelcol_exporter_enqueue_failed_spans{exporter="full"} 41"#,
        r#"otelcol_exporter_enqueue_failed_spans{exporter="open"} 0"#,
        r#"otelcol_receiver_accepted_spans{receiver="test",transport="http"} 20"#,
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "{line} not in\n{text}"
        );
    }
    full.permits.add_permits(2);
    bench.running.stop(Duration::from_secs(1)).await;
}
