//! Text with `{{ … }}` in it, and expressions: both by minijinja, both strict about what has no value.

use std::collections::BTreeSet;

use anyhow::anyhow;
use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value};

use super::ledger::Unknown;
use super::model::Text;

/// Renders templates and evaluates expressions.
#[derive(Debug)]
pub(crate) struct Templates {
    environment: Environment<'static>,
}

/// What a template or expression could not be read for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flaw {
    /// Counted from 1, in the template.
    pub(crate) line: usize,
    pub(crate) message: String,
}

impl Templates {
    pub(crate) fn new() -> Self {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        let syntax = SyntaxConfig::builder()
            .keep_trailing_newline(true)
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build();
        environment.set_syntax(syntax.expect("the usual delimiters do not clash"));
        for (name, value) in CONSTANTS {
            environment.add_global(*name, Value::from(*value));
        }
        Self { environment }
    }

    /// # Errors
    /// A variable without a value, or what the text asks for cannot be done.
    pub(crate) fn render(&self, text: &str, context: &Value) -> anyhow::Result<String> {
        if !text.contains("{{") && !text.contains("{%") && !text.contains("{#") {
            return Ok(text.to_owned());
        }
        let rendered = self.environment.render_str(text, context);
        rendered.map_err(|error| anyhow!("{}", words(&error)))
    }

    /// # Errors
    /// The same, with where it was written.
    pub(crate) fn text(&self, text: &Text, context: &Value) -> anyhow::Result<String> {
        let rendered = self.render(&text.text, context);
        rendered.map_err(|error| anyhow!("{}: {error}", text.place))
    }

    /// The names a template asks for that it does not set itself, such as `port.otlp`.
    ///
    /// # Errors
    /// When it is no template.
    pub(crate) fn names(&self, text: &str) -> Result<BTreeSet<String>, Flaw> {
        let template = self.environment.template_from_str(text);
        let template = template.map_err(|error| Flaw::of(&error))?;
        Ok(self.unknown(template.undeclared_variables(true)))
    }

    /// The names an expression asks for.
    ///
    /// # Errors
    /// When it is no expression.
    pub(crate) fn names_of_expression(&self, text: &str) -> Result<BTreeSet<String>, Flaw> {
        let expression = self.environment.compile_expression(text);
        let expression = expression.map_err(|error| Flaw::of(&error))?;
        Ok(self.unknown(expression.undeclared_variables(true)))
    }

    fn unknown(&self, names: impl IntoIterator<Item = String>) -> BTreeSet<String> {
        let known: BTreeSet<&str> = self.environment.globals().map(|(name, _)| name).collect();
        let mut names: BTreeSet<String> = names.into_iter().collect();
        names.retain(|name| !known.contains(name.split('.').next().unwrap_or(name)));
        names
    }

    /// # Errors
    /// When something in it has no value yet, or it cannot be evaluated.
    pub(crate) fn evaluate(&self, expression: &str, context: &Value) -> anyhow::Result<Value> {
        let compiled = self.environment.compile_expression(expression);
        let compiled = compiled.map_err(|error| anyhow!("{}", words(&error)))?;
        let value = compiled.eval(context).map_err(|error| meant(&error))?;
        if value.is_undefined() {
            return Err(anyhow!("`{expression}` has no value"));
        }
        Ok(value)
    }
}

/// Names that every template and expression knows.
const CONSTANTS: &[(&str, u64)] = &[
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("thousand", 1_000),
    ("million", 1_000_000),
];

impl Flaw {
    fn of(error: &minijinja::Error) -> Self {
        Self {
            line: error.line().unwrap_or(1),
            message: words(error),
        }
    }
}

/// That something is not known stays recognizable.
fn meant(error: &minijinja::Error) -> anyhow::Error {
    let source = std::error::Error::source(error);
    match source.and_then(|it| it.downcast_ref::<Unknown>()) {
        Some(unknown) => unknown.clone().into(),
        None => anyhow!("{}", words(error)),
    }
}

/// The error without the template's name, which nobody gave it.
fn words(error: &minijinja::Error) -> String {
    let kind = error.kind();
    match error.detail() {
        Some(detail) => format!("{kind}: {detail}"),
        None => kind.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context() -> Value {
        minijinja::context! { port => minijinja::context! { otlp => 4317 }, rate => 1000 }
    }

    #[test]
    fn text_is_rendered_and_what_has_no_value_is_an_error() {
        let templates = Templates::new();
        let check = |text: &str, expected: &str| {
            assert_eq!(templates.render(text, &context()).unwrap(), expected);
        };
        check("127.0.0.1:{{ port.otlp }}", "127.0.0.1:4317");
        check("{{ rate * 2 }}", "2000");
        check("a = \"${env:HOME}\"\n", "a = \"${env:HOME}\"\n");
        check("{% if rate > 1 %}<fast>{% endif %}", "<fast>");
        for text in ["{{ absent }}", "{{ port.absent }}", "{{ rate"] {
            assert!(templates.render(text, &context()).is_err(), "{text}");
        }
    }

    #[test]
    fn names_are_found_and_mistakes_have_a_line() {
        let templates = Templates::new();
        let names = templates.names("{{ port.otlp }} {{ rate * MiB }}").unwrap();
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["port.otlp", "rate"]);
        assert_eq!(templates.names("a\n{{ b").unwrap_err().line, 2);
        assert!(templates.names_of_expression("a ==").is_err());
    }

    #[test]
    fn expressions_have_values() {
        let templates = Templates::new();
        let check = |text: &str, expected: bool| {
            let value = templates.evaluate(text, &context()).unwrap();
            assert_eq!(value.is_true(), expected, "{text}");
        };
        check("rate >= 1000 and port.otlp == 4317", true);
        check("rate * 1.5 < 2 * thousand", true);
        check("rate > MiB", false);
        assert!(templates.evaluate("rate.absent < 5", &context()).is_err());
    }
}
