//! Renames attributes, everywhere they occur, and metrics. What the HTTP, database and messaging conventions were called before they
//! became stable is known: `semantic_conventions` asks for that.
//!
//! ```toml
//! [processors.wasm.config]
//! semantic_conventions = true
//! attributes = { "user" = "enduser.id" }
//! metrics = { "queue.length" = "shop.queue.length" }
//! ```

use std::collections::BTreeMap;

use tidegate_plugin::prelude::*;

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Config {
    semantic_conventions: bool,
    attributes: BTreeMap<String, String>,
    metrics: BTreeMap<String, String>,
}

/// Old names and those that took their place, with the same values.
const CONVENTIONS: &[(&str, &str)] = &[
    ("db.name", "db.namespace"),
    ("db.operation", "db.operation.name"),
    ("db.sql.table", "db.collection.name"),
    ("db.statement", "db.query.text"),
    ("db.system", "db.system.name"),
    ("deployment.environment", "deployment.environment.name"),
    ("http.client_ip", "client.address"),
    ("http.method", "http.request.method"),
    ("http.scheme", "url.scheme"),
    ("http.status_code", "http.response.status_code"),
    ("http.url", "url.full"),
    ("http.user_agent", "user_agent.original"),
    ("messaging.destination", "messaging.destination.name"),
    ("messaging.message_id", "messaging.message.id"),
    ("net.host.name", "server.address"),
    ("net.host.port", "server.port"),
    ("net.protocol.name", "network.protocol.name"),
    ("net.protocol.version", "network.protocol.version"),
    ("net.sock.peer.addr", "network.peer.address"),
    ("net.sock.peer.port", "network.peer.port"),
];

struct Rename {
    attributes: BTreeMap<String, String>,
    metrics: BTreeMap<String, String>,
}

impl Plugin for Rename {
    type Config = Config;

    fn new(config: Config, _: Signal) -> Result<Self, Error> {
        let mut attributes = config.attributes;
        if config.semantic_conventions {
            for (old, new) in CONVENTIONS {
                let entry = attributes.entry((*old).to_owned());
                entry.or_insert_with(|| (*new).to_owned());
            }
        }
        if attributes.is_empty() && config.metrics.is_empty() {
            return Err(Error::new(
                "there is nothing to rename: set semantic_conventions, attributes or metrics",
            ));
        }
        Ok(Self {
            attributes,
            metrics: config.metrics,
        })
    }

    fn process(&mut self, batch: &mut Batch<'_>) -> Result<(), Error> {
        if !self.attributes.is_empty() {
            batch.attributes(|attributes| {
                let mut found = Vec::new();
                attributes.for_each(|key, _| found.extend(self.attributes.get_key_value(key)));
                for (old, new) in found {
                    // What a newer library wrote under the new name is not overwritten.
                    if !attributes.contains(new) {
                        attributes.rename(old, new);
                    }
                }
            });
        }
        if !self.metrics.is_empty() {
            batch.metrics(|metric| {
                if let Some(new) = self.metrics.get(metric.name()) {
                    metric.set_name(new);
                }
            });
        }
        Ok(())
    }
}

tidegate_plugin::export!(Rename);

#[cfg(test)]
mod tests {
    use tidegate_plugin::testing::{Tester, metrics, spans};

    use super::*;

    #[test]
    fn old_conventions_get_their_new_names() {
        let config = r#"{"semantic_conventions": true, "attributes": {"user": "enduser.id"}}"#;
        let mut tester = Tester::<Rename>::new(Signal::Traces, config).unwrap();
        let batch = spans()
            .resource(&[("deployment.environment", "prod")])
            .item("a", &[("http.method", "GET"), ("user", "ann"), ("k", "v")])
            .item(
                "b",
                &[("http.method", "old"), ("http.request.method", "new")],
            );
        let expected = "resource deployment.environment.name=prod\n\
                        \x20 span a http.request.method=GET enduser.id=ann k=v\n\
                        \x20 span b http.method=old http.request.method=new\n";
        assert_eq!(tester.run(&batch), expected);
    }

    #[test]
    fn metrics_get_other_names() {
        let config = r#"{"metrics": {"load": "system.load"}}"#;
        let mut tester = Tester::<Rename>::new(Signal::Metrics, config).unwrap();
        let batch = metrics().item("load", &[]).item("other", &[]);
        let expected = "  metric system.load\n    point\n  metric other\n    point\n";
        assert_eq!(tester.run(&batch), expected);
    }

    #[test]
    fn a_configuration_that_does_nothing_is_refused() {
        let error = Tester::<Rename>::new(Signal::Logs, "{}").unwrap_err();
        assert!(error.message().contains("nothing to rename"), "{error:?}");
    }
}
