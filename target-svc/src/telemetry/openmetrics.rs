//! Metrics as text: OpenMetrics 1.0 with exemplars, or the older Prometheus format, which has none.

use std::fmt::Write as _;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::exemplar::Value as ExemplarValue;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, HistogramDataPoint, Metric, NumberDataPoint,
};

use super::exemplars::text;

/// What the client understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    OpenMetrics,
    Prometheus,
}

impl Format {
    /// OpenMetrics, unless the `Accept` header wants text and does not mention it. Browsers want HTML: they show plain text,
    /// and save OpenMetrics to a file.
    pub(crate) fn of(accept: &str) -> Self {
        let text = accept.contains("text/plain") || accept.contains("text/html");
        if text && !accept.contains("openmetrics-text") {
            Self::Prometheus
        } else {
            Self::OpenMetrics
        }
    }

    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

pub(crate) fn render(request: &ExportMetricsServiceRequest, format: Format) -> String {
    let mut page = Page {
        text: String::new(),
        format,
    };
    for resource in &request.resource_metrics {
        let attributes = resource
            .resource
            .as_ref()
            .map_or(&[][..], |it| &it.attributes);
        page.target(attributes);
        for metric in resource.scope_metrics.iter().flat_map(|it| &it.metrics) {
            page.family(metric);
        }
    }
    if format == Format::OpenMetrics {
        page.text.push_str("# EOF\n");
    }
    page.text
}

struct Page {
    text: String,
    format: Format,
}

impl Page {
    fn line(&mut self, arguments: std::fmt::Arguments<'_>) {
        writeln!(self.text, "{arguments}").expect("a String takes any text");
    }

    fn target(&mut self, attributes: &[KeyValue]) {
        let kind = match self.format {
            Format::OpenMetrics => "# TYPE target info",
            Format::Prometheus => "# TYPE target_info gauge",
        };
        self.line(format_args!("{kind}"));
        self.line(format_args!("target_info{} 1", labels(attributes, None)));
    }

    fn family(&mut self, metric: &Metric) {
        let name = family_name(metric);
        match &metric.data {
            Some(Data::Histogram(histogram)) => {
                self.head(&name, "histogram", metric);
                for point in &histogram.data_points {
                    self.histogram(&name, point);
                }
            }
            Some(Data::Sum(sum)) if sum.is_monotonic => {
                let total = format!("{name}_total");
                let family = if self.format == Format::OpenMetrics {
                    &name
                } else {
                    &total
                };
                self.head(family, "counter", metric);
                self.numbers(&total, &sum.data_points);
            }
            Some(Data::Sum(sum)) => {
                self.head(&name, "gauge", metric);
                self.numbers(&name, &sum.data_points);
            }
            Some(Data::Gauge(gauge)) => {
                self.head(&name, "gauge", metric);
                self.numbers(&name, &gauge.data_points);
            }
            // No instrument of this service makes others.
            _ => {}
        }
    }

    fn head(&mut self, name: &str, kind: &str, metric: &Metric) {
        self.line(format_args!("# TYPE {name} {kind}"));
        if metric.unit == "s" && self.format == Format::OpenMetrics {
            self.line(format_args!("# UNIT {name} seconds"));
        }
        self.line(format_args!(
            "# HELP {name} {}",
            escape(&metric.description)
        ));
    }

    fn numbers(&mut self, name: &str, points: &[NumberDataPoint]) {
        for point in points {
            let labels = labels(&point.attributes, None);
            match point.value {
                Some(Value::AsInt(value)) => self.line(format_args!("{name}{labels} {value}")),
                Some(Value::AsDouble(value)) => self.line(format_args!("{name}{labels} {value}")),
                None => {}
            }
        }
    }

    fn histogram(&mut self, name: &str, point: &HistogramDataPoint) {
        let bounds = point.explicit_bounds.iter().copied().chain([f64::INFINITY]);
        let mut total = 0;
        let mut below = f64::NEG_INFINITY;
        for (bound, count) in bounds.zip(&point.bucket_counts) {
            total += count;
            let le = if bound.is_infinite() {
                "+Inf".to_owned()
            } else {
                format!("{bound:?}")
            };
            let labels = labels(&point.attributes, Some(("le", &le)));
            let exemplar = self.exemplar(point, below, bound);
            self.line(format_args!("{name}_bucket{labels} {total}{exemplar}"));
            below = bound;
        }
        let labels = labels(&point.attributes, None);
        self.line(format_args!("{name}_count{labels} {}", point.count));
        self.line(format_args!(
            "{name}_sum{labels} {}",
            point.sum.unwrap_or(0.0)
        ));
    }

    /// The exemplar between two bounds as the end of its bucket's line.
    fn exemplar(&self, point: &HistogramDataPoint, below: f64, bound: f64) -> String {
        if self.format == Format::Prometheus {
            return String::new();
        }
        let within = |it: &&Exemplar| below < value_of(it) && value_of(it) <= bound;
        let Some(found) = point.exemplars.iter().find(within) else {
            return String::new();
        };
        let (trace, span) = (hex(&found.trace_id), hex(&found.span_id));
        let seconds = found.time_unix_nano / 1_000_000_000;
        let millis = found.time_unix_nano / 1_000_000 % 1_000;
        let value = value_of(found);
        format!(" # {{trace_id=\"{trace}\",span_id=\"{span}\"}} {value} {seconds}.{millis:03}")
    }
}

fn value_of(exemplar: &Exemplar) -> f64 {
    match exemplar.value {
        Some(ExemplarValue::AsDouble(value)) => value,
        Some(ExemplarValue::AsInt(value)) => value as f64,
        None => f64::NAN,
    }
}

fn family_name(metric: &Metric) -> String {
    let name = metric.name.replace('.', "_");
    if metric.unit == "s" {
        format!("{name}_seconds")
    } else {
        name
    }
}

fn labels(attributes: &[KeyValue], extra: Option<(&str, &str)>) -> String {
    let mut pairs: Vec<_> = attributes
        .iter()
        .map(|it| {
            format!(
                "{}=\"{}\"",
                it.key.replace(['.', '-'], "_"),
                escape(&text(it))
            )
        })
        .collect();
    pairs.sort_unstable();
    pairs.extend(extra.map(|(key, value)| format!("{key}=\"{value}\"")));
    if pairs.is_empty() {
        String::new()
    } else {
        format!("{{{}}}", pairs.join(","))
    }
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|it| format!("{it:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_chooses_the_format() {
        for (accept, expected) in [
            ("", Format::OpenMetrics),
            ("*/*", Format::OpenMetrics),
            (
                "application/openmetrics-text;version=1.0.0,text/plain;q=0.5",
                Format::OpenMetrics,
            ),
            ("text/plain;version=0.0.4", Format::Prometheus),
            (
                "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8",
                Format::Prometheus,
            ),
        ] {
            assert_eq!(Format::of(accept), expected, "{accept}");
        }
    }

    #[test]
    fn a_bucket_has_the_exemplar_within_its_bounds() {
        let exemplar = Exemplar {
            time_unix_nano: 1_234_000_000,
            span_id: vec![1; 8],
            trace_id: vec![2; 16],
            value: Some(ExemplarValue::AsDouble(0.5)),
            ..Exemplar::default()
        };
        let point = HistogramDataPoint {
            bucket_counts: vec![1, 2, 0],
            explicit_bounds: vec![0.1, 1.0],
            count: 3,
            sum: Some(1.5),
            exemplars: vec![exemplar],
            ..HistogramDataPoint::default()
        };
        let mut page = Page {
            text: String::new(),
            format: Format::OpenMetrics,
        };
        page.histogram("x", &point);
        let ids = format!(
            "trace_id=\"{}\",span_id=\"{}\"",
            "02".repeat(16),
            "01".repeat(8)
        );
        let expected = format!(
            "x_bucket{{le=\"0.1\"}} 1\nx_bucket{{le=\"1.0\"}} 3 # {{{ids}}} 0.5 1.234\n\
             x_bucket{{le=\"+Inf\"}} 3\nx_count 3\nx_sum 1.5\n"
        );
        assert_eq!(page.text, expected);
    }
}
