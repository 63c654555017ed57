//! `target-svc`: a small HTTP service instrumented with OpenTelemetry, to be put under load.

mod body;
mod cli;
mod client;
mod database;
mod inventory;
mod measure;
mod observe;
mod openapi;
mod order;
mod page;
mod problem;
mod query;
mod roles;
mod routes;
mod serve;
mod simulate;
mod telemetry;
mod work;

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser as _};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use crate::cli::Args;
use crate::roles::Server;
use crate::telemetry::Telemetry;

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(reason) = args.contradiction() {
        let kind = clap::error::ErrorKind::ArgumentConflict;
        Args::command().error(kind, reason).exit();
    }
    let Err(error) = start(args) else {
        return ExitCode::SUCCESS;
    };
    // Nothing is left to tell when stderr is closed; the exit status still says it.
    drop(writeln!(std::io::stderr(), "target-svc: {error:#}"));
    ExitCode::FAILURE
}

fn start(args: Args) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("target-svc")
        .build()?;
    let result = runtime.block_on(run(args));
    // An export that hangs in a background thread must not keep the process alive.
    runtime.shutdown_background();
    result
}

async fn run(args: Args) -> anyhow::Result<()> {
    let mut stop = stop_on_signal()?;
    if let Some(path) = &args.counts_file {
        // Found out now, not when there is something to write.
        std::fs::File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let telemetry = Telemetry::start(&args.telemetry, roles::service_name(args.role))?;
    let served = run_role(&args, &telemetry, &mut stop).await;
    let counts = telemetry
        .shutdown(Duration::from_millis(args.shutdown_timeout_ms))
        .await;
    counts.log();
    if let Some(path) = &args.counts_file {
        counts.write(path)?;
    }
    served
}

/// Opens what the role needs, serves, and closes the databases.
async fn run_role(
    args: &Args,
    telemetry: &Telemetry,
    stop: &mut watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let servers = roles::bind(args, telemetry).await?;
    let databases: Vec<_> = servers.iter().map(|it| it.database.clone()).collect();
    let served = serve(args, servers, stop).await;
    for database in databases {
        database.close().await;
    }
    served
}

/// Serves until the stop signal, then lets requests under way end within the drain time.
async fn serve(
    args: &Args,
    servers: Vec<Server>,
    stop: &mut watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let header_timeout = Duration::from_millis(args.header_timeout_ms);
    let mut running = JoinSet::new();
    let mut caller: Option<oneshot::Receiver<()>> = None;
    for server in servers {
        announce(server.name, server.address)?;
        let (ended, ends) = oneshot::channel();
        let before = caller.replace(ends);
        let mut drain = stop.clone();
        let until = async move {
            stopped(&mut drain).await;
            if let Some(caller) = before {
                // Who is called stops after who calls. Nothing is sent: the caller's half is dropped at its end.
                drop(caller.await);
            }
        };
        let serving = serve::serve(server.listener, server.app, header_timeout, until);
        running.spawn(async move {
            serving.await;
            drop(ended);
        });
    }
    tokio::select! {
        ended = running.join_next() => match ended {
            Some(result) => return result.context("the server failed"),
            None => return Ok(()),
        },
        () = stopped(stop) => tracing::info!("stopping"),
    }
    let all = async { while running.join_next().await.is_some() {} };
    let drained = tokio::time::timeout(Duration::from_millis(args.drain_timeout_ms), all).await;
    if drained.is_err() {
        tracing::warn!(
            timeout_ms = args.drain_timeout_ms,
            "requests still under way were cut off"
        );
    }
    Ok(())
}

/// Tells where the service listens: a line on stdout for scripts, an event for logs. A server with a name is within the
/// process; scripts need not know it.
fn announce(name: Option<&str>, address: SocketAddr) -> anyhow::Result<()> {
    tracing::info!(%address, server.name = name, "listening");
    if name.is_some() {
        return Ok(());
    }
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "listening on http://{address}").context("cannot write to standard output")?;
    stdout.flush().context("cannot write to standard output")?;
    Ok(())
}

/// A flag that turns true at SIGINT or SIGTERM. A second signal ends the process at once.
fn stop_on_signal() -> anyhow::Result<watch::Receiver<bool>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        for count in 0_u8.. {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if count > 0 {
                std::process::exit(130);
            }
            stop.send_replace(true);
        }
    });
    Ok(stopped)
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|&stop| stop).await.is_err() {
        // The signal task has ended without a signal, which only a failing runtime makes it do.
        std::future::pending::<()>().await;
    }
}
