//! From validated settings to running components, and back down in order: receivers, pipelines, queues, workers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinError, JoinHandle, JoinSet};
use tracing::{error, info, warn};

use super::{Inlet, Pipeline};
use crate::component::{
    ComponentError, ExporterContext, ExporterSettings, Intake, ProcessorContext, ProcessorSettings,
    Receiver, ReceiverContext, ReceiverSettings, Sender, Shutdown,
};
use crate::memory::HeldBytes;
use crate::signal::{PerSignal, Signal};
use crate::telemetry::Telemetry;

/// One pipeline's shape: ids in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// `traces` or `traces/name`.
    pub id: String,
    /// What flows through it.
    pub signal: Signal,
    /// Ids of receivers.
    pub receivers: Vec<String>,
    /// Ids of processors, in order.
    pub processors: Vec<String>,
    /// Ids of exporters.
    pub exporters: Vec<String>,
}

/// What is to run. Every id that a pipeline names is in the maps.
pub struct Plan<'a> {
    /// Receivers by id.
    pub receivers: BTreeMap<&'a str, &'a dyn ReceiverSettings>,
    /// Processors by id.
    pub processors: BTreeMap<&'a str, &'a dyn ProcessorSettings>,
    /// Exporters by id.
    pub exporters: BTreeMap<&'a str, &'a dyn ExporterSettings>,
    /// The pipelines.
    pub pipelines: &'a [Node],
    /// The most bytes of telemetry to hold.
    pub held_max: usize,
}

/// Built components: sockets bound, workers waiting, nothing received yet.
pub struct Built {
    receivers: Vec<(String, Box<dyn Receiver>)>,
    pub(super) pipelines: Vec<Arc<Pipeline>>,
    senders: Vec<Sender>,
    cut: Shutdown,
}

/// A receiver's id and how it ended.
type ReceiverEnd = (String, Result<(), ComponentError>);

/// Running components.
pub struct Running {
    receiving: Shutdown,
    receivers: JoinSet<ReceiverEnd>,
    timers: Vec<JoinHandle<()>>,
    pipelines: Vec<Arc<Pipeline>>,
    senders: Vec<Sender>,
    cut: Shutdown,
}

impl Plan<'_> {
    /// Builds everything, from the exporters up. Receivers are bound last, so that nothing is accepted in vain.
    ///
    /// # Errors
    /// The first component that cannot be built; workers started before it end by themselves.
    pub fn build(&self, telemetry: &Telemetry, held: &HeldBytes) -> Result<Built, ComponentError> {
        let cut = Shutdown::default();
        let senders = self.build_exporters(telemetry, &cut)?;
        let mut pipelines = Vec::new();
        for node in self.pipelines {
            pipelines.push(self.build_pipeline(node, &senders, telemetry, held)?);
        }
        let mut receivers = Vec::new();
        for (id, settings) in &self.receivers {
            let context = ReceiverContext {
                id: (*id).to_owned(),
                intakes: PerSignal::from_fn(|signal| {
                    self.inlet(id, signal, &pipelines, telemetry, held)
                }),
                telemetry: telemetry.clone(),
            };
            receivers.push(((*id).to_owned(), settings.build(context)?));
        }
        Ok(Built {
            receivers,
            pipelines,
            senders,
            cut,
        })
    }

    fn build_exporters(
        &self,
        telemetry: &Telemetry,
        cut: &Shutdown,
    ) -> Result<Vec<Sender>, ComponentError> {
        let mut senders = Vec::new();
        for (id, settings) in &self.exporters {
            let wants = |signal| {
                self.pipelines.iter().any(|node| {
                    node.signal == signal && node.exporters.iter().any(|name| name == id)
                })
            };
            let context = ExporterContext {
                id: (*id).to_owned(),
                signals: Signal::ALL
                    .into_iter()
                    .filter(|signal| wants(*signal))
                    .collect(),
                telemetry: telemetry.clone(),
                cut: cut.clone(),
            };
            if !context.signals.is_empty() {
                senders.extend(settings.build(&context)?);
            }
        }
        Ok(senders)
    }

    fn build_pipeline(
        &self,
        node: &Node,
        senders: &[Sender],
        telemetry: &Telemetry,
        held: &HeldBytes,
    ) -> Result<Arc<Pipeline>, ComponentError> {
        let mut exits = Vec::new();
        for id in &node.exporters {
            let sender = senders
                .iter()
                .find(|sender| sender.exporter == *id && sender.signal == node.signal)
                .ok_or_else(|| missing("exporter", id, &node.id))?;
            exits.push((id.clone(), sender.queue.clone()));
        }
        let durable = exits.iter().any(|(_, queue)| queue.is_durable());
        let mut processors = Vec::new();
        for id in &node.processors {
            let context = ProcessorContext {
                id: id.clone(),
                signal: node.signal,
                telemetry: telemetry.clone(),
                held: held.clone(),
            };
            let settings = self
                .processors
                .get(id.as_str())
                .ok_or_else(|| missing("processor", id, &node.id))?;
            if durable && let Some(batching) = settings.batching(id) {
                // What is accepted has to be on disk first: it is gathered behind the queues.
                for (_, queue) in &exits {
                    queue.form(batching.clone());
                }
                continue;
            }
            processors.push((id.clone(), settings.build(context)?));
        }
        Ok(Pipeline::new(
            telemetry,
            &node.id,
            node.signal,
            processors,
            exits,
        ))
    }

    fn inlet(
        &self,
        receiver: &str,
        signal: Signal,
        pipelines: &[Arc<Pipeline>],
        telemetry: &Telemetry,
        held: &HeldBytes,
    ) -> Option<Arc<dyn Intake>> {
        let fed: Vec<_> = self
            .pipelines
            .iter()
            .zip(pipelines)
            .filter(|(node, _)| {
                node.signal == signal && node.receivers.iter().any(|id| id == receiver)
            })
            .map(|(_, pipeline)| Arc::clone(pipeline))
            .collect();
        if fed.is_empty() {
            return None;
        }
        Some(Arc::new(Inlet::new(
            telemetry,
            receiver,
            signal,
            fed,
            held.clone(),
            self.held_max,
        )))
    }
}

fn missing(kind: &str, id: &str, pipeline: &str) -> ComponentError {
    ComponentError::new(
        format!("build pipeline {pipeline}"),
        format!("there is no {kind} `{id}` for its signal"),
    )
}

impl Built {
    /// Starts receiving.
    pub fn start(self) -> Running {
        for sender in &self.senders {
            sender.queue.start();
        }
        let receiving = Shutdown::default();
        let timers = self
            .pipelines
            .iter()
            .map(|pipeline| tokio::spawn(Arc::clone(pipeline).run_timers()))
            .collect();
        let mut receivers = JoinSet::new();
        for (id, receiver) in self.receivers {
            let work = receiver.run(receiving.clone());
            receivers.spawn(async move { (id, work.await) });
        }
        Running {
            receiving,
            receivers,
            timers,
            pipelines: self.pipelines,
            senders: self.senders,
            cut: self.cut,
        }
    }
}

impl Running {
    /// Waits until a receiver ends by itself, which is always a failure. Never resolves without receivers.
    pub async fn receiver_failed(&mut self) -> String {
        match self.receivers.join_next().await {
            Some(ended) => describe_end(ended)
                .unwrap_or_else(|| "a receiver ended although nobody asked it to".to_owned()),
            None => std::future::pending().await,
        }
    }

    /// Stops receiving, lets what was accepted flow out, and ends every task. What is not delivered within
    /// `drain_timeout` stays in the logs of durable queues; from memory it is given up, counted and logged.
    pub async fn stop(mut self, drain_timeout: Duration) -> Ending {
        let deadline = tokio::time::Instant::now() + drain_timeout;
        self.receiving.trigger();
        while let Ok(Some(ended)) =
            tokio::time::timeout_at(deadline, self.receivers.join_next()).await
        {
            if let Some(problem) = describe_end(ended) {
                error!("{problem}");
            }
        }
        if !self.receivers.is_empty() {
            warn!(
                receivers = self.receivers.len(),
                "still busy when the drain time was over"
            );
            self.receivers.shutdown().await;
        }
        for timer in &self.timers {
            timer.abort();
        }
        for pipeline in &self.pipelines {
            pipeline.drain();
        }
        for sender in &self.senders {
            sender.queue.close();
        }
        info!("draining: receivers have stopped");
        let unfinished = wait_for_workers(&mut self.senders, deadline).await;
        let given_up_before = self.given_up();
        self.cut.trigger();
        end_workers(unfinished).await;
        for sender in &self.senders {
            sender.queue.finish().await;
        }
        let given_up = self.given_up();
        Ending {
            given_up,
            given_up_now: given_up - given_up_before,
            stays: self.queued(),
        }
    }

    fn queued(&self) -> usize {
        self.pipelines
            .iter()
            .map(|pipeline| pipeline.queued())
            .sum()
    }

    fn given_up(&self) -> u64 {
        self.pipelines
            .iter()
            .map(|pipeline| pipeline.given_up())
            .sum()
    }
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

/// How long workers may take to notice that the drain was cut short.
const CUT_GRACE: Duration = Duration::from_secs(2);

/// Waits for the workers to empty their queues; those that did not in time.
async fn wait_for_workers(
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
async fn end_workers(unfinished: Vec<JoinHandle<()>>) {
    for worker in unfinished {
        let abort = worker.abort_handle();
        if tokio::time::timeout(CUT_GRACE, worker).await.is_err() {
            abort.abort();
        }
    }
}

fn describe_end(ended: Result<ReceiverEnd, JoinError>) -> Option<String> {
    match ended {
        Ok((_, Ok(()))) => None,
        Ok((id, Err(cause))) => Some(format!("receiver {id}: {cause}")),
        Err(panic) => Some(format!("a receiver's task failed: {panic}")),
    }
}
