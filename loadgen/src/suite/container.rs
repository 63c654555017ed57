//! Containers, where there is an engine: they are run in the foreground, so that they are processes to us as others are.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;

use super::check::missing_program;

/// To remove one or to ask for its process takes seconds at most.
const ASK_MAX: Duration = Duration::from_secs(20);

/// The engine's program: docker, or podman where only that is there.
pub(crate) fn engine() -> String {
    let is_there = |engine: &&str| missing_program(engine, Path::new("/")).is_none();
    let found = ["docker", "podman"].into_iter().find(is_there);
    found.unwrap_or("docker").to_owned()
}

/// What a container is run with.
#[derive(Debug, Clone, Default)]
pub(crate) struct Start {
    pub(crate) name: String,
    pub(crate) image: String,
    pub(crate) arguments: Vec<String>,
    pub(crate) options: Vec<String>,
    pub(crate) publish: Vec<String>,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) cores: Vec<usize>,
}

impl Start {
    /// The command line that runs it until it ends.
    pub(crate) fn command(&self) -> Vec<String> {
        let mut words: Vec<String> = [&engine(), "run", "--rm", "--name", &self.name]
            .map(str::to_owned)
            .to_vec();
        for (name, value) in &self.environment {
            words.extend(["--env".to_owned(), format!("{name}={value}")]);
        }
        if self.publish.is_empty() {
            words.extend(["--network".to_owned(), "host".to_owned()]);
        }
        for port in &self.publish {
            words.extend(["--publish".to_owned(), port.clone()]);
        }
        if !self.cores.is_empty() {
            let cores: Vec<_> = self.cores.iter().map(usize::to_string).collect();
            words.extend(["--cpuset-cpus".to_owned(), cores.join(",")]);
        }
        words.extend(self.options.iter().cloned());
        words.push(self.image.clone());
        words.extend(self.arguments.iter().cloned());
        words
    }
}

/// The process that runs in it, as the host sees it.
///
/// # Errors
/// When the engine does not say.
pub(crate) async fn process_of(name: &str) -> anyhow::Result<u32> {
    let asked = tokio::process::Command::new(engine())
        .args(["inspect", "--format", "{{.State.Pid}}", name])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let answer = tokio::time::timeout(ASK_MAX, asked).await;
    let answer = answer.context("the engine does not answer")??;
    let text = String::from_utf8_lossy(&answer.stdout);
    let pid: u32 = text.trim().parse().context("the engine names no process")?;
    anyhow::ensure!(pid > 0, "the container does not run yet");
    Ok(pid)
}

/// Ends and removes it, if it is there.
pub(crate) fn remove(engine: &str, name: &str) {
    let mut command = Command::new(engine);
    command
        .args(["rm", "--force", name])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // One that is gone already is what is wanted.
    drop(command.status());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_has_what_was_asked_for() {
        let start = Start {
            name: "run-agent".to_owned(),
            image: "agent:1".to_owned(),
            arguments: vec!["--fast".to_owned()],
            environment: vec![("A".to_owned(), "b".to_owned())],
            cores: vec![0, 2],
            ..Start::default()
        };
        let line = start.command().split_off(1).join(" ");
        assert_eq!(
            line,
            "run --rm --name run-agent --env A=b --network host --cpuset-cpus 0,2 agent:1 --fast"
        );
    }
}
