//! `--set KEY.PATH=VALUE`: values in place of those of a file, and what the whole is then.

use std::ops::Range;

use serde::ser::{Serialize, SerializeMap as _, SerializeSeq as _, Serializer};
use toml::de::{DeTable, DeValue};

use super::{Branch, Piece, Tree, nearest, tree};

/// A value that is set, and where the setting has it.
struct Given {
    key_span: Range<usize>,
    span: Range<usize>,
    value: Tree,
}

/// Puts a setting on top: tables are joined, everything else is replaced.
///
/// # Errors
/// It is no setting, or its path leads nowhere.
pub(super) fn apply(root: &mut Vec<Branch>, setting: &Piece) -> Result<(), String> {
    let text = setting.text.as_str();
    let Some((keys, equals)) = path(text) else {
        return Err("write `key.path=value`, such as `scenario.NAME.duration=10s`".to_owned());
    };
    let written = text.get(equals + 1..).unwrap_or_default().trim();
    let end = text.trim_end().len();
    let given = Given {
        key_span: setting.span(&(0..equals)),
        span: setting.span(&(end - written.len()..end)),
        value: value(written, setting),
    };
    put(root, &keys, 0, given)
}

/// The keys, and where the `=` after them is: the first that follows upon what TOML takes for keys, which may be quoted.
fn path(text: &str) -> Option<(Vec<String>, usize)> {
    let mut all = text.match_indices('=');
    all.find_map(|(at, _)| Some((keys(text.get(..at)?)?, at)))
}

fn keys(dotted: &str) -> Option<Vec<String>> {
    let document = format!("{dotted} = 0");
    let mut table = DeTable::parse(&document).ok()?.into_inner();
    let mut keys = Vec::new();
    loop {
        let (key, value) = table.into_iter().next()?;
        keys.push(key.into_inner().into_owned());
        match value.into_inner() {
            DeValue::Table(inner) => table = inner,
            _ => return Some(keys),
        }
    }
}

/// TOML where it is TOML, and text where it is not.
fn value(written: &str, setting: &Piece) -> Tree {
    let text = || Tree::Text(written.to_owned());
    let Ok(parsed) = DeValue::parse(written) else {
        return text();
    };
    // Spans within it, of a list's items say, are those of the setting, which its value ends.
    let begins = setting.begins + setting.text.trim_end().len() - written.len();
    let piece = Piece::new(&setting.name, written.to_owned(), begins);
    match tree(&piece, parsed) {
        Tree::Other => text(),
        value => value,
    }
}

/// Puts it where the keys from `depth` on lead from here.
fn put(
    branches: &mut Vec<Branch>,
    keys: &[String],
    depth: usize,
    given: Given,
) -> Result<(), String> {
    let Some(key) = keys.get(depth) else {
        return Ok(());
    };
    if !branches.iter().any(|it| it.key == *key) {
        branches.push(Branch {
            key: key.clone(),
            key_span: given.key_span.clone(),
            span: given.span.clone(),
            value: Tree::Table(given.span.clone(), Vec::new()),
        });
    }
    let Some(branch) = branches.iter_mut().find(|it| it.key == *key) else {
        return Ok(());
    };
    into(&mut branch.value, &mut branch.span, keys, depth + 1, given)
}

fn into(
    known: &mut Tree,
    span: &mut Range<usize>,
    keys: &[String],
    depth: usize,
    given: Given,
) -> Result<(), String> {
    let so_far = || keys.get(..depth).unwrap_or_default().join(".");
    match (known, keys.get(depth)) {
        (Tree::Table(_, branches), Some(_)) => put(branches, keys, depth, given),
        (Tree::List(items), Some(name)) => {
            let Some((span, item)) = chosen(items, name) else {
                return Err(no_item(items, name, &so_far()));
            };
            into(item, span, keys, depth + 1, given)
        }
        (_, Some(_)) => Err(format!("`{}` is no table", so_far())),
        (known, None) => join(known, span, given),
    }
}

/// An item of a list by its number, from 0, or by its name, if it is a table with one.
fn chosen<'t>(
    items: &'t mut [(Range<usize>, Tree)],
    name: &str,
) -> Option<&'t mut (Range<usize>, Tree)> {
    let named = items
        .iter()
        .position(|(_, item)| name_of(item) == Some(name));
    let number = named.or_else(|| name.parse().ok())?;
    items.get_mut(number)
}

fn name_of(item: &Tree) -> Option<&str> {
    let Tree::Table(_, branches) = item else {
        return None;
    };
    let name = branches.iter().find(|it| it.key == "name")?;
    match &name.value {
        Tree::Text(name) => Some(name),
        _ => None,
    }
}

fn no_item(items: &[(Range<usize>, Tree)], name: &str, list: &str) -> String {
    let names = items.iter().enumerate();
    let names = names
        .map(|(number, (_, item))| name_of(item).map_or_else(|| number.to_string(), str::to_owned));
    let names: Vec<_> = names.collect();
    let help = match nearest(name, names.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("there are {}", names.join(", ")),
    };
    format!("there is no `{name}` in `{list}`; {help}")
}

fn join(known: &mut Tree, span: &mut Range<usize>, given: Given) -> Result<(), String> {
    let more = match given.value {
        Tree::Table(_, more) if matches!(known, Tree::Table(..)) => more,
        value => {
            *known = value;
            *span = given.span;
            return Ok(());
        }
    };
    let Tree::Table(_, branches) = known else {
        return Ok(());
    };
    for branch in more {
        let given = Given {
            key_span: branch.key_span,
            span: branch.span,
            value: branch.value,
        };
        put(branches, &[branch.key], 0, given)?;
    }
    Ok(())
}

/// A document's tables as TOML has them.
pub(super) struct Rendered<'t>(pub(super) &'t [Branch]);

impl Serialize for Rendered<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for branch in self.0 {
            map.serialize_entry(&branch.key, &branch.value)?;
        }
        map.end()
    }
}

impl Serialize for Tree {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Number(text) => match (text.parse::<i64>(), text.parse::<f64>()) {
                (Ok(number), _) => serializer.serialize_i64(number),
                (_, Ok(number)) => serializer.serialize_f64(number),
                _ => serializer.serialize_str(text),
            },
            Self::List(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                for (_, item) in items {
                    list.serialize_element(item)?;
                }
                list.end()
            }
            Self::Table(_, branches) => Rendered(branches).serialize(serializer),
            Self::Other => serializer.serialize_str("?"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Document;

    const FILE: &str = "seed = 1\n[defaults]\ntimeout = \"1s\"\n[[scenario]]\nname = \"a\"\nrate = 5\n\
                        [[scenario.request]]\npath = \"/\"\n[[scenario]]\nrate = 6\n";

    #[test]
    fn values_take_the_place_of_the_files() {
        let check = |settings: &[&str], expected: &[(&str, &str)]| {
            let settings: Vec<_> = settings.iter().map(|&it| it.to_owned()).collect();
            let document = Document::with_settings("f", FILE.to_owned(), &settings);
            let unchanged = Document::new("f", FILE.to_owned()).rendered();
            let expected = expected.iter().fold(unchanged, |text, (from, to)| {
                assert!(text.contains(from), "{from} is not in {text}");
                text.replacen(from, to, 1)
            });
            assert_eq!(document.rendered(), expected, "{settings:?}");
            assert_eq!(document.mistakes(), []);
        };
        check(&[], &[]);
        check(&["seed=7"], &[("seed = 1", "seed = 7")]);
        check(&["seed = 7 ", "seed=8"], &[("seed = 1", "seed = 8")]);
        check(&["defaults.timeout=5s"], &[("\"1s\"", "\"5s\"")]);
        check(&["defaults.timeout='5s'"], &[("\"1s\"", "\"5s\"")]);
        check(&["defaults={timeout='2s'}"], &[("\"1s\"", "\"2s\"")]);
        check(
            &["defaults={http2=true}"],
            &[("\"1s\"\n", "\"1s\"\nhttp2 = true\n")],
        );
        check(&["scenario.a.rate=9.5"], &[("rate = 5", "rate = 9.5")]);
        check(&["scenario.0.rate=9"], &[("rate = 5", "rate = 9")]);
        check(&["scenario.1.rate=9"], &[("rate = 6", "rate = 9")]);
        check(
            &["scenario.a.request.0.path=/x?a=b"],
            &[("\"/\"", "\"/x?a=b\"")],
        );
        check(
            &["defaults.headers.\"x=y.z\"=1h"],
            &[(
                "\"1s\"\n",
                "\"1s\"\n\n[defaults.headers]\n\"x=y.z\" = \"1h\"\n",
            )],
        );
        check(
            &["seed=2026-01-01"],
            &[("seed = 1", "seed = \"2026-01-01\"")],
        );
    }

    #[test]
    fn what_leads_nowhere_is_refused() {
        let check = |setting: &str, expected: &str| {
            let settings = [setting.to_owned()];
            let document = Document::with_settings("f", FILE.to_owned(), &settings);
            document.root();
            let mistakes: Vec<_> = document
                .mistakes()
                .iter()
                .map(ToString::to_string)
                .collect();
            let [mistake] = mistakes.as_slice() else {
                panic!("{mistakes:?}");
            };
            assert!(mistake.starts_with(expected), "{mistake}");
        };
        check("seed", "--set seed:1:1: write `key.path=value`");
        check("=5", "--set :1:1: write `key.path=value`");
        check("a..b=5", "--set a..b:1:1: write `key.path=value`");
        check("seed.x=5", "--set seed.x:1:1: `seed` is no table");
        check(
            "scenario.aa.rate=5",
            "--set scenario.aa.rate:1:1: there is no `aa` in `scenario`; did you mean `a`?",
        );
        check(
            "scenario.2.rate=5",
            "--set scenario.2.rate:1:1: there is no `2` in `scenario`; there are a, 1",
        );
    }

    #[test]
    fn mistakes_in_a_setting_have_their_place_in_it() {
        let settings = ["sede=1", "scenario.0.size=[1, 'x']"].map(str::to_owned);
        let document = Document::with_settings("f", "[[scenario]]\n".to_owned(), &settings);
        let mut root = document.root();
        for mut scenario in root.tables("scenario") {
            scenario.integers("size");
        }
        root.take("seed");
        root.finish();
        let mistakes: Vec<_> = document
            .mistakes()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            mistakes,
            [
                "--set scenario.0.size:1:21: scenario[0].size[1]: whole numbers are expected",
                "--set sede:1:1: sede: unknown key; did you mean `seed`?",
            ]
        );
    }
}
