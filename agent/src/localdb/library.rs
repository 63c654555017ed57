//! Where `libchdb.so` is looked for, and what is said when it is nowhere.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// The version of chDB that this version of Tidegate is tested with.
pub(super) const VERSION: &str = "26.7.3-stable.1";
pub(super) const FILE_NAME: &str = "libchdb.so";
/// Names the library's file, or a folder with it.
pub(super) const VARIABLE: &str = "TIDEGATE_CHDB_LIBRARY";

/// Finds the library. A file that is named outright, by option or variable, must be there.
///
/// # Errors
/// Says where it was looked for and how to get it.
pub(super) fn find(named: Option<&Path>) -> Result<PathBuf> {
    let named = named.map(file_in);
    let candidates = named.map_or_else(default_paths, |path| vec![path]);
    if let Some(found) = candidates.iter().find(|path| path.is_file()) {
        return Ok(found.clone());
    }
    let looked: Vec<_> = candidates
        .iter()
        .map(|path| format!("  {}", path.display()))
        .collect();
    bail!(
        "the ClickHouse engine ({FILE_NAME}, chDB {VERSION}) is not installed; looked for it in\n{}\n\
         Get it (about 180 MB to download, 570 MB on disk) with\n  tidegate localdb --fetch-only\n\
         or name an installed one with --library PATH or {VARIABLE}=PATH",
        looked.join("\n")
    )
}

/// The folder that `--fetch` installs into and that is searched first.
///
/// # Errors
/// When neither `XDG_DATA_HOME` nor `HOME` is set.
pub(super) fn install_dir() -> Result<PathBuf> {
    match data_home() {
        Some(home) => Ok(home.join("tidegate/lib").join(VERSION)),
        None => bail!(
            "neither XDG_DATA_HOME nor HOME is set: there is no folder to install the engine into"
        ),
    }
}

/// The folder for a user's data, `$XDG_DATA_HOME` or `~/.local/share`.
pub(super) fn data_home() -> Option<PathBuf> {
    let variable = |name| {
        env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    variable("XDG_DATA_HOME")
        .filter(|path| path.is_absolute())
        .or_else(|| variable("HOME").map(|home| home.join(".local/share")))
}

fn default_paths() -> Vec<PathBuf> {
    let system = [
        "/usr/lib/tidegate",
        "/usr/local/lib/tidegate",
        "/usr/local/lib",
        "/usr/lib",
    ];
    install_dir()
        .into_iter()
        .chain(system.map(PathBuf::from))
        .map(|folder| folder.join(FILE_NAME))
        .collect()
}

fn file_in(path: &Path) -> PathBuf {
    if path.is_dir() {
        path.join(FILE_NAME)
    } else {
        path.to_path_buf()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_library_is_a_file_or_a_folder_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(FILE_NAME);
        let missing = find(Some(&file)).unwrap_err().to_string();
        assert!(missing.contains(&file.display().to_string()), "{missing}");
        assert!(
            missing.contains("tidegate localdb --fetch-only"),
            "{missing}"
        );
        std::fs::write(&file, b"").unwrap();
        assert_eq!(find(Some(&file)).unwrap(), file);
        assert_eq!(find(Some(folder.path())).unwrap(), file);
    }
}
