//! ClickHouse's HTTP interface: paths, methods, credentials and the life of a request. `execute` does the work.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::answer::{Answer, AnswerPlan, AnswerWriter, HOLD_BYTES, HOLD_BYTES_MAX};
use super::body::{CHUNKS_WAITING, Chunk, RawBody};
use super::encode::{ContentEncoding, Encoding};
use super::engine::Engine;
use super::exception::{AUTHENTICATION_FAILED, Exception, TOO_MANY_SIMULTANEOUS_QUERIES};
use super::execute::{self, Work};
use super::form;
use super::parameters::Parameters;
use super::response::{self, HttpResponse, ResponseContext};
use super::sessions::Sessions;

/// How long a request waits for one of the slots for running statements.
const SLOT_WAIT: Duration = Duration::from_secs(30);

/// How long a body may stall before its statement is given up: it holds a slot.
const BODY_TIMEOUT: Duration = Duration::from_secs(300);

/// User and password that requests must bring.
#[derive(Clone)]
pub(super) struct Credentials {
    pub(super) user: String,
    pub(super) password: String,
}

/// What all requests share.
pub(super) struct Service {
    pub(super) engine: Engine,
    pub(super) sessions: Sessions,
    credentials: Option<Credentials>,
    /// One permit for each statement that may run; its blocking thread holds it to the end.
    slots: Arc<Semaphore>,
    slot_count: u32,
}

impl Service {
    pub(super) fn new(engine: Engine, credentials: Option<Credentials>, slot_count: u32) -> Self {
        let slots = Arc::new(Semaphore::new(slot_count as usize));
        Self {
            engine,
            sessions: Sessions::default(),
            credentials,
            slots,
            slot_count,
        }
    }

    /// Waits until no statement runs and lets none begin. `false` when that takes longer than `bound`.
    pub(super) async fn settle(&self, bound: Duration) -> bool {
        match tokio::time::timeout(bound, self.slots.acquire_many(self.slot_count)).await {
            Ok(Ok(permits)) => {
                permits.forget();
                true
            }
            Ok(Err(_)) | Err(_) => false,
        }
    }

    /// Answers one request.
    pub(super) async fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<HttpResponse, Infallible> {
        let has_query = request
            .uri()
            .query()
            .is_some_and(|query| query.contains("query="));
        Ok(match (request.method(), request.uri().path()) {
            (&Method::GET | &Method::HEAD, "/ping" | "/replicas_status") => {
                response::text(StatusCode::OK, "Ok.\n")
            }
            (&Method::GET | &Method::HEAD, "/") if !has_query => {
                response::text(StatusCode::OK, "Ok.\n")
            }
            (&Method::OPTIONS, _) => response::preflight(),
            (&Method::GET | &Method::HEAD | &Method::POST | &Method::PUT, "/" | "/query") => {
                self.statement(request).await
            }
            (&Method::GET | &Method::HEAD | &Method::POST | &Method::PUT, path) => {
                let hint = "Use / or /ping or /replicas_status.";
                response::text(
                    StatusCode::NOT_FOUND,
                    &format!("There is no handle {path}. {hint}\n"),
                )
            }
            (method, _) => response::text(
                StatusCode::NOT_IMPLEMENTED,
                &format!("Method {method} is not known.\n"),
            ),
        })
    }

    async fn statement(self: Arc<Self>, request: Request<Incoming>) -> HttpResponse {
        let (head, body) = request.into_parts();
        let mut context = ResponseContext::new(&self.engine);
        let parameters =
            match Parameters::parse(head.uri.query().unwrap_or_default(), &head.headers) {
                Ok(parameters) => parameters,
                Err(exception) => return response::refusal(&context, &exception),
            };
        context.read(&parameters);
        context.encoding = Encoding {
            content: ContentEncoding::negotiate(&parameters, &head.headers),
            framed: parameters.compress,
        };
        let permit = match self.admit(&parameters).await {
            Ok(permit) => permit,
            Err(exception) => return response::refusal(&context, &exception),
        };
        let hold_bytes = match parameters.wait_end_of_query {
            true => HOLD_BYTES_MAX,
            false => parameters
                .buffer_size
                .unwrap_or(HOLD_BYTES)
                .min(HOLD_BYTES_MAX),
        };
        let plan = AnswerPlan {
            encoding: context.encoding,
            hold_bytes,
            exception_tag: context.exception_tag.clone(),
            version: self.engine.version.clone(),
        };
        let tag = self.engine.new_tag();
        let cancel = CancelOnDrop {
            service: Arc::clone(&self),
            tag: Some(tag.clone()),
        };
        let (chunks, receiver) = mpsc::channel(CHUNKS_WAITING);
        let header = |name: http::HeaderName| {
            let value = head.headers.get(name)?;
            Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        let work = Work {
            read_only: matches!(head.method, Method::GET | Method::HEAD),
            content_encoding: header(http::header::CONTENT_ENCODING),
            form_boundary: header(http::header::CONTENT_TYPE)
                .as_deref()
                .and_then(form::boundary),
            body: RawBody::new(receiver),
            parameters,
            tag,
        };
        match self.run(work, plan, permit, body, chunks).await {
            Some(answer) => response::build(&context, answer, cancel),
            None => response::text(
                StatusCode::INTERNAL_SERVER_ERROR,
                "The statement's thread ended early.\n",
            ),
        }
    }

    /// Checks who asks and waits for a slot.
    async fn admit(&self, parameters: &Parameters) -> Result<OwnedSemaphorePermit, Exception> {
        if let Some(credentials) = &self.credentials {
            let user = parameters.user.as_deref().unwrap_or("default");
            let password = parameters.password.as_deref().unwrap_or_default();
            if user != credentials.user || password != credentials.password {
                let message = format!(
                    "{user}: Authentication failed: password is incorrect, or there is no user with such name."
                );
                return Err(Exception::new(AUTHENTICATION_FAILED, message));
            }
        }
        match tokio::time::timeout(SLOT_WAIT, Arc::clone(&self.slots).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => {
                let message = format!(
                    "Too many simultaneous queries. Maximum: {}.",
                    self.slot_count
                );
                Err(Exception::new(TOO_MANY_SIMULTANEOUS_QUERIES, message))
            }
        }
    }

    /// Runs the work on a blocking thread, feeding it the body, until the answer's head is there. The thread
    /// ends by itself; [`Service::settle`] waits for it through its permit.
    async fn run(
        self: &Arc<Self>,
        work: Work,
        plan: AnswerPlan,
        permit: OwnedSemaphorePermit,
        body: Incoming,
        chunks: mpsc::Sender<Chunk>,
    ) -> Option<Answer> {
        let (head, mut answer) = oneshot::channel();
        let service = Arc::clone(self);
        let runtime = tokio::runtime::Handle::current();
        tokio::task::spawn_blocking(move || {
            execute::run(
                &service.engine,
                &service.sessions,
                work,
                AnswerWriter::new(plan, head, runtime),
            );
            drop(permit);
        });
        tokio::select! {
            biased;
            early = &mut answer => early.ok(),
            () = forward(body, chunks) => answer.await.ok(),
        }
    }
}

/// Sends the body on. A body that breaks off or stalls is not announced as ended.
async fn forward(mut body: Incoming, chunks: mpsc::Sender<Chunk>) {
    loop {
        let Ok(next) = tokio::time::timeout(BODY_TIMEOUT, body.frame()).await else {
            return;
        };
        let frame = match next {
            Some(Ok(frame)) => frame,
            Some(Err(_)) => return,
            None => break,
        };
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if chunks.send(Chunk::Data(data)).await.is_err() {
            return;
        }
    }
    // A refusal means that the statement has ended without the rest.
    let _ended: Result<(), _> = chunks.send(Chunk::End).await;
}

/// Stops the query when the client goes away before the answer is complete.
pub(super) struct CancelOnDrop {
    service: Arc<Service>,
    tag: Option<String>,
}

impl CancelOnDrop {
    /// The answer is complete.
    pub(super) fn disarm(&mut self) {
        self.tag = None;
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        let (Some(tag), Ok(runtime)) = (self.tag.take(), tokio::runtime::Handle::try_current())
        else {
            return;
        };
        let service = Arc::clone(&self.service);
        // Short: one statement on the keeper's connection.
        runtime.spawn_blocking(move || service.engine.kill(&tag));
    }
}
