//! Metrics as rows of the five `otel_metrics_…` tables, one row a data point.

mod columns;
mod points;
mod tables;

use super::super::native::{Columns, Compressor};
use super::shared::{Resource, Scope};
use super::{Adjusted, EncodeError, low_u32, seal};
use crate::exporters::queue::Pace;
use crate::otlp::{Field, Fields, Value};
use columns::Common;
use tables::{ExponentialHistograms, Gauges, Histograms, Summaries, Sums};

/// The columns of the five tables, being filled.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    pub(super) gauge: Gauges,
    pub(super) sum: Sums,
    pub(super) histogram: Histograms,
    pub(super) exponential_histogram: ExponentialHistograms,
    pub(super) summary: Summaries,
}

/// Field numbers of `Metric.data`.
const GAUGE: u32 = 5;
const SUM: u32 = 7;
const HISTOGRAM: u32 = 9;
const EXPONENTIAL_HISTOGRAM: u32 = 10;
const SUMMARY: u32 = 11;

/// A metric but for its data.
#[derive(Debug, Default)]
struct Metric<'a> {
    name: &'a [u8],
    description: &'a [u8],
    unit: &'a [u8],
    /// The kind of data that counts, as its field number.
    kind: Option<u32>,
    /// How many data fields before it another kind has replaced.
    replaced: usize,
}

impl<'a> Metric<'a> {
    /// Data is a `oneof`: of several kinds the last counts, and neighbours of its kind are one.
    fn read(message: &'a [u8]) -> Result<Self, EncodeError> {
        let mut metric = Self::default();
        let mut seen = 0;
        for field in Fields::new(message) {
            let Field { number, value } = field?;
            match (number, value) {
                (1, Value::Bytes(text)) => metric.name = text,
                (2, Value::Bytes(text)) => metric.description = text,
                (3, Value::Bytes(text)) => metric.unit = text,
                (GAUGE | SUM | HISTOGRAM | EXPONENTIAL_HISTOGRAM | SUMMARY, Value::Bytes(_)) => {
                    if metric.kind != Some(number) {
                        metric.replaced = seen;
                    }
                    metric.kind = Some(number);
                    seen += 1;
                }
                _ => {}
            }
        }
        Ok(metric)
    }
}

impl Metrics {
    /// Appends the data points of an `ExportMetricsServiceRequest`.
    pub(super) async fn request(
        &mut self,
        message: &[u8],
        compressor: &mut Compressor,
        adjusted: &mut Adjusted,
        pace: &Pace,
    ) -> Result<(), EncodeError> {
        for field in Fields::new(message) {
            if let Field {
                number: 1,
                value: Value::Bytes(resource_metrics),
            } = field?
            {
                self.resource_metrics(resource_metrics, compressor, adjusted, pace)
                    .await?;
            }
        }
        Ok(())
    }

    async fn resource_metrics(
        &mut self,
        message: &[u8],
        compressor: &mut Compressor,
        adjusted: &mut Adjusted,
        pace: &Pace,
    ) -> Result<(), EncodeError> {
        let mut resource = Resource::default();
        for field in Fields::new(message) {
            match field? {
                Field {
                    number: 1,
                    value: Value::Bytes(fields),
                } => resource.read(fields)?,
                Field {
                    number: 2,
                    value: Value::Bytes(scope_metrics),
                } => {
                    self.scope_metrics(scope_metrics, compressor, adjusted, pace)
                        .await?;
                }
                Field {
                    number: 3,
                    value: Value::Bytes(url),
                } => resource.schema_url = url,
                _ => {}
            }
        }
        for common in self.all() {
            common.fill_resource(&resource, compressor)?;
        }
        Ok(())
    }

    async fn scope_metrics(
        &mut self,
        message: &[u8],
        compressor: &mut Compressor,
        adjusted: &mut Adjusted,
        pace: &Pace,
    ) -> Result<(), EncodeError> {
        let mut scope = Scope::default();
        let mut rested_at = self.rows();
        for field in Fields::new(message) {
            match field? {
                Field {
                    number: 1,
                    value: Value::Bytes(fields),
                } => scope.read(fields)?,
                Field {
                    number: 2,
                    value: Value::Bytes(metric),
                } => {
                    self.metric(metric, compressor, adjusted)?;
                    if self.rows() >= rested_at + Pace::ITEMS {
                        rested_at = self.rows();
                        pace.rest().await;
                    }
                }
                Field {
                    number: 3,
                    value: Value::Bytes(url),
                } => scope.schema_url = url,
                _ => {}
            }
        }
        for common in self.all() {
            common.fill_scope(&scope, compressor)?;
        }
        Ok(())
    }

    /// Rows of all tables.
    fn rows(&self) -> usize {
        let tables: [&dyn Columns; 5] = [
            &self.gauge,
            &self.sum,
            &self.histogram,
            &self.exponential_histogram,
            &self.summary,
        ];
        tables.iter().map(|table| table.rows()).sum()
    }

    fn metric(
        &mut self,
        message: &[u8],
        compressor: &mut Compressor,
        adjusted: &mut Adjusted,
    ) -> Result<(), EncodeError> {
        let metric = Metric::read(message)?;
        let Some(kind) = metric.kind else {
            adjusted.metrics_without_data += 1;
            return Ok(());
        };
        let mut shape = Shape::default();
        let mut replaced = metric.replaced;
        for field in Fields::new(message) {
            let Field { number, value } = field?;
            let (GAUGE | SUM | HISTOGRAM | EXPONENTIAL_HISTOGRAM | SUMMARY, Value::Bytes(data)) =
                (number, value)
            else {
                continue;
            };
            if replaced > 0 {
                replaced -= 1;
                continue;
            }
            for field in Fields::new(data) {
                match field? {
                    Field {
                        number: 1,
                        value: Value::Bytes(point),
                    } => {
                        self.point(kind, point, compressor)?;
                    }
                    Field {
                        number: 2,
                        value: Value::Varint(value),
                    } => {
                        shape.temporality = low_u32(value);
                    }
                    Field {
                        number: 3,
                        value: Value::Varint(flag),
                    } => {
                        shape.is_monotonic = flag != 0;
                    }
                    _ => {}
                }
            }
        }
        self.fill_metric(kind, &metric, shape, compressor)
    }

    fn point(
        &mut self,
        kind: u32,
        point: &[u8],
        compressor: &mut Compressor,
    ) -> Result<(), EncodeError> {
        let table: &mut dyn Columns = match kind {
            GAUGE => {
                self.gauge.point(point)?;
                &mut self.gauge
            }
            SUM => {
                self.sum.numbers.point(point)?;
                &mut self.sum
            }
            HISTOGRAM => {
                self.histogram.point(point)?;
                &mut self.histogram
            }
            EXPONENTIAL_HISTOGRAM => {
                self.exponential_histogram.point(point)?;
                &mut self.exponential_histogram
            }
            _ => {
                self.summary.point(point)?;
                &mut self.summary
            }
        };
        if table.rows().is_multiple_of(super::SEAL_ROWS) {
            seal(table, compressor)?;
        }
        Ok(())
    }

    fn fill_metric(
        &mut self,
        kind: u32,
        metric: &Metric<'_>,
        shape: Shape,
        compressor: &mut Compressor,
    ) -> Result<(), EncodeError> {
        let (common, temporality) = match kind {
            GAUGE => (&mut self.gauge.common, None),
            SUM => {
                let rows = self.sum.numbers.common.unfilled_metric();
                let flag = [u8::from(shape.is_monotonic)];
                self.sum.is_monotonic.repeat(&flag, rows, compressor)?;
                (
                    &mut self.sum.numbers.common,
                    Some(&mut self.sum.temporality),
                )
            }
            HISTOGRAM => (
                &mut self.histogram.common,
                Some(&mut self.histogram.temporality),
            ),
            EXPONENTIAL_HISTOGRAM => (
                &mut self.exponential_histogram.common,
                Some(&mut self.exponential_histogram.temporality),
            ),
            _ => (&mut self.summary.common, None),
        };
        if let Some(column) = temporality {
            let rows = common.unfilled_metric();
            column.repeat(&shape.temporality.to_le_bytes(), rows, compressor)?;
        }
        common.fill_metric(metric, compressor)
    }

    fn all(&mut self) -> [&mut Common; 5] {
        [
            &mut self.gauge.common,
            &mut self.sum.numbers.common,
            &mut self.histogram.common,
            &mut self.exponential_histogram.common,
            &mut self.summary.common,
        ]
    }
}

/// What a metric's data says beside its points.
#[derive(Debug, Clone, Copy, Default)]
struct Shape {
    temporality: u32,
    is_monotonic: bool,
}
