//! The three OTLP signals and the names that metrics, paths and messages use for them.

use std::fmt;

/// One OTLP signal. A pipeline, a batch and a queue carry exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Signal {
    /// Spans.
    Traces,
    /// Metric data points.
    Metrics,
    /// Log records.
    Logs,
}

impl Signal {
    /// Every signal, in the order in which reports list them.
    pub const ALL: [Self; 3] = [Self::Traces, Self::Metrics, Self::Logs];

    /// The name in configuration and in the Collector's `data_type` label: `traces`, `metrics`, `logs`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Metrics => "metrics",
            Self::Logs => "logs",
        }
    }

    /// The Collector's noun for counted items: `spans`, `metric_points`, `log_records`.
    pub const fn items(self) -> &'static str {
        match self {
            Self::Traces => "spans",
            Self::Metrics => "metric_points",
            Self::Logs => "log_records",
        }
    }

    /// Position in [`Signal::ALL`], for tables indexed by signal.
    pub const fn index(self) -> usize {
        match self {
            Self::Traces => 0,
            Self::Metrics => 1,
            Self::Logs => 2,
        }
    }

    /// The signal of a pipeline name such as `traces` or `traces/2`.
    pub fn of_pipeline(id: &str) -> Option<Self> {
        let kind = id.split_once('/').map_or(id, |(kind, _)| kind);
        Self::ALL.into_iter().find(|signal| signal.name() == kind)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A value per signal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PerSignal<T>([T; 3]);

impl<T> PerSignal<T> {
    /// Builds the three values.
    pub fn from_fn(mut make: impl FnMut(Signal) -> T) -> Self {
        Self(Signal::ALL.map(&mut make))
    }
}

impl<T> std::ops::Index<Signal> for PerSignal<T> {
    type Output = T;
    fn index(&self, signal: Signal) -> &T {
        &self.0[signal.index()]
    }
}

impl<T> std::ops::IndexMut<Signal> for PerSignal<T> {
    fn index_mut(&mut self, signal: Signal) -> &mut T {
        &mut self.0[signal.index()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipeline_names_give_their_signal() {
        let check = |id: &str, expected| assert_eq!(Signal::of_pipeline(id), expected, "{id}");
        check("traces", Some(Signal::Traces));
        check("logs/audit", Some(Signal::Logs));
        check("metrics/a/b", Some(Signal::Metrics));
        check("trace", None);
        check("", None);
    }
}
