//! `Export*ServiceResponse`: all was taken, or all but some items (partial success).

use bytes::Bytes;
use prost::encoding::{int64, string};

use super::status::nested;
use crate::ack::Rejected;
use crate::signal::Signal;

/// All was taken, in JSON, as the Collector writes it.
const EMPTY_JSON: &[u8] = br#"{"partialSuccess":{}}"#;

/// The response in wire format. It is the same for all signals.
pub(super) fn to_protobuf(rejected: Option<&Rejected>) -> Bytes {
    let Some(rejected) = rejected else {
        return Bytes::new();
    };
    let text = rejected.message.as_ref().to_owned();
    let mut partial = Vec::with_capacity(text.len() + 16);
    int64::encode(1, &count(rejected), &mut partial);
    string::encode(2, &text, &mut partial);
    let mut response = Vec::with_capacity(partial.len() + 4);
    nested(1, &partial, &mut response);
    response.into()
}

/// The response in protobuf's JSON form, which has 64-bit numbers as text.
pub(super) fn to_json(signal: Signal, rejected: Option<&Rejected>) -> Bytes {
    let Some(rejected) = rejected else {
        return Bytes::from_static(EMPTY_JSON);
    };
    let field = match signal {
        Signal::Traces => "rejectedSpans",
        Signal::Metrics => "rejectedDataPoints",
        Signal::Logs => "rejectedLogRecords",
    };
    let partial =
        serde_json::json!({ field: count(rejected).to_string(), "errorMessage": rejected.message });
    let response = serde_json::json!({ "partialSuccess": partial });
    response.to_string().into_bytes().into()
}

fn count(rejected: &Rejected) -> i64 {
    i64::try_from(rejected.items).unwrap_or(i64::MAX)
}
