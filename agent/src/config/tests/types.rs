//! Values of every type, right and wrong.

use serde::Deserialize;

use super::environment;
use super::stand_ins::{Compression, NoOptions};
use crate::config::{Diagnostics, Section, Source, load, tree};
use crate::units::{ByteSize, HumanDuration};

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
struct Kinds {
    text: String,
    number: u16,
    signed: i64,
    float: f64,
    flag: bool,
    list: Vec<String>,
    size: ByteSize,
    wait: HumanDuration,
    maybe: Option<u8>,
    word: Word,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
enum Word {
    #[default]
    Off,
    Level {
        level: u8,
    },
    Named(String),
}

fn kinds(text: &str) -> Result<Kinds, String> {
    let source = Source::Text {
        name: "t".to_owned(),
        content: text.to_owned(),
    };
    let (tree, mut found) = load(&[source], &[], &environment());
    let path = tree::KeyPath::default();
    let options = Section::new(path, &tree.root, &tree.texts, &mut found).options();
    match options {
        Some(kinds) if found == Diagnostics::default() => Ok(kinds),
        _ => Err(found.to_string()),
    }
}

#[test]
fn a_substitution_takes_the_type_that_is_wanted() {
    let check = |text: &str, change: fn(&mut Kinds)| {
        let mut expected = Kinds::default();
        change(&mut expected);
        assert_eq!(kinds(text), Ok(expected), "{text}");
    };
    check("number = '${env:PORT}'", |kinds| kinds.number = 9000);
    check("text = '${env:PORT}'", |kinds| {
        kinds.text = "9000".to_owned()
    });
    check("float = '${env:PORT}'", |kinds| kinds.float = 9000.0);
    check("flag = '${env:FLAG}'", |kinds| kinds.flag = true);
    check("text = '${env:FLAG}'", |kinds| {
        kinds.text = "true".to_owned()
    });
    check("size = '${env:PORT}'", |kinds| kinds.size = ByteSize(9000));
    check("maybe = '${env:NONE:-7}'", |kinds| kinds.maybe = Some(7));
    check("list = '${env:SPAN_LIST}'", |kinds| {
        kinds.list = vec!["otlp".to_owned()]
    });
    check("list = ['${env:PORT}']", |kinds| {
        kinds.list = vec!["9000".to_owned()]
    });
    check("word = '${env:NONE:-off}'", |_| {});
    check("word = {level = {level = 3}}", |kinds| {
        kinds.word = Word::Level { level: 3 }
    });
    check("word = {named = '${env:PORT}'}", |kinds| {
        kinds.word = Word::Named("9000".to_owned())
    });
    check("wait = '${env:NONE:-5s}'", |kinds| {
        kinds.wait = HumanDuration::from_secs(5)
    });
}

#[test]
fn what_does_not_fit_is_explained() {
    let check = |text: &str, expected: &[&str]| {
        let problems = kinds(text).unwrap_err();
        for expected in expected {
            assert!(
                problems.contains(expected),
                "{text}: {expected} not in\n{problems}"
            );
        }
        assert_eq!(
            problems.lines().count(),
            expected.len(),
            "{text}:\n{problems}"
        );
    };
    check(
        "number = '5'",
        &[
            "expected a whole number from 0 to 65535, found the text \"5\"; write `5` without quotes",
        ],
    );
    check("number = 70000", &["found the number `70000`"]);
    check(
        "number = -1",
        &["t:1:10: error: number: expected a whole number from 0 to 65535"],
    );
    check(
        "signed = 99999999999999999999",
        &["expected a whole number, found"],
    );
    check("text = 5", &["put it in quotes: `\"5\"`"]);
    check("flag = 'true'", &["write `true` without quotes"]);
    check(
        "flag = '${env:WORD}'",
        &["found the text \"many\" (from `${env:WORD}`)"],
    );
    check(
        "list = 'a'",
        &["expected an array, found the text \"a\"; write `[\"a\"]`"],
    );
    check("list = [1, 'b', 2]", &["list[0]", "list[2]"]);
    check("size = true", &["expected a size in bytes"]);
    check("word = 'of'", &["did you mean `off`?"]);
    check("word = {levl = 1}", &["did you mean `level`?"]);
    check(
        "word = {level = {leve = 1}}",
        &["word.level.leve: unknown key", "`level` is required"],
    );
    check("maybe = 300", &["from 0 to 255"]);
    check(
        "nmber = 1\nflg = true\ntext = 1\nwait = 1",
        &["`number`", "`flag`", "text:", "needs a unit"],
    );
    check(
        "text = '${env:NONE}'\nnumber = 'x'",
        &["NONE is not set", "number:"],
    );
    check(
        "number = []\nfloat = {}",
        &["found an array", "found a table"],
    );
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only decoded")]
struct Required {
    a: String,
    b: HumanDuration,
    c: Vec<u8>,
    d: Compression,
    e: NoOptions,
    f: std::net::SocketAddr,
}

#[test]
fn every_required_key_that_is_missing_is_reported() {
    let mut found = Diagnostics::default();
    let mut section = Section::from_text("x", "a = 5\nz = 1", &mut found).unwrap();
    assert!(section.options::<Required>().is_none());
    let keys: Vec<_> = found.0.iter().map(|found| found.to_string()).collect();
    for key in [
        "x.a:", "x.z:", "`b` is", "`c` is", "`d` is", "`e` is", "`f` is",
    ] {
        assert!(
            keys.iter().any(|line| line.contains(key)),
            "{key} not in {keys:?}"
        );
    }
    assert_eq!(keys.len(), 7, "{keys:?}");
}

#[test]
fn secrets_are_not_in_messages() {
    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only decoded")]
    struct Login<T> {
        password: T,
    }
    fn check<T: serde::de::DeserializeOwned>() {
        let mut found = Diagnostics::default();
        let text = "password = 'hunter2'";
        let mut section = Section::from_text("x", text, &mut found).unwrap();
        section.options::<Login<T>>();
        section.error("password", "`hunter2` is too short");
        let shown = found.with_excerpts();
        assert!(
            !shown.contains("hunter2") && shown.contains("[REDACTED]"),
            "{shown}"
        );
    }
    check::<u8>();
    check::<String>();
}

/// The words of each problem's key, in a table that is validated by rules across its keys.
#[test]
fn validation_goes_on_after_a_bad_value_but_does_not_judge_its_default() {
    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Range {
        least: u8,
        most: u8,
        name: String,
    }
    let check = |text: &str, expected: &[&str]| {
        let mut found = Diagnostics::default();
        let mut section = Section::from_text("x", text, &mut found).unwrap();
        let range: Range = section.options().unwrap();
        if range.least >= range.most {
            section.error("least", "must be below `most`");
        }
        if range.name.is_empty() {
            section.error("name", "is required");
        }
        let text = found.to_string();
        let keys: Vec<_> = text
            .lines()
            .filter_map(|line| line.split("error: x.").nth(1)?.split(':').next())
            .collect();
        assert_eq!(keys, expected, "{text}");
    };
    check("least = 2\nmost = 1", &["least", "name"]);
    // What is unknown does not hide what else is wrong,
    check("least = 2\nmost = 1\nx = 1", &["x", "least", "name"]);
    // but for the key that was meant, and rules that name it.
    check("least = 2\nmots = 3\nname = 'a'", &["mots"]);
    check("least = 2\nmost = '3'", &["most", "name"]);
    check("least = '2'\nmost = 0", &["least", "name"]);
    check("leas = 2\nmost = 0\nnam = 'a'", &["leas", "nam"]);
}
