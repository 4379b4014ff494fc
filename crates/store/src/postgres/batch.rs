//! One transaction for all that waits.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use quell_incident::Incident;
use quell_incident::gate::{SiteGates, Throw};
use quell_incident::ids::GateEpoch;
use quell_incident::workflow::Claim;
use quell_journal::ChainHash;
use sqlx::PgConnection;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::cache::Cache;
use super::database::{is_away, within};
use super::load::{self, Trouble};
use super::world::{Head, Needs, Site, World, Writes};
use super::{follow, write};
use crate::append::{Append, ReceivedPosition};
use crate::embedded::state::Known;
use crate::error::StoreError;
use crate::lease::Lease;

/// Longer than any statement may take: what is not answered by then is not answered at all.
const STATEMENTS_TIMEOUT: Duration = Duration::from_secs(30);
const COMMIT_TIMEOUT: Duration = Duration::from_secs(15);

type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

/// A request with the one who waits for it.
pub(super) struct Request {
    pub(super) asked: Asked,
    pub(super) bytes: usize,
    /// Its share of what may wait.
    pub(super) _permit: OwnedSemaphorePermit,
}

pub(super) enum Asked {
    Receive { at: Timestamp, payload: Arc<[u8]>, answer: Answer<ReceivedPosition> },
    Append { append: Box<Append>, payload: Arc<[u8]>, answer: Answer<Arc<Incident>> },
    Correlated { up_to: ReceivedPosition, fence: Option<Lease>, answer: Answer<()> },
    Switch { expected: GateEpoch, throw: Throw, answer: Answer<SiteGates> },
}

/// What a request is answered with once the transaction is committed.
pub(super) enum Outcome {
    Received(ReceivedPosition),
    Appended(Arc<Incident>),
    Site(SiteGates),
    Refused(StoreError),
}

impl Request {
    pub(super) fn is_received(&self) -> bool {
        matches!(self.asked, Asked::Receive { .. })
    }

    /// Whoever asked may have gone.
    pub(super) fn answer(self, outcome: Outcome) {
        match (self.asked, outcome) {
            (Asked::Receive { answer, .. }, Outcome::Received(position)) => drop(answer.send(Ok(position))),
            (Asked::Append { answer, .. }, Outcome::Appended(incident)) => drop(answer.send(Ok(incident))),
            (Asked::Correlated { answer, .. }, Outcome::Site(_)) => drop(answer.send(Ok(()))),
            (Asked::Switch { answer, .. }, Outcome::Site(site)) => drop(answer.send(Ok(site))),
            (Asked::Receive { answer, .. }, Outcome::Refused(error)) => drop(answer.send(Err(error))),
            (Asked::Append { answer, .. }, Outcome::Refused(error)) => drop(answer.send(Err(error))),
            (Asked::Correlated { answer, .. }, Outcome::Refused(error)) => drop(answer.send(Err(error))),
            (Asked::Switch { answer, .. }, Outcome::Refused(error)) => drop(answer.send(Err(error))),
            // Outcomes are made from their requests: dropping the answer tells the caller that the store is closed.
            _ => {}
        }
    }

    pub(super) fn refuse(self, error: StoreError) {
        self.answer(Outcome::Refused(error));
    }
}

/// What came of a transaction.
pub(super) enum Attempt {
    Committed(Decided),
    /// Nothing of it is stored.
    Failed(Trouble),
    /// The commit was sent and its answer never came.
    Unknown(Decided, Trouble),
}

/// What a transaction has decided.
pub(super) struct Decided {
    /// In the order of the requests.
    pub(super) outcomes: Vec<Outcome>,
    pub(super) writes: Writes,
    /// The last record that was written, to find it again.
    pub(super) last: Option<(u64, ChainHash)>,
    /// The journal's end before the transaction.
    pub(super) after: u64,
    /// What others appended since this store told of changes.
    pub(super) by_others: Vec<follow::Told>,
    /// The journal's end after it.
    pub(super) head: Head,
}

/// Carries requests in one transaction. After anything but success the connection is of no use. `known` is the journal's end, as far as
/// that is known already.
pub(super) async fn attempt(
    connection: &mut PgConnection,
    requests: &[Request],
    cache: &Cache,
    told: u64,
    known: Option<&Head>,
) -> Attempt {
    if let Some(head) = known
        && let Some(attempt) = receive_only(connection, requests, head).await
    {
        return attempt;
    }
    let statements = decide_and_write(connection, requests, cache, told);
    let decided = match within(STATEMENTS_TIMEOUT, statements).await {
        Ok(decided) => decided,
        Err(trouble) => return Attempt::Failed(trouble),
    };
    let commit = async {
        sqlx::raw_sql("COMMIT").execute(connection).await?;
        Ok(())
    };
    match within(COMMIT_TIMEOUT, commit).await {
        Ok(()) => Attempt::Committed(decided),
        // Whatever it was: only looking tells what is stored.
        Err(trouble) => Attempt::Unknown(decided, trouble),
    }
}

/// Received alerts rely on nothing but the journal's end: they are written in one statement, which is its own transaction, if that is
/// where it is thought to be. None: there is more to be done, or somebody else has written meanwhile; nothing is stored then.
async fn receive_only(connection: &mut PgConnection, requests: &[Request], head: &Head) -> Option<Attempt> {
    if !requests.iter().all(Request::is_received) {
        return None;
    }
    let mut world = World::new(head.clone());
    let outcomes: Vec<_> = requests.iter().map(|request| decide(&mut world, &request.asked)).collect();
    let World { head: end, writes, .. } = world;
    if writes.records.is_empty() {
        return None;
    }
    let written = within(STATEMENTS_TIMEOUT, write::received(connection, &writes, head, &end)).await;
    if let Ok(false) = written {
        return None;
    }
    let last = Some((end.sequence, end.chain_hash));
    let (after, by_others) = (head.sequence, Vec::new());
    let decided = Decided { outcomes, writes, last, after, by_others, head: end };
    Some(match written {
        Ok(_) => Attempt::Committed(decided),
        // It may have been committed all the same.
        Err(trouble) if is_away(&trouble) => Attempt::Unknown(decided, trouble),
        Err(trouble) => Attempt::Failed(trouble),
    })
}

async fn decide_and_write(
    connection: &mut PgConnection,
    requests: &[Request],
    cache: &Cache,
    told: u64,
) -> Result<Decided, Trouble> {
    let head = load::begin_and_lock_head(connection).await?;
    let after = head.sequence;
    let mut world = World::new(head);
    load::load(connection, &mut world, &needs(requests), cache).await?;
    let outcomes: Vec<_> = requests.iter().map(|request| decide(&mut world, &request.asked)).collect();
    let by_others = match world.writes.changed.is_empty() || after <= told {
        true => Vec::new(),
        false => follow::appended_between(connection, told, after).await?,
    };
    if !world.writes.records.is_empty() {
        write::write(connection, &world.writes, &world.head).await?;
    }
    let World { head, writes, .. } = world;
    let last = (!writes.records.is_empty()).then_some((head.sequence, head.chain_hash));
    Ok(Decided { outcomes, writes, last, after, by_others, head })
}

fn decide(world: &mut World, asked: &Asked) -> Outcome {
    let decided = match asked {
        Asked::Receive { at, payload, .. } => world.receive(*at, payload).map(Outcome::Received),
        Asked::Append { append, payload, .. } => world.append(append, payload).map(Outcome::Appended),
        Asked::Correlated { up_to, fence, .. } => {
            world.site(Site::Correlated { up_to: *up_to, fence: fence.as_ref() }).map(Outcome::Site)
        }
        Asked::Switch { expected, throw, .. } => {
            world.site(Site::Switched { expected: *expected, throw }).map(Outcome::Site)
        }
    };
    decided.unwrap_or_else(Outcome::Refused)
}

fn needs(requests: &[Request]) -> Needs {
    let mut needs = Needs::default();
    for request in requests {
        match &request.asked {
            Asked::Append { append, .. } => {
                needs.incidents.insert(append.incident_id);
                needs.messages.extend(append.message.iter().map(|(key, _)| key.clone()));
                needs.leases.extend(append.fence);
                for claim in &append.claims {
                    match claim {
                        Claim::Take(lock) | Claim::Hold(lock) | Claim::Release(lock) => {
                            needs.targets.insert(lock.target.clone());
                        }
                        Claim::CoolDown(_) => needs.cool_downs = true,
                        Claim::SiteEpoch(_) => {}
                    }
                }
            }
            Asked::Correlated { fence, .. } => needs.leases.extend(fence),
            Asked::Receive { .. } | Asked::Switch { .. } => {}
        }
    }
    needs
}

impl Decided {
    /// What was just written need not be folded again.
    pub(super) fn keep(&self, cache: &Cache) {
        for written in self.writes.incidents.values() {
            if let Known::Readable(incident) = &written.now {
                cache.put(written.chain_hash, incident);
            }
        }
    }
}
