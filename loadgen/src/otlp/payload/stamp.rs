//! Places in an encoded request that differ from send to send, and how they are overwritten.

use super::ITEM_KEY;
use crate::otlp::signal::Signal;
use crate::otlp::wire::{Field, Fields, Malformed, Value};

/// Items are numbered from here: every number up to 2^49 takes the same seven bytes as a varint, so it
/// can be overwritten in place.
pub(crate) const FIRST_ITEM: u64 = 1 << 42;
/// The time that templates are built with, nanoseconds since 1970.
pub(super) const TEMPLATE_TIME: u64 = 1_700_000_000_000_000_000;
const VARINT_BYTES: usize = 7;

/// Where one item's numbers stand in its request's buffer. 0 means absent (a prefix stands there).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Site {
    number: u32,
    trace_id: u32,
    span_id: u32,
    parent_id: u32,
    times: [u32; 2],
    /// Which of the request's traces the item belongs to.
    trace: u32,
    /// How many items before this one its parent stands.
    parent_distance: u32,
}

/// How ids follow from item numbers. Two runs with different seeds share no id.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Numbering {
    seed: u64,
}

impl Numbering {
    pub(crate) fn for_run(run: &str) -> Self {
        let seed = run.bytes().fold(0x243f_6a88_85a3_08d3, |seed: u64, byte| {
            scramble(seed ^ u64::from(byte))
        });
        Self { seed }
    }

    /// The span id of item `number`: different numbers have different ids.
    pub(crate) fn span_id(self, number: u64) -> [u8; 8] {
        scramble(number.wrapping_add(self.seed)).to_be_bytes()
    }

    fn trace_id(self, number: u64) -> [u8; 16] {
        let high = scramble(number.wrapping_add(self.seed.rotate_left(32)));
        let low = scramble(high ^ self.seed);
        ((u128::from(high) << 64) | u128::from(low)).to_be_bytes()
    }
}

/// The finalizer of splitmix64: a bijection whose output looks random.
fn scramble(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// The trace id that a template has in place of the real one: tells [`find_sites`] which trace it is.
pub(super) fn placeholder_trace_id(trace: usize) -> Vec<u8> {
    let mut id = vec![0xee; 16];
    id.splice(..8, (trace as u64).to_le_bytes());
    id
}

/// The span id a template has in place of a real one.
pub(super) fn placeholder_span_id() -> Vec<u8> {
    vec![0xee; 8]
}

/// The parent id a template has in place of the id of the span `distance` items before.
pub(super) fn placeholder_parent_id(distance: usize) -> Vec<u8> {
    (distance as u64).to_le_bytes().to_vec()
}

/// Finds what is to be overwritten in an encoded request that will stand `base` bytes into its buffer.
pub(super) fn find_sites(
    signal: Signal,
    request: &[u8],
    base: usize,
) -> Result<Vec<Site>, Malformed> {
    let mut sites = Vec::new();
    for resource in Fields::at(request, base) {
        for scope in resource?.message() {
            let scope = scope?;
            for element in scope.message().filter(|_| scope.number == 2) {
                let element = element?;
                if element.number != 2 {
                    continue;
                }
                match signal {
                    Signal::Traces => sites.push(span_site(element)?),
                    Signal::Logs => sites.push(log_site(element)?),
                    Signal::Metrics => point_sites(element, &mut sites)?,
                }
            }
        }
    }
    Ok(sites)
}

fn span_site(span: Field<'_>) -> Result<Site, Malformed> {
    let mut site = Site::default();
    for field in span.message() {
        let field = field?;
        match field.number {
            1 => (site.trace_id, site.trace) = (at(field)?, placeholder(field)?),
            2 => site.span_id = at(field)?,
            4 if !field.bytes().is_empty() => {
                (site.parent_id, site.parent_distance) = (at(field)?, placeholder(field)?);
            }
            7 => site.times[0] = at(field)?,
            8 => site.times[1] = at(field)?,
            9 => find_number(field, &mut site)?,
            _ => {}
        }
    }
    Ok(site)
}

fn log_site(record: Field<'_>) -> Result<Site, Malformed> {
    let mut site = Site::default();
    for field in record.message() {
        let field = field?;
        match field.number {
            1 => site.times[0] = at(field)?,
            6 => find_number(field, &mut site)?,
            9 => (site.trace_id, site.trace) = (at(field)?, placeholder(field)?),
            10 => site.span_id = at(field)?,
            11 => site.times[1] = at(field)?,
            _ => {}
        }
    }
    Ok(site)
}

fn point_sites(metric: Field<'_>, sites: &mut Vec<Site>) -> Result<(), Malformed> {
    for data in metric.message() {
        let data = data?;
        // Gauge, sum, histogram, exponential histogram, summary.
        let attributes = match data.number {
            5 | 7 | 11 => 7,
            9 => 9,
            10 => 1,
            _ => continue,
        };
        for point in data.message() {
            let point = point?;
            if point.number != 1 {
                continue;
            }
            let mut site = Site::default();
            for field in point.message() {
                let field = field?;
                match field.number {
                    3 => site.times[0] = at(field)?,
                    number if number == attributes => find_number(field, &mut site)?,
                    _ => {}
                }
            }
            sites.push(site);
        }
    }
    Ok(())
}

fn at(field: Field<'_>) -> Result<u32, Malformed> {
    u32::try_from(field.offset).map_err(|_| Malformed)
}

fn placeholder(field: Field<'_>) -> Result<u32, Malformed> {
    let bytes = field.bytes().first_chunk::<8>().ok_or(Malformed)?;
    u32::try_from(u64::from_le_bytes(*bytes)).map_err(|_| Malformed)
}

/// Notes where the number stands if this attribute carries it.
fn find_number(attribute: Field<'_>, site: &mut Site) -> Result<(), Malformed> {
    let mut is_number = false;
    for part in attribute.message() {
        let part = part?;
        match part.number {
            1 => is_number = part.bytes() == ITEM_KEY.as_bytes(),
            2 if is_number => {
                for value in part.message() {
                    let value = value?;
                    if let (3, Value::Varint(FIRST_ITEM)) = (value.number, value.value) {
                        site.number = at(value)?;
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Overwrites ids and numbers, and adds `shift` nanoseconds to the times.
pub(super) fn patch(
    buffer: &mut [u8],
    sites: &[Site],
    numbering: Numbering,
    first: u64,
    shift: u64,
) {
    for (number, site) in (first..).zip(sites) {
        write(buffer, site.number, varint(number));
        if site.trace_id != 0 {
            write(
                buffer,
                site.trace_id,
                numbering.trace_id(first + u64::from(site.trace)),
            );
            write(buffer, site.span_id, numbering.span_id(number));
        }
        if site.parent_id != 0 {
            let parent = number.wrapping_sub(u64::from(site.parent_distance));
            write(buffer, site.parent_id, numbering.span_id(parent));
        }
        for time in site.times {
            add(buffer, time, shift);
        }
    }
}

fn write<const N: usize>(buffer: &mut [u8], offset: u32, bytes: [u8; N]) {
    if offset != 0
        && let Some(place) = buffer
            .get_mut(offset as usize..)
            .and_then(|rest| rest.first_chunk_mut())
    {
        *place = bytes;
    }
}

fn add(buffer: &mut [u8], offset: u32, shift: u64) {
    if offset != 0
        && let Some(place) = buffer
            .get_mut(offset as usize..)
            .and_then(|rest| rest.first_chunk_mut())
    {
        *place = u64::from_le_bytes(*place).wrapping_add(shift).to_le_bytes();
    }
}

/// Item `number` as the varint that stands for `FIRST_ITEM + number`.
fn varint(number: u64) -> [u8; VARINT_BYTES] {
    let value = (FIRST_ITEM + number) & ((1 << 49) - 1);
    let mut bytes = [0x80; VARINT_BYTES];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte |= ((value >> (7 * index)) & 0x7f) as u8;
    }
    bytes[VARINT_BYTES - 1] &= 0x7f;
    bytes
}
