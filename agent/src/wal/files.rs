//! The part of a file system that a log needs, as traits, so that tests can crash it and make it fail; and the real one.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, IoSlice, Read as _, Seek as _, Write as _};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::FallocateFlags;

/// A directory tree.
pub trait Files: Debug + Send + Sync + 'static {
    /// Makes a directory and those above it, if missing, and makes that durable.
    ///
    /// # Errors
    /// As the file system says.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// Takes a lock file for as long as the result lives, and notes this process in it.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if another owner has it, with the owner's note as the message if there is one.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send>>;

    /// Names of the files in a directory, in any order.
    ///
    /// # Errors
    /// As the file system says.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Makes an empty file for reading and writing, in place of any that was there.
    ///
    /// # Errors
    /// As the file system says.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn LogFile>>;

    /// Opens a file for reading.
    ///
    /// # Errors
    /// As the file system says.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn LogFile>>;

    /// Opens a file for reading and writing over what is in it.
    ///
    /// # Errors
    /// As the file system says.
    fn reopen(&self, path: &Path) -> io::Result<Arc<dyn LogFile>>;

    /// Cuts a closed file to `len` bytes and makes that durable.
    ///
    /// # Errors
    /// As the file system says.
    fn cut(&self, path: &Path, len: u64) -> io::Result<()>;

    /// Removes a file. Durable after [`Files::sync_dir`].
    ///
    /// # Errors
    /// As the file system says.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Gives a file another name in place of any file that has it. Durable after [`Files::sync_dir`].
    ///
    /// # Errors
    /// As the file system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Makes a directory's entries durable.
    ///
    /// # Errors
    /// As the file system says.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// An open file.
pub trait LogFile: Debug + Send + Sync + 'static {
    /// Reserves space for `len` bytes from the beginning and makes the file that long. A file system that cannot do
    /// so says nothing, and the file stays as it is.
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`] and its like.
    fn preallocate(&self, len: u64) -> io::Result<()>;

    /// Writes some of `parts` at `offset` and says how many bytes.
    ///
    /// # Errors
    /// As the file system says.
    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<usize>;

    /// Reads up to `buffer.len()` bytes at `offset`; 0 at the end of the file.
    ///
    /// # Errors
    /// As the file system says.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Makes what was written durable. After an error nothing is known about what was written since the last success.
    ///
    /// # Errors
    /// As the file system says.
    fn sync(&self) -> io::Result<()>;

    /// Cuts the file to `len` bytes.
    ///
    /// # Errors
    /// As the file system says.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// The file's length in bytes.
    ///
    /// # Errors
    /// As the file system says.
    fn byte_len(&self) -> io::Result<u64>;
}

/// Reads until `buffer` is full or the file ends; how many bytes there were.
pub(super) fn read_full(file: &dyn LogFile, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Writes all of `parts` at `offset`, in as few calls as the system allows.
pub(super) fn write_full(
    file: &dyn LogFile,
    mut parts: &mut [IoSlice<'_>],
    mut offset: u64,
) -> io::Result<()> {
    while !parts.is_empty() {
        match file.write_at(&parts[..parts.len().min(PARTS_MAX)], offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                offset += count as u64;
                IoSlice::advance_slices(&mut parts, count);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// `IOV_MAX` on Linux.
const PARTS_MAX: usize = 1024;

/// The file system of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct Disk;

impl Files for Disk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        if dir.is_dir() {
            return Ok(());
        }
        fs::create_dir_all(dir)?;
        // Each new directory is an entry in the one above it; syncing one too many does no harm.
        for above in dir.ancestors().skip(1).take(3) {
            if above.as_os_str().is_empty() {
                break;
            }
            self.sync_dir(above)?;
        }
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send>> {
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut owner = String::new();
                // A note that cannot be read only makes the message shorter.
                file.take(LOCK_NOTE_MAX).read_to_string(&mut owner).ok();
                return Err(io::Error::new(io::ErrorKind::WouldBlock, owner));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // The note helps people only: a full disk must not keep a log from being opened.
        let note = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| write!(file, "{}", std::process::id()));
        note.ok();
        Ok(Box::new(file))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            names.extend(entry?.file_name().into_string().ok());
        }
        Ok(names)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn LogFile>> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .read(true)
            .write(true)
            .open(path)?;
        Ok(Arc::new(file))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn LogFile>> {
        Ok(Arc::new(File::open(path)?))
    }

    fn reopen(&self, path: &Path) -> io::Result<Arc<dyn LogFile>> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Arc::new(file))
    }

    fn cut(&self, path: &Path, len: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(path)?;
        file.set_len(len)?;
        file.sync_all()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }
}

/// Longer than any process id.
const LOCK_NOTE_MAX: u64 = 32;

impl LogFile for File {
    fn preallocate(&self, len: u64) -> io::Result<()> {
        match rustix::fs::fallocate(self, FallocateFlags::empty(), 0, len) {
            Ok(()) => Ok(()),
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        Ok(rustix::io::pwritev(self, parts, offset)?)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(self, buffer, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        File::set_len(self, len)
    }

    fn byte_len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}
