//! The one wasmtime engine of the process, and the clock by which calls end.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use wasmtime::{Config, InstanceAllocationStrategy, PoolingAllocationConfig};

/// How often a call under way is looked at. A call may last this much longer than it is allowed to.
pub(super) const TICK: Duration = Duration::from_millis(10);

/// After this many ticks without a call the clock rests: an idle agent wakes up for nothing.
const IDLE_TICKS: u32 = 100;

/// Instances at a time, all plugins and pipelines together. Each takes 4 GiB of address space, and memory as it needs it.
const INSTANCES_MAX: u32 = 256;

/// Core modules that one component may consist of: Rust's have three, the JavaScript engine about ten.
const CORE_INSTANCES_EACH: u32 = 16;

/// Native stack that a guest may use, of the 2 MiB that a thread of the runtime has.
const STACK_BYTES_MAX: usize = 512 << 10;

/// Elements of a table of functions or references. The JavaScript engine has about 20,000.
pub(super) const TABLE_ELEMENTS_MAX: usize = 50_000;

/// What all plugins of the process share.
pub(super) struct Engine {
    pub(super) wasmtime: wasmtime::Engine,
    calls: AtomicUsize,
    under_way: AtomicUsize,
    rests: AtomicBool,
    clock: OnceLock<Thread>,
}

/// A call under way: the clock goes while there is one.
pub(super) struct UnderWay(&'static Engine);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Engine {
    /// The engine, made when the first plugin is loaded: an agent without plugins pays nothing.
    ///
    /// # Errors
    /// When the system refuses what it needs.
    pub(super) fn shared() -> Result<&'static Self, String> {
        static ENGINE: OnceLock<Result<Engine, String>> = OnceLock::new();
        let engine = ENGINE
            .get_or_init(Self::new)
            .as_ref()
            .map_err(Clone::clone)?;
        engine.start_clock()?;
        Ok(engine)
    }

    fn new() -> Result<Self, String> {
        // Where there is not that much address space (`ulimit -v`), instances are allocated one by one.
        let wasmtime = wasmtime::Engine::new(&config(true))
            .or_else(|_| wasmtime::Engine::new(&config(false)))
            .map_err(|error| format!("start the WebAssembly engine: {error:#}"))?;
        Ok(Self {
            wasmtime,
            calls: AtomicUsize::new(0),
            under_way: AtomicUsize::new(0),
            rests: AtomicBool::new(false),
            clock: OnceLock::new(),
        })
    }

    fn start_clock(&'static self) -> Result<(), String> {
        if self.clock.get().is_some() {
            return Ok(());
        }
        // Should two begin at once, the other one ends when its first tick finds that it is not the clock.
        let thread = thread::Builder::new()
            .name("plugin-clock".to_owned())
            .spawn(|| self.run_clock())
            .map_err(|error| format!("start the clock of plugins: {error}"))?;
        let _another_was_first = self.clock.set(thread.thread().clone());
        thread.thread().unpark();
        Ok(())
    }

    fn run_clock(&self) {
        let is_the_clock = |clock: &Thread| clock.id() == thread::current().id();
        while self.clock.get().is_none() {
            thread::park();
        }
        if !self.clock.get().is_some_and(is_the_clock) {
            return;
        }
        let mut idle = 0;
        let mut seen = 0;
        loop {
            thread::sleep(TICK);
            self.wasmtime.increment_epoch();
            let calls = self.calls.load(Ordering::SeqCst);
            let quiet = calls == seen && self.under_way.load(Ordering::SeqCst) == 0;
            idle = if quiet { idle + 1 } else { 0 };
            seen = calls;
            if idle < IDLE_TICKS {
                continue;
            }
            self.rests.store(true, Ordering::SeqCst);
            // Whoever calls from now on wakes the clock; who called before is seen here.
            while self.rests.load(Ordering::SeqCst) && self.calls.load(Ordering::SeqCst) == seen {
                thread::park();
            }
            self.rests.store(false, Ordering::SeqCst);
            idle = 0;
        }
    }

    /// To be held while a guest runs.
    pub(super) fn under_way(&'static self) -> UnderWay {
        self.under_way.fetch_add(1, Ordering::SeqCst);
        self.calls.fetch_add(1, Ordering::SeqCst);
        if self.rests.swap(false, Ordering::SeqCst)
            && let Some(clock) = self.clock.get()
        {
            clock.unpark();
        }
        UnderWay(self)
    }
}

fn config(pooling: bool) -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .max_wasm_stack(STACK_BYTES_MAX);
    if pooling {
        let mut pool = PoolingAllocationConfig::new();
        pool.total_component_instances(INSTANCES_MAX)
            .total_core_instances(INSTANCES_MAX * CORE_INSTANCES_EACH)
            .total_memories(INSTANCES_MAX)
            .total_tables(INSTANCES_MAX * 2)
            .table_elements(TABLE_ELEMENTS_MAX)
            .max_memories_per_component(1)
            .max_tables_per_component(8)
            .max_core_instances_per_component(CORE_INSTANCES_EACH);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    }
    config
}
