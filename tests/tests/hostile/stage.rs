//! The agent with every door that it has, and what it costs.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use e2e::{Agent, PATIENCE, get};

use crate::honest::Sent;

/// Where the agent can be reached.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Doors {
    pub(crate) grpc: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) grpc_tls: SocketAddr,
    pub(crate) http_tls: SocketAddr,
    /// Asks for a token.
    pub(crate) http_auth: SocketAddr,
    /// Asks for a password whose check is slow.
    pub(crate) http_slow: SocketAddr,
    pub(crate) health: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) metrics: SocketAddr,
}

impl Doors {
    pub(crate) fn all(&self) -> [SocketAddr; 9] {
        [
            self.grpc,
            self.http,
            self.grpc_tls,
            self.http_tls,
            self.http_auth,
            self.http_slow,
            self.health,
            self.admin,
            self.metrics,
        ]
    }

    /// Those that take HTTP/1 without TLS.
    pub(crate) fn plain_http(&self) -> [SocketAddr; 6] {
        [
            self.http,
            self.http_auth,
            self.http_slow,
            self.health,
            self.admin,
            self.metrics,
        ]
    }

    /// Those that take HTTP/2 without TLS.
    pub(crate) fn plain_http2(&self) -> [SocketAddr; 2] {
        [self.grpc, self.http]
    }
}

pub(crate) struct Stage {
    agent: Agent,
    id: u32,
    pub(crate) doors: Doors,
}

const CERTS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../agent/tests/otlp_receiver/certs"
);

/// `hunter2`, at a cost of some hundred milliseconds.
const USERS: &str = "me:$2b$12$abcdefghijklmnopqrstuuCEzSpXJ42scy/MOdv14p0ieHzvDXISW";

impl Stage {
    pub(crate) fn start(folder: &Path) -> Self {
        let config = format!(
            r#"
[receivers.otlp.protocols]
grpc = {{ endpoint = "127.0.0.1:0" }}
http = {{ endpoint = "127.0.0.1:0" }}
[receivers."otlp/tls".protocols.grpc]
endpoint = "127.0.0.1:0"
tls = {{ cert_file = "{CERTS}/server.crt", key_file = "{CERTS}/server.key" }}
[receivers."otlp/tls".protocols.http]
endpoint = "127.0.0.1:0"
tls = {{ cert_file = "{CERTS}/server.crt", key_file = "{CERTS}/server.key" }}
[receivers."otlp/auth".protocols.http]
endpoint = "127.0.0.1:0"
auth = {{ authenticator = "bearertokenauth" }}
[receivers."otlp/slow".protocols.http]
endpoint = "127.0.0.1:0"
auth = {{ authenticator = "basicauth" }}
[exporters.debug]
verbosity = "basic"
[extensions.bearertokenauth]
token = "hunter2"
[extensions.basicauth]
htpasswd = {{ inline = "{USERS}" }}
[extensions.health_check]
endpoint = "127.0.0.1:0"
[service]
extensions = ["health_check", "bearertokenauth", "basicauth"]
[service.admin]
endpoint = "127.0.0.1:0"
[service.telemetry.metrics]
address = "127.0.0.1:0"
[service.pipelines.logs]
receivers = ["otlp", "otlp/tls", "otlp/auth", "otlp/slow"]
exporters = ["debug"]
"#
        );
        let mut agent = Agent::start(folder, &config);
        let service = agent.service();
        let doors = Doors {
            grpc: service.address(&["listening", "\"otlp\"", "grpc"]),
            http: service.address(&["listening", "\"otlp\"", "http"]),
            grpc_tls: service.address(&["listening", "\"otlp/tls\"", "grpc"]),
            http_tls: service.address(&["listening", "\"otlp/tls\"", "http"]),
            http_auth: service.address(&["listening", "\"otlp/auth\""]),
            http_slow: service.address(&["listening", "\"otlp/slow\""]),
            health: service.address(&["health check listens"]),
            admin: service.address(&["commands are taken"]),
            metrics: service.address(&["metrics endpoint listening"]),
        };
        let id = agent.service().id();
        Self { agent, id, doors }
    }

    fn status(&self, field: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.id)).unwrap();
        let mut lines = text.lines();
        let line = lines.find_map(|line| line.strip_prefix(field)).unwrap();
        let kib: u64 = line.split_whitespace().next().unwrap().parse().unwrap();
        kib << 10
    }

    /// Resident bytes.
    pub(crate) fn memory(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// The most there ever were.
    pub(crate) fn memory_peak(&self) -> u64 {
        self.status("VmHWM:")
    }

    /// Open files and sockets.
    pub(crate) fn descriptors(&self) -> usize {
        let all = std::fs::read_dir(format!("/proc/{}/fd", self.id));
        all.unwrap().count()
    }

    /// Waits until the agent has no more than that.
    pub(crate) async fn eventually_quiet(&self, memory: u64, descriptors: usize) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let now = (self.memory(), self.descriptors());
            if now.0 <= memory && now.1 <= descriptors {
                return;
            }
            let wanted = (memory, descriptors);
            assert!(
                Instant::now() < deadline,
                "memory and descriptors {now:?}, wanted {wanted:?}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until the metrics say that what was taken is delivered, and checks that it is what was sent.
    pub(crate) async fn balances(&self, sent: &Sent) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let url = format!("http://{}/metrics", self.doors.metrics);
            let text = tokio::task::spawn_blocking(move || get(&url).unwrap().body)
                .await
                .unwrap();
            let sum = |name: &str| -> u64 {
                let lines = text.lines().filter(|line| line.starts_with(name));
                let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
                values.map(|value| value as u64).sum()
            };
            let accepted = sum("otelcol_receiver_accepted_log_records");
            let delivered = sum("tidegate_ledger_delivered_items");
            let dropped = sum("tidegate_ledger_dropped_items");
            assert_eq!(dropped, 0);
            // Of what an attacker sent whole, and of what an honest client did, nothing is missing.
            if accepted >= sent.items && accepted == delivered {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "accepted {accepted}, delivered {delivered}, {sent:?}\n{text}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) fn stop(mut self) {
        let output = self.agent.service().output();
        assert!(
            !output.contains("defect") && !output.contains("panicked"),
            "{output}"
        );
        assert!(self.agent.service().terminate().success());
    }
}
