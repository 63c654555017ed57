//! The door for commands: `POST /reload`, on a loopback address or a unix socket.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use http::{Method, Request as HttpRequest, StatusCode, header};
use hyper::body::Incoming;
use tokio::sync::{mpsc, oneshot};

use super::{Outcome, Report, Request};
use crate::admin::{self, Answer, Endpoint, Lock};
use crate::auth::Authenticators;
use crate::component::Shutdown;
use crate::health::Health;
use crate::net::listen;
use crate::net::sockets::Sockets;

/// A bound door.
#[derive(Debug)]
pub(crate) struct Door(Endpoint);

/// Who may use a unix socket: the agent's user and its group.
const SOCKET_MODE: u32 = 0o660;

impl Door {
    /// Binds `endpoint`.
    pub(crate) fn bind(
        sockets: &Sockets,
        endpoint: &listen::Endpoint,
        lock: &Lock,
        authenticators: &Authenticators,
    ) -> io::Result<Self> {
        let bound =
            admin::bind(sockets, endpoint, "service.admin")?.locked(lock, authenticators)?;
        if let listen::Endpoint::Unix(path) = endpoint {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(SOCKET_MODE))?;
        }
        Ok(Self(bound))
    }

    /// Where it is.
    pub(crate) fn address(&self) -> &str {
        self.0.address()
    }

    /// Passes commands on until `shutdown`. The call itself takes over what served here before.
    pub(crate) fn serve(
        self,
        requests: mpsc::Sender<Request>,
        health: Health,
        shutdown: Shutdown,
    ) -> impl Future<Output = ()> + Send + 'static {
        let handler = move |request: HttpRequest<Incoming>| {
            let (requests, health) = (requests.clone(), health.clone());
            Box::pin(async move { answer(&request, &requests, &health).await }) as _
        };
        self.0.serve_with(Arc::new(handler), shutdown)
    }
}

async fn answer(
    request: &HttpRequest<Incoming>,
    requests: &mpsc::Sender<Request>,
    health: &Health,
) -> Answer {
    if request.uri().path() != "/reload" {
        return admin::not_found();
    }
    match *request.method() {
        Method::POST => {}
        Method::GET | Method::HEAD => return last(health),
        _ => return admin::method_not_allowed("GET, HEAD, POST"),
    }
    // A page in a browser may post to any address of this host, but says where it comes from.
    if request.headers().contains_key(header::ORIGIN) {
        return plain(StatusCode::FORBIDDEN, "403 not from a browser\n");
    }
    let dry_run = match dry_run(request.uri().query().unwrap_or_default()) {
        Ok(dry_run) => dry_run,
        Err(problem) => return plain(StatusCode::BAD_REQUEST, problem),
    };
    let (answer, answered) = oneshot::channel();
    let gone = "503 the agent is stopping\n";
    if requests.send(Request { dry_run, answer }).await.is_err() {
        return plain(StatusCode::SERVICE_UNAVAILABLE, gone);
    }
    match answered.await {
        Ok(report) => describe(&report),
        Err(_) => plain(StatusCode::SERVICE_UNAVAILABLE, gone),
    }
}

fn dry_run(query: &str) -> Result<bool, &'static str> {
    let mut found = false;
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        found = match (&*key, &*value) {
            ("dry_run", "true" | "1" | "") => true,
            ("dry_run", "false" | "0") => false,
            _ => return Err("400 the only parameter is dry_run, `true` or `false`\n"),
        };
    }
    Ok(found)
}

fn describe(report: &Report) -> Answer {
    let status = match report.outcome {
        Outcome::Refused => StatusCode::UNPROCESSABLE_ENTITY,
        _ => StatusCode::OK,
    };
    json(status, report)
}

/// How the configuration was last read again.
fn last(health: &Health) -> Answer {
    match health.reloaded() {
        None => json(StatusCode::OK, &serde_json::json!({ "outcome": null })),
        Some(last) => {
            let at = crate::calendar::UnixNanos::from(last.at).to_string();
            let page = serde_json::json!({
                "outcome": last.outcome, "at": at, "problems": last.problems
            });
            json(StatusCode::OK, &page)
        }
    }
}

fn json(status: StatusCode, page: &impl serde::Serialize) -> Answer {
    let mut body = serde_json::to_vec_pretty(page).expect("texts and numbers are JSON");
    body.push(b'\n');
    admin::answer(status, "application/json", body)
}

fn plain(status: StatusCode, text: &'static str) -> Answer {
    admin::answer(status, "text/plain; charset=utf-8", text)
}
