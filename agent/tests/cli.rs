//! The commands that read the configuration, as a shell meets them: exit codes, and what goes to which stream.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write;
use std::process::{Command, Output, Stdio};

/// Runs `tidegate` with `arguments` and `input` on its standard input.
fn tidegate(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(arguments)
        .env_remove("RUST_LOG")
        .env("TIDEGATE_TEST_PORT", "9000")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that does not read its input may be gone by now.
    let _gone = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// Checks the exit code, and that each text is in standard output or standard error.
fn check(arguments: &[&str], input: &str, code: i32, out: &[&str], err: &[&str]) {
    let output = tidegate(arguments, input);
    let stdout = String::from_utf8(output.stdout).unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    let all = format!("{arguments:?}\n--- out\n{stdout}\n--- err\n{stderr}");
    assert_eq!(output.status.code(), Some(code), "{all}");
    assert_eq!(stdout.is_empty(), out.is_empty(), "{all}");
    assert_eq!(stderr.is_empty(), err.is_empty(), "{all}");
    for expected in out {
        assert!(stdout.contains(expected), "{expected} not in {all}");
    }
    for expected in err {
        assert!(stderr.contains(expected), "{expected} not in {all}");
    }
}

#[test]
fn a_wrong_configuration_ends_with_78_and_every_problem() {
    let wrong = "[service]\ndrain_timeot = '5s'\n[exporter.x]\n";
    let expected = [
        "stdin:2:1: error: service.drain_timeot: unknown key; did you mean `drain_timeout`?\n",
        "stdin:3:2: error: exporter: unknown key; did you mean `exporters`?\n",
        "tidegate: the configuration is not valid: 3 errors\n",
    ];
    check(&["validate", "--config", "-"], wrong, 78, &[], &expected);
    check(&["run", "--config", "-"], wrong, 78, &[], &expected);
    let missing = ["error: the file no/such.toml cannot be read: no such file\n"];
    check(&["run", "-c", "no/such.toml"], "", 78, &[], &missing);
}

#[test]
fn a_wrong_command_line_ends_with_2() {
    check(&["run"], "", 2, &[], &["--config <FILE>"]);
    check(&["validat"], "", 2, &[], &["'validate'"]);
    for (set, problem) in [
        ("foo", "write `key.path=value`"),
        ("=1", "there is no key before the `=`"),
        ("a..b=1", "the key `a..b` has an empty part"),
    ] {
        for command in ["run", "validate", "print-config"] {
            let arguments = [command, "--config", "-", "--set", set];
            check(&arguments, "", 2, &[], &["--set <KEY=VALUE>", problem]);
        }
    }
}

#[test]
fn printing_shows_what_is_left_after_merging() {
    let base = "[exporters.x]\nport = '${env:TIDEGATE_TEST_PORT}'\npassword = 'hunter2'\n";
    let arguments = ["print-config", "-c", "-", "--set", "exporters.x.port=1"];
    let expected = ["[exporters.x]\nport = 1\npassword = \"[REDACTED]\"\n"];
    check(&arguments, base, 0, &expected, &[]);
    let arguments = [
        "print-config",
        "-c",
        "-",
        "--unredacted",
        "--format",
        "json",
    ];
    check(&arguments, base, 0, &["\"port\": 9000", "\"hunter2\""], &[]);
}

/// What is printed means the same when it is read again, and a second time.
#[test]
fn what_was_printed_reads_back() {
    let config = "[receivers.otlp.protocols.http]\n[receivers.otlp.protocols.http.response_headers]\n\
         x-a = '$${x}'\nx-b = '$$$$'\nx-c = 'a$b$'\nx-d = '${env:TIDEGATE_TEST_PORT}'\nx-e = '$$$${env:NO}'\n\
         x-f = '${env:NONE:-$${y}}'\n\
         [exporters.debug]\n[service.pipelines.logs]\nreceivers = ['otlp']\nexporters = ['debug']\n";
    let print = |config: &str| {
        let arguments = ["print-config", "-c", "-", "--unredacted"];
        let output = tidegate(&arguments, config);
        assert_eq!(output.status.code(), Some(0), "{config}");
        String::from_utf8(output.stdout).unwrap()
    };
    let values = |config: &str| {
        let arguments = [
            "print-config",
            "-c",
            "-",
            "--unredacted",
            "--format",
            "json",
        ];
        String::from_utf8(tidegate(&arguments, config).stdout).unwrap()
    };
    let printed = print(config);
    check(
        &["validate", "--config", "-"],
        &printed,
        0,
        &["is valid"],
        &[],
    );
    assert_eq!(values(&printed), values(config));
    assert_eq!(print(&printed), printed);
    assert!(
        values(config).contains("\"x-a\": \"${x}\""),
        "{}",
        values(config)
    );
}

#[test]
fn what_keeps_a_process_from_starting_is_told_plainly() {
    let zero = ["localdb", "--max-connections", "0"];
    check(&zero, "", 2, &[], &["--max-connections <COUNT>"]);
    let missing = ["localdb", "--library", "/no/such/library"];
    let expected = [
        "tidegate: the ClickHouse engine (libchdb.so, ",
        "looked for it in\n  /no/such/library\nGet it",
    ];
    check(&missing, "", 1, &[], &expected);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("libchdb.so");
    std::fs::write(&file, "no library").unwrap();
    let folder = folder.path().to_str().unwrap();
    let wrong = ["localdb", "--path", folder, "--library", folder];
    check(
        &wrong,
        "",
        1,
        &[],
        &["cannot load the ClickHouse engine", "file too short"],
    );
}

#[test]
fn an_address_that_is_taken_is_told_with_its_component() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let config = format!(
        "[receivers.'otlp/web'.protocols.http]\nendpoint = '{address}'\n[exporters.debug]\n\
         [service.telemetry.metrics]\naddress = '127.0.0.1:0'\n\
         [service.pipelines.logs]\nreceivers = ['otlp/web']\nexporters = ['debug']\n"
    );
    let expected =
        format!("tidegate: start the receiver otlp/web: bind {address}: Address already in use");
    check(&["run", "--config", "-"], &config, 1, &[], &[&expected]);
}

#[test]
fn what_two_components_want_for_themselves_is_found_before_the_start() {
    let config = "[receivers.otlp.protocols.http]\nendpoint = '127.0.0.1:14318'\n\
         [receivers.'otlp/b'.protocols.grpc]\nendpoint = '0.0.0.0:14318'\n\
         [receivers.'otlp/free'.protocols.grpc]\nendpoint = '127.0.0.1:0'\n\
         [receivers.'otlp/free'.protocols.http]\nendpoint = '127.0.0.1:0'\n\
         [receivers.'otlp/unused'.protocols.http]\nendpoint = '127.0.0.1:14318'\n\
         [exporters.file]\npath = '/tmp/a'\n[exporters.'file/b']\npath = '/tmp//a'\n\
         [extensions.health_check]\nendpoint = 'localhost:8888'\n[service]\nextensions = ['health_check']\n\
         [service.pipelines.logs]\nreceivers = ['otlp', 'otlp/b', 'otlp/free']\nexporters = ['file', 'file/b']\n";
    let expected = [
        "error: receivers.\"otlp/b\".protocols.grpc.endpoint: 0.0.0.0:14318 is taken by \
         `receivers.otlp.protocols.http.endpoint` already",
        "error: exporters.\"file/b\".path: /tmp/a is taken by `exporters.file.path` already",
        "error: extensions.health_check.endpoint: 127.0.0.1:8888 is taken by `service.telemetry.metrics.address` already",
        "3 errors, 1 warning",
    ];
    check(&["validate", "--config", "-"], config, 78, &[], &expected);
}

#[test]
fn components_are_listed_for_people_and_programs() {
    check(&["components"], "", 0, &["processors\n  batch "], &[]);
    let output = tidegate(&["components", "--format", "json"], "");
    let list: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let processors = list["components"]["processors"].as_array().unwrap();
    let batch = processors
        .iter()
        .find(|row| row["kind"] == "batch")
        .unwrap();
    assert_eq!(
        batch["signals"],
        serde_json::json!(["traces", "metrics", "logs"])
    );
}

#[test]
fn help_and_version_go_to_standard_output() {
    check(&["--version"], "", 0, &["tidegate ", "linux"], &[]);
    check(&["--help"], "", 0, &["Examples:", "Exit codes:"], &[]);
    check(&["run", "--help"], "", 0, &["${env:NAME:-default}"], &[]);
}
