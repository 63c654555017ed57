//! Removes, masks or hashes secrets and personal data, in the attributes of everything and in the bodies of log records.
//!
//! ```toml
//! [processors.wasm.config]
//! remove = ["http.request.header.cookie"]            # attributes that go
//! mask = ["db.query.text", "password"]               # attributes whose value becomes ***
//! hash = ["enduser.id"]                              # attributes whose value becomes a hash of it, the same each time
//! hash_key = "${env:REDACT_KEY}"                     # what the hash cannot be guessed without
//! patterns = { email = '[\w.+-]+@[\w-]+\.[\w.]+' }   # what becomes [email], wherever it is in a text
//! ```
//!
//! Patterns are those of the `regex` crate; `\w`, `\d` and `\s` mean letters, digits and white space of all scripts.

use std::borrow::Cow;
use std::collections::BTreeMap;

use regex::{NoExpand, Regex};
use tidegate_plugin::{OwnedValue, prelude::*};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
struct Config {
    remove: Vec<String>,
    mask: Vec<String>,
    hash: Vec<String>,
    hash_key: String,
    patterns: BTreeMap<String, String>,
}

struct Redact {
    keys: BTreeMap<String, Rule>,
    hash_key: String,
    patterns: Vec<Pattern>,
    counters: [Counter; 3],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Rule {
    Remove,
    Mask,
    Hash,
}

struct Pattern {
    regex: Regex,
    instead: String,
    counter: Counter,
}

const MASK: &str = "***";

/// Bytes of a hash that are kept: enough to tell values apart.
const HASH_BYTES: usize = 16;

impl Plugin for Redact {
    type Config = Config;

    fn new(config: Config, _: Signal) -> Result<Self, Error> {
        if !config.hash.is_empty() && config.hash_key.is_empty() {
            return Err(Error::new("hash_key: is required where `hash` is used"));
        }
        let mut keys = BTreeMap::new();
        for (list, rule) in [
            (config.remove, Rule::Remove),
            (config.mask, Rule::Mask),
            (config.hash, Rule::Hash),
        ] {
            keys.extend(list.into_iter().map(|key| (key, rule)));
        }
        let patterns = config.patterns.into_iter().map(|(name, pattern)| {
            let regex = Regex::new(&pattern)
                .map_err(|error| Error::new(format!("patterns.{name}: {error}")))?;
            Ok(Pattern {
                regex,
                instead: format!("[{name}]"),
                counter: Counter::with_label("redacted", &name),
            })
        });
        Ok(Self {
            keys,
            hash_key: config.hash_key,
            patterns: patterns.collect::<Result<_, Error>>()?,
            counters: ["remove", "mask", "hash"].map(|rule| Counter::with_label("redacted", rule)),
        })
    }

    fn process(&mut self, batch: &mut Batch<'_>) -> Result<(), Error> {
        batch.attributes(|attributes| attributes.update(|key, value| self.attribute(key, value)));
        if !self.patterns.is_empty() {
            batch.log_records(|record| {
                let body = record.body().map_strings(&mut |text| self.text(text));
                if let Some(body) = body {
                    record.set_body(body);
                }
            });
        }
        Ok(())
    }
}

impl Redact {
    fn attribute(&self, key: &str, value: Value<'_>) -> Change {
        let Some(rule) = self.keys.get(key) else {
            if self.patterns.is_empty() {
                return Change::Keep;
            }
            let new = value.map_strings(&mut |text| self.text(text));
            return new.map_or(Change::Keep, Change::Set);
        };
        let [removed, masked, hashed] = &self.counters;
        match rule {
            Rule::Remove => {
                removed.add(1);
                Change::Remove
            }
            Rule::Mask => {
                masked.add(1);
                Change::text(MASK)
            }
            Rule::Hash => {
                hashed.add(1);
                Change::text(self.hash(&value.to_owned()))
            }
        }
    }

    /// The text without what the patterns find; `None` if they find nothing.
    fn text(&self, text: &str) -> Option<String> {
        let mut new: Option<String> = None;
        for pattern in &self.patterns {
            let current = new.as_deref().unwrap_or(text);
            let replaced = pattern
                .regex
                .replace_all(current, NoExpand(&pattern.instead));
            if let Cow::Owned(replaced) = replaced {
                pattern.counter.add(1);
                new = Some(replaced);
            }
        }
        new
    }

    fn hash(&self, value: &OwnedValue) -> String {
        let text = match value {
            OwnedValue::Str(text) => text.clone(),
            other => format!("{other:?}"),
        };
        let hash = hmac_sha256::HMAC::mac(text, &self.hash_key);
        let kept = hash.iter().take(HASH_BYTES);
        kept.map(|byte| format!("{byte:02x}")).collect()
    }
}

tidegate_plugin::export!(Redact);

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use tidegate_plugin::testing::{Tester, logs, metric, spans};
    use twins::proptest::prelude::*;
    use twins::{Logs, Message as _, Traces, batches};

    use super::*;

    #[test]
    fn attributes_are_removed_masked_and_hashed() {
        let config =
            r#"{"remove": ["cookie"], "mask": ["password"], "hash": ["user"], "hash_key": "k"}"#;
        let mut tester = Tester::<Redact>::new(Signal::Traces, config).unwrap();
        let batch = spans().resource(&[("user", "ann")]).item(
            "login",
            &[
                ("user", "ann"),
                ("cookie", "c"),
                ("password", "p"),
                ("other", "ann"),
            ],
        );
        let out = tester.run(&batch);
        let hashed = out.split("user=").nth(1).unwrap().lines().next().unwrap();
        assert_eq!(hashed.len(), 2 * HASH_BYTES);
        let expected =
            format!("resource user={hashed}\n  span login user={hashed} password=*** other=ann\n");
        assert_eq!(out, expected);
        assert_eq!(metric("redacted{hash}"), Some(2.0));
        assert_eq!(metric("redacted{remove}"), Some(1.0));
        let other = config.replace("\"k\"", "\"another\"");
        let mut tester = Tester::<Redact>::new(Signal::Traces, &other).unwrap();
        assert_ne!(tester.run(&batch), expected);
    }

    #[test]
    fn patterns_are_found_in_attributes_and_bodies() {
        let config = r#"{"patterns": {"email": "[\\w.+-]+@[\\w-]+\\.[\\w.]+", "card": "\\d{16}"}}"#;
        let mut tester = Tester::<Redact>::new(Signal::Logs, config).unwrap();
        let batch = logs()
            .item(
                "mail to ann@example.org, card 1234567812345678",
                &[("to", "bob@example.org")],
            )
            .item("nothing", &[("number", "123")]);
        let expected = "  log mail to [email], card [card] to=[email]\n  log nothing number=123\n";
        assert_eq!(tester.run(&batch), expected);
    }

    #[test]
    fn what_is_clean_is_not_touched() {
        let mut tester = Tester::<Redact>::new(Signal::Logs, r#"{"mask": ["x"]}"#).unwrap();
        let batch = logs().item("hello", &[("y", "z")]).to_bytes();
        let outcome = tester.try_run(&batch).unwrap();
        assert_eq!(outcome.data, tidegate_plugin::Data::Unchanged);
    }

    #[test]
    fn wrong_configurations_are_told() {
        let check = |config: &str, expected: &str| {
            let error = Tester::<Redact>::new(Signal::Logs, config).unwrap_err();
            assert!(error.message().contains(expected), "{error:?}");
        };
        check(r#"{"hash": ["a"]}"#, "hash_key: is required");
        check(r#"{"patterns": {"p": "("}}"#, "patterns.p: ");
        check(r#"{"masks": []}"#, "unknown field `masks`");
    }

    const CONFIG: &str = r#"{"remove": ["a"], "mask": ["b"], "hash": ["user"], "hash_key": "k",
        "patterns": {"card": "\\d{16}", "email": "[\\w.+-]+@[\\w-]+\\.[\\w.]+"}}"#;

    fn twin() -> twins::redact::Redact {
        let pattern = |name: &str, pattern: &str| (name.to_owned(), Regex::new(pattern).unwrap());
        twins::redact::Redact {
            remove: vec!["a".to_owned()],
            mask: vec!["b".to_owned()],
            hash: vec!["user".to_owned()],
            hash_key: "k".to_owned(),
            patterns: vec![
                pattern("card", r"\d{16}"),
                pattern("email", r"[\w.+-]+@[\w-]+\.[\w.]+"),
            ],
        }
    }

    #[test]
    fn it_does_what_its_twin_does() {
        // Patterns take long to compile without optimization: once is enough.
        let tester = |signal| RefCell::new(Tester::<Redact>::new(signal, CONFIG).unwrap());
        let (on_traces, on_logs) = (tester(Signal::Traces), tester(Signal::Logs));
        let twin = twin();
        let config = ProptestConfig::with_cases(200);
        proptest!(config, |(mut traces in batches::traces(), mut logs in batches::logs())| {
            let output = on_traces.borrow_mut().run_bytes(&traces.encode_to_vec());
            twin.traces(&mut traces);
            prop_assert_eq!(Traces::decode(&*output).unwrap(), traces);
            let output = on_logs.borrow_mut().run_bytes(&logs.encode_to_vec());
            twin.logs(&mut logs);
            prop_assert_eq!(Logs::decode(&*output).unwrap(), logs);
        });
    }
}
