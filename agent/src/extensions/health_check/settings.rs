//! Validated settings of `health_check`.

use std::path::PathBuf;

use super::judge::Judge;
use super::options::{GrpcOptions, HealthCheckOptions, HttpOptions, ResponseBody};
use crate::admin::Lock;
use crate::auth::Reference;
use crate::claim::Claim;
use crate::config::Section;
use crate::net::listen;

/// Validated form of [`HealthCheckOptions`].
#[derive(Debug, Clone, PartialEq)]
pub(super) struct HealthCheckSettings {
    pub(super) http: Option<HttpSettings>,
    pub(super) grpc: Option<GrpcSettings>,
    pub(super) judge: Judge,
    /// What stands before the keys of the two.
    prefixes: [Prefix; 2],
}

/// What stands before the keys of a server, and the key of its endpoint.
type Prefix = (&'static str, &'static str);

/// What is served over gRPC.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct GrpcSettings {
    pub(super) endpoint: listen::Endpoint,
    pub(super) lock: Lock,
}

/// What is served over HTTP.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct HttpSettings {
    pub(super) endpoint: listen::Endpoint,
    pub(super) lock: Lock,
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
                prefixes: [("http.", "http.endpoint"), ("grpc.", "grpc.endpoint")],
            });
        }
        for (key, is_there) in [("http", has_http), ("grpc", has_grpc)] {
            if is_there {
                section.warning(key, "has no effect without `use_v2 = true`");
            }
        }
        check_path(section, "path", &self.path);
        let endpoint = endpoint(section, "endpoint", &self.endpoint)?;
        Some(HealthCheckSettings {
            http: Some(HttpSettings {
                endpoint,
                lock: Lock::resolve(self.tls, self.auth, "", section),
                status_path: Some(self.path),
                config_path: None,
                first_form: Some(self.response_body),
            }),
            grpc: None,
            judge,
            prefixes: [("", "endpoint"); 2],
        })
    }
}

fn over_grpc(grpc: GrpcOptions, section: &mut Section<'_>) -> Option<GrpcSettings> {
    let lock = Lock::resolve(grpc.tls, grpc.auth, "grpc.", section);
    match listen::Endpoint::parse(&grpc.transport, &grpc.endpoint) {
        Ok(endpoint) => Some(GrpcSettings { endpoint, lock }),
        Err(problem) => {
            let key = match problem.starts_with("unknown transport") {
                true => "grpc.transport",
                false => "grpc.endpoint",
            };
            section.error(key, problem);
            None
        }
    }
}

fn over_http(http: HttpOptions, section: &mut Section<'_>) -> Option<HttpSettings> {
    let HttpOptions {
        endpoint: at,
        status,
        config,
        tls,
        auth,
    } = http;
    let lock = Lock::resolve(tls, auth, "http.", section);
    check_path(section, "http.status.path", &status.path);
    check_path(section, "http.config.path", &config.path);
    if status.enabled && config.enabled && status.path == config.path {
        section.error("http.config.path", "is the path of `http.status`, too");
    }
    let endpoint = endpoint(section, "http.endpoint", &at)?;
    if config.enabled {
        lock.warn_of_strangers(
            &endpoint,
            "http.endpoint",
            "read the configuration",
            section,
        );
    }
    Some(HttpSettings {
        endpoint,
        lock,
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
    pub(super) fn claimed(&self) -> Vec<Claim> {
        let served = self.served().into_iter();
        let claim = |((_, key), endpoint, _): (Prefix, &listen::Endpoint, &Lock)| {
            Claim::endpoint(key, endpoint)
        };
        served.filter_map(claim).collect()
    }

    pub(super) fn locks_files(&self) -> Vec<PathBuf> {
        let served = self.served().into_iter();
        served.flat_map(|(_, _, lock)| lock.files()).collect()
    }

    pub(super) fn asked(&self) -> Vec<Reference> {
        let served = self.served().into_iter();
        let asked = served.map(|((prefix, _), _, lock)| lock.authenticators(prefix));
        asked.flatten().collect()
    }

    /// Where it listens, with what stands before the keys.
    fn served(&self) -> Vec<(Prefix, &listen::Endpoint, &Lock)> {
        let [http_prefix, grpc_prefix] = self.prefixes;
        let http = self.http.as_ref();
        let http = http.map(|http| (http_prefix, &http.endpoint, &http.lock));
        let grpc = self.grpc.as_ref();
        let grpc = grpc.map(|grpc| (grpc_prefix, &grpc.endpoint, &grpc.lock));
        http.into_iter().chain(grpc).collect()
    }
}
