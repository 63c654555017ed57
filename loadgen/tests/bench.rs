//! `loadgen bench` as a user runs it, with a stand-in for the agent: `loadgen sink` behind a shell script.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const LOADGEN: &str = env!("CARGO_BIN_EXE_loadgen");

struct Setting {
    dir: tempfile::TempDir,
}

impl Setting {
    /// The stand-in takes OTLP where its configuration says and writes nothing anywhere. It is a child of the
    /// script, so the bench has to find the process that really serves.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let script = format!(
            "#!/bin/sh\n[ \"$1\" = --version ] && echo stand-in 1.0 && exit\n. \"$3\"\n\
             {LOADGEN} sink --otlp-http 127.0.0.1:$http --otlp-grpc 127.0.0.1:$grpc --delay ${{delay}} &\n\
             echo $! > {}/pids\ntrap 'kill $!' TERM\nwait $!\n",
            dir.path().display()
        );
        let setting = Self { dir };
        fs::write(setting.path("agent"), script).unwrap();
        fs::set_permissions(setting.path("agent"), fs::Permissions::from_mode(0o755)).unwrap();
        setting
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn bench(&self, delay: &str, arguments: &[&str]) -> Child {
        let config = format!("http={{http_port}}\ngrpc={{grpc_port}}\ndelay={delay}\n");
        fs::write(self.path("config"), config).unwrap();
        let mut command = Command::new(LOADGEN);
        command
            .arg("bench")
            .args(arguments)
            .arg("--tidegate")
            .arg(self.path("agent"));
        command
            .arg("--tidegate-config")
            .arg(self.path("config"))
            .arg("--out")
            .arg(self.path("out"));
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    fn finish(&self, delay: &str, arguments: &[&str]) -> Output {
        self.bench(delay, arguments).wait_with_output().unwrap()
    }

    fn report(&self) -> serde_json::Value {
        serde_json::from_slice(&fs::read(self.path("out/report.json")).unwrap()).unwrap()
    }

    /// Whether the last stand-in still runs.
    fn agent_runs(&self) -> bool {
        let pid = fs::read_to_string(self.path("pids")).unwrap();
        // The file is there before the number is.
        !pid.trim().is_empty() && Path::new("/proc").join(pid.trim()).exists()
    }
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what} did not come");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_quick_bench_measures_every_kind_of_request_and_tells_what_was_lost() {
    let setting = Setting::new();
    let output = setting.finish("0s", &["--quick", "-n", "2000", "--batch-size", "100"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{text}{errors}");
    let report = setting.report();
    let results = report["results"].as_array().unwrap();
    assert_eq!(results.len(), 6, "{errors}");
    for result in results {
        let run = &result["runs"][0];
        assert_eq!(
            (&run["sent_items"], &run["accepted_items"]),
            (&2000.into(), &2000.into()),
            "{result}"
        );
        assert_eq!(run["delivered_items"], 0, "{result}");
        assert!(run["peak_bytes"].as_u64() > Some(1 << 20), "{result}");
    }
    assert_eq!(report["peers"][0]["version"], "stand-in 1.0");
    assert!(text.contains("| traces, HTTP, none | **"), "{text}");
    assert!(
        text.contains("| 0 | 0 | 2000 | 0 | - |"),
        "lost items are not told: {text}"
    );
    assert_eq!(
        text,
        fs::read_to_string(setting.path("out/report.md")).unwrap()
    );
    wait_until("the agent's end", || !setting.agent_runs());
}

#[test]
fn an_interrupted_bench_leaves_nothing_running_and_still_reports() {
    let setting = Setting::new();
    let mut bench = setting.bench(
        "20ms",
        &[
            "-n",
            "1000000",
            "--agents",
            "tidegate",
            "--batch-size",
            "100",
            "--warm-up",
            "0",
        ],
    );
    wait_until("the agent", || {
        setting.path("pids").exists() && setting.agent_runs()
    });
    let pid = bench.id().to_string();
    assert!(
        Command::new("/bin/kill")
            .args(["-TERM", &pid])
            .status()
            .unwrap()
            .success()
    );
    wait_until("the end", || bench.try_wait().unwrap().is_some());
    assert!(!bench.wait().unwrap().success());
    wait_until("the agent's end", || !setting.agent_runs());
    assert!(
        setting.report()["skipped"][0]
            .as_str()
            .unwrap()
            .contains("interrupted")
    );
}

#[test]
fn an_agent_that_cannot_start_fails_the_bench_with_its_words() {
    let setting = Setting::new();
    fs::write(
        setting.path("agent"),
        "#!/bin/sh\necho cannot read the moon >&2\nexit 7\n",
    )
    .unwrap();
    let output = setting.finish("0s", &["--quick", "--signals", "logs"]);
    assert!(!output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("cannot read the moon"), "{text}");
}

#[test]
fn a_missing_agent_is_told_with_what_to_do() {
    let output = Command::new(LOADGEN)
        .args(["bench", "--tidegate", "/nonexistent/tidegate"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.contains("/nonexistent/tidegate is not there (cargo build"),
        "{text}"
    );
}
