//! Where alerts come in. A 2xx is sent after the alerts are on disk, and not before; overload is 503, which senders try again; a 4xx is
//! for what will never be accepted.

use std::sync::Arc;

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use quell_incident::ids::SourceName;
use quell_incident::{AlertKey, AlertStatus};
use quell_service::{Problem, Scope};
use quell_store::{Received, ReceivedPosition, StoreError};
use serde_json::json;
use tracing::{error, warn};

use super::Web;
use super::api::store_problem;
use super::body::Body;
use crate::alertmanager::{self, Payload, Rejected};
use crate::secrets::masked_payload;

/// What an overloaded sender is told.
const RETRY_AFTER_SECONDS: u64 = 2;
/// How long a bare alert's sender waits for its incident.
const CORRELATED_WITHIN: Duration = Duration::from_secs(10);
/// The source of a bare alert, which no Alertmanager has.
const BARE_SOURCE: &str = "webhook";

/// `POST /webhooks/alertmanager`: a payload of Alertmanager, of Grafana, or of who sends the like.
pub(super) async fn alertmanager(
    State(web): State<Web>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    Ok(accepted(&take(&web, &headers, body, Form::Payload).await?))
}

/// `POST /webhook/alert`: the same, or one bare alert, which is answered with its incident.
pub(super) async fn alert(
    State(web): State<Web>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let taken = take(&web, &headers, body, Form::PayloadOrAlert).await?;
    if !taken.is_bare {
        return Ok(accepted(&taken));
    }
    let mut correlated = web.correlated.clone();
    match tokio::time::timeout(CORRELATED_WITHIN, correlated.reached(taken.position)).await {
        Ok(true) => {}
        Ok(false) => {
            return Err(Problem::unavailable(
                "the alert is stored; its incident is opened after the restart",
                RETRY_AFTER_SECONDS,
            ));
        }
        // It is on disk, behind many others: nothing is lost, and its sender need not send it again.
        Err(_) => {
            let later = json!({"status": "accepted", "incident_id": null});
            return Ok((StatusCode::ACCEPTED, Json(later)).into_response());
        }
    }
    let id = match taken.first {
        Some(key) => {
            web.site.store.incident_of_alert(&key).await.map_err(|error| unavailable(&web, &error))?
        }
        None => None,
    };
    Ok(Json(json!({"incident_id": id})).into_response())
}

/// What a path takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Payload,
    PayloadOrAlert,
}

/// Alerts that are on disk.
struct Taken {
    position: ReceivedPosition,
    /// It was one bare alert.
    is_bare: bool,
    accepted: usize,
    rejected: Vec<Rejected>,
    /// Watchdogs that fire, as they do while all is well: they open nothing.
    heartbeats: u64,
    /// The first of those that were taken.
    first: Option<AlertKey>,
}

fn accepted(taken: &Taken) -> Response {
    let mut told = json!({"status": "ok"});
    if !taken.rejected.is_empty() {
        told["accepted"] = json!(taken.accepted);
        told["rejected"] = json!(taken.rejected);
    }
    if taken.heartbeats > 0 {
        told["heartbeats"] = json!(taken.heartbeats);
    }
    Json(told).into_response()
}

async fn take(web: &Web, headers: &HeaderMap, body: Body, form: Form) -> Result<Taken, Problem> {
    // First of all: what a caller may not send is not worth looking into.
    web.require(headers, Scope::Webhook)?;
    let rejected = |problem: Problem| {
        web.site.metrics.webhook("rejected");
        problem
    };
    let bytes = body.0.map_err(rejected)?;
    let is_bare = form == Form::PayloadOrAlert && alertmanager::is_bare(&bytes);
    let source = if is_bare { bare_source() } else { Some(web.source.clone()) };
    let source = source.ok_or_else(Problem::internal)?;
    let now = web.site.now();
    let Payload { mut alerts, group_key, truncated_alerts, rejected: unusable } =
        alertmanager::parse(&bytes, &source, is_bare, now).map(masked_payload).map_err(|why| {
            warn!(%source, why, "a webhook was rejected");
            rejected(Problem::bad_request(why))
        })?;
    for alert in &unusable {
        warn!(%source, index = alert.index, why = alert.why, "an alert of a webhook was rejected");
    }
    let settings = web.site.settings();
    let (mut heartbeats, mut inhibitors) = (0, 0);
    alerts.retain(|alert| {
        // The end of one is kept: an incident may be open for it since it was mapped otherwise.
        let opens_nothing = alert.status == AlertStatus::Firing && settings.mapping.is_heartbeat(alert);
        match opens_nothing {
            true if settings.mapping.is_beat(alert) => heartbeats += 1,
            true => inhibitors += 1,
            false => {}
        }
        !opens_nothing
    });
    if heartbeats > 0 {
        web.site.metrics.heartbeats(heartbeats, now);
    }
    web.site.metrics.alerts("inhibitor", inhibitors);
    let (accepted, first) = (alerts.len(), alerts.first().map(|alert| alert.key.clone()));
    let resolved = alerts.iter().filter(|alert| alert.status == AlertStatus::Resolved).count();
    let trace = headers.get("traceparent").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let received = Received { at: now, source, alerts, group_key, truncated_alerts, trace };
    web.site.faults.reach("coordinator.receive.before").await;
    // A sender that hangs up drops this handler; what is on disk by then must be correlated all the same.
    let (site, notify) = (Arc::clone(&web.site), Arc::clone(&web.received));
    let receiving = tokio::spawn(async move {
        let position = site.store.receive(received).await;
        site.faults.reach("coordinator.receive.after").await;
        notify.notify_one();
        position
    });
    let position =
        receiving.await.unwrap_or(Err(StoreError::Closed)).map_err(|error| unavailable(web, &error))?;
    web.site.metrics.webhook("accepted");
    web.site.metrics.alerts("firing", (accepted - resolved) as u64);
    web.site.metrics.alerts("resolved", resolved as u64);
    Ok(Taken { position, is_bare, accepted, rejected: unusable, heartbeats, first })
}

fn bare_source() -> Option<SourceName> {
    SourceName::declared(BARE_SOURCE).ok()
}

/// Whatever keeps the store from taking it: the sender is to try again, unless that can never help.
fn unavailable(web: &Web, error: &StoreError) -> Problem {
    error!(%error, "a webhook could not be stored");
    web.site.metrics.webhook("unavailable");
    if error.is_for_good() {
        return store_problem(error);
    }
    Problem::unavailable("the alerts could not be stored now; send them again", RETRY_AFTER_SECONDS)
}
