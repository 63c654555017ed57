//! What a run says of the service: that its limits held, that they did not, or nothing.

use std::process::ExitCode;

use crate::cli::{EXIT_FAILED, EXIT_LIMIT_CROSSED};

/// Limits are thresholds, and that anything succeeded at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Passed,
    Failed,
    /// Nothing was crossed, but it was not the service that was measured, or not all that was to be: why.
    None(String),
}

impl Verdict {
    /// Of whether the limits `held`, and why that says nothing, if it does not.
    pub(super) fn of(held: bool, doubt: Option<&str>) -> Self {
        match (held, doubt) {
            (false, _) => Self::Failed,
            (true, Some(why)) => Self::None(why.to_owned()),
            (true, None) => Self::Passed,
        }
    }

    pub(super) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Passed => ExitCode::SUCCESS,
            Self::Failed => ExitCode::from(EXIT_LIMIT_CROSSED),
            Self::None(_) => ExitCode::from(EXIT_FAILED),
        }
    }

    /// The last line that a run prints.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Passed => "passed".to_owned(),
            Self::Failed => "FAILED".to_owned(),
            Self::None(why) => format!("NO VERDICT: {why}"),
        }
    }
}
