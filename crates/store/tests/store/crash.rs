//! What is there after the process or the power was cut: always what a prefix of the history has made, with all that was
//! answered in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quell_incident::ids::GateEpoch;
use quell_incident::severity::Priority;
use quell_incident::workflow::Claim;
use quell_journal::{Journal, SimulatedDisk, Survival};
use quell_store::{EmbeddedStore, IncidentStore, Options, ReceivedPosition, StoreError};

use crate::embedded::{fill, options, reopened};
use crate::fixtures::*;
use crate::view::{self, View};

/// One record each time: what it makes is seen after it.
async fn step(store: &EmbeddedStore, number: u64) {
    let id = incident_id(number / 4);
    let incident = store.incident(id).await.unwrap();
    match (number % 4, incident) {
        (0, _) => drop(store.append(open(number / 4, Priority::P2, at(number as i64))).await.unwrap()),
        (1, Some(incident)) => {
            let cool = cool_down("HighMemoryUsage", "db-1", "restart", at(number as i64 + 500));
            let take = Claim::Take(lock("db-1", number / 4 + 1));
            let append = claim(&incident, vec![take, Claim::CoolDown(cool)]);
            let append = append.answering(message(number / 4), quell_incident::Digest::of_bytes(b"m"));
            store.append(append).await.unwrap();
        }
        (2, Some(incident)) => {
            let mut append = close(&incident);
            append.claims.push(Claim::Release(lock("db-1", number / 4 + 1)));
            store.append(append).await.unwrap();
        }
        (3, _) if number % 8 == 3 => drop(store.receive(received(number)).await.unwrap()),
        (3, _) if number % 16 == 7 => {
            let all = view::received(store, ReceivedPosition::default()).await;
            store.set_correlated(all.last().unwrap().0, None).await.unwrap();
        }
        _ => {
            let epoch = store.site_gates().await.unwrap().epoch;
            store.set_kill_switch(epoch, release()).await.unwrap();
        }
    }
}

const STEPS: u64 = 20;

/// A history of single records, with what was seen after each of them.
async fn history(folder: &Path) -> Vec<View> {
    let store = reopened(folder);
    let mut seen = vec![view::of(&store).await];
    for number in 0..STEPS {
        step(&store, number).await;
        seen.push(view::of(&store).await);
    }
    seen
}

pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The segment, and where each record begins in it; the last number is its length.
fn boundaries(folder: &Path) -> (PathBuf, Vec<u64>) {
    let journal_options = quell_journal::Options::new(uuid::Uuid::from_u128(77));
    let (journal, report) = Journal::open(&folder.join("journal"), journal_options).unwrap();
    assert_eq!(report.segments, 1);
    let mut begins: Vec<u64> = journal.iter_from(1).map(|entry| entry.unwrap().position.offset).collect();
    drop(journal);
    let segments = fs::read_dir(folder.join("journal")).unwrap().map(|entry| entry.unwrap().path());
    let segment = segments.max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    begins.push(segment.metadata().unwrap().len());
    (segment, begins)
}

#[tokio::test]
async fn a_journal_cut_anywhere_is_what_a_prefix_of_the_history_made() {
    let folder = tempfile::tempdir().unwrap();
    let seen = history(folder.path()).await;
    let (segment, begins) = boundaries(folder.path());
    assert_eq!(begins.len() as u64, STEPS + 1);
    let segment = segment.strip_prefix(folder.path()).unwrap();
    for (records, begin) in begins.iter().enumerate() {
        let next = begins.get(records + 1).copied().unwrap_or(*begin);
        // At the boundary, and inside of the record behind it; with an index that is ahead, and with none.
        for (length, with_index) in [(*begin, true), (*begin, false), ((begin + next) / 2, false)] {
            let cut = tempfile::tempdir().unwrap();
            copy(folder.path(), cut.path());
            let file = fs::OpenOptions::new().write(true).open(cut.path().join(segment)).unwrap();
            file.set_len(length).unwrap();
            // Without an index nobody knows any more how far the journal was durable.
            fs::remove_file(cut.path().join("journal/durable.mark")).unwrap();
            if !with_index {
                fs::remove_dir_all(cut.path().join("index")).unwrap();
            }
            if with_index && records as u64 != STEPS {
                let error = EmbeddedStore::open(cut.path(), options()).unwrap_err();
                assert!(matches!(error, StoreError::Lost { at, .. } if at == records as u64), "{error}");
                continue;
            }
            let store = reopened(cut.path());
            assert_eq!(store.report().unwitnessed, !with_index && records > 0);
            let seen = seen[records].clone();
            let seen = if store.report().unwitnessed { seen.after_a_loss() } else { seen };
            assert_eq!(view::of(&store).await, seen, "{records} records, length {length}");
            // And it goes on from there.
            opened(&store, 1_000).await;
        }
    }
}

#[tokio::test]
async fn after_a_kill_all_that_was_answered_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let store = reopened(folder.path());
    fill(&store).await;
    let seen = view::of(&store).await;
    // What a killed process leaves behind: the files as they are now, without what sled still holds in memory.
    let killed = tempfile::tempdir().unwrap();
    copy(folder.path(), killed.path());
    assert_eq!(view::of(&reopened(killed.path())).await, seen);
}

fn on(disk: &SimulatedDisk) -> Options {
    let mut options = options();
    options.journal.disk = Arc::new(disk.clone());
    options
}

#[tokio::test]
async fn after_a_power_cut_all_that_was_answered_is_there() {
    for cut_after in (0..70).step_by(3) {
        let folder = tempfile::tempdir().unwrap();
        let disk = SimulatedDisk::new();
        let store = EmbeddedStore::open(folder.path(), on(&disk)).unwrap();
        let mut seen = vec![view::of(&store).await];
        disk.cut_power_after(cut_after);
        let mut incidents = Vec::new();
        for number in 0..24 {
            match store.append(open(number, Priority::P2, at(number as i64))).await {
                Ok(incident) => incidents.push(incident),
                Err(error) => {
                    assert_eq!(name_of(&error), "Failed", "{error}");
                    break;
                }
            }
            seen.push(view::of(&store).await);
        }
        disk.cut_power();
        store.append(open(900, Priority::P2, at(1))).await.unwrap_err();
        drop(store);
        let answered = incidents.len();
        // All that the index was told is in it after the cut, so it would be ahead if it were ever told too early.
        let index = tempfile::tempdir().unwrap();
        copy(&folder.path().join("index"), index.path());
        let randoms = [(Survival::Random(cut_after), true), (Survival::Random(cut_after + 1), false)];
        for (survival, with_index) in
            [(Survival::None, true), (Survival::All, true)].into_iter().chain(randoms)
        {
            // The simulated disk goes by paths, so it is the same folder again.
            fs::remove_dir_all(folder.path().join("index")).unwrap();
            if with_index {
                copy(index.path(), &folder.path().join("index"));
            }
            let store = EmbeddedStore::open(folder.path(), on(&disk.restart(survival))).unwrap();
            let found = view::of(&store).await;
            // The one that was in flight may be there; nothing else.
            let in_flight = found.rows.len() - answered;
            assert!(in_flight <= 1, "{cut_after}: {answered} were answered, {} are there", found.rows.len());
            if in_flight == 0 {
                assert_eq!(found, seen[answered]);
            }
            for incident in &incidents {
                assert_eq!(store.incident(incident.id).await.unwrap().unwrap(), *incident);
            }
            opened(&store, 1_000).await;
        }
    }
}

#[tokio::test]
async fn a_journal_that_lost_what_was_answered_is_not_opened() {
    let folder = tempfile::tempdir().unwrap();
    let store = reopened(folder.path());
    opened(&store, 1).await;
    store.set_kill_switch(GateEpoch(0), release()).await.unwrap();
    drop(store);
    let (segment, begins) = boundaries(folder.path());
    fs::OpenOptions::new().write(true).open(segment).unwrap().set_len(begins[1]).unwrap();
    let error = EmbeddedStore::open(folder.path(), options()).unwrap_err();
    assert_eq!(name_of(&error), "Lost", "{error}");
    assert!(error.to_string().contains("acknowledged records are gone"), "{error}");
}
