//! Edits in place against the plain way: decode with prost, change the objects, compare what both mean.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest as Logs;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest as Metrics;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest as Traces;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::metric::Data as MetricData;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as PointValue;
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram,
    HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Summary,
    SummaryDataPoint,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;
use tidegate_plugin::testing::apply;
use tidegate_plugin::{Batch, Change, Data, Number, Signal};

// === Random batches ===

fn attribute(key: String, value: &str) -> KeyValue {
    KeyValue {
        key,
        value: Some(AnyValue {
            value: Some(Any::StringValue(value.to_owned())),
        }),
        ..KeyValue::default()
    }
}

/// Attributes with different keys, some of them as long as lengths need two bytes.
fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    let value = prop_oneof!["[a-z]{0,5}", "[a-z]{120,140}"];
    proptest::collection::btree_map("[abcd]|k{130}", value, 0..4).prop_map(|pairs| {
        let pairs = pairs.into_iter();
        pairs.map(|(key, value)| attribute(key, &value)).collect()
    })
}

fn resource() -> impl Strategy<Value = Option<Resource>> {
    let some = attributes().prop_map(|attributes| Resource {
        attributes,
        dropped_attributes_count: 3,
        ..Resource::default()
    });
    proptest::option::of(some)
}

fn scope() -> impl Strategy<Value = Option<InstrumentationScope>> {
    let some = ("[a-z]{0,3}", attributes()).prop_map(|(name, attributes)| InstrumentationScope {
        name,
        attributes,
        ..InstrumentationScope::default()
    });
    proptest::option::of(some)
}

fn span() -> impl Strategy<Value = Span> {
    let parts = (vec(attributes(), 0..3), vec(attributes(), 0..3));
    ("[xyz]{1,2}", attributes(), parts, any::<u32>()).prop_map(
        |(name, attributes, (events, links), flags)| Span {
            trace_id: vec![1; 16],
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
                    span_id: vec![2; 8],
                    attributes,
                    ..Link::default()
                })
                .collect(),
            start_time_unix_nano: 7,
            flags,
            ..Span::default()
        },
    )
}

fn traces() -> impl Strategy<Value = Traces> {
    let scopes = (scope(), vec(span(), 0..4)).prop_map(|(scope, spans)| ScopeSpans {
        scope,
        spans,
        schema_url: "s".to_owned(),
    });
    let resources =
        (resource(), vec(scopes, 0..3)).prop_map(|(resource, scope_spans)| ResourceSpans {
            resource,
            scope_spans,
            schema_url: "r".to_owned(),
        });
    vec(resources, 0..3).prop_map(|resource_spans| Traces { resource_spans })
}

fn logs() -> impl Strategy<Value = Logs> {
    let record =
        ("[xyz]{1,2}", attributes(), 0..24_i32).prop_map(|(body, attributes, severity)| {
            LogRecord {
                body: attribute(String::new(), &body).value,
                severity_number: severity,
                attributes,
                event_name: "n".to_owned(),
                ..LogRecord::default()
            }
        });
    let scopes = (scope(), vec(record, 0..4)).prop_map(|(scope, log_records)| ScopeLogs {
        scope,
        log_records,
        ..ScopeLogs::default()
    });
    let resources =
        (resource(), vec(scopes, 0..3)).prop_map(|(resource, scope_logs)| ResourceLogs {
            resource,
            scope_logs,
            ..ResourceLogs::default()
        });
    vec(resources, 0..3).prop_map(|resource_logs| Logs { resource_logs })
}

fn exemplars(of: &[KeyValue]) -> Vec<Exemplar> {
    vec![Exemplar {
        filtered_attributes: of.to_vec(),
        ..Exemplar::default()
    }]
}

fn data() -> impl Strategy<Value = Option<MetricData>> {
    (0..6, vec(attributes(), 0..3)).prop_map(|(kind, points)| {
        let points = points.into_iter();
        let number = |attributes: Vec<KeyValue>| NumberDataPoint {
            exemplars: exemplars(&attributes),
            value: match attributes.len() {
                0 => None,
                1 => Some(PointValue::AsInt(-7)),
                _ => Some(PointValue::AsDouble(1.5)),
            },
            attributes,
            time_unix_nano: 5,
            ..NumberDataPoint::default()
        };
        Some(match kind {
            0 => MetricData::Gauge(Gauge {
                data_points: points.map(number).collect(),
            }),
            1 => MetricData::Sum(opentelemetry_proto::tonic::metrics::v1::Sum {
                data_points: points.map(number).collect(),
                is_monotonic: true,
                ..Default::default()
            }),
            2 => MetricData::Histogram(Histogram {
                data_points: points
                    .map(|attributes| HistogramDataPoint {
                        exemplars: exemplars(&attributes),
                        attributes,
                        bucket_counts: vec![1, 2],
                        explicit_bounds: vec![1.0],
                        ..HistogramDataPoint::default()
                    })
                    .collect(),
                aggregation_temporality: 2,
            }),
            3 => MetricData::ExponentialHistogram(ExponentialHistogram {
                data_points: points
                    .map(|attributes| ExponentialHistogramDataPoint {
                        exemplars: exemplars(&attributes),
                        attributes,
                        scale: 3,
                        ..ExponentialHistogramDataPoint::default()
                    })
                    .collect(),
                aggregation_temporality: 1,
            }),
            4 => MetricData::Summary(Summary {
                data_points: points
                    .map(|attributes| SummaryDataPoint {
                        attributes,
                        count: 9,
                        ..SummaryDataPoint::default()
                    })
                    .collect(),
            }),
            _ => return None,
        })
    })
}

fn metrics() -> impl Strategy<Value = Metrics> {
    let metric = ("[xyz]{1,2}", data()).prop_map(|(name, data)| Metric {
        name,
        data,
        unit: "By".to_owned(),
        ..Metric::default()
    });
    let scopes = (scope(), vec(metric, 0..4)).prop_map(|(scope, metrics)| ScopeMetrics {
        scope,
        metrics,
        ..ScopeMetrics::default()
    });
    let resources =
        (resource(), vec(scopes, 0..3)).prop_map(|(resource, scope_metrics)| ResourceMetrics {
            resource,
            scope_metrics,
            ..ResourceMetrics::default()
        });
    vec(resources, 0..3).prop_map(|resource_metrics| Metrics { resource_metrics })
}

// === Runs ===

/// What comes out, and whether nothing was changed.
fn run(signal: Signal, input: &[u8], change: impl FnOnce(&mut Batch<'_>)) -> (Vec<u8>, bool) {
    let mut batch = Batch::new(signal, input);
    change(&mut batch);
    let bytes = batch.to_bytes();
    let outcome = batch.into_outcome();
    let unchanged = outcome.data == Data::Unchanged;
    let applied = apply(input, outcome);
    assert_eq!(applied, bytes, "edits and bytes agree");
    (applied, unchanged)
}

fn set(attributes: &mut Vec<KeyValue>, key: &str, value: &str) {
    let new = attribute(key.to_owned(), value);
    match attributes.iter_mut().find(|pair| pair.key == key) {
        Some(pair) => *pair = new,
        None => attributes.push(new),
    }
}

/// All attribute lists of a span.
fn lists_of_span(span: &mut Span) -> Vec<&mut Vec<KeyValue>> {
    let events = span.events.iter_mut().map(|event| &mut event.attributes);
    let links = span.links.iter_mut().map(|link| &mut link.attributes);
    std::iter::once(&mut span.attributes)
        .chain(events)
        .chain(links)
        .collect()
}

fn rename(attributes: &mut Vec<KeyValue>, from: &str, to: &str) {
    if attributes.iter().any(|pair| pair.key == from) {
        attributes.retain(|pair| pair.key != to);
    }
    for pair in attributes {
        if pair.key == from {
            to.clone_into(&mut pair.key);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn looking_changes_nothing(traces in traces(), logs in logs(), metrics in metrics()) {
        let all = [
            (Signal::Traces, traces.encode_to_vec()),
            (Signal::Logs, logs.encode_to_vec()),
            (Signal::Metrics, metrics.encode_to_vec()),
        ];
        for (signal, input) in all {
            let (output, unchanged) = run(signal, &input, |batch| {
                batch.resources(|resource| assert_eq!(resource.attributes().get("?"), None));
                batch.scopes(|scope| assert!(!scope.name().contains('?')));
                batch.items(|item| assert!(!item.attributes().contains("?")));
                batch.attributes(|attributes| attributes.retain(|_, _| true));
                batch.metrics(|metric| assert!(!metric.name().is_empty()));
            });
            prop_assert!(unchanged);
            prop_assert_eq!(output, input);
        }
    }

    #[test]
    fn setting_means_the_same_on_spans(traces in traces(), value in "[a-z]{0,3}|[a-z]{130}") {
        let (output, _) = run(Signal::Traces, &traces.encode_to_vec(), |batch| {
            batch.spans(|span| span.attributes().set("b", &value));
            batch.resources(|resource| resource.attributes().set("c", &value));
        });
        let mut expected = traces;
        for group in &mut expected.resource_spans {
            set(&mut group.resource.get_or_insert_default().attributes, "c", &value);
            for span in group.scope_spans.iter_mut().flat_map(|scope| &mut scope.spans) {
                set(&mut span.attributes, "b", &value);
            }
        }
        prop_assert_eq!(Traces::decode(&*output).unwrap(), expected);
    }

    #[test]
    fn renaming_and_removing_mean_the_same_everywhere(traces in traces()) {
        let (output, _) = run(Signal::Traces, &traces.encode_to_vec(), |batch| {
            batch.attributes(|attributes| {
                attributes.rename("a", "b");
                attributes.remove("c");
            });
        });
        let mut expected = traces;
        for group in &mut expected.resource_spans {
            let mut lists = Vec::new();
            lists.extend(group.resource.as_mut().map(|it| &mut it.attributes));
            for scope in &mut group.scope_spans {
                lists.extend(scope.scope.as_mut().map(|it| &mut it.attributes));
                lists.extend(scope.spans.iter_mut().flat_map(lists_of_span));
            }
            for list in lists {
                rename(list, "a", "b");
                list.retain(|pair| pair.key != "c");
            }
        }
        prop_assert_eq!(Traces::decode(&*output).unwrap(), expected);
    }

    #[test]
    fn a_span_and_its_parts_change_together(traces in traces()) {
        let (output, _) = run(Signal::Traces, &traces.encode_to_vec(), |batch| {
            batch.spans(|span| {
                let name = format!("{} and more", span.name());
                span.set_name(&name);
                span.set_trace_state("k=v");
                span.attributes().update(|key, _| match key {
                    "a" => Change::text("changed"),
                    "b" => Change::Remove,
                    _ => Change::Keep,
                });
            });
            batch.events(|event| event.set_name("event"));
        });
        let mut expected = traces;
        let scopes = expected.resource_spans.iter_mut().flat_map(|group| &mut group.scope_spans);
        for span in scopes.flat_map(|scope| &mut scope.spans) {
            span.name += " and more";
            span.trace_state = "k=v".to_owned();
            span.attributes.retain(|pair| pair.key != "b");
            if span.attributes.iter().any(|pair| pair.key == "a") {
                set(&mut span.attributes, "a", "changed");
            }
            for event in &mut span.events {
                event.name = "event".to_owned();
            }
        }
        prop_assert_eq!(Traces::decode(&*output).unwrap(), expected);
    }

    #[test]
    fn dropped_items_go_with_what_holds_nothing_else(logs in logs()) {
        let before: usize = logs.resource_logs.iter().flat_map(|group| &group.scope_logs)
            .map(|scope| scope.log_records.len()).sum();
        let input = logs.encode_to_vec();
        let mut batch = Batch::new(Signal::Logs, &input);
        batch.log_records(|record| {
            if record.severity() < 12 {
                record.drop("debug");
            } else {
                record.set_severity(24, "FATAL");
            }
        });
        let outcome = batch.into_outcome();
        let lost: u64 = outcome.losses.iter().map(|lost| lost.items).sum();
        let output = apply(&input, outcome);
        let mut expected = logs;
        expected.resource_logs.retain_mut(|group| {
            let (mut gone, mut stay) = (0, 0);
            group.scope_logs.retain_mut(|scope| {
                let before = scope.log_records.len();
                scope.log_records.retain(|record| record.severity_number >= 12);
                for record in &mut scope.log_records {
                    record.severity_number = 24;
                    record.severity_text = "FATAL".to_owned();
                }
                let is_gone = before > 0 && scope.log_records.is_empty();
                gone += usize::from(is_gone);
                stay += usize::from(!is_gone);
                !is_gone
            });
            gone == 0 || stay > 0
        });
        let output = Logs::decode(&*output).unwrap();
        let after: usize = output.resource_logs.iter().flat_map(|group| &group.scope_logs)
            .map(|scope| scope.log_records.len()).sum();
        prop_assert_eq!(output, expected);
        prop_assert_eq!(lost as usize, before - after);
    }

    #[test]
    fn metrics_change_at_every_level(metrics in metrics()) {
        let (output, _) = run(Signal::Metrics, &metrics.encode_to_vec(), |batch| {
            batch.metrics(|metric| metric.set_unit("MiBy"));
            batch.attributes(|attributes| {
                attributes.rename("a", "z");
            });
        });
        let mut expected = metrics;
        for group in &mut expected.resource_metrics {
            if let Some(resource) = &mut group.resource {
                rename(&mut resource.attributes, "a", "z");
            }
            for scope in &mut group.scope_metrics {
                if let Some(scope) = &mut scope.scope {
                    rename(&mut scope.attributes, "a", "z");
                }
                for metric in &mut scope.metrics {
                    metric.unit = "MiBy".to_owned();
                    for list in lists_of_metric(metric) {
                        rename(list, "a", "z");
                    }
                }
            }
        }
        prop_assert_eq!(Metrics::decode(&*output).unwrap(), expected);
    }

    #[test]
    fn values_of_points_change(metrics in metrics()) {
        let (output, _) = run(Signal::Metrics, &metrics.encode_to_vec(), |batch| {
            batch.data_points(|point| match point.value() {
                None => point.set_value(3_i64),
                Some(Number::Int(value)) => point.set_value(value as f64),
                Some(Number::Double(_)) => point.set_value(i64::MIN),
            });
        });
        let mut expected = metrics;
        let groups = expected.resource_metrics.iter_mut();
        let scopes = groups.flat_map(|group| &mut group.scope_metrics);
        for metric in scopes.flat_map(|scope| &mut scope.metrics) {
            let points = match &mut metric.data {
                Some(MetricData::Gauge(gauge)) => &mut gauge.data_points,
                Some(MetricData::Sum(sum)) => &mut sum.data_points,
                _ => continue,
            };
            for point in points {
                point.value = Some(match point.value {
                    None => PointValue::AsInt(3),
                    Some(PointValue::AsInt(value)) => PointValue::AsDouble(value as f64),
                    Some(PointValue::AsDouble(_)) => PointValue::AsInt(i64::MIN),
                });
            }
        }
        prop_assert_eq!(Metrics::decode(&*output).unwrap(), expected);
    }

    #[test]
    fn whatever_comes_in_nothing_breaks(bytes in vec(any::<u8>(), 0..200)) {
        for signal in Signal::ALL {
            let mut batch = Batch::new(*signal, &bytes);
            batch.attributes(|attributes| attributes.set("a", "b"));
            batch.items(|item| item.drop("all"));
            drop(batch.into_outcome());
        }
    }
}

fn lists_of_metric(metric: &mut Metric) -> Vec<&mut Vec<KeyValue>> {
    fn both<'a>(
        of: &'a mut Vec<KeyValue>,
        exemplars: &'a mut [Exemplar],
    ) -> impl Iterator<Item = &'a mut Vec<KeyValue>> {
        let exemplars = exemplars.iter_mut().map(|it| &mut it.filtered_attributes);
        std::iter::once(of).chain(exemplars)
    }
    match &mut metric.data {
        None => Vec::new(),
        Some(MetricData::Gauge(Gauge { data_points })) => data_points
            .iter_mut()
            .flat_map(|point| both(&mut point.attributes, &mut point.exemplars))
            .collect(),
        Some(MetricData::Sum(sum)) => sum
            .data_points
            .iter_mut()
            .flat_map(|point| both(&mut point.attributes, &mut point.exemplars))
            .collect(),
        Some(MetricData::Histogram(histogram)) => histogram
            .data_points
            .iter_mut()
            .flat_map(|point| both(&mut point.attributes, &mut point.exemplars))
            .collect(),
        Some(MetricData::ExponentialHistogram(histogram)) => histogram
            .data_points
            .iter_mut()
            .flat_map(|point| both(&mut point.attributes, &mut point.exemplars))
            .collect(),
        Some(MetricData::Summary(summary)) => summary
            .data_points
            .iter_mut()
            .map(|point| &mut point.attributes)
            .collect(),
    }
}
