//! The door for commands and questions, on a loopback address or a unix socket: `/reload`, `/status`, `/tap`.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use http::{Method, Request as HttpRequest, StatusCode, header};
use hyper::body::Incoming;
use tokio::sync::{mpsc, oneshot};

use super::{Outcome, Report, Request};
use crate::admin::{self, Answer, Endpoint, Keys, Lock};
use crate::auth::Authenticators;
use crate::component::{ComponentError, Shutdown};
use crate::health::Health;
use crate::net::listen;
use crate::net::sockets::Sockets;
use crate::overview::Overview;
use crate::tap::{self, Taps, Wanted};

/// A bound door.
#[derive(Debug)]
pub(crate) struct Door(Endpoint);

/// Whom the door leads to.
#[derive(Debug, Clone)]
pub(crate) struct Behind {
    pub(crate) requests: mpsc::Sender<Request>,
    pub(crate) health: Health,
    pub(crate) overview: Overview,
    pub(crate) taps: Taps,
}

/// Who may use a unix socket: the agent's user and its group.
const SOCKET_MODE: u32 = 0o660;

impl Door {
    /// Binds `endpoint`.
    ///
    /// # Errors
    /// When it is taken, or certificates cannot be used, with a key of `[service]`.
    pub(crate) fn bind(
        sockets: &Sockets,
        endpoint: &listen::Endpoint,
        lock: &Lock,
        authenticators: &Authenticators,
    ) -> Result<Self, ComponentError> {
        let keys = Keys {
            prefix: "admin.",
            endpoint: "admin.endpoint",
        };
        let lock = (lock, authenticators);
        let bound = admin::bind(sockets, endpoint, "service.admin", keys, lock)?;
        // Who may use a socket of the service manager is said in its unit.
        if let listen::Endpoint::Unix(path) = endpoint
            && !sockets.is_inherited(endpoint)
        {
            let mode = std::fs::Permissions::from_mode(SOCKET_MODE);
            std::fs::set_permissions(path, mode).map_err(|cause| {
                let attempted = format!("let the group use {}", path.display());
                ComponentError::new(attempted, cause).at(keys.endpoint)
            })?;
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
        behind: Behind,
        shutdown: Shutdown,
    ) -> impl Future<Output = ()> + Send + 'static {
        let closing = shutdown.clone();
        let handler = move |request: HttpRequest<Incoming>| {
            let (behind, closing) = (behind.clone(), closing.clone());
            Box::pin(async move { answer(&request, &behind, &closing).await }) as _
        };
        self.0.serve_with(Arc::new(handler), shutdown)
    }
}

async fn answer(request: &HttpRequest<Incoming>, behind: &Behind, closing: &Shutdown) -> Answer {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    match (request.uri().path(), is_read) {
        ("/reload", true) => last(&behind.health),
        ("/reload", false) if *request.method() != Method::POST => {
            admin::method_not_allowed("GET, HEAD, POST")
        }
        ("/reload", false) => reload(request, &behind.requests).await,
        ("/status" | "/tap", false) => admin::method_not_allowed("GET, HEAD"),
        ("/status", true) => json(StatusCode::OK, &behind.overview.document()),
        ("/tap", true) => tap(request, behind, closing),
        _ => admin::not_found(),
    }
}

/// Whether a page in a browser sent it: that may send to any address of this host, but the browser says where it comes from.
fn is_from_browser(request: &HttpRequest<Incoming>) -> bool {
    let headers = request.headers();
    headers.contains_key(header::ORIGIN) || headers.contains_key("sec-fetch-site")
}

/// Items as they pass, until the client goes away.
fn tap(request: &HttpRequest<Incoming>, behind: &Behind, closing: &Shutdown) -> Answer {
    if is_from_browser(request) {
        return plain(StatusCode::FORBIDDEN, "403 not from a browser\n");
    }
    let text = "text/plain; charset=utf-8";
    let wanted = match Wanted::parse(request.uri().query().unwrap_or_default()) {
        Ok(wanted) => wanted,
        Err(problem) => {
            return admin::answer(StatusCode::BAD_REQUEST, text, format!("400 {problem}\n"));
        }
    };
    let pipeline = wanted.pipeline().to_owned();
    let exporter = wanted.exporter().map(str::to_owned);
    let feed = match tap::start(&behind.taps, wanted, closing.clone()) {
        Ok(Some(feed)) => feed,
        Ok(None) => {
            let many = "503 there are as many taps as there may be\n";
            return plain(StatusCode::SERVICE_UNAVAILABLE, many);
        }
        Err(cause) => {
            let problem = format!("503 the tap cannot be started: {cause}\n");
            return admin::answer(StatusCode::SERVICE_UNAVAILABLE, text, problem);
        }
    };
    // Looked at once the tap is open: a pipeline that goes from now on ends it.
    let missing = match behind.overview.exporters_of(&pipeline) {
        None => {
            let pipelines = behind.overview.pipelines().join(", ");
            Some(format!("there is no pipeline `{pipeline}`: {pipelines}"))
        }
        Some(exporters) => exporter
            .filter(|exporter| !exporters.contains(exporter))
            .map(|exporter| {
                let exporters = exporters.join(", ");
                format!("`{pipeline}` has no exporter `{exporter}`: {exporters}")
            }),
    };
    if let Some(missing) = missing {
        return admin::answer(StatusCode::NOT_FOUND, text, format!("404 {missing}\n"));
    }
    admin::streamed(StatusCode::OK, "application/x-ndjson", feed)
}

async fn reload(request: &HttpRequest<Incoming>, requests: &mpsc::Sender<Request>) -> Answer {
    if is_from_browser(request) {
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
