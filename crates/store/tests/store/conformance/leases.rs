//! Leases, where one coordinator is concerned or all are alive.

use std::sync::Arc;
use std::time::Duration;

use quell_incident::ids::Digest;
use quell_incident::severity::Priority;
use quell_incident::workflow::Claim;
use quell_store::{CoordinatorId, IncidentStore, Lease, ReceivedPosition, StoreError, Work};

use crate::fixtures::*;
use crate::view;

const LONG: Duration = Duration::from_secs(600);

pub(crate) fn coordinator(number: u128) -> CoordinatorId {
    CoordinatorId(uuid::Uuid::from_u128(number))
}

pub(crate) fn work_of(leases: &[Lease]) -> Vec<Work> {
    leases.iter().map(|lease| lease.work).collect()
}

pub(crate) fn is_lost<T>(result: Result<T, StoreError>) -> bool {
    matches!(result, Err(error @ StoreError::LeaseLost { .. }) if !error.is_retryable())
}

pub(crate) async fn one_coordinator<S: IncidentStore + ?Sized>(store: Arc<S>) {
    let (one, other) = (coordinator(1), coordinator(2));
    for alive in [one, other, one] {
        store.renew(alive, LONG).await.unwrap();
    }
    let incidents = [1, 2].map(|number| Work::Incident(incident_id(number)));
    let work = [Work::Correlation, Work::Retention, incidents[0], incidents[1]];
    assert_eq!(store.claim(one, &[]).await.unwrap(), []);
    let mut leases = store.claim(one, &work).await.unwrap();
    leases.sort_by_key(|lease| lease.work);
    assert_eq!(work_of(&leases), work);
    assert!(leases.iter().all(|lease| lease.coordinator == one && lease.token > 0));
    let mut again = store.claim(one, &work).await.unwrap();
    again.sort_by_key(|lease| lease.work);
    assert_eq!(again, leases, "what it holds it keeps, with the same token");
    assert_eq!(store.claim(other, &work).await.unwrap(), []);

    // What one does not hold it cannot give back.
    store.give_back(other, &work).await.unwrap();
    store.give_back(one, &work[1..2]).await.unwrap();
    let taken = store.claim(other, &work).await.unwrap();
    assert_eq!(work_of(&taken), work[1..2]);
    assert!(taken[0].token > leases[1].token, "another holder has a higher token");

    store.release(one).await.unwrap();
    let taken = store.claim(other, &work).await.unwrap();
    assert_eq!(taken.len(), 4);
    store.release(one).await.unwrap();
    store.renew(one, LONG).await.unwrap();
    assert_eq!(store.claim(one, &work).await.unwrap(), [], "it begins with nothing");
}

pub(crate) async fn unfinished_in_their_order<S: IncidentStore + ?Sized>(store: Arc<S>) {
    let (one, other) = (coordinator(1), coordinator(2));
    for alive in [one, other] {
        store.renew(alive, LONG).await.unwrap();
    }
    assert_eq!(store.claim_unfinished(one, 10).await.unwrap(), []);
    for number in 0..12 {
        let priority = Priority::ALL[(number % 4) as usize];
        let incident = store.append(open(number, priority, at(100 - number as i64))).await.unwrap();
        if number % 6 == 5 {
            store.append(close(&incident)).await.unwrap();
        }
    }
    let unfinished: Vec<_> = store.unfinished().await.unwrap().into_iter().map(Work::Incident).collect();
    assert_eq!(unfinished.len(), 10);
    assert_eq!(store.claim(other, &unfinished[1..2]).await.unwrap().len(), 1);
    assert_eq!(store.claim_unfinished(one, 0).await.unwrap(), []);
    let first = store.claim_unfinished(one, 4).await.unwrap();
    assert_eq!(work_of(&first), [&unfinished[..1], &unfinished[2..5]].concat());
    let rest = store.claim_unfinished(other, 100).await.unwrap();
    assert_eq!(work_of(&rest), unfinished[5..]);
    assert_eq!(store.claim_unfinished(one, 100).await.unwrap(), [], "its own are not free either");
    store.release(other).await.unwrap();
    let freed = store.claim_unfinished(one, 100).await.unwrap();
    assert_eq!(work_of(&freed), [&unfinished[1..2], &unfinished[5..]].concat());
}

pub(crate) async fn nothing_is_claimed_by_the_dead<S: IncidentStore + ?Sized>(store: Arc<S>) {
    let incident = opened(&*store, 1).await;
    let unknown = coordinator(9);
    assert!(is_lost(store.claim(unknown, &[Work::Correlation]).await), "it has never renewed");
    assert!(is_lost(store.claim_unfinished(unknown, 1).await));
    store.give_back(unknown, &[Work::Correlation]).await.unwrap();
    store.release(unknown).await.unwrap();
    store.renew(unknown, LONG).await.unwrap();
    assert_eq!(work_of(&store.claim_unfinished(unknown, 5).await.unwrap()), [Work::Incident(incident.id)]);
    store.release(unknown).await.unwrap();
    assert!(is_lost(store.claim_unfinished(unknown, 1).await));
}

pub(crate) async fn appends_are_fenced<S: IncidentStore + ?Sized>(store: Arc<S>) {
    let (one, other) = (coordinator(1), coordinator(2));
    for alive in [one, other] {
        store.renew(alive, LONG).await.unwrap();
    }
    let incident = opened(&*store, 1).await;
    let lease = store.claim(one, &[Work::Incident(incident.id)]).await.unwrap()[0];
    let incident = store.append(note(&incident, "mine").fenced(lease)).await.unwrap();
    let before = view::of(&*store).await;
    let forged = [
        Lease { token: lease.token + 1, ..lease },
        Lease { coordinator: other, ..lease },
        Lease { work: Work::Correlation, ..lease },
    ];
    for forged in forged {
        assert!(is_lost(store.append(note(&incident, "not mine").fenced(forged)).await), "{forged:?}");
    }
    store.release(one).await.unwrap();
    let late = claim(&incident, vec![Claim::Take(lock("db-1", 1))]);
    let late = late.answering(message(1), Digest::of_bytes(b"1")).fenced(lease);
    let error = store.append(late).await.unwrap_err();
    assert!(
        matches!(error, StoreError::LeaseLost { coordinator, work: Some(Work::Incident(id)) } if coordinator == one && id == incident.id),
        "{error}"
    );
    // Also where it would be refused anyway: whoever is deposed is to hear that first.
    let stale = open(1, Priority::P1, at(1)).fenced(lease);
    assert!(is_lost(store.append(stale).await));
    assert_eq!(view::of(&*store).await, before);
    let taken = store.claim(other, &[lease.work]).await.unwrap()[0];
    assert!(is_lost(store.append(note(&incident, "late").fenced(lease)).await));
    let incident = store.append(note(&incident, "taken over").fenced(taken)).await.unwrap();
    store.append(note(&incident, "a person needs no lease")).await.unwrap();
}

pub(crate) async fn the_correlated_mark_is_fenced<S: IncidentStore + ?Sized>(store: Arc<S>) {
    let one = coordinator(1);
    store.renew(one, LONG).await.unwrap();
    let first = store.receive(received(1)).await.unwrap();
    let second = store.receive(received(2)).await.unwrap();
    let lease = store.claim(one, &[Work::Correlation]).await.unwrap()[0];
    assert_eq!(store.correlated().await.unwrap(), ReceivedPosition::default());
    store.set_correlated(first, Some(&lease)).await.unwrap();
    store.release(one).await.unwrap();
    for position in [first, second] {
        assert!(is_lost(store.set_correlated(position, Some(&lease)).await));
    }
    assert_eq!(store.correlated().await.unwrap(), first);
    store.set_correlated(second, None).await.unwrap();
    assert_eq!(store.correlated().await.unwrap(), second);
}
