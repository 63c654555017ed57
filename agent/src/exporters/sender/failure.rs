//! Why a batch was not delivered: what the ledger, the log and a waiting client are told.

use crate::ack::{Refusal, RefusalReason};
use crate::exporters::dead_letter::Reason;

/// Why a batch was not delivered.
#[derive(Debug)]
pub(super) enum Failure {
    /// Why, and how many of the items if not all.
    Rejected(String, Option<usize>),
    TooLarge(String),
    Exhausted(String),
    Expired,
    CutShort,
    /// Others take over before this was delivered.
    Left,
}

impl Failure {
    /// The class for a dead letter, if the destination will never take it.
    pub(super) fn is_final(&self) -> Option<Reason> {
        match self {
            Self::Rejected(..) => Some(Reason::Rejected),
            Self::TooLarge(_) => Some(Reason::TooLarge),
            Self::Exhausted(_) | Self::Expired | Self::CutShort | Self::Left => None,
        }
    }

    /// How many of `items` the destination did not take.
    pub(super) fn items(&self, items: usize) -> usize {
        match self {
            Self::Rejected(_, Some(rejected)) => items.min(*rejected),
            _ => items,
        }
    }

    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Rejected(..) => "rejected",
            Self::TooLarge(_) => "too_large",
            Self::Exhausted(_) => "retries_exhausted",
            Self::Expired => "expired",
            Self::CutShort => "shutdown",
            Self::Left => "handed_over",
        }
    }

    pub(super) fn cause(&self) -> &str {
        match self {
            Self::Rejected(cause, _) | Self::TooLarge(cause) | Self::Exhausted(cause) => cause,
            Self::Expired => "older than max_age",
            Self::CutShort => "the agent stopped before the destination took it",
            Self::Left => "handed over before the destination took it",
        }
    }

    /// For a client that waits for the result.
    pub(super) fn refusal(self) -> Refusal {
        match self {
            Self::Rejected(cause, _) | Self::TooLarge(cause) => Refusal::permanent(cause),
            Self::Exhausted(cause) => Refusal::retry(
                RefusalReason::QueueFull,
                cause,
                Refusal::DEFAULT_RETRY_AFTER,
            ),
            Self::Expired => Refusal::permanent("older than max_age"),
            Self::CutShort | Self::Left => Refusal::shutting_down(),
        }
    }
}
