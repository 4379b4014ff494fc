//! The REST API: incidents, people's words, agents, the kill switch. Everything here is also possible by A2A where A2A has a word for
//! it; this is for `curl`, `jq` and the console.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use quell_incident::gate::{KillSwitch, SiteGates, Throw};
use quell_incident::workflow::{Input, Refused};
use quell_incident::{Digest, Incident, IncidentId, RunbookName, view};
use quell_service::{Principal, Problem, Scope};
use quell_store::{IncidentStore, ListQuery, MessageKey, Page, StatusFilter, StoreError};
use serde::Deserialize;
use serde_json::{Value, json};
use tracing::error;

use super::Web;
use super::body::{Body, object};
use crate::draft::ManualDraft;
use crate::respond::{Unfit, settling, within_text};
use crate::site::ChangeError;

/// Incidents in one answer if the caller does not say.
const LIMIT_DEFAULT: usize = 1_000;
/// Incidents in one answer at the most.
const LIMIT_MAX: usize = 1_000;
/// Bytes of a page of whole incidents, give or take one incident.
const PAGE_BYTES_MAX: usize = 4 << 20;
/// An `Idempotency-Key` in bytes at the most.
const KEY_BYTES_MAX: usize = 256;
/// How long an agent may take to show its card.
const CARD_WITHIN: Duration = Duration::from_secs(2);

pub(super) type PathOf<T> = Result<Path<T>, PathRejection>;

/// "Try again" is said of what passes, and of nothing else: a script would try for ever.
pub(crate) fn store_problem(error: &StoreError) -> Problem {
    error!(%error, "the store did not answer");
    match error {
        StoreError::TooLarge { .. } => Problem::new(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()),
        _ if error.is_for_good() => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        _ => Problem::unavailable("the store does not answer now; try again", 2),
    }
}

fn change_problem(error: &ChangeError) -> Problem {
    match error {
        ChangeError::NotFound(id) => Problem::not_found(format!("there is no incident {id}")),
        ChangeError::Refused(refused @ Refused::OtherPlan { .. }) => Problem::conflict(refused.to_string())
            .of_kind("urn:quell:problem:plan-changed", "The plan is another one"),
        ChangeError::Refused(refused) => Problem::conflict(refused.to_string()),
        ChangeError::Store(error) => store_problem(error),
    }
}

/// `GET /api/incidents?status=&priority=&since=&limit=&cursor=&view=`
pub(super) async fn list(
    State(web): State<Web>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    web.require(&headers, Scope::Read)?;
    let (query, view, repeat) = parse_query(query.as_deref().unwrap_or_default())?;
    let mut page = web.site.store.list(&query).await.map_err(|error| store_problem(&error))?;
    let mut response = match view {
        View::Rows => Json(&page.rows).into_response(),
        View::Full => {
            let _turn = web.large_answers.acquire().await;
            ([(CONTENT_TYPE, "application/json")], whole(&web, &mut page).await).into_response()
        }
    };
    let answer_headers = response.headers_mut();
    answer_headers.insert("x-total-count", HeaderValue::from(page.total));
    if let Some(next) = page.next {
        let separator = if repeat.is_empty() { "" } else { "&" };
        let link = format!("</api/incidents?{repeat}{separator}cursor={next}>; rel=\"next\"");
        if let Ok(link) = HeaderValue::from_str(&link) {
            answer_headers.insert("link", link);
        }
    }
    Ok(response)
}

/// How much of each incident a list shows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum View {
    /// What fits a row of a table.
    Rows,
    /// The whole incident but its timeline.
    Full,
}

/// The incidents of a page as [`view::to_json`] gives them, as text at once: the trees of many would take ten times as much. The page is
/// cut where they become too many bytes, and the next one begins there.
async fn whole(web: &Web, page: &mut Page) -> String {
    let mut text = "[".to_owned();
    for (index, row) in page.rows.iter().enumerate() {
        // An incident that this program cannot read is not shown, and does not hide the others.
        match web.site.store.incident(row.id).await {
            Ok(Some(incident)) => {
                if text.len() > 1 {
                    text.push(',');
                }
                text.push_str(&view::to_json(&incident).to_string());
            }
            Ok(None) => {}
            Err(error) => error!(incident_id = %row.id, %error, "left out of a list"),
        }
        if text.len() >= PAGE_BYTES_MAX && index + 1 < page.rows.len() {
            page.next = Some(row.cursor());
            break;
        }
    }
    text.push(']');
    text
}

/// The query, the view, and its parameters without the cursor for the link to the next page.
fn parse_query(text: &str) -> Result<(ListQuery, View, String), Problem> {
    let mut query = ListQuery { limit: LIMIT_DEFAULT, ..ListQuery::default() };
    let mut view = View::Rows;
    let mut repeat = Vec::new();
    let pairs: Vec<(String, String)> = serde_urlencoded(text)?;
    for (name, value) in pairs {
        let wrong = |why: String| Problem::bad_request(format!("`{name}`: {why}"));
        match name.as_str() {
            // A parameter without a value leaves it open.
            "status" | "priority" | "since" | "limit" | "cursor" | "view" if value.is_empty() => continue,
            "status" => {
                let why = |error| wrong(format!("{error}, or active"));
                query.status = Some(value.parse::<StatusFilter>().map_err(why)?);
            }
            "priority" => query.priority = Some(value.parse().map_err(|error| wrong(format!("{error}")))?),
            "since" => {
                let shown: String = value.chars().take(80).collect();
                let why = |_| wrong(format!("`{shown}` is not a time such as 2026-01-31T12:00:00Z"));
                query.since = Some(value.parse::<Timestamp>().map_err(why)?);
            }
            "limit" => {
                let limit: usize = value.parse().unwrap_or(0);
                if !(1..=LIMIT_MAX).contains(&limit) {
                    return Err(wrong(format!("expected 1 to {LIMIT_MAX}")));
                }
                query.limit = limit;
            }
            "view" => {
                view = match value.as_str() {
                    "rows" => View::Rows,
                    "full" => View::Full,
                    _ => return Err(wrong("expected rows or full".to_owned())),
                };
            }
            "cursor" => query.cursor = Some(value.parse().map_err(|error| wrong(format!("{error}")))?),
            _ => {
                let name: String = name.chars().take(80).collect();
                let known = "status, priority, since, limit, cursor, view";
                return Err(Problem::bad_request(format!("unknown parameter `{name}`; known are {known}")));
            }
        }
        if name != "cursor" {
            repeat.push(format!("{name}={}", value.replace('+', "%2B")));
        }
    }
    Ok((query, view, repeat.join("&")))
}

fn serde_urlencoded(text: &str) -> Result<Vec<(String, String)>, Problem> {
    let uri: http::Uri =
        format!("/?{text}").parse().map_err(|_| Problem::bad_request("the query cannot be read"))?;
    let pairs = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&uri);
    pairs.map(|pairs| pairs.0).map_err(|error| Problem::bad_request(error.body_text()))
}

fn path_problem(_: PathRejection) -> Problem {
    Problem::not_found("the path is not UTF-8, so there is no incident id in it")
}

fn parse_id(text: &str) -> Result<IncidentId, Problem> {
    text.parse().map_err(|error| Problem::not_found(format!("{error}")))
}

/// The incident that a path names.
pub(super) async fn incident_at(web: &Web, path: PathOf<String>) -> Result<Arc<Incident>, Problem> {
    let id = parse_id(&path.map_err(path_problem)?)?;
    let incident = web.site.store.incident(id).await.map_err(|error| store_problem(&error))?;
    incident.ok_or_else(|| Problem::not_found(format!("there is no incident {id}")))
}

/// `GET /api/incidents/{id}`: the incident with its timeline.
pub(super) async fn show(
    State(web): State<Web>,
    headers: HeaderMap,
    path: PathOf<String>,
) -> Result<Json<Value>, Problem> {
    web.require(&headers, Scope::Read)?;
    let incident = incident_at(&web, path).await?;
    Ok(Json(detail(web.site.store.as_ref(), &incident).await.map_err(|error| store_problem(&error))?))
}

async fn detail(store: &dyn IncidentStore, incident: &Incident) -> Result<Value, StoreError> {
    let log = store.log(incident.id).await?;
    let mut json = view::to_json(incident);
    json["timeline"] = json!(view::timeline(&log));
    Ok(json)
}

/// `POST /api/incidents`: opened by a person or a job; `Idempotency-Key` makes a repeat harmless.
pub(super) async fn create(
    State(web): State<Web>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let principal = web.require(&headers, Scope::Operate)?;
    let body = body.0?;
    let draft: ManualDraft = object(&body, "not an incident")?;
    let content = Digest::of_bytes(&body);
    let draft = draft.into_draft(&principal.name).map_err(Problem::unprocessable)?;
    let key = idempotency_key(&headers)?.map(|message_id| MessageKey {
        caller: principal.name.clone(),
        tenant: web.site.tenant.clone(),
        message_id,
    });
    match web.site.open(draft, principal.name.as_str(), key.map(|key| (key, content))).await {
        Ok(incident) => Ok((StatusCode::CREATED, Json(view::to_json(&incident))).into_response()),
        Err(StoreError::MessageTaken { incident_id, same_content: true }) => {
            let incident =
                web.site.store.incident(incident_id).await.map_err(|error| store_problem(&error))?;
            Ok(Json(incident.map(|incident| view::to_json(&incident))).into_response())
        }
        Err(StoreError::MessageTaken { incident_id, same_content: false }) => Err(Problem::unprocessable(
            format!("this Idempotency-Key opened incident {incident_id} with another content; use a new key"),
        )),
        Err(error) => Err(store_problem(&error)),
    }
}

/// What cannot be kept is refused: left out, it would make a repeat harmful.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let key = value.to_str().ok().map(str::trim).filter(|key| (1..=KEY_BYTES_MAX).contains(&key.len()));
    let why = || format!("the header `Idempotency-Key` needs 1 to {KEY_BYTES_MAX} visible ASCII characters");
    key.map(|key| Some(key.to_owned())).ok_or_else(|| Problem::bad_request(why()))
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Words {
    plan_digest: Option<String>,
    why: String,
    runbook: Option<String>,
    text: Option<String>,
    happened: Option<bool>,
    step: Option<String>,
}

/// People's words, and the right that each needs. Choosing a runbook stands in for the diagnosis, so it takes the right to approve.
pub(super) const WORDS: &[(&str, Scope)] = &[
    ("acknowledge", Scope::Operate),
    ("approve", Scope::Approve),
    ("deny", Scope::Approve),
    ("take-over", Scope::Operate),
    ("hand-back", Scope::Operate),
    ("diagnose", Scope::Operate),
    ("settle", Scope::Operate),
    ("resolve", Scope::Operate),
    ("close", Scope::Operate),
    ("reopen", Scope::Operate),
    ("run", Scope::Approve),
    ("notes", Scope::Operate),
];

/// `POST /api/incidents/{id}/{word}`: a person's word. Who they are is what their token says.
pub(super) async fn word(
    State(web): State<Web>,
    headers: HeaderMap,
    path: PathOf<(String, String)>,
    body: Body,
) -> Result<Json<Value>, Problem> {
    let Path((id, word)) = path.map_err(path_problem)?;
    let known = WORDS.iter().find(|(known, _)| *known == word);
    let principal = web.require(&headers, known.map_or(Scope::Operate, |(_, scope)| *scope))?;
    let body = body.0?;
    let id = parse_id(&id)?;
    let words: Words =
        if body.trim_ascii().is_empty() { Words::default() } else { object(&body, "not readable")? };
    let input = input_of(&word, words, &principal)?;
    let incident =
        web.site.change(id, &input, principal.name.as_str()).await.map_err(|error| change_problem(&error))?;
    Ok(Json(view::to_json(&incident)))
}

fn input_of(word: &str, words: Words, principal: &Principal) -> Result<Input, Problem> {
    let by = principal.name.clone();
    let Words { plan_digest, why, runbook, text, happened, step } = words;
    let digest = |text: String| {
        text.parse::<Digest>().map_err(|error| Problem::unprocessable(format!("`plan_digest`: {error}")))
    };
    let missing = |field: &str| Problem::unprocessable(format!("`{field}` is missing"));
    let unfit = |Unfit { field, why }: Unfit| Problem::unprocessable(format!("`{field}` {why}"));
    within_text("why", &why).map_err(unfit)?;
    within_text("text", text.as_deref().unwrap_or_default()).map_err(unfit)?;
    Ok(match word {
        "acknowledge" => Input::Acknowledge { by },
        "approve" => {
            Input::Approve { by, digest: digest(plan_digest.ok_or_else(|| missing("plan_digest"))?)? }
        }
        "deny" => Input::Deny { by, why, digest: plan_digest.map(digest).transpose()? },
        "take-over" => Input::TakeOver { by },
        "hand-back" => Input::HandBack { by },
        "diagnose" => Input::DiagnoseAgain { by },
        "resolve" => Input::Resolve { by },
        "close" => Input::Close { by, why },
        "reopen" => Input::Reopen { by, why },
        "notes" => Input::Note {
            by,
            text: text.filter(|text| !text.trim().is_empty()).ok_or_else(|| missing("text"))?,
        },
        "settle" => settling(by, step.as_deref(), happened, why).map_err(unfit)?,
        "run" => {
            let name = runbook.ok_or_else(|| missing("runbook"))?;
            let runbook =
                RunbookName::declared(&name).map_err(|error| Problem::unprocessable(error.to_string()))?;
            Input::RunRunbook { by, runbook }
        }
        _ => {
            let known: Vec<_> = WORDS.iter().map(|(word, _)| *word).collect();
            let why = format!("`{word}` is not a word; known are {}", known.join(", "));
            return Err(Problem::not_found(why));
        }
    })
}

/// `GET /api/agents`: which agents there are, and whether they show their card.
pub(super) async fn agents(State(web): State<Web>, headers: HeaderMap) -> Result<Json<Value>, Problem> {
    web.require(&headers, Scope::Read)?;
    let mut agents = Vec::with_capacity(web.agents.len());
    for agent in web.agents.iter() {
        let asked = quell_a2a::fetch_card(&web.client, agent.url.as_str());
        let card = tokio::time::timeout(CARD_WITHIN, asked).await;
        let (role, url) = (agent.role, &agent.url);
        agents.push(match card {
            Ok(Ok(card)) => json!({
                "role": role, "url": url, "reachable": true, "name": card.name, "version": card.version,
                "skills": card.skills.iter().map(|skill| skill.id.as_str()).collect::<Vec<_>>(), "error": null,
            }),
            Ok(Err(error)) => json!({"role": role, "url": url, "reachable": false, "skills": [], "error": error.to_string()}),
            Err(_) => json!({"role": role, "url": url, "reachable": false, "skills": [], "error": "no answer in time"}),
        });
    }
    Ok(Json(json!(agents)))
}

/// `GET /api/kill-switch`
pub(super) async fn kill_switch(State(web): State<Web>, headers: HeaderMap) -> Result<Json<Value>, Problem> {
    web.require(&headers, Scope::Read)?;
    let gates = web.site.store.site_gates().await.map_err(|error| store_problem(&error))?;
    Ok(Json(switch_json(&gates)))
}

fn switch_json(gates: &SiteGates) -> Value {
    let switch = gates.kill_switch.as_ref();
    json!({
        "engaged": switch.is_some(),
        "by": switch.map(|switch| &switch.by),
        "why": switch.map(|switch| &switch.why),
        "at": switch.map(|switch| switch.at),
        "released": gates.released,
        "epoch": gates.epoch,
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Switch {
    engaged: bool,
    #[serde(default)]
    why: String,
}

/// `PUT /api/kill-switch`: effective before the next step of any incident. Releasing what is not engaged changes nothing, and the answer
/// says so by `"changed": false`.
pub(super) async fn set_kill_switch(
    State(web): State<Web>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Problem> {
    let principal = web.require(&headers, Scope::Operate)?;
    let body = body.0?;
    let wanted: Switch = object(&body, "expected {\"engaged\": true, \"why\": \"...\"}")?;
    let unfit = |Unfit { field, why }| Problem::unprocessable(format!("`{field}` {why}"));
    within_text("why", &wanted.why).map_err(unfit)?;
    if !wanted.engaged {
        // Stopping everything is anybody's who operates; letting it go on is not.
        principal.require(Scope::Approve)?;
    }
    loop {
        let gates = web.site.store.site_gates().await.map_err(|error| store_problem(&error))?;
        if !wanted.engaged && gates.kill_switch.is_none() {
            // Nobody has released anything, so no record says that somebody did, and no plan is looked at again for it.
            let mut unchanged = switch_json(&gates);
            unchanged["changed"] = json!(false);
            return Ok(Json(unchanged));
        }
        let epoch = gates.epoch;
        let word = KillSwitch { by: principal.name.clone(), why: wanted.why.clone(), at: web.site.now() };
        let throw = if wanted.engaged { Throw::Engage(word) } else { Throw::Release(word) };
        match web.site.store.set_kill_switch(epoch, throw).await {
            Ok(gates) => {
                tracing::warn!(
                    by = principal.name,
                    engaged = wanted.engaged,
                    why = wanted.why,
                    "the kill switch was set"
                );
                return Ok(Json(switch_json(&gates)));
            }
            Err(StoreError::SiteChanged { .. }) => {}
            Err(error) => return Err(store_problem(&error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use quell_incident::Revision;

    use super::*;

    /// "Try again" is said of what passes, and of nothing else.
    #[test]
    fn an_error_that_never_passes_is_not_answered_by_try_again() {
        let incident_id = IncidentId(uuid::Uuid::from_u128(7));
        let cause = || -> Box<dyn std::error::Error + Send + Sync> { "the disk".into() };
        let damaged = StoreError::Damaged { incident_id, why: "a record is missing".to_owned() };
        let newer = StoreError::UnknownEvent { incident_id, kind: "moved".to_owned(), version: 99 };
        let conflict = StoreError::Conflict { incident_id, expected: Revision(1), found: Revision(2) };
        for (error, status) in [
            (StoreError::TooLarge { bytes: 9, bytes_max: 8 }, 413),
            (damaged, 500),
            (newer, 500),
            (StoreError::Unsound { why: "it has no events".to_owned() }, 500),
            (StoreError::Record { sequence: 1, why: "no JSON".to_owned() }, 500),
            (StoreError::NewerSchema { found: 9, known: 1 }, 500),
            (conflict, 503),
            (StoreError::Overloaded, 503),
            (StoreError::IndexAway, 503),
            (StoreError::Full(cause()), 503),
            (StoreError::Unavailable(cause()), 503),
            (StoreError::Closed, 503),
        ] {
            let answer = store_problem(&error).into_response();
            assert_eq!(answer.status().as_u16(), status, "{error}");
            let says_when = answer.headers().contains_key("retry-after");
            assert_eq!(says_when, status == 503, "{error}");
            let of_a2a = crate::respond::store_error(error);
            assert_eq!(of_a2a.is_retryable(), status == 503, "{of_a2a}");
        }
    }
}
