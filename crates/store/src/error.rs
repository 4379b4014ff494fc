//! What can go wrong, each with what to do about it.

use std::path::PathBuf;

use quell_incident::ids::{GateEpoch, IncidentId, Revision};
use quell_incident::workflow::Illegal;

use crate::lease::{CoordinatorId, Work};

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Every failure of a store. After an error nothing of the request is stored, except for [`StoreError::Failed`], where that is
/// unknown until the store is opened again, and for alerts that were being received when the database went away
/// ([`StoreError::Unavailable`]): they may be stored all the same, and are to be sent again, which changes nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The incident has changed since it was read.
    #[error(
        "incident {incident_id} is at revision {found}, not at {expected}: read it again and decide anew"
    )]
    Conflict {
        /// Which incident.
        incident_id: IncidentId,
        /// The revision that the decision relied on.
        expected: Revision,
        /// The revision that it has; 0 when there is no such incident.
        found: Revision,
    },
    /// The site's switches have changed since they were read.
    #[error("the site's switches are at epoch {found}, not at {expected}: read them again and decide anew")]
    SiteChanged {
        /// The epoch that the change relied on.
        expected: GateEpoch,
        /// The epoch in force.
        found: GateEpoch,
    },
    /// A lock or a switch is not what the decision relied on.
    #[error("{claim} was refused: {why}")]
    ClaimRefused {
        /// The claim in words.
        claim: String,
        /// Why.
        why: String,
    },
    /// The message has already made an incident.
    #[error("the message was already taken for incident {incident_id}")]
    MessageTaken {
        /// The incident that it made.
        incident_id: IncidentId,
        /// Whether it had the same content; then this is a repetition, and the incident is the answer.
        same_content: bool,
    },
    /// The lease that the request relied on is not held any more: the coordinator did not renew in time, and somebody else may
    /// work on it by now. Nothing of the request was done.
    #[error(
        "coordinator {coordinator} no longer holds {}: it must stop that work and begin under a new id",
        .work.map_or_else(|| "its leases".to_owned(), |work| format!("the lease of {work}"))
    )]
    LeaseLost {
        /// Whose lease.
        coordinator: CoordinatorId,
        /// Of which work; none when the coordinator is taken for dead, and with it all its leases are lost.
        work: Option<Work>,
    },
    /// The events cannot follow on what is stored.
    #[error("the events are not what the workflow can have decided")]
    Illegal(#[source] Illegal),
    /// The request contradicts itself.
    #[error("not a sound request: {why}")]
    Unsound {
        /// What is wrong with it.
        why: String,
    },
    /// The incident has an event of another version that this program does not read. It is left alone; other incidents are not affected.
    #[error(
        "incident {incident_id} has event `{kind}` of version {version}, which this program does not read, and is left alone: run the version that wrote it"
    )]
    UnknownEvent {
        /// Which incident.
        incident_id: IncidentId,
        /// The event's type.
        kind: String,
        /// Its version.
        version: u16,
    },
    /// The incident's log cannot be read. It is left alone; other incidents are not affected.
    #[error("the log of incident {incident_id} is damaged and it is left alone: {why}")]
    Damaged {
        /// Which incident.
        incident_id: IncidentId,
        /// What is wrong with it.
        why: String,
    },
    /// Too much waits to be written, or to be indexed. Try again later.
    #[error("the store is overloaded; try again later")]
    Overloaded,
    /// The index is being built anew. Try again later.
    #[error("the index is being rebuilt from the journal; try again later")]
    IndexAway,
    /// No space on the device. Writing goes on by itself once there is space.
    #[error("no space left for the store; free some and try again")]
    Full(#[source] Cause),
    /// Writing failed for good: nobody knows what of the last writes is on the disk until the store is opened again.
    #[error("the store failed and takes no more changes; restart the process once the disk is sound")]
    Failed(#[source] Cause),
    /// Another process works on the data folder.
    #[error(
        "data folder {} is in use by {}: stop that process or set another folder",
        .folder.display(),
        .pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
    )]
    Locked {
        /// The data folder.
        folder: PathBuf,
        /// The process that holds it, if known.
        pid: Option<u32>,
    },
    /// The request is larger than the store takes.
    #[error(
        "a request of {bytes} bytes exceeds the limit of {bytes_max}: split it, or store the document as a file and cite it"
    )]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// Acknowledged records are gone or are not what was written. Nothing was changed.
    #[error(
        "{what}; nothing was changed: put the folder back as it was, or give up what is lost by \
         `quell store accept-loss --data-dir {} --at {at} --why WHY`",
        .folder.display()
    )]
    Lost {
        /// The data folder.
        folder: PathBuf,
        /// The last record of the journal's sound part.
        at: u64,
        /// Both ends: what there is, and who knows of more.
        what: String,
    },
    /// The folder has no journal, and nothing in it knows of one: it is not the data folder that was meant.
    #[error("{} has no journal: name the data folder of a coordinator", .folder.display())]
    NoJournal {
        /// The folder.
        folder: PathBuf,
    },
    /// There is nothing to be given up.
    #[error(
        "nothing is lost in {}: its journal ends at record {head}, and nothing says that there was more",
        .folder.display()
    )]
    NothingLost {
        /// The data folder.
        folder: PathBuf,
        /// The last record.
        head: u64,
    },
    /// The store cannot be opened.
    #[error("cannot open the store in {}", .folder.display())]
    Open {
        /// The data folder.
        folder: PathBuf,
        /// Why.
        #[source]
        source: Cause,
    },
    /// Stored records were written by a newer program, or are not what this program writes.
    #[error("record {sequence} of the journal cannot be read: {why}")]
    Record {
        /// Its number.
        sequence: u64,
        /// Why.
        why: String,
    },
    /// Reading failed.
    #[error("cannot {action}")]
    Read {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: Cause,
    },
    /// The database cannot be reached, or is not one that can be written to at present. Nothing of the request is stored; it heals by
    /// itself once the database is back.
    #[error("the database is not available; try again later")]
    Unavailable(#[source] Cause),
    /// The database cannot be used at all: its address, the name and password, or what is in it.
    #[error("cannot {action}")]
    Database {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: Cause,
    },
    /// The database was brought to a newer schema by a newer program.
    #[error(
        "the database has schema {found}, this program knows up to {known}: run the version that migrated it, or a newer one"
    )]
    NewerSchema {
        /// The schema that it has.
        found: i64,
        /// The newest one that this program knows.
        known: i64,
    },
    /// The database already has records, and only an empty one can be imported into.
    #[error("the database has {records} records already: import into an empty one")]
    NotEmpty {
        /// How many it has.
        records: u64,
    },
    /// The store is being closed.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// Whether the same request may succeed later without being decided anew: what a caller answers 503 to.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Overloaded | Self::IndexAway | Self::Full(_) | Self::Unavailable(_))
    }

    /// Whether the same request is refused whenever it is made, so that nobody is to be told to try again: what it asks for, or what
    /// is stored, is not what this program can work with. The rest passes, or is to be decided anew by what has changed meanwhile.
    pub fn is_for_good(&self) -> bool {
        match self {
            Self::Illegal(_)
            | Self::Unsound { .. }
            | Self::UnknownEvent { .. }
            | Self::Damaged { .. }
            | Self::TooLarge { .. }
            | Self::Record { .. }
            | Self::NewerSchema { .. }
            | Self::Lost { .. }
            | Self::NoJournal { .. }
            | Self::NothingLost { .. }
            | Self::NotEmpty { .. }
            | Self::MessageTaken { .. } => true,
            // These pass: with the load, the rebuild, the space, the restart, the database, the next decision.
            Self::Conflict { .. }
            | Self::SiteChanged { .. }
            | Self::ClaimRefused { .. }
            | Self::LeaseLost { .. }
            | Self::Overloaded
            | Self::IndexAway
            | Self::Full(_)
            | Self::Failed(_)
            | Self::Locked { .. }
            | Self::Open { .. }
            | Self::Read { .. }
            | Self::Unavailable(_)
            | Self::Database { .. }
            | Self::Closed => false,
        }
    }

    pub(crate) fn unsound(why: impl Into<String>) -> Self {
        Self::Unsound { why: why.into() }
    }
}
