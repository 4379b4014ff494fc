//! Sees to what should be under way. Each incident that is not over and whose lease this coordinator holds has a worker: it looks at the
//! incident's duties, carries them out, tells the workflow what came of them, and waits for the next change or deadline. It keeps
//! nothing that a restart, or another coordinator, would miss: duties follow from the state.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use jiff::{SignedDuration, Timestamp};
use quell_incident::contract::{PlanAnswer, PlanRequest, ProbeVerdict, StepOutcome, StepRequest};
use quell_incident::severity::Status;
use quell_incident::workflow::{self, Duty, DutyKind, Input};
use quell_incident::{Incident, IncidentId, TaskKey, Untrusted};
use quell_store::{Lease, StoreError, Work};
use tokio::sync::Notify;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use crate::agents::{AgentError, Workers};
use crate::diagnosis;
use crate::observe::{self, AlertSource};
use crate::permits;
use crate::planning;
use crate::site::{By, ChangeError, Site};
use crate::tenure::{Tenure, Term};

/// After an error of the store, or of an agent that is asked again under the same key.
const PAUSE: Duration = Duration::from_millis(500);
/// What of an agent's time is kept for saying that it did not answer.
const SAY_WHY_WITHIN: Duration = Duration::from_millis(500);
/// After a worker ended by a panic.
const PAUSE_AFTER_PANIC: Duration = Duration::from_secs(10);
/// How often incidents are looked for that nobody works on: their coordinator has died or stopped.
const CLAIM_EVERY: Duration = Duration::from_secs(1);
/// The same where nobody else works: only what this process could not claim while the store did not answer.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Incidents that are claimed at once.
const CLAIMS_MAX: usize = 1_024;
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

/// What is told instead of an answer that can never be stored, such as one that is too large. Asked again, the agent would say the
/// same.
fn cannot_be_stored(input: &Input, error: &StoreError) -> Option<Input> {
    let why = format!("the answer cannot be stored: {error}");
    match input {
        Input::Report { task, .. } | Input::Plan { task, .. } => {
            Some(Input::TaskFailed { task: task.clone(), why, for_good: true })
        }
        Input::StepOutcome { key, outcome } if !matches!(outcome, StepOutcome::Unknown { .. }) => {
            Some(Input::StepOutcome { key: key.clone(), outcome: StepOutcome::Unknown { why } })
        }
        Input::Probed { key, verdict } if !matches!(verdict, ProbeVerdict::CannotTell { .. }) => {
            Some(Input::Probed { key: key.clone(), verdict: ProbeVerdict::CannotTell { why } })
        }
        _ => None,
    }
}

/// By which right an incident's worker works.
#[derive(Clone)]
struct Holder {
    term: Term,
    lease: Lease,
}

/// Everything that carrying out needs.
pub(crate) struct Runner {
    site: Arc<Site>,
    agents: Arc<dyn Workers>,
    alertmanager: Option<AlertSource>,
    tenure: Tenure,
    /// In an order that is the same in every run, since they are woken in it.
    workers: Mutex<BTreeMap<IncidentId, Arc<Notify>>>,
    /// Incidents that have changed and have no worker here.
    unclaimed: Mutex<BTreeSet<IncidentId>>,
    to_claim: Notify,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Runner {
    /// A runner that works once [`Runner::start`] is called.
    pub(crate) fn new(
        site: Arc<Site>,
        agents: Arc<dyn Workers>,
        alertmanager: Option<AlertSource>,
        tenure: Tenure,
        stop: CancellationToken,
        tasks: TaskTracker,
    ) -> Arc<Self> {
        let (workers, unclaimed, to_claim) = (Mutex::default(), Mutex::default(), Notify::new());
        Arc::new(Self { site, agents, alertmanager, tenure, workers, unclaimed, to_claim, stop, tasks })
    }

    /// Takes up every incident that is not over and that nobody works on, now and from now on.
    pub(crate) fn start(self: &Arc<Self>) {
        let runner = Arc::clone(self);
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            let terms = async {
                while let Some(term) = runner.tenure.begun().await {
                    term.over.run_until_cancelled(runner.dispatch(&term)).await;
                }
            };
            stop.run_until_cancelled(terms).await;
        });
    }

    async fn dispatch(self: &Arc<Self>, term: &Term) {
        // Subscribed before anything is claimed, so that nothing falls between.
        let mut changes = self.site.store.changes();
        let every = if self.site.store.is_shared() { CLAIM_EVERY } else { LOOK_EVERY };
        let mut look = tokio::time::interval(every);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                change = changes.recv() => match change {
                    Ok(changed) => self.wake(changed.incident_id),
                    Err(RecvError::Lagged(_)) => self.wake_workers(),
                    Err(RecvError::Closed) => return,
                },
                () = self.to_claim.notified() => self.claim_changed(term).await,
                _ = look.tick() => self.claim_unfinished(term).await,
            }
        }
    }

    /// After changes were missed; also those that closed meanwhile have to hear of it. What has no worker is found by looking.
    fn wake_workers(&self) {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        workers.values().for_each(|changed| changed.notify_one());
    }

    fn wake(&self, id: IncidentId) {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(changed) = workers.get(&id) {
            return changed.notify_one();
        }
        drop(workers);
        self.unclaimed.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        self.to_claim.notify_one();
    }

    async fn claim_changed(self: &Arc<Self>, term: &Term) {
        let changed = std::mem::take(&mut *self.unclaimed.lock().unwrap_or_else(PoisonError::into_inner));
        let mut work = Vec::with_capacity(changed.len());
        for id in changed {
            match self.site.store.incident(id).await {
                Ok(Some(incident)) if incident.status() != Status::Closed => work.push(Work::Incident(id)),
                Ok(_) => {}
                // Looking for what nobody works on will find it.
                Err(error) => warn!(incident_id = %id, %error, "the incident could not be read"),
            }
        }
        if work.is_empty() {
            return;
        }
        let claimed = self.site.store.claim(term.coordinator, &work).await;
        self.employ_all(term, claimed);
    }

    async fn claim_unfinished(self: &Arc<Self>, term: &Term) {
        loop {
            let claimed = self.site.store.claim_unfinished(term.coordinator, CLAIMS_MAX).await;
            let more = claimed.as_ref().is_ok_and(|leases| leases.len() == CLAIMS_MAX);
            self.employ_all(term, claimed);
            if !more {
                return;
            }
        }
    }

    fn employ_all(self: &Arc<Self>, term: &Term, claimed: Result<Vec<Lease>, StoreError>) {
        match claimed {
            Ok(leases) => leases.into_iter().for_each(|lease| self.employ(term, lease)),
            Err(error @ StoreError::LeaseLost { .. }) => {
                warn!(%error, "the leases are lost");
                term.over.cancel();
            }
            Err(error) => error!(%error, "the runner waits for the store"),
        }
    }

    /// Lets a worker see to an incident.
    fn employ(self: &Arc<Self>, term: &Term, lease: Lease) {
        let Work::Incident(id) = lease.work else { return };
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(changed) = workers.get(&id) {
            // It ends, or goes on; either way it looks once more.
            return changed.notify_one();
        }
        let changed = Arc::new(Notify::new());
        workers.insert(id, Arc::clone(&changed));
        let (runner, term) = (Arc::clone(self), term.clone());
        self.tasks.spawn(async move {
            let worked = AssertUnwindSafe(runner.work(&term, lease, &changed)).catch_unwind();
            if let Some(Err(_)) = term.over.run_until_cancelled(worked).await {
                // The panic itself is in the log. It is taken up again, not at once.
                error!(incident_id = %id, "the incident's worker ended by a panic");
                term.over.run_until_cancelled(tokio::time::sleep(PAUSE_AFTER_PANIC)).await;
            }
            // A change between the last look and here finds no worker only after this line, and so starts a new one.
            runner.workers.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
            if runner.stop.is_cancelled() {
                return;
            }
            match runner.site.store.incident(id).await {
                Ok(Some(incident)) if incident.status() == Status::Closed => {
                    if let Err(error) = runner.site.store.give_back(term.coordinator, &[lease.work]).await {
                        info!(incident_id = %id, %error, "the lease of a closed incident runs out by itself");
                    }
                }
                Ok(Some(_)) => runner.wake(id),
                _ => {}
            }
        });
    }

    /// Sees to one incident until it is over.
    async fn work(self: &Arc<Self>, term: &Term, lease: Lease, changed: &Notify) {
        let Work::Incident(id) = lease.work else { return };
        let holder = Holder { term: term.clone(), lease };
        let mut under_way: HashMap<String, AbortHandle> = HashMap::new();
        let mut carried_out: JoinSet<()> = JoinSet::new();
        // Duties that ended and may still be due: the store refused what they brought, or they panicked.
        let mut ended: HashSet<String> = HashSet::new();
        loop {
            let incident = match self.site.store.incident(id).await {
                Ok(Some(incident)) => incident,
                Ok(None) => return,
                Err(error @ (StoreError::UnknownEvent { .. } | StoreError::Damaged { .. })) => {
                    error!(incident_id = %id, %error, "the incident is left alone");
                    return;
                }
                Err(error) => {
                    warn!(incident_id = %id, %error, "waiting for the store");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            if incident.status() == Status::Closed {
                return;
            }
            let duties = workflow::duties(&incident);
            let due = |key: &String| duties.iter().any(|duty| duty.key == *key);
            ended.retain(|key| due(key));
            under_way.retain(|key, task| {
                if !due(key) {
                    task.abort();
                }
                due(key)
            });
            for duty in duties {
                if under_way.contains_key(&duty.key) {
                    continue;
                }
                let (runner, key) = (Arc::clone(self), duty.key.clone());
                let (incident, again) = (Arc::clone(&incident), ended.remove(&duty.key));
                let holder = holder.clone();
                let task = carried_out.spawn(async move {
                    if again {
                        tokio::time::sleep(PAUSE).await;
                    }
                    runner.carry_out(&holder, incident, &duty).await;
                });
                under_way.insert(key, task);
            }
            let deadline = workflow::next_deadline(&incident);
            // Between two changes the store decides whether it stays in memory.
            drop(incident);
            tokio::select! {
                biased;
                () = changed.notified() => {}
                () = self.sleep_until(deadline) => self.tell(&holder, id, Input::Deadline, "workflow").await,
                Some(_) = carried_out.join_next() => {
                    ended.extend(under_way.extract_if(|_, task| task.is_finished()).map(|(key, _)| key));
                }
            }
        }
    }

    async fn sleep_until(&self, at: Option<Timestamp>) {
        let Some(at) = at else { return std::future::pending().await };
        loop {
            let span = at.duration_since(self.site.now());
            if !span.is_positive() {
                return;
            }
            // Clocks may be moved: look again at least every minute.
            tokio::time::sleep(span.unsigned_abs().min(Duration::from_secs(60))).await;
        }
    }

    /// Tells the workflow what happened. What does not fit is noted and changes nothing.
    async fn tell(&self, holder: &Holder, id: IncidentId, input: Input, actor: &str) {
        let mut told = self.site.change(id, &input, By::lease(actor, holder.lease)).await;
        if let Err(ChangeError::Store(error)) = &told
            && error.is_for_good()
            && let Some(instead) = cannot_be_stored(&input, error)
        {
            warn!(incident_id = %id, %error, "an answer is rejected for good");
            told = self.site.change(id, &instead, By::lease(actor, holder.lease)).await;
        }
        match told {
            Ok(_) => {}
            Err(ChangeError::Refused(refused)) => {
                info!(incident_id = %id, %refused, "noted, and nothing changed")
            }
            Err(ChangeError::Store(error @ StoreError::ClaimRefused { .. })) => {
                info!(incident_id = %id, %error, "another one came first, looking again");
            }
            Err(ChangeError::Store(error @ StoreError::LeaseLost { .. })) => {
                warn!(incident_id = %id, %error, "another coordinator sees to what this one had");
                holder.term.over.cancel();
            }
            Err(error) => {
                error!(incident_id = %id, %error, "what happened could not be stored, doing it again");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    async fn carry_out(&self, holder: &Holder, incident: Arc<Incident>, duty: &Duty) {
        self.wait_until(duty.not_before).await;
        let id = incident.id;
        match &duty.kind {
            DutyKind::Diagnose(request) => {
                let within = self.before_deadline(&incident);
                // A storm waits for its diagnoses, and does not keep its incidents in memory for that.
                drop(incident);
                self.site.faults.reach("coordinator.diagnose.before").await;
                let request = match diagnosis::with_changes(&self.site, request).await {
                    Ok(request) => request,
                    Err(error) => {
                        error!(incident_id = %id, %error, "the changes before the incident cannot be read, trying again");
                        tokio::time::sleep(PAUSE).await;
                        return;
                    }
                };
                let answer = self.agents.diagnose(&duty.key, &request, within).await;
                self.site.faults.reach("coordinator.diagnose.after").await;
                let Ok(task) = duty.key.parse() else { return };
                self.count(&answer);
                let input = match answer {
                    Ok(diagnosis) => {
                        // Before the event that cites it. Where it cannot be, the agent is asked again, and has it still.
                        let kept = diagnosis::keep(&self.site, id, diagnosis.case).await;
                        if let Err(error) = &kept
                            && error.is_for_good()
                        {
                            let why = format!("the evidence cannot be stored: {error}");
                            let rejected = Input::TaskFailed { task, why, for_good: true };
                            return self.tell(holder, id, rejected, "diagnostic").await;
                        }
                        if let Err(error) = kept {
                            error!(incident_id = %id, %error, "the evidence cannot be stored, trying again");
                            tokio::time::sleep(PAUSE).await;
                            return;
                        }
                        Input::Report { task, report: Box::new(diagnosis.report) }
                    }
                    Err(error) => failed(task, &error),
                };
                self.tell(holder, id, input, "diagnostic").await;
            }
            DutyKind::Plan(request) => self.plan(holder, &incident, duty, request).await,
            DutyKind::LookAtGates { read_checks } => {
                self.look_at_gates(holder, &incident, *read_checks).await
            }
            DutyKind::Step(request) | DutyKind::Probe(request) => {
                match permits::permitted(&self.site.permit_key, &incident, request) {
                    Ok(request) if matches!(duty.kind, DutyKind::Probe(_)) => {
                        self.probe(holder, &incident, &request).await;
                    }
                    Ok(request) => self.step(holder, &incident, &request).await,
                    Err(error) => {
                        error!(incident_id = %id, %error, "a step cannot be permitted, trying again")
                    }
                }
            }
            DutyKind::Verify(request) => loop {
                let message_id = format!("{}/{}", duty.key, self.site.ids.new_id());
                self.site.faults.reach("coordinator.verify.before").await;
                let answer = self.agents.verify(incident.priority, message_id, request, LOOK_WITHIN).await;
                self.count(&answer);
                match answer {
                    Ok(report) => self.tell(holder, id, Input::Checks(report), "resolution").await,
                    Err(error) => warn!(incident_id = %id, %error, "the checks could not be read"),
                }
                self.pause(self.site.settings().policy.verify_interval).await;
            },
        }
    }

    /// Asks for a plan, again and again while another incident is worked on with the one that this would have.
    async fn plan(&self, holder: &Holder, incident: &Incident, duty: &Duty, request: &PlanRequest) {
        let Ok(task) = duty.key.parse::<TaskKey>() else { return };
        let mut key = duty.key.clone();
        let mut within = self.before_deadline(incident);
        loop {
            self.site.faults.reach("coordinator.plan.before").await;
            let answer = planning::ask(&self.site, &*self.agents, incident, &key, request, within).await;
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
            self.tell(holder, incident.id, input, "resolution").await;
            let Some((other, until)) = taken else { return };
            planning::wait(&self.site, incident, other, until).await;
            // A question of its own: the answer to the last one was that there is nothing yet.
            key = format!("{}/{}", duty.key, self.site.ids.new_id());
            within = self.site.settings().policy.planning.unsigned_abs();
        }
    }

    fn count<T, E>(&self, answer: &Result<T, E>) {
        self.site.metrics.agent_call(if answer.is_ok() { "answered" } else { "failed" });
    }

    async fn wait_until(&self, at: Timestamp) {
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
