//! Received alerts, the correlated mark, the site's switches, cool-downs.

use std::collections::BTreeSet;
use std::sync::Arc;

use quell_incident::gate::{KillSwitch, SiteGates, Throw};
use quell_incident::ids::GateEpoch;
use quell_incident::workflow::Claim;
use quell_store::{IncidentStore, ReceivedPosition, StoreError};
use tokio::task::JoinSet;

use crate::fixtures::*;
use crate::view;

pub(crate) async fn received_alerts_are_read_in_order<S: IncidentStore + ?Sized>(store: Arc<S>) {
    let start = ReceivedPosition::default();
    assert!(store.received_after(start, 10).await.unwrap().is_empty());
    let mut sent = Vec::new();
    for number in 0..30 {
        let batch = received(number);
        let position = store.receive(batch.clone()).await.unwrap();
        sent.push((position, batch));
        // Other records between them.
        if number % 3 == 0 {
            opened(&*store, number).await;
        }
    }
    assert!(sent.is_sorted_by(|(one, _), (next, _)| one < next));
    assert_eq!(view::received(&*store, start).await, sent);
    assert_eq!(store.received_after(start, 4).await.unwrap(), sent[..4]);
    assert_eq!(store.received_after(sent[9].0, 1).await.unwrap(), sent[10..11]);
    assert!(store.received_after(start, 0).await.unwrap().is_empty());
    // Asking at the end, and before it again, in any order.
    for _ in 0..3 {
        assert!(store.received_after(sent[29].0, 10).await.unwrap().is_empty());
        assert_eq!(store.received_after(sent[27].0, 10).await.unwrap(), sent[28..]);
    }
    opened(&*store, 500).await;
    assert!(store.received_after(sent[29].0, 10).await.unwrap().is_empty());
    let batch = received(77);
    let position = store.receive(batch.clone()).await.unwrap();
    assert_eq!(store.received_after(sent[29].0, 10).await.unwrap(), [(position, batch.clone())]);
    assert_eq!(store.received_after(sent[28].0, 10).await.unwrap(), [sent[29].clone(), (position, batch)]);
}

pub(crate) async fn received_concurrently<S: IncidentStore + ?Sized + 'static>(store: Arc<S>) {
    let mut senders = JoinSet::new();
    for sender in 0..16 {
        let store = Arc::clone(&store);
        senders.spawn(async move {
            let mut sent = Vec::new();
            for number in 0..10 {
                let batch = received(sender * 100 + number);
                sent.push((store.receive(batch.clone()).await.unwrap(), batch));
            }
            assert!(sent.is_sorted_by(|(one, _), (next, _)| one < next));
            sent
        });
    }
    let mut sent: Vec<_> = senders.join_all().await.into_iter().flatten().collect();
    sent.sort_by_key(|(position, _)| *position);
    assert_eq!(sent.iter().map(|(position, _)| *position).collect::<BTreeSet<_>>().len(), 160);
    assert_eq!(view::received(&*store, ReceivedPosition::default()).await, sent);
}

pub(crate) async fn the_correlated_mark_is_monotonic<S: IncidentStore + ?Sized>(store: Arc<S>) {
    assert_eq!(store.correlated().await.unwrap(), ReceivedPosition::default());
    let first = store.receive(received(1)).await.unwrap();
    let second = store.receive(received(2)).await.unwrap();
    store.set_correlated(second, None).await.unwrap();
    assert_eq!(store.correlated().await.unwrap(), second);
    store.set_correlated(first, None).await.unwrap();
    store.set_correlated(second, None).await.unwrap();
    assert_eq!(store.correlated().await.unwrap(), second, "it never goes back");
    let ahead = store.set_correlated(ReceivedPosition(second.0 + 100), None).await.unwrap_err();
    assert!(matches!(ahead, StoreError::Unsound { .. }), "{ahead}");
    let third = store.receive(received(3)).await.unwrap();
    assert_eq!(store.received_after(second, 9).await.unwrap(), [(third, received(3))]);
}

pub(crate) async fn the_kill_switch<S: IncidentStore + ?Sized + 'static>(store: Arc<S>) {
    assert_eq!(store.site_gates().await.unwrap(), SiteGates::default());
    let incident = opened(&*store, 1).await;
    let switch = KillSwitch { by: "person-1".to_owned(), why: "stop".to_owned(), at: at(1) };
    let engaged = store.set_kill_switch(GateEpoch(0), Throw::Engage(switch.clone())).await.unwrap();
    assert_eq!(
        (engaged.epoch, &engaged.kill_switch, &engaged.released),
        (GateEpoch(1), &Some(switch.clone()), &None)
    );
    assert_eq!(store.site_gates().await.unwrap(), engaged);

    let stale = store.set_kill_switch(GateEpoch(0), release()).await.unwrap_err();
    assert!(
        matches!(stale, StoreError::SiteChanged { expected: GateEpoch(0), found: GateEpoch(1) }),
        "{stale}"
    );
    // Whoever decided before the switch was engaged cannot start anything.
    let late = store.append(claim(&incident, vec![Claim::SiteEpoch(GateEpoch(0))])).await.unwrap_err();
    assert!(matches!(late, StoreError::ClaimRefused { .. }), "{late}");
    store.append(claim(&incident, vec![Claim::SiteEpoch(GateEpoch(1))])).await.unwrap();
    let released = store.set_kill_switch(GateEpoch(1), release()).await.unwrap();
    // Letting everything go on is answered for like stopping it.
    let Throw::Release(by) = release() else { unreachable!() };
    assert_eq!((released.epoch, &released.kill_switch, &released.released), (GateEpoch(2), &None, &Some(by)));
    assert_eq!(store.site_gates().await.unwrap(), released);

    let mut racers = JoinSet::new();
    for _ in 0..8 {
        let (store, switch) = (Arc::clone(&store), switch.clone());
        racers.spawn(async move { store.set_kill_switch(GateEpoch(2), Throw::Engage(switch)).await.is_ok() });
    }
    assert_eq!(racers.join_all().await.into_iter().filter(|won| *won).count(), 1);
    assert_eq!(store.site_gates().await.unwrap().epoch, GateEpoch(3));
}

pub(crate) async fn cool_downs<S: IncidentStore + ?Sized>(store: Arc<S>) {
    let class = "HighMemoryUsage";
    let incident = opened(&*store, 1).await;
    let one = cool_down(class, "db-1", "restart", at(100));
    let two = cool_down(class, "db-1", "scale", at(200));
    let elsewhere = cool_down(class, "db-2", "restart", at(300));
    let other_class = cool_down("Other", "db-1", "restart", at(300));
    let claims = [&two, &one, &elsewhere, &other_class].map(|cool| Claim::CoolDown(cool.clone()));
    let incident = store.append(claim(&incident, claims.to_vec())).await.unwrap();
    let found = async |targets: &[&str], now| {
        let targets: Vec<_> = targets.iter().map(|name| target(name)).collect();
        store.cool_downs(class, &targets, at(now)).await.unwrap()
    };
    assert_eq!(found(&["db-1"], 50).await, [one.clone(), two.clone()]);
    assert_eq!(found(&["db-1"], 100).await, std::slice::from_ref(&two), "it is over at its end");
    assert_eq!(found(&["db-2", "db-1", "web-1"], 150).await, [two.clone(), elsewhere]);
    assert_eq!(found(&[], 0).await, []);
    // A later one replaces the earlier one for the same class, target and runbook.
    let longer = cool_down(class, "db-1", "restart", at(400));
    store.append(claim(&incident, vec![Claim::CoolDown(longer.clone())])).await.unwrap();
    assert_eq!(found(&["db-1"], 150).await, [longer, two]);
}
