//! What a disk says of itself, in `/sys/dev/block`.

use std::fs;
use std::io;
use std::os::linux::fs::MetadataExt as _;
use std::path::Path;

/// The unit of the kernel's statistics, whatever the disk's own blocks are.
const SECTOR_BYTES: u64 = 512;
/// The place of "sectors written" in a line of `stat` (Linux, Documentation/block/stat.rst).
const SECTORS_WRITTEN: usize = 6;

/// Bytes written so far to the disk below `path`, whoever wrote them.
///
/// # Errors
/// When there is no disk below it, as on tmpfs, or the kernel does not say.
pub(crate) fn device_written_bytes(path: &Path) -> io::Result<u64> {
    let device = fs::metadata(path)?.st_dev();
    let (major, minor) = (libc::major(device), libc::minor(device));
    let stat = fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat"))?;
    written(&stat).ok_or_else(|| io::Error::other("no count of sectors written"))
}

fn written(stat: &str) -> Option<u64> {
    let sectors: u64 = stat.split_whitespace().nth(SECTORS_WRITTEN)?.parse().ok()?;
    Some(sectors * SECTOR_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sectors_written_are_counted_in_bytes() {
        let stat = "  101 2 3000 40 500 6 7000 80 0 90 100 0 0 0 0\n";
        assert_eq!(written(stat), Some(7000 * 512));
        assert_eq!(written("1 2 3"), None);
        assert_eq!(written(""), None);
    }

    #[test]
    fn what_is_not_on_a_disk_is_an_error() {
        device_written_bytes(Path::new("/proc")).unwrap_err();
    }
}
