//! `health_check`: tells load balancers and supervisors over HTTP whether the agent is up.
//!
//! It tells whether the pipelines take data, and nothing about exporters: an agent whose destination is away is healthy,
//! it queues.

use std::path::PathBuf;
use std::time::SystemTime;

use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::admin::{self, Answer, Endpoint, Lock};
use crate::auth::{AuthOptions, Reference};
use crate::calendar::UnixNanos;
use crate::claim::Claim;
use crate::component::{
    BoxFuture, ComponentError, ExtensionContext, ExtensionSettings, Factory, Receiver, Shutdown,
};
use crate::config::Section;
use crate::health::{Health, Phase};
use crate::net::listen;
use crate::net::server_tls::TlsOptions;

/// The `health_check` extension.
pub const FACTORY: Factory<dyn ExtensionSettings> = Factory {
    kind: "health_check",
    summary: "Tells over HTTP whether the agent is up.",
    signals: &[],
    schema: |generator| generator.subschema_for::<HealthCheckOptions>(),
    parse: |section| {
        let options: HealthCheckOptions = section.options()?;
        Some(Box::new(options.resolve(section)))
    },
};

/// `[extensions.health_check]`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HealthCheckOptions {
    /// Where to listen.
    #[schemars(regex(pattern = ":[0-9]+$"))]
    pub endpoint: String,
    /// The path that answers.
    #[schemars(regex(pattern = "^/"))]
    pub path: String,
    /// What is answered instead of JSON.
    pub response_body: ResponseBody,
    /// Certificates; absent means plaintext.
    pub tls: Option<TlsOptions>,
    /// Who may ask; absent means whoever reaches the address.
    pub auth: Option<AuthOptions>,
}

impl Default for HealthCheckOptions {
    fn default() -> Self {
        Self {
            endpoint: "127.0.0.1:13133".to_owned(),
            path: "/".to_owned(),
            response_body: ResponseBody::default(),
            tls: None,
            auth: None,
        }
    }
}

/// `response_body`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ResponseBody {
    /// The body while the agent is up; empty for JSON.
    pub healthy: String,
    /// The body otherwise; empty for JSON.
    pub unhealthy: String,
}

/// Validated form of [`HealthCheckOptions`].
#[derive(Debug, Clone, PartialEq)]
struct HealthCheckSettings {
    endpoint: String,
    path: String,
    response_body: ResponseBody,
    lock: Lock,
}

impl HealthCheckOptions {
    fn resolve(self, section: &mut Section<'_>) -> HealthCheckSettings {
        let port = self.endpoint.rsplit_once(':').map(|(_, port)| port);
        if port.is_none_or(|port| port.parse::<u16>().is_err()) {
            section.error(
                "endpoint",
                "must be an address and a port, such as \"127.0.0.1:13133\"",
            );
        }
        if !self.path.starts_with('/') {
            section.error("path", "must begin with `/`");
        }
        HealthCheckSettings {
            lock: Lock::resolve(self.tls, self.auth, "", section),
            endpoint: self.endpoint,
            path: self.path,
            response_body: self.response_body,
        }
    }
}

impl ExtensionSettings for HealthCheckSettings {
    fn files(&self) -> Vec<PathBuf> {
        self.lock.files()
    }

    fn authenticators(&self) -> Vec<Reference> {
        self.lock.authenticators("")
    }

    fn claims(&self) -> Vec<Claim> {
        listen::Endpoint::parse("tcp", &self.endpoint)
            .ok()
            .and_then(|endpoint| Claim::endpoint("endpoint", &endpoint))
            .into_iter()
            .collect()
    }

    fn build(&self, context: ExtensionContext) -> Result<Box<dyn Receiver>, ComponentError> {
        let attempted = || {
            let (id, endpoint) = (&context.id, &self.endpoint);
            format!("start the extension {id}: bind {endpoint}")
        };
        let endpoint = listen::Endpoint::parse("tcp", &self.endpoint)
            .map_err(|problem| ComponentError::new(attempted(), problem))?;
        let owner = format!("extensions.{}", context.id);
        let endpoint = admin::bind(&context.sockets, &endpoint, &owner)
            .and_then(|endpoint| endpoint.locked(&self.lock, &context.authenticators))
            .map_err(|error| ComponentError::new(attempted(), error))?;
        let address = endpoint.address();
        tracing::info!(extension = context.id, address, "health check listens");
        Ok(Box::new(HealthCheck {
            endpoint,
            settings: self.clone(),
            health: context.health,
        }))
    }
}

struct HealthCheck {
    endpoint: Endpoint,
    settings: HealthCheckSettings,
    health: Health,
}

impl Receiver for HealthCheck {
    fn run(self: Box<Self>, shutdown: Shutdown) -> BoxFuture<'static, Result<(), ComponentError>> {
        let (settings, health) = (self.settings, self.health);
        let respond = move |path: &str| {
            if path == settings.path {
                report(&settings.response_body, &health)
            } else {
                admin::not_found()
            }
        };
        // Outside of the future: the call takes over what was served there.
        let serving = self.endpoint.serve(respond, shutdown);
        Box::pin(async move {
            serving.await;
            Ok(())
        })
    }
}

/// The body, with the Collector's names.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    status: &'static str,
    up_since: String,
    uptime: String,
    /// Ours: the Collector does not read its configuration again.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_reload: Option<LastReload>,
}

/// How the configuration was last read again. A refusal does not make the agent unhealthy: it runs as it did.
#[derive(Serialize)]
struct LastReload {
    at: String,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<String>,
}

fn report(custom: &ResponseBody, health: &Health) -> Answer {
    let healthy = health.phase() == Phase::Ready;
    let (status, custom) = if healthy {
        (StatusCode::OK, &custom.healthy)
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, &custom.unhealthy)
    };
    if !custom.is_empty() {
        return admin::answer(status, "text/plain; charset=utf-8", custom.clone());
    }
    let uptime = health.since().elapsed();
    let since = SystemTime::now()
        .checked_sub(uptime)
        .unwrap_or(SystemTime::UNIX_EPOCH);
    let report = Report {
        status: match health.phase() {
            Phase::Starting => "Server not available: starting",
            Phase::Ready => "Server available",
            Phase::Stopping => "Server not available: stopping",
        },
        up_since: UnixNanos::from(since).to_string(),
        uptime: format!("{}.{:03}s", uptime.as_secs(), uptime.subsec_millis()),
        last_reload: health.reloaded().map(|reloaded| LastReload {
            at: UnixNanos::from(reloaded.at).to_string(),
            outcome: reloaded.outcome,
            problems: reloaded.problems,
        }),
    };
    let body = serde_json::to_vec(&report).expect("texts are JSON");
    admin::answer(status, "application/json", body)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::net::sockets::Sockets;
    use crate::telemetry::Telemetry;
    use crate::testing::{http_get, parse};

    /// Where the built extension listens, and its health.
    async fn with_extension(text: &str, check: impl AsyncFnOnce(SocketAddr, Health)) {
        let text = format!("endpoint = \"127.0.0.1:0\"\n{text}");
        let mut found = crate::config::Diagnostics::default();
        let mut section = Section::from_text("test", &text, &mut found).unwrap();
        let options: HealthCheckOptions = section.options().unwrap();
        let settings = options.resolve(&mut section);
        let endpoint = listen::Endpoint::parse("tcp", &settings.endpoint).unwrap();
        let endpoint = admin::bind(&Sockets::default(), &endpoint, "test").unwrap();
        let address = endpoint.address().parse().unwrap();
        let health = Health::default();
        let extension = Box::new(HealthCheck {
            endpoint,
            settings,
            health: health.clone(),
        });
        let shutdown = Shutdown::default();
        let running = tokio::spawn(extension.run(shutdown.clone()));
        check(address, health).await;
        shutdown.trigger();
        running.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn the_answer_follows_the_phase() {
        with_extension("", async |address, health: Health| {
            for (phase, expected) in [
                (Phase::Starting, 503),
                (Phase::Ready, 200),
                (Phase::Stopping, 503),
            ] {
                health.enter(phase);
                let (status, body) = http_get(address, "/").await;
                let body: serde_json::Value = serde_json::from_str(&body).unwrap();
                assert_eq!(status, expected);
                assert_eq!(body["status"] == "Server available", expected == 200);
                assert!(body["upSince"].as_str().unwrap().starts_with("20"));
                assert!(body["uptime"].as_str().unwrap().ends_with('s'));
            }
            assert_eq!(http_get(address, "/other").await.0, 404);
        })
        .await;
    }

    #[tokio::test]
    async fn path_and_bodies_are_the_operators() {
        let text =
            "path = \"/healthz\"\nresponse_body = { healthy = \"fine\", unhealthy = \"ill\" }";
        with_extension(text, async |address, health: Health| {
            assert_eq!(http_get(address, "/healthz").await, (503, "ill".to_owned()));
            health.enter(Phase::Ready);
            assert_eq!(
                http_get(address, "/healthz").await,
                (200, "fine".to_owned())
            );
            assert_eq!(http_get(address, "/").await.0, 404);
        })
        .await;
    }

    #[tokio::test]
    async fn an_address_in_use_is_an_error_at_start() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let settings = parse(&FACTORY, &format!("endpoint = \"{address}\"")).unwrap();
        let context = ExtensionContext {
            id: "health_check".to_owned(),
            health: Health::default(),
            telemetry: Telemetry::default(),
            sockets: Sockets::default(),
            authenticators: crate::auth::Authenticators::default(),
        };
        let error = settings.build(context).err().unwrap();
        assert!(
            error
                .to_string()
                .starts_with(&format!("start the extension health_check: bind {address}")),
            "{error}"
        );
    }

    #[test]
    fn settings_are_validated() {
        let check = |text: &str, expected: &str| {
            let found = parse(&FACTORY, text).unwrap_err().to_string();
            assert!(found.contains(expected), "{text}: {found}");
        };
        check("endpoint = \"localhost\"", "an address and a port");
        check("endpoint = \"localhost:x\"", "an address and a port");
        check("path = \"health\"", "begin with");
    }

    #[test]
    fn the_example_holds_every_field() {
        let example = include_str!("../../../configs/agent/health_check.toml");
        let example: toml::Table = example.parse().unwrap();
        let found = example["extensions"]["health_check"].as_table().unwrap();
        for (key, value) in &toml::Table::try_from(HealthCheckOptions::default()).unwrap() {
            let found = found.get(key).unwrap_or_else(|| panic!("{key} is missing"));
            for inner in value.as_table().into_iter().flat_map(toml::Table::keys) {
                assert!(found.get(inner).is_some(), "{key}.{inner} is missing");
            }
        }
    }
}
