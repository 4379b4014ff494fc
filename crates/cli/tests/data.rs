//! `quell audit` and `quell store`, on data folders.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use insta::assert_snapshot;
use jiff::Timestamp;
use quell_store::audit::{AnchorFile, SigningKey};
use quell_store::{EmbeddedStore, IncidentStore as _, Options, Received};
use support::{Ran, quell};

/// A data folder with some received alerts, the same every time, and two anchors.
struct Data {
    folder: tempfile::TempDir,
}

impl Data {
    async fn filled() -> Self {
        let data = Self { folder: tempfile::tempdir().unwrap() };
        let store = EmbeddedStore::open(&data.dir(), Options::new(uuid::Uuid::from_u128(7))).unwrap();
        let key = data.path("audit.key");
        assert_eq!(data.quell(&["audit", "key", key.to_str().unwrap()]).await.code, 0);
        let key = SigningKey::read(&key).unwrap();
        let mut anchors = AnchorFile::open(&data.path("anchors.jsonl")).unwrap();
        for number in 0..8_u64 {
            store.receive(received(number)).await.unwrap();
            if number == 3 || number == 7 {
                let head = store.chain_head().await.unwrap().unwrap();
                anchors.append(&key.sign(head, Timestamp::UNIX_EPOCH).unwrap()).unwrap();
            }
        }
        data
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn dir(&self) -> PathBuf {
        self.path("data")
    }

    fn segment(&self) -> PathBuf {
        self.dir().join("journal/00000000000000000001.journal")
    }

    async fn quell(&self, arguments: &[&str]) -> Ran {
        quell(arguments, None).await
    }

    async fn verify(&self, more: &[&str]) -> String {
        let dir = self.dir();
        let mut arguments = vec!["audit", "verify", "--data-dir", dir.to_str().unwrap()];
        arguments.extend(more);
        self.told(&self.quell(&arguments).await)
    }

    async fn verify_with_anchors(&self) -> String {
        let (anchors, key) = (self.path("anchors.jsonl"), self.path("audit.key.pub"));
        self.verify(&["--anchor", anchors.to_str().unwrap(), "--public-key", key.to_str().unwrap()]).await
    }

    fn told(&self, ran: &Ran) -> String {
        let text = format!("exit {}\n--- out\n{}--- error\n{}", ran.code, ran.out, ran.error);
        text.replace(self.folder.path().to_str().unwrap(), "[DIR]")
    }
}

fn received(number: u64) -> Received {
    Received {
        at: Timestamp::from_second(number as i64 * 3_600).unwrap(),
        source: quell_incident::ids::SourceName::declared("alertmanager").unwrap(),
        alerts: Vec::new(),
        group_key: None,
        truncated_alerts: number,
        trace: None,
    }
}

/// Where each record begins and ends.
fn records(content: &[u8]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut at = 80;
    while at + 100 <= content.len() {
        let length = u32::from_le_bytes(content[at + 4..at + 8].try_into().unwrap()) as usize;
        found.push((at, at + 100 + length));
        at += 100 + length;
    }
    found
}

fn tamper(path: &Path, change: impl FnOnce(&mut Vec<u8>, &[(usize, usize)])) {
    let mut content = fs::read(path).unwrap();
    let places = records(&content);
    change(&mut content, &places);
    fs::write(path, content).unwrap();
}

#[tokio::test]
async fn a_sound_folder() {
    let data = Data::filled().await;
    assert_snapshot!(data.verify(&[]).await, @r##"
    exit 0
    --- out
    sound: [DIR]/data
      records    8 in 1 files
      chain      b8dc0e4e7d4f468fa03b6a854ab94970db3138b066f576b74fba367fd3fb8fc3
      mark       durable up to record 8
      index      compared up to record 8
      anchors    none given: what was rewritten as a whole would not be seen
    --- error
    "##);
    assert_snapshot!(data.verify_with_anchors().await, @r##"
    exit 0
    --- out
    sound: [DIR]/data
      records    8 in 1 files
      chain      b8dc0e4e7d4f468fa03b6a854ab94970db3138b066f576b74fba367fd3fb8fc3
      mark       durable up to record 8
      index      compared up to record 8
      anchors    2 of 2 agree, up to record 8
    --- error
    "##);
    let dir = data.dir();
    let ran = data.quell(&["audit", "verify", "-o", "json", "--data-dir", dir.to_str().unwrap()]).await;
    assert_eq!((ran.json()["sound"].clone(), ran.json()["records"].clone()), (true.into(), "8".into()));
    let nowhere = data.quell(&["audit", "verify", "--data-dir", data.path("no").to_str().unwrap()]).await;
    assert_snapshot!(data.told(&nowhere), @r##"
    exit 1
    --- out
    --- error
    error: [DIR]/no has no journal: name the data folder of a coordinator
    "##);
}

#[tokio::test]
async fn a_flipped_byte() {
    let data = Data::filled().await;
    tamper(&data.segment(), |content, places| content[places[4].0 + 110] ^= 1);
    assert_snapshot!(data.verify(&[]).await, @r##"
    exit 4
    --- out
    tampered with or damaged: [DIR]/data
      records    4 in 1 files
      chain      8c15afe83191d09a2a145e46f1bbfcc85b1e1b39d447c32966c07e575dde335c
      anchors    none given: what was rewritten as a whole would not be seen
      first bad  record 5
      where      [DIR]/data/journal/00000000000000000001.journal at byte 868
      what       record 5 was changed: the payload does not match its checksum
    --- error
    error: record 5 was changed: the payload does not match its checksum
      keep the folder as it is, and compare it with a backup and its anchors
    "##);
}

#[tokio::test]
async fn a_deleted_record() {
    let data = Data::filled().await;
    tamper(&data.segment(), |content, places| drop(content.drain(places[4].0..places[4].1)));
    assert_snapshot!(data.verify(&[]).await, @r##"
    exit 4
    --- out
    tampered with or damaged: [DIR]/data
      records    4 in 1 files
      chain      8c15afe83191d09a2a145e46f1bbfcc85b1e1b39d447c32966c07e575dde335c
      anchors    none given: what was rewritten as a whole would not be seen
      first bad  record 5
      where      [DIR]/data/journal/00000000000000000001.journal at byte 868
      what       record 5 was removed: record 6 stands in its place
    --- error
    error: record 5 was removed: record 6 stands in its place
      keep the folder as it is, and compare it with a backup and its anchors
    "##);
}

#[tokio::test]
async fn an_inserted_record() {
    let data = Data::filled().await;
    tamper(&data.segment(), |content, places| {
        let copy = content[places[4].0..places[4].1].to_vec();
        content.splice(places[4].1..places[4].1, copy);
    });
    assert_snapshot!(data.verify(&[]).await, @r##"
    exit 4
    --- out
    tampered with or damaged: [DIR]/data
      records    5 in 1 files
      chain      73fb66f33164e7b82750fe9e9440d5b78051b87273448377030331d6f1a767af
      anchors    none given: what was rewritten as a whole would not be seen
      first bad  record 6
      where      [DIR]/data/journal/00000000000000000001.journal at byte 1065
      what       a record was inserted: record 5 stands here once more, where 6 should
    --- error
    error: a record was inserted: record 5 stands here once more, where 6 should
      keep the folder as it is, and compare it with a backup and its anchors
    "##);
}

#[tokio::test]
async fn a_cut_tail_is_seen_by_the_anchors() {
    let data = Data::filled().await;
    tamper(&data.segment(), |content, places| content.truncate(places[6].0));
    fs::remove_file(data.dir().join("journal/durable.mark")).unwrap();
    let by_the_index = data.verify(&[]).await;
    assert!(
        by_the_index.starts_with("exit 4") && by_the_index.contains("the index goes up to record 8"),
        "{by_the_index}"
    );
    fs::remove_dir_all(data.dir().join("index")).unwrap();
    let by_nobody = data.verify(&[]).await;
    assert!(
        by_nobody.starts_with("exit 0") && by_nobody.contains("`durable.mark` is missing"),
        "{by_nobody}"
    );
    assert_snapshot!(data.verify_with_anchors().await, @r##"
    exit 4
    --- out
    tampered with or damaged: [DIR]/data
      records    6 in 1 files
      chain      1c5dd85a9b5d1d40d6b1e63298a4c6c8075f78ef10715549ef1ebdf1211da0a8
      anchors    1 of 2 agree
      first bad  record 7
      where      [DIR]/data/journal/00000000000000000001.journal at byte 1262
      what       records from 7 on were removed: they were acknowledged or anchored and are not there
      told by    the anchor of 1970-01-01T00:00:00Z goes up to record 8, and the journal ends at record 6
    --- error
    error: records from 7 on were removed: they were acknowledged or anchored and are not there
      keep the folder as it is, and compare it with a backup and its anchors
    "##);
}

#[tokio::test]
async fn a_full_rewrite_is_seen_by_the_anchors() {
    let data = Data::filled().await;
    fs::remove_dir_all(data.dir()).unwrap();
    {
        let store = EmbeddedStore::open(&data.dir(), Options::new(uuid::Uuid::from_u128(7))).unwrap();
        for number in [0, 1, 2, 4, 5, 6, 7, 8] {
            store.receive(received(number)).await.unwrap();
        }
    }
    assert!(data.verify(&[]).await.starts_with("exit 0"));
    assert_snapshot!(data.verify_with_anchors().await, @r##"
    exit 4
    --- out
    tampered with or damaged: [DIR]/data
      records    8 in 1 files
      chain      bb311428be16e0ab90c7669b0b88996d3f6179ca7c10d4917a1126960cf9573c
      anchors    0 of 2 agree
      first bad  record 4
      where      [DIR]/data/journal/00000000000000000001.journal at byte 671
      what       the journal was rewritten: up to record 4 it is not what was noted of it elsewhere
      told by    the anchor of 1970-01-01T00:00:00Z has chain hash 8c15afe83191d09a2a145e46f1bbfcc85b1e1b39d447c32966c07e575dde335c for record 4, and the journal has 6b6c7a2ab6ba5bbde97e97132df449afa99e437f955d7930381cdfdaa7272e92
    --- error
    error: the journal was rewritten: up to record 4 it is not what was noted of it elsewhere
      keep the folder as it is, and compare it with a backup and its anchors
    "##);
}

/// An anchor that is older than the journal's end vouches for what is before it, and one that a person has given up goes on telling of it.
#[tokio::test]
async fn how_far_anchors_reach_is_said_also_after_a_loss_was_given_up() {
    let data = Data::filled().await;
    {
        let store = EmbeddedStore::open(&data.dir(), Options::new(uuid::Uuid::from_u128(7))).unwrap();
        store.receive(received(9)).await.unwrap();
    }
    let told = data.verify_with_anchors().await;
    assert!(told.contains("2 of 2 agree, up to record 8: no anchor tells of the records after it"), "{told}");
    let dir = data.dir();
    let (anchors, dir) = (data.path("anchors.jsonl"), dir.to_str().unwrap());
    let arguments =
        ["audit", "verify", "-o", "json", "--data-dir", dir, "--anchor", anchors.to_str().unwrap()];
    assert_eq!(data.quell(&arguments).await.json()["anchored_up_to"], "8");

    tamper(&data.segment(), |content, places| content.truncate(places[5].0));
    let give_up =
        ["store", "accept-loss", "--data-dir", dir, "--at", "5", "--by", "person-1", "--why", "disk"];
    assert_eq!(data.quell(&give_up).await.code, 0);
    let told = data.verify_with_anchors().await;
    assert!(told.starts_with("exit 4") && told.contains("1 of 2 agree"), "{told}");
    assert!(
        told.contains("goes up to record 8, and the journal ends at record 6; its record 6 notes"),
        "{told}"
    );
    assert!(told.contains("after record 5 was lost, or may have been: given up by person-1 at"), "{told}");
    let json = data.quell(&arguments).await.json();
    assert!(json["finding_by_anchor"].as_str().unwrap().contains("goes up to record 8"), "{json}");
    assert_eq!(json["anchored_up_to"], serde_json::Value::Null);
    // It goes on past the anchor: then that record is another one.
    {
        let store = EmbeddedStore::open(&data.dir(), Options::new(uuid::Uuid::from_u128(7))).unwrap();
        for number in 20..24 {
            store.receive(received(number)).await.unwrap();
        }
    }
    let told = data.verify_with_anchors().await;
    assert!(told.contains("first bad  record 8") && told.contains("the journal was rewritten"), "{told}");
    assert!(
        told.contains("for record 8, and the journal has") && told.contains("its record 6 notes"),
        "{told}"
    );
}

/// Neither the durable mark nor an index: whether records are gone is not known, and going on from there is somebody's decision.
#[tokio::test]
async fn an_end_that_nobody_knows_is_decided_by_a_person() {
    let data = Data::filled().await;
    tamper(&data.segment(), |content, places| content.truncate(places[6].0));
    fs::remove_file(data.dir().join("journal/durable.mark")).unwrap();
    fs::remove_dir_all(data.dir().join("index")).unwrap();
    let dir = data.dir();
    let dir = dir.to_str().unwrap();
    let decide = async |at: &str| {
        let arguments =
            ["store", "accept-loss", "--by", "person-1", "--why", "no anchors", "--data-dir", dir];
        data.quell(&[&arguments[..], &["--at", at]].concat()).await
    };
    let other = decide("8").await;
    let told = data.told(&other);
    assert!(
        other.code == 3 && told.contains("cannot be told without anchors") && told.contains("--at 6 --why"),
        "{told}"
    );
    assert!(!data.dir().join("journal/durable.mark").exists(), "nothing looks whole that nobody vouched for");
    assert_eq!(decide("6").await.code, 0);
    let again = data.told(&decide("6").await);
    assert!(again.starts_with("exit 0") && again.contains("was given up before"), "{again}");
    let verified = data.verify(&[]).await;
    assert!(verified.contains("after record 6, noted in record 7: given up by person-1 at"), "{verified}");
    assert!(verified.contains("neither `durable.mark` nor an index says how far it went"), "{verified}");
}

#[tokio::test]
async fn forged_anchors_are_no_anchors() {
    let data = Data::filled().await;
    let path = data.path("anchors.jsonl");
    let text = fs::read_to_string(&path).unwrap().replacen("\"sequence\":\"4\"", "\"sequence\":\"5\"", 1);
    fs::write(&path, text).unwrap();
    assert_snapshot!(data.verify_with_anchors().await, @r##"
    exit 4
    --- out
    --- error
    error: the anchors were tampered with: line 1 of [DIR]/anchors.jsonl has a wrong signature
    "##);
}

#[tokio::test]
async fn a_loss_is_given_up_by_name() {
    let data = Data::filled().await;
    tamper(&data.segment(), |content, places| content.truncate(places[6].0));
    let dir = data.dir();
    let give_up = async |at: &str| {
        let arguments = ["store", "accept-loss", "--by", "person-1", "--why", "no backup", "--data-dir"];
        data.quell(&[&arguments[..], &[dir.to_str().unwrap(), "--at", at]].concat()).await
    };
    let other = give_up("5").await;
    assert_eq!(other.code, 3);
    let told = data.told(&other);
    assert!(told.contains("ends at record 6") && told.contains("--at 6 --why"), "{told}");
    assert_snapshot!(data.told(&give_up("6").await), @r##"
    exit 0
    --- out
    what was lost after record 6 is given up
      noted      in record 7, for `quell audit verify`
      put aside  [DIR]/data/journal.lost-1
    --- error
    "##);
    let again = data.told(&give_up("6").await);
    assert!(again.contains("was given up before") && !again.contains("stands"), "{again}");
    let dir_text = dir.to_str().unwrap();
    let other =
        ["store", "accept-loss", "--data-dir", dir_text, "--at", "6", "--by", "person-2", "--why", "why"];
    let other = data.told(&data.quell(&other).await);
    assert!(other.contains("given up by person-1 at") && other.contains(": no backup"), "{other}");
    assert!(other.contains("what was said now is not noted"), "{other}");
    let blank = ["store", "accept-loss", "--data-dir", dir_text, "--at", "6", "--why", "  "];
    let blank = data.quell(&blank).await;
    assert_eq!(blank.code, 2);
    assert!(blank.error.contains("it has to say something"), "{}", blank.error);
    let verified = data.verify(&[]).await;
    assert!(verified.starts_with("exit 0"), "{verified}");
    assert!(verified.contains("after record 6, noted in record 7: given up by person-1 at"), "{verified}");
    let store = EmbeddedStore::open(&dir, Options::new(uuid::Uuid::from_u128(7))).unwrap();
    store.receive(received(9)).await.unwrap();
}

#[tokio::test]
async fn a_loss_in_a_folder_without_a_journal_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_str().unwrap();
    let ran = quell(&["store", "accept-loss", "--data-dir", dir, "--at", "0", "--why", "y"], None).await;
    assert_eq!(ran.code, 3, "{}", ran.error);
    assert!(ran.error.contains("has no journal: name the data folder of a coordinator"), "{}", ran.error);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn witnesses_that_cannot_be_read_are_an_alarm() {
    let data = Data::filled().await;
    fs::write(data.dir().join("journal/durable.mark"), b"garbage").unwrap();
    let by_the_index = data.verify(&[]).await;
    assert!(
        by_the_index.starts_with("exit 0") && by_the_index.contains("`durable.mark` cannot be read"),
        "{by_the_index}"
    );
    fs::write(data.dir().join("index/db"), b"x").unwrap();
    let by_nobody = data.verify(&[]).await;
    assert!(by_nobody.starts_with("exit 4") && by_nobody.contains("cannot be told"), "{by_nobody}");
}

#[tokio::test]
async fn an_export() {
    let data = Data::filled().await;
    let dir = data.dir();
    let ran = data.quell(&["audit", "export", "-o", "jsonl", "--data-dir", dir.to_str().unwrap()]).await;
    assert_eq!((ran.code, ran.out.lines().count()), (0, 8));
    assert_snapshot!(ran.out.lines().next().unwrap(), @r##"{"actor":null,"chain_hash":"e34eea73b4879206e073a4c6b95412c2af685adce8779999687a66472aefa722","event_types":[],"incident_id":null,"kind":"received","payload":{"alerts":[],"at":"1970-01-01T00:00:00Z","schema":1,"source":"alertmanager","truncated_alerts":0},"payload_digest":"cddcddf0bad493dc8f2e554a8aa65e8a10bc74ee937bbf8e84e16bf4291f10d0","payload_dropped_by":null,"sequence":"1","time":"1970-01-01T00:00:00Z"}"##);
    let since = "1970-01-01T05:30:00Z";
    let ran = data.quell(&["audit", "export", "--since", since, "--data-dir", dir.to_str().unwrap()]).await;
    assert_eq!(ran.out.lines().count(), 2);
}

#[tokio::test]
async fn keys_are_not_overwritten() {
    let data = Data::filled().await;
    let ran = data.quell(&["audit", "key", data.path("audit.key").to_str().unwrap()]).await;
    assert_snapshot!(data.told(&ran), @r##"
    exit 3
    --- out
    --- error
    error: [DIR]/audit.key is there already and is not overwritten
    "##);
}

#[tokio::test]
async fn a_store_goes_to_a_file_and_to_another_folder() {
    let data = Data::filled().await;
    let (dir, copy, moved) = (data.dir(), data.path("copy"), data.path("moved"));
    let exported = data.quell(&["store", "export", "--data-dir", dir.to_str().unwrap()]).await;
    assert_eq!((exported.code, exported.out.lines().count()), (0, 10));
    let import = ["store", "import", "--data-dir", copy.to_str().unwrap()];
    let cut = exported.out.lines().take(5).collect::<Vec<_>>().join("\n") + "\n";
    assert_snapshot!(data.told(&quell(&import, Some(&cut)).await), @r##"
    exit 1
    --- out
    --- error
    error: record 5 of the source is missing; the target was not finished
      a target that was begun is refused until the copy was repeated
      `quell audit verify` says what is wrong with a source
    "##);
    assert_snapshot!(data.told(&quell(&import, Some(&exported.out)).await), @r##"
    exit 0
    --- out
    8 records copied to [DIR]/copy, with 0 documents and 0 changes
    chain hash b8dc0e4e7d4f468fa03b6a854ab94970db3138b066f576b74fba367fd3fb8fc3
    --- error
    "##);
    let migrate = ["store", "migrate", "--from", copy.to_str().unwrap(), "--to", moved.to_str().unwrap()];
    assert_snapshot!(data.told(&data.quell(&migrate).await), @r##"
    exit 0
    --- out
    8 records copied to [DIR]/moved, with 0 documents and 0 changes
    chain hash b8dc0e4e7d4f468fa03b6a854ab94970db3138b066f576b74fba367fd3fb8fc3
    both end at the same record with the same chain hash
    --- error
    "##);
    assert_snapshot!(data.told(&data.quell(&migrate).await), @r##"
    exit 3
    --- out
    --- error
    error: [DIR]/moved is not empty: copy into an empty one
    "##);
    fs::rename(&moved, data.path("other")).unwrap();
    fs::remove_dir_all(&dir).unwrap();
    fs::rename(data.path("other"), &dir).unwrap();
    assert!(data.verify_with_anchors().await.starts_with("exit 0"), "the same anchors hold");
    let unknown = ["store", "copy", "--from", dir.to_str().unwrap(), "--to", "redis://localhost"];
    assert_snapshot!(data.told(&data.quell(&unknown).await), @r##"
    exit 2
    --- out
    --- error
    error: redis:// is not supported by this build
      name a data folder
    "##);
}
