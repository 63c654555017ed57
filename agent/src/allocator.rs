//! The calls into the allocator, the C library's, that Rust's interface lacks.
#![allow(
    unsafe_code,
    reason = "the C library's calls for its allocator have no safe wrapper"
)]

/// Buffers up to here come from the heap, where the next request finds them; larger ones are mapped and unmapped.
const MAPPED_FROM: libc::c_int = 8 << 20;

/// What is free at the end of a heap is given back from here on; [`release`] gives back the rest.
const KEPT_MAX: libc::c_int = 32 << 20;

/// Has the allocator keep the memory of one request for the next. By default it gives back what a batch of a few megabytes
/// leaves, and the system has to clear the same pages for the next one: about 10 % of the CPU time of passing requests on
/// (`loadgen bench --work passthrough`), at the same peak memory.
pub fn keep_for_reuse() {
    // SAFETY: `mallopt` takes the allocator's own lock; a value it does not like it leaves alone and returns 0.
    let taken = unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_FROM)
            & libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT_MAX)
    };
    debug_assert_eq!(taken, 1, "both values are within the allocator's limits");
}

/// Gives free memory back to the system.
pub fn release() {
    // SAFETY: `malloc_trim` has no preconditions; it takes the arenas' locks itself.
    unsafe { libc::malloc_trim(0) };
}
