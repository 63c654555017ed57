//! Extensions: the registry.

mod authenticator;
pub mod basicauth;
pub mod bearertokenauth;
mod front;
pub mod health_check;
mod page;
pub mod pprof;
pub mod zpages;

use crate::component::{ExtensionSettings, Factory};

/// Every extension.
pub const EXTENSIONS: &[Factory<dyn ExtensionSettings>] = &[
    health_check::FACTORY,
    pprof::FACTORY,
    zpages::FACTORY,
    basicauth::FACTORY,
    bearertokenauth::FACTORY,
];
