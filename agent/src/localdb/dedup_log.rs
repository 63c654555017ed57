//! Repairs the engine's record of inserts after a crash, so that a repeated insert is not taken for a stored one.
//!
//! For tables with `non_replicated_deduplication_window` the engine writes down the insert's token before it gives the
//! new part its final name. Killed in between, it has the token and not the rows, and would skip the insert when its
//! sender repeats it: acknowledged rows would be missing. Both happen under one lock, so that of each partition only the
//! newest part can be concerned: no part on disk covers its number. Such lines are taken out before the engine reads them.

use std::fs::{self, DirEntry, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use tracing::warn;

const LOG_FOLDER: &str = "deduplication_logs";
/// Beside the engine's folders: in its own it would be taken for a log.
const SCRATCH: &str = "deduplication_log.repaired";
/// How a line begins that says that a part was added.
const ADDED: &str = "1";

/// Takes lines of parts that were never stored out of the records of all tables below `path`, which no engine has
/// open. Tells how many.
///
/// # Errors
/// When a folder cannot be read or a record not be written.
pub(super) fn repair(path: &Path) -> io::Result<usize> {
    let mut removed = 0;
    for group in folders(&path.join("store"))? {
        for table in folders(&group)? {
            removed += repair_table(&table, &path.join(SCRATCH))?;
        }
    }
    if removed > 0 {
        warn!(
            inserts = removed,
            "a crash cut inserts short: they are stored when they are repeated"
        );
    }
    Ok(removed)
}

fn repair_table(table: &Path, scratch: &Path) -> io::Result<usize> {
    let logs = entries(&table.join(LOG_FOLDER))?;
    if logs.is_empty() {
        return Ok(0);
    }
    let parts: Vec<Part> = entries(table)?
        .iter()
        .filter_map(|entry| Part::parse(entry.file_name().to_str()?))
        .collect();
    let mut removed = 0;
    for log in logs {
        let text = fs::read_to_string(log.path())?;
        let (kept, lines) = without_unstored(&text, &parts);
        if lines > 0 {
            let mut file = File::create(scratch)?;
            file.write_all(kept.as_bytes())?;
            file.sync_all()?;
            fs::rename(scratch, log.path())?;
            removed += lines;
        }
    }
    Ok(removed)
}

/// The log without lines of parts that none of `parts` covers, and how many these were. What is not understood stays.
fn without_unstored(log: &str, parts: &[Part]) -> (String, usize) {
    let is_unstored = |line: &&str| {
        let mut fields = line.split('\t');
        let added = fields.next() == Some(ADDED);
        let part = fields.next().and_then(Part::parse);
        added && part.is_some_and(|part| !parts.iter().any(|stored| stored.covers(&part)))
    };
    let removed = log.lines().filter(is_unstored).count();
    let kept = log
        .split_inclusive('\n')
        .filter(|line| !is_unstored(&line.trim_end_matches('\n')))
        .collect();
    (kept, removed)
}

/// What a part's name says: `PARTITION_MIN_MAX_LEVEL`, perhaps with `_MUTATION`.
#[derive(Debug, PartialEq, Eq)]
struct Part {
    partition: String,
    min: u64,
    max: u64,
}

impl Part {
    /// None for names of anything else, parts that are being made included.
    fn parse(name: &str) -> Option<Self> {
        let fields: Vec<&str> = name.split('_').collect();
        let (&partition, numbers) = fields.split_first()?;
        if !(3..=4).contains(&numbers.len()) {
            return None;
        }
        let numbers: Vec<u64> = numbers
            .iter()
            .map(|number| number.parse().ok())
            .collect::<Option<_>>()?;
        Some(Self {
            partition: partition.to_owned(),
            min: *numbers.first()?,
            max: *numbers.get(1)?,
        })
    }

    fn covers(&self, other: &Self) -> bool {
        self.partition == other.partition && self.min <= other.min && other.max <= self.max
    }
}

fn folders(path: &Path) -> io::Result<Vec<PathBuf>> {
    let is_folder = |entry: &DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    let found = entries(path)?;
    Ok(found
        .iter()
        .filter(|entry| is_folder(entry))
        .map(DirEntry::path)
        .collect())
}

/// What is in a folder; nothing if it does not exist.
fn entries(path: &Path) -> io::Result<Vec<DirEntry>> {
    match fs::read_dir(path) {
        Ok(entries) => entries.collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_parts_are_understood() {
        let check = |name: &str, expected: Option<(&str, u64, u64)>| {
            let found = Part::parse(name);
            let found = found
                .as_ref()
                .map(|part| (part.partition.as_str(), part.min, part.max));
            assert_eq!(found, expected, "{name}");
        };
        check("20261121_1_265_8", Some(("20261121", 1, 265)));
        check("all_3_3_0_12", Some(("all", 3, 3)));
        check("2026-11_7_7_0", Some(("2026-11", 7, 7)));
        check("tmp_insert_20261121_8_8_0", None);
        check("detached", None);
        check("format_version.txt", None);
    }

    #[test]
    fn only_lines_of_parts_that_nothing_covers_are_taken_out() {
        let parts = ["a_1_4_2", "a_5_5_0", "b_1_1_0"].map(|name| Part::parse(name).unwrap());
        let check = |log: &str, kept: &str, removed| {
            assert_eq!(
                without_unstored(log, &parts),
                (kept.to_owned(), removed),
                "{log}"
            );
        };
        let whole = "1\ta_2_2_0\tx\n1\ta_5_5_0\ty\n1\tb_1_1_0\tz\n2\ta_9_9_0\tx\nnot\ta line\n";
        check(whole, whole, 0);
        check("", "", 0);
        check("1\ta_5_5_0\ty\n1\ta_6_6_0\tz\n", "1\ta_5_5_0\ty\n", 1);
        check("1\tb_5_5_0\ty\n1\tc_1_1_0\tz\n1\ta_1_1_0", "1\ta_1_1_0", 2);
    }

    #[test]
    fn records_are_repaired_on_disk_once() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(repair(folder.path()).unwrap(), 0);
        let table = folder.path().join("store/abc/abcdef");
        let log = table.join(LOG_FOLDER).join("deduplication_log_1.txt");
        fs::create_dir_all(table.join("a_1_1_0")).unwrap();
        fs::create_dir_all(table.join(LOG_FOLDER)).unwrap();
        fs::write(&log, "1\ta_1_1_0\tx\n1\ta_2_2_0\ty\n").unwrap();
        assert_eq!(repair(folder.path()).unwrap(), 1);
        assert_eq!(fs::read_to_string(&log).unwrap(), "1\ta_1_1_0\tx\n");
        assert_eq!(repair(folder.path()).unwrap(), 0);
    }
}
