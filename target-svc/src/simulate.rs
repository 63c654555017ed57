//! Trouble on demand: a slow answer, a failing one, and work that goes on after the answer.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::routing::{get, post};
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::problem::Problem;
use crate::query::{NumberParameter, Query};
use crate::routes::Route;

/// Tasks at a time: each keeps a core busy, and more would starve the service that is to be observed.
const TASKS_MAX: usize = 4;

const LATENCY_MS: NumberParameter<u64> = NumberParameter {
    name: "ms",
    about: "How many milliseconds the answer takes",
    range: 0..=60_000,
    default: 100,
};
const FAILURE_STATUS: NumberParameter<u16> = NumberParameter {
    name: "status",
    about: "The status of a failure",
    range: 400..=599,
    default: 500,
};
const FAILURE_RATE: NumberParameter<f64> = NumberParameter {
    name: "rate",
    about: "The share of requests that fail",
    range: 0.0..=1.0,
    default: 1.0,
};
const TASK_MS: NumberParameter<u64> = NumberParameter {
    name: "ms",
    about: "For how many milliseconds a core is kept busy",
    range: 1..=60_000,
    default: 1_000,
};

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Late {
    waited_ms: u64,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Spared {
    /// Always false: a failure is a problem.
    failed: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct HeavyTask {
    accepted: bool,
    ms: u64,
}

/// The heavy tasks that may still be started.
type Tasks = Arc<Semaphore>;

pub(crate) fn routes() -> Vec<Route> {
    let tasks: Tasks = Arc::new(Semaphore::new(TASKS_MAX));
    vec![
        Route {
            parameters: vec![LATENCY_MS.documented()],
            answers: &[("200", "The answer, late"), ("400", "A parameter is wrong")],
            ..Route::new::<Late>("GET", "/simulate/latency", "Answer late", get(latency))
        },
        Route {
            parameters: vec![FAILURE_STATUS.documented(), FAILURE_RATE.documented()],
            answers: &[
                ("200", "It did not fail this time"),
                (
                    "400",
                    "A parameter is wrong, or this is the failure that was asked for",
                ),
                ("4XX", "The failure that was asked for"),
                ("5XX", "The failure that was asked for"),
            ],
            ..Route::new::<Spared>("GET", "/simulate/error", "Fail", get(error))
        },
        Route {
            parameters: vec![TASK_MS.documented()],
            answers: &[
                ("202", "The task runs in the background"),
                ("400", "A parameter is wrong"),
                ("503", "Four tasks run already"),
            ],
            ..Route::new::<HeavyTask>(
                "POST",
                "/simulate/heavy-task",
                "Keep a core busy in the background",
                post(heavy_task).with_state(tasks),
            )
        },
    ]
}

async fn latency(uri: Uri) -> Result<Json<Late>, Problem> {
    let query = Query::parse(&uri, &["ms"])?;
    let waited_ms = query.number(&LATENCY_MS)?;
    tokio::time::sleep(Duration::from_millis(waited_ms)).await;
    Ok(Json(Late { waited_ms }))
}

async fn error(uri: Uri) -> Result<Json<Spared>, Problem> {
    let query = Query::parse(&uri, &["status", "rate"])?;
    let status = query.number(&FAILURE_STATUS)?;
    let rate = query.number(&FAILURE_RATE)?;
    if rand::random_range(0.0..1.0) >= rate {
        return Ok(Json(Spared { failed: false }));
    }
    let status = StatusCode::from_u16(status).expect("three digits make a status");
    Err(Problem::new(status, "this failure was asked for"))
}

async fn heavy_task(
    State(tasks): State<Tasks>,
    uri: Uri,
) -> Result<(StatusCode, Json<HeavyTask>), Problem> {
    let query = Query::parse(&uri, &["ms"])?;
    let ms = query.number(&TASK_MS)?;
    let permit = tasks
        .try_acquire_owned()
        .map_err(|_full| Problem::unavailable(format!("{TASKS_MAX} heavy tasks run already")))?;
    let span = tracing::info_span!("heavy-task", task.duration_ms = ms as i64);
    // Nobody waits for it: it counts itself as ended, and at the end of the process it is cut off.
    drop(tokio::task::spawn_blocking(move || {
        span.in_scope(|| keep_busy(Duration::from_millis(ms), permit));
    }));
    let accepted = true;
    Ok((StatusCode::ACCEPTED, Json(HeavyTask { accepted, ms })))
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
