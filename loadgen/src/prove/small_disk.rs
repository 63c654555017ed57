//! A small file system in memory, seen only by programs that are started in its mount namespace.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, bail, ensure};

/// How a namespace is made: by root, and by anybody where users may make user namespaces of their own.
const WAYS: [(&[&str], &[&str]); 2] = [
    (&["--mount"], &["--mount"]),
    (
        &["--map-root-user", "--mount"],
        &["--mount", "--user", "--preserve-credentials"],
    ),
];

/// Mounts, says so, and then lives as long as its input.
const KEEP: &str =
    "mount -t tmpfs -o \"size=$1\" tidegate-prove \"$0\" && echo mounted && exec cat";

/// A file system with files open for writing cannot be made read-only as a whole, and neither can a mount of it through which
/// somebody has opened one since. So the mount is made read-only aside, where nobody opens anything, and put in place then.
const COVER_READ_ONLY: &str = r#"
set -e
mkdir "$0.read-only"
mount --bind "$0" "$0.read-only"
mount -o remount,bind,ro "$0.read-only"
mount --bind "$0.read-only" "$0"
umount "$0.read-only"
rmdir "$0.read-only"
"#;

/// It is gone when this is dropped and nobody uses it any more.
#[derive(Debug)]
pub(super) struct SmallDisk {
    folder: PathBuf,
    /// Keeps the namespace.
    keeper: Child,
    enter: Vec<String>,
}

impl SmallDisk {
    /// Mounts it on `folder`, which is made.
    ///
    /// # Errors
    /// When nothing can be mounted: mount namespaces are not permitted here, or `unshare` is missing.
    pub(super) fn mount(folder: &Path, mib: u64) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
        let mut causes = Vec::new();
        for (make, enter) in WAYS {
            match keep(folder, mib, make) {
                Ok(keeper) => {
                    let pid = keeper.id().to_string();
                    let mut command = vec!["nsenter", "--target", &pid];
                    command.extend(enter);
                    return Ok(Self {
                        folder: folder.to_owned(),
                        enter: command.into_iter().map(str::to_owned).collect(),
                        keeper,
                    });
                }
                Err(cause) => causes.push(format!("unshare {}: {cause}", make.join(" "))),
            }
        }
        bail!(
            "cannot mount a file system of its own: {}",
            causes.join("; ")
        )
    }

    /// The command that runs another one where the file system is seen.
    pub(super) fn within(&self) -> Vec<String> {
        self.enter.clone()
    }

    /// Nothing can be opened for writing below the folder any more; what is open stays so.
    ///
    /// # Errors
    /// When that cannot be done.
    pub(super) fn cover_read_only(&self) -> anyhow::Result<()> {
        self.run(COVER_READ_ONLY)
    }

    /// Takes that back.
    ///
    /// # Errors
    /// When that cannot be done.
    pub(super) fn uncover(&self) -> anyhow::Result<()> {
        self.run("umount --lazy \"$0\"")
    }

    /// Makes the file system as a whole read-only. Nobody may have files open for writing.
    ///
    /// # Errors
    /// When that cannot be done.
    pub(super) fn read_only(&self) -> anyhow::Result<()> {
        self.run("mount -o remount,ro \"$0\"")
    }

    /// Takes that back.
    ///
    /// # Errors
    /// When that cannot be done.
    pub(super) fn writable(&self) -> anyhow::Result<()> {
        self.run("mount -o remount,rw \"$0\"")
    }

    /// Bytes that are free on it.
    ///
    /// # Errors
    /// When `df` cannot tell.
    pub(super) fn free_bytes(&self) -> anyhow::Result<u64> {
        let output = self.output("df --block-size=1 --output=avail \"$0\"")?;
        let last = output.lines().last().unwrap_or_default().trim();
        last.parse().with_context(|| format!("df says {output}"))
    }

    fn run(&self, script: &str) -> anyhow::Result<()> {
        self.output(script).map(drop)
    }

    fn output(&self, script: &str) -> anyhow::Result<String> {
        let (program, arguments) = self.enter.split_first().context("a command has a name")?;
        let output = Command::new(program)
            .args(arguments)
            .args(["sh", "-c", script])
            .arg(&self.folder)
            .output()
            .with_context(|| format!("cannot run {program}"))?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{script}: {}", error.trim());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Its input ends, and so does it; an error means that it has ended before.
        drop(self.keeper.stdin.take());
        drop(self.keeper.wait());
    }
}

/// A process in a namespace with the file system mounted.
fn keep(folder: &Path, mib: u64, make: &[&str]) -> anyhow::Result<Child> {
    let mut keeper = Command::new("unshare")
        .args(make)
        .args(["sh", "-c", KEEP])
        .arg(folder)
        .arg(format!("{mib}m"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run unshare")?;
    let mut said = String::new();
    if let Some(output) = keeper.stdout.take() {
        BufReader::new(output).read_line(&mut said)?;
    }
    if said.trim() == "mounted" {
        return Ok(keeper);
    }
    let mut cause = String::new();
    if let Some(mut errors) = keeper.stderr.take() {
        errors.read_to_string(&mut cause)?;
    }
    keeper.wait()?;
    bail!("{}", cause.trim())
}
