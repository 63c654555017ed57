//! Extensions: the registry.

use crate::component::{ExtensionSettings, Factory};

/// Every extension.
pub const EXTENSIONS: &[Factory<dyn ExtensionSettings>] = &[];
