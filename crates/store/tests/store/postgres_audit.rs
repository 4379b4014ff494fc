//! Tampering with a database, by somebody who may write to it.

use quell_store::audit::{self, Anchor, AuditError, AuditReport, SigningKey};
use quell_store::testing::PostgresCluster;
use quell_store::{ChainHash, IncidentStore, PostgresStore, StoreError};
use sqlx::{AssertSqlSafe, PgConnection};

use crate::embedded::fill;
use crate::fixtures::*;
use crate::postgres::{JOURNAL, cluster, fresh_schema, sql, verify_chain};
use crate::retention::{later, lived, retained_all};

/// A journal in a schema of its own, with an anchor in its middle and one at its end.
struct Anchored {
    url: String,
    anchors: Vec<Anchor>,
    store: PostgresStore,
}

impl Anchored {
    async fn fill(cluster: &PostgresCluster, schema: &str) -> Self {
        let url = fresh_schema(cluster, "site", schema).await;
        let store = PostgresStore::open(&url, JOURNAL).await.unwrap();
        let key = SigningKey::generate().unwrap();
        fill(&store).await;
        let mut anchors = vec![key.sign(store.chain_head().await.unwrap().unwrap(), at(1)).unwrap()];
        lived(&store, 40).await;
        anchors.push(key.sign(store.chain_head().await.unwrap().unwrap(), at(2)).unwrap());
        Self { url, anchors, store }
    }

    async fn verify(&self) -> AuditReport {
        audit::verify_database(&self.url, &[]).await.unwrap()
    }

    async fn finding(&self, anchors: &[Anchor]) -> (u64, String) {
        let report = audit::verify_database(&self.url, anchors).await.unwrap();
        let finding = report.finding.expect("it was tampered with");
        assert_eq!(finding.segment, None);
        (finding.sequence, finding.what)
    }

    async fn tamper(&self, statements: &str) {
        use sqlx::Connection as _;
        let mut connection = PgConnection::connect(&self.url).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(statements)).execute(&mut connection).await.unwrap();
    }

    /// Makes the chain good again from its beginning on, as somebody can who may write to the database.
    async fn rewrite_chain(&self) {
        let mut chain = ChainHash::genesis(JOURNAL);
        let mut after = 0;
        loop {
            let records = self.store.records_after(after, 100).await.unwrap();
            let Some(last) = records.last() else { break };
            after = last.sequence;
            for record in records {
                let digest = hex::encode(record.payload_digest());
                chain = record.chain_after(chain).unwrap();
                let sequence = record.sequence;
                self.tamper(&format!(
                    "UPDATE journal SET payload_digest = '\\x{digest}', chain_hash = '\\x{chain}' WHERE sequence = {sequence}; \
                     UPDATE journal_head SET sequence = {sequence}, chain_hash = '\\x{chain}'"
                ))
                .await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_changed_removed_or_inserted_is_named() {
    let Some(cluster) = cluster() else { return };
    cluster.create_database("site").unwrap();
    let changed = "record 5 was changed: the payload does not match its digest";
    let chain = "was changed or inserted, or the one before it: the chain hash does not follow";
    let flip =
        "UPDATE journal SET payload = set_byte(payload, 50, get_byte(payload, 50) # 1) WHERE sequence = 5";
    let cases = [
        (flip.to_owned(), 5, changed),
        // With a digest that fits.
        (format!("{flip}; UPDATE journal SET payload_digest = sha256(payload) WHERE sequence = 5"), 5, chain),
        ("UPDATE journal SET kind = 3 WHERE sequence = 6".to_owned(), 6, chain),
        (
            "DELETE FROM journal WHERE sequence = 7".to_owned(),
            7,
            "record 7 was removed: record 8 stands in its place",
        ),
        (
            "DELETE FROM journal WHERE sequence BETWEEN 7 AND 9".to_owned(),
            7,
            "records 7 to 9 were removed: record 10 stands in their place",
        ),
        // Those that follow get new numbers, downwards and upwards.
        (
            "DELETE FROM journal WHERE sequence = 7; UPDATE journal SET sequence = -sequence WHERE sequence > 7; \
             UPDATE journal SET sequence = -sequence - 1 WHERE sequence < 0"
                .to_owned(),
            7,
            chain,
        ),
        (
            "UPDATE journal SET sequence = -sequence WHERE sequence > 7; UPDATE journal SET sequence = 1 - sequence WHERE sequence < 0; \
             INSERT INTO journal SELECT 8, kind, flags, at, payload, payload_digest, chain_hash FROM journal WHERE sequence = 7"
                .to_owned(),
            8,
            chain,
        ),
        (
            "INSERT INTO journal SELECT 0, kind, flags, at, payload, payload_digest, chain_hash FROM journal WHERE sequence = 1"
                .to_owned(),
            1,
            "a record was inserted: record 0 stands here, where 1 should",
        ),
        (
            "UPDATE journal SET payload_bytes = octet_length(payload), payload = NULL WHERE sequence = 4".to_owned(),
            4,
            "the payload of record 4 was removed, and no retention record says so",
        ),
        (
            "UPDATE journal SET payload = NULL WHERE sequence = 4".to_owned(),
            4,
            "record 4 was changed: its payload is gone without its length",
        ),
        (
            "UPDATE journal_head SET journal_id = gen_random_uuid()".to_owned(),
            1,
            chain,
        ),
    ];
    for (number, (statements, sequence, what)) in cases.into_iter().enumerate() {
        let site = Anchored::fill(&cluster, &format!("case_{number}")).await;
        let report = site.verify().await;
        assert_eq!((report.finding, report.dropped, report.anchors_agreeing), (None, 0, 0));
        assert_eq!(report.head, Some(site.store.head().await.unwrap()));
        site.tamper(&statements).await;
        let found = site.finding(&[]).await;
        assert_eq!(found.0, sequence, "{statements}: {}", found.1);
        assert!(found.1.ends_with(what), "{statements}: {}", found.1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_the_journal() {
    let Some(cluster) = cluster() else { return };
    cluster.create_database("site").unwrap();
    let site = Anchored::fill(&cluster, "ends").await;
    let end = site.store.head().await.unwrap().sequence;
    assert_eq!(audit::verify_database(&site.url, &site.anchors).await.unwrap().anchors_agreeing, 2);

    // One more, with a chain hash that fits or not.
    site.tamper(&format!(
        "INSERT INTO journal SELECT {end} + 1, kind, flags, at, payload, payload_digest, chain_hash FROM journal WHERE sequence = {end}"
    ))
    .await;
    let (sequence, what) = site.finding(&[]).await;
    assert_eq!(sequence, end + 1);
    assert!(what.starts_with(&format!("record {sequence} was inserted")), "{what}");
    // Cut, and the database still says where the journal ended.
    site.tamper(&format!("DELETE FROM journal WHERE sequence > {end} - 2")).await;
    let (sequence, what) = site.finding(&[]).await;
    assert_eq!(sequence, end - 1);
    assert!(what.starts_with(&format!("records from {sequence} on were removed")), "{what}");
    // That was made to fit: nothing shows without the anchors.
    site.tamper(
        "UPDATE journal_head SET (sequence, chain_hash) = (SELECT sequence, chain_hash FROM journal ORDER BY sequence DESC LIMIT 1)",
    )
    .await;
    assert_eq!(site.verify().await.finding, None);
    assert_eq!(site.finding(&site.anchors).await, (sequence, what));
    // Only the note of the end was changed.
    site.tamper("UPDATE journal_head SET chain_hash = sha256('x')").await;
    let (sequence, what) = site.finding(&[]).await;
    assert_eq!(sequence, end - 2);
    assert!(what.starts_with("what the database says of the journal's end was changed"), "{what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_an_anchor_a_rewritten_chain_is_found() {
    let Some(cluster) = cluster() else { return };
    cluster.create_database("site").unwrap();
    let site = Anchored::fill(&cluster, "rewritten").await;
    site.tamper(
        "UPDATE journal SET payload = set_byte(payload, 50, get_byte(payload, 50) # 1) WHERE sequence = 5",
    )
    .await;
    site.rewrite_chain().await;
    assert_eq!(site.verify().await.finding, None, "without the anchor nothing shows");
    let (sequence, what) = site.finding(&site.anchors).await;
    assert_eq!(sequence, site.anchors[0].head.sequence);
    assert!(what.starts_with("the journal was rewritten: up to record"), "{what}");
    // Another journal as a whole.
    let url = fresh_schema(&cluster, "site", "another").await;
    fill(&PostgresStore::open(&url, uuid::Uuid::from_u128(5)).await.unwrap()).await;
    let report = audit::verify_database(&url, &site.anchors).await.unwrap();
    assert!(report.finding.unwrap().what.starts_with("the whole journal was replaced"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_reads_only_and_beside_coordinators_and_after_retention() {
    let Some(cluster) = cluster() else { return };
    cluster.create_database("site").unwrap();
    let nobody = cluster.url("site");
    let error = audit::verify_database(&nobody, &[]).await.unwrap_err();
    assert!(matches!(error, AuditError::EmptyDatabase), "{error}");
    let mut looking = sql(&cluster, "site").await;
    let (tables,): (i64,) = sqlx::query_as("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
        .fetch_one(&mut looking)
        .await
        .unwrap();
    assert_eq!(tables, 0, "an audit makes nothing");

    let site = Anchored::fill(&cluster, "beside").await;
    let writing = tokio::spawn({
        let store = PostgresStore::open(&site.url, JOURNAL).await.unwrap();
        async move {
            for number in 200..230 {
                lived(&store, number).await;
            }
            retained_all(&store, later()).await;
        }
    });
    let mut audits = 0;
    while !writing.is_finished() {
        let report = audit::verify_database(&site.url, &site.anchors).await.unwrap();
        assert_eq!((report.finding, report.anchors_agreeing), (None, 2));
        audits += 1;
    }
    writing.await.unwrap();
    let report = audit::verify_database(&site.url, &site.anchors).await.unwrap();
    assert!(audits > 1 && report.dropped > 60 && report.retention_records > 0, "{audits} {report:?}");
    assert_eq!(report.finding, None);
    assert_eq!(report.head.unwrap().sequence, verify_chain(&site.store).await);

    // Each record as a line, with what dropped it.
    let mut lines = Vec::new();
    let mut write = |line| {
        lines.push(line);
        Ok(())
    };
    let exported = audit::export_database(&site.url, None, &mut write).await.unwrap();
    assert_eq!(exported.records, report.head.unwrap().sequence);
    let dropped: Vec<_> = lines.iter().filter(|line| line["payload"].is_null()).collect();
    assert_eq!(dropped.len() as u64, report.dropped);
    for line in dropped {
        let by: usize = line["payload_dropped_by"].as_str().unwrap().parse().unwrap();
        assert_eq!(lines[by - 1]["kind"], "retained", "{line}");
    }
    let mut since = 0;
    let mut write = |_| {
        since += 1;
        Ok(())
    };
    audit::export_database(&site.url, Some(later()), &mut write).await.unwrap();
    assert!(since > 0 && since < lines.len(), "{since}");

    // A retention record that says less than is gone.
    let (record,): (i64,) = sqlx::query_as("SELECT min(sequence) FROM beside.journal WHERE payload IS NULL")
        .fetch_one(&mut looking)
        .await
        .unwrap();
    assert!(record > 0);
    site.tamper("UPDATE journal SET payload_bytes = payload_bytes + 1 WHERE payload IS NULL").await;
    let (sequence, what) = site.finding(&[]).await;
    assert_eq!(sequence, record as u64, "{what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_cannot_be_judged_is_an_error() {
    let Some(cluster) = cluster() else { return };
    cluster.create_database("site").unwrap();
    let site = Anchored::fill(&cluster, "newer").await;
    site.tamper("INSERT INTO _sqlx_migrations VALUES (1000, 'later', now(), true, '', 0)").await;
    let error = audit::verify_database(&site.url, &[]).await.unwrap_err();
    assert!(matches!(error, AuditError::Database(StoreError::NewerSchema { found: 1000, .. })), "{error}");
    let nowhere = "postgres://quell:secret@127.0.0.1:1/site?sslmode=disable";
    let error = audit::verify_database(nowhere, &[]).await.unwrap_err();
    assert!(matches!(error, AuditError::Database(StoreError::Unavailable(_))), "{error}");
    assert!(!format!("{error:?} {error}").contains("secret"));
}
