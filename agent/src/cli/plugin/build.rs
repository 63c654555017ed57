//! `plugin build`: calls what the language of the project is built with, and says what is missing for it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use clap::Args;

use super::super::print;
use super::language::{Language, TARGET};

const HELP: &str = "\
How it is built depends on what the folder has:
  Cargo.toml     Rust: cargo build --release --target wasm32-wasip2
  package.json   JavaScript: npm ci, if there is no node_modules, and npm run build
  Makefile       C, or whatever else: make, which is to leave plugin.wasm";

/// Build the plugin in this folder.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct BuildArgs {
    /// Where its `Cargo.toml`, `package.json` or `Makefile` is.
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    folder: PathBuf,
}

/// Where Debian's wasi-libc has its headers: a sign that it is there.
const WASI_HEADERS: &str = "/usr/include/wasm32-wasi";

pub(super) fn run(args: &BuildArgs) -> Result<ExitCode, String> {
    let folder = args.folder.as_path();
    let language = Language::of(folder).ok_or_else(|| {
        let folder = folder.display();
        format!(
            "there is no Cargo.toml, package.json or Makefile in {folder}; `tidegate plugin new NAME` makes a project"
        )
    })?;
    match language {
        Language::Rust => rust(folder)?,
        Language::Javascript => javascript(folder)?,
        Language::C => c(folder)?,
    }
    let built = language.built(folder)?;
    let shown = built.strip_prefix(".").unwrap_or(&built);
    Ok(print(&format!("{}\n", shown.display())))
}

fn rust(folder: &Path) -> Result<(), String> {
    need("cargo", "Rust comes from https://rustup.rs")?;
    let done = call(folder, "cargo", &["build", "--release", "--target", TARGET]);
    done.map_err(|problem| {
        format!("{problem}; if the target is missing: rustup target add {TARGET}")
    })
}

fn javascript(folder: &Path) -> Result<(), String> {
    const NODE: &str = "Node.js comes from https://nodejs.org, or: apt-get install nodejs npm";
    need("node", NODE)?;
    need("npm", NODE)?;
    if !folder.join("node_modules").is_dir() {
        let install = if folder.join("package-lock.json").is_file() {
            "ci"
        } else {
            "install"
        };
        call(
            folder,
            "npm",
            &[install, "--no-audit", "--no-fund", "--ignore-scripts"],
        )?;
    }
    call(folder, "npm", &["run", "--silent", "build"])
}

fn c(folder: &Path) -> Result<(), String> {
    need("make", "apt-get install make")?;
    let done = call(folder, "make", &[]);
    // What a Makefile needs, only its author knows; what the one of `plugin new` needs is known here.
    done.map_err(|problem| {
        let missing = missing_for_c();
        let hints = missing.iter().map(|hint| format!("\n  {hint}"));
        problem + &hints.collect::<String>()
    })
}

/// What is not there of what `plugin new --language c` builds with.
fn missing_for_c() -> Vec<String> {
    let tools = [
        ("clang", "apt-get install clang"),
        ("wasm-ld", "apt-get install lld"),
        (
            "rustc",
            "its toolchain has the linker of components; it comes from https://rustup.rs",
        ),
    ];
    let mut missing: Vec<String> = tools
        .iter()
        .filter_map(|(tool, hint)| need(tool, hint).err())
        .collect();
    if !Path::new(WASI_HEADERS).is_dir() {
        missing.push(format!(
            "{WASI_HEADERS} is missing: apt-get install wasi-libc"
        ));
    }
    missing
}

/// Whether a program can be started.
fn need(program: &str, hint: &str) -> Result<(), String> {
    let started = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    match started {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(format!("{program} is missing: {hint}"))
        }
        _ => Ok(()),
    }
}

/// Runs a program in the folder to its end, which must be a success.
fn call(folder: &Path, program: &str, arguments: &[&str]) -> Result<(), String> {
    let shown = [&[program], arguments].concat().join(" ");
    let status = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .status()
        .map_err(|error| format!("run `{shown}`: {error}"))?;
    match status.success() {
        true => Ok(()),
        false => Err(format!("it does not build: `{shown}` failed ({status})")),
    }
}
