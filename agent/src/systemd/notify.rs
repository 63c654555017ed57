//! Telling the service manager how the service is (`sd_notify(3)`).
//!
//! Not the crate `sd-notify`: it looks for the address in the environment each time, where it must not stay for children.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

/// How long a service manager that does not read may hold a message up.
const SEND_MAX: Duration = Duration::from_secs(1);

/// The longest status, in bytes: a line for people.
const STATUS_MAX: usize = 512;

/// Where the service manager is told how the service is; the default is nowhere. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub struct Notifier(Option<Arc<Channel>>);

#[derive(Debug)]
struct Channel {
    socket: UnixDatagram,
    address: SocketAddr,
}

/// One thing to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State<'a> {
    /// It has started, or has read its configuration again.
    Ready,
    /// It begins to read its configuration again.
    Reloading,
    /// It begins to stop.
    Stopping,
    /// It gets on.
    Alive,
    /// It needs more time, from now on, to start or to stop.
    ExtendTimeout(Duration),
    /// How it is, in words.
    Status(&'a str),
}

impl Notifier {
    /// Tells it to `address`: a path, or `@` and an abstract name.
    ///
    /// # Errors
    /// When it is neither, or no socket can be had.
    pub fn to(address: &OsStr) -> io::Result<Self> {
        let address = match address.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(address)?,
            _ => {
                let problem = "it is neither a path nor an abstract name";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
            }
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(SEND_MAX))?;
        Ok(Self(Some(Arc::new(Channel { socket, address }))))
    }

    /// Whether anybody listens.
    pub fn is_heard(&self) -> bool {
        self.0.is_some()
    }

    /// Tells all of `states` at once.
    pub fn tell(&self, states: &[State<'_>]) {
        let Some(channel) = &self.0 else { return };
        let message = message(states);
        if let Err(error) = channel
            .socket
            .send_to_addr(message.as_bytes(), &channel.address)
        {
            tracing::warn!(%error, message, "the service manager could not be told");
        }
    }
}

fn message(states: &[State<'_>]) -> String {
    let mut text = String::new();
    for state in states {
        if !text.is_empty() {
            text.push('\n');
        }
        let written = match state {
            State::Ready => write!(text, "READY=1"),
            State::Reloading => write!(text, "RELOADING=1\nMONOTONIC_USEC={}", monotonic()),
            State::Stopping => write!(text, "STOPPING=1"),
            State::Alive => write!(text, "WATCHDOG=1"),
            State::ExtendTimeout(by) => write!(text, "EXTEND_TIMEOUT_USEC={}", by.as_micros()),
            State::Status(words) => write!(text, "STATUS={}", one_line(words)),
        };
        written.expect("a String takes everything");
    }
    text
}

fn one_line(words: &str) -> String {
    let mut line = String::new();
    for word in words.chars().map(|c| if c.is_control() { ' ' } else { c }) {
        if line.len() + word.len_utf8() > STATUS_MAX {
            break;
        }
        line.push(word);
    }
    line
}

/// The time by which a service manager tells whether a reload is newer than its wish for one.
fn monotonic() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let rest = u64::try_from(now.tv_nsec / 1000).unwrap_or(0);
    seconds * 1_000_000 + rest
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A service manager that listens.
    pub(in crate::systemd) struct Listener {
        socket: UnixDatagram,
        folder: tempfile::TempDir,
    }

    impl Listener {
        pub(in crate::systemd) fn bind() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
            socket.set_nonblocking(true).unwrap();
            Self { socket, folder }
        }

        pub(in crate::systemd) fn notifier(&self) -> Notifier {
            Notifier::to(self.folder.path().join("notify").as_os_str()).unwrap()
        }

        /// The messages since the last call.
        pub(in crate::systemd) fn heard(&self) -> Vec<String> {
            let mut buffer = [0; 4096];
            let next = || {
                let length = self.socket.recv(&mut buffer).ok()?;
                Some(String::from_utf8(buffer[..length].to_vec()).unwrap())
            };
            std::iter::from_fn(next).collect()
        }
    }

    #[test]
    fn several_things_are_told_at_once() {
        let listener = Listener::bind();
        let notifier = listener.notifier();
        assert!(notifier.is_heard());
        notifier.tell(&[State::Ready, State::Status("fine\nso far")]);
        notifier.tell(&[State::Alive]);
        notifier.tell(&[
            State::Stopping,
            State::ExtendTimeout(Duration::from_secs(2)),
        ]);
        assert_eq!(
            listener.heard(),
            [
                "READY=1\nSTATUS=fine so far",
                "WATCHDOG=1",
                "STOPPING=1\nEXTEND_TIMEOUT_USEC=2000000"
            ]
        );
        let long = "ü".repeat(STATUS_MAX);
        notifier.tell(&[State::Status(&long)]);
        assert_eq!(listener.heard()[0].len(), "STATUS=".len() + STATUS_MAX);
    }

    #[test]
    fn a_reload_tells_when_it_began() {
        let before = monotonic();
        let told = message(&[State::Reloading, State::Status("reading")]);
        let lines: Vec<_> = told.lines().collect();
        assert_eq!((lines[0], lines[2]), ("RELOADING=1", "STATUS=reading"));
        let time: u64 = lines[1]
            .strip_prefix("MONOTONIC_USEC=")
            .unwrap()
            .parse()
            .unwrap();
        assert!((before..=monotonic()).contains(&time));
    }

    #[test]
    fn an_abstract_name_is_heard_too() {
        let name = format!("tidegate-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        let notifier = Notifier::to(OsStr::new(&format!("@{name}"))).unwrap();
        notifier.tell(&[State::Alive]);
        let mut buffer = [0; 64];
        let length = socket.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"WATCHDOG=1");
    }

    #[test]
    fn nobody_listening_is_fine_and_nonsense_is_not() {
        Notifier::default().tell(&[State::Ready]);
        let gone = Notifier::to(OsStr::new("/nonexistent/notify")).unwrap();
        gone.tell(&[State::Ready]);
        for wrong in ["vsock:2:1234", "relative", ""] {
            assert!(Notifier::to(OsStr::new(wrong)).is_err(), "{wrong}");
        }
    }
}
