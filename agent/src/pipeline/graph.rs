//! The graph at work: swapped from the leaves up, and ended in order: receivers, pipelines, queues, workers.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::task::{JoinError, JoinHandle, JoinSet};
use tracing::{error, info, warn};

use super::build::{Built, InletKey, Ledgers, Prior, PriorSender, World};
use super::plan::{Node, Plan};
use super::retire::{Departure, Retirement, end_workers, wait_for_workers};
use super::{Inlet, Pipeline};
use crate::component::{ComponentError, Receiver, Sender, Shutdown};
use crate::failure::Failures;
use crate::status::Status;
use crate::telemetry::Live;

/// A receiver's id and how it ended; whether it was told to.
type ReceiverEnd = (String, bool, Result<(), ComponentError>);

/// Running components.
pub struct Running {
    world: World,
    receivers: BTreeMap<String, LiveReceiver>,
    receiving: JoinSet<ReceiverEnd>,
    inlets: BTreeMap<InletKey, Arc<Inlet>>,
    pipelines: Vec<LivePipeline>,
    senders: Vec<Sender>,
    ledgers: Ledgers,
    /// Items that exporters gave up whose accounts are forgotten.
    given_up_before: u64,
    /// Cuts every drain short.
    cut: Shutdown,
    /// What an earlier swap has left behind, and who sees to it.
    departures: Vec<Departure>,
    retirements: JoinSet<()>,
    /// How long a removed exporter may go without a delivery while it has something to deliver.
    pub drain_timeout: Duration,
}

struct LiveReceiver {
    shutdown: Shutdown,
    ended: Shutdown,
}

pub(super) struct LivePipeline {
    node: Node,
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) timer: JoinHandle<()>,
}

/// The same if nobody says otherwise.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

impl Running {
    pub(super) fn new(built: &Built) -> Self {
        Self {
            world: built.world.clone(),
            receivers: BTreeMap::new(),
            receiving: JoinSet::new(),
            inlets: BTreeMap::new(),
            pipelines: Vec::new(),
            senders: Vec::new(),
            ledgers: Arc::clone(&built.ledgers),
            given_up_before: 0,
            cut: built.cut.clone(),
            departures: Vec::new(),
            retirements: JoinSet::new(),
            drain_timeout: DRAIN_TIMEOUT,
        }
    }

    /// What builds `new` beside this, which runs as `old` says. To be called where it may wait for the disk; nothing
    /// that runs changes.
    pub fn builder(
        &mut self,
    ) -> impl FnOnce(&Plan<'_>, &Plan<'_>) -> Result<Built, Failures> + Send + use<> {
        // What is built may be what was removed before: it begins anew.
        self.tidy();
        let world = self.world.clone();
        let prior = self.prior();
        move |old, new| new.build_upon(&world, old, prior)
    }

    fn prior(&self) -> Prior {
        Prior {
            senders: self
                .senders
                .iter()
                .map(|sender| PriorSender {
                    exporter: sender.exporter.clone(),
                    signal: sender.signal,
                    queue: sender.queue.clone(),
                    settings: sender.settings.clone(),
                    leftovers: sender.leftovers.clone(),
                })
                .collect(),
            leaving: self
                .departures
                .iter()
                .flat_map(|departure| departure.senders.iter().cloned())
                .collect(),
            finishing: self
                .departures
                .iter()
                .flat_map(|departure| departure.finishing.iter().cloned())
                .collect(),
            pipelines: self
                .pipelines
                .iter()
                .map(|live| (live.node.clone(), Arc::clone(&live.pipeline)))
                .collect(),
            inlets: self.inlets.clone(),
            ledgers: Arc::clone(&self.ledgers),
            cut: self.cut.clone(),
        }
    }

    /// Puts what was built in the place of what runs, from the leaves up: nothing is refused meanwhile, and every batch
    /// goes the old way or the new way as a whole. What has no place any more is seen to in the background.
    pub fn swap(&mut self, built: Built) {
        let mut retirement = Retirement::new(self.drain_timeout, &self.departures);
        let Built {
            receivers,
            kept_receivers,
            inlets,
            pipelines,
            senders,
            kept_exporters,
            taken,
            tunings,
            statuses,
            ..
        } = built;
        for placed in &pipelines {
            placed.pipeline.attach();
        }
        for tuning in tunings {
            tuning.queue.tune(&tuning.settings, tuning.batching);
            tuning.queue.start();
        }
        let (kept, mut old): (Vec<_>, Vec<_>) = std::mem::take(&mut self.senders)
            .into_iter()
            .partition(|sender| kept_exporters.contains(&sender.exporter));
        old.extend(taken.into_iter().filter_map(|mut slot| slot.take()));
        self.senders = kept;
        self.hand_over(old, senders, &mut retirement);
        let ways = self.replace_pipelines(pipelines, &mut retirement);
        self.redirect(inlets, &ways, &mut retirement);
        self.replace_receivers(receivers, &kept_receivers, &mut retirement);
        self.world.statuses.adopt(statuses);
        if !retirement.is_empty() {
            let (departure, work) = retirement.begin();
            self.departures.push(departure);
            self.retirements.spawn(work);
        }
    }

    /// Lets the new senders' workers begin behind those who had their queues before.
    fn hand_over(&mut self, mut old: Vec<Sender>, new: Vec<Sender>, retirement: &mut Retirement) {
        for mut sender in new {
            let is_same = |before: &mut Sender| {
                before.exporter == sender.exporter && before.signal == sender.signal
            };
            let mut workers = Vec::new();
            for before in old.extract_if(.., is_same) {
                before.leave.trigger();
                for queue in before.queues() {
                    if queue.is_same(&sender.queue) {
                        continue;
                    }
                    if sender.leftovers.iter().any(|left| left.is_same(queue)) {
                        retirement.closes(queue);
                    } else {
                        retirement.finishes(&sender.exporter, queue, &before.ended);
                    }
                }
                workers.extend(before.workers);
            }
            sender.start_after(workers);
            self.senders.push(sender);
        }
        for sender in old {
            retirement.sees_off(sender);
        }
    }

    /// All pipelines of the plan, in its order.
    fn replace_pipelines(
        &mut self,
        placed: Vec<super::build::Placed>,
        retirement: &mut Retirement,
    ) -> Vec<Arc<Pipeline>> {
        let mut old = std::mem::take(&mut self.pipelines);
        for placed in placed {
            let pipeline = Arc::clone(&placed.pipeline);
            let timer = if placed.is_new {
                if let Some(before) = old.iter().find(|live| live.node.id == placed.node.id) {
                    pipeline.follow(&before.pipeline);
                }
                let name = format!("pipelines.{} timers", placed.node.id);
                let line = self.world.progress.line(name, || false);
                tokio::spawn(Arc::clone(&pipeline).run_timers(line.pulse()))
            } else {
                let place = old
                    .iter()
                    .position(|live| Arc::ptr_eq(&live.pipeline, &pipeline))
                    .expect("a kept pipeline is one of those that run");
                old.swap_remove(place).timer
            };
            self.pipelines.push(LivePipeline {
                node: placed.node,
                pipeline,
                timer,
            });
        }
        for live in old {
            retirement.drains(live);
        }
        let all = self.pipelines.iter();
        all.map(|live| Arc::clone(&live.pipeline)).collect()
    }

    fn redirect(
        &mut self,
        inlets: BTreeMap<InletKey, (Arc<Inlet>, Vec<usize>)>,
        ways: &[Arc<Pipeline>],
        retirement: &mut Retirement,
    ) {
        let mut old = std::mem::take(&mut self.inlets);
        for (key, (inlet, places)) in inlets {
            let pipelines = places.iter().filter_map(|place| ways.get(*place).cloned());
            retirement.waits_for(inlet.lead_to(pipelines.collect()));
            old.remove(&key);
            self.inlets.insert(key, inlet);
        }
        for inlet in old.into_values() {
            retirement.shuts(inlet);
        }
    }

    fn replace_receivers(
        &mut self,
        new: Vec<(String, Box<dyn Receiver>)>,
        kept: &std::collections::BTreeSet<String>,
        retirement: &mut Retirement,
    ) {
        let (stay, old): (BTreeMap<_, _>, BTreeMap<_, _>) = std::mem::take(&mut self.receivers)
            .into_iter()
            .partition(|(id, _)| kept.contains(id));
        self.receivers = stay;
        for (id, receiver) in new {
            let live = LiveReceiver {
                shutdown: Shutdown::default(),
                ended: Shutdown::default(),
            };
            // Takes over the sockets.
            let work = receiver.run(live.shutdown.clone());
            let (shutdown, ended) = (live.shutdown.clone(), live.ended.clone());
            self.receivers.insert(id.clone(), live);
            self.receiving.spawn(async move {
                let end = work.await;
                ended.trigger();
                (id, shutdown.is_triggered(), end)
            });
        }
        for receiver in old.into_values() {
            receiver.shutdown.trigger();
            retirement.waits_for_receiver(receiver.ended);
        }
    }

    /// Forgets the metrics and accounts of what has been removed, or was built and never ran. The account of an exporter
    /// that gave something up stays, or no scrape would ever see it; unless items of it are in a log on disk, which are
    /// accepted again when it comes back. Nothing may be under construction meanwhile. Returns whether that was all: not
    /// while something removed still drains, or another exporter has items of a removed pipeline.
    pub fn tidy(&mut self) -> bool {
        while self.retirements.try_join_next().is_some() {}
        self.departures.retain(|departure| !departure.is_over());
        if !self.departures.is_empty() {
            return false;
        }
        let mut live = self.live();
        let (mut waiting, mut forgotten) = (false, 0);
        let mut ledgers = self.ledgers.lock().unwrap_or_else(PoisonError::into_inner);
        ledgers.retain(|account, ledger| {
            if live.accounts.contains(account) {
                return true;
            }
            let (_, exporter) = account;
            let mut exporters = live.exporters.iter();
            let stays = match ledger.queued() {
                0 => ledger.given_up() > 0,
                _ => exporters.any(|(id, _)| id == exporter),
            };
            if stays {
                waiting |= ledger.queued() != 0;
                live.accounts.insert(account.clone());
            } else {
                forgotten += ledger.given_up();
            }
            stays
        });
        drop(ledgers);
        self.given_up_before += forgotten;
        self.world.telemetry.retain(&live);
        !waiting
    }

    /// What runs, by the labels of its metrics.
    fn live(&self) -> Live {
        let mut live = Live::default();
        for Node {
            id: pipeline,
            signal,
            receivers,
            processors,
            exporters,
        } in self.pipelines.iter().map(|live| &live.node)
        {
            let with_signal = |id: &String| (id.clone(), *signal);
            live.receivers.extend(receivers.iter().map(with_signal));
            live.processors.extend(processors.iter().map(with_signal));
            live.exporters.extend(exporters.iter().map(with_signal));
            let accounts = exporters.iter();
            let accounts = accounts.map(|exporter| (pipeline.clone(), exporter.clone()));
            live.accounts.extend(accounts);
        }
        live
    }

    /// What swaps have left behind and is not gone yet.
    #[cfg(test)]
    pub(super) fn leaving(&self) -> usize {
        let departures = self.departures.iter();
        departures.filter(|departure| !departure.is_over()).count()
    }

    /// Waits until a receiver ends by itself, which is always a failure. Never resolves without receivers.
    pub async fn receiver_failed(&mut self) -> String {
        loop {
            match self.receiving.join_next().await {
                Some(Ok((id, true, end))) => {
                    if let Err(cause) = end {
                        error!(receiver = id, %cause, "a receiver did not end well");
                    }
                }
                Some(ended) => {
                    let id = ended.as_ref().ok().map(|(id, ..)| id.clone());
                    let problem = describe_end(ended).unwrap_or_else(|| {
                        "a receiver ended although nobody asked it to".to_owned()
                    });
                    if let Some(status) = id.and_then(|id| self.world.statuses.receiver(&id)) {
                        status.fatal(&problem);
                    }
                    return problem;
                }
                None => std::future::pending().await,
            }
        }
    }

    /// Stops receiving, lets what was accepted flow out, and ends every task. What is not delivered within
    /// `drain_timeout` stays in the logs of durable queues; from memory it is given up, counted and logged.
    pub async fn stop(mut self, drain_timeout: Duration) -> Ending {
        let deadline = tokio::time::Instant::now() + drain_timeout;
        self.world.statuses.all_enter(Status::Stopping);
        for receiver in self.receivers.values() {
            receiver.shutdown.trigger();
        }
        while let Ok(Some(ended)) =
            tokio::time::timeout_at(deadline, self.receiving.join_next()).await
        {
            if let Some(problem) = describe_end(ended) {
                error!("{problem}");
            }
        }
        if !self.receiving.is_empty() {
            warn!(
                receivers = self.receiving.len(),
                "still busy when the drain time was over"
            );
            self.receiving.shutdown().await;
        }
        // What an earlier swap has replaced empties its pipelines into queues that are still open.
        self.inlets.clear();
        for departure in &self.departures {
            drop(tokio::time::timeout_at(deadline, departure.drained.triggered()).await);
        }
        for live in &self.pipelines {
            live.timer.abort();
            live.pipeline.drain();
        }
        for queue in self.senders.iter().flat_map(Sender::queues) {
            queue.close();
        }
        info!("draining: receivers have stopped");
        let unfinished = wait_for_workers(&mut self.senders, deadline).await;
        let all = async { while self.retirements.join_next().await.is_some() {} };
        drop(tokio::time::timeout_at(deadline, all).await);
        let given_up_before = self.given_up();
        self.cut.trigger();
        end_workers(unfinished).await;
        for queue in self.senders.iter().flat_map(Sender::queues) {
            queue.finish().await;
        }
        while self.retirements.join_next().await.is_some() {}
        self.world.statuses.all_enter(Status::Stopped);
        let given_up = self.given_up();
        Ending {
            given_up,
            given_up_now: given_up - given_up_before,
            stays: self.queued(),
        }
    }

    /// What became so far of what was accepted.
    pub fn totals(&self) -> Totals {
        let ledgers = self.ledgers.lock().unwrap_or_else(PoisonError::into_inner);
        let delivered = ledgers.values().map(crate::ledger::Ledger::delivered).sum();
        drop(ledgers);
        Totals {
            delivered,
            queued: self.queued(),
            given_up: self.given_up(),
        }
    }

    fn queued(&self) -> usize {
        let ledgers = self.ledgers.lock().unwrap_or_else(PoisonError::into_inner);
        let queued = ledgers.values().map(crate::ledger::Ledger::queued);
        queued
            .map(|items| usize::try_from(items).unwrap_or(0))
            .sum()
    }

    fn given_up(&self) -> u64 {
        let ledgers = self.ledgers.lock().unwrap_or_else(PoisonError::into_inner);
        let given_up = ledgers.values().map(crate::ledger::Ledger::given_up);
        self.given_up_before + given_up.sum::<u64>()
    }
}

/// What became so far of what was accepted, in items, once for each exporter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    /// Taken by their destination.
    pub delivered: u64,
    /// Waiting for it.
    pub queued: usize,
    /// Given up.
    pub given_up: u64,
}

/// What became of what was accepted, in items, once for each exporter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ending {
    /// Given up for want of time when the agent stopped.
    pub given_up_now: u64,
    /// Given up since the agent started, this included: what destinations rejected, what became too old.
    pub given_up: u64,
    /// Kept in the logs of durable queues for the next start.
    pub stays: usize,
}

fn describe_end(ended: Result<ReceiverEnd, JoinError>) -> Option<String> {
    match ended {
        Ok((_, _, Ok(()))) => None,
        Ok((id, _, Err(cause))) => Some(format!("receiver {id}: {cause}")),
        Err(panic) => Some(format!("a receiver's task failed: {panic}")),
    }
}
