//! `target-svc`: a small HTTP service instrumented with OpenTelemetry, to be put under load.

mod cli;
mod observe;
mod problem;
mod routes;
mod serve;
mod telemetry;
mod work;

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser as _;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::cli::Args;
use crate::telemetry::Telemetry;

fn main() -> ExitCode {
    let args = Args::parse();
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
    let telemetry = Telemetry::start(&args.telemetry)?;
    let served = serve(&args, &telemetry, &mut stop).await;
    let counts = telemetry
        .shutdown(Duration::from_millis(args.shutdown_timeout_ms))
        .await;
    counts.log();
    if let Some(path) = &args.counts_file {
        counts.write(path)?;
    }
    served
}

/// Serves until the stop signal, then lets requests under way end within the drain time.
async fn serve(
    args: &Args,
    telemetry: &Telemetry,
    stop: &mut watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind(&args.listen)
        .await
        .with_context(|| format!("cannot listen on {}", args.listen))?;
    let address = listener.local_addr()?;
    let observer = observe::Observer::new(telemetry.meter(), address);
    let app = routes::router(args.max_body_bytes, observer);
    announce(address)?;

    let mut drain = stop.clone();
    let header_timeout = Duration::from_millis(args.header_timeout_ms);
    let server = serve::serve(listener, app, header_timeout, async move {
        stopped(&mut drain).await;
    });
    let mut server = tokio::spawn(server);
    tokio::select! {
        result = &mut server => return result.context("the server failed"),
        () = stopped(stop) => tracing::info!("stopping"),
    }
    let drained =
        tokio::time::timeout(Duration::from_millis(args.drain_timeout_ms), &mut server).await;
    if drained.is_err() {
        tracing::warn!(
            timeout_ms = args.drain_timeout_ms,
            "requests still under way were cut off"
        );
        server.abort();
    }
    Ok(())
}

/// Tells where the service listens: a line on stdout for scripts, an event for logs.
fn announce(address: SocketAddr) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "listening on http://{address}").context("cannot write to standard output")?;
    stdout.flush().context("cannot write to standard output")?;
    tracing::info!(%address, "listening");
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
