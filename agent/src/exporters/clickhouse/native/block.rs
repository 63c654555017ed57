//! A Native block put together from its columns.

use std::io;

use super::columns::Column;
use super::frame::Compressor;
use super::stream::{Stream, append_text, append_varint};

/// Streams shorter than this are gathered and compressed together: a frame of its own costs 25 bytes and a call.
const GATHERED_MAX: usize = 16 << 10;

/// Names, types and contents of a block's columns, in order.
pub trait Columns {
    /// Calls `visit` with each column's name and type.
    ///
    /// # Errors
    /// The first error of `visit`.
    fn visit(&mut self, visit: Visit<'_>) -> io::Result<()>;

    /// Complete rows.
    fn rows(&self) -> usize;

    /// Sets the count of rows to zero; the columns are emptied apart.
    fn reset_rows(&mut self);
}

/// What [`Columns::visit`] calls for each column.
pub type Visit<'a> =
    &'a mut dyn FnMut(&'static str, &'static str, &mut dyn Column) -> io::Result<()>;

/// Writes a block's bytes, compressed as its compressor does it.
#[derive(Debug)]
pub struct BlockWriter<'a> {
    compressor: &'a mut Compressor,
    gathered: Vec<u8>,
    out: Vec<u8>,
}

impl<'a> BlockWriter<'a> {
    /// Nothing written yet.
    pub fn new(compressor: &'a mut Compressor) -> Self {
        Self {
            compressor,
            gathered: Vec::with_capacity(GATHERED_MAX),
            out: Vec::new(),
        }
    }

    /// Appends bytes that are not compressed yet.
    ///
    /// # Errors
    /// Those of [`Compressor::append`].
    pub fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() >= GATHERED_MAX {
            self.flush()?;
            return self.compressor.append(bytes, &mut self.out);
        }
        self.gathered.extend_from_slice(bytes);
        if self.gathered.len() >= GATHERED_MAX {
            self.flush()?;
        }
        Ok(())
    }

    /// Appends a stream: its frames as they are, and the rest of its bytes.
    ///
    /// # Errors
    /// Those of [`Compressor::append`].
    pub fn stream(&mut self, stream: &Stream) -> io::Result<()> {
        if !stream.sealed().is_empty() {
            self.flush()?;
            self.out.extend_from_slice(stream.sealed());
        }
        if stream.open().len() < GATHERED_MAX {
            return self.bytes(stream.open());
        }
        self.flush()?;
        stream.append_open(self.compressor, &mut self.out)
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.gathered.is_empty() {
            self.compressor.append(&self.gathered, &mut self.out)?;
            self.gathered.clear();
        }
        Ok(())
    }
}

/// Takes the whole block out of its columns, which are empty afterwards.
///
/// # Errors
/// Those of [`Compressor::append`].
pub fn assemble(columns: &mut dyn Columns, compressor: &mut Compressor) -> io::Result<Vec<u8>> {
    let mut count = 0;
    columns.visit(&mut |_, _, _| {
        count += 1;
        Ok(())
    })?;
    let mut block = BlockWriter::new(compressor);
    let mut header = Vec::with_capacity(64);
    append_varint(&mut header, count);
    append_varint(&mut header, columns.rows());
    columns.visit(&mut |name, kind, column| {
        append_text(&mut header, name.as_bytes());
        append_text(&mut header, kind.as_bytes());
        column.prefix(&mut header);
        block.bytes(&header)?;
        header.clear();
        column.write(&mut block)
    })?;
    block.flush()?;
    let out = block.out;
    reset(columns)?;
    Ok(out)
}

/// Empties a block's columns, as after an error.
///
/// # Errors
/// None of its own.
pub fn reset(columns: &mut dyn Columns) -> io::Result<()> {
    columns.reset_rows();
    columns.visit(&mut |_, _, column| {
        column.reset();
        Ok(())
    })
}
