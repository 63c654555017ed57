//! Requests whose items carry their number: what is stored can be compared with what was acknowledged.

use std::ops::Range;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram,
    HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary,
    SummaryDataPoint, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message as _;

use crate::otlp::payload::Request;
use crate::otlp::signal::Signal;

/// Resource attribute: the run's name.
pub(super) const RUN_KEY: &str = "loadgen.run";
/// Attribute of each item: its number, unique in the run.
pub(super) const NUMBER_KEY: &str = "loadgen.seq";
/// Tables for points: point `n` goes to the table `n % METRIC_TABLES`.
pub(super) const METRIC_TABLES: [&str; 5] = [
    "gauge",
    "sum",
    "histogram",
    "exponential_histogram",
    "summary",
];
/// A connection's numbers start at its index shifted by this: they tell where an item came from.
pub(super) const CONNECTION_SHIFT: u32 = 40;

/// What all items of a run have in common.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub(super) name: String,
    /// The first eight bytes of every trace id of the run.
    pub(super) trace_prefix: u64,
    /// Bytes of text in each item that do not compress well.
    pub(super) padding: usize,
}

impl Run {
    pub(super) fn new(seed: u64, padding: usize) -> Self {
        let trace_prefix = scramble(seed ^ crate::otlp::drive::unix_nanos()) | 1;
        Self {
            name: format!("{trace_prefix:016x}"),
            trace_prefix,
            padding,
        }
    }

    /// An OTLP request with the items of these numbers, at the time `now` (nanoseconds since 1970).
    ///
    /// # Errors
    /// When it would be of 4 GiB or more.
    pub(super) fn request(
        &self,
        signal: Signal,
        numbers: Range<u64>,
        now: u64,
    ) -> anyhow::Result<Request> {
        let items = usize::try_from(numbers.end - numbers.start)?;
        let message = match signal {
            Signal::Traces => self.traces(numbers, now),
            Signal::Logs => self.logs(numbers, now),
            Signal::Metrics => self.metrics(numbers, now),
        };
        Request::from_message(&message, items)
    }

    fn traces(&self, numbers: Range<u64>, now: u64) -> Vec<u8> {
        let span = |number: u64| Span {
            trace_id: [self.trace_prefix.to_be_bytes(), number.to_be_bytes()].concat(),
            span_id: scramble(number).to_be_bytes().to_vec(),
            name: "prove".to_owned(),
            kind: 2,
            start_time_unix_nano: now,
            end_time_unix_nano: now + 1_000_000,
            attributes: self.attributes(number),
            ..Span::default()
        };
        let resource_spans = vec![ResourceSpans {
            resource: Some(self.resource()),
            scope_spans: vec![ScopeSpans {
                scope: Some(scope()),
                spans: numbers.map(span).collect(),
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }];
        ExportTraceServiceRequest { resource_spans }.encode_to_vec()
    }

    fn logs(&self, numbers: Range<u64>, now: u64) -> Vec<u8> {
        let record = |number: u64| LogRecord {
            time_unix_nano: now,
            observed_time_unix_nano: now,
            severity_number: 9,
            severity_text: "INFO".to_owned(),
            body: Some(text(format!("item {number}"))),
            attributes: self.attributes(number),
            ..LogRecord::default()
        };
        let resource_logs = vec![ResourceLogs {
            resource: Some(self.resource()),
            scope_logs: vec![ScopeLogs {
                scope: Some(scope()),
                log_records: numbers.map(record).collect(),
                ..ScopeLogs::default()
            }],
            ..ResourceLogs::default()
        }];
        ExportLogsServiceRequest { resource_logs }.encode_to_vec()
    }

    fn metrics(&self, numbers: Range<u64>, now: u64) -> Vec<u8> {
        let metric = |(table, name): (usize, &&str)| {
            let mine = numbers
                .clone()
                .filter(|number| number % METRIC_TABLES.len() as u64 == table as u64);
            Metric {
                name: format!("prove.{name}"),
                data: Some(self.points(table, mine, now)),
                ..Metric::default()
            }
        };
        let resource_metrics = vec![ResourceMetrics {
            resource: Some(self.resource()),
            scope_metrics: vec![ScopeMetrics {
                scope: Some(scope()),
                metrics: METRIC_TABLES.iter().enumerate().map(metric).collect(),
                ..ScopeMetrics::default()
            }],
            ..ResourceMetrics::default()
        }];
        ExportMetricsServiceRequest { resource_metrics }.encode_to_vec()
    }

    fn points(&self, table: usize, numbers: impl Iterator<Item = u64>, now: u64) -> Data {
        let aggregation_temporality = AggregationTemporality::Cumulative.into();
        match table {
            0 => Data::Gauge(Gauge {
                data_points: numbers
                    .map(|number| self.number_point(number, now))
                    .collect(),
            }),
            1 => Data::Sum(Sum {
                data_points: numbers
                    .map(|number| self.number_point(number, now))
                    .collect(),
                aggregation_temporality,
                is_monotonic: true,
            }),
            2 => Data::Histogram(Histogram {
                data_points: numbers
                    .map(|number| self.histogram_point(number, now))
                    .collect(),
                aggregation_temporality,
            }),
            3 => Data::ExponentialHistogram(ExponentialHistogram {
                data_points: numbers
                    .map(|number| self.exponential_point(number, now))
                    .collect(),
                aggregation_temporality,
            }),
            _ => Data::Summary(Summary {
                data_points: numbers
                    .map(|number| self.summary_point(number, now))
                    .collect(),
            }),
        }
    }

    fn number_point(&self, number: u64, now: u64) -> NumberDataPoint {
        NumberDataPoint {
            attributes: self.attributes(number),
            time_unix_nano: now,
            value: Some(number_data_point::Value::AsDouble(number as f64)),
            ..NumberDataPoint::default()
        }
    }

    fn histogram_point(&self, number: u64, now: u64) -> HistogramDataPoint {
        HistogramDataPoint {
            attributes: self.attributes(number),
            time_unix_nano: now,
            count: 3,
            sum: Some(4.5),
            bucket_counts: vec![1, 2],
            explicit_bounds: vec![1.0],
            ..HistogramDataPoint::default()
        }
    }

    fn exponential_point(&self, number: u64, now: u64) -> ExponentialHistogramDataPoint {
        ExponentialHistogramDataPoint {
            attributes: self.attributes(number),
            time_unix_nano: now,
            count: 1,
            sum: Some(1.5),
            zero_count: 1,
            ..ExponentialHistogramDataPoint::default()
        }
    }

    fn summary_point(&self, number: u64, now: u64) -> SummaryDataPoint {
        SummaryDataPoint {
            attributes: self.attributes(number),
            time_unix_nano: now,
            count: 1,
            sum: 1.5,
            ..SummaryDataPoint::default()
        }
    }

    fn attributes(&self, number: u64) -> Vec<KeyValue> {
        let mut attributes = vec![attribute(
            NUMBER_KEY,
            AnyValue {
                value: Some(Value::IntValue(number.cast_signed())),
            },
        )];
        if self.padding > 0 {
            let mut padding = String::with_capacity(self.padding + 16);
            let mut part = scramble(number);
            while padding.len() < self.padding {
                padding.push_str(&format!("{part:016x}"));
                part = scramble(part);
            }
            padding.truncate(self.padding);
            attributes.push(attribute("loadgen.padding", text(padding)));
        }
        attributes
    }

    fn resource(&self) -> Resource {
        Resource {
            attributes: vec![
                attribute("service.name", text("prove".to_owned())),
                attribute(RUN_KEY, text(self.name.clone())),
            ],
            ..Resource::default()
        }
    }
}

fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: "loadgen.prove".to_owned(),
        ..InstrumentationScope::default()
    }
}

fn attribute(key: &str, value: AnyValue) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(value),
        ..KeyValue::default()
    }
}

fn text(text: String) -> AnyValue {
    AnyValue {
        value: Some(Value::StringValue(text)),
    }
}

/// The finalizer of splitmix64: a bijection whose output looks random.
fn scramble(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signal_has_the_items_asked_for() {
        let run = Run::new(1, 40);
        for signal in Signal::ALL {
            for items in [1, 4, 5, 23] {
                let first = 7 << CONNECTION_SHIFT;
                let request = run.request(signal, first..first + items, 1).unwrap();
                assert_eq!(signal.count(&request.message()), Ok(items), "{signal}");
                assert_eq!(request.items() as u64, items);
            }
        }
    }

    #[test]
    fn points_are_spread_over_all_tables() {
        let message = Run::new(1, 0).metrics(10..20, 1);
        let request = ExportMetricsServiceRequest::decode(message.as_slice()).unwrap();
        let metrics = &request.resource_metrics[0].scope_metrics[0].metrics;
        assert_eq!(metrics.len(), METRIC_TABLES.len());
        let Some(Data::Sum(sum)) = &metrics[1].data else {
            panic!("{metrics:?}")
        };
        let values: Vec<_> = sum.data_points.iter().map(|point| point.value).collect();
        let expected = |number| Some(number_data_point::Value::AsDouble(number));
        assert_eq!(values, [expected(11.0), expected(16.0)]);
    }
}
