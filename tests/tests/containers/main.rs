//! `loadgen run` with components that are containers. The engine is a script: what a real one is asked, and when.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use e2e::{Service, binary, eventually};

/// What all suites here begin with: the agent is a container, `image` and `program` are its own.
const SUITE: &str = r#"
name = "small"
include = ["PARTS/pipeline.toml"]

[variables]
rate = 1000
batch = 50
seconds = 1
agent_template = "PARTS/clickhouse.toml"
image = "agent:1"

[[component]]
name = "agent"

[component.configuration]
template = "{{ agent_template }}"
name = "tidegate.toml"

[component.deployment]
image = "{{ image }}"
arguments = ["{{ bin }}/tidegate", "run", "--config", "{{ config }}"]
environment = { WORD = "one" }
pin = [0]
ready_ports = ["agent_grpc", "agent_http", "agent_metrics"]

[component.monitoring.prometheus]
url = "http://127.0.0.1:{{ port.agent_metrics }}/metrics"

[[test]]
name = "small"

[[test.step]]
action = "up"
target = ["backend", "agent"]
"#;

/// A suite in a folder, and engines beside it.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    /// `engines` are those that answer.
    fn new(steps: &str, engines: &[&str]) -> Self {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let parts = here.join("../configs/suites/parts").canonicalize().unwrap();
        let suite = SUITE.replace("PARTS", parts.to_str().unwrap()) + steps;
        let place = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        fs::write(place.path("suite.toml"), suite).unwrap();
        for engine in ["docker", "podman"] {
            let folder = place.path(engine);
            fs::create_dir(&folder).unwrap();
            let script = folder.join(engine);
            fs::copy(here.join("tests/containers/engine.sh"), &script).unwrap();
            fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
            if !engines.contains(&engine) {
                fs::write(folder.join("down"), "").unwrap();
            }
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut paths = vec![self.path("docker"), self.path("podman")];
        paths.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap()));
        let mut command = Command::new(binary("loadgen"));
        command
            .arg("run")
            .arg(self.path("suite.toml"))
            .arg("--out")
            .arg(self.path("out"))
            .args(more)
            .current_dir(&self.folder)
            .env("PATH", std::env::join_paths(paths).unwrap());
        command
    }

    fn run(&self, more: &[&str]) -> Output {
        self.command(more).output().unwrap()
    }

    /// What an engine was asked, line by line, with `NAME` for the container's name.
    fn asked(&self, engine: &str) -> Vec<String> {
        let asked = fs::read_to_string(self.path(engine).join("asked")).unwrap_or_default();
        let plain = |word: &str| {
            let is_name = word.starts_with("loadgen-") && word.ends_with("-agent");
            if is_name { "NAME" } else { word }.to_owned()
        };
        let words = |line: &str| line.split(' ').map(plain).collect::<Vec<_>>().join(" ");
        asked.lines().map(words).collect()
    }

    /// Processes that run in the run's folder: also what was a container.
    fn left_over(&self) -> usize {
        let out = self.folder.path().canonicalize().unwrap().join("out");
        let processes = fs::read_dir("/proc").unwrap().flatten();
        // Those that ended meanwhile, or are not ours to look into, are not meant.
        let places = processes.filter_map(|it| fs::read_link(it.path().join("cwd")).ok());
        places.filter(|place| place.starts_with(&out)).count()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
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
fn a_container_is_told_frozen_stopped_and_killed_by_its_engine() {
    let steps = format!(
        r#"{LOAD}
[[test.step]]
action = "reconfigure"
target = "agent"

[[test.step]]
action = "fault"
target = "agent"
kind = "freeze"
lasts = "200ms"

[[test.step]]
action = "fault"
target = "agent"
kind = "restart"

[[test.step]]
action = "wait"
load = "main"

[[test.step]]
action = "drain"

[[test.step]]
action = "assert"
that = ["ledger.lost == 0", "ledger.delivered > 0", "metric.agent.rss > MiB"]

[[test.step]]
action = "fault"
target = "agent"
kind = "kill"
lasts = "100ms"

[[test.step]]
action = "down"
target = ["backend", "agent"]
"#
    );
    let place = Place::new(&steps, &["docker", "podman"]);
    let output = place.run(&[]);
    let report = text(&output.stdout);
    assert!(
        output.status.success(),
        "{report}\n{}",
        text(&output.stderr)
    );
    // An agent that stops closes its endpoints before its container is gone.
    assert!(!report.contains("metrics were not read"), "{report}");

    let asked = place.asked("docker");
    assert_eq!(asked[0], "version");
    let started = asked.iter().filter(|line| line.starts_with("run "));
    let started: Vec<_> = started.collect();
    assert_eq!(started.len(), 3, "{asked:#?}");
    let begin = "run --rm --name NAME --env WORD=one --network host --cpuset-cpus ";
    assert!(started[0].starts_with(begin), "{}", started[0]);
    assert!(
        asked.contains(&"container inspect --format {{.State.Pid}} NAME".to_owned()),
        "{asked:#?}"
    );
    let done = asked.iter().map(String::as_str).filter(|line| {
        ["kill", "pause", "unpause", "rm"].contains(&line.split(' ').next().unwrap())
    });
    let expected = [
        "kill --signal HUP NAME",
        "pause NAME",
        "unpause NAME",
        "kill NAME",
        "rm --force NAME",
    ];
    assert_eq!(done.collect::<Vec<_>>(), expected);
    assert!(place.asked("podman").is_empty());
    assert_eq!(place.left_over(), 0);
}

#[test]
fn podman_is_asked_where_no_engine_answers_docker() {
    let place = Place::new("", &["podman"]);
    let output = place.run(&[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(place.asked("docker"), ["version"]);
    assert!(
        place
            .asked("podman")
            .iter()
            .any(|line| line.starts_with("run "))
    );
}

#[test]
fn without_an_engine_nothing_starts_and_both_are_told() {
    let place = Place::new("", &[]);
    let output = place.run(&[]);
    assert_eq!(output.status.code(), Some(2));
    let told = text(&output.stderr);
    let expected = "component[0].deployment.image: containers need an engine: \
                    `docker`: Cannot connect to the engine; `podman`: Cannot connect to the engine";
    assert!(told.contains(expected), "{told}");
    assert!(!place.path("out").exists());
}

#[test]
fn an_image_that_is_not_there_fails_the_test_with_what_the_engine_said() {
    let place = Place::new("", &["docker"]);
    let output = place.run(&["--set", "image=absent"]);
    assert_eq!(output.status.code(), Some(1));
    let told = text(&output.stdout);
    assert!(
        told.contains("agent ended by itself (exit status 125)"),
        "{told}"
    );
    assert!(told.contains("| Unable to find image 'absent'"), "{told}");
}

#[test]
fn a_container_that_ends_of_the_signal_it_was_sent_has_stopped_well() {
    let place = Place::new("", &["docker"]);
    let suite = fs::read_to_string(place.path("suite.toml")).unwrap();
    let suite = suite
        .replace(
            r#"["{{ bin }}/tidegate", "run", "--config", "{{ config }}"]"#,
            r#"["sleep", "600"]"#,
        )
        .replace(
            r#"ready_ports = ["agent_grpc", "agent_http", "agent_metrics"]"#,
            "",
        );
    let down = "\n[[test.step]]\naction = \"down\"\ntarget = \"agent\"\n";
    fs::write(place.path("suite.toml"), suite + down).unwrap();
    let output = place.run(&[]);
    assert!(output.status.success(), "{}", text(&output.stdout));
}

#[test]
fn a_run_that_is_interrupted_or_killed_leaves_no_container() {
    for signal in ["INT", "KILL"] {
        let steps = format!("{LOAD}\n[[test.step]]\naction = \"wait\"\nduration = \"10m\"\n");
        let place = Place::new(&steps, &["docker"]);
        let mut command = place.command(&["--set", "seconds=600", "--debug"]);
        let mut service = Service::start("loadgen", &mut command, place.folder.path());
        service.wait_for(&["load started main"]);
        service.signal(signal);
        service.wait();
        eventually("the end of all processes", || {
            (place.left_over() == 0).then_some(())
        });
        eventually("the removal of the container", || {
            let asked = place.asked("docker");
            let [.., last] = asked.as_slice() else {
                return None;
            };
            // It was looked for once more, and was not there.
            (last == "container inspect NAME").then_some(())
        });
    }
}
