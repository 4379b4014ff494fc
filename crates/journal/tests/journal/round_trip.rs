//! What goes in comes out, where and as it was promised.

use std::path::Path;

use quell_journal::{
    ChainHash, Entry, Error, Head, Journal, OpenCheck, Options, Position, Record, SimulatedDisk, verify,
    verify_on,
};
use sha2::{Digest, Sha256};

use crate::support::{FOLDER, files, id, on, open, records, segment, texts};

#[test]
fn records_are_read_back_from_a_real_folder_after_reopening() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("deep").join("journal");
    let (journal, report) = Journal::open(&folder, Options::new(id())).unwrap();
    assert!(report.created);
    assert_eq!(journal.last().sequence, 0);
    let first = journal.append_blocking(records(&["a", ""])).unwrap();
    let large = vec![9; 100_000];
    let second = journal.append_blocking(vec![Record::new(u16::MAX, large.clone())]).unwrap();
    assert_eq!((first.first_sequence, second.first_sequence), (1, 3));
    let head = journal.close().unwrap();
    assert_eq!(head, second.head);

    let (journal, report) = Journal::open(&folder, Options::new(uuid_other())).unwrap();
    assert_eq!((report.created, report.head, report.torn_tail), (false, head, None));
    assert_eq!(journal.id(), id(), "an existing journal keeps its identity");
    let entries: Vec<Entry> = journal.iter_from(0).map(Result::unwrap).collect();
    let positions: Vec<Position> = first.positions.iter().chain(&second.positions).copied().collect();
    for (entry, position) in entries.iter().zip(positions) {
        assert_eq!(journal.read(position).unwrap(), *entry);
    }
    let kinds: Vec<u16> = entries.iter().map(|entry| entry.kind).collect();
    assert_eq!(kinds, [7, 7, u16::MAX]);
    assert_eq!(entries[2].payload, large);
    assert_eq!(entries[2].chain_hash, head.chain_hash);
    let ends: Vec<bool> = entries.iter().map(|entry| entry.last_of_request).collect();
    assert_eq!(ends, [false, true, true]);

    let report = verify(&folder, &[first.head, head]).unwrap();
    assert_eq!((report.records, report.anchors_agreeing, report.first_bad), (3, 2, None));
}

fn uuid_other() -> quell_journal::Uuid {
    quell_journal::Uuid::from_u128(99)
}

#[test]
fn segments_rotate_and_every_sequence_is_found_in_them() {
    let disk = SimulatedDisk::new();
    let options = Options { segment_bytes_max: 1000, read_files_max: 2, ..on(&disk) };
    let (journal, _) = open(options.clone());
    let mut positions = Vec::new();
    for number in 0..60 {
        let request = vec![Record::new(1, format!("record {number}")), Record::new(2, vec![b'x'; number])];
        positions.extend(journal.append_blocking(request).unwrap().positions);
    }
    let before: Vec<Entry> = journal.iter_from(1).map(Result::unwrap).collect();
    assert_eq!(before.len(), 120);
    drop(journal);
    for open_check in [OpenCheck::Everything, OpenCheck::LastSegment] {
        let (journal, report) = open(Options { open_check, ..options.clone() });
        assert!(report.segments > 10, "{} segments", report.segments);
        for from in 1..=122 {
            let entries: Vec<Entry> = journal.iter_from(from).map(Result::unwrap).collect();
            assert_eq!(entries, before[before.len().min(from as usize - 1)..], "from {from}");
        }
        for (position, entry) in positions.iter().zip(&before) {
            assert_eq!(journal.read(*position).unwrap(), *entry);
        }
        // Two for reading, the active segment, the mark.
        assert_eq!(disk.open_files(), 4);
    }
    assert!(files(&disk).iter().all(|(_, content)| content.len() <= 1000));
}

#[test]
fn waypoints_lead_to_the_right_record_in_a_long_segment() {
    let disk = SimulatedDisk::new();
    let (journal, _) = open(on(&disk));
    let request: Vec<Record> = (0..40_u8).map(|number| Record::new(1, vec![number; 50_000])).collect();
    journal.append_blocking(request.clone()).unwrap();
    journal.append_blocking(request).unwrap();
    for journal in [journal, open(on(&disk.restart(quell_journal::Survival::All))).0] {
        for from in 1..=80 {
            let entry = journal.iter_from(from).next().unwrap().unwrap();
            assert_eq!((entry.sequence, entry.payload[0]), (from, ((from - 1) % 40) as u8));
        }
    }
}

#[test]
fn what_is_too_large_or_empty_is_refused_and_leaves_no_gap() {
    let options = Options { record_bytes_max: 10, request_bytes_max: 250, ..on(&SimulatedDisk::new()) };
    let (journal, _) = open(options);
    assert!(matches!(journal.submit(Vec::new()), Err(Error::EmptyRequest)));
    let too_large = journal.submit(records(&["eleven byte"]));
    assert!(matches!(too_large, Err(Error::RecordTooLarge { bytes: 11, bytes_max: 10 })));
    let too_many = journal.submit(records(&["a", "b", "c"]));
    assert!(matches!(too_many, Err(Error::RequestTooLarge { bytes: 303, bytes_max: 250 })));
    assert_eq!(journal.append_blocking(records(&["ten bytes."])).unwrap().first_sequence, 1);
}

#[test]
fn a_position_where_no_record_begins_is_named() {
    let (journal, _) = open(on(&SimulatedDisk::new()));
    let ack = journal.append_blocking(records(&["a", "b"])).unwrap();
    let good = ack.positions[1];
    let wrong = [
        Position { offset: good.offset + 1, ..good },
        Position { offset: good.offset - 1, ..good },
        Position { offset: 0, ..good },
        Position { offset: 1 << 40, ..good },
        Position { segment: 2, ..good },
    ];
    for position in wrong {
        assert!(matches!(journal.read(position), Err(Error::NoRecord { .. })), "{position:?}");
    }
    assert_eq!(journal.read(good).unwrap().payload, b"b");
}

#[test]
fn a_record_damaged_while_open_is_found_when_it_is_read() {
    let disk = SimulatedDisk::new();
    let (journal, _) = open(on(&disk));
    let ack = journal.append_blocking(records(&["a", "b", "c"])).unwrap();
    let mut content = disk.content(&segment(1)).unwrap();
    content[ack.positions[1].offset as usize + 100] ^= 1;
    disk.set_content(&segment(1), content);
    let Err(Error::Corrupt(damage)) = journal.read(ack.positions[1]) else { panic!("damage not found") };
    assert_eq!((damage.sequence, damage.offset), (2, ack.positions[1].offset));
    let read: Vec<bool> = journal.iter_from(1).map(|entry| entry.is_ok()).collect();
    assert_eq!(read, [true, false], "nothing is read beyond the damage");
}

#[test]
fn a_second_handle_on_a_folder_is_told_who_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(folder.path(), Options::new(id())).unwrap();
    let reader = journal.iter_from(1);
    let second = Journal::open(folder.path(), Options::new(id()));
    let Err(error @ Error::Locked { pid, .. }) = second else { panic!("two handles") };
    assert_eq!(pid, Some(std::process::id()));
    assert!(error.to_string().contains(&format!("in use by process {}", std::process::id())));
    drop(journal);
    Journal::open(folder.path(), Options::new(id())).unwrap();
    drop(reader);
}

#[test]
fn new_files_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("journal");
    Journal::open(&folder, Options::new(id())).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o077;
    assert_eq!(mode(&folder), 0);
    for entry in std::fs::read_dir(&folder).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0);
    }
}

/// The documented layout, read here by offsets and without the crate's own decoder.
#[test]
fn the_bytes_are_as_documented() {
    let disk = SimulatedDisk::new();
    let (journal, _) = open(on(&disk));
    journal.append_blocking(vec![Record::new(0x0102, "one"), Record::new(3, "second")]).unwrap();
    let head = journal.close().unwrap();
    let bytes = disk.content(&segment(1)).unwrap();
    let u16_at = |at: usize| u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap());
    let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());

    assert_eq!((&bytes[..8], u32_at(8), u64_at(32)), (&b"QUELLJRN"[..], 2, 1));
    assert_eq!(bytes[16..32], *id().as_bytes());
    assert_eq!(u32_at(76), crc32fast::hash(&bytes[..76]));
    let mut chain: [u8; 32] =
        Sha256::digest([b"quell-journal genesis v1\n", &id().as_bytes()[..]].concat()).into();
    assert_eq!(bytes[40..72], chain);

    let mut at = 80;
    for (sequence, kind, flags, payload) in [(1, 0x0102, 0, &b"one"[..]), (2, 3, 1, b"second")] {
        assert_eq!(bytes[at..at + 4], [0xF5, b'q', b'j', 0xF6]);
        assert_eq!(u32_at(at + 4) as usize, payload.len());
        assert_eq!((u64_at(at + 8), u64_at(at + 16)), (sequence, 1));
        assert_eq!((u16_at(at + 24), u16_at(at + 26)), (kind, flags));
        assert_eq!(u32_at(at + 28), crc32fast::hash(payload));
        let digest: [u8; 32] = Sha256::digest(payload).into();
        assert_eq!(bytes[at + 32..at + 64], digest);
        let covered = [&bytes[at + 8..at + 16], &bytes[at + 24..at + 28], &bytes[at + 4..at + 8]].concat();
        let link = [b"quell-journal chain v1\n", &chain[..], &covered[..], &digest[..]].concat();
        chain = Sha256::digest(link).into();
        assert_eq!(bytes[at + 64..at + 96], chain);
        let sealed = [&id().as_bytes()[..], &bytes[at..at + 96]].concat();
        assert_eq!(u32_at(at + 96), crc32fast::hash(&sealed));
        assert_eq!(bytes[at + 100..at + 100 + payload.len()], *payload);
        at += 100 + payload.len();
    }
    assert_eq!(bytes.len(), at);
    assert_eq!(head, Head { sequence: 2, chain_hash: ChainHash::from_bytes(chain) });
    assert_eq!(head.chain_hash.to_string().parse(), Ok(head.chain_hash));
    assert!("zz".parse::<ChainHash>().is_err());
}

/// Journals written by earlier releases must open for ever: if this fails, the format changed without a new version.
#[test]
fn format_version_2_has_not_changed() {
    let disk = SimulatedDisk::new();
    let (journal, _) = open(on(&disk));
    for request in [&["golden"][..], &["journal", "of", "version 1"]] {
        journal.append_blocking(records(request)).unwrap();
    }
    drop(journal);
    let mut hasher = Sha256::new();
    for (path, content) in files(&disk) {
        hasher.update(path.to_str().unwrap());
        hasher.update(content);
    }
    let digest = ChainHash::from_bytes(hasher.finalize().into());
    assert_eq!(digest.to_string(), "1b0095dca27f8788d9a744ac8da118c8991137f481cf2eda10e0e26c4ec6106d");
    assert_eq!(texts(&open(on(&disk)).0), ["golden", "journal", "of", "version 1"]);
    assert_eq!(verify_on(&disk, Path::new(FOLDER), &[]).unwrap().first_bad, None);
}
