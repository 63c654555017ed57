//! Which keys differ between two configurations: their names, never their values.

use std::collections::BTreeMap;

use super::load::Tree;
use super::tree::{KeyPath, Node, Step, Value};

/// The keys below the table at `path` whose values differ, in order, as paths that start there.
pub fn changed_keys(old: &Tree, new: &Tree, path: &[&str]) -> Vec<String> {
    let path = KeyPath::of(path);
    let (old, new) = (flat(old, &path), flat(new, &path));
    let differs = |key: &&String| old.get(*key) != new.get(*key);
    let mut keys: Vec<_> = old.keys().chain(new.keys()).filter(differs).collect();
    keys.sort();
    keys.dedup();
    keys.into_iter().cloned().collect()
}

/// Every value that is no table, by its path.
fn flat(tree: &Tree, path: &KeyPath) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    if let Some(node) = tree.root.at(&path.0) {
        flatten(node, &KeyPath::default(), &mut values);
    }
    values
}

fn flatten(node: &Node, path: &KeyPath, values: &mut BTreeMap<String, String>) {
    match &node.value {
        Value::Table(table) if !table.0.is_empty() => {
            for entry in &table.0 {
                let path = path.join(&[Step::Key(entry.key.clone())]);
                flatten(&entry.node, &path, values);
            }
        }
        Value::Given(given) => {
            values.insert(path.to_string(), given.text.clone());
        }
        _ => {
            // A value that cannot be written as JSON, such as a number that is none, is like another of its kind.
            let text = serde_json::to_string(node).unwrap_or_default();
            values.insert(path.to_string(), text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Fake;
    use super::super::{Source, load};
    use super::*;

    fn tree(text: &str) -> Tree {
        let source = Source::Text {
            name: "t".to_owned(),
            content: text.to_owned(),
        };
        load(&[source], &[], &Fake::default().variable("A", "1")).0
    }

    #[test]
    fn only_the_keys_that_differ_are_named() {
        let check = |old: &str, new: &str, expected: &[&str]| {
            let keys = changed_keys(&tree(old), &tree(new), &["x"]);
            assert_eq!(keys, expected, "{old} {new}");
        };
        check("[x]\na = 1", "[x]\na = 1\n[y]\nb = 2", &[]);
        check("[x]\na = 1\nb = 2", "[x]\nb = 2\na = 1", &[]);
        check("[x]\na = 1", "[x]\na = 2", &["a"]);
        check("[x.t]\na = 1", "[x.t]\nb = 1", &["t.a", "t.b"]);
        check("[x]\na = [1, 2]", "[x]\na = [1]", &["a"]);
        check("[x]\np = '${env:A}'", "[x]\np = '${env:A}'", &[]);
        check("[x]", "", &[""]);
    }
}
