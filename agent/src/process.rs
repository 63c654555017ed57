//! Facts about this process and the memory it may use, read from `/proc` and cgroup v2.

use std::fs;
use std::path::Path;

/// Bytes resident in memory now; 0 where `/proc` cannot be read.
pub fn resident_bytes() -> u64 {
    fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split_whitespace().nth(1)?.parse::<u64>().ok())
        .map_or(0, |pages| pages * PAGE_BYTES)
}

/// Seconds of processor time used so far, in user and system mode; 0 where `/proc` cannot be read.
pub fn cpu_seconds() -> f64 {
    let ticks = fs::read_to_string("/proc/self/stat")
        .ok()
        .and_then(|text| cpu_ticks(&text));
    ticks.unwrap_or(0) as f64 / TICKS_PER_SECOND
}

/// Linux tells user space 100 ticks a second on every platform we build for, whatever the kernel's own clock.
const TICKS_PER_SECOND: f64 = 100.0;

/// `utime` and `stime` of `/proc/self/stat`. The name before them, in brackets, may contain anything.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

/// Linux on the platforms we build for has pages of 4 KiB.
const PAGE_BYTES: u64 = 4096;

/// Bytes that the process may use: the machine's memory, or the smallest limit of its cgroup and those above.
pub fn memory_available() -> u64 {
    let machine = fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| memory_total(&text))
        .unwrap_or(u64::MAX);
    let cgroup = fs::read_to_string("/proc/self/cgroup")
        .ok()
        .and_then(|text| cgroup_path(&text).map(str::to_owned));
    cgroup
        .and_then(|path| cgroup_limit(Path::new("/sys/fs/cgroup"), &path))
        .map_or(machine, |limit| limit.min(machine))
}

/// How many files and sockets the process may have open.
pub fn open_files_max() -> u64 {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current.unwrap_or(u64::MAX)
}

/// Raises that to what the process may raise it to. Services get 1,024 by default, for the sake of programs that cannot have
/// more; thousands of connections would leave none for files.
pub fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, ?current, "the limit of open files was not raised");
    }
}

/// Gives memory that the allocator keeps for later back to the system.
pub fn release_free_memory() {
    crate::allocator::release();
}

/// `MemTotal` of `/proc/meminfo`, in bytes.
fn memory_total(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1024)
}

/// The path of the unified hierarchy in `/proc/self/cgroup`.
fn cgroup_path(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("0::"))
}

/// The smallest `memory.max` from the cgroup up to the root; `None` without any limit.
fn cgroup_limit(root: &Path, path: &str) -> Option<u64> {
    let inner = root.join(path.trim_start_matches('/'));
    inner
        .ancestors()
        .take_while(|folder| folder.starts_with(root))
        .filter_map(|folder| fs::read_to_string(folder.join("memory.max")).ok())
        .filter_map(|text| text.trim().parse::<u64>().ok())
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read_behind_the_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 1 0 9 9 9";
        assert_eq!(cpu_ticks(stat), Some(200));
        assert_eq!(cpu_ticks(""), None);
    }

    #[test]
    fn the_smallest_limit_on_the_way_up_counts() {
        let root = tempfile::tempdir().unwrap();
        let inner = root.path().join("system.slice/tidegate.service");
        fs::create_dir_all(&inner).unwrap();
        let limit = || cgroup_limit(root.path(), "/system.slice/tidegate.service");
        assert_eq!(limit(), None);
        fs::write(inner.join("memory.max"), "max\n").unwrap();
        assert_eq!(limit(), None);
        fs::write(root.path().join("system.slice/memory.max"), "4096\n").unwrap();
        assert_eq!(limit(), Some(4096));
        fs::write(inner.join("memory.max"), "1024\n").unwrap();
        assert_eq!(limit(), Some(1024));
    }

    #[test]
    fn proc_files_are_read() {
        assert_eq!(
            memory_total("MemTotal:       32000 kB\nMemFree: 1 kB\n"),
            Some(32_768_000)
        );
        assert_eq!(
            cgroup_path("12:cpu:/x\n0::/user.slice\n"),
            Some("/user.slice")
        );
        assert!(resident_bytes() > 1 << 20);
        assert!(memory_available() > 1 << 20);
    }
}
