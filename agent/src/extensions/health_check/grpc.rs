//! Health over gRPC: `grpc.health.v1.Health`, whose services are the pipelines.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::Stream;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::rt::TokioTimer;
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::sync::watch;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::super::front::Front;
use super::report::Reporting;
use crate::admin;
use crate::auth::Guard;
use crate::component::{BoxFuture, ComponentError, ExtensionContext, Shutdown};
use crate::net::serve::{Limits, Server};
use crate::status::Reporter;

/// Probes and load balancers need a handful.
const CONNECTIONS_MAX: usize = 64;

/// Watches and checks on one connection.
const STREAMS_MAX: u32 = 32;

/// A request is a name: no more than this is buffered of a connection.
const WINDOW: u32 = 64 * 1024;

/// A connection on which nothing is asked is closed after a while.
const IDLE_MAX: Duration = Duration::from_mins(5);

/// Peers that do not answer are found out.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// How long requests under way may take once the server is told to stop: watches end at once.
const DRAIN_MAX: Duration = Duration::from_secs(1);

/// What only time changes, an error that lasts, is noticed this late at most.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The service, bound to its socket.
pub(super) struct GrpcHealth {
    server: Server<Guarded>,
    /// Ends what is watched.
    ended: Shutdown,
}

impl GrpcHealth {
    pub(super) fn bind(
        context: &ExtensionContext,
        front: &Front,
        reporting: &Arc<Reporting>,
    ) -> Result<Self, ComponentError> {
        let owner = format!("extensions.{} grpc", context.id);
        let (endpoint, keys) = (&front.endpoint, front.keys);
        let place = admin::place(&context.sockets, endpoint, &owner, keys.endpoint);
        let tls = front.lock.tls(&[b"h2"], keys.prefix);
        let (place, tls) = ComponentError::both(place, tls)?;
        let mut builder = auto::Builder::new(place.tasks()).http2_only();
        builder
            .http2()
            .timer(TokioTimer::new())
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_header_list_size(16 * 1024)
            .max_concurrent_streams(STREAMS_MAX)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT);
        let ended = Shutdown::default();
        let answerer = Answerer {
            reporting: Arc::clone(reporting),
            ended: ended.clone(),
        };
        Ok(Self {
            server: Server {
                place,
                tls,
                builder,
                service: Guarded {
                    service: TowerToHyperService::new(HealthServer::new(answerer)),
                    guard: context.authenticators.guard(front.lock.auth()),
                },
                limits: Limits {
                    head: None,
                    idle: Some(IDLE_MAX),
                    write: None,
                    age: None,
                    age_grace: None,
                    connections: CONNECTIONS_MAX,
                    drain: DRAIN_MAX,
                },
                // Who asks how the agent is sees for himself that he gets no answer.
                status: Reporter::default(),
            },
            ended,
        })
    }

    pub(super) fn address(&self) -> &str {
        self.server.place.address()
    }

    /// The call takes over the socket; what it gives serves until `shutdown`.
    pub(super) fn serve(
        self,
        shutdown: Shutdown,
    ) -> io::Result<impl Future<Output = ()> + Send + 'static> {
        let ended = self.ended;
        let stop = async move {
            shutdown.triggered().await;
            ended.trigger();
        };
        self.server.run(stop)
    }
}

/// Asks who it is, then answers.
struct Guarded {
    service: TowerToHyperService<HealthServer<Answerer>>,
    guard: Guard,
}

impl Service<http::Request<Incoming>> for Guarded {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn call(&self, request: http::Request<Incoming>) -> Self::Future {
        let (guard, service) = (self.guard.clone(), self.service.clone());
        Box::pin(async move {
            match guard.check(request.headers()).await {
                Ok(()) => service.call(request).await,
                Err(denied) if denied.retry_after().is_some() => {
                    Ok(Status::unavailable(denied.message()).into_http())
                }
                Err(denied) => Ok(Status::unauthenticated(denied.message()).into_http()),
            }
        })
    }
}

/// Answers checks.
#[derive(Clone)]
struct Answerer {
    reporting: Arc<Reporting>,
    ended: Shutdown,
}

impl Answerer {
    fn look(&self, service: &str) -> Option<ServingStatus> {
        let aggregate = self.reporting.aggregate(service)?;
        let judge = self.reporting.judge;
        Some(match judge.is_serving(&aggregate.event, Instant::now()) {
            true => ServingStatus::Serving,
            false => ServingStatus::NotServing,
        })
    }
}

#[tonic::async_trait]
impl Health for Answerer {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let status = self.look(&request.get_ref().service);
        let status = status.ok_or_else(|| Status::not_found("Service not found."))?;
        Ok(Response::new(response(status)))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let watching = Watching {
            service: request.into_inner().service,
            told: None,
            changes: self.reporting.statuses.changes(),
            answerer: self.clone(),
        };
        let stream = futures::stream::unfold(watching, Watching::next);
        Ok(Response::new(Box::pin(stream)))
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
    }
}

/// One who watches.
struct Watching {
    service: String,
    told: Option<ServingStatus>,
    changes: watch::Receiver<()>,
    answerer: Answerer,
}

impl Watching {
    /// The next status that is another than the one before.
    async fn next(mut self) -> Option<(Result<HealthCheckResponse, Status>, Self)> {
        let ended = self.answerer.ended.clone();
        while !ended.is_triggered() {
            self.changes.mark_unchanged();
            let now = self.answerer.look(&self.service);
            let now = now.unwrap_or(ServingStatus::ServiceUnknown);
            if self.told != Some(now) {
                self.told = Some(now);
                return Some((Ok(response(now)), self));
            }
            tokio::select! {
                // The agent has the other end for as long as it runs.
                _ = self.changes.changed() => {}
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
                () = ended.triggered() => {}
            }
        }
        None
    }
}
