//! From a file to a plan, with every mistake and not just the first.

mod load;
mod rows;
mod step;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;

use super::threshold::Threshold;
use super::{Plan, Scenario};
use crate::cli::parse_duration;
use crate::document::{Document, Item, Table, Text};
use crate::http::journey::{Course, Journey, Step};
use crate::http::options::{Protocol, WORKERS_MAX, is_http};
use crate::http::template::{Pool, is_name};

const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
/// Endpoints own two histograms each.
const STEPS_MAX: usize = 200;

/// A scenario file.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// Files that it names are looked for beside it.
    pub(crate) path: PathBuf,
    pub(crate) text: String,
    /// `KEY.PATH=VALUE`, in place of what it says.
    pub(crate) settings: Vec<String>,
}

impl Source {
    fn document(&self) -> Rc<Document> {
        let name = self.path.display().to_string();
        Document::with_settings(&name, self.text.clone(), &self.settings)
    }

    /// What is run, where that is not what is written.
    pub(crate) fn rendered(&self) -> Option<String> {
        (!self.settings.is_empty()).then(|| self.document().rendered())
    }
}

/// Reads a scenario file. `target` takes the place of the file's.
///
/// # Errors
/// All mistakes, one a line.
pub(crate) fn read(source: &Source, target: Option<Uri>) -> Result<Plan, String> {
    let document = source.document();
    let plan = plan(&source.path, document.root(), target);
    let mistakes = document.mistakes();
    if mistakes.is_empty() {
        return Ok(plan);
    }
    let lines: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
    let count = match lines.len() {
        1 => "1 mistake".to_owned(),
        count => format!("{count} mistakes"),
    };
    Err(format!("{count}, nothing was sent\n{}", lines.join("\n")))
}

/// What scenarios and steps need to know of the whole file.
struct Context {
    base: String,
    names: Vec<String>,
    headers: BTreeMap<String, Text>,
}

fn plan(path: &Path, mut root: Table, given: Option<Uri>) -> Plan {
    let name = root.text("name").map(|text| text.text);
    let stem = path.file_stem().map(|it| it.to_string_lossy().into_owned());
    let written = root.text("target");
    let target = target(&root, written, given);
    let seed = whole(&mut root, "seed", 0, 0..=i64::MAX).unsigned_abs();
    let mut defaults = root.table("defaults");
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    let data = root
        .table("data")
        .map(|it| rows::read(it, folder))
        .unwrap_or_default();
    let mut of_defaults = |key| defaults.as_mut().and_then(|it| duration(it, key));
    let timeout = of_defaults("timeout");
    if let Some(defaults) = &defaults
        && timeout.is_some_and(|timeout| timeout.is_zero())
    {
        let place = defaults.place.clone();
        defaults.wrong(
            &place,
            "`timeout` is more than 0: no request could be answered",
        );
    }
    let timeout = timeout.unwrap_or(TIMEOUT_DEFAULT);
    let (mut protocol, mut connections, mut trace_context) = (Protocol::Http1, 0, true);
    let mut headers = BTreeMap::new();
    if let Some(defaults) = &mut defaults {
        protocol = protocol_of(defaults);
        connections = whole(defaults, "connections", 0, 0..=WORKERS_MAX as i64) as usize;
        trace_context = defaults.flag("trace_context", true);
        headers = step::headers(defaults.table("headers"));
        if connections > 0 && protocol == Protocol::Http1 {
            let place = defaults.place.clone();
            defaults.wrong(
                &place,
                "`connections` shares connections between streams; add `http2 = true`",
            );
        }
    }
    if let Some(defaults) = defaults {
        defaults.finish();
    }
    let context = Context {
        base: target.to_string().trim_end_matches('/').to_owned(),
        names: data.keys().cloned().collect(),
        headers,
    };
    let scenarios = scenarios(&mut root, &context);
    let thresholds = root
        .table("thresholds")
        .map(|it| thresholds(it, &scenarios));
    let thresholds = thresholds.unwrap_or_default();
    check_search(&root, &scenarios, &thresholds);
    root.finish();
    Plan {
        name: name.or(stem).unwrap_or_default(),
        target,
        protocol,
        connections,
        timeout,
        trace_context,
        seed,
        pool: Arc::new(Pool::new(data)),
        scenarios,
        thresholds,
    }
}

fn scenarios(root: &mut Table, context: &Context) -> Vec<Scenario> {
    let tables = root.tables("scenario");
    if tables.is_empty() {
        root.missing("scenario");
    }
    let mut scenarios: Vec<Scenario> = Vec::new();
    for (number, mut table) in tables.into_iter().enumerate() {
        let scenario = scenario(&mut table, number, context);
        if scenarios.iter().any(|it| it.name == scenario.name) {
            let place = table.place.clone();
            table.wrong(
                &place,
                format!("there are two scenarios `{}`; name them", scenario.name),
            );
        }
        table.finish();
        scenarios.push(scenario);
    }
    scenarios
}

fn protocol_of(table: &mut Table) -> Protocol {
    match table.flag("http2", false) {
        true => Protocol::Http2,
        false => Protocol::Http1,
    }
}

/// A breakpoint decides by thresholds, and cannot while something else loads the service.
fn check_search(root: &Table, scenarios: &[Scenario], thresholds: &[Threshold]) {
    if !scenarios.iter().any(|it| it.search.is_some()) {
        return;
    }
    if scenarios.len() > 1 {
        root.wrong(
            &root.place,
            "a `breakpoint` has a file of its own: remove the other scenarios",
        );
    }
    if thresholds.is_empty() {
        root.wrong(
            &root.place,
            "a `breakpoint` needs thresholds to keep; add `[thresholds]` with `limits`",
        );
    }
}

fn target(root: &Table, written: Option<Text>, given: Option<Uri>) -> Uri {
    let nowhere = Uri::from_static("http://127.0.0.1/");
    let parsed = written.map(|text| match text.text.parse::<Uri>() {
        Ok(uri) if is_http(&uri) && uri.authority().is_some() => uri,
        _ => {
            root.wrong(
                &text.place,
                "write a URL such as `http://127.0.0.1:8080` or `https://localhost`",
            );
            nowhere.clone()
        }
    });
    if let Some(uri) = &given
        && !(is_http(uri) && uri.authority().is_some())
    {
        root.wrong(
            &root.place,
            format!("`{uri}` on the command line is no `http://` or `https://` URL"),
        );
    }
    match given.or(parsed) {
        Some(uri) => uri,
        None => {
            root.missing("target");
            nowhere
        }
    }
}

fn scenario(table: &mut Table, number: usize, context: &Context) -> Scenario {
    let name = table.text("name");
    if let Some(name) = name.as_ref().filter(|it| !is_name(&it.text)) {
        table.wrong(&name.place, "a name has letters, digits, `_` and `-`");
    }
    let (executor, load, search) = load::read(table);
    let start_after = duration(table, "start").unwrap_or_default();
    let retry = load::retry(table);
    if executor == "retry_storm" && retry.is_none() {
        let place = table.place.clone();
        table.wrong(&place, "a `retry_storm` needs `retry`, such as `retry = { policy = \"immediate\", attempts = 4 }`");
    }
    let outage = load::outage(table, &context.base);
    let (steps, course) = steps(table, context);
    Scenario {
        name: name.map_or_else(|| format!("scenario-{}", number + 1), |text| text.text),
        executor,
        start_after,
        load,
        search,
        journey: Arc::new(Journey {
            steps,
            course,
            retry: retry.flatten(),
            outage,
        }),
    }
}

fn steps(table: &mut Table, context: &Context) -> (Vec<Step>, Course) {
    let (key, course) = match (table.has("request"), table.has("step")) {
        (true, true) => {
            let place = table.place.clone();
            table.wrong(&place, "either `request` (by weight) or `step` (in order)");
            // Looked at all the same, for what is wrong in them.
            read_steps(table.tables("step"), Course::InOrder, context);
            ("request", Course::Weighted)
        }
        (_, false) => ("request", Course::Weighted),
        (false, true) => ("step", Course::InOrder),
    };
    let tables = table.tables(key);
    if tables.is_empty() {
        let place = table.place.clone();
        table.wrong(
            &place,
            "nothing to send; add `[[scenario.request]]` or `[[scenario.step]]`",
        );
    }
    if tables.len() > STEPS_MAX {
        let place = table.place.clone();
        table.wrong(&place, format!("a scenario may have {STEPS_MAX} requests"));
    }
    (read_steps(tables, course, context), course)
}

fn read_steps(tables: Vec<Table>, course: Course, context: &Context) -> Vec<Step> {
    let mut extracted = Vec::new();
    let mut steps: Vec<Step> = Vec::new();
    for mut table in tables {
        let step = step::read(&mut table, course, context, &extracted);
        if steps.iter().any(|it| it.label == step.label) {
            let place = table.place.clone();
            table.wrong(
                &place,
                format!("there are two `{}`; give each a `name`", step.label),
            );
        }
        extracted.extend(step.extracts.iter().map(|it| it.name.clone()));
        steps.push(step);
        table.finish();
    }
    steps
}

fn thresholds(mut table: Table, scenarios: &[Scenario]) -> Vec<Threshold> {
    let abort_all = table.flag("abort_on_fail", false);
    let delay_all = duration(&mut table, "delay_abort");
    let limits = table.take("limits").map(Item::items).unwrap_or_default();
    let mut thresholds = Vec::new();
    for item in limits {
        let (text, abort, delay) = if item.is_table() {
            let Some(mut own) = item.table() else {
                continue;
            };
            let text = own.need("limit");
            let abort = own.flag("abort_on_fail", abort_all);
            let delay = duration(&mut own, "delay_abort").or(delay_all);
            own.finish();
            (text, abort, delay)
        } else {
            let Some(text) = item.text() else {
                continue;
            };
            (text, abort_all, delay_all)
        };
        match Threshold::parse(&text.text) {
            Ok(threshold) => {
                known_labels(&table, &threshold, &text, scenarios);
                thresholds.push(Threshold {
                    abort_after: abort.then(|| delay.unwrap_or_default()),
                    ..threshold
                });
            }
            Err(problem) => table.wrong(&text.place, problem),
        }
    }
    table.finish();
    thresholds
}

fn known_labels(table: &Table, threshold: &Threshold, text: &Text, scenarios: &[Scenario]) {
    let of = |it: &&Scenario| {
        threshold
            .scenario
            .as_ref()
            .is_none_or(|name| *name == it.name)
    };
    let chosen: Vec<_> = scenarios.iter().filter(of).collect();
    if let (Some(name), true) = (&threshold.scenario, chosen.is_empty()) {
        let names: Vec<_> = scenarios.iter().map(|it| it.name.as_str()).collect();
        let names = names.join(", ");
        table.wrong(
            &text.place,
            format!("there is no scenario `{name}`; there are {names}"),
        );
        return;
    }
    let Some(endpoint) = &threshold.endpoint else {
        return;
    };
    let steps = chosen.iter().flat_map(|it| &it.journey.steps);
    let labels: Vec<_> = steps.map(|step| step.label.as_str()).collect();
    if !labels.contains(&endpoint.as_str()) {
        let labels = labels.join(", ");
        table.wrong(
            &text.place,
            format!("there is no endpoint `{endpoint}`; there are {labels}"),
        );
    }
}

// Values of keys, for all parts.

fn duration(table: &mut Table, key: &'static str) -> Option<Duration> {
    let text = table.text(key)?;
    match parse_duration(&text.text) {
        Ok(duration) => Some(duration),
        Err(problem) => {
            table.wrong(&text.place, format!("{problem:#}"));
            None
        }
    }
}

fn whole(
    table: &mut Table,
    key: &'static str,
    default: i64,
    range: std::ops::RangeInclusive<i64>,
) -> i64 {
    let Some(text) = table.text(key) else {
        return default;
    };
    match text.text.parse::<i64>() {
        Ok(number) if range.contains(&number) => number,
        _ => {
            let (from, to) = range.into_inner();
            table.wrong(
                &text.place,
                format!("write a whole number from {from} to {to}"),
            );
            default
        }
    }
}

fn number(table: &mut Table, key: &'static str, from: f64, to: f64) -> Option<f64> {
    let text = table.text(key)?;
    match text.text.parse::<f64>() {
        Ok(number) if (from..=to).contains(&number) => Some(number),
        _ => {
            table.wrong(&text.place, format!("write a number from {from} to {to}"));
            None
        }
    }
}
