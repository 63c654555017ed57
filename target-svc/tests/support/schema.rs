//! Whether a value fits a JSON schema, for the keywords that the service's document uses.

use regex::Regex;
use serde_json::Value as Json;

/// Why `value` does not fit `schema`, whose references are within `document`. Keywords that are not known here are a panic.
pub fn misfit(document: &Json, schema: &Json, value: &Json) -> Option<String> {
    let keywords = schema.as_object().expect("a schema is an object");
    keywords
        .iter()
        .find_map(|(keyword, wanted)| match keyword.as_str() {
            "$ref" => {
                let pointer = wanted.as_str().unwrap().trim_start_matches('#');
                misfit(document, document.pointer(pointer).unwrap(), value)
            }
            "properties" => {
                let mut properties = wanted.as_object().unwrap().iter();
                properties.find_map(|(name, schema)| misfit(document, schema, value.get(name)?))
            }
            "items" => {
                let mut items = value.as_array()?.iter();
                items.find_map(|it| misfit(document, wanted, it))
            }
            "oneOf" => {
                let schemas = wanted.as_array().unwrap().iter();
                let fitting = schemas.filter(|it| misfit(document, it, value).is_none());
                (fitting.count() != 1).then(|| format!("{value} is not one of {wanted}"))
            }
            "description" | "default" | "format" => None,
            keyword => (!fits(schema, keyword, wanted, value))
                .then(|| format!("{value} does not fit `{keyword}`: {wanted}")),
        })
}

/// Whether a value fits a keyword without schemas in it. Most concern one type, and others fit.
fn fits(schema: &Json, keyword: &str, wanted: &Json, value: &Json) -> bool {
    let number = |holds: fn(f64, f64) -> bool| {
        let bound = wanted.as_f64().unwrap();
        value.as_f64().is_none_or(|it| holds(it, bound))
    };
    let length = |holds: fn(u64, u64) -> bool| {
        let bound = wanted.as_u64().unwrap();
        value
            .as_str()
            .is_none_or(|it| holds(it.chars().count() as u64, bound))
    };
    match keyword {
        "type" => match wanted {
            Json::Array(types) => types.iter().any(|it| is_of_type(value, it)),
            one => is_of_type(value, one),
        },
        "const" => value == wanted,
        "minimum" => number(|it, bound| it >= bound),
        "maximum" => number(|it, bound| it <= bound),
        "minLength" => length(|it, bound| it >= bound),
        "maxLength" => length(|it, bound| it <= bound),
        "pattern" => {
            let pattern = Regex::new(wanted.as_str().unwrap()).unwrap();
            value.as_str().is_none_or(|it| pattern.is_match(it))
        }
        "required" => value.as_object().is_none_or(|it| {
            let mut names = wanted.as_array().unwrap().iter();
            names.all(|name| it.contains_key(name.as_str().unwrap()))
        }),
        "additionalProperties" => value.as_object().is_none_or(|it| {
            let known = |name| schema["properties"].get(name).is_some();
            wanted.as_bool().unwrap() || it.keys().all(known)
        }),
        other => panic!("the keyword `{other}` of a schema is not known here"),
    }
}

fn is_of_type(value: &Json, name: &Json) -> bool {
    match name.as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("there is no type `{other}`"),
    }
}
