//! What the agent offers: its log, its metrics, files. On the host, in tests, what is said stays in [`crate::testing`].

/// How important a line of the log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Every step.
    Trace,
    /// For those who look for a fault.
    Debug,
    /// What happens.
    Info,
    /// What should not.
    Warn,
    /// What must not.
    Error,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MetricKind {
    Counter,
    Gauge,
    Histogram,
}

/// Writes a line to the agent's log. [`crate::info!`] and its sisters are shorter.
pub fn log(level: Level, message: &str) {
    imp::log(level, message);
}

/// A file that the configuration gives to the plugin by this name.
pub fn file(name: &str) -> Option<Vec<u8>> {
    imp::file(name)
}

/// Logs a line for those who look for a fault, with the arguments of [`format!`].
#[macro_export]
macro_rules! debug {
    ($($part:tt)*) => {
        $crate::host::log($crate::host::Level::Debug, &::std::format!($($part)*))
    };
}

/// Logs what happens, with the arguments of [`format!`].
#[macro_export]
macro_rules! info {
    ($($part:tt)*) => {
        $crate::host::log($crate::host::Level::Info, &::std::format!($($part)*))
    };
}

/// Logs what should not happen, with the arguments of [`format!`].
#[macro_export]
macro_rules! warn {
    ($($part:tt)*) => {
        $crate::host::log($crate::host::Level::Warn, &::std::format!($($part)*))
    };
}

/// Logs what must not happen, with the arguments of [`format!`].
#[macro_export]
macro_rules! error {
    ($($part:tt)*) => {
        $crate::host::log($crate::host::Level::Error, &::std::format!($($part)*))
    };
}

macro_rules! metric {
    ($(#[$about:meta])* $name:ident) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy)]
        pub struct $name(u32);

        impl $name {
            /// The metric of this name. To be made once, in [`crate::Plugin::new`], and kept.
            pub fn new(name: &str) -> Self {
                Self::with_label(name, "")
            }

            /// The metric of this name with a label. There may be about 200 of them; what is beyond goes into one.
            pub fn with_label(name: &str, label: &str) -> Self {
                Self(imp::metric(MetricKind::$name, name, label))
            }
        }
    };
}

metric! {
    /// Counts: `tidegate_plugin_counter` among the agent's metrics.
    Counter
}
metric! {
    /// Rises and falls: `tidegate_plugin_gauge` among the agent's metrics.
    Gauge
}
metric! {
    /// A distribution: `tidegate_plugin_histogram` among the agent's metrics.
    Histogram
}

impl Counter {
    /// Adds to it.
    pub fn add(self, count: u64) {
        if count > 0 {
            imp::record(self.0, count as f64);
        }
    }
}

impl Gauge {
    /// Sets it.
    pub fn set(self, value: f64) {
        imp::record(self.0, value);
    }
}

impl Histogram {
    /// Adds a value.
    pub fn record(self, value: f64) {
        imp::record(self.0, value);
    }
}

#[cfg(target_family = "wasm")]
mod imp {
    use super::{Level, MetricKind};
    use crate::bindings::tidegate::plugin::host;

    pub(super) fn log(level: Level, message: &str) {
        let level = match level {
            Level::Trace => host::Level::Trace,
            Level::Debug => host::Level::Debug,
            Level::Info => host::Level::Info,
            Level::Warn => host::Level::Warn,
            Level::Error => host::Level::Error,
        };
        host::log(level, message);
    }

    pub(super) fn file(name: &str) -> Option<Vec<u8>> {
        host::file(name)
    }

    pub(super) fn metric(kind: MetricKind, name: &str, label: &str) -> u32 {
        let kind = match kind {
            MetricKind::Counter => host::MetricKind::Counter,
            MetricKind::Gauge => host::MetricKind::Gauge,
            MetricKind::Histogram => host::MetricKind::Histogram,
        };
        host::metric(kind, name, label)
    }

    pub(super) fn record(metric: u32, value: f64) {
        host::record(metric, value);
    }
}

#[cfg(not(target_family = "wasm"))]
mod imp {
    use super::{Level, MetricKind};
    use crate::testing::WORLD;

    pub(super) fn log(level: Level, message: &str) {
        WORLD.with_borrow_mut(|world| world.lines.push((level, message.to_owned())));
    }

    pub(super) fn file(name: &str) -> Option<Vec<u8>> {
        WORLD.with_borrow(|world| world.files.get(name).cloned())
    }

    pub(super) fn metric(kind: MetricKind, name: &str, label: &str) -> u32 {
        WORLD.with_borrow_mut(|world| world.metric(kind, name, label))
    }

    pub(super) fn record(metric: u32, value: f64) {
        WORLD.with_borrow_mut(|world| world.record(metric, value));
    }
}
