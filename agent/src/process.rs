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

/// Linux on the platforms we build for has pages of 4 KiB.
const PAGE_BYTES: u64 = 4096;

/// How long the process has run and worked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Times {
    /// User and system time of all threads, in seconds.
    pub cpu_seconds: f64,
    /// Seconds since the process started.
    pub uptime_seconds: f64,
}

/// The times now; `None` where `/proc` cannot be read.
pub fn times() -> Option<Times> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let system = fs::read_to_string("/proc/uptime").ok()?;
    parse_times(&stat, &system)
}

/// `/proc` counts time in hundredths of a second on every Linux, whatever the kernel's own clock does.
const TICKS_PER_SECOND: f64 = 100.0;

fn parse_times(stat: &str, system_uptime: &str) -> Option<Times> {
    // The program's name stands in parentheses and may hold anything, also parentheses and spaces.
    let (_, fields) = stat.rsplit_once(')')?;
    let seconds = |index: usize| -> Option<f64> {
        let ticks: f64 = fields.split_whitespace().nth(index)?.parse().ok()?;
        Some(ticks / TICKS_PER_SECOND)
    };
    let system: f64 = system_uptime.split_whitespace().next()?.parse().ok()?;
    // Counted from the state, field 3: utime is field 14, stime 15, starttime 22.
    Some(Times {
        cpu_seconds: seconds(11)? + seconds(12)?,
        uptime_seconds: (system - seconds(19)?).max(0.0),
    })
}

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
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 1 0 0 0 150 75 0 0 20 0 3 0 90000 1 2";
        assert_eq!(
            parse_times(stat, "1000.5 12.0"),
            Some(Times {
                cpu_seconds: 2.25,
                uptime_seconds: 100.5
            })
        );
        assert_eq!(parse_times("", ""), None);
        assert!(times().is_some_and(|times| times.uptime_seconds >= 0.0));
        assert!(resident_bytes() > 1 << 20);
        assert!(memory_available() > 1 << 20);
    }
}
