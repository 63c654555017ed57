//! Everything a proof needs, started: database, fault proxy, agent.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::ValueEnum;
use rand::rngs::StdRng;

use super::children::{Program, free_addresses};
use super::http::Http;
use super::items::Run;
use super::ledger::Ledger;
use super::pauses::{Reloaded, Usage};
use super::reloads::{Overlay, PLUGINS, Places, plugin_file};
use super::tables::Tables;
use crate::faults::board::Board;
use crate::faults::proxy::{Protocol as Transport, Proxy};
use crate::otlp::client::{Protocol, Target};
use crate::otlp::compression::Compression;
use crate::otlp::signal::Signal;

/// How long the agent may take to stop: longer than its own drain timeout.
const STOP_MAX: Duration = Duration::from_secs(90);
/// However much is queued, waiting for it ends.
const SETTLE_MAX: Duration = Duration::from_secs(3600);
const POLL: Duration = Duration::from_millis(50);
/// What a runtime keeps ready for a while is gone by then.
const REST: Duration = Duration::from_secs(15);
/// The queue counts as empty when it was so in this many scrapes in a row.
const EMPTY_SCRAPES: u32 = 3;

/// The configuration that is laid over the agent's own.
const OVERLAY: &str = "overlay.toml";
/// The folder of the queue on disk, in that of the run.
pub(super) const QUEUE: &str = "queue";

/// Where the agent keeps what is not delivered yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Storage {
    /// A kill of the agent loses what it acknowledged: the proof must find that.
    Memory,
    /// On disk.
    Wal,
}

impl Storage {
    /// The lines of `sending_queue`.
    fn lines(self, setting: &Setting) -> String {
        let (dir, memory_queue_bytes) = (&setting.dir, setting.memory_queue_bytes);
        let wal_mib = setting.wal_mib;
        match self {
            Self::Memory => format!("sizer = \"bytes\"\nqueue_size = {memory_queue_bytes}"),
            Self::Wal => format!(
                "storage = \"wal\"\ndirectory = \"{}\"\nmax_size = \"{wal_mib}MiB\"\non_full = \"refuse\"\nfsync = \"always\"",
                dir.join(QUEUE).display()
            ),
        }
    }
}

/// What the stage is set with.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    pub(super) tidegate: PathBuf,
    /// The agent's configuration, with places to fill in.
    pub(super) config: String,
    pub(super) storage: Storage,
    pub(super) memory_queue_bytes: u64,
    /// MiB that the log of each signal may take on disk.
    pub(super) wal_mib: u64,
    /// The command that runs the agent's, given as its arguments; none if it runs by itself.
    pub(super) within: Vec<String>,
    pub(super) consumers: u32,
    pub(super) timeout: Duration,
    pub(super) memory_mib: u64,
    /// A database that is there; otherwise one is started.
    pub(super) database: Option<SocketAddr>,
    pub(super) dir: PathBuf,
    pub(super) seed: u64,
}

pub(super) struct Stage {
    /// None when a database was given.
    pub(super) database: Option<Program>,
    pub(super) agent: Program,
    pub(super) proxy: Proxy,
    pub(super) http: Http,
    pub(super) metrics: SocketAddr,
    /// Where the agent takes commands.
    admin: SocketAddr,
    /// For whatever a configuration may add.
    free: SocketAddr,
    dir: PathBuf,
    database_address: SocketAddr,
    otlp_http: SocketAddr,
    otlp_grpc: SocketAddr,
}

impl Stage {
    /// Starts everything. To be called on a thread that lives as long as the stage.
    ///
    /// # Errors
    /// When something does not start.
    pub(super) async fn set(setting: &Setting, random: &mut StdRng) -> anyhow::Result<Self> {
        let dir = &setting.dir;
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let [address, listen, otlp_http, otlp_grpc, metrics, admin, free] =
            free_addresses(random).await?;
        let (database, database_address) = match setting.database {
            Some(address) => (None, address),
            None => (Some(database(setting, address).await?), address),
        };
        let board = Arc::new(Board::new(setting.seed));
        let proxy = Proxy::start(listen, database_address, Transport::Http, board)?;
        let config = setting
            .config
            .replace("{http}", &otlp_http.to_string())
            .replace("{grpc}", &otlp_grpc.to_string())
            .replace("{metrics}", &metrics.to_string())
            .replace("{admin}", &admin.to_string())
            .replace("{clickhouse}", &proxy.address.to_string())
            .replace("{dir}", &dir.display().to_string())
            .replace("{consumers}", &setting.consumers.to_string())
            .replace("{timeout}", &format!("{}ms", setting.timeout.as_millis()))
            .replace("{memory_mib}", &setting.memory_mib.to_string())
            .replace("{queue}", &setting.storage.lines(setting));
        let path = dir.join("agent.toml");
        fs::write(&path, config).with_context(|| format!("cannot write {}", path.display()))?;
        let overlay = dir.join(OVERLAY);
        fs::write(&overlay, "").with_context(|| format!("cannot write {}", overlay.display()))?;
        for (flaw, content) in PLUGINS {
            let path = dir.join(plugin_file(flaw));
            fs::write(&path, content)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        let mut command = setting.within.clone();
        let own = [
            &setting.tidegate,
            Path::new("run"),
            Path::new("--config"),
            &path,
            Path::new("--config"),
            &overlay,
        ];
        command.extend(own.map(|part| part.display().to_string()));
        let ports = vec![otlp_http, otlp_grpc, metrics];
        let binary = PathBuf::from(command.remove(0));
        let mut agent = Program::new("agent", &binary, command, dir, ports);
        agent.start()?;
        agent.serves().await?;
        Ok(Self {
            database,
            agent,
            proxy,
            http: Http::new(),
            metrics,
            admin,
            free,
            dir: dir.clone(),
            database_address,
            otlp_http,
            otlp_grpc,
        })
    }

    /// Where a client sends to.
    ///
    /// # Errors
    /// None in practice: the addresses are ours.
    pub(super) fn target(&self, protocol: Protocol, signal: Signal) -> anyhow::Result<Target> {
        let address = match protocol {
            Protocol::Http => self.otlp_http,
            Protocol::Grpc => self.otlp_grpc,
        };
        Target::new(&address.to_string(), protocol, Compression::None, signal)
    }

    /// Gives the agent another configuration. Times are since `start`.
    ///
    /// # Errors
    /// When the configuration cannot be written.
    pub(super) async fn reload(
        &self,
        random: &mut StdRng,
        start: Instant,
    ) -> anyhow::Result<Reloaded> {
        let places = Places {
            dir: &self.dir,
            clickhouse: self.proxy.address.to_string(),
            free: self.free.to_string(),
            taken: self.database_address.to_string(),
        };
        let Overlay { flaw, text } = Overlay::draw(&places, random);
        fs::write(self.dir.join(OVERLAY), &text)?;
        let began = start.elapsed();
        let answer = self
            .http
            .ask(&format!("http://{}/reload", self.admin))
            .await;
        let ended = start.elapsed();
        let surprise = match (&answer, flaw) {
            (Ok((200, _)), None) | (Ok((422, _)), Some(_)) => None,
            (Ok((status, body)), _) => {
                let body = String::from_utf8_lossy(body);
                let problems = body.split("\"problems\"").last().unwrap_or_default();
                Some(format!("{status} with {flaw:?}: {problems}\n{text}"))
            }
            (Err(error), _) => Some(format!("{error:#}")),
        };
        Ok(Reloaded {
            began,
            ended,
            flaw,
            surprise,
            usage: self.usage().await,
        })
    }

    /// What the agent uses, as the system and the agent itself see it.
    pub(super) async fn usage(&self) -> Usage {
        let status = self
            .http
            .get(&format!("http://{}/status", self.admin))
            .await;
        let status = status
            .ok()
            .and_then(|body| serde_json::from_slice(&body).ok());
        let status: serde_json::Value = status.unwrap_or_default();
        let figure = |name: &str| status.pointer(name).and_then(serde_json::Value::as_u64);
        Usage {
            held_bytes: figure("/agent/held_bytes").unwrap_or(0),
            tasks: figure("/agent/tasks").unwrap_or(0),
            ..self.agent.usage()
        }
    }

    /// What the agent uses when it has nothing left to do: once `is_enough`, or after [`REST`]. Threads for work that blocks end when
    /// there has been none for ten seconds.
    pub(super) async fn usage_at_rest(&self, is_enough: impl Fn(Usage) -> bool) -> Usage {
        let deadline = Instant::now() + REST;
        loop {
            let usage = self.usage().await;
            if is_enough(usage) || Instant::now() > deadline {
                return usage;
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }

    /// The tables of this run, past the proxy.
    pub(super) fn tables(&self, run: &Run) -> Tables {
        let url = format!("http://{}/", self.database_address);
        Tables::new(self.http.clone(), url, run.clone())
    }

    /// Waits until the agent's queues are empty, or nothing was delivered for `patience`; its last ledger, and whether
    /// they are.
    ///
    /// # Errors
    /// When the agent has ended.
    pub(super) async fn settle(&mut self, patience: Duration) -> anyhow::Result<(Ledger, bool)> {
        let begun = Instant::now();
        let mut progress = begun;
        let mut empty = 0;
        let mut last = Ledger::default();
        while progress.elapsed() < patience && begun.elapsed() < SETTLE_MAX {
            self.agent.check_alive()?;
            if let Ok(ledger) = Ledger::scrape(&self.http, self.metrics).await {
                let total = ledger.total();
                let is_empty = total.queued == 0 && total.is_balanced();
                empty = if is_empty { empty + 1 } else { 0 };
                if total.delivered != last.total().delivered {
                    progress = Instant::now();
                }
                last = ledger;
            }
            if empty >= EMPTY_SCRAPES {
                return Ok((last, true));
            }
            tokio::time::sleep(POLL).await;
        }
        Ok((last, false))
    }

    /// Stops the agent in order.
    ///
    /// # Errors
    /// When it has ended already, or does not stop.
    pub(super) async fn stop_agent(&mut self) -> anyhow::Result<ExitStatus> {
        self.agent.stop(STOP_MAX).await
    }
}

impl Stage {
    /// Stops the database in order, if it is ours.
    ///
    /// # Errors
    /// When it has ended already, or does not stop.
    pub(super) async fn close(mut self) -> anyhow::Result<()> {
        if let Some(mut database) = self.database.take() {
            database.stop(STOP_MAX).await?;
        }
        Ok(())
    }
}

async fn database(setting: &Setting, address: SocketAddr) -> anyhow::Result<Program> {
    let path = setting.dir.join("db").display().to_string();
    let listen = address.to_string();
    let arguments = ["localdb", "--listen", &listen, "--path", &path].map(str::to_owned);
    let mut database = Program::new(
        "localdb",
        &setting.tidegate,
        arguments.to_vec(),
        &setting.dir,
        vec![address],
    );
    database.start()?;
    database.serves().await?;
    Ok(database)
}
