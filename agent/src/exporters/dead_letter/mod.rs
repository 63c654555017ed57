//! Dead letters: what a destination will never take, kept in files until somebody has looked at it.
//!
//! A letter is one file, complete from the moment it has its name: no lock, no index, `ls` and `cp` work. `letter` is
//! its format, `folder` where letters are put. Letters leave a folder by `tidegate dead-letter replay` or `delete`, or
//! by hand; the agent removes none.

mod folder;
mod letter;
mod options;

pub use folder::{Draft, Folder, REPLAYED, Unwritten, rewrite};
pub use letter::{Header, Letter, LetterError, Reason, SUFFIX, fuzz_letter};
pub use options::{DeadLetterOptions, DeadLetterSettings};
