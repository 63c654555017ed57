//! A file system in memory that keeps what is synced apart from what is not, loses power, and fails on demand.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::wal::{Files, LogFile};

/// Seeded random numbers (SplitMix64).
#[derive(Debug, Clone)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    pub(super) fn chance(&mut self, one_in: u64) -> bool {
        self.below(one_in) == 0
    }
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The operation fails; a write may have written some.
    Io,
    /// The disk is full for this operation.
    Full,
    /// A write takes half. Other operations are not affected.
    Short,
    /// The power goes: this and all later operations fail.
    Power,
}

#[derive(Debug, Clone)]
enum Change {
    Write(u64, Vec<u8>),
    Len(u64),
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write(offset, bytes) => {
                let start = *offset as usize;
                let end = start + bytes.len();
                if content.len() < end {
                    content.resize(end, 0);
                }
                content[start..end].copy_from_slice(bytes);
            }
            Self::Len(len) => content.resize(*len as usize, 0),
        }
    }

    /// What a power cut may have left of it.
    fn torn(self, random: &mut Random) -> Option<Self> {
        match (self, random.below(3)) {
            (_, 0) => None,
            (Self::Write(offset, mut bytes), 1) => {
                bytes.truncate(random.below(bytes.len() as u64 + 1) as usize);
                Some(Self::Write(offset, bytes))
            }
            (change, _) => Some(change),
        }
    }
}

#[derive(Debug, Default)]
struct Node {
    synced: Vec<u8>,
    current: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Entry {
    Link(PathBuf, usize),
    Rename(PathBuf, PathBuf, usize),
    Unlink(PathBuf),
}

impl Entry {
    fn apply(&self, entries: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Self::Link(path, node) => {
                entries.insert(path.clone(), *node);
            }
            Self::Rename(from, to, node) => {
                entries.remove(from);
                entries.insert(to.clone(), *node);
            }
            Self::Unlink(path) => {
                entries.remove(path);
            }
        }
    }
}

#[derive(Debug)]
struct World {
    random: Random,
    generation: u64,
    nodes: Vec<Node>,
    entries: BTreeMap<PathBuf, usize>,
    synced_entries: BTreeMap<PathBuf, usize>,
    unsynced_entries: Vec<Entry>,
    locked: bool,
    off: bool,
    /// Changes of the disk attempted.
    changes: u64,
    /// Reads attempted.
    reads: u64,
    faults: BTreeMap<u64, Fault>,
    read_faults: BTreeMap<u64, Fault>,
    /// Bytes that all files together may have.
    space: u64,
    read_only: bool,
}

fn eio() -> io::Error {
    io::Error::from_raw_os_error(5)
}

fn enospc() -> io::Error {
    io::Error::from_raw_os_error(28)
}

impl World {
    /// Counts a change, and fails it if it is its turn; `true` for a short write.
    fn change(&mut self, generation: u64) -> io::Result<bool> {
        if self.off || generation != self.generation {
            return Err(eio());
        }
        if self.read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        self.changes += 1;
        match self.faults.remove(&self.changes) {
            None => Ok(false),
            Some(Fault::Short) => Ok(true),
            Some(Fault::Full) => Err(enospc()),
            Some(Fault::Io) => Err(eio()),
            Some(Fault::Power) => {
                self.off = true;
                Err(eio())
            }
        }
    }

    fn used(&self) -> u64 {
        let nodes = self.entries.values();
        nodes
            .map(|node| self.nodes[*node].current.len() as u64)
            .sum()
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        let found = self.entries.get(path).copied();
        found.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn change_file(&mut self, node: usize, change: Change) -> io::Result<()> {
        let mut after = self.nodes[node].current.clone();
        change.apply(&mut after);
        let grown = after.len().saturating_sub(self.nodes[node].current.len()) as u64;
        if grown > 0 && self.used() + grown > self.space {
            return Err(enospc());
        }
        let node = &mut self.nodes[node];
        node.current = after;
        node.unsynced.push(change);
        Ok(())
    }

    fn sync(&mut self, node: usize) {
        let Node {
            synced, unsynced, ..
        } = &mut self.nodes[node];
        for change in unsynced.drain(..) {
            change.apply(synced);
        }
    }

    /// A failed sync: the kernel forgets that the pages are dirty, and nobody knows what of them is on disk.
    fn lose(&mut self, node: usize) {
        for change in std::mem::take(&mut self.nodes[node].unsynced) {
            if let Some(change) = change.torn(&mut self.random) {
                change.apply(&mut self.nodes[node].synced);
            }
        }
    }

    fn change_entry(&mut self, entry: Entry) {
        entry.apply(&mut self.entries);
        self.unsynced_entries.push(entry);
    }
}

/// The file system. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Sim(Arc<Mutex<World>>);

impl Sim {
    pub(super) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(World {
            random: Random(seed),
            generation: 0,
            nodes: Vec::new(),
            entries: BTreeMap::new(),
            synced_entries: BTreeMap::new(),
            unsynced_entries: Vec::new(),
            locked: false,
            off: false,
            changes: 0,
            reads: 0,
            faults: BTreeMap::new(),
            read_faults: BTreeMap::new(),
            space: u64::MAX,
            read_only: false,
        })))
    }

    fn with<T>(&self, work: impl FnOnce(&mut World) -> T) -> T {
        work(&mut self.0.lock().unwrap())
    }

    /// Changes of the disk attempted so far.
    pub(super) fn changes(&self) -> u64 {
        self.with(|world| world.changes)
    }

    pub(super) fn reads(&self) -> u64 {
        self.with(|world| world.reads)
    }

    /// Lets change number `at`, counted from the beginning, go wrong.
    pub(super) fn fail(&self, at: u64, fault: Fault) {
        self.with(|world| world.faults.insert(at, fault));
    }

    pub(super) fn fail_read(&self, at: u64) {
        self.with(|world| world.read_faults.insert(at, Fault::Io));
    }

    pub(super) fn set_space(&self, space: u64) {
        self.with(|world| world.space = space);
    }

    pub(super) fn used(&self) -> u64 {
        self.with(|world| world.used())
    }

    pub(super) fn set_read_only(&self, read_only: bool) {
        self.with(|world| world.read_only = read_only);
    }

    pub(super) fn clear_faults(&self) {
        self.with(|world| {
            world.faults.clear();
            world.read_faults.clear();
        });
    }

    pub(super) fn is_off(&self) -> bool {
        self.with(|world| world.off)
    }

    /// From now on everything fails.
    pub(super) fn power_off(&self) {
        self.with(|world| world.off = true);
    }

    /// After a power cut: what was synced is there, and anything of what was not.
    pub(super) fn power_on(&self) {
        self.with(|world| {
            let mut entries = world.synced_entries.clone();
            for entry in std::mem::take(&mut world.unsynced_entries) {
                if world.random.chance(2) {
                    entry.apply(&mut entries);
                }
            }
            for node in 0..world.nodes.len() {
                world.lose(node);
                world.nodes[node].current = world.nodes[node].synced.clone();
            }
            world.entries.clone_from(&entries);
            world.synced_entries = entries;
            world.restart();
        });
    }

    /// After the end of the process alone: the kernel has everything.
    pub(super) fn process_died(&self) {
        self.with(World::restart);
    }

    /// Names and contents of all files.
    pub(super) fn contents(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        self.with(|world| {
            let entries = world.entries.iter();
            entries
                .map(|(path, node)| (path.clone(), world.nodes[*node].current.clone()))
                .collect()
        })
    }

    /// Puts files in place, all of them synced.
    pub(super) fn restore(&self, contents: &BTreeMap<PathBuf, Vec<u8>>) {
        self.with(|world| {
            world.nodes.clear();
            world.entries.clear();
            for (node, (path, content)) in contents.iter().enumerate() {
                world.nodes.push(Node {
                    synced: content.clone(),
                    current: content.clone(),
                    unsynced: Vec::new(),
                });
                world.entries.insert(path.clone(), node);
            }
            world.synced_entries.clone_from(&world.entries);
            world.unsynced_entries.clear();
            world.restart();
        });
    }
}

impl World {
    fn restart(&mut self) {
        self.generation += 1;
        self.locked = false;
        self.off = false;
        self.faults.clear();
        self.read_faults.clear();
    }
}

#[derive(Debug)]
struct SimFile {
    sim: Sim,
    node: usize,
    generation: u64,
}

struct SimLock {
    sim: Sim,
    generation: u64,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.sim.with(|world| {
            if world.generation == self.generation {
                world.locked = false;
            }
        });
    }
}

impl Files for Sim {
    fn create_dir(&self, _dir: &Path) -> io::Result<()> {
        self.with(|world| {
            if world.read_only {
                Ok(())
            } else {
                world.change(world.generation).map(|_| ())
            }
        })
    }

    fn lock(&self, _path: &Path) -> io::Result<Box<dyn Send>> {
        self.with(|world| {
            if world.locked {
                return Err(io::Error::new(io::ErrorKind::WouldBlock, "4711"));
            }
            world.change(world.generation)?;
            world.locked = true;
            let lock: Box<dyn Send> = Box::new(SimLock {
                sim: self.clone(),
                generation: world.generation,
            });
            Ok(lock)
        })
    }

    fn list(&self, _dir: &Path) -> io::Result<Vec<String>> {
        self.with(|world| {
            let names = world.entries.keys().filter_map(|path| path.file_name());
            Ok(names
                .map(|name| name.to_str().unwrap().to_owned())
                .collect())
        })
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn LogFile>> {
        self.with(|world| {
            world.change(world.generation)?;
            let node = world.nodes.len();
            world.nodes.push(Node::default());
            world.change_entry(Entry::Link(path.to_owned(), node));
            Ok(self.file(world, node))
        })
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn LogFile>> {
        self.with(|world| {
            let node = world.find(path)?;
            Ok(self.file(world, node))
        })
    }

    fn reopen(&self, path: &Path) -> io::Result<Arc<dyn LogFile>> {
        self.with(|world| {
            world.change(world.generation)?;
            let node = world.find(path)?;
            Ok(self.file(world, node))
        })
    }

    fn cut(&self, path: &Path, len: u64) -> io::Result<()> {
        self.with(|world| {
            world.change(world.generation)?;
            let node = world.find(path)?;
            world.change_file(node, Change::Len(len))?;
            world.sync(node);
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.with(|world| {
            world.change(world.generation)?;
            world.find(path)?;
            world.change_entry(Entry::Unlink(path.to_owned()));
            Ok(())
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.with(|world| {
            world.change(world.generation)?;
            let node = world.find(from)?;
            world.change_entry(Entry::Rename(from.to_owned(), to.to_owned(), node));
            Ok(())
        })
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        self.with(|world| {
            world.change(world.generation)?;
            world.unsynced_entries.clear();
            world.synced_entries.clone_from(&world.entries);
            Ok(())
        })
    }
}

impl Sim {
    fn file(&self, world: &World, node: usize) -> Arc<dyn LogFile> {
        Arc::new(SimFile {
            sim: self.clone(),
            node,
            generation: world.generation,
        })
    }
}

impl LogFile for SimFile {
    fn preallocate(&self, len: u64) -> io::Result<()> {
        self.sim.with(|world| {
            world.change(self.generation)?;
            if len > world.nodes[self.node].current.len() as u64 {
                world.change_file(self.node, Change::Len(len))?;
            }
            Ok(())
        })
    }

    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let mut bytes: Vec<u8> = parts.iter().flat_map(|part| part.to_vec()).collect();
        self.sim.with(|world| {
            match world.change(self.generation) {
                Ok(false) => {}
                Ok(true) => bytes.truncate((bytes.len() / 2).max(1)),
                Err(error) => {
                    let some = world.random.below(bytes.len() as u64 + 1) as usize;
                    bytes.truncate(some);
                    if some > 0 && self.generation == world.generation {
                        world.change_file(self.node, Change::Write(offset, bytes))?;
                    }
                    return Err(error);
                }
            }
            let len = bytes.len();
            world.change_file(self.node, Change::Write(offset, bytes))?;
            Ok(len)
        })
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.sim.with(|world| {
            world.reads += 1;
            if world.off
                || self.generation != world.generation
                || world.read_faults.remove(&world.reads).is_some()
            {
                return Err(eio());
            }
            let content = &world.nodes[self.node].current;
            let start = (offset as usize).min(content.len());
            let count = buffer.len().min(content.len() - start);
            buffer[..count].copy_from_slice(&content[start..start + count]);
            Ok(count)
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.sim.with(|world| {
            if let Err(error) = world.change(self.generation) {
                if self.generation == world.generation && !world.off {
                    world.lose(self.node);
                }
                return Err(error);
            }
            world.sync(self.node);
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.sim.with(|world| {
            world.change(self.generation)?;
            world.change_file(self.node, Change::Len(len))
        })
    }

    fn byte_len(&self) -> io::Result<u64> {
        self.sim
            .with(|world| Ok(world.nodes[self.node].current.len() as u64))
    }
}
