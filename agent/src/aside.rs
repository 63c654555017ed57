//! Waiting on a thread of the runtime without holding up the tasks it was to run next.

use tokio::runtime::{Handle, RuntimeFlavor};

/// Runs `wait`, which takes a while. Meanwhile another thread does what this one was to do; outside of a runtime, or in one
/// of a single thread, there is nobody else.
pub(crate) fn step_aside<T>(wait: impl FnOnce() -> T) -> T {
    let others = Handle::try_current()
        .is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread);
    match others {
        true => tokio::task::block_in_place(wait),
        false => wait(),
    }
}
