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
        assert!(resident_bytes() > 1 << 20);
        assert!(memory_available() > 1 << 20);
    }
}
