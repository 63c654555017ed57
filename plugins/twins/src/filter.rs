//! The twin of `filter`.

use crate::{Traces, retain, text};

/// What has to hold for a span to go: all that is given.
#[derive(Debug, Default, Clone)]
pub struct Rule {
    /// Its name.
    pub name: Option<String>,
    /// An attribute, and how its text begins.
    pub attribute: Option<(String, String)>,
    /// An attribute of its resource, and its text.
    pub resource: Option<(String, String)>,
}

/// Drops the spans that a rule is about.
pub fn traces(traces: &mut Traces, rules: &[Rule]) {
    retain(traces, |resource, span| {
        !rules.iter().any(|rule| {
            rule.name.as_ref().is_none_or(|name| *name == span.name)
                && rule.attribute.as_ref().is_none_or(|(key, beginning)| {
                    text(&span.attributes, key).is_some_and(|text| text.starts_with(beginning))
                })
                && rule.resource.as_ref().is_none_or(|(key, value)| {
                    text(resource, key).is_some_and(|text| text == value)
                })
        })
    });
}
