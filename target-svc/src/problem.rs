//! Errors as `application/problem+json` (RFC 9457).

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::work::WorkError;

/// A refused request: the status, and what the client should know about it.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    detail: String,
}

#[derive(Serialize)]
struct Body<'a> {
    /// Nothing beyond the status code's own meaning.
    r#type: &'static str,
    title: &'a str,
    status: u16,
    detail: &'a str,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            status,
            detail: detail.into(),
        }
    }

    /// Text that is no JSON is 400; JSON of another shape or with numbers out of range is 422.
    pub(crate) fn of_json(error: &serde_json::Error) -> Self {
        let text = error.to_string();
        // serde_json calls this a syntax error, but 1e999 is well-formed JSON.
        let out_of_range = text.starts_with("number out of range");
        if error.is_data() || out_of_range {
            let detail = format!("the body must be {{\"a\":[numbers],\"b\":[numbers]}}: {text}");
            return Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail);
        }
        Self::new(
            StatusCode::BAD_REQUEST,
            format!("the body is not valid JSON: {text}"),
        )
    }
}

impl From<WorkError> for Problem {
    fn from(error: WorkError) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        tracing::warn!(
            http.response.status_code = i64::from(self.status.as_u16()),
            detail = self.detail,
            "refused"
        );
        let body = Body {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: &self.detail,
        };
        let kind = (
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        (self.status, [kind], body.to_json()).into_response()
    }
}

impl Body<'_> {
    fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings and a number have a JSON form")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::Addends;

    #[test]
    fn json_errors_have_a_status_each() {
        let check = |body: &str, expected: u16| {
            let error = serde_json::from_str::<Addends>(body).unwrap_err();
            assert_eq!(
                Problem::of_json(&error).status.as_u16(),
                expected,
                "{body}: {error}"
            );
        };
        check("", 400);
        check("{", 400);
        check("{\"a\":[1],\"b\":[1]} x", 400);
        check("{\"a\":[NaN],\"b\":[1]}", 400);
        check("{\"a\":[1,],\"b\":[1]}", 400);
        check("[]", 422);
        check("{}", 422);
        check("{\"a\":[1]}", 422);
        check("{\"a\":[1],\"b\":\"1\"}", 422);
        check("{\"a\":[null],\"b\":[1]}", 422);
        check("{\"a\":[1e999],\"b\":[1]}", 422);
        check("{\"a\":[1],\"a\":[1],\"b\":[1]}", 422);
    }
}
