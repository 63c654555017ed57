//! The walk over spans.

use super::super::reader::{Fields, WireError};
use super::common::{self, key_value};
use super::key::*;
use super::usual::Usual;
use super::{Depth, Walk, known, skip, span_id, trace_id};

pub(super) fn request(walk: &mut Walk, message: &[u8], depth: Depth) -> Result<(), WireError> {
    common::request(walk, message, depth, span)
}

pub(super) fn span(walk: &mut Walk, message: &[u8], depth: Depth) -> Result<(), WireError> {
    walk.items += 1;
    let (mut statuses, rest) = behind_the_usual(walk, message, depth);
    let mut fields = Fields::new(rest);
    while !fields.is_empty() {
        match fields.key()? {
            LEN_9 => key_value(walk, fields.delimited()?, depth.enter()?)?,
            LEN_1 => trace_id(fields.delimited()?)?,
            LEN_2 | LEN_4 => span_id(fields.delimited()?)?,
            LEN_3 | LEN_5 => walk.string(fields.delimited()?),
            VARINT_6 | VARINT_10 | VARINT_12 | VARINT_14 => drop(fields.varint()?),
            FIXED64_7 | FIXED64_8 => drop(fields.fixed64()?),
            LEN_11 => event(walk, fields.delimited()?, depth.enter()?)?,
            LEN_13 => link(walk, fields.delimited()?, depth.enter()?)?,
            LEN_15 => {
                statuses += 1;
                status(walk, fields.delimited()?, depth.enter()?)?;
            }
            FIXED32_16 => drop(fields.fixed32()?),
            key => skip(&mut fields, key, known(1, 16), depth)?,
        }
    }
    walk.singular(statuses);
    Ok(())
}

/// How many statuses there are before the rest, and what is left of a span behind the fields that stand where they usually do.
#[inline]
fn behind_the_usual<'a>(walk: &mut Walk, message: &'a [u8], depth: Depth) -> (u32, &'a [u8]) {
    let mut span = Usual(message);
    span.id::<16>(LEN_1);
    span.id::<8>(LEN_2);
    span.string(walk, LEN_3);
    span.id::<8>(LEN_4);
    span.string(walk, LEN_5);
    span.small_varint(VARINT_6);
    span.fixed::<8>(FIXED64_7);
    span.fixed::<8>(FIXED64_8);
    span.attributes(LEN_9, depth);
    let statuses = u32::from(depth.0 > 0 && span.small_code(LEN_15, VARINT_3));
    span.flags();
    (statuses, span.0)
}

fn event(walk: &mut Walk, message: &[u8], depth: Depth) -> Result<(), WireError> {
    let mut fields = Fields::new(message);
    while !fields.is_empty() {
        match fields.key()? {
            FIXED64_1 => drop(fields.fixed64()?),
            LEN_2 => walk.string(fields.delimited()?),
            LEN_3 => key_value(walk, fields.delimited()?, depth.enter()?)?,
            VARINT_4 => drop(fields.varint()?),
            key => skip(&mut fields, key, known(1, 4), depth)?,
        }
    }
    Ok(())
}

fn link(walk: &mut Walk, message: &[u8], depth: Depth) -> Result<(), WireError> {
    let mut fields = Fields::new(message);
    while !fields.is_empty() {
        match fields.key()? {
            LEN_1 => trace_id(fields.delimited()?)?,
            LEN_2 => span_id(fields.delimited()?)?,
            LEN_3 => walk.string(fields.delimited()?),
            LEN_4 => key_value(walk, fields.delimited()?, depth.enter()?)?,
            VARINT_5 => drop(fields.varint()?),
            FIXED32_6 => drop(fields.fixed32()?),
            key => skip(&mut fields, key, known(1, 6), depth)?,
        }
    }
    Ok(())
}

fn status(walk: &mut Walk, message: &[u8], depth: Depth) -> Result<(), WireError> {
    let mut fields = Fields::new(message);
    while !fields.is_empty() {
        match fields.key()? {
            LEN_2 => walk.string(fields.delimited()?),
            VARINT_3 => drop(fields.varint()?),
            key => skip(&mut fields, key, known(2, 3), depth)?,
        }
    }
    Ok(())
}
