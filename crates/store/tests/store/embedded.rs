//! The embedded store over its life: closed and opened, with and without its index.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use quell_incident::gate::{KillSwitch, Throw};
use quell_incident::ids::{Digest, GateEpoch};
use quell_incident::severity::Priority;
use quell_incident::workflow::Claim;
use quell_journal::{Journal, Record};
use quell_store::{EmbeddedStore, IncidentStore, ListQuery, Options, StoreError};
use tokio::task::JoinSet;

use crate::fixtures::*;
use crate::view::{self, View};

pub(crate) fn options() -> Options {
    Options { index_cache_bytes: 1 << 20, ..Options::new(uuid::Uuid::from_u128(77)) }
}

pub(crate) fn reopened(folder: &Path) -> EmbeddedStore {
    EmbeddedStore::open(folder, options()).unwrap()
}

/// One of everything: open, closed and locked incidents, messages, switches, received alerts.
pub(crate) async fn fill<S: IncidentStore + ?Sized>(store: &S) {
    for number in 0..6 {
        store.receive(received(number)).await.unwrap();
        let append = open(number, Priority::ALL[number as usize % 4], at(number as i64));
        let append = append.answering(message(number), Digest::of_bytes(b"content"));
        let incident = store.append(append).await.unwrap();
        let incident = store.append(note(&incident, "looked at")).await.unwrap();
        match number {
            0..=2 => drop(store.append(close(&incident)).await.unwrap()),
            3 => {
                let cool = cool_down("HighMemoryUsage", "db-1", "restart", at(1_000));
                let claims = vec![Claim::Take(lock("db-1", 1)), Claim::CoolDown(cool)];
                let incident = store.append(claim(&incident, claims)).await.unwrap();
                let claims = vec![Claim::Release(lock("db-1", 1)), Claim::Take(lock("db-2", 1))];
                store.append(claim(&incident, claims)).await.unwrap();
            }
            _ => {}
        }
    }
    let switch = KillSwitch { by: "person-1".to_owned(), why: "a drill".to_owned(), at: at(60) };
    store.set_kill_switch(GateEpoch(0), Throw::Engage(switch)).await.unwrap();
    let some = store.received_after(quell_store::ReceivedPosition::default(), 4).await.unwrap();
    store.set_correlated(some[3].0, None).await.unwrap();
}

/// A filled store that was closed in good order, with what could be seen of it.
async fn filled() -> (tempfile::TempDir, View) {
    let folder = tempfile::tempdir().unwrap();
    let store = reopened(folder.path());
    fill(&store).await;
    let seen = view::of(&store).await;
    assert_eq!((seen.rows.len(), seen.unfinished.len(), seen.not_correlated), (6, 3, 2));
    drop(store);
    (folder, seen)
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// It must still be a store that works, not only one that can be looked at.
async fn goes_on(store: &EmbeddedStore) {
    let incident = opened(store, 50).await;
    store.append(note(&incident, "goes on")).await.unwrap();
    let closed = store.incident(incident_id(0)).await.unwrap().unwrap();
    store.append(note(&closed, "goes on")).await.unwrap();
    let other = store.incident(incident_id(4)).await.unwrap().unwrap();
    store.append(claim(&other, vec![Claim::Take(lock("db-2", 2))])).await.unwrap_err();
    store.append(claim(&other, vec![Claim::Take(lock("db-1", 2))])).await.unwrap();
    let again = open(60, Priority::P1, at(1)).answering(message(0), Digest::of_bytes(b"content"));
    assert!(matches!(store.append(again).await, Err(StoreError::MessageTaken { same_content: true, .. })));
    assert_eq!(store.list(&ListQuery::default()).await.unwrap().total, 7);
}

#[tokio::test]
async fn reopened_it_is_what_it_was() {
    let (folder, seen) = filled().await;
    for _ in 0..2 {
        let store = reopened(folder.path());
        assert!(!store.report().journal.created);
        assert_eq!(store.report().index_rebuilt_because, None);
        assert_eq!(store.report().records_replayed, 0, "the index had everything");
        assert_eq!(view::of(&store).await, seen);
    }
    let store = reopened(folder.path());
    goes_on(&store).await;
    let seen = view::of(&store).await;
    drop(store);
    assert_eq!(view::of(&reopened(folder.path())).await, seen);
}

#[tokio::test]
async fn without_its_index_it_is_what_it_was() {
    let (folder, seen) = filled().await;
    fs::remove_dir_all(folder.path().join("index")).unwrap();
    let store = reopened(folder.path());
    assert!(store.report().records_replayed > 15);
    assert_eq!(view::of(&store).await, seen);
    goes_on(&store).await;
}

#[tokio::test]
async fn with_a_garbled_index_it_is_what_it_was() {
    for name in ["db", "conf"] {
        let (folder, seen) = filled().await;
        let path = folder.path().join("index").join(name);
        assert!(path.exists(), "{name}");
        fs::write(path, b"garbage".repeat(9_000)).unwrap();
        let store = reopened(folder.path());
        assert_eq!(view::of(&store).await, seen, "{name}");
        assert!(store.report().records_replayed > 15, "{name}: it was rebuilt");
        goes_on(&store).await;
    }
}

#[tokio::test]
async fn every_flipped_region_of_the_index_is_survived() {
    let (folder, seen) = filled().await;
    let path = folder.path().join("index/db");
    let sound = fs::read(&path).unwrap();
    let used = sound.iter().rposition(|byte| *byte != 0).unwrap();
    for part in 0..24 {
        let begin = used * part / 24;
        let mut damaged = sound.clone();
        for byte in &mut damaged[begin..begin + 64] {
            *byte ^= 0x5a;
        }
        fs::write(&path, damaged).unwrap();
        let store = reopened(folder.path());
        assert_eq!(view::of(&store).await, seen, "part {part}");
        drop(store);
    }
    assert!(names(folder.path()).iter().filter(|name| name.starts_with("index.bad-")).count() <= 3);
}

#[tokio::test]
async fn a_snapshot_that_was_never_finished_does_no_harm() {
    let (folder, seen) = filled().await;
    let left = folder.path().join("index/snap.0000000000000042.generating");
    fs::write(&left, b"half").unwrap();
    let store = reopened(folder.path());
    assert_eq!(store.report().index_rebuilt_because, None);
    assert!(!left.exists());
    assert_eq!(view::of(&store).await, seen);
}

#[tokio::test]
async fn an_index_of_another_format_is_put_aside_and_one_of_another_journal_is_refused() {
    let (folder, seen) = filled().await;
    let index = folder.path().join("index");
    let db = sled::open(&index).unwrap();
    db.insert(b"!format", b"quell-index/0").unwrap();
    drop(db);
    let store = reopened(folder.path());
    assert!(store.report().index_rebuilt_because.as_ref().unwrap().contains("quell-index/0"));
    assert_eq!(view::of(&store).await, seen);
    drop(store);
    assert_eq!(names(folder.path()), ["index", "index.bad-1", "journal"]);

    let (other, _) = filled().await;
    let more = reopened(other.path());
    opened(&more, 99).await;
    drop(more);
    fs::remove_dir_all(&index).unwrap();
    fs::rename(other.path().join("index"), &index).unwrap();
    let error = EmbeddedStore::open(folder.path(), options()).unwrap_err();
    assert!(matches!(error, StoreError::Lost { .. }), "one of both was exchanged: {error}");
}

#[tokio::test]
async fn an_index_that_lost_or_changed_what_decisions_rely_on_is_made_anew() {
    for first in [b"C", b"K", b"L", b"!site", b"!correlated", b"!seal"] as [&[u8]; 6] {
        for remove in [true, false] {
            let (folder, seen) = filled().await;
            let db = sled::open(folder.path().join("index")).unwrap();
            let (key, value) = db.scan_prefix(first).next().unwrap().unwrap();
            if remove {
                db.remove(&key).unwrap();
            } else {
                db.insert(&key, [&value[..], b" "].concat()).unwrap();
            }
            drop(db);
            let store = reopened(folder.path());
            assert!(store.report().index_rebuilt_because.is_some(), "{}", first.escape_ascii());
            assert_eq!(view::of(&store).await, seen);
            drop(store);
            assert_eq!(reopened(folder.path()).report().index_rebuilt_because, None);
        }
    }
}

#[tokio::test]
async fn a_second_one_is_refused_by_name() {
    let (folder, seen) = filled().await;
    let store = reopened(folder.path());
    let error = EmbeddedStore::open(folder.path(), options()).unwrap_err();
    let StoreError::Locked { folder: named, pid } = &error else { panic!("{error}") };
    assert_eq!((named.as_path(), *pid), (folder.path(), Some(std::process::id())));
    assert!(error.to_string().contains("stop that process or set another folder"), "{error}");
    assert_eq!(view::of(&store).await, seen, "the first one is not disturbed");
}

/// Appends a record as another program would write it.
fn write_by_hand(folder: &Path, payload: &str) {
    let options = quell_journal::Options::new(uuid::Uuid::from_u128(77));
    let (journal, _) = Journal::open(&folder.join("journal"), options).unwrap();
    journal.append_blocking(vec![Record::new(2, payload)]).unwrap();
}

#[tokio::test]
async fn an_event_of_a_newer_program_leaves_that_incident_alone() {
    let (folder, _) = filled().await;
    let id = incident_id(4);
    let (before, other, listed) = {
        let store = reopened(folder.path());
        let other = store.incident(incident_id(5)).await.unwrap().unwrap();
        (store.incident(id).await.unwrap().unwrap(), other, store.list(&ListQuery::default()).await.unwrap())
    };
    let revision = before.revision.0;
    let head = format!(
        r#"{{"schema":1,"incident_id":"{id}","expected":"{revision}","at":"2024-01-01T00:00:00Z","claims":[{{"kind":"take","lock":{{"target":"web-1","token":"1"}}}}],"events":1}}"#
    );
    let event = format!(
        r#"{{"id":"{id}","incident_id":"{id}","revision":"{}","tenant":"default","at":"2024-01-01T00:00:00Z","actor":"x","policy":"{}","version":9,"type":"dreamt","data":{{"of":"sheep"}}}}"#,
        revision + 1,
        Digest::of_bytes(b"policy")
    );
    write_by_hand(folder.path(), &format!("{head}\n{event}"));

    for rebuilt in [false, true, false] {
        if rebuilt {
            fs::remove_dir_all(folder.path().join("index")).unwrap();
        }
        let store = reopened(folder.path());
        assert_eq!(store.report().left_alone, [id]);
        let newer = |error: StoreError| {
            let named = matches!(&error, StoreError::UnknownEvent { incident_id, kind, version: 9 }
                if *incident_id == id && kind == "dreamt");
            assert!(named && !error.is_retryable(), "{error}");
        };
        newer(store.incident(id).await.unwrap_err());
        newer(store.log(id).await.unwrap_err());
        newer(store.append(note(&before, "x")).await.unwrap_err());
        assert_eq!(store.unfinished().await.unwrap(), [other.id, incident_id(3)]);
        // Its row is that of what could be read, and the lock that it took is held.
        assert_eq!(store.list(&ListQuery::default()).await.unwrap(), listed);
        let web = target("web-1");
        assert_eq!(store.locks(std::slice::from_ref(&web)).await.unwrap()[&web].holder, Some(id));
        store.append(claim(&other, vec![Claim::Take(lock("web-1", 2))])).await.unwrap_err();
    }
    let store = reopened(folder.path());
    let noted = store.append(note(&other, "others go on")).await.unwrap();
    assert_eq!(store.incident(other.id).await.unwrap().unwrap(), noted);
    store.health().await.unwrap();
}

#[tokio::test]
async fn events_that_cannot_follow_leave_that_incident_alone() {
    let (folder, _) = filled().await;
    let id = incident_id(4);
    let head = format!(
        r#"{{"schema":1,"incident_id":"{id}","expected":"3","at":"2024-01-01T00:00:00Z","claims":[],"events":1}}"#
    );
    let event = format!(
        r#"{{"id":"{id}","incident_id":"{id}","revision":"4","tenant":"default","at":"2024-01-01T00:00:00Z","actor":"x","policy":"{}","version":1,"type":"handed_back","data":{{"by":"x"}}}}"#,
        Digest::of_bytes(b"policy")
    );
    write_by_hand(folder.path(), &format!("{head}\n{event}"));
    let store = reopened(folder.path());
    assert_eq!(store.report().left_alone, [id]);
    let error = store.incident(id).await.unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    assert_eq!(store.log(id).await.unwrap().len(), 4, "for a look at it");
    goes_on_without(&store).await;
}

async fn goes_on_without(store: &EmbeddedStore) {
    let incident = opened(store, 50).await;
    store.append(note(&incident, "goes on")).await.unwrap();
}

#[tokio::test]
async fn a_record_of_a_newer_program_is_named() {
    let (folder, _) = filled().await;
    write_by_hand(folder.path(), r#"{"schema":2,"what":"ever"}"#);
    let error = EmbeddedStore::open(folder.path(), options()).unwrap_err();
    assert!(matches!(error, StoreError::Record { .. }), "{error}");
    assert!(error.to_string().contains("run the version that wrote it"), "{error}");
}

#[tokio::test]
async fn a_request_that_is_too_large_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = options();
    options.journal.record_bytes_max = 20_000;
    let store = EmbeddedStore::open(folder.path(), options).unwrap();
    let incident = opened(&store, 1).await;
    let error = store.append(note(&incident, &"x".repeat(30_000))).await.unwrap_err();
    assert!(matches!(error, StoreError::TooLarge { bytes_max: 20_000, .. }), "{error}");
    let mut batch = received(1);
    batch.alerts = vec![batch.alerts[0].clone(); 200];
    let error = store.receive(batch).await.unwrap_err();
    assert!(matches!(error, StoreError::TooLarge { .. }) && !error.is_retryable(), "{error}");
    store.append(note(&incident, "small")).await.unwrap();
}

#[tokio::test]
async fn a_write_whose_caller_has_gone_is_made_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let store = reopened(folder.path());
    let mut incident = opened(&store, 1).await;
    let mut changes = store.changes();
    loop {
        let mut append = Box::pin(store.append(note(&incident, "written")));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match append.as_mut().poll(&mut context) {
            // Submitted, and dropped before the answer.
            std::task::Poll::Pending => break,
            // The writer was done before this thread had looked.
            std::task::Poll::Ready(written) => incident = written.unwrap(),
        }
        changes.recv().await.unwrap();
    }
    let changed = changes.recv().await.unwrap();
    assert_eq!(changed.revision, incident.revision.next());
    assert_eq!(store.incident(incident.id).await.unwrap().unwrap().revision, changed.revision);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixty_four_writers_share_commits_and_locks() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(reopened(folder.path()));
    let mut writers = JoinSet::new();
    for number in 0..64 {
        let store = Arc::clone(&store);
        writers.spawn(Box::pin(async move {
            let mut incident = opened(&*store, number).await;
            let mut taken = 0;
            for round in 0..6 {
                store.receive(received(number)).await.unwrap();
                incident = store.append(note(&incident, &format!("round {round}"))).await.unwrap();
                let name = view::TARGETS[(number as usize + round) % 3];
                let read = store.locks(&[target(name)]).await.unwrap();
                let token = read[&target(name)].token.0 + 1;
                match store.append(claim(&incident, vec![Claim::Take(lock(name, token))])).await {
                    Ok(now) => {
                        taken += 1;
                        let held = vec![Claim::Hold(lock(name, token)), Claim::Release(lock(name, token))];
                        incident = store.append(claim(&now, held)).await.unwrap();
                    }
                    Err(StoreError::ClaimRefused { .. }) => {}
                    Err(other) => panic!("{other}"),
                }
            }
            taken
        }));
    }
    let taken: u64 = writers.join_all().await.into_iter().sum();
    let seen = view::of(&*store).await;
    assert_eq!(seen.locks.values().map(|lock| lock.token.0).sum::<u64>(), taken, "no token was given twice");
    assert!(seen.locks.values().all(|lock| lock.holder.is_none()));
    assert_eq!((seen.received.len(), seen.rows.len()), (64 * 6, 64));
    drop(store);
    assert_eq!(view::of(&reopened(folder.path())).await, seen);
}
