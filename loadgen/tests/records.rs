//! Records of runs as a user writes, compares and exports them.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

const LOADGEN: &str = env!("CARGO_BIN_EXE_loadgen");

/// A sink process, killed when dropped.
struct Sink {
    child: Child,
    address: String,
}

impl Sink {
    fn start(args: &[&str]) -> Self {
        let mut command = Command::new(LOADGEN);
        command
            .args(["sink", "--otlp-http", "127.0.0.1:0"])
            .args(args);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let out = child.stdout.take().unwrap();
        BufReader::new(out).read_line(&mut line).unwrap();
        let addresses: Value = serde_json::from_str(&line).unwrap();
        Self {
            child,
            address: addresses["otlp_http"].as_str().unwrap().to_owned(),
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        // An error means that it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn loadgen(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(LOADGEN);
    command.args(args).current_dir(folder).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// 300 requests to a sink, their record in `name`.json, their page and table beside it.
fn record(folder: &Path, sink: &Sink, name: &str) {
    let files = ["json", "html", "csv"].map(|kind| format!("{name}.{kind}"));
    let fixed = [
        "otlp",
        &sink.address,
        "-n",
        "3000",
        "-b",
        "10",
        "--pool",
        "4",
    ];
    let output = [
        "--record", &files[0], "--html", &files[1], "--csv", &files[2],
    ];
    let output = loadgen(folder, &[fixed.as_slice(), &output].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn runs_are_recorded_compared_and_exported() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (quick, slow) = (Sink::start(&[]), Sink::start(&["--delay", "30ms"]));
    record(folder, &quick, "quick");
    record(folder, &slow, "slow");

    let page = std::fs::read_to_string(folder.join("quick.html")).unwrap();
    assert!(page.contains("Latency percentiles") && page.ends_with("</html>"));
    let csv = std::fs::read_to_string(folder.join("quick.csv")).unwrap();
    assert!(csv.contains(",metric,items_accepted,,,1,,3000\n"), "{csv}");

    let limit = ["--metric", "latency_p50", "--max-regression", "50"];
    let compare = |first: &str, second: &str| {
        loadgen(
            folder,
            &[["compare", first, second].as_slice(), &limit].concat(),
        )
    };
    let worse = compare("quick.json", "slow.json");
    let told = text(&worse.stdout);
    assert!(
        told.contains("second is WORSE") && told.contains("REGRESSION  latency_p50"),
        "{told}"
    );
    assert!(!worse.status.success());
    for (first, second) in [("slow.json", "quick.json"), ("quick.json", "quick.json")] {
        let output = compare(first, second);
        assert!(output.status.success(), "{}", text(&output.stdout));
    }

    let export = ["export", "quick.json", "slow.json", "-f", "markdown"];
    let markdown = text(&loadgen(folder, &export).stdout);
    assert!(
        markdown.contains("| items_accepted | 3,000 | 3,000 |"),
        "{markdown}"
    );
    let json = loadgen(folder, &["export", "quick.json", "-f", "json"]).stdout;
    let read = std::fs::read(folder.join("quick.json")).unwrap();
    // JSON's reader may differ from the writer in the last bit of a fraction; these have none.
    for part in [
        "/run_id",
        "/inputs",
        "/distributions/0/buckets",
        "/metrics/1/values",
    ] {
        let of = |text: &[u8]| -> Value {
            let value: Value = serde_json::from_slice(text).unwrap();
            value.pointer(part).unwrap().clone()
        };
        assert_eq!(of(&json), of(&read), "{part}");
    }
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let sink = Sink::start(&[]);
    record(folder, &sink, "a");
    let a = std::fs::read_to_string(folder.join("a.json")).unwrap();
    let other = a.replace("\"kind\": \"otlp\"", "\"kind\": \"http\"");
    std::fs::write(folder.join("b.json"), other).unwrap();
    std::fs::write(folder.join("c.json"), "{}").unwrap();
    let check = |args: &[&str], code: i32, part: &str| {
        let output = loadgen(folder, args);
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {told}");
        assert!(told.contains(part), "`{part}` is missing in {told}");
    };
    check(&["compare", "a.json"], 2, "values required");
    check(&["compare", "a.json", "b.json"], 2, "of kind http");
    check(
        &["compare", "a.json", "a.json", "-m", "nonsense"],
        2,
        "no metric in common",
    );
    // What was measured has other labels, so that only loadgen's own figures are in both.
    let mut other: Value = serde_json::from_str(&a).unwrap();
    for metric in other["metrics"].as_array_mut().unwrap() {
        if metric["labels"]["process"].is_null() {
            metric["labels"]["endpoint"] = "other".into();
        }
    }
    std::fs::write(folder.join("d.json"), other.to_string()).unwrap();
    let compare = ["compare", "a.json", "d.json", "--max-regression", "5"];
    check(&compare, 2, "nothing was held to --max-regression");
    check(&compare[..3], 0, "");
    check(&["compare", "a.json", "c.json"], 1, "c.json is no record");
    check(
        &["compare", "a.json", "absent.json"],
        1,
        "cannot open absent.json",
    );
    check(
        &["export", "a.json", "b.json", "-f", "html"],
        2,
        "a page shows one record",
    );
}

/// Nobody reads what this prints, as when `head` has seen enough.
fn unread(folder: &Path, args: &[&str]) -> (Option<i32>, String) {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = Command::new(LOADGEN);
    command.args(args).current_dir(folder);
    let child = command.stdout(writer).stderr(Stdio::piped()).spawn();
    let output = child.unwrap().wait_with_output().unwrap();
    (output.status.code(), text(&output.stderr))
}

#[test]
fn nobody_has_to_read_to_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Sink::start(&[]);
    for name in ["before", "after"] {
        record(folder.path(), &sink, name);
    }
    let suite = r#"
name = "none"
[[test]]
name = "none"
[[test.step]]
action = "event"
event = "here"
"#;
    std::fs::write(folder.path().join("none.toml"), suite).unwrap();
    for args in [
        &["export", "before.json", "after.json", "--format", "csv"][..],
        &["export", "before.json", "--format", "html"],
        &["compare", "before.json", "after.json"],
        &["compare", "before.json", "after.json", "--json"],
        &["sink", "--otlp-http", "127.0.0.1:0", "--duration", "1ms"],
        &["otlp", &sink.address, "-n", "100", "--json", "result.json"],
        &["run", "none.toml", "--check"],
        &["--help"],
    ] {
        let (status, said) = unread(folder.path(), args);
        assert_eq!((status, said.as_str()), (Some(0), ""), "{args:?}");
    }
    // What is to be written elsewhere is written all the same.
    assert!(folder.path().join("result.json").exists());
    let (status, said) = unread(folder.path(), &["run", "none.toml", "--out", "out"]);
    assert_eq!(status, Some(0), "{said}");
    assert!(!said.contains("roken pipe"), "{said}");
    assert!(folder.path().join("out/record.json").exists());

    // A disk that is full has kept nothing of it.
    let mut command = Command::new(LOADGEN);
    command
        .args(["export", "before.json", "--format", "csv"])
        .current_dir(folder.path());
    let full = std::fs::File::options().write(true).open("/dev/full");
    let output = command.stdout(full.unwrap()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("cannot print the result"), "{said}");
}
