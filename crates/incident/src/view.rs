//! The incident as people and scripts see it: the JSON of the API, the timeline's sentences, the post-mortem.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::alert::{Alert, AlertKey};
use crate::contract::{StepEnd, StepOutcome};
use crate::correlation::JoinedBy;
use crate::event::{Envelope, Event};
use crate::ids::IncidentId;
use crate::incident::{ActionRecord, Incident, Outcome, Phase};
use crate::links;
use crate::mapping::Head;
use crate::plan::{Change, Plan, Undo};
use crate::report::{EvidenceKind, Report};

/// Suppressed alerts that the API's answers name at the most.
const SUPPRESSED_MAX: usize = 20;

/// The incident as the API's lists and details show it. Times are RFC 3339.
pub fn to_json(incident: &Incident) -> Value {
    let mut view = json!({
        "id": incident.id,
        "title": incident.title,
        "description": incident.description,
        "alert_name": incident.alert_name,
        "priority": incident.priority,
        "severity": incident.severity,
        "status": incident.status(),
        "phase": incident.phase.name(),
        "affected_systems": incident.affected_systems,
        "tags": incident.tags,
        "component": incident.component,
        "service": incident.service,
        "fingerprints": fingerprints(incident),
        "alert_names": alert_names(incident),
        "alerts_total": incident.members.len() as u64 + incident.alerts_not_kept,
        "alerts_firing": incident.members.firing(),
        "alerts_truncated": incident.truncated.values().fold(0, |sum: u64, more| sum.saturating_add(*more)),
        "flapping": incident.flapping,
        "alerts_suppressed": suppressed(incident).count(),
        "suppressed": suppressed(incident)
            .take(SUPPRESSED_MAX)
            .map(|(key, by)| json!({"fingerprint": key.fingerprint.as_str(), "by": by}))
            .collect::<Vec<_>>(),
        "origin": incident.origin,
        "linked_to": incident.linked_to,
        "started_at": incident.started_at,
        "created_at": incident.created_at,
        "updated_at": incident.updated_at,
        "resolved_at": incident.resolved_at,
        "closed_at": incident.closed_at,
        "acknowledged_by": incident.acknowledged_by,
        "reopened": incident.reopened,
        "resolution": incident.how(),
        "summary": summary(incident),
        "diagnostics": diagnostics(incident.report.as_ref()),
        "remediation_actions": incident.actions.iter().map(action).collect::<Vec<_>>(),
        "plan": incident.plan.as_ref().map(|(digest, plan)| json!({"digest": digest, "plan": plan})),
        "autonomy": incident.autonomy,
        "revision": incident.revision,
    });
    if let Value::Object(fields) = &mut view {
        fields.insert("question".to_owned(), question(incident));
        let links = links::of(incident);
        let runbook = links.iter().find(|link| link.kind == "runbook").map(|link| &link.url);
        fields.insert("runbook_url".to_owned(), json!(runbook));
        fields.insert("links".to_owned(), json!(links));
        fields.insert("post_mortem".to_owned(), json!(incident.post_mortem));
    }
    view
}

/// The alerts that fire and are silenced or inhibited, with what does so.
fn suppressed(incident: &Incident) -> impl Iterator<Item = (&AlertKey, &str)> {
    let firing = incident.members.iter().filter(|member| member.fires());
    firing.filter_map(|member| Some((&member.key, member.suppressed_by.as_deref()?)))
}

fn fingerprints(incident: &Incident) -> Vec<&str> {
    let mut all: Vec<_> = incident.members.iter().map(|member| &member.key).collect();
    all.sort();
    all.into_iter().map(|key| key.fingerprint.as_str()).collect()
}

/// The names of the alerts that are kept in full, each once: the one that opened the incident is not the only one that matters.
fn alert_names(incident: &Incident) -> BTreeSet<String> {
    incident.alerts.values().map(|state| state.alert.name()).collect()
}

/// What a person is asked, `null` when nothing is.
fn question(incident: &Incident) -> Value {
    match &incident.phase {
        Phase::AwaitingApproval { proposal, asked_at, expires_at, needed, given, .. } => json!({
            "kind": "approval",
            "text": format!("approve: {}", proposal.plan.summary),
            "plan_digest": proposal.digest,
            "asked_at": asked_at,
            "expires_at": expires_at,
            "approvals_needed": needed,
            "approvals_given": given,
        }),
        Phase::Escalated { why, acknowledged_by, unknown, .. } => json!({
            "kind": "escalation",
            "text": why.to_string(),
            "why": why,
            "acknowledged_by": acknowledged_by,
            "unknown_step": unknown,
            "remedy": settle_first(incident),
        }),
        Phase::TakenOver { by, unknown } => json!({
            "kind": "taken_over",
            "text": format!("{by} has taken over"),
            "unknown_step": unknown,
            "remedy": settle_first(incident),
        }),
        _ => Value::Null,
    }
}

/// What a person has to do before anything else, while the effect of a step is unknown.
fn settle_first(incident: &Incident) -> Option<String> {
    let unknown = incident.unknown_step()?;
    Some(format!(
        "`{}` stays locked until a person says whether `{}` took effect: quell incident settle {} \
         --happened|--not-happened --why ...",
        unknown.lock.target, unknown.title, incident.id
    ))
}

/// One sentence on where the incident stands.
pub fn summary(incident: &Incident) -> String {
    match &incident.phase {
        Phase::Settling { .. } if incident.is_kept_only() => {
            "kept; its alert says that nobody needs to be troubled".to_owned()
        }
        Phase::Settling { .. } => "taken; waits a moment for what belongs to it".to_owned(),
        Phase::Diagnosing(_) => "looking for the root cause".to_owned(),
        Phase::Planning { waits: Some(waits), .. } => waits.because.clone(),
        Phase::Planning { .. } => "making a plan".to_owned(),
        Phase::Held { closed, .. } if closed.is_empty() => "a plan is ready".to_owned(),
        Phase::Held { closed, .. } => {
            format!(
                "a plan is held: {}",
                closed.iter().map(|gate| gate.why.as_str()).collect::<Vec<_>>().join("; ")
            )
        }
        Phase::AwaitingApproval { proposal, .. } => format!("waits for approval: {}", proposal.plan.summary),
        Phase::Executing { run: None, closed, .. } if !closed.is_empty() => {
            let why: Vec<_> = closed.iter().map(|gate| gate.why.as_str()).collect();
            format!("before its next step the plan is held: {}", why.join("; "))
        }
        Phase::Executing { proposal, .. } => format!("carries out: {}", proposal.plan.summary),
        Phase::Verifying { proposal, .. } => format!("verifies: {}", proposal.plan.summary),
        Phase::Undoing { why, .. } => format!("undoes what was done: {why}"),
        Phase::Escalated { why, .. } => format!("a person must decide: {why}"),
        Phase::TakenOver { by, .. } => format!("{by} has taken over"),
        Phase::Resolved { how, .. } => format!("resolved {how}; watched for a return"),
        Phase::Closed { outcome: Outcome::Resolved { how } } => format!("resolved {how}"),
        Phase::Closed { outcome: Outcome::Withdrawn { by } } => format!("withdrawn by {by}"),
        Phase::Closed { outcome: Outcome::ClosedByPerson { by, why } } if why.is_empty() => {
            format!("closed by {by}")
        }
        Phase::Closed { outcome: Outcome::ClosedByPerson { by, why } } => format!("closed by {by}: {why}"),
    }
}

/// What was looked at, for scripts: `{"metrics", "logs", "pods", "dependencies", "root_cause", "confidence", ...}`.
fn diagnostics(report: Option<&Report>) -> Value {
    let Some(report) = report else { return Value::Null };
    let of_kind = |kind: EvidenceKind| -> Map<String, Value> {
        let found = report.evidence.iter().filter(|evidence| evidence.kind == kind);
        found.map(|evidence| (evidence.id.clone(), json!(evidence))).collect()
    };
    json!({
        "metrics": of_kind(EvidenceKind::Metric),
        "logs": of_kind(EvidenceKind::Log),
        "pods": of_kind(EvidenceKind::Platform),
        "dependencies": of_kind(EvidenceKind::Health),
        "changes": of_kind(EvidenceKind::Change),
        "traces": of_kind(EvidenceKind::Trace),
        "root_cause": report.root_cause.as_ref().map(|cause| cause.cause.as_str()),
        "statement": report.root_cause.as_ref().map(|cause| cause.statement.as_str()),
        "subject": report.root_cause.as_ref().map(|cause| &cause.subject),
        "claims": report.root_cause.as_ref().map(|cause| &cause.claims),
        "confidence": report.confidence(),
        "calibrated": report.root_cause.as_ref().is_some_and(|cause| cause.calibrated),
        "abstained": report.abstained,
        "alternatives": report.alternatives,
        "recommended_actions": report.root_cause.as_ref().map(|cause| &cause.recommended_actions),
        "second_opinion": report.second_opinion,
        "unavailable": report.unavailable,
        "reference_time": report.reference_time,
        "engine": report.engine,
    })
}

fn action(record: &ActionRecord) -> Value {
    let (from, to) = from_to(&record.changes);
    json!({
        "action": record.action,
        "target": record.target,
        "from": from,
        "to": to,
        "undo": record.undo,
        "timestamp": record.started_at,
        "ended_at": record.ended_at,
        "success": record.success(),
        "error": match &record.outcome {
            Some(StepOutcome::Failed { why } | StepOutcome::Refused { why } | StepOutcome::Unknown { why }) => json!(why),
            Some(StepOutcome::Done { .. }) | None => Value::Null,
        },
        "key": record.key,
        "settled": record.settled,
    })
}

/// One change as its bare values, several as objects by what changed.
fn from_to(changes: &[Change]) -> (Value, Value) {
    match changes {
        [] => (Value::Null, Value::Null),
        [one] => (one.from.clone(), one.to.clone()),
        several => {
            let side = |pick: fn(&Change) -> &Value| -> Value {
                Value::Object(
                    several.iter().map(|change| (change.what.clone(), pick(change).clone())).collect(),
                )
            };
            (side(|change| &change.from), side(|change| &change.to))
        }
    }
}

/// The timeline of a log: time, actor, type and a sentence for each event.
pub fn timeline(log: &[Envelope]) -> Vec<Value> {
    let entry = |envelope: &Envelope| {
        json!({
            "at": envelope.at,
            "actor": envelope.actor,
            "type": envelope.event.kind(),
            "text": describe(&envelope.event),
            "revision": envelope.revision,
        })
    };
    log.iter().map(entry).collect()
}

/// An event as a sentence.
pub fn describe(event: &Event) -> String {
    match event {
        Event::Opened { head, origin, linked_to, .. } => opened_sentence(head, origin, *linked_to),
        Event::AlertFired { alert } => format!("alert {} fires{}", alert.name(), on(alert)),
        Event::AlertsJoined { full, counted, joined, affected, .. } => {
            joined_sentence(full, counted.len(), joined.as_ref(), affected.as_deref())
        }
        Event::AlertsCleared { cleared } => format!("{} alerts cleared", cleared.len()),
        Event::AlertsTruncated { group: Some(_), more } if *more > 0 => {
            format!("{more} more alerts of the group exist than were sent")
        }
        Event::AlertsTruncated { .. } => "every alert is known again".to_owned(),
        Event::Flapping { flapping } => format!(
            "alert {} flaps: {} changes; no automatic action until {}",
            flapping.key, flapping.transitions, flapping.until
        ),
        Event::PriorityRaised { priority, severity } => format!("it is now {priority}, {severity}"),
        Event::AlertCleared { key, cleared_at } => format!("alert {key} cleared at {cleared_at}"),
        Event::AlertSuppressed { key, by: Some(by) } => format!("alert {key} is suppressed by {by}"),
        Event::AlertSuppressed { key, by: None } => format!("alert {key} is no longer suppressed"),
        Event::DiagnosisStarted { attempt: 1, .. } => {
            "the diagnostic agent is asked for the root cause".to_owned()
        }
        Event::DiagnosisStarted { attempt, .. } => {
            format!("the diagnostic agent is asked again (try {attempt})")
        }
        Event::TaskFailed { why, .. } => format!("no answer from the agent: {why}"),
        Event::Diagnosed { report } => match &report.root_cause {
            Some(cause) => format!(
                "root cause {} (confidence {:.2}): {}",
                cause.cause, cause.confidence, cause.statement
            ),
            None => format!(
                "no root cause: {}",
                report.abstained.as_deref().unwrap_or("the evidence supports none")
            ),
        },
        Event::PlanningWaits { because, .. } => because.clone(),
        Event::PlanningStarted { attempt: 1, runbook: Some(runbook), chosen_by: Some(by), .. } => {
            format!("the resolution agent is asked for a plan of runbook {runbook}, which {by} chose")
        }
        Event::PlanningStarted { attempt: 1, .. } => "the resolution agent is asked for a plan".to_owned(),
        Event::PlanningStarted { attempt, .. } => {
            format!("the resolution agent is asked again (try {attempt})")
        }
        Event::Planned { plan, digest, autonomy, .. } => {
            let reasons = autonomy.reasons.iter().map(|reason| format!("{}: {}", reason.what, reason.level));
            let reasons = reasons.collect::<Vec<_>>().join("; ");
            format!("plan {}: {}; autonomy {} ({reasons})", digest.short(), plan.summary, autonomy.level)
        }
        Event::GatesClosed { closed } if closed.is_empty() => "the gates are open again".to_owned(),
        Event::GatesClosed { closed } => {
            format!("held: {}", closed.iter().map(|gate| gate.why.as_str()).collect::<Vec<_>>().join("; "))
        }
        Event::ApprovalAsked { digest, why, expires_at, .. } => {
            format!("approval of plan {} asked until {expires_at}: {why}", digest.short())
        }
        Event::ApprovalReminded { .. } => "reminded that an approval is open".to_owned(),
        Event::Approved { approval } => format!("{} approved plan {}", approval.by, approval.digest.short()),
        Event::Denied { by, why } if why.is_empty() => format!("{by} denied the plan"),
        Event::Denied { by, why } => format!("{by} denied the plan: {why}"),
        Event::ApprovalWithdrawn { why } => format!("the question is withdrawn: {why}"),
        Event::ExecutionStarted { .. } => "the plan is carried out".to_owned(),
        Event::StepStarted { key, undo: false, lock, .. } => format!("step {key} started on {}", lock.target),
        Event::StepStarted { key, undo: true, lock, .. } => format!("undo {key} started on {}", lock.target),
        Event::StepDoubted { key, why, .. } => {
            format!("whether step {key} happened is not known: {why}; probing")
        }
        Event::StepEnded { key, outcome, .. } => match outcome {
            StepEnd::Done { changes, .. } => format!("step {key} done{}", changed(changes)),
            StepEnd::Failed { why } => format!("step {key} failed: {why}"),
            StepEnd::Refused { why } => format!("step {key} was not done: {why}"),
        },
        Event::StepSettled { key, by, happened: true, why } => {
            format!("{by} says that step {key} took effect: {why}")
        }
        Event::StepSettled { key, by, happened: false, why } => {
            format!("{by} says that step {key} did not take effect: {why}")
        }
        Event::StopAsked { by, take_over: true, .. } => format!("{by} takes over before the next step"),
        Event::StopAsked { by, .. } => format!("{by} stops it before the next step"),
        Event::VerificationStarted { earliest_clear, .. } => {
            format!("verifying; the alert can clear at {earliest_clear} at the earliest")
        }
        Event::ChecksRead { report } => {
            let statements: Vec<_> = report.checks.iter().map(|check| check.statement.as_str()).collect();
            format!("checks: {}", statements.join("; "))
        }
        Event::UndoStarted { why, .. } => format!("undoing: {why}"),
        Event::Undone { left } if left.is_empty() => "undone".to_owned(),
        Event::Undone { left } => format!("undone; left as it is: {}", left.join("; ")),
        Event::LocksReleased { locks } => {
            format!(
                "released {}",
                locks.iter().map(|lock| lock.target.as_str()).collect::<Vec<_>>().join(", ")
            )
        }
        Event::CoolDownSet { cool_down } => {
            format!(
                "{} cools down for {} on {} until {}",
                cool_down.runbook, cool_down.class, cool_down.target, cool_down.until
            )
        }
        Event::Escalated { why, unknown: None, .. } => format!("handed to a person: {why}"),
        Event::Escalated { why, unknown: Some(unknown), .. } => format!(
            "handed to a person: {why}; {} stays locked until a person says whether `{}` took effect",
            unknown.lock.target, unknown.title
        ),
        Event::EscalationReminded { .. } => "reminded that a person must decide".to_owned(),
        Event::Acknowledged { by } => format!("{by} has seen it"),
        Event::TakenOver { by } => format!("{by} took over"),
        Event::HandedBack { by } => format!("{by} gave it back"),
        Event::Resolved { how, .. } => format!("resolved {how}"),
        Event::Reopened { why, .. } => format!("reopened: {why}"),
        Event::Closed { outcome: Outcome::Resolved { how }, .. } => format!("closed; it was resolved {how}"),
        Event::Closed { outcome: Outcome::Withdrawn { by }, .. } => format!("withdrawn by {by}"),
        Event::Closed { outcome: Outcome::ClosedByPerson { by, why }, .. } => {
            format!("closed by {by} {why}").trim_end().to_owned()
        }
        Event::Noted { by, text } => format!("{by}: {text}"),
    }
}

fn opened_sentence(head: &Head, origin: &str, linked_to: Option<IncidentId>) -> String {
    let mut text = format!("opened by {origin}: {}", head.title);
    if let Some(earlier) = linked_to {
        let _ = write!(text, " (the same alert as in {earlier})");
    }
    if let Some(word) = &head.unknown_severity {
        let _ = write!(text, "; nobody knows its severity `{word}`, which is taken as {}", head.priority);
    }
    text
}

/// ` on shop/cart-1`, or nothing where no label says what it is about.
fn on(alert: &Alert) -> String {
    let subject = alert.about().words();
    if subject.is_empty() { subject } else { format!(" on {subject}") }
}

fn joined_sentence(
    full: &[Arc<Alert>],
    counted: usize,
    joined: Option<&JoinedBy>,
    affected: Option<&[String]>,
) -> String {
    let on = |alert: &Alert| match affected {
        Some([]) => String::new(),
        Some(systems) => format!(" on {}", systems.join(", ")),
        None => on(alert),
    };
    let mut text = match (full.first(), full.len() + counted) {
        (Some(alert), 1) => format!("alert {} fires{}", alert.name(), on(alert)),
        (Some(alert), all) => {
            format!("{all} alerts fire, among them {}{}", alert.name(), on(alert))
        }
        (None, all) => format!("{all} more alerts fire"),
    };
    if let Some(joined) = joined {
        let _ = write!(text, "; joined {joined}");
    }
    text
}

fn changed(changes: &[Change]) -> String {
    let sentences: Vec<_> =
        changes.iter().map(|change| format!("{} {} -> {}", change.what, change.from, change.to)).collect();
    if sentences.is_empty() { String::new() } else { format!(": {}", sentences.join(", ")) }
}

/// A plan as text for people: what would be done, what it would change, how it is undone, what must hold afterwards.
pub fn plan_text(plan: &Plan) -> String {
    let mut text = format!("{} (runbook {})\n", plan.summary, plan.runbook);
    for (number, step) in plan.steps.iter().enumerate() {
        let _ = writeln!(
            text,
            "  {}. {} on {}{}",
            number + 1,
            step.title,
            step.target,
            changed(&step.preview.changes)
        );
        if let Some(limits) = &step.preview.limits {
            let _ = writeln!(text, "     the dry run cannot know: {limits}");
        }
        let undo = match &step.undo {
            Undo::Inverse { call } => format!("{} back", call.action),
            Undo::NotNeeded { why } => format!("not needed, {why}"),
            Undo::Irreversible { why } => format!("impossible, {why}"),
        };
        let _ = writeln!(text, "     undo: {undo}");
    }
    for check in &plan.checks {
        let _ = writeln!(text, "  must hold afterwards: {}", check.name);
    }
    text
}

/// What happened, for people, in Markdown.
pub(crate) fn post_mortem(incident: &Incident, outcome: &Outcome, now: Timestamp) -> String {
    let mut text = format!("# {}\n\n", incident.title);
    let end = incident.resolved_at.unwrap_or(now);
    let _ = writeln!(text, "- priority {}, severity {}", incident.priority, incident.severity);
    let _ = writeln!(text, "- began {}, opened {}, over {end}", incident.started_at, incident.created_at);
    let _ = writeln!(text, "- affected: {}", incident.affected_systems.join(", "));
    match outcome {
        Outcome::Resolved { how } => {
            let _ = writeln!(text, "- resolved {how}");
        }
        Outcome::Withdrawn { by } => {
            let _ = writeln!(text, "- withdrawn by {by}");
        }
        Outcome::ClosedByPerson { by, why } => {
            let _ = writeln!(text, "- closed by {by} {why}");
        }
    }
    if let Some(report) = &incident.report {
        text.push_str("\n## Cause\n\n");
        match &report.root_cause {
            Some(cause) => {
                let _ = writeln!(text, "{} (confidence {:.2})\n", cause.statement, cause.confidence);
                for claim in &cause.claims {
                    let _ = writeln!(text, "- {} [{}]", claim.statement, claim.evidence.join(", "));
                }
            }
            None => {
                let _ = writeln!(
                    text,
                    "Not found: {}",
                    report.abstained.as_deref().unwrap_or("the evidence supports none")
                );
            }
        }
    }
    if !incident.actions.is_empty() {
        text.push_str("\n## Actions\n\n");
        for record in &incident.actions {
            let result = match record.success() {
                Some(true) => "done",
                Some(false) => "not done",
                None => "unknown",
            };
            let undo = if record.undo { " (undo)" } else { "" };
            let settled = record.settled.as_ref();
            let settled = settled.map(|word| format!(", says {}: {}", word.by, word.why)).unwrap_or_default();
            let _ = writeln!(
                text,
                "- {} {}{undo} on {}: {result}{settled}{}",
                record.started_at,
                record.action,
                record.target,
                changed(&record.changes)
            );
        }
    }
    text
}
