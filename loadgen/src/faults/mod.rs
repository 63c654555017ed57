//! `loadgen faults`: a proxy between an agent and its destination that makes things go wrong on purpose.

pub(crate) mod board;
mod control;
pub(crate) mod fault;
pub(crate) mod proxy;
mod relay;
mod stream;
mod wire;

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rand::Rng as _;
use serde_json::json;

use crate::cli::parse_duration;
use crate::signals::Interruptions;
use crate::sink::serve::{Version, listen, serve};
use crate::stdout::print;
use board::Board;
use control::{Control, State};
use fault::{Fault, Rule};
use proxy::{Protocol, Proxy};

/// Stand between an agent and its destination and make things go wrong on purpose.
///
/// A fault is written KIND[:OPTION[=VALUE]]...; it hits requests that carry data (INSERTs, OTLP exports):
///
/// refuse (period=300ms), delay (by=200ms), cut-before, cut-request, cut-after, cut-answer, black-hole (read),
/// throttle (rate=65536 bytes/s), slow (gap=5ms), status (code=503, retry-after=SECONDS, forwarded),
/// exception (code=241, forwarded, bare or tagged, split).
///
/// Options of each: share=0.1 of the requests, times=3 at most, in=5s, for=2s, all (requests, whatever they carry).
/// Rules are asked in turn; the first that applies decides.
///
/// Once it listens, one line of JSON with the real addresses and the seed goes to standard output; what was done goes
/// there at the end (Ctrl-C). On the control port GET /faults answers the same, POST /faults with a JSON list of
/// faults replaces those in force, DELETE /faults clears them.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Listen here; port 0 takes a free one
    listen: SocketAddr,
    /// The destination, host:port
    #[arg(long, value_name = "ADDRESS")]
    to: String,
    /// What goes over the connections: with `tcp` faults hit whole connections
    #[arg(long, value_enum, default_value = "http")]
    protocol: Protocol,
    /// A fault in force from the start; may be given several times
    #[arg(short, long = "fault", value_name = "FAULT")]
    faults: Vec<String>,
    /// Hit this share of the requests, 0 to 1, each with one of the faults given, or of all kinds if none is
    #[arg(long, value_name = "SHARE")]
    random: Option<f64>,
    /// Decides which requests are hit by chance [default: another one each time]
    #[arg(long)]
    seed: Option<u64>,
    /// Listen here for control requests
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    control: SocketAddr,
    /// Stop after this long [default: when interrupted]
    #[arg(long, value_parser = parse_duration)]
    duration: Option<Duration>,
}

impl Args {
    fn rules(&self) -> anyhow::Result<Vec<Rule>> {
        let rules = control::parse(&self.faults, self.protocol)?;
        let Some(share) = self.random else {
            return Ok(rules);
        };
        ensure!(share > 0.0 && share <= 1.0, "--random is above 0, up to 1");
        let given = rules.iter().map(|rule| rule.fault).collect();
        let faults = if rules.is_empty() {
            every_fault(self.protocol)?
        } else {
            given
        };
        Ok(Rule::spread(&faults, share))
    }
}

/// One of each kind that this protocol can have.
fn every_fault(protocol: Protocol) -> anyhow::Result<Vec<Fault>> {
    let all: Vec<Fault> = Fault::ALL
        .iter()
        .map(|text| Ok(Rule::parse(text)?.fault))
        .collect::<anyhow::Result<_>>()?;
    let possible = |fault: &Fault| protocol == Protocol::Http || fault.works_over_tcp();
    Ok(all.into_iter().filter(possible).collect())
}

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let rules = args.rules()?;
    let to = args
        .to
        .to_socket_addrs()
        .with_context(|| format!("`{}` is no address", args.to))?
        .next()
        .with_context(|| format!("`{}` has no address", args.to))?;
    let seed = args.seed.unwrap_or_else(|| rand::rng().random());
    let board = Arc::new(Board::new(seed));
    board.set(rules);
    let mut proxy = Proxy::start(args.listen, to, args.protocol, board)?;
    let board = Arc::clone(&proxy.board);
    let (listener, control) = listen(args.control).await?;
    let handler = Control {
        board: Arc::clone(&board),
        protocol: args.protocol,
    };
    let addresses = json!({"listen": proxy.address, "to": to, "control": control, "seed": seed});
    print(&format!("{addresses}\n"))?;
    let mut interruptions = Interruptions::listen()?;
    let time_is_up = async {
        match args.duration {
            Some(duration) => tokio::time::sleep(duration).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        failed = proxy.failed() => failed?,
        () = serve(listener, Version::Http1, handler) => {}
        () = time_is_up => {}
        () = interruptions.next() => {}
    }
    print(&(serde_json::to_string_pretty(&State::of(&board))? + "\n"))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests;
