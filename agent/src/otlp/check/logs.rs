//! The walk over log records.

use super::super::reader::{Fields, WireError};
use super::common::{self, any_value, key_value};
use super::key::*;
use super::{Depth, Walk, known, skip, span_id, trace_id};

/// All field numbers up to 12 but 4, which was removed from the schema.
const LOG_RECORD: u32 = known(1, 3) | known(5, 12);

pub(super) fn request(walk: &mut Walk, message: &[u8], depth: Depth) -> Result<(), WireError> {
    common::request(walk, message, depth, log_record)
}

fn log_record(walk: &mut Walk, message: &[u8], depth: Depth) -> Result<(), WireError> {
    walk.items += 1;
    let mut bodies = 0;
    let mut fields = Fields::new(message);
    while !fields.is_empty() {
        match fields.key()? {
            LEN_6 => key_value(walk, fields.delimited()?, depth.enter()?)?,
            FIXED64_1 | FIXED64_11 => drop(fields.fixed64()?),
            VARINT_2 | VARINT_7 => drop(fields.varint()?),
            LEN_3 | LEN_12 => walk.string(fields.delimited()?),
            LEN_5 => {
                bodies += 1;
                any_value(walk, fields.delimited()?, depth.enter()?)?;
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
