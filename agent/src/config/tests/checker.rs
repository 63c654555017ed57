//! Checks a document against a JSON Schema, as far as ours use the language: every keyword is either checked or known to
//! check nothing, so that a schema cannot ask for what nobody looks at.

use std::collections::BTreeSet;

use regex::Regex;
use serde_json::{Map, Value};

/// Keywords that check nothing.
const REMARKS: &[&str] = &[
    "$schema",
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "format",
    "definitions",
    "x-unit",
    "x-taplo",
    "x-at-least",
    "x-more-than",
];

/// Where the document is not as the schema says: keys and what is wrong there.
pub(super) fn check(schema: &Value, document: &Value) -> BTreeSet<String> {
    let mut checker = Checker {
        root: schema,
        wrong: BTreeSet::new(),
    };
    checker.check("", schema, document);
    checker.wrong
}

struct Checker<'a> {
    root: &'a Value,
    wrong: BTreeSet<String>,
}

impl Checker<'_> {
    fn check(&mut self, path: &str, schema: &Value, found: &Value) {
        match schema {
            Value::Bool(true) => {}
            Value::Bool(false) => self.complain(path, "nothing may be here"),
            Value::Object(schema) => {
                for (keyword, argument) in schema {
                    self.keyword(path, schema, keyword, argument, found);
                }
            }
            _ => panic!("not a schema: {schema}"),
        }
    }

    fn complain(&mut self, path: &str, problem: &str) {
        self.wrong.insert(format!("{path}: {problem}"));
    }

    fn keyword(
        &mut self,
        path: &str,
        schema: &Map<String, Value>,
        keyword: &str,
        argument: &Value,
        found: &Value,
    ) {
        let fits = match keyword {
            "$ref" => {
                let pointer = argument.as_str().unwrap().strip_prefix('#').unwrap();
                let target = self.root.pointer(pointer).expect("it is defined");
                return self.check(path, target, found);
            }
            "properties" => return self.properties(path, argument, found),
            "patternProperties" | "additionalProperties" => {
                return self.other_properties(path, schema, keyword, found);
            }
            "items" => {
                for (at, item) in found.as_array().into_iter().flatten().enumerate() {
                    self.check(&format!("{path}[{at}]"), argument, item);
                }
                true
            }
            "required" => return self.required(path, argument, found),
            "anyOf" => argument.as_array().unwrap().iter().any(|choice| {
                let mut checker = Checker {
                    root: self.root,
                    wrong: BTreeSet::new(),
                };
                checker.check(path, choice, found);
                checker.wrong.is_empty()
            }),
            "type" => types(argument).iter().any(|name| is_a(name, found)),
            "enum" => argument.as_array().unwrap().contains(found),
            "minimum" => found
                .as_f64()
                .is_none_or(|found| found >= argument.as_f64().unwrap()),
            "maximum" => found
                .as_f64()
                .is_none_or(|found| found <= argument.as_f64().unwrap()),
            "pattern" => found.as_str().is_none_or(|found| matches(argument, found)),
            "minItems" => found
                .as_array()
                .is_none_or(|found| found.len() as u64 >= argument.as_u64().unwrap()),
            "uniqueItems" => found.as_array().is_none_or(|found| {
                let distinct: BTreeSet<String> = found.iter().map(Value::to_string).collect();
                distinct.len() == found.len()
            }),
            remark => {
                assert!(
                    REMARKS.contains(&remark),
                    "{path}: nobody checks `{remark}`"
                );
                true
            }
        };
        if !fits {
            self.complain(path, &format!("not {keyword} {argument}"));
        }
    }

    fn properties(&mut self, path: &str, properties: &Value, found: &Value) {
        for (key, value) in found.as_object().into_iter().flatten() {
            if let Some(schema) = properties.get(key) {
                self.check(&format!("{path}/{key}"), schema, value);
            }
        }
    }

    /// The keys that `patternProperties` match, or those that nothing else speaks of.
    fn other_properties(
        &mut self,
        path: &str,
        schema: &Map<String, Value>,
        keyword: &str,
        found: &Value,
    ) {
        let no_patterns = Map::new();
        let patterns = schema
            .get("patternProperties")
            .map_or(&no_patterns, |patterns| patterns.as_object().unwrap());
        for (key, value) in found.as_object().into_iter().flatten() {
            let matching: Vec<&Value> = patterns
                .iter()
                .filter(|(pattern, _)| Regex::new(pattern).unwrap().is_match(key))
                .map(|(_, schema)| schema)
                .collect();
            let named = schema
                .get("properties")
                .is_some_and(|all| all.get(key).is_some());
            let path = format!("{path}/{key}");
            match keyword {
                "patternProperties" => matching
                    .iter()
                    .for_each(|schema| self.check(&path, schema, value)),
                _ if !named && matching.is_empty() => self.check(&path, &schema[keyword], value),
                _ => {}
            }
        }
    }

    fn required(&mut self, path: &str, keys: &Value, found: &Value) {
        let Some(table) = found.as_object() else {
            return;
        };
        for key in keys.as_array().unwrap() {
            let key = key.as_str().unwrap();
            if !table.contains_key(key) {
                self.complain(path, &format!("{key} is missing"));
            }
        }
    }
}

fn types(argument: &Value) -> Vec<&str> {
    match argument {
        Value::Array(names) => names.iter().map(|name| name.as_str().unwrap()).collect(),
        one => vec![one.as_str().unwrap()],
    }
}

fn is_a(kind: &str, found: &Value) -> bool {
    match kind {
        "string" => found.is_string(),
        "integer" => found.is_i64() || found.is_u64(),
        "number" => found.is_number(),
        "boolean" => found.is_boolean(),
        "array" => found.is_array(),
        "object" => found.is_object(),
        other => panic!("what is a {other}?"),
    }
}

fn matches(pattern: &Value, found: &str) -> bool {
    Regex::new(pattern.as_str().unwrap())
        .unwrap()
        .is_match(found)
}
