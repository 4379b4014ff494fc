//! Tampering, by somebody who also makes good the checksums that can be made good.

use std::fs;
use std::path::{Path, PathBuf};

use quell_store::audit::{
    self, Anchor, AnchorError, AnchorFile, Anchors, Finding, KeyError, PublicKey, SigningKey,
};
use quell_store::{EmbeddedStore, IncidentStore};

use crate::embedded::{fill, options, reopened};
use crate::fixtures::*;
use crate::retention::{later, lived, retained_all};

const HEADER: usize = 80;

async fn filled() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fill(&reopened(folder.path())).await;
    folder
}

fn segment(folder: &Path) -> PathBuf {
    folder.join("journal/00000000000000000001.journal")
}

/// Where each record begins and ends.
fn records(content: &[u8]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut at = HEADER;
    while at + 100 <= content.len() {
        let length = u32::from_le_bytes(content[at + 4..at + 8].try_into().unwrap()) as usize;
        found.push((at, at + 100 + length));
        at += 100 + length;
    }
    found
}

/// The checksum of a record's header, which anybody can compute.
fn seal(content: &mut [u8], at: usize) {
    let sealed = [&content[16..32], &content[at..at + 96]].concat();
    let crc = crc32fast::hash(&sealed).to_le_bytes();
    content[at + 96..at + 100].copy_from_slice(&crc);
}

fn finding(folder: &Path, anchors: &[Anchor]) -> Finding {
    audit::verify(folder, anchors).unwrap().finding.expect("it was tampered with")
}

fn tampered(folder: &Path, tamper: impl FnOnce(&mut Vec<u8>, &[(usize, usize)])) -> Finding {
    let mut content = fs::read(segment(folder)).unwrap();
    let places = records(&content);
    tamper(&mut content, &places);
    fs::write(segment(folder), content).unwrap();
    finding(folder, &[])
}

#[tokio::test]
async fn a_sound_folder_also_beside_a_store_that_is_open() {
    let folder = filled().await;
    let store = reopened(folder.path());
    let before = fs::read(folder.path().join("journal/LOCK")).unwrap();
    let report = audit::verify(folder.path(), &[]).unwrap();
    assert_eq!((report.finding, report.torn_tail_bytes), (None, 0));
    assert_eq!(report.head, Some(store.chain_head().await.unwrap().unwrap().head));
    assert_eq!(fs::read(folder.path().join("journal/LOCK")).unwrap(), before);
    lived(&store, 30).await;
    assert_eq!(audit::verify(folder.path(), &[]).unwrap().finding, None);
    let error = audit::verify(&folder.path().join("journal"), &[]).unwrap_err();
    assert!(error.to_string().contains("has no journal"), "{error}");
}

#[tokio::test]
async fn a_flipped_byte_is_named() {
    let folder = filled().await;
    let found = tampered(folder.path(), |content, places| content[places[4].0 + 150] ^= 1);
    assert_eq!((found.sequence, found.segment.clone()), (5, Some(segment(folder.path()))));
    assert!(found.what.starts_with("record 5 was changed: "), "{}", found.what);
}

#[tokio::test]
async fn a_changed_payload_with_good_checksums_is_named() {
    let folder = filled().await;
    let found = tampered(folder.path(), |content, places| {
        let (begin, end) = places[4];
        content[begin + 150] ^= 1;
        let crc = crc32fast::hash(&content[begin + 100..end]).to_le_bytes();
        content[begin + 28..begin + 32].copy_from_slice(&crc);
        seal(content, begin);
    });
    assert_eq!(found.sequence, 5);
    assert_eq!(found.what, "record 5 was changed: the payload does not match its digest");
}

#[tokio::test]
async fn a_deleted_record_is_named() {
    let folder = filled().await;
    let found = tampered(folder.path(), |content, places| {
        content.drain(places[6].0..places[6].1);
    });
    assert_eq!(
        (found.sequence, found.what.as_str()),
        (7, "record 7 was removed: record 8 stands in its place")
    );

    // The forger gives all that follow their new numbers.
    let folder = filled().await;
    let found = tampered(folder.path(), |content, places| {
        content.drain(places[6].0..places[6].1);
        for (at, _) in records(content).into_iter().skip(6) {
            let sequence = u64::from_le_bytes(content[at + 8..at + 16].try_into().unwrap()) - 1;
            content[at + 8..at + 16].copy_from_slice(&sequence.to_le_bytes());
            content[at + 16..at + 24].copy_from_slice(&sequence.to_le_bytes());
            seal(content, at);
        }
    });
    assert_eq!(found.sequence, 7);
    assert!(found.what.starts_with("record 7 was changed or inserted"), "{}", found.what);
}

#[tokio::test]
async fn an_inserted_record_is_named() {
    let folder = filled().await;
    let found = tampered(folder.path(), |content, places| {
        let (begin, end) = places[6];
        let copy = content[begin..end].to_vec();
        content.splice(end..end, copy);
    });
    assert_eq!(found.sequence, 8);
    assert!(
        found.what.starts_with("a record was inserted: record 7 stands here once more"),
        "{}",
        found.what
    );
}

#[tokio::test]
async fn a_removed_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut small = options();
    small.journal.segment_bytes_max = 4 << 10;
    let store = EmbeddedStore::open(folder.path(), small).unwrap();
    fill(&store).await;
    drop(store);
    let mut files: Vec<_> =
        fs::read_dir(folder.path().join("journal")).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|end| end == "journal"));
    files.sort();
    fs::remove_file(&files[1]).unwrap();
    let found = finding(folder.path(), &[]);
    assert!(found.what.contains("were removed: there is no file that holds them"), "{}", found.what);
    assert!(files[1].to_str().unwrap().contains(&format!("{:020}", found.sequence)));
}

#[tokio::test]
async fn a_payload_dropped_without_a_retention_record_is_named() {
    let folder = filled().await;
    let found = tampered(folder.path(), |content, places| {
        let (begin, end) = places[3];
        content[begin + 26] |= 2;
        content[begin + 28..begin + 32].fill(0);
        seal(content, begin);
        content.drain(begin + 100..end);
    });
    assert_eq!((found.sequence, found.offset > 0), (4, true));
    assert_eq!(found.what, "the payload of record 4 was removed, and no retention record says so");
}

struct Anchored {
    folder: tempfile::TempDir,
    key: SigningKey,
    anchors: Vec<Anchor>,
}

/// A journal with an anchor in its middle and one at its end, kept in a file.
async fn anchored() -> Anchored {
    let folder = filled().await;
    let key = SigningKey::generate().unwrap();
    let path = folder.path().join("anchors.jsonl");
    let mut file = AnchorFile::open(&path).unwrap();
    {
        let store = reopened(folder.path());
        file.append(&key.sign(store.chain_head().await.unwrap().unwrap(), at(1)).unwrap()).unwrap();
        lived(&store, 40).await;
        file.append(&key.sign(store.chain_head().await.unwrap().unwrap(), at(2)).unwrap()).unwrap();
    }
    let read = Anchors::read(&path, Some(&key.public())).unwrap();
    assert!(!read.torn);
    Anchored { folder, key, anchors: read.anchors }
}

#[tokio::test]
async fn with_an_anchor_a_cut_tail_is_found() {
    let Anchored { folder, anchors, .. } = anchored().await;
    let report = audit::verify(folder.path(), &anchors).unwrap();
    assert_eq!((report.finding, report.anchors_agreeing), (None, 2));
    let mut content = fs::read(segment(folder.path())).unwrap();
    let places = records(&content);
    content.truncate(places[places.len() - 2].0);
    fs::write(segment(folder.path()), content).unwrap();
    fs::remove_file(folder.path().join("journal/durable.mark")).unwrap();
    // Whoever knows what else remembers.
    fs::remove_dir_all(folder.path().join("index")).unwrap();
    assert_eq!(audit::verify(folder.path(), &[]).unwrap().finding, None, "without the anchor nothing shows");
    let found = finding(folder.path(), &anchors);
    assert_eq!(found.sequence, places.len() as u64 - 1);
    assert!(found.what.contains("were removed: they were acknowledged or anchored"), "{}", found.what);
}

#[tokio::test]
async fn with_an_anchor_a_consistent_rewrite_is_found() {
    let Anchored { folder, anchors, .. } = anchored().await;
    // All of it anew under the same identity, one event another one.
    fs::remove_dir_all(folder.path().join("journal")).unwrap();
    fs::remove_dir_all(folder.path().join("index")).unwrap();
    {
        let store = reopened(folder.path());
        for number in 0..20 {
            lived(&store, number).await;
        }
    }
    assert_eq!(audit::verify(folder.path(), &[]).unwrap().finding, None, "without the anchor nothing shows");
    let found = finding(folder.path(), &anchors);
    assert_eq!(found.sequence, anchors[0].head.sequence);
    assert!(found.what.starts_with("the journal was rewritten"), "{}", found.what);

    // Under another identity.
    fs::remove_dir_all(folder.path().join("journal")).unwrap();
    fs::remove_dir_all(folder.path().join("index")).unwrap();
    let mut other = options();
    other.journal.new_journal_id = uuid::Uuid::from_u128(5);
    fill(&EmbeddedStore::open(folder.path(), other).unwrap()).await;
    let found = finding(folder.path(), &anchors);
    assert!(found.what.starts_with("the whole journal was replaced"), "{}", found.what);
}

#[tokio::test]
async fn anchors_themselves_cannot_be_forged() {
    let Anchored { folder, key, anchors } = anchored().await;
    let path = folder.path().join("anchors.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    let line = |error: AnchorError| {
        let AnchorError::Line { line, why, .. } = &error else { panic!("{error}") };
        (*line, why.clone())
    };
    let forged =
        text.replacen(&format!("\"sequence\":\"{}\"", anchors[1].head.sequence), "\"sequence\":\"3\"", 1);
    fs::write(&path, forged).unwrap();
    assert_eq!(line(Anchors::read(&path, None).unwrap_err()), (2, "has a wrong signature".to_owned()));
    let other = SigningKey::generate().unwrap().public();
    fs::write(&path, &text).unwrap();
    let (number, why) = line(Anchors::read(&path, Some(&other)).unwrap_err());
    assert!(number == 1 && why.starts_with("is signed with another key"), "{why}");
    // Killed in the middle of a line.
    fs::write(&path, &text[..text.len() - 20]).unwrap();
    let read = Anchors::read(&path, Some(&key.public())).unwrap();
    assert_eq!((read.anchors.len(), read.torn), (1, true));
    AnchorFile::open(&path).unwrap().append(&anchors[1]).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn keys_are_kept_for_their_owner() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let (private, public) = (folder.path().join("audit.key"), folder.path().join("audit.pub"));
    let key = SigningKey::generate().unwrap();
    key.write_new(&private).unwrap();
    key.public().write_new(&public).unwrap();
    assert_eq!(fs::metadata(&private).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(SigningKey::read(&private).unwrap().public(), PublicKey::read(&public).unwrap());
    assert!(
        !format!("{key:?}").contains(&fs::read_to_string(&private).unwrap()[31..60]),
        "no secret in a log"
    );
    key.write_new(&private).unwrap_err();
    assert!(matches!(SigningKey::read(&public), Err(AnchorError::Key(KeyError::Exposed { .. }))));
    fs::set_permissions(&private, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(SigningKey::read(&private), Err(AnchorError::Key(KeyError::Exposed { .. }))));
    assert!(matches!(PublicKey::read(&private), Err(AnchorError::Key(KeyError::NoKey { .. }))));
}

#[tokio::test]
async fn an_export_tells_each_record_and_what_dropped_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut small = options();
    small.journal.segment_bytes_max = 4 << 10;
    let store = EmbeddedStore::open(folder.path(), small).unwrap();
    for number in 0..8 {
        lived(&store, number).await;
    }
    retained_all(&store, later()).await;
    opened(&store, 50).await;
    let head = store.chain_head().await.unwrap().unwrap().head;
    let mut lines = Vec::new();
    let exported = audit::export(folder.path(), None, &mut |line| {
        lines.push(line);
        Ok(())
    });
    assert_eq!(exported.unwrap().records, head.sequence);
    for (number, line) in (1..).zip(&lines) {
        assert_eq!(line["sequence"], number.to_string());
        assert_eq!(line["payload_digest"].as_str().unwrap().len(), 64);
        assert!(line["payload"].is_null() == line["payload_dropped_by"].is_string(), "{line}");
    }
    assert_eq!(lines.last().unwrap()["chain_hash"], head.chain_hash.to_string());
    let dropped = lines.iter().find(|line| !line["payload_dropped_by"].is_null()).unwrap();
    let by: usize = dropped["payload_dropped_by"].as_str().unwrap().parse().unwrap();
    assert_eq!(lines[by - 1]["kind"], "retained");
    assert_eq!(lines[by - 1]["payload"]["policy"]["closed_incidents"]["secs"], 60);
    let opened = lines.last().unwrap();
    assert_eq!((&opened["kind"], &opened["actor"]), (&"appended".into(), &"workflow".into()));
    assert_eq!(opened["incident_id"], incident_id(50).to_string());
    assert_eq!(opened["event_types"][0], "opened");
    assert!(opened["time"].is_string());
    let mut since = 0;
    audit::export(folder.path(), Some(later()), &mut |_| {
        since += 1;
        Ok(())
    })
    .unwrap();
    assert!(since > 0 && since < lines.len(), "{since}");
}
