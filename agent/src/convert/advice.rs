//! What to do about what has no counterpart.

use super::components::Place;

/// Fields of `memory_limiter` and the like that are about Go's garbage collector.
pub(super) const GARBAGE_KEYS: [&str; 6] = [
    "ballast_size_mib",
    "max_gc_interval_when_hard_limited",
    "max_gc_interval_when_soft_limited",
    "min_gc_interval_when_hard_limited",
    "min_gc_interval_when_soft_limited",
    "ballast_size_in_percentage",
];

pub(super) const GARBAGE: &str = "not needed: there is no garbage collector to help";
pub(super) const STORAGE: &str =
    "not needed: each `sending_queue` with `storage = \"wal\"` names its folder itself";
pub(super) const ASYNC_INSERT: &str = "not needed: batches are formed here, and each insert is stored once; to let the server \
     gather inserts, write `async_insert = true` with `delivery = \"at_least_once\"`";
pub(super) const OPEN: &str = "there is no such authenticator: WITHOUT IT ANYBODY WHO REACHES THIS ADDRESS CAN SEND; use \
     `bearertokenauth` or `basicauth`, or ask for certificates with `tls.client_ca_file`";
pub(super) const NO_AUTHENTICATOR: &str = "there is no such authenticator; use `bearertokenauth` or `basicauth`, or write a header to \
     `headers`";
pub(super) const CONNECTOR: &str =
    "there are no connectors; a pipeline may list several receivers and exporters";
pub(super) const READER: &str = "the agent's own metrics are served for Prometheus, at `service.telemetry.metrics.address`, and not \
     sent anywhere: have something collect them there";

const IN_FRONT: &str = "keep a Collector for it that sends OTLP to Tidegate's `otlp` receiver";

/// About a connector.
pub(super) fn connector(kind: &str) -> &'static str {
    match kind {
        "forward" => {
            "there are no connectors; let one pipeline list the receivers, processors and exporters of both"
        }
        "spanmetrics" | "count" | "servicegraph" | "sum" | "signaltometrics" => {
            "there are no connectors; in ClickHouse, a materialized view over the tables computes the same"
        }
        "routing" | "failover" | "roundrobin" => {
            "there are no connectors; put a Collector behind Tidegate that chooses where data goes"
        }
        _ => CONNECTOR,
    }
}

/// About a kind of component.
pub(super) fn kind(table: &str, kind: &str) -> String {
    match table {
        "receivers" => receiver(kind),
        "processors" => processor(kind),
        "exporters" => exporter(kind),
        _ => extension(kind),
    }
}

fn receiver(kind: &str) -> String {
    let what = match kind {
        "prometheus" | "prometheus_simple" | "hostmetrics" | "kubeletstats" | "k8s_cluster"
        | "docker_stats" | "statsd" => "Tidegate collects no metrics by itself",
        "filelog" | "journald" | "syslog" | "tcplog" | "udplog" | "k8s_events" | "k8sobjects"
        | "fluentforward" => "Tidegate collects no logs by itself",
        "jaeger" | "zipkin" | "opencensus" | "skywalking" | "datadog" => {
            "Tidegate takes OTLP only; let the SDKs send OTLP, or"
        }
        _ => "Tidegate takes OTLP only",
    };
    match what.strip_suffix(", or") {
        Some(what) => format!("{what}, or {IN_FRONT}"),
        None => format!("{what}: {IN_FRONT}"),
    }
}

fn processor(kind: &str) -> String {
    match kind {
        "probabilistic_sampler" => {
            format!("the plugin `sample` keeps whole traces with a probability: {PLUGINS}")
        }
        "tail_sampling" | "groupbytrace" => format!(
            "Tidegate does not wait for whole traces: let the SDKs sample; or the plugin `sample`, by the trace's id: \
             {PLUGINS}; or {IN_FRONT}"
        ),
        "filter" => format!(
            "the plugin `filter` drops by name, attribute, resource and severity: {PLUGINS}"
        ),
        "attributes" | "resource" | "transform" | "metricstransform" | "span" => format!(
            "what it does is a plugin's work here: the plugins `set-attribute`, `rename` and `enrich`, or one of your own; \
             {PLUGINS}"
        ),
        "redaction" => format!("the plugin `redact` does that: {PLUGINS}"),
        "resourcedetection" | "k8sattributes" => format!(
            "there is no such processor here: set attributes in the SDK (`OTEL_RESOURCE_ATTRIBUTES`), in Kubernetes from \
             the downward API; or {IN_FRONT}"
        ),
        "groupbyattrs" | "cumulativetodelta" | "deltatorate" | "deltatocumulative" | "interval" => {
            format!("there is no such processor here: compute it in ClickHouse; or {IN_FRONT}")
        }
        _ => format!(
            "there is no such processor here: write a plugin (docs/plugins.md), or {IN_FRONT}"
        ),
    }
}

/// Where plugins come from.
const PLUGINS: &str =
    "build it from plugins/examples and name it under `[processors.wasm]`, as docs/plugins.md says";

fn exporter(kind: &str) -> String {
    let behind = "or send by `otlp_grpc` to a Collector that has it";
    match kind {
        "jaeger" | "zipkin" | "opencensus" | "otlp_arrow" | "otelarrow" => {
            format!("Tidegate sends OTLP: write to the same place by `otlp_grpc`, {behind}")
        }
        "loki" | "prometheusremotewrite" | "elasticsearch" | "opensearch" => format!(
            "Tidegate writes to ClickHouse, OTLP and files: where the destination takes OTLP, use `otlp_http`, {behind}"
        ),
        "nop" => "an exporter that discards is not needed: leave the pipeline out".to_owned(),
        _ => format!("Tidegate writes to ClickHouse, OTLP and files: use one of them, {behind}"),
    }
}

fn extension(kind: &str) -> String {
    let text = match kind {
        "oauth2client" | "oidc" | "headers_setter" | "sigv4auth" | "asapclient" => {
            "of the authenticators there are `bearertokenauth` and `basicauth`; exporters send `headers`, too"
        }
        "memory_limiter" => {
            "use the processor `memory_limiter`: it refuses at the door as well, before a body is read"
        }
        "redis_storage" | "db_storage" => "queues on disk are `storage = \"wal\"` with a folder",
        _ => "there is no such extension here, and no pipeline needs it",
    };
    text.to_owned()
}

/// About a signal that is none here.
pub(super) fn signal(signal: &str) -> String {
    match signal {
        "profiles" => "Tidegate takes traces, metrics and logs, no profiles".to_owned(),
        _ => format!(
            "there is no signal `{signal}`: a pipeline is for `traces`, `metrics` or `logs`"
        ),
    }
}

/// About a part of `service.telemetry`.
pub(super) fn telemetry(key: &str) -> String {
    match key {
        "traces" => {
            "the agent has no traces of its own; its metrics are served for Prometheus".to_owned()
        }
        "resource" => {
            "the agent's own metrics have no resource: add labels where they are collected"
                .to_owned()
        }
        _ => format!("`service.telemetry` has no `{key}` here"),
    }
}

/// About a field that the component does not have.
pub(super) fn field(place: &Place<'_>, key: &str) -> String {
    match (place.table, place.path.as_str(), key) {
        ("exporters", "sending_queue.batch", "partition") => {
            "client metadata does not travel with batches: they cannot be kept apart by it"
                .to_owned()
        }
        ("service", "logs", "sampling") => {
            "the agent logs changes of state once and counts events: there is nothing to sample"
                .to_owned()
        }
        ("service", "metrics", "views") => {
            "everything is served: leave out what is not wanted where the metrics are collected"
                .to_owned()
        }
        ("service", path, _) => format!("`service.telemetry.{path}` has no such field here"),
        ("exporters", "", "sending_queue" | "retry_on_failure" | "timeout") => {
            "this exporter has no queue: clients are answered when it has written".to_owned()
        }
        (table, _, _) => format!(
            "`{table}.{kind}` has no such field here; docs/reference/{table}-{kind}.md lists what there is",
            kind = place.kind
        ),
    }
}
