//! Plugins for Tidegate: a processor of your own, in a few lines.
//!
//! ```
//! use tidegate_plugin::prelude::*;
//!
//! #[derive(Deserialize)]
//! struct Config {
//!     environment: String,
//! }
//!
//! struct Environment(Config);
//!
//! impl Plugin for Environment {
//!     type Config = Config;
//!
//!     fn new(config: Config, _: Signal) -> Result<Self, Error> {
//!         Ok(Self(config))
//!     }
//!
//!     fn process(&mut self, batch: &mut Batch<'_>) -> Result<(), Error> {
//!         batch.resources(|resource| {
//!             let mut attributes = resource.attributes();
//!             attributes.set_default("deployment.environment.name", &self.0.environment);
//!         });
//!         Ok(())
//!     }
//! }
//!
//! tidegate_plugin::export!(Environment);
//! ```
//!
//! A batch is OTLP bytes. A pass over it looks at messages where they are; what is changed is written down as edits, which
//! the agent applies to its own copy. So what a plugin does not touch costs next to nothing, and fields that this SDK does not
//! know survive.
//!
//! Everything runs on the host, too: [`testing`] tests a plugin without WebAssembly.

mod batch;
#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub mod bindings;
mod edits;
#[doc(hidden)]
pub mod guest;
pub mod host;
mod node;
mod search;
mod shape;
#[cfg(not(target_family = "wasm"))]
pub mod testing;
mod value;
mod views;
mod walk;
mod wire;

use std::fmt::Display;
use std::time::Duration;

use serde::de::DeserializeOwned;

pub use batch::Batch;
pub use edits::Edit;
pub use serde;
pub use serde_json;
pub use value::{IntoValue, List, Map, OwnedValue, Value};
pub use views::{
    Attributes, Change, DataPoint, Event, Item, LogRecord, Metric, MetricKind, Number, Resource,
    Scope, Span, SpanKind, Status,
};

/// What a plugin needs most.
pub mod prelude {
    pub use serde::Deserialize;

    pub use crate::host::{Counter, Gauge, Histogram};
    pub use crate::{Batch, Change, Error, Plugin, Signal, Value};
    pub use crate::{debug, error, info, warn};
}

/// What the items of a batch are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Spans.
    Traces,
    /// Metrics.
    Metrics,
    /// Log records.
    Logs,
}

impl Signal {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::Traces, Self::Metrics, Self::Logs];
}

/// A processor. One instance works in one pipeline, so for one signal.
pub trait Plugin: Sized + 'static {
    /// What stands in the plugin's `config` table. `()` is for a plugin that has none.
    type Config: DeserializeOwned;

    /// The signals it works for.
    const SIGNALS: &'static [Signal] = Signal::ALL;

    /// A JSON schema of the configuration, for those who look at the plugin; empty if there is none.
    fn config_schema() -> String {
        String::new()
    }

    /// Makes one of its configuration.
    ///
    /// # Errors
    /// What is wrong with the configuration. Then the agent does not use the plugin, and goes on with the one before.
    fn new(config: Self::Config, signal: Signal) -> Result<Self, Error>;

    /// Looks at a batch and changes it.
    ///
    /// # Errors
    /// When the batch cannot be processed; the `on_error` of the configuration says what becomes of it then.
    fn process(&mut self, batch: &mut Batch<'_>) -> Result<(), Error>;

    /// How often [`Plugin::tick`] is to be called.
    fn tick_interval(&self) -> Option<Duration> {
        None
    }

    /// Called from time to time, as to forget what is old.
    fn tick(&mut self) {}
}

/// Why something did not work, in words for the operator. Everything that is an error becomes one with `?`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error(String);

impl Error {
    /// An error with this message.
    pub fn new(message: impl Display) -> Self {
        Self(message.to_string())
    }

    /// The message.
    pub fn message(&self) -> &str {
        &self.0
    }
}

impl<E: std::error::Error> From<E> for Error {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            message += &format!(": {error}");
            cause = error.source();
        }
        Self(message)
    }
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What goes on.
    pub data: Data,
    /// What does not.
    pub losses: Vec<Lost>,
}

/// What goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// The batch as it came.
    Unchanged,
    /// The batch with changes.
    Edited {
        /// The changes, in order.
        changes: Vec<Edit>,
        /// What they put in, one after the other.
        inserted: Vec<u8>,
    },
    /// Other bytes.
    Replaced(Vec<u8>),
    /// Nothing.
    Nothing,
}

/// Items that go no further.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// A stable word.
    pub reason: String,
    /// How many.
    pub items: u64,
    /// What their sender is told, if they are at fault.
    pub fault: Option<String>,
}

/// Makes a plugin what the agent loads. Name, version and summary are those of the crate.
#[macro_export]
macro_rules! export {
    ($plugin:ty) => {
        #[cfg(target_family = "wasm")]
        #[allow(unsafe_code, reason = "how a component exports functions")]
        const _: () = {
            use $crate::bindings::exports::tidegate::plugin::guest as contract;

            ::std::thread_local! {
                static RUNNER: ::std::cell::RefCell<$crate::guest::Runner<$plugin>> =
                    const { ::std::cell::RefCell::new($crate::guest::Runner::new()) };
            }

            struct Component;

            impl contract::Guest for Component {
                fn describe() -> contract::Description {
                    $crate::bindings::describe::<$plugin>(
                        env!("CARGO_PKG_NAME"),
                        env!("CARGO_PKG_VERSION"),
                        env!("CARGO_PKG_DESCRIPTION"),
                    )
                }

                fn configure(
                    signal: contract::Signal,
                    config: ::std::string::String,
                ) -> ::std::result::Result<contract::Setup, ::std::string::String> {
                    RUNNER.with_borrow_mut(|runner| {
                        $crate::bindings::configure(runner, signal, &config)
                    })
                }

                fn process(
                    batch: ::std::vec::Vec<u8>,
                ) -> ::std::result::Result<contract::Outcome, ::std::string::String> {
                    RUNNER.with_borrow_mut(|runner| $crate::bindings::process(runner, &batch))
                }

                fn tick() {
                    RUNNER.with_borrow_mut(|runner| runner.tick());
                }
            }

    $crate::bindings::export_component!(Component with_types_in $crate::bindings);
        };

        // On the host nobody calls the plugin but its tests; it is not dead code there.
        #[cfg(not(target_family = "wasm"))]
        const _: fn() = || {
            let mut runner = $crate::guest::Runner::<$plugin>::new();
            let _configured = runner.configure($crate::Signal::Logs, "");
            let _outcome = runner.process(&[]);
            runner.tick();
        };
    };
}
