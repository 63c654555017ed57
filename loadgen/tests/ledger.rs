//! What a suite's report says where not everything can be known: loads and counters that were killed, drains that
//! never came.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::path::Path;
use std::process::Command;

use serde_json::Value as Json;

/// What a run has said, and its record.
struct Ran {
    status: Option<i32>,
    said: String,
    record: Json,
}

impl Ran {
    fn last_line(&self) -> &str {
        let mut lines = self.said.lines();
        lines.rfind(|it| it.starts_with("small: ")).unwrap()
    }

    /// The ledger of the only test.
    fn ledger(&self) -> &Json {
        let ledgers = self.record["ledgers"].as_array().unwrap();
        assert_eq!(ledgers.len(), 1, "{}", self.said);
        &ledgers[0]
    }

    fn item(&self, name: &str) -> &Json {
        &self.ledger()["items"][name]
    }

    fn notes(&self) -> String {
        self.record["notes"].to_string()
    }

    fn has_metric(&self, name: &str) -> bool {
        let mut metrics = self.record["metrics"].as_array().unwrap().iter();
        metrics.any(|it| it["name"] == name)
    }

    /// From when to when a window was.
    fn window(&self, name: &str) -> (f64, f64) {
        let mut windows = self.record["windows"].as_array().unwrap().iter();
        let named = |it: &&Json| it["name"].as_str().unwrap().ends_with(name);
        let found = windows.find(named).unwrap();
        (
            found["from"].as_f64().unwrap(),
            found["to"].as_f64().unwrap(),
        )
    }

    fn event(&self, name: &str, detail: &str) -> f64 {
        let mut events = self.record["events"].as_array().unwrap().iter();
        let is_it =
            |it: &&Json| it["name"].as_str().unwrap().ends_with(name) && it["detail"] == detail;
        events.find(is_it).unwrap()["at"].as_f64().unwrap()
    }
}

/// Runs a suite of a sink and a generator that sends to it, with these counters of the sink and these steps.
fn run(counters: &str, steps: &str) -> Ran {
    run_against(None, counters, steps)
}

fn run_against(baseline: Option<&Path>, counters: &str, steps: &str) -> Ran {
    let folder = tempfile::tempdir().unwrap();
    let suite = format!(
        r#"
name = "small"

[variables]
items = 500
endless = false

[[component]]
name = "sink"

[component.deployment]
command = ["{{{{ bin }}}}/loadgen", "sink", "--otlp-http", "127.0.0.1:{{{{ port.sink }}}}", "--distinct"]
ready_ports = ["sink"]

[component.monitoring.counter]
arrived = {{ url = "http://127.0.0.1:{{{{ port.sink }}}}/stats", pointer = "/otlp/*/items" }}
{counters}

[[component]]
name = "generator"

[component.monitoring.counter]
told = {{ file = "{{{{ component.generator.dir }}}}/load-2-endless.progress.json", pointer = "/accepted" }}

[component.execution]
otlp = [
    "127.0.0.1:{{{{ port.sink }}}}", "--batch-size", "50", "--connections", "1", "--pool", "4",
    "{{{{ '--duration=600s' if endless else '--items=' ~ items }}}}", "{{{{ '--rate=2000' if endless else '' }}}}",
]

[[component]]
name = "script"

[component.execution]
command = ["/bin/true"]

[[test]]
name = "small"

[[test.step]]
action = "up"
target = "sink"
{steps}"#
    );
    let mut arguments = vec!["--out", "out"];
    if let Some(baseline) = baseline {
        arguments.extend(["--baseline", baseline.to_str().unwrap()]);
    }
    let output = common::run(folder.path(), &suite, &arguments);
    let said = common::said(&output);
    Ran {
        status: output.status.code(),
        record: record(&folder.path().join("out"), &said),
        said,
    }
}

fn record(out: &Path, said: &str) -> Json {
    let text = std::fs::read_to_string(out.join("record.json"));
    let text = text.unwrap_or_else(|error| panic!("{error}: {said}"));
    serde_json::from_str(&text).unwrap()
}

const COUNTERS: &str = r#"
delivered = { url = "http://127.0.0.1:{{ port.sink }}/stats", pointer = "/otlp/*/items" }
duplicated = { url = "http://127.0.0.1:{{ port.sink }}/stats", pointer = "/otlp/*/duplicated" }
"#;

/// 500 items that have all been answered.
const FIRST: &str = r#"
[[test.step]]
action = "load"
target = "generator"
label = "first"
"#;

/// A load under way that has its own window, when some of it has arrived.
const ENDLESS: &str = r#"
[[test.step]]
action = "load"
target = "generator"
label = "endless"
background = true
window = "endless"
set = { endless = true }

[[test.step]]
action = "wait"
until = "counter.sink.arrived > 600"
"#;

/// Waits until the load has said that something was accepted.
const UNTIL_TOLD: &str = r#"
[[test.step]]
action = "wait"
until = "counter.generator.told > 0"
"#;

/// Kills the load by the folder that it runs in.
const KILL_LOAD: &str = r#"
[[test.step]]
action = "run"
command = ["/bin/sh", "-c", '''
for it in /proc/[0-9]*; do
    if [ "$(readlink "$it/cwd")" = "{{ component.generator.dir }}" ]; then kill -9 "$(basename "$it")"; fi
done''']
"#;

const DRAIN: &str = r#"
[[test.step]]
action = "drain"
steady = "300ms"
"#;

const LIMITS: &str = r#"
[[test.step]]
action = "assert"
that = ["ledger.lost == 0", "ledger.duplicated == 0", "ledger.delivered > 600", "not ledger.lost > 1000000"]
"#;

#[test]
fn what_a_killed_load_has_sent_is_unknown_and_not_0() {
    let waits = r#"
[[test.step]]
action = "wait"
duration = "500ms"

[[test.step]]
action = "event"
event = "a while later"

[[test.step]]
action = "wait"
load = "endless"
on_error = { continue = true }
"#;
    let of_load =
        "\n[[test.step]]\naction = \"assert\"\nthat = [\"load.endless.latency_p99 < 100000\"]\n";
    let steps = [
        FIRST, ENDLESS, UNTIL_TOLD, KILL_LOAD, waits, DRAIN, LIMITS, of_load,
    ];
    let steps = steps.concat();
    let ran = run(COUNTERS, &steps);
    let said = &ran.said;
    assert_eq!(ran.status, Some(1), "{said}");
    let last = ran.last_line();
    for expected in [
        "small: FAILED sent=unknown(>=",
        " lost=unknown duplicated=0; nobody knows whether it held: small #1: ledger.lost == 0: ledger.lost is unknown",
        "load endless ended at ",
        "(signal 9) and left no record: when it last said so, it had sent ",
    ] {
        assert!(last.contains(expected), "{expected}\n{said}");
    }
    assert_eq!(ran.item("lost"), &Json::Null, "{said}");
    assert_eq!(ran.item("sent"), &Json::Null);
    assert_eq!(ran.item("duplicated"), 0);
    assert!(ran.item("delivered").as_u64().unwrap() > 600);
    // At least what it has said, beside the 500 of the first load, and no more than there is.
    let at_least = |name: &str| ran.ledger()["bounds"][name]["at_least"].as_u64().unwrap();
    let delivered = ran.item("delivered").as_u64().unwrap();
    assert!((501..=delivered).contains(&at_least("accepted")), "{said}");
    assert!(at_least("sent") >= at_least("accepted"), "{said}");
    assert_eq!(ran.ledger()["drained"], true);
    let why = ran.ledger()["unknown"][0].as_str().unwrap();
    assert!(why.starts_with("load endless ended at "), "{why}");
    assert!(!ran.has_metric("items_lost") && ran.has_metric("items_delivered"));
    assert!(ran.notes().contains("what is known: at least "), "{said}");

    // The limits over what is known hold, the others do not, whichever way they are put.
    let thresholds = ran.record["thresholds"].as_array().unwrap();
    let held: Vec<_> = thresholds.iter().map(|it| it["passed"] == true).collect();
    assert_eq!(held, [false, true, true, false, false], "{said}");
    let why = thresholds[4]["why"].as_str().unwrap();
    assert!(
        why.starts_with("load.endless is unknown: load endless ended at "),
        "{why}"
    );
    assert_eq!(ran.record["passed"], false);

    // The window is the load's, and not that of its step, nor does it last until it is waited for.
    let (from, to) = ran.window("endless");
    assert!(to > from, "{from} to {to}");
    assert_eq!(to, ran.event("load ended", "endless"));
    assert!(to < ran.event("a while later", ""), "{said}");
}

#[test]
fn what_a_killed_sink_has_counted_is_unknown_and_not_lost() {
    let kill = r#"
[[test.step]]
action = "fault"
target = "sink"
kind = "kill"
"#;
    // With the drain's error, and without one that ends the test.
    for goes_on in ["", "on_error = { continue = true }\n"] {
        let drain = format!("{DRAIN}{goes_on}");
        let ran = run(COUNTERS, &[FIRST, kill, &drain, LIMITS].concat());
        let said = &ran.said;
        assert_eq!(ran.status, Some(1), "{said}");
        let expected =
            " sent=500 delivered=unknown(>=500) lost=unknown(<=500) duplicated=unknown; ";
        assert!(ran.last_line().contains(expected), "{said}");
        assert_eq!(ran.item("sent"), 500);
        for name in ["delivered", "lost", "duplicated"] {
            assert_eq!(ran.item(name), &Json::Null, "{name}\n{said}");
        }
        let whys = ran.ledger()["unknown"].to_string();
        for name in ["delivered", "duplicated"] {
            let expected = format!("counter `{name}` of sink could not be asked at ");
            assert!(whys.contains(&expected), "{expected}\n{whys}");
        }
        assert!(!ran.has_metric("items_delivered_per_second"), "{said}");
    }
}

#[test]
fn a_sink_that_has_begun_to_count_anew_does_not_make_what_it_had_lost() {
    for fault in ["kill", "restart"] {
        let again = format!(
            "\n[[test.step]]\naction = \"fault\"\ntarget = \"sink\"\nkind = \"{fault}\"\nlasts = \"10ms\"\n"
        );
        let ran = run(COUNTERS, &[FIRST, &again, FIRST, DRAIN, LIMITS].concat());
        let said = &ran.said;
        assert_eq!(ran.status, Some(1), "{said}");
        assert_eq!(ran.item("accepted"), 1000, "{said}");
        assert_eq!(ran.item("lost"), &Json::Null, "{said}");
        assert_eq!(
            ran.ledger()["bounds"]["delivered"]["at_least"],
            1000,
            "{said}"
        );
        assert!(
            said.contains("sink counted `delivered` anew from "),
            "{said}"
        );
    }
}

/// Of all that was sent the pipeline has delivered 15 so far, and 5 of them twice.
const STALLED: &str = r#"
delivered = { command = ["/bin/echo", "20"] }
duplicated = { command = ["/bin/echo", "5"] }
"#;

#[test]
fn what_was_under_way_when_a_run_was_cut_off_is_not_lost() {
    let interrupt = r#"
[[test.step]]
action = "run"
command = ["/bin/sh", "-c", "kill -INT $PPID; sleep 600"]
"#;
    let fail = r#"
[[test.step]]
action = "run"
command = ["/bin/false"]
"#;
    for (step, word, why) in [
        (interrupt, "INTERRUPTED", "the run was interrupted"),
        (fail, "FAILED", "the test failed before"),
    ] {
        let ran = run(STALLED, &[FIRST, ENDLESS, step, DRAIN, LIMITS].concat());
        let said = &ran.said;
        assert_eq!(ran.status, Some(1), "{said}");
        assert!(ran.last_line().contains(word), "{said}");
        let sent = ran.item("sent").as_u64().unwrap();
        assert!(sent > 600, "{said}");
        let most = ran.item("accepted").as_u64().unwrap() - 15;
        let expected = format!("delivered=20 lost=unknown(<={most}) duplicated=unknown(>=5)");
        assert!(ran.last_line().contains(&expected), "{expected}\n{said}");
        assert_eq!(ran.item("lost"), &Json::Null);
        assert_eq!(ran.ledger()["drained"], false);
        assert_eq!(ran.ledger()["bounds"]["lost"]["at_most"], most);
        let expected = format!("closed before the pipeline had drained ({why})");
        assert!(ran.notes().contains(&expected), "{said}");
        assert!(
            !ran.notes().contains("duplicates were not looked for"),
            "{said}"
        );
        let (from, to) = ran.window("endless");
        assert!(to > from, "{from} to {to}");
    }
}

#[test]
fn a_frozen_sink_is_asked_once_more_when_the_test_has_failed() {
    let steps = r#"
[[test.step]]
action = "fault"
target = "sink"
kind = "freeze"

[[test.step]]
action = "run"
command = ["/bin/false"]
"#;
    let ran = run(COUNTERS, &[FIRST, steps, DRAIN].concat());
    let said = &ran.said;
    let expected = "delivered=500 lost=0 duplicated=unknown; ";
    assert!(ran.last_line().contains(expected), "{said}");
    assert_eq!(ran.ledger()["bounds"]["duplicated"]["at_least"], 0);
    assert!(!ran.notes().contains("could not be asked"), "{said}");
    assert!(!ran.notes().contains("was killed"), "{said}");
}

#[test]
fn a_load_that_counts_nothing_has_not_sent_nothing() {
    let script = r#"
[[test.step]]
action = "load"
target = "script"
"#;
    let ran = run(COUNTERS, &[FIRST, script, DRAIN].concat());
    assert_eq!(ran.item("sent"), &Json::Null, "{}", ran.said);
    assert_eq!(ran.item("delivered"), 500);
    let expected = "load script counts no items, and no component has a counter `accepted`";
    assert!(ran.notes().contains(expected), "{}", ran.said);
    // Where a counter stands for it, all is known.
    let counters = format!(
        "{COUNTERS}sent = {{ command = [\"/bin/echo\", \"0\"] }}\naccepted = {{ command = [\"/bin/echo\", \"0\"] }}\n"
    );
    let ran = run(&counters, &[FIRST, script, DRAIN].concat());
    assert_eq!(ran.item("lost"), 0, "{}", ran.said);
    assert_eq!(ran.status, Some(0), "{}", ran.said);
}

#[test]
fn a_counter_that_cannot_be_read_is_told_even_if_the_rest_is_known() {
    let counters = format!("{COUNTERS}sent = {{ command = [\"/bin/false\"] }}\n");
    let ran = run(&counters, &[FIRST, DRAIN].concat());
    assert_eq!(ran.status, Some(1), "{}", ran.said);
    let expected = "sent=unknown(>=500) delivered=500 lost=0 duplicated=0; ";
    assert!(ran.last_line().contains(expected), "{}", ran.said);
    let expected = "counter `sent` of sink could not be asked at ";
    assert!(ran.last_line().contains(expected), "{}", ran.said);
}

#[test]
fn a_ledger_is_timed_from_the_first_request_of_the_first_load() {
    let steps = r#"
[[test.step]]
action = "load"
target = "generator"
label = "early"
background = true
window = "early"

[[test.step]]
action = "wait"
duration = "700ms"

[[test.step]]
action = "load"
target = "generator"
label = "late"
"#;
    let ran = run(COUNTERS, &[steps, DRAIN].concat());
    assert_eq!(ran.status, Some(0), "{}", ran.said);
    let seconds = ran.ledger()["seconds"].as_f64().unwrap();
    let (from, to) = ran.window("early");
    let early = ran.event("load started", "early");
    let late = ran.event("load started", "late");
    assert!(early <= from && from < to && to < late, "{}", ran.said);
    assert!(seconds >= late - from, "{seconds}: {}", ran.said);
}

#[test]
fn what_is_unknown_is_not_as_good_as_in_an_earlier_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let before = run(COUNTERS, &[FIRST, DRAIN].concat());
    assert_eq!(before.item("lost"), 0);
    std::fs::write(path("before.json"), before.record.to_string()).unwrap();
    let kill = "\n[[test.step]]\naction = \"fault\"\ntarget = \"sink\"\nkind = \"kill\"\n";
    let drain = format!("{DRAIN}on_error = {{ continue = true }}\n");
    let steps = [FIRST, kill, &drain].concat();
    let after = run_against(Some(&path("before.json")), COUNTERS, &steps);
    assert_eq!(after.status, Some(1), "{}", after.said);
    let thresholds = after.record["thresholds"].to_string();
    assert!(thresholds.contains("items_lost{"), "{}", after.said);
    assert!(thresholds.contains("it is unknown: counter "));

    std::fs::write(path("after.json"), after.record.to_string()).unwrap();
    let compare = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
        command.args([
            "compare",
            "before.json",
            "after.json",
            "--metric",
            "items_lost",
        ]);
        let output = command.args(more).current_dir(folder.path()).output();
        let output = output.unwrap();
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
        )
    };
    let (status, said) = compare(&["--max-regression", "1000000"]);
    assert_eq!(status, Some(1), "{said}");
    let expected =
        "UNKNOWN  items_lost{test=\"small\"}: counter `delivered` of sink could not be asked at ";
    assert!(said.contains(expected), "{said}");
    // Who asks for no limit is told.
    let (status, said) = compare(&["--json"]);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("could not be asked"), "{said}");
}
