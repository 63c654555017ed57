//! Nothing stays behind: whatever a run starts carries a mark, and a process apart from the run ends all that carry it
//! when the run is gone, even if that was killed.

use std::io::{Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::container::Container;
use crate::process;

/// The variable that everything a run starts has in its environment, with the run's id.
pub(crate) const MARK: &str = "LOADGEN_SUITE_RUN";
/// A killed process is gone after a moment; one in the kernel may take longer.
const GONE_MAX: Duration = Duration::from_secs(10);
/// What was killed just now takes a moment to go: it has not been left behind.
const SETTLE: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(10);

/// Ends what a run has left behind, once its standard input ends.
///
/// The run holds the other end. Lines on the input are containers to remove, `ENGINE NAME`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The run's id
    run: String,
}

/// Waits for the end of the run.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut told = String::new();
    // Whatever ends the input, the run is over.
    let read = std::io::stdin().read_to_string(&mut told);
    end_marked(&args.run)?;
    for line in told.lines() {
        if let Some((engine, name)) = line.split_once(' ') {
            let (engine, name) = (engine.to_owned(), name.to_owned());
            Container { engine, name }.remove();
        }
    }
    read?;
    Ok(ExitCode::SUCCESS)
}

/// Kills everything that carries the run's mark; how many there were.
///
/// # Errors
/// When `/proc` cannot be read, or one does not end.
pub(crate) fn end_marked(run: &str) -> anyhow::Result<usize> {
    let began = Instant::now();
    let mut most = 0;
    loop {
        let left = process::marked(MARK, run).context("cannot read /proc")?;
        if left.is_empty() {
            return Ok(most);
        }
        if began.elapsed() < SETTLE {
            std::thread::sleep(POLL);
            continue;
        }
        most = most.max(left.len());
        anyhow::ensure!(began.elapsed() < GONE_MAX, "processes {left:?} do not end");
        for pid in left {
            // It may have ended meanwhile.
            drop(process::kill(pid));
        }
        std::thread::sleep(POLL);
    }
}

/// The process that cleans up after this one, should this one not live to do it.
#[derive(Debug)]
pub(crate) struct Guard {
    child: Child,
}

impl Guard {
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn start(run: &str) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        // A group of its own: Ctrl-C is for the run.
        command
            .args(["suite-guard", run])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0);
        let child = command.spawn().context("cannot start the guard")?;
        Ok(Self { child })
    }

    /// Has this container removed at the end.
    pub(crate) fn remember_container(&mut self, container: &Container) {
        let Container { engine, name } = container;
        if let Some(stdin) = &mut self.child.stdin {
            // A guard that is gone cannot help; the run removes its containers itself.
            drop(writeln!(stdin, "{engine} {name}"));
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        drop(self.child.wait());
    }
}
