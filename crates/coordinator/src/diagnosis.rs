//! What a diagnosis is told beforehand, and what is kept of it.

use jiff::{SignedDuration, Timestamp};
use quell_incident::IncidentId;
use quell_incident::contract::DiagnoseRequest;
use quell_store::{ChangeQuery, StoreError};

use crate::site::Site;

/// Changes are looked at from so long before the incident began.
const CHANGES_BEFORE: SignedDuration = SignedDuration::from_hours(6);
/// By then a change that was told is stored, or its teller has no answer yet.
const CHANGES_SETTLED: SignedDuration = SignedDuration::from_secs(1);
/// The latest changes that a diagnosis is told.
const CHANGES_MAX: usize = 200;

/// The request, with what was changed on purpose. It has to be the same each time that it is made, since an agent refuses another
/// request under a key that it knows: so only what was told before it fell due counts.
pub(crate) async fn with_changes(
    site: &Site,
    mut request: DiagnoseRequest,
) -> Result<DiagnoseRequest, StoreError> {
    let began = request.incident.started_at.min(request.reference_time);
    let query = ChangeQuery {
        from: began.checked_sub(CHANGES_BEFORE).unwrap_or(Timestamp::MIN),
        to: request.reference_time,
        // What is being stored at this moment is in no request, rather than in some.
        received_until: request.reference_time.checked_sub(CHANGES_SETTLED).unwrap_or(Timestamp::MIN),
        limit: CHANGES_MAX,
    };
    let changes = site.store.change_records(&query).await?;
    request.changes = changes.into_iter().map(|change| change.record).collect();
    Ok(request)
}

/// Makes the document of a diagnosis durable.
pub(crate) async fn keep(site: &Site, id: IncidentId, case: Option<Vec<u8>>) -> Result<(), StoreError> {
    let Some(case) = case else { return Ok(()) };
    site.faults.reach("coordinator.document.before").await;
    let kept = site.store.put_document(id, case).await;
    site.faults.reach("coordinator.document.after").await;
    kept.map(|_| ())
}
