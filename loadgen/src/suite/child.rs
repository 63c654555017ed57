//! A started process of a run: its log, and how it is stopped, killed, frozen and let go on.

use std::fs::{self, File, OpenOptions};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context as _, bail};

use super::guard::MARK;
use super::model::StopSignal;
use crate::process;

/// Of our own environment, what any program may need; the rest would make runs differ between machines.
const INHERITED: [&str; 12] = [
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "TMPDIR",
    "TZ",
    "SSL_CERT_FILE",
    "RUST_LOG",
    "DOCKER_HOST",
    "DOCKER_CONTEXT",
    "CONTAINER_HOST",
    "XDG_RUNTIME_DIR",
];

/// What to start.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    pub(crate) name: String,
    pub(crate) command: Vec<String>,
    pub(crate) environment: Vec<(String, String)>,
    /// Where it runs, and its log is.
    pub(crate) folder: PathBuf,
    /// Cores, as the system numbers them; all if empty.
    pub(crate) cores: Vec<usize>,
    /// The run's id.
    pub(crate) mark: String,
    /// Standard output goes to a file of its own instead of the log.
    pub(crate) output: Option<PathBuf>,
}

impl Spec {
    /// The command line, as a shell would want it.
    pub(crate) fn command_line(&self) -> String {
        let quoted = |word: &String| {
            let plain = |it: char| it.is_ascii_alphanumeric() || "-_=./:,@%+".contains(it);
            match !word.is_empty() && word.chars().all(plain) {
                true => word.clone(),
                false => format!("'{}'", word.replace('\'', "'\\''")),
            }
        };
        let variables = self
            .environment
            .iter()
            .map(|(name, value)| format!("{name}={}", quoted(value)));
        let words = self.command.iter().map(quoted);
        variables.chain(words).collect::<Vec<_>>().join(" ")
    }
}

/// A process that was started. Dropping it kills it, and its group with it.
#[derive(Debug)]
pub(crate) struct Running {
    name: String,
    child: std::process::Child,
    log: PathBuf,
    ended: Option<ExitStatus>,
}

impl Running {
    /// To be called on a thread that lives as long as the program may: the kernel kills it with that thread.
    ///
    /// # Errors
    /// When it cannot be started, or its log not be written.
    pub(crate) fn start(spec: &Spec) -> anyhow::Result<Self> {
        let log = spec.folder.join(format!("{}.log", spec.name));
        let errors = append(&log)?;
        let output = match &spec.output {
            Some(file) => {
                File::create(file).with_context(|| format!("cannot write {}", file.display()))?
            }
            None => errors.try_clone()?,
        };
        let (program, arguments) = spec.command.split_first().context("an empty command")?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .envs(
                INHERITED
                    .iter()
                    .filter_map(|name| Some((name, std::env::var_os(name)?))),
            )
            .env("NO_COLOR", "1")
            .envs(spec.environment.iter().map(|(name, value)| (name, value)))
            .env(MARK, &spec.mark)
            .current_dir(&spec.folder)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .process_group(0);
        process::pin_to_some_and_bind_life(&mut command, spec.cores.clone());
        let child = command
            .spawn()
            .with_context(|| format!("cannot start `{program}`"))?;
        Ok(Self {
            name: spec.name.clone(),
            child,
            log,
            ended: None,
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// When the system does not say.
    pub(crate) fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait()?;
        }
        Ok(self.ended)
    }

    /// # Errors
    /// When it has ended, with the end of its log.
    pub(crate) fn check_alive(&mut self) -> anyhow::Result<()> {
        match self.ended()? {
            Some(status) => bail!(
                "{} ended by itself ({}):\n{}",
                self.name,
                describe(status),
                self.log_end()
            ),
            None => Ok(()),
        }
    }

    /// Asks it to stop.
    ///
    /// # Errors
    /// When that cannot be done.
    pub(crate) fn ask_to_stop(&mut self, signal: StopSignal) -> anyhow::Result<()> {
        if self.ended()?.is_some() {
            return Ok(());
        }
        match signal {
            StopSignal::Terminate => process::terminate(self.pid()),
            StopSignal::Interrupt => process::interrupt(self.pid()),
        }
        .with_context(|| format!("cannot stop {}", self.name))
    }

    /// Ends it and its group at once.
    pub(crate) fn kill(&mut self) {
        // An error means that all have ended already.
        drop(process::kill_group(self.pid()));
        if self.ended.is_none() {
            self.ended = self.child.wait().ok();
        }
    }

    /// The last lines that it has written.
    pub(crate) fn log_end(&self) -> String {
        log_end(&self.log)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// How a process ended, in words.
pub(crate) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

/// The end of a log as it stands in messages of several lines.
pub(crate) fn log_end(path: &Path) -> String {
    let end = process::log_end(path);
    let lines: Vec<_> = end.lines().map(|line| format!("  | {line}")).collect();
    lines.join("\n")
}

fn append(path: &Path) -> anyhow::Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn spec(script: &str, folder: &Path) -> Spec {
        Spec {
            name: "test".to_owned(),
            command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
            environment: vec![("WORD".to_owned(), "it's".to_owned())],
            folder: folder.to_owned(),
            cores: Vec::new(),
            mark: format!("child-test-{}", std::process::id()),
            output: None,
        }
    }

    #[test]
    fn one_that_ends_by_itself_is_an_error_with_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let mut running = Running::start(&spec("echo no $WORD; exit 3", folder.path())).unwrap();
        let error = loop {
            if let Err(error) = running.check_alive() {
                break error.to_string();
            }
        };
        assert!(
            error.contains("exit status 3") && error.contains("| no it's"),
            "{error}"
        );
    }

    #[test]
    fn it_is_killed_when_dropped_with_what_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let spec = spec("sleep 600 & sleep 600", folder.path());
        let running = Running::start(&spec).unwrap();
        assert!(!process::marked(MARK, &spec.mark).unwrap().is_empty());
        drop(running);
        // Dying takes it a moment.
        let deadline = Instant::now() + Duration::from_secs(20);
        while !process::marked(MARK, &spec.mark).unwrap().is_empty() {
            assert!(Instant::now() < deadline, "it was not killed");
            std::thread::yield_now();
        }
    }

    #[test]
    fn command_lines_are_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let line = spec("echo x", folder.path()).command_line();
        assert_eq!(line, "WORD='it'\\''s' /bin/sh -c 'echo x'");
    }
}
