//! Agents that can be measured: how each is started, as data.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

use anyhow::Context as _;
use serde::Serialize;

use super::cell::{Cell, Work};
use super::sink::SinkThread;
use crate::otlp::client::Protocol;

/// The release of Rotel that figures are compared with.
pub(crate) const ROTEL_VERSION: &str = "0.0.1a15";

/// The name of the reverse proxy that passing through is compared with.
pub(crate) const PROXY: &str = "nginx (proxy)";

/// The name of the agent with its queue in memory that the one with a queue on disk is compared with.
pub(crate) const IN_MEMORY: &str = "tidegate (memory)";

/// How to start an agent. In arguments, configuration and environment, `{http_port}`, `{grpc_port}`,
/// `{metrics_port}`, `{turn}` (another digit after each reload), `{sink}`, `{sink_http}` and `{sink_grpc}` (host:port of a ClickHouse server and of OTLP servers), `{config}` (the
/// rendered configuration's path) and `{dir}` (an empty directory of its own) stand for what they say.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Peer {
    pub(crate) name: String,
    /// What it does in this configuration.
    pub(crate) work: Work,
    pub(crate) binary: PathBuf,
    pub(crate) arguments: Vec<String>,
    pub(crate) environment: Vec<(String, String)>,
    /// Name and text of its configuration file.
    pub(crate) config: Option<(String, String)>,
    /// What makes the binary tell its version.
    #[serde(skip)]
    version_argument: &'static str,
    pub(crate) version: String,
    /// Whether it writes what it receives to the sink.
    pub(crate) delivers: bool,
    /// Whether it answers when what it receives is on disk.
    pub(crate) durable: bool,
    /// Measured in every cell, or only where agents are compared.
    pub(crate) everywhere: bool,
    /// What a reader should know about its figures.
    pub(crate) note: String,
}

/// The ports and paths of one start.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    pub(crate) http_port: u16,
    pub(crate) grpc_port: u16,
    pub(crate) metrics_port: u16,
    /// A ClickHouse server.
    pub(crate) sink: SocketAddr,
    /// An OTLP server over HTTP.
    pub(crate) sink_http: SocketAddr,
    /// An OTLP server over gRPC.
    pub(crate) sink_grpc: SocketAddr,
    pub(crate) dir: PathBuf,
}

impl Places {
    /// Free ports, and a directory in `parent` that is `name`'s and holds no queue.
    ///
    /// # Errors
    /// When the directory cannot be made, or there are no ports.
    pub(crate) fn new(parent: &Path, name: &str, sink: &SinkThread) -> anyhow::Result<Self> {
        let dir = parent.join(name.replace([' ', ',', '(', ')'], "_"));
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let [http_port, grpc_port, metrics_port] = crate::process::free_port_array()?;
        let places = Self {
            http_port,
            grpc_port,
            metrics_port,
            sink: sink.clickhouse,
            sink_http: sink.otlp_http,
            sink_grpc: sink.otlp_grpc,
            dir,
        };
        places.remove_queue()?;
        Ok(places)
    }

    pub(crate) fn port(&self, protocol: Protocol) -> u16 {
        match protocol {
            Protocol::Http => self.http_port,
            Protocol::Grpc => self.grpc_port,
        }
    }

    /// Where a queue on disk lies.
    pub(crate) fn queue(&self) -> PathBuf {
        self.dir.join("queue")
    }

    /// # Errors
    /// When there is a queue that cannot be removed.
    pub(crate) fn remove_queue(&self) -> anyhow::Result<()> {
        let queue = self.queue();
        match fs::remove_dir_all(&queue) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", queue.display()))
            }
            _ => Ok(()),
        }
    }
}

impl Peer {
    /// Tidegate with its batch processor; `config` replaces the built-in configuration.
    pub(crate) fn tidegate(binary: PathBuf, config: Option<String>) -> Self {
        Self {
            name: "tidegate".to_owned(),
            work: Work::ClickHouse,
            binary,
            arguments: words(&["run", "--config", "{config}"]),
            environment: Vec::new(),
            config: Some((
                "tidegate.toml".to_owned(),
                config.unwrap_or_else(|| TIDEGATE.to_owned()),
            )),
            version_argument: "--version",
            version: String::new(),
            delivers: true,
            durable: false,
            everywhere: true,
            note: "batch processor and sending queue at their defaults, no memory limiter"
                .to_owned(),
        }
    }

    pub(crate) fn rotel(binary: PathBuf) -> Self {
        Self {
            name: "rotel".to_owned(),
            work: Work::ClickHouse,
            binary,
            arguments: words(&[
                "start",
                "--otlp-http-endpoint",
                "127.0.0.1:{http_port}",
                "--otlp-grpc-endpoint",
                "127.0.0.1:{grpc_port}",
                "--exporter",
                "clickhouse",
                "--clickhouse-exporter-endpoint",
                "http://{sink}",
            ]),
            environment: Vec::new(),
            config: None,
            version_argument: "--version",
            version: String::new(),
            delivers: true,
            durable: false,
            everywhere: false,
            note: format!(
                "release {ROTEL_VERSION} of PyPI (its binary names an older one), all settings at their defaults (batch 8192 or 200 ms, LZ4, RowBinary, \
                 internal telemetry off); it may run on one core, so it has one worker thread of each kind"
            ),
        }
    }

    /// The floor: a web server that reads requests and throws them away.
    pub(crate) fn nginx(binary: PathBuf) -> Self {
        Self {
            name: "nginx (floor)".to_owned(),
            work: Work::ClickHouse,
            binary,
            arguments: words(&["-p", "{dir}", "-e", "stderr", "-c", "{config}"]),
            environment: Vec::new(),
            config: Some(("nginx.conf".to_owned(), NGINX.to_owned())),
            version_argument: "-v",
            version: String::new(),
            delivers: false,
            durable: false,
            everywhere: false,
            note: "receives and discards the same requests: what the kernel and HTTP alone cost; it answers before it \
                   has read the body, so its latency says nothing"
                .to_owned(),
        }
    }

    /// Tidegate as a relay.
    pub(crate) fn tidegate_passthrough(binary: PathBuf) -> Self {
        Self {
            name: "tidegate (passthrough)".to_owned(),
            work: Work::Passthrough,
            note: "batch processor and sending queues at their defaults, no memory limiter; everything is validated"
                .to_owned(),
            ..Self::tidegate(binary, Some(TIDEGATE_PASSTHROUGH.to_owned()))
        }
    }

    /// Tidegate as a relay under a memory limit.
    pub(crate) fn tidegate_overload(binary: PathBuf) -> Self {
        Self {
            name: "tidegate (overload)".to_owned(),
            work: Work::Overload,
            note: format!(
                "the same with a memory limit of {} MiB",
                super::overload::LIMIT_MIB
            ),
            ..Self::tidegate(binary, Some(TIDEGATE_OVERLOAD.to_owned()))
        }
    }

    /// Tidegate in a configuration that can be changed all the time.
    pub(crate) fn tidegate_reloading(binary: PathBuf) -> Self {
        let config = TIDEGATE_RELOAD.replace("{queue}", "storage = \"memory\"");
        Self {
            name: "tidegate (reload)".to_owned(),
            work: Work::Reload,
            note: "receiver, batch processor and exporter replaced by each reload".to_owned(),
            ..Self::tidegate(binary, Some(config))
        }
    }

    /// The same with its queue on disk.
    pub(crate) fn tidegate_reloading_durable(binary: PathBuf) -> Self {
        let queue = "storage = \"wal\"\ndirectory = \"{dir}/queue\"\nmax_size = \"8GiB\"";
        Self {
            name: "tidegate (reload, durable)".to_owned(),
            durable: true,
            config: Some((
                "tidegate.toml".to_owned(),
                TIDEGATE_RELOAD.replace("{queue}", queue),
            )),
            note: "the same with a queue on disk".to_owned(),
            ..Self::tidegate_reloading(binary)
        }
    }

    /// Tidegate with its queue in memory, to compare the one on disk with.
    pub(crate) fn tidegate_in_memory(binary: PathBuf) -> Self {
        Self {
            name: IN_MEMORY.to_owned(),
            work: Work::Durable,
            ..Self::tidegate(binary, None)
        }
    }

    /// Tidegate with its queue on disk.
    pub(crate) fn tidegate_durable(binary: PathBuf) -> Self {
        Self {
            name: "tidegate (durable)".to_owned(),
            work: Work::Durable,
            durable: true,
            note: "the same with a queue on disk, synced before clients are answered".to_owned(),
            ..Self::tidegate(binary, Some(TIDEGATE_DURABLE.to_owned()))
        }
    }

    /// What passing through is compared with: a reverse proxy that looks at nothing, as it comes.
    pub(crate) fn nginx_proxy(binary: PathBuf) -> Self {
        let config = NGINX_PROXY
            .replace("{upstream}", "")
            .replace("{location}", "");
        Self {
            name: PROXY.to_owned(),
            work: Work::Passthrough,
            config: Some(("nginx.conf".to_owned(), config)),
            delivers: true,
            note: "a plain reverse proxy for the same requests over HTTP: one process, each request buffered in memory; \
                   it answers when the sink has. As always unless told otherwise, it opens a connection to the sink for \
                   each request"
                .to_owned(),
            ..Self::nginx(binary)
        }
    }

    /// The same, told to keep its connections to the sink.
    pub(crate) fn nginx_proxy_keeping(binary: PathBuf) -> Self {
        let config = NGINX_PROXY
            .replace(
                "{upstream}",
                "\n        keepalive 64;\n        keepalive_requests 1000000000;",
            )
            .replace(
                "{location}",
                "\n            proxy_http_version 1.1;\n            proxy_set_header Connection \"\";",
            );
        Self {
            name: "nginx (proxy, keepalive)".to_owned(),
            config: Some(("nginx.conf".to_owned(), config)),
            note: "the same, told to keep its connections to the sink".to_owned(),
            ..Self::nginx_proxy(binary)
        }
    }

    /// Whether it is measured in this cell.
    pub(crate) fn takes_part(&self, cell: Cell) -> bool {
        self.work == cell.work && (self.everywhere || cell.is_compared())
    }

    /// Asks the binary for its version; the version stays unknown when it does not say.
    pub(crate) fn ask_version(&mut self) {
        let said = Command::new(&self.binary)
            .arg(self.version_argument)
            .env_clear()
            .output();
        let text = said.map(|said| {
            let whole = [said.stdout, said.stderr].concat();
            String::from_utf8_lossy(&whole)
                .lines()
                .next()
                .unwrap_or_default()
                .trim()
                .to_owned()
        });
        self.version = text.unwrap_or_else(|error| format!("unknown ({error})"));
    }

    pub(crate) fn render(&self, template: &str, places: &Places) -> String {
        self.render_turn(template, places, 0)
    }

    /// The same with the figure that makes one configuration another than the one before.
    pub(crate) fn render_turn(&self, template: &str, places: &Places, turn: u64) -> String {
        let config = self.config_path(&places.dir);
        template
            .replace("{turn}", &turn.to_string())
            .replace("{http_port}", &places.http_port.to_string())
            .replace("{grpc_port}", &places.grpc_port.to_string())
            .replace("{metrics_port}", &places.metrics_port.to_string())
            .replace("{sink}", &places.sink.to_string())
            .replace("{sink_http}", &places.sink_http.to_string())
            .replace("{sink_grpc}", &places.sink_grpc.to_string())
            .replace("{config}", &config.display().to_string())
            .replace("{dir}", &places.dir.display().to_string())
    }

    pub(crate) fn config_path(&self, dir: &Path) -> PathBuf {
        dir.join(self.config.as_ref().map_or("none", |(name, _)| name))
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

const TIDEGATE: &str = include_str!("configs/tidegate.toml");
const TIDEGATE_PASSTHROUGH: &str = include_str!("configs/passthrough.toml");
const TIDEGATE_DURABLE: &str = include_str!("configs/durable.toml");
const TIDEGATE_RELOAD: &str = include_str!("configs/reload.toml");
const TIDEGATE_OVERLOAD: &str = include_str!("configs/overload.toml");
const NGINX: &str = include_str!("configs/nginx.conf");
const NGINX_PROXY: &str = include_str!("configs/nginx-proxy.conf");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_rendered_completely() {
        let places = Places {
            http_port: 1,
            grpc_port: 2,
            metrics_port: 6,
            sink: "127.0.0.1:3".parse().unwrap(),
            sink_http: "127.0.0.1:4".parse().unwrap(),
            sink_grpc: "127.0.0.1:5".parse().unwrap(),
            dir: PathBuf::from("/x"),
        };
        let peers = [
            Peer::tidegate(PathBuf::new(), None),
            Peer::rotel(PathBuf::new()),
            Peer::nginx(PathBuf::new()),
            Peer::tidegate_passthrough(PathBuf::new()),
            Peer::tidegate_in_memory(PathBuf::new()),
            Peer::tidegate_durable(PathBuf::new()),
            Peer::tidegate_overload(PathBuf::new()),
            Peer::nginx_proxy(PathBuf::new()),
            Peer::nginx_proxy_keeping(PathBuf::new()),
        ];
        for peer in peers {
            let config = peer.config.clone().map(|(_, text)| text);
            for template in peer.arguments.iter().chain(&config) {
                let text = peer.render(template, &places);
                for placeholder in [
                    "{http_port}",
                    "{grpc_port}",
                    "{metrics_port}",
                    "{sink}",
                    "{sink_http}",
                    "{sink_grpc}",
                    "{config}",
                    "{dir}",
                    "{upstream}",
                    "{location}",
                ] {
                    assert!(!text.contains(placeholder), "{}: {text}", peer.name);
                }
            }
        }
        let peer = Peer::tidegate(PathBuf::new(), Some("a = {sink}".to_owned()));
        assert_eq!(
            peer.render(&peer.config.clone().unwrap().1, &places),
            "a = 127.0.0.1:3"
        );
        assert_eq!(peer.render("{config}", &places), "/x/tidegate.toml");
    }
}
