//! Random OTLP requests for tests, as prost's types: every field, every kind of value, extremes and absences.
//!
//! Deterministic: the same seed gives the same request on every machine.

use opentelemetry_proto::tonic::collector::{
    logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
    trace::v1::ExportTraceServiceRequest,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, EntityRef, InstrumentationScope, KeyValue, KeyValueList,
};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::summary_data_point::ValueAtQuantile;
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram,
    HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary,
    SummaryDataPoint, exemplar, metric::Data, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message as _;

use crate::signal::Signal;

/// A random request of `signal` in wire format, as prost encodes it.
pub fn random_request(signal: Signal, seed: u64) -> Vec<u8> {
    let random = &mut Random::new(seed);
    match signal {
        Signal::Traces => random.traces().encode_to_vec(),
        Signal::Metrics => random.metrics().encode_to_vec(),
        Signal::Logs => random.logs().encode_to_vec(),
    }
}

/// A source of random numbers and of messages made from them: SplitMix64.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// A source that gives the same sequence for the same seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number less than `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.number() % end as u64) as usize
    }

    /// True once in `n` times.
    pub fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// One of `choices`, which is not empty.
    pub fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    fn some_of<T>(&mut self, end: usize, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(end)).map(|_| make(self)).collect()
    }

    fn maybe<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        (!self.once_in(4)).then(|| make(self))
    }

    fn uint(&mut self) -> u64 {
        let any = self.number();
        let small = any % 200;
        self.one_of(&[0, 1, small, any, u64::MAX, 1 << 63, u64::from(u32::MAX)])
    }

    fn int32(&mut self) -> i32 {
        self.uint() as i32
    }

    fn uint32(&mut self) -> u32 {
        self.uint() as u32
    }

    fn double(&mut self) -> f64 {
        let any = f64::from_bits(self.number());
        // NaN is left to the golden files: it is not equal to itself, and here trees are compared.
        let any = if any.is_nan() { 0.1 } else { any };
        self.one_of(&[
            0.0,
            -0.0,
            1.5,
            any,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::MIN_POSITIVE,
        ])
    }

    /// Empty, short, long, ASCII and not.
    pub fn string(&mut self) -> String {
        let length = self.one_of(&[0, 1, 7, 8, 15, 16, 17, 40, 130]);
        let ascii = !self.once_in(5);
        let letter = |random: &mut Self| match ascii {
            true => (b' ' + random.below(95) as u8) as char,
            false => random.one_of(&['a', 'ß', '€', '\u{fffd}', '𝄞', '\0']),
        };
        (0..length).map(|_| letter(self)).collect()
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.number() as u8).collect()
    }

    fn id(&mut self, length: usize) -> Vec<u8> {
        match self.below(4) {
            0 => Vec::new(),
            1 => vec![0; length],
            _ => self.bytes(length),
        }
    }

    fn value(&mut self, nesting: usize) -> AnyValue {
        let kinds = if nesting == 0 { 6 } else { 9 };
        let value = match self.below(kinds) {
            0 => None,
            1 => Some(Value::BoolValue(self.once_in(2))),
            2 => Some(Value::IntValue(self.uint() as i64)),
            3 => Some(Value::DoubleValue(self.double())),
            4 => {
                let length = self.below(20);
                Some(Value::BytesValue(self.bytes(length)))
            }
            5 => Some(Value::StringValue(self.string())),
            6 => Some(Value::StringValueStrindex(self.int32())),
            7 => Some(Value::ArrayValue(ArrayValue {
                values: self.some_of(4, |random| random.value(nesting - 1)),
            })),
            _ => Some(Value::KvlistValue(KeyValueList {
                values: self.some_of(4, |random| random.key_value(nesting - 1)),
            })),
        };
        AnyValue { value }
    }

    fn key_value(&mut self, nesting: usize) -> KeyValue {
        KeyValue {
            key: self.string(),
            value: self.maybe(|random| random.value(nesting)),
            key_strindex: if self.once_in(8) { self.int32() } else { 0 },
        }
    }

    fn attributes(&mut self) -> Vec<KeyValue> {
        self.some_of(5, |random| random.key_value(3))
    }

    fn resource(&mut self) -> Resource {
        Resource {
            attributes: self.attributes(),
            dropped_attributes_count: self.uint32(),
            entity_refs: self.some_of(3, |random| EntityRef {
                schema_url: random.string(),
                r#type: random.string(),
                id_keys: random.some_of(3, Self::string),
                description_keys: random.some_of(3, Self::string),
            }),
        }
    }

    fn scope(&mut self) -> InstrumentationScope {
        InstrumentationScope {
            name: self.string(),
            version: self.string(),
            attributes: self.attributes(),
            dropped_attributes_count: self.uint32(),
        }
    }

    /// A traces request.
    pub fn traces(&mut self) -> ExportTraceServiceRequest {
        ExportTraceServiceRequest {
            resource_spans: self.some_of(4, |random| ResourceSpans {
                resource: random.maybe(Self::resource),
                scope_spans: random.some_of(4, |random| ScopeSpans {
                    scope: random.maybe(Self::scope),
                    spans: random.some_of(5, Self::span),
                    schema_url: random.string(),
                }),
                schema_url: random.string(),
            }),
        }
    }

    fn span(&mut self) -> Span {
        Span {
            trace_id: self.id(16),
            span_id: self.id(8),
            trace_state: self.string(),
            parent_span_id: self.id(8),
            flags: self.uint32(),
            name: self.string(),
            kind: self.int32(),
            start_time_unix_nano: self.uint(),
            end_time_unix_nano: self.uint(),
            attributes: self.attributes(),
            dropped_attributes_count: self.uint32(),
            events: self.some_of(3, |random| Event {
                time_unix_nano: random.uint(),
                name: random.string(),
                attributes: random.attributes(),
                dropped_attributes_count: random.uint32(),
            }),
            dropped_events_count: self.uint32(),
            links: self.some_of(3, |random| Link {
                trace_id: random.id(16),
                span_id: random.id(8),
                trace_state: random.string(),
                attributes: random.attributes(),
                dropped_attributes_count: random.uint32(),
                flags: random.uint32(),
            }),
            dropped_links_count: self.uint32(),
            status: self.maybe(|random| Status {
                message: random.string(),
                code: random.int32(),
            }),
        }
    }

    /// A logs request.
    pub fn logs(&mut self) -> ExportLogsServiceRequest {
        ExportLogsServiceRequest {
            resource_logs: self.some_of(4, |random| ResourceLogs {
                resource: random.maybe(Self::resource),
                scope_logs: random.some_of(4, |random| ScopeLogs {
                    scope: random.maybe(Self::scope),
                    log_records: random.some_of(5, Self::log_record),
                    schema_url: random.string(),
                }),
                schema_url: random.string(),
            }),
        }
    }

    fn log_record(&mut self) -> LogRecord {
        LogRecord {
            time_unix_nano: self.uint(),
            observed_time_unix_nano: self.uint(),
            severity_number: self.int32(),
            severity_text: self.string(),
            body: self.maybe(|random| random.value(4)),
            attributes: self.attributes(),
            dropped_attributes_count: self.uint32(),
            flags: self.uint32(),
            trace_id: self.id(16),
            span_id: self.id(8),
            event_name: self.string(),
        }
    }

    /// A metrics request.
    pub fn metrics(&mut self) -> ExportMetricsServiceRequest {
        ExportMetricsServiceRequest {
            resource_metrics: self.some_of(4, |random| ResourceMetrics {
                resource: random.maybe(Self::resource),
                scope_metrics: random.some_of(4, |random| ScopeMetrics {
                    scope: random.maybe(Self::scope),
                    metrics: random.some_of(5, Self::metric),
                    schema_url: random.string(),
                }),
                schema_url: random.string(),
            }),
        }
    }

    fn metric(&mut self) -> Metric {
        let data = match self.below(6) {
            0 => None,
            1 => Some(Data::Gauge(Gauge {
                data_points: self.some_of(5, Self::number_point),
            })),
            2 => Some(Data::Sum(Sum {
                data_points: self.some_of(5, Self::number_point),
                aggregation_temporality: self.int32(),
                is_monotonic: self.once_in(2),
            })),
            3 => Some(Data::Histogram(Histogram {
                data_points: self.some_of(5, Self::histogram_point),
                aggregation_temporality: self.int32(),
            })),
            4 => Some(Data::ExponentialHistogram(ExponentialHistogram {
                data_points: self.some_of(5, Self::exponential_point),
                aggregation_temporality: self.int32(),
            })),
            _ => Some(Data::Summary(Summary {
                data_points: self.some_of(5, Self::summary_point),
            })),
        };
        Metric {
            name: self.string(),
            description: self.string(),
            unit: self.string(),
            metadata: self.attributes(),
            data,
        }
    }

    fn number_point(&mut self) -> NumberDataPoint {
        NumberDataPoint {
            attributes: self.attributes(),
            start_time_unix_nano: self.uint(),
            time_unix_nano: self.uint(),
            exemplars: self.some_of(3, Self::exemplar),
            flags: self.uint32(),
            value: match self.below(3) {
                0 => None,
                1 => Some(number_data_point::Value::AsDouble(self.double())),
                _ => Some(number_data_point::Value::AsInt(self.uint() as i64)),
            },
        }
    }

    fn histogram_point(&mut self) -> HistogramDataPoint {
        HistogramDataPoint {
            attributes: self.attributes(),
            start_time_unix_nano: self.uint(),
            time_unix_nano: self.uint(),
            count: self.uint(),
            sum: self.maybe(Self::double),
            bucket_counts: self.some_of(20, Self::uint),
            explicit_bounds: self.some_of(20, Self::double),
            exemplars: self.some_of(3, Self::exemplar),
            flags: self.uint32(),
            min: self.maybe(Self::double),
            max: self.maybe(Self::double),
        }
    }

    fn exponential_point(&mut self) -> ExponentialHistogramDataPoint {
        ExponentialHistogramDataPoint {
            attributes: self.attributes(),
            start_time_unix_nano: self.uint(),
            time_unix_nano: self.uint(),
            count: self.uint(),
            sum: self.maybe(Self::double),
            scale: self.int32(),
            zero_count: self.uint(),
            positive: self.maybe(Self::buckets),
            negative: self.maybe(Self::buckets),
            flags: self.uint32(),
            exemplars: self.some_of(3, Self::exemplar),
            min: self.maybe(Self::double),
            max: self.maybe(Self::double),
            zero_threshold: self.double(),
        }
    }

    fn buckets(&mut self) -> Buckets {
        Buckets {
            offset: self.int32(),
            bucket_counts: self.some_of(20, Self::uint),
        }
    }

    fn summary_point(&mut self) -> SummaryDataPoint {
        SummaryDataPoint {
            attributes: self.attributes(),
            start_time_unix_nano: self.uint(),
            time_unix_nano: self.uint(),
            count: self.uint(),
            sum: self.double(),
            quantile_values: self.some_of(4, |random| ValueAtQuantile {
                quantile: random.double(),
                value: random.double(),
            }),
            flags: self.uint32(),
        }
    }

    fn exemplar(&mut self) -> Exemplar {
        Exemplar {
            filtered_attributes: self.attributes(),
            time_unix_nano: self.uint(),
            span_id: self.id(8),
            trace_id: self.id(16),
            value: match self.below(3) {
                0 => None,
                1 => Some(exemplar::Value::AsDouble(self.double())),
                _ => Some(exemplar::Value::AsInt(self.uint() as i64)),
            },
        }
    }
}
