//! What can keep a request from being answered with success, whatever the protocol.

use std::time::Duration;

use crate::ack::{Refusal, RefusalReason};
use crate::component::RequestFailure;

/// Why a request did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Problem {
    /// The body, or what it expands to, exceeds the limit of so many bytes.
    TooLarge(usize),
    /// The body ended early, or the connection broke.
    Unreadable(String),
    /// The body did not come in time.
    Slow(Duration),
    /// The encoding is unknown, or not accepted.
    Encoding(String),
    /// The bytes are not what they claim to be.
    Malformed(String),
    /// Turned away: for now, or for good.
    Refused(Refusal),
}

impl Problem {
    /// What the client is told.
    pub(super) fn message(&self) -> String {
        match self {
            Self::TooLarge(limit) => {
                format!("request body too large: the limit is {limit} bytes")
            }
            Self::Unreadable(cause) => format!("request body unreadable: {cause}"),
            Self::Slow(limit) => {
                format!(
                    "request body did not arrive within {} s",
                    limit.as_secs_f64()
                )
            }
            Self::Encoding(name) => format!("unsupported Content-Encoding: {name}"),
            Self::Malformed(cause) => cause.clone(),
            Self::Refused(refusal) => refusal.message.clone().into_owned(),
        }
    }

    /// When to try again, if that can help.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(refusal) => refusal.retry_after,
            Self::TooLarge(_)
            | Self::Unreadable(_)
            | Self::Slow(_)
            | Self::Encoding(_)
            | Self::Malformed(_) => None,
        }
    }

    /// Whether a refusal is for now: the data is good and wanted later.
    pub(super) fn is_temporary(&self) -> bool {
        match self {
            Self::Refused(refusal) => {
                refusal.retry_after.is_some() && refusal.reason != RefusalReason::Rejected
            }
            _ => false,
        }
    }

    /// How the request counts, which told that it has so many `bytes`.
    pub(super) fn failure(&self, bytes: Option<usize>) -> RequestFailure {
        match self {
            Self::Refused(refusal) => RequestFailure::Refused {
                reason: refusal.reason,
                bytes,
            },
            _ => RequestFailure::Failed,
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}
