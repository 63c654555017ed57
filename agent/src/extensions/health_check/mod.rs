//! `health_check`: tells load balancers and supervisors whether the agent is up.
//!
//! In its first form it tells over HTTP whether the pipelines take data, and nothing about exporters: an agent whose
//! destination is away is healthy, it queues. With `use_v2` it tells how every pipeline and component is, over HTTP and gRPC,
//! as the Collector's `healthcheckv2`.

mod grpc;
mod judge;
mod options;
mod report;
mod settings;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use http::{Request, StatusCode};
use hyper::body::Incoming;

use super::front::Front;
use super::page;
use crate::admin::{self, Answer, Endpoint};
use crate::component::{
    BoxFuture, ComponentError, ExtensionContext, ExtensionSettings, Factory, Receiver, Shutdown,
};
use grpc::GrpcHealth;
use options::HealthCheckOptions;
use report::Reporting;
use settings::{HealthCheckSettings, HttpSettings};

/// The `health_check` extension.
pub const FACTORY: Factory<dyn ExtensionSettings> = Factory {
    kind: "health_check",
    summary: "Tells over HTTP and gRPC whether the agent, a pipeline or a component is up.",
    signals: &[],
    schema: |generator| generator.subschema_for::<HealthCheckOptions>(),
    parse: |section| {
        let options: HealthCheckOptions = section.options()?;
        Some(Box::new(options.resolve(section)?))
    },
};

/// The extension, bound to its sockets.
struct HealthCheck {
    id: String,
    http: Option<(Endpoint, HttpSettings)>,
    grpc: Option<GrpcHealth>,
    reporting: Arc<Reporting>,
}

impl HealthCheck {
    fn bind(
        settings: &HealthCheckSettings,
        context: &ExtensionContext,
    ) -> Result<Self, ComponentError> {
        let reporting = Arc::new(Reporting {
            health: context.health.clone(),
            statuses: context.statuses.clone(),
            judge: settings.judge,
        });
        let http = settings.http.as_ref().map(|http| {
            let endpoint = http.front.bind(context)?;
            Ok((endpoint, http.clone()))
        });
        let grpc = settings.grpc.as_ref();
        let grpc = grpc.map(|grpc| GrpcHealth::bind(context, grpc, &reporting));
        let (http, grpc) = ComponentError::both(http.transpose(), grpc.transpose())?;
        Ok(Self {
            id: context.id.clone(),
            http,
            grpc,
            reporting,
        })
    }
}

impl ExtensionSettings for HealthCheckSettings {
    fn claims(&self) -> Vec<crate::claim::Claim> {
        self.fronts().filter_map(Front::claim).collect()
    }

    fn files(&self) -> Vec<std::path::PathBuf> {
        self.fronts().flat_map(Front::files).collect()
    }

    fn authenticators(&self) -> Vec<crate::auth::Reference> {
        self.fronts().flat_map(Front::authenticators).collect()
    }

    fn build(&self, context: ExtensionContext) -> Result<Box<dyn Receiver>, ComponentError> {
        Ok(Box::new(HealthCheck::bind(self, &context)?))
    }
}

impl Receiver for HealthCheck {
    fn run(self: Box<Self>, shutdown: Shutdown) -> BoxFuture<'static, Result<(), ComponentError>> {
        let Self {
            id,
            http,
            grpc,
            reporting,
        } = *self;
        let http = http.map(|(endpoint, settings)| {
            let address = endpoint.address();
            tracing::info!(extension = id, address, "health check listens");
            let handler = page::reading(move |request: &Request<Incoming>| {
                page::ready(answer(&settings, &reporting, request))
            });
            endpoint.serve_with(handler, shutdown.clone())
        });
        let grpc = grpc.map(|grpc| {
            let address = grpc.address();
            tracing::info!(extension = id, address, "health check listens for gRPC");
            grpc.serve(shutdown)
        });
        Box::pin(async move {
            let grpc = grpc
                .transpose()
                .map_err(|cause| ComponentError::new("serve health checks over gRPC", cause))?;
            let http = async {
                if let Some(http) = http {
                    http.await;
                }
            };
            let grpc = async {
                if let Some(grpc) = grpc {
                    grpc.await;
                }
            };
            tokio::join!(http, grpc);
            Ok(())
        })
    }
}

fn answer<B>(settings: &HttpSettings, reporting: &Reporting, request: &Request<B>) -> Answer {
    let path = request.uri().path();
    if settings.config_path.as_deref() == Some(path) {
        return match reporting.health.shown() {
            Some(shown) => admin::answer(StatusCode::OK, "application/json", shown.json.clone()),
            None => page::text(StatusCode::SERVICE_UNAVAILABLE, "503 not running yet\n"),
        };
    }
    let covers = |of: &str| path == of || of.ends_with('/') && path.starts_with(of);
    if !settings.status_path.as_deref().is_some_and(covers) {
        return admin::not_found();
    }
    match &settings.first_form {
        Some(body) => report::first_form(body, reporting),
        None => report::status(reporting, request.uri().query().unwrap_or_default()),
    }
}
