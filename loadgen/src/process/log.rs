//! What a program said last.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

/// Lines shown when something fails.
const LINES: usize = 20;
/// Where they are looked for, at the log's end.
const BYTES: u64 = 64 << 10;

/// The last lines of a log; nothing if it cannot be read, as it only goes with another error.
pub(crate) fn log_end(path: &Path) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(BYTES)))?;
        let mut bytes = Vec::new();
        file.take(BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<_> = text.lines().collect();
    let last = lines.get(lines.len().saturating_sub(LINES)..);
    last.unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_shown_of_logs_of_any_length() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        assert_eq!(log_end(&path), "");
        std::fs::write(&path, "a\nb\n").unwrap();
        assert_eq!(log_end(&path), "a\nb");
        let long: String = (0..100_000).map(|number| format!("{number}\n")).collect();
        std::fs::write(&path, long).unwrap();
        let end = log_end(&path);
        assert!(
            end.starts_with("99980\n") && end.ends_with("\n99999"),
            "{end}"
        );
    }
}
