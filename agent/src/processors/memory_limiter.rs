//! `memory_limiter`: refuses data at the door while memory is short.
//!
//! It is asked before a body is buffered. It adds up the bytes that requests, batches and queues hold, which are exact at
//! every moment, and what the process has resident besides, which is read once per `check_interval`, and more often while
//! data is refused.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use schemars::JsonSchema;
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
use crate::status::{Condition, Reporter};
use crate::telemetry::{Counter, names};
use crate::units::HumanDuration;

/// `memory_limiter`, as the registry lists it.
pub(super) const FACTORY: Factory<dyn ProcessorSettings> = Factory {
    kind: "memory_limiter",
    summary: "Refuses data, with a hint when to retry, while the process is short of memory.",
    signals: &Signal::ALL,
    schema: |generator| generator.subschema_for::<Options>(),
    parse,
};

/// What a user writes under `[processors.memory_limiter]`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Options {
    /// How often the memory of the process is read; also the hint given to refused clients, at least a second.
    #[schemars(extend("x-more-than" = "0s"))]
    pub check_interval: HumanDuration,
    /// The hard limit in MiB. Wins over `limit_percentage`.
    pub limit_mib: u64,
    /// The hard limit in percent of the memory that the machine or its cgroup has.
    #[schemars(range(max = 100))]
    pub limit_percentage: u64,
    /// How far below the hard limit refusal starts, in MiB; `0` means a fifth of the limit.
    pub spike_limit_mib: u64,
    /// The same in percent of total memory.
    #[schemars(range(max = 100))]
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
    let mut sound = true;
    let mut complain = |key: &str, message: &str| {
        section.error(key, message);
        sound = false;
    };
    if options.check_interval.0.is_zero() {
        complain("check_interval", "must be greater than 0");
    }
    for (key, value) in [
        ("limit_percentage", options.limit_percentage),
        ("spike_limit_percentage", options.spike_limit_percentage),
    ] {
        if value > 100 {
            complain(key, "must be at most 100");
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
        complain("", "set limit_mib or limit_percentage");
        return None;
    };
    let spike = if spike == 0 { limit / 5 } else { spike };
    if spike >= limit {
        match options.limit_mib {
            0 => complain(
                "spike_limit_percentage",
                "must be smaller than limit_percentage",
            ),
            _ => complain("spike_limit_mib", "must be smaller than limit_mib"),
        }
    }
    sound.then(|| Settings {
        check_interval: options.check_interval.0,
        soft_limit: limit.saturating_sub(spike),
    })
}

impl ProcessorSettings for Settings {
    fn memory_limit(&self) -> Option<u64> {
        Some(self.soft_limit)
    }

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
            status: context.status,
            sample: Mutex::default(),
            read_resident: process::resident_bytes,
        }))
    }
}

struct MemoryLimiter {
    settings: Settings,
    accepted: Counter,
    refused: Counter,
    held: HeldBytes,
    status: Reporter,
    /// Guards the last reading.
    sample: Mutex<Sample>,
    /// Bytes resident now; a function so that tests can be short of memory.
    read_resident: fn() -> u64,
}

#[derive(Default)]
struct Sample {
    read_at: Option<Instant>,
    /// Bytes resident besides those held, as of late.
    besides: u64,
    /// What was logged last, and when.
    refusing: bool,
    changed_at: Option<Instant>,
}

/// Under a load that is too high, memory is short and not short by turns, many times a second.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// What refused clients are told.
const SHORT: &str = "data refused due to high memory usage";

/// While data is refused, memory is read again after this long.
const READ_AGAIN: Duration = Duration::from_millis(50);

/// What is reserved for a body is not resident before it has come, so that one reading may say too little of the rest: of
/// earlier readings this part is forgotten with each new one.
const FORGOTTEN_SHIFT: u32 = 3;

impl Processor for MemoryLimiter {
    fn ready(&self, bytes: usize) -> Result<(), Refusal> {
        let held = self.held.bytes() as u64;
        let is_short = |besides: u64| held + bytes as u64 + besides > self.settings.soft_limit;
        let mut besides = self.besides(held, self.settings.check_interval);
        if is_short(besides) {
            besides = self.besides(held, READ_AGAIN.min(self.settings.check_interval));
        }
        let short = is_short(besides);
        self.log_change(short, held, besides);
        if !short {
            self.status.works(Condition::Memory);
            return Ok(());
        }
        self.status.fails(Condition::Memory, SHORT);
        Err(Refusal::retry(
            RefusalReason::MemoryLimit,
            SHORT,
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
    /// Bytes resident besides the `held` ones, read again when the last reading is older than `age_max`. A reading that would
    /// let too little in is taken again after the allocator gave back what it keeps for later.
    fn besides(&self, held: u64, age_max: Duration) -> u64 {
        let mut sample = self.sample.lock().unwrap_or_else(PoisonError::into_inner);
        if sample.read_at.is_some_and(|at| at.elapsed() < age_max) {
            return sample.besides;
        }
        let mut resident = (self.read_resident)();
        if resident > self.settings.soft_limit - self.settings.soft_limit / 4 {
            process::release_free_memory();
            resident = (self.read_resident)();
        }
        let remembered = sample.besides - (sample.besides >> FORGOTTEN_SHIFT);
        sample.besides = resident.saturating_sub(held).max(remembered);
        sample.read_at = Some(Instant::now());
        sample.besides
    }

    fn log_change(&self, short: bool, held: u64, besides: u64) {
        let mut sample = self.sample.lock().unwrap_or_else(PoisonError::into_inner);
        let lately = |at: Instant| at.elapsed() < LOG_INTERVAL;
        if sample.refusing == short || sample.changed_at.is_some_and(lately) {
            return;
        }
        sample.refusing = short;
        sample.changed_at = Some(Instant::now());
        let soft_limit = self.settings.soft_limit;
        if short {
            warn!(
                held,
                besides, soft_limit, "memory limit reached: data waits, or is refused"
            );
        } else {
            info!(
                held,
                besides, soft_limit, "memory is below the limit again, accepting data"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Diagnostics;
    use crate::telemetry::Telemetry;

    /// The soft limit of an options text on a machine of 1000 MiB, or the message of its error.
    fn check(text: &str, expected: Result<u64, &str>) {
        let mut found = Diagnostics::default();
        let mut section =
            Section::from_text("processors.memory_limiter", text, &mut found).unwrap();
        let options: Options = section.options().unwrap();
        let limit =
            resolve(&options, &mut section, || 1000 * MIB).map(|settings| settings.soft_limit);
        match expected {
            Ok(mebibytes) => assert_eq!(limit, Some(mebibytes * MIB), "{text}: {found}"),
            Err(message) => {
                assert_eq!(limit, None, "{text}");
                assert!(found.to_string().contains(message), "{text}: {found}");
            }
        }
    }

    #[test]
    fn limits_come_from_size_or_share_less_the_spike() {
        check("limit_mib = 100", Ok(80));
        check("limit_mib = 100\nspike_limit_mib = 30", Ok(70));
        check("limit_percentage = 50", Ok(400));
        check(
            "limit_percentage = 50\nspike_limit_percentage = 20",
            Ok(300),
        );
        check("limit_mib = 100\nlimit_percentage = 50", Ok(80));
    }

    #[test]
    fn impossible_limits_are_errors() {
        check("", Err("set limit_mib or limit_percentage"));
        check("limit_percentage = 101", Err("at most 100"));
        check(
            "limit_percentage = 10\nspike_limit_percentage = 11",
            Err("spike_limit_percentage: must be smaller than limit_percentage"),
        );
        let both = "limit_mib = 10\nspike_limit_mib = 10\ncheck_interval = \"0s\"";
        check(both, Err("smaller than limit_mib"));
        check(both, Err("greater than 0"));
        check(
            "limit_mib = 10\nspike_limit_mib = 10",
            Err("spike_limit_mib: must be smaller than limit_mib"),
        );
        check(
            "limit_mib = 10\ncheck_interval = \"0s\"",
            Err("greater than 0"),
        );
    }

    fn limiter(held: &HeldBytes, read_resident: fn() -> u64) -> MemoryLimiter {
        let counter = Telemetry::default().counter(&names::BATCH_SIZE_TRIGGER, &["test"]);
        MemoryLimiter {
            settings: Settings {
                check_interval: Duration::from_secs(5),
                soft_limit: 1000,
            },
            accepted: counter.clone(),
            refused: counter,
            held: held.clone(),
            status: Reporter::default(),
            sample: Mutex::default(),
            read_resident,
        }
    }

    #[test]
    fn held_bytes_count_at_every_moment() {
        let held = HeldBytes::default();
        let limiter = limiter(&held, || 0);
        assert_eq!(limiter.ready(1000), Ok(()));
        let reservation = held.reserve(600);
        assert_eq!(limiter.ready(400), Ok(()));
        let refusal = limiter.ready(401).unwrap_err();
        assert_eq!(refusal.reason, RefusalReason::MemoryLimit);
        assert_eq!(refusal.retry_after, Some(Duration::from_secs(5)));
        drop(reservation);
        assert_eq!(limiter.ready(1000), Ok(()));
    }

    #[test]
    fn a_large_process_is_refused_whatever_it_holds() {
        assert!(limiter(&HeldBytes::default(), || 1001).ready(0).is_err());
        assert!(limiter(&HeldBytes::default(), || 1000).ready(0).is_ok());
    }
}
