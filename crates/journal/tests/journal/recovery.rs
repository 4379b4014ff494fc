//! Ends that a crash may leave.

use std::path::{Path, PathBuf};

use quell_journal::{
    DamageReason, Error, Found, Journal, MissingMark, Options, Record, SimulatedDisk, Survival, verify_on,
};

use crate::support::{FOLDER, disk_with, ends_before, files, mark, on, open, records, segment, texts};

/// A segment with two acknowledged requests, and what a third, of `last` records, adds to it.
struct Tail {
    before: Vec<u8>,
    full: Vec<u8>,
    mark_before: Vec<u8>,
    mark_full: Vec<u8>,
}

fn tail(last: &[&str]) -> Tail {
    let disk = SimulatedDisk::new();
    let (journal, _) = open(on(&disk));
    journal.append_blocking(records(&["a", "b"])).unwrap();
    journal.append_blocking(records(&["c"])).unwrap();
    let content = |path: PathBuf| disk.content(&path).unwrap();
    let (before, mark_before) = (content(segment(1)), content(mark()));
    journal.append_blocking(records(last)).unwrap();
    Tail { before, full: content(segment(1)), mark_before, mark_full: content(mark()) }
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_off_and_reported() {
    // One record, and a request of three: never is a part of it believed.
    for last in [&["the last one"][..], &["x", "yy", ""]] {
        let tail = tail(last);
        for length in tail.before.len()..tail.full.len() {
            let cut = tail.full[..length].to_vec();
            let disk = disk_with(&[(segment(1), cut), (mark(), tail.mark_before.clone())]);
            let verified = verify_on(&disk, Path::new(FOLDER), &[]).unwrap();
            assert_eq!(verified.first_bad, None);
            assert_eq!(verified.torn_tail_bytes as usize, length - tail.before.len());

            let (journal, report) = open(on(&disk));
            assert_eq!(texts(&journal), ["a", "b", "c"]);
            let torn = report.torn_tail.map(|torn| (torn.segment, torn.offset, torn.bytes));
            let expected = (segment(1), tail.before.len() as u64, (length - tail.before.len()) as u64);
            assert_eq!(torn, (length > tail.before.len()).then_some(expected));
            assert_eq!(disk.content(&segment(1)).unwrap(), tail.before);

            assert_eq!(journal.append_blocking(records(&["d"])).unwrap().first_sequence, 4);
            drop(journal);
            assert_eq!(texts(&open(on(&disk.restart(Survival::None))).0), ["a", "b", "c", "d"]);
        }
    }
}

#[test]
fn an_acknowledged_tail_that_is_gone_is_refused() {
    let tail = tail(&["x", "y"]);
    for length in tail.before.len()..tail.full.len() {
        let cut = tail.full[..length].to_vec();
        let disk = disk_with(&[(segment(1), cut), (mark(), tail.mark_full.clone())]);
        let before = files(&disk);
        let refused = Journal::open(Path::new(FOLDER), on(&disk));
        let Err(Error::Contradicted(contradiction)) = refused else { panic!("{refused:?}") };
        assert_eq!(ends_before(&contradiction), Some((5, 3)));
        assert_eq!(files(&disk), before, "refusing changes nothing");
        let verified = verify_on(&disk, Path::new(FOLDER), &[]).unwrap();
        let bad = verified.first_bad.unwrap();
        assert_eq!((bad.sequence, bad.offset), (4, tail.before.len() as u64));
    }
}

#[test]
fn without_a_mark_a_bad_last_write_is_a_torn_tail() {
    let tail = tail(&["x", "y"]);
    for mark_content in [None, Some(b"rubbish".to_vec())] {
        for byte in tail.before.len()..tail.full.len() {
            let mut damaged = tail.full.clone();
            damaged[byte] ^= 0x10;
            let disk = disk_with(&[(segment(1), damaged)]);
            if let Some(content) = &mark_content {
                disk.set_content(&mark(), content.clone());
            }
            let needed = Options { missing_mark: MissingMark::Refuse, ..on(&disk) };
            let before = files(&disk);
            let refused = Journal::open(Path::new(FOLDER), needed);
            assert!(
                matches!(refused, Err(Error::MarkMissing { end, .. }) if end.sequence == 3),
                "{refused:?}"
            );
            assert_eq!(files(&disk), before, "refusing changes nothing");
            let (journal, report) = open(on(&disk));
            assert_eq!(report.torn_tail.unwrap().offset, tail.before.len() as u64);
            assert!(report.mark_missing);
            assert_eq!(texts(&journal), ["a", "b", "c"]);
        }
    }
}

#[test]
fn rubbish_and_zeros_after_the_end_are_cut_off() {
    let tail = tail(&["x"]);
    for rubbish in [vec![0; 5000], vec![0xF5; 99], tail.full[80..].to_vec()] {
        let content = [&tail.full[..], &rubbish].concat();
        let disk = disk_with(&[(segment(1), content), (mark(), tail.mark_full.clone())]);
        let (journal, report) = open(on(&disk));
        assert_eq!(report.torn_tail.unwrap().bytes, rubbish.len() as u64);
        assert_eq!(texts(&journal), ["a", "b", "c", "x"]);
    }
}

/// Three requests that were written together; the disk got the end of the write and not its beginning.
#[test]
fn a_hole_in_the_unsynced_write_is_torn_but_in_an_acknowledged_one_it_is_damage() {
    let disk = SimulatedDisk::new();
    let (journal, _) = open(on(&disk));
    journal.append_blocking(records(&["a"])).unwrap();
    let (before, mark_before) = (disk.content(&segment(1)).unwrap(), disk.content(&mark()).unwrap());
    disk.hold_syncs(true);
    let first = journal.submit(records(&["first of its write"])).unwrap();
    assert!(disk.wait_for_held_sync());
    let tickets: Vec<_> =
        ["b", "c", "d"].iter().map(|text| journal.submit(records(&[text])).unwrap()).collect();
    disk.hold_syncs(false);
    first.wait_blocking().unwrap();
    let acks: Vec<_> = tickets.into_iter().map(|ticket| ticket.wait_blocking().unwrap()).collect();
    let (full, mark_full) = (disk.content(&segment(1)).unwrap(), disk.content(&mark()).unwrap());

    // `b` is the first record of a write of three.
    let (begin, end) = (acks[0].positions[0].offset as usize, acks[1].positions[0].offset as usize);
    let mut holed = full.clone();
    holed[begin..end].fill(0);
    let disk = disk_with(&[(segment(1), holed.clone()), (mark(), mark_before)]);
    let (journal, report) = open(on(&disk));
    assert_eq!(report.torn_tail.unwrap().reason, DamageReason::Header);
    assert_eq!(texts(&journal), ["a", "first of its write"]);

    let disk = disk_with(&[(segment(1), holed), (mark(), mark_full)]);
    let error = Journal::open(Path::new(FOLDER), on(&disk)).unwrap_err();
    let Error::Corrupt(damage) = error else { panic!("{error}") };
    assert_eq!((damage.sequence, damage.offset), (3, begin as u64));

    // The record before was synced, as the later write proves: damage in it is damage even with an old mark.
    let mut damaged = full;
    damaged[before.len() + 50] ^= 1;
    let disk = disk_with(&[(segment(1), damaged)]);
    let error = Journal::open(Path::new(FOLDER), on(&disk)).unwrap_err();
    let Error::Corrupt(damage) = error else { panic!("{error}") };
    assert_eq!((damage.sequence, damage.offset), (2, before.len() as u64));
}

#[test]
fn a_missing_or_foreign_file_is_named() {
    let disk = SimulatedDisk::new();
    let options = |disk: &SimulatedDisk| Options { segment_bytes_max: 300, ..on(disk) };
    let (journal, _) = open(options(&disk));
    for number in 0..8 {
        journal.append_blocking(vec![Record::new(1, format!("{number}"))]).unwrap();
    }
    drop(journal);
    let all = files(&disk);
    let attempt = |disk: &SimulatedDisk| Journal::open(Path::new(FOLDER), options(disk)).map(|_| ());

    for (gone, first_missing) in [(1, 1), (3, 3), (5, 5)] {
        let disk = disk_with(&all);
        assert!(disk.remove_file(&segment(gone)));
        let error = attempt(&disk).unwrap_err();
        let Error::SegmentMissing { sequence, .. } = error else { panic!("{error}") };
        assert_eq!(sequence, first_missing);
        assert!(verify_on(&disk, Path::new(FOLDER), &[]).is_err());
    }
    let last_gone = disk_with(&all);
    assert!(last_gone.remove_file(&segment(7)));
    let Err(Error::Contradicted(contradiction)) = attempt(&last_gone) else { panic!("it is gone") };
    assert_eq!(ends_before(&contradiction), Some((8, 6)));
    let only_mark = disk_with(&[(mark(), disk.content(&mark()).unwrap())]);
    let Err(Error::Contradicted(contradiction)) = attempt(&only_mark) else { panic!("all is gone") };
    assert_eq!(contradiction.found, Found::Nothing);

    let stranger = SimulatedDisk::new();
    let strange_id = quell_journal::Uuid::from_u128(1);
    let (journal, _) = open(Options { new_journal_id: strange_id, ..options(&stranger) });
    for _ in 0..8 {
        journal.append_blocking(records(&["?"])).unwrap();
    }
    drop(journal);
    let disk = disk_with(&all);
    disk.set_content(&mark(), stranger.content(&mark()).unwrap());
    let Err(Error::Contradicted(contradiction)) = attempt(&disk) else { panic!("it is another's") };
    assert_eq!(contradiction.witness.journal_id, Some(strange_id));
    assert!(matches!(contradiction.found, Found::OtherJournal { end, .. } if end.sequence == 8));
    for path in [segment(3), segment(7)] {
        let disk = disk_with(&all);
        disk.set_content(&path, stranger.content(&path).unwrap());
        let error = attempt(&disk).unwrap_err();
        let Error::ForeignFile { path: named, found, .. } = error else { panic!("{error}") };
        assert_eq!((named, found), (path, strange_id));
    }
}

#[test]
fn a_newer_format_is_named_and_left_alone() {
    let tail = tail(&["x"]);
    for (path, other, version_at) in [(segment(1), mark(), 8), (mark(), segment(1), 8)] {
        let content = |wanted: &Path| {
            if wanted == segment(1) { tail.full.clone() } else { tail.mark_full.clone() }
        };
        let mut newer = content(&path);
        newer[version_at] = 3;
        let disk = disk_with(&[(path.clone(), newer), (other.clone(), content(&other))]);
        let before = files(&disk);
        let error = Journal::open(Path::new(FOLDER), on(&disk)).unwrap_err();
        let Error::NewerFormat { path: named, found: 3, known: 2 } = error else { panic!("{error}") };
        assert_eq!(named, path);
        assert_eq!(files(&disk), before);
    }
}

#[test]
fn an_older_format_is_named_and_left_alone() {
    let tail = tail(&["x"]);
    let older = |mut content: Vec<u8>| {
        content[8] = 1;
        let crc = crc32fast::hash(&content[..76]).to_le_bytes();
        content[76..80].copy_from_slice(&crc);
        content
    };
    let old_segment = disk_with(&[(segment(1), older(tail.full.clone())), (mark(), tail.mark_full.clone())]);
    let old_mark = disk_with(&[(segment(1), tail.full.clone()), (mark(), older(tail.mark_full.clone()))]);
    for (disk, path) in [(old_segment, segment(1)), (old_mark, mark())] {
        let before = files(&disk);
        let error = Journal::open(Path::new(FOLDER), on(&disk)).unwrap_err();
        let Error::OlderFormat { path: named, found: 1, known: 2 } = error else { panic!("{error}") };
        assert_eq!(named, path);
        assert_eq!(files(&disk), before);
    }
}

#[test]
fn remains_of_a_rotation_are_removed_and_strange_files_left_alone() {
    let tail = tail(&["x"]);
    let half_made = PathBuf::from(FOLDER).join("00000000000000000005.journal.tmp");
    let strange = PathBuf::from(FOLDER).join("notes.tmp");
    let disk = disk_with(&[
        (segment(1), tail.full),
        (half_made.clone(), b"half".to_vec()),
        (strange.clone(), b"mine".to_vec()),
    ]);
    assert_eq!(texts(&open(on(&disk)).0), ["a", "b", "c", "x"]);
    assert_eq!((disk.content(&half_made), disk.content(&strange)), (None, Some(b"mine".to_vec())));
}
