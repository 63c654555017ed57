//! Plugins outside of a pipeline: for the commands that look at them, run, test and measure them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::bindings::{PACKAGE, VERSION};
use super::guest_log::GuestLog;
use super::guest_metrics::GuestMetrics;
use super::host::Shared;
use super::instance::{Instance, Setting};
use super::load::{self, Plugin};
use super::options::Options;
use super::outcome::{Next, Reasons, judge};
use super::wasi::Grants;
use crate::otlp::Checked;
use crate::signal::Signal;
use crate::telemetry::{Telemetry, names};

/// A plugin on the bench.
pub struct Workbench {
    plugin: Arc<Plugin>,
    setting: Setting,
    instance: Instance,
    reasons: Reasons,
    telemetry: Telemetry,
}

/// What a plugin is.
#[derive(Debug, Clone)]
pub struct Description {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// One sentence.
    pub summary: String,
    /// The signals that it works for.
    pub signals: Vec<Signal>,
    /// A JSON schema of its configuration, or nothing.
    pub config_schema: String,
    /// The world that it is made for, with its version.
    pub world: String,
    /// What the agent grants it unless its table says otherwise.
    pub limits: String,
    /// What it imports.
    pub imports: Vec<String>,
    /// The SHA-256 of the file in hex digits.
    pub sha256: String,
    /// Bytes of the file.
    pub file_bytes: usize,
    /// Bytes of linear memory after the start.
    pub memory_bytes: usize,
    /// How long it took to compile or to find in the cache.
    pub load_time: Duration,
}

/// What a plugin made of a batch.
#[derive(Debug, Clone)]
pub struct Made {
    /// OTLP bytes that go on; `None` if nothing does.
    pub bytes: Option<Bytes>,
    /// Whether they are those that came in.
    pub unchanged: bool,
    /// Items in them.
    pub items: usize,
    /// Reasons, and how many items went for them.
    pub losses: Vec<(String, usize)>,
}

/// Says what the plugin in `path` is.
///
/// # Errors
/// Why it is none.
pub fn describe(path: &Path) -> Result<Description, String> {
    let content = std::fs::read(path).map_err(|error| error.to_string())?;
    let began = Instant::now();
    let plugin = load::load(path, None)?;
    let load_time = began.elapsed();
    let setting = setting(Signal::Traces, "{}", &Telemetry::default());
    let mut instance = Instance::bare(&plugin, &setting).map_err(|failure| failure.to_string())?;
    let told = instance.describe().map_err(|failure| failure.to_string())?;
    let signals = told.signals.iter().map(|signal| signal.known());
    Ok(Description {
        signals: signals.collect(),
        name: told.name,
        version: told.version,
        summary: told.summary,
        config_schema: told.config_schema,
        world: format!("{PACKAGE}/processor@{VERSION}"),
        limits: Options::default().limits(),
        imports: plugin.imports.clone(),
        sha256: load::hex(&load::sha256(&content)),
        file_bytes: content.len(),
        memory_bytes: instance.memory(),
        load_time,
    })
}

impl Workbench {
    /// Starts the plugin in `path` with a configuration, as JSON.
    ///
    /// # Errors
    /// Why it does not start.
    pub fn start(path: &Path, signal: Signal, config: &str) -> Result<Self, String> {
        let telemetry = Telemetry::default();
        let plugin = load::load(path, None)?;
        let setting = setting(signal, config, &telemetry);
        let instance = Instance::start(&plugin, &setting).map_err(|failure| failure.to_string())?;
        Ok(Self {
            plugin,
            setting,
            instance,
            reasons: Reasons::default(),
            telemetry,
        })
    }

    /// Runs a checked batch through.
    ///
    /// # Errors
    /// How the plugin failed. It starts anew for the next batch.
    pub fn process(&mut self, input: &Checked) -> Result<Made, String> {
        let made = self.instance.process(&input.bytes).and_then(|outcome| {
            judge(
                outcome,
                self.setting.signal,
                &input.bytes,
                input.items,
                self.setting.output_max,
                &mut self.reasons,
            )
        });
        let verdict = match made {
            Ok(verdict) => verdict,
            Err(failure) => {
                self.instance = Instance::start(&self.plugin, &self.setting)
                    .map_err(|again| format!("{failure}; and then: {again}"))?;
                return Err(failure.to_string());
            }
        };
        let (bytes, unchanged, items) = match verdict.data {
            Next::Same => (Some(input.bytes.clone()), true, input.items),
            Next::Changed(checked) => (Some(checked.bytes), false, checked.items),
            Next::Nothing => (None, false, 0),
        };
        let losses = verdict.losses.into_iter();
        Ok(Made {
            bytes,
            unchanged,
            items,
            losses: losses
                .map(|lost| (lost.reason.into_owned(), lost.items))
                .collect(),
        })
    }

    /// Bytes of linear memory that it has.
    pub fn memory(&self) -> usize {
        self.instance.memory()
    }

    /// Its own metrics, in the Prometheus text format.
    pub fn metrics(&self) -> String {
        let text = self.telemetry.encode().unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines = text
            .lines()
            .filter(|line| !line.starts_with('#') && !line.starts_with(LOG_LINES));
        lines.map(|line| format!("{line}\n")).collect()
    }
}

/// It is the agent's, not the plugin's.
const LOG_LINES: &str = names::PLUGIN_LOG_DISCARDED.name;

/// The defaults of a processor, with everything granted that harms nobody.
fn setting(signal: Signal, config: &str, telemetry: &Telemetry) -> Setting {
    const PROCESSOR: &str = "wasm";
    let options = Options::default();
    let bytes = |size: crate::units::ByteSize| usize::try_from(size.0).unwrap_or(usize::MAX);
    let labels = [PROCESSOR, signal.name()];
    let discarded = telemetry.counter(&names::PLUGIN_LOG_DISCARDED, &labels);
    Setting {
        signal,
        config: config.to_owned(),
        timeout: options.timeout.0,
        memory_max: bytes(options.memory_limit),
        output_max: bytes(options.output_limit),
        grants: Grants {
            clock: true,
            random: true,
            environment: Vec::new(),
        },
        shared: Arc::new(Shared {
            log: GuestLog::new(PROCESSOR, signal.name(), discarded),
            metrics: GuestMetrics::new(telemetry, PROCESSOR, signal.name()),
            files: Arc::new(BTreeMap::new()),
        }),
    }
}
