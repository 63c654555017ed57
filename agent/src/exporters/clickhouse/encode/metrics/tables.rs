//! The five tables: what each has beside the common columns, and how a data point becomes a row.

use super::super::super::native::{Array, Columns, Offsets, Stream, Visit};
use super::super::{EncodeError, low_u32};
use super::columns::{Common, Exemplars, Point, int_as_double};
use super::points::Numbers;
use crate::otlp::{Field, Fields, Value};

/// `otel_metrics_gauge`.
#[derive(Debug, Default)]
pub(in super::super) struct Gauges {
    pub(super) common: Common,
    value: Stream,
    exemplars: Exemplars,
}

impl Columns for Gauges {
    fn visit(&mut self, visit: Visit<'_>) -> std::io::Result<()> {
        self.common.visit(visit)?;
        visit("Value", "Float64", &mut self.value)?;
        self.exemplars.visit(visit)
    }
    fn rows(&self) -> usize {
        self.common.rows
    }
    fn reset_rows(&mut self) {
        self.common.reset_rows();
    }
}

impl Gauges {
    /// Appends a `NumberDataPoint`.
    pub(super) fn point(&mut self, message: &[u8]) -> Result<(), EncodeError> {
        let mut point = Point::default();
        let mut number = 0.0;
        let mut fields = Fields::new(message);
        while let Some(field) = self.common.next_field(&mut fields, 7) {
            let Field {
                number: field,
                value,
            } = field?;
            match (field, value) {
                (2, Value::Fixed64(time)) => point.start_time = time,
                (3, Value::Fixed64(time)) => point.time = time,
                (4, Value::Fixed64(bits)) => number = f64::from_bits(bits),
                (5, Value::Bytes(exemplar)) => self.exemplars.add(exemplar)?,
                (6, Value::Fixed64(bits)) => number = int_as_double(bits),
                (7, Value::Bytes(pair)) => self.common.attribute(pair)?,
                (8, Value::Varint(flags)) => point.flags = low_u32(flags),
                _ => {}
            }
        }
        self.value.u64(number.to_bits());
        self.exemplars.end_row();
        self.common.end_row(&point);
        Ok(())
    }
}

/// `otel_metrics_sum`: a gauge with two columns more, which the metric fills.
#[derive(Debug, Default)]
pub(in super::super) struct Sums {
    pub(super) numbers: Gauges,
    pub(super) temporality: Stream,
    pub(super) is_monotonic: Stream,
}

impl Columns for Sums {
    fn visit(&mut self, visit: Visit<'_>) -> std::io::Result<()> {
        self.numbers.visit(visit)?;
        visit("AggregationTemporality", "Int32", &mut self.temporality)?;
        visit("IsMonotonic", "Bool", &mut self.is_monotonic)
    }
    fn rows(&self) -> usize {
        self.numbers.common.rows
    }
    fn reset_rows(&mut self) {
        self.numbers.common.reset_rows();
    }
}

/// `otel_metrics_histogram`.
#[derive(Debug, Default)]
pub(in super::super) struct Histograms {
    pub(super) common: Common,
    count: Stream,
    sum: Stream,
    bucket_counts: Numbers,
    explicit_bounds: Numbers,
    exemplars: Exemplars,
    min: Stream,
    max: Stream,
    pub(super) temporality: Stream,
}

impl Columns for Histograms {
    fn visit(&mut self, visit: Visit<'_>) -> std::io::Result<()> {
        self.common.visit(visit)?;
        visit("Count", "UInt64", &mut self.count)?;
        visit("Sum", "Float64", &mut self.sum)?;
        self.bucket_counts
            .visit("BucketCounts", "Array(UInt64)", visit)?;
        self.explicit_bounds
            .visit("ExplicitBounds", "Array(Float64)", visit)?;
        self.exemplars.visit(visit)?;
        visit("Min", "Float64", &mut self.min)?;
        visit("Max", "Float64", &mut self.max)?;
        visit("AggregationTemporality", "Int32", &mut self.temporality)
    }
    fn rows(&self) -> usize {
        self.common.rows
    }
    fn reset_rows(&mut self) {
        self.common.reset_rows();
    }
}

impl Histograms {
    /// Appends a `HistogramDataPoint`.
    pub(super) fn point(&mut self, message: &[u8]) -> Result<(), EncodeError> {
        let mut point = Point::default();
        let (mut count, mut sum, mut min, mut max) = (0, 0, 0, 0);
        let mut fields = Fields::new(message);
        while let Some(field) = self.common.next_field(&mut fields, 9) {
            let Field { number, value } = field?;
            match (number, value) {
                (2, Value::Fixed64(time)) => point.start_time = time,
                (3, Value::Fixed64(time)) => point.time = time,
                (4, Value::Fixed64(number)) => count = number,
                (5, Value::Fixed64(bits)) => sum = bits,
                (6, numbers) => self.bucket_counts.add_fixed(numbers)?,
                (7, numbers) => self.explicit_bounds.add_fixed(numbers)?,
                (8, Value::Bytes(exemplar)) => self.exemplars.add(exemplar)?,
                (9, Value::Bytes(pair)) => self.common.attribute(pair)?,
                (10, Value::Varint(flags)) => point.flags = low_u32(flags),
                (11, Value::Fixed64(bits)) => min = bits,
                (12, Value::Fixed64(bits)) => max = bits,
                _ => {}
            }
        }
        for (column, bits) in [
            (&mut self.count, count),
            (&mut self.sum, sum),
            (&mut self.min, min),
            (&mut self.max, max),
        ] {
            column.u64(bits);
        }
        self.bucket_counts.end_row();
        self.explicit_bounds.end_row();
        self.exemplars.end_row();
        self.common.end_row(&point);
        Ok(())
    }
}

/// `otel_metrics_exponential_histogram`.
#[derive(Debug, Default)]
pub(in super::super) struct ExponentialHistograms {
    pub(super) common: Common,
    count: Stream,
    sum: Stream,
    scale: Stream,
    zero_count: Stream,
    positive: Buckets,
    negative: Buckets,
    exemplars: Exemplars,
    min: Stream,
    max: Stream,
    pub(super) temporality: Stream,
}

impl Columns for ExponentialHistograms {
    fn visit(&mut self, visit: Visit<'_>) -> std::io::Result<()> {
        self.common.visit(visit)?;
        visit("Count", "UInt64", &mut self.count)?;
        visit("Sum", "Float64", &mut self.sum)?;
        visit("Scale", "Int32", &mut self.scale)?;
        visit("ZeroCount", "UInt64", &mut self.zero_count)?;
        visit("PositiveOffset", "Int32", &mut self.positive.offset)?;
        let counts = &mut self.positive.counts;
        counts.visit("PositiveBucketCounts", "Array(UInt64)", visit)?;
        visit("NegativeOffset", "Int32", &mut self.negative.offset)?;
        let counts = &mut self.negative.counts;
        counts.visit("NegativeBucketCounts", "Array(UInt64)", visit)?;
        self.exemplars.visit(visit)?;
        visit("Min", "Float64", &mut self.min)?;
        visit("Max", "Float64", &mut self.max)?;
        visit("AggregationTemporality", "Int32", &mut self.temporality)
    }
    fn rows(&self) -> usize {
        self.common.rows
    }
    fn reset_rows(&mut self) {
        self.common.reset_rows();
    }
}

impl ExponentialHistograms {
    /// Appends an `ExponentialHistogramDataPoint`.
    pub(super) fn point(&mut self, message: &[u8]) -> Result<(), EncodeError> {
        let mut point = Point::default();
        let (mut count, mut sum, mut scale, mut zero_count) = (0, 0, 0, 0);
        let (mut min, mut max, mut positive, mut negative) = (0, 0, 0, 0);
        let mut fields = Fields::new(message);
        while let Some(field) = self.common.next_field(&mut fields, 1) {
            let Field { number, value } = field?;
            match (number, value) {
                (1, Value::Bytes(pair)) => self.common.attribute(pair)?,
                (2, Value::Fixed64(time)) => point.start_time = time,
                (3, Value::Fixed64(time)) => point.time = time,
                (4, Value::Fixed64(number)) => count = number,
                (5, Value::Fixed64(bits)) => sum = bits,
                (6, Value::Varint(zigzag)) => scale = signed(zigzag),
                (7, Value::Fixed64(number)) => zero_count = number,
                (8, Value::Bytes(buckets)) => self.positive.read(buckets, &mut positive)?,
                (9, Value::Bytes(buckets)) => self.negative.read(buckets, &mut negative)?,
                (10, Value::Varint(flags)) => point.flags = low_u32(flags),
                (11, Value::Bytes(exemplar)) => self.exemplars.add(exemplar)?,
                (12, Value::Fixed64(bits)) => min = bits,
                (13, Value::Fixed64(bits)) => max = bits,
                _ => {}
            }
        }
        for (column, bits) in [
            (&mut self.count, count),
            (&mut self.sum, sum),
            (&mut self.zero_count, zero_count),
            (&mut self.min, min),
            (&mut self.max, max),
        ] {
            column.u64(bits);
        }
        self.scale.u32(scale);
        self.positive.end_row(positive);
        self.negative.end_row(negative);
        self.exemplars.end_row();
        self.common.end_row(&point);
        Ok(())
    }
}

/// One side of exponential histograms.
#[derive(Debug, Default)]
struct Buckets {
    offset: Stream,
    counts: Numbers,
}

impl Buckets {
    /// Adds the fields of a `Buckets` message. Several are read as one.
    fn read(&mut self, message: &[u8], offset: &mut u32) -> Result<(), EncodeError> {
        for field in Fields::new(message) {
            let Field { number, value } = field?;
            match (number, value) {
                (1, Value::Varint(zigzag)) => *offset = signed(zigzag),
                (2, numbers) => self.counts.add_varint(numbers)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn end_row(&mut self, offset: u32) {
        self.offset.u32(offset);
        self.counts.end_row();
    }
}

/// A `sint32` off the wire, as the bits of an `Int32`.
fn signed(zigzag: u64) -> u32 {
    let low = low_u32(zigzag);
    (low >> 1) ^ (low & 1).wrapping_neg()
}

/// `otel_metrics_summary`.
#[derive(Debug, Default)]
pub(in super::super) struct Summaries {
    pub(super) common: Common,
    count: Stream,
    sum: Stream,
    quantiles: Offsets,
    quantile: Stream,
    quantile_value: Stream,
}

impl Columns for Summaries {
    fn visit(&mut self, visit: Visit<'_>) -> std::io::Result<()> {
        self.common.visit(visit)?;
        visit("Count", "UInt64", &mut self.count)?;
        visit("Sum", "Float64", &mut self.sum)?;
        let mut quantiles = |name, offsets: &mut Offsets, elements: &mut Stream| {
            visit(name, "Array(Float64)", &mut Array { offsets, elements })
        };
        quantiles(
            "ValueAtQuantiles.Quantile",
            &mut self.quantiles,
            &mut self.quantile,
        )?;
        quantiles(
            "ValueAtQuantiles.Value",
            &mut self.quantiles,
            &mut self.quantile_value,
        )
    }
    fn rows(&self) -> usize {
        self.common.rows
    }
    fn reset_rows(&mut self) {
        self.common.reset_rows();
    }
}

impl Summaries {
    /// Appends a `SummaryDataPoint`.
    pub(super) fn point(&mut self, message: &[u8]) -> Result<(), EncodeError> {
        let mut point = Point::default();
        let (mut count, mut sum) = (0, 0);
        let mut fields = Fields::new(message);
        while let Some(field) = self.common.next_field(&mut fields, 7) {
            let Field { number, value } = field?;
            match (number, value) {
                (2, Value::Fixed64(time)) => point.start_time = time,
                (3, Value::Fixed64(time)) => point.time = time,
                (4, Value::Fixed64(number)) => count = number,
                (5, Value::Fixed64(bits)) => sum = bits,
                (6, Value::Bytes(quantile)) => self.quantile(quantile)?,
                (7, Value::Bytes(pair)) => self.common.attribute(pair)?,
                (8, Value::Varint(flags)) => point.flags = low_u32(flags),
                _ => {}
            }
        }
        self.count.u64(count);
        self.sum.u64(sum);
        self.quantiles.end_row();
        self.common.end_row(&point);
        Ok(())
    }

    fn quantile(&mut self, message: &[u8]) -> Result<(), EncodeError> {
        let (mut quantile, mut at) = (0, 0);
        for field in Fields::new(message) {
            let Field { number, value } = field?;
            match (number, value) {
                (1, Value::Fixed64(bits)) => quantile = bits,
                (2, Value::Fixed64(bits)) => at = bits,
                _ => {}
            }
        }
        self.quantile.u64(quantile);
        self.quantile_value.u64(at);
        self.quantiles.add();
        Ok(())
    }
}
