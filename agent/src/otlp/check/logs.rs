//! The walk over log records.

use super::super::reader::{Fields, WireError};
use super::common::{self, any_value, key_value};
use super::key::*;
use super::usual::Usual;
use super::{Depth, Walk, known, skip, span_id, trace_id};

/// All field numbers up to 12 but 4, which was removed from the schema.
const LOG_RECORD: u32 = known(1, 3) | known(5, 12);

pub(super) fn request(walk: &mut Walk, message: &[u8], depth: Depth) -> Result<(), WireError> {
    common::request(walk, message, depth, log_record)
}

pub(super) fn log_record(walk: &mut Walk, message: &[u8], depth: Depth) -> Result<(), WireError> {
    walk.items += 1;
    let (mut bodies, rest) = behind_the_usual(walk, message, depth);
    let mut fields = Fields::new(rest);
    while !fields.is_empty() {
        match fields.key()? {
            LEN_6 => key_value(walk, fields.delimited()?, depth.enter()?)?,
            FIXED64_1 | FIXED64_11 => drop(fields.fixed64()?),
            VARINT_2 | VARINT_7 => drop(fields.varint()?),
            LEN_3 | LEN_12 => walk.string(fields.delimited()?),
            LEN_5 => {
                bodies += 1;
                any_value(walk, fields.delimited()?, depth.enter()?)?;
                fields = Fields::new(behind_usual_attributes(fields.rest(), depth));
            }
            FIXED32_8 => drop(fields.fixed32()?),
            LEN_9 => trace_id(fields.delimited()?)?,
            LEN_10 => span_id(fields.delimited()?)?,
            key => skip(&mut fields, key, LOG_RECORD, depth)?,
        }
    }
    walk.singular(bodies);
    Ok(())
}

/// How many bodies there are before the rest, and what is left of a record behind the fields that stand where they usually
/// do.
#[inline]
fn behind_the_usual<'a>(walk: &mut Walk, message: &'a [u8], depth: Depth) -> (u32, &'a [u8]) {
    let mut record = Usual(message);
    record.fixed::<8>(FIXED64_1);
    record.small_varint(VARINT_2);
    record.string(walk, LEN_3);
    if depth.0 > 0 && record.text_value(LEN_5) {
        return (1, behind_usual_attributes(record.0, depth));
    }
    (0, record.0)
}

/// What is left behind attributes and what usually comes after them.
#[inline]
fn behind_usual_attributes(rest: &[u8], depth: Depth) -> &[u8] {
    let mut record = Usual(rest);
    record.attributes(LEN_6, depth);
    record.fixed::<4>(FIXED32_8);
    record.id::<16>(LEN_9);
    record.id::<8>(LEN_10);
    record.fixed::<8>(FIXED64_11);
    record.0
}
