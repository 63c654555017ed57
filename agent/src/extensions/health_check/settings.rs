//! Validated settings of `health_check`.

use super::super::front::{Front, Keys};
use super::judge::Judge;
use super::options::{GrpcOptions, HealthCheckOptions, HttpOptions, ResponseBody};
use crate::config::Section;
use crate::net::listen;

const HTTP: Keys = Keys {
    prefix: "http.",
    endpoint: "http.endpoint",
};

const GRPC: Keys = Keys {
    prefix: "grpc.",
    endpoint: "grpc.endpoint",
};

/// Validated form of [`HealthCheckOptions`].
#[derive(Debug, Clone, PartialEq)]
pub(super) struct HealthCheckSettings {
    pub(super) http: Option<HttpSettings>,
    pub(super) grpc: Option<Front>,
    pub(super) judge: Judge,
}

/// What is served over HTTP.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct HttpSettings {
    pub(super) front: Front,
    pub(super) status_path: Option<String>,
    pub(super) config_path: Option<String>,
    /// Bodies of the first form, where it is that.
    pub(super) first_form: Option<ResponseBody>,
}

impl HealthCheckOptions {
    /// `None` if something is wrong, which `section` knows then.
    pub(super) fn resolve(self, section: &mut Section<'_>) -> Option<HealthCheckSettings> {
        let judge = Judge {
            permanent: self.component_health.include_permanent_errors,
            recoverable: self.component_health.include_recoverable_errors,
            recovery: self.component_health.recovery_duration.0,
        };
        let (has_http, has_grpc) = (self.http.is_some(), self.grpc.is_some());
        let http = self.http.map(|http| over_http(http, section));
        let grpc = self.grpc.map(|grpc| over_grpc(grpc, section));
        if self.use_v2 {
            if !has_http && !has_grpc {
                let message = "needs a table `http` or `grpc` that says where to listen";
                section.error("use_v2", message);
            }
            return Some(HealthCheckSettings {
                http: http.flatten(),
                grpc: grpc.flatten(),
                judge,
            });
        }
        for (key, is_there) in [("http", has_http), ("grpc", has_grpc)] {
            if is_there {
                section.warning(key, "has no effect without `use_v2 = true`");
            }
        }
        check_path(section, "path", &self.path);
        let endpoint = endpoint(section, "endpoint", &self.endpoint);
        let lock = (self.tls, self.auth);
        let front = Front::resolve(endpoint, lock, None, Keys::PLAIN, section)?;
        Some(HealthCheckSettings {
            http: Some(HttpSettings {
                front,
                status_path: Some(self.path),
                config_path: None,
                first_form: Some(self.response_body),
            }),
            grpc: None,
            judge,
        })
    }
}

fn over_grpc(grpc: GrpcOptions, section: &mut Section<'_>) -> Option<Front> {
    let endpoint = listen::Endpoint::parse(&grpc.transport, &grpc.endpoint);
    let endpoint = endpoint.map_err(|problem| {
        let key = match problem.starts_with("unknown transport") {
            true => "grpc.transport",
            false => GRPC.endpoint,
        };
        section.error(key, problem);
    });
    Front::resolve(endpoint.ok(), (grpc.tls, grpc.auth), None, GRPC, section)
}

fn over_http(http: HttpOptions, section: &mut Section<'_>) -> Option<HttpSettings> {
    let HttpOptions {
        endpoint: at,
        status,
        config,
        tls,
        auth,
    } = http;
    check_path(section, "http.status.path", &status.path);
    check_path(section, "http.config.path", &config.path);
    if status.enabled && config.enabled && status.path == config.path {
        section.error("http.config.path", "is the path of `http.status`, too");
    }
    let endpoint = endpoint(section, HTTP.endpoint, &at);
    let can = config.enabled.then_some("read the configuration");
    Some(HttpSettings {
        front: Front::resolve(endpoint, (tls, auth), can, HTTP, section)?,
        status_path: status.enabled.then_some(status.path),
        config_path: config.enabled.then_some(config.path),
        first_form: None,
    })
}

fn check_path(section: &mut Section<'_>, key: &str, path: &str) {
    if !path.starts_with('/') {
        section.error(key, "must begin with `/`");
    }
}

fn endpoint(section: &mut Section<'_>, key: &str, text: &str) -> Option<listen::Endpoint> {
    let port = text.rsplit_once(':').map(|(_, port)| port);
    let parsed = listen::Endpoint::parse("tcp", text);
    match parsed {
        Ok(endpoint) if port.is_some_and(|port| port.parse::<u16>().is_ok()) => Some(endpoint),
        _ => {
            let message = "must be an address and a port, such as \"127.0.0.1:13133\"";
            section.error(key, message);
            None
        }
    }
}

impl HealthCheckSettings {
    /// Where it listens.
    pub(super) fn fronts(&self) -> impl Iterator<Item = &Front> {
        let http = self.http.iter().map(|http| &http.front);
        http.chain(&self.grpc)
    }
}
