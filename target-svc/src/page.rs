//! The page for people, from the table of routes: it needs nothing from elsewhere, scripts included.

use std::net::SocketAddr;

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::Value;

use crate::openapi::{ABOUT, BODIES};
use crate::routes::{RequestBody, Route};

/// The page of a service that listens at `local`.
pub(crate) fn render(service: &str, local: SocketAddr, routes: &[Route]) -> String {
    let mut settings = SchemaSettings::draft2020_12();
    settings.inline_subschemas = true;
    let mut schemas = settings.into_generator();
    let sections: String = routes
        .iter()
        .map(|route| section(route, local, &mut schemas))
        .collect();
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <link rel=\"icon\" href=\"data:,\"><title>{service}</title><style>{STYLE}</style>\n\
         <h1>{service}</h1><p>Version {}. <a href=\"/openapi.json\">OpenAPI document</a> with the schemas of all bodies; \
         <a href=\"/metrics\">metrics</a>. {} {}</p>\n{sections}</html>\n",
        env!("CARGO_PKG_VERSION"),
        escape(BODIES),
        escape(ABOUT),
    )
}

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:50rem;margin:2rem auto;padding:0 1rem}\
    section{border-top:1px solid #ccc}h2{font-size:1.1rem}td{padding:0 1rem .2rem 0;vertical-align:top}\
    pre{overflow-x:auto;padding:.5rem;background:#8882}\
    @media(prefers-color-scheme:dark){body{background:#181818;color:#ddd}a{color:#8bf}}";

fn section(route: &Route, local: SocketAddr, schemas: &mut SchemaGenerator) -> String {
    let mut rows = Vec::new();
    for it in &route.parameters {
        let about = format!("{} ({})", it.about, kind(it.schema.as_value()));
        rows.push(row(&format!("{} {}", it.place, it.name), &about));
    }
    if let Some(body) = &route.request {
        rows.extend(fields(body, schemas));
    }
    for (status, about) in route.answers {
        rows.push(row(status, about));
    }
    let answer = (route.answer)(schemas);
    if answer.get("properties").is_some() {
        rows.push(row("a good answer", &shape(answer.as_value())));
    }
    format!(
        "<section><h2><code>{} {}</code></h2><p>{}</p><table>{}</table><pre>{}</pre></section>\n",
        route.method,
        route.path,
        escape(route.summary),
        rows.concat(),
        escape(&curl(route, local)),
    )
}

fn row(name: &str, about: &str) -> String {
    format!(
        "<tr><td><code>{name}</code></td><td>{}</td></tr>",
        escape(about)
    )
}

/// A row for each field of a body.
fn fields(body: &RequestBody, schemas: &mut SchemaGenerator) -> Vec<String> {
    let schema = (body.schema)(schemas).to_value();
    let is_required = |name: &str| {
        let required = schema["required"].as_array();
        required.is_some_and(|it| it.iter().any(|it| it == name))
    };
    let properties = schema["properties"].as_object().into_iter().flatten();
    let field = |(name, property): (&String, &Value)| {
        let mut about = kind(property);
        if !is_required(name) {
            about.push_str(", optional");
        }
        if let Some(text) = property["description"].as_str() {
            about = format!("{about}. {text}");
        }
        row(&format!("body {name}"), &about)
    };
    properties.map(field).collect()
}

/// The type of a value, with its bounds: `integer from 1 to 1000, 100 if it is not given`.
fn kind(schema: &Value) -> String {
    let mut text = shape(schema);
    if let (Some(least), Some(most)) = (schema.get("minimum"), schema.get("maximum")) {
        text.push_str(&format!(" from {least} to {most}"));
    }
    if let Some(length) = schema.get("maxLength") {
        text.push_str(&format!(" of at most {length} characters"));
    }
    if let Some(default) = schema.get("default") {
        text.push_str(&format!(", {default} if it is not given"));
    }
    text
}

/// The type of a value, and of those within it: `{orders: [{order_id: string, …}]}`.
fn shape(schema: &Value) -> String {
    if let Some(properties) = schema["properties"].as_object() {
        let fields = properties
            .iter()
            .map(|(name, it)| format!("{name}: {}", shape(it)));
        return format!("{{{}}}", fields.collect::<Vec<_>>().join(", "));
    }
    match &schema["type"] {
        Value::String(kind) if kind == "array" => format!("[{}]", shape(&schema["items"])),
        Value::String(kind) => kind.clone(),
        // A type that may be null has two.
        Value::Array(kinds) => kinds
            .first()
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned(),
        // Names of states, each with its description.
        _ => "string".to_owned(),
    }
}

/// A request to begin with.
fn curl(route: &Route, local: SocketAddr) -> String {
    let given = route.parameters.iter().filter_map(|it| {
        let default = it.schema.get("default")?;
        Some(format!("{}={default}", it.name))
    });
    let query = given.collect::<Vec<_>>().join("&");
    let mut url = format!("http://{local}{}", route.path);
    if !query.is_empty() {
        url = format!("'{url}?{query}'");
    }
    match &route.request {
        Some(body) => format!(
            "curl -i {url} -H 'content-type: application/json' -d '{}'",
            body.example
        ),
        None if route.method == "GET" => format!("curl -i {url}"),
        None => format!("curl -i -X {} {url}", route.method),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
