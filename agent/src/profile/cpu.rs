//! Samples of where the process spends its time: the system's timer interrupts whoever runs, 100 times in each second of
//! processor time, and the interrupted thread notes its stack.
//!
//! What runs inside of the signal's handler takes no lock and no memory: it writes into slots that lie ready. Unwinding is
//! that of the platform, which looks frames up without a lock from glibc 2.35 on; before that it takes one that the same
//! thread may take again.
#![allow(
    unsafe_code,
    reason = "timers, signals and the interrupted thread's registers have no safe interface"
)]

use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, TryLockError};
use std::time::Duration;
use std::{io, ptr};

use super::stacks::Stacks;
use super::{DEPTH_MAX, Stack};

/// Samples in a second of processor time, as Go takes them: enough to see what takes a percent in half a minute, and far
/// less than a percent of the time.
const HERTZ: u32 = 100;

/// Samples that are not collected yet: what 80 processors make between two visits of [`DRAIN_INTERVAL`].
const SLOTS: usize = 1024;

/// How often samples have to be collected.
pub const DRAIN_INTERVAL: Duration = Duration::from_millis(100);

const FREE: u8 = 0;
const TAKEN: u8 = 1;
const FULL: u8 = 2;

struct Slot {
    /// Whose the slot is: of a handler from [`TAKEN`] on, of the collector from [`FULL`] on.
    state: AtomicU8,
    depth: AtomicUsize,
    frames: [AtomicUsize; DEPTH_MAX],
}

static POOL: [Slot; SLOTS] = [const {
    Slot {
        state: AtomicU8::new(FREE),
        depth: AtomicUsize::new(0),
        frames: [const { AtomicUsize::new(0) }; DEPTH_MAX],
    }
}; SLOTS];
static NEXT: AtomicUsize = AtomicUsize::new(0);
static LOST: AtomicU64 = AtomicU64::new(0);
static ACTIVE: AtomicBool = AtomicBool::new(false);

/// Guards the timer: there is one for the process.
static TIMER: Mutex<()> = Mutex::new(());

/// A profile is being taken already, or the system refuses.
#[derive(Debug, thiserror::Error)]
pub enum Busy {
    /// There is one timer, and somebody has it.
    #[error("a CPU profile is being taken already; one at a time")]
    Taken,
    /// The system has no timer for us.
    #[error("start the profiling timer: {0}")]
    Refused(#[from] io::Error),
}

/// A profile that is being taken, until it is dropped.
#[derive(Debug)]
pub struct CpuProfile {
    stacks: Stacks<2>,
    _timer: MutexGuard<'static, ()>,
}

impl CpuProfile {
    /// Starts sampling.
    ///
    /// # Errors
    /// When another profile is being taken, or the system refuses.
    pub fn start() -> Result<Self, Busy> {
        let timer = match TIMER.try_lock() {
            Ok(timer) => timer,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(Busy::Taken),
        };
        install()?;
        for slot in &POOL {
            slot.state.store(FREE, Ordering::Release);
        }
        LOST.store(0, Ordering::Relaxed);
        ACTIVE.store(true, Ordering::Release);
        let profile = Self {
            stacks: Stacks::default(),
            _timer: timer,
        };
        set_timer(1_000_000 / HERTZ)?;
        Ok(profile)
    }

    /// Nanoseconds of processor time between two samples.
    pub const PERIOD: i64 = 1_000_000_000 / HERTZ as i64;

    /// Collects the samples so far. To be called every [`DRAIN_INTERVAL`].
    pub fn drain(&mut self) {
        let mut frames = [0; DEPTH_MAX];
        for slot in &POOL {
            if slot.state.load(Ordering::Acquire) != FULL {
                continue;
            }
            let depth = slot.depth.load(Ordering::Relaxed).min(DEPTH_MAX);
            for (frame, found) in frames.iter_mut().zip(&slot.frames) {
                *frame = found.load(Ordering::Relaxed);
            }
            slot.state.store(FREE, Ordering::Release);
            let stack = frames.get(..depth).unwrap_or_default();
            self.stacks.add(stack, [1, Self::PERIOD]);
        }
        let lost = LOST.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let lost = i64::try_from(lost).unwrap_or(i64::MAX);
            self.stacks
                .add(&[], [lost, lost.saturating_mul(Self::PERIOD)]);
        }
    }

    /// Ends it. Stacks with the number of samples and the time they stand for.
    pub fn finish(mut self) -> Vec<(Stack, [i64; 2])> {
        self.pause();
        self.drain();
        std::mem::take(&mut self.stacks).into_samples()
    }

    fn pause(&self) {
        // Nothing can be done about a timer that does not stop; its signals are ignored.
        drop(set_timer(0));
        ACTIVE.store(false, Ordering::Release);
    }
}

impl Drop for CpuProfile {
    fn drop(&mut self) {
        self.pause();
    }
}

/// The handler stays for good: a signal that comes late must not end the process.
fn install() -> io::Result<()> {
    // SAFETY: an all-zero `sigaction` is a valid value; the handler has the signature that SA_SIGINFO asks for and does only
    // what is allowed in a handler.
    let outcome = unsafe {
        let mut action = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
        libc::sigemptyset(&raw mut action.sa_mask);
        libc::sigaction(libc::SIGPROF, &raw const action, ptr::null_mut())
    };
    match outcome {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn set_timer(microseconds: u32) -> io::Result<()> {
    let interval = libc::timeval {
        tv_sec: 0,
        tv_usec: libc::suseconds_t::from(microseconds),
    };
    let timer = libc::itimerval {
        it_interval: interval,
        it_value: interval,
    };
    // SAFETY: `setitimer` reads the value it is given and writes nothing.
    match unsafe { libc::setitimer(libc::ITIMER_PROF, &raw const timer, ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

extern "C" fn handler(
    _signal: libc::c_int,
    _info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    if !ACTIVE.load(Ordering::Acquire) {
        return;
    }
    // SAFETY: the address of this thread's `errno` is always valid.
    let errno = unsafe { *libc::__errno_location() };
    let slot = POOL.get(NEXT.fetch_add(1, Ordering::Relaxed) % SLOTS);
    let taken = slot.filter(|slot| {
        let (success, failure) = (Ordering::Acquire, Ordering::Relaxed);
        let taken = slot.state.compare_exchange(FREE, TAKEN, success, failure);
        taken.is_ok()
    });
    match taken {
        Some(slot) => {
            note(slot, interrupted_at(context));
            slot.state.store(FULL, Ordering::Release);
        }
        None => {
            LOST.fetch_add(1, Ordering::Relaxed);
        }
    }
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

/// Writes the stack of the interrupted code. Called in the handler.
fn note(slot: &Slot, interrupted: usize) {
    let mut depth = 0;
    let mut inside = false;
    let mut keep = |address: usize| {
        if let Some(frame) = slot.frames.get(depth) {
            frame.store(address, Ordering::Relaxed);
            depth += 1;
        }
        depth < DEPTH_MAX
    };
    // SAFETY: nobody else resolves symbols inside of this call, which is what the lock of the safe variant is for.
    unsafe {
        backtrace::trace_unsynchronized(|frame| {
            let address = frame.ip() as usize;
            // Before that come the handler's own frames.
            inside |= address == interrupted;
            // Below where the thread began is nothing.
            address != 0 && (!inside || keep(address))
        });
    }
    if !inside {
        keep(interrupted);
    }
    slot.depth.store(depth, Ordering::Relaxed);
}

/// Where the thread was.
fn interrupted_at(context: *mut libc::c_void) -> usize {
    let context = context.cast::<libc::ucontext_t>();
    // SAFETY: the system gives a handler with SA_SIGINFO a valid context, which it does not change meanwhile.
    let machine = unsafe { &(*context).uc_mcontext };
    #[cfg(target_arch = "x86_64")]
    let address = machine
        .gregs
        .get(libc::REG_RIP as usize)
        .map_or(0, |address| *address as usize);
    #[cfg(target_arch = "aarch64")]
    let address = machine.pc as usize;
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let address = {
        let _unknown = machine;
        0
    };
    address
}

/// For tests that take profiles: one after the other.
#[cfg(test)]
pub(crate) fn in_turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::testing::DEADLINE;

    #[inline(never)]
    fn spin(until: Instant) -> u64 {
        let mut sum = 0_u64;
        while Instant::now() < until {
            for number in 0..10_000_u64 {
                sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(number));
            }
        }
        sum
    }

    #[test]
    fn what_runs_is_found_and_there_is_one_profile_at_a_time() {
        let _turn = in_turn();
        let mut profile = CpuProfile::start().unwrap();
        assert!(matches!(CpuProfile::start(), Err(Busy::Taken)));
        let spinning = spin as *const () as usize;
        let deadline = Instant::now() + DEADLINE;
        loop {
            std::hint::black_box(spin(Instant::now() + Duration::from_millis(50)));
            profile.drain();
            let mut stacks = profile.stacks.seen().filter(|stack| {
                let mut frames = stack.iter();
                // The function is short.
                frames.any(|address| (spinning..spinning + 4096).contains(address))
            });
            if stacks.next().is_some_and(|stack| stack.len() > 1) {
                break;
            }
            drop(stacks);
            assert!(Instant::now() < deadline, "nothing was sampled");
        }
        let samples = profile.finish();
        let total: i64 = samples.iter().map(|(_, [count, _])| count).sum();
        assert!(total > 0);
        assert!(
            samples
                .iter()
                .all(|(_, [count, time])| count * CpuProfile::PERIOD == *time)
        );
        drop(CpuProfile::start().unwrap());
    }
}
