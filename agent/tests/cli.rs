//! The commands that read the configuration, as a shell meets them: exit codes, and what goes to which stream.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tidegate::batch::{Chunk, Payload};
use tidegate::exporters::dead_letter::{Header, Reason, rewrite};
use tidegate::signal::Signal;

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

/// A service manager starts again what may come to work by itself, and only that.
#[test]
fn what_a_restart_cannot_mend_ends_the_start_with_78() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let file = |name: &str, content: &str| {
        std::fs::write(folder.path().join(name), content).unwrap();
        path(name)
    };
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = format!("endpoint = '{}'", taken.local_addr().unwrap());
    let free = "endpoint = '127.0.0.1:0'";
    let base = "exporters.debug = {}\nservice.telemetry.metrics.address = '127.0.0.1:0'\nservice.extensions = [{extensions}]\n\
                service.pipelines.logs = { receivers = ['otlp'], processors = [{processors}], exporters = ['debug'] }\n";
    let start = |otlp: &str, more: &str, code: i32, expected: &[&str]| {
        let listed = |kind: &str| match more.starts_with(kind) {
            true => format!("'{}'", more.split('.').nth(1).unwrap()),
            false => String::new(),
        };
        let base = base.replace("{extensions}", &listed("extensions."));
        let base = base.replace("{processors}", &listed("processors."));
        let config = format!("{base}{more}\n[receivers.otlp.protocols.http]\n{otlp}\n");
        let output = tidegate(&["run", "--config", "-"], &config);
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{config}\n{told}");
        for expected in expected {
            assert!(told.contains(expected), "{expected} not in\n{told}");
        }
    };
    let secret = file("secret", "nobody knows");
    let users = |file: &str| format!("extensions.basicauth.htpasswd.file = '{file}'");
    let tokens = |file: &str| format!("extensions.bearertokenauth.filename = '{file}'");
    let plugin = |file: &str| format!("processors.wasm.path = '{file}'");
    let tls = |endpoint: &str, file: &str| {
        format!("{endpoint}\ntls = {{ cert_file = '{file}', key_file = '{file}' }}")
    };
    start(
        free,
        &users(&secret),
        78,
        &["htpasswd.file: read", "line 1"],
    );
    start(free, &tokens(&file("empty", "")), 78, &["filename: read"]);
    start(free, &plugin(&secret), 78, &["it is not WebAssembly"]);
    let keys = ["http.tls.cert_file: set up", "http.tls.key_file: set up"];
    start(&tls(free, &secret), "", 78, &keys);
    // Somebody may let go of the port, or mount the folder.
    start(&taken, "", 1, &["bind"]);
    let away = path("not-mounted/file");
    start(free, &users(&away), 1, &[&away]);
    start(free, &tokens(&away), 1, &[&away]);
    start(free, &plugin(&away), 1, &[&away]);
    start(&tls(free, &away), "", 1, &keys);
    let all = ["http.endpoint: bind", keys[0], keys[1]];
    start(&tls(&taken, &away), "", 1, &all);
    // As long as one of them stays, another that may go does not matter.
    start(
        &taken,
        &users(&secret),
        78,
        &["bind", "htpasswd.file: read"],
    );
}

#[test]
fn a_token_for_the_agent_that_cannot_be_had_is_named_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    for (name, content, problem) in [
        ("empty", Some(""), "no token"),
        ("away", None, "No such file"),
    ] {
        let path = folder.path().join(name);
        if let Some(content) = content {
            std::fs::write(&path, content).unwrap();
        }
        let config = folder.path().join("agent.toml");
        let text = format!(
            "exporters.debug = {{}}\nreceivers.otlp.protocols.http = {{}}\nextensions.bearertokenauth.filename = '{}'\n\
             service.extensions = ['bearertokenauth']\n\
             service.admin = {{ endpoint = '127.0.0.1:1', auth = {{ authenticator = 'bearertokenauth' }} }}\n\
             service.pipelines.logs = {{ receivers = ['otlp'], exporters = ['debug'] }}\n",
            path.display()
        );
        std::fs::write(&config, text).unwrap();
        let expected = [
            "the agent was not asked",
            "extensions.bearertokenauth.filename: read ",
            path.to_str().unwrap(),
            problem,
            "--token-file FILE or TIDEGATE_TOKEN",
        ];
        let config = config.to_str().unwrap();
        check(&["reload", "--config", config], "", 1, &[], &expected);
    }
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
    let expected = format!(
        "2:1: error: receivers.\"otlp/web\".protocols.http.endpoint: bind {address}: Address already in use"
    );
    let last = "tidegate: not everything in the configuration can be had: 1 error";
    check(
        &["run", "--config", "-"],
        &config,
        1,
        &[],
        &[&expected, last],
    );
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
        "warning: receivers.\"otlp/b\".protocols.grpc.endpoint: whoever reaches this address can send data",
        "3 errors, 2 warnings",
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

/// One log record, "status" its severity.
const REQUEST: &[u8] = b"\x0a\x0c\x12\x0a\x12\x08\x1a\x06status";

/// A dead letter of an exporter to a file; its folder, the configuration and itself.
fn dead_letter(folder: &Path) -> (String, PathBuf) {
    let config = folder.join("agent.toml");
    let text = format!(
        "[receivers.otlp.protocols.http]\n[exporters.file]\npath = '{0}/out.json'\n\
         sending_queue.dead_letter.directory = '{0}/letters'\n\
         [service.pipelines.logs]\nreceivers = ['otlp']\nexporters = ['file']\n",
        folder.display()
    );
    std::fs::write(&config, text).unwrap();
    let payload = Payload::from(Chunk::new(REQUEST.into(), 1));
    let header = Header {
        exporter: "file".to_owned(),
        signal: Signal::Logs,
        pipelines: vec!["logs".to_owned()],
        reason: Reason::Rejected,
        cause: "no such\u{1b}[31m luck".to_owned(),
        time: "2026-01-02T15:04:05Z".to_owned(),
        items: 1,
        rejected: 1,
        bytes: REQUEST.len() as u64,
        batch: "ab-1".to_owned(),
        parts_done: Vec::new(),
    };
    let path = folder.join("letters/file/logs/1767366245000-ab-1.letter");
    rewrite(&path, &header, &payload).unwrap();
    (config.to_str().unwrap().to_owned(), path)
}

#[test]
fn dead_letters_are_listed_shown_and_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let (config, path) = dead_letter(folder.path());
    let letter = path.to_str().unwrap();
    let root = folder.path().to_str().unwrap();
    let expected = [
        "2026-01-02T15:04:05Z  file      logs    1      14     rejected: no such [31m luck",
        letter,
    ];
    check(
        &["dead-letter", "list", "-c", &config],
        "",
        0,
        &expected,
        &[],
    );
    check(&["dead-letter", "list", "-d", root], "", 0, &expected, &[]);
    let json = ["\"cause\": \"no such\\u001b[31m luck\"", "\"items\": 1"];
    check(
        &["dead-letter", "list", "-d", root, "--json"],
        "",
        0,
        &json,
        &[],
    );
    check(
        &["dead-letter", "list"],
        "",
        2,
        &[],
        &["--config <FILE>|--directory <DIR>"],
    );
    let expected = ["batch      ab-1", "\"severityText\": \"status\""];
    check(&["dead-letter", "show", letter], "", 0, &expected, &[]);
    let output = tidegate(&["dead-letter", "show", letter, "--json"], "");
    let shown: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(shown["letter"]["reason"], "rejected");
    let record = &shown["request"]["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0];
    assert_eq!(record["severityText"], "status");
    assert_eq!(
        tidegate(&["dead-letter", "show", letter, "--raw"], "").stdout,
        REQUEST
    );
    let problem = ["is no dead letter"];
    check(&["dead-letter", "delete", &config], "", 1, &[], &problem);
    check(
        &["dead-letter", "delete", letter],
        "",
        0,
        &["deleted "],
        &[],
    );
    assert!(!path.exists());
    check(
        &["dead-letter", "list", "-c", &config],
        "",
        0,
        &["no dead letters\n"],
        &[],
    );
}

#[test]
fn dead_letters_are_sent_again() {
    let folder = tempfile::tempdir().unwrap();
    let (config, path) = dead_letter(folder.path());
    let letter = path.to_str().unwrap();
    let replay = ["dead-letter", "replay", "--config", config.as_str()];
    let with = |more: &[&'static str]| [&replay[..], more].concat();
    check(
        &with(&["--dry-run"]),
        "",
        0,
        &["would send 1 dead letter with 1 item\n"],
        &[],
    );
    let unknown = ["has no exporter `clickhouse` that a pipeline uses, but file"];
    check(&with(&["clickhouse"]), "", 1, &[], &unknown);
    check(&["dead-letter", "replay"], "", 2, &[], &["--config <FILE>"]);
    let out = folder.path().join("out.json");
    check(
        &with(&["file", "--keep"]),
        "",
        0,
        &["sent 1 dead letter with 1 item\n", "/replayed/"],
        &[],
    );
    let sent = std::fs::read_to_string(&out).unwrap();
    assert_eq!(sent.matches("\"severityText\":\"status\"").count(), 1);
    let kept = path
        .with_file_name("replayed")
        .join(path.file_name().unwrap());
    std::fs::rename(kept, &path).unwrap();
    check(
        &[&replay[..], &[letter]].concat(),
        "",
        0,
        &["sent 1 dead letter"],
        &[],
    );
    assert!(!path.exists());
    check(&replay, "", 0, &["no dead letters\n"], &[]);
}

#[test]
fn a_damaged_dead_letter_is_named_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (config, path) = dead_letter(folder.path());
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let letter = path.to_str().unwrap();
    let damaged = [letter, "damaged: the checksum does not match"];
    check(&["dead-letter", "show", letter], "", 1, &[], &damaged);
    let sent = ["sent 0 dead letters with 0 items; not 1\n"];
    check(
        &["dead-letter", "replay", "--config", &config],
        "",
        1,
        &sent,
        &damaged,
    );
    bytes.pop();
    std::fs::write(&path, &bytes).unwrap();
    let listed = ["cannot be read: damaged: the request should be 14 bytes long and is 13"];
    check(&["dead-letter", "list", "-c", &config], "", 1, &listed, &[]);
    assert!(path.exists());
}

#[test]
fn what_a_package_installs_can_be_written() {
    for shell in ["bash", "zsh", "fish"] {
        check(
            &["completions", shell],
            "",
            0,
            &["tidegate", "validate"],
            &[],
        );
    }
    check(
        &["completions", "cmd"],
        "",
        2,
        &[],
        &["[possible values: bash"],
    );
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man");
    check(&["man", pages.to_str().unwrap()], "", 0, &[], &[]);
    let page = |name: &str| std::fs::read_to_string(pages.join(name)).unwrap();
    assert!(page("tidegate.1").contains("an OpenTelemetry agent made for ClickHouse"));
    assert!(page("tidegate-validate.1").contains(".TH tidegate-validate 1"));
    let file = pages.join("tidegate.1");
    let no_folder = ["cannot write the manual pages into"];
    check(&["man", file.to_str().unwrap()], "", 1, &[], &no_folder);
}

#[test]
fn the_schema_and_the_reference_are_told() {
    let output = tidegate(&["schema"], "");
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let endpoint = "/definitions/exporters.clickhouse/properties/endpoint";
    assert_eq!(schema.pointer(endpoint).unwrap()["type"], "string");
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("reference");
    check(
        &["schema", "--pages", pages.to_str().unwrap()],
        "",
        0,
        &[],
        &[],
    );
    assert!(pages.join("receivers-otlp.md").exists());
    let file = pages.join("service.md");
    let arguments = ["schema", "--pages", file.to_str().unwrap()];
    check(&arguments, "", 1, &[], &["cannot make the folder"]);
}

#[test]
fn a_collectors_configuration_is_converted() {
    let all = "receivers: {otlp: {protocols: {grpc: }}}\nexporters: {debug: }\n\
               service: {pipelines: {traces: {receivers: [otlp], exporters: [debug]}}}\n";
    check(
        &["convert", "-"],
        all,
        0,
        &["[receivers.otlp.protocols.grpc]"],
        &[],
    );
    let lossy = all.replace("{debug: }", "{debug: , kafka: }");
    let told = ["stdin:2:22: not converted: exporters.kafka: "];
    check(
        &["convert", "-"],
        &lossy,
        3,
        &["[exporters.debug]", "#   "],
        &told,
    );
    let wrong = ["tidegate: stdin:3:2: is not YAML: "];
    check(&["convert", "-"], "a:\n  - b\n c: d", 1, &[], &wrong);
    check(
        &["convert", "no/such.yaml"],
        "",
        1,
        &[],
        &["the file no/such.yaml cannot be read"],
    );
    check(&["convert"], "", 2, &[], &["<FILE>"]);
}

#[test]
fn a_converted_file_is_written_and_not_written_over() {
    let all = "receivers: {otlp: {protocols: {grpc: }}}\nexporters: {debug: }\n\
               service: {pipelines: {traces: {receivers: [otlp], exporters: [debug]}}}\n";
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.toml");
    let path = path.to_str().unwrap();
    check(&["convert", "-", "-o", path], all, 0, &[], &[]);
    check(
        &["validate", "--config", path],
        "",
        0,
        &["is valid: 1 pipeline"],
        &[],
    );
    let exists = ["out.toml exists already: name another file, or write over it with --force"];
    check(&["convert", "-", "-o", path], all, 1, &[], &exists);
    check(&["convert", "-", "-o", path, "--force"], all, 0, &[], &[]);
    check(
        &["convert", "-", "-o", "/no/such/x"],
        all,
        1,
        &[],
        &["cannot write /no/such/x: "],
    );
}

#[test]
fn a_difference_is_that_of_what_the_files_of_each_side_are_together() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let base = "[receivers.otlp.protocols.http]\n[exporters.debug]\n\
                [service.pipelines.logs]\nreceivers = ['otlp']\nexporters = ['debug']\n";
    let base = file("base.toml", base);
    let site = file("site.toml", "[service]\ndrain_timeout = '5s'\n");
    let (base, site) = (base.as_str(), site.as_str());
    let changed = [
        "changed  service.drain_timeout\n",
        "kept     exporters.debug\n",
    ];
    check(
        &["diff", base, base],
        "",
        0,
        &["kept     exporters.debug"],
        &[],
    );
    let sides = ["diff", "--old", base, "--new", base, site];
    check(&sides, "", 1, &changed, &[]);
    let repeated = ["diff", "--new", base, "--new", site, "--old", base, site];
    check(&repeated, "", 0, &["kept     exporters.debug"], &[]);
    let set = ["diff", base, base, "--set", "service.drain_timeout=7s"];
    check(&set, "", 1, &changed, &[]);
    let both = [&set[..], &["--old-set", "service.drain_timeout=7s"]].concat();
    check(&both, "", 0, &["kept     exporters.debug"], &[]);
    let input = std::fs::read_to_string(base).unwrap();
    check(&["diff", "-", base], &input, 0, &["kept"], &[]);
    check(
        &["diff", base, site],
        "",
        78,
        &[],
        &["error: service.pipelines"],
    );
    for wrong in [
        &["diff", base][..],
        &["diff", "--old", base],
        &["diff", base, base, "--new", site],
    ] {
        check(wrong, "", 2, &[], &["Usage"]);
    }
}
