//! The columns that all five metrics tables have, and exemplars.

use super::super::super::native::{
    Array, Column, Compressor, Labels, Maps, Offsets, Stream, Texts, Visit, Words,
};
use super::super::hex::push_id_or_zeros;
use super::super::shared::{Resource, Scope, fill_text, next_field, push_attribute, tag};
use super::super::{EncodeError, LABEL, MAP, MAPS};
use super::Metric;
use crate::otlp::{Field, Fields, Value, WireError};

/// Times are sent in full: the server rounds them down where the table has whole seconds.
pub(super) const TIME: &str = "DateTime64(9)";

/// What every data point has.
#[derive(Debug, Default)]
pub(in super::super) struct Common {
    pub(super) rows: usize,
    /// Rows whose resource columns are filled, and so on. They are filled when all is known: fields have no order.
    filled_resource: usize,
    filled_scope: usize,
    filled_metric: usize,
    resource_attributes: Maps,
    resource_schema_url: Stream,
    scope_name: Stream,
    scope_version: Stream,
    scope_attributes: Maps,
    scope_dropped: Stream,
    scope_schema_url: Stream,
    service_name: Labels,
    metric_name: Labels,
    description: Stream,
    unit: Stream,
    attributes: Maps,
    start_time: Words,
    time: Words,
    flags: Stream,
}

/// The scalars that every data point has.
#[derive(Debug, Default)]
pub(super) struct Point {
    pub(super) start_time: u64,
    pub(super) time: u64,
    pub(super) flags: u32,
}

impl Common {
    pub(super) fn visit(&mut self, visit: Visit<'_>) -> std::io::Result<()> {
        visit("ResourceAttributes", MAP, &mut self.resource_attributes)?;
        visit("ResourceSchemaUrl", "String", &mut self.resource_schema_url)?;
        visit("ScopeName", "String", &mut self.scope_name)?;
        visit("ScopeVersion", "String", &mut self.scope_version)?;
        visit("ScopeAttributes", MAP, &mut self.scope_attributes)?;
        visit("ScopeDroppedAttrCount", "UInt32", &mut self.scope_dropped)?;
        visit("ScopeSchemaUrl", "String", &mut self.scope_schema_url)?;
        visit("ServiceName", LABEL, &mut self.service_name)?;
        visit("MetricName", LABEL, &mut self.metric_name)?;
        visit("MetricDescription", "String", &mut self.description)?;
        visit("MetricUnit", "String", &mut self.unit)?;
        visit("Attributes", MAP, &mut self.attributes)?;
        visit("StartTimeUnix", TIME, &mut self.start_time)?;
        visit("TimeUnix", TIME, &mut self.time)?;
        visit("Flags", "UInt32", &mut self.flags)
    }

    /// The next field of a point whose attributes are field `number`; see [`next_field`].
    #[inline]
    pub(super) fn next_field<'a>(
        &mut self,
        fields: &mut Fields<'a>,
        number: u8,
    ) -> Option<Result<Field<'a>, WireError>> {
        next_field(fields, &mut self.attributes, tag(number))
    }

    /// Adds an attribute to the row under way.
    pub(super) fn attribute(&mut self, pair: &[u8]) -> Result<(), EncodeError> {
        Ok(push_attribute(&mut self.attributes, pair)?)
    }

    /// Ends the row under way.
    pub(super) fn end_row(&mut self, point: &Point) {
        self.attributes.end_row();
        self.start_time.push(point.start_time);
        self.time.push(point.time);
        self.flags.u32(point.flags);
        self.rows += 1;
    }

    pub(super) fn fill_resource(
        &mut self,
        resource: &Resource<'_>,
        compressor: &mut Compressor,
    ) -> Result<(), EncodeError> {
        let rows = self.rows - self.filled_resource;
        if rows == 0 {
            return Ok(());
        }
        self.filled_resource = self.rows;
        self.service_name.repeat(resource.service_name(), rows);
        resource
            .attributes
            .fill(&mut self.resource_attributes, rows, compressor)?;
        fill_text(
            &mut self.resource_schema_url,
            resource.schema_url,
            rows,
            compressor,
        )
    }

    pub(super) fn fill_scope(
        &mut self,
        scope: &Scope<'_>,
        compressor: &mut Compressor,
    ) -> Result<(), EncodeError> {
        let rows = self.rows - self.filled_scope;
        if rows == 0 {
            return Ok(());
        }
        self.filled_scope = self.rows;
        scope
            .attributes
            .fill(&mut self.scope_attributes, rows, compressor)?;
        let dropped = scope.dropped_attributes.to_le_bytes();
        self.scope_dropped.repeat(&dropped, rows, compressor)?;
        fill_text(&mut self.scope_name, scope.name, rows, compressor)?;
        fill_text(&mut self.scope_version, scope.version, rows, compressor)?;
        fill_text(
            &mut self.scope_schema_url,
            scope.schema_url,
            rows,
            compressor,
        )
    }

    /// Rows of the metric under way.
    pub(super) fn unfilled_metric(&self) -> usize {
        self.rows - self.filled_metric
    }

    pub(super) fn fill_metric(
        &mut self,
        metric: &Metric<'_>,
        compressor: &mut Compressor,
    ) -> Result<(), EncodeError> {
        let rows = self.unfilled_metric();
        self.filled_metric = self.rows;
        if rows == 0 {
            return Ok(());
        }
        self.metric_name.repeat(metric.name, rows);
        fill_text(&mut self.description, metric.description, rows, compressor)?;
        fill_text(&mut self.unit, metric.unit, rows, compressor)
    }

    pub(super) fn reset_rows(&mut self) {
        self.rows = 0;
        self.filled_resource = 0;
        self.filled_scope = 0;
        self.filled_metric = 0;
    }
}

/// The exemplars of all rows.
#[derive(Debug, Default)]
pub(super) struct Exemplars {
    offsets: Offsets,
    attributes: Maps,
    time: Stream,
    value: Stream,
    span_id: Texts,
    trace_id: Texts,
}

impl Exemplars {
    pub(super) fn visit(&mut self, visit: Visit<'_>) -> std::io::Result<()> {
        let offsets = &mut self.offsets;
        let mut array = |name, kind, offsets: &mut Offsets, elements: &mut dyn Column| {
            visit(name, kind, &mut Array { offsets, elements })
        };
        array(
            "Exemplars.FilteredAttributes",
            MAPS,
            offsets,
            &mut self.attributes,
        )?;
        array(
            "Exemplars.TimeUnix",
            "Array(DateTime64(9))",
            offsets,
            &mut self.time,
        )?;
        array(
            "Exemplars.Value",
            "Array(Float64)",
            offsets,
            &mut self.value,
        )?;
        array(
            "Exemplars.SpanId",
            "Array(String)",
            offsets,
            &mut self.span_id,
        )?;
        array(
            "Exemplars.TraceId",
            "Array(String)",
            offsets,
            &mut self.trace_id,
        )
    }

    /// Adds an exemplar to the row under way. Ids that are absent or zero are zeros here.
    pub(super) fn add(&mut self, message: &[u8]) -> Result<(), EncodeError> {
        let (mut time, mut value) = (0, 0.0);
        let (mut span_id, mut trace_id): (&[u8], &[u8]) = (&[], &[]);
        for field in Fields::new(message) {
            let Field {
                number,
                value: wire,
            } = field?;
            match (number, wire) {
                (2, Value::Fixed64(nanos)) => time = nanos,
                (3, Value::Fixed64(bits)) => value = f64::from_bits(bits),
                (4, Value::Bytes(id)) => span_id = id,
                (5, Value::Bytes(id)) => trace_id = id,
                (6, Value::Fixed64(bits)) => value = int_as_double(bits),
                (7, Value::Bytes(pair)) => push_attribute(&mut self.attributes, pair)?,
                _ => {}
            }
        }
        self.attributes.end_row();
        self.time.u64(time);
        self.value.u64(value.to_bits());
        push_id_or_zeros::<8>(self.span_id.stream(), span_id);
        push_id_or_zeros::<16>(self.trace_id.stream(), trace_id);
        self.offsets.add();
        Ok(())
    }

    pub(super) fn end_row(&mut self) {
        self.offsets.end_row();
    }
}

/// The tables have no integers: values beyond 2^53 lose their last digits, as in the Collector.
pub(super) fn int_as_double(bits: u64) -> f64 {
    bits.cast_signed() as f64
}
