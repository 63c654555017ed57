//! `memory_limiter`: refuses data at the door while memory is short.
//!
//! It is asked before a body is buffered. It adds up the bytes that requests, batches and queues hold, which are exact at
//! every moment, and looks at the resident set of the process, which is read at most once per `check_interval`.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::ack::{Refusal, RefusalReason};
use crate::batch::Batch;
use crate::component::{
    ComponentError, Factory, Output, Processor, ProcessorContext, ProcessorSettings,
};
use crate::config::Section;
use crate::memory::HeldBytes;
use crate::process;
use crate::signal::Signal;
use crate::telemetry::{Counter, names};
use crate::units::HumanDuration;

/// `memory_limiter`, as the registry lists it.
pub(super) const FACTORY: Factory<dyn ProcessorSettings> = Factory {
    kind: "memory_limiter",
    summary: "Refuses data, with a hint when to retry, while the process is short of memory.",
    signals: &Signal::ALL,
    parse,
};

/// What a user writes under `[processors.memory_limiter]`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Options {
    /// How often the memory of the process is read; also the hint given to refused clients, at least a second.
    pub check_interval: HumanDuration,
    /// The hard limit in MiB. Wins over `limit_percentage`.
    pub limit_mib: u64,
    /// The hard limit in percent of the memory that the machine or its cgroup has.
    pub limit_percentage: u64,
    /// How far below the hard limit refusal starts, in MiB; `0` means a fifth of the limit.
    pub spike_limit_mib: u64,
    /// The same in percent of total memory.
    pub spike_limit_percentage: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            check_interval: HumanDuration::from_secs(1),
            limit_mib: 0,
            limit_percentage: 0,
            spike_limit_mib: 0,
            spike_limit_percentage: 0,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
struct Settings {
    check_interval: Duration,
    /// Refusal starts above this many bytes: the hard limit less the spike.
    soft_limit: u64,
}

const MIB: u64 = 1 << 20;

fn parse(section: &mut Section<'_>) -> Option<Box<dyn ProcessorSettings>> {
    let options: Options = section.options()?;
    resolve(&options, section, process::memory_available).map(|settings| Box::new(settings) as _)
}

fn resolve(
    options: &Options,
    section: &mut Section<'_>,
    total: impl FnOnce() -> u64,
) -> Option<Settings> {
    if options.check_interval.0.is_zero() {
        section.error("check_interval", "must be greater than 0");
        return None;
    }
    for (key, value) in [
        ("limit_percentage", options.limit_percentage),
        ("spike_limit_percentage", options.spike_limit_percentage),
    ] {
        if value > 100 {
            section.error(key, "must be at most 100");
            return None;
        }
    }
    let (limit, spike) = if options.limit_mib > 0 {
        (
            options.limit_mib.saturating_mul(MIB),
            options.spike_limit_mib.saturating_mul(MIB),
        )
    } else if options.limit_percentage > 0 {
        let total = total();
        let share = |percent: u64| {
            u64::try_from(u128::from(total) * u128::from(percent) / 100).unwrap_or(u64::MAX)
        };
        (
            share(options.limit_percentage),
            share(options.spike_limit_percentage),
        )
    } else {
        section.error("", "set limit_mib or limit_percentage");
        return None;
    };
    let spike = if spike == 0 { limit / 5 } else { spike };
    if spike >= limit {
        section.error("spike_limit_mib", "must be smaller than the limit");
        return None;
    }
    Some(Settings {
        check_interval: options.check_interval.0,
        soft_limit: limit - spike,
    })
}

impl ProcessorSettings for Settings {
    fn build(&self, context: ProcessorContext) -> Result<Box<dyn Processor>, ComponentError> {
        let labels = [context.id.as_str()];
        let counter = |spec| {
            context
                .telemetry
                .item_counter(spec, context.signal, &labels)
        };
        Ok(Box::new(MemoryLimiter {
            settings: self.clone(),
            accepted: counter(&names::LIMITER_ACCEPTED),
            refused: counter(&names::LIMITER_REFUSED),
            held: context.held,
            sample: Mutex::new(Sample {
                read_at: None,
                resident: 0,
                refusing: false,
            }),
            read_resident: process::resident_bytes,
        }))
    }
}

struct MemoryLimiter {
    settings: Settings,
    accepted: Counter,
    refused: Counter,
    held: HeldBytes,
    /// Guards the last reading.
    sample: Mutex<Sample>,
    /// Bytes resident now; a function so that tests can be short of memory.
    read_resident: fn() -> u64,
}

struct Sample {
    read_at: Option<Instant>,
    resident: u64,
    refusing: bool,
}

impl Processor for MemoryLimiter {
    fn ready(&self, bytes: usize) -> Result<(), Refusal> {
        let held = self.held.bytes() as u64;
        let resident = self.resident();
        let short =
            held + bytes as u64 > self.settings.soft_limit || resident > self.settings.soft_limit;
        self.log_change(short, held, resident);
        if !short {
            return Ok(());
        }
        Err(Refusal::retry(
            RefusalReason::MemoryLimit,
            "data refused due to high memory usage",
            self.settings
                .check_interval
                .max(Refusal::DEFAULT_RETRY_AFTER),
        ))
    }

    fn refused(&self, items: usize) {
        self.refused.inc_by(items as u64);
    }

    fn process(&mut self, batch: Batch, output: &mut Output) {
        self.accepted.inc_by(batch.items() as u64);
        output.emit(batch);
    }
}

impl MemoryLimiter {
    /// The resident set, read again when the last reading is older than the interval. A reading over the limit is
    /// taken again after the allocator gave back what it keeps for later.
    fn resident(&self) -> u64 {
        let mut sample = self.sample.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = sample
            .read_at
            .is_some_and(|at| at.elapsed() < self.settings.check_interval);
        if !fresh {
            sample.resident = (self.read_resident)();
            if sample.resident > self.settings.soft_limit {
                process::release_free_memory();
                sample.resident = (self.read_resident)();
            }
            sample.read_at = Some(Instant::now());
        }
        sample.resident
    }

    fn log_change(&self, short: bool, held: u64, resident: u64) {
        let mut sample = self.sample.lock().unwrap_or_else(PoisonError::into_inner);
        if sample.refusing == short {
            return;
        }
        sample.refusing = short;
        let soft_limit = self.settings.soft_limit;
        if short {
            warn!(
                held,
                resident, soft_limit, "memory limit reached, refusing data"
            );
        } else {
            info!(
                held,
                resident, soft_limit, "memory is below the limit again, accepting data"
            );
        }
    }
}
