//! Bringing a database up from an older schema: interrupted, by several at once, beside a coordinator of the older version.

use std::borrow::Cow;

use quell_store::testing::PostgresCluster;
use quell_store::{PostgresStore, StoreError, audit};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, PgConnection, SqlSafeStr as _};
use tokio::task::JoinSet;

use crate::embedded::fill;
use crate::fixtures::*;
use crate::postgres::{JOURNAL, cluster, open, sql, until, verify_chain};
use crate::retention::{later, lived, retained_all};
use crate::view;

/// A database as the first version left it, with everything in it; and what is seen of it.
async fn of_the_first_version(cluster: &PostgresCluster, database: &str) -> view::View {
    cluster.create_database(database).unwrap();
    let store = open(cluster, database).await;
    lived(&store, 30).await;
    fill(&store).await;
    let seen = view::of(&store).await;
    drop(store);
    let mut connection = sql(cluster, database).await;
    let tables = [
        "journal",
        "journal_head",
        "incidents",
        "incident_events",
        "alerts",
        "messages",
        "locks",
        "cool_downs",
    ];
    let aside = "ALTER SCHEMA public RENAME TO newer; CREATE SCHEMA public";
    sqlx::raw_sql(aside).execute(&mut connection).await.unwrap();
    let initial = include_str!("../../src/postgres/migrations/0001_initial.sql").into_sql_str();
    let initial = Migration::new(1, Cow::Borrowed("initial"), MigrationType::Simple, initial, false);
    Migrator::with_migrations(vec![initial]).run_direct(None, &mut connection, false).await.unwrap();
    for table in tables {
        let columns = "SELECT string_agg(column_name, ', ') FROM information_schema.columns \
                       WHERE table_schema = 'public' AND table_name = $1";
        let (columns,): (String,) =
            sqlx::query_as(columns).bind(table).fetch_one(&mut connection).await.unwrap();
        let copy = format!("INSERT INTO public.{table} ({columns}) SELECT {columns} FROM newer.{table}");
        sqlx::raw_sql(AssertSqlSafe(copy)).execute(&mut connection).await.unwrap();
    }
    sqlx::raw_sql("DROP SCHEMA newer CASCADE").execute(&mut connection).await.unwrap();
    assert_eq!(version(&mut connection).await, 1);
    seen
}

async fn version(connection: &mut PgConnection) -> i64 {
    let sql = "SELECT max(version) FROM _sqlx_migrations WHERE success";
    let (version,): (i64,) = sqlx::query_as(sql).fetch_one(connection).await.unwrap();
    version
}

async fn goes_on(store: &PostgresStore, seen: &view::View) {
    assert_eq!(view::of(store).await, *seen);
    verify_chain(store).await;
    opened(store, 600).await;
    assert!(retained_all(store, later()).await.incidents > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_that_is_interrupted_half_way_leaves_nothing_and_is_made_again() {
    let Some(cluster) = cluster() else { return };
    let seen = of_the_first_version(&cluster, "site").await;
    // An audit reads what it finds and brings nothing up.
    assert_eq!(audit::verify_database(&cluster.url("site"), &[]).await.unwrap().finding, None);
    // The last of its statements waits for this one.
    let mut holding = sql(&cluster, "site").await;
    sqlx::raw_sql("BEGIN; LOCK TABLE incidents IN SHARE MODE").execute(&mut holding).await.unwrap();
    let url = cluster.url("site");
    let opening = tokio::spawn(async move { PostgresStore::open(&url, JOURNAL).await });
    let mut killing = sql(&cluster, "site").await;
    until("it is ended half-way", async || {
        let sql = "SELECT count(*) FROM (SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                   WHERE application_name = 'quell-migrate' AND wait_event_type = 'Lock') AS ended";
        let (ended,): (i64,) = sqlx::query_as(sql).fetch_one(&mut killing).await.unwrap();
        ended > 0
    })
    .await;
    let error = opening.await.unwrap().unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "it may work later: {error:?}");
    assert_eq!(version(&mut killing).await, 1);
    let (half,): (bool,) = sqlx::query_as("SELECT to_regclass('payloads_given_up') IS NOT NULL")
        .fetch_one(&mut killing)
        .await
        .unwrap();
    assert!(!half, "what it had made before is gone");
    sqlx::raw_sql("ROLLBACK").execute(&mut holding).await.unwrap();
    // The server itself goes down meanwhile.
    cluster.crash().unwrap();
    cluster.restart().unwrap();
    let store = open(&cluster, "site").await;
    goes_on(&store, &seen).await;
    assert_eq!(version(&mut sql(&cluster, "site").await).await, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_coordinators_bring_one_database_up() {
    let Some(cluster) = cluster() else { return };
    let seen = of_the_first_version(&cluster, "site").await;
    let mut openings = JoinSet::new();
    for number in 0..6 {
        let url = cluster.url("site");
        openings
            .spawn(async move { PostgresStore::open(&url, uuid::Uuid::from_u128(number)).await.unwrap() });
    }
    let stores = openings.join_all().await;
    assert!(stores.iter().all(|store| store.journal_id() == JOURNAL));
    goes_on(&stores[0], &seen).await;
    let (migrations,): (i64,) = sqlx::query_as("SELECT count(*) FROM _sqlx_migrations")
        .fetch_one(&mut sql(&cluster, "site").await)
        .await
        .unwrap();
    assert_eq!(migrations, 4, "each was made once");
    for (number, store) in (700..).zip(&stores) {
        opened(store, number).await;
    }
    verify_chain(&stores[5]).await;
}
