//! The OpenAPI document and the page for people, both from the table of routes.

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::problem::ProblemText;
use crate::routes::{Parameter, Route};

pub(crate) fn document(service: &str, routes: &[Route]) -> Value {
    let mut settings = SchemaSettings::draft2020_12();
    settings.definitions_path = "/components/schemas".into();
    let mut schemas = settings.into_generator();
    let mut paths = Map::new();
    for route in routes {
        let operation = operation(route, &mut schemas);
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        if let Some(methods) = path.as_object_mut() {
            methods.insert(route.method.to_ascii_lowercase(), operation);
        }
    }
    let components = schemas.take_definitions(true);
    json!({
        "openapi": "3.1.0",
        "info": { "title": service, "version": env!("CARGO_PKG_VERSION"), "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" } },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": { "schemas": components },
    })
}

fn operation(route: &Route, schemas: &mut SchemaGenerator) -> Value {
    let mut answers = Map::new();
    for (status, description) in route.answers {
        let mut answer = json!({ "description": description });
        if *status >= 400 {
            let schema = schemas.subschema_for::<ProblemText>();
            answer["content"] = json!({ "application/problem+json": { "schema": schema } });
        } else if let Some(schema) = route.answer {
            answer["content"] = json!({ "application/json": { "schema": schema(schemas) } });
        } else {
            answer["content"] = json!({ route.kind: {} });
        }
        answers.insert(status.to_string(), answer);
    }
    let id = format!(
        "{}{}",
        route.method.to_ascii_lowercase(),
        route.path.replace('/', "-")
    );
    let mut operation = json!({
        "operationId": id,
        "summary": route.summary,
        "parameters": route.parameters.iter().map(parameter).collect::<Vec<_>>(),
        "responses": answers,
    });
    if let Some(schema) = route.request {
        let content = json!({ "application/json": { "schema": schema(schemas) } });
        operation["requestBody"] = json!({ "required": true, "content": content });
    }
    operation
}

fn parameter(parameter: &Parameter) -> Value {
    json!({
        "name": parameter.name,
        "in": parameter.place,
        "required": false,
        "description": parameter.about,
        "schema": { "type": "string" },
    })
}

/// A page that needs nothing from elsewhere, scripts included.
pub(crate) fn page(service: &str, routes: &[Route]) -> String {
    let mut sections = String::new();
    for route in routes {
        let list = |rows: Vec<String>| rows.concat();
        let parameters = list(
            route
                .parameters
                .iter()
                .map(|it| {
                    format!(
                        "<tr><td>{} <code>{}</code></td><td>{}</td></tr>",
                        it.place,
                        it.name,
                        escape(it.about)
                    )
                })
                .collect(),
        );
        let answers = list(
            route
                .answers
                .iter()
                .map(|(status, about)| {
                    format!(
                        "<tr><td><b>{status}</b></td><td>{}</td></tr>",
                        escape(about)
                    )
                })
                .collect(),
        );
        sections.push_str(&format!(
            "<section><h2><code>{} {}</code></h2><p>{}</p><table>{parameters}{answers}</table></section>\n",
            route.method, route.path, escape(route.summary),
        ));
    }
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{service}</title><style>{STYLE}</style>\n\
         <h1>{service}</h1><p>Version {}. <a href=\"/openapi.json\">OpenAPI document</a> with the schemas of all bodies; \
         <a href=\"/metrics\">metrics</a>. Errors are <code>application/problem+json</code> (RFC 9457).</p>\n{sections}</html>\n",
        env!("CARGO_PKG_VERSION"),
    )
}

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:50rem;margin:2rem auto;padding:0 1rem}\
    section{border-top:1px solid #ccc}h2{font-size:1.1rem}td{padding:0 1rem .2rem 0;vertical-align:top}\
    @media(prefers-color-scheme:dark){body{background:#181818;color:#ddd}a{color:#8bf}}";

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
