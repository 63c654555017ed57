//! The walk over metrics and their five kinds of data points.

use super::super::reader::{Fields, WireError};
use super::common::{self, key_value};
use super::key::*;
use super::usual::Usual;
use super::{Depth, Walk, known, skip, span_id, trace_id};

/// The members of a metric's `data`, and what else it has: all field numbers but 4, 6 and 8.
const METRIC: u32 = known(1, 3) | known(5, 5) | known(7, 7) | known(9, 12);
const NUMBER_POINT: u32 = known(2, 8);
const HISTOGRAM_POINT: u32 = known(2, 12);
const EXEMPLAR: u32 = known(2, 7);

pub(super) fn request(walk: &mut Walk, message: &[u8], depth: Depth) -> Result<(), WireError> {
    common::request(walk, message, depth, metric)
}

fn metric(walk: &mut Walk, message: &[u8], depth: Depth) -> Result<(), WireError> {
    let mut data = 0;
    let mut points = Points::default();
    let mut fields = Fields::new(message);
    while !fields.is_empty() {
        let key = fields.key()?;
        let point: Walker = match key {
            LEN_5 | LEN_7 => number_point,
            LEN_9 => histogram_point,
            LEN_10 => exponential_point,
            LEN_11 => summary_point,
            LEN_1 | LEN_2 | LEN_3 => {
                walk.string(fields.delimited()?);
                continue;
            }
            LEN_12 => {
                key_value(walk, fields.delimited()?, depth.enter()?)?;
                continue;
            }
            _ => {
                skip(&mut fields, key, METRIC, depth)?;
                continue;
            }
        };
        data += 1;
        let count = points_of(walk, fields.delimited()?, depth.enter()?, key, point)?;
        points.add(key, count);
    }
    walk.items += points.count;
    walk.singular(data);
    Ok(())
}

type Walker = fn(&mut Walk, &[u8], Depth) -> Result<(), WireError>;

/// The points of a metric whose `data` may occur several times: equal kinds are merged, another kind replaces them.
#[derive(Default)]
struct Points {
    kind: u32,
    count: usize,
}

impl Points {
    fn add(&mut self, kind: u32, count: usize) {
        if self.kind == kind {
            self.count += count;
        } else {
            *self = Self { kind, count };
        }
    }
}

/// A gauge, sum, histogram, exponential histogram or summary; returns its number of points.
fn points_of(
    walk: &mut Walk,
    message: &[u8],
    depth: Depth,
    kind: u32,
    point: Walker,
) -> Result<usize, WireError> {
    // What stands beside the points: nothing, the temporality, or that and whether a sum is monotonic.
    let known = match kind {
        LEN_7 => known(1, 3),
        LEN_9 | LEN_10 => known(1, 2),
        _ => known(1, 1),
    };
    let mut points = 0;
    let mut fields = Fields::new(message);
    while !fields.is_empty() {
        match fields.key()? {
            LEN_1 => {
                points += 1;
                point(walk, fields.delimited()?, depth.enter()?)?;
            }
            key @ (VARINT_2 | VARINT_3) if known >> (key >> 3) & 1 == 1 => drop(fields.varint()?),
            key => skip(&mut fields, key, known, depth)?,
        }
    }
    Ok(points)
}

fn number_point(walk: &mut Walk, message: &[u8], depth: Depth) -> Result<(), WireError> {
    let (mut values, rest) = behind_the_usual(message, depth);
    let mut fields = Fields::new(rest);
    while !fields.is_empty() {
        match fields.key()? {
            LEN_7 => key_value(walk, fields.delimited()?, depth.enter()?)?,
            FIXED64_2 | FIXED64_3 => drop(fields.fixed64()?),
            FIXED64_4 | FIXED64_6 => {
                values += 1;
                fields.fixed64()?;
            }
            LEN_5 => exemplar(walk, fields.delimited()?, depth.enter()?)?,
            VARINT_8 => drop(fields.varint()?),
            key => skip(&mut fields, key, NUMBER_POINT, depth)?,
        }
    }
    walk.singular(values);
    Ok(())
}

/// How many values there are before the rest, and what is left of a point behind the fields that stand where they usually do.
#[inline]
fn behind_the_usual(message: &[u8], depth: Depth) -> (u32, &[u8]) {
    let mut point = Usual(message);
    point.fixed::<8>(FIXED64_2);
    point.fixed::<8>(FIXED64_3);
    let values = point.fixed::<8>(FIXED64_4) || point.fixed::<8>(FIXED64_6);
    point.attributes(LEN_7, depth);
    (u32::from(values), point.0)
}

fn histogram_point(walk: &mut Walk, message: &[u8], depth: Depth) -> Result<(), WireError> {
    let mut fields = Fields::new(message);
    while !fields.is_empty() {
        match fields.key()? {
            LEN_9 => key_value(walk, fields.delimited()?, depth.enter()?)?,
            FIXED64_2 | FIXED64_3 | FIXED64_4 | FIXED64_5 | FIXED64_6 | FIXED64_7 | FIXED64_11
            | FIXED64_12 => drop(fields.fixed64()?),
            LEN_6 => packed_fixed64(fields.delimited()?)?,
            LEN_7 => {
                packed_fixed64(fields.delimited()?)?;
                let mut rest = Usual(fields.rest());
                rest.attributes(LEN_9, depth);
                fields = Fields::new(rest.0);
            }
            LEN_8 => exemplar(walk, fields.delimited()?, depth.enter()?)?,
            VARINT_10 => drop(fields.varint()?),
            key => skip(&mut fields, key, HISTOGRAM_POINT, depth)?,
        }
    }
    Ok(())
}

fn exponential_point(walk: &mut Walk, message: &[u8], depth: Depth) -> Result<(), WireError> {
    let mut positives = 0;
    let mut negatives = 0;
    let mut fields = Fields::new(message);
    while !fields.is_empty() {
        match fields.key()? {
            LEN_1 => key_value(walk, fields.delimited()?, depth.enter()?)?,
            FIXED64_2 | FIXED64_3 | FIXED64_4 | FIXED64_5 | FIXED64_7 | FIXED64_12 | FIXED64_13
            | FIXED64_14 => drop(fields.fixed64()?),
            VARINT_6 | VARINT_10 => drop(fields.varint()?),
            LEN_8 => {
                positives += 1;
                buckets(fields.delimited()?, depth.enter()?)?;
            }
            LEN_9 => {
                negatives += 1;
                buckets(fields.delimited()?, depth.enter()?)?;
            }
            LEN_11 => exemplar(walk, fields.delimited()?, depth.enter()?)?,
            key => skip(&mut fields, key, known(1, 14), depth)?,
        }
    }
    walk.singular(positives);
    walk.singular(negatives);
    Ok(())
}

fn buckets(message: &[u8], depth: Depth) -> Result<(), WireError> {
    let mut fields = Fields::new(message);
    while !fields.is_empty() {
        match fields.key()? {
            VARINT_1 | VARINT_2 => drop(fields.varint()?),
            LEN_2 => packed_varints(fields.delimited()?)?,
            key => skip(&mut fields, key, known(1, 2), depth)?,
        }
    }
    Ok(())
}

fn summary_point(walk: &mut Walk, message: &[u8], depth: Depth) -> Result<(), WireError> {
    let mut fields = Fields::new(message);
    while !fields.is_empty() {
        match fields.key()? {
            LEN_7 => key_value(walk, fields.delimited()?, depth.enter()?)?,
            FIXED64_2 | FIXED64_3 | FIXED64_4 | FIXED64_5 => drop(fields.fixed64()?),
            LEN_6 => quantile(fields.delimited()?, depth.enter()?)?,
            VARINT_8 => drop(fields.varint()?),
            key => skip(&mut fields, key, known(2, 8), depth)?,
        }
    }
    Ok(())
}

fn quantile(message: &[u8], depth: Depth) -> Result<(), WireError> {
    let mut fields = Fields::new(message);
    while !fields.is_empty() {
        match fields.key()? {
            FIXED64_1 | FIXED64_2 => drop(fields.fixed64()?),
            key => skip(&mut fields, key, known(1, 2), depth)?,
        }
    }
    Ok(())
}

fn exemplar(walk: &mut Walk, message: &[u8], depth: Depth) -> Result<(), WireError> {
    let mut values = 0;
    let mut fields = Fields::new(message);
    while !fields.is_empty() {
        match fields.key()? {
            LEN_7 => key_value(walk, fields.delimited()?, depth.enter()?)?,
            FIXED64_2 => drop(fields.fixed64()?),
            FIXED64_3 | FIXED64_6 => {
                values += 1;
                fields.fixed64()?;
            }
            LEN_4 => span_id(fields.delimited()?)?,
            LEN_5 => trace_id(fields.delimited()?)?,
            key => skip(&mut fields, key, EXEMPLAR, depth)?,
        }
    }
    walk.singular(values);
    Ok(())
}

fn packed_fixed64(values: &[u8]) -> Result<(), WireError> {
    if values.len().is_multiple_of(8) {
        Ok(())
    } else {
        Err(WireError::Truncated)
    }
}

fn packed_varints(values: &[u8]) -> Result<(), WireError> {
    let mut values = Fields::new(values);
    while !values.is_empty() {
        values.varint()?;
    }
    Ok(())
}
