//! The agent's own log, on standard error: lines for people, or one JSON object each; with priorities for the journal.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::format::JsonFields;
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::{Layered, SubscriberExt};
use tracing_subscriber::reload;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Layer, Registry};

use super::journal::{self, Journal};

/// The registry with the filter on it.
type Filtered = Layered<reload::Layer<EnvFilter, Registry>, Registry>;
type Format = Box<dyn Layer<Filtered> + Send + Sync>;

/// The way to change a log that has been started.
#[derive(Clone)]
pub struct Logs {
    filter: reload::Handle<EnvFilter, Registry>,
    format: reload::Handle<Format, Filtered>,
}

impl std::fmt::Debug for Logs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Logs")
    }
}

/// Starts logging, for the rest of the process. `RUST_LOG` wins over `level` where it is set and can be read.
///
/// # Errors
/// When logging was started before.
pub fn start(level: LevelFilter, json: bool) -> Result<Logs, TryInitError> {
    let (wanted, unreadable) = filter(level);
    let (filter, filter_handle) = reload::Layer::new(wanted);
    let (format, format_handle) = reload::Layer::new(format(json));
    tracing_subscriber::registry()
        .with(filter)
        .with(format)
        .try_init()?;
    if let Some(problem) = unreadable {
        tracing::warn!(problem, "RUST_LOG cannot be read and is not used");
    }
    Ok(Logs {
        filter: filter_handle,
        format: format_handle,
    })
}

impl Logs {
    /// The way to change a log that was never started.
    #[cfg(test)]
    pub(crate) fn detached() -> Self {
        let (_, filter) = reload::Layer::new(EnvFilter::default());
        let (_, format) = reload::Layer::new(format(false));
        Self { filter, format }
    }

    /// Goes on at another level and in another form.
    pub fn change(&self, level: LevelFilter, json: bool) {
        let (filter, _) = filter(level);
        let changed = self
            .filter
            .reload(filter)
            .and_then(|()| self.format.reload(format(json)));
        if let Err(error) = changed {
            tracing::error!(%error, "the log could not be changed");
        }
    }
}

/// What to log, and why `RUST_LOG` is not used where it was meant to be.
fn filter(level: LevelFilter) -> (EnvFilter, Option<String>) {
    let from_variable = EnvFilter::try_from_default_env();
    let unreadable = match std::env::var("RUST_LOG") {
        Ok(text) if !text.is_empty() => from_variable.as_ref().err().map(ToString::to_string),
        _ => None,
    };
    let filter = from_variable.unwrap_or_else(|_| EnvFilter::new(by_default(level)));
    (filter, unreadable)
}

/// The watcher of files complains of each that is gone before it can stop to watch it, as in every exchange of a symbolic link.
fn by_default(level: LevelFilter) -> String {
    match level {
        LevelFilter::OFF => level.to_string(),
        level => format!("{level},notify=error,inotify=error"),
    }
}

fn format(json: bool) -> Format {
    let layer = fmt::layer();
    if journal::is_read() {
        let layer = layer.with_writer(Journal).with_ansi(false);
        // The journal knows the time, while who reads JSON wants it in the object.
        return match json {
            true => as_json(layer.json()),
            false => layer.without_time().boxed(),
        };
    }
    let layer = layer.with_writer(std::io::stderr);
    if json {
        return as_json(layer.json());
    }
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    layer.with_ansi(colours).boxed()
}

fn as_json<W>(layer: fmt::Layer<Filtered, JsonFields, JsonFormat, W>) -> Format
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    layer
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .boxed()
}

type JsonFormat = fmt::format::Format<fmt::format::Json>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watcher_of_files_complains_of_errors_only() {
        assert_eq!(by_default(LevelFilter::OFF), "off");
        let filter = EnvFilter::try_new(by_default(LevelFilter::INFO)).unwrap();
        assert_eq!(filter.max_level_hint(), Some(LevelFilter::INFO));
        assert!(filter.to_string().contains("notify=error"), "{filter}");
    }
}
