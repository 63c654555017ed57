//! Configuration: from TOML text to what components trust.

mod diagnostics;
mod section;
mod settings;

pub use diagnostics::{Diagnostic, Diagnostics, Severity};
pub use section::Section;
pub use settings::{
    Components, LogEncoding, LogLevel, LogSettings, MetricsLevel, Settings, TelemetrySettings,
};
