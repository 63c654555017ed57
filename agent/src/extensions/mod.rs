//! Extensions: the registry.

pub mod health_check;

use crate::component::{ExtensionSettings, Factory};

/// Every extension.
pub const EXTENSIONS: &[Factory<dyn ExtensionSettings>] = &[health_check::FACTORY];
