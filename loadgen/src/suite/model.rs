//! A suite as it was read: what is there, what is done with it, and where each thing was written.

use std::collections::BTreeMap;
use std::path::PathBuf;

use minijinja::Value;

/// A piece of text with `{{ … }}` in it (numbers and booleans are their text), and where it was written.
pub(crate) use crate::document::{Place, Text};

/// A whole suite.
#[derive(Debug, Clone)]
pub(crate) struct Suite {
    pub(crate) name: Text,
    pub(crate) description: String,
    /// What the last line says after the verdict: the counts, when the suite does not say.
    pub(crate) summary: Option<Text>,
    /// The file's folder: paths in the suite begin there.
    pub(crate) folder: PathBuf,
    /// The file and those it includes, as they were written.
    pub(crate) sources: Vec<(String, String)>,
    pub(crate) variables: Vec<Variable>,
    /// Each combination of these values is a variant.
    pub(crate) matrix: Vec<Dimension>,
    pub(crate) repeat: Option<Text>,
    pub(crate) components: Vec<Component>,
    pub(crate) tests: Vec<Test>,
    pub(crate) hooks: Hooks,
    pub(crate) on_error: OnError,
}

#[derive(Debug, Clone)]
pub(crate) struct Variable {
    pub(crate) name: String,
    pub(crate) value: Value,
    pub(crate) place: Place,
    /// From an included file: not every suite needs it.
    pub(crate) included: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Dimension {
    pub(crate) name: String,
    pub(crate) values: Vec<Value>,
    pub(crate) place: Place,
}

/// Something that takes part: a generator, an agent, a peer, a backend.
#[derive(Debug, Clone)]
pub(crate) struct Component {
    pub(crate) name: Text,
    /// It takes part only in variants for which this is true.
    pub(crate) when: Option<Text>,
    /// Variants that cannot have it, for lack of its program or of cores, are left out with a note.
    pub(crate) optional: bool,
    /// Files and folders that must be there.
    pub(crate) requires: Vec<Text>,
    pub(crate) configuration: Option<Configuration>,
    pub(crate) deployment: Option<Deployment>,
    pub(crate) execution: Option<Execution>,
    pub(crate) monitoring: Monitoring,
    pub(crate) hooks: BTreeMap<Phase, Hooks>,
    pub(crate) on_error: OnError,
}

/// What happens to a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Configure,
    Deploy,
    Start,
    Load,
    MonitorStart,
    MonitorStop,
    Stop,
    Destroy,
}

impl Phase {
    pub(crate) const ALL: [(&'static str, Self); 8] = [
        ("configure", Self::Configure),
        ("deploy", Self::Deploy),
        ("start", Self::Start),
        ("load", Self::Load),
        ("monitor_start", Self::MonitorStart),
        ("monitor_stop", Self::MonitorStop),
        ("stop", Self::Stop),
        ("destroy", Self::Destroy),
    ];

    pub(crate) fn name(self) -> &'static str {
        let found = Self::ALL.iter().find(|(_, phase)| *phase == self);
        found.map_or("", |(name, _)| name)
    }
}

/// Where a component's configuration comes from.
#[derive(Debug, Clone)]
pub(crate) struct Configuration {
    pub(crate) source: ConfigurationSource,
    /// The name of the file it becomes.
    pub(crate) name: Text,
}

#[derive(Debug, Clone)]
pub(crate) enum ConfigurationSource {
    /// A template in the suite itself.
    Inline(Text),
    /// A template in a file.
    Template(Text),
    /// A file as it is.
    File(Text),
    /// What a command prints.
    Command(Vec<Text>),
}

#[derive(Debug, Clone)]
pub(crate) enum Deployment {
    Process(Program),
    Container(Box<Container>),
    /// Somebody else runs it.
    Existing(Existing),
}

/// A process and how it is run.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    pub(crate) command: Vec<Text>,
    pub(crate) run: RunOptions,
}

#[derive(Debug, Clone)]
pub(crate) struct Container {
    pub(crate) image: Text,
    pub(crate) arguments: Vec<Text>,
    /// More options of `docker run`.
    pub(crate) options: Vec<Text>,
    /// Host ports to container ports, `127.0.0.1:{{ port.x }}:4317`.
    pub(crate) publish: Vec<Text>,
    pub(crate) run: RunOptions,
}

#[derive(Debug, Clone)]
pub(crate) struct Existing {
    pub(crate) address: Text,
    pub(crate) ready: Ready,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct RunOptions {
    pub(crate) environment: Vec<(String, Text)>,
    /// Which of the cores that we may use it may use.
    pub(crate) pin: Vec<usize>,
    pub(crate) ready: Ready,
    pub(crate) stop_timeout: Option<Text>,
    pub(crate) stop_signal: StopSignal,
    /// Statuses with which it may end besides 0.
    pub(crate) exit_statuses: Vec<i32>,
    /// Where a fault proxy takes its orders.
    pub(crate) control: Option<Text>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum StopSignal {
    #[default]
    Terminate,
    Interrupt,
}

/// When a component may be used.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ready {
    pub(crate) url: Option<Text>,
    /// Names of ports that accept connections.
    pub(crate) ports: Vec<Text>,
    pub(crate) timeout: Option<Text>,
}

/// What a load step runs.
#[derive(Debug, Clone)]
pub(crate) struct Execution {
    pub(crate) kind: ExecutionKind,
    pub(crate) arguments: Vec<Text>,
    pub(crate) place: Place,
    pub(crate) environment: Vec<(String, Text)>,
    pub(crate) pin: Vec<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExecutionKind {
    Otlp,
    Http,
    Command,
}

/// What is read of a component while it runs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Monitoring {
    /// Its process and the children of that.
    pub(crate) process: bool,
    pub(crate) interval: Option<Text>,
    pub(crate) prometheus: Option<Prometheus>,
    pub(crate) counters: Vec<Counter>,
}

#[derive(Debug, Clone)]
pub(crate) struct Prometheus {
    pub(crate) url: Text,
    /// Names with `*`; everything if empty.
    pub(crate) include: Vec<String>,
    pub(crate) exclude: Vec<String>,
}

/// A number somewhere. `sent`, `accepted`, `delivered` and `duplicated` are the ledger's.
#[derive(Debug, Clone)]
pub(crate) struct Counter {
    pub(crate) name: String,
    pub(crate) source: CounterSource,
    /// Read with every sample, not only where it is needed.
    pub(crate) sampled: bool,
}

#[derive(Debug, Clone)]
pub(crate) enum CounterSource {
    /// The sum of what a JSON pointer finds in an answer; `*` stands for every key or index.
    Url { url: Text, pointers: Vec<Text> },
    /// The same in a file.
    File { file: Text, pointers: Vec<Text> },
    /// The first value of the answer to a query.
    ClickHouse { url: Text, sql: Text },
    /// The sum over all labels of a metric in the Prometheus format.
    Prometheus { url: Text, metric: Text },
    /// What a command prints.
    Command(Vec<Text>),
}

#[derive(Debug, Clone)]
pub(crate) struct Test {
    pub(crate) name: Text,
    pub(crate) when: Option<Text>,
    pub(crate) steps: Vec<Step>,
    pub(crate) windows: Vec<EventWindow>,
    pub(crate) hooks: Hooks,
    pub(crate) on_error: OnError,
}

/// A window between two recorded events.
#[derive(Debug, Clone)]
pub(crate) struct EventWindow {
    pub(crate) name: Text,
    pub(crate) from: Text,
    pub(crate) to: Text,
}

#[derive(Debug, Clone)]
pub(crate) struct Step {
    /// For people and in spans; the action and its target by default.
    pub(crate) name: String,
    pub(crate) place: Place,
    pub(crate) when: Option<Text>,
    pub(crate) action: Action,
    /// An observation window from its begin to its end.
    pub(crate) window: Option<Text>,
    /// Values of variables from here on.
    pub(crate) set: Vec<Variable>,
    pub(crate) hooks: Hooks,
    pub(crate) on_error: OnError,
}

#[derive(Debug, Clone)]
pub(crate) enum Action {
    /// Configure, deploy, start, and wait until ready, one after the other.
    Up(Vec<Text>),
    /// Stop and destroy, last first.
    Down(Vec<Text>),
    Configure(Vec<Text>),
    Deploy(Vec<Text>),
    Start(Vec<Text>),
    Stop(Vec<Text>),
    Destroy(Vec<Text>),
    Wait(Wait),
    Load(LoadStep),
    MonitorStart(Vec<Text>),
    MonitorStop(Vec<Text>),
    WindowStart(Text),
    WindowEnd(Text),
    Reconfigure(Box<Reconfigure>),
    Fault(FaultStep),
    Assert(Vec<Text>),
    /// Ends waiting for what is under way, and closes the books.
    Drain(Drain),
    Event(Text),
    Metric(MetricStep),
    Query(QueryStep),
    Run(Vec<Text>),
    Http(HttpStep),
}

#[derive(Debug, Clone)]
pub(crate) struct Wait {
    pub(crate) what: WaitFor,
    pub(crate) timeout: Option<Text>,
}

#[derive(Debug, Clone)]
pub(crate) enum WaitFor {
    Duration(Text),
    Healthy(Text),
    Until(Text),
    /// The value does not change for so long.
    Steady {
        value: Text,
        duration: Option<Text>,
    },
    /// Loads in the background have ended; all, or of this name.
    Load(Option<Text>),
}

#[derive(Debug, Clone)]
pub(crate) struct LoadStep {
    pub(crate) target: Text,
    /// What its figures are filed under.
    pub(crate) label: Option<Text>,
    pub(crate) background: bool,
    /// It may fail to have anything accepted.
    pub(crate) may_fail: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Reconfigure {
    pub(crate) target: Text,
    pub(crate) configuration: Option<Configuration>,
    pub(crate) deployment: Option<Deployment>,
    pub(crate) execution: Option<Execution>,
    pub(crate) monitoring: Option<Monitoring>,
    pub(crate) apply: Apply,
}

/// How a component learns of its new configuration.
#[derive(Debug, Clone)]
pub(crate) enum Apply {
    HangUp,
    Post(Text),
    Restart,
    Nothing,
}

#[derive(Debug, Clone)]
pub(crate) struct FaultStep {
    pub(crate) target: Text,
    pub(crate) kind: FaultKind,
    /// Undone after this long.
    pub(crate) lasts: Option<Text>,
}

#[derive(Debug, Clone)]
pub(crate) enum FaultKind {
    /// SIGKILL; undone by a start.
    Kill,
    /// SIGSTOP; undone by SIGCONT.
    Freeze,
    Thaw,
    /// SIGTERM and a start.
    Restart,
    /// Rules for a fault proxy; undone by taking them away.
    Proxy(Vec<Text>),
}

#[derive(Debug, Clone)]
pub(crate) struct Drain {
    pub(crate) timeout: Option<Text>,
    /// Enough if the count has not changed for so long.
    pub(crate) steady: Option<Text>,
}

#[derive(Debug, Clone)]
pub(crate) struct MetricStep {
    pub(crate) name: Text,
    pub(crate) value: Text,
    pub(crate) unit: String,
    pub(crate) better: Better,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    Higher,
    Lower,
    Neither,
}

/// A query whose answer is a table in the report.
#[derive(Debug, Clone)]
pub(crate) struct QueryStep {
    pub(crate) title: Text,
    pub(crate) url: Text,
    pub(crate) sql: Text,
}

#[derive(Debug, Clone)]
pub(crate) struct HttpStep {
    pub(crate) url: Text,
    pub(crate) method: Method,
    pub(crate) body: Option<Text>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    Post,
    Delete,
}

/// Done before and after something.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hooks {
    pub(crate) before: Vec<Step>,
    pub(crate) after: Vec<Step>,
}

/// What to do when something fails; `retries` more times, and then go on or not.
#[derive(Debug, Clone, Default)]
pub(crate) struct OnError {
    pub(crate) retries: Option<Text>,
    pub(crate) retry_delay: Option<Text>,
    pub(crate) goes_on: bool,
}
