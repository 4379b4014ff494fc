//! Copies of a journal: the same chain, or nothing that could be taken for a journal.

use std::path::Path;

use quell_journal::{
    Error, Head, Importer, Journal, Options, SimulatedDisk, StoredContent, StoredRecord, Survival, verify_on,
};

use crate::support::{id, on, open, records};

const COPY: &str = "copy";

fn small(disk: &SimulatedDisk) -> Options {
    Options { segment_bytes_max: 500, ..on(disk) }
}

/// Records with a dropped payload and requests of several records.
fn source() -> (Vec<StoredRecord>, Head) {
    let disk = SimulatedDisk::new();
    let (journal, _) = open(small(&disk));
    for request in [&["a", "b"][..], &["c"], &["d", "e", "f"], &["g"], &["h"]] {
        journal.append_blocking(records(request)).unwrap();
    }
    journal.drop_payloads(1, &mut |entry| entry.sequence == 2).unwrap();
    (journal.iter_from(1).map(|entry| entry.unwrap().into()).collect(), journal.last())
}

fn copied(disk: &SimulatedDisk, records: &[StoredRecord], head: Head) -> Result<Head, Error> {
    let mut importer = Importer::begin(Path::new(COPY), small(disk), id())?;
    for record in records {
        importer.append(record)?;
    }
    importer.finish(head)
}

#[test]
fn a_copy_has_the_same_chain() {
    let (all, head) = source();
    assert!(matches!(all[1].content, StoredContent::Dropped { bytes: 1, .. }));
    let disk = SimulatedDisk::new();
    assert_eq!(copied(&disk, &all, head).unwrap(), head);
    assert_eq!(verify_on(&disk, Path::new(COPY), &[head]).unwrap().first_bad, None);
    let (journal, report) = Journal::open(Path::new(COPY), small(&disk)).unwrap();
    assert_eq!((report.head, report.journal_id, report.created), (head, id(), false));
    let again: Vec<StoredRecord> = journal.iter_from(1).map(|entry| entry.unwrap().into()).collect();
    assert_eq!(again, all);
    drop(journal);
    let refused = Importer::begin(Path::new(COPY), small(&disk), id()).unwrap_err();
    assert!(matches!(refused, Error::NotEmpty { .. }), "{refused}");
}

#[test]
fn records_that_do_not_follow_are_refused() {
    let (all, head) = source();
    let refused = |records: &[StoredRecord], head| {
        let error = copied(&SimulatedDisk::new(), records, head).unwrap_err();
        let Error::NotTheChain { sequence, .. } = error else { panic!("{error}") };
        sequence
    };
    let mut changed = all.clone();
    changed[4].content = StoredContent::Payload(b"x".to_vec());
    assert_eq!(refused(&changed, head), 5);
    assert_eq!(refused(&[&all[..2], &all[3..]].concat(), head), 3);
    assert_eq!(refused(&all[..6], head), 6, "cut");
}

#[test]
fn a_copy_that_was_cut_is_refused_until_it_is_made_again() {
    let (all, head) = source();
    let mut finished = 0;
    for cut in 0..40 {
        let disk = SimulatedDisk::new();
        disk.cut_power_after(cut);
        let done = copied(&disk, &all, head).is_ok();
        let disk = disk.restart(Survival::Random(cut));
        match Journal::open(Path::new(COPY), small(&disk)) {
            Ok((journal, report)) => {
                // Before it was begun, or after it was finished.
                assert!(journal.last() == head || report.created, "cut {cut}");
                finished += u32::from(journal.last() == head);
            }
            Err(error) => {
                assert!(!done && matches!(error, Error::CopyUnfinished { .. }), "cut {cut}: {error}");
                copied(&disk, &all, head).unwrap();
                assert_eq!(Journal::open(Path::new(COPY), small(&disk)).unwrap().0.last(), head);
            }
        }
    }
    assert!(finished > 0);
}
