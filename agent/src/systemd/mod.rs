//! The service manager that started this process, if one did: sockets it hands over, what it is told, its watchdog.
//!
//! The protocols are systemd's (`sd_notify(3)`, `sd_listen_fds(3)`), which others speak, too. Without one, all of this does
//! nothing.

mod environment;
mod notify;
mod watchdog;

use std::future::Future;
use std::os::fd::OwnedFd;
use std::time::Duration;

pub use notify::{Notifier, State};
pub use watchdog::{Pings, Watchdog};

/// What the service manager has given to this process.
#[derive(Debug, Default)]
pub struct Manager {
    /// Where it is told how the service is.
    pub notifier: Notifier,
    /// How often it wants to hear that the service gets on.
    pub watchdog: Option<Duration>,
    /// Sockets that it has opened for this process.
    pub sockets: Vec<PassedSocket>,
    /// What it gave that cannot be used, and why.
    pub problems: Vec<String>,
}

/// A socket that was opened by the service manager.
#[derive(Debug)]
pub struct PassedSocket {
    /// `FileDescriptorName=` of its unit; `unknown` if it has none.
    pub name: String,
    /// The socket.
    pub socket: OwnedFd,
}

/// Takes what the service manager has given, so that no child of this process has it, too. To be called once, before
/// there is another thread.
pub fn adopt() -> Manager {
    let given = environment::take();
    let mut manager = Manager {
        watchdog: given.watchdog,
        sockets: given.sockets,
        problems: given.problems,
        ..Manager::default()
    };
    if let Some(address) = given.notify {
        match Notifier::to(&address) {
            Ok(notifier) => manager.notifier = notifier,
            Err(cause) => manager.problems.push(format!(
                "NOTIFY_SOCKET={} cannot be used: {cause}",
                address.display()
            )),
        }
    }
    manager
}

/// How often more time is asked for.
const EXTEND_EVERY: Duration = Duration::from_secs(5);

/// For how long, so that two requests may be late.
const EXTEND_BY: Duration = Duration::from_secs(20);

/// Does `work`, and asks the service manager for the time that it takes, up to `limit`.
pub async fn extending<T>(
    notifier: &Notifier,
    limit: Duration,
    work: impl Future<Output = T>,
) -> T {
    let asking = async {
        let asks = 1 + limit.as_secs() / EXTEND_EVERY.as_secs();
        for _ in 0..asks {
            notifier.tell(&[State::ExtendTimeout(EXTEND_BY)]);
            tokio::time::sleep(EXTEND_EVERY).await;
        }
        std::future::pending().await
    };
    tokio::select! {
        biased;
        done = work => done,
        never = asking => never,
    }
}

#[cfg(test)]
mod tests {
    use super::notify::tests::Listener;
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn work_that_takes_long_asks_for_time_but_not_for_ever() {
        let listener = Listener::bind();
        let notifier = listener.notifier();
        let work = tokio::time::sleep(Duration::from_secs(60));
        extending(&notifier, Duration::from_secs(17), work).await;
        let heard = listener.heard();
        assert_eq!(heard, ["EXTEND_TIMEOUT_USEC=20000000"; 4]);
        extending(&notifier, Duration::from_secs(17), async {}).await;
        assert!(listener.heard().is_empty());
    }
}
