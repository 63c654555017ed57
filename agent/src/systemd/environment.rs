//! What a service manager leaves in the environment of a process, and the descriptors that go with it.
#![allow(
    unsafe_code,
    reason = "variables are removed, and inherited descriptors owned, without a safe wrapper"
)]

use std::ffi::OsString;
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};
use std::time::Duration;

use super::PassedSocket;

/// The first descriptor that is handed over.
const FIRST: RawFd = 3;

/// A service has a handful of sockets: a larger number is a mistake.
const SOCKETS_MAX: RawFd = 256;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Given {
    pub(super) notify: Option<OsString>,
    pub(super) watchdog: Option<Duration>,
    pub(super) sockets: Vec<PassedSocket>,
    pub(super) problems: Vec<String>,
}

/// Takes it out of the environment: it is meant for this process, and not for its children.
pub(super) fn take() -> Given {
    let mut given = Given::default();
    let notify = take_variable("NOTIFY_SOCKET");
    given.notify = notify.filter(|address| !address.is_empty());
    let pid = std::process::id();
    let watchdog = (take_text("WATCHDOG_USEC"), take_text("WATCHDOG_PID"));
    given.watchdog = given.note("WATCHDOG_USEC", interval(pid, watchdog));
    let listen = (take_text("LISTEN_FDS"), take_text("LISTEN_PID"));
    let count = given.note("LISTEN_FDS", passed(pid, listen));
    let names = take_text("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    for descriptor in FIRST..FIRST + count.unwrap_or(0) {
        let name = names.next().filter(|name| !name.is_empty());
        let name = name.unwrap_or("unknown").to_owned();
        match own(descriptor) {
            Ok(socket) => given.sockets.push(PassedSocket { name, socket }),
            Err(cause) => given.problems.push(format!(
                "descriptor {descriptor} ({name}), which LISTEN_FDS promises, cannot be used: {cause}"
            )),
        }
    }
    given
}

impl Given {
    /// The value, if there is one; a problem is noted.
    fn note<T>(&mut self, variable: &str, found: Result<Option<T>, String>) -> Option<T> {
        found.unwrap_or_else(|problem| {
            self.problems
                .push(format!("{variable} is not used: {problem}"));
            None
        })
    }
}

type Pair = (Option<String>, Option<String>);

/// How often the watchdog wants to hear of this process. `None` where it wants to hear of no or another one.
fn interval(pid: u32, (interval, for_pid): Pair) -> Result<Option<Duration>, String> {
    let Some(interval) = interval else {
        return Ok(None);
    };
    if for_pid.is_some_and(|of| of != pid.to_string()) {
        return Ok(None);
    }
    match interval.parse() {
        Ok(0) | Err(_) => Err(format!("`{interval}` is no number of microseconds")),
        Ok(microseconds) => Ok(Some(Duration::from_micros(microseconds))),
    }
}

/// How many sockets were handed to this process.
fn passed(pid: u32, (count, for_pid): Pair) -> Result<Option<RawFd>, String> {
    let Some(count) = count else { return Ok(None) };
    if for_pid.is_none_or(|of| of != pid.to_string()) {
        return Ok(None);
    }
    match count.parse() {
        Ok(count @ 0..=SOCKETS_MAX) => Ok(Some(count)),
        _ => Err(format!(
            "`{count}` is no number of sockets up to {SOCKETS_MAX}"
        )),
    }
}

fn take_text(name: &str) -> Option<String> {
    take_variable(name)?.into_string().ok()
}

fn take_variable(name: &str) -> Option<OsString> {
    let value = std::env::var_os(name)?;
    // SAFETY: no other thread reads or writes the environment: `adopt` is called before there is one.
    unsafe { std::env::remove_var(name) };
    Some(value)
}

/// Owns an inherited descriptor, and keeps it from children.
fn own(descriptor: RawFd) -> std::io::Result<OwnedFd> {
    // SAFETY: setting a flag has no preconditions; a descriptor that is not open gives an error.
    if unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: it is open, as was just found, and LISTEN_PID says that it is meant for this process, in which nothing else
    // knows of it: this is the first thing that it does, and the variables are gone, so that it is not done twice.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(value: &str, pid: Option<&str>) -> Pair {
        (Some(value.to_owned()), pid.map(str::to_owned))
    }

    #[test]
    fn the_watchdog_is_for_one_process() {
        let check = |value: &str, pid: Option<&str>, expected: Option<u64>| {
            let found = interval(7, pair(value, pid)).unwrap();
            assert_eq!(
                found,
                expected.map(Duration::from_micros),
                "{value} {pid:?}"
            );
        };
        check("30000000", Some("7"), Some(30_000_000));
        check("30000000", None, Some(30_000_000));
        check("30000000", Some("8"), None);
        assert_eq!(interval(7, (None, Some("7".to_owned()))), Ok(None));
        assert!(interval(7, pair("0", None)).is_err());
        assert!(interval(7, pair("soon", None)).is_err());
    }

    #[test]
    fn sockets_are_for_one_process() {
        assert_eq!(passed(7, pair("3", Some("7"))), Ok(Some(3)));
        assert_eq!(passed(7, pair("3", Some("8"))), Ok(None));
        assert_eq!(passed(7, pair("3", None)), Ok(None));
        assert_eq!(passed(7, (None, None)), Ok(None));
        for wrong in ["-1", "257", "many", ""] {
            assert!(passed(7, pair(wrong, Some("7"))).is_err(), "{wrong}");
        }
    }
}
