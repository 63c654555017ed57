//! What every queue does, whatever it keeps its requests in; and what one on disk does over restarts.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::ack::{Answered, RefusalReason};
use crate::config::{Diagnostics, Section};
use crate::telemetry::Telemetry;
use crate::testing::{exporter_context, log_numbers, metric};

/// A queue for logs with one pipeline.
struct Bench {
    queue: Queue,
    account: Account,
    telemetry: Telemetry,
}

impl Bench {
    fn open(options: &str) -> Self {
        let bench = Self::build(options);
        bench.queue.start();
        bench
    }

    /// Before workers may have anything.
    fn build(options: &str) -> Self {
        let context = exporter_context(&[Signal::Logs]);
        let mut found = Diagnostics::default();
        let settings = Section::from_text("exporters.test", options, &mut found)
            .and_then(|mut section| {
                let options: QueueOptions = section.options()?;
                Some(options.resolve(&mut section))
            })
            .unwrap();
        assert!(!found.has_errors(), "{found}");
        let queue = Queue::open(&context, Signal::Logs, &settings).unwrap();
        let ledger = Ledger::new(&context.telemetry, "logs", "test", Signal::Logs);
        let account = queue.account("logs", ledger, false);
        Self {
            queue,
            account,
            telemetry: context.telemetry,
        }
    }

    /// Pushes the log records with these numbers as one request.
    fn push(&self, numbers: std::ops::Range<u64>) -> Answered {
        let (ack, answered) = Ack::channel();
        let payload = crate::testing::numbered_logs(numbers).into();
        self.queue.push(&self.account, payload, ack);
        answered
    }

    async fn next(&self) -> Delivery {
        let next = tokio::time::timeout(Duration::from_secs(20), self.queue.next());
        next.await.unwrap().expect("there is a batch")
    }

    /// Accepted, delivered, queued, dropped, all in one look: the log works meanwhile.
    fn ledger(&self) -> [i64; 4] {
        let text = String::from_utf8(self.telemetry.encode().unwrap()).unwrap();
        let columns = ["accepted", "delivered", "queued", "dropped"].map(|column| {
            let start = format!("tidegate_ledger_{column}_items{{");
            let lines = text.lines().filter(|line| line.starts_with(&start));
            lines
                .map(|line| line.rsplit(' ').next().unwrap().parse::<i64>().unwrap())
                .sum::<i64>()
        });
        assert_eq!(
            columns[0],
            columns[1] + columns[2] + columns[3],
            "{columns:?}"
        );
        columns
    }

    /// The process ends in an orderly way.
    async fn stop(self) -> [i64; 4] {
        self.queue.close();
        self.queue.finish().await;
        self.ledger()
    }
}

fn numbers(delivery: &Delivery) -> Vec<u64> {
    log_numbers(&delivery.payload)
}

/// Options of a queue in memory and of one on disk, with `more`.
fn both(folder: &Path, more: &str) -> [String; 2] {
    [
        more.to_owned(),
        format!(
            "storage = 'wal'\ndirectory = '{}'\n{more}",
            folder.display()
        ),
    ]
}

fn wal(folder: &Path, more: &str) -> String {
    let [_, wal] = both(folder, more);
    wal
}

#[tokio::test]
async fn requests_come_out_once_in_order_and_are_accounted_for() {
    let folder = tempfile::tempdir().unwrap();
    for options in both(folder.path(), "") {
        let bench = Bench::open(&options);
        for number in 0..5 {
            assert_eq!(
                bench.push(number * 10..number * 10 + 3).await,
                Answer::Queued
            );
        }
        assert_eq!(bench.ledger(), [15, 0, 15, 0]);
        let mut names = Vec::new();
        for number in 0..5 {
            let delivery = bench.next().await;
            assert_eq!(
                numbers(&delivery),
                [number * 10, number * 10 + 1, number * 10 + 2]
            );
            names.push(delivery.ticket.name().to_owned());
            if number == 3 {
                let refusal = Refusal::permanent("no");
                delivery.settlement.dropped("rejected", &refusal);
            } else {
                delivery.settlement.delivered();
            }
        }
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 5);
        assert_eq!(bench.stop().await, [15, 12, 0, 3], "{options}");
    }
}

#[tokio::test]
async fn batches_are_formed_by_count_by_time_and_to_a_maximum() {
    let folder = tempfile::tempdir().unwrap();
    let more = "batch = { min_size = 10, max_size = 10, flush_timeout = '1s' }";
    for options in both(folder.path(), more) {
        let bench = Bench::open(&options);
        for start in [0, 4, 8] {
            bench.push(start..start + 4).await;
        }
        bench.push(12..35).await;
        let mut sizes = Vec::new();
        let mut seen = Vec::new();
        while seen.len() < 35 {
            let delivery = bench.next().await;
            sizes.push(delivery.payload.items());
            seen.extend(numbers(&delivery));
            assert_eq!(delivery.settlement.items(), delivery.payload.items());
            delivery.settlement.delivered();
        }
        assert_eq!(seen, (0..35).collect::<Vec<_>>(), "{options}");
        assert_eq!(sizes, [10, 10, 10, 5], "{options}");
        assert_eq!(bench.stop().await, [35, 35, 0, 0]);
    }
}

#[tokio::test]
async fn workers_that_wait_already_form_batches_as_pipelines_say() {
    let folder = tempfile::tempdir().unwrap();
    for options in both(folder.path(), "") {
        let bench = Bench::build(&options);
        let queue = bench.queue.clone();
        let worker = tokio::spawn(async move { queue.next().await });
        // It waits for requests by now.
        tokio::task::yield_now().await;
        bench.queue.form(Batching {
            timeout: Duration::from_secs(3600),
            size: 4,
            ..Batching::default()
        });
        bench.queue.start();
        drop([bench.push(0..2), bench.push(2..4)]);
        let delivery = tokio::time::timeout(Duration::from_secs(20), worker).await;
        let delivery = delivery.unwrap().unwrap().unwrap();
        assert_eq!(numbers(&delivery), [0, 1, 2, 3]);
        delivery.settlement.delivered();
        assert_eq!(bench.stop().await, [4, 4, 0, 0]);
    }
}

#[tokio::test]
async fn a_batch_can_be_divided_down_to_one_item() {
    let folder = tempfile::tempdir().unwrap();
    for options in both(
        folder.path(),
        "batch = { min_size = 5, flush_timeout = '1h' }",
    ) {
        let bench = Bench::open(&options);
        bench.push(0..2).await;
        bench.push(2..5).await;
        let mut waiting = vec![bench.next().await];
        let mut singles = Vec::new();
        let mut names = BTreeSet::new();
        while let Some(delivery) = waiting.pop() {
            assert!(names.insert(delivery.ticket.name().to_owned()));
            let found = numbers(&delivery);
            match delivery.settlement.split().await {
                Ok([first, second]) => waiting.extend([second, first]),
                Err(single) => {
                    singles.extend(found);
                    assert_eq!(single.payload().await.unwrap().items(), 1);
                    single.delivered();
                }
            }
        }
        assert_eq!(singles, [0, 1, 2, 3, 4], "{options}");
        assert_eq!(bench.stop().await, [5, 5, 0, 0]);
    }
}

#[tokio::test]
async fn a_closed_queue_gives_out_what_it_has_and_ends_every_worker() {
    let folder = tempfile::tempdir().unwrap();
    for options in both(folder.path(), "batch = { flush_timeout = '1h' }") {
        let bench = Bench::open(&options);
        bench.push(0..3).await;
        bench.queue.close();
        let delivery = bench.next().await;
        assert_eq!(numbers(&delivery), [0, 1, 2]);
        let (first, second) = tokio::join!(bench.queue.next(), bench.queue.next());
        assert!(first.is_none() && second.is_none());
        delivery.settlement.delivered();
        assert_eq!(bench.stop().await, [3, 3, 0, 0]);
    }
}

#[tokio::test]
async fn what_is_not_delivered_is_given_up_in_memory_and_stays_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    for (options, expected) in both(folder.path(), "")
        .into_iter()
        .zip([[4, 0, 0, 4], [4, 0, 4, 0]])
    {
        let bench = Bench::open(&options);
        bench.push(0..2).await;
        bench.push(2..4).await;
        let delivery = bench.next().await;
        let given_up = delivery.settlement.cut_short();
        assert_eq!(given_up == 2, expected[3] == 4);
        assert_eq!(bench.stop().await, expected, "{options}");
    }
}

#[tokio::test]
async fn after_a_restart_batches_have_the_same_name_and_items() {
    let folder = tempfile::tempdir().unwrap();
    let options = wal(folder.path(), "batch = { min_size = 3, max_size = 3 }");
    let mut before = BTreeMap::new();
    let bench = Bench::open(&options);
    bench.push(0..7).await;
    for _ in 0..2 {
        let delivery = bench.next().await;
        delivery.ticket.part_done("otel_logs");
        before.insert(delivery.ticket.name().to_owned(), numbers(&delivery));
        drop(delivery);
    }
    assert_eq!(bench.stop().await, [7, 0, 7, 0]);
    // Other settings form other batches: those that were formed stay what they are.
    let bench = Bench::open(&wal(folder.path(), ""));
    assert_eq!(bench.ledger(), [7, 0, 7, 0]);
    let mut after = BTreeMap::new();
    for _ in 0..2 {
        let delivery = bench.next().await;
        assert!(delivery.ticket.is_done("otel_logs") && !delivery.ticket.is_done("other"));
        after.insert(delivery.ticket.name().to_owned(), numbers(&delivery));
        delivery.settlement.delivered();
    }
    assert_eq!(before, after);
    let rest = bench.next().await;
    assert_eq!(numbers(&rest), [6]);
    rest.settlement.delivered();
    assert_eq!(bench.stop().await, [7, 7, 0, 0]);
    let bench = Bench::open(&options);
    assert_eq!(bench.stop().await, [0, 0, 0, 0]);
}

#[tokio::test]
async fn halves_keep_their_names_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let options = wal(folder.path(), "");
    let bench = Bench::open(&options);
    bench.push(0..5).await;
    let whole = bench.next().await;
    let [first, second] = whole.settlement.split().await.unwrap();
    let name = second.ticket.name().to_owned();
    let items = numbers(&second);
    first.settlement.delivered();
    drop(second);
    bench.stop().await;
    let bench = Bench::open(&options);
    let again = bench.next().await;
    assert_eq!(
        (again.ticket.name(), numbers(&again)),
        (name.as_str(), items)
    );
    again.settlement.delivered();
    assert_eq!(bench.stop().await, [3, 3, 0, 0]);
}

#[tokio::test]
async fn items_of_a_pipeline_that_is_gone_are_delivered_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let options = wal(folder.path(), "");
    let bench = Bench::open(&options);
    let ledger = Ledger::new(&bench.telemetry, "logs/old", "test", Signal::Logs);
    let old = bench.queue.account("logs/old", ledger, false);
    let (ack, answered) = Ack::channel();
    let payload = crate::testing::numbered_logs(0..3).into();
    bench.queue.push(&old, payload, ack);
    answered.await;
    bench.stop().await;
    let bench = Bench::open(&options);
    let delivery = bench.next().await;
    delivery.settlement.delivered();
    let line = r#"tidegate_ledger_delivered_items{exporter="test",otel_signal="logs",pipeline="(removed)"}"#;
    assert_eq!(metric(&bench.telemetry, line), 3.0);
    bench.stop().await;
}

#[tokio::test]
async fn a_full_log_refuses_with_a_hint_until_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(&wal(folder.path(), "max_size = '1MiB'"));
    let mut next = 0;
    while bench.queue.ready().is_ok() {
        bench.push(next..next + 1000).await;
        next += 1000;
        assert!(next < 1_000_000);
    }
    let refusal = bench.queue.ready().unwrap_err();
    assert_eq!(refusal.reason, RefusalReason::QueueFull);
    assert!(refusal.retry_after.is_some());
    bench.next().await.settlement.delivered();
    crate::testing::eventually("room", || bench.queue.ready().is_ok()).await;
    bench.stop().await;
}

#[tokio::test]
async fn a_full_log_gives_up_the_oldest_if_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let more = "max_size = '1MiB'\non_full = 'drop_oldest'";
    let bench = Bench::open(&wal(folder.path(), more));
    for number in 0..60 {
        assert!(bench.queue.ready().is_ok());
        assert_eq!(
            bench.push(number * 1000..number * 1000 + 1000).await,
            Answer::Queued
        );
    }
    crate::testing::eventually("dropping", || {
        let [.., queued, dropped] = bench.ledger();
        dropped > 0 && queued < 40_000
    })
    .await;
    // The log may give up more meanwhile.
    let before = bench.ledger()[3];
    let delivery = bench.next().await;
    let first = numbers(&delivery)[0] as i64;
    assert!(before <= first, "{before} are gone, {first} is not");
    crate::testing::eventually("the oldest to be gone", || bench.ledger()[3] >= first).await;
    delivery.settlement.delivered();
    let text = String::from_utf8(bench.telemetry.encode().unwrap()).unwrap();
    assert!(text.contains(r#"reason="queue_full""#), "{text}");
    bench.stop().await;
}

#[tokio::test]
async fn what_one_open_batch_keeps_on_disk_is_bounded() {
    for on_full in ["refuse", "drop_oldest"] {
        let folder = tempfile::tempdir().unwrap();
        let more = format!("max_size = '1MiB'\non_full = '{on_full}'");
        let bench = Bench::open(&wal(folder.path(), &more));
        bench.push(0..1000).await;
        let open = bench.next().await;
        let mut next = 1000;
        while bench.queue.ready().is_ok() {
            bench.push(next..next + 1000).await;
            bench.next().await.settlement.delivered();
            next += 1000;
            assert!(next < 1_000_000, "{on_full}");
        }
        open.settlement.delivered();
        crate::testing::eventually("room", || bench.queue.ready().is_ok()).await;
        assert_eq!(bench.stop().await[2], 0);
    }
}

#[tokio::test]
async fn what_is_too_old_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(&wal(folder.path(), "max_age = '3s'"));
    bench.push(0..3).await;
    let taken = bench.next().await;
    assert!(!taken.settlement.is_expired());
    bench.push(3..6).await;
    crate::testing::eventually("expiry", || bench.ledger()[3] == 3).await;
    assert!(taken.settlement.is_expired());
    taken
        .settlement
        .dropped("expired", &Refusal::permanent("old"));
    assert_eq!(bench.stop().await, [6, 0, 0, 6]);
}

#[tokio::test]
async fn one_directory_has_one_owner() {
    let folder = tempfile::tempdir().unwrap();
    let options = wal(folder.path(), "");
    let bench = Bench::open(&options);
    let context = exporter_context(&[Signal::Logs]);
    let mut found = Diagnostics::default();
    let mut section = Section::from_text("exporters.test", &options, &mut found).unwrap();
    let settings: QueueOptions = section.options().unwrap();
    let settings = settings.resolve(&mut section);
    let error = Queue::open(&context, Signal::Logs, &settings).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("in use by process"), "{text}");
    assert_eq!(error.key, "sending_queue.directory");
    bench.stop().await;
    assert!(Queue::open(&context, Signal::Logs, &settings).is_ok());
}

#[test]
fn contradictions_are_reported_with_their_key() {
    let check = |options: &str, key: &str, reason: &str| {
        let mut found = Diagnostics::default();
        let mut section = Section::from_text("exporters.test", options, &mut found).unwrap();
        if let Some(options) = section.options::<QueueOptions>() {
            options.resolve(&mut section);
        }
        let text = found.to_string();
        assert!(text.contains(key) && text.contains(reason), "{text}");
    };
    check("storage = 'disk'", "storage", "wal");
    check(
        "storage = 'wal'\ndirectory = '/x'\nenabled = false",
        "enabled",
        "needs a queue",
    );
    check(
        "storage = 'wal'\ndirectory = '/x'\nwait_for_result = true",
        "wait_for_result",
        "on disk",
    );
    check(
        "storage = 'wal'\ndirectory = '/x'\nmax_size = 1000",
        "max_size",
        "1 MiB",
    );
    check(
        "storage = 'wal'\ndirectory = '/x'\nfsync = 'sometimes'",
        "fsync",
        "sometimes",
    );
    check(
        "batch = { min_size = 10, max_size = 5 }",
        "batch.max_size",
        "min_size",
    );
}

/// What may happen to a queue.
#[derive(Debug, Clone)]
enum Step {
    Push(u64),
    Take,
    Deliver(usize),
    Drop(usize),
    Split(usize),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1..12u64).prop_map(Step::Push),
        4 => Just(Step::Take),
        3 => any::<usize>().prop_map(Step::Deliver),
        1 => any::<usize>().prop_map(Step::Drop),
        1 => any::<usize>().prop_map(Step::Split),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..60)
}

/// The model: numbers that wait in order, and batches on their way by name.
#[derive(Default)]
struct Model {
    waiting: VecDeque<u64>,
    open: BTreeMap<String, Vec<u64>>,
}

/// A queue, the model beside it, and the batches that are on their way.
struct History<'a> {
    options: &'a str,
    durable: bool,
    bench: Bench,
    model: Model,
    taken: Vec<Delivery>,
    /// The next number to push.
    next: u64,
}

impl History<'_> {
    async fn step(&mut self, step: Step) {
        match step {
            Step::Push(items) => {
                let end = self.next + items;
                assert_eq!(self.bench.push(self.next..end).await, Answer::Queued);
                self.model.waiting.extend(self.next..end);
                self.next = end;
            }
            Step::Take if !self.model.waiting.is_empty() => {
                let delivery = self.bench.next().await;
                let found = numbers(&delivery);
                let expected: Vec<u64> = self.model.waiting.drain(..found.len()).collect();
                assert_eq!(found, expected);
                self.open(delivery);
            }
            Step::Deliver(which) if !self.taken.is_empty() => {
                self.close(which).1.settlement.delivered();
            }
            Step::Drop(which) if !self.taken.is_empty() => {
                let refusal = Refusal::permanent("no");
                self.close(which).1.settlement.dropped("rejected", &refusal);
            }
            Step::Split(which) if !self.taken.is_empty() => self.split(which).await,
            Step::Restart if self.durable => return self.restart().await,
            _ => {}
        }
    }

    fn open(&mut self, delivery: Delivery) {
        let name = delivery.ticket.name().to_owned();
        let found = numbers(&delivery);
        assert!(self.model.open.insert(name, found).is_none());
        self.taken.push(delivery);
    }

    /// Takes a batch out, with its numbers.
    fn close(&mut self, which: usize) -> (Vec<u64>, Delivery) {
        let delivery = self.taken.swap_remove(which % self.taken.len());
        let numbers = self.model.open.remove(delivery.ticket.name()).unwrap();
        (numbers, delivery)
    }

    async fn split(&mut self, which: usize) {
        let (whole, delivery) = self.close(which);
        match delivery.settlement.split().await {
            Ok(halves) => {
                let joined: Vec<u64> = halves.iter().flat_map(numbers).collect();
                assert_eq!(joined, whole);
                for half in halves {
                    self.open(half);
                }
            }
            Err(settlement) => {
                assert_eq!(whole.len(), 1);
                settlement.delivered();
            }
        }
    }

    async fn restart(&mut self) {
        self.taken.clear();
        self.bench.queue.close();
        self.bench.queue.finish().await;
        self.bench = Bench::open(self.options);
        for _ in 0..self.model.open.len() {
            let delivery = self.bench.next().await;
            let known = self.model.open.get(delivery.ticket.name());
            assert_eq!(known, Some(&numbers(&delivery)));
            self.taken.push(delivery);
        }
    }

    fn check(&self) {
        let open: usize = self.model.open.values().map(Vec::len).sum();
        let queued = self.model.waiting.len() + open;
        assert_eq!(self.bench.ledger()[2], queued as i64);
    }

    async fn end(mut self) {
        for delivery in self.taken {
            delivery.settlement.delivered();
        }
        self.bench.queue.close();
        while let Some(delivery) = self.bench.queue.next().await {
            for number in numbers(&delivery) {
                assert_eq!(Some(number), self.model.waiting.pop_front());
            }
            delivery.settlement.delivered();
        }
        assert!(self.model.waiting.is_empty());
        assert_eq!(self.bench.stop().await[2], 0);
    }
}

async fn run(options: &str, durable: bool, steps: Vec<Step>) {
    let mut history = History {
        options,
        durable,
        bench: Bench::open(options),
        model: Model::default(),
        taken: Vec::new(),
        next: 0,
    };
    for step in steps {
        history.step(step).await;
        history.check();
    }
    history.end().await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn any_history_is_as_the_model_says(
        steps in steps(),
        size in 0..8usize,
        max in 0..8usize,
    ) {
        let max = if max < size { 0 } else { max };
        let more = format!("fsync = 'never'\nbatch = {{ min_size = {size}, max_size = {max}, flush_timeout = '0s' }}");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        for (options, durable) in both(folder.path(), &more).into_iter().zip([false, true]) {
            runtime.block_on(run(&options, durable, steps.clone()));
        }
    }
}

#[test]
fn numbered_logs_are_found_again() {
    let chunk = crate::testing::numbered_logs(3..6);
    let decoded = ExportLogsServiceRequest::decode(chunk.bytes().clone()).unwrap();
    assert_eq!(decoded.resource_logs.len(), 1);
    assert_eq!(log_numbers(&chunk.into()), [3, 4, 5]);
}
