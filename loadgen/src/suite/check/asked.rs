//! What expressions ask for: loads, windows, metrics and counters must be there when they are asked for.

use super::super::model::{Monitoring, Text};
use super::super::variables::RESULTS;
use super::script::{KnownLoad, Script};
use super::{named, unknown};
use crate::prometheus;

/// What is looked at of a process; in windows the first is `cpu`.
const OF_PROCESS: [&str; 6] = [
    "cpu_seconds",
    "rss",
    "threads",
    "files",
    "disk_read",
    "disk_written",
];
/// Figures of a metric within a window.
const IN_WINDOW: [&str; 4] = ["min", "avg", "max", "delta"];

impl Script<'_, '_> {
    pub(super) fn expression(&mut self, text: &Text) {
        let is_guarded = is_guarded(&text.text);
        for path in paths(&text.text) {
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            if let Err(problem) = self.asked(&path, is_guarded) {
                self.wrong(text, problem);
            }
        }
    }

    /// `is_guarded`: what is not there now is not asked for, or need not be there.
    fn asked(&self, path: &[&str], is_guarded: bool) -> Result<(), String> {
        match path {
            ["ledger", ..] if !self.known.has_ledger && !is_guarded => {
                Err("the ledger is made by a step `drain`, and none comes before".to_owned())
            }
            ["load", label, rest @ ..] => self.load_asked(label, rest, is_guarded),
            ["window", name, rest @ ..] => self.window_asked(name, rest, is_guarded),
            ["metric", component, rest @ ..] => {
                self.metric_asked(component, rest, is_guarded, &OF_PROCESS)
            }
            ["counter", component, rest @ ..] => self.counter_asked(component, rest, is_guarded),
            _ => Ok(()),
        }
    }

    fn load_asked(&self, label: &str, rest: &[&str], is_guarded: bool) -> Result<(), String> {
        let load = match (self.known.loads.get(label), self.possible.loads.get(label)) {
            (Some(load), _) if load.is_under_way && !is_guarded => {
                return Err(format!(
                    "load `{label}` is under way at this step: `wait` for it or `drain` before"
                ));
            }
            (Some(load), _) => load,
            (None, Some(load)) if is_guarded => load,
            (None, _) => return Err(self.unknown_load(label)),
        };
        match rest {
            [] if is_guarded => Ok(()),
            [] => Err(format!(
                "which figure of load `{label}`? There are {}",
                names(&load.figures)
            )),
            [figure] => is_figure(load, label, figure),
            [figure, more, ..] => Err(is_a_number(&format!("load.{label}.{figure}"), more)),
        }
    }

    fn window_asked(&self, name: &str, rest: &[&str], is_guarded: bool) -> Result<(), String> {
        let is_possible = self.possible.windows.contains(name);
        let has_ended = self.known.windows.contains(name);
        if !(has_ended || is_possible && is_guarded) {
            return Err(self.unknown_window(name, is_possible));
        }
        match rest {
            [] if is_guarded => Ok(()),
            ["seconds"] => Ok(()),
            ["seconds", more, ..] => Err(is_a_number(&format!("window.{name}.seconds"), more)),
            [component, metric, figure] => {
                self.metric_asked(component, &[metric], is_guarded, &in_windows())?;
                match IN_WINDOW.contains(figure) {
                    true => Ok(()),
                    false => Err(unknown("figure of a window", figure, IN_WINDOW)),
                }
            }
            _ => Err(format!(
                "write `window.{name}.seconds`, or `window.{name}.COMPONENT.METRIC.` and one of {}",
                IN_WINDOW.join(", ")
            )),
        }
    }

    fn unknown_window(&self, name: &str, is_possible: bool) -> String {
        if self.known.open_windows.contains_key(name) {
            return format!("window `{name}` has not ended at this step");
        }
        if self.event_windows.contains(name) {
            return format!(
                "window `{name}` is between events, and known when the test has ended only; give a step a `window`, or use `window_start` and `window_end`"
            );
        }
        match is_possible {
            true => format!(
                "no step before this one ends window `{name}`{}",
                self.in_this_variant()
            ),
            false => unknown(
                "window",
                name,
                self.possible.windows.iter().map(String::as_str),
            ),
        }
    }

    /// Whether a component of this name is there to be asked.
    fn component_asked(&self, name: &str, is_guarded: bool) -> Result<(), String> {
        let suite = self.checker.suite;
        if self.component(name).is_some() {
            return Ok(());
        }
        if !suite.components.iter().any(|it| it.name.text == name) {
            let known = suite.components.iter().map(|it| it.name.text.as_str());
            return Err(unknown("component", name, known));
        }
        match is_guarded {
            true => Ok(()),
            false => Err(format!(
                "component `{name}` takes no part{}",
                self.in_this_variant()
            )),
        }
    }

    fn metric_asked(
        &self,
        component: &str,
        rest: &[&str],
        is_guarded: bool,
        of_process: &[&'static str],
    ) -> Result<(), String> {
        self.component_asked(component, is_guarded)?;
        let watched = self.known.watched.get(component);
        if watched.is_none() && !is_guarded {
            return Err(format!("`{component}` is not started before this step"));
        }
        let of = |component: &str| self.possible.watched.get(component);
        let Some(watched) = watched.or_else(|| of(component)) else {
            return Ok(());
        };
        let name = match rest {
            [] if is_guarded => return Ok(()),
            [] => return Err(format!("write `metric.{component}.NAME`")),
            [name] => name,
            [name, more, ..] => {
                return Err(is_a_number(&format!("metric.{component}.{name}"), more));
            }
        };
        let mut known: Vec<&str> = Vec::new();
        for it in watched {
            if it.has_process {
                known.extend(of_process);
            }
            let sampled = it.monitoring.counters.iter().filter(|it| it.sampled);
            known.extend(sampled.map(|it| it.name.as_str()));
        }
        let scrapes = |it: &Monitoring| scrapes(it, name);
        if known.contains(name) || watched.iter().any(|it| scrapes(&it.monitoring)) {
            return Ok(());
        }
        known.dedup();
        let has_scrape = watched.iter().any(|it| it.monitoring.prometheus.is_some());
        Err(unknown_metric(component, name, known, has_scrape))
    }

    fn counter_asked(
        &self,
        component: &str,
        rest: &[&str],
        is_guarded: bool,
    ) -> Result<(), String> {
        self.component_asked(component, is_guarded)?;
        let Some(found) = self.component(component) else {
            return Ok(());
        };
        let counters = found.monitoring.counters.iter().map(|it| it.name.as_str());
        match rest {
            [] if is_guarded => Ok(()),
            [] => Err(format!("write `counter.{component}.NAME`")),
            [name] if counters.clone().any(|it| it == *name) => Ok(()),
            [name] => Err(unknown(
                &format!("counter of `{component}`"),
                name,
                counters,
            )),
            [name, more, ..] => Err(is_a_number(&format!("counter.{component}.{name}"), more)),
        }
    }
}

fn in_windows() -> [&'static str; 6] {
    OF_PROCESS.map(|it| if it == "cpu_seconds" { "cpu" } else { it })
}

fn is_figure(load: &KnownLoad, label: &str, figure: &str) -> Result<(), String> {
    if load.may_have_others || load.figures.contains(figure) {
        return Ok(());
    }
    if load.figures.is_empty() {
        return Err(format!(
            "load `{label}` is a `command`, and no figures of it are known"
        ));
    }
    let of_open_loops = ["service_", "lateness_", "dropped", "recovery"];
    if of_open_loops.iter().any(|it| figure.starts_with(it)) {
        return Err(format!(
            "load `{label}` has no `{figure}`: only an open loop has it (`--rate`)"
        ));
    }
    let known = load.figures.iter().map(String::as_str);
    Err(unknown(&format!("figure of load `{label}`"), figure, known))
}

/// Whether the metrics that are scraped may have this one.
fn scrapes(monitoring: &Monitoring, name: &str) -> bool {
    let any = |patterns: &[String]| patterns.iter().any(|it| prometheus::matches(it, name));
    monitoring.prometheus.as_ref().is_some_and(|it| {
        let wants = (it.include.is_empty() || any(&it.include)) && !any(&it.exclude);
        wants && !name.ends_with("_total") && !name.ends_with("_bucket")
    })
}

fn unknown_metric(component: &str, name: &str, known: Vec<&str>, has_scrape: bool) -> String {
    if let Some(plain) = name.strip_suffix("_total").filter(|_| has_scrape) {
        return format!("metrics are known by their names without `_total`: `{plain}`");
    }
    let told = unknown(&format!("metric of `{component}`"), name, known);
    match has_scrape {
        true => format!("{told}, and what `include` and `exclude` let through"),
        false => format!("{told} ({component} has no `monitoring.prometheus`)"),
    }
}

fn is_a_number(path: &str, more: &str) -> String {
    format!("`{path}` is a number, and has no `{more}`")
}

fn names<'t>(names: impl IntoIterator<Item = &'t String>) -> String {
    let names: Vec<_> = names.into_iter().map(String::as_str).collect();
    named(&names)
}

/// Whether part of the expression may not be looked at, or may be about what is not there.
fn is_guarded(expression: &str) -> bool {
    let words: Vec<&str> = expression
        .split(|it: char| !it.is_alphanumeric() && it != '_')
        .collect();
    let has = |word: &str| words.contains(&word);
    has("defined") || has("undefined") || has("default") || has("if") || has("or")
}

/// The names of results in an expression, such as `load.main.requests` or `load["warm-up"].requests`, part by part.
fn paths(expression: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut rest = expression;
    let mut after_dot = false;
    while let Some(first) = rest.chars().next() {
        if let Some((_, behind)) = quoted(rest) {
            rest = behind;
        } else if first.is_alphanumeric() || first == '_' {
            let (name, behind) = word(rest);
            rest = behind;
            if after_dot || !RESULTS.contains(&name) {
                after_dot = false;
                continue;
            }
            let mut path = vec![name.to_owned()];
            while let Some((part, behind)) = part(rest) {
                path.push(part);
                rest = behind;
            }
            found.push(path);
        } else {
            after_dot = first == '.' || after_dot && first.is_whitespace();
            rest = rest.get(first.len_utf8()..).unwrap_or("");
        }
    }
    found
}

/// A name at the beginning, and what comes after.
fn word(text: &str) -> (&str, &str) {
    let end = text.find(|it: char| !it.is_alphanumeric() && it != '_');
    text.split_at(end.unwrap_or(text.len()))
}

/// A text in quotes at the beginning, and what comes after.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next().filter(|it| "'\"".contains(*it))?;
    text.get(1..)?.split_once(quote)
}

/// `.name` or `["name"]` at the beginning.
fn part(text: &str) -> Option<(String, &str)> {
    let text = text.trim_start();
    if let Some(behind) = text.strip_prefix('.') {
        let (name, behind) = word(behind.trim_start());
        return (!name.is_empty()).then(|| (name.to_owned(), behind));
    }
    let (name, behind) = quoted(text.strip_prefix('[')?.trim_start())?;
    let behind = behind.trim_start().strip_prefix(']')?;
    Some((name.to_owned(), behind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_results_are_found_however_they_are_written() {
        let check = |expression: &str, expected: &[&str]| {
            let found: Vec<_> = paths(expression).iter().map(|it| it.join("|")).collect();
            assert_eq!(found, expected, "{expression}");
        };
        check("ledger.lost == 0 and rate > 5 * thousand", &["ledger|lost"]);
        check(
            "load.main.latency_p99 < 1.5e3 or load[ \"warm-up\" ].requests>2",
            &["load|main|latency_p99", "load|warm-up|requests"],
        );
        check("'load.a.b' == x and workload.main == 1", &[]);
        check("batch.load.x > window.w.seconds", &["window|w|seconds"]);
        check(
            "(metric.a.b)/(counter.a['b c'])",
            &["metric|a|b", "counter|a|b c"],
        );
        check("load[label].x", &["load"]);
    }

    #[test]
    fn what_need_not_be_there_is_guarded() {
        assert!(is_guarded("load.a is defined and load.a.x > 0"));
        assert!(is_guarded("peer != 'x' or load.a.x > 0"));
        assert!(!is_guarded("load.order.x > 0 and load.a.x > 0"));
    }
}
