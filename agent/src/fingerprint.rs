//! What files hold that a configuration refers to, so that a change of content is a change of settings.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ring::digest::{Context, SHA256};

use crate::files;

/// The content of files, each as a number; `None` where it cannot be read, or is larger than any component takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fingerprints(BTreeMap<PathBuf, Option<Vec<u8>>>);

impl Fingerprints {
    /// Of no file.
    pub const NONE: &'static Self = &Self(BTreeMap::new());

    /// Reads `files`.
    pub fn read(files: impl IntoIterator<Item = PathBuf>) -> Self {
        let print = |path: PathBuf| {
            let print = print_of(&path).ok();
            (path, print)
        };
        Self(files.into_iter().map(print).collect())
    }

    /// That of one file; `None` where it cannot be read or was not asked for.
    pub fn of(&self, file: &Path) -> Option<&[u8]> {
        self.0.get(file)?.as_deref()
    }

    /// Whether this file was asked for.
    pub fn has(&self, file: &Path) -> bool {
        self.0.contains_key(file)
    }

    /// The files.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.0.keys().map(PathBuf::as_path)
    }
}

fn print_of(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = files::open(path)?.take(files::LARGEST + 1);
    let mut digest = Context::new(&SHA256);
    let mut piece = [0; 16 * 1024];
    loop {
        match file.read(&mut piece)? {
            0 => break,
            read => digest.update(piece.get(..read).unwrap_or_default()),
        }
    }
    match file.limit() {
        0 => Err(io::ErrorKind::FileTooLarge.into()),
        _ => Ok(digest.finish().as_ref().to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_component_takes_has_no_print() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let print = || {
            Fingerprints::read([path.clone()])
                .of(&path)
                .map(<[u8]>::to_vec)
        };
        assert_eq!(print(), None);
        std::fs::write(&path, "content").unwrap();
        let first = print();
        assert!(first.is_some() && first == print());
        std::fs::write(&path, "another").unwrap();
        assert!(print().is_some_and(|print| Some(print) != first));
        let file = std::fs::File::create(&path).unwrap();
        file.set_len(files::LARGEST).unwrap();
        assert!(print().is_some());
        file.set_len(files::LARGEST + 1).unwrap();
        assert_eq!(print(), None);
        let endless = PathBuf::from("/dev/zero");
        assert_eq!(Fingerprints::read([endless.clone()]).of(&endless), None);
    }
}
