//! Plugins in the running agent: they do their work, are swapped while data flows, and harm nobody else.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use e2e::plugins::plugin;
use e2e::{Agent, Service, binary, eventually, post};

/// How often a text is in a file.
fn count(file: &Path, text: &str) -> usize {
    fs::read_to_string(file)
        .unwrap_or_default()
        .matches(text)
        .count()
}

fn send(url: &str, body: &str) -> u16 {
    post(
        url,
        &[("content-type", "application/json")],
        body.as_bytes(),
    )
    .unwrap()
    .status
}

/// A request of `items` log records, as OTLP/JSON.
fn logs(items: usize) -> String {
    let record = r#"{"body":{"stringValue":"mail ann@example.org"},"attributes":[{"key":"k","value":{"stringValue":"v"}}]}"#;
    let records = vec![record; items].join(",");
    format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{records}]}}]}}]}}"#)
}

/// The value of the first metric whose line has all of `parts`.
fn metric(agent: &mut Agent, parts: &[&str]) -> f64 {
    let text = agent.metrics();
    let mut lines = text.lines().filter(|line| !line.starts_with('#'));
    let line = lines.find(|line| parts.iter().all(|part| line.contains(part)));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
        .unwrap_or(0.0)
}

/// Logs from HTTP through a plugin into a file.
fn config(options: &str) -> String {
    format!(
        "[receivers.otlp.protocols.http]\nendpoint = '127.0.0.1:0'\n\
         [processors.wasm]\npath = 'plugin.wasm'\n{options}\n\
         [exporters.file]\npath = 'out.jsonl'\nflush_interval = '20ms'\n\
         [service.reload]\ndebounce = '20ms'\n\
         [service.telemetry.metrics]\naddress = '127.0.0.1:0'\n\
         [service.pipelines.logs]\nreceivers = ['otlp']\nprocessors = ['wasm']\nexporters = ['file']\n"
    )
}

#[test]
fn a_plugin_is_swapped_under_load_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let (wasm, out) = (
        folder.path().join("plugin.wasm"),
        folder.path().join("out.jsonl"),
    );
    fs::copy(plugin("set-attribute"), &wasm).unwrap();
    let table = |value: &str| {
        config(&format!(
            "[processors.wasm.config]\nkey = 'env'\nvalue = '{value}'"
        ))
    };
    let mut agent = Agent::start(folder.path(), &table("one"));
    let url = format!("{}/v1/logs", agent.otlp_http());
    let stop = AtomicBool::new(false);
    let value = |value: &str| format!("\"key\":\"env\",\"value\":{{\"stringValue\":\"{value}\"");
    let sent = thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let mut sent = 0;
            while !stop.load(Ordering::SeqCst) {
                assert_eq!(send(&url, &logs(5)), 200);
                sent += 5;
            }
            sent
        });
        let comes = |what: &str| {
            let before = count(&out, &value(what));
            eventually(what, || (count(&out, &value(what)) > before).then_some(()));
        };
        comes("one");
        fs::write(folder.path().join("agent.toml"), table("two")).unwrap();
        comes("two");
        // What is no plugin changes nothing, and says why.
        fs::write(&wasm, "garbage").unwrap();
        agent
            .service()
            .wait_for(&["load the plugin plugin.wasm", "it is not WebAssembly"]);
        comes("two");
        // Nor does one that does not like its configuration.
        fs::copy(plugin("hostile"), &wasm).unwrap();
        agent.service().wait_for(&["unknown field `key`"]);
        comes("two");
        // Another plugin of the same name, with its own configuration.
        fs::write(
            folder.path().join("agent.toml"),
            config("[processors.wasm.config]\nharm = 'panic'\nafter = 1000000"),
        )
        .unwrap();
        eventually("data that the last plugin let pass", || {
            let all = count(&out, "mail ann");
            (all > count(&out, "\"key\":\"env\"")).then_some(())
        });
        stop.store(true, Ordering::SeqCst);
        sender.join().unwrap()
    });
    assert!(agent.service().terminate().success());
    assert_eq!(count(&out, "mail ann"), sent);
}

#[test]
fn redacted_data_does_not_get_out() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(plugin("redact"), folder.path().join("plugin.wasm")).unwrap();
    let options = "[processors.wasm.config]\nmask = ['k']\npatterns = { email = '\\w+@[\\w.]+' }";
    let mut agent = Agent::start(folder.path(), &config(options));
    let url = format!("{}/v1/logs", agent.otlp_http());
    assert_eq!(send(&url, &logs(3)), 200);
    let counted = [
        "tidegate_plugin_counter",
        "label=\"email\"",
        "name=\"redacted\"",
    ];
    assert_eq!(metric(&mut agent, &counted), 3.0);
    assert!(agent.service().terminate().success());
    let out = folder.path().join("out.jsonl");
    assert_eq!(count(&out, "mail [email]"), 3);
    assert_eq!(count(&out, "\"***\""), 3);
    assert_eq!(count(&out, "ann"), 0);
}

#[test]
fn what_a_filter_drops_is_in_the_ledger() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(plugin("filter"), folder.path().join("plugin.wasm")).unwrap();
    let options = "[[processors.wasm.config.drop]]\nreason = 'noise'\nattributes = { k = 'v' }";
    let mut agent = Agent::start(folder.path(), &config(options));
    let url = format!("{}/v1/logs", agent.otlp_http());
    assert_eq!(send(&url, &logs(3)), 200);
    let dropped = ["tidegate_ledger_dropped_items", "reason=\"noise\""];
    assert_eq!(metric(&mut agent, &dropped), 3.0);
    assert_eq!(metric(&mut agent, &["tidegate_ledger_accepted_items"]), 3.0);
    assert_eq!(metric(&mut agent, &["tidegate_ledger_queued_items"]), 0.0);
    assert!(agent.service().terminate().success());
    assert_eq!(count(&folder.path().join("out.jsonl"), "mail"), 0);
}

/// An agent of which nobody knows whether it comes up.
fn start(folder: &Path) -> Service {
    let mut command = Command::new(binary("tidegate"));
    command
        .args(["run", "--config", "agent.toml"])
        .env("CACHE_DIRECTORY", folder.join("cache"))
        .current_dir(folder);
    Service::start("agent", &mut command, folder)
}

/// The plugin's answer is the same after every restart.
#[test]
fn a_table_that_a_plugin_refuses_ends_the_start_like_any_wrong_configuration() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(plugin("filter"), folder.path().join("plugin.wasm")).unwrap();
    let table = "[processors.wasm.config]\nno_such_key = 'v'";
    fs::write(folder.path().join("agent.toml"), config(table)).unwrap();
    let mut agent = start(folder.path());
    let status = agent.wait();
    let told = agent.output();
    assert_eq!(status.code(), Some(78), "{told}");
    for expected in ["agent.toml:", "processors.wasm.config: ", "no_such_key"] {
        assert!(told.contains(expected), "{told}");
    }
}

/// Logs through a plugin that does harm, and spans past it.
fn beside(harm: &str, timeout: &str) -> String {
    config(&format!(
        "timeout = '{timeout}'\non_error = 'drop'\n[processors.wasm.config]\nharm = '{harm}'"
    )) + "[service.pipelines.traces]\nreceivers = ['otlp']\nexporters = ['file']\n"
}

#[test]
fn a_plugin_that_hangs_holds_no_other_pipeline_up() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(plugin("hostile"), folder.path().join("plugin.wasm")).unwrap();
    let mut agent = Agent::start(folder.path(), &beside("loop", "5s"));
    let base = agent.otlp_http();
    let spans = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"quick","traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203331"}]}]}]}"#;
    thread::scope(|scope| {
        // As many as would block every thread of the runtime, if each took one.
        let stuck: Vec<_> = (0..16)
            .map(|_| scope.spawn(|| send(&format!("{base}/v1/logs"), &logs(1))))
            .collect();
        let began = Instant::now();
        for _ in 0..50 {
            assert_eq!(send(&format!("{base}/v1/traces"), spans), 200);
        }
        let took = began.elapsed();
        assert!(took < Duration::from_secs(5), "50 requests took {took:?}");
        for request in stuck {
            let status = request.join().unwrap();
            assert!(matches!(status, 200 | 503 | 429), "{status}");
        }
    });
    let timeouts = ["tidegate_plugin_calls", "outcome=\"timeout\""];
    assert!(metric(&mut agent, &timeouts) >= 1.0);
    assert!(agent.service().terminate().success());
    assert_eq!(count(&folder.path().join("out.jsonl"), "\"quick\""), 50);
}

/// The time that a start may take is ten times that of a call: ten minutes here.
#[test]
fn a_start_that_hangs_does_not_hold_up_the_end() {
    for hangs_at_first in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        fs::copy(plugin("hostile"), folder.path().join("plugin.wasm")).unwrap();
        let file = folder.path().join("agent.toml");
        let write = |harm| fs::write(&file, beside(harm, "1m")).unwrap();
        write(if hangs_at_first { "start" } else { "error" });
        let mut agent = start(folder.path());
        if !hangs_at_first {
            agent.wait_for(&["everything is ready"]);
            write("start");
        }
        agent.wait_for(&["I start for ever"]);
        let status = agent.terminate();
        let told = agent.output();
        assert!(status.success() && told.contains("stopping"), "{told}");
    }
}

#[test]
fn harm_of_every_kind_is_named_and_accounted_for() {
    // What ends by itself has all the time it needs.
    let patient = "30s";
    for (harm, timeout, outcome, reason) in [
        ("recursion", patient, "trap", "wasm trap"),
        ("memory", patient, "memory_limit", "memory_limit"),
        ("panic", patient, "trap", "this plugin panics on purpose"),
        ("error", patient, "error", "this plugin fails on purpose"),
        ("storm", "300ms", "timeout", "it took longer than 300ms"),
        ("loop", "300ms", "timeout", "it took longer than 300ms"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        fs::copy(plugin("hostile"), folder.path().join("plugin.wasm")).unwrap();
        let mut agent = Agent::start(folder.path(), &beside(harm, timeout));
        let url = format!("{}/v1/logs", agent.otlp_http());
        for _ in 0..2 {
            assert_eq!(send(&url, &logs(3)), 200, "{harm}");
        }
        agent.service().wait_for(&["the plugin failed", reason]);
        let calls = format!("outcome=\"{outcome}\"");
        assert_eq!(
            metric(&mut agent, &["tidegate_plugin_calls", &calls]),
            2.0,
            "{harm}"
        );
        let dropped = ["tidegate_ledger_dropped_items", "reason=\"plugin_failed\""];
        assert_eq!(metric(&mut agent, &dropped), 6.0, "{harm}");
        let accepted = ["tidegate_ledger_accepted_items", "pipeline=\"logs\""];
        assert_eq!(metric(&mut agent, &accepted), 6.0, "{harm}");
        assert!(agent.service().terminate().success());
    }
}

#[test]
fn what_a_plugin_says_fills_no_disk_and_passes_for_nobody_elses() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(plugin("hostile"), folder.path().join("plugin.wasm")).unwrap();
    let mut agent = Agent::start(folder.path(), &beside("chatter", "30s"));
    let url = format!("{}/v1/logs", agent.otlp_http());
    for _ in 0..40 {
        assert_eq!(send(&url, &logs(1)), 200);
    }
    assert_eq!(
        metric(&mut agent, &["tidegate_plugin_calls", "outcome=\"error\""]),
        20.0
    );
    assert!(agent.service().terminate().success());
    let said = agent.service().output();
    assert!(
        said.contains("the plugin failed") && said.contains("plain"),
        "{said}"
    );
    assert!(!said.contains("\n2026-01-01"), "{said}");
    assert!(said.len() < 128 << 10, "{} bytes", said.len());
}

fn tidegate(folder: &Path, arguments: &[&str]) -> (bool, String) {
    tidegate_with(folder, arguments, &[])
}

/// The same with variables of the environment.
fn tidegate_with(folder: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> (bool, String) {
    let output = Command::new(binary("tidegate"))
        .args(arguments)
        .env("CACHE_DIRECTORY", folder.join("cache"))
        .env_remove("CARGO_TARGET_DIR")
        .envs(variables.iter().copied())
        .current_dir(folder)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[test]
fn a_new_plugin_builds_at_once_and_passes_its_tests() {
    let folder = tempfile::tempdir().unwrap();
    let (done, text) = tidegate(folder.path(), &["plugin", "new", "my-plugin"]);
    assert!(done, "{text}");
    let home = folder.path().join("my-plugin");
    let (done, text) = tidegate(&home, &["plugin", "build"]);
    assert!(done, "{text}");
    assert!(
        text.contains("target/wasm32-wasip2/release/my_plugin.wasm"),
        "{text}"
    );
    let (done, text) = tidegate(&home, &["plugin", "test"]);
    assert!(done && text.contains("1 passed, 0 failed"), "{text}");
    // A case that fails says where.
    let expected = home.join("tests/cases/basic.expected.json");
    let wrong = fs::read_to_string(&expected)
        .unwrap()
        .replace("\"production\"", "\"staging\"");
    fs::write(&expected, wrong).unwrap();
    let (done, text) = tidegate(&home, &["plugin", "test"]);
    assert!(!done && text.contains("FAILED  basic"), "{text}");
    assert!(
        text.contains("-") && text.contains("staging") && text.contains("production"),
        "{text}"
    );
    let (done, text) = tidegate(&home, &["plugin", "test", "--update"]);
    assert!(done, "{text}");
    let (done, text) = tidegate(&home, &["plugin", "inspect"]);
    assert!(done && text.contains("name      my-plugin"), "{text}");
    for expected in [
        "world     tidegate:plugin/processor@0.1.0",
        "limits    memory_limit 128MiB, output_limit 32MiB, timeout 1s",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    let config = "tests/cases/config.toml";
    let (done, text) = tidegate(
        &home,
        &["plugin", "bench", "--config", config, "--seconds", "0.1"],
    );
    assert!(done && text.contains("1000 spans"), "{text}");
    let wasm = "target/wasm32-wasip2/release/my_plugin.wasm";
    let input = "tests/cases/basic.input.json";
    let (done, text) = tidegate(&home, &["plugin", "run", wasm, "--config", config, input]);
    assert!(
        done && text.contains("order 17 paid") && text.contains("environment"),
        "{text}"
    );
    let (done, text) = tidegate(&home, &["plugin", "run", wasm, input]);
    assert!(!done && text.contains("missing field `key`"), "{text}");
    fs::write(home.join("in.json.gz"), [0x1f, 0x8b, 8, 0]).unwrap();
    let (done, text) = tidegate(&home, &["plugin", "run", wasm, "in.json.gz"]);
    let said = "in.json.gz: it is compressed, and is to be given to `gunzip` first";
    assert!(!done && text.contains(said), "{text}");
}

#[test]
fn a_plugin_is_found_where_cargo_was_told_to_put_it() {
    let folder = tempfile::tempdir().unwrap();
    let (done, text) = tidegate(folder.path(), &["plugin", "new", "error"]);
    assert!(done, "{text}");
    let home = folder.path().join("error");
    let elsewhere = folder.path().join("elsewhere");
    let elsewhere = elsewhere.to_str().unwrap();
    let run = |arguments: &[&str]| {
        let variables = [("CARGO_TARGET_DIR", elsewhere)];
        tidegate_with(&home, arguments, &variables)
    };
    let (done, text) = run(&["plugin", "build"]);
    assert!(done, "{text}");
    let built = format!("{elsewhere}/wasm32-wasip2/release/error.wasm");
    assert!(text.contains(&built), "{text}");
    let (done, text) = run(&["plugin", "test"]);
    assert!(done && text.contains("1 passed, 0 failed"), "{text}");
    assert!(!home.join("target").exists());
}

#[test]
fn a_name_that_cannot_be_a_crate_makes_no_project() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["self", "tidegate-plugin"] {
        let (done, text) = tidegate(folder.path(), &["plugin", "new", name]);
        assert!(!done && text.contains("take another one"), "{text}");
        assert!(!folder.path().join(name).exists());
    }
}

#[test]
fn the_examples_do_what_their_cases_say() {
    let cache = tempfile::tempdir().unwrap();
    let run = |folder: &Path, command: &str, wasm: &Path| {
        let arguments = ["plugin", command, wasm.to_str().unwrap()];
        let variables = [("CACHE_DIRECTORY", cache.path().to_str().unwrap())];
        tidegate_with(folder, &arguments, &variables)
    };
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/examples");
    let folders = fs::read_dir(examples).unwrap().map(Result::unwrap);
    let folders: Vec<_> = folders.map(|entry| entry.path()).collect();
    assert!(!folders.is_empty());
    for folder in folders {
        let name = folder.file_name().unwrap().to_str().unwrap();
        let (done, text) = run(&folder, "test", &plugin(name));
        assert!(done && text.contains(" passed, 0 failed"), "{name}: {text}");
        assert!(!text.contains("0 passed"), "{name}: {text}");
    }
    let (done, text) = run(Path::new("."), "inspect", &plugin("sample"));
    assert!(done && text.contains("exclusiveMinimum"), "{text}");
}

#[test]
fn a_run_goes_on_after_a_request_that_the_plugin_failed_on() {
    let folder = tempfile::tempdir().unwrap();
    let request = |body: &str| {
        format!(
            "{{\"resourceLogs\":[{{\"scopeLogs\":[{{\"logRecords\":[{{\"body\":{{\"stringValue\":\"{body}\"}}}}]}}]}}]}}\n"
        )
    };
    let input = ["first", "second", "third"].map(request).concat();
    fs::write(folder.path().join("in.json"), input).unwrap();
    let wasm = plugin("hostile");
    let wasm = wasm.to_str().unwrap();
    // It starts anew after each failure, so that each second batch since then fails.
    fs::write(folder.path().join("config.toml"), "harm = 'chatter'").unwrap();
    let arguments = ["plugin", "run", wasm, "in.json", "--config", "config.toml"];
    let (done, text) = tidegate(folder.path(), &arguments);
    assert!(!done, "{text}");
    for expected in [
        "\"first\"",
        "\"third\"",
        "request 2 of 3 (1 log_records): ",
        "the plugin failed on 1 of 3 requests",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert!(!text.contains("\"second\""), "{text}");
    // What was left of nothing is nothing, and one signal is no reason to leave another out.
    let spans = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"kept"}]}]}]}"#;
    let metrics = r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"m"}]}]}]}"#;
    let input = format!("{{}}\n{metrics}\n{spans}\n");
    fs::write(folder.path().join("in.json"), input).unwrap();
    fs::write(folder.path().join("config.toml"), "percentage = 100").unwrap();
    let sample = plugin("sample");
    let sample = sample.to_str().unwrap();
    let arguments = [
        "plugin",
        "run",
        sample,
        "in.json",
        "--config",
        "config.toml",
    ];
    let (done, text) = tidegate(folder.path(), &arguments);
    assert!(!done, "{text}");
    for expected in [
        "request 1 of 2 (0 metric_points): ",
        "does not work for metrics",
        "\"kept\"",
        "the plugin failed on 1 of 2 requests",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

#[test]
fn a_plugin_on_the_bench_gets_what_it_is_given_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("hosts.csv", "host.name,team\nweb-1,blue\n");
    write("config.toml", "by = 'host.name'");
    let request = r#"{"resourceLogs":[{"resource":{"attributes":[{"key":"host.name","value":{"stringValue":"web-1"}}]},"scopeLogs":[{"logRecords":[{}]}]}]}"#;
    write("in.json", request);
    let wasm = plugin("enrich");
    let wasm = wasm.to_str().unwrap();
    let run = |given: &[&str]| {
        let arguments = [&["plugin", "run", wasm, "in.json"], given].concat();
        tidegate(folder.path(), &arguments)
    };
    let (done, text) = run(&["--config", "config.toml", "--file", "table=hosts.csv"]);
    assert!(done && text.contains("\"blue\""), "{text}");
    let (done, text) = run(&["--config", "config.toml"]);
    assert!(!done && text.contains("there is no table"), "{text}");
    let (done, text) = run(&["--config", "config.toml", "--file", "table=none.csv"]);
    assert!(
        !done && text.contains("read none.csv: No such file"),
        "{text}"
    );
    // The same from a table as it stands in the agent's configuration, which is looked at like there.
    let table = "files = { table = 'hosts.csv' }\n[config]\nby = 'host.name'\n";
    write("processor.toml", table);
    let (done, text) = run(&["--processor", "processor.toml"]);
    assert!(done && text.contains("\"blue\""), "{text}");
    write(
        "wrong.toml",
        "timeout = '0s'\nfile = { table = 'hosts.csv' }",
    );
    let (done, text) = run(&["--processor", "wrong.toml"]);
    assert!(!done, "{text}");
    for expected in [
        "wrong.toml:1:11: error: processors.wasm.timeout: ",
        "wrong.toml:2:1: error: processors.wasm.file: ",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    // Cases have one beside them.
    for (name, text) in [
        ("processor.toml", table),
        ("hosts.input.json", request),
        ("hosts.expected.json", "{}"),
    ] {
        fs::create_dir_all(folder.path().join("cases")).unwrap();
        write(&format!("cases/{name}"), text);
    }
    let cases = ["plugin", "test", wasm, "--cases", "cases"];
    let (done, text) = tidegate(folder.path(), &[&cases[..], &["--update"]].concat());
    assert!(done, "{text}");
    let expected = fs::read_to_string(folder.path().join("cases/hosts.expected.json")).unwrap();
    assert!(expected.contains("\"blue\""), "{expected}");
    let (done, text) = tidegate(folder.path(), &cases);
    assert!(done && text.contains("1 passed, 0 failed"), "{text}");
    let bench = [
        "plugin",
        "bench",
        wasm,
        "--input",
        "in.json",
        "--seconds",
        "0.1",
    ];
    let given = ["--processor", "processor.toml"];
    let (done, text) = tidegate(folder.path(), &[&bench[..], &given].concat());
    assert!(done && text.contains("it comes out changed"), "{text}");
}
