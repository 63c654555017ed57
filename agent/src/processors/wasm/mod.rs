//! `wasm`: a processor that is a WebAssembly plugin, in whatever language, which nobody has to trust.
//!
//! The contract stands in `plugins/wit`. A guest has what `host` and `wasi` give it and nothing else; it ends when its
//! time is over (`call`), has the memory that `limits` lets it have, and what it gives back is believed only after
//! `outcome` has checked it.

mod bindings;
mod breaker;
mod cache;
mod call;
mod engine;
mod guest_log;
mod guest_metrics;
mod host;
mod instance;
mod limits;
mod load;
mod metrics;
mod options;
mod outcome;
mod processor;
#[cfg(test)]
mod tests;
mod wasi;
pub mod workbench;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use guest_log::GuestLog;
use guest_metrics::GuestMetrics;
use host::Shared;
use instance::Setting;
use options::{Options, Settings, resolve};
use processor::Wasm;

use crate::component::{ComponentError, Factory, Processor, ProcessorContext, ProcessorSettings};
use crate::config::{Section, quoted};
use crate::signal::Signal;
use crate::telemetry::names;

/// `wasm`, as the registry lists it.
pub(super) const FACTORY: Factory<dyn ProcessorSettings> = Factory {
    kind: "wasm",
    summary: "A plugin: a WebAssembly component that gets whole batches and may change or drop what is in them.",
    signals: &Signal::ALL,
    schema: |generator| generator.subschema_for::<Options>(),
    parse,
};

/// Bytes of a file that a plugin may read.
const FILE_BYTES_MAX: u64 = 16 << 20;

fn parse(section: &mut Section<'_>) -> Option<Box<dyn ProcessorSettings>> {
    let options: Options = section.options()?;
    Some(Box::new(resolve(options, section)))
}

impl ProcessorSettings for Settings {
    fn files(&self) -> Vec<PathBuf> {
        let files = self.files.values().cloned();
        std::iter::once(self.path.clone()).chain(files).collect()
    }

    fn build(&self, context: ProcessorContext) -> Result<Box<dyn Processor>, ComponentError> {
        let plugin = load::load(&self.path, self.sha256.as_ref()).map_err(|cause| {
            let attempted = format!("load the plugin {}", self.path.display());
            ComponentError::new(attempted, cause).at("path")
        })?;
        let mut files = BTreeMap::new();
        for (name, path) in &self.files {
            let content = read(path).map_err(|cause| {
                let attempted = format!("read {}", path.display());
                ComponentError::new(attempted, cause).at(format!("files.{}", quoted(name)))
            })?;
            files.insert(name.clone(), content);
        }
        let signal = context.signal.name();
        let discarded = context
            .telemetry
            .counter(&names::PLUGIN_LOG_DISCARDED, &[&context.id, signal]);
        let shared = Shared {
            log: GuestLog::new(&context.id, signal, discarded),
            metrics: GuestMetrics::new(&context.telemetry, &context.id, signal),
            files: Arc::new(files),
        };
        let setting = Setting {
            signal: context.signal,
            config: self.config.clone(),
            timeout: self.timeout,
            memory_max: self.memory_max,
            output_max: self.output_max,
            grants: self.grants.clone(),
            shared: Arc::new(shared),
        };
        Ok(Box::new(Wasm::start(
            context,
            plugin,
            setting,
            self.on_error,
        )?))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let length = std::fs::metadata(path)
        .map_err(|error| error.to_string())?
        .len();
    if length > FILE_BYTES_MAX {
        return Err(format!("it is larger than {} MiB", FILE_BYTES_MAX >> 20));
    }
    std::fs::read(path).map_err(|error| error.to_string())
}
