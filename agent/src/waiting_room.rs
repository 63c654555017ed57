//! Where requests wait for admission before anything of their bodies is read, so that a burst is slowed down rather than
//! refused: reading a body only to refuse it costs as much as taking it in.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::ack::{Refusal, RefusalReason};
use crate::component::Intake;
use crate::memory::{HeldBytes, Reservation};
use crate::net::Connection;

/// How long a request waits at most. Shorter than any client's patience; long enough for a thousand requests before it.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// How long until one who waits looks again although nothing was heard: not every reason tells when it ends.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// The line before one intake. Who came first is let in first; of each connection stands one request in it, and the next
/// goes to its end. So connections take turns, however many requests each has under way.
#[derive(Debug)]
pub struct WaitingRoom {
    /// Held by who is first in line; the others wait for it, in order.
    first: Mutex<()>,
    held: HeldBytes,
}

impl WaitingRoom {
    /// An empty one, for those who wait until bytes of `held` are given back.
    pub fn new(held: HeldBytes) -> Self {
        Self {
            first: Mutex::new(()),
            held,
        }
    }
}

/// Asks `intake` for `bytes` of a request of `connection`, and waits for a while where memory is short, if what is held could
/// make room, or a queue is full.
///
/// # Errors
/// The last refusal.
pub async fn admit(
    intake: &dyn Intake,
    bytes: usize,
    connection: Option<&Connection>,
) -> Result<Reservation, Refusal> {
    let Some(room) = intake.waiting_room() else {
        return intake.admit(bytes);
    };
    let deadline = Instant::now() + WAIT_MAX;
    let line = async {
        let turn = match connection {
            Some(connection) => Some(connection.turn().await),
            None => None,
        };
        (turn, room.first.lock().await)
    };
    let Ok(_first) = tokio::time::timeout_at(deadline, line).await else {
        return intake.admit(bytes);
    };
    loop {
        let refusal = match intake.admit(bytes) {
            Ok(reserved) => return Ok(reserved),
            Err(refusal) => refusal,
        };
        let may_pass = match refusal.reason {
            // All that is held would not be room enough: what never fits must not hold up those behind it.
            RefusalReason::MemoryLimit => room.held.bytes() > bytes,
            RefusalReason::QueueFull => true,
            _ => false,
        };
        if !may_pass || Instant::now() >= deadline {
            return Err(refusal);
        }
        room.held.released(LOOK_AGAIN).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::batch::{Batch, Transport};
    use crate::component::RequestFailure;

    const LIMIT: usize = 100;

    struct Door {
        held: HeldBytes,
        room: WaitingRoom,
    }

    impl Door {
        fn new() -> Arc<Self> {
            let held = HeldBytes::default();
            let room = WaitingRoom::new(held.clone());
            Arc::new(Self { held, room })
        }
    }

    impl Intake for Door {
        fn admit(&self, bytes: usize) -> Result<Reservation, Refusal> {
            self.held.reserve_within(bytes, LIMIT).ok_or_else(|| {
                let after = Refusal::DEFAULT_RETRY_AFTER;
                Refusal::retry(RefusalReason::MemoryLimit, "short", after)
            })
        }

        fn waiting_room(&self) -> Option<&WaitingRoom> {
            Some(&self.room)
        }

        fn submit(&self, _batch: Batch, _transport: Transport) {}

        fn count_failure(&self, _transport: Transport, _failure: RequestFailure) {}

        fn count_repaired(&self, _transport: Transport, _strings: usize) {}
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_let_in_when_there_is_room_in_the_order_of_coming() {
        let door = Door::new();
        let full = admit(&*door, LIMIT, None).await.unwrap();
        let (told, mut news) = tokio::sync::mpsc::unbounded_channel();
        let mut tasks = Vec::new();
        for (number, bytes) in [90, 5, 60].into_iter().enumerate() {
            let (door, told) = (Arc::clone(&door), told.clone());
            tasks.push(tokio::spawn(async move {
                let reserved = admit(&*door, bytes, None).await.unwrap();
                told.send(number).unwrap();
                reserved
            }));
            tokio::task::yield_now().await;
        }
        drop(full);
        assert_eq!(news.recv().await, Some(0));
        assert_eq!(news.recv().await, Some(1));
        assert!(news.try_recv().is_err(), "there is no room for the third");
        for (number, task) in tasks.into_iter().enumerate() {
            drop(task.await.unwrap());
            if number == 1 {
                assert_eq!(news.recv().await, Some(2));
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_never_fits_is_refused_at_once_and_holds_nobody_up() {
        let door = Door::new();
        let some = admit(&*door, 40, None).await.unwrap();
        let started = Instant::now();
        let (large, small) = tokio::join!(admit(&*door, LIMIT + 1, None), admit(&*door, 40, None));
        assert_eq!(large.unwrap_err().reason, RefusalReason::MemoryLimit);
        assert!(small.is_ok());
        assert_eq!(started.elapsed(), Duration::ZERO);
        drop(some);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever() {
        let door = Door::new();
        let full = admit(&*door, LIMIT, None).await.unwrap();
        let started = Instant::now();
        let many = (0..100).map(|_| admit(&*door, 1, None));
        for outcome in futures::future::join_all(many).await {
            assert_eq!(outcome.unwrap_err().reason, RefusalReason::MemoryLimit);
        }
        assert!(started.elapsed() < WAIT_MAX + 2 * LOOK_AGAIN);
        drop(full);
        assert!(admit(&*door, 1, None).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn connections_take_turns() {
        let door = Door::new();
        let full = admit(&*door, LIMIT, None).await.unwrap();
        let (told, mut news) = tokio::sync::mpsc::unbounded_channel();
        let (greedy, modest) = (Connection::imagined(), Connection::imagined());
        let all = [(&greedy, "greedy", 20), (&modest, "modest", 2)];
        for (connection, name, requests) in all {
            for _ in 0..requests {
                let (door, told, connection) =
                    (Arc::clone(&door), told.clone(), connection.clone());
                tokio::spawn(async move {
                    // There is no room for two.
                    let reserved = admit(&*door, 60, Some(&connection)).await.unwrap();
                    told.send(name).unwrap();
                    drop(reserved);
                });
                tokio::task::yield_now().await;
            }
        }
        drop((full, told));
        let mut order = Vec::new();
        for _ in 0..5 {
            order.push(news.recv().await.unwrap());
        }
        assert_eq!(order, ["greedy", "modest", "greedy", "modest", "greedy"]);
    }
}
