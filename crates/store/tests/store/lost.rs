//! Acknowledged records that are gone or were exchanged: each way that a data folder can lose some is walked, from the error at the
//! start over the audit to the way out. And what a crash leaves, or what can be made anew, is no loss and raises no alarm.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use quell_incident::gate::{KillSwitch, Throw};
use quell_incident::ids::GateEpoch;
use quell_store::audit::{self, DurableMark, IndexState};
use quell_store::{
    EmbeddedStore, IncidentStore, LossAcceptance, Options, ReceivedPosition, StoreError, accept_loss,
};

use crate::crash::copy;
use crate::embedded::{fill, options};
use crate::fixtures::*;
use crate::view;

const HEADER: usize = 80;

/// Small segments, so that there are some.
fn small() -> Options {
    let mut options = options();
    options.journal.segment_bytes_max = 6_000;
    options
}

fn try_open(folder: &Path) -> Result<EmbeddedStore, StoreError> {
    EmbeddedStore::open(folder, small())
}

/// A store that ran and was closed in good order, what it was half-way, and another one of the same length.
struct Site {
    folder: tempfile::TempDir,
    half: tempfile::TempDir,
    other: tempfile::TempDir,
    records: u64,
}

async fn filled(folder: &Path) -> u64 {
    let store = try_open(folder).unwrap();
    fill(&store).await;
    store.put_document(incident_id(91), b"evidence".to_vec()).await.unwrap();
    // The last ones are no changes of the index.
    store.receive(received(70)).await.unwrap();
    store.receive(received(71)).await.unwrap();
    store.chain_head().await.unwrap().unwrap().head.sequence
}

impl Site {
    async fn new() -> Self {
        let [folder, half, other] = [(); 3].map(|()| tempfile::tempdir().unwrap());
        {
            let store = try_open(folder.path()).unwrap();
            for number in 90..94 {
                opened(&store, number).await;
            }
        }
        copy(folder.path(), half.path());
        let records = filled(folder.path()).await;
        {
            // The same identity and a sound chain: as somebody would write it who computes all hashes anew.
            let store = try_open(other.path()).unwrap();
            for number in 90..94 {
                opened(&store, number).await;
            }
        }
        assert_eq!(filled(other.path()).await, records);
        Self { folder, half, other, records }
    }
}

fn segments(folder: &Path) -> Vec<(u64, PathBuf)> {
    let entries = fs::read_dir(folder.join("journal")).unwrap().map(|entry| entry.unwrap().path());
    let journals = entries.filter(|path| path.extension().is_some_and(|extension| extension == "journal"));
    let mut found: Vec<_> =
        journals.map(|path| (path.file_stem().unwrap().to_str().unwrap().parse().unwrap(), path)).collect();
    found.sort();
    found
}

fn last(folder: &Path) -> (u64, PathBuf) {
    segments(folder).pop().unwrap()
}

fn middle(folder: &Path) -> (u64, PathBuf) {
    let all = segments(folder);
    assert!(all.len() >= 3, "{}", all.len());
    all[all.len() / 2].clone()
}

/// Cuts the last segment so many bytes after the border of its last record.
fn cut(folder: &Path, bytes_after: usize) {
    let (_, path) = last(folder);
    let mut content = fs::read(&path).unwrap();
    let (mut at, mut before) = (HEADER, HEADER);
    while at + 100 <= content.len() {
        before = at;
        at += 100 + u32::from_le_bytes(content[at + 4..at + 8].try_into().unwrap()) as usize;
    }
    content.truncate(before + bytes_after);
    fs::write(path, content).unwrap();
}

fn cut_to_one_record(folder: &Path) {
    let all = segments(folder);
    let (_, first) = &all[0];
    let mut content = fs::read(first).unwrap();
    content.truncate(
        HEADER + 100 + u32::from_le_bytes(content[HEADER + 4..HEADER + 8].try_into().unwrap()) as usize,
    );
    fs::write(first, content).unwrap();
    all[1..].iter().for_each(|(_, path)| fs::remove_file(path).unwrap());
}

fn remove_mark(folder: &Path) {
    fs::remove_file(folder.join("journal/durable.mark")).unwrap();
}

fn remove_index(folder: &Path) {
    fs::remove_dir_all(folder.join("index")).unwrap();
}

/// Everything but the lock and the index, whose files opening may touch.
fn content(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("index") {
                folders.push(path);
            } else if path.is_file() && !path.ends_with("LOCK") {
                found.insert(path.clone(), fs::read(path).unwrap());
            }
        }
    }
    found
}

/// What the start says, and where the journal ends by it.
fn refusal(folder: &Path, case: &str) -> (u64, String) {
    let before = content(folder);
    let error = match try_open(folder) {
        Err(error) => error,
        Ok(store) => panic!("{case}: it opened: {:?}", store.report()),
    };
    assert_eq!(content(folder), before, "{case}: refusing changes nothing");
    let text = error.to_string();
    match error {
        StoreError::Lost { at, .. } => (at, text),
        other => panic!("{case}: {other}"),
    }
}

fn acceptance(ended_at: u64) -> LossAcceptance {
    LossAcceptance {
        ended_at,
        by: "person-1".to_owned(),
        why: "no backup".to_owned(),
        at: at(5_000),
        new_journal_id: uuid::Uuid::from_u128(78),
    }
}

type Damage = fn(&Path, &Site);

/// What was done, how, and what the start must name besides both ends.
const LOSSES: [(&str, Damage, &str); 20] = [
    (
        "the journal's folder is removed",
        |data, _| fs::remove_dir_all(data.join("journal")).unwrap(),
        "no journal",
    ),
    (
        "all of the journal's files are removed",
        |data, _| {
            fs::remove_dir_all(data.join("journal")).unwrap();
            fs::create_dir(data.join("journal")).unwrap();
        },
        "the index",
    ),
    (
        "all segments are removed",
        |data, _| segments(data).iter().for_each(|(_, path)| fs::remove_file(path).unwrap()),
        "no journal",
    ),
    ("the first segment is removed", |data, _| fs::remove_file(&segments(data)[0].1).unwrap(), "record 1"),
    (
        "a middle segment is removed",
        |data, _| fs::remove_file(middle(data).1).unwrap(),
        "no segment that holds",
    ),
    (
        "the last segment is removed",
        |data, _| fs::remove_file(last(data).1).unwrap(),
        "acknowledged records are gone",
    ),
    (
        "the last segment and the mark are removed",
        |data, _| {
            fs::remove_file(last(data).1).unwrap();
            remove_mark(data);
        },
        "the index goes up to record",
    ),
    ("cut at a border", |data, _| cut(data, 0), "acknowledged records are gone"),
    ("cut in a header", |data, _| cut(data, 60), "acknowledged records are gone"),
    ("cut in a payload", |data, _| cut(data, 120), "acknowledged records are gone"),
    (
        "cut at a border and the mark removed",
        |data, _| {
            cut(data, 0);
            remove_mark(data);
        },
        "the index goes up to record",
    ),
    (
        "cut in a payload and the mark removed",
        |data, _| {
            cut(data, 120);
            remove_mark(data);
        },
        "the index goes up to record",
    ),
    (
        "cut and the mark overwritten",
        |data, _| {
            cut(data, 0);
            fs::write(data.join("journal/durable.mark"), b"rubbish").unwrap();
        },
        "the index goes up to record",
    ),
    (
        "cut and the index removed",
        |data, _| {
            cut(data, 0);
            remove_index(data);
        },
        "`durable.mark` goes up to record",
    ),
    (
        "an older copy of the journal is put back",
        |data, site| {
            fs::remove_dir_all(data.join("journal")).unwrap();
            copy(&site.half.path().join("journal"), &data.join("journal"));
        },
        "the index goes up to record",
    ),
    (
        "the chain is rewritten, its mark as well",
        |data, site| {
            fs::remove_dir_all(data.join("journal")).unwrap();
            copy(&site.other.path().join("journal"), &data.join("journal"));
        },
        "the journal was rewritten",
    ),
    (
        "the mark is another journal's",
        |data, _| {
            let other = tempfile::tempdir().unwrap();
            let options = quell_journal::Options::new(uuid::Uuid::from_u128(5));
            let (journal, _) = quell_journal::Journal::open(other.path(), options).unwrap();
            journal.append_blocking(vec![quell_journal::Record::new(1, "x")]).unwrap();
            journal.close().unwrap();
            fs::copy(other.path().join("durable.mark"), data.join("journal/durable.mark")).unwrap();
        },
        "one of both was exchanged",
    ),
    (
        "journal and index are removed and evidence is left",
        |data, _| {
            fs::remove_dir_all(data.join("journal")).unwrap();
            remove_index(data);
            let of_incident = data.join("documents").join(incident_id(3).to_string());
            fs::create_dir_all(&of_incident).unwrap();
            fs::write(of_incident.join("x"), b"x").unwrap();
        },
        "the evidence in `documents` of 2 incidents such as",
    ),
    (
        "cut to one record and everything else that knows is removed",
        |data, _| {
            cut_to_one_record(data);
            remove_mark(data);
            remove_index(data);
        },
        "which the journal does not have",
    ),
    (
        "evidence of an incident that never was",
        |data, _| {
            let of_incident = data.join("documents").join(incident_id(4_000).to_string());
            fs::create_dir_all(&of_incident).unwrap();
            fs::write(of_incident.join("x"), b"x").unwrap();
        },
        "which the journal does not have",
    ),
];

#[tokio::test]
async fn every_loss_is_refused_at_the_start_named_by_the_audit_and_given_up_only_on_purpose() {
    let site = Site::new().await;
    for (case, damage, names) in LOSSES {
        let data = tempfile::tempdir().unwrap();
        let folder = data.path();
        copy(site.folder.path(), folder);
        damage(folder, &site);
        let audited = audit::verify(folder, &[]);
        assert!(audited.as_ref().is_ok_and(|report| report.finding.is_some()), "{case}: {audited:?}");

        let (at_record, said) = refusal(folder, case);
        assert!(said.contains(names), "{case}: {said}");
        assert!(
            said.contains(&format!("--at {at_record} ")) && said.contains("accept-loss"),
            "{case}: {said}"
        );
        assert_eq!(refusal(folder, case).0, at_record, "{case}: trying again changes nothing");
        assert!(at_record <= site.records, "{case}");

        let other = accept_loss(folder, &acceptance(at_record + 3)).unwrap_err();
        assert!(matches!(other, StoreError::Lost { at, .. } if at == at_record), "{case}: {other}");
        let accepted = accept_loss(folder, &acceptance(at_record)).unwrap();
        assert_eq!((accepted.record, accepted.already), (at_record + 1, false), "{case}");
        assert!(accepted.aside.is_dir(), "{case}");
        assert!(accept_loss(folder, &acceptance(at_record)).unwrap().already, "{case}: once");

        let report = audit::verify(folder, &[]).unwrap();
        assert_eq!(report.finding, None, "{case}");
        let loss = &report.losses[0];
        assert_eq!(
            (report.losses.len(), loss.record, loss.ended_at),
            (1, at_record + 1, at_record),
            "{case}"
        );
        assert!(loss.accepted.as_ref().unwrap().contains("person-1"), "{case}: {loss:?}");
        let store = try_open(folder).unwrap_or_else(|error| panic!("{case}: {error}"));
        opened(&store, 1_000).await;
        drop(store);
        assert!(!try_open(folder).unwrap().report().journal.mark_missing, "{case}");
    }
}

/// What was done, how, whether the mark was missed, and whether nobody else could tell.
const NO_LOSSES: [(&str, Damage, bool, bool); 8] = [
    ("nothing", |_, _| {}, false, false),
    ("the mark is removed", |data, _| remove_mark(data), true, false),
    (
        "the mark is overwritten",
        |data, _| fs::write(data.join("journal/durable.mark"), b"rubbish").unwrap(),
        true,
        false,
    ),
    (
        "the mark is older, as after a power cut",
        |data, site| {
            fs::copy(site.half.path().join("journal/durable.mark"), data.join("journal/durable.mark"))
                .unwrap();
        },
        false,
        false,
    ),
    ("the index is removed", |data, _| remove_index(data), false, false),
    (
        "the index is older",
        |data, site| {
            remove_index(data);
            copy(&site.half.path().join("index"), &data.join("index"));
        },
        false,
        false,
    ),
    (
        "a write was torn",
        |data, _| {
            let (_, path) = last(data);
            let content = fs::read(&path).unwrap();
            fs::write(&path, [&content[..], &content[HEADER..HEADER + 150]].concat()).unwrap();
        },
        false,
        false,
    ),
    (
        "index and mark are removed",
        |data, _| {
            remove_index(data);
            remove_mark(data);
        },
        true,
        true,
    ),
];

#[tokio::test]
async fn what_a_crash_leaves_or_can_be_made_anew_is_no_loss() {
    let site = Site::new().await;
    let seen = view::of(&try_open(site.folder.path()).unwrap()).await;
    for (case, damage, mark_missing, unwitnessed) in NO_LOSSES {
        let data = tempfile::tempdir().unwrap();
        copy(site.folder.path(), data.path());
        damage(data.path(), &site);
        let audited = audit::verify(data.path(), &[]).unwrap();
        assert_eq!(audited.finding, None, "{case}");
        let mark = audited.beside.unwrap().mark;
        assert_eq!(!matches!(mark, DurableMark::UpTo(_)), mark_missing, "{case}");
        assert_eq!(mark == DurableMark::Unreadable, case == "the mark is overwritten", "{case}");
        let store = try_open(data.path()).unwrap_or_else(|error| panic!("{case}: {error}"));
        let report = store.report();
        assert_eq!((report.journal.mark_missing, report.unwitnessed), (mark_missing, unwitnessed), "{case}");
        let seen = seen.clone();
        let seen = if unwitnessed { seen.after_a_loss() } else { seen };
        assert_eq!(view::of(&store).await, seen, "{case}");
        drop(store);
        let store = try_open(data.path()).unwrap();
        assert!(!store.report().journal.mark_missing && !store.report().unwitnessed, "{case}: once");
        drop(store);
        // That nobody could tell stays written down.
        let losses = audit::verify(data.path(), &[]).unwrap().losses;
        assert_eq!(losses.len(), usize::from(unwitnessed), "{case}");
        let nothing = accept_loss(data.path(), &acceptance(3)).unwrap_err();
        assert!(matches!(nothing, StoreError::NothingLost { .. }), "{case}: {nothing}");
    }
}

#[tokio::test]
async fn a_cut_that_nobody_knows_of_is_said_to_be_unknown() {
    let site = Site::new().await;
    let data = tempfile::tempdir().unwrap();
    copy(site.folder.path(), data.path());
    cut(data.path(), 0);
    remove_mark(data.path());
    remove_index(data.path());
    let beside = audit::verify(data.path(), &[]).unwrap().beside.unwrap();
    assert_eq!((beside.mark, beside.index), (DurableMark::Missing, IndexState::Missing));
    assert!(try_open(data.path()).unwrap().report().unwitnessed);
    let report = audit::verify(data.path(), &[]).unwrap();
    assert_eq!((report.losses[0].ended_at, &report.losses[0].accepted), (site.records - 1, &None));
}

#[tokio::test]
async fn an_acceptance_that_was_killed_is_finished_by_doing_it_again() {
    let site = Site::new().await;
    let done = tempfile::tempdir().unwrap();
    copy(site.folder.path(), done.path());
    cut(done.path(), 0);
    let begun = accept_loss(done.path(), &acceptance(site.records - 1)).unwrap();
    let note = {
        let mut note = None;
        let read = quell_journal::verify_each(&done.path().join("journal"), &[], &mut |entry| {
            if entry.sequence == begun.record {
                note = Some(entry.payload);
            }
        });
        read.unwrap();
        note.unwrap()
    };
    // Killed after its first step, and before its last one.
    for (case, from) in [("begun", site.folder.path()), ("all but finished", done.path())] {
        let data = tempfile::tempdir().unwrap();
        copy(from, data.path());
        if case == "begun" {
            cut(data.path(), 0);
        }
        fs::write(data.path().join("accept-loss.json"), &note).unwrap();
        let (at_record, said) = refusal(data.path(), case);
        assert_eq!(at_record, site.records - 1, "{case}: {said}");
        assert!(said.contains("was begun and not finished"), "{case}: {said}");
        accept_loss(data.path(), &acceptance(at_record + 1)).unwrap_err();
        accept_loss(data.path(), &acceptance(at_record)).unwrap();
        assert_eq!(audit::verify(data.path(), &[]).unwrap().losses.len(), 1, "{case}");
        opened(&try_open(data.path()).unwrap(), 1_000).await;
    }
}

#[tokio::test]
async fn an_empty_folder_and_an_unused_store_are_no_loss() {
    let data = tempfile::tempdir().unwrap();
    drop(try_open(data.path()).unwrap());
    fs::remove_dir_all(data.path().join("journal")).unwrap();
    let store = try_open(data.path()).unwrap();
    assert!(store.report().journal.created);
    let switch = KillSwitch { by: "person-1".to_owned(), why: "a drill".to_owned(), at: at(60) };
    store.set_kill_switch(GateEpoch(0), Throw::Engage(switch)).await.unwrap();
    assert!(store.received_after(ReceivedPosition::default(), 1).await.unwrap().is_empty());
}
