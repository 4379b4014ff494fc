//! `quell audit` on a PostgreSQL database, beside a store that is open.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that cannot be set up has failed, or says that it was skipped"
)]

mod support;

use insta::assert_snapshot;
use jiff::Timestamp;
use quell_store::audit::{AnchorFile, SigningKey};
use quell_store::testing::{ClusterError, PostgresCluster};
use quell_store::{IncidentStore as _, PostgresStore, Received};
use support::{Ran, quell, quell_in};

/// Some received alerts, the same every time, and two anchors.
struct Site {
    cluster: PostgresCluster,
    store: PostgresStore,
    folder: tempfile::TempDir,
}

impl Site {
    async fn filled() -> Option<Self> {
        let cluster = match PostgresCluster::start() {
            Ok(cluster) => cluster,
            Err(missing @ ClusterError::Missing) => {
                println!("skipped: the audit of a database: {missing}");
                return None;
            }
            Err(error) => panic!("{error:?}"),
        };
        cluster.create_database("site").unwrap();
        let store = PostgresStore::open(&cluster.url("site"), uuid::Uuid::from_u128(7)).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let site = Self { cluster, store, folder };
        let key = SigningKey::generate().unwrap();
        key.write_new(&site.folder.path().join("audit.key")).unwrap();
        key.public().write_new(&site.folder.path().join("audit.key.pub")).unwrap();
        let mut anchors = AnchorFile::open(&site.folder.path().join("anchors.jsonl")).unwrap();
        for number in 0..8_u64 {
            site.store.receive(received(number)).await.unwrap();
            if number == 3 || number == 7 {
                let head = site.store.chain_head().await.unwrap().unwrap();
                anchors.append(&key.sign(head, Timestamp::UNIX_EPOCH).unwrap()).unwrap();
            }
        }
        Some(site)
    }

    /// With a password, which nobody asks for here and which is never to be seen.
    fn url(&self) -> String {
        self.cluster.url("site").replace("postgres@", "postgres:hush-hush@")
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn told(&self, ran: &Ran) -> String {
        let text = format!("exit {}\n--- out\n{}--- error\n{}", ran.code, ran.out, ran.error);
        assert!(!text.contains("hush-hush"), "{text}");
        text.replace(&self.path(""), "[DIR]/").replace(&format!(":{}/", self.cluster.port()), ":[PORT]/")
    }

    async fn verify(&self, more: &[&str]) -> String {
        let url = self.url();
        let mut arguments = vec!["audit", "verify", "--database-url", &url];
        arguments.extend(more);
        self.told(&quell(&arguments, None).await)
    }

    async fn verify_with_anchors(&self) -> String {
        let (anchors, key) = (self.path("anchors.jsonl"), self.path("audit.key.pub"));
        self.verify(&["--anchor", &anchors, "--public-key", &key]).await
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

#[tokio::test(flavor = "multi_thread")]
async fn a_database_is_named_by_a_flag_a_variable_or_the_configuration() {
    let Some(site) = Site::filled().await else { return };
    assert_snapshot!(site.verify_with_anchors().await, @r##"
    exit 0
    --- out
    sound: postgres://***@127.0.0.1:[PORT]/site?sslmode=***
      records    8
      chain      b8dc0e4e7d4f468fa03b6a854ab94970db3138b066f576b74fba367fd3fb8fc3
      anchors    2 of 2 agree, up to record 8
    --- error
    "##);
    let by_flag = site.verify(&[]).await;
    assert!(by_flag.starts_with("exit 0"), "{by_flag}");
    let url = site.url();
    let by_variable = quell_in(&[("DATABASE_URL", &url)], &["audit", "verify"], None).await;
    assert_eq!(site.told(&by_variable), by_flag);
    let file = site.path("quell.yaml");
    std::fs::write(&file, format!("coordinator:\n  database_url: \"{url}\"\n")).unwrap();
    let by_file = quell(&["audit", "verify", "--config", &file], None).await;
    assert_eq!(site.told(&by_file), by_flag);
    // A folder that is named is what is meant.
    let nowhere = site.path("nowhere");
    let folder = ["audit", "verify", "--data-dir", &nowhere];
    let ran = quell_in(&[("DATABASE_URL", &url)], &folder, None).await;
    assert_snapshot!(site.told(&ran), @r##"
    exit 1
    --- out
    --- error
    error: [DIR]/nowhere has no journal: name the data folder of a coordinator
    "##);
    std::fs::write(&file, format!("coordinator:\n  data_dir: \"{nowhere}\"\n")).unwrap();
    let by_file = quell(&["audit", "verify", "--config", &file], None).await;
    assert_eq!(site.told(&by_file), site.told(&ran));

    let lines =
        quell(&["audit", "export", "--database-url", &url, "--since", "1970-01-01T05:30:00Z"], None).await;
    assert_eq!((lines.code, lines.out.lines().count()), (0, 2), "{}", lines.error);
    let json = quell(&["audit", "verify", "-o", "json", "--database-url", &url], None).await.json();
    assert_eq!((json["sound"].clone(), json["records"].clone()), (true.into(), "8".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn tampering_ends_with_four_and_names_the_record() {
    let Some(site) = Site::filled().await else { return };
    let tamper = |statements: &str| site.cluster.execute("site", statements).unwrap();
    tamper("UPDATE journal SET payload = set_byte(payload, 9, get_byte(payload, 9) # 1) WHERE sequence = 5");
    assert_snapshot!(site.verify(&[]).await, @r##"
    exit 4
    --- out
    tampered with or damaged: postgres://***@127.0.0.1:[PORT]/site?sslmode=***
      records    4
      chain      8c15afe83191d09a2a145e46f1bbfcc85b1e1b39d447c32966c07e575dde335c
      anchors    none given: what was rewritten as a whole would not be seen
      first bad  record 5
      what       record 5 was changed: the payload does not match its digest
    --- error
    error: record 5 was changed: the payload does not match its digest
      keep the database as it is, and compare it with a backup and its anchors
    "##);
    tamper("DELETE FROM journal WHERE sequence > 4");
    tamper(
        "UPDATE journal_head SET (sequence, chain_hash) = (SELECT sequence, chain_hash FROM journal WHERE sequence = 4)",
    );
    assert!(site.verify(&[]).await.starts_with("exit 0"));
    assert_snapshot!(site.verify_with_anchors().await, @r##"
    exit 4
    --- out
    tampered with or damaged: postgres://***@127.0.0.1:[PORT]/site?sslmode=***
      records    4
      chain      8c15afe83191d09a2a145e46f1bbfcc85b1e1b39d447c32966c07e575dde335c
      anchors    1 of 2 agree
      first bad  record 5
      what       records from 5 on were removed: they were acknowledged or anchored and are not there
      told by    the anchor of 1970-01-01T00:00:00Z goes up to record 8, and the journal ends at record 4
    --- error
    error: records from 5 on were removed: they were acknowledged or anchored and are not there
      keep the database as it is, and compare it with a backup and its anchors
    "##);

    site.cluster.create_database("empty").unwrap();
    let empty = quell(&["audit", "verify", "--database-url", &site.cluster.url("empty")], None).await;
    assert_snapshot!(site.told(&empty), @r##"
    exit 1
    --- out
    --- error
    error: the database has no journal: name the one that a coordinator keeps its data in (`coordinator.database_url`)
    "##);
    let wrong =
        quell(&["audit", "verify", "--database-url", "mysql://quell:hush-hush@127.0.0.1/site"], None).await;
    assert_snapshot!(site.told(&wrong), @r##"
    exit 1
    --- out
    --- error
    error: cannot read the database's address: expected `postgres://user:password@host:port/database`
    "##);
}
