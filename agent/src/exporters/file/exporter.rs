//! The exporter itself: makes records of batches and appends them off the runtime's threads.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::sync::{CancellationToken, DropGuard};

use super::group::{self, FALLBACK};
use super::options::Target;
use super::pack::{Packer, Record};
use super::writer::WriteError;
use super::writers::Writers;
use crate::batch::Payload;
use crate::component::{ComponentError, Exporter, Outcome};
use crate::exporters::queue::{Pace, Ticket};
use crate::signal::Signal;
use crate::telemetry::Counter;

/// The files, shared by all workers and signals of one exporter.
#[derive(Clone)]
pub(super) struct Shared {
    /// Guards the open files; held while one record is written.
    writers: Arc<Mutex<Writers>>,
    /// Cancels the flusher when the last worker is gone.
    _last: Arc<DropGuard>,
}

impl Shared {
    /// Shares `writers`; the token is cancelled when the last clone is dropped.
    pub(super) fn new(writers: Writers) -> (Self, CancellationToken) {
        let gone = CancellationToken::new();
        let shared = Self {
            writers: Arc::new(Mutex::new(writers)),
            _last: Arc::new(gone.clone().drop_guard()),
        };
        (shared, gone)
    }

    /// A task that forces appended data to the disk every `interval`, until the workers are gone.
    pub(super) fn flusher(
        &self,
        interval: Duration,
        gone: CancellationToken,
    ) -> tokio::task::JoinHandle<()> {
        let writers = Arc::downgrade(&self.writers);
        tokio::spawn(async move {
            let first = tokio::time::Instant::now() + interval;
            let mut ticks = tokio::time::interval_at(first, interval);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    () = gone.cancelled() => return,
                    _ = ticks.tick() => {}
                }
                let Some(writers) = writers.upgrade() else {
                    return;
                };
                blocking(move || lock(&writers).sync()).await;
            }
        })
    }
}

fn lock(writers: &Mutex<Writers>) -> MutexGuard<'_, Writers> {
    writers.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `work` where it may wait for the disk.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

/// Where resources without the attribute are counted.
#[derive(Clone)]
pub(super) struct FileMetrics {
    pub(super) bytes: Counter,
    pub(super) fallback: Counter,
}

/// One worker of the exporter.
pub(super) struct FileExporter {
    pub(super) shared: Shared,
    pub(super) packer: Packer,
    pub(super) target: Target,
    /// Whether `/` in an attribute's value separates folders.
    pub(super) folders: bool,
    pub(super) metrics: FileMetrics,
}

/// What goes to one file.
pub(super) struct Part {
    path: PathBuf,
    record: Record,
}

impl Exporter for FileExporter {
    /// What is not written yet. `None` while an attempt has it.
    type Prepared = Option<Vec<Part>>;

    async fn prepare(
        &mut self,
        signal: Signal,
        payload: Payload,
        _ticket: &Ticket,
        _pace: &Pace,
    ) -> Result<Self::Prepared, String> {
        if payload.chunks().is_empty() {
            return Ok(Some(Vec::new()));
        }
        let parts = match &self.target {
            Target::File(path) => vec![Part {
                path: path.clone(),
                record: self.packer.pack(signal, payload.into_chunks())?,
            }],
            Target::Grouped { attribute, .. } => {
                let groups = group::split(&payload, attribute).map_err(|error| {
                    format!("look for the resource attribute {attribute}: {error}")
                })?;
                groups
                    .into_iter()
                    .map(|group| self.group_part(signal, group))
                    .collect::<Result<_, _>>()?
            }
        };
        Ok(Some(parts))
    }

    async fn send(&mut self, prepared: &mut Self::Prepared, _: Option<Duration>) -> Outcome {
        let Some(parts) = prepared.take() else {
            // Attempts are not timed, so none is given up while it runs.
            return Outcome::Rejected {
                cause: "an earlier attempt was given up while it wrote".to_owned(),
                items: None,
            };
        };
        let writers = Arc::clone(&self.shared.writers);
        let fallback = self.path_of(FALLBACK);
        let written = blocking(move || write(&writers, parts, &fallback)).await;
        for record in written.records {
            self.metrics.bytes.inc_by(record.len() as u64);
            self.packer.recycle(record);
        }
        self.metrics.fallback.inc_by(written.misnamed);
        *prepared = Some(written.left);
        match written.error {
            None => Outcome::Delivered,
            Some(error) => Outcome::Retry {
                cause: error.to_string(),
                after: None,
            },
        }
    }

    async fn close(&mut self) -> Result<(), ComponentError> {
        let writers = Arc::clone(&self.shared.writers);
        blocking(move || lock(&writers).finish())
            .await
            .map_err(|error| ComponentError::new("force the file to the disk", error))
    }
}

impl FileExporter {
    fn group_part(&mut self, signal: Signal, group: group::Group) -> Result<Part, String> {
        let path = match &group.value {
            Some(value) => self.path_of(&group::segment(value, self.folders)),
            None => {
                self.metrics.fallback.inc_by(group.resources as u64);
                self.path_of(FALLBACK)
            }
        };
        Ok(Part {
            path,
            record: self.packer.pack(signal, group.chunks)?,
        })
    }

    fn path_of(&self, segment: &str) -> PathBuf {
        match &self.target {
            Target::File(path) => path.clone(),
            Target::Grouped { prefix, suffix, .. } => format!("{prefix}{segment}{suffix}").into(),
        }
    }
}

/// What became of an attempt.
struct Written {
    records: Vec<Record>,
    left: Vec<Part>,
    /// Parts that went to the fallback because no file can have their name.
    misnamed: u64,
    error: Option<WriteError>,
}

fn write(writers: &Mutex<Writers>, parts: Vec<Part>, fallback: &std::path::Path) -> Written {
    let mut written = Written {
        records: Vec::new(),
        left: Vec::new(),
        misnamed: 0,
        error: None,
    };
    for part in parts {
        let mut writers = lock(writers);
        let bytes = part.record.parts();
        let mut result = writers.append(&part.path, &bytes);
        let misnamed = matches!(&result, Err(error) if error.rules_out_the_path());
        if misnamed && part.path != fallback {
            result = writers.append(fallback, &bytes);
            written.misnamed += u64::from(result.is_ok());
        }
        match result {
            Ok(()) => written.records.push(part.record),
            Err(error) => {
                written.error = Some(error);
                written.left.push(part);
            }
        }
    }
    written
}
