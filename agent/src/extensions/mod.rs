//! Extensions: the registry.

pub mod health_check;
mod page;
pub mod pprof;
pub mod zpages;

use crate::component::{ExtensionSettings, Factory};

/// Every extension.
pub const EXTENSIONS: &[Factory<dyn ExtensionSettings>] =
    &[health_check::FACTORY, pprof::FACTORY, zpages::FACTORY];
