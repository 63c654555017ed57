//! Where figures were taken, and what disturbed them: they mean little without it.

use std::fs;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::process::{Process, machine_cpu, stolen_cpu};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Environment {
    pub(crate) host: String,
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) memory_bytes: u64,
    pub(crate) kernel: String,
    /// Version of loadgen.
    pub(crate) loadgen: String,
    /// Of the last 1, 5 and 15 minutes, at the start.
    pub(crate) load_average: [f64; 3],
    /// Absent where the system does not say.
    pub(crate) disturbed: Option<Disturbance>,
}

/// CPU time of the machine during the run that was not the generator's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Disturbance {
    /// Taken by the hypervisor for other machines.
    pub(crate) stolen_seconds: f64,
    /// Used by all other processes; what was measured is among them if it runs here.
    pub(crate) others_cpu_seconds: f64,
}

/// CPU times so far; `None` where the system does not say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counters {
    machine: Option<Duration>,
    stolen: Option<Duration>,
    pub(crate) own: Option<Duration>,
}

impl Counters {
    /// From `then` until these. What a machine has counted back is nothing.
    pub(crate) fn since(&self, then: &Self) -> Self {
        let since =
            |now: Option<Duration>, then: Option<Duration>| Some(now?.saturating_sub(then?));
        Self {
            machine: since(self.machine, then.machine),
            stolen: since(self.stolen, then.stolen),
            own: since(self.own, then.own),
        }
    }

    /// Of all processes but this one.
    pub(crate) fn others(&self) -> Option<Duration> {
        Some(self.machine?.saturating_sub(self.own?))
    }

    pub(crate) fn read() -> Self {
        Self {
            machine: machine_cpu().ok(),
            stolen: stolen_cpu().ok(),
            own: Process::own().cpu().ok(),
        }
    }
}

impl Environment {
    pub(crate) fn read() -> Self {
        let cpu_info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let mut load = load
            .split_ascii_whitespace()
            .map_while(|field| field.parse().ok());
        Self {
            host: sysinfo::System::host_name().unwrap_or_default(),
            cpu: value(&cpu_info, "model name")
                .unwrap_or("unknown")
                .to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: value(&memory, "MemTotal").and_then(kibibytes).unwrap_or(0),
            kernel: kernel.trim().to_owned(),
            loadgen: env!("CARGO_PKG_VERSION").to_owned(),
            load_average: std::array::from_fn(|_| load.next().unwrap_or(0.0)),
            disturbed: None,
        }
    }

    /// Notes what else the machine has done since `start`.
    pub(super) fn disturbed_since(mut self, start: &Counters) -> Self {
        let spent = Counters::read().since(start);
        let both = spent.stolen.zip(spent.others());
        self.disturbed = both.map(|(stolen, others)| Disturbance {
            stolen_seconds: stolen.as_secs_f64(),
            others_cpu_seconds: others.as_secs_f64(),
        });
        self
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

    #[test]
    fn work_of_others_counts_as_disturbance() {
        let counters = |machine: u64, own: u64| Counters {
            machine: Some(Duration::from_secs(machine)),
            stolen: Some(Duration::ZERO),
            own: Some(Duration::from_secs(own)),
        };
        let disturbed = Environment::read()
            .disturbed_since(&counters(0, 0))
            .disturbed;
        assert!(disturbed.unwrap().others_cpu_seconds > 0.0);
        // Counters of a machine that has counted more than it ever will again.
        let disturbed = Environment::read()
            .disturbed_since(&counters(u64::MAX >> 20, 0))
            .disturbed;
        assert!(disturbed.unwrap().others_cpu_seconds.abs() < 1e-9);
    }
}
