//! Plugins outside of a pipeline: for the commands that look at them, run, test and measure them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::bindings::{PACKAGE, VERSION};
use super::guest_log::{escaped, told};
use super::instance::{Instance, Setting};
use super::load::{self, Plugin};
use super::options::{Grant, Options, Settings, resolve};
use super::outcome::{Next, Reasons, judge};
use crate::config::{Diagnostics, Section};
use crate::otlp::Checked;
use crate::signal::Signal;
use crate::telemetry::{Telemetry, names};

/// A plugin on the bench.
pub struct Workbench {
    plugin: Arc<Plugin>,
    setting: Setting,
    instance: Instance,
    /// Whether the instance has failed and no other one has started.
    ended: bool,
    reasons: Reasons,
    telemetry: Telemetry,
}

/// What an operator gives to a plugin.
#[derive(Debug, Clone, Default)]
pub struct Conditions {
    /// What stands under `[processors.wasm]`, and the name of the file that it comes from.
    pub table: Option<(String, String)>,
    /// The plugin's own configuration, in place of that table's `config`.
    pub config: Option<serde_json::Map<String, serde_json::Value>>,
    /// What the plugin may have of the system, besides.
    pub grants: Vec<Grant>,
    /// Variables of the environment, besides.
    pub environment: Vec<(String, String)>,
    /// Files by the names under which the plugin asks for them, besides.
    pub files: Vec<(String, PathBuf)>,
}

impl Conditions {
    /// What a processor gets under these, and what there is to warn of.
    ///
    /// # Errors
    /// What is wrong with the table.
    fn settings(&self, plugin: &Path) -> Result<(Settings, Diagnostics), String> {
        const SECTION: &str = "processors.wasm";
        let mut found = Diagnostics::default();
        let (file, text) = match &self.table {
            Some((file, text)) => (file.as_str(), text.as_str()),
            None => (SECTION, ""),
        };
        let settings = Section::of_file(file, SECTION, text, &mut found).and_then(|mut section| {
            let mut options: Options = section.options()?;
            options.path = plugin.display().to_string();
            if let Some(config) = &self.config {
                options.config.clone_from(config);
            }
            options.grant.extend(&self.grants);
            Some(resolve(options, &mut section))
        });
        let Some(mut settings) = settings.filter(|_| !found.has_errors()) else {
            return Err(found.with_excerpts());
        };
        let variables = self.environment.iter().cloned();
        settings.grants.environment.extend(variables);
        settings.files.extend(self.files.iter().cloned());
        Ok((settings, found))
    }
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
    /// Items that do not go on.
    pub losses: Vec<Loss>,
}

/// Items that a plugin did not let through.
#[derive(Debug, Clone)]
pub struct Loss {
    /// Its reason.
    pub reason: String,
    /// How many.
    pub items: usize,
    /// What their sender is told where they were rejected, on one line.
    pub fault: Option<String>,
}

/// Says what the plugin in `path` is.
///
/// # Errors
/// Why it is none.
pub fn describe(path: &Path) -> Result<Description, String> {
    let content = load::read(path).map_err(|cause| cause.to_string())?;
    let began = Instant::now();
    let plugin = load::load(path, None).map_err(|cause| cause.to_string())?;
    let load_time = began.elapsed();
    let (settings, _) = Conditions::default().settings(path)?;
    let setting = settings.setting(PROCESSOR, Signal::Traces, &Telemetry::default());
    let setting = setting.map_err(|error| error.to_string())?;
    let mut instance = Instance::bare(&plugin, &setting).map_err(|failure| failure.to_string())?;
    let said = instance.describe().map_err(|failure| failure.to_string())?;
    let signals = said.signals.iter().map(|signal| signal.known());
    Ok(Description {
        signals: signals.collect(),
        name: told(&said.name),
        version: told(&said.version),
        summary: told(&said.summary),
        config_schema: schema(&said.config_schema),
        world: format!("{PACKAGE}/processor@{VERSION}"),
        limits: Options::default().limits(),
        imports: plugin.imports.clone(),
        sha256: load::hex(&load::sha256(&content)),
        file_bytes: content.len(),
        memory_bytes: instance.memory(),
        load_time,
    })
}

/// The schema that a plugin offers, as what it is said to be: nothing in it looks like a line of ours.
fn schema(told: &str) -> String {
    match serde_json::from_str::<serde_json::Value>(told) {
        Ok(schema) => escaped(&schema.to_string()),
        Err(_) if told.is_empty() => String::new(),
        Err(error) => format!("it offers a schema that is no JSON: {error}"),
    }
}

impl Workbench {
    /// Starts the plugin in `path` as the agent would under `conditions`.
    ///
    /// # Errors
    /// Why it does not start.
    pub fn start(path: &Path, signal: Signal, conditions: &Conditions) -> Result<Self, String> {
        let telemetry = Telemetry::default();
        let (settings, warnings) = conditions.settings(path)?;
        for warning in warnings.0 {
            tracing::warn!("{warning}");
        }
        let plugin = settings.load().map_err(|error| error.to_string())?;
        let setting = settings.setting(PROCESSOR, signal, &telemetry);
        let setting = setting.map_err(|error| error.to_string())?;
        let instance = Instance::start(&plugin, &setting).map_err(|failure| failure.to_string())?;
        Ok(Self {
            plugin,
            setting,
            instance,
            ended: false,
            reasons: Reasons::default(),
            telemetry,
        })
    }

    /// Runs a checked batch through.
    ///
    /// # Errors
    /// How the plugin failed. It starts anew for the next batch.
    pub fn process(&mut self, input: &Checked) -> Result<Made, String> {
        if self.ended {
            self.begin_anew()?;
        }
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
                self.ended = true;
                return match self.begin_anew() {
                    Ok(()) => Err(failure.to_string()),
                    Err(again) => Err(format!("{failure}; and then: {again}")),
                };
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
                .map(|lost| Loss {
                    reason: lost.reason.into_owned(),
                    items: lost.items,
                    fault: lost.fault.as_deref().map(told),
                })
                .collect(),
        })
    }

    fn begin_anew(&mut self) -> Result<(), String> {
        let started = Instance::start(&self.plugin, &self.setting);
        self.instance = started.map_err(|failure| failure.to_string())?;
        self.ended = false;
        Ok(())
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

/// The id of the processor that a plugin on the bench is.
const PROCESSOR: &str = "wasm";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_is_json_on_one_line_or_none() {
        assert_eq!(schema(""), "");
        assert_eq!(schema("{ \n\"a\": \"\u{9b}\" }"), "{\"a\":\"\\u{9b}\"}");
        let told = schema("{}\nsha256    0");
        assert!(told.starts_with("it offers a schema that is no JSON: ") && !told.contains('\n'));
    }
}
