//! The routes, and how requests become work and results become answers.

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use serde_json::json;

use crate::observe::{Observer, observe};
use crate::problem::Problem;
use crate::work::{Addends, Sum, add};

#[derive(Debug, Clone, Copy)]
struct Limits {
    body_bytes_max: usize,
}

/// The whole service: every answer, those of unknown paths included, is observed.
pub(crate) fn router(body_bytes_max: usize, observer: Observer) -> Router {
    Router::new()
        .route("/api/vector/add", post(vector_add))
        .route("/health", get(health))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn_with_state(observer, observe))
        .with_state(Limits { body_bytes_max })
}

async fn vector_add(
    State(limits): State<Limits>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    require_json(&headers)?;
    let body = read_body(body, limits.body_bytes_max).await?;
    let addends: Addends =
        serde_json::from_slice(&body).map_err(|error| Problem::of_json(&error))?;
    let sum: Sum = add(&addends)?;
    tracing::info!(vector.length = sum.result.len() as i64, "vectors added");
    Ok(axum::Json(sum).into_response())
}

async fn health() -> Response {
    axum::Json(json!({ "status": "ok" })).into_response()
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

/// `application/json`, with any parameters, in any case.
fn require_json(headers: &HeaderMap) -> Result<(), Problem> {
    let value = headers
        .get(header::CONTENT_TYPE)
        .and_then(|it| it.to_str().ok())
        .unwrap_or_default();
    let kind = value.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let given = if kind.is_empty() {
        "none".to_owned()
    } else {
        format!("`{kind}`")
    };
    Err(Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        format!("the content type must be `application/json`, but it is {given}"),
    ))
}

async fn read_body(body: Body, limit: usize) -> Result<axum::body::Bytes, Problem> {
    axum::body::to_bytes(body, limit).await.map_err(|error| {
        if is_too_large(&error) {
            return Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the body is larger than the limit of {limit} bytes"),
            );
        }
        Problem::new(
            StatusCode::BAD_REQUEST,
            format!("the body could not be read: {error}"),
        )
    })
}

fn is_too_large(error: &axum::Error) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if error.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        cause = error.source();
    }
    false
}
