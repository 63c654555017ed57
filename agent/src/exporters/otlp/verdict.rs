//! What an answer means for the batch: delivered, try again, or never.
//!
//! Source: the OTLP specification, "OTLP/gRPC Response" and "OTLP/HTTP Response", and gRPC's mapping of HTTP statuses.

use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use http::header::HeaderMap;
use http::{HeaderValue, StatusCode};
use tonic::Code;

use super::endpoint::percent_decoded;
use crate::component::Outcome;
use crate::exporters::hint::{HINT_MAX, retry_after};
use crate::otlp::{Fields, Value, WireError};

/// Messages are cut here: some servers answer with a page.
const MESSAGE_MAX: usize = 600;

/// How a gRPC call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GrpcStatus {
    code: Code,
    message: String,
    retry_after: Option<Duration>,
}

impl GrpcStatus {
    /// The status in a response's trailers, or in its headers where it has no more; `None` where there is none.
    pub(super) fn find(headers: &HeaderMap) -> Option<Self> {
        let code = Code::from_bytes(headers.get("grpc-status")?.as_bytes());
        let text = |value: &HeaderValue| value.to_str().map(percent_decoded).unwrap_or_default();
        let details = headers.get("grpc-status-details-bin");
        Some(Self {
            code,
            message: cut(&headers.get("grpc-message").map(text).unwrap_or_default()),
            retry_after: details.and_then(|value| retry_info(&decode_base64(value)?)),
        })
    }

    /// What it means for the batch.
    pub(super) fn outcome(&self) -> Outcome {
        let Self {
            code,
            message,
            retry_after,
        } = self;
        let cause = format!("{} ({})", name_of(*code), message);
        match code {
            Code::Ok => Outcome::Delivered,
            Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unavailable
            | Code::DataLoss => Outcome::Retry {
                cause,
                after: *retry_after,
            },
            Code::ResourceExhausted if retry_after.is_some() => Outcome::Retry {
                cause,
                after: *retry_after,
            },
            // The far side does not let us in, or has no such service: that is no fault of the data, and an operator can
            // put it right.
            Code::Unauthenticated
            | Code::PermissionDenied
            | Code::Unimplemented
            | Code::NotFound => Outcome::Retry { cause, after: None },
            Code::ResourceExhausted => Outcome::TooLarge {
                cause: format!(
                    "{cause}: without a hint when to try again this means that the request is too large for the far \
                     side; set send_batch_max_size on `batch`, or raise the far side's limit"
                ),
            },
            _ => Outcome::rejected(cause),
        }
    }
}

/// What a response means that has no gRPC status: something between us and the server gave it.
pub(super) fn of_no_grpc_status(status: StatusCode, headers: &HeaderMap) -> Outcome {
    let cause = format!("no gRPC status, but HTTP {status}");
    match status.as_u16() {
        400 => Outcome::rejected(cause),
        // The rest says nothing about the data.
        _ => Outcome::Retry {
            cause,
            after: retry_after(headers, SystemTime::now()),
        },
    }
}

/// What an HTTP response means.
pub(super) fn of_http(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Outcome {
    if status.is_success() {
        return Outcome::Delivered;
    }
    let message = http_message(headers, body);
    let cause = match message.as_str() {
        "" => format!("HTTP {status}"),
        message => format!("HTTP {status} ({message})"),
    };
    match status.as_u16() {
        // 408 is not in OTLP's list: it says that the request came too slowly, and nothing about the data.
        408 | 429 | 502 | 503 | 504 => Outcome::Retry {
            cause,
            after: retry_after(headers, SystemTime::now()),
        },
        // As with gRPC: no fault of the data.
        401 | 403 | 404 | 405 => Outcome::Retry { cause, after: None },
        413 => Outcome::TooLarge {
            cause: format!(
                "{cause}: the request is too large for the far side; set send_batch_max_size on `batch`, or raise the \
                 far side's limit"
            ),
        },
        _ => Outcome::rejected(cause),
    }
}

/// The message of a `google.rpc.Status`, or the body itself where it is text.
fn http_message(headers: &HeaderMap, body: &[u8]) -> String {
    let kind = headers
        .get(http::header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let message = if kind.starts_with("application/x-protobuf") {
        text_field(body, 2).unwrap_or_default()
    } else if kind.starts_with("application/json") {
        serde_json::from_slice::<serde_json::Value>(body)
            .ok()
            .and_then(|status| Some(status.get("message")?.as_str()?.to_owned()))
            .unwrap_or_else(|| String::from_utf8_lossy(body).into_owned())
    } else {
        String::from_utf8_lossy(body).into_owned()
    };
    cut(message.trim())
}

fn text_field(message: &[u8], number: u32) -> Option<String> {
    Fields::new(message)
        .filter_map(Result::ok)
        .find_map(|field| match field.value {
            Value::Bytes(bytes) if field.number == number => {
                Some(String::from_utf8_lossy(bytes).into_owned())
            }
            _ => None,
        })
}

fn cut(text: &str) -> String {
    let printable = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    printable.take(MESSAGE_MAX).collect()
}

/// Base64 with its padding or without, as gRPC has both.
fn decode_base64(value: &HeaderValue) -> Option<Vec<u8>> {
    let text = value.as_bytes();
    STANDARD_NO_PAD
        .decode(text)
        .or_else(|_| STANDARD.decode(text))
        .ok()
}

/// The delay in the `google.rpc.RetryInfo` among the details of a `google.rpc.Status`.
fn retry_info(status: &[u8]) -> Option<Duration> {
    let is_retry_info = |detail: &&[u8]| {
        let kind = bytes_fields(detail, 1).next();
        kind.is_some_and(|kind| kind.ends_with(b"/google.rpc.RetryInfo"))
    };
    let detail = bytes_fields(status, 3).find(is_retry_info)?;
    let info = bytes_fields(detail, 2).next().unwrap_or_default();
    let delay = bytes_fields(info, 1).next().unwrap_or_default();
    // A negative number, or nanoseconds beyond a second, is a mistake; the limit takes care of it.
    let seconds = varint_field(delay, 1).ok()?;
    let nanos = u32::try_from(varint_field(delay, 2).ok()?).unwrap_or_default();
    let delay = Duration::from_secs(seconds).saturating_add(Duration::from_nanos(nanos.into()));
    Some(delay.min(HINT_MAX))
}

fn bytes_fields(message: &[u8], number: u32) -> impl Iterator<Item = &[u8]> {
    Fields::new(message)
        .filter_map(Result::ok)
        .filter_map(move |field| match field.value {
            Value::Bytes(bytes) if field.number == number => Some(bytes),
            _ => None,
        })
}

/// The last value of a number; 0 where there is none.
pub(super) fn varint_field(message: &[u8], number: u32) -> Result<u64, WireError> {
    let mut found = 0;
    for field in Fields::new(message) {
        let field = field?;
        if let Value::Varint(value) = field.value
            && field.number == number
        {
            found = value;
        }
    }
    Ok(found)
}

/// The name as the specification writes it.
fn name_of(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| ((*name).parse().unwrap(), value.parse().unwrap()))
            .map(|(name, value): (http::HeaderName, HeaderValue)| (name, value))
            .collect()
    }

    /// `delivered`, `rejected`, `retry`, or `retry` and the seconds of the hint.
    fn short(outcome: &Outcome) -> String {
        match outcome {
            Outcome::Delivered => "delivered".to_owned(),
            Outcome::Rejected { .. } => "rejected".to_owned(),
            Outcome::TooLarge { .. } => "too large".to_owned(),
            Outcome::Retry { after: None, .. } => "retry".to_owned(),
            Outcome::Retry {
                after: Some(delay), ..
            } => format!("retry {}", delay.as_secs_f64()),
        }
    }

    /// What the tests' `RetryInfo` of 1.5 s looks like, made with the agent's own receiver's words.
    fn retry_details(seconds: u8) -> Vec<u8> {
        let kind = b"type.googleapis.com/google.rpc.RetryInfo";
        let info = [&[0x0a, 2, 0x08, seconds][..]].concat();
        let mut detail = vec![0x0a, kind.len() as u8];
        detail.extend_from_slice(kind);
        detail.extend_from_slice(&[0x12, info.len() as u8]);
        detail.extend_from_slice(&info);
        let mut status = vec![0x08, 14, 0x1a, detail.len() as u8];
        status.extend_from_slice(&detail);
        status
    }

    #[test]
    fn grpc_codes_mean_what_the_specification_says() {
        let check = |code: &str, details: Option<&[u8]>, expected: &str| {
            let mut found = headers(&[("grpc-status", code), ("grpc-message", "why%3F")]);
            if let Some(details) = details {
                let text = STANDARD_NO_PAD.encode(details);
                found.insert("grpc-status-details-bin", text.parse().unwrap());
            }
            let status = GrpcStatus::find(&found).unwrap();
            assert_eq!(status.message, "why?");
            assert_eq!(short(&status.outcome()), expected, "{code}");
        };
        check("0", None, "delivered");
        for code in ["1", "4", "10", "11", "14", "15"] {
            check(code, None, "retry");
            check(code, Some(&retry_details(7)), "retry 7");
        }
        check("8", None, "too large");
        check("8", Some(&retry_details(2)), "retry 2");
        check("8", Some(&retry_details(0)), "retry 0");
        for code in ["5", "7", "12", "16"] {
            check(code, None, "retry");
        }
        for code in ["2", "3", "6", "9", "13", "99", "x"] {
            check(code, None, "rejected");
            check(code, Some(&retry_details(7)), "rejected");
        }
        // Damaged details are no hint, and no reason to fall over.
        check("14", Some(b"\xff\xff\xff"), "retry");
        check("8", Some(b""), "too large");
    }

    #[test]
    fn damaged_status_headers_are_survived() {
        let check = |name: &'static str, value: &str| {
            let mut found = headers(&[("grpc-status", "14")]);
            found.insert(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
            assert_eq!(short(&GrpcStatus::find(&found).unwrap().outcome()), "retry");
        };
        check("grpc-status-details-bin", "!!!");
        check("grpc-status-details-bin", "A");
        check("grpc-message", "%zz%e");
        check("grpc-message", "\u{ff}%ff");
        assert_eq!(GrpcStatus::find(&HeaderMap::new()), None);
    }

    #[test]
    fn what_stands_between_is_told_apart_from_the_server() {
        let check = |status: u16, expected: &str| {
            let status = StatusCode::from_u16(status).unwrap();
            let hint = headers(&[("retry-after", "3")]);
            assert_eq!(
                short(&of_no_grpc_status(status, &hint)),
                expected,
                "{status}"
            );
        };
        check(200, "retry 3");
        check(400, "rejected");
        check(401, "retry 3");
        check(404, "retry 3");
        check(502, "retry 3");
        check(503, "retry 3");
        check(500, "retry 3");
    }

    #[test]
    fn http_statuses_mean_what_the_specification_says() {
        let check = |status: u16, hint: &str, expected: &str| {
            let status = StatusCode::from_u16(status).unwrap();
            let found = match hint {
                "" => HeaderMap::new(),
                hint => headers(&[("retry-after", hint)]),
            };
            assert_eq!(short(&of_http(status, &found, b"")), expected, "{status}");
        };
        check(200, "", "delivered");
        check(202, "", "delivered");
        for status in [408, 429, 502, 503, 504] {
            check(status, "", "retry");
            check(status, "12", "retry 12");
            check(status, "soon", "retry");
            check(status, "-1", "retry");
        }
        for status in [401, 403, 404, 405] {
            check(status, "", "retry");
        }
        check(413, "", "too large");
        for status in [301, 307, 400, 415, 500, 501] {
            check(status, "", "rejected");
            check(status, "12", "rejected");
        }
        check(503, "Thu, 01 Jan 1970 00:00:00 GMT", "retry 0");
        check(503, "Fri, 31 Dec 9999 23:59:59 GMT", "retry 3600");
        check(503, "99999999999", "retry 3600");
    }

    #[test]
    fn causes_tell_what_the_server_said() {
        let check = |kind: &str, body: &[u8], expected: &str| {
            let found = headers(&[("content-type", kind)]);
            let outcome = of_http(StatusCode::BAD_REQUEST, &found, body);
            let Outcome::Rejected { cause, .. } = outcome else {
                panic!("{outcome:?}");
            };
            assert_eq!(cause, expected);
        };
        check(
            "application/x-protobuf",
            b"\x08\x03\x12\x02no",
            "HTTP 400 Bad Request (no)",
        );
        check(
            "application/x-protobuf",
            b"\xff\xff",
            "HTTP 400 Bad Request",
        );
        check(
            "application/json",
            br#"{"code":3,"message":"no"}"#,
            "HTTP 400 Bad Request (no)",
        );
        check("application/json", b"oops", "HTTP 400 Bad Request (oops)");
        check("text/plain", b"no\nway\n", "HTTP 400 Bad Request (no way)");
        let page = "x".repeat(100_000);
        let outcome = of_http(StatusCode::BAD_GATEWAY, &HeaderMap::new(), page.as_bytes());
        assert!(matches!(outcome, Outcome::Retry { cause, .. } if cause.len() < 700));
    }

    #[test]
    fn too_large_is_named() {
        let status = GrpcStatus::find(&headers(&[("grpc-status", "8")])).unwrap();
        let http = of_http(StatusCode::PAYLOAD_TOO_LARGE, &HeaderMap::new(), b"");
        for outcome in [status.outcome(), http] {
            assert!(matches!(outcome, Outcome::TooLarge { cause } if cause.contains("too large")));
        }
    }
}
