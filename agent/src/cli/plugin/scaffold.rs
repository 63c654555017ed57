//! `plugin new`: a project that builds at once, with all that fits this agent in it.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use clap::Args;

use super::super::print;
use super::language::Language;

/// Make a project for a plugin, with a test, that builds at once.
#[derive(Debug, Args)]
pub struct NewArgs {
    /// The name, in lower case letters, digits and `-`; a folder of that name is made.
    name: String,
    /// What it is to be written in.
    #[arg(long, value_enum, default_value_t = Language::Rust)]
    language: Language,
}

macro_rules! sdk {
    ($($file:literal)*) => {
        &[
            ("Cargo.lock", include_str!("../../../../plugins/Cargo.lock")),
            ("tidegate-plugin/Cargo.toml", include_str!("template/sdk.toml")),
            $((
                concat!("tidegate-plugin/src/", $file),
                include_str!(concat!("../../../../plugins/sdk/src/", $file)),
            ),)*
        ]
    };
}

/// Files of an example in `plugins`.
macro_rules! example {
    ($folder:literal: $($file:literal)*) => {
        &[$(($file, include_str!(concat!("../../../../plugins/", $folder, "/", $file)))),*]
    };
}

/// The contract between plugins and this agent.
const CONTRACT: (&str, &str) = (
    "wit/processor.wit",
    include_str!("../../../../plugins/wit/processor.wit"),
);

/// The SDK that fits this agent.
const SDK: &[(&str, &str)] = sdk!(
    "batch.rs" "bindings.rs" "edits.rs" "guest.rs" "host.rs" "lib.rs" "node.rs" "search.rs" "shape.rs" "testing.rs" "value.rs"
    "views.rs" "walk.rs" "wire.rs"
);

/// The crate itself; `NAME` is replaced.
const CRATE: &[(&str, &str)] = &[
    ("Cargo.toml", include_str!("template/Cargo.toml.txt")),
    ("src/lib.rs", include_str!("template/lib.rs.txt")),
    (".gitignore", "/target\n"),
    (
        "tests/cases/config.toml",
        include_str!("template/config.toml"),
    ),
    (
        "tests/cases/basic.input.json",
        include_str!("template/input.json"),
    ),
    (
        "tests/cases/basic.expected.json",
        include_str!("template/expected.json"),
    ),
];

/// What is in a project in C besides its cases; all of it comes from the example.
const C: &[(&str, &str)] = example!("c": ".gitignore" "Makefile" "bindings/link.c" "bindings/processor.c" "bindings/processor.h"
    "config.c" "config.h" "otlp.c" "otlp.h" "plugin.c" "tests/host.h" "tests/test.c"
    "tests/cases/config.toml" "tests/cases/logs.expected.json" "tests/cases/logs.input.json"
    "tests/cases/nothing-left.expected.json" "tests/cases/nothing-left.input.json" "tests/cases/spans.expected.json"
    "tests/cases/spans.input.json");

/// The same in JavaScript.
const JAVASCRIPT: &[(&str, &str)] = example!("javascript": ".gitignore" "build.js" "otlp.js" "package.json" "package-lock.json"
    "plugin.js" "tests/otlp.test.js"
    "tests/cases/config.toml" "tests/cases/logs.expected.json" "tests/cases/logs.input.json"
    "tests/cases/nothing-left.expected.json" "tests/cases/nothing-left.input.json" "tests/cases/points.expected.json"
    "tests/cases/points.input.json" "tests/cases/spans.expected.json" "tests/cases/spans.input.json");

pub(super) fn new(args: &NewArgs) -> Result<ExitCode, String> {
    let name = args.name.as_str();
    check_name(args.language, name)?;
    let folder = Path::new(name);
    fs::create_dir(folder).map_err(|error| format!("make the folder {name}: {error}"))?;
    for (path, text) in files(args.language, name) {
        write(&folder.join(path), &text)?;
    }
    let (source, own_tests) = match args.language {
        Language::Rust => ("src/lib.rs", "cargo test "),
        Language::C => ("plugin.c", "make test  "),
        Language::Javascript => ("plugin.js", "npm test   "),
    };
    Ok(print(&format!(
        "{name}/{source} is yours to change. Then, in {name}:\n  \
         {own_tests}              # on this machine, without WebAssembly\n  \
         tidegate plugin build\n  tidegate plugin test     # the cases in tests/cases\n  tidegate plugin bench --config \
         tests/cases/config.toml\n"
    )))
}

/// Words of Rust, of all editions; a crate cannot have their names.
const KEYWORDS: &[&str] = &[
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate",
    "do", "dyn", "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl",
    "in", "let", "loop", "macro", "match", "mod", "move", "mut", "override", "priv", "pub", "ref",
    "return", "self", "static", "struct", "super", "trait", "true", "try", "type", "typeof",
    "unsafe", "unsized", "use", "virtual", "where", "while", "yield",
];

/// Crates that a plugin in Rust is built with: beside them there is no other of their name.
const CRATES: &[&str] = &[
    "alloc",
    "core",
    "proc-macro",
    "serde",
    "serde-json",
    "std",
    "test",
    "tidegate-plugin",
    "wit-bindgen",
];

/// Whether a project of this name builds.
fn check_name(language: Language, name: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(plain) {
        return Err(format!(
            "`{name}` is no name: write lower case letters, digits and `-`"
        ));
    }
    let why = match language {
        Language::Rust if KEYWORDS.contains(&name) => "is a word of Rust",
        Language::Rust if CRATES.contains(&name) => "is a crate that plugins are built with",
        _ => return Ok(()),
    };
    Err(format!(
        "`{name}` {why}, and cannot be the name of a plugin in Rust: take another one, such as `{name}-tags`"
    ))
}

/// The files of a project of this name.
fn files(language: Language, name: &str) -> Vec<(&'static str, String)> {
    // Examples stand beside the contract, a project has it inside.
    let of_example = |example: &str, (path, text): &(&'static str, &str)| {
        let text = text.replace("../wit", "wit");
        (
            *path,
            text.replace(&format!("{example}-example"), name)
                .replace("tidegate-plugin-example", name),
        )
    };
    let mut files: Vec<(&str, String)> = match language {
        Language::C => C.iter().map(|file| of_example("c", file)).collect(),
        Language::Javascript => JAVASCRIPT
            .iter()
            .map(|file| of_example("javascript", file))
            .collect(),
        Language::Rust => {
            let own = CRATE
                .iter()
                .map(|(path, text)| (*path, text.replace("NAME", name)));
            let sdk = SDK.iter().map(|(path, text)| (*path, (*text).to_owned()));
            own.chain(sdk).collect()
        }
    };
    let (path, text) = CONTRACT;
    files.push((path, text.to_owned()));
    files
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(|error| format!("{}: {error}", parent.display()))?;
    }
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn the_whole_sdk_is_there() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/sdk/src");
        let entries = fs::read_dir(folder).unwrap();
        let sources: BTreeSet<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let embedded = SDK
            .iter()
            .filter_map(|(path, _)| path.strip_prefix("tidegate-plugin/src/"));
        assert_eq!(
            embedded.map(str::to_owned).collect::<BTreeSet<_>>(),
            sources
        );
    }

    /// All files below a folder, but for what is made there.
    fn below(folder: &Path) -> Vec<PathBuf> {
        const MADE: [&str; 4] = ["node_modules", "build", "plugin.wasm", ".lock"];
        let entries = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let is_made = |path: &PathBuf| MADE.iter().any(|made| path.ends_with(made));
        let (folders, mut files): (Vec<PathBuf>, Vec<PathBuf>) = entries
            .filter(|path| !is_made(path))
            .partition(|path| path.is_dir());
        files.extend(folders.iter().flat_map(|folder| below(folder)));
        files
    }

    #[test]
    fn examples_are_there_as_a_whole_and_under_the_name_of_the_project() {
        for (language, example) in [(Language::C, "c"), (Language::Javascript, "javascript")] {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("../plugins")
                .join(example);
            let there: BTreeSet<PathBuf> = below(&folder)
                .iter()
                .map(|path| path.strip_prefix(&folder).unwrap().to_owned())
                .chain([PathBuf::from(CONTRACT.0)])
                .collect();
            let made = files(language, "shop");
            let embedded: BTreeSet<PathBuf> =
                made.iter().map(|(path, _)| PathBuf::from(path)).collect();
            assert_eq!(embedded, there);
            for (path, text) in made {
                assert!(
                    !text.contains("../wit") && !text.contains("-example\""),
                    "{path}"
                );
            }
        }
    }

    #[test]
    fn names_that_do_not_build_are_refused() {
        let check = |language: Language, name: &str, expected: &str| {
            let problem = check_name(language, name).unwrap_err();
            assert!(problem.contains(expected), "{name}: {problem}");
        };
        for name in ["", "Shop", "1shop", "shop_tags", "-shop", "../shop"] {
            check(Language::C, name, "write lower case letters");
        }
        for name in [
            "self",
            "fn",
            "async",
            "gen",
            "tidegate-plugin",
            "serde",
            "core",
            "test",
        ] {
            check(Language::Rust, name, &format!("such as `{name}-tags`"));
            assert_eq!(check_name(Language::Rust, &format!("{name}-tags")), Ok(()));
            // The others have no crates.
            assert_eq!(check_name(Language::C, name), Ok(()));
        }
    }
}
