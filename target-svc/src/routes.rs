//! The routes: one table for what is served and what is documented, and the routes of every role.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::middleware::from_fn_with_state;
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Json, Router};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::body::{NO_JSON, TOO_LARGE, UNSUPPORTED, read_json};
use crate::observe::{Observer, observe};
use crate::openapi;
use crate::page;
use crate::problem::Problem;
use crate::simulate;
use crate::telemetry::{Format, Scrape, render};
use crate::work::{Addends, Sum, add};

/// Makes the schema of a body.
pub(crate) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// One route, with what its users should know about it.
pub(crate) struct Route {
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    pub(crate) summary: &'static str,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) request: Option<RequestBody>,
    /// Statuses, or ranges of them such as `4XX`, and when they are answered. Those from 400 on are problems.
    pub(crate) answers: &'static [(&'static str, &'static str)],
    /// The schema of a good answer's body.
    pub(crate) answer: SchemaOf,
    /// The media types of a good answer.
    pub(crate) kinds: &'static [&'static str],
    pub(crate) handler: MethodRouter,
}

/// Something in the query or in a header; none is required.
pub(crate) struct Parameter {
    pub(crate) place: &'static str,
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) schema: Schema,
}

/// A body of JSON.
pub(crate) struct RequestBody {
    pub(crate) schema: SchemaOf,
    pub(crate) example: &'static str,
}

impl RequestBody {
    pub(crate) fn new<T: JsonSchema>(example: &'static str) -> Self {
        Self {
            schema: SchemaGenerator::subschema_for::<T>,
            example,
        }
    }
}

impl Route {
    /// A route that answers 200 with `T` as JSON, unless it is said otherwise.
    pub(crate) fn new<T: JsonSchema>(
        method: &'static str,
        path: &'static str,
        summary: &'static str,
        handler: MethodRouter,
    ) -> Self {
        Self {
            method,
            path,
            summary,
            parameters: Vec::new(),
            request: None,
            answers: &[("200", "The answer")],
            answer: SchemaGenerator::subschema_for::<T>,
            kinds: &["application/json"],
            handler,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    body_bytes_max: usize,
}

/// The whole service, named `service`: every answer, those of unknown paths included, is observed.
pub(crate) fn router(
    service: &str,
    body_bytes_max: usize,
    observer: Observer,
    scrape: Scrape,
    of_role: Vec<Route>,
) -> Router {
    let mut routes = of_role;
    routes.extend(common(Limits { body_bytes_max }, scrape));
    routes.extend(simulate::routes());
    routes.push(Route::new::<Map<String, Value>>(
        "GET",
        "/openapi.json",
        "This document",
        MethodRouter::new(),
    ));
    routes.push(Route {
        kinds: &["text/html"],
        ..Route::new::<String>(
            "GET",
            "/docs",
            "The routes, for people",
            MethodRouter::new(),
        )
    });
    let document: Arc<str> = openapi::document(service, &routes).to_string().into();
    let page: Arc<str> = page::render(service, observer.local(), &routes).into();
    let mut router = Router::new();
    for route in routes {
        let handler = match route.path {
            "/openapi.json" => get(openapi_json).with_state(Arc::clone(&document)),
            "/docs" => get(docs).with_state(Arc::clone(&page)),
            _ => route.handler,
        };
        router = router.route(route.path, handler);
    }
    router
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn_with_state(observer, observe))
}

/// What every role has.
fn common(limits: Limits, scrape: Scrape) -> Vec<Route> {
    vec![
        Route {
            answers: &[("200", "The service answers")],
            ..Route::new::<Health>("GET", "/health", "Whether the service answers", get(health))
        },
        Route {
            request: Some(RequestBody::new::<Addends>(r#"{"a":[1,2],"b":[3,4.5]}"#)),
            answers: &[
                ("200", "The sum"),
                NO_JSON,
                TOO_LARGE,
                UNSUPPORTED,
                (
                    "422",
                    "The body is of another shape, or the vectors have no sum",
                ),
            ],
            ..Route::new::<Sum>(
                "POST",
                "/api/vector/add",
                "Add two vectors",
                post(vector_add).with_state(limits),
            )
        },
        Route {
            kinds: &["application/openmetrics-text", "text/plain"],
            answers: &[(
                "200",
                "OpenMetrics with exemplars; Prometheus text for browsers, and for whom accepts text/plain only",
            )],
            ..Route::new::<String>(
                "GET",
                "/metrics",
                "Metrics to scrape",
                get(metrics).with_state(scrape),
            )
        },
    ]
}

async fn vector_add(
    State(limits): State<Limits>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let shape = r#"{"a":[numbers],"b":[numbers]}"#;
    let addends: Addends = read_json(&headers, body, limits.body_bytes_max, shape).await?;
    let sum: Sum = add(&addends)?;
    tracing::info!(vector.length = sum.result.len() as i64, "vectors added");
    Ok(Json(sum).into_response())
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Health {
    /// Always `ok`: otherwise there is no answer.
    status: &'static str,
}

async fn health() -> Json<Health> {
    Json(Health { status: "ok" })
}

async fn metrics(State(scrape): State<Scrape>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|it| it.to_str().ok());
    let format = Format::of(accept.unwrap_or_default());
    let kind = [(header::CONTENT_TYPE, format.content_type())];
    (kind, render(&scrape.collect(), format)).into_response()
}

async fn openapi_json(State(document): State<Arc<str>>) -> Response {
    (
        [(header::CONTENT_TYPE, "application/json")],
        document.to_string(),
    )
        .into_response()
}

async fn docs(State(page): State<Arc<str>>) -> Response {
    Html(page.to_string()).into_response()
}

async fn not_found(uri: Uri) -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        format!("there is nothing at {}", uri.path()),
    )
}

async fn method_not_allowed(method: Method, uri: Uri) -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("{} does not answer {method}", uri.path()),
    )
}
