//! Exports to ClickHouse: OTLP wire bytes into compressed Native columns, over HTTP.
//!
//! `encode` walks the bytes into the columns of `native`; `schema` knows the tables; `servers` sends. A batch is
//! encoded once, before it is known what the server looks like: the block has every column, types are converted by
//! the server where its tables differ, and only the list of columns in the statement depends on what it has.

pub mod encode;
mod endpoint;
mod exporter;
mod failure;
pub mod native;
mod options;
mod post;
mod schema;
mod servers;
mod settings;
mod token;

use std::path::PathBuf;

use crate::component::{ComponentError, ExporterContext, ExporterSettings, Factory, Sender};
use crate::config::Section;
use crate::exporters::sender::SenderSettings;
use crate::signal::Signal;

use settings::Settings;

/// The `clickhouse` exporter.
pub const FACTORY: Factory<dyn ExporterSettings> = Factory {
    kind: "clickhouse",
    summary: "Inserts spans, log records and data points into ClickHouse, in the tables of the OpenTelemetry Collector.",
    signals: &Signal::ALL,
    schema: |generator| generator.subschema_for::<options::Options>(),
    parse,
};

fn parse(section: &mut Section<'_>) -> Option<Box<dyn ExporterSettings>> {
    Some(Box::new(Settings::parse(section)?))
}

impl ExporterSettings for Settings {
    fn files(&self) -> Vec<PathBuf> {
        self.tls.files()
    }

    fn build(&self, context: &ExporterContext) -> Result<Vec<Sender>, ComponentError> {
        exporter::build(self, context)
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
