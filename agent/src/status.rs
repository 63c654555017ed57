//! What every component says of itself, and what that makes of its pipelines and of the agent as a whole.
//!
//! A component that works says nothing: the one call on the data path is [`Reporter::works`], which is a relaxed load. The
//! words and the way they are added up are those of the Collector's component status.

mod aggregate;
mod reporter;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Instant, SystemTime};

use tokio::sync::watch;

pub use aggregate::{Aggregate, Priority};
pub use reporter::{Condition, Reporter};

/// The state of a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// Being built.
    Starting,
    /// At work.
    Ok,
    /// Something fails that may mend itself.
    RecoverableError,
    /// Something failed that somebody has to look at.
    PermanentError,
    /// The agent stops because of it.
    FatalError,
    /// Finishing.
    Stopping,
    /// Ended.
    Stopped,
}

impl Status {
    /// As the Collector spells it in its pages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "StatusStarting",
            Self::Ok => "StatusOK",
            Self::RecoverableError => "StatusRecoverableError",
            Self::PermanentError => "StatusPermanentError",
            Self::FatalError => "StatusFatalError",
            Self::Stopping => "StatusStopping",
            Self::Stopped => "StatusStopped",
        }
    }

    /// Whether it has a cause.
    pub fn is_error(self) -> bool {
        matches!(
            self,
            Self::RecoverableError | Self::PermanentError | Self::FatalError
        )
    }
}

/// A state, since when, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The state.
    pub status: Status,
    /// Of an error, what went wrong.
    pub error: Option<String>,
    /// Since when; of an error, when it was seen first.
    pub at: SystemTime,
    /// The same moment, for measuring.
    pub since: Instant,
}

impl Event {
    /// A state from now on.
    pub fn now(status: Status, error: Option<String>) -> Self {
        Self {
            status,
            error,
            at: SystemTime::now(),
            since: Instant::now(),
        }
    }
}

/// What a component is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Takes data in.
    Receiver,
    /// Between receivers and exporters.
    Processor,
    /// Sends data on.
    Exporter,
    /// Beside the pipelines.
    Extension,
}

impl Kind {
    /// The word in keys such as `exporter:clickhouse`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Receiver => "receiver",
            Self::Processor => "processor",
            Self::Exporter => "exporter",
            Self::Extension => "extension",
        }
    }
}

/// One instance of a component.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instance {
    kind: Kind,
    id: String,
    /// What tells instances with one id apart: an exporter's signal, a processor's pipeline.
    part: String,
}

impl Instance {
    /// A receiver, which is one for all signals.
    pub fn receiver(id: &str) -> Self {
        Self::new(Kind::Receiver, id, "")
    }

    /// A processor of a pipeline.
    pub fn processor(id: &str, pipeline: &str) -> Self {
        Self::new(Kind::Processor, id, pipeline)
    }

    /// An exporter for a signal.
    pub fn exporter(id: &str, signal: crate::signal::Signal) -> Self {
        Self::new(Kind::Exporter, id, signal.name())
    }

    fn new(kind: Kind, id: &str, part: &str) -> Self {
        Self {
            kind,
            id: id.to_owned(),
            part: part.to_owned(),
        }
    }

    fn key(&self) -> String {
        format!("{}:{}", self.kind.name(), self.id)
    }
}

/// The states of all components that run. Cloning shares them.
#[derive(Debug, Clone, Default)]
pub struct Statuses(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Guards which components there are.
    graph: RwLock<Graph>,
    changed: Arc<watch::Sender<()>>,
}

#[derive(Debug, Clone, Default)]
struct Graph {
    instances: BTreeMap<Instance, Reporter>,
    pipelines: Vec<(String, Vec<Instance>)>,
    extensions: Vec<(String, Reporter)>,
}

/// Which components there are to be. It has no effect before [`Statuses::adopt`].
#[derive(Debug)]
pub struct Draft {
    statuses: Statuses,
    instances: BTreeMap<Instance, Reporter>,
    pipelines: Vec<(String, Vec<Instance>)>,
}

impl Draft {
    /// A component that is built anew.
    pub fn begin(&mut self, instance: Instance) -> Reporter {
        let reporter = self.statuses.reporter();
        self.instances.insert(instance, reporter.clone());
        reporter
    }

    /// A component that runs on with its state.
    pub fn keep(&mut self, instance: Instance) {
        let found = self
            .statuses
            .read(|graph| graph.instances.get(&instance).cloned());
        let reporter = found.unwrap_or_else(|| self.statuses.reporter());
        self.instances.insert(instance, reporter);
    }

    /// A pipeline and what it is made of.
    pub fn pipeline(&mut self, id: &str, instances: Vec<Instance>) {
        self.pipelines.push((id.to_owned(), instances));
    }
}

impl Statuses {
    /// A reporter for a component that is being built.
    pub fn reporter(&self) -> Reporter {
        Reporter::new(Arc::clone(&self.0.changed))
    }

    /// The start of a new graph, empty.
    pub fn draft(&self) -> Draft {
        Draft {
            statuses: self.clone(),
            instances: BTreeMap::new(),
            pipelines: Vec::new(),
        }
    }

    /// From now on the components of `draft` are those that run; others are forgotten.
    pub fn adopt(&self, draft: Draft) {
        draft.instances.values().for_each(Reporter::started);
        self.write(|graph| {
            graph.instances = draft.instances;
            graph.pipelines = draft.pipelines;
        });
    }

    /// From now on these extensions run: those in `begun`, by id, and of those that ran before the ones that are `kept`.
    pub fn adopt_extensions(&self, begun: Vec<(String, Reporter)>, kept: impl Fn(&str) -> bool) {
        begun.iter().for_each(|(_, reporter)| reporter.started());
        self.write(|graph| {
            graph.extensions.retain(|(id, _)| kept(id));
            graph.extensions.extend(begun);
        });
    }

    /// The reporter of a receiver that runs.
    pub fn receiver(&self, id: &str) -> Option<Reporter> {
        let instance = Instance::receiver(id);
        self.read(|graph| graph.instances.get(&instance).cloned())
    }

    /// The reporter of an extension that runs.
    pub fn extension(&self, id: &str) -> Option<Reporter> {
        self.read(|graph| {
            let mut extensions = graph.extensions.iter();
            let (_, reporter) = extensions.find(|(found, _)| found == id)?;
            Some(reporter.clone())
        })
    }

    /// All components, extensions included, are finishing or have ended.
    pub fn all_enter(&self, status: Status) {
        let all = self.read(Clone::clone);
        let extensions = all.extensions.iter().map(|(_, reporter)| reporter);
        for reporter in all.instances.values().chain(extensions) {
            reporter.enter(status);
        }
    }

    /// The state of everything: pipelines by `pipeline:traces`, in them components by `exporter:clickhouse`; beside them
    /// `extensions`. With nothing in it, the agent is starting.
    pub fn aggregate(&self, priority: Priority) -> Aggregate {
        let graph = self.read(Clone::clone);
        let now = Instant::now();
        let mut parts = BTreeMap::new();
        for (id, instances) in &graph.pipelines {
            let components = instances.iter().filter_map(|instance| {
                let reporter = graph.instances.get(instance)?;
                let event = reporter.event(priority, now);
                Some((instance.key(), Aggregate::of_one(event)))
            });
            parts.insert(
                format!("{PIPELINE}{id}"),
                Aggregate::of(components.collect(), priority),
            );
        }
        if !graph.extensions.is_empty() {
            let components = graph.extensions.iter().map(|(id, reporter)| {
                let key = Instance::new(Kind::Extension, id, "").key();
                (key, Aggregate::of_one(reporter.event(priority, now)))
            });
            parts.insert(
                EXTENSIONS.to_owned(),
                Aggregate::of(components.collect(), priority),
            );
        }
        if graph.pipelines.is_empty() {
            let mut starting = Aggregate::of(BTreeMap::new(), priority);
            starting.components = parts;
            return starting;
        }
        Aggregate::of(parts, priority)
    }

    /// Tells of changes: a state, a component that came or went. What only time changes, such as an error that lasts, it
    /// does not tell.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.0.changed.subscribe()
    }

    fn read<T>(&self, read: impl FnOnce(&Graph) -> T) -> T {
        let graph = self.0.graph.read();
        read(&graph.unwrap_or_else(PoisonError::into_inner))
    }

    fn write(&self, change: impl FnOnce(&mut Graph)) {
        let mut graph = self.0.graph.write().unwrap_or_else(PoisonError::into_inner);
        change(&mut graph);
        drop(graph);
        self.0.changed.send_replace(());
    }
}

/// What keys of pipelines begin with.
pub const PIPELINE: &str = "pipeline:";

/// The key that all extensions are below.
pub const EXTENSIONS: &str = "extensions";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::Signal;

    fn graph(draft: &mut Draft, exporter: &str) -> Reporter {
        draft.begin(Instance::receiver("otlp"));
        let reporter = draft.begin(Instance::exporter(exporter, Signal::Traces));
        let components = vec![
            Instance::receiver("otlp"),
            Instance::exporter(exporter, Signal::Traces),
        ];
        draft.pipeline("traces", components);
        reporter
    }

    #[test]
    fn a_failing_exporter_shows_in_its_pipeline_and_above() {
        let statuses = Statuses::default();
        let all = || statuses.aggregate(Priority::Permanent);
        assert_eq!(all().event.status, Status::Starting);
        let mut draft = statuses.draft();
        let exporter = graph(&mut draft, "clickhouse");
        draft.pipeline("logs", vec![Instance::receiver("otlp")]);
        assert_eq!(all().event.status, Status::Starting);
        statuses.adopt(draft);
        assert_eq!(all().event.status, Status::Ok);
        exporter.fails(Condition::Sending, "connection refused");
        let found = all();
        assert_eq!(found.event.status, Status::RecoverableError);
        let traces = &found.components["pipeline:traces"];
        assert_eq!(traces.event.error.as_deref(), Some("connection refused"));
        let failing = &traces.components["exporter:clickhouse"];
        assert_eq!(failing.event.status, Status::RecoverableError);
        assert_eq!(traces.components["receiver:otlp"].event.status, Status::Ok);
        assert_eq!(found.components["pipeline:logs"].event.status, Status::Ok);
        exporter.works(Condition::Sending);
        assert_eq!(all().event.status, Status::Ok);
    }

    #[test]
    fn a_reload_keeps_the_state_of_what_it_keeps_and_forgets_what_is_gone() {
        let statuses = Statuses::default();
        let mut draft = statuses.draft();
        let exporter = graph(&mut draft, "clickhouse");
        statuses.adopt(draft);
        exporter.fails(Condition::Sending, "away");
        let mut kept = statuses.draft();
        kept.keep(Instance::exporter("clickhouse", Signal::Traces));
        kept.pipeline(
            "traces/new",
            vec![Instance::exporter("clickhouse", Signal::Traces)],
        );
        // What is not adopted changes nothing.
        let mut refused = statuses.draft();
        graph(&mut refused, "other");
        drop(refused);
        let mut changes = statuses.changes();
        statuses.adopt(kept);
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        let found = statuses.aggregate(Priority::Permanent);
        let pipelines: Vec<_> = found.components.keys().collect();
        assert_eq!(pipelines, ["pipeline:traces/new"]);
        assert_eq!(found.event.error.as_deref(), Some("away"));
        let mut new = statuses.draft();
        graph(&mut new, "clickhouse");
        statuses.adopt(new);
        let found = statuses.aggregate(Priority::Permanent);
        assert_eq!(found.event.status, Status::Ok);
        // The old one speaks to nobody.
        exporter.fails(Condition::Sending, "again");
        let found = statuses.aggregate(Priority::Permanent);
        assert_eq!(found.event.status, Status::Ok);
    }

    #[test]
    fn extensions_count_but_alone_the_agent_is_starting() {
        let statuses = Statuses::default();
        statuses.adopt_extensions(vec![("zpages".to_owned(), statuses.reporter())], |_| false);
        let found = statuses.aggregate(Priority::Permanent);
        assert_eq!(found.event.status, Status::Starting);
        let extensions = &found.components[EXTENSIONS];
        assert_eq!(
            extensions.components["extension:zpages"].event.status,
            Status::Ok
        );
        let mut draft = statuses.draft();
        graph(&mut draft, "debug");
        statuses.adopt(draft);
        statuses.all_enter(Status::Stopping);
        let found = statuses.aggregate(Priority::Permanent);
        assert_eq!(found.event.status, Status::Stopping);
        statuses.adopt_extensions(Vec::new(), |_| false);
        assert!(
            !statuses
                .aggregate(Priority::Permanent)
                .components
                .contains_key(EXTENSIONS)
        );
    }
}
