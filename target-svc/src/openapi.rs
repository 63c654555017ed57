//! The OpenAPI document, from the table of routes.

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::problem::ProblemText;
use crate::routes::{Parameter, Route};

/// What the routes do not say.
pub(crate) const ABOUT: &str = "Errors are problems (RFC 9457), application/problem+json: 404 for other paths and 405 for other \
     methods, too. Only what is no valid HTTP is answered with an empty body: 400, 414 for a URI that is too long, 431 for headers \
     that are too large.";

/// How every body may be sent.
pub(crate) const BODIES: &str =
    "Bodies may be compressed, with `Content-Encoding: gzip` or `deflate`.";

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
        "info": {
            "title": service,
            "description": ABOUT,
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": { "schemas": components },
    })
}

fn operation(route: &Route, schemas: &mut SchemaGenerator) -> Value {
    let mut answers = Map::new();
    for (status, about) in route.answers {
        answers.insert((*status).to_owned(), answer(route, status, about, schemas));
    }
    let method = route.method.to_ascii_lowercase();
    let mut operation = json!({
        "operationId": format!("{method}{}", route.path.replace(['/', '.'], "-")),
        "summary": route.summary,
        "parameters": route.parameters.iter().map(parameter).collect::<Vec<_>>(),
        "responses": answers,
    });
    if let Some(body) = &route.request {
        let example: Value = serde_json::from_str(body.example).expect("examples are JSON");
        let media = json!({ "schema": (body.schema)(schemas), "example": example });
        operation["requestBody"] = json!({
            "description": BODIES,
            "required": true,
            "content": { "application/json": media },
        });
    }
    operation
}

fn answer(route: &Route, status: &str, about: &str, schemas: &mut SchemaGenerator) -> Value {
    let is_problem = status.starts_with(['4', '5']);
    let (kinds, schema) = if is_problem {
        let schema = schemas.subschema_for::<ProblemText>();
        (&["application/problem+json"][..], schema)
    } else {
        (route.kinds, (route.answer)(schemas))
    };
    let content = kinds
        .iter()
        .map(|kind| ((*kind).to_owned(), json!({ "schema": schema })));
    let mut answer =
        json!({ "description": about, "content": content.collect::<Map<String, Value>>() });
    match status {
        "415" => {
            let about = "Where the encoding is not supported: those that are";
            let schema = json!({ "type": "string" });
            answer["headers"] =
                json!({ "Accept-Encoding": { "description": about, "schema": schema } });
        }
        "503" => {
            let seconds = json!({ "type": "integer", "minimum": 1 });
            answer["headers"] = json!({ "Retry-After": { "schema": seconds } });
        }
        _ => {}
    }
    answer
}

fn parameter(parameter: &Parameter) -> Value {
    json!({
        "name": parameter.name,
        "in": parameter.place,
        "required": false,
        "description": parameter.about,
        "schema": parameter.schema,
    })
}
