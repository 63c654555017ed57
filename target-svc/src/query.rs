//! The query of a URL, checked as strictly as a body.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::str::FromStr;

use axum::http::{StatusCode, Uri};
use schemars::{JsonSchema, SchemaGenerator};
use serde::Serialize;
use serde_json::json;

use crate::problem::Problem;
use crate::routes::Parameter;

/// A number in the query: what is documented of it, and what is taken.
#[derive(Debug)]
pub(crate) struct NumberParameter<T> {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) range: RangeInclusive<T>,
    pub(crate) default: T,
}

impl<T: JsonSchema + Serialize> NumberParameter<T> {
    pub(crate) fn documented(&self) -> Parameter {
        let mut schema = SchemaGenerator::default().subschema_for::<T>();
        schema.insert("minimum".to_owned(), json!(self.range.start()));
        schema.insert("maximum".to_owned(), json!(self.range.end()));
        schema.insert("default".to_owned(), json!(self.default));
        Parameter {
            place: "query",
            name: self.name,
            about: self.about,
            schema,
        }
    }
}

/// The parameters of a request.
#[derive(Debug)]
pub(crate) struct Query(BTreeMap<String, String>);

impl Query {
    /// Refuses parameters that are not `known`, and those given twice.
    pub(crate) fn parse(uri: &Uri, known: &[&str]) -> Result<Self, Problem> {
        let mut all = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
            if !known.contains(&name.as_ref()) {
                let known = known.join("`, `");
                return Err(bad(format!(
                    "there is no parameter `{name}`; there is `{known}`"
                )));
            }
            if all.insert(name.to_string(), value.into_owned()).is_some() {
                return Err(bad(format!("the parameter `{name}` is given twice")));
            }
        }
        Ok(Self(all))
    }

    /// A number within its range, or its default.
    pub(crate) fn number<T>(&self, parameter: &NumberParameter<T>) -> Result<T, Problem>
    where
        T: FromStr + PartialOrd + std::fmt::Display + Copy,
    {
        let NumberParameter { name, range, .. } = parameter;
        let Some(text) = self.0.get(*name) else {
            return Ok(parameter.default);
        };
        let number = text.parse().ok().filter(|it| range.contains(it));
        number.ok_or_else(|| {
            let (least, most) = (range.start(), range.end());
            bad(format!(
                "`{name}` is a number from {least} to {most}, not `{text}`"
            ))
        })
    }
}

fn bad(detail: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_known_once_and_in_range() {
        let n = NumberParameter {
            name: "n",
            about: "",
            range: 1..=10,
            default: 7_u16,
        };
        let check = |query: &str, expected: Option<u16>| {
            let uri = format!("/x{query}").parse().unwrap();
            let number = Query::parse(&uri, &["n"]).and_then(|it| it.number(&n));
            assert_eq!(number.ok(), expected, "{query}");
        };
        check("", Some(7));
        check("?n=3", Some(3));
        check("?n=%31", Some(1));
        check("?n=0", None);
        check("?n=11", None);
        check("?n=-1", None);
        check("?n=x", None);
        check("?n=", None);
        check("?n=1&n=2", None);
        check("?m=1", None);
    }
}
