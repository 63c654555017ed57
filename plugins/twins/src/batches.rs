//! Batches: random ones, and one as services send them.

use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue,
};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::{Logs, Traces, string};

fn attribute(key: String, value: AnyValue) -> KeyValue {
    KeyValue {
        key,
        value: Some(value),
        ..KeyValue::default()
    }
}

/// Texts with and without something to take out, short and long.
fn words() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z@. é]{0,12}",
        "[a-z]{0,3} ?[a-z.]{1,4}@[a-z]{1,4}\\.[a-z]{1,3}",
        "[0-9 ]{14,20}",
        "[a-z]{120,140}",
    ]
}

fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    let word = || words().prop_map(|text| string(&text));
    let list = vec(word(), 0..3).prop_map(|values| AnyValue {
        value: Some(Any::ArrayValue(ArrayValue { values })),
    });
    let number = any::<i64>().prop_map(|number| AnyValue {
        value: Some(Any::IntValue(number)),
    });
    let value = prop_oneof![4 => word(), 1 => list, 1 => number];
    // Keys that are hashed have texts, as that is what the twin can hash.
    let pairs = proptest::collection::btree_map("[abcd]|k{130}", value, 0..5);
    (pairs, proptest::option::of(words())).prop_map(|(pairs, user)| {
        let pairs = pairs.into_iter();
        let user = user.map(|text| attribute("user".to_owned(), string(&text)));
        let pairs = pairs.map(|(key, value)| attribute(key, value));
        pairs.chain(user).collect()
    })
}

fn resource() -> impl Strategy<Value = Option<Resource>> {
    proptest::option::of(attributes().prop_map(|attributes| Resource {
        attributes,
        ..Resource::default()
    }))
}

fn scope() -> impl Strategy<Value = Option<InstrumentationScope>> {
    proptest::option::of(attributes().prop_map(|attributes| InstrumentationScope {
        name: "s".to_owned(),
        attributes,
        ..InstrumentationScope::default()
    }))
}

fn span() -> impl Strategy<Value = Span> {
    let id = prop_oneof![3 => vec(any::<u8>(), 16), 1 => Just(Vec::new())];
    let parts = (vec(attributes(), 0..2), vec(attributes(), 0..2));
    let state = prop_oneof![3 => "", 1 => "vendor=[a-z]{1,3}"];
    ("[xyz]{1,2}", id, state, attributes(), parts).prop_map(
        |(name, trace_id, trace_state, attributes, (events, links))| Span {
            trace_id,
            trace_state,
            name,
            attributes,
            events: events
                .into_iter()
                .map(|attributes| Event {
                    name: "e".to_owned(),
                    attributes,
                    ..Event::default()
                })
                .collect(),
            links: links
                .into_iter()
                .map(|attributes| Link {
                    attributes,
                    ..Link::default()
                })
                .collect(),
            ..Span::default()
        },
    )
}

/// Random spans.
pub fn traces() -> impl Strategy<Value = Traces> {
    let scopes = (scope(), vec(span(), 0..4)).prop_map(|(scope, spans)| ScopeSpans {
        scope,
        spans,
        ..ScopeSpans::default()
    });
    let groups =
        (resource(), vec(scopes, 0..3)).prop_map(|(resource, scope_spans)| ResourceSpans {
            resource,
            scope_spans,
            ..ResourceSpans::default()
        });
    vec(groups, 0..3).prop_map(|resource_spans| Traces { resource_spans })
}

/// Random log records.
pub fn logs() -> impl Strategy<Value = Logs> {
    let record = (words(), attributes()).prop_map(|(body, attributes)| LogRecord {
        body: Some(string(&body)),
        attributes,
        ..LogRecord::default()
    });
    let scopes = (scope(), vec(record, 0..4)).prop_map(|(scope, log_records)| ScopeLogs {
        scope,
        log_records,
        ..ScopeLogs::default()
    });
    let groups = (resource(), vec(scopes, 0..3)).prop_map(|(resource, scope_logs)| ResourceLogs {
        resource,
        scope_logs,
        ..ResourceLogs::default()
    });
    vec(groups, 0..3).prop_map(|resource_logs| Logs { resource_logs })
}

/// 1,000 spans of about 400 bytes with 10 attributes each: those that `tidegate plugin bench` measures with.
pub fn usual() -> Traces {
    let text = |key: &str, value: &str| attribute(key.to_owned(), string(value));
    let other = |key: &str, value| attribute(key.to_owned(), AnyValue { value: Some(value) });
    let span = |number: u64| Span {
        trace_id: u128::from(number / 8 + 1).to_be_bytes().to_vec(),
        span_id: (number + 1).to_be_bytes().to_vec(),
        parent_span_id: number.to_be_bytes().to_vec(),
        name: "GET /api/checkout".to_owned(),
        kind: 2,
        start_time_unix_nano: 1_767_225_600_000_000_000 + number,
        end_time_unix_nano: 1_767_225_600_003_000_000 + number,
        attributes: vec![
            text("http.request.method", "GET"),
            text("url.path", "/api/checkout"),
            text("url.scheme", "https"),
            text("server.address", "shop.example.org"),
            other("http.response.status_code", Any::IntValue(200)),
            text("network.protocol.version", "1.1"),
            text("user_agent.original", "Mozilla/5.0 (X11; Linux x86_64)"),
            text("client.address", "192.0.2.17"),
            other("retried", Any::BoolValue(false)),
            text("customer", &format!("customer-{number:06}")),
        ],
        ..Span::default()
    };
    Traces {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource {
                attributes: vec![text("service.name", "shop")],
                ..Resource::default()
            }),
            scope_spans: vec![ScopeSpans {
                scope: Some(InstrumentationScope {
                    name: "bench".to_owned(),
                    ..InstrumentationScope::default()
                }),
                spans: (0..1000).map(span).collect(),
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    }
}
