//! From a tree to settings: what the configuration says as a whole.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::components::{Group, check_name, words_at};
use super::diagnostics::{Diagnostic, Diagnostics, Severity};
use super::fault::{list, suggestion};
use super::load::Tree;
use super::section::Section;
use super::settings::{
    LogEncoding, LogLevel, LogSettings, MetricsLevel, ReloadSettings, Settings, TelemetrySettings,
};
use super::tree::{KeyPath, Value};
use crate::admin::Lock;
use crate::auth::AuthOptions;
use crate::claim::Claim;
use crate::component::{
    ExporterSettings, ExtensionSettings, Factory, ProcessorSettings, ReceiverSettings,
};
use crate::exporters::EXPORTERS;
use crate::extensions::EXTENSIONS;
use crate::net::listen::Endpoint;
use crate::net::server_tls::TlsOptions;
use crate::pipeline::Node;
use crate::processors::PROCESSORS;
use crate::receivers::RECEIVERS;
use crate::signal::Signal;
use crate::units::HumanDuration;

/// The kinds of components that there are.
#[derive(Debug, Clone, Copy)]
pub struct Registries {
    /// Receivers.
    pub receivers: &'static [Factory<dyn ReceiverSettings>],
    /// Processors.
    pub processors: &'static [Factory<dyn ProcessorSettings>],
    /// Exporters.
    pub exporters: &'static [Factory<dyn ExporterSettings>],
    /// Extensions.
    pub extensions: &'static [Factory<dyn ExtensionSettings>],
}

impl Registries {
    /// Everything that the agent has.
    pub const BUILT_IN: Self = Self {
        receivers: RECEIVERS,
        processors: PROCESSORS,
        exporters: EXPORTERS,
        extensions: EXTENSIONS,
    };
}

/// The pipelines, and what the agent tells about itself.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ServiceOptions {
    /// The extensions that run, in the order in which they are started.
    #[schemars(extend("uniqueItems" = true))]
    extensions: Vec<String>,
    /// The pipelines, each named after its signal: `traces`, `metrics` or `logs`, with a name behind a `/` where a signal has
    /// several. At least one.
    pipelines: BTreeMap<String, PipelineOptions>,
    /// What the agent tells about itself.
    telemetry: TelemetryOptions,
    /// How long a stop may take to deliver what was accepted, and how long a removed exporter may go without a delivery.
    drain_timeout: HumanDuration,
    /// When the configuration is read again without being asked.
    reload: ReloadOptions,
    /// Where the running agent can be asked to reload.
    admin: AdminOptions,
}

impl Default for ServiceOptions {
    fn default() -> Self {
        Self {
            extensions: Vec::new(),
            pipelines: BTreeMap::new(),
            telemetry: TelemetryOptions::default(),
            drain_timeout: HumanDuration::from_secs(30),
            reload: ReloadOptions::default(),
            admin: AdminOptions::default(),
        }
    }
}

/// When the configuration is read again without being asked.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct ReloadOptions {
    /// Whether the files are watched: a change takes effect by itself.
    watch: bool,
    /// How long the files must have been left alone before they are read.
    debounce: HumanDuration,
}

impl Default for ReloadOptions {
    fn default() -> Self {
        Self {
            watch: true,
            debounce: HumanDuration::from_millis(500),
        }
    }
}

/// Where the running agent can be asked to reload.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct AdminOptions {
    /// `host:port` or `unix:/path`; empty for none.
    endpoint: Option<String>,
    /// Certificates; absent means plaintext.
    tls: Option<TlsOptions>,
    /// Who may ask; absent means whoever reaches the address.
    auth: Option<AuthOptions>,
}

/// Where items of one signal come from, what they go through, and where they go.
// The lists are read from the tree, where they have places.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct PipelineOptions {
    /// Where items come from, at least one.
    #[schemars(length(min = 1), extend("uniqueItems" = true, "x-required" = true))]
    receivers: Vec<String>,
    /// What they go through, in this order.
    #[schemars(extend("uniqueItems" = true))]
    processors: Vec<String>,
    /// Where they go, at least one: each gets all of them.
    #[schemars(length(min = 1), extend("uniqueItems" = true, "x-required" = true))]
    exporters: Vec<String>,
}

#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct TelemetryOptions {
    /// The agent's own log, on standard error.
    logs: LogOptions,
    /// The agent's own metrics, for Prometheus.
    metrics: MetricOptions,
}

#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct LogOptions {
    /// The least severe level that is written. `RUST_LOG`, where it is set, wins.
    level: LogLevel,
    /// How a line looks.
    encoding: LogEncoding,
}

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct MetricOptions {
    /// `none` serves no metrics; all others serve everything.
    level: MetricsLevel,
    /// Where to listen: an IP address or `localhost`, and a port.
    #[schemars(regex(pattern = ":[0-9]+$"))]
    address: String,
    /// Certificates; absent means plaintext.
    tls: Option<TlsOptions>,
    /// Who may read them; absent means whoever reaches the address.
    auth: Option<AuthOptions>,
}

impl Default for MetricOptions {
    fn default() -> Self {
        Self {
            level: MetricsLevel::Normal,
            address: "127.0.0.1:8888".to_owned(),
            tls: None,
            auth: None,
        }
    }
}

/// Understands the whole configuration. Problems are added to `found`; settings are there if there is no error.
pub(crate) fn resolve(
    tree: &Tree,
    registries: &Registries,
    found: &mut Diagnostics,
) -> Option<Settings> {
    check_top_level(tree, found);
    let mut groups = Groups {
        receivers: Group::read("receivers", "receiver", registries.receivers, tree, found),
        processors: Group::read(
            "processors",
            "processor",
            registries.processors,
            tree,
            found,
        ),
        exporters: Group::read("exporters", "exporter", registries.exporters, tree, found),
        extensions: Group::read(
            "extensions",
            "extension",
            registries.extensions,
            tree,
            found,
        ),
    };
    let service = service(tree, found);
    let enabled = extensions(tree, &mut groups, found);
    let pipelines = pipelines(tree, &mut groups, found);
    groups.check_authenticators(service.as_ref(), tree, found);
    groups.warn_of_unused(tree, found);
    groups.check_claims(service.as_ref(), tree, found);
    found.sort();
    if found.has_errors() {
        return None;
    }
    let Service {
        telemetry,
        drain_timeout,
        reload,
        admin,
        admin_lock,
    } = service?;
    let mut extensions = groups.extensions.into_used();
    extensions.sort_by_key(|(id, _)| enabled.iter().position(|name| name == id));
    Some(Settings {
        receivers: groups.receivers.into_used(),
        processors: groups.processors.into_used(),
        exporters: groups.exporters.into_used(),
        extensions,
        pipelines,
        telemetry,
        drain_timeout,
        reload,
        admin,
        admin_lock,
    })
}

/// Reports a problem at the key, or at the item of an array, at `path`; where there is none, at the table it should be in.
pub(super) fn report(
    tree: &Tree,
    found: &mut Diagnostics,
    severity: Severity,
    path: &KeyPath,
    message: String,
) {
    if found.is_full() {
        return;
    }
    found.push(Diagnostic {
        severity,
        place: tree
            .root
            .at(path.0.get(..1).unwrap_or_default())
            .and_then(|_| tree.place_of_key(path)),
        key: path.to_string(),
        message,
    });
}

const TOP_LEVEL: [&str; 5] = [
    "receivers",
    "processors",
    "exporters",
    "extensions",
    "service",
];

const NO_CONNECTORS: &str = "connectors are not supported by this version; a pipeline may list several receivers and exporters";

fn check_top_level(tree: &Tree, found: &mut Diagnostics) {
    let entries = tree.root.table().map(|table| table.0.as_slice());
    for entry in entries.unwrap_or_default() {
        if TOP_LEVEL.contains(&entry.key.as_str()) {
            continue;
        }
        let message = match suggestion(&entry.key, TOP_LEVEL) {
            _ if entry.key == "connectors" => NO_CONNECTORS.to_owned(),
            None if suggestion(&entry.key, ["connectors"]).is_some() => NO_CONNECTORS.to_owned(),
            Some(close) => format!("unknown key; did you mean `{close}`?"),
            None => format!("unknown key; {}", list("valid keys are", &TOP_LEVEL)),
        };
        report(
            tree,
            found,
            Severity::Error,
            &KeyPath::of(&[&entry.key]),
            message,
        );
    }
}

struct Groups {
    receivers: Group<dyn ReceiverSettings>,
    processors: Group<dyn ProcessorSettings>,
    exporters: Group<dyn ExporterSettings>,
    extensions: Group<dyn ExtensionSettings>,
}

impl Groups {
    fn warn_of_unused(&self, tree: &Tree, found: &mut Diagnostics) {
        self.receivers.warn_of_unused(tree, found);
        self.processors.warn_of_unused(tree, found);
        self.exporters.warn_of_unused(tree, found);
        self.extensions.warn_of_unused(tree, found);
    }

    /// Reports authenticators that are asked for and are not there.
    fn check_authenticators(
        &self,
        service: Option<&Service>,
        tree: &Tree,
        found: &mut Diagnostics,
    ) {
        let own = service.into_iter().flat_map(|service| {
            let metrics = service
                .telemetry
                .metrics_lock
                .authenticators("telemetry.metrics.");
            let admin = service.admin_lock.authenticators("admin.");
            metrics.into_iter().chain(admin)
        });
        let own = own.map(|wanted| (wanted.path_below(KeyPath::of(&["service"])), wanted));
        let wanted: Vec<_> = own
            .chain(
                self.receivers
                    .authenticators(|settings| settings.authenticators()),
            )
            .chain(
                self.exporters
                    .authenticators(|settings| settings.authenticators()),
            )
            .chain(
                self.extensions
                    .authenticators(|settings| settings.authenticators()),
            )
            .collect();
        for (path, wanted) in wanted {
            if let Err(problem) = self.extensions.authenticates(&wanted, tree) {
                report(tree, found, Severity::Error, &path, problem);
            }
        }
    }

    /// Reports what two components want for themselves.
    fn check_claims(&self, service: Option<&Service>, tree: &Tree, found: &mut Diagnostics) {
        let metrics = service
            .and_then(|service| service.telemetry.metrics_address)
            .filter(|address| address.port() != 0)
            .map(|address| {
                let path = KeyPath::of(&["service", "telemetry", "metrics", "address"]);
                let host = address.ip().to_string();
                (path, Claim::port("address", &host, address.port()))
            });
        let admin = service.and_then(|service| {
            let claim = Claim::endpoint("endpoint", service.admin.as_ref()?)?;
            Some((KeyPath::of(&["service", "admin", "endpoint"]), claim))
        });
        let claims: Vec<_> = metrics
            .into_iter()
            .chain(admin)
            .chain(self.receivers.claims(|settings| settings.claims()))
            .chain(self.exporters.claims(|settings| settings.claims()))
            .chain(self.extensions.claims(|settings| settings.claims()))
            .collect();
        for (index, (path, claim)) in claims.iter().enumerate() {
            let mut before = claims.iter().take(index);
            let Some((holder, _)) = before.find(|(_, other)| other.collides(claim)) else {
                continue;
            };
            let message = format!("{claim} is taken by `{holder}` already");
            report(tree, found, Severity::Error, path, message);
        }
    }
}

/// What `[service]` says besides the pipelines and extensions.
struct Service {
    telemetry: TelemetrySettings,
    drain_timeout: Duration,
    reload: ReloadSettings,
    admin: Option<Endpoint>,
    admin_lock: Lock,
}

fn service(tree: &Tree, found: &mut Diagnostics) -> Option<Service> {
    let path = KeyPath::of(&["service"]);
    let node = tree.root.at(&path.0)?;
    let mut section = Section::new(path, node, &tree.texts, found);
    let options: ServiceOptions = section.options()?;
    let metrics = options.telemetry.metrics;
    let metrics_lock = Lock::resolve(
        metrics.tls,
        metrics.auth,
        "telemetry.metrics.",
        &mut section,
    );
    let address = match parse_address(&metrics.address) {
        _ if metrics.level == MetricsLevel::None => None,
        Some(address) => Some(address),
        None => {
            let message = format!(
                "`{}` is not an address to listen on: write an IP address or `localhost`, and a port, such as `127.0.0.1:8888`",
                metrics.address
            );
            section.error("telemetry.metrics.address", message);
            return None;
        }
    };
    if let Some(address) = &address {
        let (key, can) = ("telemetry.metrics.address", "read the agent's metrics");
        metrics_lock.warn_of_strangers(&(*address).into(), key, can, &mut section);
    }
    let telemetry = TelemetrySettings {
        logs: LogSettings {
            level: options.telemetry.logs.level,
            encoding: options.telemetry.logs.encoding,
        },
        metrics_address: address,
        metrics_lock,
    };
    let admin_lock = Lock::resolve(
        options.admin.tls,
        options.admin.auth,
        "admin.",
        &mut section,
    );
    let admin = admin(options.admin.endpoint.as_deref(), &admin_lock, &mut section)?;
    Some(Service {
        telemetry,
        drain_timeout: options.drain_timeout.0,
        reload: ReloadSettings {
            watch: options.reload.watch,
            debounce: options.reload.debounce.0,
        },
        admin,
        admin_lock,
    })
}

/// Where the agent takes commands: by default a socket in the folder that systemd makes for it, if it does.
fn admin(
    written: Option<&str>,
    lock: &Lock,
    section: &mut Section<'_>,
) -> Option<Option<Endpoint>> {
    let Some(written) = written else {
        let folders = std::env::var("RUNTIME_DIRECTORY").unwrap_or_default();
        return Some(runtime_socket(&folders).map(Endpoint::Unix));
    };
    if written.is_empty() {
        return Some(None);
    }
    let endpoint = match Endpoint::parse_any(written) {
        Ok(endpoint) => endpoint,
        Err(problem) => {
            let message = format!("{problem}, or `unix:/path`");
            section.error("admin.endpoint", message);
            return None;
        }
    };
    let can = "have the agent read its configuration again";
    lock.warn_of_strangers(&endpoint, "admin.endpoint", can, section);
    Some(Some(endpoint))
}

/// The socket for commands in the first of the folders that systemd makes for a service: those of `RUNTIME_DIRECTORY`,
/// separated by colons.
pub(crate) fn runtime_socket(folders: &str) -> Option<PathBuf> {
    let folder = folders.split(':').next().filter(|first| !first.is_empty());
    folder.map(|folder| Path::new(folder).join("admin.sock"))
}

/// An IP address and a port. `localhost` is 127.0.0.1: where to listen does not depend on a resolver.
fn parse_address(text: &str) -> Option<SocketAddr> {
    match text.strip_prefix("localhost:") {
        Some(port) => Some(SocketAddr::from(([127, 0, 0, 1], port.parse().ok()?))),
        None => text.parse().ok(),
    }
}

/// Checks `service.extensions` and gives its ids in order.
fn extensions(tree: &Tree, groups: &mut Groups, found: &mut Diagnostics) -> Vec<String> {
    let words = words_at(tree, &KeyPath::of(&["service", "extensions"]));
    for (id, path) in distinct(tree, &words, found) {
        groups.extensions.reference(id, None, path, tree, found);
    }
    words.into_iter().map(|(id, _)| id).collect()
}

/// Reports words that stand twice and gives the others.
fn distinct<'a>(
    tree: &Tree,
    words: &'a [(String, KeyPath)],
    found: &mut Diagnostics,
) -> Vec<(&'a str, &'a KeyPath)> {
    let mut seen = std::collections::HashSet::new();
    let mut distinct = Vec::new();
    for (word, path) in words {
        if seen.insert(word.as_str()) {
            distinct.push((word.as_str(), path));
            continue;
        }
        let message = format!("`{word}` is listed twice");
        report(tree, found, Severity::Error, path, message);
    }
    distinct
}

fn pipelines(tree: &Tree, groups: &mut Groups, found: &mut Diagnostics) -> Vec<Node> {
    let path = KeyPath::of(&["service", "pipelines"]);
    let node = tree.root.at(&path.0);
    let Some(entries) = node.and_then(|node| node.table()) else {
        // A value that is no table was reported when the service was decoded.
        if node.is_none() {
            no_pipeline(tree, &path, found);
        }
        return Vec::new();
    };
    if entries.0.is_empty() {
        no_pipeline(tree, &path, found);
    }
    entries
        .0
        .iter()
        .filter_map(|entry| pipeline(&entry.key, &path.key(&entry.key), tree, groups, found))
        .collect()
}

fn no_pipeline(tree: &Tree, path: &KeyPath, found: &mut Diagnostics) {
    let message = "there is no pipeline; add one, such as `[service.pipelines.traces]` with `receivers` and `exporters`";
    report(tree, found, Severity::Error, path, message.to_owned());
}

fn pipeline(
    id: &str,
    path: &KeyPath,
    tree: &Tree,
    groups: &mut Groups,
    found: &mut Diagnostics,
) -> Option<Node> {
    let signal = match pipeline_signal(id) {
        Ok(signal) => Some(signal),
        Err(problem) => {
            report(tree, found, Severity::Error, path, problem);
            None
        }
    };
    let lists = ["receivers", "processors", "exporters"].map(|list| {
        let path = path.key(list);
        let words = words_at(tree, &path);
        let absent = match tree.root.at(&path.0).map(|node| &node.value) {
            None => true,
            Some(Value::List(items)) => items.is_empty(),
            Some(_) => false,
        };
        (list, words, absent)
    });
    for (list, words, absent) in &lists {
        if *absent && *list != "processors" {
            let message = format!("the pipeline has no {list}; it needs at least one");
            report(tree, found, Severity::Error, path, message);
        }
        for (id, path) in distinct(tree, words, found) {
            match *list {
                "receivers" => groups.receivers.reference(id, signal, path, tree, found),
                "processors" => groups.processors.reference(id, signal, path, tree, found),
                _ => groups.exporters.reference(id, signal, path, tree, found),
            }
        }
    }
    let [receivers, processors, exporters] =
        lists.map(|(_, words, _)| words.into_iter().map(|(id, _)| id).collect());
    Some(Node {
        id: id.to_owned(),
        signal: signal?,
        receivers,
        processors,
        exporters,
    })
}

/// The signal of a pipeline's id, or what is wrong with the id.
fn pipeline_signal(id: &str) -> Result<Signal, String> {
    check_name(id)?;
    if let Some(signal) = Signal::of_pipeline(id) {
        return Ok(signal);
    }
    let names = Signal::ALL.map(Signal::name);
    let kind = id.split_once('/').map_or(id, |(kind, _)| kind);
    Err(match suggestion(kind, names) {
        Some(close) => format!("there is no signal `{kind}`; did you mean `{close}`?"),
        None => format!(
            "a pipeline is named after its signal; {}, or `traces/name` for a second one",
            list("choose from", &names)
        ),
    })
}
