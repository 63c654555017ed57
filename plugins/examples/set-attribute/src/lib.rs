//! Sets an attribute of every span, log record and data point: the smallest plugin that does something useful.

use tidegate_plugin::prelude::*;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    key: String,
    value: String,
}

struct SetAttribute(Config);

impl Plugin for SetAttribute {
    type Config = Config;

    fn new(config: Config, _: Signal) -> Result<Self, Error> {
        Ok(Self(config))
    }

    fn process(&mut self, batch: &mut Batch<'_>) -> Result<(), Error> {
        let Config { key, value } = &self.0;
        batch.items(|item| item.attributes().set(key, value));
        Ok(())
    }
}

tidegate_plugin::export!(SetAttribute);

#[cfg(test)]
mod tests {
    use tidegate_plugin::testing::{Tester, logs, metrics, spans};

    use super::*;

    const CONFIG: &str = r#"{"key": "env", "value": "prod"}"#;

    #[test]
    fn every_item_gets_the_attribute() {
        let mut tester = Tester::<SetAttribute>::new(Signal::Traces, CONFIG).unwrap();
        let batch = spans()
            .resource(&[("service.name", "shop")])
            .item("get", &[])
            .item("put", &[("env", "test"), ("k", "v")]);
        let expected = "resource service.name=shop\n  span get env=prod\n  span put env=prod k=v\n";
        assert_eq!(tester.run(&batch), expected);
        let mut tester = Tester::<SetAttribute>::new(Signal::Logs, CONFIG).unwrap();
        assert_eq!(
            tester.run(&logs().item("hello", &[])),
            "  log hello env=prod\n"
        );
        let mut tester = Tester::<SetAttribute>::new(Signal::Metrics, CONFIG).unwrap();
        let expected = "  metric load\n    point env=prod\n";
        assert_eq!(tester.run(&metrics().item("load", &[])), expected);
    }

    #[test]
    fn a_configuration_without_a_key_is_refused() {
        let error = Tester::<SetAttribute>::new(Signal::Logs, "{}").unwrap_err();
        assert!(error.message().contains("missing field `key`"), "{error:?}");
    }
}
