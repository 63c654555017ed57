//! Limits how many values an attribute may have, so that a customer's id in a metric does not cost a series for each customer. The
//! first values of a window stay; those that come when there are enough become `_other` until the window ends.
//!
//! ```toml
//! [processors.wasm.config]
//! attributes = { "url.path" = 500, "customer.id" = 1000 }
//! window_seconds = 3600
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tidegate_plugin::prelude::*;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    attributes: BTreeMap<String, usize>,
    #[serde(default = "an_hour")]
    window_seconds: u32,
}

fn an_hour() -> u32 {
    3600
}

/// What takes the place of values that are too many.
const OTHER: &str = "_other";

struct Limit {
    attributes: BTreeMap<String, Known>,
    window: Duration,
}

struct Known {
    most: usize,
    values: BTreeSet<String>,
    limited: Counter,
    distinct: Gauge,
}

impl Plugin for Limit {
    type Config = Config;

    fn new(config: Config, _: Signal) -> Result<Self, Error> {
        if config.window_seconds == 0 {
            return Err(Error::new("window_seconds: must be greater than 0"));
        }
        let known = |(key, most): (String, usize)| {
            let known = Known {
                most,
                values: BTreeSet::new(),
                limited: Counter::with_label("limited", &key),
                distinct: Gauge::with_label("distinct", &key),
            };
            (key, known)
        };
        Ok(Self {
            attributes: config.attributes.into_iter().map(known).collect(),
            window: Duration::from_secs(config.window_seconds.into()),
        })
    }

    fn process(&mut self, batch: &mut Batch<'_>) -> Result<(), Error> {
        let known = &mut self.attributes;
        batch.items(|item| {
            item.attributes().update(|key, value| {
                let Some(known) = known.get_mut(key) else {
                    return Change::Keep;
                };
                known.look(value)
            });
        });
        for known in known.values() {
            known.distinct.set(known.values.len() as f64);
        }
        Ok(())
    }

    fn tick_interval(&self) -> Option<Duration> {
        Some(self.window)
    }

    fn tick(&mut self) {
        for known in self.attributes.values_mut() {
            known.values.clear();
        }
    }
}

impl Known {
    fn look(&mut self, value: Value<'_>) -> Change {
        let text = match value {
            Value::Str(text) => text.to_owned(),
            Value::Int(number) => number.to_string(),
            _ => return Change::Keep,
        };
        if self.values.contains(&text) {
            return Change::Keep;
        }
        if self.values.len() < self.most {
            self.values.insert(text);
            return Change::Keep;
        }
        self.limited.add(1);
        Change::text(OTHER)
    }
}

tidegate_plugin::export!(Limit);

#[cfg(test)]
mod tests {
    use tidegate_plugin::testing::{Tester, metric, metrics};

    use super::*;

    #[test]
    fn values_beyond_the_limit_become_one_until_the_window_ends() {
        let config = r#"{"attributes": {"id": 2}}"#;
        let mut tester = Tester::<Limit>::new(Signal::Metrics, config).unwrap();
        let point = |tester: &mut Tester<Limit>, id: &str| {
            let out = tester.run(&metrics().item("m", &[("id", id)]));
            out.split("id=").nth(1).unwrap().trim().to_owned()
        };
        assert_eq!(point(&mut tester, "a"), "a");
        assert_eq!(point(&mut tester, "b"), "b");
        assert_eq!(point(&mut tester, "c"), OTHER);
        assert_eq!(point(&mut tester, "a"), "a");
        assert_eq!(metric("limited{id}"), Some(1.0));
        assert_eq!(metric("distinct{id}"), Some(2.0));
        tester.tick();
        assert_eq!(point(&mut tester, "c"), "c");
    }
}
