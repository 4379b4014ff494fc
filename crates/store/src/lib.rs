//! Where incidents are kept: [`IncidentStore`], in the domain's words, and its backends.
//!
//! | backend | for | truth |
//! |---|---|---|
//! | [`MemoryStore`] | tests, trying things out | memory |
//! | [`EmbeddedStore`] | one coordinator | the journal of `quell-journal`; sled is an index that can be deleted |
//! | [`PostgresStore`] | several coordinators | one PostgreSQL database |
//!
//! Every backend passes the same suite (`tests/store/conformance`), also behind `Arc<dyn IncidentStore>`. Nothing outside of
//! this crate names sled or sqlx.

mod append;
pub mod audit;
mod change_record;
pub(crate) mod embedded;
mod error;
mod lease;
mod ledger;
mod list;
mod memory;
mod postgres;
mod retention;
mod store;
#[doc(hidden)]
pub mod testing;
pub mod transfer;
mod weight;

pub use quell_journal::{ChainHash, Head, Importer, StoredContent, StoredRecord};

pub use crate::append::{Append, MessageKey, MessageRecord, Received, ReceivedPosition};
pub use crate::change_record::{CHANGE_RECORDS_KEPT, ChangeQuery, ReceivedChange};
pub use crate::embedded::{AcceptedLoss, EmbeddedStore, LossAcceptance, OpenReport, Options, accept_loss};
pub use crate::error::StoreError;
pub use crate::lease::{CoordinatorId, Lease, Work};
pub use crate::list::{ClosedAs, Cursor, InvalidCursor, LIST_LIMIT_MAX, ListQuery, Page, Row, StatusFilter};
pub use crate::memory::MemoryStore;
pub use crate::postgres::{Import, PostgresStore};
pub use crate::retention::{ChainHead, Retained, Retention, RetentionBudget};
pub use crate::store::{CHANGES_KEPT_MAX, Changed, DOCUMENT_BYTES_MAX, IncidentStore};
