//! Incidents, events and alerts to test with.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::{SignedDuration, Timestamp};
use quell_incident::Incident;
use quell_incident::alert::{Alert, AlertKey, AlertStatus, Fingerprint, Labels};
use quell_incident::contract::TargetLock;
use quell_incident::event::{EVENT_VERSION, Envelope, Event};
use quell_incident::gate::{CoolDown, KillSwitch, Throw};
use quell_incident::ids::{Digest, FencingToken, IncidentId, Revision, RunbookName, SourceName, TargetName};
use quell_incident::mapping::Mapping;
use quell_incident::severity::Priority;
use quell_incident::workflow::{self, Claim, Draft, Input, Policy};
use quell_store::{Append, IncidentStore, MessageKey, Received, StoreError};

static ENVELOPES: AtomicU64 = AtomicU64::new(1);

pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1_700_000_000 + second)
}

pub(crate) fn incident_id(number: u64) -> IncidentId {
    IncidentId(uuid::Uuid::from_u128(u128::from(number) << 64 | 0x7000_8000_0000_0000_0000))
}

pub(crate) fn target(name: &str) -> TargetName {
    TargetName::declared(name).unwrap()
}

pub(crate) fn source() -> SourceName {
    SourceName::declared("alertmanager").unwrap()
}

pub(crate) fn alert_key(number: u64) -> AlertKey {
    AlertKey { source: source(), fingerprint: Fingerprint::given(&format!("{number:016x}")).unwrap() }
}

pub(crate) fn alert(number: u64, severity: &str, starts_at: Timestamp) -> Alert {
    let labels: Labels = [
        ("alertname", "HighMemoryUsage"),
        ("severity", severity),
        ("instance", &format!("host-{number}:9100")),
    ]
    .into_iter()
    .collect();
    Alert {
        key: alert_key(number),
        status: AlertStatus::Firing,
        labels,
        annotations: [("summary", "memory „nearly“ full\u{1f525}")].into_iter().collect(),
        starts_at,
        ends_at: None,
        generator_url: None,
    }
}

pub(crate) fn received(number: u64) -> Received {
    Received {
        at: at(number as i64),
        source: source(),
        alerts: vec![alert(number, "warning", at(number as i64)), alert(number + 1, "critical", at(0))],
        group_key: number.is_multiple_of(2).then(|| format!("{{}}:{{group=\"{number}\"}}")),
        truncated_alerts: number,
        trace: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned()),
    }
}

pub(crate) fn envelopes(
    id: IncidentId,
    after: Revision,
    events: impl IntoIterator<Item = Event>,
    at: Timestamp,
) -> Vec<Envelope> {
    let number = (after.0 + 1..).map(Revision);
    let envelope = |(revision, event)| Envelope {
        id: uuid::Uuid::from_u128(u128::from(ENVELOPES.fetch_add(1, Ordering::Relaxed))),
        incident_id: id,
        revision,
        tenant: "default".to_owned(),
        at,
        actor: "workflow".to_owned(),
        trace: None,
        policy: Digest::of_bytes(b"policy"),
        version: EVENT_VERSION,
        event,
    };
    number.zip(events).map(envelope).collect()
}

/// Somebody lets everything go on.
pub(crate) fn release() -> Throw {
    Throw::Release(KillSwitch { by: "person-2".to_owned(), why: "it is over".to_owned(), at: at(2) })
}

/// Opens incident `number` by the alert of the same number.
pub(crate) fn open(number: u64, priority: Priority, at: Timestamp) -> Append {
    let alert = alert(number, "warning", at);
    let mut head = Mapping::default().head(&alert);
    head.priority = priority;
    let draft = Draft {
        head,
        affected_systems: vec![alert.about().name],
        origin: "alertmanager".to_owned(),
        linked_to: None,
        context: None,
        alert: Some(alert),
    };
    let events = workflow::open(draft, at, &Policy::default());
    let id = incident_id(number);
    Append::new(id, Revision(0), envelopes(id, Revision(0), events, at))
}

/// Events that follow on an incident, whatever it is.
pub(crate) fn follow(incident: &Incident, events: impl IntoIterator<Item = Event>, at: Timestamp) -> Append {
    let envelopes = envelopes(incident.id, incident.revision, events, at);
    Append::new(incident.id, incident.revision, envelopes)
}

/// What the workflow decides on an input.
pub(crate) fn decided(incident: &Incident, input: &Input, at: Timestamp) -> Append {
    follow(incident, workflow::decide(incident, input, at, &Policy::default()).unwrap(), at)
}

pub(crate) fn note(incident: &Incident, text: &str) -> Append {
    let noted = Event::Noted { by: "person-1".to_owned(), text: text.to_owned() };
    follow(incident, [noted], incident.updated_at + SignedDuration::from_secs(1))
}

/// A note with claims.
pub(crate) fn claim(incident: &Incident, claims: Vec<Claim>) -> Append {
    Append { claims, ..note(incident, "claims something") }
}

pub(crate) fn lock(name: &str, token: u64) -> TargetLock {
    TargetLock { target: target(name), token: FencingToken(token) }
}

pub(crate) fn cool_down(class: &str, name: &str, runbook: &str, until: Timestamp) -> CoolDown {
    CoolDown {
        class: class.to_owned(),
        target: target(name),
        runbook: RunbookName::declared(runbook).unwrap(),
        until,
    }
}

pub(crate) fn message(number: u64) -> MessageKey {
    MessageKey {
        caller: "caller-1".to_owned(),
        tenant: "default".to_owned(),
        message_id: format!("message-{number}"),
    }
}

/// Closed by a person.
pub(crate) fn close(incident: &Incident) -> Append {
    let input = Input::Close { by: "person-1".to_owned(), why: "nothing to do".to_owned() };
    decided(incident, &input, incident.updated_at + SignedDuration::from_secs(10))
}

/// A new incident in a store.
pub(crate) async fn opened<S: IncidentStore + ?Sized>(store: &S, number: u64) -> Arc<Incident> {
    store.append(open(number, Priority::P1, at(number as i64))).await.unwrap()
}

/// The name of an error, to compare what two stores answer.
pub(crate) fn name_of(error: &StoreError) -> String {
    let text = format!("{error:?}");
    text.chars().take_while(|c| c.is_alphanumeric()).collect()
}
