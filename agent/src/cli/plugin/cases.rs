//! `plugin test`: batches in, expected batches out, the difference shown.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::super::print;
use super::conditions::ConditionArgs;
use super::{batches, meant, read};
use crate::processors::wasm::workbench::Workbench;

const HELP: &str = "\
A case is two files in the folder, and may have more:
  NAME.input.json       a request in OTLP/JSON
  NAME.expected.json    what is to come out of it
  NAME.config.toml      the plugin's configuration; by default config.toml of the folder
  NAME.processor.toml   what stands under [processors.wasm], such as files and grants; by default processor.toml of the
                        folder. Paths in it start from the working directory, as in the agent";

/// Run the cases of a plugin: OTLP/JSON in, expected OTLP/JSON out.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct TestArgs {
    /// The plugin; by default the one that was built here.
    plugin: Option<PathBuf>,
    /// Where the cases are.
    #[arg(long, value_name = "FOLDER", default_value = "tests/cases")]
    cases: PathBuf,
    /// Write what comes out as what is expected.
    #[arg(long)]
    update: bool,
    #[command(flatten)]
    conditions: ConditionArgs,
}

const INPUT: &str = ".input.json";

pub(super) fn run(args: &TestArgs) -> Result<ExitCode, String> {
    let plugin = meant(args.plugin.as_deref())?;
    let entries = std::fs::read_dir(&args.cases)
        .map_err(|error| format!("{}: {error}", args.cases.display()))?;
    let file_names = entries.flatten().map(|entry| entry.file_name());
    let mut names: Vec<String> = file_names
        .filter_map(|name| name.to_str()?.strip_suffix(INPUT).map(str::to_owned))
        .collect();
    names.sort();
    if names.is_empty() {
        return Err(format!("there is no *{INPUT} in {}", args.cases.display()));
    }
    let mut failed = 0;
    for name in &names {
        match case(&plugin, args, name) {
            Ok(None) => drop(print(&format!("ok      {name}\n"))),
            Ok(Some(difference)) => {
                failed += 1;
                print(&format!("FAILED  {name}\n{difference}"));
            }
            Err(problem) => {
                failed += 1;
                print(&format!("FAILED  {name}: {problem}\n"));
            }
        }
    }
    print(&format!(
        "{} passed, {failed} failed\n",
        names.len() - failed
    ));
    Ok(match failed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

/// Runs a case. What is different, if something is.
fn case(plugin: &Path, args: &TestArgs, name: &str) -> Result<Option<String>, String> {
    let folder = &args.cases;
    let given = |file: &str| {
        let own = folder.join(format!("{name}.{file}"));
        [own, folder.join(file)]
            .into_iter()
            .find(|path| path.exists())
    };
    let (processor, config) = (given("processor.toml"), given("config.toml"));
    let conditions = args
        .conditions
        .read_beside(processor.as_deref(), config.as_deref())?;
    let input = folder.join(format!("{name}{INPUT}"));
    let (signal, request) =
        batches::parse(&read(&input)?).map_err(|error| format!("{}: {error}", input.display()))?;
    let mut bench = Workbench::start(plugin, signal, &conditions)?;
    let made = bench.process(&request)?;
    let text = batches::render(signal, made.bytes.as_deref())?;
    let came = serde_json::from_str::<Value>(&text).map_err(|error| error.to_string())?;
    let expected = folder.join(format!("{name}.expected.json"));
    if args.update {
        let written = std::fs::write(&expected, format!("{came:#}\n"));
        written.map_err(|error| format!("{}: {error}", expected.display()))?;
        return Ok(None);
    }
    if !expected.exists() {
        return Err(format!(
            "there is no {}; --update writes what comes out now",
            expected.display()
        ));
    }
    let wanted = read(&expected)?;
    // Through the same reader: what is meant counts, not how it is written.
    let wanted = match batches::parse(&wanted) {
        Ok((of, request)) => batches::render(of, Some(&request.bytes))?,
        Err(_) => wanted,
    };
    let wanted = serde_json::from_str::<Value>(&wanted)
        .map_err(|error| format!("{}: {error}", expected.display()))?;
    Ok((came != wanted).then(|| difference(&format!("{wanted:#}"), &format!("{came:#}"))))
}

/// Lines shown before and after what is different.
const CONTEXT: usize = 3;

/// The lines that two texts do not share, between those that they begin and end with.
fn difference(wanted: &str, came: &str) -> String {
    let (wanted, came): (Vec<&str>, Vec<&str>) = (wanted.lines().collect(), came.lines().collect());
    let same = wanted.iter().zip(&came).take_while(|(a, b)| a == b).count();
    let (wanted_rest, came_rest) = (
        wanted.get(same..).unwrap_or_default(),
        came.get(same..).unwrap_or_default(),
    );
    let ends = wanted_rest.iter().rev().zip(came_rest.iter().rev());
    let end = ends.take_while(|(a, b)| a == b).count();
    let mut text = String::new();
    let mut show = |sign: char, lines: &[&str]| {
        for line in lines {
            text.push(sign);
            text.push_str(line);
            text.push('\n');
        }
    };
    show(
        ' ',
        wanted
            .get(same.saturating_sub(CONTEXT)..same)
            .unwrap_or_default(),
    );
    let changed = |lines: &[&'_ str]| lines.len() - end;
    show(
        '-',
        wanted_rest.get(..changed(wanted_rest)).unwrap_or_default(),
    );
    show('+', came_rest.get(..changed(came_rest)).unwrap_or_default());
    let after = came_rest.get(changed(came_rest)..).unwrap_or_default();
    show(
        ' ',
        after.get(..CONTEXT.min(after.len())).unwrap_or_default(),
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_shown_in_their_place() {
        let check = |wanted: &str, came: &str, expected: &str| {
            assert_eq!(difference(wanted, came), expected);
        };
        check("a\nb\nc\nd\ne", "a\nb\nc\nX\ne", " a\n b\n c\n-d\n+X\n e\n");
        check("a\nb", "a", " a\n-b\n");
        check("a", "a\na", " a\n+a\n");
        check("", "x", "+x\n");
    }
}
