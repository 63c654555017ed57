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
                (_, Ok(_)) if error.to_string().contains("expected unit") => {
                    return Err(Error::new("config: this plugin has none; remove it"));
                }
                _ => return Err(Error::new(format!("config: {}", without_place(&error)))),
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

/// What is wrong, without the place in the JSON that nobody has written.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&place).unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::prelude::*;
    use crate::testing::Tester;

    struct Without;

    impl Plugin for Without {
        type Config = ();

        fn new((): (), _: Signal) -> Result<Self, Error> {
            Ok(Self)
        }

        fn process(&mut self, _: &mut Batch<'_>) -> Result<(), Error> {
            Ok(())
        }
    }

    struct With;

    impl Plugin for With {
        type Config = BTreeMap<String, u8>;

        fn new(_: Self::Config, _: Signal) -> Result<Self, Error> {
            Ok(Self)
        }

        fn process(&mut self, _: &mut Batch<'_>) -> Result<(), Error> {
            Ok(())
        }
    }

    #[test]
    fn what_is_wrong_with_a_configuration_is_told_without_its_place_in_json() {
        let check = |tried: Result<(), Error>, expected: &str| {
            assert_eq!(tried.unwrap_err().message(), expected);
        };
        let with = |config| Tester::<With>::new(Signal::Logs, config).map(drop);
        check(
            with(r#"{"a": 300}"#),
            "config: invalid value: integer `300`, expected u8",
        );
        check(with("[]"), "config: invalid type: sequence, expected a map");
        let without = |config| Tester::<Without>::new(Signal::Logs, config).map(drop);
        check(
            without(r#"{"a": 1}"#),
            "config: this plugin has none; remove it",
        );
        without("{}").unwrap();
    }
}
