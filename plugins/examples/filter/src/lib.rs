//! Drops what nobody wants to pay for. All conditions of a rule must hold; the first rule that fits decides.
//!
//! ```toml
//! [[processors.wasm.config.drop]]
//! reason = "health_check"                       # in the ledger and in metrics
//! attributes = { "url.path" = "/healthz" }      # of the item; a * at the end stands for anything
//! [[processors.wasm.config.drop]]
//! reason = "debug"
//! severity_below = 9                            # log records below INFO; those without a severity stay
//! resource = { "service.name" = "shop*" }       # of the resource
//! [[processors.wasm.config.drop]]
//! reason = "internal"
//! name = "runtime.*"                            # of the span, the metric or the event
//! ```

use std::collections::BTreeMap;

use tidegate_plugin::prelude::*;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    drop: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    reason: String,
    #[serde(default)]
    name: Option<Pattern>,
    #[serde(default)]
    attributes: BTreeMap<String, Pattern>,
    #[serde(default)]
    resource: BTreeMap<String, Pattern>,
    #[serde(default)]
    severity_below: Option<u32>,
}

/// A text, or the beginning of texts if it ends in `*`.
#[derive(Deserialize)]
#[serde(from = "String")]
enum Pattern {
    Whole(String),
    Beginning(String),
}

impl From<String> for Pattern {
    fn from(text: String) -> Self {
        match text.strip_suffix('*') {
            Some(beginning) => Self::Beginning(beginning.to_owned()),
            None => Self::Whole(text),
        }
    }
}

impl Pattern {
    fn fits(&self, text: &str) -> bool {
        match self {
            Self::Whole(whole) => text == whole,
            Self::Beginning(beginning) => text.starts_with(beginning),
        }
    }

    fn fits_value(&self, value: Option<Value<'_>>) -> bool {
        match value {
            Some(Value::Str(text)) => self.fits(text),
            Some(Value::Int(number)) => self.fits(&number.to_string()),
            Some(Value::Bool(truth)) => self.fits(if truth { "true" } else { "false" }),
            _ => false,
        }
    }
}

struct Filter(Vec<Rule>);

impl Plugin for Filter {
    type Config = Config;

    fn new(config: Config, signal: Signal) -> Result<Self, Error> {
        for (number, rule) in config.drop.iter().enumerate() {
            let empty = rule.name.is_none()
                && rule.attributes.is_empty()
                && rule.resource.is_empty()
                && rule.severity_below.is_none();
            if empty {
                return Err(Error::new(format!(
                    "drop[{number}]: has no condition, so it would drop everything"
                )));
            }
            if rule.severity_below.is_some() && signal != Signal::Logs {
                return Err(Error::new(format!(
                    "drop[{number}].severity_below: only log records have a severity"
                )));
            }
        }
        Ok(Self(config.drop))
    }

    fn process(&mut self, batch: &mut Batch<'_>) -> Result<(), Error> {
        /// Whether what all items have fits; `$name` and `$severity` are given by the signal.
        macro_rules! first {
            ($item:ident, $name:expr, $severity:expr) => {
                self.0.iter().find(|rule| {
                    rule.name.as_ref().is_none_or(|name| name.fits($name))
                        && rule.severity_below.is_none_or(|below| {
                            let severity: u32 = $severity;
                            severity > 0 && severity < below
                        })
                        && rule
                            .attributes
                            .iter()
                            .all(|(key, fits)| fits.fits_value($item.attributes().get(key)))
                        && rule
                            .resource
                            .iter()
                            .all(|(key, fits)| fits.fits_value($item.resource_attribute(key)))
                })
            };
        }
        batch.spans(|span| {
            if let Some(rule) = first!(span, span.name(), 0) {
                span.drop(&rule.reason);
            }
        });
        batch.log_records(|record| {
            if let Some(rule) = first!(record, record.event_name(), record.severity()) {
                record.drop(&rule.reason);
            }
        });
        batch.data_points(|point| {
            if let Some(rule) = first!(point, point.metric_name(), 0) {
                point.drop(&rule.reason);
            }
        });
        Ok(())
    }
}

tidegate_plugin::export!(Filter);

#[cfg(test)]
mod tests {
    use tidegate_plugin::testing::{Tester, logs, metrics, spans};
    use twins::filter::Rule as Twin;
    use twins::proptest::prelude::*;
    use twins::{Message as _, Traces, batches};

    use super::*;

    #[test]
    fn spans_go_by_name_attribute_and_resource() {
        let config = r#"{"drop": [
            {"reason": "health_check", "attributes": {"url.path": "/health*"}},
            {"reason": "noise", "name": "poll", "resource": {"service.name": "worker"}}]}"#;
        let mut tester = Tester::<Filter>::new(Signal::Traces, config).unwrap();
        let batch = spans()
            .resource(&[("service.name", "shop")])
            .item("get", &[("url.path", "/healthz")])
            .item("poll", &[])
            .resource(&[("service.name", "worker")])
            .item("poll", &[]);
        let expected = "resource service.name=shop\n  span poll\n";
        assert_eq!(tester.run(&batch), expected);
        assert_eq!(tester.losses(), [("health_check", 1), ("noise", 1)]);
    }

    #[test]
    fn log_records_go_by_severity_and_those_without_stay() {
        let config = r#"{"drop": [{"reason": "debug", "severity_below": 9}]}"#;
        let mut tester = Tester::<Filter>::new(Signal::Logs, config).unwrap();
        let batch = logs()
            .item("no severity", &[])
            .item("details", &[])
            .severity(5, "DEBUG")
            .item("news", &[])
            .severity(9, "INFO");
        assert_eq!(tester.run(&batch), "  log no severity\n  log INFO news\n");
        assert_eq!(tester.losses(), [("debug", 1)]);
    }

    #[test]
    fn data_points_go_by_the_name_of_their_metric() {
        let config = r#"{"drop": [{"reason": "internal", "name": "runtime.*"}]}"#;
        let mut tester = Tester::<Filter>::new(Signal::Metrics, config).unwrap();
        let batch = metrics().item("runtime.heap", &[]).item("load", &[]);
        assert_eq!(tester.run(&batch), "  metric load\n    point\n");
        assert_eq!(tester.losses(), [("internal", 1)]);
    }

    #[test]
    fn rules_that_cannot_be_meant_are_refused() {
        let check = |config: &str, expected: &str| {
            let error = Tester::<Filter>::new(Signal::Traces, config).unwrap_err();
            assert!(error.message().contains(expected), "{error:?}");
        };
        check(
            r#"{"drop": [{"reason": "all"}]}"#,
            "drop[0]: has no condition",
        );
        check(
            r#"{"drop": [{"reason": "d", "severity_below": 5}]}"#,
            "only log records",
        );
        check("{}", "missing field `drop`");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn it_does_what_its_twin_does(mut traces in batches::traces()) {
            let config = r#"{"drop": [
                {"reason": "name", "name": "x", "attributes": {"c": "a*"}},
                {"reason": "resource", "name": "yy", "resource": {"user": ""}},
                {"reason": "user", "attributes": {"user": "*"}}]}"#;
            let pair = |key: &str, text: &str| Some((key.to_owned(), text.to_owned()));
            let rules = [
                Twin { name: Some("x".to_owned()), attribute: pair("c", "a"), resource: None },
                Twin { name: Some("yy".to_owned()), attribute: None, resource: pair("user", "") },
                Twin { name: None, attribute: pair("user", ""), resource: None },
            ];
            let mut tester = Tester::<Filter>::new(Signal::Traces, config).unwrap();
            let output = tester.run_bytes(&traces.encode_to_vec());
            twins::filter::traces(&mut traces, &rules);
            prop_assert_eq!(Traces::decode(&*output).unwrap(), traces);
        }
    }
}
