//! An instance of a plugin: its memory, and calls that end in time.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use wasmtime::{Store, Trap};

use super::bindings::{Description, GuestSignal, Outcome, Processor};
use super::call::{self, Call};
use super::engine::Engine;
use super::guest_log::told;
use super::host::{Shared, State};
use super::limits::Limits;
use super::load::Plugin;
use super::wasi::Grants;
use crate::signal::Signal;
use crate::units::ByteSize;

/// How many times as long as a call the start of a plugin may take, and how long at least: it may have tables to build.
const STARTS_TIMES: u32 = 10;
const START_MIN: Duration = Duration::from_secs(1);

fn start_max(timeout: Duration) -> Duration {
    timeout.saturating_mul(STARTS_TIMES).max(START_MIN)
}

/// What a host call may hand over besides a result: names and lines.
const WORDS_MAX: usize = 1 << 20;

/// What an instance is made with.
pub(super) struct Setting {
    pub(super) signal: Signal,
    /// The plugin's table, as JSON.
    pub(super) config: String,
    pub(super) timeout: Duration,
    pub(super) memory_max: usize,
    pub(super) output_max: usize,
    pub(super) grants: Grants,
    pub(super) shared: Arc<Shared>,
}

/// What went wrong in a plugin.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum Failure {
    #[error("it took longer than {0:?}")]
    Timeout(Duration),
    #[error("it wanted more memory than `memory_limit`, {0}")]
    Memory(String),
    #[error("{0}")]
    Trap(String),
    #[error("it gave an error: {0}")]
    Error(String),
    #[error("its output is not valid: {0}")]
    InvalidOutput(String),
    #[error("its output is larger than `output_limit`: {0}")]
    OutputLimit(String),
    #[error("it is not called after repeated failures")]
    Skipped,
}

impl Failure {
    /// The stable name in metrics.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Timeout(_) => "timeout",
            Self::Memory(_) => "memory_limit",
            Self::Trap(_) => "trap",
            Self::Error(_) => "error",
            Self::InvalidOutput(_) => "invalid_output",
            Self::OutputLimit(_) => "output_limit",
            Self::Skipped => "skipped",
        }
    }

    /// What happened, without a word of the plugin's own.
    pub(super) const fn outline(&self) -> &'static str {
        match self {
            Self::Timeout(_) => "it took too long",
            Self::Memory(_) => "it wanted more memory than it may have",
            Self::Trap(_) => "it trapped",
            Self::Error(_) => "it gave an error",
            Self::InvalidOutput(_) => "its output is not valid",
            Self::OutputLimit(_) => "its output is too large",
            Self::Skipped => "it is not called after repeated failures",
        }
    }
}

/// A started and configured instance.
pub(super) struct Instance {
    engine: &'static Engine,
    store: Store<State>,
    guest: Processor,
    timeout: Duration,
    /// How often it wants [`Instance::tick`].
    pub(super) tick_interval: Option<Duration>,
}

impl Instance {
    /// Starts an instance and configures it.
    pub(super) fn start(plugin: &Plugin, setting: &Setting) -> Result<Self, Failure> {
        let mut instance = Self::bare(plugin, setting)?;
        instance.configure(setting)?;
        Ok(instance)
    }

    /// Starts an instance only, to ask what it is.
    pub(super) fn bare(plugin: &Plugin, setting: &Setting) -> Result<Self, Failure> {
        let engine = Engine::shared().map_err(Failure::Trap)?;
        let mut store = new_store(engine, setting);
        let guest = guarded(engine, &mut store, start_max(setting.timeout), |store| {
            plugin.pre.instantiate(store)
        })?;
        Ok(Self {
            engine,
            store,
            guest,
            timeout: setting.timeout,
            tick_interval: None,
        })
    }

    fn configure(&mut self, setting: &Setting) -> Result<(), Failure> {
        let signal = GuestSignal::from(setting.signal);
        let allowed = start_max(setting.timeout);
        let description = self.describe()?;
        if !description.signals.contains(&signal) {
            let name = told(&description.name);
            return Err(Failure::Error(format!(
                "the plugin `{name}` does not work for {}",
                setting.signal
            )));
        }
        let guest = self.guest.tidegate_plugin_guest();
        let setup = guarded(self.engine, &mut self.store, allowed, |store| {
            guest.call_configure(store, signal, &setting.config)
        })?
        .map_err(|said| Failure::Error(told(&said)))?;
        let interval = setup.tick_interval_ms.filter(|interval| *interval > 0);
        self.tick_interval = interval.map(|interval| Duration::from_millis(interval.into()));
        Ok(())
    }

    /// What the plugin says of itself.
    pub(super) fn describe(&mut self) -> Result<Description, Failure> {
        let guest = self.guest.tidegate_plugin_guest();
        guarded(
            self.engine,
            &mut self.store,
            start_max(self.timeout),
            |store| guest.call_describe(store),
        )
    }

    /// Hands a batch over. After any failure but [`Failure::Error`] the instance is of no use any more.
    pub(super) fn process(&mut self, batch: &[u8]) -> Result<Outcome, Failure> {
        let guest = self.guest.tidegate_plugin_guest();
        guarded(self.engine, &mut self.store, self.timeout, |store| {
            guest.call_process(store, batch)
        })?
        .map_err(|said| Failure::Error(told(&said)))
    }

    /// Lets the plugin do what it does from time to time.
    pub(super) fn tick(&mut self) -> Result<(), Failure> {
        let guest = self.guest.tidegate_plugin_guest();
        guarded(self.engine, &mut self.store, self.timeout, |store| {
            guest.call_tick(store)
        })
    }

    /// Bytes of linear memory that it has.
    pub(super) fn memory(&self) -> usize {
        self.store.data().limits.memory()
    }
}

fn new_store(engine: &Engine, setting: &Setting) -> Store<State> {
    let state = State {
        limits: Limits::new(setting.memory_max),
        call: Call::default(),
        grants: setting.grants.clone(),
        shared: Arc::clone(&setting.shared),
        last_words: String::new(),
    };
    let mut store = Store::new(&engine.wasmtime, state);
    store.limiter(|state| &mut state.limits);
    store.epoch_deadline_callback(call::look);
    store.set_hostcall_fuel(setting.output_max.saturating_add(WORDS_MAX));
    store
}

/// Runs guest code for at most about `allowed`.
fn guarded<T>(
    engine: &'static Engine,
    store: &mut Store<State>,
    allowed: Duration,
    run: impl FnOnce(&mut Store<State>) -> wasmtime::Result<T>,
) -> Result<T, Failure> {
    let _under_way = engine.under_way();
    store.data_mut().call.begin(allowed);
    // What it did without in an earlier call is not why this one fails.
    store.data_mut().limits.was_denied();
    store.set_epoch_deadline(1);
    match run(store) {
        Ok(done) => {
            store.data_mut().log_last_words();
            Ok(done)
        }
        Err(error) => Err(failure(&error, store.data_mut())),
    }
}

fn failure(error: &wasmtime::Error, state: &mut State) -> Failure {
    if let Some(allowed) = state.call.ran_out() {
        return Failure::Timeout(allowed);
    }
    let said = told(&one_line(&std::mem::take(&mut state.last_words)));
    let cause = match error.downcast_ref::<Trap>() {
        _ if !said.is_empty() => said,
        // Languages put their stack below their data: one that overflows runs out of memory downwards, and into nothing.
        Some(trap @ Trap::MemoryOutOfBounds) => format!("{trap}{MAY_BE_STACK}"),
        Some(trap) => trap.to_string(),
        None => error.root_cause().to_string(),
    };
    if state.limits.was_denied() {
        let limit = ByteSize(state.limits.memory_max() as u64);
        return Failure::Memory(format!("{limit}: {cause}"));
    }
    // There is no type for it in wasmtime.
    if cause.contains(FUEL_IS_OUT) {
        return Failure::OutputLimit(cause);
    }
    Failure::Trap(cause)
}

/// A guest's last words on one line, without what its runtime recommends.
fn one_line(said: &str) -> String {
    let lines = said.lines().map(str::trim);
    let lines: Vec<&str> = lines
        .filter(|line| !line.is_empty() && !line.starts_with("note: run with"))
        .collect();
    lines.join(" ")
}

/// Whether a plugin's own stack has overflowed, only its compiler could tell.
const MAY_BE_STACK: &str =
    " (so ends a plugin whose stack overflows, too, as by a recursion without end)";

/// What wasmtime says when a guest hands over more than the store allows.
const FUEL_IS_OUT: &str = "fuel allocated for hostcalls has been exhausted";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_fit_on_a_line() {
        let said = "\nthread '<unnamed>' panicked at src/lib.rs:1:2:\nno way\nnote: run with `RUST_BACKTRACE=1`\n";
        let line = "thread '<unnamed>' panicked at src/lib.rs:1:2: no way";
        assert_eq!(one_line(said), line);
    }
}
