//! A recent trace for each bucket of each histogram: the SDK has a place for exemplars, and does not collect them yet.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry::trace::{SpanContext, TraceContextExt as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue as ProtoKeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::metrics::v1::exemplar::Value as ExemplarValue;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{Exemplar, HistogramDataPoint};

/// Series with exemplars: the SDK's own limit on the series of an instrument. Others are measured without.
const SERIES_MAX: usize = 2_000;

/// A histogram's name and its attributes in order of their keys.
type Series = (String, Vec<(String, String)>);

/// The latest exemplar of each bucket.
#[derive(Debug, Default)]
pub(crate) struct Exemplars {
    /// Guards the exemplars only, for as long as one is put in its place or all of a collection are copied.
    series: Mutex<HashMap<Series, Vec<Option<Exemplar>>>>,
}

impl Exemplars {
    /// Keeps the current span as the exemplar of the bucket that `value` falls into, if it is sampled.
    pub(crate) fn offer(
        &self,
        name: &str,
        boundaries: &[f64],
        value: f64,
        attributes: &[KeyValue],
    ) {
        Context::map_current(|context| {
            let span = context.span();
            let ids = span.span_context();
            if ids.is_valid() && ids.is_sampled() {
                self.keep(name, boundaries, value, attributes, ids);
            }
        });
    }

    fn keep(
        &self,
        name: &str,
        boundaries: &[f64],
        value: f64,
        attributes: &[KeyValue],
        ids: &SpanContext,
    ) {
        let attributes = attributes
            .iter()
            .map(|it| (it.key.to_string(), it.value.as_str().into_owned()));
        let key = series(name, attributes);
        let mut all = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= SERIES_MAX && !all.contains_key(&key) {
            return;
        }
        let buckets = all
            .entry(key)
            .or_insert_with(|| vec![None; boundaries.len() + 1]);
        let index = boundaries.partition_point(|&boundary| boundary < value);
        if let Some(bucket) = buckets.get_mut(index) {
            *bucket = Some(Exemplar {
                filtered_attributes: Vec::new(),
                time_unix_nano: now(),
                span_id: ids.span_id().to_bytes().to_vec(),
                trace_id: ids.trace_id().to_bytes().to_vec(),
                value: Some(ExemplarValue::AsDouble(value)),
            });
        }
    }

    /// Adds the exemplars from after `since` (nanoseconds since 1970) to the histograms of a request.
    pub(crate) fn attach(&self, request: &mut ExportMetricsServiceRequest, since: u64) {
        let scopes = request
            .resource_metrics
            .iter_mut()
            .flat_map(|it| &mut it.scope_metrics);
        for metric in scopes.flat_map(|it| &mut it.metrics) {
            if let Some(Data::Histogram(histogram)) = &mut metric.data {
                for point in &mut histogram.data_points {
                    self.attach_to(&metric.name, point, since);
                }
            }
        }
    }

    fn attach_to(&self, name: &str, point: &mut HistogramDataPoint, since: u64) {
        let attributes = point.attributes.iter().map(|it| (it.key.clone(), text(it)));
        let key = series(name, attributes);
        let all = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        let buckets = all.get(&key).map_or(&[][..], Vec::as_slice);
        let recent = buckets
            .iter()
            .flatten()
            .filter(|it| it.time_unix_nano > since);
        point.exemplars.extend(recent.cloned());
    }
}

fn series(name: &str, attributes: impl Iterator<Item = (String, String)>) -> Series {
    let mut attributes: Vec<_> = attributes.collect();
    attributes.sort_unstable();
    (name.to_owned(), attributes)
}

/// The value of an attribute as text, the same from the SDK and from OTLP.
pub(crate) fn text(attribute: &ProtoKeyValue) -> String {
    match attribute.value.as_ref().and_then(|it| it.value.as_ref()) {
        Some(Value::StringValue(it)) => it.clone(),
        Some(Value::IntValue(it)) => it.to_string(),
        Some(Value::DoubleValue(it)) => it.to_string(),
        Some(Value::BoolValue(it)) => it.to_string(),
        // No instrument of this service has other attributes.
        _ => String::new(),
    }
}

/// Nanoseconds since 1970.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |it| u64::try_from(it.as_nanos()).unwrap_or(u64::MAX))
}
