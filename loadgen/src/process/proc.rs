//! What `/proc` says of a process: CPU time, memory, children, listening sockets.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::sys::ticks_per_second;

/// State of a listening socket in `/proc/net/tcp`.
const LISTEN: &str = "0A";
/// Processes looked at below one root; agents start one or two.
const DESCENDANTS_MAX: usize = 256;

/// A running process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process {
    pid: u32,
}

impl Process {
    pub(crate) fn new(pid: u32) -> Self {
        Self { pid }
    }

    /// This process.
    pub(crate) fn own() -> Self {
        Self::new(std::process::id())
    }

    pub(super) fn read(self, name: &str) -> io::Result<String> {
        fs::read_to_string(format!("/proc/{}/{name}", self.pid))
    }

    /// User and system time of all its threads, ended ones included; in steps of a clock tick (10 ms).
    pub(crate) fn cpu(self) -> io::Result<Duration> {
        let stat = parse_stat(&self.read("stat")?).ok_or_else(|| unreadable("stat"))?;
        let ticks = stat.user_ticks + stat.system_ticks;
        Ok(Duration::from_secs_f64(
            ticks as f64 / ticks_per_second() as f64,
        ))
    }

    /// Resident memory now, bytes.
    pub(crate) fn memory(self) -> io::Result<u64> {
        parse_kib(&self.read("status")?, "VmRSS").ok_or_else(|| unreadable("VmRSS"))
    }

    /// The most resident memory it ever had, bytes.
    pub(crate) fn peak_memory(self) -> io::Result<u64> {
        parse_kib(&self.read("status")?, "VmHWM").ok_or_else(|| unreadable("VmHWM"))
    }

    /// Bytes that it caused to be written to disks, in whole pages.
    pub(crate) fn written_bytes(self) -> io::Result<u64> {
        parse_count(&self.read("io")?, "write_bytes").ok_or_else(|| unreadable("write_bytes"))
    }

    /// Itself and everything it started that still runs.
    fn family(self) -> io::Result<Vec<Self>> {
        let mut parents = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // A process that ended meanwhile is nobody's child.
            if let Some(stat) = Self::new(pid)
                .read("stat")
                .ok()
                .and_then(|stat| parse_stat(&stat))
            {
                parents.push((pid, stat.parent));
            }
        }
        let mut family = vec![self];
        let mut seen = 0;
        while let Some(parent) = family.get(seen).copied().filter(|_| seen < DESCENDANTS_MAX) {
            let children = parents.iter().filter(|(_, of)| *of == parent.pid);
            family.extend(children.map(|(pid, _)| Self::new(*pid)));
            seen += 1;
        }
        Ok(family)
    }

    /// Inodes of the sockets it has open.
    fn sockets(self) -> io::Result<BTreeSet<u64>> {
        let mut inodes = BTreeSet::new();
        for entry in fs::read_dir(PathBuf::from(format!("/proc/{}/fd", self.pid)))? {
            // A descriptor closed meanwhile is none of its sockets.
            let Ok(target) = fs::read_link(entry?.path()) else {
                continue;
            };
            inodes.extend(target.to_str().and_then(parse_socket));
        }
        Ok(inodes)
    }
}

/// The process among `root` and its descendants that listens on this TCP port: the one whose CPU and memory
/// count, even if a wrapper started it.
///
/// # Errors
/// When `/proc` cannot be read.
pub(crate) fn serving(root: Process, port: u16) -> io::Result<Option<Process>> {
    let mut listeners = listening_inodes(&fs::read_to_string("/proc/net/tcp")?, port);
    match fs::read_to_string("/proc/net/tcp6") {
        Ok(table) => listeners.extend(listening_inodes(&table, port)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    for process in root.family()? {
        // One that ended meanwhile, or is not ours to look into, does not serve for us.
        let sockets = process.sockets().unwrap_or_default();
        if !sockets.is_disjoint(&listeners) {
            return Ok(Some(process));
        }
    }
    Ok(None)
}

/// CPU time used on all cores by everything; in steps of a clock tick.
pub(crate) fn machine_cpu() -> io::Result<Duration> {
    let ticks =
        parse_busy_ticks(&fs::read_to_string("/proc/stat")?).ok_or_else(|| unreadable("cpu"))?;
    Ok(Duration::from_secs_f64(
        ticks as f64 / ticks_per_second() as f64,
    ))
}

/// CPU time that the hypervisor gave to other machines while something here wanted to run; in steps of a clock tick.
pub(crate) fn stolen_cpu() -> io::Result<Duration> {
    let ticks = parse_ticks(&fs::read_to_string("/proc/stat")?)
        .and_then(|fields| fields.get(7).copied())
        .ok_or_else(|| unreadable("cpu"))?;
    Ok(Duration::from_secs_f64(
        ticks as f64 / ticks_per_second() as f64,
    ))
}

/// The first line of `/proc/stat`: user, nice and system time with interrupts; not idle, waiting or stolen.
fn parse_busy_ticks(text: &str) -> Option<u64> {
    let fields = parse_ticks(text)?;
    [0, 1, 2, 5, 6].iter().map(|index| fields.get(*index)).sum()
}

fn parse_ticks(text: &str) -> Option<Vec<u64>> {
    let fields = text.lines().next()?.strip_prefix("cpu ")?;
    let ticks = fields
        .split_ascii_whitespace()
        .map_while(|field| field.parse().ok());
    Some(ticks.collect())
}

fn unreadable(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("no {what} in /proc: the process may have ended"),
    )
}

#[derive(Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    user_ticks: u64,
    system_ticks: u64,
}

/// Reads `/proc/PID/stat`. The name in parentheses may hold anything, spaces and parentheses included.
fn parse_stat(text: &str) -> Option<Stat> {
    let (_, fields) = text.rsplit_once(") ")?;
    let fields: Vec<_> = fields.split_ascii_whitespace().collect();
    Some(Stat {
        parent: fields.get(1)?.parse().ok()?,
        user_ticks: fields.get(11)?.parse().ok()?,
        system_ticks: fields.get(12)?.parse().ok()?,
    })
}

/// A `VmRSS:  1234 kB` line of `/proc/PID/status`, in bytes.
fn parse_kib(status: &str, name: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.trim()
        .strip_suffix("kB")?
        .trim()
        .parse::<u64>()
        .ok()?
        .checked_mul(1024)
}

/// A `write_bytes: 1234` line of `/proc/PID/io`.
fn parse_count(io: &str, name: &str) -> Option<u64> {
    let line = io
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.trim().parse().ok()
}

/// `socket:[1234]`, the target of a link in `/proc/PID/fd`.
fn parse_socket(target: &str) -> Option<u64> {
    target
        .strip_prefix("socket:[")?
        .strip_suffix(']')?
        .parse()
        .ok()
}

/// Inodes of the sockets that listen on `port`, from the text of `/proc/net/tcp` or `tcp6`.
fn listening_inodes(table: &str, port: u16) -> BTreeSet<u64> {
    let inode = |line: &str| {
        let fields: Vec<_> = line.split_ascii_whitespace().collect();
        let (_, local_port) = fields.get(1)?.rsplit_once(':')?;
        let is_it = *fields.get(3)? == LISTEN && u16::from_str_radix(local_port, 16).ok()? == port;
        is_it.then_some(fields.get(9)?.parse().ok()?)
    };
    table.lines().skip(1).filter_map(inode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_whatever_the_name() {
        let check = |name: &str| {
            let text =
                format!("42 ({name}) S 7 42 42 0 -1 4194304 1 2 3 4 150 25 0 0 20 0 4 0 99 1 2");
            assert_eq!(
                parse_stat(&text),
                Some(Stat {
                    parent: 7,
                    user_ticks: 150,
                    system_ticks: 25
                }),
                "{name}"
            );
        };
        check("agent");
        check("tokio (worker) 1");
        check(") R 1");
        assert_eq!(parse_stat("42 (cut"), None);
        assert_eq!(parse_stat("42 (cut) S 7"), None);
    }

    #[test]
    fn busy_time_leaves_out_idle_and_stolen() {
        assert_eq!(
            parse_busy_ticks("cpu  1 2 4 800 900 8 16 700 0 0\ncpu0 1\n"),
            Some(31)
        );
        assert_eq!(parse_busy_ticks("intr 1"), None);
        assert!(machine_cpu().unwrap() >= Process::own().cpu().unwrap() / 2);
    }

    #[test]
    fn memory_is_read_in_bytes() {
        let status = "Name:\tVmRSS: x\nVmHWM:\t    2048 kB\nVmRSS:\t 10 kB\n";
        assert_eq!(parse_kib(status, "VmHWM"), Some(2 << 20));
        assert_eq!(parse_kib(status, "VmRSS"), Some(10 << 10));
        assert_eq!(parse_kib(status, "VmSwap"), None);
    }

    #[test]
    fn writes_are_counted() {
        let io = "syscw: 7\nwrite_bytes: 4096\ncancelled_write_bytes: 1\n";
        assert_eq!(parse_count(io, "write_bytes"), Some(4096));
        assert_eq!(parse_count(io, "read_bytes"), None);
        assert!(Process::own().written_bytes().is_ok());
    }

    #[test]
    fn listeners_are_found_by_port() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
               0: 0100007F:10E1 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0 0 31337 1 0 100 0\n\
               1: 0100007F:10E1 0100007F:9999 01 00000000:00000000 00:00000000 00000000  0 0 777 1 0 100 0\n\
               2: 00000000000000000000000000000000:10E2 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 5 1\n";
        assert_eq!(listening_inodes(table, 4321), BTreeSet::from([31337]));
        assert_eq!(listening_inodes(table, 4322), BTreeSet::from([5]));
        assert_eq!(listening_inodes(table, 1), BTreeSet::new());
        assert_eq!(parse_socket("socket:[5]"), Some(5));
        assert_eq!(parse_socket("/dev/null"), None);
    }

    #[test]
    fn the_process_that_listens_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(serving(Process::own(), port).unwrap(), Some(Process::own()));
        drop(listener);
        assert_eq!(serving(Process::own(), port).unwrap(), None);
    }

    #[test]
    fn own_figures_are_plausible() {
        let own = Process::own();
        assert!(own.peak_memory().unwrap() >= own.memory().unwrap() / 2);
        assert!(own.memory().unwrap() > 100_000);
        assert!(own.cpu().unwrap() < Duration::from_secs(3600));
    }
}
