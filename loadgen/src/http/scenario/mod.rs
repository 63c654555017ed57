//! Scenarios as their file tells them: what is sent, how fast, and what has to hold.

mod read;
pub(crate) mod search;
pub(crate) mod threshold;

use std::sync::Arc;
use std::time::Duration;

use http::Uri;

pub(crate) use read::{Source, read};

use super::journey::Journey;
use super::options::{Load, Protocol};
use super::template::Pool;
use threshold::Threshold;

/// A file, checked.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) name: String,
    pub(crate) target: Uri,
    pub(crate) protocol: Protocol,
    /// HTTP/2 connections that all workers of a scenario share; 0 for one each.
    pub(crate) connections: usize,
    pub(crate) timeout: Duration,
    pub(crate) trace_context: bool,
    pub(crate) seed: u64,
    pub(crate) pool: Arc<Pool>,
    pub(crate) scenarios: Vec<Scenario>,
    pub(crate) thresholds: Vec<Threshold>,
}

#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) name: String,
    pub(crate) executor: &'static str,
    pub(crate) start_after: Duration,
    pub(crate) load: Load,
    pub(crate) journey: Arc<Journey>,
    /// The executor looks for the highest rate; `load` is that of one trial.
    pub(crate) search: Option<search::Limits>,
}

impl Scenario {
    /// The whole time, if it is known.
    pub(crate) fn planned(&self) -> Option<Duration> {
        let stages = self.load.mode.arrivals(self.load.duration);
        let time = match (self.load.duration, stages) {
            (Some(duration), _) => duration,
            (None, Some(stages)) if self.load.requests.is_none() => {
                super::stages::duration(&stages)
            }
            _ => return None,
        };
        Some(self.start_after + self.load.warm_up + time)
    }
}

#[cfg(test)]
mod tests;
