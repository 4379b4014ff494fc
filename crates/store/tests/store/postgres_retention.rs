//! Retention on PostgreSQL: by several coordinators at once, killed anywhere, and under churn.

use std::sync::Arc;

use quell_incident::workflow::Claim;
use quell_store::testing::PostgresCluster;
use quell_store::{IncidentStore, ListQuery, PostgresStore, ReceivedPosition, RetentionBudget, StoreError};
use sqlx::PgConnection;
use tokio::task::JoinSet;

use crate::fixtures::*;
use crate::postgres::{JOURNAL, cluster, fresh, open, sql, verify_chain};
use crate::proxy::Proxy;
use crate::retention::{later, lived, retained_all, tiny};
use crate::view;

async fn count(connection: &mut PgConnection, question: &'static str) -> i64 {
    let (count,): (i64,) = sqlx::query_as(question).fetch_one(connection).await.unwrap();
    count
}

const PAYLOADS: &str = "SELECT count(*) FROM journal WHERE payload IS NOT NULL";
const GIVEN_UP: &str = "SELECT count(*) FROM payloads_given_up";

/// Payloads that are gone are those that retention records name, without the records that always stay.
async fn only_what_is_given_up_is_gone(connection: &mut PgConnection) {
    let gone_wrongly = "SELECT count(*) FROM journal WHERE payload IS NULL AND kind IN (3, 5) OR (payload IS NULL) <> (payload_bytes IS NOT NULL)";
    assert_eq!(count(connection, gone_wrongly).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_coordinators_and_writers_at_once() {
    let Some(cluster) = cluster() else { return };
    let one = fresh(&cluster, "site").await;
    let other = Arc::new(open(&cluster, "site").await);
    for number in 0..40 {
        lived(&*one, number).await;
    }
    let open_before = opened(&*one, 500).await;
    let mut tasks = JoinSet::new();
    for store in [&one, &other, &one, &other] {
        let store = Arc::clone(store);
        tasks.spawn(async move { retained_all(&*store, later()).await.incidents });
    }
    let writing = tokio::spawn({
        let store = Arc::clone(&other);
        async move {
            for number in 100..120 {
                lived(&*store, number).await;
            }
        }
    });
    let dropped: u64 = tasks.join_all().await.into_iter().sum();
    writing.await.unwrap();
    let dropped = dropped + retained_all(&*one, later()).await.incidents;
    assert_eq!(dropped, 60, "each is dropped once");
    for store in [&one, &other] {
        let page = store.list(&ListQuery::default()).await.unwrap();
        assert_eq!(page.rows.iter().map(|row| row.id).collect::<Vec<_>>(), [open_before.id]);
    }
    let mut looking = sql(&cluster, "site").await;
    assert_eq!(count(&mut looking, GIVEN_UP).await, 0);
    for table in ["SELECT count(*) FROM messages", "SELECT count(*) FROM leases"] {
        assert_eq!(count(&mut looking, table).await, 0, "{table}");
    }
    only_what_is_given_up_is_gone(&mut looking).await;
    verify_chain(&one).await;
    // The other one, which has cached what was dropped, does not know it any more either.
    assert_eq!(other.incident(incident_id(3)).await.unwrap(), None);
    opened(&*other, 3).await;
}

/// Cut off just before and just after each commit of retention.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_commit_it_loses_nothing_that_is_to_be_kept() {
    let Some(cluster) = cluster() else { return };
    let proxy = Proxy::to(cluster.port()).await;
    let (mut before_the_record, mut after_it) = (0, 0);
    for (number, after) in (0..10).zip([false, true].into_iter().cycle()) {
        let database = format!("site_{number}");
        let store = fresh(&cluster, &database).await;
        for number in 0..12 {
            lived(&*store, number).await;
        }
        for number in 100..103 {
            let incident = opened(&*store, number).await;
            let taken = Claim::Take(lock(&format!("t-{number}"), 1));
            store.append(claim(&incident, vec![taken])).await.unwrap();
        }
        let seen = view::of(&*store).await;
        // The store that is killed: its commits so far go through.
        let killed = PostgresStore::open(&cluster.url_by(proxy.port, &database), JOURNAL).await.unwrap();
        let cuts = proxy.cuts();
        proxy.cut_commit(number / 2, after);
        let budget = RetentionBudget { incidents_max: 5, ..RetentionBudget::default() };
        while let Ok(one) = killed.retain(&tiny(), later(), &budget).await {
            if !one.more {
                break;
            }
        }
        assert_eq!(proxy.cuts(), cuts + 1, "{number}");
        drop(killed);

        let total = store.list(&ListQuery::default()).await.unwrap().total;
        assert!(total >= 3 && (total - 3) % 5 % 2 == 0, "in whole parts of five: {total}");
        *if total == 15 { &mut before_the_record } else { &mut after_it } += 1;
        retained_all(&*store, later()).await;
        let left = view::of(&*store).await;
        assert_eq!(
            left.rows,
            seen.rows.iter().filter(|row| row.closed_at.is_none()).cloned().collect::<Vec<_>>()
        );
        assert_eq!((left.site, left.cool_downs), (seen.site, seen.cool_downs));
        for number in 100..103 {
            let target = target(&format!("t-{number}"));
            let locks = store.locks(std::slice::from_ref(&target)).await.unwrap();
            assert_eq!(locks[&target].holder, Some(incident_id(number)));
        }
        let mut looking = sql(&cluster, &database).await;
        assert_eq!(count(&mut looking, GIVEN_UP).await, 0);
        only_what_is_given_up_is_gone(&mut looking).await;
        verify_chain(&store).await;
    }
    assert!(before_the_record > 0 && after_it > 2, "{before_the_record}, {after_it}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_dropped_that_no_retention_record_names() {
    let Some(cluster) = cluster() else { return };
    let store = fresh(&cluster, "site").await;
    lived(&*store, 1).await;
    opened(&*store, 2).await;
    let mut tampering = sql(&cluster, "site").await;
    let payloads = count(&mut tampering, PAYLOADS).await;
    let forged = "INSERT INTO payloads_given_up VALUES (1, 3, 4)";
    sqlx::raw_sql(forged).execute(&mut tampering).await.unwrap();
    let error = store.retain(&tiny(), at(0), &RetentionBudget::default()).await.unwrap_err();
    assert!(matches!(error, StoreError::Record { sequence: 4, .. }), "{error}");
    assert!(error.to_string().contains("it does not give up records 1 to 3"), "{error}");
    assert_eq!(count(&mut tampering, PAYLOADS).await, payloads);
}

/// What is kept for ever is a row of some 150 bytes for each record; everything else stays as large as what is kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_churn_the_tables_stay_bounded() {
    let Some(cluster) = cluster() else { return };
    let store = fresh(&cluster, "site").await;
    let mut looking = sql(&cluster, "site").await;
    let mut sizes = Vec::new();
    for round in 0..8_u64 {
        let mut lives = JoinSet::new();
        for number in round * 100..(round + 1) * 100 {
            let store = Arc::clone(&store);
            lives.spawn(async move { lived_large(&store, number).await });
        }
        lives.join_all().await;
        let last = store.receive(received(1)).await.unwrap();
        store.set_correlated(last, None).await.unwrap();
        retained_all(&*store, later()).await;
        sizes.push(size(&cluster, &store, &mut looking).await);
    }
    let head = store.head().await.unwrap().sequence;
    assert!(head > 8 * 100 * 4, "{head}");
    for table in ["incidents", "incident_events", "alerts", "messages", "payloads_given_up", "leases"] {
        let rows = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
        let (rows,): (i64,) = sqlx::query_as(rows).fetch_one(&mut looking).await.unwrap();
        assert_eq!(rows, 0, "{table}");
    }
    let payloads =
        "SELECT coalesce(sum(octet_length(payload)), 0)::bigint FROM journal WHERE kind NOT IN (3, 5)";
    assert!(count(&mut looking, payloads).await < 10_000, "but for the last mark");
    // The first rounds settle; from then on only rows without a payload are added.
    let (settled, end) = (sizes[3], sizes[7]);
    let records = (4 * head / 8) as i64;
    assert!(end - settled < records * 300 + (256 << 10), "{sizes:?} with {records} records");
    verify_chain(&store).await;
}

/// One of which each payload takes some kilobytes.
async fn lived_large(store: &PostgresStore, number: u64) {
    let mut batch = received(number);
    // Not to be compressed to nothing.
    let text = (0..400_u64).map(|one| {
        format!("{:016x}", (one + 1).wrapping_mul(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1))
    });
    batch.group_key = Some(text.collect());
    store.receive(batch).await.unwrap();
    let incident = opened(store, number).await;
    let incident = store.append(note(&incident, "looked at")).await.unwrap();
    store.append(close(&incident)).await.unwrap();
}

/// The database's bytes after PostgreSQL has cleaned up, as it does by itself when it comes to it.
async fn size(cluster: &PostgresCluster, _: &PostgresStore, looking: &mut PgConnection) -> i64 {
    let mut cleaning = sql(cluster, "site").await;
    sqlx::raw_sql("VACUUM").execute(&mut cleaning).await.unwrap();
    count(looking, "SELECT sum(pg_total_relation_size(c.oid))::bigint FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
        WHERE n.nspname = 'public' AND c.relkind = 'r'").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_see_an_incident_whole_or_not_at_all() {
    let Some(cluster) = cluster() else { return };
    let store = fresh(&cluster, "site").await;
    for number in 0..60 {
        lived(&*store, number).await;
    }
    // One without what the first has in memory.
    let reader = open(&cluster, "site").await;
    let reading = tokio::spawn(async move {
        for number in (0..60).chain(0..60) {
            let id = incident_id(number);
            let incident = reader.incident(id).await.unwrap();
            let log = reader.log(id).await.unwrap();
            let all = incident.is_none_or(|incident| log.len() as u64 >= incident.revision.0);
            assert!(all || log.is_empty(), "{number}");
            reader.received_after(ReceivedPosition::default(), 10).await.unwrap();
        }
    });
    let budget = RetentionBudget { incidents_max: 3, ..RetentionBudget::default() };
    while store.retain(&tiny(), later(), &budget).await.unwrap().more {}
    reading.await.unwrap();
    assert_eq!(store.list(&ListQuery::default()).await.unwrap().total, 0);
}
