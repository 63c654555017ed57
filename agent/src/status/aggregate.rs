//! Several states as one.

use std::collections::{BTreeMap, BTreeSet};

use super::{Event, Status};

/// Which of the two kinds of errors that leave the agent running is told where there are both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// Permanent errors.
    Permanent,
    /// Recoverable errors.
    Recoverable,
}

/// The state of something, and of what it is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aggregate {
    /// The state as a whole.
    pub event: Event,
    /// Its parts.
    pub components: BTreeMap<String, Aggregate>,
}

impl Aggregate {
    pub(super) fn of_one(event: Event) -> Self {
        Self {
            event,
            components: BTreeMap::new(),
        }
    }

    /// Of nothing, that it is starting.
    pub(super) fn of(components: BTreeMap<String, Self>, priority: Priority) -> Self {
        let event = add_up(components.values().map(|part| &part.event), priority);
        Self { event, components }
    }
}

/// The earliest of the errors that are told first: that is when it began.
pub(super) fn worst<'a>(
    events: impl Iterator<Item = &'a Event> + Clone,
    priority: Priority,
) -> Option<&'a Event> {
    let order = match priority {
        Priority::Permanent => [Status::PermanentError, Status::RecoverableError],
        Priority::Recoverable => [Status::RecoverableError, Status::PermanentError],
    };
    order.into_iter().find_map(|status| {
        let of_status = events.clone().filter(|event| event.status == status);
        of_status.min_by_key(|event| event.since)
    })
}

/// Where all agree, that; else what concerns the life of the whole; else errors. An error is as old as its first
/// occurrence, all else as young as its last.
fn add_up<'a>(events: impl Iterator<Item = &'a Event> + Clone, priority: Priority) -> Event {
    let seen: BTreeSet<Status> = events.clone().map(|event| event.status).collect();
    let Some(latest) = events.clone().max_by_key(|event| event.since) else {
        return Event::now(Status::Starting, None);
    };
    let earliest = |status| {
        let of_status = events.clone().filter(|event| event.status == status);
        of_status.min_by_key(|event| event.since)
    };
    let lifelike = |status| Event {
        status,
        error: None,
        ..latest.clone()
    };
    if let Some(fatal) = earliest(Status::FatalError) {
        return fatal.clone();
    }
    if seen.len() == 1 && !latest.status.is_error() {
        return latest.clone();
    }
    if seen.contains(&Status::Starting) {
        return lifelike(Status::Starting);
    }
    if seen.contains(&Status::Stopping) || seen.contains(&Status::Stopped) {
        return lifelike(Status::Stopping);
    }
    worst(events.clone(), priority).unwrap_or(latest).clone()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant, SystemTime};

    use super::*;

    #[test]
    fn states_are_added_up_as_in_the_collector() {
        use Status::{
            FatalError, Ok, PermanentError, RecoverableError, Starting, Stopped, Stopping,
        };
        let (at, since) = (SystemTime::now(), Instant::now());
        // A second apart, in order. Which of them is told?
        let check = |priority, states: &[Status], expected: Status, second: u64| {
            let seconds = (0..).map(Duration::from_secs);
            let events: Vec<_> = states
                .iter()
                .zip(seconds)
                .map(|(status, later)| Event {
                    status: *status,
                    error: status.is_error().then(|| format!("{later:?}")),
                    at: at + later,
                    since: since + later,
                })
                .collect();
            let found = add_up(events.iter(), priority);
            assert_eq!(found.status, expected, "{states:?}");
            assert_eq!(found.at, at + Duration::from_secs(second), "{states:?}");
            assert_eq!(found.error.is_some(), expected.is_error(), "{states:?}");
        };
        let permanent = Priority::Permanent;
        check(permanent, &[Ok, Ok], Ok, 1);
        check(permanent, &[Ok, Starting], Starting, 1);
        check(
            permanent,
            &[Ok, RecoverableError, RecoverableError],
            RecoverableError,
            1,
        );
        check(
            permanent,
            &[RecoverableError, RecoverableError],
            RecoverableError,
            0,
        );
        check(
            permanent,
            &[RecoverableError, PermanentError, Ok],
            PermanentError,
            1,
        );
        check(
            Priority::Recoverable,
            &[PermanentError, RecoverableError, Ok],
            RecoverableError,
            1,
        );
        check(permanent, &[Ok, Stopping, RecoverableError], Stopping, 2);
        check(permanent, &[Stopped, Ok], Stopping, 1);
        check(permanent, &[Stopped, Stopped], Stopped, 1);
        check(
            permanent,
            &[Stopping, FatalError, PermanentError],
            FatalError,
            1,
        );
    }
}
