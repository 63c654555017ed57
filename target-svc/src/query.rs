//! The query of a URL, checked as strictly as a body.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::str::FromStr;

use axum::http::{StatusCode, Uri};

use crate::problem::Problem;

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

    /// A number within `range`, or `default`.
    pub(crate) fn number<T>(
        &self,
        name: &str,
        default: T,
        range: RangeInclusive<T>,
    ) -> Result<T, Problem>
    where
        T: FromStr + PartialOrd + std::fmt::Display + Copy,
    {
        let Some(text) = self.0.get(name) else {
            return Ok(default);
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
        let check = |query: &str, expected: Option<u16>| {
            let uri = format!("/x{query}").parse().unwrap();
            let number = Query::parse(&uri, &["n"]).and_then(|it| it.number("n", 7_u16, 1..=10));
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
