//! Helpers for the end-to-end tests: real binaries, fresh folders, ephemeral loopback ports.
#![allow(clippy::missing_panics_doc, reason = "a test fails by panicking")]
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

pub mod http;
pub mod localdb;
pub mod plugins;
pub mod prove;
pub mod sdk;

pub use localdb::LocalDb;

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take before a test gives up on it. Generous: the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The path of a binary of this workspace, built beside the tests.
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the test knows its own path");
    let profile = test
        .parent()
        .and_then(Path::parent)
        .expect("tests lie in target/<profile>/deps");
    let path = profile.join(name);
    assert!(
        path.exists(),
        "{} is not built: run `cargo build --workspace` first",
        path.display()
    );
    path
}

/// Calls `probe` until it gives a value.
pub fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A loopback address where nobody listens until somebody is told to. It stays taken until the process ends: nobody
/// else gets its port, and a client that tries it does not connect to itself.
pub fn reserved_address() -> SocketAddr {
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket can be made");
    // Who listens there later sets the same.
    socket.set_reuseaddr(true).expect("it is an option");
    socket
        .bind(([127, 0, 0, 1], 0).into())
        .expect("a port is free");
    let address = Box::leak(Box::new(socket)).local_addr();
    address.expect("it is bound")
}

/// A running binary. Dropping it kills it.
#[derive(Debug)]
pub struct Service {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Service {
    /// Starts `command` with its output in a log file in `folder`.
    pub fn start(name: &str, command: &mut Command, folder: &Path) -> Self {
        Self::start_with(name, command, folder, Stdio::null())
    }

    /// The same with this standard input.
    pub fn start_with(name: &str, command: &mut Command, folder: &Path, stdin: Stdio) -> Self {
        let log = folder.join(format!("{name}.log"));
        let output = File::create(&log).expect("the folder is writable");
        let errors = output.try_clone().expect("a file handle can be cloned");
        let child = command
            .stdin(stdin)
            .stdout(output)
            .stderr(errors)
            .spawn()
            .unwrap_or_else(|error| panic!("start {name}: {error}"));
        Self {
            name: name.to_owned(),
            child,
            log,
        }
    }

    /// Everything it has printed so far.
    pub fn output(&self) -> String {
        let bytes = fs::read(&self.log).expect("the log file exists");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The first line that contains all of `needles`, waiting for it.
    pub fn wait_for(&mut self, needles: &[&str]) -> String {
        eventually(&format!("{needles:?} from {}", self.name), || {
            let output = self.output();
            let line = output
                .lines()
                .find(|line| needles.iter().all(|needle| line.contains(needle)))
                .map(str::to_owned);
            if line.is_none()
                && let Ok(Some(status)) = self.child.try_wait()
            {
                panic!("{} ended with {status}:\n{output}", self.name);
            }
            line
        })
    }

    /// The loopback address in the first line that contains all of `needles`.
    pub fn address(&mut self, needles: &[&str]) -> SocketAddr {
        let line = self.wait_for(needles);
        let start = line
            .find("127.0.0.1:")
            .unwrap_or_else(|| panic!("no address in {line}"));
        let text: String = line
            .chars()
            .skip(start)
            .take_while(|c| c.is_ascii_digit() || matches!(c, '.' | ':'))
            .collect();
        text.parse()
            .unwrap_or_else(|error| panic!("{text} in {line}: {error}"))
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by name: `TERM`, `HUP`, `KILL`.
    pub fn signal(&self, signal: &str) {
        let sent = Command::new("kill")
            .args(["-s", signal, &self.child.id().to_string()])
            .status()
            .expect("kill runs");
        assert!(sent.success(), "kill -s {signal} {}", self.name);
    }

    /// The status it ended with, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        let name = self.name.clone();
        eventually(&format!("the end of {name}"), || {
            self.child.try_wait().expect("a child can be waited for")
        })
    }

    /// Asks it to stop and waits for its end.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let output = self.output();
            let lines: Vec<_> = output.lines().collect();
            let tail = lines
                .get(lines.len().saturating_sub(40)..)
                .unwrap_or_default();
            std::io::Write::write_all(
                &mut std::io::stderr(),
                format!("--- {}\n{}\n", self.name, tail.join("\n")).as_bytes(),
            )
            .ok();
        }
        // It may have ended by itself; either way it is gone and reaped afterwards.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// An HTTP answer.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body as text.
    pub body: String,
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(PATIENCE))
        .build()
        .into()
}

fn answer(
    response: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
) -> Result<Answer, ureq::Error> {
    let mut response = response?;
    Ok(Answer {
        status: response.status().as_u16(),
        body: response.body_mut().read_to_string()?,
    })
}

/// `GET url`.
///
/// # Errors
/// When there is no answer.
pub fn get(url: &str) -> Result<Answer, ureq::Error> {
    answer(agent().get(url).call())
}

/// `POST url` with headers and a body.
///
/// # Errors
/// When there is no answer.
pub fn post(url: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Answer, ureq::Error> {
    let request = headers
        .iter()
        .fold(agent().post(url), |request, (name, value)| {
            request.header(*name, *value)
        });
    answer(request.send(body))
}

/// A running agent.
#[derive(Debug)]
pub struct Agent {
    service: Service,
}

impl Agent {
    /// Writes `config` to `folder/agent.toml` and starts the agent with it.
    pub fn start(folder: &Path, config: &str) -> Self {
        let path = folder.join("agent.toml");
        fs::write(&path, config).expect("the folder is writable");
        let mut command = Command::new(binary("tidegate"));
        command
            .arg("run")
            .arg("--config")
            .arg(path)
            .env("CACHE_DIRECTORY", folder.join("cache"))
            .current_dir(folder);
        let mut service = Service::start("agent", &mut command, folder);
        service.wait_for(&["everything is ready"]);
        Self { service }
    }

    /// The process.
    pub fn service(&mut self) -> &mut Service {
        &mut self.service
    }

    /// Where it takes OTLP over HTTP.
    pub fn otlp_http(&mut self) -> String {
        format!(
            "http://{}",
            self.service.address(&["listening", "http", "otlp"])
        )
    }

    /// Where it takes OTLP over gRPC.
    pub fn otlp_grpc(&mut self) -> String {
        format!(
            "http://{}",
            self.service.address(&["listening", "grpc", "otlp"])
        )
    }

    /// Its own metrics, in the Prometheus text format.
    pub fn metrics(&mut self) -> String {
        let address = self.service.address(&["listening", "metrics"]);
        get(&format!("http://{address}/metrics"))
            .expect("the endpoint answers")
            .body
    }
}
