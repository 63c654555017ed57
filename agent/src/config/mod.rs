//! Configuration: from TOML text to what components trust.

mod diagnostics;
mod section;

pub use diagnostics::{Diagnostic, Diagnostics, Severity};
pub use section::Section;
