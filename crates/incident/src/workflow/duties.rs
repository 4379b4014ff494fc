//! What should be under way, from the state alone. After a crash the runner looks here and knows what to send, again if need be:
//! the key in each duty makes a repeat recognisable, and what is asked under a key is what it was when the event that made the key
//! was written.

use jiff::Timestamp;

use super::gates::excluded;
use crate::contract::{DiagnoseRequest, IncidentBrief, PlanRequest, StepRequest, VerifyRequest};
use crate::incident::{Incident, Phase};

/// Something that should be under way.
#[derive(Clone, Debug, PartialEq)]
pub struct Duty {
    /// Stands for this duty as long as it is due; a runner that already sees to this key leaves it alone.
    pub key: String,
    /// Not seen to before this.
    pub not_before: Timestamp,
    /// What.
    pub kind: DutyKind,
}

/// What should be under way.
#[derive(Clone, Debug, PartialEq)]
pub enum DutyKind {
    /// Ask the diagnostic agent; [`diagnose_request`] says what. Requests wait for an agent in a storm, and each holds a brief of many
    /// alerts: it is made when it can be sent.
    Diagnose,
    /// Ask the resolution agent for a plan; [`plan_request`] says what.
    Plan,
    /// Observe the world and look at the gates, again and again until the phase changes.
    LookAtGates {
        /// Whether the plan's checks are to be read as well: before the first step.
        read_checks: bool,
    },
    /// Tell the resolution agent to do (or undo) the step that was started, and to say how it ended.
    Step(Box<StepRequest>),
    /// Ask the resolution agent whether the step in doubt took effect.
    Probe(Box<StepRequest>),
    /// Read the checks, again and again until the phase changes.
    Verify(Box<VerifyRequest>),
}

/// The instant at which [`super::Input::Deadline`] is due; `None` when only people or alerts can move it on.
pub fn next_deadline(incident: &Incident) -> Option<Timestamp> {
    match &incident.phase {
        Phase::Settling { until } => Some(*until),
        Phase::Diagnosing(asking) | Phase::Planning { asking, .. } => Some(asking.deadline),
        Phase::Held { give_up_at, .. } => Some(*give_up_at),
        Phase::AwaitingApproval { expires_at, remind_at, .. } => {
            Some(remind_at.unwrap_or(*expires_at).min(*expires_at))
        }
        Phase::Executing { run: Some(run), .. } | Phase::Undoing { run: Some(run), .. } => {
            Some(run.doubt.as_ref().map_or(run.deadline, |doubt| doubt.deadline))
        }
        Phase::Executing { run: None, give_up_at, .. } => Some(*give_up_at),
        Phase::Undoing { run: None, deadline, .. } | Phase::Verifying { deadline, .. } => Some(*deadline),
        Phase::Escalated { acknowledged_by: None, remind_at, .. } => Some(*remind_at),
        Phase::Resolved { quiet_until, .. } => Some(*quiet_until),
        Phase::Escalated { acknowledged_by: Some(_), .. }
        | Phase::TakenOver { .. }
        | Phase::Closed { .. } => None,
    }
}

/// What should be under way for an incident.
pub fn duties(incident: &Incident) -> Vec<Duty> {
    let due = |key: String, not_before: Timestamp, kind: DutyKind| vec![Duty { key, not_before, kind }];
    match &incident.phase {
        Phase::Diagnosing(asking) => due(asking.task.to_string(), asking.not_before, DutyKind::Diagnose),
        Phase::Planning { asking, .. } => due(asking.task.to_string(), asking.not_before, DutyKind::Plan),
        Phase::Held { .. } => due(
            format!("{}/gates/held", incident.id),
            incident.updated_at,
            DutyKind::LookAtGates { read_checks: false },
        ),
        Phase::Executing { run: None, proposal, index, .. } => due(
            format!(
                "{}/gates/step/{}/{index}/{}",
                incident.id,
                proposal.digest.short(),
                incident.started_keys.len()
            ),
            incident.updated_at,
            DutyKind::LookAtGates { read_checks: proposal.begun_at.is_none() },
        ),
        Phase::Undoing { run: None, remaining, .. } => due(
            format!("{}/gates/undo/{remaining}/{}", incident.id, incident.started_keys.len()),
            incident.updated_at,
            DutyKind::LookAtGates { read_checks: false },
        ),
        Phase::Executing { run: Some(run), .. } | Phase::Undoing { run: Some(run), .. } => {
            let Some(request) = step_request(incident) else { return Vec::new() };
            match run.doubt {
                None => due(format!("{}/start", run.key), run.started_at, DutyKind::Step(Box::new(request))),
                Some(_) => {
                    due(format!("{}/probe", run.key), run.started_at, DutyKind::Probe(Box::new(request)))
                }
            }
        }
        Phase::Verifying { proposal, since, .. } => {
            let request = VerifyRequest {
                schema: "quell/verify/v1".to_owned(),
                incident_id: incident.id,
                checks: proposal.plan.checks.clone(),
                since: Some(*since),
            };
            let key =
                format!("{}/verify/{}/{}", incident.id, proposal.digest.short(), incident.attempts.len());
            due(key, *since, DutyKind::Verify(Box::new(request)))
        }
        Phase::Settling { .. }
        | Phase::AwaitingApproval { .. }
        | Phase::Escalated { .. }
        | Phase::TakenOver { .. }
        | Phase::Resolved { .. }
        | Phase::Closed { .. } => Vec::new(),
    }
}

/// What the diagnostic agent is asked, while it is asked. Who carries the duty out adds the changes that were known when it was decided.
pub fn diagnose_request(incident: &Incident) -> Option<DiagnoseRequest> {
    let Phase::Diagnosing(asking) = &incident.phase else { return None };
    Some(DiagnoseRequest {
        schema: "quell/diagnose/v1".to_owned(),
        incident: IncidentBrief::clone(&asking.brief),
        reference_time: asking.not_before,
        changes: Vec::new(),
    })
}

/// Which plan the resolution agent is asked for, while it is asked. Who carries the duty out adds the incidents whose plans do not count.
pub fn plan_request(incident: &Incident) -> Option<PlanRequest> {
    let Phase::Planning { asking, runbook, .. } = &incident.phase else { return None };
    Some(PlanRequest {
        schema: "quell/plan-request/v1".to_owned(),
        incident: IncidentBrief::clone(&asking.brief),
        report: incident.report.clone(),
        exclude: if runbook.is_some() { Vec::new() } else { excluded(incident) },
        runbook: runbook.clone(),
        despite: Vec::new(),
    })
}

/// What the resolution agent is told of the step that runs.
pub fn step_request(incident: &Incident) -> Option<StepRequest> {
    let run = incident.run()?;
    let proposal = incident.proposal()?;
    Some(StepRequest {
        schema: "quell/step/v1".to_owned(),
        incident_id: incident.id,
        key: run.key.clone(),
        plan_digest: proposal.digest,
        step: proposal.plan.steps.get(run.index)?.clone(),
        undo: run.undo,
        agent: proposal.plan.agent.clone(),
        lock: run.lock.clone(),
        started_at: run.started_at,
        not_after: run.not_after,
        permit: None,
    })
}
