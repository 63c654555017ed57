//! The contract in `plugins/wit`, as wasmtime sees it.

wasmtime::component::bindgen!({
    path: "../plugins/wit",
    world: "processor",
});

use crate::signal::Signal;

pub(super) use self::exports::tidegate::plugin::guest::{Description, Outcome};
pub(super) use self::tidegate::plugin::host::{Level, MetricKind};
pub(super) use self::tidegate::plugin::types::{Data, Edits, Signal as GuestSignal};

impl GuestSignal {
    /// The agent's word for it.
    pub(super) fn known(self) -> Signal {
        match self {
            Self::Traces => Signal::Traces,
            Self::Metrics => Signal::Metrics,
            Self::Logs => Signal::Logs,
        }
    }
}

impl From<Signal> for GuestSignal {
    fn from(signal: Signal) -> Self {
        match signal {
            Signal::Traces => Self::Traces,
            Signal::Metrics => Self::Metrics,
            Signal::Logs => Self::Logs,
        }
    }
}

/// The package of the contract, and the version of it that the agent speaks.
pub(super) const PACKAGE: &str = "tidegate:plugin";
pub(super) const VERSION: &str = "0.1.0";
