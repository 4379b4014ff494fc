//! Carrying out a turn: incidents beside each other, each one's changes in their order.

use futures::{StreamExt as _, TryStreamExt as _};
use quell_incident::workflow::{AlertBatch, Draft, Input};
use quell_store::{Lease, StoreError};
use tracing::{error, info};

use super::plan::{Opening, Work};
use crate::site::{By, ChangeError, Site};

/// Incidents that are changed at once: their appends share commits.
const INCIDENTS_AT_ONCE_MAX: usize = 64;

/// Carries out everything; returns the places of messages that an incident would not take, which are to be taken again.
///
/// # Errors
/// What keeps the store from taking it: the whole turn is to be taken again.
pub(super) async fn all(site: &Site, lease: &Lease, works: Vec<Work>) -> Result<Vec<usize>, StoreError> {
    let refused: Vec<Vec<usize>> = futures::stream::iter(works)
        .map(|work| one(site, lease, work))
        .buffer_unordered(INCIDENTS_AT_ONCE_MAX)
        .try_collect()
        .await?;
    let mut refused: Vec<_> = refused.into_iter().flatten().collect();
    refused.sort_unstable();
    Ok(refused)
}

async fn one(site: &Site, lease: &Lease, mut work: Work) -> Result<Vec<usize>, StoreError> {
    let mut refused = Vec::new();
    if let Some(opening) = work.opening.take() {
        let first = if work.rounds.is_empty() { return Ok(refused) } else { work.rounds.remove(0) };
        open(site, lease, &work, opening, first.into_batch().0).await?;
    }
    for round in work.rounds {
        let (batch, messages) = round.into_batch();
        if !tell(site, lease, work.id, batch).await? {
            refused.extend(messages);
        }
    }
    Ok(refused)
}

async fn open(
    site: &Site,
    lease: &Lease,
    work: &Work,
    opening: Opening,
    batch: AlertBatch,
) -> Result<(), StoreError> {
    let Opening { head, alert, affected_systems, linked_to, settle } = opening;
    let source = alert.key.source.to_string();
    let draft =
        Draft { head, affected_systems, origin: source.clone(), linked_to, context: None, alert: None };
    match site.open_with(work.id, draft.clone(), &batch, settle, By::lease(&source, *lease)).await {
        Err(error) if is_lasting(&error) && batch.fired.len() > 1 => {
            error!(incident_id = %work.id, %error, "opened with its first alert alone");
            let mut rest = batch;
            let first = rest.fired.drain(..1).collect();
            let alone = AlertBatch { fired: first, ..AlertBatch::default() };
            match site.open_with(work.id, draft, &alone, settle, By::lease(&source, *lease)).await {
                Ok(_) => one_by_one(site, lease, work.id, rest).await.map(drop),
                Err(error) => lasting(work, error),
            }
        }
        Err(error) => lasting(work, error),
        Ok(_) => Ok(()),
    }
}

fn lasting(work: &Work, error: StoreError) -> Result<(), StoreError> {
    if is_lasting(&error) {
        error!(incident_id = %work.id, %error, "alerts could not be opened an incident for");
        return Ok(());
    }
    Err(error)
}

/// What would fail again and again is logged and left: one incident must not hold up all others.
fn is_lasting(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::UnknownEvent { .. }
            | StoreError::Damaged { .. }
            | StoreError::Illegal(_)
            | StoreError::Unsound { .. }
            | StoreError::TooLarge { .. }
    )
}

/// Whether the incident took it, or never will.
async fn tell(
    site: &Site,
    lease: &Lease,
    id: quell_incident::IncidentId,
    batch: AlertBatch,
) -> Result<bool, StoreError> {
    let single = batch.fired.len() + batch.cleared.len() <= 1;
    let source = batch.fired.first().map(|fired| &fired.alert.key).or(batch.cleared.first().map(|c| &c.key));
    let source = source.map_or_else(|| "correlation".to_owned(), |key| key.source.to_string());
    let input = Input::Alerts(Box::new(batch));
    let told = site.change(id, &input, By::lease(&source, *lease)).await;
    let Input::Alerts(batch) = input else { return Ok(true) };
    match told {
        Ok(_) => Ok(true),
        Err(ChangeError::Store(error)) if is_lasting(&error) && single => {
            error!(incident_id = %id, %error, "an alert's message could not be added to the incident");
            Ok(true)
        }
        Err(ChangeError::Store(error)) if is_lasting(&error) => {
            error!(incident_id = %id, %error, "messages are added one by one");
            one_by_one(site, lease, id, *batch).await
        }
        Err(ChangeError::Store(error)) => Err(error),
        Err(error) => {
            info!(incident_id = %id, %error, "messages are taken again, for another incident");
            Ok(false)
        }
    }
}

/// So that one message that cannot be stored does not lose the others.
async fn one_by_one(
    site: &Site,
    lease: &Lease,
    id: quell_incident::IncidentId,
    batch: AlertBatch,
) -> Result<bool, StoreError> {
    let AlertBatch { fired, cleared, urgency, flapping, truncated } = batch;
    let first = AlertBatch { urgency, flapping, truncated, ..AlertBatch::default() };
    let fired =
        fired.into_iter().map(|one| AlertBatch { fired: vec![one], urgency, ..AlertBatch::default() });
    let cleared = cleared.into_iter().map(|one| AlertBatch { cleared: vec![one], ..AlertBatch::default() });
    let mut took = true;
    for batch in std::iter::once(first).chain(fired).chain(cleared) {
        took &= Box::pin(tell(site, lease, id, batch)).await?;
    }
    Ok(took)
}
