//! What runs a plugin, in the agent as well as in tests.

use std::time::Duration;

use crate::{Batch, Error, Outcome, Plugin, Signal};

/// A plugin, once it is configured.
pub struct Runner<P>(Option<(Signal, P)>);

impl<P> std::fmt::Debug for Runner<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let signal = self.0.as_ref().map(|(signal, _)| signal);
        f.debug_tuple("Runner").field(&signal).finish()
    }
}

impl<P: Plugin> Default for Runner<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P: Plugin> Runner<P> {
    /// One without a plugin.
    pub const fn new() -> Self {
        Self(None)
    }

    /// Makes the plugin of its configuration, as JSON. How often it wants to be called, besides for batches.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn configure(&mut self, signal: Signal, config: &str) -> Result<Option<Duration>, Error> {
        let config = match serde_json::from_str(config) {
            Ok(config) => config,
            // A plugin without configuration has `()`, which JSON writes as null and a configuration as an empty table.
            Err(error) => match (config.trim(), serde_json::from_str("null")) {
                ("{}", Ok(config)) => config,
                _ => return Err(Error::new(format!("config: {error}"))),
            },
        };
        let plugin = P::new(config, signal)?;
        let interval = plugin.tick_interval();
        self.0 = Some((signal, plugin));
        Ok(interval)
    }

    /// Hands a batch over.
    ///
    /// # Errors
    /// When the plugin fails.
    pub fn process(&mut self, batch: &[u8]) -> Result<Outcome, Error> {
        let Some((signal, plugin)) = &mut self.0 else {
            return Err(Error::new("the plugin is not configured"));
        };
        let mut batch = Batch::new(*signal, batch);
        plugin.process(&mut batch)?;
        Ok(batch.into_outcome())
    }

    /// Lets the plugin do what it does from time to time.
    pub fn tick(&mut self) {
        if let Some((_, plugin)) = &mut self.0 {
            plugin.tick();
        }
    }
}
