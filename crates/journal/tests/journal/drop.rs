//! Payloads that are dropped: the chain stays, readers find what is left, and no cut harms.

use std::path::Path;

use quell_journal::{Error, Head, Journal, Options, SimulatedDisk, Survival, verify_on};

use crate::support::{FOLDER, disk_with, files, on, open, records, segment};

fn small(disk: &SimulatedDisk) -> Options {
    Options { segment_bytes_max: 600, ..on(disk) }
}

/// Twelve records, four to a segment, and the head.
fn filled() -> (SimulatedDisk, Head) {
    let disk = SimulatedDisk::new();
    let (journal, _) = open(small(&disk));
    for number in 1..=12 {
        journal.append_blocking(records(&[&format!("payload {number:02}")])).unwrap();
    }
    let head = journal.last();
    assert!(journal.segments().len() >= 3);
    (disk, head)
}

fn seen(journal: &Journal) -> Vec<(u64, String, bool)> {
    let entries = journal.iter_from(1).map(Result::unwrap);
    entries.map(|e| (e.sequence, String::from_utf8(e.payload).unwrap(), e.dropped)).collect()
}

#[test]
fn what_is_dropped_is_gone_and_the_chain_stays() {
    let (disk, head) = filled();
    let (journal, _) = open(small(&disk));
    let before: Vec<_> = journal.iter_from(1).map(Result::unwrap).collect();
    let size = disk.content(&segment(1)).unwrap().len() as u64;
    // A reader that has begun reads on in what was.
    let mut reading = journal.iter_from(1);
    assert_eq!(reading.next().unwrap().unwrap().sequence, 1);
    let dropped = journal.drop_payloads(1, &mut |entry| entry.sequence % 2 == 1).unwrap();
    assert!(dropped.payloads >= 2);
    assert_eq!(dropped.bytes, dropped.payloads * 10);
    assert_eq!(disk.content(&segment(1)).unwrap().len() as u64, size - dropped.bytes);
    assert_eq!(reading.filter(|entry| entry.as_ref().unwrap().dropped).count(), 0);
    let end = journal.segments()[0].end_sequence;
    for (sequence, payload, is_dropped) in seen(&journal) {
        let gone = sequence < end && sequence % 2 == 1;
        assert_eq!(is_dropped, gone, "{sequence}");
        assert_eq!(payload, if gone { String::new() } else { format!("payload {sequence:02}") });
    }
    for old in &before {
        let found = journal.read_sequence(old.position, old.sequence).unwrap();
        let kept = (found.sequence, found.payload_digest, found.payload_bytes, found.chain_hash, found.kind);
        assert_eq!(kept, (old.sequence, old.payload_digest, 10, old.chain_hash, old.kind));
    }
    // Nothing more to drop, nothing is written.
    let operations = disk.operations();
    let again = journal.drop_payloads(1, &mut |entry| entry.sequence % 2 == 1).unwrap();
    assert_eq!(again.payloads, 0);
    assert!(disk.operations() > operations, "the file beside it was made and removed");
    assert!(disk.files().iter().all(|path| path.extension().is_none_or(|end| end != "tmp")));
    journal.append_blocking(records(&["goes on"])).unwrap();
    let head_now = journal.last();
    drop(journal);
    let report = verify_on(&disk, Path::new(FOLDER), &[head, head_now]).unwrap();
    assert_eq!((report.first_bad, report.anchors_agreeing), (None, 2));
    let (journal, _) = open(small(&disk));
    assert_eq!((journal.last(), seen(&journal).len()), (head_now, 13));
}

#[test]
fn the_last_segment_and_one_that_is_not_there_are_refused() {
    let (disk, _) = filled();
    let (journal, _) = open(small(&disk));
    let last = journal.segments().last().unwrap().first_sequence;
    let refused = journal.drop_payloads(last, &mut |_| true).unwrap_err();
    assert!(matches!(refused, Error::SegmentInUse { segment } if segment == last), "{refused}");
    assert!(matches!(journal.drop_payloads(2, &mut |_| true), Err(Error::NoRecord { segment: 2, .. })));
}

#[test]
fn a_damaged_segment_is_not_written_anew() {
    let (disk, _) = filled();
    let (journal, _) = open(small(&disk));
    let mut content = disk.content(&segment(1)).unwrap();
    content[185] ^= 1;
    disk.set_content(&segment(1), content.clone());
    assert!(matches!(journal.drop_payloads(1, &mut |_| true), Err(Error::Corrupt(_))));
    assert_eq!(disk.content(&segment(1)).unwrap(), content);
}

/// Power cuts at every operation of a drop, with any part of the unsynced surviving: all that is not dropped is there.
#[test]
fn a_cut_at_any_moment_leaves_the_old_or_the_new() {
    let (disk, head) = filled();
    let sound = files(&disk);
    for cut in 0..12 {
        for survival in [Survival::None, Survival::All, Survival::Random(cut), Survival::Random(cut + 100)] {
            let disk = disk_with(&sound);
            let (journal, _) = open(small(&disk));
            disk.cut_power_after(cut);
            let done = journal.drop_payloads(1, &mut |entry| entry.sequence != 2);
            let was_cut = disk.is_cut();
            drop(journal);
            let disk = disk.restart(survival);
            let report = verify_on(&disk, Path::new(FOLDER), &[head]).unwrap();
            assert_eq!(report.first_bad, None, "cut {cut}, {survival:?}");
            let (journal, _) = open(small(&disk));
            let end = journal.segments()[0].end_sequence;
            let all = seen(&journal);
            assert_eq!(all.len(), 12);
            let gone: Vec<_> = all.iter().filter(|(.., dropped)| *dropped).map(|(n, ..)| *n).collect();
            let meant: Vec<_> = (1..end).filter(|sequence| *sequence != 2).collect();
            assert!(gone.is_empty() || gone == meant, "{gone:?}");
            assert!(was_cut || done.is_err() || gone == meant, "cut {cut}: done and durable");
        }
    }
}

#[test]
fn a_full_disk_or_a_failing_sync_leaves_what_was() {
    let (disk, head) = filled();
    let sound = files(&disk);
    for fault in ["space", "sync"] {
        let disk = disk_with(&sound);
        let (journal, _) = open(small(&disk));
        match fault {
            "space" => disk.set_space_bytes(Some(100)),
            _ => disk.fail_sync_after(0),
        }
        journal.drop_payloads(1, &mut |entry| entry.sequence == 1).unwrap_err();
        disk.set_space_bytes(None);
        assert!(seen(&journal).iter().all(|(.., dropped)| !dropped), "{fault}");
        journal.append_blocking(records(&["goes on"])).unwrap();
        journal.drop_payloads(1, &mut |entry| entry.sequence == 1).unwrap();
        drop(journal);
        assert_eq!(verify_on(&disk, Path::new(FOLDER), &[head]).unwrap().first_bad, None);
    }
}
