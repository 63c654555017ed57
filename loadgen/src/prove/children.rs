//! The processes that are killed and started again: their command lines, logs and ports.

use std::fs::{File, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rand::Rng as _;
use rand::rngs::StdRng;
use tokio::net::{TcpListener, TcpStream};

use super::pauses::Usage;
use crate::process::{self, PORTS, Process};

const POLL: Duration = Duration::from_millis(5);
/// A process that does not serve within this time never will. Generous: the machine may be busy.
const START_MAX: Duration = Duration::from_secs(60);

/// A program that can be started more than once.
#[derive(Debug)]
pub(super) struct Program {
    name: &'static str,
    binary: PathBuf,
    arguments: Vec<String>,
    dir: PathBuf,
    /// Where it listens once it serves.
    ports: Vec<SocketAddr>,
    running: Option<std::process::Child>,
    /// The most memory it had in its earlier lives, bytes.
    peak_memory: u64,
}

impl Program {
    pub(super) fn new(
        name: &'static str,
        binary: &Path,
        arguments: Vec<String>,
        dir: &Path,
        ports: Vec<SocketAddr>,
    ) -> Self {
        Self {
            name,
            binary: binary.to_owned(),
            arguments,
            dir: dir.to_owned(),
            ports,
            running: None,
            peak_memory: 0,
        }
    }

    /// Starts it; its output is added to its log. To be called on a thread that lives as long as the program may:
    /// the kernel kills it with that thread.
    ///
    /// # Errors
    /// When the binary cannot be run or the log not be written.
    pub(super) fn start(&mut self) -> anyhow::Result<()> {
        let log = self.log()?;
        let mut command = Command::new(&self.binary);
        command
            .args(&self.arguments)
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0);
        process::pin_and_bind_life(&mut command, None);
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}", self.binary.display()))?;
        self.running = Some(child);
        Ok(())
    }

    fn log_path(&self) -> PathBuf {
        self.dir.join(format!("{}.log", self.name))
    }

    fn log(&self) -> anyhow::Result<File> {
        let path = self.log_path();
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Waits until it accepts connections on all its ports.
    ///
    /// # Errors
    /// When it ends, or does not within a minute; with the end of its log.
    pub(super) async fn serves(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_MAX;
        let mut ports = self.ports.clone();
        while let Some(port) = ports.last() {
            if TcpStream::connect(port).await.is_ok() {
                ports.pop();
                continue;
            }
            self.check_alive()?;
            if Instant::now() > deadline {
                bail!(
                    "{} does not listen on {port} after {START_MAX:?}:\n{}",
                    self.name,
                    self.log_end()
                );
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// # Errors
    /// When it has ended; with the end of its log.
    pub(super) fn check_alive(&mut self) -> anyhow::Result<()> {
        let name = self.name;
        let ended = match &mut self.running {
            Some(child) => child.try_wait()?.map(|status| status.to_string()),
            None => Some("not started".to_owned()),
        };
        match ended {
            Some(status) => bail!("{name} has ended ({status}):\n{}", self.log_end()),
            None => Ok(()),
        }
    }

    /// Waits until it ends by itself, and returns the end of its log.
    ///
    /// # Errors
    /// When it does not, within a minute.
    pub(super) async fn fails(&mut self) -> anyhow::Result<String> {
        let deadline = Instant::now() + START_MAX;
        while self.check_alive().is_ok() {
            if Instant::now() > deadline {
                bail!("{} has not ended after {START_MAX:?}", self.name);
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(self.log_end())
    }

    /// Kills it (SIGKILL) and waits until it is gone. It must have been alive.
    ///
    /// # Errors
    /// When it had ended before by itself.
    pub(super) fn kill(&mut self) -> anyhow::Result<()> {
        self.check_alive()?;
        self.remember_memory();
        if let Some(mut child) = self.running.take() {
            process::kill_group(child.id())
                .with_context(|| format!("cannot kill {}", self.name))?;
            child.wait()?;
        }
        Ok(())
    }

    /// Asks it to stop (SIGTERM) and waits.
    ///
    /// # Errors
    /// When it had ended before, or does not end within `limit`: it is killed then.
    pub(super) async fn stop(&mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        self.check_alive()?;
        self.remember_memory();
        let mut child = self.running.take().context("it runs")?;
        process::terminate(child.id()).with_context(|| format!("cannot stop {}", self.name))?;
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                self.running = Some(child);
                bail!(
                    "{} does not stop within {limit:?} of SIGTERM:\n{}",
                    self.name,
                    self.log_end()
                );
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn remember_memory(&mut self) {
        self.peak_memory = self.peak_memory();
    }

    /// The most resident memory it had in any of its lives, bytes.
    pub(super) fn peak_memory(&self) -> u64 {
        let now = self
            .running
            .as_ref()
            .and_then(|child| Process::new(child.id()).peak_memory().ok());
        self.peak_memory.max(now.unwrap_or(0))
    }

    /// What it uses now, as the system sees it.
    pub(super) fn usage(&self) -> Usage {
        let Some(child) = &self.running else {
            return Usage::default();
        };
        let count = |what: &str| {
            let entries = std::fs::read_dir(format!("/proc/{}/{what}", child.id()));
            entries.map_or(0, |entries| entries.count() as u64)
        };
        Usage {
            memory_bytes: Process::new(child.id()).memory().unwrap_or(0),
            held_bytes: 0,
            files: count("fd"),
            threads: count("task"),
            tasks: 0,
        }
    }

    pub(super) fn log_end(&self) -> String {
        process::log_end(&self.log_path())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Some(child) = &mut self.running {
            // An error means that all have ended already.
            drop(process::kill_group(child.id()));
            drop(child.wait());
        }
    }
}

/// Loopback addresses that nobody uses right now and that outgoing connections do not get, all different.
///
/// # Errors
/// When a hundred tries found too few.
pub(super) async fn free_addresses<const COUNT: usize>(
    random: &mut StdRng,
) -> anyhow::Result<[SocketAddr; COUNT]> {
    let mut found = Vec::with_capacity(COUNT);
    for _ in 0..100 {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, random.random_range(PORTS)));
        if !found.contains(&address) && TcpListener::bind(address).await.is_ok() {
            found.push(address);
        }
        if let Ok(addresses) = <[_; COUNT]>::try_from(found.as_slice()) {
            return Ok(addresses);
        }
    }
    bail!("too few free ports from {} to {}", PORTS.start, PORTS.end);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, dir: &Path) -> Program {
        let arguments = vec!["-c".to_owned(), script.to_owned()];
        let nobody = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        Program::new("test", Path::new("/bin/sh"), arguments, dir, vec![nobody])
    }

    #[tokio::test]
    async fn a_program_that_ends_by_itself_is_an_error_with_its_log() {
        let dir = tempfile::tempdir().unwrap();
        let mut program = shell("echo no such table; exit 3", dir.path());
        program.start().unwrap();
        let error = program.serves().await.unwrap_err().to_string();
        assert!(error.contains("no such table"), "{error}");
        assert!(program.kill().is_err());
        assert!(program.stop(Duration::ZERO).await.is_err());
    }

    #[tokio::test]
    async fn a_program_is_killed_and_started_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut program = shell("echo here; exec sleep 600", dir.path());
        for _ in 0..2 {
            program.start().unwrap();
            program.kill().unwrap();
        }
        program.start().unwrap();
        assert!(program.peak_memory() > 0);
        let status = program.stop(Duration::from_secs(60)).await.unwrap();
        assert!(!status.success());
    }
}
