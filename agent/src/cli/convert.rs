//! `convert`: a Collector's configuration as one of ours.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::{complain, print};
use crate::config::{Environment, ProcessEnvironment};
use crate::convert::{self, Converted};

/// Converted, but something has no counterpart.
const EXIT_LOSSY: u8 = 3;

const HELP: &str = "\
What has no counterpart is listed on standard error with its line, and stands in the result as a comment, each with what to do.
The result is checked as by `tidegate validate`; whatever that refuses is left out in the same way.

Examples:
  tidegate convert otel-config.yaml -o /etc/tidegate/tidegate.toml
  tidegate convert otel-config.yaml | less
  kubectl get configmap collector -o jsonpath='{.data.relay}' | tidegate convert -

Exit codes:
  0  everything has a counterpart
  1  the file cannot be read, is not YAML, or the result cannot be written
  2  the command line is wrong
  3  the result is written, and something has no counterpart";

/// Turn a Collector's YAML into a configuration of Tidegate, and list what has no counterpart.
#[derive(Debug, Clone, Args)]
#[command(after_help = HELP)]
pub struct ConvertArgs {
    /// The Collector's configuration, or `-` for standard input.
    file: String,
    /// Where to write the result, instead of standard output; a file that exists is left alone.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write over a file that exists.
    #[arg(long, requires = "output")]
    force: bool,
}

/// `convert`.
pub fn run(args: &ConvertArgs) -> ExitCode {
    let name = match args.file.as_str() {
        "-" => "stdin",
        path => path,
    };
    let converted = match read(&args.file)
        .and_then(|text| convert::convert(name, &text).map_err(|error| format!("{name}:{error}")))
    {
        Ok(converted) => converted,
        Err(problem) => return fail(&problem),
    };
    let written = match &args.output {
        Some(path) => write(path, &converted.text, args.force),
        None => match print(&converted.text) {
            ExitCode::SUCCESS => Ok(()),
            code => return code,
        },
    };
    if let Err(problem) = written {
        return fail(&problem);
    }
    report(name, &converted);
    match converted.is_lossy() {
        true => ExitCode::from(EXIT_LOSSY),
        false => ExitCode::SUCCESS,
    }
}

fn fail(problem: &str) -> ExitCode {
    complain(&format!("tidegate: {problem}\n"));
    ExitCode::FAILURE
}

fn read(file: &str) -> Result<String, String> {
    let environment = ProcessEnvironment;
    match file {
        "-" => environment
            .stdin()
            .map_err(|problem| format!("the standard input {problem}")),
        path => environment
            .file(Path::new(path))
            .map_err(|problem| format!("the file {path} {problem}")),
    }
}

fn write(path: &Path, text: &str, force: bool) -> Result<(), String> {
    let mut options = OpenOptions::new();
    options.write(true);
    match force {
        true => options.create(true).truncate(true),
        false => options.create_new(true),
    };
    let written = options
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => format!(
            "{} exists already: name another file, or write over it with --force",
            path.display()
        ),
        _ => format!("cannot write {}: {error}", path.display()),
    })
}

fn report(name: &str, converted: &Converted) {
    let lines = converted.findings.iter();
    let text: String = lines.map(|found| format!("{name}:{found}\n")).collect();
    complain(&text);
}
