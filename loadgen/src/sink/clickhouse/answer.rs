//! Renders an answer in ClickHouse's output formats.

use super::query::{Answer, Cell};

/// From this revision of the protocol on, a column of `Native` says whether it is stored in a way of its own.
const REVISION_WITH_CUSTOM_SERIALIZATION: u32 = 54_454;
/// Blocks of answers are far smaller.
const LZ4: u8 = 0x82;
/// Method, packed and unpacked size.
const FRAME_SIZES: usize = 9;

/// Renders the rows; `None` when the format is not known here. `revision` is that of the protocol that the client speaks, 0
/// if it does not say.
pub(crate) fn render(answer: &Answer, format: &str, revision: u32) -> Option<Vec<u8>> {
    Some(match format {
        "TabSeparated" | "TSV" | "TabSeparatedRaw" | "TSVRaw" => separated(answer, false, false),
        "TabSeparatedWithNames" | "TSVWithNames" => separated(answer, true, false),
        "TabSeparatedWithNamesAndTypes" | "TSVWithNamesAndTypes" => separated(answer, true, true),
        "JSON" | "JSONCompact" => json(answer, format == "JSONCompact").into_bytes(),
        "JSONEachRow" => each_row(answer).into_bytes(),
        "RowBinary" => row_binary(answer, false),
        "RowBinaryWithNamesAndTypes" => row_binary(answer, true),
        "Native" => native(answer, revision),
        "Null" => Vec::new(),
        _ => return None,
    })
}

fn type_name(cell: &Cell) -> &'static str {
    match cell {
        Cell::Text(_) => "String",
        Cell::U8(_) => "UInt8",
        Cell::U32(_) => "UInt32",
        Cell::U64(_) => "UInt64",
    }
}

fn separated(answer: &Answer, names: bool, types: bool) -> Vec<u8> {
    let mut text = String::new();
    let mut line = |cells: Vec<String>| {
        text.push_str(&cells.join("\t"));
        text.push('\n');
    };
    if names {
        line(
            answer
                .columns
                .iter()
                .map(|(name, _)| escaped(name))
                .collect(),
        );
    }
    if types {
        line(
            answer
                .columns
                .iter()
                .map(|(_, cell)| type_name(cell).to_owned())
                .collect(),
        );
    }
    for row in &answer.rows {
        let value = |cell: &Cell| match cell {
            Cell::Text(text) => escaped(text),
            Cell::U8(number) => number.to_string(),
            Cell::U32(number) => number.to_string(),
            Cell::U64(number) => number.to_string(),
        };
        line(row.iter().map(value).collect());
    }
    text.into_bytes()
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('\t', "\\t")
        .replace('\n', "\\n")
}

fn json_value(cell: &Cell) -> serde_json::Value {
    match cell {
        Cell::Text(text) => text.as_str().into(),
        Cell::U8(number) => (*number).into(),
        Cell::U32(number) => (*number).into(),
        Cell::U64(number) => (*number).into(),
    }
}

fn object(answer: &Answer, row: &[Cell]) -> serde_json::Value {
    let pairs = answer.columns.iter().zip(row);
    pairs
        .map(|((name, _), cell)| (name.clone(), json_value(cell)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn json(answer: &Answer, compact: bool) -> String {
    let meta: Vec<_> = answer
        .columns
        .iter()
        .map(|(name, cell)| serde_json::json!({"name": name, "type": type_name(cell)}))
        .collect();
    let row = |row: &Vec<Cell>| {
        if compact {
            row.iter().map(json_value).collect()
        } else {
            object(answer, row)
        }
    };
    let data: Vec<serde_json::Value> = answer.rows.iter().map(row).collect();
    serde_json::json!({"meta": meta, "data": data, "rows": answer.rows.len()}).to_string()
}

fn each_row(answer: &Answer) -> String {
    answer
        .rows
        .iter()
        .map(|row| object(answer, row).to_string() + "\n")
        .collect()
}

fn row_binary(answer: &Answer, with_names_and_types: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    if with_names_and_types {
        push_varint(&mut bytes, answer.columns.len());
        answer
            .columns
            .iter()
            .for_each(|(name, _)| push_text(&mut bytes, name));
        answer
            .columns
            .iter()
            .for_each(|(_, cell)| push_text(&mut bytes, type_name(cell)));
    }
    for cell in answer.rows.iter().flatten() {
        push_cell(&mut bytes, cell);
    }
    bytes
}

/// One block, column after column.
fn native(answer: &Answer, revision: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    if revision > 0 {
        // Fields by number: 1, no overflow; 2, no bucket; the end.
        bytes.extend([1, 0, 2]);
        bytes.extend((-1_i32).to_le_bytes());
        bytes.push(0);
    }
    push_varint(&mut bytes, answer.columns.len());
    push_varint(&mut bytes, answer.rows.len());
    for (index, (name, kind)) in answer.columns.iter().enumerate() {
        push_text(&mut bytes, name);
        push_text(&mut bytes, type_name(kind));
        if revision >= REVISION_WITH_CUSTOM_SERIALIZATION {
            bytes.push(0);
        }
        let column = answer.rows.iter().filter_map(|row| row.get(index));
        column.for_each(|cell| push_cell(&mut bytes, cell));
    }
    bytes
}

/// The answer as one of ClickHouse's own compressed blocks (`compress=1`); an empty one has none.
pub(crate) fn compressed(plain: &[u8]) -> Vec<u8> {
    if plain.is_empty() {
        return Vec::new();
    }
    let packed = lz4_flex::block::compress(plain);
    let mut frame = vec![LZ4];
    frame.extend(((FRAME_SIZES + packed.len()) as u32).to_le_bytes());
    frame.extend((plain.len() as u32).to_le_bytes());
    frame.extend(packed);
    // The hash's first half comes first; the function returns it as the upper half.
    let checksum = cityhash_rs::cityhash_102_128(&frame).rotate_left(64);
    let mut block = checksum.to_le_bytes().to_vec();
    block.extend(frame);
    block
}

fn push_cell(bytes: &mut Vec<u8>, cell: &Cell) {
    match cell {
        Cell::Text(text) => push_text(bytes, text),
        Cell::U8(number) => bytes.push(*number),
        Cell::U32(number) => bytes.extend(number.to_le_bytes()),
        Cell::U64(number) => bytes.extend(number.to_le_bytes()),
    }
}

fn push_text(bytes: &mut Vec<u8>, text: &str) {
    push_varint(bytes, text.len());
    bytes.extend(text.as_bytes());
}

fn push_varint(bytes: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::super::rows::{Packing, count};
    use super::*;

    #[test]
    fn native_blocks_are_as_the_revision_of_the_client_wants_them() {
        let answer = Answer {
            columns: vec![("r".to_owned(), Cell::U32(0))],
            rows: vec![vec![Cell::U32(258)], vec![Cell::U32(1)]],
        };
        let check = |revision, expected: &[u8]| {
            let rendered = render(&answer, "Native", revision);
            assert_eq!(rendered.as_deref(), Some(expected), "{revision}");
        };
        check(0, b"\x01\x02\x01r\x06UInt32\x02\x01\0\0\x01\0\0\0");
        check(
            54_453,
            b"\x01\0\x02\xff\xff\xff\xff\0\x01\x02\x01r\x06UInt32\x02\x01\0\0\x01\0\0\0",
        );
        check(
            54_454,
            b"\x01\0\x02\xff\xff\xff\xff\0\x01\x02\x01r\x06UInt32\0\x02\x01\0\0\x01\0\0\0",
        );
        let compressed = compressed(&render(&answer, "Native", 0).unwrap());
        assert_eq!(count(&compressed, Packing::Blocks, "Native", None), Ok(2));
    }

    #[test]
    fn answers_are_rendered_in_each_format() {
        let answer = Answer {
            columns: vec![
                ("v".to_owned(), Cell::Text(String::new())),
                ("n".to_owned(), Cell::U64(0)),
            ],
            rows: vec![vec![Cell::Text("a\tb".to_owned()), Cell::U64(258)]],
        };
        let check = |format: &str, expected: &[u8]| {
            assert_eq!(
                render(&answer, format, 0).as_deref(),
                Some(expected),
                "{format}"
            );
        };
        check("TabSeparated", b"a\\tb\t258\n");
        check(
            "TSVWithNamesAndTypes",
            b"v\tn\nString\tUInt64\na\\tb\t258\n",
        );
        check("JSONEachRow", b"{\"n\":258,\"v\":\"a\\tb\"}\n");
        check("RowBinary", b"\x03a\tb\x02\x01\0\0\0\0\0\0");
        check(
            "RowBinaryWithNamesAndTypes",
            b"\x02\x01v\x01n\x06String\x06UInt64\x03a\tb\x02\x01\0\0\0\0\0\0",
        );
        check(
            "Native",
            b"\x02\x01\x01v\x06String\x03a\tb\x01n\x06UInt64\x02\x01\0\0\0\0\0\0",
        );
        let json = render(&answer, "JSON", 0).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(json["data"][0]["n"], 258);
        assert_eq!(json["meta"][0]["type"], "String");
        assert_eq!(render(&answer, "Parquet", 0), None);
    }
}
