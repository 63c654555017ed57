//! Extensions: the registry.

mod authenticator;
pub mod basicauth;
pub mod bearertokenauth;
pub mod health_check;

use crate::component::{ExtensionSettings, Factory};

/// Every extension.
pub const EXTENSIONS: &[Factory<dyn ExtensionSettings>] = &[
    health_check::FACTORY,
    basicauth::FACTORY,
    bearertokenauth::FACTORY,
];
