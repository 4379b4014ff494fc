//! Writing what a transaction adds: a few statements, however many requests it carries.

use quell_incident::event::EVENT_VERSION;
use quell_incident::{Incident, view};
use sqlx::PgConnection;
use uuid::Uuid;

use super::database::{json, microseconds, text};
use super::follow::CHANNEL;
use super::load::{Trouble, damaged};
use super::world::{ChangedIncident, Head, NewRecord, Writes};
use crate::embedded::keys;
use crate::embedded::record::RECEIVED;
use crate::embedded::state::Known;
use crate::list::{Cursor, Row};

pub(super) async fn write(
    connection: &mut PgConnection,
    writes: &Writes,
    head: &Head,
) -> Result<(), Trouble> {
    journal(connection, writes, head).await?;
    if !writes.events.is_empty() {
        incidents(connection, writes).await?;
    }
    if !writes.messages.is_empty() {
        messages(connection, writes).await?;
    }
    if !writes.locks.is_empty() {
        locks(connection, writes).await?;
    }
    if !writes.cool_downs.is_empty() {
        cool_downs(connection, writes).await?;
    }
    Ok(())
}

async fn journal(connection: &mut PgConnection, writes: &Writes, head: &Head) -> Result<(), Trouble> {
    let (records, events) = (&writes.records, || writes.events.iter());
    let sequences: Vec<i64> = records.iter().map(|record| record.link.sequence as i64).collect();
    let kinds: Vec<i16> = records.iter().map(|record| record.link.kind as i16).collect();
    let flags: Vec<i16> = records.iter().map(|record| record.link.flags as i16).collect();
    let at: Vec<Option<i64>> = records.iter().map(|record| record.at.map(microseconds)).collect();
    let payloads: Vec<Option<&[u8]>> = records.iter().map(|record| record.payload.as_deref()).collect();
    let gone = |record: &NewRecord| record.payload.is_none().then_some(record.link.payload_length as i32);
    let gone: Vec<Option<i32>> = records.iter().map(gone).collect();
    let digests: Vec<&[u8]> = records.iter().map(|record| &record.link.payload_digest[..]).collect();
    let chain: Vec<&[u8]> = records.iter().map(|record| &record.chain_hash.as_bytes()[..]).collect();
    // Nobody hears of it unless the transaction commits. Received alerts alone wake nobody: they change no incident.
    let sql = "WITH added AS (
            INSERT INTO journal (sequence, kind, flags, at, payload, payload_digest, chain_hash, payload_bytes)
            SELECT r.sequence, r.kind, r.flags,
                coalesce('epoch'::timestamptz + r.at * interval '1 microsecond', clock_timestamp()),
                r.payload, r.digest, r.chain, r.gone
            FROM unnest($1::bigint[], $2::smallint[], $3::smallint[], $4::bigint[], $5::bytea[], $6::bytea[], $7::bytea[],
                    $14::integer[])
                AS r (sequence, kind, flags, at, payload, digest, chain, gone)
        ), moved AS (
            UPDATE journal_head SET sequence = $8, chain_hash = $9, correlated = $10, site = $11
        ), events AS (
            INSERT INTO incident_events (incident_id, revision, events, sequence)
            SELECT * FROM unnest($15::uuid[], $16::bigint[], $17::integer[], $18::bigint[])
        ), alerts AS (
            INSERT INTO alerts AS a (source, fingerprint, incident_id, place)
            SELECT * FROM unnest($19::text[], $20::text[], $21::uuid[], $22::bytea[])
            ON CONFLICT (source, fingerprint) DO UPDATE SET incident_id = excluded.incident_id, place = excluded.place
            WHERE excluded.place < a.place
        )
        SELECT CASE WHEN $12 THEN pg_notify($13, '')::text END";
    sqlx::query(sql)
        .bind(sequences)
        .bind(kinds)
        .bind(flags)
        .bind(at)
        .bind(payloads)
        .bind(digests)
        .bind(chain)
        .bind(head.sequence as i64)
        .bind(&head.chain_hash.as_bytes()[..])
        .bind(head.correlated.0 as i64)
        .bind(serde_json::to_string(&head.site).map_err(damaged)?)
        .bind(!writes.changed.is_empty())
        .bind(CHANNEL)
        .bind(gone)
        .bind(events().map(|event| event.incident_id.0).collect::<Vec<Uuid>>())
        .bind(events().map(|event| event.first_revision.0 as i64).collect::<Vec<_>>())
        .bind(events().map(|event| event.events as i32).collect::<Vec<_>>())
        .bind(events().map(|event| event.sequence as i64).collect::<Vec<_>>())
        .bind(writes.alerts.keys().map(|key| key.source.as_str()).collect::<Vec<_>>())
        .bind(writes.alerts.keys().map(|key| key.fingerprint.as_str()).collect::<Vec<_>>())
        .bind(writes.alerts.values().map(|newest| newest.id.0).collect::<Vec<Uuid>>())
        .bind(writes.alerts.values().map(place).collect::<Vec<_>>())
        .execute(connection)
        .await?;
    Ok(())
}

/// Received alerts alone, if the journal still ends where it is thought to: one statement, all or nothing. Whether it did.
pub(super) async fn received(
    connection: &mut PgConnection,
    writes: &Writes,
    before: &Head,
    head: &Head,
) -> Result<bool, Trouble> {
    let records = || writes.records.iter();
    // Whoever holds the end is waited for, and then it is not there any more: the row is compared again after the wait.
    let sql = "WITH moved AS (
            UPDATE journal_head SET sequence = $1, chain_hash = $2 WHERE sequence = $3 AND chain_hash = $4 RETURNING true
        ), added AS (
            INSERT INTO journal (sequence, kind, flags, at, payload, payload_digest, chain_hash)
            SELECT $3 + r.place, $5, r.flags, 'epoch'::timestamptz + r.at * interval '1 microsecond', r.payload, r.digest, r.chain
            FROM unnest($6::smallint[], $7::bigint[], $8::bytea[], $9::bytea[], $10::bytea[])
                WITH ORDINALITY AS r (flags, at, payload, digest, chain, place)
            WHERE EXISTS (SELECT FROM moved)
        )
        SELECT EXISTS (SELECT FROM moved)";
    let (moved,): (bool,) = sqlx::query_as(sql)
        .bind(head.sequence as i64)
        .bind(&head.chain_hash.as_bytes()[..])
        .bind(before.sequence as i64)
        .bind(&before.chain_hash.as_bytes()[..])
        .bind(RECEIVED as i16)
        .bind(records().map(|record| record.link.flags as i16).collect::<Vec<_>>())
        .bind(records().map(|record| record.at.map(microseconds)).collect::<Vec<Option<i64>>>())
        .bind(records().map(|record| record.payload.as_deref()).collect::<Vec<_>>())
        .bind(records().map(|record| &record.link.payload_digest[..]).collect::<Vec<_>>())
        .bind(records().map(|record| &record.chain_hash.as_bytes()[..]).collect::<Vec<_>>())
        .fetch_one(connection)
        .await?;
    Ok(moved)
}

/// Texts and documents that change seldom, and are large.
struct Documents {
    description: String,
    diagnostics: Option<String>,
    remediation_actions: String,
}

impl Documents {
    fn of(incident: &Incident) -> Self {
        let description = text(&incident.description);
        if incident.report.is_none() && incident.actions.is_empty() {
            return Self { description, diagnostics: None, remediation_actions: "[]".to_owned() };
        }
        let mut view = view::to_json(incident);
        let mut take = |field: &str| view.get_mut(field).map(serde_json::Value::take).unwrap_or_default();
        let diagnostics = Some(take("diagnostics")).filter(|value| !value.is_null()).map(json);
        Self { description, diagnostics, remediation_actions: json(take("remediation_actions")) }
    }

    /// Whether they are other than before.
    fn changed(before: &Incident, now: &Incident) -> bool {
        before.description != now.description || before.report != now.report || before.actions != now.actions
    }
}

async fn incidents(connection: &mut PgConnection, writes: &Writes) -> Result<(), Trouble> {
    let mut new = Vec::new();
    let mut changed = Vec::new();
    let mut documents_changed = Vec::new();
    for written in writes.incidents.values() {
        match (&written.before, &written.now) {
            (Some(Known::Readable(before)), Known::Readable(now)) => {
                if Documents::changed(before, now) {
                    documents_changed.push((now.as_ref(), Documents::of(now)));
                }
                changed.push((now.as_ref(), written));
            }
            (_, Known::Readable(now)) => new.push((now.as_ref(), written)),
            // Nothing follows on one that cannot be read, and no import takes it.
            (_, Known::LeftAlone(_)) => {}
        }
    }
    if !new.is_empty() {
        insert(connection, &new).await?;
    }
    if !changed.is_empty() {
        update(connection, &changed).await?;
    }
    if !documents_changed.is_empty() {
        update_documents(connection, documents_changed).await?;
    }
    Ok(())
}

type Written<'a> = (&'a Incident, &'a ChangedIncident);

/// The columns that every append changes.
struct Columns {
    ids: Vec<Uuid>,
    alert_names: Vec<String>,
    priorities: Vec<&'static str>,
    statuses: Vec<&'static str>,
    updated: Vec<i64>,
    resolved: Vec<Option<i64>>,
    summaries: Vec<String>,
    phases: Vec<&'static str>,
    revisions: Vec<i64>,
    rows: Vec<String>,
    chain: Vec<Vec<u8>>,
}

impl Columns {
    fn of(incidents: &[Written<'_>]) -> Result<Self, Trouble> {
        let row = |incident: &Incident| serde_json::to_string(&Row::of(incident)).map_err(damaged);
        let each = || incidents.iter().map(|(incident, _)| *incident);
        Ok(Self {
            ids: each().map(|incident| incident.id.0).collect(),
            alert_names: each().map(|incident| text(&incident.alert_name)).collect(),
            priorities: each().map(|incident| incident.priority.as_str()).collect(),
            statuses: each().map(|incident| incident.status().as_str()).collect(),
            updated: each().map(|incident| microseconds(incident.updated_at)).collect(),
            resolved: each().map(|incident| incident.resolved_at.map(microseconds)).collect(),
            summaries: each().map(|incident| text(&view::summary(incident))).collect(),
            phases: each().map(|incident| incident.phase.name()).collect(),
            revisions: each().map(|incident| incident.revision.0 as i64).collect(),
            rows: each().map(row).collect::<Result<_, _>>()?,
            chain: incidents.iter().map(|(_, written)| written.chain_hash.as_bytes().to_vec()).collect(),
        })
    }
}

async fn insert(connection: &mut PgConnection, new: &[Written<'_>]) -> Result<(), Trouble> {
    let columns = Columns::of(new)?;
    let created: Vec<i64> = new.iter().map(|(incident, _)| microseconds(incident.created_at)).collect();
    let places: Vec<Vec<u8>> = new.iter().map(|(incident, _)| place(&Cursor::of(incident))).collect();
    let (mut descriptions, mut diagnostics, mut actions) = (Vec::new(), Vec::new(), Vec::new());
    for documents in new.iter().map(|(incident, _)| Documents::of(incident)) {
        descriptions.push(documents.description);
        diagnostics.push(documents.diagnostics);
        actions.push(documents.remediation_actions);
    }
    let sql = "INSERT INTO incidents (id, alert_name, priority, status, created_at, updated_at, resolved_at, summary,
            description, diagnostics, remediation_actions, phase, revision, place, list_row, chain_hash, event_version)
        SELECT i.id, i.alert_name, i.priority, i.status, 'epoch'::timestamptz + i.created * interval '1 microsecond',
            'epoch'::timestamptz + i.updated * interval '1 microsecond',
            'epoch'::timestamptz + i.resolved * interval '1 microsecond', i.summary,
            i.description, i.diagnostics::jsonb, i.actions::jsonb, i.phase, i.revision, i.place, i.list_row, i.chain, $16
        FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::text[], $8::text[],
                $9::bigint[], $10::text[], $11::bytea[], $12::bigint[], $13::bytea[], $14::text[], $15::text[], $17::text[])
            AS i (id, alert_name, priority, status, updated, resolved, summary, phase, revision, list_row, chain, created,
                place, description, diagnostics, actions)";
    sqlx::query(sql)
        .bind(columns.ids)
        .bind(columns.alert_names)
        .bind(columns.priorities)
        .bind(columns.statuses)
        .bind(columns.updated)
        .bind(columns.resolved)
        .bind(columns.summaries)
        .bind(columns.phases)
        .bind(columns.revisions)
        .bind(columns.rows)
        .bind(columns.chain)
        .bind(created)
        .bind(places)
        .bind(descriptions)
        .bind(diagnostics)
        .bind(i32::from(EVENT_VERSION))
        .bind(actions)
        .execute(connection)
        .await?;
    Ok(())
}

async fn update(connection: &mut PgConnection, changed: &[Written<'_>]) -> Result<(), Trouble> {
    let columns = Columns::of(changed)?;
    let sql = "UPDATE incidents SET alert_name = i.alert_name, priority = i.priority, status = i.status,
            updated_at = 'epoch'::timestamptz + i.updated * interval '1 microsecond',
            resolved_at = 'epoch'::timestamptz + i.resolved * interval '1 microsecond',
            summary = i.summary, phase = i.phase, revision = i.revision, list_row = i.list_row, chain_hash = i.chain,
            event_version = greatest(incidents.event_version, $12)
        FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::text[], $8::text[],
                $9::bigint[], $10::text[], $11::bytea[])
            AS i (id, alert_name, priority, status, updated, resolved, summary, phase, revision, list_row, chain)
        WHERE incidents.id = i.id";
    sqlx::query(sql)
        .bind(columns.ids)
        .bind(columns.alert_names)
        .bind(columns.priorities)
        .bind(columns.statuses)
        .bind(columns.updated)
        .bind(columns.resolved)
        .bind(columns.summaries)
        .bind(columns.phases)
        .bind(columns.revisions)
        .bind(columns.rows)
        .bind(columns.chain)
        .bind(i32::from(EVENT_VERSION))
        .execute(connection)
        .await?;
    Ok(())
}

async fn update_documents(
    connection: &mut PgConnection,
    changed: Vec<(&Incident, Documents)>,
) -> Result<(), Trouble> {
    let (mut ids, mut descriptions, mut diagnostics, mut actions) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (incident, documents) in changed {
        ids.push(incident.id.0);
        descriptions.push(documents.description);
        diagnostics.push(documents.diagnostics);
        actions.push(documents.remediation_actions);
    }
    let sql = "UPDATE incidents SET description = i.description, diagnostics = i.diagnostics::jsonb,
            remediation_actions = i.actions::jsonb
        FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) AS i (id, description, diagnostics, actions)
        WHERE incidents.id = i.id";
    sqlx::query(sql).bind(ids).bind(descriptions).bind(diagnostics).bind(actions).execute(connection).await?;
    Ok(())
}

pub(super) fn place(place: &Cursor) -> Vec<u8> {
    keys::place_bytes(place).to_vec()
}

async fn messages(connection: &mut PgConnection, writes: &Writes) -> Result<(), Trouble> {
    let each = || writes.messages.keys();
    let keys: Vec<Vec<u8>> = each().map(keys::message).collect();
    let callers: Vec<String> = each().map(|key| text(&key.caller)).collect();
    let tenants: Vec<String> = each().map(|key| text(&key.tenant)).collect();
    let message_ids: Vec<String> = each().map(|key| text(&key.message_id)).collect();
    let ids: Vec<Uuid> = writes.messages.values().map(|record| record.incident_id.0).collect();
    let contents: Vec<String> = writes.messages.values().map(|record| record.content.to_string()).collect();
    let sql = "INSERT INTO messages (key, caller, tenant, message_id, incident_id, content_digest)
        SELECT * FROM unnest($1::bytea[], $2::text[], $3::text[], $4::text[], $5::uuid[], $6::text[])";
    sqlx::query(sql)
        .bind(keys)
        .bind(callers)
        .bind(tenants)
        .bind(message_ids)
        .bind(ids)
        .bind(contents)
        .execute(connection)
        .await?;
    Ok(())
}

async fn locks(connection: &mut PgConnection, writes: &Writes) -> Result<(), Trouble> {
    let targets: Vec<&str> = writes.locks.keys().map(|target| target.as_str()).collect();
    let tokens: Vec<i64> = writes.locks.values().map(|lock| lock.token.0 as i64).collect();
    let holders: Vec<Option<Uuid>> = writes.locks.values().map(|lock| lock.holder.map(|id| id.0)).collect();
    let sql = "INSERT INTO locks (target, token, holder)
        SELECT * FROM unnest($1::text[], $2::bigint[], $3::uuid[])
        ON CONFLICT (target) DO UPDATE SET token = excluded.token, holder = excluded.holder";
    sqlx::query(sql).bind(targets).bind(tokens).bind(holders).execute(connection).await?;
    Ok(())
}

async fn cool_downs(connection: &mut PgConnection, writes: &Writes) -> Result<(), Trouble> {
    let over: Vec<Vec<u8>> = writes
        .cool_downs
        .iter()
        .filter(|(_, set)| set.is_none())
        .map(|(key, _)| keys::cool_down(key))
        .collect();
    if !over.is_empty() {
        let sql = "DELETE FROM cool_downs WHERE key = ANY($1)";
        sqlx::query(sql).bind(over).execute(&mut *connection).await?;
    }
    let (mut keys, mut classes, mut targets, mut runbooks, mut until, mut documents) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (key, cool_down) in &writes.cool_downs {
        let Some(cool_down) = cool_down else { continue };
        keys.push(keys::cool_down(key));
        classes.push(text(&cool_down.class));
        targets.push(cool_down.target.as_str());
        runbooks.push(cool_down.runbook.as_str());
        until.push(microseconds(cool_down.until));
        documents.push(serde_json::to_string(cool_down).map_err(damaged)?);
    }
    let sql = "INSERT INTO cool_downs (key, class, target, runbook, until, document)
        SELECT c.key, c.class, c.target, c.runbook, 'epoch'::timestamptz + c.until * interval '1 microsecond', c.document
        FROM unnest($1::bytea[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[])
            AS c (key, class, target, runbook, until, document)
        ON CONFLICT (key) DO UPDATE SET until = excluded.until, document = excluded.document";
    sqlx::query(sql)
        .bind(keys)
        .bind(classes)
        .bind(targets)
        .bind(runbooks)
        .bind(until)
        .bind(documents)
        .execute(connection)
        .await?;
    Ok(())
}
