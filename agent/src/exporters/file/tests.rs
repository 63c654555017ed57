//! The exporter on a real file system, and on one that fails.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use serde_json::Value as Json;
use tempfile::TempDir;

use super::*;
use crate::ack::Answer;
use crate::batch::Payload;
use crate::testing::{
    RunningExporter, eventually, exporter_context, metric, parse, request, start_all,
};

fn options(folder: &TempDir, name: &str, more: &str) -> String {
    let path = folder.path().join(name);
    format!("path = {:?}\n{more}", path.to_str().unwrap())
}

fn start(folder: &TempDir, name: &str, more: &str) -> Result<RunningExporter, String> {
    let settings =
        parse(&FACTORY, &options(folder, name, more)).map_err(|found| found.to_string())?;
    RunningExporter::start(&*settings, &Signal::ALL).map_err(|error| error.to_string())
}

async fn deliver(
    running: &RunningExporter,
    signal: Signal,
    service: &str,
    items: usize,
) -> Payload {
    let payload: Payload = request(signal, service, items).into();
    let answer = running.send(signal, payload.clone()).await;
    assert_eq!(answer, Answer::Delivered);
    payload
}

fn lines(content: &[u8]) -> Vec<Json> {
    assert!(content.is_empty() || content.ends_with(b"\n"));
    content
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect()
}

/// The messages of a file in `proto` framing.
fn messages(mut content: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    while let Some((header, rest)) = content.split_first_chunk() {
        let (message, rest) = rest.split_at(u32::from_be_bytes(*header) as usize);
        found.push(message.to_vec());
        content = rest;
    }
    assert!(content.is_empty());
    found
}

/// What `zstd -d` makes of a file: the program if there is one, the library otherwise.
fn unzstd(path: &Path) -> Vec<u8> {
    let output = std::process::Command::new("zstd")
        .arg("-dcq")
        .arg(path)
        .output();
    match output {
        Ok(output) => {
            assert!(
                output.status.success(),
                "{}",
                String::from_utf8_lossy(&output.stderr)
            );
            output.stdout
        }
        Err(_) => zstd::decode_all(File::open(path).unwrap()).unwrap(),
    }
}

fn spans_of(line: &Json) -> usize {
    line["resourceSpans"][0]["scopeSpans"][0]["spans"]
        .as_array()
        .map_or(0, Vec::len)
}

#[tokio::test]
async fn one_file_takes_all_signals_as_lines() {
    let folder = tempfile::tempdir().unwrap();
    let running = start(&folder, "out.jsonl", "").unwrap();
    for signal in Signal::ALL {
        deliver(&running, signal, "checkout", 3).await;
    }
    let content = std::fs::read(folder.path().join("out.jsonl")).unwrap();
    let keys: Vec<String> = lines(&content)
        .iter()
        .flat_map(|line| line.as_object().unwrap().keys().cloned())
        .collect();
    assert_eq!(keys, ["resourceSpans", "resourceMetrics", "resourceLogs"]);
    let telemetry = running.stop().await;
    let counted: f64 = Signal::ALL
        .iter()
        .map(|signal| {
            let start = format!(
                "tidegate_exporter_sent_bytes{{exporter=\"test\",otel_signal=\"{signal}\"}}"
            );
            metric(&telemetry, &start)
        })
        .sum();
    assert_eq!(counted, content.len() as f64);
}

#[tokio::test]
async fn framed_messages_are_the_bytes_that_came() {
    let folder = tempfile::tempdir().unwrap();
    let running = start(&folder, "out.pb", "format = \"proto\"").unwrap();
    let mut payload = deliver(&running, Signal::Traces, "a", 2).await;
    payload.push(request(Signal::Traces, "b", 1));
    // A field that nobody knows.
    payload.push(crate::batch::Chunk::new(vec![0x78, 1].into(), 0));
    assert_eq!(
        running.send(Signal::Traces, payload.clone()).await,
        Answer::Delivered
    );
    running.stop().await;
    let found = messages(&std::fs::read(folder.path().join("out.pb")).unwrap());
    assert_eq!(found.len(), 2);
    assert_eq!(found[1], payload.to_bytes());
    assert_eq!(
        ExportTraceServiceRequest::decode(&found[1][..])
            .unwrap()
            .resource_spans
            .len(),
        2
    );
}

#[tokio::test]
async fn compressed_files_are_zstd_streams_at_any_time() {
    for (format, level) in [("json", 1), ("proto", 19)] {
        let folder = tempfile::tempdir().unwrap();
        let more = format!(
            "format = \"{format}\"\ncompression = \"zstd\"\ncompression_params.level = {level}"
        );
        let path = folder.path().join("out.zst");
        let running = start(&folder, "out.zst", &more).unwrap();
        for expected in 1..=3 {
            deliver(&running, Signal::Traces, "checkout", 100).await;
            let plain = unzstd(&path);
            let found = match format {
                "json" => lines(&plain).len(),
                _ => messages(&plain).len(),
            };
            assert_eq!(found, expected);
            assert!(plain.len() as u64 > 3 * path.metadata().unwrap().len());
        }
        running.stop().await;
    }
}

#[tokio::test]
async fn a_restart_appends_unless_told_to_truncate() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.jsonl");
    let check = async |more: &str, expected: usize| {
        let running = start(&folder, "out.jsonl", more).unwrap();
        deliver(&running, Signal::Traces, "checkout", 1).await;
        running.stop().await;
        assert_eq!(lines(&std::fs::read(&path).unwrap()).len(), expected);
    };
    check("", 1).await;
    check("append = true", 2).await;
    check("append = false", 1).await;
    check("append = false\nrotation.max_megabytes = 1", 1).await;
}

#[tokio::test]
async fn a_file_is_as_it_was_until_there_is_something_to_write() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.jsonl");
    for more in ["append = false", ""] {
        let old = "{\"old\":1}\n{\"torn";
        std::fs::write(&path, old).unwrap();
        let running = start(&folder, "out.jsonl", more).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), old, "{more}");
        deliver(&running, Signal::Traces, "checkout", 1).await;
        running.stop().await;
        let now = std::fs::read_to_string(&path).unwrap();
        assert!(!now.contains("torn"), "{more}: {now}");
        assert_eq!(now.contains("old"), more.is_empty(), "{more}: {now}");
    }
}

#[tokio::test]
async fn a_torn_end_is_cut_off_and_counted() {
    for (more, name) in [
        ("", "out.jsonl"),
        ("format = \"proto\"", "out.pb"),
        ("compression = \"zstd\"", "out.zst"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        let running = start(&folder, name, more).unwrap();
        deliver(&running, Signal::Traces, "checkout", 1).await;
        let good = std::fs::read(&path).unwrap();
        deliver(&running, Signal::Traces, "checkout", 50).await;
        running.crash().await;
        // A write under way when the worker was dropped may hold the file a little longer.
        let more = format!(
            "{more}\nretry_on_failure = {{ initial_interval = \"2ms\", max_interval = \"2ms\" }}"
        );
        let whole = std::fs::read(&path).unwrap();
        for cut in [good.len() + 1, good.len() + 3, whole.len() - 1] {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let running = start(&folder, name, &more).unwrap();
            deliver(&running, Signal::Traces, "checkout", 50).await;
            let telemetry = running.stop().await;
            assert_eq!(std::fs::read(&path).unwrap(), whole, "{name} cut at {cut}");
            assert_eq!(metric(&telemetry, "tidegate_file_torn_tails"), 1.0);
        }
    }
}

#[tokio::test]
async fn a_file_of_another_kind_is_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("passwd");
    for more in ["", "format = \"proto\"", "compression = \"zstd\""] {
        std::fs::write(&path, "root:x:0:0:root:/root:/bin/sh").unwrap();
        let error = start(&folder, "passwd", more).err().unwrap();
        assert!(error.contains("did not write"), "{error}");
        assert_eq!(
            std::fs::read(&path).unwrap(),
            b"root:x:0:0:root:/root:/bin/sh"
        );
    }
}

#[tokio::test]
async fn what_cannot_be_written_to_is_an_error_at_start() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    let check = |name: &str, more: &str, expected: &str| {
        let error = start(&folder, name, more).err().unwrap();
        assert!(error.contains(expected), "{error}");
    };
    check("missing/out", "", "No such file");
    check("missing/out", "", "create_directory = true");
    check("file/out", "create_directory = true", "make the folder");
    check("", "", "must name a file");
    check(
        "missing/*/out",
        "group_by.enabled = true",
        "create_directory",
    );
    check("file/*", "group_by.enabled = true", "");
}

#[test]
fn settings_are_validated() {
    let check = |text: &str, expected: &str| {
        let found = parse(&FACTORY, text).unwrap_err().to_string();
        assert!(found.contains(expected), "{text}: {found}");
    };
    check("", "test.file.path: is required");
    check("path = \"a\"\nformat = \"xml\"", "xml");
    check(
        "path = \"a\"\ncompression_params.level = 23",
        "between 1 and 22",
    );
    check("path = \"a\"\nflush_interval = \"0s\"", "more than 0");
    check("path = \"a\"\ndirectory_permissions = \"rwx\"", "octal");
    check("path = \"a\"\nrotation.max_megabytes = 0", "at least 1");
    check("path = \"a\"\ngroup_by.enabled = true", "exactly one `*`");
    check("path = \"*/*\"\ngroup_by.enabled = true", "exactly one `*`");
    check(
        "path = \"*\"\nappend = false\ngroup_by.enabled = true",
        "append",
    );
    check(
        "path = \"*\"\ngroup_by = { enabled = true, max_open_files = 0 }",
        "max_open_files",
    );
}

#[test]
fn the_example_holds_every_field() {
    let example = include_str!("../../../../configs/agent/file.toml");
    let example: toml::Table = example.parse().unwrap();
    let options = FileOptions {
        rotation: Some(RotationOptions::default()),
        ..FileOptions::default()
    };
    let defaults = toml::Table::try_from(options).unwrap();
    let found = example["exporters"]["file"].as_table().unwrap();
    for (key, value) in &defaults {
        let found = found
            .get(key)
            .unwrap_or_else(|| panic!("{key} is not in the example"));
        for inner in value.as_table().into_iter().flat_map(toml::Table::keys) {
            assert!(
                found.get(inner).is_some(),
                "{key}.{inner} is not in the example"
            );
        }
    }
}

#[tokio::test]
async fn full_files_are_rotated_and_nothing_is_split() {
    for more in ["", "compression = \"zstd\""] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.json");
        // Rotation counts in MiB; start with a file that is nearly full.
        let line = format!("{{\"pad\":\"{}\"}}\n", "x".repeat((1 << 20) - 100));
        let full = if more.is_empty() {
            line.into_bytes()
        } else {
            incompressible_frame()
        };
        std::fs::write(&path, &full).unwrap();
        let running = start(
            &folder,
            "out.json",
            &format!("{more}\nrotation.max_megabytes = 1"),
        )
        .unwrap();
        deliver(&running, Signal::Traces, "checkout", 5).await;
        deliver(&running, Signal::Traces, "checkout", 5).await;
        let telemetry = running.stop().await;
        assert_eq!(metric(&telemetry, "tidegate_file_rotations"), 1.0);
        let mut names: Vec<PathBuf> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        names.sort();
        assert_eq!(names.len(), 2);
        assert_eq!(std::fs::read(&names[0]).unwrap(), full);
        assert!(names[0].to_str().unwrap().contains("/out-20"));
        let plain = if more.is_empty() {
            std::fs::read(&path).unwrap()
        } else {
            unzstd(&path)
        };
        assert_eq!(
            lines(&plain).iter().map(spans_of).collect::<Vec<_>>(),
            [5, 5]
        );
    }
}

fn incompressible_frame() -> Vec<u8> {
    let mut state = 1u32;
    let noise: Vec<u8> = (0..(1 << 20))
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state as u8
        })
        .collect();
    zstd::encode_all(&noise[..], 1).unwrap()
}

#[tokio::test]
async fn a_moved_file_is_opened_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.jsonl");
    let moved = folder.path().join("out.jsonl.1");
    let running = start(&folder, "out.jsonl", "").unwrap();
    deliver(&running, Signal::Traces, "checkout", 1).await;
    std::fs::rename(&path, &moved).unwrap();
    deliver(&running, Signal::Traces, "checkout", 2).await;
    std::fs::remove_file(&path).unwrap();
    deliver(&running, Signal::Traces, "checkout", 3).await;
    // As by logrotate's copytruncate.
    std::fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(0)
        .unwrap();
    deliver(&running, Signal::Traces, "checkout", 4).await;
    running.stop().await;
    let spans = |path: &Path| {
        lines(&std::fs::read(path).unwrap())
            .iter()
            .map(spans_of)
            .collect::<Vec<_>>()
    };
    assert_eq!((spans(&moved), spans(&path)), (vec![1], vec![4]));
}

#[tokio::test]
async fn a_second_writer_waits_until_the_first_lets_go() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.jsonl");
    let retry =
        "append = false\nretry_on_failure = { initial_interval = \"5ms\", max_interval = \"5ms\" }";
    let first = start(&folder, "out.jsonl", "").unwrap();
    deliver(&first, Signal::Traces, "checkout", 1).await;
    let second = start(&folder, "out.jsonl", retry).unwrap();
    let waiting = second.push(Signal::Traces, request(Signal::Traces, "checkout", 2));
    let attempts =
        r#"tidegate_exporter_attempts{exporter="test",otel_signal="traces",outcome="retry"}"#;
    eventually("an attempt in vain", || {
        metric(&second.telemetry, attempts) > 0.0
    })
    .await;
    first.stop().await;
    assert_eq!(waiting.await, Answer::Delivered);
    second.stop().await;
    let found = lines(&std::fs::read(&path).unwrap());
    assert_eq!(found.iter().map(spans_of).collect::<Vec<_>>(), [1, 2]);
}

// === group_by ===

const GROUPED: &str =
    "group_by = { enabled = true, resource_attribute = \"service.name\", max_open_files = 2 }";

#[tokio::test]
async fn each_value_has_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let running = start(&folder, "app-*.jsonl", GROUPED).unwrap();
    let mut payload = Payload::default();
    for (service, items) in [("a", 1), ("b", 2), ("", 3), ("../x", 4), ("a", 5)] {
        payload.push(request(Signal::Traces, service, items));
    }
    assert_eq!(
        running.send(Signal::Traces, payload).await,
        Answer::Delivered
    );
    deliver(&running, Signal::Traces, "a", 6).await;
    let telemetry = running.stop().await;
    assert_eq!(metric(&telemetry, "tidegate_file_fallback_resources"), 1.0);
    let check = |name: &str, expected: &[&[usize]]| {
        let content = std::fs::read(folder.path().join(name)).unwrap();
        let found: Vec<Vec<usize>> = lines(&content)
            .iter()
            .map(|line| {
                let resources = line["resourceSpans"].as_array().unwrap();
                let count =
                    |entry: &Json| entry["scopeSpans"][0]["spans"].as_array().unwrap().len();
                resources.iter().map(count).collect()
            })
            .collect();
        assert_eq!(found, expected, "{name}");
    };
    check("app-a.jsonl", &[&[1, 5], &[6]]);
    check("app-b.jsonl", &[&[2]]);
    check("app-MISSING.jsonl", &[&[3]]);
    check("app-..%2Fx.jsonl", &[&[4]]);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 4);
}

#[tokio::test]
async fn slashes_are_folders_where_folders_are_made() {
    let folder = tempfile::tempdir().unwrap();
    let more = format!("{GROUPED}\ncreate_directory = true\ndirectory_permissions = \"0700\"");
    let running = start(&folder, "new/*/out.jsonl", &more).unwrap();
    deliver(&running, Signal::Logs, "team/../a", 1).await;
    // A folder cannot be where a file is: the fallback takes it, and nothing is blocked.
    std::fs::write(folder.path().join("new/file"), "").unwrap();
    deliver(&running, Signal::Logs, "file", 1).await;
    // Nor can it take what is not ours.
    std::fs::create_dir(folder.path().join("new/other")).unwrap();
    std::fs::write(folder.path().join("new/other/out.jsonl"), "keep").unwrap();
    deliver(&running, Signal::Logs, "other", 1).await;
    let telemetry = running.stop().await;
    assert_eq!(metric(&telemetry, "tidegate_file_fallback_resources"), 2.0);
    for (name, records) in [
        ("new/team/%2E%2E/a/out.jsonl", 1),
        ("new/MISSING/out.jsonl", 2),
    ] {
        assert_eq!(
            lines(&std::fs::read(folder.path().join(name)).unwrap()).len(),
            records,
            "{name}"
        );
    }
    use std::os::unix::fs::PermissionsExt;
    let mode = folder
        .path()
        .join("new/team")
        .metadata()
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o700);
}

// === a file system that fails ===

/// Bytes that may still be written before the disk is full, and whether truncating and syncing work.
static ROOM: AtomicI64 = AtomicI64::new(i64::MAX);
static TRUNCATE_FAILS: AtomicI64 = AtomicI64::new(0);
static SYNC_FAILS: AtomicI64 = AtomicI64::new(0);
static SYNCS: AtomicU64 = AtomicU64::new(0);

/// Writes what there is room for, and then fails as a full disk does.
struct Flaky(File);

impl Appendable for Flaky {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let room = ROOM.load(Ordering::Relaxed);
        let fits = usize::try_from(room).unwrap_or(0).min(bytes.len());
        ROOM.fetch_sub(fits as i64, Ordering::Relaxed);
        Appendable::append(&mut self.0, &bytes[..fits])?;
        if fits < bytes.len() {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        Ok(())
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        if TRUNCATE_FAILS.fetch_sub(1, Ordering::Relaxed) > 0 {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        self.0.truncate(len)
    }

    fn sync(&mut self) -> io::Result<()> {
        SYNCS.fetch_add(1, Ordering::Relaxed);
        if SYNC_FAILS.fetch_sub(1, Ordering::Relaxed) > 0 {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        self.0.sync()
    }

    fn file(&self) -> &File {
        &self.0
    }
}

fn start_flaky(folder: &TempDir, more: &str) -> RunningExporter {
    let retry = "retry_on_failure = { initial_interval = \"2ms\", max_interval = \"2ms\" }";
    let text = options(folder, "out", &format!("{more}\n{retry}"));
    let mut found = crate::config::Diagnostics::default();
    let mut section =
        crate::config::Section::from_text("exporters.file", &text, &mut found).unwrap();
    let options: FileOptions = section.options().unwrap();
    let context = exporter_context(&Signal::ALL);
    RunningExporter {
        authenticators: crate::auth::Authenticators::default(),
        senders: start_all(
            options
                .resolve(&mut section)
                .build_with(&context, |file| Box::new(Flaky(file)))
                .unwrap(),
        ),
        telemetry: context.telemetry,
        cut: context.cut,
    }
}

/// One test, because the failing disk is one for the process.
#[tokio::test]
async fn failures_leave_nothing_half_written_and_are_tried_again() {
    for more in ["", "format = \"proto\"", "compression = \"zstd\""] {
        for truncate_fails in [0, 1] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("out");
            ROOM.store(i64::MAX, Ordering::Relaxed);
            let running = start_flaky(&folder, more);
            deliver(&running, Signal::Traces, "checkout", 10).await;
            let good = std::fs::read(&path).unwrap();
            ROOM.store(good.len() as i64 / 2, Ordering::Relaxed);
            TRUNCATE_FAILS.store(truncate_fails, Ordering::Relaxed);
            let waiting = running.push(Signal::Traces, request(Signal::Traces, "checkout", 10));
            let attempts = r#"tidegate_exporter_attempts{exporter="test",otel_signal="traces",outcome="retry"}"#;
            eventually("attempts in vain", || {
                metric(&running.telemetry, attempts) > 2.0
            })
            .await;
            ROOM.store(i64::MAX, Ordering::Relaxed);
            assert_eq!(waiting.await, Answer::Delivered);
            running.stop().await;
            let content = std::fs::read(&path).unwrap();
            assert_eq!(
                content,
                [&good[..], &good[..]].concat(),
                "{more} {truncate_fails}"
            );
        }
    }
    a_failed_sync_is_a_failed_write().await;
    data_is_forced_to_the_disk_as_asked().await;
}

async fn a_failed_sync_is_a_failed_write() {
    let folder = tempfile::tempdir().unwrap();
    let running = start_flaky(&folder, "fsync = \"always\"");
    SYNC_FAILS.store(2, Ordering::Relaxed);
    deliver(&running, Signal::Traces, "checkout", 1).await;
    running.stop().await;
    let content = std::fs::read(folder.path().join("out")).unwrap();
    assert_eq!(lines(&content).len(), 1);
}

async fn data_is_forced_to_the_disk_as_asked() {
    let syncs_after = async |more: &str, batches: u64| {
        let folder = tempfile::tempdir().unwrap();
        let running = start_flaky(&folder, more);
        let before = SYNCS.load(Ordering::Relaxed);
        for _ in 0..batches {
            deliver(&running, Signal::Traces, "checkout", 1).await;
        }
        let during = SYNCS.load(Ordering::Relaxed) - before;
        running.stop().await;
        (during, SYNCS.load(Ordering::Relaxed) - before)
    };
    assert_eq!(syncs_after("fsync = \"never\"", 3).await, (0, 0));
    assert_eq!(syncs_after("fsync = \"always\"", 3).await, (3, 3));
    assert_eq!(
        syncs_after("fsync = \"flush\"\nflush_interval = \"1h\"", 3)
            .await
            .1,
        1
    );
    let folder = tempfile::tempdir().unwrap();
    let running = start_flaky(&folder, "fsync = \"flush\"\nflush_interval = \"2ms\"");
    let before = SYNCS.load(Ordering::Relaxed);
    deliver(&running, Signal::Traces, "checkout", 1).await;
    eventually("a sync", || SYNCS.load(Ordering::Relaxed) > before).await;
    running.stop().await;
}
