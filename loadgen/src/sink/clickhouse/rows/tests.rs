use super::*;

fn text(value: &str) -> Vec<u8> {
    [&[value.len() as u8], value.as_bytes()].concat()
}

/// A block of two rows: `n UInt16`, `s String`, `l LowCardinality(String)`, `m Map(LowCardinality(String),
/// String)` with one pair in the second row.
fn native_block() -> Vec<u8> {
    let mut block = vec![4, 2];
    block.extend([text("n"), text("UInt16"), vec![1, 0, 2, 0]].concat());
    block.extend([text("s"), text("String"), text("hello"), text("")].concat());
    let dictionary = |keys: &[&str], indexes: &[u8]| {
        let mut bytes = (HAS_KEYS | NEEDS_UPDATE).to_le_bytes().to_vec();
        bytes.extend((keys.len() as u64).to_le_bytes());
        bytes.extend(keys.iter().flat_map(|key| text(key)));
        bytes.extend((indexes.len() as u64).to_le_bytes());
        bytes.extend(indexes);
        bytes
    };
    let version = 1_u64.to_le_bytes().to_vec();
    block.extend([text("l"), text("LowCardinality(String)"), version.clone()].concat());
    block.extend(dictionary(&["", "x"], &[1, 1]));
    block.extend(
        [
            text("m"),
            text("Map(LowCardinality(String), String)"),
            version,
        ]
        .concat(),
    );
    block.extend([0_u64.to_le_bytes(), 1_u64.to_le_bytes()].concat());
    block.extend([dictionary(&["", "key"], &[1]), text("value")].concat());
    block
}

const HAS_KEYS: u64 = 1 << 9;
const NEEDS_UPDATE: u64 = 1 << 10;

fn row_binary() -> Vec<u8> {
    let row = |map: &[u8]| [&[7, 0][..], &text("hello"), &text("x"), map].concat();
    [
        row(&[0]),
        row(&[&[1][..], &text("key"), &text("value")].concat()),
    ]
    .concat()
}

fn types() -> Vec<Type> {
    [
        "UInt16",
        "String",
        "LowCardinality(String)",
        "Map(LowCardinality(String), String)",
    ]
    .map(|text| Type::parse(text).unwrap())
    .to_vec()
}

fn check(body: &[u8], format: &str, expected: u64) {
    let types = types();
    let count = |body: &[u8], packing| count(body, packing, format, Some(&types));
    assert_eq!(count(body, Packing::Plain), Ok(expected), "{format}");
    assert_eq!(
        count(&blocks(body), Packing::Blocks),
        Ok(expected),
        "{format}"
    );
    assert_eq!(
        count(&zstd::bulk::compress(body, 1).unwrap(), Packing::Zstd),
        Ok(expected)
    );
    assert!(
        count(&body[..body.len() - 1], Packing::Plain).is_err(),
        "{format}, cut"
    );
    assert!(
        count(&blocks(body)[..30], Packing::Blocks).is_err(),
        "{format}, cut block"
    );
}

/// The body as two of ClickHouse's compressed blocks.
fn blocks(body: &[u8]) -> Vec<u8> {
    let (first, second) = body.split_at(body.len() / 2);
    let block = |method: u8, data: Vec<u8>, plain: &[u8]| {
        let size = (data.len() + 9) as u32;
        let header = [
            &[method][..],
            &size.to_le_bytes(),
            &(plain.len() as u32).to_le_bytes(),
        ]
        .concat();
        [vec![0; 16], header, data].concat()
    };
    let lz4 = block(0x82, lz4_flex::block::compress(first), first);
    [
        lz4,
        block(0x90, zstd::bulk::compress(second, 1).unwrap(), second),
    ]
    .concat()
}

#[test]
fn rows_of_native_blocks_are_counted() {
    check(&native_block(), "Native", 2);
    check(&native_block().repeat(3), "Native", 6);
}

#[test]
fn rows_of_row_binary_are_counted() {
    check(&row_binary(), "RowBinary", 2);
    let names = ["n", "s", "l", "m"].map(text).concat();
    let types = [
        "UInt16",
        "String",
        "LowCardinality(String)",
        "Map(LowCardinality(String), String)",
    ];
    let head = [vec![4], names, types.map(text).concat()].concat();
    check(
        &[head, row_binary()].concat(),
        "RowBinaryWithNamesAndTypes",
        2,
    );
}

#[test]
fn lines_are_rows_of_text_formats() {
    assert_eq!(
        count(b"{}\n{}\n", Packing::Plain, "JSONEachRow", None),
        Ok(2)
    );
    assert_eq!(count(b"", Packing::Plain, "JSONEachRow", None), Ok(0));
}

#[test]
fn hostile_bodies_are_errors() {
    assert!(count(&[255; 64], Packing::Plain, "Native", None).is_err());
    assert!(count(&[255; 64], Packing::Blocks, "Native", None).is_err());
    assert!(count(&[255; 64], Packing::Gzip, "Native", None).is_err());
    assert!(count(&[1], Packing::Plain, "RowBinary", Some(&[])).is_err());
    assert!(count(&[1], Packing::Plain, "RowBinary", None).is_err());
    assert!(count(&[1], Packing::Plain, "ArrowStream", None).is_err());
    assert!(prints(&[255; 64], Packing::Plain, "Native", None).is_err());
    // More rows than there are bytes.
    let rows = [
        &[1][..],
        &[255, 255, 255, 255, 15],
        &text("n"),
        &text("UInt64"),
    ]
    .concat();
    assert!(prints(&rows, Packing::Plain, "Native", None).is_err());
}

/// Ten rows of fifteen columns of the types that telemetry tables have, as the engine (26.7) writes them.
#[test]
fn rows_the_engine_wrote_are_counted() {
    let native = include_bytes!("engine_native_blocks.bin");
    assert_eq!(count(native, Packing::Blocks, "Native", None), Ok(10));
    let rows = include_bytes!("engine_row_binary.bin");
    assert_eq!(
        count(rows, Packing::Plain, "RowBinaryWithNamesAndTypes", None),
        Ok(10)
    );
    let different = |body: &[u8], packing, format| {
        let found = prints(body, packing, format, None).unwrap();
        found.into_iter().collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(different(native, Packing::Blocks, "Native").len(), 10);
    let format = "RowBinaryWithNamesAndTypes";
    assert_eq!(different(rows, Packing::Plain, format).len(), 10);
}

/// That the rows are found to differ, the same in every packing, and the same as themselves.
fn check_prints(body: &[u8], format: &str, rows: usize) {
    let types = types();
    let of = |body: &[u8], packing| prints(body, packing, format, Some(&types)).unwrap();
    let found = of(body, Packing::Plain);
    let different: std::collections::BTreeSet<_> = found.iter().collect();
    assert_eq!((found.len(), different.len()), (rows, rows), "{format}");
    assert_eq!(of(&blocks(body), Packing::Blocks), found, "{format}");
    for end in 0..body.len() {
        // Cut anywhere, it is an error or fewer rows.
        let cut = prints(&body[..end], Packing::Plain, format, Some(&types));
        assert!(cut.is_err() || cut.unwrap().len() < rows, "{format} {end}");
    }
}

#[test]
fn rows_are_told_apart_by_their_values() {
    check_prints(&native_block(), "Native", 2);
    check_prints(&row_binary(), "RowBinary", 2);
    let lines = prints(b"{}\n[]\n{}\n", Packing::Plain, "JSONEachRow", None).unwrap();
    assert_eq!((lines.len(), lines[0]), (3, lines[2]));
    assert_ne!(lines[0], lines[1]);
    let twice = [native_block(), native_block()].concat();
    let found = prints(&twice, Packing::Plain, "Native", None).unwrap();
    assert_eq!(found[..2], found[2..]);
}

#[test]
fn every_column_counts() {
    let block = native_block();
    let before = prints(&block, Packing::Plain, "Native", None).unwrap();
    let changed = |from: &str, to: &str| {
        let at = block
            .windows(from.len())
            .position(|at| at == from.as_bytes());
        let mut block = block.clone();
        block[at.unwrap()..][..to.len()].copy_from_slice(to.as_bytes());
        let after = prints(&block, Packing::Plain, "Native", None).unwrap();
        [before[0] != after[0], before[1] != after[1]]
    };
    assert_eq!(changed("hello", "jello"), [true, false]);
    // The dictionary's key of both rows.
    assert_eq!(changed("\u{1}x", "\u{1}y"), [true, true]);
    assert_eq!(changed("key", "kay"), [false, true]);
    assert_eq!(changed("value", "valve"), [false, true]);
}
