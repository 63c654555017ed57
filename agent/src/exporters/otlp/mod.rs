//! Exports OTLP, over gRPC and over HTTP: the bytes that arrived, as they arrived.
//!
//! A batch is a list of OTLP requests, and requests one after the other are one request: without compression nothing is
//! decoded, encoded or copied on the way out. `request` makes a batch ready to send, `connect` opens connections, `call`
//! and `post` carry one request each, over gRPC and over HTTP, and `verdict` says what an answer means for the batch.

mod call;
mod compress;
mod connect;
mod endpoint;
mod exporter;
mod options;
mod partial;
mod post;
mod request;
mod rope;
mod settings;
mod verdict;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use crate::auth::{Reference, Side};
use crate::component::{ComponentError, ExporterContext, ExporterSettings, Factory, Sender};
use crate::config::Section;
use crate::exporters::sender::SenderSettings;
use crate::signal::Signal;

use settings::{GrpcSettings, HttpSettings};

/// The `otlp_grpc` exporter.
pub const GRPC: Factory<dyn ExporterSettings> = Factory {
    kind: "otlp_grpc",
    summary: "Sends what arrived, as it arrived, to another agent, a Collector or a backend, by OTLP over gRPC.",
    signals: &Signal::ALL,
    schema: |generator| generator.subschema_for::<options::GrpcOptions>(),
    parse: parse_grpc,
};

/// The `otlp_grpc` exporter under the name it had in the Collector before.
pub const GRPC_OLDER: Factory<dyn ExporterSettings> = Factory {
    kind: "otlp",
    summary: "The older name of otlp_grpc.",
    ..GRPC
};

/// The `otlp_http` exporter.
pub const HTTP: Factory<dyn ExporterSettings> = Factory {
    kind: "otlp_http",
    summary: "Sends what arrived, as it arrived, to another agent, a Collector or a backend, by OTLP over HTTP.",
    signals: &Signal::ALL,
    schema: |generator| generator.subschema_for::<options::HttpOptions>(),
    parse: parse_http,
};

/// The `otlp_http` exporter under the name it had in the Collector before.
pub const HTTP_OLDER: Factory<dyn ExporterSettings> = Factory {
    kind: "otlphttp",
    summary: "The older name of otlp_http.",
    ..HTTP
};

fn parse_grpc(section: &mut Section<'_>) -> Option<Box<dyn ExporterSettings>> {
    Some(Box::new(GrpcSettings::parse(section)?))
}

fn parse_http(section: &mut Section<'_>) -> Option<Box<dyn ExporterSettings>> {
    Some(Box::new(HttpSettings::parse(section)?))
}

impl ExporterSettings for GrpcSettings {
    fn files(&self) -> Vec<PathBuf> {
        self.tls.files()
    }

    fn authenticators(&self) -> Vec<Reference> {
        let auth = self.auth.iter();
        auth.map(|auth| Reference::new("auth", auth, Side::Client))
            .collect()
    }

    fn build(&self, context: &ExporterContext) -> Result<Vec<Sender>, ComponentError> {
        exporter::build_grpc(self, context)
    }

    fn sender(&self) -> Option<&SenderSettings> {
        Some(&self.sender)
    }

    fn with_sender(&self, sender: SenderSettings) -> Option<Box<dyn ExporterSettings>> {
        Some(Box::new(Self {
            sender,
            ..self.clone()
        }))
    }
}

impl ExporterSettings for HttpSettings {
    fn files(&self) -> Vec<PathBuf> {
        self.tls.files()
    }

    fn authenticators(&self) -> Vec<Reference> {
        let auth = self.auth.iter();
        auth.map(|auth| Reference::new("auth", auth, Side::Client))
            .collect()
    }

    fn build(&self, context: &ExporterContext) -> Result<Vec<Sender>, ComponentError> {
        exporter::build_http(self, context)
    }

    fn sender(&self) -> Option<&SenderSettings> {
        Some(&self.sender)
    }

    fn with_sender(&self, sender: SenderSettings) -> Option<Box<dyn ExporterSettings>> {
        Some(Box::new(Self {
            sender,
            ..self.clone()
        }))
    }
}
