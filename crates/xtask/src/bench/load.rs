//! Alerts at a bounded rate, and when each one was sent, answered and planned for.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::now;
use crate::http::{self, Connection};
use crate::interrupt::Interrupt;

/// How long plans are waited for after the last alert was sent, and without any progress.
const PATIENCE: Duration = Duration::from_secs(30);

/// Milliseconds, one per alert.
pub(super) struct Measured {
    pub(super) answered: Vec<f64>,
    pub(super) planned_since_answered: Vec<f64>,
    pub(super) planned_since_sent: Vec<f64>,
}

struct Posted {
    sent: Timestamp,
    answered: Timestamp,
    took: Duration,
}

/// The same bytes at the same rate to a server that does nothing but keep them.
pub(super) fn floor(server: SocketAddr, alerts: u32, rate: f64, interrupt: &Interrupt) -> Result<Vec<f64>> {
    let posted = post_all(server, "/", alerts, rate, interrupt)?;
    Ok(posted.values().map(|posted| milliseconds(posted.took)).collect())
}

/// Posts the alerts and waits for the plan of each one's incident.
pub(super) fn run(
    coordinator: SocketAddr,
    alerts: u32,
    rate: f64,
    interrupt: &Interrupt,
    check: impl FnMut() -> Result<()>,
) -> Result<Measured> {
    let begun = now();
    let posted = post_all(coordinator, "/webhooks/alertmanager", alerts, rate, interrupt)?;
    let ids = wait_for_plans(coordinator, begun, alerts, interrupt, check)?;
    let mut measured =
        Measured { answered: Vec::new(), planned_since_answered: Vec::new(), planned_since_sent: Vec::new() };
    for (fingerprint, posted) in &posted {
        let id = ids.get(fingerprint).with_context(|| format!("alert {fingerprint} has no incident"))?;
        let incident = http::json(coordinator, "GET", &format!("/api/incidents/{id}"), None)?;
        let timeline = incident["timeline"].as_array().into_iter().flatten();
        let planned =
            timeline.filter(|entry| entry["type"] == "planned").find_map(|entry| entry["at"].as_str());
        let planned: Timestamp = planned.with_context(|| format!("incident {id} has no plan"))?.parse()?;
        measured.answered.push(milliseconds(posted.took));
        measured.planned_since_answered.push(planned.duration_since(posted.answered).as_secs_f64() * 1000.0);
        measured.planned_since_sent.push(planned.duration_since(posted.sent).as_secs_f64() * 1000.0);
    }
    Ok(measured)
}

/// One connection, as an Alertmanager has it. When the server cannot keep up, the rate falls.
fn post_all(
    server: SocketAddr,
    path: &str,
    alerts: u32,
    rate: f64,
    interrupt: &Interrupt,
) -> Result<BTreeMap<String, Posted>> {
    let mut connection = Connection::open(server)?;
    let started = Instant::now();
    let mut posted = BTreeMap::new();
    for number in 0..alerts {
        let due = Duration::from_secs_f64(f64::from(number) / rate);
        interrupt.pause(due.saturating_sub(started.elapsed()))?;
        let fingerprint = format!("{number:016x}");
        let body = payload(&fingerprint, number);
        let (sent, clock) = (now(), Instant::now());
        let answer = connection.post(path, &body)?;
        let took = clock.elapsed();
        ensure!(answer.status == 200, "POST {path} answered {}: {}", answer.status, answer.body);
        posted.insert(fingerprint, Posted { sent, answered: now(), took });
    }
    Ok(posted)
}

/// As Alertmanager sends it: one alert, of a shard of its own.
fn payload(fingerprint: &str, number: u32) -> String {
    let labels = json!({
        "alertname": "DiskSpaceCritical", "severity": "critical", "component": "disk", "job": "database-server",
        "instance": "storage-node-01:9090", "mountpoint": "/data", "shard": number.to_string(),
    });
    let annotations = json!({"summary": "Disk space critical on storage-node-01:9090"});
    json!({
        "version": "4",
        "groupKey": format!("{{}}:{{shard=\"{number}\"}}"),
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "incident-response-webhook",
        "groupLabels": {"alertname": "DiskSpaceCritical"},
        "commonLabels": labels,
        "commonAnnotations": annotations,
        "externalURL": "http://127.0.0.1:9093",
        "alerts": [{
            "status": "firing", "labels": labels, "annotations": annotations, "startsAt": now().to_string(),
            "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "http://127.0.0.1:9090/graph", "fingerprint": fingerprint,
        }],
    })
    .to_string()
}

/// Incidents by their alert's fingerprint, once each one has a plan.
fn wait_for_plans(
    coordinator: SocketAddr,
    begun: Timestamp,
    alerts: u32,
    interrupt: &Interrupt,
    mut check: impl FnMut() -> Result<()>,
) -> Result<BTreeMap<String, String>> {
    let (mut progress, mut most) = (Instant::now(), 0);
    loop {
        check()?;
        let incidents = all_since(coordinator, begun)?;
        let mut planned = BTreeMap::new();
        let mut phases: BTreeMap<String, u32> = BTreeMap::new();
        for incident in &incidents {
            let phase = incident["phase"].as_str().unwrap_or_default();
            *phases.entry(phase.to_owned()).or_default() += 1;
            if incident["plan"].is_object()
                && let (Some(fingerprint), Some(id)) =
                    (incident["fingerprints"][0].as_str(), incident["id"].as_str())
            {
                planned.insert(fingerprint.to_owned(), id.to_owned());
            } else if phase == "escalated" {
                bail!("incident {} was handed to a person: {}", incident["id"], incident["summary"]);
            }
        }
        if planned.len() == alerts as usize {
            return Ok(planned);
        }
        if planned.len() > most {
            (progress, most) = (Instant::now(), planned.len());
        }
        if progress.elapsed() > PATIENCE {
            bail!(
                "{} of {alerts} incidents have a plan and no further one comes; phases: {phases:?}",
                planned.len()
            );
        }
        // Seldom: what looks on uses the same processors.
        interrupt.pause(Duration::from_secs(2))?;
    }
}

fn all_since(coordinator: SocketAddr, begun: Timestamp) -> Result<Vec<Value>> {
    let mut path = format!("/api/incidents?since={begun}&view=full");
    let mut all = Vec::new();
    loop {
        let answer = http::request(coordinator, "GET", &path, None)?;
        ensure!(answer.status == 200, "GET {path} answered {}: {}", answer.status, answer.body);
        let page: Vec<Value> = serde_json::from_str(&answer.body)?;
        all.extend(page);
        match answer.next {
            Some(next) => path = next,
            None => return Ok(all),
        }
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
