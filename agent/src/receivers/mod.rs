//! Receivers: the registry.

pub mod otlp;

use crate::component::{Factory, ReceiverSettings};

/// Every receiver.
pub const RECEIVERS: &[Factory<dyn ReceiverSettings>] = &[otlp::FACTORY];
