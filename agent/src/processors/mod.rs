//! Processors: the registry.

use crate::component::{Factory, ProcessorSettings};

/// Every processor.
pub const PROCESSORS: &[Factory<dyn ProcessorSettings>] = &[];
