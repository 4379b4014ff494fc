//! The PostgreSQL store on a real server: the suite, several coordinators, other versions, copies.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use quell_incident::Event;
use quell_incident::ids::{Digest, Revision};
use quell_incident::severity::Priority;
use quell_incident::workflow::Claim;
use quell_journal::ChainHash;
use quell_store::testing::{ClusterError, PostgresCluster};
use quell_store::{
    EmbeddedStore, IncidentStore, Lease, ListQuery, PostgresStore, ReceivedPosition, StoreError,
    StoredContent, StoredRecord, Work,
};
use sqlx::{Connection as _, PgConnection};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::conformance::leases::{coordinator, is_lost, work_of};
use crate::conformance::{Fresh, run};
use crate::fixtures::*;
use crate::{embedded, view};

pub(crate) const JOURNAL: Uuid = Uuid::from_u128(77);
/// For what happens soon.
pub(crate) const SOON: Duration = Duration::from_secs(30);

pub(crate) fn cluster() -> Option<PostgresCluster> {
    match PostgresCluster::start() {
        Ok(cluster) => Some(cluster),
        Err(missing @ ClusterError::Missing) => {
            println!("skipped: the PostgreSQL store: {missing}");
            None
        }
        Err(error) => panic!("{error:?}"),
    }
}

pub(crate) async fn open(cluster: &PostgresCluster, database: &str) -> PostgresStore {
    PostgresStore::open(&cluster.url(database), JOURNAL).await.unwrap()
}

/// A database that nobody has used.
pub(crate) async fn fresh(cluster: &PostgresCluster, database: &str) -> Arc<PostgresStore> {
    cluster.create_database(database).unwrap();
    Arc::new(open(cluster, database).await)
}

pub(crate) async fn sql(cluster: &PostgresCluster, database: &str) -> PgConnection {
    PgConnection::connect(&cluster.url(database)).await.unwrap()
}

/// The address of a schema that nobody has used: it is made and removed in a fraction of a database's time.
pub(crate) async fn fresh_schema(cluster: &PostgresCluster, database: &str, schema: &str) -> String {
    let create = sqlx::AssertSqlSafe(format!("CREATE SCHEMA {schema}"));
    sqlx::raw_sql(create).execute(&mut sql(cluster, database).await).await.unwrap();
    format!("{}&options[search_path]={schema}", cluster.url(database))
}

/// Asks until it is so.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let asking = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(SOON, asking).await.is_ok(), "not in time: {what}");
}

/// Recomputes the chain from its beginning.
pub(crate) async fn verify_chain(store: &PostgresStore) -> u64 {
    let mut chain = ChainHash::genesis(store.journal_id());
    let mut sequence = 0;
    loop {
        let records = store.records_after(sequence, 100).await.unwrap();
        if records.is_empty() {
            return sequence;
        }
        for record in records {
            assert_eq!(record.sequence, sequence + 1, "without gaps");
            sequence = record.sequence;
            chain = record.chain_after(chain).unwrap();
            assert_eq!(chain, record.chain_hash, "record {sequence}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_postgres_store_conforms() {
    let Some(cluster) = cluster() else { return };
    cluster.create_database("cases").unwrap();
    let number = std::sync::atomic::AtomicUsize::new(0);
    run(async || {
        let schema = format!("case_{}", number.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        let url = fresh_schema(&cluster, "cases", &schema).await;
        let store: Arc<dyn IncidentStore> = Arc::new(PostgresStore::open(&url, JOURNAL).await.unwrap());
        Fresh { store, _keep: None }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_stores_share_one_database() {
    let Some(cluster) = cluster() else { return };
    let one = fresh(&cluster, "site").await;
    let other = Arc::new(open(&cluster, "site").await);
    revisions_and_locks(&one, &other).await;
    changes_of_the_other(&one, &other).await;
    claims(&one, &other).await;
    assert!(verify_chain(&one).await > 100);
    // What was made here and there is the same for both, and for one that is opened now.
    let late = open(&cluster, "site").await;
    let seen = view::of(&*one).await;
    assert_eq!(view::of(&*other).await, seen);
    assert_eq!(view::of(&late).await, seen);
}

async fn revisions_and_locks(one: &Arc<PostgresStore>, other: &Arc<PostgresStore>) {
    let mut won = 0;
    for round in 0..20 {
        let incident = opened(&**one, round).await;
        let mut racers = JoinSet::new();
        for racer in 0..6 {
            let store = Arc::clone(if racer % 2 == 0 { one } else { other });
            let incident = Arc::clone(&incident);
            racers.spawn(async move {
                let token = store.locks(&[target("db-1")]).await.unwrap()[&target("db-1")].token.next().0;
                let append = claim(&incident, vec![Claim::Take(lock("db-1", token))]);
                match store.append(append).await {
                    Ok(taken) => Some((taken, token)),
                    Err(StoreError::Conflict { .. } | StoreError::ClaimRefused { .. }) => None,
                    Err(error) => panic!("{error:?}"),
                }
            });
            other.receive(received(round)).await.unwrap();
        }
        let taken: Vec<_> = racers.join_all().await.into_iter().flatten().collect();
        assert_eq!(taken.len(), 1);
        won += taken.len();
        let (incident, token) = &taken[0];
        other.append(claim(incident, vec![Claim::Release(lock("db-1", *token))])).await.unwrap();
    }
    let locks = one.locks(&[target("db-1")]).await.unwrap();
    assert_eq!(locks[&target("db-1")].token.0, won as u64, "each holder had a token of its own");
}

async fn changes_of_the_other(one: &PostgresStore, other: &PostgresStore) {
    let (mut at_one, mut at_other) = (one.changes(), other.changes());
    let incident = opened(one, 100).await;
    let incident = other.append(note(&incident, "from the other")).await.unwrap();
    one.append(note(&incident, "and back")).await.unwrap();
    for changes in [&mut at_one, &mut at_other] {
        for revision in [2, 3, 4] {
            // What was appended elsewhere before may be told late.
            let of_this = async {
                loop {
                    let changed = changes.recv().await.unwrap();
                    if changed.incident_id == incident.id {
                        return changed;
                    }
                }
            };
            let changed = tokio::time::timeout(SOON, of_this).await.unwrap();
            assert_eq!(changed.revision, Revision(revision), "in order, and each once");
        }
        assert!(changes.try_recv().is_err(), "each is told once");
    }
}

async fn claims(one: &Arc<PostgresStore>, other: &Arc<PostgresStore>) {
    // Each unfinished incident goes to one of many coordinators.
    let all: BTreeSet<Work> = one.unfinished().await.unwrap().into_iter().map(Work::Incident).collect();
    let mut racers = JoinSet::new();
    for number in 100..108 {
        let store = Arc::clone(if number % 2 == 0 { one } else { other });
        racers.spawn(async move {
            store.renew(coordinator(number), Duration::from_secs(600)).await.unwrap();
            let mut leases: Vec<Lease> = Vec::new();
            loop {
                let some = store.claim_unfinished(coordinator(number), 2).await.unwrap();
                if some.is_empty() {
                    return leases;
                }
                assert!(some.len() <= 2);
                leases.extend(some);
            }
        });
    }
    let claimed: Vec<Lease> = racers.join_all().await.into_iter().flatten().collect();
    assert_eq!(claimed.len(), all.len());
    assert_eq!(claimed.iter().map(|lease| lease.work).collect::<BTreeSet<_>>(), all);
    for number in 100..108 {
        one.release(coordinator(number)).await.unwrap();
    }

    // One that does not renew in time loses all of it, whatever it believes.
    let (slow, quick) = (coordinator(1), coordinator(2));
    let incident = opened(&**one, 200).await;
    let work = Work::Incident(incident.id);
    one.renew(slow, Duration::from_millis(400)).await.unwrap();
    let lease = one.claim(slow, &[work, Work::Correlation]).await.unwrap();
    assert_eq!(work_of(&lease).len(), 2);
    let lease = *lease.iter().find(|lease| lease.work == work).unwrap();
    let incident = one.append(note(&incident, "in time").fenced(lease)).await.unwrap();
    other.renew(quick, Duration::from_secs(600)).await.unwrap();
    until("the lease ends", async || !other.claim(quick, &[work]).await.unwrap().is_empty()).await;
    let taken = other.claim(quick, &[work]).await.unwrap()[0];
    assert!(taken.token > lease.token);
    assert!(is_lost(one.append(note(&incident, "woken up").fenced(lease)).await));
    assert!(is_lost(one.set_correlated(ReceivedPosition(1), Some(&lease)).await));
    assert!(is_lost(one.renew(slow, Duration::from_secs(10)).await));
    assert!(is_lost(one.claim(slow, &[work]).await));
    assert!(is_lost(one.claim_unfinished(slow, 1).await));
    other.append(note(&incident, "taken over").fenced(taken)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_is_opened_by_many_and_by_the_right_version() {
    let Some(cluster) = cluster() else { return };
    cluster.create_database("site").unwrap();
    let mut openings = JoinSet::new();
    for number in 0..6 {
        let url = cluster.url("site");
        openings.spawn(async move { PostgresStore::open(&url, Uuid::from_u128(number)).await.unwrap() });
    }
    let stores = openings.join_all().await;
    let id = stores[0].journal_id();
    assert!(stores.iter().all(|store| store.journal_id() == id), "it has one identity");
    for (number, store) in (0..).zip(&stores) {
        opened(store, number).await;
    }
    assert_eq!(verify_chain(&stores[0]).await, 6);

    let mut connection = sql(&cluster, "site").await;
    let newer = "INSERT INTO _sqlx_migrations VALUES (1000, 'later', now(), true, '', 0)";
    sqlx::raw_sql(newer).execute(&mut connection).await.unwrap();
    let error = PostgresStore::open(&cluster.url("site"), JOURNAL).await.unwrap_err();
    assert!(matches!(error, StoreError::NewerSchema { found: 1000, known: 1..1000 }), "{error:?}");

    let error = PostgresStore::open(&cluster.url("nowhere"), JOURNAL).await.unwrap_err();
    assert!(matches!(error, StoreError::Database { .. } | StoreError::Unavailable(_)), "{error:?}");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("postgres://quell:secret@127.0.0.1:{port}/site?sslmode=disable");
    let error = PostgresStore::open(&url, JOURNAL).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    assert!(!format!("{error:?} {error}").contains("secret"));
    let error = PostgresStore::open("mysql://quell:secret@127.0.0.1/x", JOURNAL).await;
    assert!(!format!("{error:?}").contains("secret"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_go_from_one_backend_to_the_other() {
    let Some(cluster) = cluster() else { return };
    let folder = tempfile::tempdir().unwrap();
    let store = embedded::reopened(folder.path());
    embedded::fill(&store).await;
    let expected = view::of(&store).await;
    drop(store);
    let (journal, _) =
        quell_journal::Journal::open(&folder.path().join("journal"), embedded::options().journal).unwrap();
    let entries = journal.iter_from(1).map(|entry| entry.unwrap());
    let records: Vec<StoredRecord> = entries.map(StoredRecord::from).collect();

    let target = fresh(&cluster, "site").await;
    // One that was changed, one that is missing, and an import that nobody finishes: nothing of it stays.
    let mut changed = records.clone();
    let StoredContent::Payload(payload) = &mut changed[7].content else { panic!() };
    payload.push(b' ');
    let mut gap = records.clone();
    gap.remove(3);
    for (bad, sequence) in [(changed, 8), (gap, 5)] {
        let mut import = target.begin_import(JOURNAL).await.unwrap();
        let error = import.write(&bad).await.unwrap_err();
        assert!(matches!(error, StoreError::Record { sequence: found, .. } if found == sequence), "{error}");
    }
    let mut import = target.begin_import(JOURNAL).await.unwrap();
    import.write(&records).await.unwrap();
    drop(import);
    assert_eq!(target.records_after(0, 9).await.unwrap(), []);

    let mut import = target.begin_import(JOURNAL).await.unwrap();
    for some in records.chunks(5) {
        import.write(some).await.unwrap();
    }
    assert_eq!(import.finish().await.unwrap(), (journal.last().sequence, journal.last().chain_hash));
    let target = open(&cluster, "site").await;
    assert_eq!(view::of(&target).await, expected);
    assert_eq!(verify_chain(&target).await, records.len() as u64);
    let back = target.records_after(0, 10_000).await.unwrap();
    assert_eq!(back, records);
    let error = target.begin_import(JOURNAL).await.err().unwrap();
    assert!(matches!(error, StoreError::NotEmpty { records: found } if found == records.len() as u64));

    // And it goes on from there, as the embedded one does.
    let store = {
        drop(journal);
        EmbeddedStore::open(folder.path(), embedded::options()).unwrap()
    };
    for store in [&store as &dyn IncidentStore, &target] {
        let incident = store.incident(incident_id(4)).await.unwrap().unwrap();
        store.append(note(&incident, "goes on")).await.unwrap();
        store.receive(received(12)).await.unwrap();
    }
    let (mut one, mut other) = (view::of(&store).await, view::of(&target).await);
    // Envelopes have ids of their own.
    one.incidents.remove(&incident_id(4));
    other.incidents.remove(&incident_id(4));
    assert_eq!(one, other);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_texts_and_times_are_kept_and_people_can_read_the_tables() {
    let Some(cluster) = cluster() else { return };
    let store = fresh(&cluster, "site").await;
    let mut append = crate::fixtures::open(1, Priority::P0, Timestamp::MIN);
    let Event::Opened { head, .. } = &mut append.envelopes[0].event else { panic!() };
    head.title = "zero \0 within".to_owned();
    head.description = "also \0 here".to_owned();
    let mut key = message(1);
    key.caller = "some\0body".to_owned();
    let append = append.answering(key.clone(), Digest::of_bytes(b"1"));
    let incident = store.append(append).await.unwrap();
    assert_eq!(incident.title, "zero \0 within");
    let mut cool = cool_down("class\0", "db-1", "restart", Timestamp::MAX);
    let incident = store.append(claim(&incident, vec![Claim::CoolDown(cool.clone())])).await.unwrap();
    cool.until = Timestamp::MAX;
    let again = open(&cluster, "site").await;
    assert_eq!(again.incident(incident.id).await.unwrap().unwrap(), incident);
    assert_eq!(again.message(&key).await.unwrap().unwrap().incident_id, incident.id);
    assert_eq!(again.cool_downs("class\0", &[target("db-1")], at(0)).await.unwrap(), [cool]);
    assert_eq!(again.list(&ListQuery::default()).await.unwrap().rows[0].title, "zero \0 within");
    let mut batch = received(1);
    batch.at = Timestamp::MAX;
    batch.group_key = Some("\0".repeat(10));
    store.receive(batch.clone()).await.unwrap();
    assert_eq!(again.received_after(ReceivedPosition::default(), 1).await.unwrap()[0].1, batch);

    // A closed one beside it, as `psql` shows them.
    let closed = store.append(close(&*opened(&*store, 2).await)).await.unwrap();
    let mut connection = sql(&cluster, "site").await;
    type Columns = (String, String, String, String, String, Option<String>, String);
    let rows: Vec<Columns> = sqlx::query_as(
        "SELECT alert_name, priority, status, description, to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS'), \
         diagnostics::text, remediation_actions::text FROM incidents ORDER BY created_at",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    let (name, priority, status, description, created, diagnostics, actions) = &rows[0];
    assert_eq!([name, priority, status], ["HighMemoryUsage", "P0", "open"]);
    assert_eq!(description, "also \u{fffd} here");
    assert_eq!(created, "0001-01-01 00:00:00", "the database's own calendar is shorter");
    assert_eq!((diagnostics, actions.as_str()), (&None, "[]"));
    let (_, priority, status, ..) = &rows[1];
    assert_eq!([priority.as_str(), status], ["P1", closed.status().as_str()]);
    let (resolved,): (bool,) =
        sqlx::query_as("SELECT resolved_at IS NOT NULL FROM incidents WHERE status = 'closed'")
            .fetch_one(&mut connection)
            .await
            .unwrap();
    assert_eq!(resolved, closed.resolved_at.is_some());
}
