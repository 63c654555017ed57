//! Several trees into one, and `--set` on top.

use std::collections::HashMap;
use std::sync::Arc;

use super::expand;
use super::parse::{self, DEPTH_MAX};
use super::text::Span;
use super::tree::{Entry, Given, Node, Table, Value, split_dotted};

/// Puts `over` on top of `base`: tables are joined key by key, everything else is replaced.
pub(crate) fn merge(base: &mut Table, over: Table) {
    let mut positions: HashMap<String, usize> = base
        .0
        .iter()
        .enumerate()
        .map(|(at, entry)| (entry.key.clone(), at))
        .collect();
    for entry in over.0 {
        match positions.get(&entry.key).and_then(|at| base.0.get_mut(*at)) {
            Some(known) => merge_entry(known, entry),
            None => {
                positions.insert(entry.key.clone(), base.0.len());
                base.0.push(entry);
            }
        }
    }
}

fn merge_entry(known: &mut Entry, over: Entry) {
    match (&mut known.node.value, over.node.value) {
        (Value::Table(base), Value::Table(over)) => merge(base, over),
        (_, value) => {
            known.key_span = over.key_span;
            known.node = Node::new(value, over.node.span);
        }
    }
}

/// Reads `a.b.c=value`, the text number `text`, as a table to merge.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn set(text: usize, content: &str) -> Result<Table, String> {
    let Some(equals) = find_equals(content) else {
        return Err("write `key.path=value`, such as `exporters.clickhouse.ttl=72h`".to_owned());
    };
    let (path, value) = content.split_at(equals);
    let value = value.strip_prefix('=').unwrap_or(value).trim();
    let key_span = Span {
        text,
        start: 0,
        end: equals,
    };
    let value_span = Span {
        text,
        start: content.len() - value.len(),
        end: content.len(),
    };
    let keys = split_dotted(path.trim());
    if keys.iter().any(String::is_empty) {
        return Err(match path.trim() {
            "" => "there is no key before the `=`".to_owned(),
            path => format!("the key `{path}` has an empty part"),
        });
    }
    if keys.len() > DEPTH_MAX {
        return Err(format!("more than {DEPTH_MAX} levels deep"));
    }
    let value = set_value(value, value_span);
    let mut node = Node::new(value, value_span);
    for key in keys.into_iter().rev() {
        let entry = Entry {
            key,
            key_span,
            node,
        };
        node = Node::new(Value::Table(Table(vec![entry])), key_span);
    }
    match node.value {
        Value::Table(table) => Ok(table),
        _ => Err("no key".to_owned()),
    }
}

/// TOML where it is TOML, and text where it is not. A number stays text for an option that wants text.
fn set_value(content: &str, span: Span) -> Value {
    match parse::value(content, span) {
        Some(value @ (Value::Text(_) | Value::List(_) | Value::Table(_))) => value,
        _ => Value::Given(Given {
            text: content.to_owned(),
            typed: expand::typed(content, span),
            wanted_as_text: Arc::default(),
            written: String::new(),
            parts: Vec::new(),
            from_file: false,
        }),
    }
}

/// The first `=` outside of quotes.
fn find_equals(text: &str) -> Option<usize> {
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (None, '=') => return Some(at),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::print::plain;
    use super::*;

    fn merged(texts: &[&str], sets: &[&str]) -> String {
        let mut table = Table::default();
        for text in texts {
            merge(&mut table, parse::document(0, text).0);
        }
        for content in sets {
            merge(&mut table, set(0, content).unwrap());
        }
        plain(&table)
    }

    #[test]
    fn tables_join_and_everything_else_is_replaced() {
        let check = |texts: &[&str], expected: &str| assert_eq!(merged(texts, &[]), expected);
        check(
            &["[a]\nb = 1\nc = 2", "[a]\nc = 3\nd = 4"],
            "[a]\nb = 1\nc = 3\nd = 4\n",
        );
        check(&["a = [1, 2]", "a = [3]"], "a = [3]\n");
        check(&["[a.b]\nc = 1", "a = 5"], "a = 5\n");
        check(&["a = 5", "[a.b]\nc = 1"], "[a.b]\nc = 1\n");
        check(&["", "a = 1", ""], "a = 1\n");
    }

    #[test]
    fn set_wins_and_takes_toml_or_text() {
        let check = |set: &str, expected: &str| {
            assert_eq!(merged(&["[a]\nb = 1"], &[set]), expected, "{set}")
        };
        check("a.b=2", "[a]\nb = 2\n");
        check("a.b = true", "[a]\nb = true\n");
        check("a.b=\"2\"", "[a]\nb = \"2\"\n");
        check("a.b=72h", "[a]\nb = \"72h\"\n");
        check("a.b=", "[a]\nb = \"\"\n");
        check("a.b=x=y", "[a]\nb = \"x=y\"\n");
        check("a.b=[1, 2]", "[a]\nb = [1, 2]\n");
        check("a.c={d = 1}", "[a]\nb = 1\n\n[a.c]\nd = 1\n");
        check("c.\"x.y/z\".d=1", "[a]\nb = 1\n\n[c.\"x.y/z\"]\nd = 1\n");
        check("c.x/z.d=1", "[a]\nb = 1\n\n[c.\"x/z\"]\nd = 1\n");
    }

    #[test]
    fn a_set_without_key_or_value_says_how_to_write_it() {
        let check = |content: &str, expected: &str| {
            let problem = set(0, content).unwrap_err();
            assert!(problem.contains(expected), "{content}: {problem}");
        };
        check("a.b", "key.path=value");
        check("=1", "no key before the `=`");
        check("a..b=1", "empty part");
        check(&format!("{}=1", vec!["a"; 100].join(".")), "levels deep");
    }
}
