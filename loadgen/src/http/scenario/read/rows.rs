//! Rows of data: lists in the file, CSV, and JSON lines.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};

use crate::document::{Item, Table, Text};
use crate::http::template::{Data, Order, is_name};

/// Data is held in memory.
const FILE_BYTES_MAX: u64 = 64 << 20;

pub(super) fn read(table: Table, folder: &Path) -> BTreeMap<String, Data> {
    let mut all = BTreeMap::new();
    for (name, _, item) in table.rest() {
        if !is_name(&name) {
            item.wrong("a name has letters, digits, `_` and `-`");
        }
        if let Some(data) = source(item, folder) {
            all.insert(name, data);
        }
    }
    all
}

/// A list, or a table with `rows` or `file`, and `order`.
fn source(item: Item, folder: &Path) -> Option<Data> {
    if item.is_list() {
        let rows = item.items().into_iter().filter_map(Item::json).collect();
        return Some(Data::new(rows, Order::Sequential));
    }
    let mut table = item.table()?;
    let order = table.text("order");
    let order = match order.as_ref().map(|text| text.text.as_str()) {
        None | Some("sequential") => Order::Sequential,
        Some("random") => Order::Random,
        Some(_) => {
            let place = order.map(|it| it.place).unwrap_or_default();
            table.wrong(&place, "there are `sequential` and `random`");
            Order::Sequential
        }
    };
    let given = table.take("rows").map(Item::items);
    let file = table.text("file");
    let place = table.place.clone();
    let rows = match (given, file) {
        (Some(rows), None) => rows.into_iter().filter_map(Item::json).collect(),
        (None, Some(file)) => from_file(&table, &file, folder),
        _ => {
            table.wrong(&place, "give either `rows` or a `file`");
            vec![Value::Null]
        }
    };
    if rows.is_empty() {
        table.wrong(&place, "there are no rows");
    }
    table.finish();
    Some(Data::new(rows, order))
}

fn from_file(table: &Table, file: &Text, folder: &Path) -> Vec<Value> {
    let path = folder.join(&file.text);
    let wrong = |problem: String| {
        table.wrong(&file.place, problem);
        vec![Value::Null]
    };
    let text = match std::fs::metadata(&path) {
        Ok(about) if about.len() > FILE_BYTES_MAX => {
            return wrong(format!("{} is longer than 64 MiB", path.display()));
        }
        _ => std::fs::read_to_string(&path),
    };
    let text = match text {
        Ok(text) => text,
        Err(error) => return wrong(format!("cannot read {}: {error}", path.display())),
    };
    let extension = path.extension().and_then(|it| it.to_str());
    let rows = match extension {
        Some("csv") => csv(&text),
        Some("jsonl" | "ndjson") => json_lines(&text),
        _ => Err("write a file that ends in .csv, .jsonl or .ndjson".to_owned()),
    };
    rows.unwrap_or_else(wrong)
}

fn json_lines(text: &str) -> Result<Vec<Value>, String> {
    let lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty());
    let row = |(number, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|error| format!("line {}: {error}", number + 1))
    };
    lines.map(row).collect()
}

/// By RFC 4180, the first line with the names of the columns.
fn csv(text: &str) -> Result<Vec<Value>, String> {
    let mut records = csv_records(text)?.into_iter();
    let names = records.next().ok_or("the file is empty")?;
    let mut rows = Vec::new();
    for (number, cells) in records.enumerate() {
        if cells.len() != names.len() {
            let (have, want) = (cells.len(), names.len());
            return Err(format!(
                "row {} has {have} cells, and there are {want} columns",
                number + 1
            ));
        }
        let fields = names
            .iter()
            .cloned()
            .zip(cells.into_iter().map(Value::from));
        rows.push(Value::Object(fields.collect::<Map<_, _>>()));
    }
    Ok(rows)
}

fn csv_records(text: &str) -> Result<Vec<Vec<String>>, String> {
    let (mut records, mut record, mut cell) = (Vec::new(), Vec::new(), String::new());
    let mut quoted = false;
    let mut characters = text.chars().peekable();
    while let Some(it) = characters.next() {
        match it {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                cell.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => record.push(std::mem::take(&mut cell)),
            '\r' if !quoted && characters.peek() == Some(&'\n') => {}
            '\n' if !quoted => {
                record.push(std::mem::take(&mut cell));
                records.push(std::mem::take(&mut record));
            }
            it => cell.push(it),
        }
    }
    if quoted {
        return Err("a `\"` is never closed".to_owned());
    }
    if !cell.is_empty() || !record.is_empty() {
        record.push(cell);
        records.push(record);
    }
    records.retain(|record| record.iter().any(|cell| !cell.is_empty()));
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_has_names_quotes_and_lines_of_equal_length() {
        let rows = csv("id,name\r\n1,\"a, \"\"b\"\"\"\n2,x").unwrap();
        let expected = [
            serde_json::json!({ "id": "1", "name": "a, \"b\"" }),
            serde_json::json!({ "id": "2", "name": "x" }),
        ];
        assert_eq!(rows, expected);
        assert!(csv("a,b\n1\n").unwrap_err().contains("row 1 has 1 cells"));
        assert!(csv("a\n\"1\n").is_err() && csv("").is_err());
    }

    #[test]
    fn json_lines_tell_their_line() {
        assert_eq!(json_lines("{\"a\":1}\n\n2\n").unwrap().len(), 2);
        assert!(json_lines("1\nx\n").unwrap_err().starts_with("line 2"));
    }
}
