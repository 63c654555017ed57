//! Reading files that a configuration refers to: what waits for a writer, or has no end, is no such file.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Bytes of the largest file that any component takes.
pub(crate) const LARGEST: u64 = 64 << 20;

/// Bytes of a file with certificates, keys, tokens or users.
pub(crate) const SECRETS_MAX: u64 = 16 << 20;

/// Opens a file to read it; waits for nobody.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] where it is a pipe, a socket or a device, and what the system says.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        // A pipe would be waited for until somebody writes to it.
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    let kind = file.metadata()?.file_type();
    match kind.is_file() || kind.is_dir() {
        true => Ok(file),
        false => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is a pipe, a socket or a device, and not a regular file",
        )),
    }
}

/// Reads a file of at most `most` bytes.
///
/// # Errors
/// [`io::ErrorKind::FileTooLarge`] where there is more in it, and as [`open`].
pub(crate) fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    open(path)?.take(most + 1).read_to_end(&mut content)?;
    match content.len() as u64 > most {
        false => Ok(content),
        true => Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it is larger than {} MiB", most >> 20),
        )),
    }
}

/// Reads a text of at most `most` bytes.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] where it is none, and as [`read`].
pub(crate) fn read_text(path: &Path, most: u64) -> io::Result<String> {
    String::from_utf8(read(path, most)?).map_err(|_| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "stream did not contain valid UTF-8",
        )
    })
}

/// Whether a file is wrong as it is, and waiting for another does not help.
pub(crate) fn is_unfit(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, InvalidData, InvalidInput};
    matches!(error.kind(), InvalidData | InvalidInput | FileTooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_much_of_regular_files_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let sparse = File::create(&path).unwrap();
        sparse.set_len(2 << 20).unwrap();
        assert_eq!(read(&path, 2 << 20).unwrap().len(), 2 << 20);
        sparse.set_len((2 << 20) + 1).unwrap();
        let error = read(&path, 2 << 20).unwrap_err();
        assert_eq!(error.to_string(), "it is larger than 2 MiB");
        assert!(is_unfit(&error));
        let error = read(folder.path(), 5).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
        std::fs::write(&path, [0xff]).unwrap();
        assert!(is_unfit(&read_text(&path, 5).unwrap_err()));
        let error = read(&folder.path().join("none"), 5).unwrap_err();
        assert!(!is_unfit(&error));
    }

    #[test]
    fn what_has_no_end_or_no_writer_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        for path in [&pipe, Path::new("/dev/zero")] {
            let error = read(path, 5).unwrap_err();
            assert!(
                error.to_string().starts_with("it is a pipe"),
                "{}: {error}",
                path.display()
            );
            assert!(is_unfit(&error));
        }
    }
}
