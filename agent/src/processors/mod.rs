//! Processors: the registry.

mod batch;
mod memory_limiter;
pub mod wasm;

use crate::component::{Factory, ProcessorSettings};

/// Every processor.
pub const PROCESSORS: &[Factory<dyn ProcessorSettings>] =
    &[batch::FACTORY, memory_limiter::FACTORY, wasm::FACTORY];
