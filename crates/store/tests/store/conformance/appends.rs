//! Appends: compare-and-swap, claims, messages, changes.

use std::sync::Arc;

use jiff::SignedDuration;
use quell_incident::Event;
use quell_incident::gate::LockState;
use quell_incident::ids::{Digest, FencingToken, GateEpoch, Revision};
use quell_incident::severity::{Priority, Status};
use quell_incident::workflow::{Claim, Illegal};
use quell_store::{Append, Changed, IncidentStore, StoreError};
use tokio::task::JoinSet;

use crate::fixtures::*;
use crate::view;

pub(crate) async fn compare_and_swap<S: IncidentStore + ?Sized + 'static>(store: Arc<S>) {
    let append = open(1, Priority::P0, at(1));
    let incident = store.append(append.clone()).await.unwrap();
    assert_eq!(incident.revision, Revision(2), "opened and fired");
    assert_eq!(store.incident(incident.id).await.unwrap().unwrap(), incident);
    assert_eq!(store.log(incident.id).await.unwrap(), append.envelopes);

    let again = store.append(append).await.unwrap_err();
    assert!(
        matches!(again, StoreError::Conflict { expected: Revision(0), found: Revision(2), .. }),
        "{again}"
    );
    assert!(!again.is_retryable());
    let noted = store.append(note(&incident, "first")).await.unwrap();
    assert_eq!(noted.revision, Revision(3));
    let stale = store.append(note(&incident, "second")).await.unwrap_err();
    assert!(matches!(stale, StoreError::Conflict { found: Revision(3), .. }), "{stale}");
    assert_eq!(store.incident(incident.id).await.unwrap().unwrap(), noted);

    // Of many that rely on the same revision exactly one is taken, and the others find it when they read again.
    let mut racers = JoinSet::new();
    for racer in 0..16 {
        let (store, incident) = (Arc::clone(&store), Arc::clone(&noted));
        racers.spawn(async move {
            match store.append(note(&incident, &format!("racer {racer}"))).await {
                Ok(_) => true,
                Err(StoreError::Conflict { found, .. }) => {
                    assert_eq!(found, Revision(4));
                    assert_eq!(store.incident(incident.id).await.unwrap().unwrap().revision, found);
                    false
                }
                Err(other) => panic!("{other}"),
            }
        });
    }
    let won = racers.join_all().await.into_iter().filter(|won| *won).count();
    assert_eq!(won, 1);
    assert_eq!(store.log(incident.id).await.unwrap().len(), 4);
}

pub(crate) async fn illegal_events_change_nothing<S: IncidentStore + ?Sized>(store: Arc<S>) {
    let incident = opened(&*store, 1).await;
    let before = view::of(&*store).await;
    let handed_back = Event::HandedBack { by: "person-1".to_owned() };
    let noted = Event::Noted { by: "person-1".to_owned(), text: "fits".to_owned() };
    let mut append = follow(&incident, [noted, handed_back], at(5));
    append.claims.push(Claim::Take(lock("db-1", 1)));
    append.message = Some((message(1), Digest::of_bytes(b"1")));
    let error = store.append(append).await.unwrap_err();
    assert!(matches!(&error, StoreError::Illegal(Illegal::Transition { .. })), "{error}");

    let gap = Append {
        envelopes: envelopes(
            incident.id,
            incident.revision.next(),
            [Event::Undone { left: Vec::new() }],
            at(5),
        ),
        ..note(&incident, "")
    };
    let error = store.append(gap).await.unwrap_err();
    assert!(matches!(&error, StoreError::Illegal(Illegal::Revision { .. })), "{error}");

    let id = incident_id(2);
    let not_opened = envelopes(id, Revision(0), [Event::Undone { left: Vec::new() }], at(5));
    let error = store.append(Append::new(id, Revision(0), not_opened)).await.unwrap_err();
    assert!(matches!(&error, StoreError::Illegal(Illegal::NotOpened)), "{error}");

    assert_eq!(view::of(&*store).await, before);
    store.append(note(&incident, "goes on")).await.unwrap();
}

pub(crate) async fn unsound_appends_are_refused<S: IncidentStore + ?Sized>(store: Arc<S>) {
    let incident = opened(&*store, 1).await;
    let before = view::of(&*store).await;
    let good = note(&incident, "good");
    let mut newer = good.clone();
    newer.envelopes[0].version += 1;
    let mut foreign = good.clone();
    foreign.envelopes[0].incident_id = incident_id(2);
    let cool = Event::CoolDownSet { cool_down: cool_down("HighMemoryUsage", "db-1", "restart", at(50)) };
    let mut unclaimed = follow(&incident, [cool], at(6));
    unclaimed.claims.clear();
    let empty = Append { envelopes: Vec::new(), ..good.clone() };
    for append in [newer, foreign, unclaimed, empty] {
        let error = store.append(append).await.unwrap_err();
        assert!(matches!(error, StoreError::Unsound { .. }), "{error}");
    }
    assert_eq!(view::of(&*store).await, before);
    store.append(good).await.unwrap();
}

pub(crate) async fn claims_are_all_or_nothing<S: IncidentStore + ?Sized>(store: Arc<S>) {
    let one = opened(&*store, 1).await;
    let other = opened(&*store, 2).await;
    let targets = view::TARGETS.map(target);
    let free = store.locks(&targets).await.unwrap();
    assert!(free.values().all(|lock| *lock == LockState::default()));
    assert_eq!(free.len(), 3, "an unknown target is free");

    let one = store
        .append(claim(&one, vec![Claim::Take(lock("db-1", 1)), Claim::SiteEpoch(GateEpoch(0))]))
        .await
        .unwrap();
    let before = view::of(&*store).await;
    assert_eq!(before.locks[&target("db-1")], LockState { token: FencingToken(1), holder: Some(one.id) });
    let cool = || Claim::CoolDown(cool_down("HighMemoryUsage", "db-2", "restart", at(100)));
    let bad = [
        Claim::Take(lock("db-1", 2)),
        Claim::Hold(lock("db-1", 1)),
        Claim::Release(lock("db-1", 1)),
        Claim::Take(lock("db-2", 2)),
        Claim::Hold(lock("web-1", 0)),
        Claim::SiteEpoch(GateEpoch(1)),
    ];
    for bad in bad {
        // The claim that cannot be made comes last: what stands before it must not stay.
        let claims = vec![Claim::Take(lock("web-1", 1)), cool(), bad.clone()];
        let claims = if matches!(bad, Claim::Hold(_)) { claims[1..].to_vec() } else { claims };
        let append = claim(&other, claims).answering(message(3), Digest::of_bytes(b"3"));
        let error = store.append(append).await.unwrap_err();
        assert!(matches!(error, StoreError::ClaimRefused { .. }), "{bad:?}: {error}");
        assert!(!error.is_retryable());
        assert_eq!(view::of(&*store).await, before, "{bad:?}");
    }
    // A conflict leaves the claims alone as well.
    let stale = Append { expected: Revision(1), ..claim(&other, vec![Claim::Take(lock("web-1", 1))]) };
    assert!(matches!(store.append(stale).await, Err(StoreError::Conflict { .. })));
    assert_eq!(view::of(&*store).await, before);

    store
        .append(claim(&one, vec![Claim::Hold(lock("db-1", 1)), Claim::Release(lock("db-1", 1))]))
        .await
        .unwrap();
    let taken = vec![Claim::Take(lock("db-1", 2)), Claim::Take(lock("web-1", 1)), cool()];
    store.append(claim(&other, taken)).await.unwrap();
    let locks = store.locks(&targets).await.unwrap();
    assert_eq!(locks[&target("db-1")], LockState { token: FencingToken(2), holder: Some(other.id) });
    assert_eq!(locks[&target("web-1")], LockState { token: FencingToken(1), holder: Some(other.id) });
}

pub(crate) async fn claims_follow_from_events<S: IncidentStore + ?Sized>(store: Arc<S>) {
    let incident = opened(&*store, 1).await;
    let cool = cool_down("HighMemoryUsage", "db-1", "restart", at(100));
    let append = follow(&incident, [Event::CoolDownSet { cool_down: cool.clone() }], at(6));
    assert_eq!(append.claims, [Claim::CoolDown(cool.clone())]);
    store.append(append).await.unwrap();
    assert_eq!(store.cool_downs("HighMemoryUsage", &[target("db-1")], at(99)).await.unwrap(), [cool]);
}

pub(crate) async fn two_appends_race_for_one_lock<S: IncidentStore + ?Sized + 'static>(store: Arc<S>) {
    let mut incidents = Vec::new();
    for number in 0..8 {
        incidents.push(opened(&*store, number).await);
    }
    let mut racers = JoinSet::new();
    for incident in incidents {
        let store = Arc::clone(&store);
        racers.spawn(async move {
            let won = match store.append(claim(&incident, vec![Claim::Take(lock("db-1", 1))])).await {
                Ok(_) => true,
                Err(StoreError::ClaimRefused { .. }) => false,
                Err(other) => panic!("{other}"),
            };
            // Whoever lost sees who won.
            let locks = store.locks(&[target("db-1")]).await.unwrap();
            let holder = locks[&target("db-1")].holder;
            assert_eq!(won, holder == Some(incident.id));
            assert!(holder.is_some());
            let now = store.incident(incident.id).await.unwrap().unwrap();
            assert_eq!(now.revision.0, incident.revision.0 + u64::from(won));
            won
        });
    }
    assert_eq!(racers.join_all().await.into_iter().filter(|won| *won).count(), 1);
}

pub(crate) async fn a_message_is_taken_once<S: IncidentStore + ?Sized>(store: Arc<S>) {
    let content = Digest::of_bytes(b"content");
    assert_eq!(store.message(&message(1)).await.unwrap(), None);
    let first = open(1, Priority::P2, at(1)).answering(message(1), content);
    let incident = store.append(first).await.unwrap();
    let record = store.message(&message(1)).await.unwrap().unwrap();
    assert_eq!((record.incident_id, record.content), (incident.id, content));

    for (content, same) in [(content, true), (Digest::of_bytes(b"other"), false)] {
        let again = open(2, Priority::P2, at(2)).answering(message(1), content);
        match store.append(again).await.unwrap_err() {
            StoreError::MessageTaken { incident_id, same_content } => {
                assert_eq!((incident_id, same_content), (incident.id, same));
            }
            other => panic!("{other}"),
        }
    }
    assert_eq!(store.incident(incident_id(2)).await.unwrap(), None);
    // The same id of another caller, or for another tenant, is another message.
    let others = [("caller-2", "default"), ("caller-1", "other"), ("caller-1default", "")];
    for (number, (caller, tenant)) in (3..).zip(others) {
        let key = quell_store::MessageKey { caller: caller.into(), tenant: tenant.into(), ..message(1) };
        store.append(open(number, Priority::P2, at(2)).answering(key, content)).await.unwrap();
    }
    // An incident that is over has still taken its message.
    let closed = store.append(close(&incident)).await.unwrap();
    assert_eq!(closed.status(), Status::Closed);
    let again = open(9, Priority::P2, at(2)).answering(message(1), content);
    assert!(matches!(store.append(again).await, Err(StoreError::MessageTaken { same_content: true, .. })));
}

pub(crate) async fn a_message_is_raced_for<S: IncidentStore + ?Sized + 'static>(store: Arc<S>) {
    let mut racers = JoinSet::new();
    for number in 0..8 {
        let store = Arc::clone(&store);
        racers.spawn(async move {
            let append = open(number, Priority::P2, at(1)).answering(message(1), Digest::of_bytes(b"1"));
            match store.append(append).await {
                Ok(incident) => incident.id,
                Err(StoreError::MessageTaken { incident_id, same_content: true }) => {
                    assert!(store.incident(incident_id).await.unwrap().is_some(), "it is there to be read");
                    incident_id
                }
                Err(other) => panic!("{other}"),
            }
        });
    }
    let ids = racers.join_all().await;
    assert!(ids.iter().all(|id| *id == ids[0]), "all were told of one incident: {ids:?}");
}

pub(crate) async fn changes_are_told_after_the_commit<S: IncidentStore + ?Sized>(store: Arc<S>) {
    let mut changes = store.changes();
    let first = opened(&*store, 1).await;
    let second = opened(&*store, 2).await;
    let noted = store.append(note(&first, "more")).await.unwrap();
    store.append(note(&first, "stale")).await.unwrap_err();
    store.receive(received(1)).await.unwrap();
    for incident in [&first, &second, &noted] {
        let told = Changed { incident_id: incident.id, revision: incident.revision };
        assert_eq!(changes.try_recv().unwrap(), told);
    }
    assert!(changes.try_recv().is_err(), "nothing else changed an incident");

    // What is told can be read.
    let listener = async {
        let changed = changes.recv().await.unwrap();
        let read = store.incident(changed.incident_id).await.unwrap().unwrap();
        assert!(read.revision >= changed.revision);
        assert!(store.log(changed.incident_id).await.unwrap().len() as u64 >= changed.revision.0);
    };
    let (_, appended) = tokio::join!(listener, store.append(note(&noted, "told")));
    appended.unwrap();
}

pub(crate) async fn finished_incidents_live_on<S: IncidentStore + ?Sized>(store: Arc<S>) {
    let mut last = Vec::new();
    // More than any backend keeps at hand.
    for number in 0..100 {
        let incident = opened(&*store, number).await;
        last.push(store.append(close(&incident)).await.unwrap());
    }
    for (number, closed) in (0..).zip(&last) {
        assert_eq!(store.incident(closed.id).await.unwrap().unwrap(), *closed);
        let again = store.append(open(number, Priority::P3, at(0))).await.unwrap_err();
        assert!(matches!(again, StoreError::Conflict { found, .. } if found == closed.revision), "{again}");
    }
    let closed = &last[3];
    let noted = store.append(note(closed, "afterwards")).await.unwrap();
    let noted = store.append(note(&noted, "and again")).await.unwrap();
    assert_eq!(noted.revision.0, closed.revision.0 + 2);
    assert_eq!(store.incident(closed.id).await.unwrap().unwrap(), noted);
    assert_eq!(store.log(closed.id).await.unwrap().len() as u64, noted.revision.0);
    assert!(matches!(
        store.append(note(closed, "stale")).await,
        Err(StoreError::Conflict { found, .. }) if found == noted.revision
    ));
    let later = noted.updated_at + SignedDuration::from_secs(1);
    let reopened = Event::Reopened { why: "no".to_owned(), against: None };
    assert!(matches!(store.append(follow(&noted, [reopened], later)).await, Err(StoreError::Illegal(_))));
}

pub(crate) async fn an_unknown_incident_is_nobody<S: IncidentStore + ?Sized>(store: Arc<S>) {
    let incident = opened(&*store, 1).await;
    assert_eq!(store.incident(incident_id(7)).await.unwrap(), None);
    assert_eq!(store.log(incident_id(7)).await.unwrap(), Vec::new());
    assert_eq!(store.incident_of_alert(&alert_key(7)).await.unwrap(), None);
    let id = incident_id(7);
    let events = [Event::Noted { by: "person-1".to_owned(), text: String::new() }];
    let append = Append::new(id, incident.revision, envelopes(id, incident.revision, events, at(1)));
    let error = store.append(append).await.unwrap_err();
    assert!(matches!(error, StoreError::Conflict { found: Revision(0), .. }), "{error}");
}
