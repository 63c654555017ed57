//! The sink of a measurement: a server in this process that discards what it is sent, and counts.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::Context as _;
use tokio::sync::oneshot;

use crate::sink::{Counting, DEDUPLICATION_WINDOW, Faults, Limits, Settings, Sink, Stats};

/// A sink on a thread of its own, which runs on the core of the thread that starts it.
pub(super) struct SinkThread {
    pub(super) clickhouse: SocketAddr,
    pub(super) otlp_http: SocketAddr,
    pub(super) otlp_grpc: SocketAddr,
    pub(super) stats: Arc<Stats>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl SinkThread {
    /// Starts to listen: as ClickHouse on `port`, or wherever there is a free one.
    ///
    /// # Errors
    /// When the port is taken, or threads cannot be had.
    pub(super) fn start(port: Option<u16>) -> anyhow::Result<Self> {
        let any_port = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let settings = Settings {
            clickhouse: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port.unwrap_or(0)))),
            otlp_http: any_port,
            otlp_grpc: any_port,
            counting: Counting::Items,
            deduplication_window: DEDUPLICATION_WINDOW,
            faults: Faults::NONE,
            limits: Limits::default(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let mut sink = runtime.block_on(Sink::start(&settings))?;
        let real = |address: Option<SocketAddr>| address.context("the sink has no address");
        let addresses = sink.addresses;
        let stats = Arc::clone(&sink.stats);
        let (stop, stopped) = oneshot::channel();
        let serve = move || {
            runtime.block_on(async {
                tokio::select! {
                    () = sink.serve() => {}
                    // A message and a lost sender mean the same.
                    _ = stopped => {}
                }
            });
        };
        let thread = std::thread::Builder::new()
            .name("sink".to_owned())
            .spawn(serve)?;
        Ok(Self {
            clickhouse: real(addresses.clickhouse)?,
            otlp_http: real(addresses.otlp_http)?,
            otlp_grpc: real(addresses.otlp_grpc)?,
            stats,
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for SinkThread {
    fn drop(&mut self) {
        self.stop = None;
        if self
            .thread
            .take()
            .is_some_and(|thread| thread.join().is_err())
        {
            tracing::error!("the sink panicked");
        }
    }
}
