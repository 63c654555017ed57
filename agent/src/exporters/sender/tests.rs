//! What a sender makes of a destination that will never take something: divided, delivered, in dead letters; nothing twice.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;

use super::*;
use crate::ack::{Ack, Answer};
use crate::batch::Payload;
use crate::component::Outcome;
use crate::config::Diagnostics;
use crate::exporters::dead_letter::{Letter, Reason};
use crate::exporters::queue::{Pace, Ticket};
use crate::ledger::Ledger;
use crate::otlp::json;
use crate::telemetry::Telemetry;
use crate::testing::{eventually, exporter_context, metric, request};

/// A destination that keeps names of log records, and does not take some.
#[derive(Clone, Default)]
struct Picky(Arc<Inner>);

#[derive(Default)]
struct Inner {
    kept: Mutex<Vec<String>>,
    attempts: Mutex<usize>,
    verdict: Mutex<Verdict>,
    /// Items of each batch that was prepared, and whether a part of it was known to be delivered.
    prepared: Mutex<Vec<(usize, bool)>>,
    /// Woken after every attempt.
    tried: Notify,
}

/// What the destination says of the messages of a batch.
type Rule = Box<dyn Fn(&[String]) -> Outcome + Send>;

struct Verdict(Rule);

impl Default for Verdict {
    fn default() -> Self {
        Self(Box::new(|_| Outcome::Delivered))
    }
}

impl Picky {
    fn with(rule: impl Fn(&[String]) -> Outcome + Send + 'static) -> Self {
        let picky = Self::default();
        picky.becomes(rule);
        picky
    }

    /// Rejects batches that contain a message with one of these numbers.
    fn rejecting(bad: &'static [usize]) -> Self {
        Self::with(move |messages| {
            let is_bad = |message: &String| bad.iter().any(|n| *message == format!("message {n}"));
            match messages.iter().any(is_bad) {
                true => Outcome::rejected("poison".to_owned()),
                false => Outcome::Delivered,
            }
        })
    }

    fn becomes(&self, rule: impl Fn(&[String]) -> Outcome + Send + 'static) {
        *self.0.verdict.lock().unwrap() = Verdict(Box::new(rule));
    }

    fn attempts(&self) -> usize {
        *self.0.attempts.lock().unwrap()
    }

    /// What it has, in order.
    fn kept(&self) -> Vec<String> {
        let mut kept = self.0.kept.lock().unwrap().clone();
        kept.sort_by_key(|message| number(message));
        kept
    }
}

fn number(message: &str) -> usize {
    message.rsplit(' ').next().unwrap().parse().unwrap()
}

/// The bodies of log records.
fn messages(payload: &Payload) -> Vec<String> {
    let mut text = Vec::new();
    let chunks = payload.chunks().iter().map(|chunk| chunk.bytes().as_ref());
    json::encode(Signal::Logs, chunks, &mut text).unwrap();
    let tree: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let list =
        |value: &serde_json::Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
    list(&tree, "resourceLogs")
        .iter()
        .flat_map(|resource| list(resource, "scopeLogs"))
        .flat_map(|scope| list(&scope, "logRecords"))
        .map(|record| record["body"]["stringValue"].as_str().unwrap().to_owned())
        .collect()
}

impl Exporter for Picky {
    type Prepared = Payload;

    async fn prepare(
        &mut self,
        _: Signal,
        payload: Payload,
        ticket: &Ticket,
        _: &Pace,
    ) -> Result<Payload, String> {
        let known = ticket.is_done("easy");
        self.0
            .prepared
            .lock()
            .unwrap()
            .push((payload.items(), known));
        // One table of two is always stored.
        ticket.part_done("easy");
        Ok(payload)
    }

    async fn send(&mut self, prepared: &mut Payload, _: Option<Duration>) -> Outcome {
        let messages = messages(prepared);
        *self.0.attempts.lock().unwrap() += 1;
        let outcome = (self.0.verdict.lock().unwrap().0)(&messages);
        if outcome == Outcome::Delivered {
            self.0.kept.lock().unwrap().extend(messages);
        }
        self.0.tried.notify_one();
        outcome
    }
}

/// A sender with one worker to a destination.
struct Bench {
    telemetry: Telemetry,
    sender: Sender,
    cut: Shutdown,
    folder: PathBuf,
}

fn options(text: &str) -> SenderSettings {
    let mut found = Diagnostics::default();
    let settings =
        Section::from_text("exporters.test", text, &mut found).and_then(|mut section| {
            let options: QueueOptions = section.options()?;
            let retry = RetryOptions {
                initial_interval: HumanDuration::from_millis(5),
                max_interval: HumanDuration::from_millis(20),
                ..RetryOptions::default()
            };
            Some(SenderSettings::resolve(
                &mut section,
                HumanDuration::from_secs(0),
                &retry,
                &options,
            ))
        });
    assert!(!found.has_errors(), "{found}");
    settings.unwrap()
}

/// `storage` is `memory`, `wal`, or `none`: memory without a place for letters.
fn start(storage: &str, folder: &Path, picky: &Picky) -> Bench {
    let queue = folder.join("queue");
    let letters = folder.join("letters");
    let text = match storage {
        "none" => "num_consumers = 1".to_owned(),
        "wal" => format!(
            "num_consumers = 1\nstorage = 'wal'\ndirectory = '{}'\ndead_letter = {{ directory = '{}', max_size = '1MiB' }}",
            queue.display(),
            letters.display()
        ),
        _ => format!(
            "num_consumers = 1\ndead_letter = {{ directory = '{}', max_size = '1MiB' }}",
            letters.display()
        ),
    };
    let context = exporter_context(&[Signal::Logs]);
    let mut sender = spawn(&context, Signal::Logs, &options(&text), || picky.clone()).unwrap();
    sender.start();
    Bench {
        folder: letters.join("test/logs"),
        telemetry: context.telemetry,
        cut: context.cut,
        sender,
    }
}

impl Bench {
    /// Attempts to write a letter that failed.
    fn failures(&self) -> u64 {
        metric(&self.telemetry, "tidegate_dead_letter_failures") as u64
    }

    /// Attaches a pipeline, lets the worker have what is in the queue, and gives it `items` more.
    async fn push(&self, items: usize) {
        let ledger = Ledger::new(&self.telemetry, "logs/audit", "test", Signal::Logs);
        let account = self.sender.queue.account("logs/audit", ledger, false);
        self.sender.queue.start();
        if items > 0 {
            let (ack, answered) = Ack::channel();
            let payload = request(Signal::Logs, "checkout", items).into();
            self.sender.queue.push(&account, payload, ack);
            assert_eq!(answered.await, Answer::Queued);
        }
    }

    /// Waits until everything is settled, then the same as [`Bench::stop`].
    async fn drain(self) -> (Telemetry, [u64; 4], BTreeMap<String, u64>) {
        let queued = || metric(&self.telemetry, "tidegate_ledger_queued_items");
        eventually("everything to be settled", || queued() == 0.0).await;
        self.stop().await
    }

    /// Stops, and returns accepted, delivered, queued and dropped items and the reasons for these.
    async fn stop(self) -> (Telemetry, [u64; 4], BTreeMap<String, u64>) {
        self.sender.queue.close();
        for worker in self.sender.workers {
            worker.await.unwrap();
        }
        self.sender.queue.finish().await;
        let text = String::from_utf8(self.telemetry.encode().unwrap()).unwrap();
        let value = |line: &str| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap();
        let lines = |column: &str| {
            let start = format!("tidegate_ledger_{column}_items{{");
            text.lines()
                .filter(move |line| line.starts_with(&start))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let columns = ["accepted", "delivered", "queued", "dropped"]
            .map(|column| lines(column).iter().map(|line| value(line)).sum::<u64>());
        assert_eq!(columns[0], columns[1] + columns[2] + columns[3], "{text}");
        let dropped = lines("dropped");
        let reasons = dropped.iter().map(|line| {
            let (_, reason) = line.split_once("reason=\"").unwrap();
            (reason.split('"').next().unwrap().to_owned(), value(line))
        });
        (self.telemetry, columns, reasons.collect())
    }
}

/// The letters in a folder, in the order of their names.
fn letters(folder: &Path) -> Vec<Letter> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == "letter"));
    paths.sort();
    paths
        .iter()
        .map(|path| Letter::open(path).unwrap())
        .collect()
}

fn numbers(messages: &[String]) -> Vec<usize> {
    messages.iter().map(|message| number(message)).collect()
}

/// Sends `items` of which `bad` are rejected: which end in letters, by letter, after at most how many attempts.
async fn check(items: usize, bad: &'static [usize], expected: &[&[usize]], attempts_max: usize) {
    for storage in ["memory", "wal"] {
        let folder = tempfile::tempdir().unwrap();
        let picky = Picky::rejecting(bad);
        let bench = start(storage, folder.path(), &picky);
        bench.push(items).await;
        let place = bench.folder.clone();
        let (telemetry, columns, reasons) = bench.drain().await;
        let letters = letters(&place);
        let mut found: Vec<_> = letters
            .iter()
            .map(|letter| numbers(&messages(&letter.payload())))
            .collect();
        found.sort();
        assert_eq!(found, expected, "{storage}");
        let lost: Vec<usize> = found.concat();
        let rest: Vec<_> = (1..=items).filter(|n| !lost.contains(n)).collect();
        assert_eq!(numbers(&picky.kept()), rest, "{storage}: the rest, once");
        assert_eq!(
            columns,
            [items as u64, rest.len() as u64, 0, lost.len() as u64]
        );
        assert_eq!(
            reasons.get("dead_letter").copied().unwrap_or(0),
            lost.len() as u64
        );
        assert!(
            picky.attempts() <= attempts_max,
            "{} attempts",
            picky.attempts()
        );
        let labels = "{exporter=\"test\",otel_signal=\"logs\"}";
        let count = |name: &str| metric(&telemetry, &format!("{name}{labels}"));
        assert_eq!(count("tidegate_dead_letters"), letters.len() as f64);
        assert_eq!(count("tidegate_dead_letter_items"), lost.len() as f64);
        assert_eq!(
            count("tidegate_dead_letter_disk_bytes"),
            letters.len() as f64 * 4096.0
        );
        let names: std::collections::BTreeSet<_> =
            letters.iter().map(|letter| &letter.header.batch).collect();
        assert_eq!(names.len(), letters.len(), "each has a name of its own");
        for letter in &letters {
            assert_eq!(letter.header.pipelines, ["logs/audit"]);
            assert_eq!(letter.header.reason, Reason::Rejected);
            assert_eq!(letter.header.cause, "poison");
            assert_eq!(letter.header.parts_done, ["easy"]);
        }
    }
}

#[tokio::test]
async fn one_bad_item_alone_goes_to_the_dead_letters() {
    check(1, &[1], &[&[1]], 1).await;
    check(2, &[2], &[&[2]], 3).await;
    check(100, &[], &[], 1).await;
    check(100, &[37], &[&[37]], 15).await;
    check(1000, &[1], &[&[1]], 21).await;
}

#[tokio::test]
async fn bad_items_that_lie_apart_are_found_each() {
    check(100, &[3, 98], &[&[3], &[98]], 30).await;
    check(64, &[1, 20, 40], &[&[1], &[20], &[40]], 40).await;
}

#[tokio::test]
async fn a_batch_in_which_everything_is_bad_ends_in_few_letters() {
    const ALL: [usize; 32] = {
        let mut all = [0; 32];
        let mut at = 0;
        while at < 32 {
            all[at] = at + 1;
            at += 1;
        }
        all
    };
    let (a, b, c, d) = (
        &[1, 2, 3, 4],
        &[5, 6, 7, 8],
        &[9, 10, 11, 12],
        &[13, 14, 15, 16],
    );
    let (e, f, g, h) = (
        &[17, 18, 19, 20],
        &[21, 22, 23, 24],
        &[25, 26, 27, 28],
        &[29, 30, 31, 32],
    );
    check(32, &ALL, &[a, b, c, d, e, f, g, h], 15).await;
}

#[tokio::test]
async fn without_a_place_for_letters_what_is_bad_is_dropped_and_the_rest_delivered() {
    let folder = tempfile::tempdir().unwrap();
    let picky = Picky::rejecting(&[7]);
    let bench = start("none", folder.path(), &picky);
    bench.push(20).await;
    let (_, columns, reasons) = bench.drain().await;
    assert_eq!(columns, [20, 19, 0, 1]);
    assert_eq!(reasons, BTreeMap::from([("rejected".to_owned(), 1)]));
}

#[tokio::test]
async fn what_is_rejected_in_part_is_one_letter_and_not_divided() {
    for storage in ["memory", "wal"] {
        let folder = tempfile::tempdir().unwrap();
        let picky = Picky::with(|_| Outcome::Rejected {
            cause: "a table".to_owned(),
            items: Some(3),
        });
        let bench = start(storage, folder.path(), &picky);
        bench.push(10).await;
        let place = bench.folder.clone();
        let (_, columns, reasons) = bench.drain().await;
        assert_eq!(columns, [10, 7, 0, 3]);
        assert_eq!(reasons, BTreeMap::from([("dead_letter".to_owned(), 3)]));
        let letters = letters(&place);
        let counts: Vec<_> = letters
            .iter()
            .map(|letter| (letter.header.items, letter.header.rejected))
            .collect();
        assert_eq!(counts, [(10, 3)]);
        assert_eq!(picky.attempts(), 1);
    }
}

#[tokio::test]
async fn what_is_too_large_and_cannot_be_divided_is_a_letter() {
    for storage in ["memory", "wal"] {
        let folder = tempfile::tempdir().unwrap();
        let picky = Picky::with(|messages| match messages.iter().any(|m| m == "message 2") {
            true => Outcome::TooLarge {
                cause: "too large".to_owned(),
            },
            false => Outcome::Delivered,
        });
        let bench = start(storage, folder.path(), &picky);
        bench.push(4).await;
        let place = bench.folder.clone();
        let (_, columns, _) = bench.drain().await;
        assert_eq!(columns, [4, 3, 0, 1]);
        let letters = letters(&place);
        assert_eq!(letters.len(), 1);
        assert_eq!(letters[0].header.reason, Reason::TooLarge);
    }
}

/// Runs until the destination goes away at attempt `last`, ends, starts again with the destination there, and drains.
async fn interrupted_at(
    last: usize,
    items: usize,
    rule: fn(&[String]) -> Outcome,
) -> (Picky, Vec<Letter>) {
    let folder = tempfile::tempdir().unwrap();
    let picky = Picky::default();
    let counted = picky.clone();
    picky.becomes(move |messages| match counted.attempts() > last {
        true => Outcome::Retry {
            cause: "away".to_owned(),
            after: None,
        },
        false => rule(messages),
    });
    let bench = start("wal", folder.path(), &picky);
    bench.push(items).await;
    let retries =
        "tidegate_exporter_attempts{exporter=\"test\",otel_signal=\"logs\",outcome=\"retry\"}";
    let settled = |bench: &Bench| metric(&bench.telemetry, "tidegate_ledger_queued_items") == 0.0;
    eventually("the end of the attempts", || {
        metric(&bench.telemetry, retries) > 0.0 || settled(&bench)
    })
    .await;
    bench.cut.trigger();
    bench.stop().await;
    picky.becomes(rule);
    let bench = start("wal", folder.path(), &picky);
    bench.push(0).await;
    let place = bench.folder.clone();
    bench.stop().await;
    let letters = letters(&place);
    (picky, letters)
}

fn poisoned(messages: &[String]) -> Outcome {
    match messages.iter().any(|message| message == "message 11") {
        true => Outcome::rejected("poison".to_owned()),
        false => Outcome::Delivered,
    }
}

#[tokio::test]
async fn a_search_for_poison_that_is_interrupted_goes_on_after_the_restart() {
    for last in 0..10 {
        let (picky, letters) = interrupted_at(last, 16, poisoned).await;
        let rest: Vec<_> = (1..=16).filter(|n| *n != 11).collect();
        assert_eq!(numbers(&picky.kept()), rest, "interrupted after {last}");
        let found: Vec<_> = letters
            .iter()
            .flat_map(|letter| messages(&letter.payload()))
            .collect();
        assert_eq!(found, ["message 11"], "interrupted after {last}");
    }
}

#[tokio::test]
async fn what_was_delivered_of_a_batch_is_known_of_its_halves() {
    let rule = |messages: &[String]| match messages.len() > 2 {
        true => Outcome::TooLarge {
            cause: "too large".to_owned(),
        },
        false => Outcome::Delivered,
    };
    // Divided at once, and after a restart that found the halves in the log.
    for last in [20, 2] {
        let (picky, letters) = interrupted_at(last, 8, rule).await;
        assert_eq!(picky.kept().len(), 8);
        assert!(letters.is_empty());
        let prepared = picky.0.prepared.lock().unwrap();
        let (first, halves) = prepared.split_first().unwrap();
        assert_eq!(*first, (8, false));
        assert!(halves.iter().all(|(_, known)| *known), "{prepared:?}");
    }
}

/// A file where the folder should be.
fn obstruct(folder: &Path) {
    std::fs::remove_dir_all(folder).unwrap();
    std::fs::write(folder, "").unwrap();
}

#[tokio::test]
async fn a_batch_in_a_log_waits_until_its_letter_can_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let picky = Picky::rejecting(&[1]);
    let bench = start("wal", folder.path(), &picky);
    obstruct(&bench.folder);
    bench.push(1).await;
    picky.0.tried.notified().await;
    eventually("attempts to write", || bench.failures() > 1).await;
    assert_eq!(
        metric(&bench.telemetry, "tidegate_ledger_queued_items"),
        1.0
    );
    std::fs::remove_file(&bench.folder).unwrap();
    eventually("the letter", || letters(&bench.folder).len() == 1).await;
    let (_, columns, _) = bench.drain().await;
    assert_eq!(columns, [1, 0, 0, 1]);
    assert_eq!(picky.attempts(), 1, "the destination is not asked again");
}

#[tokio::test]
async fn a_batch_whose_letter_cannot_be_written_survives_the_end_of_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let picky = Picky::rejecting(&[1]);
    let bench = start("wal", folder.path(), &picky);
    obstruct(&bench.folder);
    bench.push(1).await;
    picky.0.tried.notified().await;
    bench.cut.trigger();
    let place = bench.folder.clone();
    let (_, columns, _) = bench.stop().await;
    assert_eq!(columns, [1, 0, 1, 0], "it stays queued");
    std::fs::remove_file(&place).unwrap();
    picky.becomes(|_| Outcome::Delivered);
    let bench = start("wal", folder.path(), &picky);
    bench.push(0).await;
    let (_, columns, _) = bench.stop().await;
    assert_eq!(columns, [1, 1, 0, 0]);
    assert_eq!(picky.kept(), ["message 1"]);
    assert!(letters(&place).is_empty());
}

#[tokio::test]
async fn a_batch_in_memory_is_dropped_where_its_letter_cannot_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let picky = Picky::rejecting(&[1]);
    let bench = start("memory", folder.path(), &picky);
    obstruct(&bench.folder);
    bench.push(1).await;
    let (_, columns, reasons) = bench.drain().await;
    assert_eq!(columns, [1, 0, 0, 1]);
    assert_eq!(reasons, BTreeMap::from([("rejected".to_owned(), 1)]));
}

#[tokio::test]
async fn a_full_folder_takes_no_more_until_somebody_makes_room() {
    let folder = tempfile::tempdir().unwrap();
    let picky = Picky::rejecting(&[1]);
    let place = folder.path().join("letters/test/logs");
    std::fs::create_dir_all(&place).unwrap();
    let filler = place.join("filler");
    std::fs::write(&filler, vec![0; 1 << 20]).unwrap();
    let bench = start("wal", folder.path(), &picky);
    bench.push(1).await;
    bench.push(1).await;
    eventually("attempts to write", || bench.failures() > 1).await;
    std::fs::remove_file(&filler).unwrap();
    eventually("both letters", || letters(&bench.folder).len() == 2).await;
    let (_, columns, _) = bench.drain().await;
    assert_eq!(columns, [2, 0, 0, 2]);
}

#[tokio::test]
async fn a_letter_that_was_written_before_a_crash_is_not_written_twice() {
    let folder = tempfile::tempdir().unwrap();
    let picky = Picky::rejecting(&[1]);
    let mut seen = Vec::new();
    // The log forgets that the letter was written, as after a crash between the two: it is put back as it was.
    let bench = start("wal", folder.path(), &picky);
    picky.becomes(|_| Outcome::Retry {
        cause: "away".to_owned(),
        after: None,
    });
    bench.push(1).await;
    picky.0.tried.notified().await;
    bench.cut.trigger();
    let place = bench.folder.clone();
    bench.stop().await;
    let saved = folder.path().join("saved");
    copy(&folder.path().join("queue"), &saved);
    picky.becomes(|_| Outcome::rejected("poison".to_owned()));
    for _ in 0..2 {
        std::fs::remove_dir_all(folder.path().join("queue")).unwrap();
        copy(&saved, &folder.path().join("queue"));
        let bench = start("wal", folder.path(), &picky);
        bench.push(0).await;
        bench.stop().await;
        seen.push(letters(&place).len());
    }
    assert_eq!(seen, [1, 1]);
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}

#[tokio::test]
async fn letters_are_sent_again_under_their_names_and_not_divided() {
    let picky = Picky::rejecting(&[2]);
    let settings = options("").for_replay(Duration::from_secs(5));
    let context = exporter_context(&[Signal::Logs]);
    let mut sender = spawn(&context, Signal::Logs, &settings, || picky.clone()).unwrap();
    assert_eq!(sender.waiting.len(), 1);
    sender.start();
    let payload: Payload = request(Signal::Logs, "checkout", 3).into();
    let done = ["easy".to_owned()];
    let (ticket, answered) = sender
        .queue
        .hand(payload.clone(), "a-1", done.clone())
        .unwrap();
    assert!(ticket.is_done("easy") && ticket.name() == "a-1");
    let Answer::Refused(refusal) = answered.await else {
        panic!("it was rejected");
    };
    assert_eq!(
        (refusal.message.as_ref(), refusal.retry_after),
        ("poison", None)
    );
    assert_eq!(picky.attempts(), 1);
    picky.becomes(|_| Outcome::Delivered);
    let (_, answered) = sender.queue.hand(payload, "a-1", done).unwrap();
    assert_eq!(answered.await, Answer::Delivered);
    sender.queue.close();
    for worker in sender.workers {
        worker.await.unwrap();
    }
}
