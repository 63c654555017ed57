//! Native blocks in the layout of a client's protocol revision (`client_protocol_version`).
//!
//! The engine's C interface writes Native blocks in the plain layout only (revision 0). Clients that name a
//! revision, such as clickhouse-go and with it Grafana, expect in addition the block's info before each block
//! and a byte for custom serialization after each column's type. This adds both, copying everything else.

use std::io::{self, BufRead, BufReader, Read, Write};

use super::exception::{Exception, NOT_IMPLEMENTED};
use super::native_layout::Layout;

/// The first revision that reads a byte for custom serialization; below it, and so for clients that can do
/// without, the plain layout is sent.
pub(super) const REVISION_MIN: u32 = 54454;

/// Block info: field 1 (overflow rows) no, field 2 (bucket number) -1, end.
const BLOCK_INFO: [u8; 8] = [1, 0, 2, 0xff, 0xff, 0xff, 0xff, 0];
const NO_CUSTOM_SERIALIZATION: u8 = 0;
const BUFFER_BYTES: usize = 256 << 10;

const INDEX_WIDTH_BITS: u64 = 0xff;
const HAS_KEYS: u64 = 1 << 9;
const JSON_AS_TEXT: u64 = 1;
/// The serialization of discriminators that stores one byte a row.
const PLAIN_DISCRIMINATORS: u64 = 0;

/// Copies blocks from the plain layout into that of a client's revision.
///
/// # Errors
/// Those of reader and writer; an exception for types whose values cannot be told apart.
pub(super) fn convert(reader: impl Read, writer: &mut impl Write) -> io::Result<()> {
    let mut copier = Copier {
        reader: BufReader::with_capacity(BUFFER_BYTES, reader),
        writer,
    };
    while !copier.reader.fill_buf()?.is_empty() {
        copier.block()?;
    }
    Ok(())
}

struct Copier<'writer, R: Read, W: Write> {
    reader: BufReader<R>,
    writer: &'writer mut W,
}

impl<R: Read, W: Write> Copier<'_, R, W> {
    fn block(&mut self) -> io::Result<()> {
        self.writer.write_all(&BLOCK_INFO)?;
        let columns = self.varint()?;
        let rows = self.varint()?;
        for _ in 0..columns {
            self.text()?;
            let type_bytes = self.text()?;
            self.writer.write_all(&[NO_CUSTOM_SERIALIZATION])?;
            if rows == 0 {
                continue;
            }
            let name = String::from_utf8_lossy(&type_bytes);
            let layout = Layout::of(&name).ok_or_else(|| unsupported(&name))?;
            self.prefix(&layout)?;
            self.values(&layout, rows)?;
        }
        Ok(())
    }

    /// What a column writes once, before its values.
    fn prefix(&mut self, layout: &Layout) -> io::Result<()> {
        match layout {
            Layout::Fixed(_) | Layout::Text => Ok(()),
            Layout::JsonText => match self.number()? {
                JSON_AS_TEXT => Ok(()),
                _ => Err(unsupported("JSON")),
            },
            Layout::LowCardinality(_) => self.number().map(|_| ()),
            Layout::Nullable(inner) | Layout::Array(inner) => self.prefix(inner),
            Layout::Tuple(fields) => fields.iter().try_for_each(|field| self.prefix(field)),
            Layout::Variant(alternatives) => {
                if self.number()? != PLAIN_DISCRIMINATORS {
                    return Err(unsupported("Variant"));
                }
                alternatives
                    .iter()
                    .try_for_each(|alternative| self.prefix(alternative))
            }
        }
    }

    fn values(&mut self, layout: &Layout, rows: u64) -> io::Result<()> {
        match layout {
            Layout::Fixed(bytes) => self.bytes(bytes * rows),
            Layout::Text | Layout::JsonText => (0..rows).try_for_each(|_| {
                let length = self.varint()?;
                self.bytes(length)
            }),
            Layout::Nullable(inner) => {
                self.bytes(rows)?;
                self.values(inner, rows)
            }
            Layout::Array(inner) => {
                let mut elements = 0;
                for _ in 0..rows {
                    elements = self.number()?;
                }
                self.values(inner, elements)
            }
            Layout::Tuple(fields) => fields.iter().try_for_each(|field| self.values(field, rows)),
            Layout::LowCardinality(keys) => self.low_cardinality(keys, rows),
            Layout::Variant(alternatives) => self.variant(alternatives, rows),
        }
    }

    fn low_cardinality(&mut self, keys: &Layout, rows: u64) -> io::Result<()> {
        let mut left = rows;
        while left > 0 {
            let flags = self.number()?;
            if flags & HAS_KEYS != 0 {
                let count = self.number()?;
                self.values(keys, count)?;
            }
            let batch = self.number()?;
            if batch == 0 || batch > left {
                return Err(malformed(
                    "a dictionary-encoded column has a batch of the wrong size",
                ));
            }
            let width = 1u64
                .checked_shl((flags & INDEX_WIDTH_BITS) as u32)
                .filter(|&width| width <= 8);
            self.bytes(width.ok_or_else(|| malformed("unknown index width"))? * batch)?;
            left -= batch;
        }
        Ok(())
    }

    fn variant(&mut self, alternatives: &[Layout], rows: u64) -> io::Result<()> {
        let mut counts = [0u64; 256];
        for _ in 0..rows {
            let [discriminator] = self.array::<1>()?;
            counts[usize::from(discriminator)] += 1;
        }
        alternatives
            .iter()
            .zip(counts)
            .try_for_each(|(alternative, count)| self.values(alternative, count))
    }

    fn bytes(&mut self, count: u64) -> io::Result<()> {
        let mut left = count;
        while left > 0 {
            let buffer = self.reader.fill_buf()?;
            if buffer.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let taken = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
            self.writer.write_all(&buffer[..taken])?;
            self.reader.consume(taken);
            left -= taken as u64;
        }
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes)?;
        self.writer.write_all(&bytes)?;
        Ok(bytes)
    }

    fn number(&mut self) -> io::Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn varint(&mut self) -> io::Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array::<1>()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(malformed("a number has no end"))
    }

    /// A name: short, so it is read into memory.
    fn text(&mut self) -> io::Result<Vec<u8>> {
        let length = self.varint()?;
        let mut text = Vec::new();
        self.reader.by_ref().take(length).read_to_end(&mut text)?;
        if (text.len() as u64) < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.writer.write_all(&text)?;
        Ok(text)
    }
}

fn unsupported(type_name: &str) -> io::Error {
    let message = format!(
        "A column of type {type_name} cannot be sent in Native blocks of a client's revision. \
         Ask for another format, or send no client_protocol_version."
    );
    Exception::new(NOT_IMPLEMENTED, message).into()
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("malformed Native block: {what}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A column: name, type, bytes of prefix and values.
    fn block(rows: u8, columns: &[(&str, &str, &[u8])], revision: bool) -> Vec<u8> {
        let mut bytes = if revision {
            BLOCK_INFO.to_vec()
        } else {
            Vec::new()
        };
        bytes.extend([columns.len() as u8, rows]);
        for (name, type_name, data) in columns {
            for text in [name, type_name] {
                bytes.push(text.len() as u8);
                bytes.extend(text.as_bytes());
            }
            if revision {
                bytes.push(NO_CUSTOM_SERIALIZATION);
            }
            bytes.extend(*data);
        }
        bytes
    }

    fn check(rows: u8, columns: &[(&str, &str, &[u8])]) {
        let twice = |revision| {
            [
                block(rows, columns, revision),
                block(rows, columns, revision),
            ]
            .concat()
        };
        let mut converted = Vec::new();
        convert(twice(false).as_slice(), &mut converted).unwrap();
        assert_eq!(converted, twice(true), "{columns:?}");
    }

    #[test]
    fn columns_are_copied_and_marked() {
        let low_cardinality = [
            &1u64.to_le_bytes()[..],             // version
            &(HAS_KEYS | 1 << 10).to_le_bytes(), // flags: one-byte indices
            &2u64.to_le_bytes(),                 // keys
            &[0, 1, b'a'],                       // "", "a"
            &2u64.to_le_bytes(),                 // rows
            &[1, 0],                             // indices
        ]
        .concat();
        let arrays = [&1u64.to_le_bytes()[..], &3u64.to_le_bytes(), &[7, 8, 9]].concat();
        let map = [
            &1u64.to_le_bytes()[..],
            &1u64.to_le_bytes(),
            &[1, b'k', 1, b'v'],
        ]
        .concat();
        let variant = [&0u64.to_le_bytes()[..], &[1, 0], &[1, b'x'], &[5]].concat();
        let json = [&1u64.to_le_bytes()[..], &[2, b'{', b'}', 2, b'{', b'}']].concat();
        check(
            2,
            &[
                ("n", "UInt16", &[1, 0, 2, 0]),
                ("s", "String", &[1, b'a', 0]),
                ("l", "LowCardinality(String)", &low_cardinality),
                ("o", "Nullable(UInt8)", &[0, 1, 5, 0]),
                ("a", "Array(UInt8)", &arrays),
                ("m", "Map(String, String)", &map),
                ("t", "Tuple(x UInt8, y String)", &[1, 2, 0, 1, b'z']),
                ("v", "Variant(String, UInt8)", &variant),
                ("j", "JSON", &json),
            ],
        );
        check(0, &[("n", "AggregateFunction(sum, UInt8)", &[])]);
        check(0, &[]);
    }

    #[test]
    fn opaque_types_are_refused() {
        let bytes = block(1, &[("d", "Dynamic", &[0; 20])], false);
        let error = Exception::from(convert(bytes.as_slice(), &mut Vec::new()).unwrap_err());
        assert_eq!(error.code, 48);
    }

    #[test]
    fn cut_blocks_are_errors() {
        let bytes = block(
            2,
            &[("s", "String", &[1, b'a', 3, b'a', b'b', b'c'])],
            false,
        );
        for end in 1..bytes.len() {
            assert!(convert(&bytes[..end], &mut Vec::new()).is_err(), "{end}");
        }
    }
}
