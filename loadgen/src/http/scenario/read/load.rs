//! Executors and their load, retries and outages.

use std::time::Duration;

use super::super::search::Limits;
use super::{duration, number, whole};
use crate::document::{Table, nearest};
use crate::http::journey::Outage;
use crate::http::options::{Load, Mode, WORKERS_MAX};
use crate::http::retry::{Budget, Retry, Wait};
use crate::http::stages::Stage;

const EXECUTORS: [&str; 8] = [
    "closed",
    "ramping_workers",
    "constant_rate",
    "ramping_rate",
    "spike",
    "soak",
    "retry_storm",
    "breakpoint",
];
/// What k6 calls them.
const EXECUTORS_OF_K6: [(&str, &str); 6] = [
    ("constant_vus", "closed"),
    ("per_vu_iterations", "closed"),
    ("shared_iterations", "closed"),
    ("ramping_vus", "ramping_workers"),
    ("constant_arrival_rate", "constant_rate"),
    ("ramping_arrival_rate", "ramping_rate"),
];
/// The keys of all executors.
const LOAD_KEYS: [&str; 16] = [
    "warm_up",
    "workers",
    "rate",
    "duration",
    "requests",
    "stages",
    "spike_rate",
    "before",
    "ramp",
    "spike",
    "after",
    "rate_min",
    "rate_max",
    "precision",
    "pause",
    "trial",
];
const RATE_MIN: f64 = 0.001;
const RATE_MAX: f64 = 10_000_000.0;
/// Workers of an executor that waits for answers, and of one that goes by the clock.
const WORKERS_CLOSED: i64 = 8;
const WORKERS_OPEN: i64 = 100;
/// Clients that try more often than this are broken, not impatient.
const ATTEMPTS_MAX: i64 = 1000;

/// The executor's name, its load, and what it searches.
pub(super) fn read(table: &mut Table) -> (&'static str, Load, Option<Limits>) {
    let Some(executor) = executor(table) else {
        return ("closed", load(Mode::Closed, 1, Some(Duration::ZERO)), None);
    };
    let warm_up = duration(table, "warm_up").unwrap_or_default();
    let mut search = None;
    let mut requests = None;
    let (mode, time) = match executor {
        "closed" => {
            requests = positive(table, "requests");
            let time = match requests {
                Some(_) => duration(table, "duration"),
                None => Some(need_duration(table, "duration")),
            };
            (Mode::Closed, time)
        }
        "ramping_workers" => {
            let stages = stages(table, "workers", WORKERS_MAX as f64);
            let time = crate::http::stages::duration(&stages);
            (Mode::Crowd(stages), Some(time))
        }
        "ramping_rate" => (Mode::Shaped(stages(table, "rate", RATE_MAX)), None),
        "spike" => (Mode::Shaped(spike(table)), None),
        "breakpoint" => {
            let limits = limits(table);
            search = Some(limits);
            let trial = duration(table, "trial").unwrap_or(Duration::from_secs(10));
            let rate = limits.rate_min;
            (Mode::Open { rate }, Some(trial))
        }
        _ => {
            let rate = need_rate(table, "rate");
            (Mode::Open { rate }, Some(need_duration(table, "duration")))
        }
    };
    let workers = match &mode {
        Mode::Crowd(stages) => crate::http::stages::value_max(stages).ceil().max(1.0) as i64,
        Mode::Closed => whole(table, "workers", WORKERS_CLOSED, 1..=WORKERS_MAX as i64),
        _ => whole(table, "workers", WORKERS_OPEN, 1..=WORKERS_MAX as i64),
    };
    let mut load = load(mode, workers, time);
    load.warm_up = warm_up;
    load.requests = requests;
    (executor, load, search)
}

/// `None` for one that there is not, whose keys cannot be judged.
fn executor(table: &mut Table) -> Option<&'static str> {
    let written = table.need("executor");
    if let Some(known) = EXECUTORS.iter().find(|it| **it == written.text) {
        return Some(known);
    }
    if !written.text.is_empty() {
        let name = written.text.replace('-', "_");
        let mut of_k6 = EXECUTORS_OF_K6.iter().filter(|(k6, _)| *k6 == name);
        let known = of_k6.next().map(|(_, ours)| *ours);
        let help = match known.or_else(|| nearest(&name, EXECUTORS)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("there are {}", EXECUTORS.join(", ")),
        };
        table.wrong(
            &written.place,
            format!("there is no executor `{}`; {help}", written.text),
        );
    }
    for key in LOAD_KEYS {
        drop(table.take(key));
    }
    None
}

fn limits(table: &mut Table) -> Limits {
    let rate_min = number(table, "rate_min", RATE_MIN, RATE_MAX).unwrap_or(10.0);
    Limits {
        rate_min,
        rate_max: number(table, "rate_max", rate_min, RATE_MAX).unwrap_or(100_000.0),
        precision: number(table, "precision", 0.005, 1.0).unwrap_or(0.05),
        pause: duration(table, "pause").unwrap_or(Duration::from_secs(1)),
    }
}

fn load(mode: Mode, workers: i64, duration: Option<Duration>) -> Load {
    Load {
        workers: usize::try_from(workers).unwrap_or(1),
        mode,
        warm_up: Duration::ZERO,
        duration,
        requests: None,
    }
}

fn positive(table: &mut Table, key: &'static str) -> Option<u64> {
    if !table.has(key) {
        // Asked for all the same, so that it is among the known keys.
        drop(table.take(key));
        return None;
    }
    u64::try_from(whole(table, key, 1, 1..=1_000_000_000_000)).ok()
}

fn need_rate(table: &mut Table, key: &'static str) -> f64 {
    if !table.has(key) {
        table.missing(key);
    }
    number(table, key, RATE_MIN, RATE_MAX).unwrap_or(1.0)
}

fn need_duration(table: &mut Table, key: &'static str) -> Duration {
    if !table.has(key) {
        table.missing(key);
    }
    let Some(text) = table.text(key) else {
        return Duration::from_secs(1);
    };
    match crate::cli::parse_duration(&text.text) {
        Ok(time) if !time.is_zero() => time,
        Ok(_) => {
            table.wrong(&text.place, "must be longer than 0");
            Duration::from_secs(1)
        }
        Err(problem) => {
            table.wrong(&text.place, format!("{problem:#}"));
            Duration::from_secs(1)
        }
    }
}

/// From the value of `key` through the `stages`, each a ramp to its own value, or a step.
fn stages(table: &mut Table, key: &'static str, max: f64) -> Vec<Stage> {
    let mut from = number(table, key, 0.0, max).unwrap_or(0.0);
    let is_there = table.has("stages");
    if !is_there {
        table.missing("stages");
    }
    let mut stages = Vec::new();
    for mut stage in table.tables("stages") {
        let time = need_duration(&mut stage, "duration");
        if !stage.has(key) {
            stage.missing(key);
        }
        let to = number(&mut stage, key, 0.0, max).unwrap_or(from);
        let is_step = stage.flag("step", false);
        stages.push(Stage {
            duration: time,
            from: if is_step { to } else { from },
            to,
        });
        from = to;
        stage.finish();
    }
    if is_there && stages.is_empty() {
        let place = table.place.clone();
        table.wrong(&place, "`stages` has none: nothing would be sent");
    }
    stages
}

fn spike(table: &mut Table) -> Vec<Stage> {
    let rate = need_rate(table, "rate");
    let high = need_rate(table, "spike_rate");
    let before = need_duration(table, "before");
    let ramp = duration(table, "ramp").unwrap_or_default();
    let spike = need_duration(table, "spike");
    let after = need_duration(table, "after");
    let slope = |from, to| Stage {
        duration: ramp,
        from,
        to,
    };
    let stages = [
        Stage::constant(rate, before),
        slope(rate, high),
        Stage::constant(high, spike),
        slope(high, rate),
        Stage::constant(rate, after),
    ];
    stages
        .into_iter()
        .filter(|it| !it.duration.is_zero())
        .collect()
}

/// `None` without the key; `Some(None)` for the policy `none`.
#[allow(clippy::option_option, reason = "not said, said to be none, and said")]
pub(super) fn retry(table: &mut Table) -> Option<Option<Retry>> {
    let mut own = table.table("retry")?;
    let policy = own.need("policy");
    let attempts = whole(&mut own, "attempts", 3, 1..=ATTEMPTS_MAX);
    let delay = duration(&mut own, "delay").unwrap_or(Duration::from_millis(100));
    let delay_max = duration(&mut own, "delay_max").unwrap_or(Duration::from_secs(10));
    let jitter = number(&mut own, "jitter", 0.0, 1.0).unwrap_or(1.0);
    let budget = number(&mut own, "budget", 0.0, 10.0).map(Budget::new);
    let wait = match policy.text.as_str() {
        "none" => None,
        "immediate" => Some(Wait::None),
        "fixed" => Some(Wait::Fixed(delay)),
        "exponential" => Some(Wait::Exponential {
            first: delay,
            max: delay_max,
            jitter,
        }),
        other => {
            if !other.is_empty() {
                let what = "there are none, immediate, fixed, exponential";
                own.wrong(
                    &policy.place,
                    format!("there is no policy `{other}`; {what}"),
                );
            }
            None
        }
    };
    own.finish();
    Some(wait.map(|wait| Retry {
        wait,
        attempts: u32::try_from(attempts).unwrap_or(1),
        budget,
    }))
}

pub(super) fn outage(table: &mut Table, base: &str) -> Option<Outage> {
    let mut own = table.table("outage")?;
    let from = duration(&mut own, "from").unwrap_or_default();
    let until = need_duration(&mut own, "until");
    if until <= from {
        let place = own.place.clone();
        own.wrong(&place, "`until` has to be after `from`");
    }
    let uri = own.text("path").and_then(|path| {
        let uri = format!("{base}{}", path.text).parse();
        if uri.is_err() || !path.text.starts_with('/') {
            own.wrong(
                &path.place,
                "write a path such as `/simulate/error?status=503`",
            );
        }
        uri.ok()
    });
    own.finish();
    Some(Outage { from, until, uri })
}
