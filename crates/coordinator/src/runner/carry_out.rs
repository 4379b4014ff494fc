//! Carries out what is due for one incident: asks the agents, and tells the workflow what came of it.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use quell_incident::contract::{PlanAnswer, StepRequest, VerifyRequest};
use quell_incident::workflow::{self, Duty, DutyKind, Input};
use quell_incident::{Incident, IncidentId, Priority, TaskKey, Untrusted};
use tracing::{error, warn};

use super::{Holder, PAUSE, Runner};
use crate::agents::{AgentError, Room, Wanted};
use crate::{diagnosis, observe, permits, planning};

/// What of an agent's time is kept for saying that it did not answer.
const SAY_WHY_WITHIN: Duration = Duration::from_millis(500);
/// One reading of the checks, or one probe.
const LOOK_WITHIN: Duration = Duration::from_secs(30);

/// An error with an agent's words in it: bounded, and without what a terminal would obey.
fn for_people(error: &AgentError) -> String {
    Untrusted::new(&error.to_string()).for_people()
}

/// What the workflow is told when there is no answer, or none that can be used.
fn failed(task: TaskKey, error: &AgentError) -> Input {
    Input::TaskFailed { task, why: for_people(error), for_good: error.is_for_good() }
}

/// A request to an agent that may have to wait for its turn: what is asked is made from the incident when it comes.
struct Wanting {
    id: IncidentId,
    /// Of the duty.
    key: String,
    priority: Priority,
    /// For the answer, from now on.
    within: Duration,
}

impl Runner {
    pub(super) async fn carry_out(&self, holder: &Holder, id: IncidentId, duty: &Duty) {
        let Some(incident) = self.if_still_due(id, &duty.key).await else { return };
        match &duty.kind {
            DutyKind::Diagnose | DutyKind::Plan => {
                let wanting = Wanting {
                    id,
                    key: duty.key.clone(),
                    priority: incident.priority,
                    within: self.before_deadline(&incident),
                };
                // A storm waits for its agents, and does not keep its incidents in memory for that.
                drop(incident);
                match duty.kind {
                    DutyKind::Diagnose => Box::pin(self.diagnose(holder, &wanting)).await,
                    _ => Box::pin(self.plan(holder, wanting)).await,
                }
            }
            DutyKind::LookAtGates { read_checks } => {
                Box::pin(self.look_at_gates(holder, &incident, *read_checks)).await
            }
            DutyKind::Step(request) | DutyKind::Probe(request) => {
                match permits::permitted(&self.site.permit_key, &incident, request) {
                    Ok(request) if matches!(duty.kind, DutyKind::Probe(_)) => {
                        Box::pin(self.probe(holder, &incident, &request)).await;
                    }
                    Ok(request) => Box::pin(self.step(holder, &incident, &request)).await,
                    Err(error) => {
                        error!(incident_id = %id, %error, "a step cannot be permitted, trying again")
                    }
                }
            }
            DutyKind::Verify(request) => {
                Box::pin(self.verify(holder, &incident, &duty.key, request)).await;
            }
        }
    }

    async fn diagnose(&self, holder: &Holder, wanting: &Wanting) {
        let Wanting { id, key, .. } = wanting;
        self.site.faults.reach("coordinator.diagnose.before").await;
        let answer = match self.room(wanting, Wanted::Diagnosis).await {
            Ok((room, within)) => {
                let incident = self.if_still_due(*id, key).await;
                let Some(request) = incident.and_then(|due| workflow::diagnose_request(&due)) else { return };
                let request = match diagnosis::with_changes(&self.site, request).await {
                    Ok(request) => request,
                    Err(error) => {
                        error!(incident_id = %id, %error, "the changes before the incident cannot be read, trying again");
                        return tokio::time::sleep(PAUSE).await;
                    }
                };
                self.agents.diagnose(&room, key, &request, within).await
            }
            Err(error) => Err(error),
        };
        self.site.faults.reach("coordinator.diagnose.after").await;
        let Ok(task) = key.parse() else { return };
        self.count(&answer);
        let input = match answer {
            Ok(diagnosis) => {
                // Before the event that cites it. Where it cannot be, the agent is asked again, and has it still.
                let kept = diagnosis::keep(&self.site, *id, diagnosis.case).await;
                if let Err(error) = &kept
                    && error.is_for_good()
                {
                    let why = format!("the evidence cannot be stored: {error}");
                    let rejected = Input::TaskFailed { task, why, for_good: true };
                    return self.tell(holder, *id, rejected, "diagnostic").await;
                }
                if let Err(error) = kept {
                    error!(incident_id = %id, %error, "the evidence cannot be stored, trying again");
                    return tokio::time::sleep(PAUSE).await;
                }
                Input::Report { task, report: Box::new(diagnosis.report) }
            }
            Err(error) => failed(task, &error),
        };
        self.tell(holder, *id, input, "diagnostic").await;
    }

    /// A place among the requests to an agent, and what is then left of the time for its answer.
    async fn room(&self, wanting: &Wanting, wanted: Wanted) -> Result<(Room, Duration), AgentError> {
        let deadline = tokio::time::Instant::now() + wanting.within;
        let room = self.agents.room(wanted, wanting.priority, wanting.within).await?;
        Ok((room, deadline.saturating_duration_since(tokio::time::Instant::now())))
    }

    /// The incident as it is now, if the duty of this key still is one.
    async fn if_still_due(&self, id: IncidentId, key: &str) -> Option<Arc<Incident>> {
        match self.site.store.incident(id).await {
            Ok(incident) => {
                let is_due =
                    |incident: &Incident| workflow::duties(incident).iter().any(|due| due.key == *key);
                incident.filter(|incident| is_due(incident))
            }
            Err(error) => {
                warn!(incident_id = %id, %error, "waiting for the store");
                tokio::time::sleep(PAUSE).await;
                None
            }
        }
    }

    async fn verify(&self, holder: &Holder, incident: &Incident, key: &str, request: &VerifyRequest) {
        let id = incident.id;
        loop {
            let message_id = format!("{key}/{}", self.site.ids.new_id());
            self.site.faults.reach("coordinator.verify.before").await;
            let answer = self.agents.verify(incident.priority, message_id, request, LOOK_WITHIN).await;
            self.count(&answer);
            match answer {
                Ok(report) => self.tell(holder, id, Input::Checks(report), "resolution").await,
                Err(error) => warn!(incident_id = %id, %error, "the checks could not be read"),
            }
            self.pause(self.site.settings().policy.verify_interval).await;
        }
    }

    /// Asks for a plan, again and again while another incident is worked on with the one that this would have.
    async fn plan(&self, holder: &Holder, mut wanting: Wanting) {
        let id = wanting.id;
        let Ok(task) = wanting.key.parse::<TaskKey>() else { return };
        let mut key = wanting.key.clone();
        loop {
            self.site.faults.reach("coordinator.plan.before").await;
            let answer = match self.room(&wanting, Wanted::Plan).await {
                Ok((room, within)) => {
                    let incident = self.if_still_due(id, &wanting.key).await;
                    let Some(request) = incident.and_then(|due| workflow::plan_request(&due)) else { return };
                    planning::ask(&self.site, &*self.agents, &room, &key, request, within).await
                }
                Err(error) => Err(error),
            };
            self.site.faults.reach("coordinator.plan.after").await;
            self.count(&answer);
            let taken = match &answer {
                Ok(PlanAnswer::Taken { incident_id, until, .. }) => Some((*incident_id, *until)),
                _ => None,
            };
            let task = task.clone();
            let input = match answer {
                Ok(answer) => Input::Plan { task, answer },
                Err(error) => failed(task, &error),
            };
            self.tell(holder, id, input, "resolution").await;
            let Some((other, until)) = taken else { return };
            planning::wait(&self.site, id, other, until).await;
            // A question of its own: the answer to the last one was that there is nothing yet.
            key = format!("{}/{}", wanting.key, self.site.ids.new_id());
            wanting.within = self.site.settings().policy.planning.unsigned_abs();
        }
    }

    fn count<T, E>(&self, answer: &Result<T, E>) {
        self.site.metrics.agent_call(if answer.is_ok() { "answered" } else { "failed" });
    }

    pub(super) async fn wait_until(&self, at: Timestamp) {
        let span = at.duration_since(self.site.now());
        if span.is_positive() {
            tokio::time::sleep(span.unsigned_abs()).await;
        }
    }

    async fn pause(&self, span: SignedDuration) {
        tokio::time::sleep(span.unsigned_abs().max(Duration::from_millis(20))).await;
    }

    fn until_deadline(&self, incident: &Incident) -> Duration {
        let deadline = workflow::next_deadline(incident).unwrap_or_else(|| self.site.now());
        deadline
            .duration_since(self.site.now())
            .clamp(SignedDuration::from_millis(1), SignedDuration::MAX)
            .unsigned_abs()
    }

    /// A little less than until the deadline: whoever asked knows which agent did not answer, and why; the deadline does not.
    fn before_deadline(&self, incident: &Incident) -> Duration {
        let within = self.until_deadline(incident);
        within.saturating_sub((within / 10).min(SAY_WHY_WITHIN))
    }

    /// Looks until the phase changes; the worker ends this when it has.
    async fn look_at_gates(&self, holder: &Holder, incident: &Incident, read_checks: bool) {
        let id = incident.id;
        loop {
            let current = self.site.store.incident(id).await;
            let Some(current) = current.ok().flatten() else { return };
            let Some(proposal) = current.proposal() else { return };
            let alertmanager = self.alertmanager.as_ref();
            self.site.faults.reach("coordinator.gates.before").await;
            let world = observe::world(
                &self.site,
                &*self.agents,
                alertmanager,
                &current,
                &proposal.plan,
                read_checks,
            )
            .await;
            match world {
                Ok(world) => self.tell(holder, id, Input::Gates(Box::new(world)), "workflow").await,
                Err(error) => warn!(incident_id = %id, %error, "the gates could not be looked at"),
            }
            self.pause(self.site.settings().policy.hold_look_again).await;
        }
    }

    /// Tells the agent until it says how the step ended; the key makes a repeat harmless. When it does not say so in time, the
    /// deadline puts the step in doubt.
    async fn step(&self, holder: &Holder, incident: &Incident, request: &StepRequest) {
        loop {
            // Stopped for long, and awake now: a successor may see to the step.
            if !holder.term.is_surely_held() {
                return holder.term.over.cancel();
            }
            // After a restart or a take-over: it is not begun now. The deadline puts it in doubt, and a probe finds what became of it.
            if workflow::next_deadline(incident).is_some_and(|deadline| deadline <= self.site.now()) {
                return std::future::pending().await;
            }
            self.site.faults.reach("coordinator.dial.before").await;
            let within = self.until_deadline(incident);
            let answer = self.agents.step(incident.priority, request, within).await;
            self.site.faults.reach("coordinator.dial.after").await;
            self.count(&answer);
            match answer {
                Ok(answer) if answer.key == request.key => {
                    let input = Input::StepOutcome { key: answer.key, outcome: answer.outcome };
                    return self.tell(holder, incident.id, input, "resolution").await;
                }
                Ok(answer) => {
                    warn!(incident_id = %incident.id, asked = %request.key, answered = %answer.key, "an answer to another step")
                }
                Err(error) => warn!(incident_id = %incident.id, step = %request.key, %error, "asking again"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn probe(&self, holder: &Holder, incident: &Incident, request: &StepRequest) {
        loop {
            let message_id = format!("{}/probe/{}", request.key, self.site.ids.new_id());
            self.site.faults.reach("coordinator.probe.before").await;
            let answer = self.agents.probe(incident.priority, message_id, request, LOOK_WITHIN).await;
            self.count(&answer);
            match answer {
                Ok(answer) if answer.key == request.key => {
                    let input = Input::Probed { key: answer.key, verdict: answer.verdict };
                    return self.tell(holder, incident.id, input, "resolution").await;
                }
                Ok(answer) => {
                    warn!(incident_id = %incident.id, asked = %request.key, answered = %answer.key, "an answer to another step")
                }
                Err(error) => warn!(incident_id = %incident.id, step = %request.key, %error, "probing again"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}
