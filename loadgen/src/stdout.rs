//! Standard output, whose reader may stop before the end, as `head` does.

use std::io::{ErrorKind, Write as _};

use anyhow::Context as _;

/// Prints a result. That nobody reads on is no error: whatever else is to be done is done, and the exit status tells the rest.
///
/// # Errors
/// When it cannot be written for another reason, such as a full disk.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let printed = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    match printed {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        printed => printed.context("cannot print the result"),
    }
}
