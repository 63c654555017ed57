//! Graphs that take each other's place: nothing is lost, nothing is doubled, and what is the same stays.

use std::collections::BTreeMap;
use std::path::Path;

use super::*;
use crate::component::{
    BoxFuture, ComponentError, Receiver, ReceiverContext, ReceiverSettings, Shutdown,
};
use crate::fingerprint::Fingerprints;
use crate::testing::eventually;

/// A receiver that lets the test in.
#[derive(Debug, Clone, Default)]
struct Tap(Arc<Mutex<Option<Arc<dyn Intake>>>>);

impl std::fmt::Debug for dyn Intake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Intake")
    }
}

impl PartialEq for Tap {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl ReceiverSettings for Tap {
    fn build(&self, context: ReceiverContext) -> Result<Box<dyn Receiver>, ComponentError> {
        let intake = context.intakes[Signal::Traces].clone();
        *self.0.lock().unwrap() = intake;
        Ok(Box::new(Idle))
    }
}

struct Idle;

impl Receiver for Idle {
    fn run(self: Box<Self>, shutdown: Shutdown) -> BoxFuture<'static, Result<(), ComponentError>> {
        Box::pin(async move {
            shutdown.triggered().await;
            Ok(())
        })
    }
}

/// What a plan is made of.
struct Shape {
    tap: Tap,
    processors: Vec<(&'static str, Box<dyn ProcessorSettings>)>,
    exporters: Vec<(&'static str, Keeper)>,
    nodes: Vec<Node>,
}

impl Shape {
    fn new(
        tap: &Tap,
        processors: &[(&'static str, &str)],
        exporters: &[(&'static str, &Keeper)],
    ) -> Self {
        Self {
            tap: tap.clone(),
            processors: processors
                .iter()
                .map(|(kind, text)| (*kind, processor(kind, text)))
                .collect(),
            exporters: exporters
                .iter()
                .map(|(id, keeper)| (*id, (*keeper).clone()))
                .collect(),
            nodes: vec![Node {
                id: "traces".to_owned(),
                signal: Signal::Traces,
                receivers: vec!["tap".to_owned()],
                processors: processors
                    .iter()
                    .map(|(kind, _)| (*kind).to_owned())
                    .collect(),
                exporters: exporters.iter().map(|(id, _)| (*id).to_owned()).collect(),
            }],
        }
    }

    fn plan(&self) -> Plan<'_> {
        Plan {
            receivers: [("tap", &self.tap as &dyn ReceiverSettings)].into(),
            processors: self
                .processors
                .iter()
                .map(|(kind, settings)| (*kind, settings.as_ref()))
                .collect(),
            exporters: self
                .exporters
                .iter()
                .map(|(id, keeper)| (*id, keeper as &dyn ExporterSettings))
                .collect(),
            pipelines: &self.nodes,
            held_max: 1 << 20,
            files: Fingerprints::NONE,
        }
    }
}

struct Live {
    world: World,
    running: Running,
    shape: Arc<Shape>,
}

impl Live {
    fn start(shape: Shape) -> Self {
        let world = World::default();
        let running = shape.plan().build(&world).unwrap().start();
        Self {
            world,
            running,
            shape: Arc::new(shape),
        }
    }

    async fn try_swap(&mut self, shape: Shape) -> Result<(), crate::failure::Failures> {
        let (old, new) = (Arc::clone(&self.shape), Arc::new(shape));
        let builder = self.running.builder();
        let building = {
            let new = Arc::clone(&new);
            tokio::task::spawn_blocking(move || builder(&old.plan(), &new.plan()))
        };
        let built = building.await.unwrap()?;
        self.running.swap(built);
        self.shape = new;
        Ok(())
    }

    async fn swap(&mut self, shape: Shape) {
        self.try_swap(shape).await.unwrap();
    }

    /// Submits one item of value `byte`.
    fn submit(&self, byte: u8) -> Answered {
        let (ack, answered) = Ack::channel();
        let reservation = self.world.held.reserve(1);
        let chunk = Chunk::reserved(Bytes::from(vec![byte]), 1, reservation);
        let intake = self.shape.tap.0.lock().unwrap().clone().unwrap();
        intake.submit(
            Batch {
                signal: Signal::Traces,
                payload: chunk.into(),
                ack,
            },
            Transport::Http,
        );
        answered
    }

    async fn submit_all(&self, bytes: std::ops::Range<u8>) {
        for byte in bytes {
            assert_eq!(self.submit(byte).await, Answer::Queued);
        }
    }

    /// Accepted, delivered, queued, dropped items of all exporters; they add up.
    fn ledger(&self) -> [i64; 4] {
        let text = String::from_utf8(self.world.telemetry.encode().unwrap()).unwrap();
        let sum = |column: &str| {
            let start = format!("tidegate_ledger_{column}_items{{");
            let lines = text.lines().filter(|line| line.starts_with(&start));
            lines
                .map(|line| line.rsplit(' ').next().unwrap().parse::<i64>().unwrap())
                .sum()
        };
        let columns: [i64; 4] = ["accepted", "delivered", "queued", "dropped"].map(sum);
        assert_eq!(columns[0], columns[1] + columns[2] + columns[3], "{text}");
        columns
    }

    async fn all_is_delivered(&self) {
        eventually("delivery", || self.ledger()[2] == 0).await;
        assert_eq!(self.ledger()[3], 0, "nothing is dropped");
    }

    async fn stop(self) {
        let ending = self.running.stop(Duration::from_secs(5)).await;
        assert_eq!((ending.given_up, ending.stays), (0, 0));
        let alive = || {
            tokio::runtime::Handle::current()
                .metrics()
                .num_alive_tasks()
        };
        eventually("the end of every task", || alive() == 0).await;
    }
}

/// A keeper for many items, in memory or in a log below `folder`.
fn keeper(storage: &str, folder: &Path, permits: usize) -> Keeper {
    let keeper = Keeper {
        queue_size: 1000,
        ..Keeper::with_permits(permits)
    };
    match storage {
        "memory" => keeper,
        _ => keeper.durable(&folder.join(storage)),
    }
}

fn sorted(keepers: &[&Keeper]) -> Vec<u8> {
    let mut all: Vec<u8> = keepers.iter().flat_map(|keeper| keeper.bytes()).collect();
    all.sort_unstable();
    all
}

#[tokio::test]
async fn a_changed_exporter_hands_its_queue_over_in_order() {
    for storage in ["memory", "wal"] {
        let folder = tempfile::tempdir().unwrap();
        let tap = Tap::default();
        // It takes two, and has a third in its hands when it has to go.
        let old = keeper(storage, folder.path(), 2);
        let new = keeper(storage, folder.path(), Semaphore::MAX_PERMITS);
        let mut live = Live::start(Shape::new(&tap, &[], &[("keeper", &old)]));
        live.submit_all(0..20).await;
        eventually("two deliveries", || old.bytes().len() == 2).await;
        live.swap(Shape::new(&tap, &[], &[("keeper", &new)])).await;
        live.submit_all(20..30).await;
        assert_eq!(live.ledger()[..3], [30, 2, 28], "{storage}");
        assert!(
            new.bytes().is_empty(),
            "the attempt under way is waited for"
        );
        old.permits.add_permits(1);
        live.all_is_delivered().await;
        assert_eq!(old.bytes(), [0, 1, 2], "{storage}");
        assert_eq!(new.bytes(), (3..30).collect::<Vec<_>>(), "{storage}");
        live.stop().await;
    }
}

#[tokio::test]
async fn what_waits_moves_to_another_place_with_the_queue() {
    let tap = Tap::default();
    for way in [["memory", "wal"], ["wal", "memory"], ["wal", "other"]] {
        let folder = tempfile::tempdir().unwrap();
        let [from, to] = way;
        let old = keeper(from, folder.path(), 0);
        let between = keeper(to, folder.path(), 0);
        let back = keeper(from, folder.path(), Semaphore::MAX_PERMITS);
        let mut live = Live::start(Shape::new(&tap, &[], &[("keeper", &old)]));
        live.submit_all(0..5).await;
        live.swap(Shape::new(&tap, &[], &[("keeper", &between)]))
            .await;
        live.submit_all(5..10).await;
        live.swap(Shape::new(&tap, &[], &[("keeper", &back)])).await;
        live.submit_all(10..15).await;
        assert_eq!(live.ledger()[2], 15, "{way:?}");
        // What each has in its hands, it may finish.
        old.permits.add_permits(1);
        between.permits.add_permits(2);
        live.all_is_delivered().await;
        assert_eq!(
            sorted(&[&old, &between, &back]),
            (0..15).collect::<Vec<_>>(),
            "{way:?}"
        );
        live.stop().await;
    }
}

#[tokio::test]
async fn a_removed_exporter_delivers_what_it_has_or_is_taken_back() {
    for storage in ["memory", "wal"] {
        let folder = tempfile::tempdir().unwrap();
        let (tap, stays) = (
            Tap::default(),
            keeper("memory", folder.path(), Semaphore::MAX_PERMITS),
        );
        let goes = keeper(storage, folder.path(), 0);
        let both = || Shape::new(&tap, &[], &[("stays", &stays), ("goes", &goes)]);
        let alone = || Shape::new(&tap, &[], &[("stays", &stays)]);
        let mut live = Live::start(both());
        live.submit_all(0..5).await;
        live.swap(alone()).await;
        live.submit_all(5..10).await;
        // Back before it was done: the same queue, the same log.
        live.swap(both()).await;
        live.submit_all(10..15).await;
        // Nobody waits for its end any more, however long it goes on to deliver.
        goes.permits.add_permits(1);
        eventually("its return", || live.running.leaving() == 0).await;
        live.swap(alone()).await;
        goes.permits.add_permits(100);
        live.all_is_delivered().await;
        let expected: Vec<u8> = (0..5).chain(10..15).collect();
        assert_eq!(sorted(&[&goes]), expected, "{storage}");
        assert_eq!(
            stays.bytes(),
            (0..15).collect::<Vec<_>>(),
            "it saw nothing of all that"
        );
        // Its log can be opened again once it is gone.
        eventually("its end", || live.running.leaving() == 0).await;
        live.swap(both()).await;
        live.submit_all(15..16).await;
        live.all_is_delivered().await;
        assert_eq!(goes.bytes().last(), Some(&15));
        live.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_removed_exporter_cannot_deliver_in_time_is_given_up_from_memory_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let (tap, stays) = (
        Tap::default(),
        keeper("memory", folder.path(), Semaphore::MAX_PERMITS),
    );
    let goes = keeper("memory", folder.path(), 0);
    let mut live = Live::start(Shape::new(&tap, &[], &[("stays", &stays), ("goes", &goes)]));
    live.submit_all(0..5).await;
    live.running.drain_timeout = Duration::from_secs(3);
    live.swap(Shape::new(&tap, &[], &[("stays", &stays)])).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(live.ledger(), [10, 5, 0, 5]);
    assert_eq!(live.running.leaving(), 0);
    assert!(live.running.tidy(), "nothing is waited for");
    assert_eq!(live.ledger(), [10, 5, 0, 5], "a loss stays to be seen");
    live.running.stop(Duration::from_secs(5)).await;
}

#[tokio::test(start_paused = true)]
async fn a_removed_exporter_that_is_slow_delivers_everything_however_long_it_takes() {
    let folder = tempfile::tempdir().unwrap();
    let (tap, stays) = (
        Tap::default(),
        keeper("memory", folder.path(), Semaphore::MAX_PERMITS),
    );
    let goes = keeper("memory", folder.path(), 0);
    let mut live = Live::start(Shape::new(&tap, &[], &[("stays", &stays), ("goes", &goes)]));
    live.submit_all(0..5).await;
    live.running.drain_timeout = Duration::from_secs(3);
    live.swap(Shape::new(&tap, &[], &[("stays", &stays)])).await;
    for delivered in 1..=5 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        goes.permits.add_permits(1);
        eventually("a delivery", || goes.bytes().len() == delivered).await;
    }
    eventually("its end", || live.running.leaving() == 0).await;
    assert_eq!(live.ledger(), [10, 10, 0, 0]);
    live.stop().await;
}

#[tokio::test]
async fn what_is_the_same_keeps_its_state() {
    let folder = tempfile::tempdir().unwrap();
    let tap = Tap::default();
    let (one, two) = (
        keeper("memory", folder.path(), Semaphore::MAX_PERMITS),
        keeper("memory", folder.path(), Semaphore::MAX_PERMITS),
    );
    let batch = [("batch", "timeout = \"1h\"\nsend_batch_size = 4")];
    let mut live = Live::start(Shape::new(&tap, &batch, &[("one", &one)]));
    live.submit_all(0..3).await;
    // The exporter behind the half-full batch is another one now.
    let changed = Keeper {
        queue_size: 500,
        ..one.clone()
    };
    live.swap(Shape::new(&tap, &batch, &[("one", &changed)]))
        .await;
    assert_eq!(live.ledger()[1], 0, "the batch still waits");
    live.submit_all(3..4).await;
    live.all_is_delivered().await;
    assert_eq!(one.sizes(), [4]);
    // A pipeline of another shape lets go of what it gathered, to where it was to go.
    live.submit_all(4..6).await;
    live.swap(Shape::new(
        &tap,
        &batch,
        &[("one", &changed), ("two", &two)],
    ))
    .await;
    live.all_is_delivered().await;
    assert_eq!((one.sizes(), two.sizes()), (vec![4, 2], vec![]));
    live.submit_all(6..10).await;
    live.all_is_delivered().await;
    assert_eq!((one.sizes(), two.sizes()), (vec![4, 2, 4], vec![4]));
    // Other settings of a processor.
    let small = [("batch", "timeout = \"1h\"\nsend_batch_size = 1")];
    live.submit_all(10..12).await;
    live.swap(Shape::new(
        &tap,
        &small,
        &[("one", &changed), ("two", &two)],
    ))
    .await;
    live.submit_all(12..13).await;
    live.all_is_delivered().await;
    assert_eq!(one.bytes(), (0..13).collect::<Vec<_>>());
    live.stop().await;
}

#[tokio::test]
async fn limits_of_a_queue_that_stays_are_those_of_its_new_exporter() {
    let folder = tempfile::tempdir().unwrap();
    let tap = Tap::default();
    let keeper = keeper("memory", folder.path(), 0);
    let sized = |queue_size| Keeper {
        queue_size,
        ..keeper.clone()
    };
    let shape = |queue_size| Shape::new(&tap, &[], &[("keeper", &sized(queue_size))]);
    let mut live = Live::start(shape(3));
    live.submit_all(0..1).await;
    let waits = || crate::testing::metric(&live.world.telemetry, "otelcol_exporter_queue_size{");
    eventually("a batch in its hands", || waits() == 0.0).await;
    live.submit_all(1..4).await;
    assert!(queue_is_full(&live.submit(9).await));
    live.swap(shape(4)).await;
    live.submit_all(4..5).await;
    assert!(queue_is_full(&live.submit(9).await));
    live.swap(shape(1)).await;
    assert!(queue_is_full(&live.submit(9).await));
    keeper.permits.add_permits(100);
    live.all_is_delivered().await;
    live.stop().await;
}

#[tokio::test]
async fn what_cannot_be_built_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let tap = Tap::default();
    let runs = keeper("wal", folder.path(), Semaphore::MAX_PERMITS);
    let mut live = Live::start(Shape::new(&tap, &[], &[("runs", &runs)]));
    live.submit_all(0..5).await;
    std::fs::write(folder.path().join("file"), "").unwrap();
    let impossible = runs.clone().durable(&folder.path().join("file/queue"));
    let changed = Keeper {
        queue_size: 7,
        ..runs.clone()
    };
    let exporters = [("runs", &changed), ("s-impossible", &impossible)];
    let error = live.try_swap(Shape::new(&tap, &[], &exporters)).await;
    assert!(error.unwrap_err().to_string().contains("file/queue"));
    live.submit_all(5..10).await;
    live.all_is_delivered().await;
    assert_eq!(sorted(&[&runs]), (0..10).collect::<Vec<_>>());
    live.stop().await;
}

/// Submits one numbered item after the other; how many there were.
async fn submit_until(stop: Shutdown, intake: Arc<dyn Intake>, held: HeldBytes) -> u32 {
    let mut sent = 0u32;
    while !stop.is_triggered() {
        let (ack, answered) = Ack::channel();
        let bytes = Bytes::from(sent.to_be_bytes().to_vec());
        let chunk = Chunk::reserved(bytes, 1, held.reserve(4));
        let batch = Batch {
            signal: Signal::Traces,
            payload: chunk.into(),
            ack,
        };
        intake.submit(batch, Transport::Http);
        let answer = answered.await;
        // On a busy machine it is faster than what empties the queue; the same number comes again.
        if !queue_is_full(&answer) {
            assert_eq!(answer, Answer::Queued);
            sent += 1;
        }
        tokio::task::yield_now().await;
    }
    sent
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_swaps_under_load_lose_and_double_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let tap = Tap::default();
    let kinds: Vec<_> = ["memory", "wal", "other"]
        .iter()
        .map(|storage| keeper(storage, folder.path(), Semaphore::MAX_PERMITS))
        .collect();
    let second = keeper("memory", folder.path(), Semaphore::MAX_PERMITS);
    let batches = [
        "send_batch_size = 1",
        "send_batch_size = 3\ntimeout = \"2ms\"",
    ];
    let shape = |round: usize| {
        let exporter = Keeper {
            queue_size: 10_000 + round % 2,
            ..kinds[round / 2 % 3].clone()
        };
        let mut exporters = vec![("keeper", &exporter)];
        if round % 5 < 2 {
            exporters.push(("second", &second));
        }
        let processors = [("batch", batches[round / 3 % 2])];
        let processors = if round.is_multiple_of(7) {
            &[][..]
        } else {
            &processors
        };
        Shape::new(&tap, processors, &exporters)
    };
    let mut live = Live::start(shape(0));
    let stop = Shutdown::default();
    let load = tokio::spawn(submit_until(
        stop.clone(),
        tap.0.lock().unwrap().clone().unwrap(),
        live.world.held.clone(),
    ));
    for round in 1..=300 {
        live.swap(shape(round)).await;
        live.ledger();
    }
    stop.trigger();
    let sent = load.await.unwrap();
    live.all_is_delivered().await;
    let mut seen: BTreeMap<u32, u32> = BTreeMap::new();
    for bytes in kinds
        .iter()
        .flat_map(|keeper| keeper.kept.lock().unwrap().clone())
    {
        for number in bytes.chunks(4) {
            *seen
                .entry(u32::from_be_bytes(number.try_into().unwrap()))
                .or_default() += 1;
        }
    }
    let wrong: Vec<_> = (0..sent)
        .filter(|number| seen.get(number) != Some(&1))
        .collect();
    assert!(wrong.is_empty(), "of {sent}: {wrong:?}");
    live.stop().await;
}
