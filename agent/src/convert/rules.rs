//! Fields that are written differently here: what the schema cannot tell.

use super::advice;
use super::components::{Context, Place, parts};
use super::draft::{Item, State, Table, Value};
use super::substitution::translate;
use super::values::item;
use super::yaml::{Entry, Node, Plain};

/// Converts an entry for which there is a rule; `false` if there is none.
pub(super) fn apply(
    entry: &Entry,
    place: &Place<'_>,
    context: &Context<'_>,
    made: &mut Table,
) -> bool {
    match (
        place.table,
        place.kind,
        place.path.as_str(),
        entry.key.as_str(),
    ) {
        ("exporters", _, "sending_queue", "storage") => storage(entry, context, made),
        ("exporters", _, "sending_queue.batch", "sizer") => batch_sizer(entry, made),
        (_, _, _, "auth") if !entry.node.is_null() => auth(entry, place, context, made),
        ("exporters", "clickhouse", "", "endpoint" | "dsn") => clickhouse_endpoint(entry, made),
        ("exporters", "clickhouse", "", "ttl_days") => clickhouse_days(entry, made),
        ("exporters", "clickhouse", "", "async_insert") => async_insert(entry, made),
        ("exporters", "debug", "", "loglevel") => log_level(entry, made),
        ("processors", "memory_limiter", "", key) if advice::GARBAGE_KEYS.contains(&key) => {
            made.add(item(entry, State::Gone(advice::GARBAGE.to_owned())));
            true
        }
        _ => false,
    }
}

/// An item in place of an entry.
fn instead(entry: &Entry, key: &str, value: Value) -> Item {
    Item {
        key: key.to_owned(),
        ..item(entry, State::On(value))
    }
}

/// A queue in `file_storage` is a log on disk here.
fn storage(entry: &Entry, context: &Context<'_>, made: &mut Table) -> bool {
    let Some(id) = entry.node.text().filter(|_| !entry.node.is_null()) else {
        return entry.node.is_null();
    };
    if parts(id).0 != "file_storage" {
        let reason = format!(
            "there is no storage extension `{id}`: a queue is in memory, or on disk with `storage = \"wal\"` and `directory`"
        );
        made.add(item(entry, State::Off(reason)));
        return true;
    }
    let settings = context.extension(id);
    let setting = |key: &str| settings.and_then(|settings| settings.get(key));
    let text = |key: &str| setting(key).and_then(Node::text).map(translate);
    let directory = text("directory").unwrap_or_else(|| Ok(STORAGE_DEFAULT.to_owned()));
    let directory = match directory {
        Ok(directory) => directory,
        Err(reason) => {
            made.add(item(entry, State::Off(reason)));
            return true;
        }
    };
    let note = format!(
        "`{id}` is a log on disk here; what the Collector left in its own files in that folder is not read: let it deliver before you \
         change over"
    );
    made.add(instead(entry, "storage", Value::text("wal")).note(note));
    made.add(Item::made("directory", entry.at, Value::text(directory)));
    if let Some(size) = setting("max_size")
        .and_then(Node::text)
        .and_then(|size| size.parse::<i64>().ok())
        && size > 0
    {
        made.add(Item::made("max_size", entry.at, Value::Scalar(size.into())));
    }
    true
}

/// Where the extension puts its files unless told otherwise.
const STORAGE_DEFAULT: &str = "/var/lib/otelcol/file_storage";

fn batch_sizer(entry: &Entry, made: &mut Table) -> bool {
    if entry.node.text() != Some("items") {
        let reason = "`min_size` and `max_size` count items here: give them in spans, log records and data points";
        made.add(item(entry, State::Off(reason.to_owned())));
    }
    true
}

/// ClickHouse is spoken to over HTTP.
fn clickhouse_endpoint(entry: &Entry, made: &mut Table) -> bool {
    let Some(Ok(text)) = entry.node.text().map(translate) else {
        return false;
    };
    let native = ["tcp://", "clickhouse://"];
    if !native.iter().any(|scheme| text.starts_with(scheme)) {
        made.add(instead(entry, "endpoint", Value::text(text)));
        return true;
    }
    let rest = native
        .iter()
        .fold(text, |rest, scheme| rest.replace(scheme, ""));
    let (hosts, query) = rest
        .find(['/', '?'])
        .map_or((rest.as_str(), ""), |at| rest.split_at(at));
    let secure = hosts.contains(":9440") || query.contains("secure=true");
    let hosts = hosts.replace(":9000", ":8123").replace(":9440", ":8443");
    let scheme = if secure { "https" } else { "http" };
    let note = "the same columns go over ClickHouse's HTTP interface, not its native protocol: check that the server listens at \
                this port";
    let value = Value::text(format!("{scheme}://{hosts}{query}"));
    made.add(instead(entry, "endpoint", value).note(note));
    true
}

/// The Collector's default, and at odds with ours of storing once.
fn async_insert(entry: &Entry, made: &mut Table) -> bool {
    let wanted = entry.node.plain() == Some(Plain::Bool(true));
    if wanted {
        made.add(item(entry, State::Gone(advice::ASYNC_INSERT.to_owned())));
    }
    wanted
}

fn clickhouse_days(entry: &Entry, made: &mut Table) -> bool {
    let days = entry.node.text().and_then(|days| days.parse::<u32>().ok());
    let Some(days) = days else {
        return false;
    };
    if days > 0 {
        let hours = u64::from(days) * 24;
        made.add(instead(entry, "ttl", Value::text(format!("{hours}h"))));
    }
    true
}

/// What `logging` told by its level, `debug` tells by its verbosity.
fn log_level(entry: &Entry, made: &mut Table) -> bool {
    let verbosity = match entry.node.text() {
        Some("debug") => "detailed",
        Some("info") => "normal",
        _ => "basic",
    };
    made.add(instead(entry, "verbosity", Value::text(verbosity)));
    true
}

// === Authenticators ===

/// An authenticator that has no counterpart leaves a receiver open, and that is said; one that has is named as it was.
fn auth(entry: &Entry, place: &Place<'_>, context: &Context<'_>, made: &mut Table) -> bool {
    let id = entry.node.get("authenticator").and_then(Node::text);
    let is_there = id.is_none_or(|id| context.has_counterpart("extensions", id));
    if is_there {
        return false;
    }
    let reason = match place.table {
        "receivers" => advice::OPEN,
        _ => advice::NO_AUTHENTICATOR,
    };
    made.add(item(entry, State::Off(reason.to_owned())));
    true
}
