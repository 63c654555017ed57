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
//! - The file of a segment that is done with may become the next segment, once its name is durably gone. Behind the new
//!   content then lie old records, all with lower numbers than the new segment's first; a blank header ends the content.
//!   A file that may hold refused records is not used again, for their numbers were given to others.
//! - A segment that a process did not begin is never written on. A segment says which number it follows: records
//!   of the one before with this or a higher number were refused, and do not count even where they could not be cut.
//! - After a failed sync nothing behind the last successful one is trusted: it is cut off, refused, and what nobody
//!   waits for is written again in another segment.
//! - Memory: recent bodies up to a limit, open batches, and 24 bytes per 256 KiB of log. Nothing per record.
//! - The lock on the state is held for moments and never during I/O: readers do not block the writer.
//!
//! Bounds: [`LogOptions`]. One batch that stays open keeps all later segments on disk.
//!
//! A damaged place is told once ([`Recovered::damage`]), and again only if the next start is cut short within 100 ms. A
//! power cut in the middle of a write can look like damage of records that nobody was answered for.
//!
//! Looked at, by their documentation, and not used: raft-engine comes nearest but keeps an index entry per record in
//! memory; okaywal, commitlog, yaque, fjall, wal-db and open-wal do not go on behind damage or settle by ranges.

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
mod turns;
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
