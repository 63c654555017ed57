//! Thresholds: `latency_p99{endpoint=order} < 200ms` and the like, read and held against figures.

use std::time::Duration;

use crate::cli::parse_duration;
use crate::record::figures::SHARE;
use crate::stats::LatencySummary;

/// Something that has to hold.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Threshold {
    /// As it was written.
    pub(crate) expression: String,
    pub(crate) metric: Metric,
    pub(crate) scenario: Option<String>,
    pub(crate) endpoint: Option<String>,
    pub(crate) relation: Relation,
    /// Milliseconds, a share from 0 to 1, or a plain number.
    pub(crate) limit: f64,
    /// The run ends when it is crossed, looked at from this time on.
    pub(crate) abort_after: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Relation {
    Less,
    LessOrEqual,
    More,
    MoreOrEqual,
    Equal,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Metric {
    /// From the time due in an open loop, else from sending.
    Latency(Figure),
    /// From sending.
    Service(Figure),
    ErrorRate,
    Dropped,
    Checks,
    Requests,
    Throughput,
    Goodput,
    Amplification,
    Recovery,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Figure {
    Average,
    Min,
    P50,
    P90,
    P95,
    P99,
    P999,
    Max,
}

/// What a limit is a number of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Millis,
    Share,
    Number,
}

const FIGURES: [(&str, Figure); 8] = [
    ("avg", Figure::Average),
    ("min", Figure::Min),
    ("p50", Figure::P50),
    ("p90", Figure::P90),
    ("p95", Figure::P95),
    ("p99", Figure::P99),
    ("p999", Figure::P999),
    ("max", Figure::Max),
];

const OTHERS: [(&str, Metric); 8] = [
    ("error_rate", Metric::ErrorRate),
    ("dropped", Metric::Dropped),
    ("checks", Metric::Checks),
    ("requests", Metric::Requests),
    ("throughput", Metric::Throughput),
    ("goodput", Metric::Goodput),
    ("amplification", Metric::Amplification),
    ("recovery", Metric::Recovery),
];

/// Longer operators first, so that `<=` is not read as `<`.
const RELATIONS: [(&str, Relation); 5] = [
    ("<=", Relation::LessOrEqual),
    (">=", Relation::MoreOrEqual),
    ("==", Relation::Equal),
    ("<", Relation::Less),
    (">", Relation::More),
];

impl Figure {
    pub(crate) fn of(self, summary: &LatencySummary) -> f64 {
        match self {
            Self::Average => summary.avg,
            Self::Min => summary.min,
            Self::P50 => summary.p50,
            Self::P90 => summary.p90,
            Self::P95 => summary.p95,
            Self::P99 => summary.p99,
            Self::P999 => summary.p999,
            Self::Max => summary.max,
        }
    }
}

impl Metric {
    pub(crate) fn unit(self) -> Unit {
        match self {
            Self::Latency(_) | Self::Service(_) | Self::Recovery => Unit::Millis,
            Self::ErrorRate | Self::Dropped | Self::Checks => Unit::Share,
            Self::Requests | Self::Throughput | Self::Goodput | Self::Amplification => Unit::Number,
        }
    }

    /// The unit of its values in a record.
    pub(crate) fn unit_of_values(self) -> &'static str {
        match self {
            Self::Throughput | Self::Goodput => "1/s",
            other => match other.unit() {
                Unit::Millis => "ms",
                Unit::Share => SHARE,
                Unit::Number => "",
            },
        }
    }

    /// What is known of whole scenarios only.
    pub(crate) fn needs_scenario(self) -> bool {
        matches!(self, Self::Dropped | Self::Recovery)
    }

    fn parse(name: &str) -> Option<Self> {
        if let Some((_, metric)) = OTHERS.iter().find(|(known, _)| *known == name) {
            return Some(*metric);
        }
        let (kind, figure) = name.split_once('_')?;
        let (_, figure) = FIGURES.iter().find(|(known, _)| *known == figure)?;
        match kind {
            "latency" => Some(Self::Latency(*figure)),
            "service" => Some(Self::Service(*figure)),
            _ => None,
        }
    }
}

fn names() -> Vec<String> {
    let figures = FIGURES.iter();
    let latencies = figures.flat_map(|(it, _)| [format!("latency_{it}"), format!("service_{it}")]);
    let others = OTHERS.iter().map(|(it, _)| (*it).to_owned());
    latencies.chain(others).collect()
}

impl Threshold {
    /// # Errors
    /// What is wrong with it, and what to write.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let joined = ["&&", "||", " and ", " or ", ","];
        let is_joined = |it: &&&str| {
            let behind = text.split_once(**it).map(|(_, behind)| behind);
            behind.is_some_and(|behind| RELATIONS.iter().any(|(sign, _)| behind.contains(sign)))
        };
        let outside = text.split_once('}').map_or(text, |(_, limit)| limit);
        if let Some(word) = joined
            .iter()
            .find(|it| outside.contains(**it) && is_joined(it))
        {
            return Err(match word.trim() {
                "||" | "or" => "`or` cannot be said: each threshold holds for itself".to_owned(),
                word => format!(
                    "`{word}`: write two thresholds, `limits = [\"…\", \"…\"]`; both must hold"
                ),
            });
        }
        let found = RELATIONS
            .iter()
            .filter_map(|(sign, relation)| Some((text.split_once(sign)?, *relation)))
            .next();
        let Some(((subject, limit), relation)) = found else {
            return Err("no `<`, `<=`, `>`, `>=` or `==`; write `latency_p99 < 200ms`".to_owned());
        };
        let (name, labels) = match subject.trim().split_once('{') {
            Some((name, labels)) => (name.trim(), labels.trim().strip_suffix('}')),
            None => (subject.trim(), Some("")),
        };
        let labels = labels.ok_or("a `{` without its `}`")?;
        let metric = Metric::parse(name).ok_or_else(|| {
            let names = names();
            let near = crate::document::nearest(name, names.iter().map(String::as_str));
            match near {
                Some(near) => format!("there is no metric `{name}`; did you mean `{near}`?"),
                None => format!(
                    "there is no metric `{name}`; there are {}",
                    names.join(", ")
                ),
            }
        })?;
        let mut threshold = Self {
            expression: text.trim().to_owned(),
            metric,
            scenario: None,
            endpoint: None,
            relation,
            limit: number(limit.trim(), metric.unit())?,
            abort_after: None,
        };
        for label in labels.split(',').filter(|label| !label.trim().is_empty()) {
            threshold.label(label)?;
        }
        Ok(threshold)
    }

    fn label(&mut self, text: &str) -> Result<(), String> {
        let (name, value) = text
            .split_once('=')
            .ok_or("a label is written `endpoint=name`")?;
        let value = Some(value.trim().trim_matches(['"', '\'']).to_owned());
        match name.trim() {
            "scenario" => self.scenario = value,
            "endpoint" if self.metric.needs_scenario() => {
                return Err(
                    "this is counted for whole scenarios; use the label `scenario`".to_owned(),
                );
            }
            "endpoint" => self.endpoint = value,
            other => {
                return Err(format!(
                    "there is no label `{other}`; there are scenario, endpoint"
                ));
            }
        }
        Ok(())
    }

    /// A figure that there is not does not hold.
    pub(crate) fn holds(&self, value: Option<f64>) -> bool {
        let Some(value) = value else {
            return false;
        };
        match self.relation {
            Relation::Less => value < self.limit,
            Relation::LessOrEqual => value <= self.limit,
            Relation::More => value > self.limit,
            Relation::MoreOrEqual => value >= self.limit,
            Relation::Equal => (value - self.limit).abs() <= f64::EPSILON * value.abs(),
        }
    }
}

fn number(text: &str, unit: Unit) -> Result<f64, String> {
    match unit {
        Unit::Millis => match parse_duration(text) {
            Ok(duration) => Ok(duration.as_secs_f64() * 1e3),
            Err(error) => Err(error.to_string()),
        },
        Unit::Share => {
            let (digits, whole) = match text.strip_suffix('%') {
                Some(digits) => (digits.trim(), 100.0),
                None => (text, 1.0),
            };
            let share = digits.parse::<f64>().map(|it| it / whole);
            share
                .ok()
                .filter(|it| (0.0..=1.0).contains(it))
                .ok_or_else(|| format!("`{text}` is no share; write `1%` or `0.01`"))
        }
        Unit::Number => text
            .parse::<f64>()
            .ok()
            .filter(|it| it.is_finite() && *it >= 0.0)
            .ok_or_else(|| format!("`{text}` is no number without a unit")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_read_and_held_against_values() {
        let check = |text: &str, value: f64, expected: bool| {
            let threshold = Threshold::parse(text).unwrap();
            assert_eq!(
                threshold.holds(Some(value)),
                expected,
                "{text} with {value}"
            );
            assert!(!threshold.holds(None), "{text}");
        };
        check("latency_p99 < 200ms", 199.0, true);
        check("latency_p99 < 200ms", 200.0, false);
        check("service_avg<=1.5s", 1500.0, true);
        check("error_rate < 1%", 0.009, true);
        check("dropped < 0.001", 0.001, false);
        check("checks > 99%", 0.995, true);
        check("requests >= 10", 9.0, false);
        check("amplification == 3", 3.0, true);
        check("recovery{scenario=storm} < 5s", 6000.0, false);
    }

    #[test]
    fn labels_choose_what_is_looked_at() {
        let threshold =
            Threshold::parse(r#"latency_max{scenario="a b", endpoint=c} > 1s"#).unwrap();
        assert_eq!(threshold.scenario.as_deref(), Some("a b"));
        assert_eq!(threshold.endpoint.as_deref(), Some("c"));
    }

    #[test]
    fn values_have_units() {
        let check = |text: &str, expected: &str| {
            let metric = Threshold::parse(text).unwrap().metric;
            assert_eq!(metric.unit_of_values(), expected, "{text}");
        };
        check("latency_p99{scenario=readers} < 1s", "ms");
        check("recovery < 5s", "ms");
        check("checks > 99%", SHARE);
        check("dropped < 1%", SHARE);
        check("goodput > 3", "1/s");
        check("requests > 3", "");
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_help() {
        for (text, help) in [
            ("latency_p99", "no `<`"),
            ("latency_p99 < 1s and errors < 1", "write two thresholds"),
            (
                "latency_p99{endpoint=a} < 1s && errors < 1",
                "write two thresholds",
            ),
            ("latency_p99 < 1s, errors < 1", "write two thresholds"),
            (
                "latency_p99 < 1s or errors < 1",
                "each threshold holds for itself",
            ),
            ("latncy_p99 < 1s", "did you mean `latency_p99`?"),
            ("latency_p99 < 200", "needs a unit"),
            ("error_rate < 200%", "write `1%`"),
            ("throughput > 1ms", "without a unit"),
            ("dropped{endpoint=a} < 1%", "whole scenarios"),
            ("checks{place=a} > 1%", "there are scenario, endpoint"),
            ("checks{endpoint=a > 1%", "without its `}`"),
        ] {
            let error = Threshold::parse(text).unwrap_err();
            assert!(error.contains(help), "{text}: {error}");
        }
    }
}
