//! `google.rpc.Status` with its retry hint, as protobuf and as JSON, and the codes that go with HTTP statuses.

use std::time::Duration;

use http::StatusCode;
use prost::encoding::{WireType, bytes, encode_key, encode_varint, int32, int64, string};
use tonic::Code;

const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";

/// The gRPC code in the body of an HTTP error.
pub(super) fn code_of(status: StatusCode) -> Code {
    match status.as_u16() {
        // 413 is about the request, as 400 is.
        400 | 413 => Code::InvalidArgument,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::NotFound,
        408 => Code::DeadlineExceeded,
        429 => Code::ResourceExhausted,
        502..=504 => Code::Unavailable,
        _ => Code::Unknown,
    }
}

/// Whole seconds for `Retry-After`, rounded up: never 0, which would invite a client at once.
pub(super) fn whole_seconds(delay: Duration) -> u64 {
    (delay.as_secs() + u64::from(delay.subsec_nanos() > 0)).max(1)
}

/// A `google.rpc.Status` in wire format, with `google.rpc.RetryInfo` where there is a hint.
pub(super) fn to_protobuf(code: Code, message: &str, retry_after: Option<Duration>) -> Vec<u8> {
    let mut status = Vec::with_capacity(message.len() + 80);
    int32::encode(1, &i32::from(code), &mut status);
    if !message.is_empty() {
        string::encode(2, &message.to_owned(), &mut status);
    }
    if let Some(delay) = retry_after {
        let mut detail = Vec::with_capacity(64);
        string::encode(1, &RETRY_INFO.to_owned(), &mut detail);
        bytes::encode(2, &retry_info(delay), &mut detail);
        nested(3, &detail, &mut status);
    }
    status
}

/// `google.rpc.RetryInfo{retry_delay}`.
fn retry_info(delay: Duration) -> Vec<u8> {
    let mut duration = Vec::with_capacity(16);
    int64::encode(
        1,
        &i64::try_from(delay.as_secs()).unwrap_or(i64::MAX),
        &mut duration,
    );
    if delay.subsec_nanos() > 0 {
        // Under 10^9, so it fits.
        int32::encode(2, &(delay.subsec_nanos() as i32), &mut duration);
    }
    let mut info = Vec::with_capacity(duration.len() + 2);
    nested(1, &duration, &mut info);
    info
}

pub(super) fn nested(field: u32, message: &[u8], out: &mut Vec<u8>) {
    encode_key(field, WireType::LengthDelimited, out);
    encode_varint(message.len() as u64, out);
    out.extend_from_slice(message);
}

/// The same in protobuf's JSON form.
pub(super) fn to_json(code: Code, message: &str, retry_after: Option<Duration>) -> Vec<u8> {
    let mut status = serde_json::json!({ "code": i32::from(code), "message": message });
    if let (Some(delay), Some(fields)) = (retry_after, status.as_object_mut()) {
        let seconds = format!("{}s", delay.as_secs_f64());
        let details = serde_json::json!([{ "@type": RETRY_INFO, "retryDelay": seconds }]);
        fields.insert("details".to_owned(), details);
    }
    status.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    #[derive(Clone, PartialEq, Message)]
    struct Any {
        #[prost(string, tag = "1")]
        type_url: String,
        #[prost(bytes = "vec", tag = "2")]
        value: Vec<u8>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct Status {
        #[prost(int32, tag = "1")]
        code: i32,
        #[prost(string, tag = "2")]
        message: String,
        #[prost(message, repeated, tag = "3")]
        details: Vec<Any>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct Delay {
        #[prost(int64, tag = "1")]
        seconds: i64,
        #[prost(int32, tag = "2")]
        nanos: i32,
    }

    #[derive(Clone, PartialEq, Message)]
    struct RetryInfo {
        #[prost(message, optional, tag = "1")]
        retry_delay: Option<Delay>,
    }

    #[test]
    fn a_status_reads_back_with_its_hint() {
        let check = |delay: Option<Duration>, expected: Option<(i64, i32)>| {
            let bytes = to_protobuf(Code::Unavailable, "full", delay);
            let status = Status::decode(bytes.as_slice()).unwrap();
            assert_eq!((status.code, status.message.as_str()), (14, "full"));
            let hint = status.details.first().map(|detail| {
                assert_eq!(detail.type_url, RETRY_INFO);
                let info = RetryInfo::decode(detail.value.as_slice()).unwrap();
                let delay = info.retry_delay.unwrap();
                (delay.seconds, delay.nanos)
            });
            assert_eq!(hint, expected);
        };
        check(None, None);
        check(Some(Duration::from_secs(3)), Some((3, 0)));
        check(Some(Duration::from_millis(250)), Some((0, 250_000_000)));
        check(Some(Duration::ZERO), Some((0, 0)));
    }

    #[test]
    fn the_json_form_is_that_of_protobuf() {
        let check = |delay, expected: &str| {
            let text = to_json(Code::InvalidArgument, "a \"b\"", delay);
            assert_eq!(String::from_utf8(text).unwrap(), expected);
        };
        check(None, r#"{"code":3,"message":"a \"b\""}"#);
        check(
            Some(Duration::from_millis(1500)),
            r#"{"code":3,"details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"1.5s"}],"message":"a \"b\""}"#,
        );
    }

    #[test]
    fn retry_after_is_at_least_a_second() {
        let check = |ms, expected| assert_eq!(whole_seconds(Duration::from_millis(ms)), expected);
        check(0, 1);
        check(1, 1);
        check(1000, 1);
        check(1001, 2);
        check(60_000, 60);
    }
}
