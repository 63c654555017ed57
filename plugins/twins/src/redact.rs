//! The twin of `redact`.

use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use regex::{NoExpand, Regex};

use crate::{Logs, Traces, string};

/// What to take out.
#[derive(Debug, Default)]
pub struct Redact {
    /// Attributes that go.
    pub remove: Vec<String>,
    /// Attributes whose value becomes `***`.
    pub mask: Vec<String>,
    /// Attributes whose value, a text, becomes a hash with `hash_key`.
    pub hash: Vec<String>,
    /// What the hash cannot be guessed without.
    pub hash_key: String,
    /// What becomes `[name]`.
    pub patterns: Vec<(String, Regex)>,
}

impl Redact {
    /// Takes it out of all attributes.
    pub fn traces(&self, traces: &mut Traces) {
        for group in &mut traces.resource_spans {
            if let Some(resource) = &mut group.resource {
                self.attributes(&mut resource.attributes);
            }
            for inner in &mut group.scope_spans {
                if let Some(scope) = &mut inner.scope {
                    self.attributes(&mut scope.attributes);
                }
                for span in &mut inner.spans {
                    self.attributes(&mut span.attributes);
                    for event in &mut span.events {
                        self.attributes(&mut event.attributes);
                    }
                    for link in &mut span.links {
                        self.attributes(&mut link.attributes);
                    }
                }
            }
        }
    }

    /// Takes it out of all attributes and bodies.
    pub fn logs(&self, logs: &mut Logs) {
        for group in &mut logs.resource_logs {
            if let Some(resource) = &mut group.resource {
                self.attributes(&mut resource.attributes);
            }
            for inner in &mut group.scope_logs {
                if let Some(scope) = &mut inner.scope {
                    self.attributes(&mut scope.attributes);
                }
                for record in &mut inner.log_records {
                    self.attributes(&mut record.attributes);
                    if let Some(body) = &mut record.body {
                        self.value(body);
                    }
                }
            }
        }
    }

    fn attributes(&self, attributes: &mut Vec<KeyValue>) {
        attributes.retain(|pair| !self.remove.contains(&pair.key));
        for pair in attributes {
            let Some(value) = &mut pair.value else {
                continue;
            };
            if self.mask.contains(&pair.key) {
                *value = string("***");
            } else if self.hash.contains(&pair.key) {
                if let Some(Any::StringValue(text)) = &value.value {
                    let hash = hmac_sha256::HMAC::mac(text, &self.hash_key);
                    let digits = hash.iter().take(16).map(|byte| format!("{byte:02x}"));
                    *value = string(&digits.collect::<String>());
                }
            } else {
                self.value(value);
            }
        }
    }

    fn value(&self, value: &mut AnyValue) {
        match &mut value.value {
            Some(Any::StringValue(text)) => {
                for (name, pattern) in &self.patterns {
                    if pattern.is_match(text) {
                        let instead = format!("[{name}]");
                        *text = pattern.replace_all(text, NoExpand(&instead)).into_owned();
                    }
                }
            }
            Some(Any::ArrayValue(list)) => {
                list.values.iter_mut().for_each(|value| self.value(value))
            }
            Some(Any::KvlistValue(map)) => {
                let values = map.values.iter_mut().filter_map(|pair| pair.value.as_mut());
                values.for_each(|value| self.value(value));
            }
            _ => {}
        }
    }
}
