//! Dead letters as text for people and as JSON for programs.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::super::print;
use super::fail;
use super::find::Found;
use crate::exporters::dead_letter::{Header, Letter};
use crate::otlp;

/// Prints a list; the exit code says whether all could be read.
pub(super) fn list(found: &[Found], as_json: bool) -> ExitCode {
    let printed = match as_json {
        true => print(&format!("{:#}\n", list_json(found))),
        false => print(&list_text(found)),
    };
    match found.iter().any(|found| found.header.is_err()) {
        true => ExitCode::FAILURE,
        false => printed,
    }
}

fn list_json(found: &[Found]) -> Value {
    let objects = found.iter().map(|Found { path, header }| {
        let mut object = match header {
            Ok(header) => header_json(header),
            Err(problem) => json!({"error": problem.to_string()}),
        };
        object["file"] = path.display().to_string().into();
        object
    });
    objects.collect()
}

fn header_json(header: &Header) -> Value {
    serde_json::to_value(header).expect("a header is text and numbers")
}

const COLUMNS: [&str; 7] = [
    "FILE", "TIME", "EXPORTER", "SIGNAL", "ITEMS", "BYTES", "REASON",
];
/// Characters of a destination's words in a list.
const CAUSE_MAX: usize = 120;

fn list_text(found: &[Found]) -> String {
    if found.is_empty() {
        return "no dead letters\n".to_owned();
    }
    let rows: Vec<[String; 7]> = std::iter::once(COLUMNS.map(str::to_owned))
        .chain(found.iter().map(row))
        .collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..COLUMNS.len() - 1).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        for (cell, width) in row.iter().zip(&widths) {
            write!(text, "{cell:<width$}  ").expect("a String takes everything");
        }
        text.push_str(row.last().map_or("", String::as_str));
        text.push('\n');
    }
    let headers = found.iter().filter_map(|found| found.header.as_ref().ok());
    let items = headers.map(|header| header.rejected).sum();
    writeln!(
        text,
        "{}, {}",
        count(found.len(), "dead letter"),
        count(items, "rejected item")
    )
    .expect("a String takes everything");
    text
}

fn row(found: &Found) -> [String; 7] {
    let file = found.path.display().to_string();
    match &found.header {
        Ok(header) => [
            file,
            plain(&header.time),
            plain(&header.exporter),
            header.signal.to_string(),
            items(header),
            header.bytes.to_string(),
            format!("{}: {}", header.reason.name(), cut(&plain(&header.cause))),
        ],
        Err(problem) => {
            let [time, exporter, signal, items, bytes] = [(); 5].map(|()| "-".to_owned());
            let problem = format!("cannot be read: {}", plain(&problem.to_string()));
            [file, time, exporter, signal, items, bytes, problem]
        }
    }
}

fn items(header: &Header) -> String {
    match header.rejected == header.items {
        true => header.items.to_string(),
        false => format!("{} of {}", header.rejected, header.items),
    }
}

/// Prints a letter.
pub(super) fn letter(path: &Path, letter: &Letter, as_json: bool) -> ExitCode {
    let header = &letter.header;
    let mut request = Vec::new();
    let chunks = std::iter::once(letter.body().as_ref());
    if let Err(problem) = otlp::json::encode(header.signal, chunks, &mut request) {
        return fail(&format!(
            "{}: the request cannot be shown: {problem}",
            path.display()
        ));
    }
    let request = String::from_utf8_lossy(&request);
    if as_json {
        let letter = header_json(header);
        return print(&format!("{{\"letter\":{letter},\"request\":{request}}}\n"));
    }
    match serde_json::from_str::<Value>(&request) {
        Ok(tree) => print(&format!("{}\n{tree:#}\n", header_text(path, header))),
        Err(problem) => fail(&format!("{}: {problem}", path.display())),
    }
}

fn header_text(path: &Path, header: &Header) -> String {
    let mut lines = vec![
        ("file", path.display().to_string()),
        ("exporter", plain(&header.exporter)),
        ("signal", header.signal.to_string()),
        ("pipelines", plain(&header.pipelines.join(", "))),
        ("time", plain(&header.time)),
        ("reason", header.reason.name().to_owned()),
        ("cause", plain(&header.cause)),
        ("items", items(header)),
        ("bytes", header.bytes.to_string()),
        ("batch", plain(&header.batch)),
    ];
    if !header.parts_done.is_empty() {
        lines.push(("stored in", plain(&header.parts_done.join(", "))));
    }
    let mut text = String::new();
    for (name, value) in lines {
        writeln!(text, "{name:<10} {value}").expect("a String takes everything");
    }
    text
}

/// A number of things.
pub(super) fn count(number: usize, thing: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{number} {thing}{ending}")
}

/// Words from elsewhere on one line, and without anything that a terminal would obey.
pub(super) fn plain(text: &str) -> String {
    let harmless = |letter: char| if letter.is_control() { ' ' } else { letter };
    text.chars().map(harmless).collect()
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(CAUSE_MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
