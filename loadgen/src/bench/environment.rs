//! Where figures were taken: they mean little without it.

use std::fs;

use serde::Serialize;

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Environment {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) memory_bytes: u64,
    pub(crate) kernel: String,
    /// Seconds since 1970.
    pub(crate) started_at: u64,
    pub(crate) loadgen: &'static str,
}

impl Environment {
    pub(crate) fn read() -> Self {
        let cpu_info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        Self {
            cpu: value(&cpu_info, "model name")
                .unwrap_or("unknown")
                .to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: value(&memory, "MemTotal").and_then(kibibytes).unwrap_or(0),
            kernel: kernel.trim().to_owned(),
            started_at: crate::otlp::drive::unix_nanos() / 1_000_000_000,
            loadgen: env!("CARGO_PKG_VERSION"),
        }
    }
}

/// The first `name : value` line's value.
fn value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        Some(
            line.strip_prefix(name)?
                .trim_start()
                .strip_prefix(':')?
                .trim(),
        )
    })
}

fn kibibytes(text: &str) -> Option<u64> {
    text.strip_suffix("kB")?
        .trim()
        .parse::<u64>()
        .ok()?
        .checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_name() {
        let text = "model\t: 17\nmodel name\t: AMD EPYC\nMemTotal:   16 kB\n";
        assert_eq!(value(text, "model name"), Some("AMD EPYC"));
        assert_eq!(value(text, "MemTotal").and_then(kibibytes), Some(16384));
        assert_eq!(value(text, "absent"), None);
    }
}
