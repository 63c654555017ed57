//! `tidegate localdb`: ClickHouse's HTTP interface in front of the engine as a library, for laptops and tests.
//!
//! A `clickhouse server` replaces it with no change but the address. What it does not do: clusters, the native
//! TCP protocol, users and roles, external tables in forms, `query_log`. A `query_id` is given back in the answer's
//! header, but the engine has its own: `queryID()` and `system.processes` show that one.
//!
//! Bounds. Running statements: `--max-queries`, each with a blocking thread and, while a query streams, one
//! more; others wait 30 s. Connections: `--max-connections`. An answer: 1 MiB is held back (256 MiB when the
//! request asks to wait for the end), the rest is streamed at the client's pace through a pipe. An insert: a few
//! MiB of body wait for the engine, whose own block (about a million rows) is the unit that is stored or not.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use crate::systemd::{Notifier, State, extending};

mod answer;
mod body;
mod dedup_log;
mod encode;
mod engine;
mod exception;
mod execute;
mod fetch;
mod ffi;
mod form;
mod frames;
mod lexer;
mod library;
mod native;
mod native_layout;
mod parameters;
mod response;
mod server;
mod service;
mod sessions;
mod settings;
mod statement;

pub use server::Server;

/// Runs a ClickHouse on this machine: the real engine as a library, behind ClickHouse's HTTP interface.
///
/// Any client that speaks HTTP works: curl, the `clickhouse` crate, clickhouse-connect, Grafana. Point it at
/// http://127.0.0.1:8123, user "default", no password:
///
///   curl 'http://127.0.0.1:8123/?query=SELECT+version()'
///
/// Data is kept in --path and survives restarts and crashes. To move to a server, change the address.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Address to listen on. Port 0 takes a free one; the log says which.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8123")]
    pub listen: SocketAddr,

    /// Folder for the data; made if missing, used by one process at a time
    /// [default: $XDG_DATA_HOME/tidegate/localdb or ~/.local/share/tidegate/localdb].
    #[arg(long, value_name = "DIR")]
    pub path: Option<PathBuf>,

    /// The engine's library, or a folder with libchdb.so
    /// [default: ~/.local/share/tidegate/lib/VERSION, /usr/lib/tidegate, /usr/local/lib].
    #[arg(long, value_name = "PATH", env = library::VARIABLE)]
    pub library: Option<PathBuf>,

    /// Get the engine first if it is missing (180 MB), with npm or curl, into ~/.local/share/tidegate/lib.
    #[arg(long)]
    pub fetch: bool,

    /// As --fetch, and exit.
    #[arg(long)]
    pub fetch_only: bool,

    /// User that requests must name; without --user and --password anyone is let in.
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,

    /// Password that requests must bring.
    #[arg(
        long,
        value_name = "TEXT",
        env = "TIDEGATE_LOCALDB_PASSWORD",
        hide_env_values = true
    )]
    pub password: Option<String>,

    /// How many connections may be open; more wait to be accepted.
    #[arg(long, value_name = "COUNT", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_connections: u32,

    /// How many statements may run at once; more wait up to 30 s.
    #[arg(long, value_name = "COUNT", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=200))]
    pub max_queries: u32,

    /// Seconds that running requests get to end after SIGTERM or SIGINT, before they are stopped.
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    pub shutdown_timeout: u64,
}

/// Serves until SIGTERM or SIGINT, then closes the data.
///
/// # Errors
/// When the library is missing, the address or the data folder is taken, or the engine does not start.
pub async fn run(options: Options, notifier: Notifier) -> anyhow::Result<()> {
    if options.fetch || options.fetch_only {
        let named = options.library.clone();
        notifier.tell(&[State::Status(
            "getting the ClickHouse engine if it is missing",
        )]);
        let fetching = tokio::task::spawn_blocking(move || match library::find(named.as_deref()) {
            Ok(found) => Ok(found),
            Err(_) if named.is_none() => fetch::fetch(),
            Err(missing) => Err(missing),
        });
        let library = extending(&notifier, FETCH_MAX, fetching).await??;
        tracing::info!(library = %library.display(), "the ClickHouse engine is installed");
        if options.fetch_only {
            return Ok(());
        }
    }
    // Taken before the start, so that a signal during it is not lost.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let bound = Duration::from_secs(options.shutdown_timeout);
    let server = extending(&notifier, OPEN_MAX, Server::start(options)).await?;
    let status = format!("listening on http://{}", server.address());
    notifier.tell(&[State::Ready, State::Status(&status)]);
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM: shutting down"),
        _ = interrupt.recv() => tracing::info!("SIGINT: shutting down"),
    }
    notifier.tell(&[State::Stopping, State::Status("closing the data")]);
    extending(&notifier, bound + CLOSE_MAX, server.stop(bound)).await
}

/// For getting 180 MB over a slow line.
const FETCH_MAX: Duration = Duration::from_secs(3600);
/// For reading the parts of many large tables.
const OPEN_MAX: Duration = Duration::from_secs(15 * 60);
/// For closing the data once requests have ended.
const CLOSE_MAX: Duration = Duration::from_secs(60);

/// Random bits for names and marks; nothing secret depends on them.
fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::time::Instant::now())
}
