//! What `{{ … }}` stands for: the suite's variables, a variant's values, ports, places.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use minijinja::Value;

use super::model::{Dimension, Suite, Variable};
use crate::document::Mistake;

/// Names that every template knows besides variables.
pub(crate) const BUILT_IN: [&str; 9] = [
    "port",
    "bin",
    "suite_dir",
    "run_dir",
    "dir",
    "config",
    "component",
    "repetition",
    "test",
];
/// Names that expressions know besides.
pub(crate) const RESULTS: [&str; 5] = ["ledger", "load", "window", "metric", "counter"];
/// Combinations of a matrix; more would run for days.
const VARIANTS_MAX: usize = 1000;

/// One combination of the matrix's values, by their names; empty without a matrix.
pub(crate) type Variant = BTreeMap<String, Value>;

/// What one test in one variant sees.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scope {
    values: BTreeMap<String, Value>,
}

impl Scope {
    pub(crate) fn new(suite: &Suite, variant: &Variant) -> Self {
        let mut scope = Self::default();
        for variable in &suite.variables {
            scope.set(&variable.name, variable.value.clone());
        }
        for (name, value) in variant {
            scope.set(name, value.clone());
        }
        let folder = suite.folder.display().to_string();
        scope.set("suite_dir", Value::from(folder));
        scope.set("bin", Value::from(binaries().display().to_string()));
        scope
    }

    pub(crate) fn set(&mut self, name: &str, value: Value) {
        self.values.insert(name.to_owned(), value);
    }

    pub(crate) fn set_all(&mut self, variables: &[Variable]) {
        for variable in variables {
            self.set(&variable.name, variable.value.clone());
        }
    }

    pub(crate) fn set_path(&mut self, name: &str, path: &Path) {
        self.set(name, Value::from(path.display().to_string()));
    }

    pub(crate) fn value(&self) -> Value {
        Value::from_pairs(self.values.clone())
    }

    /// With some more that only this one sees.
    pub(crate) fn with(&self, more: impl IntoIterator<Item = (String, Value)>) -> Self {
        let mut scope = self.clone();
        scope.values.extend(more);
        scope
    }
}

/// Where loadgen lies, and with it the other programs of its build.
fn binaries() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    own.parent().unwrap_or_else(|| Path::new(".")).to_owned()
}

/// A number, boolean or text, as somebody who does not write quotes means it.
pub(crate) fn typed(text: &str) -> Value {
    if let Ok(number) = text.parse::<i64>() {
        return Value::from(number);
    }
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Value::from(number),
        _ => match text {
            "true" => Value::from(true),
            "false" => Value::from(false),
            _ => Value::from(text),
        },
    }
}

/// Whether a setting `NAME=VALUE` means something to the suite.
pub(crate) fn takes(suite: &Suite, setting: &str) -> bool {
    let name = setting.split('=').next().unwrap_or(setting);
    let mut variables = suite.variables.iter();
    let mut dimensions = suite.matrix.iter();
    name == "repeat" || variables.any(|it| it.name == name) || dimensions.any(|it| it.name == name)
}

/// Puts `--set NAME=VALUE` in place of what the suite says. For a name of the matrix the value is a list `a,b`.
///
/// # Errors
/// When there is no such name, or no `=`.
pub(crate) fn override_with(suite: &mut Suite, settings: &[String]) -> anyhow::Result<()> {
    for setting in settings {
        let (name, value) = setting
            .split_once('=')
            .with_context(|| format!("--set {setting}: NAME=VALUE is expected"))?;
        if name == "repeat" {
            let place = super::model::Place {
                file: "--set".into(),
                line: 1,
                column: 1,
                key: name.to_owned(),
            };
            let text = value.to_owned();
            suite.repeat = Some(super::model::Text { text, place });
        } else if let Some(variable) = suite.variables.iter_mut().find(|it| it.name == name) {
            variable.value = typed(value);
        } else if let Some(dimension) = suite.matrix.iter_mut().find(|it| it.name == name) {
            dimension.values = value.split(',').map(typed).collect();
        } else {
            let variables = suite.variables.iter().map(|it| it.name.as_str());
            let dimensions = suite.matrix.iter().map(|it| it.name.as_str());
            let names: Vec<_> = variables.chain(dimensions).chain(["repeat"]).collect();
            bail!(
                "--set {setting}: there is no `{name}`, only {}",
                names.join(", ")
            );
        }
    }
    Ok(())
}

/// Every combination of the matrix's values.
///
/// # Errors
/// When there are too many, or a name has none.
pub(crate) fn variants(matrix: &[Dimension]) -> Result<Vec<Variant>, Mistake> {
    let mut variants = vec![Variant::new()];
    for dimension in matrix {
        let with = |variant: &Variant| {
            let each = |value: &Value| {
                let mut variant = variant.clone();
                variant.insert(dimension.name.clone(), value.clone());
                variant
            };
            dimension.values.iter().map(each).collect::<Vec<_>>()
        };
        variants = variants.iter().flat_map(with).collect();
        let wrong = |message: String| Mistake {
            place: dimension.place.clone(),
            message,
        };
        if variants.is_empty() {
            return Err(wrong("it has no values".to_owned()));
        }
        if variants.len() > VARIANTS_MAX {
            let message = format!("with it there are more than {VARIANTS_MAX} combinations");
            return Err(wrong(message));
        }
    }
    Ok(variants)
}

/// A variant's values in words: `peer=rotel batch=100`.
pub(crate) fn words(variant: &Variant) -> String {
    let words: Vec<_> = variant
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dimension(name: &str, values: &[i64]) -> Dimension {
        Dimension {
            name: name.to_owned(),
            values: values.iter().map(|&it| Value::from(it)).collect(),
            place: super::super::model::Place::default(),
        }
    }

    #[test]
    fn variants_are_all_combinations() {
        let matrix = [dimension("a", &[1, 2]), dimension("b", &[3, 4])];
        let variants = variants(&matrix).unwrap();
        let words: Vec<_> = variants.iter().map(words).collect();
        assert_eq!(words, ["a=1 b=3", "a=1 b=4", "a=2 b=3", "a=2 b=4"]);
        assert_eq!(super::variants(&[]).unwrap().len(), 1);
        assert!(super::variants(&[dimension("a", &[])]).is_err());
    }

    #[test]
    fn text_becomes_what_it_means() {
        assert_eq!(typed("5"), Value::from(5));
        assert_eq!(typed("1.5"), Value::from(1.5));
        assert_eq!(typed("true"), Value::from(true));
        assert_eq!(typed("1s"), Value::from("1s"));
        assert_eq!(typed("nan"), Value::from("nan"));
    }
}
