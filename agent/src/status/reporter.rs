//! How a component tells of its state.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::aggregate::{Priority, worst};
use super::{Event, Status};

/// Something that can be wrong with a component, apart from all else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// Attempts to send fail and are repeated.
    Sending,
    /// The sending queue is full, and requests are refused.
    Queue,
    /// The disk refuses what is to be kept on it.
    Disk,
    /// Memory is short, and requests are refused.
    Memory,
    /// Data was given up that the destination will never take, or did not take for too long.
    Rejected,
    /// A plugin failed so often that it is not called for a while.
    Plugin,
    /// Connections are not accepted, for want of what the system has to give for one.
    Accepting,
}

/// So long an error that somebody has to look at is shown at least; from then on it is over with the first batch that is
/// delivered without. Longer than health checks are apart, short enough that it tells of now.
pub(super) const HOLD: Duration = Duration::from_mins(5);

/// Who is asked only now and then whether it works is believed for so long. Refused clients try again within it, and so does
/// who waits for a disk, or for a connection that the system cannot hand over.
const STALE: Duration = Duration::from_mins(1);

impl Condition {
    fn status(self) -> Status {
        match self {
            Self::Rejected => Status::PermanentError,
            _ => Status::RecoverableError,
        }
    }

    fn is_fleeting(self) -> bool {
        matches!(self, Self::Disk | Self::Memory | Self::Accepting)
    }

    fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// Where a component tells how it is. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Reporter(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// The conditions in `state`, so that who has nothing to tell needs no lock.
    active: AtomicU32,
    /// Guards what was told.
    state: Mutex<State>,
    changed: Arc<watch::Sender<()>>,
}

#[derive(Debug)]
struct State {
    /// Where the component is in its life, or since when nothing is wrong with it.
    life: Event,
    wrong: BTreeMap<Condition, Wrong>,
}

#[derive(Debug)]
struct Wrong {
    /// When it was seen first, with the latest cause.
    event: Event,
    latest: Instant,
}

impl Default for Reporter {
    /// One that nobody listens to.
    fn default() -> Self {
        Self::new(Arc::default())
    }
}

impl Reporter {
    pub(super) fn new(changed: Arc<watch::Sender<()>>) -> Self {
        Self(Arc::new(Inner {
            active: AtomicU32::new(0),
            state: Mutex::new(State {
                life: Event::now(Status::Starting, None),
                wrong: BTreeMap::new(),
            }),
            changed,
        }))
    }

    /// Something is wrong.
    pub fn fails(&self, condition: Condition, cause: &str) {
        let mut state = self.state();
        let now = Instant::now();
        if let Some(wrong) = state.wrong.get_mut(&condition)
            && !wrong.is_stale(condition, now)
        {
            wrong.latest = now;
            if wrong.event.error.as_deref() != Some(cause) {
                wrong.event.error = Some(cause.to_owned());
            }
            return;
        }
        let event = Event::now(condition.status(), Some(cause.to_owned()));
        let latest = event.since;
        state.wrong.insert(condition, Wrong { event, latest });
        self.0.active.fetch_or(condition.bit(), Ordering::Relaxed);
        drop(state);
        self.0.changed.send_replace(());
    }

    /// Whether something is wrong, by what was told last.
    pub fn is_failing(&self, condition: Condition) -> bool {
        self.0.active.load(Ordering::Relaxed) & condition.bit() != 0
    }

    /// It is not, or no longer.
    pub fn works(&self, condition: Condition) {
        if self.is_failing(condition) {
            self.mended(condition, Instant::now());
        }
    }

    #[cold]
    pub(super) fn mended(&self, condition: Condition, now: Instant) {
        let mut state = self.state();
        let held = |wrong: &Wrong| {
            condition.status() == Status::PermanentError && now < wrong.latest + HOLD
        };
        if state.wrong.get(&condition).is_none_or(held) {
            return;
        }
        state.wrong.remove(&condition);
        self.0.active.fetch_and(!condition.bit(), Ordering::Relaxed);
        if state.wrong.is_empty() && state.life.status == Status::Ok {
            state.life = Event::now(Status::Ok, None);
        }
        drop(state);
        self.0.changed.send_replace(());
    }

    /// It can do nothing any more, and the agent stops.
    pub fn fatal(&self, cause: &str) {
        self.live(Event::now(Status::FatalError, Some(cause.to_owned())));
    }

    /// It is where it was built for, unless it is there already.
    pub(super) fn started(&self) {
        if self.state().life.status == Status::Starting {
            self.enter(Status::Ok);
        }
    }

    pub(super) fn enter(&self, status: Status) {
        self.live(Event::now(status, None));
    }

    fn live(&self, event: Event) {
        let mut state = self.state();
        if state.life.status == Status::FatalError {
            return;
        }
        state.life = event;
        drop(state);
        self.0.changed.send_replace(());
    }

    /// How it is.
    pub fn event(&self, priority: Priority, now: Instant) -> Event {
        let state = self.state();
        if state.life.status != Status::Ok {
            return state.life.clone();
        }
        let wrong = state.wrong.iter();
        let wrong = wrong.filter(|(condition, wrong)| !wrong.is_stale(**condition, now));
        worst(wrong.map(|(_, wrong)| &wrong.event), priority)
            .unwrap_or(&state.life)
            .clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wrong {
    fn is_stale(&self, condition: Condition, now: Instant) -> bool {
        condition.is_fleeting() && self.latest + STALE < now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started() -> Reporter {
        let reporter = Reporter::default();
        reporter.started();
        reporter
    }

    #[test]
    fn an_error_keeps_its_beginning_and_has_its_latest_cause() {
        let reporter = started();
        reporter.fails(Condition::Sending, "refused");
        let first = reporter.event(Priority::Permanent, Instant::now());
        reporter.fails(Condition::Sending, "timed out");
        let second = reporter.event(Priority::Permanent, Instant::now());
        assert_eq!(second.error.as_deref(), Some("timed out"));
        assert_eq!((first.at, first.since), (second.at, second.since));
        reporter.works(Condition::Queue);
        assert!(reporter.is_failing(Condition::Sending));
        reporter.works(Condition::Sending);
        let mended = reporter.event(Priority::Permanent, Instant::now());
        assert_eq!((mended.status, mended.error), (Status::Ok, None));
        assert!(mended.since >= first.since);
    }

    #[test]
    fn a_permanent_error_is_held_and_does_not_hide_what_matters_more() {
        let reporter = started();
        reporter.fails(Condition::Rejected, "no such column");
        reporter.fails(Condition::Sending, "refused");
        let now = Instant::now();
        let status = |priority| reporter.event(priority, now).status;
        assert_eq!(status(Priority::Permanent), Status::PermanentError);
        assert_eq!(status(Priority::Recoverable), Status::RecoverableError);
        reporter.works(Condition::Sending);
        reporter.works(Condition::Rejected);
        assert_eq!(status(Priority::Recoverable), Status::PermanentError);
        reporter.mended(Condition::Rejected, now + HOLD);
        assert_eq!(status(Priority::Permanent), Status::Ok);
    }

    #[test]
    fn what_nobody_renews_is_over() {
        let reporter = started();
        reporter.fails(Condition::Memory, "short");
        let later = Instant::now() + STALE * 2;
        let status = |now| reporter.event(Priority::Permanent, now).status;
        assert_eq!(status(Instant::now()), Status::RecoverableError);
        assert_eq!(status(later), Status::Ok);
        reporter.fails(Condition::Sending, "refused");
        assert_eq!(status(later), Status::RecoverableError);
    }

    #[test]
    fn a_fatal_error_is_the_last_word() {
        let reporter = started();
        reporter.fatal("the socket is gone");
        reporter.enter(Status::Stopping);
        reporter.enter(Status::Stopped);
        let event = reporter.event(Priority::Permanent, Instant::now());
        assert_eq!(event.status, Status::FatalError);
        assert_eq!(event.error.as_deref(), Some("the socket is gone"));
    }
}
