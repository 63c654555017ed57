//! `zpages`: what the agent is doing, as pages for people.
//!
//! Everything is rendered when it is asked for, from what is counted anyway; only the spans are kept because somebody may look.

mod pages;
#[cfg(test)]
mod tests;
mod trace;

use std::path::PathBuf;

use http::{Request, StatusCode};
use hyper::body::Incoming;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing::info;

use super::front::{Front, Keys};
use super::page;
use crate::admin::{self, Answer, Endpoint};
use crate::auth::{AuthOptions, Reference};
use crate::claim::Claim;
use crate::component::{
    BoxFuture, ComponentError, ExtensionContext, ExtensionSettings, Factory, Receiver, Shutdown,
};
use crate::config::Section;
use crate::net::listen;
use crate::net::server_tls::TlsOptions;
use pages::Pages;

/// The `zpages` extension.
pub const FACTORY: Factory<dyn ExtensionSettings> = Factory {
    kind: "zpages",
    summary: "Shows pipelines, components, the agent's own spans and its configuration as pages.",
    signals: &[],
    schema: |generator| generator.subschema_for::<ZpagesOptions>(),
    parse: |section| {
        let options: ZpagesOptions = section.options()?;
        Some(Box::new(options.resolve(section)?))
    },
};

/// `[extensions.zpages]`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct ZpagesOptions {
    /// Where to listen.
    #[schemars(regex(pattern = ":[0-9]+$"))]
    endpoint: String,
    /// All figures as JSON.
    expvar: ExpvarOptions,
    /// Certificates; absent means plaintext.
    tls: Option<TlsOptions>,
    /// Who may ask; absent means whoever reaches the address.
    auth: Option<AuthOptions>,
}

impl Default for ZpagesOptions {
    fn default() -> Self {
        Self {
            endpoint: "127.0.0.1:55679".to_owned(),
            expvar: ExpvarOptions::default(),
            tls: None,
            auth: None,
        }
    }
}

/// `expvar`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct ExpvarOptions {
    /// Whether `/debug/expvarz` is there.
    enabled: bool,
}

/// Validated form of [`ZpagesOptions`].
#[derive(Debug, Clone, PartialEq)]
struct ZpagesSettings {
    front: Front,
    expvar: bool,
}

impl ZpagesOptions {
    fn resolve(self, section: &mut Section<'_>) -> Option<ZpagesSettings> {
        let endpoint = listen::Endpoint::parse("tcp", &self.endpoint)
            .map_err(|problem| section.error("endpoint", problem))
            .ok();
        let lock = (self.tls, self.auth);
        let front = Front::resolve(
            endpoint,
            lock,
            Some("read the configuration"),
            Keys::PLAIN,
            section,
        )?;
        Some(ZpagesSettings {
            front,
            expvar: self.expvar.enabled,
        })
    }
}

impl ExtensionSettings for ZpagesSettings {
    fn claims(&self) -> Vec<Claim> {
        self.front.claim().into_iter().collect()
    }

    fn files(&self) -> Vec<PathBuf> {
        self.front.files()
    }

    fn authenticators(&self) -> Vec<Reference> {
        self.front.authenticators()
    }

    fn build(&self, context: ExtensionContext) -> Result<Box<dyn Receiver>, ComponentError> {
        let endpoint = self.front.bind(&context)?;
        Ok(Box::new(Zpages {
            id: context.id,
            endpoint,
            expvar: self.expvar,
            pages: Pages {
                health: context.health,
                statuses: context.statuses,
                telemetry: context.telemetry,
            },
        }))
    }
}

struct Zpages {
    id: String,
    endpoint: Endpoint,
    expvar: bool,
    pages: Pages,
}

impl Receiver for Zpages {
    fn run(self: Box<Self>, shutdown: Shutdown) -> BoxFuture<'static, Result<(), ComponentError>> {
        let Self {
            id,
            endpoint,
            expvar,
            pages,
        } = *self;
        let address = endpoint.address();
        info!(extension = id, address, "pages are served");
        let watching = pages.telemetry.spans().watch();
        let handler = page::reading(move |request: &Request<Incoming>| {
            page::ready(answer(&pages, expvar, request))
        });
        // Outside of the future: the call takes over what was served there.
        let serving = endpoint.serve_with(handler, shutdown);
        Box::pin(async move {
            serving.await;
            drop(watching);
            Ok(())
        })
    }
}

fn answer<B>(pages: &Pages, expvar: bool, request: &Request<B>) -> Answer {
    let query = request.uri().query().unwrap_or_default();
    match request.uri().path() {
        "/" | "/debug" | "/debug/" | "/debug/servicez" => pages.service(),
        "/debug/pipelinez" => pages.pipelines(),
        "/debug/extensionz" => pages.extensions(),
        "/debug/featurez" => pages.features(),
        "/debug/tracez" => trace::page(&pages.telemetry.spans().summaries(), query),
        "/debug/configz" => pages.configuration(),
        "/debug/expvarz" if expvar => pages.figures(),
        "/debug/expvarz" => page::text(StatusCode::NOT_FOUND, "404 expvar.enabled is false\n"),
        _ => admin::not_found(),
    }
}
