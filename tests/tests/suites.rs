//! `loadgen run` against the real agent: counts that reconcile, truthful reports of what failed, and nothing left behind.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use e2e::{Service, binary, eventually};
use serde_json::Value;

fn suites() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/suites")
}

fn command(suite: &Path, folder: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(binary("loadgen"));
    command
        .arg("run")
        .arg(suite)
        .arg("--out")
        .arg(folder.join("out"))
        .args(more)
        .current_dir(folder);
    command
}

fn run(suite: &Path, folder: &Path, more: &[&str]) -> Output {
    command(suite, folder, more).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The record that a run has written.
fn record(folder: &Path) -> Value {
    let json = fs::read_to_string(folder.join("out/record.json")).unwrap();
    serde_json::from_str(&json).unwrap()
}

/// The sum of a metric over its labels, of the last repetition.
fn metric(record: &Value, name: &str) -> f64 {
    let metrics = record["metrics"].as_array().unwrap().iter();
    let values = metrics.filter(|metric| metric["name"] == name);
    values
        .filter_map(|metric| metric["values"].as_array()?.last()?.as_f64())
        .sum()
}

/// Processes that run in the folder or below.
fn left_over(folder: &Path) -> Vec<String> {
    let folder = folder.canonicalize().unwrap();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        // Those that ended meanwhile, or are not ours to look into, are not meant.
        if let Ok(place) = fs::read_link(entry.path().join("cwd"))
            && place.starts_with(folder.join("out"))
        {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            found.push(text(&line).replace('\0', " "));
        }
    }
    found
}

/// A suite of a backend, an agent and a generator with these steps.
fn suite(folder: &Path, steps: &str) -> PathBuf {
    let parts = suites().join("parts").canonicalize().unwrap();
    let suite = format!(
        r#"
name = "small"
include = ["{parts}/pipeline.toml"]

[variables]
rate = 1000
batch = 50
seconds = 1
agent_template = "{parts}/clickhouse.toml"

[[test]]
name = "small"

[[test.step]]
action = "up"
target = ["backend", "agent"]
{steps}"#,
        parts = parts.display()
    );
    let path = folder.join("suite.toml");
    fs::write(&path, suite).unwrap();
    path
}

const LOAD: &str = r#"
[[test.step]]
action = "load"
target = "generator"
label = "main"
background = true

[[test.step]]
action = "wait"
until = "metric.agent.otelcol_receiver_accepted_log_records > 0"
"#;

#[test]
fn every_suite_is_without_mistakes() {
    let folder = tempfile::tempdir().unwrap();
    let mut seen = 0;
    for entry in fs::read_dir(suites()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let source = fs::read_to_string(&path).unwrap();
        let comment: Vec<_> = source
            .lines()
            .take_while(|it| it.starts_with('#'))
            .collect();
        let comment = comment.join("\n");
        assert!(
            comment.contains("A good result"),
            "{} does not say what is good",
            path.display()
        );
        let output = run(&path, folder.path(), &["--check"]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        for command in source
            .lines()
            .filter_map(|it| it.strip_prefix("#     loadgen run "))
        {
            // What stands apart from it is a remark.
            let command = command.split("   ").next().unwrap_or_default();
            let words = command.split_whitespace().skip(1).chain(["--check"]);
            let output = run(&path, folder.path(), &words.collect::<Vec<_>>());
            let told = text(&output.stderr);
            let is_elsewhere = command.contains("otelcol=") && told.contains("there is no program");
            assert!(output.status.success() || is_elsewhere, "{command}: {told}");
        }
        seen += 1;
    }
    assert!(seen >= 13, "{seen} suites");
}

#[test]
fn every_item_is_accounted_for_over_an_outage_and_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let small = ["rate=500", "batch=50", "seconds=4", "outage_seconds=1"];
    let mut more: Vec<_> = small.iter().flat_map(|it| ["--set", it]).collect();
    more.push("--debug");
    let output = run(&suites().join("outage.toml"), folder.path(), &more);
    let report = text(&output.stdout);
    assert!(
        output.status.success(),
        "{report}\n{}",
        text(&output.stderr)
    );
    let last = report.lines().last().unwrap();
    assert!(
        last.starts_with("outage: OK sent=") && last.ends_with("lost=0 duplicated=0"),
        "{last}"
    );
    let record = record(folder.path());
    // While the agent is dead nothing can be sent to it.
    let unsent = metric(&record, "items_unsent");
    assert_eq!(metric(&record, "items_sent") + unsent, 4000.0, "{report}");
    assert!(unsent > 0.0, "{report}");
    assert_eq!(metric(&record, "items_lost"), 0.0);
    let sent = metric(&record, "items_accepted")
        + metric(&record, "items_failed")
        + metric(&record, "items_refused");
    // What no connection could be made for is not among those that had no answer.
    assert_eq!(sent, metric(&record, "items_sent"), "{report}");
    assert!(metric(&record, "items_delivered") >= metric(&record, "items_accepted"));
    let inputs = record["inputs"].to_string();
    assert!(
        inputs.contains("sending_queue")
            && !inputs.contains("{{ port.proxy }}\\\"\\n\\n[exporters")
    );
    assert!(record["events"].to_string().contains("kill"), "{report}");
    for file in ["report.md", "report.html"] {
        assert!(folder.path().join("out").join(file).exists(), "{file}");
    }
    assert!(left_over(folder.path()).is_empty());
}

const SMALL_DEMO: [&str; 8] = [
    "--set",
    "seconds=2",
    "--set",
    "rate=50",
    "--set",
    "otlp_rate=200",
    "--set",
    "workers=4",
];

#[test]
fn the_demo_counts_at_every_station() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(&suites().join("demo.toml"), folder.path(), &SMALL_DEMO);
    let report = text(&output.stdout);
    assert!(
        output.status.success(),
        "{report}\n{}",
        text(&output.stderr)
    );
    let last = report.lines().last().unwrap();
    assert!(
        last.starts_with("demo: OK sent=") && last.ends_with("lost=0 duplicated=0"),
        "{last}"
    );
    let endpoint = report
        .lines()
        .find(|it| it.starts_with("order") && it.contains("POST /order-product"));
    assert!(endpoint.is_some(), "{report}");
    assert!(left_over(folder.path()).is_empty());
}

#[test]
fn the_demo_sees_what_is_missing_and_what_is_there_twice() {
    let folder = tempfile::tempdir().unwrap();
    let demo = fs::read_to_string(suites().join("demo.toml")).unwrap();
    let configs = suites().join("..").canonicalize().unwrap();
    let configs = configs.display();
    let harm = |sql: &str| {
        format!(
            "[[test.step]]\naction = \"http\"\nmethod = \"POST\"\nurl = \"http://127.0.0.1:{{{{ port.clickhouse }}}}/\"\nbody = \"{sql}\"\n\n"
        )
    };
    let drain = "[[test.step]]\naction = \"drain\"";
    let harmed = [
        harm("INSERT INTO otel_traces SELECT * FROM otel_traces LIMIT 3"),
        harm("DELETE FROM otel_logs WHERE LogAttributes['loadgen.item'] = '4398046511104'"),
        drain.to_owned(),
    ];
    assert!(demo.contains(drain));
    let demo = demo
        .replace(drain, &harmed.concat())
        .replace("parts/", &format!("{configs}/suites/parts/"))
        .replace("../agent/", &format!("{configs}/agent/"));
    let path = folder.path().join("demo.toml");
    fs::write(&path, demo).unwrap();
    let output = run(&path, folder.path(), &SMALL_DEMO);
    let report = text(&output.stdout);
    assert_eq!(
        output.status.code(),
        Some(99),
        "{report}\n{}",
        text(&output.stderr)
    );
    let last = report.lines().last().unwrap();
    assert!(
        last.starts_with("demo: FAILED sent=")
            && last.contains("lost=1 duplicated=3; did not hold: "),
        "{last}"
    );
}

#[test]
fn a_reload_under_load_is_not_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let more = [
        "--set",
        "rate=500",
        "--set",
        "batch=50",
        "--set",
        "seconds=3",
    ];
    let output = run(&suites().join("reload.toml"), folder.path(), &more);
    let report = text(&output.stdout);
    assert!(
        output.status.success(),
        "{report}\n{}",
        text(&output.stderr)
    );
    let record = record(folder.path());
    assert_eq!(metric(&record, "items_sent"), 1500.0);
    assert_eq!(metric(&record, "items_delivered"), 1500.0);
    assert!(left_over(folder.path()).is_empty());
}

#[test]
fn a_component_that_dies_fails_the_test_and_the_report_says_what_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let steps = format!(
        r#"{LOAD}
[[test.step]]
action = "run"
command = ["kill", "-9", "{{{{ component.agent.pid }}}}"]

[[test.step]]
action = "wait"
duration = "10m"

[[test.step]]
action = "drain"
"#
    );
    let path = suite(folder.path(), &steps);
    let output = run(&path, folder.path(), &["--set", "seconds=600"]);
    let report = text(&output.stdout);
    assert_eq!(
        output.status.code(),
        Some(1),
        "{report}\n{}",
        text(&output.stderr)
    );
    assert!(
        report.contains("agent ended by itself (signal 9)"),
        "{report}"
    );
    assert!(report.contains("small: FAILED"), "{report}");
    assert!(
        report.contains("closed before the pipeline had drained"),
        "{report}"
    );
    let record = record(folder.path());
    assert!(metric(&record, "items_sent") > 0.0, "{report}");
    assert_eq!(record["passed"], false);
    assert!(left_over(folder.path()).is_empty());
}

#[test]
fn limits_that_are_crossed_are_told_and_change_the_status() {
    let folder = tempfile::tempdir().unwrap();
    let steps = r#"
[[test.step]]
action = "load"
target = "generator"
label = "main"

[[test.step]]
action = "drain"

[[test.step]]
action = "assert"
that = ["ledger.lost == 0", "ledger.delivered < 10"]
"#;
    let path = suite(folder.path(), steps);
    let output = run(&path, folder.path(), &[]);
    let report = text(&output.stdout);
    assert_eq!(
        output.status.code(),
        Some(99),
        "{report}\n{}",
        text(&output.stderr)
    );
    assert!(
        report.contains("small: FAILED sent=1000 delivered=1000 lost=0"),
        "{report}"
    );
    assert!(left_over(folder.path()).is_empty());

    // The same once more, with itself as the baseline: nothing is much worse.
    let before = folder.path().join("before.json");
    fs::copy(folder.path().join("out/record.json"), &before).unwrap();
    let more = ["--baseline", "before.json", "--max-regression", "10000%"];
    let report = text(&run(&path, folder.path(), &more).stdout);
    assert!(
        report.contains("Compared with the baseline") && !report.contains("REGRESSION"),
        "{report}"
    );

    // And with one whose longest request was a million times as fast; of that one figure nothing is known but itself.
    let mut faster = record(folder.path());
    let metrics = faster["metrics"].as_array_mut().unwrap();
    let latencies = metrics.iter_mut().filter(|it| it["name"] == "latency_max");
    let values = latencies.flat_map(|it| it["values"].as_array_mut().unwrap());
    values.for_each(|it| *it = (it.as_f64().unwrap() / 1e6).into());
    fs::write(&before, faster.to_string()).unwrap();
    let report = text(&run(&path, folder.path(), &more).stdout);
    assert!(
        report.contains("REGRESSION  latency_max") && report.contains("worse than in the baseline"),
        "{report}"
    );
}

/// A run that is in the middle of its load.
fn under_way(folder: &Path) -> Service {
    let steps = format!("{LOAD}\n[[test.step]]\naction = \"wait\"\nduration = \"10m\"\n");
    let path = suite(folder, &steps);
    let mut command = command(&path, folder, &["--set", "seconds=600", "--debug"]);
    let mut service = Service::start("loadgen", &mut command, folder);
    service.wait_for(&["load started main"]);
    eventually("three processes", || {
        (left_over(folder).len() >= 3).then_some(())
    });
    service
}

#[test]
fn an_interrupted_run_leaves_nothing_and_reports_what_it_knows() {
    for signal in ["INT", "TERM"] {
        let folder = tempfile::tempdir().unwrap();
        let mut service = under_way(folder.path());
        service.signal(signal);
        let status = service.wait();
        assert_eq!(status.code(), Some(1), "{}", service.output());
        assert!(
            service.output().contains("small: INTERRUPTED"),
            "{}",
            service.output()
        );
        let record = record(folder.path());
        assert_eq!(record["interrupted"], true);
        // What is under way is not lost, and what came twice is asked of the sink while it is there.
        let ledger = &record["ledgers"][0];
        assert_eq!(ledger["drained"], false, "{}", service.output());
        assert!(
            [Value::Null, 0.into()].contains(&ledger["items"]["lost"]),
            "{ledger}"
        );
        assert_eq!(ledger["bounds"]["duplicated"]["at_least"], 0, "{ledger}");
        assert!(!record["notes"].to_string().contains("not looked for"));
        assert!(left_over(folder.path()).is_empty());
    }
}

#[test]
fn a_killed_run_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut service = under_way(folder.path());
    service.signal("KILL");
    service.wait();
    eventually("the end of all processes", || {
        left_over(folder.path()).is_empty().then_some(())
    });
}

#[test]
fn all_mistakes_are_told_at_once_before_anything_starts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wrong.toml");
    let source = r#"name = "wrong"
[variables]
rate = 1
unused = 2
[[component]]
name = "agent"
[component.deployment]
command = ["/nonexistent/agent", "--port", "{{ port.otlp }}", "{{ absent }}"]
redy_ports = ["otlp"]
[component.configuration]
template = "absent.toml"
[[component]]
name = "generator"
execution = { otlp = ["127.0.0.1:{{ port.otlp }}", "--rat", "{{ rate }}"] }
[[test]]
name = "one"
[[test.step]]
action = "upp"
target = "agent"
[[test.step]]
action = "wait"
until = "ledger.lst == "
[[test.step]]
action = "wait"
duration = "5"
[[test.step]]
action = "load"
target = "generater"
"#;
    fs::write(&path, source).unwrap();
    let output = run(&path, folder.path(), &[]);
    assert_eq!(output.status.code(), Some(2));
    let told = text(&output.stderr);
    for expected in [
        "wrong.toml:4:1: variables.unused: nothing refers to it",
        "wrong.toml:8:63: component[0].deployment.command[3]: there is no variable `absent`",
        "wrong.toml:9:1: component[0].deployment.redy_ports: unknown key; did you mean `ready_ports`?",
        "wrong.toml:18:10: test[0].step[0].action: unknown action `upp`; did you mean `up`?",
        "wrong.toml:22:9: test[0].step[1].until: ",
    ] {
        assert!(told.contains(expected), "{expected}\n{told}");
    }
    for expected in [
        "component[0].deployment.command[0]: there is no program /nonexistent/agent",
        "component[0].configuration.template: cannot read",
        "wrong.toml:14:52: component[1].execution.otlp[1]: loadgen otlp: unexpected argument '--rat' found",
        "test[0].step[2].duration: `5` needs a unit",
        "there is no component `generater`; did you mean `generator`?",
    ] {
        assert!(told.contains(expected), "{expected}\n{told}");
    }
    assert!(!folder.path().join("out").exists());
    assert!(told.contains("10 mistakes"), "{told}");
}

#[test]
fn a_summary_may_ask_only_for_what_is_known_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = suite(folder.path(), LOAD);
    let source = fs::read_to_string(&path).unwrap();
    for (summary, expected) in [
        (
            "{{ ledger.lst }}",
            "no field of the ledger `lst`; did you mean `lost`?",
        ),
        ("{{ load.main.items_sent }}", "undefined value"),
        ("{{ absent }}", "no variable `absent`"),
        ("{{ rate }} {{ ledger.lost }}", ""),
    ] {
        let with = format!("summary = \"{summary}\"{source}");
        fs::write(&path, with).unwrap();
        let output = run(&path, folder.path(), &["--check"]);
        let told = text(&output.stderr);
        let is_wrong = output.status.code() == Some(2);
        assert_eq!(is_wrong, !expected.is_empty(), "{summary}: {told}");
        assert!(told.contains(expected), "{summary}: {told}");
    }
}

/// Two suites, of which the first delivers more than it may; their paths, and the source of either.
fn two_suites(folder: &Path) -> [String; 3] {
    let steps = r#"
[[test.step]]
action = "load"
target = "generator"
label = "main"

[[test.step]]
action = "drain"

[[test.step]]
action = "assert"
that = ["ledger.delivered < most"]
"#;
    let source = fs::read_to_string(suite(folder, steps)).unwrap();
    let write = |name: &str, most: u64| {
        let path = folder.join(format!("{name}.toml"));
        let named = source
            .replace(
                "name = \"small\"\ninclude",
                &format!("name = \"{name}\"\ninclude"),
            )
            .replace("seconds = 1", &format!("seconds = 1\nmost = {most}"));
        fs::write(&path, named).unwrap();
        path.display().to_string()
    };
    [write("first", 10), write("second", 5000), source.clone()]
}

#[test]
fn several_suites_run_one_after_the_other_with_one_table_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let [first, second, _] = two_suites(folder.path());
    let more = [&second, "--set", "rate=500"];
    let output = run(Path::new(&first), folder.path(), &more);
    let report = text(&output.stdout);
    let told = format!("{report}\n{}", text(&output.stderr));
    assert_eq!(output.status.code(), Some(99), "{told}");
    let rows: Vec<Vec<&str>> = report
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let [.., head, one, other] = rows.as_slice() else {
        panic!("{report}");
    };
    assert_eq!(head.first(), Some(&"suite"), "{report}");
    let ends = |row: &[&str]| (row[0].to_owned(), row[row.len() - 1].to_owned());
    let expected = |suite: &str, verdict: &str| (suite.to_owned(), verdict.to_owned());
    assert_eq!(ends(one), expected("first", "crossed"), "{report}");
    assert_eq!(ends(other), expected("second", "passed"), "{report}");
    for name in ["first", "second"] {
        assert!(report.contains(&format!("\n{name}: ")), "{report}");
        let record = folder.path().join("out").join(name).join("record.json");
        assert!(record.exists(), "{}", record.display());
    }
    assert!(left_over(folder.path()).is_empty());
}

#[test]
fn mistakes_of_all_suites_are_told_before_any_of_them_starts() {
    let folder = tempfile::tempdir().unwrap();
    let [first, second, source] = two_suites(folder.path());
    let wrong = source.replace("seconds = 1", "seconds = \"1\"\nunused = 2");
    fs::write(&second, wrong).unwrap();
    for (options, expected) in [
        (&[][..], "nothing refers to it"),
        (&["--set", "absent=1"], "none of the suites has it"),
        // What is for one suite is not for several.
        (&["--tests", "small"], "--tests is for one suite"),
    ] {
        let more = [&[second.as_str()], options].concat();
        let output = run(Path::new(&first), folder.path(), &more);
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains(expected), "{told}");
    }
    assert!(!folder.path().join("out").exists());
}

#[test]
fn a_hook_that_was_gone_on_after_is_told_and_an_address_that_is_none_comes_first() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let path = folder.join("hooks.toml");
    let hooks = r#"
name = "hooks"

[[before]]
action = "run"
command = ["false"]
on_error = { continue = true }

[[test]]
name = "nothing"

[[test.step]]
action = "event"
event = "hello"
"#;
    fs::write(&path, hooks).unwrap();
    let output = run(&path, folder, &[]);
    let report = text(&output.stdout);
    assert!(output.status.success(), "{report}");
    assert!(report.contains("went on after"), "{report}");

    let output = run(
        &path,
        folder,
        &["--export-traces", "--otlp-endpoint", "nonsense"],
    );
    let problem = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{problem}");
    assert!(problem.contains("--otlp-endpoint"), "{problem}");
    assert_eq!(text(&output.stdout), "", "nothing has run");
}
