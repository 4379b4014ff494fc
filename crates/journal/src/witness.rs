//! What others know of a journal, and the comparison with it before anything is changed.
//!
//! A journal alone cannot tell a cut end from its end. Whoever notes a head *after* it was durable (the mark, an index) can: a note
//! that is ahead of the journal, or has another chain, proves that acknowledged records are gone or were exchanged. A note that is
//! behind proves nothing, so a crash at any point contradicts nobody.

use std::fmt;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::error::Error;
use crate::format::{ChainHash, Head, Mark, RecordHeader};

/// A head of the journal that was durable once, as somebody noted it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witness {
    /// Who noted it, in words: "the index".
    pub who: String,
    /// Of which journal, where that was noted.
    pub journal_id: Option<Uuid>,
    /// The last record.
    pub sequence: u64,
    /// The chain up to that record, where that was noted.
    pub chain_hash: Option<ChainHash>,
}

impl Witness {
    pub(crate) fn of_mark(mark: &Mark) -> Self {
        Self {
            who: "`durable.mark`".to_owned(),
            journal_id: Some(mark.id),
            sequence: mark.head.sequence,
            chain_hash: Some(mark.head.chain_hash),
        }
    }
}

impl fmt::Display for Witness {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} goes up to record {}", self.who, self.sequence)?;
        match self.chain_hash {
            Some(hash) => write!(formatter, " (chain hash {hash})"),
            None => Ok(()),
        }
    }
}

/// A journal is not what somebody noted of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contradiction {
    /// The journal's folder.
    pub folder: PathBuf,
    /// What was noted.
    pub witness: Witness,
    /// What is there.
    pub found: Found,
}

/// What is there instead of what was noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// No segment at all.
    Nothing,
    /// Another journal.
    OtherJournal {
        /// Its identity.
        id: Uuid,
        /// Where it ends.
        end: Head,
    },
    /// It ends before the record that was noted.
    EndsBefore(Head),
    /// The record that was noted is another one.
    OtherChain {
        /// The chain hash that it has.
        chain_hash: ChainHash,
        /// Where the journal ends.
        end: Head,
    },
}

impl fmt::Display for Contradiction {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { folder, witness, found } = self;
        let folder = folder.display();
        match found {
            Found::Nothing => write!(
                formatter,
                "journal folder {folder} has no journal, but {witness} of one: acknowledged records are gone"
            ),
            Found::OtherJournal { id, end } => {
                write!(formatter, "journal folder {folder} has journal {id} up to {}, but ", At(*end))?;
                write!(formatter, "{witness} of ")?;
                match witness.journal_id {
                    Some(other) => write!(formatter, "journal {other}: one of both was exchanged"),
                    None => formatter.write_str("another one: one of both was exchanged"),
                }
            }
            Found::EndsBefore(end) => write!(
                formatter,
                "journal folder {folder} ends at {}, but {witness}: acknowledged records are gone",
                At(*end)
            ),
            Found::OtherChain { chain_hash, end } => write!(
                formatter,
                "journal folder {folder} ends at {} and its record {} has chain hash {chain_hash}, but {witness}: \
                 the journal was rewritten, or another copy of it was put here",
                At(*end),
                witness.sequence
            ),
        }
    }
}

struct At(Head);

impl fmt::Display for At {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "record {} (chain hash {})", self.0.sequence, self.0.chain_hash)
    }
}

/// The notes, and which of them the chain was found to disagree with.
pub(crate) struct Witnesses<'a> {
    folder: &'a Path,
    all: Vec<Witness>,
    disagreeing: Option<(usize, ChainHash)>,
}

impl<'a> Witnesses<'a> {
    pub(crate) fn new(folder: &'a Path, all: Vec<Witness>) -> Self {
        Self { folder, all, disagreeing: None }
    }

    fn contradiction(&self, witness: &Witness, found: Found) -> Error {
        let (folder, witness) = (self.folder.to_owned(), witness.clone());
        Error::Contradicted(Box::new(Contradiction { folder, witness, found }))
    }

    /// There is no journal: fine if nobody knows of a record.
    pub(crate) fn check_nothing(&self) -> Result<(), Error> {
        match self.all.iter().find(|witness| witness.sequence > 0) {
            Some(witness) => Err(self.contradiction(witness, Found::Nothing)),
            None => Ok(()),
        }
    }

    /// Compares a record on the way.
    pub(crate) fn look(&mut self, header: &RecordHeader) {
        let here = |witness: &Witness| {
            witness.sequence == header.sequence
                && witness.chain_hash.is_some_and(|noted| noted != header.chain_hash)
        };
        if self.disagreeing.is_none()
            && let Some(at) = self.all.iter().position(here)
        {
            self.disagreeing = Some((at, header.chain_hash));
        }
    }

    /// Compares the whole, once the end is known.
    pub(crate) fn check(&self, id: Uuid, end: Head) -> Result<(), Error> {
        let other =
            |witness: &&Witness| witness.sequence > 0 && witness.journal_id.is_some_and(|noted| noted != id);
        if let Some(witness) = self.all.iter().find(other) {
            return Err(self.contradiction(witness, Found::OtherJournal { id, end }));
        }
        if let Some((at, chain_hash)) = self.disagreeing
            && let Some(witness) = self.all.get(at)
        {
            return Err(self.contradiction(witness, Found::OtherChain { chain_hash, end }));
        }
        match self.all.iter().max_by_key(|witness| witness.sequence) {
            Some(witness) if witness.sequence > end.sequence => {
                Err(self.contradiction(witness, Found::EndsBefore(end)))
            }
            _ => Ok(()),
        }
    }
}
