//! Samples of who holds the process's memory: about one allocation in each so many bytes is noted with its stack, until it
//! is freed.
//!
//! The allocator itself stays the C library's. While nothing is sampled, an allocation costs one relaxed load more; the
//! figures stand in `docs/looking-inside.md`.
#![allow(
    unsafe_code,
    reason = "an allocator is unsafe to write; this one hands everything on and notes addresses"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::stacks::Stacks;
use super::{DEPTH_MAX, Stack};

/// Bytes between two samples on average, as Go takes them: a stack that holds 5 MiB is seen with an error of a third.
pub const INTERVAL: usize = 512 * 1024;

/// Distinct stacks; what comes from others is not sampled.
const STACKS_MAX: usize = 16_384;

/// Samples that are not freed: 128 GiB of memory at the default interval. Past that nothing is sampled.
const LIVE_MAX: usize = 1 << 18;

/// Counters of what is sampled, by address: whoever frees looks here first.
const FILTER: usize = 1 << 14;

/// The system's allocator, which samples when told to.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sampling;

/// Bytes between two samples; 0 samples nothing.
static EVERY: AtomicUsize = AtomicUsize::new(0);

/// How often sampling was begun.
static SESSIONS: AtomicU64 = AtomicU64::new(0);

static SAMPLED: [AtomicU32; FILTER] = [const { AtomicU32::new(0) }; FILTER];

/// Guards the samples. Only taken with [`INSIDE`] set: what is allocated and freed under it is never sampled.
static HEAP: Mutex<Option<Heap>> = Mutex::new(None);

thread_local! {
    /// Bytes until this thread's next sample.
    static LEFT: Cell<i64> = const { Cell::new(0) };
    /// The state of this thread's random numbers; 0 before the first.
    static RANDOM: Cell<u64> = const { Cell::new(0) };
    /// Whether this thread is about samples.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

// SAFETY: every call goes to `System` with the caller's own arguments, and gives back what it gave; what is done besides
// touches only the address as a number.
unsafe impl GlobalAlloc for Sampling {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is that of `System`.
        let block = unsafe { System.alloc(layout) };
        allocated(block, layout.size());
        block
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is that of `System`.
        let block = unsafe { System.alloc_zeroed(layout) };
        allocated(block, layout.size());
        block
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        freeing(block);
        // SAFETY: the caller's promise is that of `System`.
        unsafe { System.dealloc(block, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // Before: afterwards the address may be somebody else's.
        freeing(block);
        // SAFETY: the caller's promise is that of `System`.
        let moved = unsafe { System.realloc(block, layout, new_size) };
        allocated(moved, new_size);
        moved
    }
}

#[inline]
fn allocated(block: *mut u8, size: usize) {
    let every = EVERY.load(Ordering::Relaxed);
    if every != 0 {
        count(block, size, every);
    }
}

#[inline]
fn freeing(block: *mut u8) {
    if EVERY.load(Ordering::Relaxed) != 0 {
        look(block);
    }
}

#[inline(never)]
fn count(block: *mut u8, size: usize, every: usize) {
    // A thread that ends has no counters any more, and samples nothing.
    let due = LEFT.try_with(|left| {
        let rest = left.get().saturating_sub_unsigned(size as u64);
        left.set(rest);
        rest < 0
    });
    if due == Ok(true) && !block.is_null() {
        sample(block as usize, size, every);
    }
}

#[inline(never)]
fn look(block: *mut u8) {
    if SAMPLED[place(block as usize)].load(Ordering::Relaxed) != 0 {
        forget(block as usize);
    }
}

/// The place of an address in [`SAMPLED`]: always within.
fn place(address: usize) -> usize {
    let mixed = (address as u64 >> 4).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> 50) as usize % FILTER
}

#[cold]
#[inline(never)]
fn sample(address: usize, size: usize, every: usize) {
    let Some(_inside) = Inside::enter() else {
        return;
    };
    let first = RANDOM.get() == 0;
    LEFT.set(next_interval(every));
    if first {
        // The count began somewhere: the first interval is not one.
        return;
    }
    let mut frames = [0; DEPTH_MAX];
    let stack = stack(&mut frames);
    if let Some(heap) = &mut *heap() {
        heap.add(address, size, stack);
    }
}

#[cold]
#[inline(never)]
fn forget(address: usize) {
    let Some(_inside) = Inside::enter() else {
        return;
    };
    if let Some(heap) = &mut *heap() {
        heap.remove(address);
    }
}

/// The stack of the caller, with the frames of this module.
fn stack(frames: &mut [usize; DEPTH_MAX]) -> &[usize] {
    let mut depth = 0;
    // SAFETY: nobody resolves symbols inside of this call, which is what the lock of the safe variant is for.
    unsafe {
        backtrace::trace_unsynchronized(|frame| {
            let address = frame.ip() as usize;
            // Below where the thread began is nothing.
            if address == 0 {
                return false;
            }
            if let Some(place) = frames.get_mut(depth) {
                *place = address;
                depth += 1;
            }
            depth < DEPTH_MAX
        });
    }
    frames.get(..depth).unwrap_or_default()
}

/// Bytes until the next sample: so that every byte is as likely as any other to be sampled, as in a Poisson process.
fn next_interval(every: usize) -> i64 {
    let mut state = RANDOM.get();
    if state == 0 {
        // Threads differ in where their counters lie.
        state = (&raw const state as u64) ^ 0x2545_F491_4F6C_DD1D;
    }
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    RANDOM.set(state);
    // In (0, 1].
    let unit = ((state >> 11) + 1) as f64 / (1_u64 << 53) as f64;
    (-unit.ln() * every as f64) as i64
}

/// While it lives, this thread samples nothing and looks nothing up.
struct Inside;

impl Inside {
    /// `None` if the thread is inside, or ending.
    fn enter() -> Option<Self> {
        let entered = INSIDE.try_with(|inside| !inside.replace(true));
        // Only if it was entered: dropping it leaves.
        (entered == Ok(true)).then(|| Self)
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        // It was there when this was made.
        INSIDE.set(false);
    }
}

fn heap() -> MutexGuard<'static, Option<Heap>> {
    HEAP.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Default)]
struct Heap {
    /// Whose it is.
    session: u64,
    /// Numbers of stacks.
    stacks: HashMap<Stack, u32>,
    /// What was allocated there: by number of the stack.
    totals: Vec<Total>,
    /// By address: the number of the stack, and the size.
    live: HashMap<usize, (u32, usize)>,
}

/// Of one stack: samples scaled to what they stand for.
#[derive(Debug, Clone, Copy, Default)]
struct Total {
    allocated: Weight,
    freed: Weight,
}

#[derive(Debug, Clone, Copy, Default)]
struct Weight {
    objects: f64,
    bytes: f64,
}

impl Weight {
    /// Adds an allocation of `size` for all those that were not sampled: large ones are sampled nearly always.
    fn add(&mut self, size: usize, every: usize) {
        let likely = 1.0 - (-(size.max(1) as f64) / every.max(1) as f64).exp();
        self.objects += 1.0 / likely;
        self.bytes += size as f64 / likely;
    }
}

impl Heap {
    fn add(&mut self, address: usize, size: usize, stack: &[usize]) {
        if self.live.len() >= LIVE_MAX {
            return;
        }
        let number = match self.stacks.get(stack) {
            Some(number) => *number,
            None if self.stacks.len() >= STACKS_MAX => return,
            None => {
                let number = u32::try_from(self.totals.len()).unwrap_or(u32::MAX);
                self.stacks.insert(stack.into(), number);
                self.totals.push(Total::default());
                number
            }
        };
        // An address that is there already was freed while nobody looked.
        self.remove(address);
        self.live.insert(address, (number, size));
        SAMPLED[place(address)].fetch_add(1, Ordering::Relaxed);
        if let Some(total) = self.totals.get_mut(number as usize) {
            total.allocated.add(size, EVERY.load(Ordering::Relaxed));
        }
    }

    fn remove(&mut self, address: usize) {
        let Some((number, size)) = self.live.remove(&address) else {
            return;
        };
        SAMPLED[place(address)].fetch_sub(1, Ordering::Relaxed);
        if let Some(total) = self.totals.get_mut(number as usize) {
            total.freed.add(size, EVERY.load(Ordering::Relaxed));
        }
    }
}

/// Sampling goes on while this lives, unless somebody else has begun anew.
#[derive(Debug)]
pub struct Session(u64);

/// Samples about one allocation in `every` bytes from now on. What was allocated before is not seen.
pub fn start(every: usize) -> Session {
    let _inside = Inside::enter();
    let mut heap = heap();
    clear(heap.take());
    let session = SESSIONS.fetch_add(1, Ordering::Relaxed) + 1;
    *heap = Some(Heap {
        session,
        ..Heap::default()
    });
    EVERY.store(every.max(1), Ordering::Relaxed);
    Session(session)
}

impl Drop for Session {
    fn drop(&mut self) {
        let _inside = Inside::enter();
        let mut heap = heap();
        if heap.as_ref().is_some_and(|heap| heap.session == self.0) {
            EVERY.store(0, Ordering::Relaxed);
            clear(heap.take());
        }
    }
}

#[allow(
    clippy::iter_over_hash_type,
    reason = "each of them is taken out of the filter, in whatever order"
)]
fn clear(heap: Option<Heap>) {
    for address in heap.unwrap_or_default().live.keys() {
        SAMPLED[place(*address)].fetch_sub(1, Ordering::Relaxed);
    }
}

/// Bytes between two samples; `None` if nothing is sampled.
pub fn interval() -> Option<usize> {
    match EVERY.load(Ordering::Relaxed) {
        0 => None,
        every => Some(every),
    }
}

/// Stacks with what was allocated there since sampling began and what of it is held now: objects allocated, bytes
/// allocated, objects held, bytes held. `None` if nothing is sampled.
pub fn samples() -> Option<Vec<(Stack, [i64; 4])>> {
    let mut stacks = Stacks::default();
    // Outside of it what is allocated here may be sampled, which wants the lock.
    let _inside = Inside::enter()?;
    let heap = heap();
    add_all(heap.as_ref()?, &mut stacks);
    drop(heap);
    Some(stacks.into_samples())
}

#[allow(
    clippy::iter_over_hash_type,
    reason = "the samples of a profile have no order"
)]
fn add_all(heap: &Heap, stacks: &mut Stacks<4>) {
    for (stack, number) in &heap.stacks {
        let total = heap.totals.get(*number as usize).copied();
        let Total { allocated, freed } = total.unwrap_or_default();
        let held = |allocated: f64, freed: f64| (allocated - freed).round().max(0.0) as i64;
        let figures = [
            allocated.objects.round() as i64,
            allocated.bytes.round() as i64,
            held(allocated.objects, freed.objects),
            held(allocated.bytes, freed.bytes),
        ];
        stacks.add(stack, figures);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Held by the module's own tests; nobody else samples.
    static TURN: Mutex<()> = Mutex::new(());

    #[inline(never)]
    fn hold(blocks: usize, size: usize) -> Vec<Vec<u8>> {
        (0..blocks).map(|_| vec![1; size]).collect()
    }

    /// By name: other functions, of tests that run at the same time, lie close to it.
    fn is_hold(address: usize) -> bool {
        let mut found = false;
        backtrace::resolve(address as *mut std::ffi::c_void, |symbol| {
            let name = symbol.name().map(|name| name.to_string());
            found |= name.is_some_and(|name| name.contains("heap::tests::hold"));
        });
        found
    }

    fn of_this_test() -> [i64; 4] {
        let samples = samples().unwrap();
        let mut known = HashMap::new();
        let ours = samples.iter().filter(|(stack, _)| {
            let mut frames = stack.iter();
            frames.any(|address| *known.entry(*address).or_insert_with(|| is_hold(*address)))
        });
        ours.fold([0; 4], |mut sum, (_, figures)| {
            sum.iter_mut()
                .zip(figures)
                .for_each(|(sum, figure)| *sum += figure);
            sum
        })
    }

    #[test]
    fn what_is_held_is_found_and_what_is_freed_is_gone() {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let session = start(4096);
        // A thread's first interval is none. Small blocks would not do: one sample of them stands for dozens.
        drop(hold(1, 10_000));
        let held = hold(1000, 10_000);
        let [objects, bytes, held_objects, held_bytes] = of_this_test();
        // Nearly every one is sampled; a sample stands for a little more than one.
        let about =
            |found: i64, expected: i64| (expected * 8 / 10..expected * 12 / 10).contains(&found);
        assert!(about(held_objects, 1000), "{held_objects}");
        assert!(about(held_bytes, 10_000_000), "{held_bytes}");
        assert!(objects >= held_objects && bytes >= held_bytes);
        drop(held);
        let [objects, _, held_objects, held_bytes] = of_this_test();
        assert!(about(objects, 1000), "{objects}");
        assert!(
            held_objects < 100 && held_bytes < 1_000_000,
            "{held_objects} {held_bytes}"
        );
        drop(session);
        assert!(samples().is_none() && interval().is_none());
        assert!(
            SAMPLED
                .iter()
                .all(|count| count.load(Ordering::Relaxed) == 0)
        );
    }

    #[test]
    fn intervals_are_spread_around_their_mean() {
        let intervals: Vec<i64> = (0..10_000).map(|_| next_interval(1000)).collect();
        let mean = intervals.iter().sum::<i64>() / 10_000;
        assert!((900..1100).contains(&mean), "{mean}");
        assert!(intervals.iter().all(|interval| *interval >= 0));
        assert!(intervals.iter().filter(|interval| **interval < 693).count() > 4500);
    }
}
