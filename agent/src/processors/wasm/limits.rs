//! What a guest may take: linear memory and tables.

use wasmtime::{ResourceLimiter, Result};

use super::engine::TABLE_ELEMENTS_MAX;

/// Counts what an instance has, and says no beyond its limits.
#[derive(Debug)]
pub(super) struct Limits {
    memory_max: usize,
    memory: usize,
    denied: bool,
}

impl Limits {
    pub(super) fn new(memory_max: usize) -> Self {
        Self {
            memory_max,
            memory: 0,
            denied: false,
        }
    }

    /// Bytes of linear memory that the instance has.
    pub(super) fn memory(&self) -> usize {
        self.memory
    }

    /// Bytes that it may have.
    pub(super) fn memory_max(&self) -> usize {
        self.memory_max
    }

    /// Whether it wanted more than it may have; asking forgets it.
    pub(super) fn was_denied(&mut self) -> bool {
        std::mem::take(&mut self.denied)
    }
}

impl ResourceLimiter for Limits {
    fn memory_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> Result<bool> {
        let fits = desired <= self.memory_max;
        if fits {
            self.memory = desired;
        }
        self.denied |= !fits;
        Ok(fits)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> Result<bool> {
        Ok(desired <= TABLE_ELEMENTS_MAX)
    }

    /// One: the limit of memory is the limit of all of it.
    fn memories(&self) -> usize {
        1
    }
}
