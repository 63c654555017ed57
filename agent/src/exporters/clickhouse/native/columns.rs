//! Columns of a block: what each type consists of on the wire, behind one trait.

use std::io;

use super::block::BlockWriter;
use super::dictionary::Dictionary;
use super::frame::Compressor;
use super::stream::{Stream, append_repeated};

/// A column, or a part of one.
pub trait Column {
    /// Appends what Native puts before a column's data: the version of its `LowCardinality` encoding, if any.
    fn prefix(&self, out: &mut Vec<u8>);

    /// Compresses what is complete.
    ///
    /// # Errors
    /// Those of [`Compressor::append`].
    fn seal(&mut self, compressor: &mut Compressor) -> io::Result<()>;

    /// Hands the data over.
    ///
    /// # Errors
    /// Those of [`Compressor::append`].
    fn write(&self, block: &mut BlockWriter<'_>) -> io::Result<()>;

    /// Empties the column for the next block.
    fn reset(&mut self);
}

/// Plain streams are the columns of numbers, times and strings.
impl Column for Stream {
    fn prefix(&self, _out: &mut Vec<u8>) {}

    fn seal(&mut self, compressor: &mut Compressor) -> io::Result<()> {
        Self::seal(self, compressor)
    }

    fn write(&self, block: &mut BlockWriter<'_>) -> io::Result<()> {
        block.stream(self)
    }

    fn reset(&mut self) {
        Self::reset(self);
    }
}

/// A column of eight-byte numbers that change little from row to row: times, durations, counts.
#[derive(Debug)]
pub struct Words(Stream);

impl Default for Words {
    fn default() -> Self {
        Self(Stream::of_words())
    }
}

impl Words {
    /// Appends a number.
    #[inline]
    pub fn push(&mut self, value: u64) {
        self.0.u64(value);
    }
}

impl Column for Words {
    fn prefix(&self, _out: &mut Vec<u8>) {}

    fn seal(&mut self, compressor: &mut Compressor) -> io::Result<()> {
        self.0.seal(compressor)
    }

    fn write(&self, block: &mut BlockWriter<'_>) -> io::Result<()> {
        block.stream(&self.0)
    }

    fn reset(&mut self) {
        self.0.reset();
    }
}

/// A column of short strings, of which some begin like others: ids.
#[derive(Debug)]
pub struct Texts(Stream);

impl Default for Texts {
    fn default() -> Self {
        Self(Stream::of_texts())
    }
}

impl Texts {
    /// Where the next string is appended.
    #[inline]
    pub fn stream(&mut self) -> &mut Stream {
        &mut self.0
    }
}

impl Column for Texts {
    fn prefix(&self, _out: &mut Vec<u8>) {}

    fn seal(&mut self, compressor: &mut Compressor) -> io::Result<()> {
        self.0.seal(compressor)
    }

    fn write(&self, block: &mut BlockWriter<'_>) -> io::Result<()> {
        block.stream(&self.0)
    }

    fn reset(&mut self) {
        self.0.reset();
    }
}

/// A `LowCardinality(String)`: a dictionary and an index for each row, in as many bytes as the dictionary asks for.
#[derive(Debug, Default)]
pub struct Labels {
    dictionary: Dictionary,
    indexes: Vec<u8>,
    width: Width,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Width {
    #[default]
    One,
    Two,
    Four,
}

impl Width {
    const fn bytes(self) -> usize {
        match self {
            Self::One => 1,
            Self::Two => 2,
            Self::Four => 4,
        }
    }

    /// The number that Native has for it.
    const fn code(self) -> u64 {
        match self {
            Self::One => 0,
            Self::Two => 1,
            Self::Four => 2,
        }
    }

    fn for_index(index: u32) -> Self {
        match index {
            0..=0xff => Self::One,
            0x100..=0xffff => Self::Two,
            _ => Self::Four,
        }
    }
}

/// The only version of the encoding: dictionaries that stand beside their indexes.
const LOW_CARDINALITY_VERSION: u64 = 1;
/// The block brings its own dictionary, which replaces the one before.
const OWN_DICTIONARY: u64 = 0x600;
/// Indexes kept between batches; more goes back to the allocator.
const KEPT_INDEXES: usize = 512 << 10;

impl Labels {
    /// Appends a row.
    #[inline]
    pub fn push(&mut self, text: &[u8]) {
        let index = self.dictionary.index_of(text);
        self.push_index(index);
    }

    /// The index of a string, for [`Labels::push_index`] in the same block.
    pub fn index_of(&mut self, text: &[u8]) -> u32 {
        self.dictionary.index_of(text)
    }

    /// Appends a row with an index had before.
    #[inline]
    pub fn push_index(&mut self, index: u32) {
        let [low, ..] = index.to_le_bytes();
        if self.width == Width::One && index <= 0xff {
            self.indexes.push(low);
        } else {
            self.push_wide(index);
        }
    }

    #[cold]
    #[inline(never)]
    fn push_wide(&mut self, index: u32) {
        self.widen(Width::for_index(index));
        let bytes = index.to_le_bytes();
        self.indexes
            .extend_from_slice(bytes.get(..self.width.bytes()).unwrap_or_default());
    }

    /// Rewrites the indexes if `width` is more than they have.
    fn widen(&mut self, width: Width) {
        let (from, to) = (self.width.bytes(), width.bytes());
        if to <= from {
            return;
        }
        let mut wider = Vec::with_capacity(self.indexes.len() / from * to * 2);
        for index in self.indexes.chunks_exact(from) {
            wider.extend_from_slice(index);
            wider.resize(wider.len() + to - from, 0);
        }
        self.indexes = wider;
        self.width = width;
    }

    /// Appends `times` rows of one string.
    pub fn repeat(&mut self, text: &[u8], times: usize) {
        let index = self.dictionary.index_of(text);
        self.repeat_indexes(&[index], times);
    }

    /// Appends a sequence of rows `times` over.
    pub fn repeat_indexes(&mut self, indexes: &[u32], times: usize) {
        let widest = indexes.iter().copied().max().unwrap_or_default();
        self.widen(Width::for_index(widest));
        let width = self.width.bytes();
        let mut pattern = Vec::with_capacity(indexes.len() * width);
        for index in indexes {
            let bytes = index.to_le_bytes();
            pattern.extend_from_slice(bytes.get(..width).unwrap_or_default());
        }
        append_repeated(&mut self.indexes, &pattern, times);
    }
}

impl Column for Labels {
    fn prefix(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&LOW_CARDINALITY_VERSION.to_le_bytes());
    }

    /// Indexes may still become wider, and they are few bytes.
    fn seal(&mut self, _compressor: &mut Compressor) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, block: &mut BlockWriter<'_>) -> io::Result<()> {
        if self.indexes.is_empty() {
            return Ok(());
        }
        let rows = self.indexes.len() / self.width.bytes();
        block.bytes(&(OWN_DICTIONARY | self.width.code()).to_le_bytes())?;
        block.bytes(&(self.dictionary.len() as u64).to_le_bytes())?;
        block.bytes(self.dictionary.encoded())?;
        block.bytes(&(rows as u64).to_le_bytes())?;
        block.bytes(&self.indexes)
    }

    fn reset(&mut self) {
        self.dictionary.reset();
        self.indexes.clear();
        self.indexes.shrink_to(KEPT_INDEXES);
        self.width = Width::One;
    }
}

/// The ends of the rows of an array column, counted in elements.
#[derive(Debug)]
pub struct Offsets {
    stream: Stream,
    elements: u64,
}

impl Default for Offsets {
    fn default() -> Self {
        Self {
            stream: Stream::of_words(),
            elements: 0,
        }
    }
}

impl Offsets {
    /// Adds an element to the row under way.
    #[inline]
    pub fn add(&mut self) {
        self.elements += 1;
    }

    /// Ends the row under way.
    #[inline]
    pub fn end_row(&mut self) {
        self.stream.u64(self.elements);
    }

    /// Appends `times` rows of `elements` elements.
    ///
    /// # Errors
    /// Those of [`Compressor::append`].
    pub fn repeat(
        &mut self,
        elements: usize,
        times: usize,
        compressor: &mut Compressor,
    ) -> io::Result<()> {
        for _ in 0..times {
            self.elements += elements as u64;
            self.end_row();
        }
        self.stream.seal(compressor)
    }
}

impl Column for Offsets {
    fn prefix(&self, _out: &mut Vec<u8>) {}

    fn seal(&mut self, compressor: &mut Compressor) -> io::Result<()> {
        self.stream.seal(compressor)
    }

    fn write(&self, block: &mut BlockWriter<'_>) -> io::Result<()> {
        block.stream(&self.stream)
    }

    fn reset(&mut self) {
        self.stream.reset();
        self.elements = 0;
    }
}

/// A `Map(LowCardinality(String), String)`.
#[derive(Debug)]
pub struct Maps {
    offsets: Offsets,
    keys: Labels,
    values: Stream,
}

impl Default for Maps {
    fn default() -> Self {
        Self {
            offsets: Offsets::default(),
            keys: Labels::default(),
            values: Stream::of_texts(),
        }
    }
}

impl Maps {
    /// Appends a key to the row under way, and gives the buffer for its value: exactly one `String`.
    #[inline]
    pub fn key(&mut self, key: &[u8]) -> &mut Vec<u8> {
        self.offsets.add();
        self.keys.push(key);
        self.values.buffer()
    }

    /// Ends the row under way.
    #[inline]
    pub fn end_row(&mut self) {
        self.offsets.end_row();
    }

    /// Appends `times` rows with these keys and these values, encoded one after the other.
    ///
    /// # Errors
    /// Those of [`Compressor::append`].
    pub fn repeat(
        &mut self,
        keys: &[&[u8]],
        values: &[u8],
        times: usize,
        compressor: &mut Compressor,
    ) -> io::Result<()> {
        let indexes: Vec<u32> = keys.iter().map(|key| self.keys.index_of(key)).collect();
        self.offsets.repeat(indexes.len(), times, compressor)?;
        self.keys.repeat_indexes(&indexes, times);
        self.values.repeat(values, times, compressor)
    }
}

impl Column for Maps {
    fn prefix(&self, out: &mut Vec<u8>) {
        self.keys.prefix(out);
    }

    fn seal(&mut self, compressor: &mut Compressor) -> io::Result<()> {
        self.offsets.seal(compressor)?;
        self.values.seal(compressor)
    }

    fn write(&self, block: &mut BlockWriter<'_>) -> io::Result<()> {
        self.offsets.write(block)?;
        self.keys.write(block)?;
        block.stream(&self.values)
    }

    fn reset(&mut self) {
        self.offsets.reset();
        self.keys.reset();
        self.values.reset();
    }
}

/// An array column made of offsets, which columns of one `Nested` share, and elements.
#[derive(Debug)]
pub struct Array<'a, C: ?Sized> {
    /// Where rows end.
    pub offsets: &'a mut Offsets,
    /// The elements of all rows.
    pub elements: &'a mut C,
}

impl<C: Column + ?Sized> Column for Array<'_, C> {
    fn prefix(&self, out: &mut Vec<u8>) {
        self.elements.prefix(out);
    }

    fn seal(&mut self, compressor: &mut Compressor) -> io::Result<()> {
        self.offsets.seal(compressor)?;
        self.elements.seal(compressor)
    }

    fn write(&self, block: &mut BlockWriter<'_>) -> io::Result<()> {
        self.offsets.write(block)?;
        self.elements.write(block)
    }

    fn reset(&mut self) {
        self.offsets.reset();
        self.elements.reset();
    }
}
