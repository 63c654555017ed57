//! The connections of a server, so that idle ones make way when there are too many: whoever opens connections and does nothing
//! with them keeps nobody out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::activity::Activity;

/// A connection has so long to send its first request before it counts as idle.
const SETTLED: Duration = Duration::from_millis(500);

/// So many make way at a time, of all: looking for them costs a walk over all.
const SHARE: usize = 4;

/// The connections. Cloning shares them.
#[derive(Debug, Clone, Default)]
pub(super) struct Crowd(Arc<Mutex<Members>>);

#[derive(Debug, Default)]
struct Members {
    next: u64,
    all: HashMap<u64, (Arc<Activity>, CancellationToken)>,
}

/// A connection's place in the crowd, until it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    crowd: Crowd,
    number: u64,
    leave: CancellationToken,
}

impl Crowd {
    pub(super) fn enter(&self, activity: &Arc<Activity>) -> Seat {
        let leave = CancellationToken::new();
        let mut members = self.members();
        let number = members.next;
        members.next += 1;
        let member = (Arc::clone(activity), leave.clone());
        members.all.insert(number, member);
        drop(members);
        Seat {
            crowd: self.clone(),
            number,
            leave,
        }
    }

    /// Asks those to leave that have been idle for longest; tells how many.
    pub(super) fn thin(&self) -> usize {
        let now = Instant::now();
        let members = self.members();
        let mut idle: Vec<_> = members
            .all
            .values()
            .filter(|(_, leave)| !leave.is_cancelled())
            .filter_map(|(activity, leave)| Some((activity.idle_for(now)?, leave)))
            .filter(|(idle, _)| *idle >= SETTLED)
            .collect();
        idle.sort_by_key(|(idle, _)| std::cmp::Reverse(*idle));
        let count = members.all.len().div_ceil(SHARE).min(idle.len());
        for (_, leave) in idle.iter().take(count) {
            leave.cancel();
        }
        count
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Resolves when the connection is to make way.
    pub(super) async fn given_up(&self) {
        self.leave.cancelled().await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.crowd.members().all.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::super::activity::Connection;
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_idlest_make_way_and_who_works_stays() {
        let crowd = Crowd::default();
        let mut seats = Vec::new();
        for _ in 0..32 {
            let activity = Arc::new(Activity::new());
            seats.push((crowd.enter(&activity), activity));
            tokio::time::advance(Duration::from_millis(100)).await;
        }
        let request = Connection(Arc::clone(&seats[0].1)).request();
        assert_eq!(crowd.thin(), 8);
        let left: Vec<_> = (0..32)
            .filter(|at| seats[*at].0.leave.is_cancelled())
            .collect();
        assert_eq!(left, [1, 2, 3, 4, 5, 6, 7, 8]);
        drop(seats.drain(1..29));
        // The others are too young.
        assert_eq!(crowd.thin(), 0);
        drop(request);
        tokio::time::advance(SETTLED).await;
        assert_eq!(crowd.thin(), 1);
        drop(seats);
        assert!(crowd.members().all.is_empty());
    }
}
