use std::collections::HashSet;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{Gauge, Sum};
use opentelemetry_proto::tonic::trace::v1::Span;

use super::*;

const NOW: u64 = 1_800_000_000_000_000_000;

fn shape(signal: Signal, items: usize) -> Shape {
    Shape::natural(signal, items, "test", 1)
}

fn pool(shape: &Shape, size: usize) -> Pool {
    Pool::build(
        shape,
        size,
        Compression::None,
        Numbering::for_run("test"),
        NOW,
    )
    .unwrap()
}

fn spans(message: &[u8]) -> Vec<Span> {
    let request = ExportTraceServiceRequest::decode(message).unwrap();
    let scopes = request
        .resource_spans
        .into_iter()
        .flat_map(|resource| resource.scope_spans);
    scopes.flat_map(|scope| scope.spans).collect()
}

/// Item numbers and attribute counts of every item, and its last time.
fn items(signal: Signal, message: &[u8]) -> Vec<(u64, usize, u64)> {
    fn item(attributes: &[KeyValue], time: u64) -> (u64, usize, u64) {
        let attribute = attributes
            .iter()
            .find(|attribute| attribute.key == ITEM_KEY)
            .unwrap();
        let value = attribute.value.clone().unwrap().value.unwrap();
        let Value::IntValue(number) = value else {
            panic!("{value:?}")
        };
        (number.cast_unsigned() - FIRST_ITEM, attributes.len(), time)
    }
    match signal {
        Signal::Traces => spans(message)
            .iter()
            .map(|span| item(&span.attributes, span.end_time_unix_nano))
            .collect(),
        Signal::Logs => {
            let request = ExportLogsServiceRequest::decode(message).unwrap();
            let scopes = request
                .resource_logs
                .iter()
                .flat_map(|resource| &resource.scope_logs);
            let records = scopes.flat_map(|scope| &scope.log_records);
            records
                .map(|record| item(&record.attributes, record.time_unix_nano))
                .collect()
        }
        Signal::Metrics => {
            let request = ExportMetricsServiceRequest::decode(message).unwrap();
            let scopes = request
                .resource_metrics
                .iter()
                .flat_map(|resource| &resource.scope_metrics);
            let points = scopes.flat_map(|scope| &scope.metrics).flat_map(|metric| {
                match metric.data.as_ref().unwrap() {
                    Data::Gauge(Gauge { data_points }) | Data::Sum(Sum { data_points, .. }) => {
                        data_points
                            .iter()
                            .map(|point| item(&point.attributes, point.time_unix_nano))
                            .collect()
                    }
                    Data::Histogram(histogram) => {
                        let points = histogram.data_points.iter();
                        points
                            .map(|point| item(&point.attributes, point.time_unix_nano))
                            .collect::<Vec<_>>()
                    }
                    Data::ExponentialHistogram(histogram) => {
                        let points = histogram.data_points.iter();
                        points
                            .map(|point| item(&point.attributes, point.time_unix_nano))
                            .collect()
                    }
                    Data::Summary(summary) => {
                        let points = summary.data_points.iter();
                        points
                            .map(|point| item(&point.attributes, point.time_unix_nano))
                            .collect()
                    }
                }
            });
            points.collect()
        }
    }
}

#[test]
fn default_payloads_have_the_published_sizes() {
    let check = |signal, least: f64, most: f64| {
        let bytes = pool(&shape(signal, 1000), 64).facts().bytes_per_item;
        assert!(
            (least..=most).contains(&bytes),
            "{signal}: {bytes} bytes an item"
        );
    };
    check(Signal::Traces, 427.0 * 0.98, 427.0 * 1.02);
    check(Signal::Logs, 350.0, 430.0);
    check(Signal::Metrics, 190.0, 210.0);
}

#[test]
fn every_item_decodes_with_its_number_attributes_and_time() {
    for signal in Signal::ALL {
        for count in [1, 7, 100] {
            let mut pool = pool(&shape(signal, count), 2);
            let mut request = pool.take(count as u64).unwrap();
            request.stamp(Numbering::for_run("test"), 5_000_000, NOW + 77);
            let items = items(signal, &request.message());
            let numbers: Vec<_> = items.iter().map(|item| item.0).collect();
            assert_eq!(
                numbers,
                (5_000_000..5_000_000 + count as u64).collect::<Vec<_>>()
            );
            assert_eq!(signal.count(&request.message()), Ok(count as u64));
            for (_, attributes, time) in items {
                assert_eq!(attributes, Shape::default_attributes(signal));
                assert!((NOW - 2_000_000_000..NOW + 77).contains(&time), "{time}");
            }
        }
    }
}

#[test]
fn points_of_every_kind_of_metric_are_numbered() {
    use clap::ValueEnum as _;
    for kinds in MetricKind::value_variants()
        .chunks(1)
        .chain([MetricKind::value_variants()])
    {
        let shape = Shape {
            metric_kinds: kinds.to_vec(),
            ..shape(Signal::Metrics, 50)
        };
        let mut request = pool(&shape, 1).take(50).unwrap();
        request.stamp(Numbering::for_run("test"), 77, NOW);
        let items = items(Signal::Metrics, &request.message());
        let numbers: Vec<_> = items.iter().map(|item| item.0).collect();
        assert_eq!(numbers, (77..127).collect::<Vec<_>>(), "{kinds:?}");
        assert_eq!(Signal::Metrics.count(&request.message()), Ok(50));
    }
}

#[test]
fn string_values_are_as_many_as_asked() {
    let check = |cardinality, size: Option<usize>, expected: usize| {
        let shape = Shape {
            cardinality: Some(cardinality),
            attribute_size: size,
            ..shape(Signal::Traces, 500)
        };
        let mut values: std::collections::HashMap<String, HashSet<String>> = Default::default();
        for span in spans(&pool(&shape, 1).take(500).unwrap().message()) {
            for attribute in span.attributes {
                if let Some(Value::StringValue(text)) = attribute.value.unwrap().value {
                    assert_eq!(text.len(), size.unwrap_or(CHOSEN_BYTES));
                    values.entry(attribute.key).or_default().insert(text);
                }
            }
        }
        let most = values.values().map(HashSet::len).max().unwrap();
        assert_eq!(most, expected, "{cardinality} {size:?}");
    };
    check(1, None, 1);
    check(3, None, 3);
    check(3, Some(1), 3);
    check(5, Some(100), 5);
}

#[test]
fn span_and_trace_ids_are_new_at_every_send_and_parents_are_in_the_same_request() {
    let mut pool = pool(&shape(Signal::Traces, 100), 2);
    let (mut span_ids, mut trace_ids) = (HashSet::new(), HashSet::new());
    for round in 0..20 {
        let mut request = pool.take(100).unwrap();
        request.stamp(Numbering::for_run("test"), round * 100, NOW + round);
        let spans = spans(&request.message());
        let in_request: HashSet<_> = spans
            .iter()
            .map(|span| (&span.trace_id, &span.span_id))
            .collect();
        for span in &spans {
            assert_eq!((span.trace_id.len(), span.span_id.len()), (16, 8));
            assert!(span_ids.insert(span.span_id.clone()), "span id sent twice");
            if span.parent_span_id.is_empty() {
                assert!(
                    trace_ids.insert(span.trace_id.clone()),
                    "trace id sent twice"
                );
            } else {
                assert!(
                    in_request.contains(&(&span.trace_id, &span.parent_span_id)),
                    "orphan"
                );
            }
        }
        pool.give_back(request);
    }
    assert_eq!(span_ids.len(), 2000);
}

#[test]
fn runs_have_ids_of_their_own() {
    let [one, two] = ["one", "two"].map(Numbering::for_run);
    let ids: HashSet<_> = (0..1000)
        .flat_map(|number| [one.span_id(number), two.span_id(number)])
        .collect();
    assert_eq!(ids.len(), 2000);
}

#[test]
fn requests_of_a_pool_differ_and_the_same_seed_gives_the_same_pool() {
    for signal in Signal::ALL {
        let bodies = |seed| {
            let mut pool = pool(
                &Shape {
                    seed,
                    ..shape(signal, 20)
                },
                64,
            );
            std::iter::from_fn(move || pool.take(20).ok())
                .map(|request| request.message())
                .collect::<Vec<_>>()
        };
        let first = bodies(1);
        assert_eq!(first.iter().collect::<HashSet<_>>().len(), 64);
        assert_eq!(first, bodies(1));
        assert_ne!(first, bodies(2));
    }
}

#[test]
fn attribute_count_and_size_are_as_asked() {
    let check = |attributes: usize, attribute_size: Option<usize>| {
        let shape = Shape {
            attributes,
            attribute_size,
            ..shape(Signal::Traces, 16)
        };
        for span in spans(&pool(&shape, 1).take(16).unwrap().message()) {
            assert_eq!(span.attributes.len(), attributes);
            for attribute in span.attributes {
                if let (Some(size), Some(Value::StringValue(text))) =
                    (attribute_size, attribute.value.unwrap().value)
                {
                    assert_eq!(text.len(), size);
                }
            }
        }
    };
    check(1, None);
    check(10, None);
    check(40, None);
    check(10, Some(0));
    check(12, Some(100));
}

#[test]
fn stamping_does_not_copy_unless_the_buffer_is_still_being_sent() {
    let mut request = pool(&shape(Signal::Logs, 50), 1).take(50).unwrap();
    let place = request.message().as_ptr();
    request.stamp(Numbering::for_run("test"), 1, NOW);
    assert_eq!(request.message().as_ptr(), place);

    let sending = request.message();
    let before = sending.to_vec();
    request.stamp(Numbering::for_run("test"), 2, NOW);
    assert_ne!(request.message(), sending);
    assert_eq!(sending, before);
}

#[test]
fn compressed_pools_hold_the_same_requests() {
    let shape = shape(Signal::Logs, 30);
    for compression in Compression::ALL {
        let numbering = Numbering::for_run("test");
        let mut packed = Pool::build(&shape, 2, compression, numbering, NOW).unwrap();
        let mut plain = pool(&shape, 2);
        let (packed, plain) = (packed.take(30).unwrap(), plain.take(30).unwrap());
        let unpacked = compression.decompress(&packed.message(), 1 << 20).unwrap();
        assert_eq!(unpacked, plain.message());
        let prefix = packed.grpc_message();
        assert_eq!(prefix[0], u8::from(compression != Compression::None));
        assert_eq!(
            u32::from_be_bytes(prefix[1..5].try_into().unwrap()) as usize,
            packed.bytes()
        );
    }
}

#[test]
fn what_does_not_fit_is_known_before_it_is_built() {
    const MIB: u64 = 1 << 20;
    let shape = |items, size| Shape {
        attribute_size: size,
        ..Shape::natural(Signal::Traces, items, "run", 1)
    };
    let check = |shape: &Shape, size, limit| check_size(shape, size, Compression::None, limit);
    // 427 bytes a span: 27 MB in the pool, and less than 2 MB while one is built.
    check(&shape(1000, None), 64, 40 * MIB).unwrap();
    let told = check(&shape(1000, None), 64, 20 * MIB).unwrap_err();
    assert!(told.to_string().contains("a --pool of"), "{told}");
    let told = check(&shape(1000, Some(1_000_000)), 1, 4096 * MIB).unwrap_err();
    assert!(
        told.to_string().contains("and there are 4096 MiB"),
        "{told}"
    );
    // Even if that is an item: nothing of it is made.
    let huge = Shape {
        attributes: 1024,
        ..shape(1_000_000, Some(1_000_000))
    };
    let told = check(&huge, 100_000, MIB).unwrap_err();
    assert!(
        told.to_string().contains("(1023000000 bytes an item)"),
        "{told}"
    );
}
