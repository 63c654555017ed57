//! `file`: telemetry in files, as JSON lines or framed protobuf, compressed, rotated, grouped.
//!
//! Differences from the Collector's exporter, on purpose: files are appended to unless told otherwise; a batch counts
//! as delivered when its bytes have reached the file; a torn end is cut off when a file is opened; compressed files are
//! zstd streams; rotation works with everything; resources without the `group_by` attribute go to `MISSING`.

mod backups;
mod exporter;
mod group;
mod localtime;
mod options;
mod pack;
mod tail;
#[cfg(test)]
mod tests;
mod writer;
mod writers;

use std::fs::File;
use std::path::Path;

use tracing::info;

pub use options::{
    Compression, CompressionParams, FileOptions, Format, Fsync, GroupByOptions, RotationOptions,
};

use self::exporter::{FileExporter, FileMetrics, Shared};
use self::options::{FileSettings, Target};
use self::pack::Packer;
use self::writer::{Appendable, WriteError, WriterSettings};
use self::writers::Writers;
use crate::claim::Claim;
use crate::component::{ComponentError, ExporterContext, ExporterSettings, Factory, Sender};
use crate::exporters::sender::{self, SenderSettings};
use crate::signal::Signal;
use crate::telemetry::names;

/// The `file` exporter.
pub const FACTORY: Factory<dyn ExporterSettings> = Factory {
    kind: "file",
    summary: "Writes JSON lines or framed protobuf to files, with compression, rotation and a file per resource attribute.",
    signals: &Signal::ALL,
    schema: |generator| generator.subschema_for::<FileOptions>(),
    parse: |section| {
        let options: FileOptions = section.options()?;
        Some(Box::new(options.resolve(section)))
    },
};

impl ExporterSettings for FileSettings {
    fn claims(&self) -> Vec<Claim> {
        let path = match &self.target {
            Target::File(path) => path.clone(),
            Target::Grouped { prefix, suffix, .. } => format!("{prefix}*{suffix}").into(),
        };
        vec![Claim::file("path", &path)]
    }

    fn build(&self, context: &ExporterContext) -> Result<Vec<Sender>, ComponentError> {
        self.build_with(context, |file| Box::new(file))
    }

    fn sender(&self) -> Option<&SenderSettings> {
        Some(&self.sender)
    }

    fn with_sender(&self, sender: SenderSettings) -> Option<Box<dyn ExporterSettings>> {
        Some(Box::new(Self {
            sender,
            ..self.clone()
        }))
    }
}

impl FileSettings {
    fn build_with(
        &self,
        context: &ExporterContext,
        wrap: fn(File) -> Box<dyn Appendable>,
    ) -> Result<Vec<Sender>, ComponentError> {
        let telemetry = &context.telemetry;
        let id = context.id.as_str();
        let settings = WriterSettings {
            framing: Packer::framing(self),
            truncate_at_start: self.truncate_at_start,
            directory_mode: self.directory_mode,
            rotation: self.rotation.clone(),
            sync_always: self.fsync == Fsync::Always,
            sync_at_close: self.fsync != Fsync::Never,
            wrap,
            torn_tails: telemetry.counter(&names::FILE_TORN_TAILS, &[id]),
            rotations: telemetry.counter(&names::FILE_ROTATIONS, &[id]),
        };
        let mut writers = Writers::new(settings, self.open_files_max);
        self.prove(&mut writers, id)?;
        let (shared, gone) = Shared::new(writers);
        let mut senders = Vec::new();
        for signal in &context.signals {
            // One for each worker, and for each queue that may be left over.
            let inherited = context.inherited.iter().filter(|(of, _)| of == signal);
            let workers = self.sender.workers() + inherited.count();
            let packers = (0..workers).map(|_| Packer::new(self));
            let packers = packers.collect::<Result<Vec<_>, _>>();
            let mut packers = packers
                .map_err(|error| ComponentError::new("make a zstd compressor", error))?
                .into_iter();
            senders.push(sender::spawn(context, *signal, &self.sender, || {
                FileExporter {
                    shared: shared.clone(),
                    packer: packers.next().expect("one was made for every worker"),
                    target: self.target.clone(),
                    folders: self.directory_mode.is_some(),
                    metrics: FileMetrics {
                        bytes: telemetry.counter(&names::EXPORTER_BYTES, &[id, signal.name()]),
                        fallback: telemetry.counter(&names::FILE_FALLBACK, &[id]),
                    },
                }
            })?);
        }
        if let (Fsync::Flush, Some(first)) = (self.fsync, senders.first_mut()) {
            first
                .workers
                .push(shared.flusher(self.flush_interval, gone));
        }
        Ok(senders)
    }

    /// Finds out now what would prevent writing later.
    fn prove(&self, writers: &mut Writers, id: &str) -> Result<(), ComponentError> {
        let problem = |error: &dyn ToString| {
            ComponentError::new("start writing", error.to_string()).at("path")
        };
        match &self.target {
            Target::File(path) => match writers.open(path) {
                Ok(()) => Ok(()),
                // As while a reload hands over: what comes waits until the other lets go.
                Err(error @ WriteError::Locked { .. }) => {
                    info!(exporter = id, cause = %error, "the file is opened when it is free");
                    Ok(())
                }
                Err(error) if self.directory_mode.is_none() && error.is_missing() => Err(problem(
                    &format!("{error}; create_directory = true makes its folder"),
                )),
                Err(error) => Err(problem(&error)),
            },
            Target::Grouped { prefix, .. } => {
                let folder = match prefix.rfind('/') {
                    Some(end) => prefix.get(..=end).unwrap_or("/"),
                    None => ".",
                };
                match (std::fs::metadata(folder), self.directory_mode) {
                    (Ok(metadata), _) if metadata.is_dir() => Ok(()),
                    (Ok(_), _) => Err(problem(&format!("{folder} is not a folder"))),
                    (Err(_), Some(mode)) => writer::make_folder(Path::new(folder), mode)
                        .map_err(|error| problem(&error)),
                    (Err(error), None) => Err(problem(&format!(
                        "look at the folder {folder}: {error}; create_directory = true makes it"
                    ))),
                }
            }
        }
    }
}
