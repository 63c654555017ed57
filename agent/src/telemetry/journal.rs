//! Standard error as the journal reads it: a priority at the start of each line, and no time, which the journal has itself.

use std::io::{self, Write};
use std::sync::LazyLock;

use rustix::fs::{Stat, fstat};
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// Whether standard error goes to the journal. `JOURNAL_STREAM` says which file that is, so that a process does not take a
/// pipe or a file to which its output was redirected for the journal.
pub fn is_read() -> bool {
    static IS_READ: LazyLock<bool> = LazyLock::new(|| {
        let (Ok(stream), Ok(stat)) = (std::env::var("JOURNAL_STREAM"), fstat(io::stderr())) else {
            return false;
        };
        is_stream(&stream, &stat)
    });
    *IS_READ
}

fn is_stream(text: &str, stat: &Stat) -> bool {
    let Some((device, inode)) = text.split_once(':') else {
        return false;
    };
    device.parse() == Ok(stat.st_dev) && inode.parse() == Ok(stat.st_ino)
}

/// The priorities of syslog that are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// Something does not work.
    Error = 3,
    /// Something may not work.
    Warning = 4,
    /// What an operator wants to know.
    Info = 6,
    /// What helps to find out.
    Debug = 7,
}

impl From<&Level> for Priority {
    fn from(level: &Level) -> Self {
        match *level {
            Level::ERROR => Self::Error,
            Level::WARN => Self::Warning,
            Level::INFO => Self::Info,
            Level::DEBUG | Level::TRACE => Self::Debug,
        }
    }
}

/// The text with the priority before each line, as the journal wants it.
pub fn prefixed(text: &str, priority: impl Fn(&str) -> Priority) -> String {
    let mut prefixed = String::with_capacity(text.len() + 4);
    for line in text.split_inclusive('\n') {
        let priority = priority(line) as u8;
        prefixed.push_str(&format!("<{priority}>{line}"));
    }
    prefixed
}

/// Writes events to standard error for the journal.
#[derive(Debug)]
pub(super) struct Journal;

/// Writes one event: the formatter hands it over whole.
pub(super) struct Event(Priority);

impl<'a> MakeWriter<'a> for Journal {
    type Writer = Event;

    fn make_writer(&'a self) -> Event {
        Event(Priority::Info)
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Event {
        Event(meta.level().into())
    }
}

impl Write for Event {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let line = prefixed(&text, |_| self.0);
        io::stderr().write_all(line.as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn every_line_has_its_priority() {
        let check = |text: &str, expected: &str| {
            let found = prefixed(text, |_| (&Level::WARN).into());
            assert_eq!(found, expected);
        };
        check("one\n", "<4>one\n");
        check("one\ntwo", "<4>one\n<4>two");
        check("", "");
        let levels = [
            Level::ERROR,
            Level::WARN,
            Level::INFO,
            Level::DEBUG,
            Level::TRACE,
        ];
        let numbers = levels.map(|level| Priority::from(&level) as u8);
        assert_eq!(numbers, [3, 4, 6, 7, 7]);
    }

    #[test]
    fn the_journal_is_known_by_device_and_inode() {
        let file = tempfile::tempfile().unwrap();
        let stat = fstat(file.as_fd()).unwrap();
        let (device, inode) = (stat.st_dev, stat.st_ino);
        assert!(is_stream(&format!("{device}:{inode}"), &stat));
        for other in [
            format!("{device}:{}", inode + 1),
            format!("{}:{inode}", device + 1),
            format!("{inode}"),
            String::new(),
        ] {
            assert!(!is_stream(&other, &stat), "{other}");
        }
    }
}
