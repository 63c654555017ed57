//! What a user writes under `[exporters.file]`, and what the exporter trusts.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::Section;
use crate::exporters::retry::RetryOptions;
use crate::exporters::sender::{QueueOptions, SenderSettings};
use crate::units::HumanDuration;

/// How requests are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One OTLP/JSON request per line.
    #[default]
    Json,
    /// The OTLP request as it arrived, behind its length as four big-endian bytes.
    Proto,
}

/// How what is written is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// A zstd stream, one frame per batch: `zstd -d` reads the file at any time.
    Zstd,
}

/// When data is forced to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Fsync {
    /// When the system sees fit. A power failure may lose what it had not written, about 30 seconds.
    Never,
    /// Every `flush_interval`. A power failure may lose that much; a crash of the agent loses nothing.
    #[default]
    Flush,
    /// Before a batch counts as delivered.
    Always,
}

/// `compression_params`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CompressionParams {
    /// The zstd level, 1 (fast) to 22 (small).
    #[schemars(range(min = 1, max = 22))]
    pub level: i32,
}

impl Default for CompressionParams {
    fn default() -> Self {
        Self { level: 3 }
    }
}

/// `rotation`: the file is renamed to `name-<time>.ext` when it is full, and a new one begun.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RotationOptions {
    /// How large a file gets, in MiB. A single batch that is larger gets a file of its own.
    #[schemars(range(min = 1))]
    pub max_megabytes: u64,
    /// Files rotated longer ago are removed; `0` keeps them.
    pub max_days: u64,
    /// How many rotated files are kept; `0` keeps all.
    pub max_backups: usize,
    /// Whether the time in names is local time instead of UTC.
    pub localtime: bool,
}

impl Default for RotationOptions {
    fn default() -> Self {
        Self {
            max_megabytes: 100,
            max_days: 0,
            max_backups: 100,
            localtime: false,
        }
    }
}

/// `group_by`: a file per value of a resource attribute.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GroupByOptions {
    /// Whether to group. `path` then holds exactly one `*`, which the value replaces.
    pub enabled: bool,
    /// The attribute. Resources that lack it, or where it is not text, go to `MISSING` and are counted.
    pub resource_attribute: String,
    /// Files open at the same time; the one unused for longest is closed.
    pub max_open_files: usize,
}

impl Default for GroupByOptions {
    fn default() -> Self {
        Self {
            enabled: false,
            resource_attribute: "fileexporter.path_segment".to_owned(),
            max_open_files: 100,
        }
    }
}

/// `[exporters.file]`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FileOptions {
    /// Where to write. Required.
    #[schemars(extend("x-required" = true))]
    pub path: String,
    /// `json` or `proto`.
    pub format: Format,
    /// Whether to keep what is in the file at start. The Collector truncates unless told otherwise; here a restart
    /// deletes nothing unless told to, and then with the first record.
    pub append: bool,
    /// `none` or `zstd`.
    pub compression: Compression,
    /// The compressor's parameters.
    pub compression_params: CompressionParams,
    /// How often data is forced to the disk with `fsync = "flush"`. Writes themselves never wait in memory.
    #[schemars(extend("x-more-than" = "0s"))]
    pub flush_interval: HumanDuration,
    /// `never`, `flush` or `always`.
    pub fsync: Fsync,
    /// Whether missing folders are made, also those that `group_by` asks for.
    pub create_directory: bool,
    /// The permissions of folders made, in octal.
    #[schemars(regex(pattern = r"^(0o)?[0-7]{1,5}$"))]
    pub directory_permissions: String,
    /// Off unless the table exists.
    pub rotation: Option<RotationOptions>,
    /// A file per value of a resource attribute.
    pub group_by: GroupByOptions,
    /// What to do when the disk is full or fails.
    pub retry_on_failure: RetryOptions,
    /// What waits for the disk.
    pub sending_queue: QueueOptions,
}

impl Default for FileOptions {
    fn default() -> Self {
        Self {
            path: String::new(),
            format: Format::Json,
            append: true,
            compression: Compression::None,
            compression_params: CompressionParams::default(),
            flush_interval: HumanDuration::from_secs(1),
            fsync: Fsync::Flush,
            create_directory: false,
            directory_permissions: "0755".to_owned(),
            rotation: None,
            group_by: GroupByOptions::default(),
            retry_on_failure: RetryOptions::default(),
            sending_queue: QueueOptions {
                num_consumers: 1,
                ..QueueOptions::default()
            },
        }
    }
}

/// Where data goes.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Target {
    /// One file.
    File(PathBuf),
    /// A file per value of `attribute`: `prefix`, the value, `suffix`.
    Grouped {
        prefix: String,
        suffix: String,
        attribute: String,
    },
}

/// When a file is full and how long backups live.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rotation {
    pub(super) max_bytes: u64,
    pub(super) max_age: Option<Duration>,
    pub(super) max_backups: Option<usize>,
    pub(super) localtime: bool,
}

/// Validated form of [`FileOptions`].
#[derive(Debug, Clone, PartialEq)]
pub(super) struct FileSettings {
    pub(super) target: Target,
    pub(super) format: Format,
    /// The zstd level, if compressed.
    pub(super) zstd_level: Option<i32>,
    pub(super) truncate_at_start: bool,
    pub(super) flush_interval: Duration,
    pub(super) fsync: Fsync,
    /// The mode of folders that are made; `None` when none is.
    pub(super) directory_mode: Option<u32>,
    pub(super) rotation: Option<Rotation>,
    pub(super) open_files_max: usize,
    pub(super) sender: SenderSettings,
}

impl FileOptions {
    /// Validates; problems go to `section`.
    pub(super) fn resolve(self, section: &mut Section<'_>) -> FileSettings {
        let level = self.compression_params.level;
        if !(1..=22).contains(&level) {
            section.error("compression_params.level", "must be between 1 and 22");
        }
        if self.flush_interval.0.is_zero() {
            section.error(
                "flush_interval",
                "must be more than 0; for a sync per batch write `fsync = \"always\"`",
            );
        }
        let directory_mode = self.directory_mode(section);
        let rotation = self
            .rotation
            .as_ref()
            .map(|rotation| rotation.resolve(section));
        FileSettings {
            target: self.target(section),
            format: self.format,
            zstd_level: (self.compression == Compression::Zstd).then_some(level),
            truncate_at_start: !self.append,
            flush_interval: self.flush_interval.0,
            fsync: self.fsync,
            directory_mode,
            rotation,
            open_files_max: self.group_by.max_open_files.max(1),
            // Writes are not timed: one that was given up half-way could not be told from one that failed.
            sender: SenderSettings::resolve(
                section,
                HumanDuration::from_secs(0),
                &self.retry_on_failure,
                &self.sending_queue,
            ),
        }
    }

    fn directory_mode(&self, section: &mut Section<'_>) -> Option<u32> {
        let mode = u32::from_str_radix(self.directory_permissions.trim_start_matches("0o"), 8);
        match mode {
            Ok(mode) if mode <= 0o7777 => self.create_directory.then_some(mode),
            _ => {
                section.error(
                    "directory_permissions",
                    "must be permissions in octal, such as \"0755\"",
                );
                None
            }
        }
    }

    fn target(&self, section: &mut Section<'_>) -> Target {
        if self.path.is_empty() {
            section.error("path", "is required: the file to write to");
        } else if self.path.ends_with('/') || self.path.contains('\0') {
            section.error("path", "must name a file, not a folder");
        }
        if !self.group_by.enabled {
            return Target::File(PathBuf::from(&self.path));
        }
        if self.path.matches('*').count() != 1 {
            section.error(
                "path",
                "must hold exactly one `*` with group_by: the attribute's value takes its place",
            );
        }
        if !self.append {
            section.error(
                "append",
                "must be true with group_by: files are closed and opened again as data comes",
            );
        }
        if self.group_by.resource_attribute.is_empty() {
            section.error("group_by.resource_attribute", "must not be empty");
        }
        if self.group_by.max_open_files == 0 {
            section.error("group_by.max_open_files", "must be at least 1");
        }
        let (prefix, suffix) = self.path.split_once('*').unwrap_or((&self.path, ""));
        Target::Grouped {
            prefix: prefix.to_owned(),
            suffix: suffix.to_owned(),
            attribute: self.group_by.resource_attribute.clone(),
        }
    }
}

impl RotationOptions {
    fn resolve(&self, section: &mut Section<'_>) -> Rotation {
        if self.max_megabytes == 0 {
            section.error("rotation.max_megabytes", "must be at least 1");
        }
        Rotation {
            max_bytes: self.max_megabytes.saturating_mul(1 << 20),
            max_age: (self.max_days > 0)
                .then(|| Duration::from_secs(self.max_days.saturating_mul(DAY_SECONDS))),
            max_backups: (self.max_backups > 0).then_some(self.max_backups),
            localtime: self.localtime,
        }
    }
}

const DAY_SECONDS: u64 = 86_400;
