//! A `tidegate localdb` process with its data in a folder of its own.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;

use crate::http::{Reply, escape, send};

const START_TIMEOUT: Duration = Duration::from_secs(60);
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// The folder of the build that this test belongs to, such as `target/debug`.
///
/// # Errors
/// When the test was not built by cargo.
pub fn build_dir() -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let folder = test.parent().and_then(Path::parent);
    folder
        .map(Path::to_path_buf)
        .context("the test is not in cargo's target folder")
}

/// A running localdb; killed when dropped.
pub struct LocalDb {
    child: Child,
    lines: Receiver<String>,
    /// `http://127.0.0.1:PORT`.
    pub url: String,
}

impl LocalDb {
    /// Starts a localdb on the data in `path`, an existing folder, and waits until it listens.
    ///
    /// # Errors
    /// What it says when it does not start, such as how to install the engine.
    pub fn start(path: &Path) -> Result<Self> {
        Self::start_with(path, &[])
    }

    /// As [`LocalDb::start`], with more arguments.
    ///
    /// # Errors
    /// As [`LocalDb::start`].
    pub fn start_with(path: &Path, arguments: &[&str]) -> Result<Self> {
        let mut child = Command::new(crate::binary("tidegate"))
            .args(["localdb", "--listen", "127.0.0.1:0", "--path"])
            .arg(path)
            .args(arguments)
            .current_dir(path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let stderr = child.stderr.take().context("stderr is piped")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut database = Self {
            child,
            lines,
            url: String::new(),
        };
        database.url = database.await_url()?;
        Ok(database)
    }

    fn await_url(&mut self) -> Result<String> {
        let deadline = Instant::now() + START_TIMEOUT;
        let mut said = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    if let Some((_, rest)) = line.split_once("listening on ") {
                        let url: String = rest.chars().take_while(|&next| is_url(next)).collect();
                        return Ok(url);
                    }
                    said.push(line);
                }
                Err(RecvTimeoutError::Timeout) => {
                    bail!("localdb does not start:\n{}", said.join("\n"))
                }
                Err(RecvTimeoutError::Disconnected) => {
                    bail!(
                        "localdb ended ({}):\n{}",
                        self.child.wait()?,
                        said.join("\n")
                    )
                }
            }
        }
    }

    /// The process.
    pub fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// Its resident memory in bytes: now and at the peak.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn memory(&self) -> Result<(u64, u64)> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let field = |name: &str| -> Option<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim()
                .trim_end_matches(" kB")
                .parse::<u64>()
                .ok()
                .map(|kib| kib << 10)
        };
        field("VmRSS:")
            .zip(field("VmHWM:"))
            .context("no memory in /proc/PID/status")
    }

    /// Runs a query by POST and returns the answer whatever it is.
    ///
    /// # Errors
    /// When the connection fails.
    pub async fn post(&self, parameters: &str, body: impl Into<Bytes>) -> Result<Reply> {
        send("POST", &format!("{}/?{parameters}", self.url), &[], body).await
    }

    /// Runs a query and returns its rows in TabSeparated, without the last line end.
    ///
    /// # Errors
    /// The exception, if it is one.
    pub async fn query(&self, sql: &str) -> Result<String> {
        let reply = self.post("", sql.to_owned()).await?;
        ensure!(reply.status == 200, "{sql}: {}", reply.text());
        Ok(reply.text().trim_end_matches('\n').to_owned())
    }

    /// Inserts rows that follow the query in the URL.
    ///
    /// # Errors
    /// When the connection fails.
    pub async fn insert(
        &self,
        sql: &str,
        parameters: &str,
        rows: impl Into<Bytes>,
    ) -> Result<Reply> {
        self.post(&format!("query={}&{parameters}", escape(sql)), rows)
            .await
    }

    /// Sends a signal by name.
    ///
    /// # Errors
    /// When `kill` cannot be run.
    pub fn signal(&self, name: &str) -> Result<()> {
        let id = self.child.id().to_string();
        let status = Command::new("kill")
            .args([&format!("-{name}"), &id])
            .status()?;
        ensure!(status.success(), "kill -{name} {id}: {status}");
        Ok(())
    }

    /// Waits for the process to end by itself; the status and what it said since it listened.
    ///
    /// # Errors
    /// When it does not end within a minute.
    pub fn wait(mut self) -> Result<(ExitStatus, Vec<String>)> {
        let deadline = Instant::now() + STOP_TIMEOUT;
        let mut said = Vec::new();
        // The lines end with the process.
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => said.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    bail!("localdb does not stop:\n{}", said.join("\n"))
                }
            }
        }
        Ok((self.child.wait()?, said))
    }

    /// Stops it as an operator does and checks that it ends well.
    ///
    /// # Errors
    /// When it ends with another status than success.
    pub fn stop(self) -> Result<()> {
        self.signal("TERM")?;
        let (status, said) = self.wait()?;
        ensure!(
            status.success(),
            "localdb ended with {status}:\n{}",
            said.join("\n")
        );
        Ok(())
    }
}

impl Drop for LocalDb {
    fn drop(&mut self) {
        // Already ended is fine: the goal is that nothing is left running.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn is_url(character: char) -> bool {
    character.is_ascii_alphanumeric() || ":/.[]".contains(character)
}
