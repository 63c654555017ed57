//! What a swap leaves behind: old ways are waited for, old pipelines emptied, old queues drained, all in the background.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::Inlet;
use super::build::Slot;
use super::graph::LivePipeline;
use crate::component::{BoxFuture, Sender, Shutdown};
use crate::exporters::queue::Queue;

/// Requests to a signal that is gone may still be on their way for so long: as long as a receiver waits when it ends.
const LATE_REQUESTS_MAX: Duration = Duration::from_secs(10);

/// How long workers may take to notice that the drain was cut short.
const CUT_GRACE: Duration = Duration::from_secs(2);

/// What is to be seen to.
pub(super) struct Retirement {
    receivers: Vec<Shutdown>,
    inlets: Vec<Arc<Inlet>>,
    ways: Vec<CancellationToken>,
    pipelines: Vec<LivePipeline>,
    closing: Vec<(Queue, u64)>,
    finishing: Vec<Finishing>,
    senders: Vec<(String, Slot)>,
    /// Earlier ones, whose pipelines may empty themselves into the queues that are closed here.
    after: Vec<Shutdown>,
    drain_timeout: Duration,
}

/// A queue that is empty and takes nothing more.
struct Finishing {
    exporter: String,
    queue: Queue,
    workers_ended: Shutdown,
    /// Triggered when it has let go of its folder.
    done: Shutdown,
}

/// What a later swap, and the end, must know of it.
pub(super) struct Departure {
    /// Exporters' ids, and what tells that a queue of theirs has let go of its folder.
    pub(super) finishing: Vec<(String, Shutdown)>,
    /// Exporters' ids and their senders, which may be taken back.
    pub(super) senders: Vec<(String, Slot)>,
    /// Triggered once nothing more comes into any queue from what is replaced.
    pub(super) drained: Shutdown,
    over: Shutdown,
}

impl Departure {
    pub(super) fn is_over(&self) -> bool {
        self.over.is_triggered()
    }
}

impl Retirement {
    pub(super) fn new<'a>(
        drain_timeout: Duration,
        before: impl IntoIterator<Item = &'a Departure>,
    ) -> Self {
        let before = before.into_iter().filter(|departure| !departure.is_over());
        Self {
            receivers: Vec::new(),
            inlets: Vec::new(),
            ways: Vec::new(),
            pipelines: Vec::new(),
            closing: Vec::new(),
            finishing: Vec::new(),
            senders: Vec::new(),
            after: before.map(|departure| departure.drained.clone()).collect(),
            drain_timeout,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.receivers.is_empty()
            && self.inlets.is_empty()
            && self.pipelines.is_empty()
            && self.closing.is_empty()
            && self.finishing.is_empty()
            && self.senders.is_empty()
    }

    /// `ended` tells that a receiver has ended that was told to.
    pub(super) fn waits_for_receiver(&mut self, ended: Shutdown) {
        self.receivers.push(ended);
    }

    /// `left` tells that no batch is on an old way any more.
    pub(super) fn waits_for(&mut self, left: CancellationToken) {
        self.ways.push(left);
    }

    /// Nobody has this inlet but requests under way.
    pub(super) fn shuts(&mut self, inlet: Arc<Inlet>) {
        self.inlets.push(inlet);
    }

    pub(super) fn drains(&mut self, pipeline: LivePipeline) {
        self.pipelines.push(pipeline);
    }

    /// The queue takes nothing more; who empties it has been found.
    pub(super) fn closes(&mut self, queue: &Queue) {
        self.closing.push((queue.clone(), queue.turn()));
    }

    /// The queue is empty and takes nothing more: it ends with its workers.
    pub(super) fn finishes(&mut self, exporter: &str, queue: &Queue, workers_ended: &Shutdown) {
        self.finishing.push(Finishing {
            exporter: exporter.to_owned(),
            queue: queue.clone(),
            workers_ended: workers_ended.clone(),
            done: Shutdown::default(),
        });
    }

    /// The sender delivers what it has, for as long as it may.
    pub(super) fn sees_off(&mut self, sender: Sender) {
        let exporter = sender.exporter.clone();
        let slot = Arc::new(tokio::sync::Mutex::new(Some(sender)));
        self.senders.push((exporter, slot));
    }

    /// The work, and what others must know of it.
    pub(super) fn begin(self) -> (Departure, BoxFuture<'static, ()>) {
        let finishing = self.finishing.iter();
        let departure = Departure {
            finishing: finishing
                .map(|of| (of.exporter.clone(), of.done.clone()))
                .collect(),
            senders: self.senders.clone(),
            drained: Shutdown::default(),
            over: Shutdown::default(),
        };
        let (drained, over) = (departure.drained.clone(), departure.over.clone());
        let work = Box::pin(async move {
            self.run(&drained).await;
            over.trigger();
        });
        (departure, work)
    }

    async fn run(mut self, drained: &Shutdown) {
        let finishing = std::mem::take(&mut self.finishing);
        tokio::join!(finish(finishing), self.wind_up(drained));
    }

    async fn wind_up(self, drained: &Shutdown) {
        for receiver in &self.receivers {
            receiver.triggered().await;
        }
        let mut ways = self.ways;
        for inlet in self.inlets {
            ways.push(shut(inlet).await);
        }
        for way in ways {
            way.cancelled().await;
        }
        for live in self.pipelines {
            live.timer.abort();
            live.pipeline.drain();
        }
        for earlier in &self.after {
            earlier.triggered().await;
        }
        for (queue, turn) in &self.closing {
            queue.close_if_still(*turn);
        }
        drained.trigger();
        let farewells = self.senders.iter();
        let farewells = farewells.map(|(_, slot)| see_off(slot, self.drain_timeout));
        futures::future::join_all(farewells).await;
    }
}

async fn finish(finishing: Vec<Finishing>) {
    for of in finishing {
        of.workers_ended.triggered().await;
        of.queue.finish().await;
        of.done.trigger();
    }
}

/// Lets requests that have the inlet go their way, for a while. What comes back is cancelled when none is on it.
async fn shut(inlet: Arc<Inlet>) -> CancellationToken {
    let gone = inlet.gone();
    let weak = Arc::downgrade(&inlet);
    drop(inlet);
    if tokio::time::timeout(LATE_REQUESTS_MAX, gone.cancelled())
        .await
        .is_ok()
    {
        return gone;
    }
    match weak.upgrade() {
        Some(inlet) => inlet.lead_to(Vec::new()),
        None => gone,
    }
}

/// Lets a sender deliver what it has, as long as it delivers anything; unless it is taken back meanwhile.
async fn see_off(slot: &Slot, drain_timeout: Duration) {
    let (ended, mut deliveries) = {
        let sender = slot.lock().await;
        let Some(sender) = &*sender else { return };
        sender.queues().for_each(Queue::close);
        (sender.ended.clone(), sender.deliveries.clone())
    };
    let cut_short = loop {
        tokio::select! {
            biased;
            () = ended.triggered() => break false,
            // Once all workers have ended there is nobody who tells.
            Ok(()) = deliveries.changed() => {}
            () = tokio::time::sleep(drain_timeout) => break true,
        }
    };
    let mut slot = slot.lock().await;
    let Some(mut sender) = slot.take() else {
        return;
    };
    let (exporter, signal) = (&sender.exporter, sender.signal);
    if cut_short {
        warn!(exporter, %signal, ?drain_timeout, "a removed exporter has delivered nothing for too long: what waits in memory is given up, what waits in a log on disk stays there");
    } else {
        info!(exporter, %signal, "a removed exporter has delivered everything");
    }
    sender.cut.trigger();
    end_workers(std::mem::take(&mut sender.workers)).await;
    for queue in sender.queues() {
        queue.finish().await;
    }
}

/// Waits for the workers to empty their queues; those that did not in time.
pub(super) async fn wait_for_workers(
    senders: &mut [Sender],
    deadline: tokio::time::Instant,
) -> Vec<JoinHandle<()>> {
    let mut unfinished = Vec::new();
    for mut worker in senders
        .iter_mut()
        .flat_map(|sender| sender.workers.drain(..))
    {
        match tokio::time::timeout_at(deadline, &mut worker).await {
            Ok(Ok(())) => {}
            Ok(Err(panic)) => error!("a worker's task failed: {panic}"),
            Err(_) => unfinished.push(worker),
        }
    }
    unfinished
}

/// Ends workers that were told that the time is over.
pub(super) async fn end_workers(unfinished: Vec<JoinHandle<()>>) {
    for worker in unfinished {
        let abort = worker.abort_handle();
        if tokio::time::timeout(CUT_GRACE, worker).await.is_err() {
            abort.abort();
        }
    }
}
