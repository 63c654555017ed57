//! `tap`: items of the running agent as they pass.

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use form_urlencoded::Serializer;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::{Method, StatusCode};

use super::agent::{AgentArgs, Link, body};
use super::complain;
use crate::tap::filter::Filter;
use crate::tap::{Notice, Point};

pub(super) const TAP_HELP: &str = "\
A filter compares fields: = != ~ !~ (regular expression) < <= > >=, joined by and, or, not and parentheses; a field alone
asks whether it is there. Fields: name, severity, severity_text, body, kind, status, duration, trace_id, span_id,
parent_span_id, type, unit, value, scope, attr.KEY, resource.KEY, scope.KEY. Values with spaces go in quotes.

Examples:
  tidegate tap logs --filter 'severity>=warn'                  of the installed service
  tidegate tap logs -c agent.toml --filter 'severity>=warn'
  tidegate tap traces -c agent.toml --filter 'status=error or duration>500ms' --limit 20
  tidegate tap traces -c agent.toml --filter 'attr.http.route=/cart' --filter 'resource.service.name~^shop-'
  tidegate tap metrics --endpoint unix:/run/tidegate/admin.sock --at exporters --json | jq .
  tidegate tap logs -c agent.toml --rate 10

The agent never waits for a tap: what there was no time or room for is counted on standard error as not shown.

Exit codes: 0 the limit was reached or the reader went away, 1 the tap could not be opened, or has ended.";

/// See items of the running agent as they pass, without changing its configuration.
#[derive(Debug, Clone, Args)]
#[command(after_help = TAP_HELP)]
pub struct TapArgs {
    /// The pipeline, such as `traces` or `logs/audit`.
    pipeline: String,
    #[command(flatten)]
    agent: AgentArgs,
    /// Where in the pipeline to look.
    #[arg(long, value_enum, default_value_t)]
    at: Point,
    /// With `--at exporters`: only what this one sends.
    #[arg(long, value_name = "ID")]
    exporter: Option<String>,
    /// Show only items for which this holds. May be repeated: then all have to hold.
    #[arg(long, short, value_name = "EXPRESSION", value_parser = checked)]
    filter: Vec<String>,
    /// Stop after so many items.
    #[arg(long, short = 'n', value_name = "ITEMS", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Show at most so many items a second: the first of each second.
    #[arg(long, value_name = "ITEMS", value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    /// Write OTLP/JSON: one request a line, with one item, its resource and its scope.
    #[arg(long)]
    json: bool,
}

/// A filter is understood before the agent is asked: then the command line is wrong.
fn checked(text: &str) -> Result<String, String> {
    Filter::parse(text).map(|_| text.to_owned())
}

/// `tap`.
///
/// # Errors
/// When the tap cannot be opened.
pub async fn run(args: TapArgs) -> anyhow::Result<ExitCode> {
    let target = args.agent.target()?;
    let asking = || format!("ask the agent at {target}");
    let mut link = Link::open(&target).await.with_context(asking)?;
    let sent = link.send(Method::GET, &path(&args)).await;
    let response = sent.with_context(asking)?;
    if response.status() != StatusCode::OK {
        let answer = body(response).await.with_context(asking)?;
        let answer = String::from_utf8_lossy(&answer);
        let problem = answer.trim_end();
        bail!(
            "{}",
            problem.split_once(' ').map_or(problem, |(_, rest)| rest)
        );
    }
    show(response.into_body()).await
}

/// Writes items to standard output and notices to standard error, until there are no more or nobody reads them.
async fn show(mut body: Incoming) -> anyhow::Result<ExitCode> {
    let mut unfinished = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            complain("tidegate: the tap has ended: the agent has gone away\n");
            return Ok(ExitCode::FAILURE);
        };
        unfinished.extend_from_slice(&frame.into_data().unwrap_or_default());
        let whole = unfinished.iter().rposition(|byte| *byte == b'\n');
        let rest = unfinished.split_off(whole.map_or(0, |end| end + 1));
        let lines = std::mem::replace(&mut unfinished, rest);
        match write(&lines) {
            Ok(None) => {}
            Ok(Some(reason)) => {
                complain(&format!("tidegate: the tap has ended: {reason}\n"));
                return Ok(ExitCode::FAILURE);
            }
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
            Err(error) => return Err(error).context("write to standard output"),
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes whole lines. The reason for which the tap has ended, if it has.
fn write(lines: &[u8]) -> io::Result<Option<String>> {
    let mut out = io::stdout().lock();
    let mut reason = None;
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        match std::str::from_utf8(line).ok().and_then(Notice::parse) {
            None => out.write_all(line)?,
            Some(Notice::NotShown(items)) => {
                out.flush()?;
                complain(&format!("({items} more items passed, not shown)\n"));
            }
            Some(Notice::Ended(why)) => reason = Some(why),
        }
    }
    out.flush()?;
    Ok(reason)
}

fn path(args: &TapArgs) -> String {
    let format = match args.json {
        true => "json",
        false if io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() => "colour",
        false => "text",
    };
    let mut query = Serializer::for_suffix("/tap?".to_owned(), "/tap?".len());
    query
        .append_pair("pipeline", &args.pipeline)
        .append_pair("at", args.at.name())
        .append_pair("format", format);
    for (key, value) in [("limit", args.limit), ("rate", args.rate)] {
        if let Some(value) = value {
            query.append_pair(key, &value.to_string());
        }
    }
    if let Some(exporter) = &args.exporter {
        query.append_pair("exporter", exporter);
    }
    for filter in &args.filter {
        query.append_pair("filter", filter);
    }
    query.finish()
}
