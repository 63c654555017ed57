//! The control endpoint: faults are set, cleared and counted over HTTP.

use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde::Serialize;

use super::board::{Board, Counts, RULES_MAX};
use super::fault::Rule;
use super::proxy::Protocol;
use crate::sink::serve::{Body, Handler, full, read};

/// A list of faults is shorter than this.
const BODY_MAX: usize = 64 << 10;

/// `GET`, `POST` and `DELETE /faults`.
#[derive(Debug, Clone)]
pub(super) struct Control {
    pub(super) board: Arc<Board>,
    pub(super) protocol: Protocol,
}

/// What `GET /faults` answers.
#[derive(Debug, Serialize)]
pub(super) struct State {
    rules: Vec<String>,
    refusing: bool,
    #[serde(flatten)]
    counts: Counts,
}

impl State {
    pub(super) fn of(board: &Board) -> Self {
        Self {
            rules: board.rules(),
            refusing: board.is_refusing(),
            counts: board.counts(),
        }
    }
}

impl Handler for Control {
    async fn handle(self, request: Request<Incoming>) -> Result<Response<Body>, hyper::Error> {
        let (head, body) = request.into_parts();
        if head.uri.path() != "/faults" {
            return Ok(answer(StatusCode::NOT_FOUND, "there is only /faults"));
        }
        let body = read(body, BODY_MAX).await?;
        Ok(match head.method {
            Method::GET => self.state(),
            Method::DELETE => {
                self.board.set(Vec::new());
                self.state()
            }
            Method::POST => match self.set(body) {
                Ok(()) => self.state(),
                Err(error) => answer(StatusCode::BAD_REQUEST, &format!("{error:#}")),
            },
            _ => answer(StatusCode::METHOD_NOT_ALLOWED, "GET, POST or DELETE"),
        })
    }
}

impl Control {
    fn set(&self, body: Option<Bytes>) -> anyhow::Result<()> {
        let body = body.context("the list is longer than 64 KiB")?;
        let texts: Vec<String> =
            serde_json::from_slice(&body).context("a JSON list of strings is expected")?;
        self.board.set(parse(&texts, self.protocol)?);
        Ok(())
    }

    fn state(&self) -> Response<Body> {
        let json = serde_json::to_string_pretty(&State::of(&self.board)).unwrap_or_default();
        let mut response = answer(StatusCode::OK, &json);
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }
}

/// Reads rules for a proxy of this protocol.
///
/// # Errors
/// Too many, mistakes in one, or one that the protocol cannot have.
pub(super) fn parse(texts: &[String], protocol: Protocol) -> anyhow::Result<Vec<Rule>> {
    anyhow::ensure!(texts.len() <= RULES_MAX, "at most {RULES_MAX} faults");
    let rule = |text: &String| {
        let rule = Rule::parse(text)?;
        let possible = protocol == Protocol::Http || rule.fault.works_over_tcp();
        anyhow::ensure!(possible, "`{text}` needs --protocol http");
        Ok(rule)
    };
    texts.iter().map(rule).collect()
}

fn answer(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(full(Bytes::from(format!("{text}\n"))));
    *response.status_mut() = status;
    response
}
