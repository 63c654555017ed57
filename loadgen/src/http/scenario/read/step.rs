//! One request: where it goes, what it carries, what has to hold and what is kept.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

use super::{Context, duration, number};
use crate::cli::parse_duration;
use crate::document::{Item, Table, Text};
use crate::http::check::{Check, Condition, Extract, Place};
use crate::http::journey::{Course, Outgoing, Pattern, Request, Step};
use crate::http::template::{Source, Template, is_name};

pub(super) fn headers(table: Option<Table>) -> BTreeMap<String, Text> {
    let entries = table.map(Table::rest).unwrap_or_default().into_iter();
    entries
        .filter_map(|(name, _, item)| Some((name.to_ascii_lowercase(), item.text()?)))
        .collect()
}

pub(super) fn read(table: &mut Table, course: Course, context: &Context, known: &[String]) -> Step {
    let name = table.text("name").map(|text| text.text);
    let method = method(table);
    let written = table.need("path");
    if !written.text.starts_with('/') && !written.text.is_empty() {
        table.wrong(
            &written.place,
            "a path begins with `/`; the host is `target`",
        );
    }
    let weight = match course {
        Course::Weighted => number(table, "weight", 0.001, 1e6).unwrap_or(1.0),
        Course::InOrder => 1.0,
    };
    let checks = table.table("checks").map(checks).unwrap_or_default();
    let extracts = table.table("extract").map(extracts).unwrap_or_default();
    let think = think(table);
    let body = table.text("body");
    let own = headers(table.table("headers"));
    let request = Draft {
        method: method.clone(),
        path: written.clone(),
        headers: context.headers.clone().into_iter().chain(own).collect(),
        body,
        keep_body: Step::needs_body(&checks, &extracts),
    };
    Step {
        label: name.unwrap_or_else(|| {
            let path = written.text.split('?').next().unwrap_or_default();
            format!("{method} {path}")
        }),
        weight,
        request: request.finish(table, context, known),
        checks,
        extracts,
        think,
    }
}

fn method(table: &mut Table) -> Method {
    let has_body = table.has("body");
    match table.text("method") {
        Some(text) => match text.text.parse::<Method>() {
            Ok(method) if text.text == text.text.to_uppercase() => method,
            _ => {
                table.wrong(&text.place, "write a method such as `GET` or `POST`");
                Method::GET
            }
        },
        None if has_body => Method::POST,
        None => Method::GET,
    }
}

/// What was written of a request.
struct Draft {
    method: Method,
    path: Text,
    headers: BTreeMap<String, Text>,
    body: Option<Text>,
    keep_body: bool,
}

impl Draft {
    fn finish(self, table: &Table, context: &Context, known: &[String]) -> Request {
        let template = |text: &Text| template(table, text, context, known);
        let path = template(&self.path);
        let body = self.body.as_ref().map(template);
        let mut fixed_headers = HeaderMap::new();
        let mut patterns = Vec::new();
        let agent = concat!("loadgen/", env!("CARGO_PKG_VERSION"));
        fixed_headers.insert(USER_AGENT, HeaderValue::from_static(agent));
        if body.is_some() {
            fixed_headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let host = context.base.parse::<Uri>().ok();
        let host = host.as_ref().and_then(|uri| uri.authority());
        if let Some(Ok(value)) = host.map(|it| HeaderValue::from_str(it.as_str())) {
            fixed_headers.insert(HOST, value);
        }
        for (name, text) in &self.headers {
            let Ok(parsed) = name.parse::<HeaderName>() else {
                table.wrong(&text.place, format!("`{name}` is no name of a header"));
                continue;
            };
            let value = template(text);
            match value.fixed().map(HeaderValue::from_str) {
                Some(Ok(value)) => drop(fixed_headers.insert(parsed, value)),
                Some(Err(_)) => table.wrong(&text.place, "a header cannot have this value"),
                None => patterns.push((parsed, value)),
            }
        }
        let body = body.unwrap_or_else(|| template(&Text::default()));
        if let (Some(path), Some(body), true) = (path.fixed(), body.fixed(), patterns.is_empty()) {
            let uri = format!("{}{path}", context.base).parse();
            if uri.is_err() {
                table.wrong(&self.path.place, "this is no path");
            }
            return Request::Fixed(Box::new(Outgoing {
                uri: uri.unwrap_or_default(),
                method: self.method,
                headers: fixed_headers,
                body: Bytes::from(body.to_owned()),
                keep_body: self.keep_body,
            }));
        }
        Request::Pattern(Box::new(Pattern {
            base: context.base.clone(),
            path,
            method: self.method,
            fixed_headers,
            headers: patterns,
            body,
            keep_body: self.keep_body,
        }))
    }
}

fn template(table: &Table, text: &Text, context: &Context, known: &[String]) -> Template {
    let is_data = |name: &str| context.names.iter().any(|it| it == name);
    match Template::parse(&text.text, is_data) {
        Ok(template) => {
            for source in template.sources() {
                let Source::Extracted(name) = source else {
                    continue;
                };
                if !known.contains(name) {
                    let what =
                        "neither data nor extracted by a step before; data is written in `[data]`";
                    table.wrong(&text.place, format!("`${{{name}}}` is {what}"));
                }
            }
            template
        }
        Err(problem) => {
            table.wrong(&text.place, problem);
            Template::parse("", is_data).expect("an empty text has no places")
        }
    }
}

fn checks(mut table: Table) -> Vec<Check> {
    let mut checks = Vec::new();
    let mut add = |name: String, what| checks.push(Check { name, what });
    let statuses = statuses(&mut table);
    if !statuses.is_empty() {
        let names: Vec<_> = statuses.iter().map(ToString::to_string).collect();
        add(
            format!("status {}", names.join("|")),
            Condition::Status(statuses),
        );
    }
    if let Some(text) = table.text("latency") {
        let limit = text.text.trim_start_matches(['<', ' ']);
        match parse_duration(limit) {
            Ok(limit) => add(
                format!("latency < {limit:?}"),
                Condition::LatencyBelow(limit),
            ),
            Err(problem) => table.wrong(&text.place, format!("{problem:#}")),
        }
    }
    for text in table.strings("body_contains") {
        add(
            format!("body contains {text}"),
            Condition::BodyContains(text),
        );
    }
    for text in table.texts("json_exists") {
        pointer(&table, &text);
        add(
            format!("{} exists", text.text),
            Condition::JsonExists(text.text),
        );
    }
    let equal = table.table("json").map(Table::rest).unwrap_or_default();
    for (key, place, item) in equal {
        let text = Text { text: key, place };
        pointer(&table, &text);
        if let Some(value) = item.json() {
            add(
                format!("{} is {value}", text.text),
                Condition::JsonEquals(text.text, value),
            );
        }
    }
    table.finish();
    checks
}

/// Statuses of which one has to come.
fn statuses(table: &mut Table) -> Vec<u16> {
    let Some(item) = table.take("status") else {
        return Vec::new();
    };
    let mut statuses = Vec::new();
    let place = item.place.clone();
    let items = item.items();
    if items.is_empty() {
        table.wrong(&place, "an empty list holds for no answer: write a status");
    }
    for item in items {
        let written = item.integer().and_then(|it| u16::try_from(it).ok());
        match written.filter(|it| (100..=599).contains(it)) {
            Some(status) => statuses.push(status),
            None => item.wrong("write a status from 100 to 599, such as `200`"),
        }
    }
    statuses
}

fn pointer(table: &Table, text: &Text) {
    if !text.text.starts_with('/') && !text.text.is_empty() {
        table.wrong(
            &text.place,
            "a JSON pointer begins with `/`, such as `/items/0/id`",
        );
    }
}

/// `name = "/json/pointer"` or `name = { header = "location" }`.
fn extracts(table: Table) -> Vec<Extract> {
    let mut extracts = Vec::new();
    for (name, place, item) in table.rest() {
        if !is_name(&name) {
            item.wrong("a name has letters, digits, `_` and `-`");
        }
        let from = match item.is_table() {
            true => header(item),
            false => json_pointer(item),
        };
        drop(place);
        extracts.extend(from.map(|from| Extract { name, from }));
    }
    extracts
}

fn json_pointer(item: Item) -> Option<Place> {
    if let Some(text) = item.peek()
        && !text.starts_with('/')
    {
        item.wrong(
            "a JSON pointer begins with `/`; a header is written `{ header = \"location\" }`",
        );
    }
    Some(Place::Json(item.text()?.text))
}

fn header(item: Item) -> Option<Place> {
    let mut table = item.table()?;
    let text = table.need("header");
    let name = text.text.parse::<HeaderName>();
    if name.is_err() && !text.text.is_empty() {
        table.wrong(&text.place, "this is no name of a header");
    }
    table.finish();
    name.ok().map(Place::Header)
}

/// `think = "1s"`, or `think = "1s"` with `think_max = "3s"` for anything between.
fn think(table: &mut Table) -> Option<(Duration, Duration)> {
    let from = duration(table, "think");
    let to = duration(table, "think_max");
    match (from, to) {
        (None, None) => None,
        (from, to) => {
            let from = from.unwrap_or_default();
            Some((from, to.unwrap_or(from).max(from)))
        }
    }
}
