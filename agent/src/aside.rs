//! Waiting on a thread of the runtime without holding up the tasks it was to run next.

use tokio::runtime::{Handle, RuntimeFlavor};

/// Runs `wait`, which takes a while. Meanwhile another thread does what this one was to do; outside of a runtime, or in one
/// of a single thread, there is nobody else.
pub(crate) fn step_aside<T>(wait: impl FnOnce() -> T) -> T {
    match are_there_others() {
        true => tokio::task::block_in_place(wait),
        false => wait(),
    }
}

/// Whether there is another thread to do what this one was to do.
pub(crate) fn are_there_others() -> bool {
    Handle::try_current().is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread)
}
