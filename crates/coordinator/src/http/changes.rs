//! The change feed: deployments and changes of configuration, told by pipelines, and looked at when something breaks.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use jiff::{SignedDuration, Timestamp};
use quell_incident::document::Object;
use quell_incident::surroundings::ChangeRecord;
use quell_service::{Problem, Scope};
use quell_store::{CHANGE_RECORDS_KEPT, ChangeQuery, ReceivedChange};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Web;
use super::api::store_problem;
use super::body::Body;
use crate::alertmanager::is_beyond;

/// Changes in one request at the most.
const CHANGES_MAX: usize = 1_000;
/// Changes in one answer at the most.
const LIMIT_MAX: usize = 1_000;
/// A name, such as a service or a version, in bytes at the most.
const NAME_BYTES_MAX: usize = 256;
/// A sentence or a link in bytes at the most.
const TEXT_BYTES_MAX: usize = 2_048;
/// Clocks differ; what is further in the future has not taken effect.
const AHEAD_MAX: SignedDuration = SignedDuration::from_mins(5);

/// A change as it is told; what is left out is empty.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Told {
    /// Now, if it does not say.
    at: Option<String>,
    kind: String,
    #[serde(default)]
    service: String,
    #[serde(default)]
    version: String,
    /// Who tells it, if it does not say.
    by: Option<String>,
    #[serde(default)]
    summary: String,
    #[serde(default)]
    link: String,
}

impl Told {
    fn into_record(self, caller: &str, now: Timestamp) -> Result<ChangeRecord, String> {
        let by = self.by.unwrap_or_else(|| caller.to_owned());
        for (field, text, bytes_max) in [
            ("kind", &self.kind, NAME_BYTES_MAX),
            ("service", &self.service, NAME_BYTES_MAX),
            ("version", &self.version, NAME_BYTES_MAX),
            ("by", &by, NAME_BYTES_MAX),
            ("summary", &self.summary, TEXT_BYTES_MAX),
            ("link", &self.link, TEXT_BYTES_MAX),
        ] {
            if text.len() > bytes_max {
                return Err(format!("`{field}` is longer than {bytes_max} bytes"));
            }
        }
        if self.kind.trim().is_empty() {
            return Err(
                "`kind` is empty; expected deploy, config, scale, migration, or another word".to_owned()
            );
        }
        let at = self.at.as_deref().map(|text| time("at", text)).transpose()?.unwrap_or(now);
        if at.duration_since(now) > AHEAD_MAX {
            return Err(format!("`at` is {at}, which is yet to come; tell it when it takes effect"));
        }
        if now.duration_since(at) > CHANGE_RECORDS_KEPT {
            let days = CHANGE_RECORDS_KEPT.as_hours() / 24;
            return Err(format!("`at` is {at}; changes are kept for {days} days"));
        }
        let Self { kind, service, version, summary, link, .. } = self;
        Ok(ChangeRecord { at, kind, service, version, by, summary, link })
    }
}

/// A time; one that is later than any that can be held is the latest.
fn time(field: &str, text: &str) -> Result<Timestamp, String> {
    if is_beyond(text) {
        return Ok(Timestamp::MAX);
    }
    text.trim().parse().map_err(|_| {
        let shown: String = text.chars().take(80).collect();
        format!("`{field}` is `{shown}`, expected a time such as 2026-01-31T12:00:00Z")
    })
}

/// `POST /api/changes`: one change or an array of them. What is answered with success is durable; all are kept or none.
pub(super) async fn tell(
    State(web): State<Web>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let principal = web.require(&headers, Scope::Webhook)?;
    let body = body.0?;
    let one = body.trim_ascii_start().first() == Some(&b'{');
    let told: Result<Vec<Object<Told>>, _> =
        if one { serde_json::from_slice(&body).map(|one| vec![one]) } else { serde_json::from_slice(&body) };
    let told = told.map_err(|error| {
        let expected = "{\"kind\": \"deploy\", \"service\": \"...\", \"version\": \"...\"}";
        Problem::bad_request(format!("expected a change such as {expected}, or an array of them: {error}"))
    })?;
    if told.len() > CHANGES_MAX {
        let why = format!("{} changes, and {CHANGES_MAX} are taken at once; send them in parts", told.len());
        return Err(Problem::unprocessable(why));
    }
    let now = web.site.now();
    let mut changes = Vec::with_capacity(told.len());
    for (index, Object(change)) in told.into_iter().enumerate() {
        let record = change.into_record(&principal.name, now);
        let record = record.map_err(|why| Problem::unprocessable(format!("change {}: {why}", index + 1)))?;
        changes.push(ReceivedChange { received_at: now, record });
    }
    let (told, kept) = (changes.len(), web.site.store.put_change_records(changes).await);
    let new = kept.map_err(|error| store_problem(&error))?;
    let status = if new > 0 { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(json!({"received": told, "new": new}))).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    since: Option<String>,
    until: Option<String>,
    limit: Option<usize>,
}

/// `GET /api/changes?since=&until=&limit=`: the latest, newest first.
pub(super) async fn list(
    State(web): State<Web>,
    headers: HeaderMap,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    web.require(&headers, Scope::Read)?;
    let Query(wanted) = wanted.map_err(|error| Problem::bad_request(error.body_text()))?;
    let limit = wanted.limit.unwrap_or(LIMIT_MAX);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(Problem::bad_request(format!("`limit`: expected 1 to {LIMIT_MAX}")));
    }
    let time = |field, text: Option<String>| {
        text.map(|text| time(field, &text)).transpose().map_err(Problem::bad_request)
    };
    let query = ChangeQuery {
        from: time("since", wanted.since)?.unwrap_or(Timestamp::UNIX_EPOCH),
        to: time("until", wanted.until)?.unwrap_or_else(|| web.site.now() + AHEAD_MAX),
        received_until: Timestamp::MAX,
        limit,
    };
    let found = web.site.store.change_records(&query).await.map_err(|error| store_problem(&error))?;
    let shown = found.iter().rev().map(|change| {
        let mut shown = json!(change.record);
        shown["received_at"] = json!(change.received_at);
        shown
    });
    Ok(Json(shown.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_cannot_be_kept_is_said_in_our_own_words() {
        let now: Timestamp = "2026-11-20T18:00:00Z".parse().unwrap();
        let told = |at: &str| {
            let told: Told = serde_json::from_value(json!({"kind": "deploy", "at": at})).unwrap();
            told.into_record("ci", now)
        };
        for sound in ["2026-11-20T17:00:00Z", "2026-11-20T18:00:00+01:00"] {
            assert_eq!(told(sound).unwrap().at.to_string(), "2026-11-20T17:00:00Z");
        }
        for (at, expected) in [
            ("9999-12-31T23:59:59Z", "yet to come"),
            ("+292278994-08-17T07:12:55Z", "yet to come"),
            ("2027-01-01T00:00:00Z", "yet to come"),
            ("2026-02-31T00:00:00Z", "`at` is `2026-02-31T00:00:00Z`, expected a time such as"),
            ("yesterday", "`at` is `yesterday`, expected a time such as"),
            ("", "expected a time such as"),
        ] {
            let why = told(at).unwrap_err();
            assert!(why.contains(expected) && !why.contains("timestamp"), "{at}: {why}");
        }
        assert_eq!(time("until", "9999-12-31T23:59:59Z"), Ok(Timestamp::MAX));
    }
}
