//! An append-only, checksummed, hash-chained log of byte records with group commit.
//!
//! It is the truth of the embedded store and the ledger of the resolution agent. It knows nothing of incidents: a
//! record is a `kind` and bytes.
//!
//! # Flow
//!
//! [`Journal::submit`] puts a request (one or more records) into a bounded queue and returns a [`Ticket`]. One
//! committer thread takes all that waits, writes it contiguously, calls `fdatasync` once, and answers the tickets.
//! While it syncs, the next requests gather: the slower the disk, the more of them share a sync.
//!
//! A compare-and-swap on top of it: hold a mutex of your own, check the condition against memory, change memory, and
//! `submit`; release the mutex, then wait for the ticket. The order in the journal is the order of `submit`, so it is
//! the order of your decisions, and many of them are in flight at once. Tell nobody of a change before its ticket is
//! answered. If `submit` fails, nothing was taken: undo the change before releasing the mutex.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use quell_journal::{Journal, Options, Record, SimulatedDisk, Uuid};
//!
//! let mut options = Options::new(Uuid::from_u128(7));
//! options.disk = std::sync::Arc::new(SimulatedDisk::new()); // only to leave no files behind
//! let (journal, _report) = Journal::open("ledger".as_ref(), options)?;
//! let ack = journal.append_blocking(vec![Record::new(1, "started"), Record::new(2, "finished")])?;
//! assert_eq!(ack.first_sequence, 1);
//! assert_eq!(journal.read(ack.positions[1])?.payload, b"finished");
//! # Ok(())
//! # }
//! ```
//!
//! # Guarantees
//!
//! - An acknowledged request survives a killed process and a power cut.
//! - A request is atomic: after a crash all of its records are there or none.
//! - Records stand in the order of `submit`, with sequences from 1 without gaps.
//! - What was acknowledged and later damaged, cut off or replaced is named when opening, reading or verifying, never
//!   skipped. Opening cuts off only bytes that nobody was told are durable.
//! - What others noted of the journal ([`Journal::open_against`]) is compared before anything is changed: an end before a noted
//!   record, or another chain, is [`Error::Contradicted`], and [`give_up_after`] is the way out.
//! - Payloads can be dropped ([`Journal::drop_payloads`]); the chain over their digests stays and can be verified.
//! - Readers see durable records only.
//! - One handle at a time: a second one gets [`Error::Locked`].
//!
//! # Assumptions
//!
//! - `fdatasync` and `fsync` of a folder mean what they say, and a sector is written whole or not at all.
//! - The folder is on a local file system with `flock`, and only this crate writes to it.
//!
//! # Caveats
//!
//! - SHA-256 digests and the chain find accidents and edits in place. Whoever can rewrite the whole folder can rebuild
//!   the chain: note [`Journal::last`] elsewhere from time to time and give it to [`verify`] as an anchor.
//! - `durable.mark` holds how far the journal is known to be durable. It is not synced on each write, so after a power
//!   cut it may be a little behind; then a damaged last write cannot be told from a torn one and is cut off and
//!   reported. Without the file the same holds, unless it is required ([`MissingMark`]). A copy taken of a folder in use must copy the mark first.
//! - Opening reads everything unless [`OpenCheck::LastSegment`] is chosen. Reading checks CRC-32 and, in iteration, the
//!   chain; only `verify` recomputes the payload digests.
//! - Dropping a ticket does not withdraw its request.
//!
//! # Errors
//!
//! - [`Error::Overloaded`]: nothing was taken, try again later.
//! - [`Error::Full`]: nothing was stored of this request or of any that waited with or behind it, since those may have
//!   been decided on top of it. The journal takes nothing until the caller has brought its memory back to the durable
//!   head and called [`Journal::resume`].
//! - [`Error::Failed`]: a sync or write failed for another reason. Whether the requests in flight are stored is
//!   unknown; memory ahead of the disk is void. The journal is poisoned until it is opened anew.
//!
//! The layout on disk is described byte by byte in [`mod@format`].

mod commit;
mod compact;
mod disk;
mod error;
pub mod format;
mod import;
mod journal;
mod options;
mod read;
mod recover;
mod repair;
mod scan;
mod simulated;
mod ticket;
mod verify;
mod witness;

pub use uuid::Uuid;

pub use crate::commit::{PreparedRequest, Stats};
pub use crate::compact::{Dropped, SegmentInfo};
pub use crate::disk::{Access, Disk, DiskFile, FILE_MODE, FOLDER_MODE, LockAttempt, RealDisk};
pub use crate::error::{Damage, DamageReason, Error};
pub use crate::format::{ChainHash, Head, Link, Record, StoredContent, StoredRecord};
pub use crate::import::Importer;
pub use crate::journal::Journal;
pub use crate::options::{MissingMark, OpenCheck, OpenReport, Options, TornTail};
pub use crate::read::{Entries, Entry};
pub use crate::repair::{SoundEnd, give_up_after, sound_end};
pub use crate::simulated::{SimulatedDisk, Survival};
pub use crate::ticket::{AppendAck, Position, Ticket};
pub use crate::verify::{
    DurableMark, VerifyReport, durable_head, durable_mark, verify, verify_each, verify_on,
};
pub use crate::witness::{Contradiction, Found, Witness};
