//! Changed bytes, by accident and on purpose.

use std::path::Path;

use quell_journal::{
    DamageReason, Error, Found, Journal, OpenCheck, Options, Record, SimulatedDisk, VerifyReport, verify_on,
};
use sha2::{Digest, Sha256};

use crate::support::{FOLDER, disk_with, ends_before, files, id, mark, on, open, records, segment, texts};

fn check(disk: &SimulatedDisk) -> VerifyReport {
    verify_on(disk, Path::new(FOLDER), &[]).unwrap()
}

#[test]
fn a_flipped_byte_anywhere_is_found_named_and_left_as_it_is() {
    let disk = SimulatedDisk::new();
    let (journal, _) = open(on(&disk));
    let mut starts = Vec::new();
    for request in [&["a", "bb"][..], &["ccc"], &["dddd", "", "f"]] {
        let ack = journal.append_blocking(records(request)).unwrap();
        starts.extend(ack.positions.iter().map(|position| position.offset as usize));
    }
    drop(journal);
    let sound = files(&disk);
    let length = disk.content(&segment(1)).unwrap().len();
    for byte in 0..length {
        let disk = disk_with(&sound);
        let mut content = disk.content(&segment(1)).unwrap();
        content[byte] ^= 0x20;
        disk.set_content(&segment(1), content);
        let before = files(&disk);
        let error = Journal::open(Path::new(FOLDER), on(&disk)).unwrap_err();
        assert_eq!(files(&disk), before);
        let record = starts.partition_point(|start| *start <= byte);
        match (record, &error) {
            // The version's own bytes may also make it look like a newer format.
            (0, Error::Corrupt(damage)) => assert_eq!((damage.offset, damage.sequence), (0, 1)),
            (0, Error::NewerFormat { .. }) => assert!((8..12).contains(&byte)),
            (6, Error::Contradicted(found)) => assert_eq!(ends_before(found), Some((6, 3))),
            (1..=5, Error::Corrupt(damage)) => {
                assert_eq!(damage.segment, segment(1));
                assert_eq!((damage.offset, damage.sequence), (starts[record - 1] as u64, record as u64));
            }
            _ => panic!("byte {byte} of record {record}: {error}"),
        }
        if record > 0 {
            assert!(check(&disk).first_bad.is_some(), "verify finds byte {byte}");
        }
    }
}

#[test]
fn damage_in_a_closed_segment_is_found_on_opening_or_at_the_latest_on_reading() {
    let disk = SimulatedDisk::new();
    let options = |disk: &SimulatedDisk| Options { segment_bytes_max: 300, ..on(disk) };
    let (journal, _) = open(options(&disk));
    for text in ["one", "two", "three", "four", "five"] {
        journal.append_blocking(records(&[text])).unwrap();
    }
    drop(journal);
    let sound = files(&disk);
    let closed = disk.content(&segment(1)).unwrap();
    let mut changed: Vec<Vec<u8>> = (80..closed.len())
        .map(|byte| {
            let mut content = closed.clone();
            content[byte] ^= 1;
            content
        })
        .collect();
    changed.extend((80..closed.len()).map(|length| closed[..length].to_vec()));
    for content in changed {
        let disk = disk_with(&sound);
        disk.set_content(&segment(1), content);
        let error = Journal::open(Path::new(FOLDER), options(&disk)).unwrap_err();
        assert!(matches!(error, Error::Corrupt(_) | Error::SegmentMissing { .. }), "{error}");
        let (journal, _) = open(Options { open_check: OpenCheck::LastSegment, ..options(&disk) });
        let read: Vec<_> = journal.iter_from(1).collect();
        assert!(read.len() <= 3 && read.last().unwrap().is_err(), "{read:?}");
        assert_eq!(journal.iter_from(3).count(), 3, "the other segments are readable");
    }
}

/// The proof that a damaged record had been synced is the header of a later write, wherever that stands.
#[test]
fn a_later_write_is_seen_across_the_borders_of_what_is_read_at_once() {
    for bytes in [(256 << 10) - 200, (256 << 10) - 150, (256 << 10) - 101, (256 << 10) - 100, 600_000] {
        let disk = SimulatedDisk::new();
        let (journal, _) = open(on(&disk));
        let damaged = journal.append_blocking(vec![Record::new(1, vec![0; bytes])]).unwrap().positions[0];
        journal.append_blocking(records(&["later"])).unwrap();
        let mut content = disk.content(&segment(1)).unwrap();
        content[damaged.offset as usize] ^= 1;
        // Without a mark there is no other proof.
        let disk = disk_with(&[(segment(1), content)]);
        let error = Journal::open(Path::new(FOLDER), on(&disk)).unwrap_err();
        assert!(matches!(error, Error::Corrupt(_)), "{bytes}: {error}");
    }
}

/// Somebody edits a payload and makes good all the checksums, but not the digest: found by `verify`.
/// Then also the digest: the chain breaks, which opening finds.
#[test]
fn an_edit_in_place_is_found_by_digest_and_chain() {
    let disk = SimulatedDisk::new();
    let (journal, _) = open(on(&disk));
    journal.append_blocking(records(&["approved by alice"])).unwrap();
    journal.append_blocking(records(&["next"])).unwrap();
    drop(journal);
    let mut content = disk.content(&segment(1)).unwrap();
    let (start, payload) = (80, 180..197);
    content[payload.clone()].copy_from_slice(b"approved by malla");
    let crc = crc32fast::hash(&content[payload.clone()]);
    content[start + 28..start + 32].copy_from_slice(&crc.to_le_bytes());
    seal(&mut content, start);
    disk.set_content(&segment(1), content.clone());
    let bad = check(&disk).first_bad.unwrap();
    assert_eq!((bad.sequence, bad.offset, bad.reason), (1, 80, DamageReason::PayloadDigest));

    let digest = Sha256::digest(&content[payload]);
    content[start + 32..start + 64].copy_from_slice(&digest);
    seal(&mut content, start);
    disk.set_content(&segment(1), content);
    let error = Journal::open(Path::new(FOLDER), on(&disk)).unwrap_err();
    let Error::Corrupt(damage) = error else { panic!("{error}") };
    assert_eq!((damage.sequence, damage.reason), (1, DamageReason::Chain));
    assert_eq!(check(&disk).first_bad, Some(damage));
}

fn seal(content: &mut [u8], start: usize) {
    let sealed = [&id().as_bytes()[..], &content[start..start + 96]].concat();
    content[start + 96..start + 100].copy_from_slice(&crc32fast::hash(&sealed).to_le_bytes());
}

#[test]
fn a_rewritten_or_cut_journal_disagrees_with_mark_and_anchors() {
    let write = |texts: &[&str]| {
        let disk = SimulatedDisk::new();
        let (journal, _) = open(on(&disk));
        let heads: Vec<_> =
            texts.iter().map(|text| journal.append_blocking(records(&[text])).unwrap().head).collect();
        drop(journal);
        (disk, heads)
    };
    let (genuine, anchors) = write(&["a", "b", "c"]);
    let (forged, _) = write(&["a", "B", "c"]);
    let verify = |disk: &SimulatedDisk| verify_on(disk, Path::new(FOLDER), &anchors).unwrap();
    assert_eq!((verify(&genuine).first_bad, verify(&genuine).anchors_agreeing), (None, 3));

    let report = verify(&forged);
    let bad = report.first_bad.unwrap();
    assert_eq!((bad.sequence, bad.reason, report.anchors_agreeing), (2, DamageReason::Anchor, 1));

    let (cut, _) = write(&["a", "b"]);
    let bad = verify(&cut).first_bad.unwrap();
    assert_eq!((bad.sequence, bad.reason), (3, DamageReason::Missing));

    // The forger forgot the mark.
    forged.set_content(&mark(), genuine.content(&mark()).unwrap());
    let error = Journal::open(Path::new(FOLDER), on(&forged)).unwrap_err();
    let Error::Contradicted(contradiction) = &error else { panic!("{error}") };
    assert_eq!(contradiction.witness.sequence, 3);
    assert!(matches!(contradiction.found, Found::OtherChain { .. }), "{error}");
    assert!(error.to_string().contains("the journal was rewritten"), "{error}");
}

/// Text in an alert is data: a payload that holds whole records, even of this journal, is never taken for them.
#[test]
fn records_inside_a_payload_are_not_records() {
    let disk = SimulatedDisk::new();
    let (journal, _) = open(on(&disk));
    journal.append_blocking(records(&["a"])).unwrap();
    let copy = disk.content(&segment(1)).unwrap();
    let mark_before = disk.content(&mark()).unwrap();
    journal.append_blocking(vec![Record::new(1, copy.clone())]).unwrap();
    drop(journal);
    let mut content = disk.content(&segment(1)).unwrap();
    content.truncate(content.len() - 1);
    let disk = disk_with(&[(segment(1), content), (mark(), mark_before)]);
    let (journal, report) = open(on(&disk));
    assert_eq!(report.torn_tail.unwrap().reason, DamageReason::PayloadShort);
    assert_eq!(texts(&journal), ["a"]);
}
