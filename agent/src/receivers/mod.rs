//! Receivers: the registry.

use crate::component::{Factory, ReceiverSettings};

/// Every receiver.
pub const RECEIVERS: &[Factory<dyn ReceiverSettings>] = &[];
