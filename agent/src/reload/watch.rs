//! Watches the files of a configuration, also while they are replaced: by renaming, by links, one after the other.
//!
//! Folders are watched, not files, since editors and Kubernetes put another file in the place of the one that was there.
//! What a notice says is only believed as far as that something has happened: whoever is told reads everything again.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, ModifyKind, RenameMode};
use notify::{ErrorKind, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{info, warn};

/// However often files change, they are read after so many times the quiet that was asked for.
const PATIENCE: u32 = 10;

/// How long it is quiet before a plugin is read whose file is whole: nobody writes to it, and it rarely has to fit another
/// that is still to come.
const PLUGIN_QUIET: Duration = Duration::from_millis(40);

/// A watch on files.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    changed: Arc<Notify>,
    /// Shared with the watcher's thread. Guards what has changed and was not told yet.
    news: Arc<Mutex<News>>,
    watcher: Option<RecommendedWatcher>,
    /// Why folders are not watched, as the operator was told.
    warned: Option<String>,
    /// Shared with the watcher's thread. Guards what matters in the folders that are watched.
    places: Arc<Mutex<Places>>,
}

/// Folders that cannot be watched.
#[derive(Debug)]
struct Unwatched {
    folders: Vec<PathBuf>,
    /// Why the first of them cannot, and what to do about it.
    cause: String,
}

/// What a configuration was read from, or could be.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Places {
    /// The folders to watch.
    folders: BTreeSet<PathBuf>,
    /// Files, and links on the way to them.
    paths: BTreeSet<PathBuf>,
    /// Folders whose every `*.toml` is part of the configuration.
    conf_d: BTreeSet<PathBuf>,
}

/// What has changed.
#[derive(Debug, Default)]
struct News {
    /// Plugins that somebody may still write to, or that are gone.
    unfinished: BTreeSet<PathBuf>,
    /// There are plugins that are whole.
    plugins: bool,
    /// Anything else.
    others: bool,
}

impl News {
    /// What is known of an event for `path`.
    fn add(&mut self, path: &Path, kind: EventKind) {
        match kind {
            _ if !is_plugin(path) => self.others = true,
            // Both halves of it were told before.
            EventKind::Modify(ModifyKind::Name(RenameMode::Both)) => {}
            EventKind::Modify(ModifyKind::Metadata(_)) => self.plugins = true,
            EventKind::Modify(ModifyKind::Name(RenameMode::To)) | WRITTEN => {
                self.unfinished.remove(path);
                self.plugins = true;
            }
            _ => {
                self.unfinished.insert(path.to_owned());
            }
        }
    }

    /// How long it has to be quiet, where `quiet` was asked for.
    fn quiet(&self, quiet: Duration) -> Duration {
        let is_whole = self.plugins && self.unfinished.is_empty() && !self.others;
        match is_whole {
            true => quiet.min(PLUGIN_QUIET),
            false => quiet,
        }
    }
}

/// A file's writer has closed it.
const WRITTEN: EventKind = EventKind::Access(AccessKind::Close(AccessMode::Write));

fn is_plugin(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "wasm")
}

impl Watch {
    /// Watches the folders of `files`, and of what they are links to; folders among them as they are. `None` watches
    /// nothing.
    pub(crate) fn look_at<'a>(&mut self, files: Option<impl IntoIterator<Item = &'a Path>>) {
        let Some(files) = files else {
            self.watcher = None;
            *self.places() = Places::default();
            return;
        };
        let mut places = Places::default();
        files.into_iter().for_each(|file| places.add(file));
        let old = std::mem::replace(&mut *self.places(), places.clone());
        let unwatched = self.watch(&old, &places);
        self.tell(unwatched);
    }

    /// Gives what cannot be watched.
    fn watch(&mut self, old: &Places, places: &Places) -> Option<Unwatched> {
        let watcher = match &mut self.watcher {
            Some(watcher) => watcher,
            none => match watcher(&self.changed, &self.news, &self.places) {
                Ok(watcher) => none.insert(watcher),
                Err(error) => {
                    return Some(Unwatched {
                        folders: places.folders.iter().cloned().collect(),
                        cause: cause(&error),
                    });
                }
            },
        };
        for folder in &old.folders {
            // It may not be there any more, or be another of the same name.
            watcher.unwatch(folder).ok();
        }
        let mut unwatched: Option<Unwatched> = None;
        for folder in &places.folders {
            if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) {
                let unwatched = unwatched.get_or_insert_with(|| Unwatched {
                    folders: Vec::new(),
                    cause: cause(&error),
                });
                unwatched.folders.push(folder.clone());
            }
        }
        unwatched
    }

    /// Warns once for each cause: not after every reload, which tries again.
    fn tell(&mut self, unwatched: Option<Unwatched>) {
        let cause = unwatched.as_ref().map(|unwatched| &unwatched.cause);
        if cause == self.warned.as_ref() {
            return;
        }
        match &unwatched {
            Some(Unwatched { folders, cause }) => warn!(
                ?folders,
                "changes of the configuration's files are not noticed: {cause}; SIGHUP and `tidegate reload` work"
            ),
            None => info!("changes of the configuration's files are noticed again"),
        }
        self.warned = unwatched.map(|unwatched| unwatched.cause);
    }

    /// A number that changes when any of the files does.
    pub(crate) fn stamp(&self) -> u64 {
        let places = self.places().clone();
        let mut stamp = DefaultHasher::new();
        for path in &places.paths {
            path.hash(&mut stamp);
            if let Ok(found) = std::fs::symlink_metadata(path) {
                (found.ino(), found.mtime(), found.mtime_nsec(), found.len()).hash(&mut stamp);
            }
        }
        stamp.finish()
    }

    /// As if something had changed.
    pub(crate) fn look_again(&self) {
        lock(&self.news).others = true;
        self.changed.notify_one();
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        lock(&self.places)
    }

    /// Waits until something has changed and then for as long as `quiet` nothing more, or for a moment if it was only a
    /// plugin that is whole. Cancel safe.
    pub(crate) async fn changed(&self, quiet: Duration) {
        self.changed.notified().await;
        let mut again = Again(Some(&self.changed));
        let latest = Instant::now() + quiet * PATIENCE;
        loop {
            let quiet = lock(&self.news).quiet(quiet);
            let deadline = (Instant::now() + quiet).min(latest);
            let more = tokio::time::timeout_at(deadline, self.changed.notified()).await;
            if more.is_err() || Instant::now() >= latest {
                break;
            }
        }
        again.0 = None;
        *lock(&self.news) = News::default();
    }
}

/// Tells once more when it is dropped: should the wait be cancelled, the news must not be lost.
struct Again<'a>(Option<&'a Notify>);

impl Drop for Again<'_> {
    fn drop(&mut self) {
        if let Some(changed) = self.0 {
            changed.notify_one();
        }
    }
}

/// What is in the way, and what to do about it.
fn cause(error: &notify::Error) -> String {
    let limit = match &error.kind {
        ErrorKind::MaxFilesWatch => {
            "the user's limit of watches is reached: raise the sysctl fs.inotify.max_user_watches"
        }
        ErrorKind::Io(error) if error.raw_os_error() == Some(libc::EMFILE) => {
            "the user's limit of watchers, or the process's of open files, is reached: raise the sysctl fs.inotify.max_user_instances, or LimitNOFILE= of the service"
        }
        _ => return error.to_string(),
    };
    limit.to_owned()
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn watcher(
    changed: &Arc<Notify>,
    news: &Arc<Mutex<News>>,
    places: &Arc<Mutex<Places>>,
) -> notify::Result<RecommendedWatcher> {
    let (changed, news, places) = (Arc::clone(changed), Arc::clone(news), Arc::clone(places));
    notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let mut news = lock(&news);
        let is_news = match event {
            Ok(event) => lock(&places).sort(&event, &mut news),
            // Events may be lost.
            Err(_) => {
                news.others = true;
                true
            }
        };
        drop(news);
        if is_news {
            changed.notify_one();
        }
    })
}

/// How many links are followed, one to the next.
const LINKS_MAX: usize = 16;

impl Places {
    /// Adds a file, or a folder of them, and whatever it leads to by links.
    fn add(&mut self, file: &Path) {
        let mut file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
        for _ in 0..LINKS_MAX {
            if file.is_dir() {
                self.folders.insert(file.clone());
                self.conf_d.insert(file.clone());
            }
            self.add_path(&file);
            match link_on(&file) {
                Some((link, target)) => {
                    self.add_path(&link);
                    file = target;
                }
                None => return,
            }
        }
    }

    fn add_path(&mut self, path: &Path) {
        if let Some(folder) = path.parent() {
            self.folders.insert(folder.to_owned());
            self.paths.insert(path.to_owned());
        }
    }

    /// Adds what of an event matters to `news`; whether any of it does.
    fn sort(&self, event: &notify::Event, news: &mut News) -> bool {
        let is_read = matches!(event.kind, EventKind::Access(_));
        if event.need_rescan() || (event.paths.is_empty() && !is_read) {
            news.others = true;
            return true;
        }
        // That a writer is done is news of plugins alone: of the rest it is known that they were written to.
        let is_news = |path: &&PathBuf| !is_read || (is_plugin(path) && event.kind == WRITTEN);
        let mut any = false;
        for path in event.paths.iter().filter(is_news) {
            if self.is_part(path) {
                news.add(path, event.kind);
                any = true;
            }
        }
        any
    }

    fn is_part(&self, path: &Path) -> bool {
        let is_toml = path.extension().is_some_and(|end| end == "toml");
        let folder = path.parent();
        self.paths.contains(path)
            || self.folders.contains(path)
            || (is_toml && folder.is_some_and(|folder| self.conf_d.contains(folder)))
    }
}

/// The first link on the way to `path`, and where the whole path leads by it.
fn link_on(path: &Path) -> Option<(PathBuf, PathBuf)> {
    let mut way = PathBuf::new();
    let mut steps = path.components();
    while let Some(step) = steps.next() {
        way.push(step);
        if let Ok(target) = std::fs::read_link(&way) {
            let folder = way.parent().unwrap_or_else(|| Path::new("/"));
            let rest = steps.as_path();
            let target = match rest.as_os_str().is_empty() {
                true => folder.join(target),
                false => folder.join(target).join(rest),
            };
            return Some((way, target));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    const QUIET: Duration = Duration::from_millis(20);

    async fn is_noticed(watch: &Watch) {
        let changed = tokio::time::timeout(crate::testing::DEADLINE, watch.changed(QUIET));
        changed.await.unwrap();
    }

    #[tokio::test]
    async fn every_way_to_change_a_file_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("agent.toml"), "1").unwrap();
        let mut watch = Watch::default();
        let file = path("agent.toml");
        watch.look_at(Some([file.as_path()]));
        fs::write(&file, "2").unwrap();
        is_noticed(&watch).await;
        // As an editor does.
        fs::write(path("agent.toml~"), "3").unwrap();
        fs::rename(path("agent.toml~"), &file).unwrap();
        is_noticed(&watch).await;
        fs::remove_file(&file).unwrap();
        is_noticed(&watch).await;
        fs::write(&file, "4").unwrap();
        is_noticed(&watch).await;
    }

    #[tokio::test]
    async fn what_else_happens_in_the_folder_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("agent.toml"), "1").unwrap();
        let mut watch = Watch::default();
        let file = path("agent.toml");
        watch.look_at(Some([file.as_path()]));
        fs::write(path("agent.log"), "line").unwrap();
        drop(fs::read(&file).unwrap());
        let changed = tokio::time::timeout(Duration::from_millis(200), watch.changed(QUIET));
        assert!(changed.await.is_err());
        fs::write(&file, "2").unwrap();
        is_noticed(&watch).await;
        watch.look_at(None::<[&Path; 0]>);
        fs::write(&file, "3").unwrap();
        let changed = tokio::time::timeout(Duration::from_millis(200), watch.changed(QUIET));
        assert!(changed.await.is_err());
    }

    /// As Kubernetes mounts a ConfigMap: `agent.toml -> ..data/agent.toml`, `..data -> ..1`, and `..data` is replaced.
    #[tokio::test]
    async fn a_link_that_is_swapped_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for version in ["..1", "..2", "..3"] {
            fs::create_dir(path(version)).unwrap();
            fs::write(path(version).join("agent.toml"), version).unwrap();
        }
        symlink("..1", path("..data")).unwrap();
        symlink("..data/agent.toml", path("agent.toml")).unwrap();
        let mut watch = Watch::default();
        for version in ["..2", "..3"] {
            let file = path("agent.toml");
            watch.look_at(Some([file.as_path()]));
            symlink(version, path("..data_tmp")).unwrap();
            fs::rename(path("..data_tmp"), path("..data")).unwrap();
            is_noticed(&watch).await;
            assert_eq!(fs::read_to_string(&file).unwrap(), version);
        }
    }

    /// The debounce is for files that have to fit each other; a plugin is read when it is whole.
    #[tokio::test]
    async fn a_plugin_that_is_whole_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("agent.toml"), "1").unwrap();
        fs::write(path("plugin.wasm"), "1").unwrap();
        let mut watch = Watch::default();
        let files = [path("agent.toml"), path("plugin.wasm")];
        watch.look_at(Some(files.iter().map(PathBuf::as_path)));
        let long = crate::testing::DEADLINE * 10;
        let soon = async || {
            let changed = tokio::time::timeout(crate::testing::DEADLINE, watch.changed(long));
            changed.await.unwrap();
        };
        fs::write(path("plugin.wasm"), "2").unwrap();
        soon().await;
        fs::write(path("new"), "3").unwrap();
        fs::rename(path("new"), path("plugin.wasm")).unwrap();
        soon().await;
        let mut writer = fs::File::create(path("plugin.wasm")).unwrap();
        let waits = async || tokio::time::timeout(PLUGIN_QUIET * 3, watch.changed(long)).await;
        assert!(waits().await.is_err(), "somebody writes to it");
        std::io::Write::write_all(&mut writer, b"4").unwrap();
        drop(writer);
        soon().await;
        fs::write(path("agent.toml"), "2").unwrap();
        fs::write(path("plugin.wasm"), "5").unwrap();
        assert!(waits().await.is_err(), "another file has changed as well");
    }

    #[test]
    fn what_to_raise_is_named_and_told_once() {
        let check = |error: notify::Error, words: &str| {
            let cause = cause(&error);
            assert!(cause.contains(words), "{cause}");
        };
        let watches = || notify::Error::new(ErrorKind::MaxFilesWatch).add_path("/etc".into());
        check(watches(), "fs.inotify.max_user_watches");
        let instances = std::io::Error::from_raw_os_error(libc::EMFILE);
        check(
            notify::Error::io(instances),
            "fs.inotify.max_user_instances",
        );
        check(notify::Error::generic("odd"), "odd");
        let mut watch = Watch::default();
        let unwatched = |folder: &str| {
            Some(Unwatched {
                folders: vec![folder.into()],
                cause: cause(&watches()),
            })
        };
        watch.tell(unwatched("/etc"));
        let warned = watch.warned.clone();
        watch.tell(unwatched("/srv"));
        assert!(warned.is_some() && watch.warned == warned);
        watch.tell(None);
        assert!(watch.warned.is_none());
    }

    #[tokio::test]
    async fn a_file_that_comes_to_a_folder_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let mut watch = Watch::default();
        watch.look_at(Some([folder.path()]));
        fs::write(folder.path().join("10-more.toml"), "1").unwrap();
        is_noticed(&watch).await;
    }
}
