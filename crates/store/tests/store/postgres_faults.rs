//! The PostgreSQL store when things go wrong: a coordinator that stands still, a server that goes away, connections that are cut.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use quell_incident::ids::{Digest, Revision};
use quell_store::{IncidentStore, PostgresStore, Received, ReceivedPosition, StoreError, Work};
use sqlx::Connection as _;
use tokio::task::JoinSet;

use crate::conformance::leases::{coordinator, is_lost, work_of};
use crate::fixtures::*;
use crate::postgres::{JOURNAL, SOON, cluster, fresh, open, sql, until, verify_chain};
use crate::proxy::{MARKER, Proxy};
use crate::view;

/// A coordinator that stands still within a commit keeps its lease until then: nobody takes over in between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn taking_over_waits_for_a_commit_that_relies_on_the_lease() {
    let Some(cluster) = cluster() else { return };
    let store = fresh(&cluster, "site").await;
    let incident = opened(&*store, 1).await;
    let work = Work::Incident(incident.id);
    let (slow, quick) = (coordinator(1), coordinator(2));
    store.renew(slow, Duration::from_millis(700)).await.unwrap();
    store.renew(quick, Duration::from_secs(600)).await.unwrap();
    let lease = store.claim(slow, &[work]).await.unwrap()[0];

    // The transaction locks the lease and then waits for the incident's row.
    let mut holding = sql(&cluster, "site").await;
    let mut transaction = holding.begin().await.unwrap();
    sqlx::query("SELECT FROM incidents FOR UPDATE").execute(&mut *transaction).await.unwrap();
    let appending = tokio::spawn({
        let (store, append) = (Arc::clone(&store), note(&incident, "begun in time").fenced(lease));
        async move { store.append(append).await }
    });
    let mut looking = sql(&cluster, "site").await;
    let dead = "SELECT count(*) FROM coordinators WHERE until < clock_timestamp()";
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'quell-commit' AND wait_event_type = 'Lock'";
    for condition in [waiting, dead] {
        until(condition, async || {
            let (count,): (i64,) = sqlx::query_as(condition).fetch_one(&mut looking).await.unwrap();
            count == 1
        })
        .await;
    }
    let claiming = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.claim(quick, &[work]).await }
    });
    until("the claim waits", async || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'quell-read' AND wait_event_type = 'Lock'";
        let (count,): (i64,) = sqlx::query_as(sql).fetch_one(&mut looking).await.unwrap();
        count == 1
    })
    .await;
    assert!(!appending.is_finished() && !claiming.is_finished());
    transaction.rollback().await.unwrap();
    let appended = appending.await.unwrap().unwrap();
    let taken = claiming.await.unwrap().unwrap();
    assert_eq!(work_of(&taken), [work]);
    let read = store.incident(incident.id).await.unwrap().unwrap();
    assert_eq!(read, appended, "what the next holder reads first is final");
    assert!(is_lost(store.append(note(&read, "too late").fenced(lease)).await));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_goes_away_and_returns_heals() {
    let Some(cluster) = cluster() else { return };
    let store = fresh(&cluster, "site").await;
    let incident = opened(&*store, 1).await;
    let mut changes = store.changes();
    // Writers that go on whatever happens, and remember what they were told.
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for writer in 0..4 {
        let (store, stop) = (Arc::clone(&store), Arc::clone(&stop));
        writers.spawn(async move {
            let (mut acknowledged, mut refused) = (Vec::new(), 0);
            while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                let batch = received(writer);
                match store.receive(batch).await {
                    Ok(position) => acknowledged.push(position),
                    Err(error) => {
                        assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
                        assert!(error.is_retryable());
                        refused += 1;
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                }
            }
            (acknowledged, refused)
        });
    }
    for _ in 0..2 {
        cluster.crash().unwrap();
        until("it is refused", async || store.health().await.is_err()).await;
        until("writing is refused", async || {
            matches!(store.append(note(&incident, "meanwhile")).await, Err(StoreError::Unavailable(_)))
        })
        .await;
        assert!(matches!(store.incident(incident.id).await, Err(StoreError::Unavailable(_))));
        cluster.restart().unwrap();
        until("it is back", async || store.health().await.is_ok()).await;
        until("it writes", async || store.receive(received(9)).await.is_ok()).await;
    }
    stop.store(true, std::sync::atomic::Ordering::SeqCst);
    let told = writers.join_all().await;
    assert!(told.iter().all(|(acknowledged, refused)| !acknowledged.is_empty() && *refused > 0));
    let told: Vec<_> = told.into_iter().flat_map(|(acknowledged, _)| acknowledged).collect();
    let stored = view::received(&*store, ReceivedPosition::default()).await;
    let stored: BTreeSet<_> = stored.into_iter().map(|(position, _)| position).collect();
    assert!(told.iter().all(|position| stored.contains(position)), "nothing acknowledged is lost");
    assert_eq!(told.iter().collect::<BTreeSet<_>>().len(), told.len());
    verify_chain(&store).await;

    // Others are heard of again as well.
    let other = open(&cluster, "site").await;
    while changes.try_recv().is_ok() {}
    let incident = other.incident(incident.id).await.unwrap().unwrap();
    let noted = other.append(note(&incident, "afterwards")).await.unwrap();
    let changed = tokio::time::timeout(SOON, changes.recv()).await.unwrap().unwrap();
    assert_eq!(changed.revision, noted.revision);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_is_cut_off_is_made_once_or_not_at_all() {
    let Some(cluster) = cluster() else { return };
    cluster.create_database("site").unwrap();
    let proxy = Proxy::to(cluster.port()).await;
    let url = cluster.url_by(proxy.port, "site");
    let store = Arc::new(PostgresStore::open(&url, JOURNAL).await.unwrap());
    let mut incident = opened(&*store, 1).await;
    for (cuts, after) in (1..).zip([true, false, true, true, false]) {
        if after {
            proxy.cut_after_commit()
        } else {
            proxy.cut_before_commit()
        }
        let noted = note(&incident, "cut off").answering(message(cuts), Digest::of_bytes(b"1"));
        let text = format!("{cuts}, after: {after}");
        incident = store.append(noted).await.expect(&text);
        assert_eq!(proxy.cuts(), cuts as usize, "{text}");
        assert_eq!(incident.revision, Revision(2 + cuts), "{text}");
    }
    assert_eq!(verify_chain(&store).await, 6);

    // What is received alone is one statement, and that is cut off.
    for (cuts, after) in (6..).zip([true, false, true]) {
        store.receive(received(1)).await.unwrap();
        proxy.cut_commit(0, after);
        let batch = Received { group_key: Some(MARKER.to_owned()), ..received(2) };
        let position = store.receive(batch.clone()).await.unwrap();
        assert_eq!(proxy.cuts(), cuts, "after: {after}");
        let (last, again) = view::received(&*store, ReceivedPosition::default()).await.pop().unwrap();
        assert_eq!((last, again), (position, batch), "it is there once, at its position");
    }
    assert_eq!(verify_chain(&store).await, 12);

    // A backend that is ended in the middle of a transaction, which waits for the journal's end.
    let mut holding = sql(&cluster, "site").await;
    let mut transaction = holding.begin().await.unwrap();
    sqlx::query("SELECT FROM journal_head FOR UPDATE").execute(&mut *transaction).await.unwrap();
    let mut requests = JoinSet::new();
    for number in 0..5 {
        let store = Arc::clone(&store);
        requests.spawn(async move { store.receive(received(number)).await });
    }
    let mut killing = sql(&cluster, "site").await;
    until("it is ended", async || {
        let sql = "SELECT count(*) FROM (SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                   WHERE application_name = 'quell-commit' AND wait_event_type = 'Lock') AS ended";
        let (ended,): (i64,) = sqlx::query_as(sql).fetch_one(&mut killing).await.unwrap();
        ended > 0
    })
    .await;
    transaction.rollback().await.unwrap();
    for position in requests.join_all().await {
        position.unwrap();
    }
    assert_eq!(view::received(&*store, ReceivedPosition::default()).await.len(), 11);
    assert_eq!(verify_chain(&store).await, 17);
    assert_eq!(store.message(&message(3)).await.unwrap().unwrap().incident_id, incident.id);
}
