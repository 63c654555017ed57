//! Where a run's record is written: the options that every measuring command has.

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

fn write(
    path: Option<&Path>,
    render: impl FnOnce() -> anyhow::Result<String>,
) -> anyhow::Result<()> {
    let Some(path) = path else {
        return Ok(());
    };
    std::fs::write(path, render()?).with_context(|| format!("cannot write {}", path.display()))
}
