//! The fold: what an event makes of an incident. Replaying the log through it is the recovery.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::contract::{StepEnd, TargetLock};
use crate::event::{Envelope, Event};
use crate::ids::{IncidentId, Revision};
use crate::incident::{
    ActionRecord, Asking, Attempt, Doubt, Incident, Outcome, Phase, Proposal, Run, Stop, Waits,
};
use crate::members::Members;
use crate::plan::Plan;
use crate::said::Said;

/// How long a plan is held after the end of a window that held it.
const HOLD_AFTER_WINDOW: jiff::SignedDuration = jiff::SignedDuration::from_mins(15);

/// An event that cannot follow on what was there: the log is damaged, or a program wrote what the workflow did not decide.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Illegal {
    /// The event does not fit the phase.
    #[error("incident {incident_id}, revision {revision}: `{event}` cannot happen in phase {phase}")]
    Transition {
        /// Which incident.
        incident_id: IncidentId,
        /// Which event by its place.
        revision: Revision,
        /// The event's type.
        event: &'static str,
        /// The phase that it came to.
        phase: &'static str,
    },
    /// A revision is missing or doubled, or it is another incident's event.
    #[error("incident {incident_id}: expected revision {expected}, the log has {found}")]
    Revision {
        /// Which incident.
        incident_id: IncidentId,
        /// What should come.
        expected: Revision,
        /// What came.
        found: Revision,
    },
    /// A log that is empty or does not begin with `opened`.
    #[error("the log of an incident begins with `opened`")]
    NotOpened,
}

/// The incident that a log makes.
///
/// # Errors
/// [`Illegal`] when the log is not one that the workflow could have written.
pub fn replay<'a>(log: impl IntoIterator<Item = &'a Envelope>) -> Result<Incident, Illegal> {
    let mut log = log.into_iter();
    let mut incident = opened(log.next().ok_or(Illegal::NotOpened)?)?;
    for envelope in log {
        apply(&mut incident, envelope)?;
    }
    Ok(incident)
}

/// The incident that its first event makes.
///
/// # Errors
/// [`Illegal::NotOpened`] for any other event.
pub fn opened(envelope: &Envelope) -> Result<Incident, Illegal> {
    let Event::Opened { head, affected_systems, origin, linked_to, started_at, settle_until, context } =
        &envelope.event
    else {
        return Err(Illegal::NotOpened);
    };
    if envelope.revision != Revision(1) {
        return Err(Illegal::Revision {
            incident_id: envelope.incident_id,
            expected: Revision(1),
            found: envelope.revision,
        });
    }
    Ok(Incident {
        id: envelope.incident_id,
        revision: envelope.revision,
        tenant: envelope.tenant.clone(),
        title: head.title.clone(),
        description: head.description.clone(),
        alert_name: head.alert_name.clone(),
        severity: head.severity,
        priority: head.priority,
        tags: head.tags.clone(),
        component: head.component.clone(),
        service: head.service.clone(),
        affected_systems: affected_systems.clone(),
        origin: origin.clone(),
        linked_to: *linked_to,
        context: context.clone(),
        started_at: *started_at,
        created_at: envelope.at,
        updated_at: envelope.at,
        resolved_at: None,
        closed_at: None,
        alerts: BTreeMap::new(),
        members: Members::default(),
        said: Said::default(),
        groups: BTreeMap::new(),
        truncated: BTreeMap::new(),
        flapping: None,
        alerts_not_kept: 0,
        phase: Phase::Settling { until: *settle_until },
        report: None,
        plan: None,
        autonomy: None,
        actions: Vec::new(),
        attempts: Vec::new(),
        locks: BTreeMap::new(),
        started_keys: Vec::new(),
        task_serial: 0,
        chosen_by: None,
        acknowledged_by: Vec::new(),
        reopened: 0,
        post_mortem: None,
    })
}

/// Adds one event. After an error the incident is not to be used.
///
/// # Errors
/// [`Illegal`] when the event cannot follow.
pub fn apply(incident: &mut Incident, envelope: &Envelope) -> Result<(), Illegal> {
    let expected = incident.revision.next();
    if envelope.revision != expected || envelope.incident_id != incident.id {
        return Err(Illegal::Revision { incident_id: incident.id, expected, found: envelope.revision });
    }
    let phase = incident.phase.name();
    if !apply_event(incident, envelope) {
        return Err(Illegal::Transition {
            incident_id: incident.id,
            revision: envelope.revision,
            event: envelope.event.kind(),
            phase,
        });
    }
    incident.revision = expected;
    incident.updated_at = envelope.at;
    Ok(())
}

/// Whether the event could happen; the incident has changed if so.
fn apply_event(incident: &mut Incident, envelope: &Envelope) -> bool {
    let at = envelope.at;
    match &envelope.event {
        Event::Opened { .. } => false,
        Event::AlertFired { .. }
        | Event::AlertsJoined { .. }
        | Event::AlertCleared { .. }
        | Event::AlertsCleared { .. }
        | Event::AlertSuppressed { .. }
        | Event::AlertsTruncated { .. }
        | Event::Flapping { .. } => super::apply_alerts::apply(incident, &envelope.event, at),
        Event::PriorityRaised { priority, severity } => {
            incident.priority = *priority;
            incident.severity = *severity;
            incident.status() != crate::severity::Status::Closed
        }
        Event::DiagnosisStarted { task, attempt, not_before, deadline } => {
            let from = matches!(
                incident.phase,
                Phase::Settling { .. }
                    | Phase::Diagnosing(_)
                    | Phase::Escalated { .. }
                    | Phase::TakenOver { .. }
                    | Phase::Resolved { .. }
            ) && incident.unknown_step().is_none();
            incident.task_serial += 1;
            incident.chosen_by = None;
            incident.phase = Phase::Diagnosing(Asking {
                task: task.clone(),
                attempt: *attempt,
                not_before: *not_before,
                deadline: *deadline,
                brief: Arc::new(incident.brief()),
            });
            from
        }
        Event::TaskFailed { .. } => matches!(incident.phase, Phase::Diagnosing(_) | Phase::Planning { .. }),
        Event::Diagnosed { report } => {
            incident.report = Some((**report).clone());
            matches!(incident.phase, Phase::Diagnosing(_))
        }
        Event::PlanningStarted { task, attempt, not_before, deadline, runbook, chosen_by } => {
            let from = matches!(
                incident.phase,
                Phase::Diagnosing(_)
                    | Phase::Planning { .. }
                    | Phase::Held { .. }
                    | Phase::AwaitingApproval { .. }
                    | Phase::Executing { run: None, .. }
                    | Phase::Undoing { run: None, .. }
                    | Phase::Escalated { .. }
                    | Phase::TakenOver { .. }
            ) && incident.unknown_step().is_none();
            incident.task_serial += 1;
            incident.chosen_by.clone_from(chosen_by);
            let asking = Asking {
                task: task.clone(),
                attempt: *attempt,
                not_before: *not_before,
                deadline: *deadline,
                brief: Arc::new(incident.brief()),
            };
            incident.phase = Phase::Planning { asking, runbook: runbook.clone(), waits: None };
            from
        }
        Event::PlanningWaits { on, because, give_up_at } => match &mut incident.phase {
            Phase::Planning { asking, waits, .. } => {
                asking.deadline = *give_up_at;
                *waits = Some(Waits { on: *on, because: because.clone() });
                true
            }
            _ => false,
        },
        Event::Planned { plan, digest, autonomy, give_up_at } => {
            let from = matches!(incident.phase, Phase::Planning { .. });
            incident.plan = Some((*digest, (**plan).clone()));
            incident.autonomy = Some(autonomy.clone());
            let proposal = Proposal {
                plan: plan.clone(),
                digest: *digest,
                autonomy: autonomy.clone(),
                approvals: Vec::new(),
                happened: Vec::new(),
                begun_at: None,
            };
            incident.phase = Phase::Held { proposal, closed: Vec::new(), give_up_at: *give_up_at };
            from
        }
        Event::GatesClosed { closed: now_closed } => match &mut incident.phase {
            Phase::Held { closed, give_up_at, .. } | Phase::Executing { closed, give_up_at, .. } => {
                // What opens at a known time is waited for, however long that is.
                if let Some(until) = now_closed.iter().filter_map(|gate| gate.until).max() {
                    *give_up_at = super::later(until, HOLD_AFTER_WINDOW).max(*give_up_at);
                }
                closed.clone_from(now_closed);
                true
            }
            Phase::Undoing { closed, .. } => {
                closed.clone_from(now_closed);
                true
            }
            _ => false,
        },
        Event::ApprovalAsked { digest, needed, expires_at, .. } => {
            let Phase::Held { proposal, .. } = &incident.phase else { return false };
            let fits = proposal.digest == *digest;
            incident.phase = Phase::AwaitingApproval {
                proposal: proposal.clone(),
                asked_at: at,
                expires_at: *expires_at,
                remind_at: super::tasks::next_reminder(at, *expires_at, at),
                needed: *needed,
                given: Vec::new(),
            };
            fits
        }
        Event::ApprovalReminded { next_at } => match &mut incident.phase {
            Phase::AwaitingApproval { remind_at, .. } => {
                *remind_at = *next_at;
                true
            }
            _ => false,
        },
        Event::Approved { approval } => match &mut incident.phase {
            Phase::AwaitingApproval { proposal, given, .. } if proposal.digest == approval.digest => {
                given.push(approval.clone());
                true
            }
            _ => false,
        },
        Event::Denied { .. } | Event::ApprovalWithdrawn { .. } => {
            matches!(incident.phase, Phase::AwaitingApproval { .. })
        }
        Event::ExecutionStarted { give_up_at } => {
            let mut proposal = match &incident.phase {
                Phase::Held { proposal, .. } => proposal.clone(),
                Phase::AwaitingApproval { proposal, given, .. } => {
                    Proposal { approvals: given.clone(), ..proposal.clone() }
                }
                _ => return false,
            };
            proposal.begun_at = None;
            incident.phase = Phase::Executing {
                proposal,
                index: 0,
                run: None,
                closed: Vec::new(),
                give_up_at: *give_up_at,
                stop: None,
            };
            true
        }
        Event::StepStarted { .. } => step_started(incident, envelope),
        Event::StepDoubted { key, why, deadline } => match running(incident) {
            Some(run) if run.key == *key && run.doubt.is_none() => {
                run.doubt = Some(Doubt { why: why.clone(), deadline: *deadline });
                true
            }
            _ => false,
        },
        Event::StepEnded { key, outcome, .. } => step_ended(incident, envelope, key, outcome),
        Event::StepSettled { .. } => super::settle::settled(incident, envelope),
        Event::StopAsked { by, why, take_over } => match &mut incident.phase {
            Phase::Executing { stop, .. } => {
                *stop = Some(Stop { by: by.clone(), why: why.clone(), take_over: *take_over });
                true
            }
            _ => false,
        },
        Event::VerificationStarted { since, patience_until, earliest_clear, deadline } => {
            let Phase::Executing { proposal, run: None, .. } = &incident.phase else { return false };
            incident.phase = Phase::Verifying {
                proposal: proposal.clone(),
                since: *since,
                patience_until: *patience_until,
                earliest_clear: *earliest_clear,
                deadline: *deadline,
                last: None,
            };
            true
        }
        Event::ChecksRead { report } => match &mut incident.phase {
            Phase::Verifying { last, .. } => {
                *last = Some(report.clone());
                true
            }
            _ => false,
        },
        Event::UndoStarted { why, deadline } => {
            let proposal = match &incident.phase {
                Phase::Executing { proposal, run: None, .. } | Phase::Verifying { proposal, .. } => {
                    proposal.clone()
                }
                _ => return false,
            };
            let remaining = proposal.plan.steps.len();
            incident.phase = Phase::Undoing {
                proposal,
                why: why.clone(),
                remaining,
                run: None,
                closed: Vec::new(),
                deadline: *deadline,
            };
            true
        }
        Event::Undone { .. } => {
            if let Some(attempt) = incident.attempts.last_mut() {
                attempt.undone = true;
            }
            matches!(incident.phase, Phase::Undoing { run: None, .. })
        }
        Event::LocksReleased { locks } => {
            let settled = !in_doubt(incident);
            let release = |lock: &TargetLock| {
                incident.locks.remove(&lock.target).is_some_and(|token| token == lock.token)
            };
            settled && locks.iter().all(release)
        }
        Event::CoolDownSet { cool_down } => {
            if let Some(attempt) =
                incident.attempts.last_mut().filter(|attempt| attempt.runbook == cool_down.runbook)
            {
                attempt.cool_downs.retain(|known| known.target != cool_down.target);
                attempt.cool_downs.push(cool_down.clone());
            }
            true
        }
        Event::Escalated { why, unknown, remind_at } => {
            let from = !matches!(
                incident.phase,
                Phase::Settling { .. }
                    | Phase::Escalated { .. }
                    | Phase::TakenOver { .. }
                    | Phase::Resolved { .. }
                    | Phase::Closed { .. }
            ) && (unknown.is_some() || incident.run().is_none());
            incident.phase = Phase::Escalated {
                why: why.clone(),
                acknowledged_by: None,
                unknown: unknown.clone(),
                remind_at: *remind_at,
            };
            from
        }
        Event::EscalationReminded { remind_at: next } => match &mut incident.phase {
            Phase::Escalated { remind_at, .. } => {
                *remind_at = *next;
                true
            }
            _ => false,
        },
        Event::Acknowledged { by } => {
            if let Phase::Escalated { acknowledged_by, .. } = &mut incident.phase {
                *acknowledged_by = Some(by.clone());
            }
            if !incident.acknowledged_by.contains(by) {
                incident.acknowledged_by.push(by.clone());
            }
            !matches!(incident.phase, Phase::Closed { .. })
        }
        Event::TakenOver { by } => {
            let from = incident.run().is_none()
                && !matches!(incident.phase, Phase::Resolved { .. } | Phase::Closed { .. });
            let unknown = incident.unknown_step().cloned().map(Box::new);
            incident.phase = Phase::TakenOver { by: by.clone(), unknown };
            from
        }
        Event::HandedBack { .. } => matches!(incident.phase, Phase::TakenOver { unknown: None, .. }),
        Event::Resolved { how, quiet_until } => {
            let from = !in_doubt(incident)
                && !matches!(incident.phase, Phase::Resolved { .. } | Phase::Closed { .. });
            incident.resolved_at = Some(at);
            incident.phase = Phase::Resolved { how: how.clone(), quiet_until: *quiet_until };
            from
        }
        Event::Reopened { against, .. } => {
            incident.resolved_at = None;
            incident.reopened += 1;
            if let Some(attempt) =
                against.as_ref().and_then(|name| incident.attempts.iter_mut().rfind(|a| a.runbook == *name))
            {
                attempt.came_back = true;
            }
            matches!(incident.phase, Phase::Resolved { .. })
        }
        Event::Closed { outcome, post_mortem } => {
            let from = match outcome {
                Outcome::Resolved { .. } => matches!(incident.phase, Phase::Resolved { .. }),
                Outcome::ClosedByPerson { .. } | Outcome::Withdrawn { .. } => {
                    !in_doubt(incident) && !matches!(incident.phase, Phase::Closed { .. })
                }
            };
            incident.closed_at = Some(at);
            incident.post_mortem = Some(post_mortem.clone());
            incident.phase = Phase::Closed { outcome: outcome.clone() };
            from
        }
        Event::Noted { .. } => true,
    }
}

/// Whether a step runs, or whether one happened is unknown: then its target is not freed, and nothing is over.
fn in_doubt(incident: &Incident) -> bool {
    incident.run().is_some() || incident.unknown_step().is_some()
}

fn running(incident: &mut Incident) -> Option<&mut Run> {
    match &mut incident.phase {
        Phase::Executing { run, .. } | Phase::Undoing { run, .. } => run.as_mut(),
        _ => None,
    }
}

fn step_of(plan: &Plan, index: usize) -> Option<&crate::plan::Step> {
    plan.steps.get(index)
}

fn step_started(incident: &mut Incident, envelope: &Envelope) -> bool {
    let Event::StepStarted { key, index, attempt, undo, takes, lock, not_after, deadline, .. } =
        &envelope.event
    else {
        return false;
    };
    if incident.started_keys.contains(key) {
        return false;
    }
    let started = Run {
        key: key.clone(),
        index: *index,
        attempt: *attempt,
        undo: *undo,
        lock: lock.clone(),
        started_at: envelope.at,
        not_after: *not_after,
        deadline: *deadline,
        doubt: None,
    };
    let (runbook, digest, call, begins) = match &mut incident.phase {
        Phase::Executing { proposal, index: next, run: run @ None, .. } if !undo && next == index => {
            let Some(step) = step_of(&proposal.plan, *index) else { return false };
            let begins = proposal.begun_at.is_none();
            proposal.begun_at.get_or_insert(envelope.at);
            *run = Some(started);
            (proposal.plan.runbook.clone(), proposal.digest, step.call.clone(), begins)
        }
        Phase::Undoing { proposal, remaining, run: run @ None, .. } if *undo && index < remaining => {
            let Some(step) = step_of(&proposal.plan, *index) else { return false };
            let crate::plan::Undo::Inverse { call } = &step.undo else { return false };
            *remaining = index + 1;
            *run = Some(started);
            (proposal.plan.runbook.clone(), proposal.digest, call.clone(), false)
        }
        _ => return false,
    };
    if begins {
        incident.attempts.push(Attempt {
            runbook,
            digest,
            undone: false,
            came_back: false,
            cool_downs: Vec::new(),
        });
    }
    for taken in takes {
        incident.locks.insert(taken.target.clone(), taken.token);
    }
    incident.started_keys.push(key.clone());
    incident.actions.push(ActionRecord {
        key: key.clone(),
        action: call.action,
        target: call.target,
        undo: *undo,
        changes: Vec::new(),
        started_at: envelope.at,
        ended_at: None,
        outcome: None,
        settled: None,
    });
    incident.locks.get(&lock.target) == Some(&lock.token)
}

fn step_ended(
    incident: &mut Incident,
    envelope: &Envelope,
    key: &crate::ids::StepKey,
    outcome: &StepEnd,
) -> bool {
    let happened = matches!(outcome, StepEnd::Done { .. } | StepEnd::Failed { .. });
    match &mut incident.phase {
        Phase::Executing { proposal, run, index, closed, give_up_at, .. }
            if run.as_ref().is_some_and(|run| run.key == *key) =>
        {
            // The time that a step takes is not time in which gates hold the plan.
            let took = run
                .as_ref()
                .map_or(jiff::SignedDuration::ZERO, |run| envelope.at.duration_since(run.started_at));
            *give_up_at = super::later(*give_up_at, took);
            closed.clear();
            if happened {
                proposal.happened.push(*index);
            }
            if matches!(outcome, StepEnd::Done { .. }) {
                *index += 1;
            }
            *run = None;
        }
        Phase::Undoing { remaining, run, .. } if run.as_ref().is_some_and(|run| run.key == *key) => {
            if matches!(outcome, StepEnd::Done { .. }) {
                *remaining = remaining.saturating_sub(1);
            }
            *run = None;
        }
        _ => return false,
    }
    let Some(action) = incident.actions.iter_mut().rfind(|action| action.key == *key) else { return false };
    if let StepEnd::Done { changes, .. } = outcome {
        action.changes.clone_from(changes);
    }
    action.ended_at = Some(envelope.at);
    action.outcome = Some(outcome.clone().into());
    true
}
