//! The whole agent in process: every kind of change, and every kind of configuration that it must refuse.

mod watching;

use std::net::SocketAddr;
use std::path::Path;

use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::net::TcpStream;

use super::*;
use crate::testing::{eventually, http_get, request};

/// An agent whose configuration is a file.
struct Bench {
    folder: TempDir,
    agent: Agent,
}

fn sources(folder: &Path) -> ConfigSources {
    ConfigSources {
        sources: vec![Source::Path(folder.join("agent.toml"))],
        sets: Vec::new(),
    }
}

impl Bench {
    async fn start(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = text.replace("{dir}", folder.path().to_str().unwrap());
        std::fs::write(folder.path().join("agent.toml"), text).unwrap();
        let sources = sources(folder.path());
        let configuration = config::load_configuration(&sources).unwrap_or_else(|found| {
            panic!("{found}");
        });
        let (world, notifier) = (World::default(), Notifier::default());
        let agent = Agent::start(sources, configuration, Logs::detached(), world, notifier)
            .await
            .unwrap();
        Self { folder, agent }
    }

    fn write(&self, text: &str) {
        let text = text.replace("{dir}", self.folder.path().to_str().unwrap());
        std::fs::write(self.folder.path().join("agent.toml"), text).unwrap();
    }

    async fn reload(&mut self, text: &str) -> Report {
        self.write(text);
        self.agent.reload(false, "test").await
    }

    async fn becomes(&mut self, text: &str) -> Difference {
        let report = self.reload(text).await;
        assert_eq!(report.outcome, Outcome::Reloaded, "{report:#?}");
        report.difference.unwrap()
    }

    /// The sum of all lines of a metric that begin so.
    fn metric(&self, name: &str) -> f64 {
        let text = String::from_utf8(self.agent.telemetry.encode().unwrap()).unwrap();
        let lines = text.lines().filter(|line| line.starts_with(name));
        lines
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    }

    async fn all_is_delivered(&self, items: f64) {
        eventually("delivery", || {
            self.metric("tidegate_ledger_delivered_items{") == items
        })
        .await;
        assert_eq!(self.metric("tidegate_ledger_queued_items{"), 0.0);
    }

    async fn stop(self) {
        let Agent { running, side, .. } = self.agent;
        running.stop(Duration::from_secs(5)).await;
        side.stop().await;
    }
}

/// A free address.
fn free() -> SocketAddr {
    crate::testing::refusing()
}

/// A connection that is kept.
struct Kept(SendRequest<Full<bytes::Bytes>>);

impl Kept {
    async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let (client, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        Self(client)
    }

    /// The status of a request of three log records to `path`.
    async fn post(&mut self, path: &str) -> u16 {
        self.try_post(path).await.unwrap()
    }

    async fn try_post(&mut self, path: &str) -> hyper::Result<u16> {
        let body = request(crate::signal::Signal::Logs, "checkout", 3);
        let request = hyper::Request::post(path)
            .header("host", "test")
            .header("content-type", "application/x-protobuf")
            .body(Full::new(body.bytes().clone()))
            .unwrap();
        self.0.ready().await?;
        let response = self.0.send_request(request).await?;
        let status = response.status().as_u16();
        response.into_body().collect().await?;
        Ok(status)
    }
}

/// A new connection is served at `address` once the socket that was there has made way for another: until then, one that
/// the old socket has not accepted yet may be reset.
async fn is_served(address: SocketAddr) {
    let deadline = Instant::now() + crate::testing::DEADLINE;
    loop {
        match Kept::connect(address).await.try_post("/v1/logs").await {
            Ok(status) => return assert_eq!(status, 200),
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
    }
}

fn text(http: SocketAddr, more: &str, exporter: &str) -> String {
    format!(
        "[receivers.otlp.protocols.http]\nendpoint = '{http}'\n{more}\n[exporters.file]\npath = '{{dir}}/out'\n{exporter}\n\
         [service.telemetry.metrics]\nlevel = 'none'\n[service.pipelines.logs]\nreceivers = ['otlp']\nexporters = ['file']\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_accepted_connection_serves_each_new_configuration_with_its_next_request() {
    let http = free();
    let base = text(http, "", "");
    let mut bench = Bench::start(&base).await;
    let mut kept = Kept::connect(http).await;
    assert_eq!(kept.post("/v1/logs").await, 200);
    // The receiver's settings.
    let moved = text(http, "logs_url_path = '/other'", "");
    let difference = bench.becomes(&moved).await;
    assert!(
        difference
            .to_string()
            .contains("changed  receivers.otlp: protocols.http.logs_url_path\n"),
        "{difference}"
    );
    assert!(difference.to_string().contains("kept     exporters.file\n"));
    assert_eq!(kept.post("/v1/logs").await, 404);
    assert_eq!(kept.post("/other").await, 200);
    bench
        .becomes(&text(http, "max_request_body_size = 10", ""))
        .await;
    assert_eq!(kept.post("/v1/logs").await, 413);
    // The exporter's, then a processor, then another exporter.
    bench
        .becomes(&text(http, "", "flush_interval = '50ms'"))
        .await;
    assert_eq!(kept.post("/v1/logs").await, 200);
    let batched = format!("{base}processors = ['batch']\n[processors.batch]\ntimeout = '10ms'\n");
    bench.becomes(&batched).await;
    assert_eq!(kept.post("/v1/logs").await, 200);
    let both = base.replace("['file']", "['file', 'debug']")
        + "[exporters.debug]\nsampling_initial = 0\nsampling_thereafter = 0\n";
    bench.becomes(&both).await;
    assert_eq!(kept.post("/v1/logs").await, 200);
    bench.all_is_delivered(5.0 * 3.0 + 3.0).await;
    // Another signal: the receiver serves a path that was not there.
    assert_eq!(kept.post("/v1/traces").await, 404);
    let traces =
        format!("{base}[service.pipelines.traces]\nreceivers = ['otlp']\nexporters = ['file']\n");
    bench.becomes(&traces).await;
    assert_ne!(kept.post("/v1/traces").await, 404);
    // And back.
    bench.becomes(&base).await;
    assert_eq!(bench.reload(&base).await.outcome, Outcome::Unchanged);
    assert_eq!(kept.post("/v1/logs").await, 200);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_runs_beside_the_pipelines_changes_too() {
    let (http, metrics, health) = (free(), free(), free());
    let with = |more: &str| {
        let base = text(http, "", "");
        base.replace("level = 'none'", &format!("address = '{metrics}'")) + more
    };
    let extension = |path: &str| {
        format!(
            "[extensions.health_check]\nendpoint = '{health}'\npath = '{path}'\n[service]\nextensions = ['health_check']\n"
        )
    };
    let mut bench = Bench::start(&text(http, "", "")).await;
    assert!(TcpStream::connect(metrics).await.is_err());
    bench.becomes(&with("")).await;
    assert!(
        http_get(metrics, "/metrics")
            .await
            .1
            .contains("tidegate_reloads{outcome=\"reloaded\"} 1")
    );
    bench.becomes(&with(&extension("/one"))).await;
    assert_eq!(http_get(health, "/one").await.0, 200);
    // The same socket, another path.
    bench.becomes(&with(&extension("/two"))).await;
    eventually_status(health, "/two", 200).await;
    let report = bench.reload("nonsense").await;
    assert_eq!(report.outcome, Outcome::Refused);
    let (status, page) = http_get(health, "/two").await;
    assert!(
        status == 200 && page.contains("\"outcome\":\"refused\""),
        "{page}"
    );
    assert_eq!(bench.metric("tidegate_reload_last_successful"), 0.0);
    bench.becomes(&text(http, "", "")).await;
    assert_eq!(bench.metric("tidegate_reload_last_successful"), 1.0);
    eventually_gone(metrics).await;
    eventually_gone(health).await;
    bench.stop().await;
}

/// Nothing is rebuilt then, so nothing but the files says that all is well again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_file_that_is_put_back_as_it_was_is_not_refused_any_more() {
    let base = text(free(), "", "");
    let mut bench = Bench::start(&base).await;
    for refused in [
        "nonsense".to_owned(),
        base.replace("{dir}/out", "/proc/none/out"),
    ] {
        assert_eq!(bench.reload(&refused).await.outcome, Outcome::Refused);
        assert_eq!(bench.metric("tidegate_reload_last_successful"), 0.0);
        assert!(bench.agent.status().contains("refused"));
        bench.write(&base);
        let report = bench.agent.reload(false, FILES).await;
        assert_eq!(report.outcome, Outcome::Unchanged);
        assert_eq!(bench.metric("tidegate_reload_last_successful"), 1.0);
        assert!(!bench.agent.status().contains("refused"));
        let last = bench.agent.health.reloaded().unwrap();
        assert_eq!((last.outcome, last.problems.len()), ("unchanged", 0));
    }
    // What is only touched is no news.
    let counted = bench.metric("tidegate_reloads{");
    bench.agent.reload(false, FILES).await;
    assert_eq!(bench.metric("tidegate_reloads{"), counted);
    bench.stop().await;
}

async fn eventually_status(address: SocketAddr, path: &str, expected: u16) {
    let asking = async {
        while http_get(address, path).await.0 != expected {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::testing::DEADLINE, asking)
        .await
        .unwrap();
}

async fn eventually_gone(address: SocketAddr) {
    let asking = async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::testing::DEADLINE, asking)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_moves_and_widens_and_swaps_its_addresses() {
    let (one, two) = (free(), free());
    let mut bench = Bench::start(&text(one, "", "")).await;
    bench.becomes(&text(two, "", "")).await;
    is_served(two).await;
    eventually_gone(one).await;
    // Every address of the port that it has.
    let every = SocketAddr::from(([0, 0, 0, 0], two.port()));
    let mut kept = Kept::connect(two).await;
    assert_eq!(kept.post("/v1/logs").await, 200);
    bench.becomes(&text(every, "", "")).await;
    is_served(two).await;
    bench.becomes(&text(two, "", "")).await;
    is_served(two).await;
    let pair = |first: SocketAddr, second: SocketAddr| {
        text(first, "", "").replace("receivers = ['otlp']", "receivers = ['otlp', 'otlp/b']")
            + &format!(
                "[receivers.'otlp/b'.protocols.http]\nendpoint = '{second}'\nlogs_url_path = '/b'\n"
            )
    };
    bench.becomes(&pair(two, one)).await;
    let mut kept = Kept::connect(one).await;
    assert_eq!(kept.post("/b").await, 200);
    bench.becomes(&pair(one, two)).await;
    assert_eq!(kept.post("/v1/logs").await, 200);
    bench.stop().await;
}

/// Configurations that are wrong, or ask for an address that cannot be had, and what is told of each.
fn wrong_or_in_use(http: SocketAddr, in_use: SocketAddr) -> Vec<(String, &'static str)> {
    let base = text(http, "", "");
    vec![
        ("x = = 1".to_owned(), "agent.toml:1:"),
        (text(http, "max_request_body = 1", ""), "max_request_body"),
        (base.replace("['file']", "['fil']"), "did you mean `file`"),
        (
            text(in_use, "", ""),
            "error: receivers.otlp.protocols.http.endpoint: bind",
        ),
        (
            extension(&base, "health_check", &format!("endpoint = '{in_use}'")),
            "error: extensions.health_check.endpoint: bind",
        ),
        (
            base.replace("level = 'none'", &format!("address = '{in_use}'")),
            "error: service.telemetry.metrics.address: bind",
        ),
        (
            format!("{base}[service.admin]\nendpoint = '{in_use}'\n"),
            "error: service.admin.endpoint: bind",
        ),
    ]
}

/// Configurations that name a file or folder that cannot be had, and what is told of each. `{dir}/file` is an empty file.
fn with_files_that_cannot_be_had(base: &str) -> Vec<(String, &'static str)> {
    let exporter = |kind: &str, table: &str| {
        format!(
            "{base}[exporters.'{kind}/more']\n{table}\n[service.pipelines.'logs/more']\nreceivers = ['otlp']\nexporters = ['{kind}/more']\n"
        )
    };
    vec![
        (
            exporter(
                "otlp_http",
                "endpoint = 'http://127.0.0.1:1'\nsending_queue = { storage = 'wal', directory = '{dir}/file/queue' }",
            ),
            "error: exporters.\"otlp_http/more\".sending_queue.directory: open the queue for logs in {dir}/file/queue",
        ),
        (
            exporter("file", "path = '{dir}/file/out'"),
            "error: exporters.\"file/more\".path: start writing: ",
        ),
        (
            exporter(
                "otlp_http",
                "endpoint = 'https://127.0.0.1:1'\ntls = { ca_file = '{dir}/none' }",
            ),
            "error: exporters.\"otlp_http/more\".tls.ca_file: set up TLS: {dir}/none: No such file",
        ),
        (
            extension(base, "bearertokenauth", "filename = '{dir}/none'"),
            "error: extensions.bearertokenauth.filename: read {dir}/none: No such file",
        ),
        (
            extension(base, "basicauth", "htpasswd = { file = '{dir}/none' }"),
            "error: extensions.basicauth.htpasswd.file: read {dir}/none: No such file",
        ),
        (
            format!(
                "{base}[processors.wasm]\npath = '{{dir}}/file'\n[service.pipelines.'logs/more']\nreceivers = ['otlp']\nprocessors = ['wasm']\nexporters = ['file']\n"
            ),
            "error: processors.wasm.path: load the plugin {dir}/file: it is not WebAssembly",
        ),
    ]
}

fn extension(base: &str, kind: &str, table: &str) -> String {
    format!("{base}[extensions.{kind}]\n{table}\n[service]\nextensions = ['{kind}']\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_that_is_wrong_or_cannot_be_had_changes_nothing() {
    let http = free();
    let base = text(http, "", "");
    let mut bench = Bench::start(&base).await;
    std::fs::write(bench.folder.path().join("file"), "").unwrap();
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut wrong = wrong_or_in_use(http, held.local_addr().unwrap());
    wrong.extend(with_files_that_cannot_be_had(&base));
    let folder = bench.folder.path().to_str().unwrap().to_owned();
    let mut kept = Kept::connect(http).await;
    for (text, expected) in &wrong {
        let report = bench.reload(text).await;
        assert_eq!(report.outcome, Outcome::Refused, "{text}");
        let expected = expected.replace("{dir}", &folder);
        for problem in &report.problems {
            let told = problem.to_string();
            assert!(told.contains(&expected), "{expected}: {told}");
            assert!(told.starts_with(&format!("{folder}/agent.toml:")), "{told}");
        }
        assert_eq!(report.problems.len(), 1, "{report:?}");
        // Whoever only asks hears the same.
        assert_eq!(bench.agent.reload(true, "test").await, report);
        assert_eq!(kept.post("/v1/logs").await, 200, "{text}");
    }
    assert_eq!(
        bench.metric("tidegate_reloads{outcome=\"refused\"}"),
        wrong.len() as f64
    );
    bench.all_is_delivered(3.0 * wrong.len() as f64).await;
    assert_eq!(bench.reload(&base).await.outcome, Outcome::Unchanged);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_destination_is_mended_without_losing_what_waits() {
    for queue in [
        "",
        "sending_queue = { storage = 'wal', directory = '{dir}/queue', num_consumers = 1 }",
    ] {
        let (http, next) = (free(), free());
        let far = Bench::start(&text(next, "", "")).await;
        let near = |to: SocketAddr| {
            format!(
                "[receivers.otlp.protocols.http]\nendpoint = '{http}'\n[exporters.otlp_http]\nendpoint = 'http://{to}'\n{queue}\n\
                 [service.telemetry.metrics]\nlevel = 'none'\n[service.pipelines.logs]\nreceivers = ['otlp']\nexporters = ['otlp_http']\n"
            )
        };
        let mut bench = Bench::start(&near(free())).await;
        let mut kept = Kept::connect(http).await;
        for _ in 0..20 {
            assert_eq!(kept.post("/v1/logs").await, 200);
        }
        eventually("an attempt", || {
            bench.metric("tidegate_exporter_attempts{exporter=\"otlp_http\",otel_signal=\"logs\",outcome=\"retry\"}") > 0.0
        })
        .await;
        bench.becomes(&near(next)).await;
        bench.all_is_delivered(60.0).await;
        far.all_is_delivered(60.0).await;
        bench.stop().await;
        far.stop().await;
    }
}

#[tokio::test]
async fn a_dry_run_only_says_what_would_change() {
    let http = free();
    let mut bench = Bench::start(&text(http, "", "")).await;
    let changed = text(http, "", "flush_interval = '7s'")
        .replace("{dir}", bench.folder.path().to_str().unwrap());
    std::fs::write(bench.folder.path().join("agent.toml"), changed).unwrap();
    for _ in 0..2 {
        let report = bench.agent.reload(true, "test").await;
        assert_eq!(report.outcome, Outcome::Valid);
        let difference = report.difference.unwrap().to_string();
        assert!(
            difference.contains("changed  exporters.file: flush_interval\n"),
            "{difference}"
        );
    }
    assert_eq!(bench.metric("tidegate_reloads{"), 0.0);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_lets_go_of_what_it_built() {
    let (http, next, health) = (free(), free(), free());
    let base = text(http, "", "");
    let mut bench = Bench::start(&base).await;
    let mut kept = Kept::connect(http).await;
    assert_eq!(kept.post("/v1/logs").await, 200);
    let queue = "sending_queue = { storage = 'wal', directory = '{dir}/queue' }";
    let changed = format!(
        "{}[extensions.health_check]\nendpoint = '{health}'\n[service]\nextensions = ['health_check']\n",
        text(next, "", queue)
    );
    bench.write(&changed);
    for _ in 0..2 {
        let report = bench.agent.reload(true, "test").await;
        assert_eq!(report.outcome, Outcome::Valid, "{report:?}");
        assert_eq!(kept.post("/v1/logs").await, 200);
        // Whoever else wants them can have them.
        for address in [next, health] {
            drop(std::net::TcpListener::bind(address).unwrap());
        }
    }
    bench.becomes(&changed).await;
    eventually_status(health, "/", 200).await;
    let mut moved = Kept::connect(next).await;
    assert_eq!(moved.post("/v1/logs").await, 200);
    bench.all_is_delivered(12.0).await;
    bench.stop().await;
}

#[tokio::test]
async fn everything_that_cannot_be_had_is_told_at_once() {
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let in_use = held.local_addr().unwrap();
    let mut bench = Bench::start(&text(free(), "", "")).await;
    let wrong = format!(
        "[receivers.otlp.protocols]\ngrpc = {{ endpoint = '127.0.0.1:0', tls = {{ cert_file = '/none', key_file = '/none' }} }}\nhttp = {{ endpoint = '{in_use}' }}\n\
         [exporters.file]\npath = '/nowhere/out'\n[exporters.debug]\n\
         [extensions.zpages]\nendpoint = '127.0.0.1:0'\ntls = {{ cert_file = '/none', key_file = '/none' }}\n\
         [service]\nextensions = ['zpages']\n[service.telemetry.metrics]\nlevel = 'none'\n\
         [service.pipelines.logs]\nreceivers = ['otlp']\nexporters = ['file', 'debug']\n"
    );
    let report = bench.reload(&wrong).await;
    let told = report.problems.iter();
    let told: Vec<_> = told
        .map(|told| (told.line.unwrap(), told.key.as_str()))
        .collect();
    let expected = [
        (2, "receivers.otlp.protocols.grpc.tls.cert_file"),
        (2, "receivers.otlp.protocols.grpc.tls.key_file"),
        (3, "receivers.otlp.protocols.http.endpoint"),
        (5, "exporters.file.path"),
        (9, "extensions.zpages.tls.cert_file"),
        (9, "extensions.zpages.tls.key_file"),
    ];
    assert_eq!(told, expected, "{report:#?}");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_read_again_when_their_files_have_changed() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/otlp_receiver/certs");
    let file = |name: &str| folder.path().join(name);
    let copy = |from: &str, to: &str| {
        assert!(std::fs::copy(certificates.join(from), file(to)).unwrap() > 0)
    };
    copy("server.crt", "server.crt");
    copy("server.key", "server.key");
    let tls = format!(
        "tls = {{ cert_file = '{}', key_file = '{}' }}",
        file("server.crt").display(),
        file("server.key").display()
    );
    let base = text(free(), &tls, "");
    let mut bench = Bench::start(&base).await;
    assert_eq!(bench.reload(&base).await.outcome, Outcome::Unchanged);
    copy("client.crt", "server.crt");
    copy("client.key", "server.key");
    let difference = bench.becomes(&base).await.to_string();
    assert!(
        difference.contains("changed  receivers.otlp: its files changed: ")
            && difference.contains("server.crt"),
        "{difference}"
    );
    std::fs::write(file("server.key"), "none").unwrap();
    let report = bench.reload(&base).await;
    assert_eq!(report.outcome, Outcome::Refused);
    bench.stop().await;
}
