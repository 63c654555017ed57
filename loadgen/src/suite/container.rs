//! Containers, where there is an engine: they are run in the foreground, so that they are processes to us as others are.
//! What is done to one is asked of the engine: its processes may be another user's.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::check::missing_program;

/// What an engine is asked takes seconds at most.
const ASK_MAX: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(5);

/// The engine's program: docker, or podman where docker is not there, or no engine answers it.
///
/// # Errors
/// When none answers, with what each said.
pub(crate) fn engine() -> Result<&'static str, String> {
    static FOUND: OnceLock<Result<&'static str, String>> = OnceLock::new();
    FOUND.get_or_init(find).clone()
}

fn find() -> Result<&'static str, String> {
    let mut problems = Vec::new();
    for engine in ["docker", "podman"] {
        let problem = match missing_program(engine, Path::new("/")) {
            Some(problem) => Err(anyhow::anyhow!(problem)),
            // A client without an engine knows its own version, and fails all the same.
            None => ask_now(engine, &["version"]),
        };
        match problem {
            Ok(()) => return Ok(engine),
            Err(problem) => problems.push(format!("{problem:#}")),
        }
    }
    Err(problems.join("; "))
}

/// What a container is run with.
#[derive(Debug, Clone, Default)]
pub(crate) struct Start {
    pub(crate) image: String,
    pub(crate) arguments: Vec<String>,
    pub(crate) options: Vec<String>,
    pub(crate) publish: Vec<String>,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) cores: Vec<usize>,
}

/// A container that is run, or was.
#[derive(Debug, Clone)]
pub(crate) struct Container {
    pub(crate) engine: String,
    pub(crate) name: String,
}

impl Container {
    /// The command line that runs it until it ends.
    pub(crate) fn command(&self, start: &Start) -> Vec<String> {
        let mut words: Vec<String> = [&self.engine, "run", "--rm", "--name", &self.name]
            .map(str::to_owned)
            .to_vec();
        for (name, value) in &start.environment {
            words.extend(["--env".to_owned(), format!("{name}={value}")]);
        }
        if start.publish.is_empty() {
            words.extend(["--network".to_owned(), "host".to_owned()]);
        }
        for port in &start.publish {
            words.extend(["--publish".to_owned(), port.clone()]);
        }
        if !start.cores.is_empty() {
            let cores: Vec<_> = start.cores.iter().map(usize::to_string).collect();
            words.extend(["--cpuset-cpus".to_owned(), cores.join(",")]);
        }
        words.extend(start.options.iter().cloned());
        words.push(start.image.clone());
        words.extend(start.arguments.iter().cloned());
        words
    }

    /// The process that runs in it, as the host sees it.
    ///
    /// # Errors
    /// When it does not run, or the engine does not say.
    pub(crate) async fn process(&self) -> anyhow::Result<u32> {
        let question = ["container", "inspect", "--format", "{{.State.Pid}}"];
        let answer = self.ask(&question).await?;
        let pid: u32 = answer.trim().parse().context("no process is named")?;
        anyhow::ensure!(pid > 0, "the container does not run yet");
        Ok(pid)
    }

    /// # Errors
    /// When the engine cannot.
    pub(crate) async fn hang_up(&self) -> anyhow::Result<()> {
        self.ask(&["kill", "--signal", "HUP"]).await.map(drop)
    }

    /// Lets all its processes stand still.
    ///
    /// # Errors
    /// When the engine cannot.
    pub(crate) async fn freeze(&self) -> anyhow::Result<()> {
        self.ask(&["pause"]).await.map(drop)
    }

    /// # Errors
    /// When the engine cannot.
    pub(crate) async fn thaw(&self) -> anyhow::Result<()> {
        self.ask(&["unpause"]).await.map(drop)
    }

    /// The engine's answer to this about the container.
    async fn ask(&self, question: &[&str]) -> anyhow::Result<String> {
        let asked = tokio::process::Command::new(&self.engine)
            .args(question)
            .arg(&self.name)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let answer = tokio::time::timeout(ASK_MAX, asked).await;
        let answer = answer.with_context(|| format!("{} does not answer", self.engine))??;
        if !answer.status.success() {
            bail!("{}", last_line(&answer.stderr));
        }
        Ok(String::from_utf8_lossy(&answer.stdout).into_owned())
    }

    /// Kills and removes it, if it is there, and returns once its name is free again.
    pub(crate) fn remove(&self) {
        let deadline = Instant::now() + ASK_MAX;
        let ask = |question: &[&str]| ask_now(&self.engine, &[question, &[&self.name]].concat());
        while ask(&["container", "inspect"]).is_ok() && Instant::now() < deadline {
            // Podman's `rm --force` alone asks it to stop and waits. An error says that it goes already.
            drop(ask(&["kill"]));
            drop(ask(&["rm", "--force"]));
        }
    }
}

/// Asks the engine, on this thread.
///
/// # Errors
/// When it says no, with its last line, or says nothing.
fn ask_now(engine: &str, question: &[&str]) -> anyhow::Result<()> {
    let mut child = Command::new(engine)
        .args(question)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{engine}`"))?;
    let deadline = Instant::now() + ASK_MAX;
    // What it complains of fits into the pipe: nobody has to read meanwhile.
    while child.try_wait()?.is_none() {
        if Instant::now() > deadline {
            // It may have ended just now.
            drop(child.kill());
            drop(child.wait());
            bail!("`{engine}` does not answer");
        }
        std::thread::sleep(POLL);
    }
    let answer = child.wait_with_output()?;
    if !answer.status.success() {
        bail!("`{engine}`: {}", last_line(&answer.stderr));
    }
    Ok(())
}

fn last_line(said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said);
    let line = said.lines().map(str::trim).rfind(|line| !line.is_empty());
    line.unwrap_or("it failed").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_has_what_was_asked_for() {
        let container = Container {
            engine: "docker".to_owned(),
            name: "run-agent".to_owned(),
        };
        let start = Start {
            image: "agent:1".to_owned(),
            arguments: vec!["--fast".to_owned()],
            environment: vec![("A".to_owned(), "b".to_owned())],
            cores: vec![0, 2],
            ..Start::default()
        };
        assert_eq!(
            container.command(&start).join(" "),
            "docker run --rm --name run-agent --env A=b --network host --cpuset-cpus 0,2 agent:1 --fast"
        );
    }

    #[test]
    fn what_went_wrong_is_the_last_thing_that_was_said() {
        let error = ask_now(
            "sh",
            &["-c", "echo first >&2; echo 'no engine' >&2; exit 3"],
        );
        assert_eq!(error.unwrap_err().to_string(), "`sh`: no engine");
        assert!(ask_now("sh", &["-c", "exit 0"]).is_ok());
    }
}
