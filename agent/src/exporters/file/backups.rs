//! Rotated files: their names, which carry the time, and when they are removed.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tracing::warn;

use super::localtime;
use super::options::Rotation;
use crate::calendar;

/// Two rotations within a millisecond take the next free one; more of them in a row than this cannot be.
const ATTEMPTS_MAX: u64 = 1000;

/// Renames `path` to a free name with the time in it.
pub(super) fn rotate(path: &Path, rotation: &Rotation, now: SystemTime) -> io::Result<PathBuf> {
    let now = naive_millis(now, rotation.localtime);
    for millis in now..now + ATTEMPTS_MAX {
        let backup = backup_path(path, millis);
        // Nobody else makes these names: the file's lock is ours.
        if !backup.try_exists()? {
            std::fs::rename(path, &backup)?;
            return Ok(backup);
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Removes backups of `path` that are too many or too old. Failures are logged: they stop nothing.
pub(super) fn expire(path: &Path, rotation: &Rotation, now: SystemTime) {
    let backups = match list(path) {
        Ok(backups) => backups,
        Err(error) => {
            warn!(path = %path.display(), %error, "listing rotated files failed");
            return;
        }
    };
    let now = naive_millis(now, rotation.localtime);
    for (index, (millis, backup)) in backups.iter().enumerate() {
        let age = Duration::from_millis(now.saturating_sub(*millis));
        let too_old = rotation.max_age.is_some_and(|max| age > max);
        let too_many = rotation.max_backups.is_some_and(|max| index >= max);
        if !too_old && !too_many {
            continue;
        }
        if let Err(error) = std::fs::remove_file(backup) {
            warn!(path = %backup.display(), %error, "removing a rotated file failed");
        }
    }
}

/// The backups of `path` with the time in their names, newest first.
fn list(path: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if let Some(millis) = backup_time(path, &entry.file_name()) {
            found.push((millis, entry.path()));
        }
    }
    found.sort_by(|left, right| right.cmp(left));
    Ok(found)
}

/// `name.ext` and a time: `name-2026-01-02T15-04-05.000.ext`.
fn backup_path(path: &Path, naive_millis: u64) -> PathBuf {
    let (mut name, extension) = stem_and_extension(path);
    name.push("-");
    name.push(timestamp(naive_millis));
    name.push(extension);
    path.with_file_name(name)
}

/// The time in `name` if it is a backup of `path`.
fn backup_time(path: &Path, name: &std::ffi::OsStr) -> Option<u64> {
    let (stem, extension) = stem_and_extension(path);
    let time = name
        .to_str()?
        .strip_prefix(stem.to_str()?)?
        .strip_prefix('-')?
        .strip_suffix(extension.to_str()?)?;
    parse_timestamp(time)
}

/// `name` and `.ext`, or nothing for it.
fn stem_and_extension(path: &Path) -> (OsString, OsString) {
    let stem = path.file_stem().unwrap_or_default().to_owned();
    let mut extension = OsString::new();
    if let Some(found) = path.extension() {
        extension.push(".");
        extension.push(found);
    }
    (stem, extension)
}

/// Milliseconds since 1970 on the clock that names are written by: UTC, or local time.
fn naive_millis(time: SystemTime, local: bool) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let offset = if local {
        localtime::offset_seconds(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
    } else {
        0
    };
    u64::try_from(since.as_millis())
        .unwrap_or(u64::MAX)
        .saturating_add_signed(offset * 1000)
}

const DAY_MILLIS: u64 = 86_400_000;

fn timestamp(millis: u64) -> String {
    let (year, month, day) = calendar::date_of(millis / DAY_MILLIS);
    let rest = millis % DAY_MILLIS;
    let (hour, minute) = (rest / 3_600_000, rest / 60_000 % 60);
    let (second, milli) = (rest / 1000 % 60, rest % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}-{minute:02}-{second:02}.{milli:03}")
}

fn parse_timestamp(text: &str) -> Option<u64> {
    let numbers: Vec<u64> = text
        .split(['-', 'T', '.'])
        .map(str::parse)
        .collect::<Result<_, _>>()
        .ok()?;
    let [year, month, day, hour, minute, second, milli] = numbers[..] else {
        return None;
    };
    let in_range = (1970..=9999).contains(&year) && (1..=12).contains(&month) && day <= 31;
    if !in_range {
        return None;
    }
    let seconds = hour * 3600 + minute * 60 + second;
    let millis = calendar::days_before(year, month, day) * DAY_MILLIS + seconds * 1000 + milli;
    // Only what we would write ourselves: `2026-1-2T3-4-5.6` is somebody else's name.
    (timestamp(millis) == text).then_some(millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rotation(max_days: u64, max_backups: usize) -> Rotation {
        Rotation {
            max_bytes: 1,
            max_age: (max_days > 0).then(|| Duration::from_secs(max_days * 86_400)),
            max_backups: (max_backups > 0).then_some(max_backups),
            localtime: false,
        }
    }

    /// 2026-01-02T15:04:05Z.
    const NOW: u64 = 1_767_366_245_000;

    fn at(millis: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(millis)
    }

    #[test]
    fn names_carry_the_time() {
        let check = |path: &str, millis, expected: &str| {
            let backup = backup_path(Path::new(path), millis);
            assert_eq!(backup, Path::new(expected));
            let name = backup.file_name().unwrap();
            assert_eq!(backup_time(Path::new(path), name), Some(millis));
        };
        check("/x/name.ext", NOW, "/x/name-2026-01-02T15-04-05.000.ext");
        check("name", NOW + 7, "name-2026-01-02T15-04-05.007");
        check("a.b.json", 0, "a.b-1970-01-01T00-00-00.000.json");
        check("a", 951_782_400_000, "a-2000-02-29T00-00-00.000");
        check("a", 4_107_542_399_999, "a-2100-02-28T23-59-59.999");
    }

    #[test]
    fn other_names_are_not_backups() {
        for name in [
            "name.ext",
            "name-1.ext",
            "name-2026-01-02T15-04-05.000.other",
            "other-2026-01-02T15-04-05.000.ext",
            "name-2026-1-2T15-4-5.0.ext",
            "name-2026-02-30T15-04-05.000.ext",
            "name-2026-01-02T99-04-05.000.ext",
        ] {
            assert_eq!(
                backup_time(Path::new("name.ext"), name.as_ref()),
                None,
                "{name}"
            );
        }
    }

    #[test]
    fn rotation_takes_a_free_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("name.ext");
        let rotate_once = |content: &str| {
            std::fs::write(&path, content).unwrap();
            rotate(&path, &rotation(0, 0), at(NOW)).unwrap()
        };
        let (first, second) = (rotate_once("1"), rotate_once("2"));
        assert_ne!(first, second);
        assert_eq!(std::fs::read_to_string(first).unwrap(), "1");
        assert_eq!(std::fs::read_to_string(second).unwrap(), "2");
        assert!(!path.exists());
    }

    #[test]
    fn backups_are_removed_by_number_and_by_age() {
        let check = |max_days, max_backups, expected: &[u64]| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("name.ext");
            std::fs::write(&path, "").unwrap();
            std::fs::write(folder.path().join("name-x.ext"), "").unwrap();
            for days in 0..5 {
                std::fs::write(backup_path(&path, NOW - days * DAY_MILLIS), "").unwrap();
            }
            expire(&path, &rotation(max_days, max_backups), at(NOW + 1));
            let left = list(&path).unwrap();
            let left: Vec<_> = left
                .iter()
                .map(|(millis, _)| (NOW - millis) / DAY_MILLIS)
                .collect();
            assert_eq!(left, expected, "{max_days} days, {max_backups} backups");
            assert!(path.exists() && folder.path().join("name-x.ext").exists());
        };
        check(0, 0, &[0, 1, 2, 3, 4]);
        check(0, 2, &[0, 1]);
        check(3, 0, &[0, 1, 2]);
        check(3, 1, &[0]);
    }
}
