//! What is answered over HTTP.

use std::collections::BTreeMap;
use std::time::{Instant, SystemTime};

use http::StatusCode;
use serde::Serialize;

use super::judge::Judge;
use super::options::ResponseBody;
use crate::admin::{self, Answer};
use crate::calendar::UnixNanos;
use crate::health::{Health, Phase};
use crate::status::{Aggregate, PIPELINE, Statuses};

/// Where health is read, and how it is judged.
#[derive(Debug)]
pub(super) struct Reporting {
    pub(super) health: Health,
    pub(super) statuses: Statuses,
    pub(super) judge: Judge,
}

impl Reporting {
    /// The state of a pipeline, of everything below a key such as `extensions`, or without a name of all; `None` if there is
    /// no such thing.
    pub(super) fn aggregate(&self, name: &str) -> Option<Aggregate> {
        let mut all = self.statuses.aggregate(self.judge.priority());
        if name.is_empty() {
            return Some(all);
        }
        let found = all.components.remove(&format!("{PIPELINE}{name}"));
        found.or_else(|| all.components.remove(name).filter(|_| !name.contains(':')))
    }
}

/// How the configuration was last read again. A refusal does not make the agent unhealthy: it runs as it did.
#[derive(Serialize)]
struct LastReload {
    at: String,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<String>,
}

fn last_reload(health: &Health) -> Option<LastReload> {
    health.reloaded().map(|reloaded| LastReload {
        at: UnixNanos::from(reloaded.at).to_string(),
        outcome: reloaded.outcome,
        problems: reloaded.problems,
    })
}

fn started(health: &Health) -> SystemTime {
    SystemTime::now()
        .checked_sub(health.since().elapsed())
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

// === The second form ===

/// The body, with the names of the Collector's `healthcheckv2`.
#[derive(Serialize)]
struct Report {
    #[serde(skip_serializing_if = "Option::is_none")]
    start_time: Option<String>,
    healthy: bool,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    status_time: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    components: BTreeMap<String, Report>,
    /// Ours: the Collector does not read its configuration again.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_reload: Option<LastReload>,
}

impl Report {
    fn of(aggregate: Aggregate, verbose: bool, judge: Judge, now: Instant) -> Self {
        let Aggregate { event, components } = aggregate;
        let components = match verbose {
            true => components,
            false => BTreeMap::new(),
        };
        let components = components.into_iter();
        Self {
            start_time: None,
            healthy: judge.is_healthy(&event, now),
            status: event.status.name(),
            status_time: UnixNanos::from(event.at).to_string(),
            error: event.error,
            components: components
                .map(|(key, part)| (key, Self::of(part, true, judge, now)))
                .collect(),
            last_reload: None,
        }
    }
}

/// Answers `?pipeline=…&verbose`.
pub(super) fn status(reporting: &Reporting, query: &str) -> Answer {
    let (mut name, mut verbose) = (String::new(), false);
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*key {
            "pipeline" => name = value.into_owned(),
            // As in the Collector, to name it is enough; to say no is heard.
            "verbose" => verbose = &*value != "false",
            _ => {}
        }
    }
    let Some(aggregate) = reporting.aggregate(&name) else {
        return admin::answer(
            StatusCode::NOT_FOUND,
            "text/plain; charset=utf-8",
            "404 no such pipeline\n",
        );
    };
    let (judge, now) = (reporting.judge, Instant::now());
    let code = judge.code(&aggregate.event, now);
    let report = Report {
        start_time: Some(UnixNanos::from(started(&reporting.health)).to_string()),
        last_reload: match name.is_empty() {
            true => last_reload(&reporting.health),
            false => None,
        },
        ..Report::of(aggregate, verbose, judge, now)
    };
    json(code, &report)
}

fn json(status: StatusCode, report: &impl Serialize) -> Answer {
    let body = serde_json::to_vec(report).expect("texts are JSON");
    admin::answer(status, "application/json", body)
}

// === The first form ===

/// The body, with the Collector's names.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FirstForm {
    status: &'static str,
    up_since: String,
    uptime: String,
    /// Ours: the Collector does not read its configuration again.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_reload: Option<LastReload>,
}

/// Tells whether the agent is up.
pub(super) fn first_form(custom: &ResponseBody, reporting: &Reporting) -> Answer {
    let health = &reporting.health;
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
    let report = FirstForm {
        status: match health.phase() {
            Phase::Starting => "Server not available: starting",
            Phase::Ready => "Server available",
            Phase::Stopping => "Server not available: stopping",
        },
        up_since: UnixNanos::from(started(health)).to_string(),
        uptime: format!("{}.{:03}s", uptime.as_secs(), uptime.subsec_millis()),
        last_reload: last_reload(health),
    };
    json(status, &report)
}
