//! Reads Native blocks and their frames back, for tests: written from the format's description, not from the writer.

use std::collections::BTreeMap;

/// A value of a column.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cell {
    Text(Vec<u8>),
    UInt(u64),
    Int(i64),
    Float(f64),
    Bool(bool),
    /// Nanoseconds since 1970.
    Time(i64),
    List(Vec<Cell>),
    Map(Vec<(Cell, Cell)>),
}

/// A row, by column name.
pub(crate) type Row = BTreeMap<String, Cell>;

impl Cell {
    pub(crate) fn text(text: impl AsRef<[u8]>) -> Self {
        Self::Text(text.as_ref().to_vec())
    }

    /// Floats by their bits, so that NaN is equal to itself.
    pub(crate) fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Float(left), Self::Float(right)) => left.to_bits() == right.to_bits(),
            (Self::List(left), Self::List(right)) => {
                left.len() == right.len() && left.iter().zip(right).all(|(l, r)| l.same(r))
            }
            _ => self == other,
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken
    }

    fn fixed<const N: usize>(&mut self) -> [u8; N] {
        self.take(N).try_into().unwrap()
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.fixed())
    }

    fn count(&mut self) -> usize {
        usize::try_from(self.u64()).unwrap()
    }

    fn varint(&mut self) -> usize {
        let (mut value, mut shift) = (0, 0);
        loop {
            let [byte] = self.fixed();
            value |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return value;
            }
            shift += 7;
        }
    }

    fn text(&mut self) -> Vec<u8> {
        let length = self.varint();
        self.take(length).to_vec()
    }
}

/// Takes the frames apart and checks their sums.
pub(crate) fn unframed(body: &[u8]) -> Vec<u8> {
    let mut reader = Reader(body);
    let mut content = Vec::new();
    while !reader.0.is_empty() {
        let checksum = u128::from_le_bytes(reader.fixed());
        let hashed = reader.0;
        let [method] = reader.fixed();
        let compressed = usize::try_from(u32::from_le_bytes(reader.fixed())).unwrap();
        let plain = usize::try_from(u32::from_le_bytes(reader.fixed())).unwrap();
        assert!(plain <= 1 << 20, "frames hold at most 1 MiB");
        let sum = cityhash_rs::cityhash_102_128(&hashed[..compressed]).rotate_left(64);
        assert_eq!(sum, checksum);
        let data = reader.take(compressed - 9);
        match method {
            0x82 => content.extend(lz4_flex::block::decompress(data, plain).unwrap()),
            0x90 => content.extend(zstd::bulk::decompress(data, plain).unwrap()),
            other => panic!("unknown method {other:#x}"),
        }
    }
    content
}

/// The rows of a block, and the columns' names and types in order.
pub(crate) fn decode(content: &[u8]) -> (Vec<Row>, Vec<(String, String)>) {
    let mut reader = Reader(content);
    let (columns, rows) = (reader.varint(), reader.varint());
    let mut out = vec![Row::new(); rows];
    let mut header = Vec::new();
    for _ in 0..columns {
        let name = String::from_utf8(reader.text()).unwrap();
        let kind = String::from_utf8(reader.text()).unwrap();
        if kind.contains("LowCardinality") {
            assert_eq!(reader.u64(), 1, "{name}");
        }
        let cells = column(&mut reader, &kind, rows);
        for (row, cell) in out.iter_mut().zip(cells) {
            row.insert(name.clone(), cell);
        }
        header.push((name, kind));
    }
    assert!(reader.0.is_empty(), "bytes after the last column");
    (out, header)
}

fn inner<'k>(kind: &'k str, outer: &str) -> Option<&'k str> {
    kind.strip_prefix(outer)?
        .strip_prefix('(')?
        .strip_suffix(')')
}

fn column(reader: &mut Reader<'_>, kind: &str, rows: usize) -> Vec<Cell> {
    let each = |read: &mut dyn FnMut() -> Cell| (0..rows).map(|_| read()).collect();
    match kind {
        "String" => each(&mut || Cell::Text(reader.text())),
        "UInt8" => each(&mut || Cell::UInt(u64::from(u8::from_le_bytes(reader.fixed())))),
        "UInt32" => each(&mut || Cell::UInt(u64::from(u32::from_le_bytes(reader.fixed())))),
        "UInt64" => each(&mut || Cell::UInt(reader.u64())),
        "Int32" => each(&mut || Cell::Int(i64::from(i32::from_le_bytes(reader.fixed())))),
        "Float64" => each(&mut || Cell::Float(f64::from_le_bytes(reader.fixed()))),
        "Bool" => each(&mut || Cell::Bool(reader.fixed::<1>() != [0])),
        "DateTime64(9)" => each(&mut || Cell::Time(i64::from_le_bytes(reader.fixed()))),
        "LowCardinality(String)" => low_cardinality(reader, rows),
        _ => {
            if let Some(element) = inner(kind, "Array") {
                return lists(reader, rows, |reader, count| column(reader, element, count))
                    .into_iter()
                    .map(Cell::List)
                    .collect();
            }
            let (key, value) = inner(kind, "Map")
                .and_then(|pair| pair.split_once(", "))
                .unwrap();
            let pairs = |reader: &mut Reader<'_>, count| {
                let keys = column(reader, key, count);
                keys.into_iter().zip(column(reader, value, count)).collect()
            };
            lists(reader, rows, pairs)
                .into_iter()
                .map(Cell::Map)
                .collect()
        }
    }
}

fn lists<T>(
    reader: &mut Reader<'_>,
    rows: usize,
    elements: impl FnOnce(&mut Reader<'_>, usize) -> Vec<T>,
) -> Vec<Vec<T>> {
    let ends: Vec<usize> = (0..rows).map(|_| reader.count()).collect();
    let mut all = elements(reader, ends.last().copied().unwrap_or_default()).into_iter();
    let mut start = 0;
    ends.into_iter()
        .map(|end| {
            let list = all.by_ref().take(end - start).collect();
            start = end;
            list
        })
        .collect()
}

fn low_cardinality(reader: &mut Reader<'_>, rows: usize) -> Vec<Cell> {
    if rows == 0 {
        return Vec::new();
    }
    let flags = reader.u64();
    assert_eq!(flags & !0xff, 0x600);
    let count = reader.count();
    let keys: Vec<Vec<u8>> = (0..count).map(|_| reader.text()).collect();
    assert_eq!(reader.count(), rows);
    (0..rows)
        .map(|_| {
            let index = match flags & 0xff {
                0 => usize::from(u8::from_le_bytes(reader.fixed())),
                1 => usize::from(u16::from_le_bytes(reader.fixed())),
                2 => usize::try_from(u32::from_le_bytes(reader.fixed())).unwrap(),
                other => panic!("unknown width {other}"),
            };
            Cell::Text(keys[index].clone())
        })
        .collect()
}
