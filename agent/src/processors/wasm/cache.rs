//! Compiled plugins on disk, so that a start of the agent does not compile them again.
//!
//! A file is named after the content of the plugin and everything that the compiled code depends on: the engine's version,
//! its settings and the features of the processor. Compiled code is executed as it is. So the folder must belong to the
//! user that the agent runs as, and nobody else may write to it; otherwise there is no cache.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tracing::{debug, warn};
use wasmtime::Engine;
use wasmtime::component::Component;

/// Compiled plugins that are kept; those unused for longest go.
const FILES_MAX: usize = 64;

/// What the files' names end in.
const EXTENSION: &str = "cwasm";

/// A folder of compiled plugins.
#[derive(Debug, Clone)]
pub(super) struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// The cache of this process: below `$CACHE_DIRECTORY`, which systemd sets, `$XDG_CACHE_HOME` or `~/.cache`.
    pub(super) fn of_process() -> Option<Self> {
        Self::open(folder(|name| std::env::var_os(name))?)
    }

    /// The cache in `folder`, which is made if it is not there.
    pub(super) fn open(folder: PathBuf) -> Option<Self> {
        match prepare(&folder) {
            Ok(()) => Some(Self { folder }),
            Err(error) => {
                let folder = folder.display();
                warn!(%folder, %error, "no cache for compiled plugins: each is compiled at every start");
                None
            }
        }
    }

    /// The compiled form of the plugin with this digest, if it is there and fits.
    pub(super) fn load(&self, engine: &Engine, digest: &[u8]) -> Option<Component> {
        let path = self.path(engine, digest);
        let is_ours =
            fs::symlink_metadata(&path).is_ok_and(|file| file.is_file() && is_safe(&file));
        if !is_ours {
            return None;
        }
        match deserialize(engine, &path) {
            Ok(component) => {
                // Its age is when it was used last.
                let touched =
                    File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
                drop(touched);
                Some(component)
            }
            Err(error) => {
                let path = path.display();
                warn!(%path, %error, "a compiled plugin cannot be used; it is compiled again");
                None
            }
        }
    }

    /// Keeps the compiled form of the plugin with this digest. A cache that cannot be written to is not a failure.
    pub(super) fn store(&self, engine: &Engine, digest: &[u8], component: &Component) {
        let path = self.path(engine, digest);
        let written = component
            .serialize()
            .map_err(|error| error.to_string())
            .and_then(|code| replace(&path, &code).map_err(|error| error.to_string()));
        match written {
            Ok(()) => self.tidy(),
            Err(error) => {
                let path = path.display();
                warn!(%path, %error, "a compiled plugin could not be kept");
            }
        }
    }

    fn path(&self, engine: &Engine, digest: &[u8]) -> PathBuf {
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let content: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let name = format!("{content}-{:016x}.{EXTENSION}", hasher.finish());
        self.folder.join(name)
    }

    /// Removes what was unused for longest.
    fn tidy(&self) {
        let Ok(entries) = fs::read_dir(&self.folder) else {
            return;
        };
        let mut files: Vec<(SystemTime, PathBuf)> = entries
            .flatten()
            .filter(|entry| entry.path().extension().is_some_and(|it| it == EXTENSION))
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        files.sort();
        let beyond = files.len().saturating_sub(FILES_MAX);
        for (_, path) in files.into_iter().take(beyond) {
            if let Err(error) = fs::remove_file(&path) {
                let path = path.display();
                debug!(%path, %error, "an old compiled plugin could not be removed");
            }
        }
    }
}

/// Where the cache is, by these variables.
fn folder(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let set = |name| {
        variable(name)
            .map(PathBuf::from)
            .filter(|it| it.is_absolute())
    };
    let home = || set("HOME").map(|home| home.join(".cache"));
    // systemd separates several folders by colons.
    let own = set("CACHE_DIRECTORY").and_then(|folders| {
        let bytes = folders.as_os_str().as_bytes();
        let first = bytes.split(|byte| *byte == b':').next()?;
        Some(PathBuf::from(OsStr::from_bytes(first)))
    });
    match own {
        Some(own) => Some(own.join("plugins")),
        None => Some(
            set("XDG_CACHE_HOME")
                .or_else(home)?
                .join("tidegate/plugins"),
        ),
    }
}

fn prepare(folder: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    match is_safe(&fs::symlink_metadata(folder)?) {
        true => Ok(()),
        false => Err(io::Error::other(
            "it belongs to somebody else, or others may write to it",
        )),
    }
}

/// Whether only the user that the agent runs as can have written it.
fn is_safe(found: &fs::Metadata) -> bool {
    let others_may_write = found.mode() & 0o022 != 0;
    // The kernel gives the folder of a process to the user that it acts as.
    let is_ours = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == found.uid());
    is_ours && !others_may_write
}

/// Writes a file that is complete as soon as it has its name.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let written = File::create(&temporary)
        .and_then(|mut file| file.write_all(content))
        .and_then(|()| fs::set_permissions(&temporary, private()))
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        drop(fs::remove_file(&temporary));
    }
    written
}

fn private() -> fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o600)
}

#[expect(
    unsafe_code,
    reason = "compiled code is mapped and executed; there is no safe way to say that"
)]
fn deserialize(engine: &Engine, path: &Path) -> wasmtime::Result<Component> {
    // SAFETY: the file was written by `Cache::store`: it lies in a folder that belongs to the user of this process, and
    // neither the folder nor the file can be written to by anybody else, which `prepare` and `load` have looked at. Whoever
    // can act as this user can do more than that. A file of another engine is refused by wasmtime's own check. A file is
    // never written to once it has its name (`replace`), so the mapping does not change.
    unsafe { Component::deserialize_file(engine, path) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const PLUGIN: &str = "(component)";

    #[test]
    fn what_is_stored_is_found_again_and_what_is_damaged_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let engine = Engine::default();
        let cache = Cache::open(folder.path().join("plugins")).unwrap();
        assert!(cache.load(&engine, b"digest").is_none());
        let component = Component::new(&engine, wat::parse_str(PLUGIN).unwrap()).unwrap();
        cache.store(&engine, b"digest", &component);
        assert!(cache.load(&engine, b"digest").is_some());
        assert!(cache.load(&engine, b"other").is_none());
        fs::write(cache.path(&engine, b"digest"), b"not code").unwrap();
        assert!(cache.load(&engine, b"digest").is_none());
    }

    #[test]
    fn a_folder_or_file_that_others_can_write_to_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let engine = Engine::default();
        let open = folder.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(Cache::open(open).is_none());
        let cache = Cache::open(folder.path().join("closed")).unwrap();
        let component = Component::new(&engine, wat::parse_str(PLUGIN).unwrap()).unwrap();
        cache.store(&engine, b"digest", &component);
        let path = cache.path(&engine, b"digest");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(cache.load(&engine, b"digest").is_none());
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path().join("plugins")).unwrap();
        for number in 0..FILES_MAX + 3 {
            let path = cache.folder.join(format!("{number}.{EXTENSION}"));
            let file = File::create(path).unwrap();
            let age = std::time::Duration::from_secs(1000 - number as u64);
            file.set_modified(SystemTime::now() - age).unwrap();
        }
        cache.tidy();
        assert!(!cache.folder.join(format!("2.{EXTENSION}")).exists());
        assert!(cache.folder.join(format!("3.{EXTENSION}")).exists());
    }

    #[test]
    fn the_folder_follows_the_variables() {
        let check = |set: &[(&str, &str)], expected: Option<&str>| {
            let variable = |name: &str| {
                let found = set.iter().find(|(of, _)| *of == name);
                found.map(|(_, value)| OsString::from(value))
            };
            assert_eq!(folder(variable), expected.map(PathBuf::from), "{set:?}");
        };
        check(&[], None);
        check(&[("HOME", "/h")], Some("/h/.cache/tidegate/plugins"));
        let both = [("HOME", "/h"), ("XDG_CACHE_HOME", "/x")];
        check(&both, Some("/x/tidegate/plugins"));
        let systemd = [("CACHE_DIRECTORY", "/var/cache/tidegate"), ("HOME", "/h")];
        check(&systemd, Some("/var/cache/tidegate/plugins"));
        let several = [("CACHE_DIRECTORY", "/var/cache/a:/var/cache/b")];
        check(&several, Some("/var/cache/a/plugins"));
        check(&[("HOME", "relative")], None);
    }
}
