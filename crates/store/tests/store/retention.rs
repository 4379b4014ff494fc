//! What is over is dropped, what is not is kept, also when it is interrupted anywhere.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use quell_incident::ids::Digest;
use quell_incident::severity::Priority;
use quell_incident::workflow::Claim;
use quell_journal::{SimulatedDisk, Survival};
use quell_store::{
    EmbeddedStore, IncidentStore, ListQuery, Options, ReceivedPosition, Retained, Retention, RetentionBudget,
    audit,
};

use crate::embedded::options;
use crate::fixtures::*;
use crate::{conformance, view};

fn small_segments() -> Options {
    let mut options = options();
    options.journal.segment_bytes_max = 16 << 10;
    options
}

fn opened_small(folder: &Path) -> EmbeddedStore {
    EmbeddedStore::open(folder, small_segments()).unwrap()
}

pub(crate) fn tiny() -> Retention {
    Retention { closed_incidents: Some(Duration::from_secs(60)), received: Some(Duration::from_secs(30)) }
}

/// Long after everything that tests do.
pub(crate) fn later() -> Timestamp {
    at(1_000_000)
}

pub(crate) async fn retained_all<S: IncidentStore + ?Sized>(store: &S, now: Timestamp) -> Retained {
    // What the index does not have yet is left for the next call: wait for it.
    store.list(&ListQuery::default()).await.unwrap();
    let mut sum = Retained::default();
    let budget = RetentionBudget { incidents_max: 40, segments_max: 3, ..RetentionBudget::default() };
    for _ in 0..200 {
        let one = store.retain(&tiny(), now, &budget).await.unwrap();
        sum.incidents += one.incidents;
        sum.payloads_given_up += one.payloads_given_up;
        sum.segments += one.segments;
        sum.bytes_freed += one.bytes_freed;
        if !one.more {
            return sum;
        }
    }
    panic!("retention does not end");
}

/// Received, opened, noted, closed.
pub(crate) async fn lived<S: IncidentStore + ?Sized>(store: &S, number: u64) {
    let position = store.receive(received(number)).await.unwrap();
    let append = open(number, Priority::P1, at(number as i64));
    let append = append.answering(message(number), Digest::of_bytes(b"content"));
    let incident = store.append(append).await.unwrap();
    let incident = store.append(note(&incident, &"looked at ".repeat(40))).await.unwrap();
    store.append(close(&incident)).await.unwrap();
    store.set_correlated(position, None).await.unwrap();
}

fn journal_bytes(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder.join("journal")).unwrap();
    files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
}

#[tokio::test]
async fn the_journal_says_what_went() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(opened_small(folder.path()));
    conformance::retention::what_is_over_goes_and_what_is_open_stays(Arc::clone(&store)).await;
    let report = audit::verify(folder.path(), &[]).unwrap();
    assert_eq!(report.finding, None);
    assert!(report.retention_records >= 1);
}

#[tokio::test]
async fn after_it_the_store_is_the_same_with_and_without_its_index_and_the_chain_holds() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened_small(folder.path());
    for number in 0..60 {
        lived(&store, number).await;
        if number % 10 == 0 {
            let incident = opened(&store, 1_000 + number).await;
            let name = format!("db-{}", number / 10);
            store.append(claim(&incident, vec![Claim::Take(lock(&name, 1))])).await.unwrap();
        }
    }
    let head_before = store.chain_head().await.unwrap().unwrap();
    let before = journal_bytes(folder.path());
    let sum = retained_all(&store, later()).await;
    assert_eq!(sum.incidents, 60);
    assert!(sum.segments > 2 && sum.bytes_freed > before / 3, "{sum:?} of {before}");
    assert!(journal_bytes(folder.path()) < before);
    let seen = view::of(&store).await;
    assert_eq!(seen.rows.len(), 6);
    for (id, (incident, log)) in &seen.incidents {
        assert_eq!(log.len() as u64, incident.revision.0, "{id}");
    }
    drop(store);
    let key = audit::SigningKey::generate().unwrap();
    let anchor = key.sign(head_before, at(0)).unwrap();
    let report = audit::verify(folder.path(), std::slice::from_ref(&anchor)).unwrap();
    assert_eq!((report.finding, report.anchors_agreeing), (None, 1));
    assert!(report.dropped > 100, "{}", report.dropped);
    for rebuilt in [false, true, false] {
        if rebuilt {
            std::fs::remove_dir_all(folder.path().join("index")).unwrap();
        }
        let store = opened_small(folder.path());
        assert_eq!(store.report().left_alone, [], "rebuilt: {rebuilt}");
        assert_eq!(view::of(&store).await, seen, "rebuilt: {rebuilt}");
        assert_eq!(retained_all(&store, later()).await.incidents, 0);
    }
}

/// The bound: what is kept, a hundred bytes for each record that ever was, the retention records, and one segment that is open.
#[tokio::test]
async fn under_churn_the_disk_does_not_fill() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = small_segments();
    options.index_bloat_bytes_min = 4 << 20;
    let store = EmbeddedStore::open(folder.path(), options).unwrap();
    let mut written = 0;
    for round in 0..10_u64 {
        for number in 0..60 {
            lived(&store, round * 60 + number).await;
        }
        retained_all(&store, later()).await;
        let head = store.chain_head().await.unwrap().unwrap().head;
        let bytes = journal_bytes(folder.path());
        let bound = head.sequence * 100 + (2 * (16 << 10)) + 60 * 6_000 / 4 + (round + 1) * 8_000;
        assert!(bytes < bound, "round {round}: {bytes} of {bound}");
        written = head.sequence;
        assert_eq!(store.list(&ListQuery::default()).await.unwrap().total, 0);
    }
    assert!(written > 600 * 5);
    let index: u64 = walk(&folder.path().join("index"));
    assert!(index < 16 << 20, "{index}");
    assert_eq!(audit::verify(folder.path(), &[]).unwrap().finding, None);
}

fn walk(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries
        .map(|entry| {
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() { walk(&entry.path()) } else { metadata.len() }
        })
        .sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_far_larger_than_its_content_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = small_segments();
    options.index_bloat_bytes_min = 1;
    let store = EmbeddedStore::open(folder.path(), options).unwrap();
    lived(&store, 1).await;
    opened(&store, 2).await;
    // A folder of sled is never small, so this content is far smaller.
    store.retain(&tiny(), at(0), &RetentionBudget::default()).await.unwrap();
    let begun = tokio::time::Instant::now();
    loop {
        match store.list(&ListQuery::default()).await {
            Ok(page) => {
                assert_eq!(page.total, 2);
                break;
            }
            Err(error) => {
                assert!(error.is_retryable() && begun.elapsed() < Duration::from_secs(30), "{error}")
            }
        }
    }
    assert!(!folder.path().join("index.bad-1").exists(), "there was nothing wrong with it");
}

/// The power goes at every operation of retention, with any part of what was not synced surviving.
#[tokio::test]
async fn a_cut_at_any_step_loses_nothing_that_is_not_to_be_dropped() {
    let prepared = || async {
        let folder = tempfile::tempdir().unwrap();
        let disk = SimulatedDisk::new();
        let store = on(folder.path(), &disk);
        for number in 0..12 {
            lived(&store, number).await;
        }
        for number in 100..104 {
            let incident = opened(&store, number).await;
            store.append(claim(&incident, vec![Claim::Take(lock(&format!("t-{number}"), 1))])).await.unwrap();
        }
        // The index has all of it.
        assert_eq!(store.list(&ListQuery::default()).await.unwrap().total, 16);
        (folder, disk, store)
    };
    let mut dropped_in_the_end = 0;
    for cut in 0..40 {
        let (folder, disk, store) = prepared().await;
        let budget = RetentionBudget { segments_max: 10, ..RetentionBudget::default() };
        disk.cut_power_after(cut);
        let _ = store.retain(&tiny(), later(), &budget).await;
        drop(store);
        let survival = if cut % 3 == 0 { Survival::All } else { Survival::Random(cut) };
        let disk = disk.restart(survival);
        // The index may be from any time before.
        if cut % 2 == 0 {
            std::fs::remove_dir_all(folder.path().join("index")).unwrap();
        }
        let store = on(folder.path(), &disk);
        assert!(store.report().left_alone.is_empty(), "cut {cut}");
        for number in 100..104 {
            let incident = store.incident(incident_id(number)).await.unwrap().unwrap();
            assert_eq!(store.log(incident.id).await.unwrap().len() as u64, incident.revision.0);
            let target = target(&format!("t-{number}"));
            assert_eq!(
                store.locks(std::slice::from_ref(&target)).await.unwrap()[&target].holder,
                Some(incident.id)
            );
        }
        let closed = store.list(&ListQuery::default()).await.unwrap().total - 4;
        assert!(
            closed == 0 || closed == 12,
            "cut {cut}: all or none, as the record is there or not: {closed}"
        );
        dropped_in_the_end += u64::from(closed == 0);
        retained_all(&store, later()).await;
        assert_eq!(store.list(&ListQuery::default()).await.unwrap().total, 4);
    }
    assert!(dropped_in_the_end > 5, "cuts after the record too");
}

fn on(folder: &Path, disk: &SimulatedDisk) -> EmbeddedStore {
    let mut options = small_segments();
    options.journal.segment_bytes_max = 8 << 10;
    options.journal.disk = Arc::new(disk.clone());
    EmbeddedStore::open(folder, options).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_and_readers_are_not_disturbed() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(opened_small(folder.path()));
    let writer = {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for number in 0..150 {
                lived(&*store, number).await;
            }
        })
    };
    let reader = {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for number in (0..150).chain(0..150) {
                let id = incident_id(number);
                let incident = store.incident(id).await.unwrap();
                let log = store.log(id).await.unwrap();
                // It may be dropped between the two, and never be there in part.
                let all = incident.is_none_or(|incident| log.len() as u64 >= incident.revision.0);
                assert!(all || log.is_empty());
                store.list(&ListQuery::default()).await.unwrap();
                store.received_after(ReceivedPosition::default(), 10).await.unwrap();
            }
        })
    };
    while !writer.is_finished() {
        retained_all(&*store, later()).await;
        tokio::task::yield_now().await;
    }
    writer.await.unwrap();
    reader.await.unwrap();
    retained_all(&*store, later()).await;
    assert_eq!(store.list(&ListQuery::default()).await.unwrap().total, 0);
    drop(store);
    assert_eq!(audit::verify(folder.path(), &[]).unwrap().finding, None);
    opened_small(folder.path());
}
