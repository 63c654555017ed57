//! A log on disk for one sending queue: segmented, checksummed, committed in groups.
//!
//! ```text
//! append ──► inbox ──► writer thread: one write, one fdatasync, all answered ──► segments
//!                                        │                                          │
//!                                        └─► recent bodies in memory ─► reader ◄────┘
//! ```
//!
//! One directory is one log with one owner. Requests come out once and in order; a *boundary* makes a range of them a
//! batch, whose id (the boundary's sequence number) stays its name over retries and restarts. Batches follow each
//! other without a gap, so that the log is always: settled data, open batches, data in no batch.
//!
//! Invariants:
//! - Sequence numbers never repeat in a directory. Each start begins at the next multiple of 2^32, so that also numbers
//!   lost with a torn end are not given again.
//! - The files are always the end of history: the oldest is removed first, each removal is durable before the next,
//!   and only what is synced counts as settled. So what settles some data is never gone before the data is.
//! - A segment that a process did not begin is never written again. A segment says which number it follows: records
//!   of the one before with this or a higher number were refused, and do not count even where they could not be cut.
//! - After a failed sync nothing behind the last successful one is trusted: it is cut off, refused, and what nobody
//!   waits for is written again in another segment.
//! - Memory: recent bodies up to a limit, open batches, and 24 bytes per 256 KiB of log. Nothing per record.
//! - The lock on the state is held for moments and never during I/O: readers do not block the writer.
//!
//! Bounds: [`LogOptions`]. One batch that stays open keeps all later segments on disk.
//!
//! Looked at and not used: okaywal, commitlog, raft-engine, yaque, fjall, wal-db, open-wal. None skips damage in the
//! middle of a file, takes an injected file system, or reclaims by settled ranges; two of them have no checksums.

mod books;
mod cursor;
mod entry;
mod error;
mod files;
mod fuzz;
mod group;
mod layout;
mod log;
mod open;
mod options;
mod position;
mod reader;
mod recover;
mod salvage;
mod scan;
mod segment;
mod shared;
mod state;
#[cfg(test)]
mod tests;
mod upkeep;
mod walk;
mod writer;

pub use books::{Count, OpenBatch, Tally};
pub use entry::{Entry, Item, Loss, LostRequest};
pub use error::{Error, OpenError};
pub use files::{Disk, Files, LogFile};
pub use fuzz::fuzz_segment;
pub use log::{Committing, Log, Stats};
pub use options::{Fsync, LogOptions};
pub use position::{Position, Range};
pub use reader::{Given, Reader};
pub use recover::{Damage, Recovered};
pub use state::Totals;
