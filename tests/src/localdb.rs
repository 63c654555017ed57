//! The real ClickHouse engine: a `tidegate localdb` process with its data in a folder of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;

use crate::http::{Reply, escape, send};
use crate::{PATIENCE, Service};

/// What it says once it can be reached, before the address.
const LISTENING: &str = "listening on ";

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
#[derive(Debug)]
pub struct LocalDb {
    service: Service,
    /// `http://127.0.0.1:PORT`.
    pub url: String,
}

impl LocalDb {
    /// Starts it on the data in `folder/db` and a free port.
    pub fn start(folder: &Path) -> Self {
        Self::start_at(folder, "127.0.0.1:0")
    }

    /// Starts it on the data in `folder/db` and this address.
    pub fn start_at(folder: &Path, listen: &str) -> Self {
        Self::run(folder, &folder.join("db"), listen, &[]).expect("localdb starts")
    }

    /// Starts it on the data in `path`, an existing folder, and a free port, with more arguments.
    ///
    /// # Errors
    /// What it says when it does not start, such as how to install the engine.
    pub fn open(path: &Path, arguments: &[&str]) -> Result<Self> {
        Self::run(path, path, "127.0.0.1:0", arguments)
    }

    /// Starts it with its log in `folder`, and waits until it listens.
    fn run(folder: &Path, data: &Path, listen: &str, arguments: &[&str]) -> Result<Self> {
        // The log of one that runs there already is not overwritten.
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let name = format!("localdb-{}", STARTED.fetch_add(1, Ordering::Relaxed));
        let mut command = Command::new(crate::binary("tidegate"));
        command
            .args(["localdb", "--listen", listen, "--path"])
            .arg(data)
            .args(arguments)
            .current_dir(folder);
        let mut service = Service::start(&name, &mut command, folder);
        let url = await_url(&mut service)?;
        Ok(Self { service, url })
    }

    /// The process.
    pub fn service(&mut self) -> &mut Service {
        &mut self.service
    }

    /// Its resident memory in bytes: now and at the peak.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn memory(&self) -> Result<(u64, u64)> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.service.id()))?;
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

    /// Runs a query while the thread waits, and returns its rows in TabSeparated, without the last line end.
    pub fn query(&self, sql: &str) -> String {
        let answer = crate::post(&self.url, &[], sql.as_bytes())
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
        assert_eq!(answer.status, 200, "{sql}\n{}", answer.body);
        answer.body.trim_end_matches('\n').to_owned()
    }

    /// The same for tests that have tasks of their own, which go on meanwhile.
    ///
    /// # Errors
    /// The exception, if it is one.
    pub async fn ask(&self, sql: &str) -> Result<String> {
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

    /// Sends a signal by name: `TERM`, `INT`, `KILL`.
    pub fn signal(&self, name: &str) {
        self.service.signal(name);
    }

    /// Waits for the process to end by itself; the status and what it said since it listened.
    pub fn wait(mut self) -> (ExitStatus, String) {
        let status = self.service.wait();
        let output = self.service.output();
        let said = output.split_once(LISTENING).map_or("", |(_, said)| said);
        (status, said.to_owned())
    }

    /// Stops it as an operator does and checks that it ends well.
    ///
    /// # Errors
    /// When it ends with another status than success.
    pub fn stop(mut self) -> Result<()> {
        let status = self.service.terminate();
        let output = self.service.output();
        ensure!(status.success(), "localdb ended with {status}:\n{output}");
        Ok(())
    }
}

fn await_url(service: &mut Service) -> Result<String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        // Asked first: what it says before it ends is complete then.
        let ended = service.ended();
        let output = service.output();
        let line = output.lines().find_map(|line| line.split_once(LISTENING));
        if let Some((_, rest)) = line.filter(|_| output.ends_with('\n')) {
            return Ok(rest.chars().take_while(|&next| is_url(next)).collect());
        }
        if let Some(status) = ended {
            bail!("localdb ended ({status}):\n{output}");
        }
        ensure!(
            Instant::now() < deadline,
            "localdb does not start:\n{output}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn is_url(character: char) -> bool {
    character.is_ascii_alphanumeric() || ":/.[]".contains(character)
}
