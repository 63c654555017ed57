//! What a run is about to do: its suites, read and checked, before anything starts.

use std::path::Path;

use anyhow::{Context as _, bail};

use super::check::{self, Checked};
use super::model::Suite;
use super::template::Templates;
use super::variables::{self, Variant, words};
use super::{Args, read};
use crate::document::Mistake;
use crate::process;

/// A suite that may be run.
pub(crate) struct Plan {
    pub(crate) suite: Suite,
    pub(crate) templates: Templates,
    pub(crate) checked: Checked,
    pub(crate) variants: Vec<Variant>,
    pub(crate) repeat: u32,
    pub(crate) cores: Vec<usize>,
}

/// Reads and checks all suites.
///
/// # Errors
/// All mistakes of all of them.
pub(crate) fn plans(args: &Args) -> anyhow::Result<Vec<Plan>> {
    let read = args.suites.iter().map(|path| read::suite(path));
    let suites: Vec<_> = read.collect::<anyhow::Result<_>>()?;
    let is_alone = suites.len() == 1;
    if !is_alone {
        check_several(args)?;
    }
    for (at, (suite, _)) in suites.iter().enumerate() {
        let mut earlier = suites.iter().take(at);
        let name = &suite.name.text;
        if !name.is_empty() && earlier.any(|(other, _)| other.name.text == *name) {
            bail!("two suites are called `{name}`");
        }
    }
    for setting in args.settings.iter().filter(|_| !is_alone) {
        let mut suites = suites.iter();
        if !suites.any(|(suite, _)| variables::takes(suite, setting)) {
            bail!("--set {setting}: none of the suites has it");
        }
    }
    let mut plans = Vec::new();
    let mut problems = Vec::new();
    for (path, (suite, mistakes)) in args.suites.iter().zip(suites) {
        match plan(args, path, suite, mistakes, is_alone) {
            Ok(plan) => plans.push(plan),
            Err(error) => problems.push(format!("{error:#}")),
        }
    }
    match problems.is_empty() {
        true => Ok(plans),
        false => bail!("{}", problems.join("\n")),
    }
}

/// What can be said of one suite only.
fn check_several(args: &Args) -> anyhow::Result<()> {
    let of_one = [
        ("--tests", !args.tests.is_empty()),
        ("--baseline", args.baseline.is_some()),
        ("--record", args.output.record.is_some()),
        ("--html", args.output.html.is_some()),
        ("--csv", args.output.csv.is_some()),
    ];
    if let Some((option, _)) = of_one.iter().find(|(_, given)| *given) {
        bail!("{option} is for one suite, and there are several");
    }
    Ok(())
}

/// Checks a suite. Where it is one of several, it takes those settings that it has.
fn plan(
    args: &Args,
    path: &Path,
    mut suite: Suite,
    mut mistakes: Vec<Mistake>,
    is_alone: bool,
) -> anyhow::Result<Plan> {
    let settings = args.settings.iter();
    let settings = settings.filter(|it| is_alone || variables::takes(&suite, it));
    let settings: Vec<_> = settings.cloned().collect();
    variables::override_with(&mut suite, &settings)?;
    let templates = Templates::new();
    let cores = process::allowed_cores().context("cannot read which cores we may use")?;
    let variants = variables::variants(&suite.matrix);
    let variants = variants.unwrap_or_else(|mistake| {
        mistakes.push(mistake);
        Vec::new()
    });
    let checked = check::check(&suite, &variants, &args.tests, &templates, cores.len());
    let checked = checked.unwrap_or_else(|found| {
        mistakes.extend(found);
        Checked::new()
    });
    if !mistakes.is_empty() {
        mistakes.sort();
        mistakes.dedup();
        let lines: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
        let count = lines.len();
        let noun = if count == 1 { "mistake" } else { "mistakes" };
        bail!(
            "{count} {noun} in {}:\n{}",
            path.display(),
            lines.join("\n")
        );
    }
    let known: Vec<_> = suite
        .tests
        .iter()
        .map(|test| test.name.text.as_str())
        .collect();
    for name in &args.tests {
        if !known.contains(&name.as_str()) {
            bail!("--tests {name}: there are {}", known.join(", "));
        }
    }
    let repeat = checked.repeat;
    Ok(Plan {
        suite,
        templates,
        checked,
        variants,
        repeat,
        cores,
    })
}

impl Plan {
    /// What would run.
    pub(crate) fn words(&self) -> String {
        let mut text = format!("{}: {}\n", self.suite.name.text, self.suite.description);
        let runs: Vec<_> = self
            .variants
            .iter()
            .filter(|it| !self.checked.skips(it))
            .collect();
        for test in &self.suite.tests {
            text.push_str(&format!(
                "  {}: {} steps\n",
                test.name.text,
                test.steps.len()
            ));
        }
        text.push_str(&format!(
            "  {} variants, {} repetitions\n",
            runs.len(),
            self.repeat
        ));
        for skipped in &self.checked.skipped {
            text.push_str(&format!(
                "  left out: {} ({})\n",
                words(&skipped.variant),
                skipped.why
            ));
        }
        text
    }
}
