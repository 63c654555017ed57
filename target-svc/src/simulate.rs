//! Trouble on demand: a slow answer, a failing one, and work that goes on after the answer.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::problem::Problem;
use crate::query::Query;
use crate::routes::{Parameter, Route};

/// Tasks at a time: each keeps a core busy, and more would starve the service that is to be observed.
const TASKS_MAX: usize = 4;

const LATENCY_MS_MAX: u64 = 60_000;
const TASK_MS_MAX: u64 = 60_000;

/// The heavy tasks that may still be started.
type Tasks = Arc<Semaphore>;

pub(crate) fn routes() -> Vec<Route> {
    let tasks: Tasks = Arc::new(Semaphore::new(TASKS_MAX));
    vec![
        Route {
            parameters: &[Parameter {
                place: "query",
                name: "ms",
                about: "How long the answer takes, from 0 to 60,000 milliseconds; 100 if it is not given.",
            }],
            answers: &[(200, "The answer, late"), (400, "A parameter is wrong")],
            ..Route::new("GET", "/simulate/latency", "Answer late", get(latency))
        },
        Route {
            parameters: &[
                Parameter {
                    place: "query",
                    name: "status",
                    about: "The status of a failure, from 400 to 599; 500 if it is not given.",
                },
                Parameter {
                    place: "query",
                    name: "rate",
                    about: "The share of requests that fail, from 0 to 1; 1 if it is not given.",
                },
            ],
            answers: &[
                (200, "It did not fail this time"),
                (400, "A parameter is wrong"),
                (500, "The failure that was asked for"),
            ],
            ..Route::new("GET", "/simulate/error", "Fail", get(error))
        },
        Route {
            parameters: &[Parameter {
                place: "query",
                name: "ms",
                about: "How long a core is kept busy, from 1 to 60,000 milliseconds; 1,000 if it is not given.",
            }],
            answers: &[
                (202, "The task runs in the background"),
                (400, "A parameter is wrong"),
                (503, "Four tasks run already"),
            ],
            ..Route::new(
                "POST",
                "/simulate/heavy-task",
                "Keep a core busy in the background",
                post(heavy_task).with_state(tasks),
            )
        },
    ]
}

async fn latency(uri: Uri) -> Result<Response, Problem> {
    let query = Query::parse(&uri, &["ms"])?;
    let ms = query.number("ms", 100, 0..=LATENCY_MS_MAX)?;
    tokio::time::sleep(Duration::from_millis(ms)).await;
    Ok(Json(json!({ "waited_ms": ms })).into_response())
}

async fn error(uri: Uri) -> Result<Response, Problem> {
    let query = Query::parse(&uri, &["status", "rate"])?;
    let status = query.number("status", 500, 400..=599)?;
    let rate = query.number("rate", 1.0, 0.0..=1.0)?;
    if rand::random_range(0.0..1.0) >= rate {
        return Ok(Json(json!({ "failed": false })).into_response());
    }
    let status = StatusCode::from_u16(status).expect("three digits make a status");
    Err(Problem::new(status, "this failure was asked for"))
}

async fn heavy_task(State(tasks): State<Tasks>, uri: Uri) -> Result<Response, Problem> {
    let query = Query::parse(&uri, &["ms"])?;
    let ms = query.number("ms", 1_000, 1..=TASK_MS_MAX)?;
    let permit = tasks
        .try_acquire_owned()
        .map_err(|_full| Problem::unavailable(format!("{TASKS_MAX} heavy tasks run already")))?;
    let span = tracing::info_span!("heavy-task", task.duration_ms = ms as i64);
    // Nobody waits for it: it counts itself as ended, and at the end of the process it is cut off.
    drop(tokio::task::spawn_blocking(move || {
        span.in_scope(|| keep_busy(Duration::from_millis(ms), permit));
    }));
    Ok((
        StatusCode::ACCEPTED,
        Json(json!({ "accepted": true, "ms": ms })),
    )
        .into_response())
}

fn keep_busy(duration: Duration, permit: OwnedSemaphorePermit) {
    let started = Instant::now();
    let mut rounds = 0_u64;
    while started.elapsed() < duration {
        (0..10_000_u64).for_each(|number| {
            black_box(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        });
        rounds += 1;
    }
    tracing::info!(rounds, "heavy task done");
    drop(permit);
}
