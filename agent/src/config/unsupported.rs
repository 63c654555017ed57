//! Options of the Collector that this agent does not have: they are recognised, to say so and what to do instead.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::section::Section;

/// The value of such an option, if it was written.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct Unsupported(Option<toml::Value>);

impl Unsupported {
    /// Whether it was written.
    pub fn is_some(&self) -> bool {
        self.0.is_some()
    }

    /// Nothing, if what was written is not as `wanted`.
    pub fn filter(self, wanted: impl FnOnce(&toml::Value) -> bool) -> Self {
        Self(self.0.filter(wanted))
    }

    /// Whether something is asked for: what turns an option off asks for nothing.
    fn is_wanted(&self) -> bool {
        use toml::Value;
        match &self.0 {
            None | Some(Value::Boolean(false) | Value::Integer(0)) => false,
            Some(Value::String(text)) => !text.is_empty(),
            Some(Value::Array(items)) => !items.is_empty(),
            Some(Value::Table(table)) => !table.is_empty(),
            Some(_) => true,
        }
    }
}

/// Anything: whether it is refused or without effect, its description says.
impl JsonSchema for Unsupported {
    fn schema_name() -> Cow<'static, str> {
        "Unsupported".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "deprecated": true })
    }
}

impl Section<'_> {
    /// Refuses the option at `key` if it asks for something; `instead` says what is missing and what to do.
    pub fn refuse(&mut self, key: &str, value: &Unsupported, instead: &str) {
        if value.is_wanted() {
            let message = format!("the Collector has this, Tidegate does not: {instead}");
            self.error(key, message);
        }
    }

    /// Warns that the option at `key` has no effect, because of `why`.
    pub fn disregard(&mut self, key: &str, value: &Unsupported, why: &str) {
        if value.is_wanted() {
            self.warning(key, format!("accepted, but without effect: {why}"));
        }
    }
}
