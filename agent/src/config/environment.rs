//! What a configuration may read from outside: variables, files and the standard input.

use std::cell::RefCell;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::files;

/// The most bytes that one file of a configuration may have, and everything substituted into it together.
pub(crate) const BYTES_MAX: u64 = 4 << 20;

/// Where variables and files come from.
pub trait Environment {
    /// The value of a variable; `None` where it is not set.
    ///
    /// # Errors
    /// When it is not UTF-8.
    fn variable(&self, name: &str) -> Result<Option<String>, String>;

    /// The content of a file.
    ///
    /// # Errors
    /// When it cannot be read, is not UTF-8 or is larger than 4 MiB.
    fn file(&self, path: &Path) -> Result<String, String>;

    /// The `*.toml` files of a folder in the order of their names, but for hidden ones; `None` where `path` is no folder.
    ///
    /// # Errors
    /// When it cannot be read.
    fn folder(&self, path: &Path) -> Result<Option<Vec<PathBuf>>, String>;

    /// The standard input.
    ///
    /// # Errors
    /// As for a file.
    fn stdin(&self) -> Result<String, String>;
}

/// This process's own environment.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProcessEnvironment;

impl Environment for ProcessEnvironment {
    fn variable(&self, name: &str) -> Result<Option<String>, String> {
        match std::env::var(name) {
            Ok(value) => Ok(Some(value)),
            Err(std::env::VarError::NotPresent) => Ok(None),
            Err(std::env::VarError::NotUnicode(_)) => Err("is not UTF-8".to_owned()),
        }
    }

    fn file(&self, path: &Path) -> Result<String, String> {
        // A shell's `<(...)` is a pipe that has its writer. Any other would be waited for, and every reload with it.
        let opened = match path.starts_with("/dev") || path.starts_with("/proc") {
            true => std::fs::File::open(path),
            false => files::open(path),
        };
        read(opened.map_err(words)?)
    }

    fn folder(&self, path: &Path) -> Result<Option<Vec<PathBuf>>, String> {
        if !path.is_dir() {
            return Ok(None);
        }
        let mut files = Vec::new();
        for entry in std::fs::read_dir(path).map_err(words)? {
            let entry = entry.map_err(words)?;
            let file = entry.path();
            // Editors put their locks and drafts beside the file, under names that begin with a dot.
            let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
            if !hidden
                && file
                    .extension()
                    .is_some_and(|extension| extension == "toml")
                && (file.is_file() || leads_nowhere(&file))
            {
                files.push(file);
            }
        }
        files.sort();
        Ok(Some(files))
    }

    /// Read once: when the configuration is read again, it is what it was.
    fn stdin(&self) -> Result<String, String> {
        static STDIN: OnceLock<Result<String, String>> = OnceLock::new();
        STDIN.get_or_init(|| read(io::stdin().lock())).clone()
    }
}

/// An environment that remembers which files were asked for.
pub(super) struct Recording<'a> {
    inner: &'a dyn Environment,
    files: RefCell<Vec<PathBuf>>,
}

impl<'a> Recording<'a> {
    pub(super) fn new(inner: &'a dyn Environment) -> Self {
        Self {
            inner,
            files: RefCell::default(),
        }
    }

    pub(super) fn into_files(self) -> Vec<PathBuf> {
        self.files.into_inner()
    }
}

impl Environment for Recording<'_> {
    fn variable(&self, name: &str) -> Result<Option<String>, String> {
        self.inner.variable(name)
    }

    fn file(&self, path: &Path) -> Result<String, String> {
        self.files.borrow_mut().push(path.to_owned());
        self.inner.file(path)
    }

    fn folder(&self, path: &Path) -> Result<Option<Vec<PathBuf>>, String> {
        self.inner.folder(path)
    }

    fn stdin(&self) -> Result<String, String> {
        self.inner.stdin()
    }
}

/// Whether it is a link to what is not there: reading it says so, where passing it over would drop what it configured.
fn leads_nowhere(path: &Path) -> bool {
    path.is_symlink() && !path.exists()
}

fn read(source: impl Read) -> Result<String, String> {
    let mut bytes = Vec::new();
    source
        .take(BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(words)?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(format!("is larger than {} MiB", BYTES_MAX >> 20));
    }
    String::from_utf8(bytes).map_err(|error| {
        let sound = error.utf8_error().valid_up_to();
        let (before, rest) = error.as_bytes().split_at(sound);
        let text = String::from_utf8_lossy(before);
        let line = text.rsplit('\n').next().unwrap_or_default();
        format!(
            "is not UTF-8: line {}, column {} has the byte 0x{:02x}; save it as UTF-8",
            text.matches('\n').count() + 1,
            line.chars().count() + 1,
            rest.first().copied().unwrap_or_default(),
        )
    })
}

/// What is said about a file that is not there.
pub(crate) const NO_SUCH_FILE: &str = "cannot be read: no such file";

/// The system's words without its number: `cannot be read: permission denied`.
fn words(error: io::Error) -> String {
    let reason = match error.kind() {
        io::ErrorKind::NotFound => return NO_SUCH_FILE.to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    };
    format!("cannot be read: {reason}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_stands_for_its_visible_toml_files() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.toml", "a.toml", ".hidden.toml", "c.txt", ".#a.toml"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        std::fs::create_dir(folder.path().join("d.toml")).unwrap();
        std::os::unix::fs::symlink("nowhere", folder.path().join("e.toml")).unwrap();
        let files = ProcessEnvironment.folder(folder.path()).unwrap().unwrap();
        let expected = ["a.toml", "b.toml", "e.toml"].map(|name| folder.path().join(name));
        assert_eq!(files, expected);
    }

    #[test]
    fn nobody_waits_for_what_is_written_into_a_pipe() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        let problem = ProcessEnvironment.file(&pipe).unwrap_err();
        assert!(problem.contains("it is a pipe"), "{problem}");
    }

    #[test]
    fn a_file_that_is_not_utf8_is_told_by_its_place() {
        let problem = read(&b"a = 1\n# caf\xc3\xa9 \xe9"[..]).unwrap_err();
        let expected = "is not UTF-8: line 2, column 8 has the byte 0xe9; save it as UTF-8";
        assert_eq!(problem, expected);
    }
}
