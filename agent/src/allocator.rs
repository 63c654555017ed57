//! The one call into the allocator, the C library's, that Rust's interface lacks.
#![allow(
    unsafe_code,
    reason = "the C library's trimming call has no safe wrapper"
)]

/// Gives free memory back to the system.
pub fn release() {
    // SAFETY: `malloc_trim` has no preconditions; it takes the arenas' locks itself.
    unsafe { libc::malloc_trim(0) };
}
