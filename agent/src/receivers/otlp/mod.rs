//! The OTLP receiver: gRPC and HTTP, protobuf and JSON, as the Collector serves them.
//!
//! A request is admitted before it is buffered and again before it is inflated, walked once by [`crate::otlp::check()`], handed
//! over as it is, and answered when somebody has taken responsibility for it.

mod body;
mod cors;
mod decompress;
mod door;
mod encoding;
mod grpc;
mod heavy;
mod http;
mod inflate_fuzz;
mod lane;
mod options;
mod problem;
mod room;
mod settings;
mod status;
mod success;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::TokioTimer;
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;

use crate::admin;
use crate::auth::{Reference, Side};
use crate::batch::Transport;
use crate::claim::Claim;
use crate::component::{
    BoxFuture, ComponentError, Factory, Receiver, ReceiverContext, ReceiverSettings, Shutdown,
};
use crate::net::listen::Endpoint;
use crate::net::serve::{Limits, Place, Server};
use crate::net::tls::TlsSettings;
use crate::signal::{PerSignal, Signal};
use door::Door;
use grpc::GrpcService;
use settings::{GrpcSettings, HttpSettings};

pub use inflate_fuzz::fuzz_inflate;
pub use settings::OtlpSettings;

/// The factory of `otlp`.
pub const FACTORY: Factory<dyn ReceiverSettings> = Factory {
    kind: "otlp",
    summary: "Receives OTLP over gRPC and HTTP, protobuf and JSON.",
    signals: &Signal::ALL,
    schema: |generator| generator.subschema_for::<options::OtlpOptions>(),
    parse: |section| Some(Box::new(OtlpSettings::parse(section)?)),
};

/// Connections at a time and listener: far more than a host or a gateway has clients, few enough that their buffers do not
/// exhaust it.
const CONNECTIONS_MAX: usize = 10_000;

/// For the first bytes of a gRPC connection: clients send them at once.
const GRPC_BEGIN_MAX: Duration = Duration::from_secs(60);

/// For a client of gRPC that does not read its answers: what OTLP over HTTP has by default.
const GRPC_WRITE_MAX: Duration = Duration::from_secs(30);

/// On shutdown, for requests under way: longer than any answer takes that is not waiting for a lost destination.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// The read buffer of an HTTP/1 connection, and with it the largest request head. Bodies pass through it on their way to
/// their own buffer: larger saves system calls, smaller stays in the cache.
const HTTP1_BUFFER: usize = 128 * 1024;

/// Bytes of one HTTP/2 stream under way. What has come of a request before it is admitted lies in the buffers of HTTP/2, which
/// nobody limits but this: at twice the load that can be taken, 1 MiB costs 13 % of the goodput and more memory than the
/// limit, because all of it is cold when its turn comes.
const STREAM_WINDOW: u32 = 256 * 1024;

/// Bytes of one HTTP/2 connection under way.
const CONNECTION_WINDOW: u32 = 4 << 20;

/// The largest HTTP/2 frame accepted. Clients that heed it send a request in few frames.
const FRAME_MAX: u32 = 256 * 1024;

/// The largest HTTP/2 header list.
const HEADER_LIST_MAX: u32 = 64 * 1024;

/// HTTP/2 streams under way on one connection of the HTTP port.
const HTTP_STREAMS_MAX: u32 = 250;

/// Fewer where the process may have few files open: the other listeners, exporters and logs need some, too.
fn connections_max() -> usize {
    let share = crate::process::open_files_max() / 4;
    CONNECTIONS_MAX.min(usize::try_from(share).unwrap_or(usize::MAX))
}

impl OtlpSettings {
    /// Binds the sockets; starts nothing.
    ///
    /// # Errors
    /// When a socket cannot be bound or the certificates cannot be used.
    pub fn bind(&self, context: ReceiverContext) -> Result<OtlpReceiver, ComponentError> {
        let grpc = self.grpc.as_ref().map(|grpc| bind_grpc(grpc, &context));
        let http = self.http.as_ref().map(|http| bind_http(http, &context));
        let (grpc, http) = ComponentError::both(grpc.transpose(), http.transpose())?;
        let id = context.id;
        Ok(OtlpReceiver { id, grpc, http })
    }
}

impl ReceiverSettings for OtlpSettings {
    fn files(&self) -> Vec<PathBuf> {
        let grpc = self.grpc.as_ref().and_then(|grpc| grpc.tls.as_ref());
        let http = self.http.as_ref().and_then(|http| http.tls.as_ref());
        let tls = grpc.into_iter().chain(http);
        tls.flat_map(TlsSettings::files).collect()
    }

    fn authenticators(&self) -> Vec<Reference> {
        let grpc = self.grpc.as_ref().and_then(|grpc| grpc.auth.as_ref());
        let http = self.http.as_ref().and_then(|http| http.auth.as_ref());
        [("protocols.grpc.auth", grpc), ("protocols.http.auth", http)]
            .into_iter()
            .filter_map(|(key, auth)| Some(Reference::new(key, auth?, Side::Server)))
            .collect()
    }

    fn claims(&self) -> Vec<Claim> {
        let grpc = self.grpc.as_ref().map(|grpc| &grpc.endpoint);
        let http = self.http.as_ref().map(|http| &http.endpoint);
        [
            ("protocols.grpc.endpoint", grpc),
            ("protocols.http.endpoint", http),
        ]
        .into_iter()
        .filter_map(|(key, endpoint)| Claim::endpoint(key, endpoint?))
        .collect()
    }

    fn build(&self, context: ReceiverContext) -> Result<Box<dyn Receiver>, ComponentError> {
        Ok(Box::new(self.bind(context)?))
    }
}

/// The receiver, bound to its sockets.
#[derive(Debug)]
pub struct OtlpReceiver {
    id: String,
    grpc: Option<Server<GrpcService>>,
    http: Option<Server<TowerToHyperService<Router>>>,
}

impl OtlpReceiver {
    /// The protocols served, `grpc` or `http`, and the actual addresses.
    pub fn addresses(&self) -> Vec<(&'static str, String)> {
        let grpc = self.grpc.as_ref();
        let http = self.http.as_ref();
        let grpc = grpc.map(|server| ("grpc", server.place.address().to_owned()));
        let http = http.map(|server| ("http", server.place.address().to_owned()));
        [grpc, http].into_iter().flatten().collect()
    }
}

impl Receiver for OtlpReceiver {
    fn run(self: Box<Self>, shutdown: Shutdown) -> BoxFuture<'static, Result<(), ComponentError>> {
        for (protocol, address) in self.addresses() {
            tracing::info!(receiver = self.id, protocol, address, "listening");
        }
        let Self { grpc, http, .. } = *self;
        let told = |shutdown: Shutdown| async move { shutdown.triggered().await };
        let grpc = grpc.map(|server| server.run(told(shutdown.clone())));
        let http = http.map(|server| server.run(told(shutdown)));
        Box::pin(async move {
            let grpc = grpc
                .transpose()
                .map_err(|error| ComponentError::new("serve OTLP over gRPC", error))?;
            let http = http
                .transpose()
                .map_err(|error| ComponentError::new("serve OTLP over HTTP", error))?;
            tokio::join!(
                async {
                    if let Some(grpc) = grpc {
                        grpc.await;
                    }
                },
                async {
                    if let Some(http) = http {
                        http.await;
                    }
                }
            );
            Ok(())
        })
    }
}

fn place<S: Send + Sync + 'static>(
    endpoint: &Endpoint,
    context: &ReceiverContext,
    protocol: &str,
) -> Result<Place<S>, ComponentError> {
    let owner = format!("receivers.{} {protocol}", context.id);
    let key = format!("protocols.{protocol}.endpoint");
    admin::place(&context.sockets, endpoint, &owner, &key)
}

fn doors(
    context: &ReceiverContext,
    transport: Transport,
    size_max: usize,
) -> PerSignal<Option<Arc<Door>>> {
    PerSignal::from_fn(|signal| {
        let intake = context.intakes[signal].as_ref()?;
        Some(Arc::new(Door {
            signal,
            transport,
            intake: Arc::clone(intake),
            size_max,
            spans: context.telemetry.spans().kind(&format!(
                "receiver {} {signal} {}",
                context.id,
                transport.name()
            )),
        }))
    })
}

fn bind_grpc(
    settings: &GrpcSettings,
    context: &ReceiverContext,
) -> Result<Server<GrpcService>, ComponentError> {
    let tls = settings.tls.as_ref().map(|tls| {
        let config = tls.server_config(&[b"h2"]);
        config
            .map(|config| (tls.clone(), config))
            .map_err(|cause| cause.below("protocols.grpc.tls"))
    });
    let place = place(&settings.endpoint, context, "grpc");
    let (tls, place) = ComponentError::both(tls.transpose(), place)?;
    let mut builder = auto::Builder::new(place.tasks()).http2_only();
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_MAX)
        .max_header_list_size(HEADER_LIST_MAX)
        .max_concurrent_streams(settings.streams_max)
        .keep_alive_interval(settings.ping_after)
        .keep_alive_timeout(settings.ping_timeout);
    let doors = doors(context, Transport::Grpc, settings.message_max);
    Ok(Server {
        tls,
        place,
        builder,
        service: GrpcService {
            guard: context.authenticators.guard(settings.auth.as_ref()),
            doors: Arc::new(doors),
        },
        limits: Limits {
            // HTTP/2 has no heads to wait for; but a connection has to begin as one.
            head: Some(GRPC_BEGIN_MAX),
            idle: settings.idle,
            write: Some(GRPC_WRITE_MAX),
            age: settings.age,
            age_grace: settings.age_grace,
            connections: connections_max(),
            drain: DRAIN_MAX,
        },
        status: context.status.clone(),
    })
}

fn bind_http(
    settings: &HttpSettings,
    context: &ReceiverContext,
) -> Result<Server<TowerToHyperService<Router>>, ComponentError> {
    let tls = settings.tls.as_ref().map(|tls| {
        let config = tls.server_config(&[b"h2", b"http/1.1"]);
        config
            .map(|config| (tls.clone(), config))
            .map_err(|cause| cause.below("protocols.http.tls"))
    });
    let place = place(&settings.endpoint, context, "http");
    let (tls, place) = ComponentError::both(tls.transpose(), place)?;
    let mut builder = auto::Builder::new(place.tasks());
    builder
        .http1()
        .keep_alive(settings.keep_alive)
        .max_buf_size(HTTP1_BUFFER)
        // The connection's own clock does that, without taking idleness for a slow head.
        .header_read_timeout(None);
    builder
        .http2()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_MAX)
        .max_header_list_size(HEADER_LIST_MAX)
        .max_concurrent_streams(HTTP_STREAMS_MAX);
    let doors = doors(context, Transport::Http, settings.body_max);
    let guard = context.authenticators.guard(settings.auth.as_ref());
    Ok(Server {
        tls,
        place,
        builder,
        service: TowerToHyperService::new(http::router(settings, doors, guard)),
        limits: Limits {
            head: settings.head_timeout,
            idle: settings.idle_timeout,
            write: settings.write_timeout,
            age: None,
            age_grace: None,
            connections: connections_max(),
            drain: DRAIN_MAX,
        },
        status: context.status.clone(),
    })
}
