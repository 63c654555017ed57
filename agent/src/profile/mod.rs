//! Profiles of this process: where its time goes, and who holds its memory. Nothing of it costs anything while nobody asks.

mod cpu;
mod encode;
pub mod heap;
mod stacks;

pub use cpu::{Busy, CpuProfile, DRAIN_INTERVAL};
pub use encode::{Kind, encode};
pub use stacks::{Stack, Stacks};

/// Frames of a stack that are kept, from the innermost: asynchronous code in a debug build has a hundred.
pub const DEPTH_MAX: usize = 128;
