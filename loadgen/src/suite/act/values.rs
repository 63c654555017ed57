//! Expressions over what has been measured so far.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use minijinja::Value;

use super::super::counter;
use super::super::events;
use super::super::ledger::Unknown;
use super::super::model::Text;
use super::super::results::Assertion;
use super::super::stage::Stage;

/// What compares, longest first.
const COMPARISONS: [&str; 6] = ["<=", ">=", "==", "!=", "<", ">"];

impl Stage<'_> {
    pub(super) async fn assert(&mut self, expressions: &[Text]) -> anyhow::Result<()> {
        for text in expressions {
            let context = self.results(text).await?;
            let templates = &self.run.templates;
            let evaluated = templates.evaluate(&text.text, &context);
            let left = left_side(&text.text);
            let value = left.and_then(|left| templates.evaluate(left, &context).ok());
            let unknown = evaluated
                .as_ref()
                .err()
                .is_some_and(|it| it.is::<Unknown>());
            let assertion = Assertion {
                unknown,
                expression: text.text.clone(),
                unit: left.map_or("", |left| self.result.unit_of(left)).to_owned(),
                value: value.and_then(|value| f64::try_from(value).ok()),
                passed: evaluated.as_ref().is_ok_and(Value::is_true),
                problem: evaluated.err().map(|error| error.to_string()),
            };
            if !assertion.passed {
                let why = assertion
                    .problem
                    .clone()
                    .or_else(|| assertion.value.map(|it| it.to_string()));
                let why = why.unwrap_or_default();
                let event = if unknown {
                    events::LIMIT_UNKNOWN
                } else {
                    events::LIMIT_CROSSED
                };
                self.event(event, &format!("{}: {why}", assertion.expression));
            }
            self.result.assertions.push(assertion);
        }
        Ok(())
    }

    pub(super) async fn number(&self, expression: &Text) -> anyhow::Result<f64> {
        let context = self.results(expression).await?;
        let value = self.run.templates.evaluate(&expression.text, &context);
        let value = value.with_context(|| expression.place.to_string())?;
        let text = value.to_string();
        f64::try_from(value).with_context(|| format!("`{}` is {text}, no number", expression.text))
    }

    /// Whether it holds; what has no value yet does not.
    pub(super) async fn is_true_now(&self, expression: &Text) -> anyhow::Result<bool> {
        let Ok(context) = self.results(expression).await else {
            return Ok(false);
        };
        let value = self.run.templates.evaluate(&expression.text, &context);
        Ok(value.is_ok_and(|value| value.is_true()))
    }

    /// What an expression asks for, asked for now.
    async fn results(&self, expression: &Text) -> anyhow::Result<Value> {
        let names = self.run.templates.names_of_expression(&expression.text);
        let names =
            names.map_err(|flaw| anyhow::anyhow!("{}: {}", expression.place, flaw.message))?;
        let asks = |root: &str| {
            names
                .iter()
                .any(|name| name.split('.').next() == Some(root))
        };
        let mut more: Vec<(String, Value)> = Vec::new();
        if asks("metric") {
            self.monitors.sample_processes();
            self.monitors.sample_endpoints().await;
            more.push(("metric".to_owned(), self.latest()));
        }
        if asks("counter") {
            more.push(("counter".to_owned(), self.counters(&names).await?));
        }
        if let Some(ledger) = &self.result.ledger {
            more.push(("ledger".to_owned(), ledger.value()));
        }
        let loads = self.result.loads.iter().map(|load| {
            let value = match &load.unknown {
                Some(why) => {
                    Unknown::new(format!("load.{}", load.label), None, why.clone()).value()
                }
                None => Value::from_pairs(load.figures.clone()),
            };
            (load.label.clone(), value)
        });
        more.push(("load".to_owned(), Value::from_pairs(loads)));
        more.push(("window".to_owned(), self.windows()));
        Ok(self.scope.with(more).value())
    }

    /// The last value of everything that is watched, by component and name.
    fn latest(&self) -> Value {
        let mut components: BTreeMap<String, BTreeMap<String, f64>> = BTreeMap::new();
        for ((component, metric), points) in self.monitors.series() {
            if let Some((_, value)) = points.last() {
                components
                    .entry(component)
                    .or_default()
                    .insert(metric, *value);
            }
        }
        let components = components.into_iter();
        Value::from_pairs(components.map(|(name, metrics)| (name, Value::from_pairs(metrics))))
    }

    /// The counters that `names` ask for, such as `counter.backend.delivered`: others may not be there to be read now.
    async fn counters(&self, names: &BTreeSet<String>) -> anyhow::Result<Value> {
        let mut components = BTreeMap::new();
        for index in 0..self.units.len() {
            let filler = self.filler_of(index);
            let Some(unit) = self.units.get(index) else {
                continue;
            };
            let mut values = BTreeMap::new();
            let counters = unit.component.monitoring.counters.iter();
            for counter in counters.filter(|it| asks_for(names, &unit.name, &it.name)) {
                for source in unit.counters(&counter.name, &filler)? {
                    let value = counter::read(&source, &self.run.fetch).await?;
                    values.insert(counter.name.clone(), value.unwrap_or(0.0));
                }
            }
            components.insert(unit.name.clone(), Value::from_pairs(values));
        }
        Ok(Value::from_pairs(components))
    }

    /// Windows that have ended: each with its length, and each component's metrics with `min`, `avg`, `max`, `delta`.
    fn windows(&self) -> Value {
        let windows = self.result.windows.iter().map(|window| {
            let mut components: BTreeMap<String, BTreeMap<String, Value>> = BTreeMap::new();
            for resource in &window.resources {
                let figures = Value::from_pairs([
                    ("min", resource.min),
                    ("avg", resource.avg),
                    ("max", resource.max),
                    ("delta", resource.delta),
                ]);
                let metrics = components.entry(resource.component.clone()).or_default();
                metrics.insert(resource.metric.clone(), figures);
            }
            let mut value: BTreeMap<String, Value> = components
                .into_iter()
                .map(|(name, metrics)| (name, Value::from_pairs(metrics)))
                .collect();
            value.insert("seconds".to_owned(), Value::from(window.to - window.from));
            (window.name.clone(), Value::from_pairs(value))
        });
        Value::from_pairs(windows)
    }
}

/// Whether one of the names is this counter, or leaves open which is meant.
fn asks_for(names: &BTreeSet<String>, component: &str, counter: &str) -> bool {
    names.iter().any(|name| {
        let mut parts = name.split('.');
        parts.next() == Some("counter")
            && parts.next().is_none_or(|it| it == component)
            && parts.next().is_none_or(|it| it == counter)
    })
}

/// What stands left of the first comparison.
fn left_side(expression: &str) -> Option<&str> {
    let found = COMPARISONS.iter().filter_map(|it| expression.find(it));
    let at = found.min()?;
    expression
        .get(..at)
        .map(str::trim)
        .filter(|left| !left.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn left_sides_are_found() {
        assert_eq!(left_side("ledger.lost == 0"), Some("ledger.lost"));
        assert_eq!(left_side("a + b <= 2 * c"), Some("a + b"));
        assert_eq!(left_side("complete"), None);
    }

    #[test]
    fn counters_are_read_only_if_they_are_asked_for() {
        let check = |name: &str, expected: bool| {
            let names = BTreeSet::from([name.to_owned(), "ledger.lost".to_owned()]);
            assert_eq!(asks_for(&names, "db", "rows"), expected, "{name}");
        };
        check("counter.db.rows", true);
        check("counter.db", true);
        check("counter", true);
        check("counter.db.parts", false);
        check("counter.agent.rows", false);
        check("metric.db.rows", false);
    }
}
