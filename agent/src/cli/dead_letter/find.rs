//! Finds dead letters, by the configuration or in folders.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::config::Settings;
use crate::exporters::dead_letter::{Header, Letter, LetterError, REPLAYED, SUFFIX};
use crate::signal::Signal;

/// Where one exporter puts the letters of one signal.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) exporter: String,
    pub(super) folder: PathBuf,
}

/// A file that should be a dead letter.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    pub(super) header: Result<Header, LetterError>,
}

/// Folders inside folders are looked through to this depth: ours are `<directory>/<exporter>/<signal>`.
const DEPTH_MAX: usize = 8;

/// Every place that the configuration has.
pub(super) fn places(settings: &Settings) -> Vec<Place> {
    let mut places = Vec::new();
    for (id, exporter) in &settings.exporters {
        let Some(letters) = exporter.sender().and_then(|sender| sender.dead_letter()) else {
            continue;
        };
        places.extend(Signal::ALL.map(|signal| Place {
            exporter: id.clone(),
            folder: letters.folder(id, signal),
        }));
    }
    places
}

/// Adds the letters in a folder, in the order of their names, which is that of their items' arrival.
pub(super) fn in_folder(folder: &Path, found: &mut Vec<Found>) -> Result<(), String> {
    match fs::metadata(folder) {
        // Nothing was ever rejected.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        _ => walk(folder, 1, found)
            .map_err(|error| format!("look into {}: {error}", folder.display())),
    }
}

/// Adds the letters in a folder and in the folders in it.
pub(super) fn below(folder: &Path, found: &mut Vec<Found>) -> Result<(), String> {
    walk(folder, DEPTH_MAX, found)
        .map_err(|error| format!("look into {}: {error}", folder.display()))
}

fn walk(folder: &Path, depth: usize, found: &mut Vec<Found>) -> io::Result<()> {
    let mut entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (path, name) = (entry.path(), entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() && depth > 1 && name != REPLAYED {
            walk(&path, depth - 1, found)?;
        } else if kind.is_file() && name.to_string_lossy().ends_with(SUFFIX) {
            let header = Letter::glance(&path);
            if !is_gone(&header) {
                found.push(Found { path, header });
            }
        }
    }
    Ok(())
}

/// Whether somebody removed the file since its name was read.
fn is_gone(header: &Result<Header, LetterError>) -> bool {
    matches!(header, Err(LetterError::Io(error)) if error.kind() == io::ErrorKind::NotFound)
}

/// Removes a file for good.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    fs::remove_file(path)?;
    sync_folder_of(path)
}

/// Moves a file to the folder of those that were sent again.
pub(super) fn put_aside(path: &Path) -> io::Result<PathBuf> {
    let folder = path.with_file_name(REPLAYED);
    fs::create_dir_all(&folder)?;
    let aside = folder.join(path.file_name().unwrap_or_default());
    fs::rename(path, &aside)?;
    sync_folder_of(&aside)?;
    sync_folder_of(path)?;
    Ok(aside)
}

fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()
}
