//! `plugin new` and `plugin build`: a crate that builds at once, with the SDK of this agent in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::Args;

use super::super::print;
use super::meant;

/// Make a crate for a plugin, with a test, that builds at once.
#[derive(Debug, Args)]
pub struct NewArgs {
    /// The name, in lower case letters, digits and `-`; a folder of that name is made.
    name: String,
}

/// Build the plugin in this folder.
#[derive(Debug, Args)]
pub struct BuildArgs {
    /// Where its `Cargo.toml` is.
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    folder: PathBuf,
}

const TARGET: &str = "wasm32-wasip2";

macro_rules! sdk {
    ($($file:literal)*) => {
        &[
            ("wit/processor.wit", include_str!("../../../../plugins/wit/processor.wit")),
            ("Cargo.lock", include_str!("../../../../plugins/Cargo.lock")),
            ("tidegate-plugin/Cargo.toml", include_str!("template/sdk.toml")),
            $((
                concat!("tidegate-plugin/src/", $file),
                include_str!(concat!("../../../../plugins/sdk/src/", $file)),
            ),)*
        ]
    };
}

/// The SDK that fits this agent, and the contract.
const SDK: &[(&str, &str)] = sdk!(
    "batch.rs" "bindings.rs" "edits.rs" "guest.rs" "host.rs" "lib.rs" "node.rs" "shape.rs" "testing.rs" "value.rs"
    "views.rs" "walk.rs" "wire.rs"
);

/// The crate itself; `NAME` and `TYPE` are replaced.
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

pub(super) fn new(args: &NewArgs) -> Result<ExitCode, String> {
    let name = args.name.as_str();
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(plain) {
        return Err(format!(
            "`{name}` is no name: write lower case letters, digits and `-`"
        ));
    }
    let folder = Path::new(name);
    fs::create_dir(folder).map_err(|error| format!("make the folder {name}: {error}"))?;
    for (path, text) in SDK {
        write(&folder.join(path), text)?;
    }
    for (path, text) in CRATE {
        let text = text.replace("NAME", name);
        write(&folder.join(path), &text.replace("TYPE", &type_name(name)))?;
    }
    Ok(print(&format!(
        "{name}/src/lib.rs is yours to change. Then, in {name}:\n  \
         cargo test               # on this machine, without WebAssembly\n  \
         tidegate plugin build\n  tidegate plugin test     # the cases in tests/cases\n  tidegate plugin bench --config \
         tests/cases/config.toml\n"
    )))
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(|error| format!("{}: {error}", parent.display()))?;
    }
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

/// `MyPlugin` of `my-plugin`.
fn type_name(name: &str) -> String {
    let words = name.split('-').map(|word| {
        let mut letters = word.chars();
        let first = letters.next().map(|first| first.to_ascii_uppercase());
        first.into_iter().chain(letters).collect::<String>()
    });
    words.collect()
}

pub(super) fn build(args: &BuildArgs) -> Result<ExitCode, String> {
    let status = Command::new("cargo")
        .args(["build", "--release", "--target", TARGET])
        .current_dir(&args.folder)
        .status()
        .map_err(|error| format!("run cargo: {error}; Rust comes from https://rustup.rs"))?;
    if !status.success() {
        return Err(format!(
            "it does not build; if the target is missing: rustup target add {TARGET}"
        ));
    }
    if args.folder == Path::new(".")
        && let Ok(path) = meant(None)
    {
        return Ok(print(&format!("{}\n", path.display())));
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

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

    #[test]
    fn types_are_named_after_plugins() {
        assert_eq!(type_name("my-plugin"), "MyPlugin");
        assert_eq!(type_name("x"), "X");
        assert_eq!(type_name("a-2b"), "A2b");
    }
}
