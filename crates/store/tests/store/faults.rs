//! A full disk and a failing sync: errors that say so, and nothing half-done.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use quell_incident::Incident;
use quell_incident::ids::{Digest, GateEpoch};
use quell_incident::severity::Priority;
use quell_incident::workflow::Claim;
use quell_journal::{SimulatedDisk, Survival};
use quell_store::{EmbeddedStore, IncidentStore, ReceivedPosition, StoreError};
use tokio::task::JoinSet;

use crate::embedded::options;
use crate::fixtures::*;
use crate::view;

struct Faulty {
    disk: SimulatedDisk,
    folder: tempfile::TempDir,
    store: Arc<EmbeddedStore>,
}

fn faulty() -> Faulty {
    let folder = tempfile::tempdir().unwrap();
    let disk = SimulatedDisk::new();
    let store = Arc::new(open_on(&folder, &disk));
    Faulty { disk, folder, store }
}

fn open_on(folder: &tempfile::TempDir, disk: &SimulatedDisk) -> EmbeddedStore {
    let mut options = options();
    options.journal.disk = Arc::new(disk.clone());
    EmbeddedStore::open(folder.path(), options).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_flight_is_not_seen() {
    let Faulty { disk, store, .. } = faulty();
    let incident = opened(&*store, 1).await;
    let seen = view::of(&*store).await;
    let mut changes = store.changes();
    disk.hold_syncs(true);
    let claims = vec![
        Claim::Take(lock("db-1", 1)),
        Claim::CoolDown(cool_down("HighMemoryUsage", "db-1", "r", at(900))),
    ];
    let append = claim(&incident, claims).answering(message(1), Digest::of_bytes(b"1"));
    let writer = {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.append(append).await })
    };
    let waiting = disk.clone();
    tokio::task::spawn_blocking(move || waiting.wait_for_held_sync()).await.unwrap();
    assert_eq!(view::of(&*store).await, seen, "nothing of what is not durable");
    assert!(changes.try_recv().is_err());

    // Who is refused because of it is told only when it can be read; who relies on it stands behind it.
    let stale = {
        let (store, append) = (Arc::clone(&store), note(&incident, "stale"));
        tokio::spawn(async move {
            let error = store.append(append).await.unwrap_err();
            assert!(matches!(error, StoreError::Conflict { .. }), "{error}");
            store.incident(incident_id(1)).await.unwrap().unwrap().revision
        })
    };
    assert!(!writer.is_finished());
    disk.hold_syncs(false);
    let noted = writer.await.unwrap().unwrap();
    assert_eq!(stale.await.unwrap(), noted.revision);
    assert_eq!(changes.recv().await.unwrap().revision, noted.revision);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_gives_up_what_is_in_flight_and_goes_on_later() {
    let Faulty { disk, folder, store } = faulty();
    let incident = opened(&*store, 1).await;
    let first = store.receive(received(1)).await.unwrap();

    // One write is held in its sync; a chain of decisions gathers behind it, each relying on the one before.
    disk.hold_syncs(true);
    let held = {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.receive(received(2)).await })
    };
    let waiting = disk.clone();
    tokio::task::spawn_blocking(move || waiting.wait_for_held_sync()).await.unwrap();
    let mut chain = Vec::new();
    let mut revision = incident.revision;
    for link in 0..4 {
        let events =
            [quell_incident::Event::Noted { by: "person-1".to_owned(), text: format!("link {link}") }];
        let mut append =
            quell_store::Append::new(incident.id, revision, envelopes(incident.id, revision, events, at(5)));
        append.claims.push(if link == 0 {
            Claim::Take(lock("db-1", 1))
        } else {
            Claim::Hold(lock("db-1", 1))
        });
        revision = revision.next();
        let mut submitted = Box::pin({
            let store = Arc::clone(&store);
            async move { store.append(append).await }
        });
        // Polled once, so that the chain is submitted in its order.
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(submitted.as_mut().poll(&mut context).is_pending());
        chain.push(submitted);
    }
    disk.set_space_bytes(Some(100));
    disk.hold_syncs(false);
    held.await.unwrap().unwrap();
    for link in chain {
        let error = link.await.unwrap_err();
        assert!(matches!(error, StoreError::Full(_)) && error.is_retryable(), "{error}");
    }
    let seen = view::of(&*store).await;
    assert_eq!(seen.incidents[&incident.id].0, *incident, "nothing of the chain is there");
    assert_eq!(seen.locks[&target("db-1")], Default::default());
    assert_eq!(seen.received.len(), 2);

    // Still no space: every kind of write says so, and reading works.
    for _ in 0..3 {
        assert_eq!(name_of(&store.receive(received(3)).await.unwrap_err()), "Full");
        assert_eq!(name_of(&store.append(note(&incident, "x")).await.unwrap_err()), "Full");
        assert_eq!(name_of(&store.set_kill_switch(GateEpoch(0), release()).await.unwrap_err()), "Full");
        assert_eq!(name_of(&store.set_correlated(first, None).await.unwrap_err()), "Full");
        assert_eq!(view::of(&*store).await, seen);
    }
    disk.set_space_bytes(None);
    store.append(claim(&incident, vec![Claim::Take(lock("db-1", 1))])).await.unwrap();
    store.receive(received(3)).await.unwrap();
    store.set_kill_switch(GateEpoch(0), release()).await.unwrap();
    store.set_correlated(first, None).await.unwrap();
    store.health().await.unwrap();
    let seen = view::of(&*store).await;
    assert_eq!((seen.received.len(), seen.not_correlated), (3, 2));
    drop(store);
    assert_eq!(view::of(&open_on(&folder, &disk)).await, seen);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_after_a_full_disk_does_not_wait_for_received_alerts() {
    let Faulty { disk, store, .. } = faulty();
    let incident = opened(&*store, 1).await;
    store.append(note(&incident, "goes on")).await.unwrap();
    // The head of the journal is an alert, which nobody settles.
    store.receive(received(1)).await.unwrap();
    disk.set_space_bytes(Some(10));
    assert_eq!(name_of(&store.receive(received(2)).await.unwrap_err()), "Full");
    disk.set_space_bytes(None);
    let stale = store.append(note(&incident, "stale"));
    let error = tokio::time::timeout(Duration::from_secs(30), stale).await.unwrap().unwrap_err();
    assert!(matches!(error, StoreError::Conflict { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn space_that_comes_and_goes_under_many_writers_loses_nothing() {
    let Faulty { disk, folder, store } = faulty();
    let full = Arc::new(AtomicU64::new(0));
    let stored = Arc::new(AtomicU64::new(0));
    let over = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for number in 0..16 {
        let store = Arc::clone(&store);
        let (full, stored, over) = (Arc::clone(&full), Arc::clone(&stored), Arc::clone(&over));
        writers.spawn(Box::pin(async move {
            let mut incident: Option<Arc<Incident>> = None;
            while !over.load(Ordering::SeqCst) {
                let append = match &incident {
                    None => open(number, Priority::P2, at(1)),
                    Some(incident) => note(incident, "again"),
                };
                match store.append(append).await {
                    Ok(now) => {
                        stored.fetch_add(1, Ordering::SeqCst);
                        incident = Some(now);
                    }
                    Err(StoreError::Full(_)) => {
                        full.fetch_add(1, Ordering::SeqCst);
                    }
                    Err(other) => panic!("{other}"),
                }
                let read = store.incident(incident_id(number)).await.unwrap();
                assert_eq!(read, incident, "exactly what was answered is there");
            }
        }));
    }
    for _ in 0..10 {
        disk.set_space_bytes(Some(3_000));
        grown(&full, 16).await;
        disk.set_space_bytes(None);
        grown(&stored, 16).await;
    }
    over.store(true, Ordering::SeqCst);
    writers.join_all().await;
    let seen = view::of(&*store).await;
    let revisions: u64 = seen.rows.iter().map(|row| row.revision.0 - 1).sum();
    assert_eq!(revisions, stored.load(Ordering::SeqCst), "as many as were answered");
    drop(store);
    assert_eq!(view::of(&open_on(&folder, &disk)).await, seen);
}

/// Waits until a counter has grown by so much.
async fn grown(counter: &AtomicU64, by: u64) {
    let begun = tokio::time::Instant::now();
    let wanted = counter.load(Ordering::SeqCst) + by;
    while counter.load(Ordering::SeqCst) < wanted {
        assert!(begun.elapsed() < Duration::from_secs(60), "nothing goes on");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_failing_sync_is_final_until_it_is_opened_again() {
    let Faulty { disk, folder, store } = faulty();
    let incident = opened(&*store, 1).await;
    store.receive(received(1)).await.unwrap();
    let seen = view::of(&*store).await;
    disk.fail_sync_after(0);
    let error = store.append(claim(&incident, vec![Claim::Take(lock("db-1", 1))])).await.unwrap_err();
    assert!(matches!(error, StoreError::Failed(_)) && !error.is_retryable(), "{error}");
    for _ in 0..2 {
        assert_eq!(name_of(&store.append(note(&incident, "x")).await.unwrap_err()), "Failed");
        assert_eq!(name_of(&store.receive(received(2)).await.unwrap_err()), "Failed");
        assert_eq!(name_of(&store.set_kill_switch(GateEpoch(0), release()).await.unwrap_err()), "Failed");
        assert_eq!(name_of(&store.health().await.unwrap_err()), "Failed");
        assert_eq!(name_of(&store.failure().unwrap()), "Failed", "the daemon ends");
        assert_eq!(view::of(&*store).await, seen, "what is durable can still be read");
    }
    drop(store);
    let store = open_on(&folder, &disk.restart(Survival::None));
    assert_eq!(view::of(&store).await, seen);
    store.append(claim(&incident, vec![Claim::Take(lock("db-1", 1))])).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_knows_of_a_full_disk_before_and_after_a_write_and_heals_by_itself() {
    let Faulty { disk, store, .. } = faulty();
    store.receive(received(1)).await.unwrap();
    store.health().await.unwrap();
    for written in [false, true] {
        disk.set_space_bytes(Some(100));
        if written {
            assert_eq!(name_of(&store.receive(received(2)).await.unwrap_err()), "Full");
        }
        for _ in 0..2 {
            let error = store.health().await.unwrap_err();
            assert!(matches!(error, StoreError::Full(_)) && error.is_retryable(), "{error}");
        }
        assert!(store.failure().is_none(), "a full disk ends nobody");
        disk.set_space_bytes(None);
        // Nobody writes meanwhile: whoever is not healthy is asked for nothing.
        store.health().await.unwrap();
        store.receive(received(3)).await.unwrap();
        store.health().await.unwrap();
    }
    assert!(!disk.files().iter().any(|file| file.ends_with("room.probe")));
}

#[tokio::test]
async fn too_much_at_once_is_overload() {
    let folder = tempfile::tempdir().unwrap();
    let disk = SimulatedDisk::new();
    let mut options = options();
    options.journal.disk = Arc::new(disk.clone());
    options.journal.queue_requests_max = 2;
    let store = EmbeddedStore::open(folder.path(), options).unwrap();
    disk.hold_syncs(true);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let mut waiting = Vec::new();
    let refused = loop {
        let mut receive = Box::pin(store.receive(received(waiting.len() as u64)));
        let polled = receive.as_mut().poll(&mut context);
        // Once the writer waits for the disk it takes nothing more out of the queue.
        assert!(disk.wait_for_held_sync());
        match polled {
            std::task::Poll::Pending => waiting.push(receive),
            std::task::Poll::Ready(answer) => break answer.unwrap_err(),
        }
    };
    assert!(matches!(refused, StoreError::Overloaded) && refused.is_retryable(), "{refused}");
    let refused = store.append(open(1, Priority::P0, at(1))).await.unwrap_err();
    assert!(matches!(refused, StoreError::Overloaded), "{refused}");
    disk.hold_syncs(false);
    let sent = waiting.len();
    for receive in waiting {
        receive.await.unwrap();
    }
    store.append(open(1, Priority::P0, at(1))).await.unwrap();
    let all = view::received(&store, ReceivedPosition::default()).await;
    assert_eq!(all.len(), sent, "all that were taken, none that was refused");
}
