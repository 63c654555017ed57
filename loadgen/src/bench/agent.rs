//! A started agent: a child process that is watched, and killed at the latest when it is dropped.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::peer::{Peer, Places};
use crate::process::{self, Process};

const START_MAX: Duration = Duration::from_secs(20);
const STOP_MAX: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub(crate) struct Agent {
    child: Child,
    log: PathBuf,
    /// The process that has the listening socket.
    pub(crate) serving: Process,
    /// From its start until it accepted connections.
    pub(crate) start_time: Duration,
}

impl Agent {
    /// Starts the agent on `core` and waits until it accepts connections on `port`.
    ///
    /// # Errors
    /// When it cannot be started, ends, or does not listen within 20 seconds.
    pub(crate) fn start(
        peer: &Peer,
        places: &Places,
        port: u16,
        core: Option<usize>,
    ) -> anyhow::Result<Self> {
        if let Some((_, text)) = &peer.config {
            let path = peer.config_path(&places.dir);
            fs::write(&path, peer.render(text, places))
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        let log = places.dir.join("agent.log");
        let out = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = Command::new(&peer.binary);
        command
            .args(
                peer.arguments
                    .iter()
                    .map(|argument| peer.render(argument, places)),
            )
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .envs(
                peer.environment
                    .iter()
                    .map(|(name, value)| (name, peer.render(value, places))),
            )
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .process_group(0);
        process::pin_and_bind_life(&mut command, core);
        let started = Instant::now();
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}", peer.binary.display()))?;
        let serving = Process::new(child.id());
        let mut agent = Self {
            child,
            log,
            serving,
            start_time: Duration::ZERO,
        };
        agent.start_time = agent.wait_until_it_serves(port)?.duration_since(started);
        Ok(agent)
    }

    /// When it accepted a connection, to within a poll.
    fn wait_until_it_serves(&mut self, port: u16) -> anyhow::Result<Instant> {
        let deadline = Instant::now() + START_MAX;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended at start ({status}):\n{}", self.log_end());
            }
            let connected = TcpStream::connect_timeout(&address, POLL).is_ok();
            let now = Instant::now();
            if connected && let Some(serving) = process::serving(self.serving, port)? {
                self.serving = serving;
                return Ok(now);
            }
            std::thread::sleep(POLL);
        }
        bail!(
            "it did not listen on port {port} within {START_MAX:?}:\n{}",
            self.log_end()
        );
    }

    /// # Errors
    /// When the agent is no longer there; with the end of its log.
    pub(crate) fn check_alive(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!(
                "it ended during the measurement ({status}):\n{}",
                self.log_end()
            ),
            None => Ok(()),
        }
    }

    /// Asks it to stop and waits; kills it after 15 seconds.
    ///
    /// # Errors
    /// When it had to be killed.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        process::terminate(self.child.id()).context("cannot signal the agent")?;
        let deadline = Instant::now() + STOP_MAX;
        while Instant::now() < deadline {
            if self.child.try_wait()?.is_some() {
                return Ok(());
            }
            std::thread::sleep(POLL);
        }
        bail!("it did not stop within {STOP_MAX:?} of SIGTERM and was killed");
    }

    /// Gives it the configuration of this turn, and tells it so (SIGHUP).
    ///
    /// # Errors
    /// When it has none, or that cannot be written, or it is gone.
    pub(crate) fn reload(&self, peer: &Peer, places: &Places, turn: u64) -> anyhow::Result<()> {
        let (_, text) = peer.config.as_ref().context("it has no configuration")?;
        let path = peer.config_path(&places.dir);
        let new = path.with_extension("new");
        fs::write(&new, peer.render_turn(text, places, turn))
            .and_then(|()| fs::rename(&new, &path))
            .with_context(|| format!("cannot write {}", path.display()))?;
        process::hang_up(self.child.id()).context("cannot signal the agent")
    }

    /// Ends it as a crash would.
    ///
    /// # Errors
    /// When it is not there to be killed.
    pub(crate) fn kill(mut self) -> anyhow::Result<()> {
        self.check_alive()?;
        process::kill_group(self.child.id()).context("cannot kill the agent")?;
        self.child.wait()?;
        Ok(())
    }

    pub(super) fn log_end(&self) -> String {
        process::log_end(&self.log)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // The kernel also kills it should we die first. An error means that all have ended already.
        drop(process::kill_group(self.child.id()));
        drop(self.child.wait());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(script: &str) -> Peer {
        let mut peer = Peer::rotel(PathBuf::from("/bin/sh"));
        peer.arguments = vec!["-c".to_owned(), script.to_owned()];
        peer
    }

    fn start(script: &str) -> anyhow::Result<Agent> {
        let dir = tempfile::tempdir()?;
        let [http_port, grpc_port] = process::free_port_array()?;
        let places = Places {
            http_port,
            grpc_port,
            metrics_port: 1,
            sink: "127.0.0.1:1".parse()?,
            sink_http: "127.0.0.1:1".parse()?,
            sink_grpc: "127.0.0.1:1".parse()?,
            dir: dir.path().to_owned(),
        };
        Agent::start(&peer(script), &places, places.http_port, None)
    }

    #[test]
    fn an_agent_that_ends_at_start_is_an_error_with_its_log() {
        let error = start("echo no such table; exit 3").unwrap_err().to_string();
        assert!(
            error.contains("no such table") && error.contains('3'),
            "{error}"
        );
    }

    #[test]
    fn a_missing_binary_is_an_error() {
        let mut peer = peer("");
        peer.binary = PathBuf::from("/nonexistent/agent");
        let dir = tempfile::tempdir().unwrap();
        let places = Places {
            http_port: 1,
            grpc_port: 2,
            metrics_port: 3,
            sink: "127.0.0.1:1".parse().unwrap(),
            sink_http: "127.0.0.1:1".parse().unwrap(),
            sink_grpc: "127.0.0.1:1".parse().unwrap(),
            dir: dir.path().to_owned(),
        };
        let error = Agent::start(&peer, &places, 1, None)
            .unwrap_err()
            .to_string();
        assert!(error.contains("/nonexistent/agent"), "{error}");
    }
}
