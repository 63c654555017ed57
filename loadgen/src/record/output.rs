//! Where a run's record is written: the options that every measuring command has.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::Record;

/// Where to write the record of the run.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Record of the run")]
pub(crate) struct Output {
    /// Write everything about the run as JSON, for `loadgen compare` and `loadgen export`
    #[arg(long, value_name = "FILE")]
    pub(crate) record: Option<PathBuf>,
    /// Write a page with plots that needs nothing else
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Write metrics and series as CSV
    #[arg(long, value_name = "FILE")]
    pub(crate) csv: Option<PathBuf>,
}

impl Output {
    /// Whether these files can be written: told before a run that may take hours. What is in them stays.
    ///
    /// # Errors
    /// The first that cannot.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let paths = [&self.record, &self.html, &self.csv].into_iter().flatten();
        paths.map(PathBuf::as_path).try_for_each(check_writable)
    }

    /// Writes the record wherever it was asked for; one failure does not keep it from the other places.
    ///
    /// # Errors
    /// The first file that cannot be written.
    pub(crate) fn write(&self, record: &Record) -> anyhow::Result<()> {
        let json = write(self.record.as_deref(), || record.json());
        let html = write(self.html.as_deref(), || Ok(record.html()));
        let csv = write(self.csv.as_deref(), || Ok(record.csv()));
        json.and(html).and(csv)
    }
}

/// # Errors
/// When there cannot be a file to write to.
pub(crate) fn check_writable(path: &Path) -> anyhow::Result<()> {
    let is_new = match std::fs::metadata(path) {
        // A pipe's reader would take the opening of it for the end.
        Ok(found) if !found.is_file() && !found.is_dir() => return Ok(()),
        found => found.is_err(),
    };
    let mut options = OpenOptions::new();
    let opened = options.append(true).create(true).open(path);
    opened.with_context(|| format!("cannot write {}", path.display()))?;
    if is_new {
        std::fs::remove_file(path)
            .with_context(|| format!("cannot remove {} again", path.display()))?;
    }
    Ok(())
}

fn write(
    path: Option<&Path>,
    render: impl FnOnce() -> anyhow::Result<String>,
) -> anyhow::Result<()> {
    let Some(path) = path else {
        return Ok(());
    };
    std::fs::write(path, render()?).with_context(|| format!("cannot write {}", path.display()))
}
