//! Counts the rows in the body of an INSERT by stepping over their values, and tells rows apart by them.

use std::io::Read as _;

use super::super::distinct::{also, print_of, print_of_all};
use super::types::{RowsError, Type};

/// What an insert may expand to; far above any sensible batch.
const BODY_BYTES_MAX: usize = 2 << 30;
/// Checksum, method, compressed and uncompressed size.
const FRAME_HEADER: usize = 25;
const CHECKSUM: usize = 16;

/// How the bytes of a body are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    Plain,
    /// ClickHouse's own compressed blocks (`decompress=1`).
    Blocks,
    Lz4,
    Gzip,
    Zstd,
}

/// Counts rows of `format`; `types` are the inserted columns' types, for formats that do not name them.
///
/// # Errors
/// [`RowsError`] when the body is damaged, or its format or a type is not known here.
pub(crate) fn count(
    body: &[u8],
    packing: Packing,
    format: &str,
    types: Option<&[Type]>,
) -> Result<u64, RowsError> {
    let unpacked = unpack(body, packing)?;
    let body = unpacked.as_deref().unwrap_or(body);
    if format == "Native" {
        return Cursor { bytes: body }.native(None);
    }
    let mut rows = 0;
    each_row(body, format, types, |_| rows += 1)?;
    Ok(rows)
}

/// As [`count`], the content of each row in 64 bits: rows with equal values in all columns are alike, others are not.
///
/// # Errors
/// As those of [`count`].
pub(crate) fn prints(
    body: &[u8],
    packing: Packing,
    format: &str,
    types: Option<&[Type]>,
) -> Result<Vec<u64>, RowsError> {
    let unpacked = unpack(body, packing)?;
    let body = unpacked.as_deref().unwrap_or(body);
    let mut prints = Vec::new();
    if format == "Native" {
        Cursor { bytes: body }.native(Some(&mut prints))?;
        return Ok(prints);
    }
    each_row(body, format, types, |row| prints.push(print_of(row)))?;
    Ok(prints)
}

/// Gives the bytes of each row to `visit`, in formats that write one row after the other.
fn each_row(
    body: &[u8],
    format: &str,
    types: Option<&[Type]>,
    mut visit: impl FnMut(&[u8]),
) -> Result<(), RowsError> {
    let cursor = Cursor { bytes: body };
    match format {
        "RowBinary" => {
            let unknown =
                || RowsError::Unsupported("RowBinary into a table nobody described".to_owned());
            cursor.row_binary(types.ok_or_else(unknown)?, visit)
        }
        "RowBinaryWithNamesAndTypes" => cursor.row_binary_with_types(visit),
        "JSONEachRow" | "JSONCompactEachRow" | "TabSeparated" | "TSV" | "CSV" => {
            let lines = body.split(|byte| *byte == b'\n');
            lines.filter(|line| !line.is_empty()).for_each(&mut visit);
            Ok(())
        }
        other => Err(RowsError::Unsupported(format!(
            "cannot count rows in format {other}"
        ))),
    }
}

/// `None` when there is nothing to unpack.
fn unpack(body: &[u8], packing: Packing) -> Result<Option<Vec<u8>>, RowsError> {
    let mut plain = Vec::new();
    let limit = BODY_BYTES_MAX as u64 + 1;
    let read = match packing {
        Packing::Plain => return Ok(None),
        Packing::Blocks => return unpack_blocks(body).map(Some),
        Packing::Lz4 => lz4_flex::frame::FrameDecoder::new(body)
            .take(limit)
            .read_to_end(&mut plain),
        Packing::Gzip => flate2::read::MultiGzDecoder::new(body)
            .take(limit)
            .read_to_end(&mut plain),
        Packing::Zstd => {
            zstd::Decoder::new(body).and_then(|decoder| decoder.take(limit).read_to_end(&mut plain))
        }
    };
    match read {
        Ok(read) if read > BODY_BYTES_MAX => Err(too_large()),
        Ok(_) => Ok(Some(plain)),
        Err(error) => Err(RowsError::Unsupported(format!(
            "cannot decompress: {error}"
        ))),
    }
}

fn too_large() -> RowsError {
    RowsError::Unsupported("expands beyond 2 GiB".to_owned())
}

fn unpack_blocks(mut body: &[u8]) -> Result<Vec<u8>, RowsError> {
    let damaged =
        |what: &dyn std::fmt::Display| RowsError::Unsupported(format!("compressed block: {what}"));
    let mut plain = Vec::new();
    while !body.is_empty() {
        let header = body
            .get(CHECKSUM..FRAME_HEADER)
            .ok_or(RowsError::Truncated)?;
        let mut sizes = Cursor { bytes: header };
        let method = sizes.byte()?;
        let (packed, unpacked) = (sizes.u32()? as usize, sizes.u32()? as usize);
        if plain.len() + unpacked > BODY_BYTES_MAX {
            return Err(too_large());
        }
        // The compressed size counts its own header, but not the checksum.
        let end = CHECKSUM + packed;
        let data = body.get(FRAME_HEADER..end).ok_or(RowsError::Truncated)?;
        let start = plain.len();
        match method {
            0x82 => {
                plain.resize(start + unpacked, 0);
                let target = plain.get_mut(start..).unwrap_or_default();
                lz4_flex::block::decompress_into(data, target).map_err(|error| damaged(&error))?;
            }
            0x90 => {
                plain.extend(
                    zstd::bulk::decompress(data, unpacked).map_err(|error| damaged(&error))?,
                );
            }
            0x02 => plain.extend_from_slice(data),
            other => return Err(damaged(&format!("unknown method {other:#x}"))),
        }
        body = body.get(end..).unwrap_or_default();
    }
    Ok(plain)
}

struct Cursor<'a> {
    bytes: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], RowsError> {
        let (taken, rest) = self
            .bytes
            .split_at_checked(length)
            .ok_or(RowsError::Truncated)?;
        self.bytes = rest;
        Ok(taken)
    }

    fn skip(&mut self, size: usize, times: usize) -> Result<(), RowsError> {
        self.take(size.checked_mul(times).ok_or(RowsError::Truncated)?)
            .map(drop)
    }

    fn byte(&mut self) -> Result<u8, RowsError> {
        let (first, rest) = self.bytes.split_first().ok_or(RowsError::Truncated)?;
        self.bytes = rest;
        Ok(*first)
    }

    fn u32(&mut self) -> Result<u32, RowsError> {
        let bytes = self.take(4)?.try_into().map_err(|_| RowsError::Truncated)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn u64(&mut self) -> Result<u64, RowsError> {
        let bytes = self.take(8)?.try_into().map_err(|_| RowsError::Truncated)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn size(&mut self) -> Result<usize, RowsError> {
        usize::try_from(self.u64()?).map_err(|_| RowsError::Truncated)
    }

    fn varint(&mut self) -> Result<usize, RowsError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return usize::try_from(value).map_err(|_| RowsError::Truncated);
            }
        }
        Err(RowsError::Truncated)
    }

    fn text(&mut self) -> Result<&'a str, RowsError> {
        let length = self.varint()?;
        std::str::from_utf8(self.take(length)?)
            .map_err(|_| RowsError::Unsupported("a name is not UTF-8".to_owned()))
    }

    // === Row by row ===

    fn row_binary_with_types(mut self, visit: impl FnMut(&[u8])) -> Result<(), RowsError> {
        let columns = self.varint()?;
        for _ in 0..columns {
            self.text()?;
        }
        let types: Vec<_> = (0..columns.min(self.bytes.len()))
            .map(|_| Type::parse(self.text()?))
            .collect::<Result<_, _>>()?;
        self.row_binary(&types, visit)
    }

    fn row_binary(mut self, types: &[Type], mut visit: impl FnMut(&[u8])) -> Result<(), RowsError> {
        if types.is_empty() && !self.bytes.is_empty() {
            return Err(RowsError::Unsupported("rows without columns".to_owned()));
        }
        while !self.bytes.is_empty() {
            let begun = self.bytes;
            for of in types {
                self.value(of)?;
            }
            visit(
                begun
                    .get(..begun.len() - self.bytes.len())
                    .unwrap_or_default(),
            );
        }
        Ok(())
    }

    fn value(&mut self, of: &Type) -> Result<(), RowsError> {
        match of {
            Type::Fixed(size) => self.skip(*size, 1),
            Type::String => {
                let length = self.varint()?;
                self.skip(length, 1)
            }
            Type::Array(element) => {
                for _ in 0..self.varint()? {
                    self.value(element)?;
                }
                Ok(())
            }
            Type::Nullable(value) => {
                if self.byte()? == 0 {
                    self.value(value)
                } else {
                    Ok(())
                }
            }
            Type::LowCardinality(value) => self.value(value),
            Type::Tuple(elements) => elements.iter().try_for_each(|element| self.value(element)),
        }
    }

    // === Column by column ===

    /// The number of rows, and the content of each into `prints`.
    fn native(mut self, mut prints: Option<&mut Vec<u64>>) -> Result<u64, RowsError> {
        let mut total = 0;
        while !self.bytes.is_empty() {
            let (columns, rows) = (self.varint()?, self.varint()?);
            let mut block: Option<Vec<u64>> = None;
            for _ in 0..columns {
                self.text()?;
                let of = Type::parse(self.text()?)?;
                if rows == 0 {
                    continue;
                }
                self.state(&of)?;
                if prints.is_none() {
                    self.column(&of, rows)?;
                    continue;
                }
                let column = self.column_prints(&of, rows)?;
                block = Some(match block {
                    None => column,
                    Some(block) => beside(block, &column),
                });
            }
            if let Some(prints) = &mut prints {
                prints.extend(block.unwrap_or_default());
            }
            total += rows as u64;
        }
        Ok(total)
    }

    /// What a column has before all of its data: dictionaries' version numbers.
    fn state(&mut self, of: &Type) -> Result<(), RowsError> {
        match of {
            Type::Fixed(_) | Type::String => Ok(()),
            Type::Array(inner) | Type::Nullable(inner) => self.state(inner),
            Type::LowCardinality(_) => self.skip(8, 1),
            Type::Tuple(elements) => elements.iter().try_for_each(|element| self.state(element)),
        }
    }

    fn column(&mut self, of: &Type, rows: usize) -> Result<(), RowsError> {
        match of {
            Type::Fixed(size) => self.skip(*size, rows),
            Type::String => (0..rows).try_for_each(|_| {
                let length = self.varint()?;
                self.skip(length, 1)
            }),
            Type::Array(element) => {
                self.skip(8, rows.saturating_sub(1))?;
                match self.size()? {
                    0 => Ok(()),
                    elements => self.column(element, elements),
                }
            }
            Type::Nullable(value) => {
                self.skip(1, rows)?;
                self.column(value, rows)
            }
            Type::LowCardinality(value) => self.dictionary(value),
            Type::Tuple(elements) => elements
                .iter()
                .try_for_each(|element| self.column(element, rows)),
        }
    }

    fn dictionary(&mut self, value: &Type) -> Result<(), RowsError> {
        let flags = self.u64()?;
        if flags & HAS_KEYS != 0 {
            let keys = self.size()?;
            self.column(stored(value), keys)?;
        }
        let index_size = 1_usize << (flags & 3);
        let rows = self.size()?;
        self.skip(index_size, rows)
    }

    /// As [`Self::column`], with the content of each value.
    fn column_prints(&mut self, of: &Type, rows: usize) -> Result<Vec<u64>, RowsError> {
        match of {
            Type::Fixed(0) => Err(RowsError::UnknownType("FixedString(0)".to_owned())),
            Type::Fixed(size) => {
                let length = size.checked_mul(rows).ok_or(RowsError::Truncated)?;
                Ok(self
                    .take(length)?
                    .chunks_exact(*size)
                    .map(print_of)
                    .collect())
            }
            Type::String => (0..rows)
                .map(|_| {
                    let length = self.varint()?;
                    self.take(length).map(print_of)
                })
                .collect(),
            Type::Array(element) => {
                let ends: Vec<usize> = (0..rows).map(|_| self.size()).collect::<Result<_, _>>()?;
                let elements = match ends.last() {
                    None | Some(0) => Vec::new(),
                    Some(elements) => self.column_prints(element, *elements)?,
                };
                let mut begin = 0;
                let of_row = |end| {
                    let own = elements.get(begin..end).ok_or(RowsError::Truncated)?;
                    begin = end;
                    Ok(print_of_all(own.iter().copied()))
                };
                ends.into_iter().map(of_row).collect()
            }
            Type::Nullable(value) => {
                let nulls = self.take(rows)?;
                let values = self.column_prints(value, rows)?;
                let of_row = |(null, value): (&u8, u64)| if *null == 0 { value } else { 0 };
                Ok(nulls.iter().zip(values).map(of_row).collect())
            }
            Type::LowCardinality(value) => self.dictionary_prints(value),
            Type::Tuple(elements) => {
                let mut elements = elements.iter();
                let first = elements.next().ok_or(RowsError::Truncated)?;
                let first = self.column_prints(first, rows)?;
                elements.try_fold(first, |before, element| {
                    Ok(beside(before, &self.column_prints(element, rows)?))
                })
            }
        }
    }

    fn dictionary_prints(&mut self, value: &Type) -> Result<Vec<u64>, RowsError> {
        let flags = self.u64()?;
        if flags & HAS_KEYS == 0 {
            let problem = "a dictionary that was sent before".to_owned();
            return Err(RowsError::Unsupported(problem));
        }
        let keys = self.size()?;
        let keys = self.column_prints(stored(value), keys)?;
        let index_size = 1_usize << (flags & 3);
        let rows = self.size()?;
        let length = index_size.checked_mul(rows).ok_or(RowsError::Truncated)?;
        let indexes = self.take(length)?.chunks_exact(index_size);
        let of_row = |index: &[u8]| {
            let index = index.iter().rev();
            let index = index.fold(0_usize, |index, byte| index << 8 | usize::from(*byte));
            keys.get(index).copied().ok_or(RowsError::Truncated)
        };
        indexes.map(of_row).collect()
    }
}

/// Of a dictionary's flags: its keys follow.
const HAS_KEYS: u64 = 1 << 9;

/// What a dictionary's keys are: where values may be absent, the first key stands for that.
fn stored(value: &Type) -> &Type {
    match value {
        Type::Nullable(inner) => inner,
        other => other,
    }
}

/// Rows with one more column.
fn beside(rows: Vec<u64>, column: &[u64]) -> Vec<u64> {
    let mut rows = rows;
    for (row, value) in rows.iter_mut().zip(column) {
        *row = also(*row, *value);
    }
    rows
}

#[cfg(test)]
mod tests;
