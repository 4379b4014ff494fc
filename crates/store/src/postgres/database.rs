//! Connections, the schema, and what the database's errors mean.

use std::str::FromStr as _;
use std::time::Duration;

use jiff::Timestamp;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, SqlSafeStr as _};

use crate::error::StoreError;

/// How an address of a database begins.
pub(super) const SCHEMES: [&str; 2] = ["postgres", "postgresql"];

pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const STATEMENT_TIMEOUT_MILLISECONDS: u32 = 10_000;
/// A process that is stopped while it holds the journal's head would hold up all others: it loses its connection instead.
const IDLE_IN_TRANSACTION_TIMEOUT_MILLISECONDS: u32 = 5_000;
/// Another coordinator may be migrating, and many rows take their time.
const MIGRATION_TIMEOUT_MILLISECONDS: u32 = 600_000;

/// The newest version in [`migrations`].
pub(super) const KNOWN_SCHEMA: i64 = 4;

fn migrations() -> Vec<Migration> {
    let initial = include_str!("migrations/0001_initial.sql").into_sql_str();
    let retention = include_str!("migrations/0002_retention.sql").into_sql_str();
    let evidence = include_str!("migrations/0003_evidence.sql").into_sql_str();
    let losses = include_str!("migrations/0004_losses.sql").into_sql_str();
    vec![
        Migration::new(1, "initial".into(), MigrationType::Simple, initial, false),
        Migration::new(2, "retention".into(), MigrationType::Simple, retention, false),
        Migration::new(3, "evidence".into(), MigrationType::Simple, evidence, false),
        Migration::new(KNOWN_SCHEMA, "losses".into(), MigrationType::Simple, losses, false),
    ]
}

/// How the database is reached.
///
/// # Errors
/// [`StoreError::Database`] for a text that is not a database's address. The text is not part of the error: it has the password.
pub(super) fn connect_options(url: &str) -> Result<PgConnectOptions, StoreError> {
    // The parser takes any scheme.
    let is_known = SCHEMES.iter().any(|scheme| url.split_once("://").is_some_and(|(of, _)| of == *scheme));
    let options = PgConnectOptions::from_str(url).ok().filter(|_| is_known);
    let options = options.ok_or_else(|| StoreError::Database {
        action: "read the database's address",
        source: "expected `postgres://user:password@host:port/database`".into(),
    })?;
    // Statements carry alerts and incidents; they do not belong in a log.
    Ok(options.disable_statement_logging())
}

/// The options of one purpose, which is seen in `pg_stat_activity`.
pub(super) fn for_purpose(options: &PgConnectOptions, purpose: &str) -> PgConnectOptions {
    options.clone().application_name(&format!("quell-{purpose}")).options([
        ("statement_timeout", STATEMENT_TIMEOUT_MILLISECONDS.to_string()),
        ("idle_in_transaction_session_timeout", IDLE_IN_TRANSACTION_TIMEOUT_MILLISECONDS.to_string()),
        ("tcp_keepalives_idle", "10".to_owned()),
        ("tcp_keepalives_interval", "5".to_owned()),
        ("tcp_keepalives_count", "3".to_owned()),
        ("client_min_messages", "warning".to_owned()),
    ])
}

/// A connection of its own that may be written on: a standby is no answer.
pub(super) async fn connect(options: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
    let connecting = async {
        let mut connection = options.connect().await?;
        // What is acknowledged must survive a crash of the server, whatever the database's default is.
        let sql = "SELECT pg_is_in_recovery(), CASE current_setting('synchronous_commit') WHEN 'off' THEN \
                   set_config('synchronous_commit', 'on', false) END";
        let (is_standby, _): (bool, Option<String>) = sqlx::query_as(sql).fetch_one(&mut connection).await?;
        if is_standby {
            return Err(sqlx::Error::Io(std::io::Error::other("the server is a standby")));
        }
        Ok(connection)
    };
    within(CONNECT_TIMEOUT, connecting).await
}

/// A server that answers nothing any more counts as gone.
pub(super) async fn within<T>(
    timeout: Duration,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    match tokio::time::timeout(timeout, work).await {
        Ok(result) => result,
        Err(_) => Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())),
    }
}

/// Brings the schema up, alone: others that start meanwhile wait and find it done.
pub(super) async fn migrate(options: &PgConnectOptions) -> Result<(), StoreError> {
    let timeout = MIGRATION_TIMEOUT_MILLISECONDS.to_string();
    let options = for_purpose(options, "migrate").options([
        ("statement_timeout", timeout.as_str()),
        ("idle_in_transaction_session_timeout", timeout.as_str()),
    ]);
    let mut connection = connect(&options).await.map_err(|error| of("connect to the database", &error))?;
    let migrator = Migrator::with_migrations(migrations());
    match migrator.run_direct(None, &mut connection, false).await {
        Ok(()) => Ok(()),
        Err(MigrateError::VersionMissing(found)) => {
            Err(StoreError::NewerSchema { found, known: KNOWN_SCHEMA })
        }
        Err(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) => {
            Err(of("migrate the database", &error))
        }
        Err(error) => Err(StoreError::Database { action: "migrate the database", source: error.into() }),
    }
}

/// The store's word for a failure.
pub(super) fn of(action: &'static str, error: &sqlx::Error) -> StoreError {
    let cause = || error.to_string().into();
    if is_away(error) {
        return StoreError::Unavailable(cause());
    }
    match code(error).as_deref() {
        Some("53100") => StoreError::Full(cause()),
        Some("53200") => StoreError::Overloaded,
        _ => StoreError::Database { action, source: cause() },
    }
}

pub(super) fn code(error: &sqlx::Error) -> Option<String> {
    error.as_database_error()?.code().map(|code| code.into_owned())
}

/// Whether the connection is of no use any more, or the database takes nothing at present: the same may work later.
pub(super) fn is_away(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed => true,
        // Connection failures, a session that was ended, too many connections, time-outs, conflicts, a read-only server.
        sqlx::Error::Database(_) => code(error).is_some_and(|code| {
            code.starts_with("08")
                || code.starts_with("57")
                || code.starts_with("40")
                || matches!(code.as_str(), "25P03" | "25006" | "53300" | "55P03")
        }),
        _ => false,
    }
}

/// For columns that people read: whole microseconds since 1970, within what the database takes.
pub(super) fn microseconds(at: Timestamp) -> i64 {
    const YEAR_1: i64 = -62_135_596_800_000_000;
    at.as_microsecond().max(YEAR_1)
}

/// For columns that people read: the database takes no zero character.
pub(super) fn text(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// The same for JSON.
pub(super) fn json(mut value: serde_json::Value) -> String {
    let written = value.to_string();
    if !written.contains("\\u0000") {
        return written;
    }
    without_zeros(&mut value);
    value.to_string()
}

fn without_zeros(value: &mut serde_json::Value) {
    use serde_json::Value;
    match value {
        Value::String(string) => *string = text(string),
        Value::Array(items) => items.iter_mut().for_each(without_zeros),
        Value::Object(fields) => {
            let taken = std::mem::take(fields).into_iter();
            *fields = taken.map(|(name, value)| (text(&name), value)).collect();
            fields.values_mut().for_each(without_zeros);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_none_is_not_repeated() {
        for address in ["postgres://quell:secret@[", "mysql://quell:secret@127.0.0.1/site", "quell:secret"] {
            let error = connect_options(address).unwrap_err();
            assert!(!format!("{error:?}").contains("secret"));
        }
    }

    #[test]
    fn the_newest_migration_is_the_known_schema() {
        assert_eq!(migrations().last().unwrap().version, KNOWN_SCHEMA);
    }

    #[test]
    fn zeros_are_replaced_at_any_depth() {
        let value = serde_json::json!({"a\0": ["x\0", {"b": "\\u0000"}], "c": 1});
        assert_eq!(json(value), r#"{"a�":["x�",{"b":"\\u0000"}],"c":1}"#);
    }
}
