//! What processes use together with everything they started, and who belongs to a run.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::time::Duration;

use super::proc::Process;
use super::sys::ticks_per_second;

/// Processes looked at below one root; agents start one or two.
const DESCENDANTS_MAX: usize = 256;

/// All processes at one moment, by who started whom.
#[derive(Debug, Default)]
pub(crate) struct Families {
    members: BTreeMap<u32, Member>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Member {
    parent: u32,
    /// User and system time, that of children that were waited for included.
    ticks: u64,
    threads: u64,
}

/// What a process and its descendants use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// User and system time since they were started.
    pub(crate) cpu: Duration,
    pub(crate) memory_bytes: u64,
    pub(crate) threads: u64,
    /// Open file descriptors.
    pub(crate) files: u64,
    pub(crate) read_bytes: u64,
    pub(crate) written_bytes: u64,
}

impl Families {
    /// # Errors
    /// When `/proc` cannot be read.
    pub(crate) fn read() -> io::Result<Self> {
        let mut members = BTreeMap::new();
        for pid in pids()? {
            // One that ended meanwhile is nobody's child.
            let stat = Process::new(pid).read("stat").ok();
            if let Some(member) = stat.as_deref().and_then(parse) {
                members.insert(pid, member);
            }
        }
        Ok(Self { members })
    }

    /// Everything that `root` and its descendants use; `None` if it is not there.
    pub(crate) fn usage(&self, root: u32) -> Option<Usage> {
        self.members.get(&root)?;
        let mut usage = Usage::default();
        let mut ticks = 0;
        for pid in self.family(root) {
            let Some(member) = self.members.get(&pid) else {
                continue;
            };
            let process = Process::new(pid);
            ticks += member.ticks;
            usage.threads += member.threads;
            // What ended since has nothing any more.
            usage.memory_bytes += process.memory().unwrap_or(0);
            usage.files += count_files(pid);
            let (read, written) = process.read("io").map_or((0, 0), |io| parse_io(&io));
            usage.read_bytes += read;
            usage.written_bytes += written;
        }
        usage.cpu = Duration::from_secs_f64(ticks as f64 / ticks_per_second() as f64);
        Some(usage)
    }

    fn family(&self, root: u32) -> Vec<u32> {
        let mut family = vec![root];
        let mut seen = 0;
        while let Some(parent) = family.get(seen).copied().filter(|_| seen < DESCENDANTS_MAX) {
            let children = self
                .members
                .iter()
                .filter(|(_, member)| member.parent == parent);
            family.extend(children.map(|(pid, _)| *pid));
            seen += 1;
        }
        family
    }
}

/// Processes that were started with this variable in their environment, by whomever.
///
/// # Errors
/// When `/proc` cannot be read.
pub(crate) fn marked(name: &str, value: &str) -> io::Result<Vec<u32>> {
    let mark = format!("{name}={value}");
    let own = std::process::id();
    let is_marked = |pid: &u32| {
        // Other users' processes cannot be looked into, and are none of ours.
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        *pid != own
            && environment
                .split(|byte| *byte == 0)
                .any(|it| it == mark.as_bytes())
    };
    Ok(pids()?.into_iter().filter(is_marked).collect())
}

fn pids() -> io::Result<Vec<u32>> {
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc")? {
        pids.extend(
            entry?
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<u32>().ok()),
        );
    }
    Ok(pids)
}

fn count_files(pid: u32) -> u64 {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, |files| files.count() as u64)
}

/// Reads `/proc/PID/stat`. The name in parentheses may hold anything, spaces and parentheses included.
fn parse(stat: &str) -> Option<Member> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let fields: Vec<_> = fields.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(Member {
        parent: fields.get(1)?.parse().ok()?,
        ticks: number(11)? + number(12)? + number(13)? + number(14)?,
        threads: number(17)?,
    })
}

/// Bytes read from and written to disks.
fn parse_io(io: &str) -> (u64, u64) {
    let value = |name: &str| {
        let line = io.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().parse().ok()
    };
    let of = |name| value(name).unwrap_or(0);
    (of("read_bytes:"), of("write_bytes:"))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn stat_is_read_whatever_the_name() {
        let text = "42 (a) R 1) S 7 42 42 0 -1 4194304 1 2 3 4 150 25 10 5 20 0 4 0 99 1 2";
        let member = Member {
            parent: 7,
            ticks: 190,
            threads: 4,
        };
        assert_eq!(parse(text), Some(member));
        assert_eq!(parse("42 (cut) S 7"), None);
        assert_eq!(
            parse_io("rchar: 1\nread_bytes: 5\nwrite_bytes: 7\n"),
            (5, 7)
        );
    }

    #[test]
    fn children_are_found_with_their_parent_and_by_their_mark() {
        let mark = format!("{}", std::process::id());
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", "echo started; read line; true"])
            .env("FAMILY_TEST", &mark)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        let out = child.stdout.take().unwrap();
        io::BufRead::read_line(&mut io::BufReader::new(out), &mut line).unwrap();
        let families = Families::read().unwrap();
        let own = families.usage(std::process::id()).unwrap();
        let its = families.usage(child.id()).unwrap();
        assert!(own.threads > its.threads && its.memory_bytes > 0 && its.files >= 3);
        assert_eq!(marked("FAMILY_TEST", &mark).unwrap(), [child.id()]);
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(Families::read().unwrap().usage(child.id()), None);
        assert!(marked("FAMILY_TEST", &mark).unwrap().is_empty());
    }
}
