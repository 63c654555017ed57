//! `top`: what the running agent does, in the terminal or for scripts.

mod figures;
mod screen;
mod table;
#[cfg(test)]
mod tests;
mod view;

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use hyper::{Method, StatusCode};

use super::agent::{AgentArgs, Link, Target, body};
use super::complain;
use crate::overview::{Document, VERSION};
use crate::units::HumanDuration;
use view::View;

pub(super) const TOP_HELP: &str = "\
Keys: q quits, s sorts by something else, / filters by name, p pauses, arrows scroll, ? shows what the columns mean.

Examples:
  tidegate top                                          of the installed service
  tidegate top --config agent.toml
  tidegate top --endpoint unix:/run/tidegate/admin.sock --interval 5s
  tidegate top -c agent.toml --once                     one table, with the rates of one interval
  tidegate top -c agent.toml --json | jq .exporters     a line of JSON for each interval

Exit codes: 0 it was left, or has printed what was asked for; 1 the agent cannot be asked.";

/// Show live what the running agent does: rates, queues, drops.
#[derive(Debug, Clone, Args)]
#[command(after_help = TOP_HELP)]
pub struct TopArgs {
    #[command(flatten)]
    agent: AgentArgs,
    /// How often to look, at least `100ms`.
    #[arg(long, short, default_value = "1s", value_parser = interval)]
    interval: HumanDuration,
    /// Print one table and end. So it does where standard output is no terminal.
    #[arg(long)]
    once: bool,
    /// Print a line of JSON for each interval; with --once, one.
    #[arg(long)]
    json: bool,
}

fn interval(text: &str) -> Result<HumanDuration, String> {
    let interval: HumanDuration = text.parse()?;
    match interval.0 >= INTERVAL_MIN {
        true => Ok(interval),
        false => Err("at least 100ms".to_owned()),
    }
}

/// An agent has more to do than to tell what it does.
const INTERVAL_MIN: Duration = Duration::from_millis(100);

/// An agent that takes longer to answer is away.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// `top`.
///
/// # Errors
/// When the agent cannot be asked, or the terminal not be used.
pub async fn run(args: TopArgs) -> anyhow::Result<ExitCode> {
    let agent = Asker::new(args.agent.target()?);
    let interval = args.interval.0;
    match (args.json, args.once || !io::stdout().is_terminal()) {
        (true, _) => print_lines(agent, interval, args.once).await,
        (false, true) => print_once(agent, interval).await,
        (false, false) => screen::run(agent, interval).await,
    }
}

/// Asks the agent, over one connection for as long as it holds.
#[derive(Debug)]
struct Asker {
    target: Target,
    link: Option<Link>,
}

impl Asker {
    fn new(target: Target) -> Self {
        Self { target, link: None }
    }

    async fn ask(&mut self) -> anyhow::Result<Document> {
        let asking = tokio::time::timeout(ANSWER_MAX, self.exchange());
        let answered = asking
            .await
            .with_context(|| format!("no answer in {ANSWER_MAX:?}"))
            .flatten();
        if answered.is_err() {
            // The next one gets a new connection.
            self.link = None;
        }
        answered
    }

    async fn exchange(&mut self) -> anyhow::Result<Document> {
        let mut link = match self.link.take() {
            Some(link) => link,
            None => Link::open(&self.target).await?,
        };
        let response = link.send(Method::GET, "/status").await?;
        let status = response.status();
        let answer = body(response).await?;
        match status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => bail!("this agent is too old: it has no /status"),
            _ => bail!("{}", String::from_utf8_lossy(&answer).trim_end()),
        }
        let document: Document = serde_json::from_slice(&answer).context("no agent answers")?;
        ensure!(
            document.version <= VERSION,
            "this agent is newer than this command, which may misunderstand it"
        );
        self.link = Some(link);
        Ok(document)
    }
}

/// What happened within an interval.
async fn view(agent: &mut Asker, interval: Duration) -> anyhow::Result<View> {
    let before = agent.ask().await?;
    tokio::time::sleep(interval).await;
    let now = agent.ask().await?;
    Ok(View::of(&now, Some(&before)))
}

async fn print_once(mut agent: Asker, interval: Duration) -> anyhow::Result<ExitCode> {
    let view = view(&mut agent, interval)
        .await
        .with_context(|| format!("ask the agent at {}", agent.target))?;
    let mut text = String::new();
    for line in table::lines(&view, &table::Wish::default()) {
        text.push_str(line.text().trim_end());
        text.push('\n');
    }
    Ok(super::print(&text))
}

/// A line for each interval in which the agent was there.
async fn print_lines(mut agent: Asker, interval: Duration, once: bool) -> anyhow::Result<ExitCode> {
    let mut away = false;
    let mut before = None;
    loop {
        match agent.ask().await {
            Err(problem) if once => {
                return Err(problem.context(format!("ask the agent at {}", agent.target)));
            }
            Err(problem) => {
                if !away {
                    complain(&format!(
                        "tidegate: the agent at {} is away, trying again: {problem:#}\n",
                        agent.target
                    ));
                }
                away = true;
                before = None;
            }
            Ok(now) => {
                away = false;
                if let Some(before) = &before {
                    let mut line = serde_json::to_vec(&View::of(&now, Some(before)))?;
                    line.push(b'\n');
                    let mut out = io::stdout().lock();
                    if let Err(error) = out.write_all(&line).and_then(|()| out.flush()) {
                        return match error.kind() {
                            io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
                            _ => Err(error).context("write to standard output"),
                        };
                    }
                    if once {
                        return Ok(ExitCode::SUCCESS);
                    }
                }
                before = Some(now);
            }
        }
        tokio::time::sleep(interval).await;
    }
}
