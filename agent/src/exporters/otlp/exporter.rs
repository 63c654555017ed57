//! The exporters: prepare a batch once, make attempts, and turn answers into outcomes.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Uri};

use super::connect::Connector;
use super::partial::{Partial, Report};
use super::request::{Packed, Packing};
use super::settings::{GrpcSettings, HttpSettings};
use super::{call, post, verdict};
use crate::batch::Payload;
use crate::component::{ComponentError, Exporter, ExporterContext, Outcome, Sender};
use crate::exporters::otlp::options::Format;
use crate::exporters::queue::{Pace, Ticket};
use crate::exporters::sender;
use crate::signal::Signal;
use crate::telemetry::{Counter, names};

/// Who we are.
pub(super) const USER_AGENT_VALUE: HeaderValue =
    HeaderValue::from_static(concat!("tidegate/", env!("CARGO_PKG_VERSION")));

/// Builds the gRPC exporter: a queue, consumers and a connection for each signal.
pub(super) fn build_grpc(
    settings: &GrpcSettings,
    context: &ExporterContext,
) -> Result<Vec<Sender>, ComponentError> {
    let place = &settings.endpoint.place;
    let opened = context
        .telemetry
        .counter(&names::OTLP_CONNECTIONS, &[&context.id]);
    let channel = |signal: &Signal| {
        let connector = Connector::new(place.clone(), &settings.tls, b"h2", opened.clone())?;
        let pass = context.authenticators.pass(settings.auth.as_ref());
        let channel = call::Channel::new(settings, connector, pass, *signal).map_err(|cause| {
            ComponentError::new("address gRPC calls", cause)
                .at("endpoint")
                .permanent()
        })?;
        Ok((*signal, Arc::new(channel)))
    };
    // All of them before the first worker starts.
    let channels = ComponentError::all(context.signals.iter().map(channel))?;
    let start = |(signal, channel): (Signal, Arc<call::Channel>)| {
        let shared = Arc::new(Shared::new(context, signal, settings.packing));
        sender::spawn(context, signal, &settings.sender, || GrpcExporter {
            shared: Arc::clone(&shared),
            channel: Arc::clone(&channel),
        })
    };
    ComponentError::all(channels.into_iter().map(start))
}

/// Builds the HTTP exporter: a queue for each signal, and consumers with a connection each.
pub(super) fn build_http(
    settings: &HttpSettings,
    context: &ExporterContext,
) -> Result<Vec<Sender>, ComponentError> {
    let route = |signal: &Signal| Ok((*signal, Arc::new(route(settings, context, *signal)?)));
    // All of them before the first worker starts.
    let routes = ComponentError::all(context.signals.iter().map(route))?;
    let start = |(signal, route): (Signal, Arc<post::Route>)| {
        let shared = Arc::new(Shared::new(context, signal, settings.packing));
        sender::spawn(context, signal, &settings.sender, || HttpExporter {
            shared: Arc::clone(&shared),
            client: post::Client::new(Arc::clone(&route)),
        })
    };
    ComponentError::all(routes.into_iter().map(start))
}

fn route(
    settings: &HttpSettings,
    context: &ExporterContext,
    signal: Signal,
) -> Result<post::Route, ComponentError> {
    let problem = |cause: String| {
        ComponentError::new(format!("send {signal}"), cause)
            .at("endpoint")
            .permanent()
    };
    let endpoint = settings.endpoints[signal].as_ref().ok_or_else(|| {
        problem(format!(
            "a pipeline has {signal} for this exporter, which has neither endpoint nor {signal}_endpoint"
        ))
    })?;
    let opened = context
        .telemetry
        .counter(&names::OTLP_CONNECTIONS, &[&context.id]);
    let content_type = match settings.packing.format {
        Format::Proto => "application/x-protobuf",
        Format::Json => "application/json",
    };
    Ok(post::Route {
        connector: Connector::new(endpoint.place.clone(), &settings.tls, b"http/1.1", opened)?,
        path: Uri::try_from(endpoint.path.as_str()).map_err(|error| problem(error.to_string()))?,
        headers: post::headers(
            &endpoint.host,
            content_type,
            settings.packing.method.name(),
            settings.keep_alive,
            &settings.headers,
        )
        .map_err(problem)?,
        pass: context.authenticators.pass(settings.auth.as_ref()),
        idle: settings.idle,
        keep_alive: settings.keep_alive,
    })
}

/// What all consumers of one signal share, whatever the protocol.
struct Shared {
    packing: Packing,
    report: Report,
    sent_bytes: Counter,
}

impl Shared {
    fn new(context: &ExporterContext, signal: Signal, packing: Packing) -> Self {
        let labels = [context.id.as_str(), signal.name()];
        Self {
            packing,
            report: Report::new(context, signal),
            sent_bytes: context.telemetry.counter(&names::EXPORTER_BYTES, &labels),
        }
    }

    fn delivered(&self, packed: &Packed, partial: Option<Partial>) {
        self.sent_bytes.inc_by(packed.byte_len as u64);
        if let Some(partial) = partial {
            self.report.note(&partial, packed.items);
        }
    }
}

/// On the way something went wrong: whether the far side has the request is not known, so it is sent again.
fn unknown(cause: String) -> Outcome {
    Outcome::Retry { cause, after: None }
}

/// A consumer that sends over gRPC.
struct GrpcExporter {
    shared: Arc<Shared>,
    channel: Arc<call::Channel>,
}

impl Exporter for GrpcExporter {
    type Prepared = Packed;

    async fn prepare(
        &mut self,
        signal: Signal,
        payload: Payload,
        _ticket: &Ticket,
        _pace: &Pace,
    ) -> Result<Packed, String> {
        self.shared.packing.pack_beside(signal, payload).await
    }

    async fn send(&mut self, prepared: &mut Packed, limit: Option<Duration>) -> Outcome {
        let answer = match self.channel.call(&prepared.body, limit).await {
            Ok(answer) => answer,
            Err(cause) => return unknown(cause),
        };
        let outcome = match &answer.status {
            Some(status) => status.outcome(),
            None => verdict::of_no_grpc_status(answer.http_status, &answer.headers),
        };
        if outcome == Outcome::Delivered {
            self.shared
                .delivered(prepared, Partial::from_protobuf(&answer.message));
        }
        outcome
    }
}

/// A consumer that sends over HTTP.
struct HttpExporter {
    shared: Arc<Shared>,
    client: post::Client,
}

impl Exporter for HttpExporter {
    type Prepared = Packed;

    async fn prepare(
        &mut self,
        signal: Signal,
        payload: Payload,
        _ticket: &Ticket,
        _pace: &Pace,
    ) -> Result<Packed, String> {
        self.shared.packing.pack_beside(signal, payload).await
    }

    async fn send(&mut self, prepared: &mut Packed, _: Option<Duration>) -> Outcome {
        let answer = match self.client.post(&prepared.body).await {
            Ok(answer) => answer,
            Err(cause) => return unknown(cause),
        };
        let outcome = verdict::of_http(answer.status, &answer.headers, &answer.body);
        if outcome == Outcome::Delivered {
            let partial = match answer.body.first() {
                // As a tag this byte is field 15 in a group, which no answer has.
                Some(b'{') => Partial::from_json(&answer.body),
                _ => Partial::from_protobuf(&answer.body),
            };
            self.shared.delivered(prepared, partial);
        }
        outcome
    }
}
