//! Which states count as healthy.

use std::time::{Duration, Instant};

use http::StatusCode;

use crate::status::{Event, Priority, Status};

/// The operator's view of errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Judge {
    /// Whether permanent errors count.
    pub(super) permanent: bool,
    /// Whether recoverable errors count that last too long.
    pub(super) recoverable: bool,
    /// How long that is.
    pub(super) recovery: Duration,
}

impl Judge {
    /// Which errors are told first: those that count.
    pub(super) fn priority(self) -> Priority {
        match self.recoverable && !self.permanent {
            true => Priority::Recoverable,
            false => Priority::Permanent,
        }
    }

    /// Whether errors leave it healthy: what begins or ends is no error.
    pub(super) fn is_healthy(self, event: &Event, now: Instant) -> bool {
        match event.status {
            Status::PermanentError => !self.permanent,
            Status::RecoverableError if self.recoverable => now < event.since + self.recovery,
            Status::FatalError => false,
            _ => true,
        }
    }

    /// What HTTP says of it.
    pub(super) fn code(self, event: &Event, now: Instant) -> StatusCode {
        if !self.is_healthy(event, now) {
            return StatusCode::INTERNAL_SERVER_ERROR;
        }
        match self.is_serving(event, now) {
            true => StatusCode::OK,
            false => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Whether it is at work and healthy.
    pub(super) fn is_serving(self, event: &Event, now: Instant) -> bool {
        let at_work = matches!(
            event.status,
            Status::Ok | Status::RecoverableError | Status::PermanentError
        );
        at_work && self.is_healthy(event, now)
    }
}
