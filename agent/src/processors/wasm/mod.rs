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

use std::path::{Path, PathBuf};
use std::sync::Arc;

use guest_log::GuestLog;
use guest_metrics::GuestMetrics;
use host::Shared;
use instance::Setting;
use load::{Plugin, Unloadable};
pub use options::Grant;
use options::{Options, Settings, resolve};
use processor::Wasm;

use crate::component::{ComponentError, Factory, Processor, ProcessorContext, ProcessorSettings};
use crate::config::{Section, quoted};
use crate::files;
use crate::signal::Signal;
use crate::telemetry::{Telemetry, names};

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
        let setting = self.setting(&context.id, context.signal, &context.telemetry);
        let (plugin, setting) = ComponentError::both(self.load(), setting)?;
        Ok(Box::new(Wasm::start(
            context,
            plugin,
            setting,
            self.on_error,
        )?))
    }
}

impl Settings {
    fn load(&self) -> Result<Arc<Plugin>, ComponentError> {
        load::load(&self.path, self.sha256.as_ref()).map_err(|cause| {
            let attempted = format!("load the plugin {}", self.path.display());
            let error = ComponentError::new(attempted, &cause).at("path");
            match cause {
                Unloadable::Unreadable(_) => error,
                Unloadable::Unfit(_) => error.permanent(),
            }
        })
    }

    /// What an instance gets that works as processor `id` for `signal`.
    fn setting(
        &self,
        id: &str,
        signal: Signal,
        telemetry: &Telemetry,
    ) -> Result<Setting, ComponentError> {
        let files = ComponentError::all(self.files.iter().map(|(name, path)| {
            let content = read(path);
            let content = content.map_err(|error| error.at(format!("files.{}", quoted(name))));
            Ok((name.clone(), content?))
        }))?;
        let discarded = telemetry.counter(&names::PLUGIN_LOG_DISCARDED, &[id, signal.name()]);
        let shared = Shared {
            log: GuestLog::new(id, signal.name(), discarded),
            metrics: GuestMetrics::new(telemetry, id, signal),
            files: Arc::new(files.into_iter().collect()),
        };
        Ok(Setting {
            signal,
            config: self.config.clone(),
            timeout: self.timeout,
            memory_max: self.memory_max,
            output_max: self.output_max,
            grants: self.grants.clone(),
            shared: Arc::new(shared),
        })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, ComponentError> {
    files::read(path, FILE_BYTES_MAX).map_err(|error| ComponentError::unreadable(path, &error))
}
