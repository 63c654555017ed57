//! What an answer has to be like, and what is taken from it for later requests.

use std::time::Duration;

use http::HeaderName;
use serde_json::Value;

use super::template::plain;
use super::worker::Answer;

/// Something that has to hold for an answer; counted, and no failure of the request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Check {
    pub(crate) name: String,
    pub(crate) what: Condition,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Condition {
    Status(Vec<u16>),
    /// From sending to the end of the answer.
    LatencyBelow(Duration),
    BodyContains(String),
    /// The value at a JSON pointer.
    JsonEquals(String, Value),
    JsonExists(String),
}

impl Check {
    pub(crate) fn needs_body(&self) -> bool {
        !matches!(self.what, Condition::Status(_) | Condition::LatencyBelow(_))
    }

    /// # Errors
    /// What the answer was like instead.
    pub(crate) fn hold(&self, answer: Option<&Answer>, latency: Duration) -> Result<(), String> {
        let answer = answer.ok_or_else(|| "there was no answer".to_owned())?;
        let found = match &self.what {
            Condition::Status(allowed) if allowed.contains(&answer.status) => return Ok(()),
            Condition::Status(_) => format!("status {}", answer.status),
            Condition::LatencyBelow(limit) if latency < *limit => return Ok(()),
            Condition::LatencyBelow(_) => format!("{latency:?}"),
            Condition::BodyContains(part) => {
                let body = String::from_utf8_lossy(&answer.body);
                if body.contains(part) {
                    return Ok(());
                }
                format!("body `{}`", start_of(&body))
            }
            Condition::JsonEquals(pointer, expected) => match json(answer)?.pointer(pointer) {
                Some(value) if value == expected => return Ok(()),
                Some(value) => format!("{pointer} is {}", start_of(&value.to_string())),
                None => format!("there is no {pointer}"),
            },
            Condition::JsonExists(pointer) => match json(answer)?.pointer(pointer) {
                Some(_) => return Ok(()),
                None => format!("there is no {pointer}"),
            },
        };
        Err(found)
    }
}

/// A value of an answer that later requests use.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Extract {
    pub(crate) name: String,
    pub(crate) from: Place,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Place {
    Json(String),
    Header(HeaderName),
}

impl Extract {
    pub(crate) fn from(&self, answer: &Answer) -> Option<String> {
        match &self.from {
            Place::Json(pointer) => json(answer).ok()?.pointer(pointer).map(plain),
            Place::Header(name) => Some(answer.headers.get(name)?.to_str().ok()?.to_owned()),
        }
    }
}

fn json(answer: &Answer) -> Result<Value, String> {
    serde_json::from_slice(&answer.body).map_err(|_| "the body is no JSON".to_owned())
}

/// As much of a body as a report has room for.
fn start_of(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_tell_what_was_found_instead() {
        let answer = Answer {
            status: 201,
            body: br#"{"order":{"id":7,"state":"done"}}"#.as_slice().into(),
            ..Answer::default()
        };
        let check = |what: Condition, expected: Result<(), &str>| {
            let check = Check {
                name: String::new(),
                what,
            };
            let result = check.hold(Some(&answer), Duration::from_millis(5));
            assert_eq!(result, expected.map_err(str::to_owned), "{check:?}");
        };
        let pointer = || "/order/state".to_owned();
        check(Condition::Status(vec![200, 201]), Ok(()));
        check(Condition::Status(vec![200]), Err("status 201"));
        check(Condition::LatencyBelow(Duration::from_millis(6)), Ok(()));
        check(
            Condition::LatencyBelow(Duration::from_millis(5)),
            Err("5ms"),
        );
        check(Condition::BodyContains("done".to_owned()), Ok(()));
        check(Condition::JsonEquals(pointer(), "done".into()), Ok(()));
        check(
            Condition::JsonEquals(pointer(), 7.into()),
            Err("/order/state is \"done\""),
        );
        check(Condition::JsonExists("/order/id".to_owned()), Ok(()));
        check(
            Condition::JsonExists("/x".to_owned()),
            Err("there is no /x"),
        );
        let extract = Extract {
            name: String::new(),
            from: Place::Json("/order/id".to_owned()),
        };
        assert_eq!(extract.from(&answer).as_deref(), Some("7"));
    }
}
