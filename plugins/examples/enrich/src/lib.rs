//! Adds attributes to resources or items from a table: by the value of one attribute, such as a host's name, those that the table has
//! for it. The table is a file with comma-separated values; its first line names the columns, and its first column is what is looked up.
//! Values have no commas or quotes in them.
//!
//! ```toml
//! [processors.wasm]
//! files = { table = "/etc/tidegate/hosts.csv" }   # host.name,host.rack,team
//! [processors.wasm.config]
//! by = "host.name"
//! of = "resource"                                 # or "item"
//! ```

use std::collections::BTreeMap;

use tidegate_plugin::{Attributes, host, prelude::*};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    by: String,
    #[serde(default)]
    of: Of,
}

#[derive(Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum Of {
    #[default]
    Resource,
    Item,
}

/// The file of the table, as the configuration names it.
const FILE: &str = "table";

struct Enrich {
    config: Config,
    columns: Vec<String>,
    rows: BTreeMap<String, Vec<String>>,
    unknown: Counter,
}

impl Plugin for Enrich {
    type Config = Config;

    fn new(config: Config, _: Signal) -> Result<Self, Error> {
        let Some(file) = host::file(FILE) else {
            return Err(Error::new(format!(
                "there is no table: set files = {{ {FILE} = \"PATH\" }} beside config"
            )));
        };
        let text = String::from_utf8(file)?;
        let mut lines = text.lines().filter(|line| !line.trim().is_empty());
        let columns: Vec<String> = lines.next().into_iter().flat_map(cells).skip(1).collect();
        if columns.is_empty() {
            return Err(Error::new("the table has no column besides the first"));
        }
        let mut rows = BTreeMap::new();
        for line in lines {
            let mut row = cells(line);
            let key = row.next().unwrap_or_default();
            let values: Vec<String> = row.collect();
            if values.len() != columns.len() {
                return Err(Error::new(format!(
                    "the table's row `{key}` has {} values for {} columns",
                    values.len(),
                    columns.len()
                )));
            }
            rows.insert(key, values);
        }
        info!("the table has {} rows", rows.len());
        Ok(Self {
            config,
            columns,
            rows,
            unknown: Counter::new("unknown"),
        })
    }

    fn process(&mut self, batch: &mut Batch<'_>) -> Result<(), Error> {
        match self.config.of {
            Of::Resource => batch.resources(|resource| self.add(&mut resource.attributes())),
            Of::Item => batch.items(|item| self.add(&mut item.attributes())),
        }
        Ok(())
    }
}

impl Enrich {
    fn add(&self, attributes: &mut Attributes<'_, '_>) {
        let Some(key) = attributes.get_str(&self.config.by) else {
            return;
        };
        let Some(row) = self.rows.get(key) else {
            self.unknown.add(1);
            return;
        };
        let filled = self
            .columns
            .iter()
            .zip(row)
            .filter(|(_, value)| !value.is_empty());
        for (column, value) in filled {
            attributes.set_default(column, value);
        }
    }
}

fn cells(line: &str) -> impl Iterator<Item = String> {
    line.split(',').map(|cell| cell.trim().to_owned())
}

tidegate_plugin::export!(Enrich);

#[cfg(test)]
mod tests {
    use tidegate_plugin::testing::{Tester, give_file, metric, spans};

    use super::*;

    #[test]
    fn resources_get_what_the_table_has_for_them() {
        give_file(FILE, "host.name,rack,team\nweb-1, r7 ,shop\nweb-2,r8,\n");
        let mut tester = Tester::<Enrich>::new(Signal::Traces, r#"{"by": "host.name"}"#).unwrap();
        let batch = spans()
            .resource(&[("host.name", "web-1"), ("team", "mine")])
            .resource(&[("host.name", "web-2")])
            .resource(&[("host.name", "db-1")]);
        let expected = "resource host.name=web-1 team=mine rack=r7\n\
                        resource host.name=web-2 rack=r8\n\
                        resource host.name=db-1\n";
        assert_eq!(tester.run(&batch), expected);
        assert_eq!(metric("unknown"), Some(1.0));
    }

    #[test]
    fn items_can_be_looked_up_too() {
        give_file(FILE, "customer,tier\nc1,gold");
        let config = r#"{"by": "customer", "of": "item"}"#;
        let mut tester = Tester::<Enrich>::new(Signal::Traces, config).unwrap();
        let batch = spans().item("a", &[("customer", "c1")]).item("b", &[]);
        assert_eq!(
            tester.run(&batch),
            "  span a customer=c1 tier=gold\n  span b\n"
        );
    }

    #[test]
    fn tables_that_make_no_sense_are_refused() {
        let check = |expected: &str| {
            let error = Tester::<Enrich>::new(Signal::Logs, r#"{"by": "k"}"#).unwrap_err();
            assert!(error.message().contains(expected), "{error:?}");
        };
        check("there is no table");
        give_file(FILE, "k\na");
        check("no column besides the first");
        give_file(FILE, "k,v\na,b,c");
        check("the table's row `a` has 2 values for 1 columns");
        give_file(FILE, [0xff, 0xfe]);
        check("utf-8");
    }
}
