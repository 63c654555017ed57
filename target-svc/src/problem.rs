//! Errors as `application/problem+json` (RFC 9457).

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::database::DatabaseError;
use crate::inventory::{ORDER_ID_CHARACTERS_MAX, ORDER_ID_PATTERN};
use crate::work::WorkError;

/// A request that was refused, or failed: the status, and what the client should know about it.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    detail: String,
    order_id: Option<String>,
    /// What the body's encoding may be, where it is not that.
    accept_encoding: Option<&'static str>,
}

/// The body of a problem.
#[derive(Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Problem")]
pub(crate) struct ProblemText {
    /// `about:blank`: nothing beyond the status code's own meaning.
    pub(crate) r#type: String,
    pub(crate) title: String,
    #[schemars(range(min = 400, max = 599))]
    pub(crate) status: u16,
    pub(crate) detail: String,
    /// The order it is about: sent again with this id, it is the same order.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = ORDER_ID_CHARACTERS_MAX), regex(pattern = ORDER_ID_PATTERN))]
    pub(crate) order_id: Option<String>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            status,
            detail: detail.into(),
            order_id: None,
            accept_encoding: None,
        }
    }

    #[cfg(test)]
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// Names the order, so that it can be sent again as the same one.
    pub(crate) fn about_order(mut self, id: String) -> Self {
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            self.detail += &format!("; try again with the same id, `{id}`");
        }
        self.order_id = Some(id);
        self
    }

    /// A body in another content coding than those that are undone.
    pub(crate) fn unsupported_coding(given: &str) -> Self {
        let detail = format!(
            "the content encoding must be `gzip` or `deflate`, or none, but it is `{given}`"
        );
        Self {
            accept_encoding: Some("gzip, deflate"),
            ..Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail)
        }
    }

    /// What may go well later.
    pub(crate) fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    }

    /// Text that is no JSON is 400; JSON of another shape or with numbers out of range is 422.
    pub(crate) fn of_json(error: &serde_json::Error, shape: &str) -> Self {
        let text = error.to_string();
        // serde_json calls this a syntax error, but 1e999 is well-formed JSON.
        let out_of_range = text.starts_with("number out of range");
        if error.is_data() || out_of_range {
            return Self::of_shape(shape, &text);
        }
        Self::new(
            StatusCode::BAD_REQUEST,
            format!("the body is not valid JSON: {text}"),
        )
    }

    /// JSON of another shape.
    pub(crate) fn of_shape(shape: &str, reason: &str) -> Self {
        let detail = format!("the body must be {shape}: {reason}");
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    }
}

impl From<WorkError> for Problem {
    fn from(error: WorkError) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string())
    }
}

impl From<DatabaseError> for Problem {
    fn from(error: DatabaseError) -> Self {
        Self::unavailable(match error {
            DatabaseError::Overloaded => "the database has too much to do".to_owned(),
            DatabaseError::Failed(reason) => format!("the database failed: {reason}"),
        })
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = i64::from(self.status.as_u16());
        if self.status.is_server_error() {
            tracing::error!(
                http.response.status_code = status,
                detail = self.detail,
                "failed"
            );
        } else {
            tracing::warn!(
                http.response.status_code = status,
                detail = self.detail,
                "refused"
            );
        }
        let body = ProblemText {
            r#type: "about:blank".to_owned(),
            title: self.status.canonical_reason().unwrap_or("Error").to_owned(),
            status: self.status.as_u16(),
            detail: self.detail,
            order_id: self.order_id,
        };
        let body = serde_json::to_string(&body).expect("strings and a number have a JSON form");
        let kind = HeaderValue::from_static("application/problem+json");
        let mut response = (self.status, [(header::CONTENT_TYPE, kind)], body).into_response();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            let after = HeaderValue::from_static("1");
            response.headers_mut().insert(header::RETRY_AFTER, after);
        }
        if let Some(codings) = self.accept_encoding {
            let codings = HeaderValue::from_static(codings);
            response
                .headers_mut()
                .insert(header::ACCEPT_ENCODING, codings);
        }
        response
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
                Problem::of_json(&error, "").status.as_u16(),
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
