//! `reload` and `diff`: what a changed configuration does, done by the running agent or only said.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use clap::Args;
use hyper::{Method, StatusCode};

use super::agent::{AgentArgs, Link, Target, body};
use super::find::NotFound;
use super::{EXIT_CONFIG, ListFormat, complain, print, refuse};
use crate::config::{ConfigSources, Diagnostics, Source, check_assignment, load_configuration};
use crate::reload::{Difference, Loaded, Outcome, Report};

pub(super) const RELOAD_HELP: &str = "\
The agent is found at --endpoint, or where `service.admin.endpoint` of --config says. Without either it is that of the installed
service: /etc/tidegate/agent.toml says where, or it is at $RUNTIME_DIRECTORY/admin.sock or /run/tidegate/admin.sock.
The agent reads its own configuration, whether or not this command can read it.

Examples:
  tidegate reload
  tidegate reload --config /etc/tidegate/agent.toml
  tidegate reload --endpoint unix:/run/tidegate/admin.sock
  tidegate reload --endpoint 127.0.0.1:8889 --dry-run
  tidegate reload --endpoint 10.0.0.7:8889 --ca-file ca.pem --token-file /run/secrets/admin

Exit codes: 0 the agent runs, or would run, as its configuration says; 78 it refuses the configuration and runs as before,
or the one named here is wrong; 1 it could not be asked.";

pub(super) const DIFF_HELP: &str = "\
Examples:
  tidegate diff /etc/tidegate/agent.toml new.toml
  tidegate diff /etc/tidegate/conf.d new.d
  tidegate diff --old base.toml site.toml --new base.toml new-site.toml
  tidegate diff agent.toml agent.toml --set exporters.clickhouse.ttl=72h
  git show HEAD:agent.toml | tidegate diff - agent.toml

Exit codes: 0 nothing would change, 1 something would, 78 one of the two is wrong.";

/// Whom to ask, and for what.
#[derive(Debug, Clone, Args)]
pub struct ReloadArgs {
    #[command(flatten)]
    agent: AgentArgs,
    /// Only say what it would change.
    #[arg(long)]
    dry_run: bool,
    /// How to write it.
    #[arg(long, value_enum, default_value_t)]
    format: ListFormat,
}

/// What to compare.
#[derive(Debug, Clone, Args)]
pub struct DiffArgs {
    /// The configuration that runs: a file, a folder, or `-` for standard input.
    #[arg(required_unless_present_all = ["old_files", "new_files"])]
    old: Option<String>,
    /// The one that would take its place.
    #[arg(required_unless_present_all = ["old_files", "new_files"])]
    new: Option<String>,
    /// The configuration that runs, where it is several files, merged as by `run --config`. May be repeated.
    #[arg(long = "old", value_name = "FILE", num_args = 1.., requires = "new_files", conflicts_with_all = ["old", "new"])]
    old_files: Vec<String>,
    /// The one that would take its place. May be repeated.
    #[arg(long = "new", value_name = "FILE", num_args = 1.., requires = "old_files", conflicts_with_all = ["old", "new"])]
    new_files: Vec<String>,
    /// Set one value of the new configuration, over all its files, as `run --set` does. May be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = check_assignment)]
    set: Vec<String>,
    /// The same for the configuration that runs, where that was started with `--set`. May be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = check_assignment)]
    old_set: Vec<String>,
    /// How to write it.
    #[arg(long, value_enum, default_value_t)]
    format: ListFormat,
}

/// `reload`.
///
/// # Errors
/// When the agent cannot be asked.
pub async fn ask(args: ReloadArgs) -> anyhow::Result<ExitCode> {
    let target = match args.agent.target() {
        Ok(target) => target,
        Err(problem) => return not_asked(problem, None),
    };
    let report = match request(&target, args.dry_run).await {
        Ok(report) => report,
        Err(problem) => return not_asked(problem, target.wrong.as_ref()),
    };
    let code = tell(&report, args.format);
    match &target.wrong {
        // The agent's answer is about what it reads itself; what was named here is wrong all the same.
        Some(found) if args.agent.names_configuration() && report.outcome != Outcome::Refused => {
            complain(&format!(
                "tidegate: that is what {target} says; the configuration named here is not what it reads, or cannot be read here:\n"
            ));
            Ok(refuse(found))
        }
        _ => Ok(code),
    }
}

/// Nobody was asked. Where the configuration is wrong, which might have said whom, that decides.
fn not_asked(problem: anyhow::Error, wrong: Option<&Diagnostics>) -> anyhow::Result<ExitCode> {
    let missing = problem.downcast_ref::<NotFound>();
    let code = match wrong {
        Some(found) => refuse(found),
        None if missing.is_some_and(|missing| missing.wrong.is_some()) => {
            ExitCode::from(EXIT_CONFIG)
        }
        None => return Err(problem),
    };
    complain(&format!("tidegate: {problem:#}\n"));
    Ok(code)
}

async fn request(target: &Target, dry_run: bool) -> anyhow::Result<Report> {
    let path = match dry_run {
        true => "/reload?dry_run=true",
        false => "/reload",
    };
    let answer = tokio::time::timeout(ANSWER_MAX, post(target, path))
        .await
        .with_context(|| format!("the agent at {target} has not answered in {ANSWER_MAX:?}"))?
        .with_context(|| format!("ask the agent at {target}"))?;
    serde_json::from_slice(&answer).with_context(|| format!("what answers at {target} is no agent"))
}

/// Reading a large log before it is used takes as long as it takes.
const ANSWER_MAX: Duration = Duration::from_secs(120);

async fn post(target: &Target, path: &str) -> anyhow::Result<Bytes> {
    let mut link = Link::open(target).await?;
    let response = link.send(Method::POST, path).await?;
    let status = response.status();
    let answer = body(response).await?;
    match status {
        StatusCode::OK | StatusCode::UNPROCESSABLE_ENTITY => Ok(answer),
        _ => bail!("{}", String::from_utf8_lossy(&answer).trim_end()),
    }
}

fn tell(report: &Report, format: ListFormat) -> ExitCode {
    if format == ListFormat::Json {
        let text = serde_json::to_string_pretty(report).unwrap_or_default();
        print(&format!("{text}\n"));
    } else {
        let difference = report.difference.as_ref();
        let difference = difference.map(ToString::to_string).unwrap_or_default();
        print(&difference);
        for problem in &report.problems {
            complain(&format!("{problem}\n"));
        }
        print(match report.outcome {
            Outcome::Reloaded => "reloaded\n",
            Outcome::Unchanged => "unchanged\n",
            Outcome::Valid => "valid; nothing was changed\n",
            Outcome::Refused => "refused: the agent runs as before\n",
        });
    }
    match report.outcome {
        Outcome::Refused => ExitCode::from(EXIT_CONFIG),
        _ => ExitCode::SUCCESS,
    }
}

/// `diff`.
pub fn diff(args: &DiffArgs) -> ExitCode {
    let load = |one: &Option<String>, several: &[String], sets: &[String]| {
        let arguments = one.iter().chain(several);
        let sources = ConfigSources {
            sources: arguments
                .map(|argument| Source::from_argument(argument))
                .collect(),
            sets: sets.to_vec(),
        };
        load_configuration(&sources)
            .map(Loaded::new)
            .map_err(|found| refuse(&found))
    };
    let old = load(&args.old, &args.old_files, &args.old_set);
    let new = load(&args.new, &args.new_files, &args.set);
    let (old, new) = match (old, new) {
        (Ok(old), Ok(new)) => (old, new),
        (Err(code), _) | (_, Err(code)) => return code,
    };
    let difference = Difference::between(&old, &new);
    let text = match args.format {
        ListFormat::Text => difference.to_string(),
        ListFormat::Json => {
            let text = serde_json::to_string_pretty(&difference);
            text.unwrap_or_default() + "\n"
        }
    };
    let printed = print(&text);
    match difference.is_empty() {
        true => printed,
        false => ExitCode::from(EXIT_DIFFERENT),
    }
}

/// As of `diff`.
const EXIT_DIFFERENT: u8 = 1;
