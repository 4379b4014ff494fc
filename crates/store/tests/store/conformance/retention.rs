//! Retention: what is over goes, what is not stays, and what still counts of it counts on.

use std::sync::Arc;

use quell_incident::gate::LockState;
use quell_incident::ids::FencingToken;
use quell_incident::workflow::Claim;
use quell_store::{IncidentStore, ListQuery, Retained, Retention, RetentionBudget};

use crate::fixtures::*;
use crate::retention::{later, lived, retained_all, tiny};
use crate::view;

pub(crate) async fn is_gone<S: IncidentStore + ?Sized>(store: &S, number: u64) {
    let id = incident_id(number);
    assert_eq!(store.incident(id).await.unwrap(), None, "{number}");
    assert_eq!(store.log(id).await.unwrap(), Vec::new());
    assert_eq!(store.incident_of_alert(&alert_key(number)).await.unwrap(), None);
    assert_eq!(store.message(&message(number)).await.unwrap(), None);
    let listed = store.list(&ListQuery::default()).await.unwrap();
    assert!(listed.rows.iter().all(|row| row.id != id));
}

pub(crate) async fn what_is_over_goes_and_what_is_open_stays<S: IncidentStore + ?Sized>(store: Arc<S>) {
    let store = &*store;
    for number in 0..10 {
        lived(store, number).await;
    }
    // Open, and holding a lock whose token must not go back.
    let open = opened(store, 50).await;
    let held = store.append(claim(&open, vec![Claim::Take(lock("db-1", 1))])).await.unwrap();
    let released = vec![Claim::Release(lock("db-1", 1)), Claim::Take(lock("db-2", 1))];
    store.append(claim(&held, released)).await.unwrap();
    let nothing = store.retain(&Retention::default(), later(), &RetentionBudget::default()).await.unwrap();
    assert_eq!(nothing, Retained::default(), "without periods nothing goes");
    assert_eq!(store.retain(&tiny(), at(40), &RetentionBudget::default()).await.unwrap().incidents, 0);

    let sum = retained_all(store, later()).await;
    assert_eq!(sum.incidents, 10);
    for number in 0..10 {
        is_gone(store, number).await;
    }
    let page = store.list(&ListQuery::default()).await.unwrap();
    assert_eq!((page.total, page.rows[0].id), (1, open.id));
    assert_eq!(store.unfinished().await.unwrap(), [open.id]);
    assert_eq!(store.incident_of_alert(&alert_key(50)).await.unwrap(), Some(open.id));
    assert_eq!(
        store.log(open.id).await.unwrap().len() as u64,
        store.incident(open.id).await.unwrap().unwrap().revision.0
    );
    let locks = store.locks(&[target("db-1"), target("db-2")]).await.unwrap();
    assert_eq!(locks[&target("db-1")], LockState { token: FencingToken(1), holder: None });
    assert_eq!(locks[&target("db-2")], LockState { token: FencingToken(1), holder: Some(open.id) });
    // An alert that fires again, or still, opens another incident.
    lived(store, 60).await;
    opened(store, 70).await;
    assert_eq!(store.list(&ListQuery::default()).await.unwrap().total, 3);
}

pub(crate) async fn received_alerts_go_only_when_they_are_correlated_and_old<S: IncidentStore + ?Sized>(
    store: Arc<S>,
) {
    let store = &*store;
    let mut positions = Vec::new();
    for number in 0..60 {
        positions.push(store.receive(received(number)).await.unwrap());
    }
    assert_eq!(retained_all(store, later()).await.payloads_given_up, 0, "none is correlated");
    store.set_correlated(positions[39], None).await.unwrap();
    // Those received in the last thirty seconds stay.
    assert_eq!(retained_all(store, at(50)).await.payloads_given_up, 20);
    assert_eq!(retained_all(store, later()).await.payloads_given_up, 20);
    let rest = view::received(store, store.correlated().await.unwrap()).await;
    assert_eq!(
        rest.into_iter().map(|(_, batch)| batch).collect::<Vec<_>>(),
        (40..60).map(received).collect::<Vec<_>>()
    );
    // The mark still counts, and more can be received and correlated.
    assert_eq!(store.correlated().await.unwrap(), positions[39]);
    let next = store.receive(received(77)).await.unwrap();
    store.set_correlated(next, None).await.unwrap();
    assert_eq!(retained_all(store, later()).await.payloads_given_up, 21 + marks(store).await);
}

/// How many marks of correlation are among the records up to the last one: a store without a log has none.
async fn marks<S: IncidentStore + ?Sized>(store: &S) -> u64 {
    u64::from(store.chain_head().await.unwrap().is_some())
}

pub(crate) async fn cool_downs_and_switches_outlive_what_set_them<S: IncidentStore + ?Sized>(store: Arc<S>) {
    let store = &*store;
    let cool = cool_down("HighMemoryUsage", "db-1", "restart", at(5_000_000));
    let incident = opened(store, 1).await;
    let incident = store.append(claim(&incident, vec![Claim::CoolDown(cool.clone())])).await.unwrap();
    let site = store.set_kill_switch(quell_incident::ids::GateEpoch(0), release()).await.unwrap();
    store.append(close(&incident)).await.unwrap();
    assert_eq!(retained_all(store, later()).await.incidents, 1);
    is_gone(store, 1).await;
    assert_eq!(store.cool_downs("HighMemoryUsage", &[target("db-1")], later()).await.unwrap(), [cool]);
    assert_eq!(store.site_gates().await.unwrap(), site);
}

pub(crate) async fn a_finished_incident_that_was_noted_on_is_kept_from_then_on<S: IncidentStore + ?Sized>(
    store: Arc<S>,
) {
    let closed = store.append(close(&*opened(&*store, 1).await)).await.unwrap();
    let noted = store.append(note(&closed, "afterwards")).await.unwrap();
    let last = noted.updated_at;
    let kept = last + std::time::Duration::from_secs(60);
    assert_eq!(retained_all(&*store, kept).await.incidents, 0, "sixty seconds from its last event on");
    assert_eq!(store.incident(noted.id).await.unwrap(), Some(noted));
    let over = kept + std::time::Duration::from_secs(1);
    assert_eq!(retained_all(&*store, over).await.incidents, 1);
}

pub(crate) async fn an_alert_of_a_newer_incident_stays_with_it<S: IncidentStore + ?Sized>(store: Arc<S>) {
    let older = opened(&*store, 3).await;
    let fired = quell_incident::Event::AlertFired { alert: Box::new(alert(9, "warning", at(3))) };
    let older = store.append(follow(&older, [fired.clone()], older.updated_at)).await.unwrap();
    let newer = opened(&*store, 8).await;
    let newer = store.append(follow(&newer, [fired], newer.updated_at)).await.unwrap();
    store.append(close(&older)).await.unwrap();
    assert_eq!(retained_all(&*store, later()).await.incidents, 1);
    assert_eq!(store.incident_of_alert(&alert_key(3)).await.unwrap(), None);
    assert_eq!(store.incident_of_alert(&alert_key(9)).await.unwrap(), Some(newer.id));
    assert_eq!(
        store.incidents_of_alerts(&[alert_key(9), alert_key(3), alert_key(8), alert_key(9)]).await.unwrap(),
        [Some(newer.id), None, Some(newer.id), Some(newer.id)]
    );
}
