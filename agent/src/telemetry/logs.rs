//! The agent's own log, on standard error: lines for people, or one JSON object each.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

/// Starts logging, for the rest of the process. `RUST_LOG` wins over `level` where it is set and can be read.
///
/// # Errors
/// When logging was started before.
pub fn start(level: LevelFilter, json: bool) -> Result<(), TryInitError> {
    let from_variable = EnvFilter::try_from_default_env();
    let unreadable = match std::env::var("RUST_LOG") {
        Ok(text) if !text.is_empty() => from_variable.as_ref().err().map(ToString::to_string),
        _ => None,
    };
    let filter = from_variable.unwrap_or_else(|_| EnvFilter::new(level.to_string()));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    if json {
        builder
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .finish()
            .try_init()?;
    } else {
        let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
        builder.with_ansi(colours).finish().try_init()?;
    }
    if let Some(problem) = unreadable {
        tracing::warn!(problem, "RUST_LOG cannot be read and is not used");
    }
    Ok(())
}
