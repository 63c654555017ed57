//! Arguments of loadgen's own commands, read as these will read them.

use clap::Parser as _;
use clap::error::{ContextKind, ContextValue};
use minijinja::Value;

use super::super::model::{Execution, ExecutionKind, Place};
use super::Checker;
use crate::cli::{Cli, Command};

impl Checker<'_> {
    pub(super) fn execution(&mut self, execution: &Execution, value: &Value) {
        let command = match execution.kind {
            ExecutionKind::Otlp => "otlp",
            ExecutionKind::Http => "http",
            ExecutionKind::Command => return self.command(&execution.arguments, value),
        };
        let mut words = Vec::new();
        for argument in &execution.arguments {
            let Some(rendered) = self.rendered(argument, value) else {
                // Told; what follows from it says little.
                return;
            };
            // One that stands for nothing in this variant is left out.
            if !rendered.is_empty() {
                words.push((argument.place.clone(), rendered));
            }
        }
        if let Err((place, problem)) = read(command, &words) {
            let place = place.unwrap_or_else(|| execution.place.clone());
            self.wrong(&place, format!("loadgen {command}: {problem}"));
        }
    }
}

/// What is wrong, and where that can be told.
type Wrong = (Option<Place>, String);

fn parse(command: &str, words: &[(Place, String)]) -> Result<Cli, clap::Error> {
    let words = words.iter().map(|(_, word)| word.as_str());
    let words = ["loadgen", command].into_iter().chain(words);
    // Where these go is told with each load.
    let told: &[&str] = match command {
        "otlp" => &["--record", "record.json", "--progress", "progress.json"],
        _ => &["--record", "record.json"],
    };
    Cli::try_parse_from(words.chain(told.iter().copied()))
}

fn read(command: &str, words: &[(Place, String)]) -> Result<(), Wrong> {
    let cli = parse(command, words).map_err(|error| {
        let told = error.to_string();
        let first = told.lines().take_while(|it| !it.trim().is_empty());
        let first: Vec<_> = first.map(str::trim).collect();
        let told = first.join(" ").trim_start_matches("error: ").to_owned();
        (argument_of(&error, words), told)
    })?;
    let checked = match &cli.command {
        Command::Otlp(args) => args.check(),
        Command::Http(args) => args.check(),
        _ => Ok(()),
    };
    checked.map_err(|error| {
        let told = format!("{error:#}");
        // It names what it is about.
        let plain = |word: &str| word.split('=').next().unwrap_or_default().to_owned();
        let is_named = |word: &str| {
            told.split([' ', '`'])
                .any(|it| it == word || it == plain(word))
        };
        let named = words.iter().find(|(_, word)| is_named(word));
        (named.map(|(place, _)| place.clone()), told)
    })
}

/// Names of the figures that the record of such a load has; empty where its arguments are wrong.
pub(super) fn figures(kind: ExecutionKind, words: &[String]) -> Vec<String> {
    let command = match kind {
        ExecutionKind::Otlp => "otlp",
        ExecutionKind::Http => "http",
        ExecutionKind::Command => return Vec::new(),
    };
    let words: Vec<_> = words
        .iter()
        .map(|it| (Place::default(), it.clone()))
        .collect();
    match parse(command, &words).map(|cli| cli.command) {
        Ok(Command::Otlp(args)) => args.figures(),
        Ok(Command::Http(args)) => args.figures(),
        _ => Vec::new(),
    }
}

/// The argument that an error is about: its value, where that is what is wrong.
fn argument_of(error: &clap::Error, words: &[(Place, String)]) -> Option<Place> {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        Some(ContextValue::Strings(texts)) => texts.first().map(String::as_str),
        _ => None,
    };
    let named = context(ContextKind::InvalidArg).unwrap_or_default();
    let name = named.split([' ', '=']).next().unwrap_or_default();
    let is_short = name.starts_with('-') && !name.starts_with("--");
    let is_name = |word: &str| {
        let rest = word.strip_prefix(name).filter(|_| !name.is_empty());
        rest.is_some_and(|rest| is_short || rest.is_empty() || rest.starts_with('='))
    };
    let value = context(ContextKind::InvalidValue);
    let name_at = words.iter().position(|(_, word)| is_name(word));
    let value_at = words.iter().enumerate().position(|(at, (_, word))| {
        let follows = name_at.is_none_or(|name_at| at == name_at + 1);
        follows && value == Some(word)
    });
    let at = value_at.or(name_at)?;
    words.get(at).map(|(place, _)| place.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of the argument that is told, from 1.
    fn told(command: &str, line: &str) -> (Option<usize>, String) {
        let words = line.split(' ').enumerate().map(|(at, word)| {
            let place = Place {
                line: at + 1,
                ..Place::default()
            };
            (place, word.to_owned())
        });
        let words: Vec<_> = words.collect();
        let (place, problem) = read(command, &words).unwrap_err();
        (place.map(|it| it.line), problem)
    }

    #[test]
    fn the_argument_that_is_wrong_is_told() {
        let check = |command: &str, line: &str, at: usize, part: &str| {
            let (found, problem) = told(command, line);
            assert_eq!(found, Some(at), "{line}: {problem}");
            assert!(problem.contains(part), "{line}: {problem}");
        };
        let otlp = |line: &str, at, part| check("otlp", line, at, part);
        otlp("a:1 --rat 5", 2, "unexpected argument '--rat'");
        otlp("a:1 --rate 0 -d 5s", 3, "between 0.001");
        otlp("a:1 --rate=0", 2, "between 0.001");
        otlp("a:1 -d 5", 3, "needs a unit");
        otlp("a:1 --signal spans", 3, "possible values");
        otlp("a:1 -n 5 --timeout 0s", 4, "more than 0");
        otlp("-d 5s ftp://a", 3, "only http and https");
        otlp("-d 5s nonsense", 3, "write host:port");
        check("http", "-d 1s a:80/x", 3, "write `http://a:80/x`");
        check("http", "http://a --duration 0s", 2, "longer than 0");
        assert_eq!(told("otlp", "-d 5s").0, None);
    }
}
