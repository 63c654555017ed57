//! The table of every metric: name, kind, labels and help text. No other module names a metric.

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Only rises.
    Counter,
    /// Rises and falls.
    Gauge,
    /// A distribution over the given upper bounds.
    Histogram(&'static [f64]),
}

/// One metric.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    /// The name; `{items}` stands for `spans`, `metric_points` or `log_records`.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Label names, in the order in which values are given.
    pub labels: &'static [&'static str],
    /// What it counts, with its unit.
    pub help: &'static str,
}

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Spec {
    Spec {
        name,
        kind: Kind::Counter,
        labels,
        help,
    }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Spec {
    Spec {
        name,
        kind: Kind::Gauge,
        labels,
        help,
    }
}

/// The Collector's bounds for batch sizes in items.
const BATCH_ITEMS: &[f64] = &[
    10.0, 25.0, 50.0, 75.0, 100.0, 250.0, 500.0, 750.0, 1e3, 2e3, 3e3, 4e3, 5e3, 6e3, 7e3, 8e3,
    9e3, 1e4, 2e4, 3e4, 5e4, 1e5,
];

/// From what a plugin takes for a small batch to what nobody should wait for.
const CALL_SECONDS: &[f64] = &[
    1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5,
    1.0, 2.5, 5.0,
];

/// From a fast disk's sync to one that stands still; closest where most disks are.
const DISK_SECONDS: &[f64] = &[
    1e-4, 2e-4, 3e-4, 5e-4, 7e-4, 1e-3, 1.4e-3, 2e-3, 2.8e-3, 4e-3, 5.6e-3, 8e-3, 1.1e-2, 1.6e-2,
    2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
];

/// For values of which nothing is known: three bounds in ten.
const DECADES: &[f64] = &[
    1e-6, 1e-5, 1e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0,
    50.0, 100.0, 200.0, 500.0, 1e3, 1e4, 1e5, 1e6,
];

macro_rules! table {
    ($($id:ident = $spec:expr;)*) => {
        $(
            #[doc = concat!("See [`TABLE`], `", stringify!($id), "`.")]
            pub const $id: Spec = $spec;
        )*
        /// Every metric there is, in the order in which the reference lists them.
        pub const TABLE: &[Spec] = &[$($id),*];
    };
}

table! {
    RECEIVER_ACCEPTED = counter("otelcol_receiver_accepted_{items}", &["receiver", "transport"], "Number of items successfully pushed into the pipeline.");
    RECEIVER_REFUSED = counter("otelcol_receiver_refused_{items}", &["receiver", "transport"], "Number of items that could not be pushed into the pipeline, those included that were declined of a request that was taken. Of a request that was refused unread they are estimated, by its length and the items so far; at least one.");
    RECEIVER_BYTES = counter("tidegate_receiver_accepted_bytes", &["receiver", "transport", "otel_signal"], "Bytes of accepted OTLP requests, decompressed.");
    RECEIVER_REQUESTS = counter("otelcol_receiver_requests", &["receiver", "transport", "otel_signal", "outcome"], "Requests by outcome: success, refused (retryable) or failure (bad request).");
    RECEIVER_REPAIRED = counter("tidegate_receiver_repaired_strings", &["receiver", "transport", "otel_signal"], "Strings that were not UTF-8 and had their invalid bytes replaced by U+FFFD.");
    AUTH_DENIED = counter("tidegate_auth_denied_requests", &["authenticator", "reason"], "Requests turned away unread for want of credentials: missing, wrong, or busy where too many wait for a slow check.");
    PROCESSOR_INCOMING = counter("otelcol_processor_incoming_items", &["processor", "otel_signal"], "Number of items passed to the processor.");
    PROCESSOR_OUTGOING = counter("otelcol_processor_outgoing_items", &["processor", "otel_signal"], "Number of items emitted from the processor.");
    PROCESSOR_REJECTED = counter("tidegate_processor_rejected_items", &["processor", "otel_signal", "reason"], "Items that the processor declined because of what they are, by reason; every time they are sent. The sender is told (OTLP partial success), and the ledger never has them; what is declined behind batch is not here, but dropped in the ledger. With the reason plugin_failed: sent back to be sent again.");
    LIMITER_ACCEPTED = counter("otelcol_processor_memory_limiter_accepted_{items}", &["processor"], "Number of items that the memory limiter let pass.");
    LIMITER_REFUSED = counter("otelcol_processor_memory_limiter_refused_{items}", &["processor"], "Number of items that the memory limiter refused, estimated where a request was refused unread.");
    BATCH_SEND_SIZE = Spec { name: "otelcol_processor_batch_batch_send_size", kind: Kind::Histogram(BATCH_ITEMS), labels: &["processor"], help: "Number of items in the batch." };
    BATCH_SIZE_TRIGGER = counter("otelcol_processor_batch_batch_size_trigger_send", &["processor"], "Number of times the batch was sent due to a size trigger.");
    BATCH_TIMEOUT_TRIGGER = counter("otelcol_processor_batch_timeout_trigger_send", &["processor"], "Number of times the batch was sent due to a timeout trigger.");
    BATCH_CARDINALITY = gauge("otelcol_processor_batch_metadata_cardinality", &["processor"], "Number of distinct metadata value combinations being processed.");
    PLUGIN_CALLS = counter("tidegate_plugin_calls", &["processor", "otel_signal", "outcome"], "Batches by what a plugin made of them: unchanged, changed, nothing (all dropped); or by how it failed: timeout, trap, memory_limit, output_limit, invalid_output, error, skipped (not called after repeated failures).");
    PLUGIN_SECONDS = Spec { name: "tidegate_plugin_call_seconds", kind: Kind::Histogram(CALL_SECONDS), labels: &["processor", "otel_signal"], help: "How long a plugin took for a batch." };
    PLUGIN_BYTES_IN = counter("tidegate_plugin_incoming_bytes", &["processor", "otel_signal"], "Bytes handed to a plugin.");
    PLUGIN_BYTES_OUT = counter("tidegate_plugin_outgoing_bytes", &["processor", "otel_signal"], "Bytes of the batches that came out of a plugin.");
    PLUGIN_MEMORY = gauge("tidegate_plugin_memory_bytes", &["processor", "otel_signal"], "Linear memory of a plugin's instance.");
    PLUGIN_BREAKER = gauge("tidegate_plugin_breaker_open", &["processor", "otel_signal"], "1 while a plugin is not called because it failed repeatedly, else 0.");
    PLUGIN_LOG_DISCARDED = counter("tidegate_plugin_discarded_log_lines", &["processor", "otel_signal"], "Lines that a plugin wanted logged and that were left out because there were too many.");
    PLUGIN_COUNTER = counter("tidegate_plugin_counter", &["processor", "otel_signal", "name", "label"], "What a plugin counts; which names there are, the plugin says.");
    PLUGIN_GAUGE = gauge("tidegate_plugin_gauge", &["processor", "otel_signal", "name", "label"], "What a plugin measures; which names there are, the plugin says.");
    PLUGIN_HISTOGRAM = Spec { name: "tidegate_plugin_histogram", kind: Kind::Histogram(DECADES), labels: &["processor", "otel_signal", "name", "label"], help: "Distributions that a plugin observes; which names there are, the plugin says." };
    EXPORTER_SENT = counter("otelcol_exporter_sent_{items}", &["exporter"], "Number of items successfully sent to the destination.");
    EXPORTER_FAILED = counter("otelcol_exporter_send_failed_{items}", &["exporter"], "Number of items in failed attempts to send to the destination, after retries.");
    EXPORTER_ENQUEUE_FAILED = counter("otelcol_exporter_enqueue_failed_{items}", &["exporter"], "Number of items that the sending queue did not take, estimated where a request was refused unread.");
    EXPORTER_QUEUE_SIZE = gauge("otelcol_exporter_queue_size", &["exporter", "data_type"], "Current size of the sending queue, in the queue's unit.");
    EXPORTER_QUEUE_CAPACITY = gauge("otelcol_exporter_queue_capacity", &["exporter", "data_type"], "Fixed capacity of the sending queue, in the queue's unit.");
    EXPORTER_IN_FLIGHT = gauge("otelcol_exporter_in_flight_requests", &["exporter", "data_type"], "Requests being sent now, waiting for a retry included.");
    EXPORTER_ATTEMPTS = counter("tidegate_exporter_attempts", &["exporter", "otel_signal", "outcome"], "Attempts to send, by outcome: success, retry, rejected.");
    EXPORTER_BYTES = counter("tidegate_exporter_sent_bytes", &["exporter", "otel_signal"], "Bytes sent to the destination, as they went over the wire or to disk.");
    QUEUE_DISK_BYTES = gauge("tidegate_queue_disk_bytes", &["exporter", "otel_signal"], "Bytes that the log of a durable queue takes on disk.");
    QUEUE_OPEN_BATCHES = gauge("tidegate_queue_open_batches", &["exporter", "otel_signal"], "Batches of a durable queue that are formed and not settled.");
    QUEUE_OLDEST_AGE = gauge("tidegate_queue_oldest_age_seconds", &["exporter", "otel_signal"], "How long the oldest data in a durable queue has waited, in seconds.");
    QUEUE_RECOVERED = counter("tidegate_queue_recovered_items", &["exporter", "otel_signal"], "Items that an earlier run left in a durable queue. They are among the accepted ones of the ledger.");
    QUEUE_WRITTEN_BYTES = counter("tidegate_queue_written_bytes", &["exporter", "otel_signal"], "Bytes written to the log of a durable queue.");
    QUEUE_SYNCS = counter("tidegate_queue_syncs", &["exporter", "otel_signal"], "Syncs of the log of a durable queue.");
    QUEUE_COMMIT_SECONDS = Spec { name: "tidegate_queue_commit_seconds", kind: Kind::Histogram(DISK_SECONDS), labels: &["exporter", "otel_signal"], help: "How long a durable queue's disk took to write and sync records that clients wait for." };
    QUEUE_FAILURES = counter("tidegate_queue_failures", &["exporter", "otel_signal"], "Writes, syncs and attempts to make room that the disk of a durable queue refused.");
    QUEUE_DAMAGED = counter("tidegate_queue_damaged_records", &["exporter", "otel_signal"], "Records of a durable queue that could not be read back.");
    DEAD_LETTERS = counter("tidegate_dead_letters", &["exporter", "otel_signal"], "Dead letters written: files with items that the destination will never take.");
    DEAD_LETTER_ITEMS = counter("tidegate_dead_letter_items", &["exporter", "otel_signal"], "Items that went into dead letters. The ledger has them as dropped, reason dead_letter.");
    DEAD_LETTER_FAILURES = counter("tidegate_dead_letter_failures", &["exporter", "otel_signal"], "Attempts to write a dead letter that failed: the folder has max_size, or the disk refuses.");
    DEAD_LETTER_DISK_BYTES = gauge("tidegate_dead_letter_disk_bytes", &["exporter", "otel_signal"], "Bytes that dead letters take on disk now, whole blocks. Above 0 somebody should look at them.");
    LEDGER_ACCEPTED = counter("tidegate_ledger_accepted_items", &["pipeline", "exporter", "otel_signal"], "Items that the pipeline took responsibility for on behalf of the exporter.");
    LEDGER_DELIVERED = counter("tidegate_ledger_delivered_items", &["pipeline", "exporter", "otel_signal"], "Items that the destination has acknowledged.");
    LEDGER_QUEUED = gauge("tidegate_ledger_queued_items", &["pipeline", "exporter", "otel_signal"], "Items accepted and neither delivered nor dropped yet.");
    LEDGER_DROPPED = counter("tidegate_ledger_dropped_items", &["pipeline", "exporter", "otel_signal", "reason"], "Items given up, by reason.");
    CLICKHOUSE_ROWS = counter("tidegate_clickhouse_inserted_rows", &["exporter", "table"], "Rows inserted, by table.");
    CLICKHOUSE_REPEATS = counter("tidegate_clickhouse_repeated_inserts", &["exporter", "table"], "Inserts that the server acknowledged after an attempt of unknown outcome (timeout, reset, cut answer) under the same token. It stored each either then or now; which of the two it does not say.");
    CLICKHOUSE_EXACTLY_ONCE = gauge("tidegate_clickhouse_exactly_once", &["exporter", "table"], "1 if the table is known to skip an insert that it has stored before, on every server used so far, else 0. Absent with `delivery = \"at_least_once\"`.");
    CLICKHOUSE_ADJUSTED = counter("tidegate_clickhouse_adjusted_items", &["exporter", "reason"], "Items stored with a correction or left out: negative_duration, metric_without_data.");
    OTLP_REJECTED = counter("tidegate_otlp_rejected_{items}", &["exporter"], "Items that the far side declined of requests that it took (partial success). They count as delivered, too.");
    OTLP_CONNECTIONS = counter("tidegate_otlp_connections", &["exporter"], "Connections opened to the far side.");
    FILE_FALLBACK = counter("tidegate_file_fallback_resources", &["exporter"], "Resources written to the file MISSING, because they lack the group_by attribute or no file can have its value as name.");
    FILE_ROTATIONS = counter("tidegate_file_rotations", &["exporter"], "Files renamed because they were full.");
    FILE_TORN_TAILS = counter("tidegate_file_torn_tails", &["exporter"], "Unfinished records cut off the end of an existing file when it was opened.");
    RELOADS = counter("tidegate_reloads", &["outcome"], "Times the configuration was read again, by outcome: reloaded, unchanged, refused.");
    RELOAD_SUCCESSFUL = gauge("tidegate_reload_last_successful", &[], "1 if the configuration was taken as it was last read, else 0: then the agent runs as before, and its log says why.");
    RELOAD_SUCCESS_TIME = gauge("tidegate_reload_last_success_timestamp_seconds", &[], "When the configuration was last read and taken, in seconds since 1970.");
    CONFIG_HASH = gauge("tidegate_config_hash", &[], "A number that two configurations have in common only if they are the same, after merging and substitution: 48 bits of their SHA-256.");
    PROCESS_UPTIME = counter("otelcol_process_uptime", &[], "Uptime of the process in seconds.");
    PROCESS_CPU = counter("otelcol_process_cpu_seconds", &[], "Total CPU user and system time in seconds.");
    PROCESS_RSS = gauge("otelcol_process_memory_rss", &[], "Total physical memory (resident set size) in bytes.");
    HELD_BYTES = gauge("tidegate_held_bytes", &[], "Bytes of telemetry held by requests, batches and queues.");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_conform() {
        let mut seen = std::collections::BTreeSet::new();
        for spec in TABLE {
            assert!(seen.insert(spec.name), "{} twice", spec.name);
            assert!(
                spec.name.starts_with("otelcol_") || spec.name.starts_with("tidegate_"),
                "{}",
                spec.name
            );
            assert!(
                spec.help.ends_with('.'),
                "{}: help is a sentence",
                spec.name
            );
        }
    }
}
