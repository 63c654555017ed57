//! Builds what a plan wants beside what runs, and upon it where it is the same. Nothing that runs is touched.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedMutexGuard;

use super::plan::{Change, Node, Plan};
use super::{Inlet, Pipeline, Running};
use crate::auth::Authenticators;
use crate::component::{
    ComponentError, ExporterContext, Intake, ProcessorContext, Receiver, ReceiverContext, Sender,
    Shutdown,
};
use crate::exporters::queue::{Queue, QueueSettings};
use crate::failure::Failures;
use crate::fingerprint::Fingerprints;
use crate::gather::Batching;
use crate::ledger::Ledger;
use crate::memory::HeldBytes;
use crate::net::sockets::Sockets;
use crate::progress::Progress;
use crate::signal::{PerSignal, Signal};
use crate::status::{Draft, Instance, Statuses};
use crate::tap::Taps;
use crate::telemetry::Telemetry;

/// What all components of a process share.
#[derive(Debug, Clone, Default)]
pub struct World {
    /// The agent's metrics.
    pub telemetry: Telemetry,
    /// The bytes of telemetry that it holds.
    pub held: HeldBytes,
    /// The sockets that it listens on.
    pub sockets: Sockets,
    /// How its components are.
    pub statuses: Statuses,
    /// Who looks at what passes.
    pub taps: Taps,
    /// Whether those who do the work get on with it.
    pub progress: Progress,
    /// The authenticators that its servers and clients ask.
    pub authenticators: Authenticators,
}

/// A sender that is leaving, until it is taken back or gone. Whoever holds the lock keeps it as it is.
pub(super) type Slot = Arc<tokio::sync::Mutex<Option<Sender>>>;

/// Whose an inlet is, and for what.
pub(super) type InletKey = (String, Signal);

/// The accounts of all pipelines and exporters that there ever were.
pub(super) type Ledgers = Arc<Mutex<BTreeMap<(String, String), Ledger>>>;

/// What runs, as far as something new is built upon it.
#[derive(Default)]
pub(super) struct Prior {
    pub(super) senders: Vec<PriorSender>,
    pub(super) leaving: Vec<(String, Slot)>,
    /// Exporters' ids, and what tells that a queue of theirs has let go of its folder.
    pub(super) finishing: Vec<(String, Shutdown)>,
    pub(super) pipelines: Vec<(Node, Arc<Pipeline>)>,
    pub(super) inlets: BTreeMap<InletKey, Arc<Inlet>>,
    pub(super) ledgers: Ledgers,
    pub(super) cut: Shutdown,
}

pub(super) struct PriorSender {
    pub(super) exporter: String,
    pub(super) signal: Signal,
    pub(super) queue: Queue,
    pub(super) settings: QueueSettings,
    pub(super) leftovers: Vec<Queue>,
}

/// A queue, and what it is like from the swap on.
pub(super) struct Tuning {
    pub(super) exporter: String,
    pub(super) signal: Signal,
    pub(super) queue: Queue,
    pub(super) settings: QueueSettings,
    /// How the first pipeline wants batches to be formed.
    pub(super) batching: Option<Batching>,
}

/// Built components: sockets bound, workers waiting, nothing received yet.
pub struct Built {
    pub(super) world: World,
    pub(super) receivers: Vec<(String, Box<dyn Receiver>)>,
    pub(super) kept_receivers: BTreeSet<String>,
    /// All inlets that there are to be, with the places of the pipelines they lead to.
    pub(super) inlets: BTreeMap<InletKey, (Arc<Inlet>, Vec<usize>)>,
    pub(super) pipelines: Vec<Placed>,
    pub(super) senders: Vec<Sender>,
    pub(super) kept_exporters: BTreeSet<String>,
    /// Senders that were leaving, and are taken back.
    pub(super) taken: Vec<OwnedMutexGuard<Option<Sender>>>,
    pub(super) tunings: Vec<Tuning>,
    pub(super) ledgers: Ledgers,
    pub(super) statuses: Draft,
    pub(super) cut: Shutdown,
}

/// A pipeline of the plan.
pub(super) struct Placed {
    pub(super) node: Node,
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) is_new: bool,
}

impl Plan<'_> {
    /// Builds everything, from the exporters up. Receivers are bound last, so that nothing is accepted in vain.
    ///
    /// # Errors
    /// Every component that cannot be built; what was built beside them is gone then.
    pub fn build(&self, world: &World) -> Result<Built, Failures> {
        let nothing = Plan {
            receivers: BTreeMap::new(),
            processors: BTreeMap::new(),
            exporters: BTreeMap::new(),
            pipelines: &[],
            held_max: 0,
            files: Fingerprints::NONE,
        };
        self.build_upon(world, &nothing, Prior::default())
    }

    /// The same beside `prior`, which runs as `old` says. To be called where it may wait for the disk.
    pub(super) fn build_upon(
        &self,
        world: &World,
        old: &Plan<'_>,
        prior: Prior,
    ) -> Result<Built, Failures> {
        let mut builder = Builder {
            plan: self,
            old,
            prior,
            built: Built {
                world: world.clone(),
                receivers: Vec::new(),
                kept_receivers: BTreeSet::new(),
                inlets: BTreeMap::new(),
                pipelines: Vec::new(),
                senders: Vec::new(),
                kept_exporters: BTreeSet::new(),
                taken: Vec::new(),
                tunings: Vec::new(),
                ledgers: Ledgers::default(),
                statuses: world.statuses.draft(),
                cut: Shutdown::default(),
            },
            failures: Failures::default(),
        };
        builder.built.ledgers = Arc::clone(&builder.prior.ledgers);
        builder.built.cut = builder.prior.cut.clone();
        for id in self.exporters.keys() {
            builder.exporter(id);
        }
        for node in self.pipelines {
            builder.pipeline(node);
        }
        for id in self.receivers.keys() {
            builder.receiver(id);
        }
        builder.failures.or(builder.built)
    }
}

struct Builder<'a> {
    plan: &'a Plan<'a>,
    old: &'a Plan<'a>,
    prior: Prior,
    built: Built,
    /// What cannot be built. All of it is looked for, so that it is mended at once.
    failures: Failures,
}

impl Builder<'_> {
    fn exporter(&mut self, id: &str) {
        let (Some(settings), signals) = (self.plan.exporters.get(id), self.plan.fed(id)) else {
            return;
        };
        if signals.is_empty() {
            return;
        }
        if self.plan.exporter(self.old, id) == Change::Kept {
            self.built.kept_exporters.insert(id.to_owned());
            for signal in signals {
                self.built.statuses.keep(Instance::exporter(id, signal));
            }
            let senders = self.prior.senders.iter().filter(|old| old.exporter == id);
            self.built.tunings.extend(senders.map(|old| Tuning {
                exporter: id.to_owned(),
                signal: old.signal,
                queue: old.queue.clone(),
                settings: old.settings.clone(),
                batching: None,
            }));
            return;
        }
        let mut status = PerSignal::default();
        for signal in &signals {
            status[*signal] = self.built.statuses.begin(Instance::exporter(id, *signal));
        }
        let context = ExporterContext {
            id: id.to_owned(),
            signals,
            telemetry: self.built.world.telemetry.clone(),
            status,
            progress: self.built.world.progress.clone(),
            cut: self.built.cut.child(),
            leave: Shutdown::default(),
            authenticators: self.built.world.authenticators.clone(),
            inherited: self.inherited(id),
            taps: self.built.world.taps.clone(),
        };
        let attempt = settings.build(&context);
        let Some(senders) = self.failures.note(&["exporters", id], attempt) else {
            return;
        };
        self.built
            .tunings
            .extend(senders.iter().map(|sender| Tuning {
                exporter: sender.exporter.clone(),
                signal: sender.signal,
                queue: sender.queue.clone(),
                settings: sender.settings.clone(),
                batching: None,
            }));
        self.built.senders.extend(senders);
    }

    /// The queues of the exporter of this name that runs, and of one that is leaving.
    fn inherited(&mut self, id: &str) -> Vec<(Signal, Queue)> {
        let mut queues = Vec::new();
        for old in self.prior.senders.iter().filter(|old| old.exporter == id) {
            let all = std::iter::once(&old.queue).chain(&old.leftovers);
            queues.extend(all.map(|queue| (old.signal, queue.clone())));
        }
        for (_, done) in self.prior.finishing.iter().filter(|(of, _)| of == id) {
            // It is empty: this takes no longer than closing a file.
            tokio::runtime::Handle::current().block_on(done.triggered());
        }
        for (_, slot) in self.prior.leaving.iter().filter(|(of, _)| of == id) {
            let held = Arc::clone(slot).blocking_lock_owned();
            if let Some(sender) = &*held {
                queues.extend(sender.queues().map(|queue| (sender.signal, queue.clone())));
                self.built.taken.push(held);
            }
        }
        queues
    }

    fn pipeline(&mut self, node: &Node) {
        let mut exits = Vec::new();
        for id in &node.exporters {
            let mut tunings = self.built.tunings.iter();
            let tuning =
                tunings.find(|tuning| tuning.exporter == *id && tuning.signal == node.signal);
            match tuning {
                Some(tuning) => exits.push((id.clone(), tuning.queue.clone())),
                // It could not be built.
                None if !self.failures.is_empty() => {}
                None => self.missing("exporter", id, &node.id),
            }
        }
        let durable = exits.iter().any(|(_, queue)| queue.is_durable());
        let kept = self.kept(node, &exits);
        let mut processors = Vec::new();
        for id in &node.processors {
            let Some(settings) = self.plan.processors.get(id.as_str()) else {
                self.missing("processor", id, &node.id);
                continue;
            };
            if durable && let Some(batching) = settings.batching(id) {
                // What is accepted has to be on disk first: it is gathered behind the queues.
                self.form(&exits, &batching);
                self.built.statuses.keep(Instance::processor(id, &node.id));
                continue;
            }
            let instance = Instance::processor(id, &node.id);
            if kept.is_some() {
                self.built.statuses.keep(instance);
            } else {
                let context = ProcessorContext {
                    id: id.clone(),
                    signal: node.signal,
                    telemetry: self.built.world.telemetry.clone(),
                    status: self.built.statuses.begin(instance),
                    held: self.built.world.held.clone(),
                };
                let attempt = settings.build(context);
                let built = self.failures.note(&["processors", id], attempt);
                processors.extend(built.map(|processor| (id.clone(), processor)));
            }
        }
        self.built.statuses.pipeline(&node.id, instances(node));
        let is_new = kept.is_none();
        let pipeline = kept.unwrap_or_else(|| self.new_pipeline(node, processors, exits));
        self.built.pipelines.push(Placed {
            node: node.clone(),
            pipeline,
            is_new,
        });
    }

    fn missing(&mut self, kind: &str, id: &str, pipeline: &str) {
        let cause = format!("there is no {kind} `{id}` for its signal");
        let cause = ComponentError::new("build it", cause);
        let pipeline = ["service", "pipelines", pipeline];
        self.failures.note(&pipeline, Err::<(), _>(cause));
    }

    fn new_pipeline(
        &self,
        node: &Node,
        processors: Vec<(String, Box<dyn crate::component::Processor>)>,
        exits: Vec<(String, Queue)>,
    ) -> Arc<Pipeline> {
        let telemetry = &self.built.world.telemetry;
        let exits = exits.into_iter().map(|(exporter, queue)| {
            let ledger = ledger(
                &self.built.ledgers,
                telemetry,
                &node.id,
                &exporter,
                node.signal,
            );
            (exporter, queue, ledger)
        });
        Pipeline::new(
            telemetry,
            &self.built.world.taps,
            &node.id,
            node.signal,
            processors,
            exits.collect(),
        )
    }

    /// The pipeline that runs, if it does what this one is to do.
    fn kept(&self, node: &Node, exits: &[(String, Queue)]) -> Option<Arc<Pipeline>> {
        let mut pipelines = self.prior.pipelines.iter();
        let (old, pipeline) = pipelines.find(|(old, _)| old.id == node.id)?;
        let same_shape = old.signal == node.signal
            && old.processors == node.processors
            && old.exporters == node.exporters
            && self.plan.same_processors(self.old, node);
        let mut queues = pipeline.queues().zip(exits);
        let same_queues = queues.all(|(queue, (_, now))| queue.is_same(now));
        (same_shape && same_queues).then(|| Arc::clone(pipeline))
    }

    /// The first of several pipelines decides how a queue forms batches.
    fn form(&mut self, exits: &[(String, Queue)], batching: &Batching) {
        for tuning in &mut self.built.tunings {
            if tuning.batching.is_none()
                && exits.iter().any(|(_, queue)| queue.is_same(&tuning.queue))
            {
                tuning.batching = Some(batching.clone());
            }
        }
    }

    fn receiver(&mut self, id: &str) {
        let wired = self.plan.wired(id);
        for signal in Signal::ALL.into_iter().filter(|signal| wired[*signal]) {
            self.inlet(id, signal);
        }
        let Some(settings) = self.plan.receivers.get(id) else {
            return;
        };
        if self.plan.receiver(self.old, id) == Change::Kept {
            self.built.kept_receivers.insert(id.to_owned());
            self.built.statuses.keep(Instance::receiver(id));
            return;
        }
        let intake = |signal| {
            let (inlet, _) = self.built.inlets.get(&(id.to_owned(), signal))?;
            Some(Arc::clone(inlet) as Arc<dyn Intake>)
        };
        let context = ReceiverContext {
            id: id.to_owned(),
            intakes: PerSignal::from_fn(intake),
            telemetry: self.built.world.telemetry.clone(),
            status: self.built.statuses.begin(Instance::receiver(id)),
            sockets: self.built.world.sockets.clone(),
            authenticators: self.built.world.authenticators.clone(),
        };
        let attempt = settings.build(context);
        let built = self.failures.note(&["receivers", id], attempt);
        let built = built.map(|receiver| (id.to_owned(), receiver));
        self.built.receivers.extend(built);
    }

    /// The inlet of a receiver, the one that is there or a new one, and where it is to lead to.
    fn inlet(&mut self, receiver: &str, signal: Signal) {
        let key = (receiver.to_owned(), signal);
        let placed = self.built.pipelines.iter().enumerate();
        let fed: Vec<usize> = placed
            .filter(|(_, placed)| {
                placed.node.signal == signal && placed.node.receivers.contains(&key.0)
            })
            .map(|(place, _)| place)
            .collect();
        let inlet = match self.prior.inlets.get(&key) {
            Some(inlet) => Arc::clone(inlet),
            None => Arc::new(Inlet::new(
                &self.built.world.telemetry,
                receiver,
                signal,
                Vec::new(),
                self.built.world.held.clone(),
                self.plan.held_max,
            )),
        };
        self.built.inlets.insert(key, (inlet, fed));
    }
}

fn ledger(
    ledgers: &Ledgers,
    telemetry: &Telemetry,
    pipeline: &str,
    exporter: &str,
    signal: Signal,
) -> Ledger {
    let mut ledgers = ledgers.lock().unwrap_or_else(PoisonError::into_inner);
    let key = (pipeline.to_owned(), exporter.to_owned());
    let ledger = ledgers
        .entry(key)
        .or_insert_with(|| Ledger::new(telemetry, pipeline, exporter, signal));
    ledger.clone()
}

/// What a pipeline is made of.
fn instances(node: &Node) -> Vec<Instance> {
    let receivers = node.receivers.iter().map(|id| Instance::receiver(id));
    let processors = node.processors.iter();
    let processors = processors.map(|id| Instance::processor(id, &node.id));
    let exporters = node.exporters.iter();
    let exporters = exporters.map(|id| Instance::exporter(id, node.signal));
    receivers.chain(processors).chain(exporters).collect()
}

impl Built {
    /// Starts receiving.
    pub fn start(self) -> Running {
        let mut running = Running::new(&self);
        running.swap(self);
        running
    }
}
