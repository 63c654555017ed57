//! The clients of a run, all together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::Context as _;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::items::Run;
use super::sender::{Manner, Record, Sender};
use super::stage::Stage;
use crate::otlp::client::Protocol;
use crate::otlp::signal::Signal;

/// All clients of a run.
pub(super) struct Crowd {
    clients: JoinSet<anyhow::Result<Record>>,
    end: watch::Sender<Option<Instant>>,
    offered: Arc<AtomicU64>,
}

impl Crowd {
    /// Starts clients whose numbers begin `skip` into those of their connections.
    pub(super) fn start(
        stage: &Stage,
        run: &Arc<Run>,
        manner: &Manner,
        connections: u16,
        seed: u64,
        start: Instant,
        skip: u64,
    ) -> anyhow::Result<Self> {
        let (end, ended) = watch::channel(None);
        let offered = Arc::new(AtomicU64::new(0));
        let mut clients = JoinSet::new();
        for index in 0..connections {
            let signal = Signal::ALL[usize::from(index) % Signal::ALL.len()];
            let protocol = if (usize::from(index) / Signal::ALL.len()).is_multiple_of(2) {
                Protocol::Http
            } else {
                Protocol::Grpc
            };
            let sender = Sender {
                index,
                run: Arc::clone(run),
                target: stage.target(protocol, signal)?,
                signal,
                manner: manner.clone(),
                seed,
                start,
                skip,
                offered: Arc::clone(&offered),
            };
            clients.spawn(sender.run(ended.clone()));
        }
        Ok(Self {
            clients,
            end,
            offered,
        })
    }

    /// Items in all requests so far, repetitions included.
    pub(super) fn offered(&self) -> u64 {
        self.offered.load(Ordering::Relaxed)
    }

    /// Lets them finish and returns what they did.
    ///
    /// # Errors
    /// When one of them could not go on.
    pub(super) async fn stop(mut self) -> anyhow::Result<Vec<Record>> {
        self.end.send_replace(Some(Instant::now()));
        let mut records = Vec::new();
        while let Some(client) = self.clients.join_next().await {
            records.push(client.context("a client panicked")??);
        }
        Ok(records)
    }
}
