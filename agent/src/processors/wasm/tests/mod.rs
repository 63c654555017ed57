//! What plugins do to batches, and what becomes of batches when plugins misbehave.

mod guest;
mod hostile;

use std::time::Duration;

use tempfile::TempDir;

use self::guest::{Guest, bytes, module_for};
use super::FACTORY;
use super::workbench::describe;
use crate::ack::{Ack, Answer, Answered};
use crate::batch::Batch;
use crate::component::{ComponentError, Output, Processor, ProcessorContext};
use crate::memory::HeldBytes;
use crate::signal::Signal;
use crate::status::{Instance, Priority, Status, Statuses};
use crate::telemetry::Telemetry;
use crate::testing::{metric, parse, request};

/// A plugin in a pipeline of log records.
struct Running {
    processor: Box<dyn Processor>,
    telemetry: Telemetry,
    statuses: Statuses,
    held: HeldBytes,
    _folder: TempDir,
}

impl Running {
    fn try_start(content: &[u8], options: &str) -> Result<Self, ComponentError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plugin.wasm");
        std::fs::write(&path, content).unwrap();
        let text = format!("path = {path:?}\n{options}");
        let settings = parse(&FACTORY, &text).unwrap_or_else(|found| panic!("{found}"));
        let statuses = Statuses::default();
        let mut draft = statuses.draft();
        let instance = Instance::processor("wasm/test", "logs");
        draft.pipeline("logs", vec![instance.clone()]);
        let context = ProcessorContext {
            id: "wasm/test".to_owned(),
            signal: Signal::Logs,
            telemetry: Telemetry::default(),
            status: draft.begin(instance),
            held: HeldBytes::default(),
        };
        let processor = settings.build(context.clone())?;
        statuses.adopt(draft);
        Ok(Self {
            processor,
            telemetry: context.telemetry,
            statuses,
            held: context.held,
            _folder: folder,
        })
    }

    fn start(guest: &Guest, options: &str) -> Self {
        Self::try_start(&guest.component(), options).unwrap()
    }

    /// Hands over a batch of log records of which somebody waits to hear.
    fn process(&mut self, items: usize) -> (Output, Answered) {
        let (ack, answered) = Ack::channel();
        let mut output = Output::default();
        self.processor.process(batch(items, ack), &mut output);
        (output, answered)
    }

    /// What it says of itself, and why.
    fn status(&self) -> (Status, Option<String>) {
        let event = self.statuses.aggregate(Priority::Permanent).event;
        (event.status, event.error)
    }

    fn calls(&self, outcome: &str) -> f64 {
        let line = format!("tidegate_plugin_calls{{otel_signal=\"logs\",outcome=\"{outcome}\"");
        metric(&self.telemetry, &line)
    }
}

fn batch(items: usize, ack: Ack) -> Batch {
    Batch {
        signal: Signal::Logs,
        payload: request(Signal::Logs, "checkout", items).into(),
        ack,
    }
}

/// Items that went on, and what was lost with which reason.
fn tally(output: &Output) -> (usize, Vec<(String, usize)>) {
    let items = output.batches.iter().map(Batch::items).sum();
    let lost = output.dropped.iter().chain(&output.rejected);
    let lost = lost.map(|(reason, items)| (reason.to_string(), *items));
    (items, lost.collect())
}

fn message(error: Result<Running, ComponentError>) -> String {
    error.map(drop).unwrap_err().to_string()
}

#[test]
fn unchanged_is_the_same_memory() {
    let mut running = Running::start(&Guest::new("call $unchanged"), "");
    let mut output = Output::default();
    let before = batch(3, Ack::settled());
    let memory = before.payload.chunks()[0].bytes().as_ptr();
    running.processor.process(before, &mut output);
    assert_eq!(
        output.batches[0].payload.chunks()[0].bytes().as_ptr(),
        memory
    );
    assert_eq!(tally(&output), (3, vec![]));
    assert_eq!(running.calls("unchanged"), 1.0);
}

#[test]
fn replaced_bytes_go_on_and_are_accounted_for() {
    let mut running = Running::start(
        &Guest::new("(call $replaced (local.get $at) (local.get $length))"),
        "",
    );
    let (output, _) = running.process(3);
    assert_eq!(tally(&output), (3, vec![]));
    let whole = request(Signal::Logs, "checkout", 3);
    assert_eq!(output.batches[0].payload.to_bytes(), whole.bytes());
    assert_eq!(running.held.bytes(), whole.bytes().len());
    drop(output);
    assert_eq!(running.held.bytes(), 0);
    assert_eq!(running.calls("changed"), 1.0);
    let bytes = "tidegate_plugin_incoming_bytes";
    assert_eq!(
        metric(&running.telemetry, bytes),
        whole.bytes().len() as f64
    );
}

#[test]
fn edits_are_applied_and_believed_only_when_they_fit() {
    // One change from 0 to 0, or whatever the test says, that brings what is at 512.
    let check = |change: [u32; 3], bring: &str, count: usize, expected: Result<usize, &str>| {
        let [start, end, length] = change.map(bytes);
        let guest = Guest::new(&format!(
            "(call $edited (i32.const 500) (i32.const {count}) (i32.const 524) (i32.const {}))",
            bring.len() / 3
        ))
        .with(&format!(
            "(data (i32.const 500) \"{start}{end}{length}{start}{end}{length}\")
             (data (i32.const 524) \"{bring}\")"
        ));
        let mut running = Running::start(&guest, "on_error = 'drop'");
        let (output, _) = running.process(2);
        match expected {
            Ok(length) => {
                let whole = request(Signal::Logs, "checkout", 2).bytes().len();
                assert_eq!(tally(&output), (2, vec![]), "{change:?}");
                assert_eq!(output.batches[0].payload.byte_len(), whole + length);
            }
            Err(outcome) => {
                let lost = vec![("plugin_failed".to_owned(), 2)];
                assert_eq!(tally(&output), (0, lost), "{change:?}");
                assert_eq!(running.calls(outcome), 1.0, "{change:?}");
            }
        }
    };
    // An unknown field of two bytes before everything else.
    check([0, 0, 3], "\\f8\\01\\07", 1, Ok(3));
    check([0, 0, 0], "", 1, Ok(0));
    check([0, 0, 3], "\\f8\\01", 1, Err("invalid_output"));
    check([0, 0, 1], "\\f8\\01", 1, Err("invalid_output"));
    check([5, 4, 0], "", 1, Err("invalid_output"));
    check([0, 100_000, 0], "", 1, Err("invalid_output"));
    check([100_000, 100_000, 0], "", 1, Err("invalid_output"));
    check([1, 2, 0], "", 2, Err("invalid_output"));
    check([0, 1, 0], "", 1, Err("invalid_output"));
}

#[tokio::test]
async fn losses_are_counted_by_reason_and_faults_told() {
    // Nothing is left of 10: 3 are told of as `old`, 2 as `bad` with a message, the rest is not explained.
    let second = format!(
        "{}{}{}{}{}{}\\00\\00\\00\\00",
        bytes(603),
        bytes(3),
        "\\02\\00\\00\\00\\00\\00\\00\\00",
        bytes(1),
        bytes(606),
        bytes(5),
    );
    let first = format!(
        "{}{}{}{}{}{}\\00\\00\\00\\00",
        bytes(600),
        bytes(3),
        "\\03\\00\\00\\00\\00\\00\\00\\00",
        bytes(0),
        bytes(0),
        bytes(0),
    );
    let guest = Guest::new(
        "(drop (call $nothing))
         (i32.store (i32.const 280) (i32.const 512))
         (i32.store (i32.const 284) (i32.const 2))
         i32.const 256",
    )
    .with(&format!(
        "(data (i32.const 512) \"{first}{second}\") (data (i32.const 600) \"oldbadwrong\")"
    ));
    let mut running = Running::start(&guest, "");
    let (output, answered) = running.process(10);
    let dropped = [("old".into(), 3), ("plugin".into(), 5)];
    assert_eq!(output.dropped, dropped);
    assert_eq!(output.rejected, [("bad".into(), 2)]);
    for ack in output.into_taken_over() {
        ack.answer(Answer::Queued);
    }
    let Answer::Partial(rejected) = answered.await else {
        panic!("the sender is to hear of faults");
    };
    assert_eq!((rejected.items, &*rejected.message), (2, "wrong"));
    assert_eq!(running.calls("nothing"), 1.0);
}

#[tokio::test]
async fn an_error_follows_on_error() {
    let guest = Guest::new("(call $error (i32.const 64) (i32.const 1))");
    let mut pass = Running::start(&guest, "on_error = 'pass'");
    let (output, _) = pass.process(3);
    assert_eq!(tally(&output), (3, vec![]));

    let lost = vec![("plugin_failed".to_owned(), 3)];
    let mut drops = Running::start(&guest, "on_error = 'drop'");
    let (output, answered) = drops.process(3);
    assert_eq!(tally(&output), (0, lost.clone()));
    for ack in output.into_taken_over() {
        ack.answer(Answer::Queued);
    }
    assert_eq!(answered.await, Answer::Queued);

    let mut refuses = Running::start(&guest, "");
    let (output, answered) = refuses.process(3);
    assert_eq!(tally(&output), (0, lost));
    let Answer::Refused(refusal) = answered.await else {
        panic!("the batch is to be refused");
    };
    let told = "the plugin of processor `wasm/test` failed: it gave an error";
    assert_eq!(refusal.message, told);
    assert!(refusal.retry_after.is_some());
    // Where nobody waits any more, what is refused is lost, and counted.
    let mut output = Output::default();
    refuses
        .processor
        .process(batch(2, Ack::settled()), &mut output);
    assert_eq!(output.dropped, [("plugin_failed".into(), 2)]);
    assert_eq!(refuses.calls("error"), 2.0);
}

#[test]
fn what_configure_says_against_the_table_is_told() {
    let guest = Guest {
        configure: Some(
            "(i32.store8 (i32.const 128) (i32.const 1))
             (i32.store (i32.const 132) (local.get $at))
             (i32.store (i32.const 136) (local.get $length))
             i32.const 128",
        ),
        ..Guest::new("call $unchanged")
    };
    let error = message(Running::try_start(
        &guest.component(),
        "[config]\nkey = [1, 'a']",
    ));
    let told = "start the plugin: it gave an error: {\"key\":[1,\"a\"]}";
    assert_eq!(error, told);
}

/// It says so to who has yet to find out whether it can be trusted.
#[test]
fn what_a_plugin_says_of_itself_stays_on_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plugin.wasm");
    // The byte that its name, its version and its summary are.
    let plugin = Guest::new("call $unchanged").with("(data (i32.const 64) \"\\1b\")");
    std::fs::write(&path, plugin.component()).unwrap();
    let found = describe(&path).unwrap();
    assert_eq!(found.name, "\\u{1b}");
    assert_eq!((&found.version, &found.summary), (&found.name, &found.name));
}

#[test]
fn what_is_no_plugin_is_told_apart() {
    let check = |content: &[u8], expected: &str| {
        let error = message(Running::try_start(content, ""));
        assert!(error.contains(expected), "{error}");
    };
    check(b"hello", "it is not WebAssembly");
    check(b"\0asm", "it is cut off");
    check(b"\0asm\x07\0\0\0", "version [07, 00, 00, 00]");
    let plugin = Guest::new("call $unchanged");
    let module = wat::parse_str("(module)").unwrap();
    check(
        &module,
        "it is a core module of WebAssembly, and this agent wants a component",
    );
    let old = Guest {
        version: Some("0.0.3"),
        ..plugin.clone()
    };
    check(
        &module_for("0.0.3"),
        "it is a core module of WebAssembly, made for tidegate:plugin@0.0.3, and this agent wants a component for \
         tidegate:plugin@0.1.0: build it again",
    );
    check(
        &old.component(),
        "it was made for tidegate:plugin@0.0.3, and this agent speaks tidegate:plugin@0.1.0",
    );
    check(
        &wat::parse_str("(component)").unwrap(),
        "it is not a plugin: it exports nothing",
    );
    let mut broken = plugin.component();
    broken.truncate(broken.len() - 100);
    check(&broken, "it cannot be compiled");
}

#[test]
fn a_pinned_plugin_is_the_only_one() {
    let content = Guest::new("call $unchanged").component();
    let digest: String = super::load::sha256(&content)
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect();
    Running::try_start(&content, &format!("sha256 = '{digest}'")).unwrap();
    let zero = "0".repeat(64);
    let error = message(Running::try_start(&content, &format!("sha256 = '{zero}'")));
    assert!(
        error.contains("the configuration allows only 0000"),
        "{error}"
    );
    for wrong in ["12", &"x".repeat(64), &"0".repeat(66)] {
        let found = parse(&FACTORY, &format!("path = 'p'\nsha256 = '{wrong}'")).unwrap_err();
        assert!(
            found.to_string().contains("must be 64 hex digits"),
            "{found}"
        );
    }
}

#[test]
fn a_missing_file_is_told() {
    let settings = parse(&FACTORY, "path = '/nowhere/plugin.wasm'").unwrap();
    let context = ProcessorContext {
        id: "wasm".to_owned(),
        signal: Signal::Logs,
        telemetry: Telemetry::default(),
        status: crate::status::Reporter::default(),
        held: HeldBytes::default(),
    };
    let error = settings.build(context).map(drop).unwrap_err().to_string();
    let told = "load the plugin /nowhere/plugin.wasm: No such file";
    assert!(error.starts_with(told), "{error}");
    let found = parse(&FACTORY, "").unwrap_err().to_string();
    assert!(found.contains("is required"), "{found}");
}

#[tokio::test(start_paused = true)]
async fn a_plugin_ticks_when_it_wants_to() {
    let guest = Guest {
        tick_interval: 1500,
        tick: "(call $record (call $metric (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 64) (i32.const 1))
               (f64.const 2))",
        ..Guest::new("call $unchanged")
    };
    let mut running = Running::start(&guest, "");
    let mut output = Output::default();
    for _ in 0..3 {
        let deadline = running.processor.deadline().unwrap();
        let now = tokio::time::Instant::now().into_std();
        assert_eq!(deadline - now, Duration::from_millis(1500));
        running.processor.wake(now, &mut output);
        tokio::time::advance(Duration::from_millis(1500)).await;
        running.processor.wake(deadline, &mut output);
    }
    let counter = "tidegate_plugin_counter{label=\"x\",name=\"x\",otel_signal=\"logs\",processor=\"wasm/test\"}";
    assert_eq!(metric(&running.telemetry, counter), 6.0);
    assert!(
        Running::start(&Guest::new("call $unchanged"), "")
            .processor
            .deadline()
            .is_none()
    );
}
