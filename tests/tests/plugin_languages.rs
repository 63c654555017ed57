//! Plugins in languages other than Rust: built from their examples, tested, and at work in the running agent.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::Command;

use e2e::plugins::{cannot_be_tested, example};
use e2e::sdk::run;
use e2e::{Agent, binary, post};
use serde_json::Value;

/// The command, with its cache in `folder`: compiling the JavaScript engine takes a while, and each test does it once.
fn tidegate(project: &Path, cache: &Path, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(binary("tidegate"))
        .args(arguments)
        .env("CACHE_DIRECTORY", cache)
        .current_dir(project)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

/// The values of the attribute `environment` of all spans in a line of OTLP/JSON, with the spans' names.
fn environments(line: &str) -> Vec<(String, String)> {
    let batch: Value = serde_json::from_str(line).unwrap();
    let spans = batch["resourceSpans"][0]["scopeSpans"][0]["spans"]
        .as_array()
        .unwrap();
    let found = spans.iter().map(|span| {
        let attributes = span["attributes"].as_array().unwrap();
        let mut set = attributes.iter().filter(|it| it["key"] == "environment");
        let value = set.next().unwrap()["value"]["stringValue"]
            .as_str()
            .unwrap();
        assert!(set.next().is_none(), "it is there twice: {line}");
        (span["name"].as_str().unwrap().to_owned(), value.to_owned())
    });
    found.collect()
}

/// The cases of the example pass, and so do spans through a running agent.
fn works(language: &str) {
    let project = example(language);
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let (done, text) = tidegate(&project, &cache, &["plugin", "test"]);
    assert!(done && text.contains(" 0 failed"), "{text}");
    let config = format!(
        "[receivers.otlp.protocols.http]\nendpoint = '127.0.0.1:0'\n\
         [processors.wasm]\npath = '{}'\ntimeout = '30s'\n\
         [processors.wasm.config]\nkey = 'environment'\nvalue = 'production'\n\
         [exporters.file]\npath = 'out.jsonl'\nflush_interval = '20ms'\n\
         [service.telemetry.metrics]\naddress = '127.0.0.1:0'\n\
         [service.pipelines.traces]\nreceivers = ['otlp']\nprocessors = ['wasm']\nexporters = ['file']\n",
        project.join("plugin.wasm").display()
    );
    let mut agent = Agent::start(folder.path(), &config);
    let spans = fs::read(project.join("tests/cases/spans.input.json")).unwrap();
    let url = format!("{}/v1/traces", agent.otlp_http());
    let answer = post(&url, &[("content-type", "application/json")], &spans).unwrap();
    assert_eq!(answer.status, 200);
    assert!(agent.service().terminate().success());
    let out = fs::read_to_string(folder.path().join("out.jsonl")).unwrap();
    let expected = ["GET /", "bare"].map(|name| (name.to_owned(), "production".to_owned()));
    assert_eq!(environments(out.trim_end()), expected);
}

#[test]
fn a_plugin_in_javascript_works() {
    works("javascript");
}

#[test]
fn a_plugin_in_c_works() {
    if !cannot_be_tested("c") {
        works("c");
    }
}

#[test]
fn the_library_of_plugins_in_javascript_passes_its_tests() {
    run(Command::new("node")
        .arg("--test")
        .current_dir(example("javascript")));
}

#[test]
fn the_sources_of_the_plugin_in_c_pass_their_tests_under_sanitizers() {
    if !cannot_be_tested("c") {
        run(Command::new("make").arg("test").current_dir(example("c")));
    }
}

#[test]
fn a_new_project_in_c_builds_at_once() {
    if cannot_be_tested("c") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let made = ["plugin", "new", "shop-tags", "--language", "c"];
    let (done, text) = tidegate(folder.path(), &cache, &made);
    assert!(done && text.contains("shop-tags/plugin.c"), "{text}");
    let home = folder.path().join("shop-tags");
    let (done, text) = tidegate(&home, &cache, &["plugin", "build"]);
    assert!(done && text.trim_end().ends_with("plugin.wasm"), "{text}");
    let (done, text) = tidegate(&home, &cache, &["plugin", "test"]);
    assert!(done && text.contains("3 passed, 0 failed"), "{text}");
    let (done, text) = tidegate(&home, &cache, &["plugin", "inspect"]);
    assert!(done && text.contains("name      shop-tags"), "{text}");
    // What goes wrong in make is said by make.
    fs::write(home.join("plugin.c"), "no C").unwrap();
    let (done, text) = tidegate(&home, &cache, &["plugin", "build"]);
    assert!(
        !done && text.contains("it does not build: `make` failed"),
        "{text}"
    );
}

#[test]
fn a_new_project_in_javascript_is_complete() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let made = ["plugin", "new", "shop-tags", "--language", "javascript"];
    let (done, text) = tidegate(folder.path(), &cache, &made);
    assert!(done && text.contains("shop-tags/plugin.js"), "{text}");
    let home = folder.path().join("shop-tags");
    // With the packages that are there already: what is locked is the same.
    let packages = example("javascript").join("node_modules");
    std::os::unix::fs::symlink(packages, home.join("node_modules")).unwrap();
    run(Command::new("npm")
        .args(["test", "--silent"])
        .current_dir(&home));
    let (done, text) = tidegate(&home, &cache, &["plugin", "build"]);
    assert!(done && text.trim_end().ends_with("plugin.wasm"), "{text}");
}

#[test]
fn what_is_missing_for_a_build_is_named() {
    let folder = tempfile::tempdir().unwrap();
    for (file, wanted) in [
        ("Makefile", "make is missing: apt-get install make"),
        ("package.json", "node is missing: Node.js comes from"),
        ("Cargo.toml", "cargo is missing: Rust comes from"),
    ] {
        fs::write(folder.path().join(file), "").unwrap();
        let output = Command::new(binary("tidegate"))
            .args(["plugin", "build"])
            .env("PATH", folder.path())
            .current_dir(folder.path())
            .output()
            .unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && text.contains(wanted), "{text}");
    }
}
