//! A few components that stand in for the real ones, so that what is expected does not change with every option that those
//! gain.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::component::{
    ComponentError, ExporterContext, ExporterSettings, ExtensionContext, ExtensionSettings,
    Factory, Processor, ProcessorContext, ProcessorSettings, Receiver, ReceiverContext,
    ReceiverSettings, Sender,
};
use crate::config::{Registries, Section};
use crate::signal::Signal;
use crate::units::{ByteSize, HumanDuration};

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct OtlpOptions {
    protocols: Protocols,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Protocols {
    grpc: Option<ServerOptions>,
    http: Option<ServerOptions>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct ServerOptions {
    endpoint: String,
    max_request_body_size: ByteSize,
    include_metadata: bool,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only decoded")]
struct ClickhouseOptions {
    endpoint: Endpoints,
    database: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    ttl: HumanDuration,
    #[serde(default)]
    compress: Compression,
    #[serde(default)]
    async_insert: bool,
    #[serde(default)]
    workers: u16,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Endpoints {
    One(String),
    Several(Vec<String>),
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Compression {
    #[default]
    Lz4,
    Zstd,
    None,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct BatchOptions {
    timeout: HumanDuration,
    send_batch_size: u32,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct NoOptions {}

#[derive(Debug, PartialEq)]
struct Inert;

fn nothing() -> ComponentError {
    ComponentError::new("build", "it only stands in")
}

impl ReceiverSettings for Inert {
    fn build(&self, _: ReceiverContext) -> Result<Box<dyn Receiver>, ComponentError> {
        Err(nothing())
    }
}

impl ProcessorSettings for Inert {
    fn build(&self, _: ProcessorContext) -> Result<Box<dyn Processor>, ComponentError> {
        Err(nothing())
    }
}

impl ExporterSettings for Inert {
    fn build(&self, _: &ExporterContext) -> Result<Vec<Sender>, ComponentError> {
        Err(nothing())
    }
}

impl ExtensionSettings for Inert {
    fn build(&self, _: ExtensionContext) -> Result<Box<dyn Receiver>, ComponentError> {
        Err(nothing())
    }
}

fn parse_otlp(section: &mut Section<'_>) -> Option<Box<dyn ReceiverSettings>> {
    let options: OtlpOptions = section.options()?;
    let Protocols { grpc, http } = options.protocols;
    for (name, server) in [("grpc", grpc), ("http", http)] {
        if server.is_some_and(|server| server.endpoint.starts_with("0.0.0.0:")) {
            section.warning(
                &format!("protocols.{name}.endpoint"),
                "listens to every network",
            );
        }
    }
    Some(Box::new(Inert))
}

fn parse_clickhouse(section: &mut Section<'_>) -> Option<Box<dyn ExporterSettings>> {
    let options: ClickhouseOptions = section.options()?;
    let endpoints = match options.endpoint {
        Endpoints::One(one) => vec![("endpoint".to_owned(), one)],
        Endpoints::Several(all) => all
            .into_iter()
            .enumerate()
            .map(|(at, one)| (format!("endpoint[{at}]"), one))
            .collect(),
    };
    for (key, endpoint) in endpoints {
        if !endpoint.starts_with("http") {
            section.error(&key, "write a URL such as `http://127.0.0.1:8123`");
        }
    }
    Some(Box::new(Inert))
}

fn parse_batch(section: &mut Section<'_>) -> Option<Box<dyn ProcessorSettings>> {
    section
        .options::<BatchOptions>()
        .map(|_| Box::new(Inert) as _)
}

pub(super) const REGISTRIES: Registries = Registries {
    receivers: &[Factory {
        kind: "otlp",
        summary: "",
        signals: &Signal::ALL,
        schema: |generator| generator.subschema_for::<OtlpOptions>(),
        parse: parse_otlp,
    }],
    processors: &[Factory {
        kind: "batch",
        summary: "",
        signals: &Signal::ALL,
        schema: |generator| generator.subschema_for::<BatchOptions>(),
        parse: parse_batch,
    }],
    exporters: &[
        Factory {
            kind: "clickhouse",
            summary: "",
            signals: &Signal::ALL,
            schema: |generator| generator.subschema_for::<ClickhouseOptions>(),
            parse: parse_clickhouse,
        },
        Factory {
            kind: "spans_only",
            summary: "",
            signals: &[Signal::Traces],
            schema: |generator| generator.subschema_for::<NoOptions>(),
            parse: |section| section.options::<NoOptions>().map(|_| Box::new(Inert) as _),
        },
    ],
    extensions: &[
        Factory {
            kind: "health_check",
            summary: "",
            signals: &[],
            schema: |generator| generator.subschema_for::<NoOptions>(),
            parse: |section| section.options::<NoOptions>().map(|_| Box::new(Inert) as _),
        },
        Factory {
            kind: "pprof",
            summary: "",
            signals: &[],
            schema: |generator| generator.subschema_for::<NoOptions>(),
            parse: |section| section.options::<NoOptions>().map(|_| Box::new(Inert) as _),
        },
    ],
};
