//! Sees to what should be under way. Each incident that is not over has a worker: it looks at the incident's duties, carries them
//! out, tells the workflow what came of them, and waits for the next change or deadline. It keeps nothing that a restart would
//! miss: duties follow from the state.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use jiff::{SignedDuration, Timestamp};
use quell_incident::contract::StepRequest;
use quell_incident::severity::Status;
use quell_incident::workflow::{self, Duty, DutyKind, Input};
use quell_incident::{Incident, IncidentId, Untrusted};
use quell_store::StoreError;
use tokio::sync::Notify;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use crate::agents::{AgentError, Workers};
use crate::observe::{self, AlertSource};
use crate::site::{ChangeError, Site};

/// After an error of the store, or of an agent that is asked again under the same key.
const PAUSE: Duration = Duration::from_millis(500);
/// What of an agent's time is kept for saying that it did not answer.
const SAY_WHY_WITHIN: Duration = Duration::from_millis(500);
/// After a worker ended by a panic.
const PAUSE_AFTER_PANIC: Duration = Duration::from_secs(10);
/// One reading of the checks, or one probe.
const LOOK_WITHIN: Duration = Duration::from_secs(30);

/// An error with an agent's words in it: bounded, and without what a terminal would obey.
fn for_people(error: &AgentError) -> String {
    Untrusted::new(&error.to_string()).for_people()
}

/// Everything that carrying out needs.
pub(crate) struct Runner {
    site: Arc<Site>,
    agents: Arc<dyn Workers>,
    alertmanager: Option<AlertSource>,
    /// In an order that is the same in every run, since they are woken in it.
    workers: Mutex<BTreeMap<IncidentId, Arc<Notify>>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Runner {
    /// A runner that works once [`Runner::start`] is called.
    pub(crate) fn new(
        site: Arc<Site>,
        agents: Arc<dyn Workers>,
        alertmanager: Option<AlertSource>,
        stop: CancellationToken,
        tasks: TaskTracker,
    ) -> Arc<Self> {
        Arc::new(Self { site, agents, alertmanager, workers: Mutex::default(), stop, tasks })
    }

    /// Takes up every incident that is not over, and each one that changes from now on.
    pub(crate) fn start(self: &Arc<Self>) {
        let runner = Arc::clone(self);
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            stop.run_until_cancelled(runner.dispatch()).await;
        });
    }

    async fn dispatch(self: &Arc<Self>) {
        // Subscribed before the list is read, so that nothing falls between.
        let mut changes = self.site.store.changes();
        self.wake_all().await;
        loop {
            match changes.recv().await {
                Ok(changed) => self.wake(changed.incident_id),
                Err(RecvError::Lagged(_)) => self.wake_all().await,
                Err(RecvError::Closed) => return,
            }
        }
    }

    async fn wake_all(self: &Arc<Self>) {
        loop {
            match self.site.store.unfinished().await {
                Ok(unfinished) => {
                    // Those that closed meanwhile have to hear of it as well.
                    let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
                    workers.values().for_each(|changed| changed.notify_one());
                    drop(workers);
                    unfinished.into_iter().for_each(|id| self.wake(id));
                    return;
                }
                Err(error) => {
                    error!(%error, "the runner waits for the store");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn wake(self: &Arc<Self>, id: IncidentId) {
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(changed) = workers.get(&id) {
            changed.notify_one();
            return;
        }
        let changed = Arc::new(Notify::new());
        workers.insert(id, Arc::clone(&changed));
        let runner = Arc::clone(self);
        self.tasks.spawn(async move {
            let stop = runner.stop.clone();
            let worked = AssertUnwindSafe(runner.work(id, &changed)).catch_unwind();
            if let Some(Err(_)) = stop.run_until_cancelled(worked).await {
                // The panic itself is in the log. It is taken up again, not at once.
                error!(incident_id = %id, "the incident's worker ended by a panic");
                stop.run_until_cancelled(tokio::time::sleep(PAUSE_AFTER_PANIC)).await;
            }
            // A change between the last look and here finds no worker only after this line, and so starts a new one.
            runner.workers.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
            if let Ok(Some(incident)) = runner.site.store.incident(id).await
                && incident.status() != Status::Closed
                && !stop.is_cancelled()
            {
                runner.wake(id);
            }
        });
    }

    /// Sees to one incident until it is over.
    async fn work(self: &Arc<Self>, id: IncidentId, changed: &Notify) {
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
                let task = carried_out.spawn(async move {
                    if again {
                        tokio::time::sleep(PAUSE).await;
                    }
                    runner.carry_out(&incident, &duty).await;
                });
                under_way.insert(key, task);
            }
            let deadline = workflow::next_deadline(&incident);
            tokio::select! {
                biased;
                () = changed.notified() => {}
                () = self.sleep_until(deadline) => self.tell(id, Input::Deadline, "workflow").await,
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
    async fn tell(&self, id: IncidentId, input: Input, actor: &str) {
        match self.site.change(id, &input, actor).await {
            Ok(_) => {}
            Err(ChangeError::Refused(refused)) => {
                info!(incident_id = %id, %refused, "noted, and nothing changed")
            }
            Err(ChangeError::Store(error @ StoreError::ClaimRefused { .. })) => {
                info!(incident_id = %id, %error, "another one came first, looking again");
            }
            Err(error) => {
                error!(incident_id = %id, %error, "what happened could not be stored, doing it again");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    async fn carry_out(&self, incident: &Incident, duty: &Duty) {
        self.wait_until(duty.not_before).await;
        let id = incident.id;
        match &duty.kind {
            DutyKind::Diagnose(request) => {
                let within = self.before_deadline(incident);
                self.site.faults.reach("coordinator.diagnose.before").await;
                let answer = self.agents.diagnose(&duty.key, request, within).await;
                self.site.faults.reach("coordinator.diagnose.after").await;
                let Ok(task) = duty.key.parse() else { return };
                self.count(&answer);
                let input = match answer {
                    Ok(report) => Input::Report { task, report: Box::new(report) },
                    Err(error) => Input::TaskFailed { task, why: for_people(&error) },
                };
                self.tell(id, input, "diagnostic").await;
            }
            DutyKind::Plan(request) => {
                let within = self.before_deadline(incident);
                self.site.faults.reach("coordinator.plan.before").await;
                let answer = self.agents.plan(&duty.key, request, within, self.site.now()).await;
                self.site.faults.reach("coordinator.plan.after").await;
                let Ok(task) = duty.key.parse() else { return };
                self.count(&answer);
                let input = match answer {
                    Ok(answer) => Input::Plan { task, answer },
                    Err(error) => Input::TaskFailed { task, why: for_people(&error) },
                };
                self.tell(id, input, "resolution").await;
            }
            DutyKind::LookAtGates { read_checks } => self.look_at_gates(incident, *read_checks).await,
            DutyKind::Step(request) => self.step(incident, request).await,
            DutyKind::Probe(request) => self.probe(incident, request).await,
            DutyKind::Verify(request) => loop {
                let message_id = format!("{}/{}", duty.key, self.site.ids.new_id());
                self.site.faults.reach("coordinator.verify.before").await;
                let answer = self.agents.verify(incident.priority, message_id, request, LOOK_WITHIN).await;
                self.count(&answer);
                match answer {
                    Ok(report) => self.tell(id, Input::Checks(report), "resolution").await,
                    Err(error) => warn!(incident_id = %id, %error, "the checks could not be read"),
                }
                self.pause(self.site.settings().policy.verify_interval).await;
            },
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
    async fn look_at_gates(&self, incident: &Incident, read_checks: bool) {
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
                Ok(world) => self.tell(id, Input::Gates(Box::new(world)), "workflow").await,
                Err(error) => warn!(incident_id = %id, %error, "the gates could not be looked at"),
            }
            self.pause(self.site.settings().policy.hold_look_again).await;
        }
    }

    /// Tells the agent until it says how the step ended; the key makes a repeat harmless. When it does not say so in time, the
    /// deadline puts the step in doubt.
    async fn step(&self, incident: &Incident, request: &StepRequest) {
        loop {
            self.site.faults.reach("coordinator.dial.before").await;
            let within = self.until_deadline(incident);
            let answer = self.agents.step(incident.priority, request, within).await;
            self.site.faults.reach("coordinator.dial.after").await;
            self.count(&answer);
            match answer {
                Ok(answer) if answer.key == request.key => {
                    let input = Input::StepOutcome { key: answer.key, outcome: answer.outcome };
                    return self.tell(incident.id, input, "resolution").await;
                }
                Ok(answer) => {
                    warn!(incident_id = %incident.id, asked = %request.key, answered = %answer.key, "an answer to another step")
                }
                Err(error) => warn!(incident_id = %incident.id, step = %request.key, %error, "asking again"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn probe(&self, incident: &Incident, request: &StepRequest) {
        loop {
            let message_id = format!("{}/probe/{}", request.key, self.site.ids.new_id());
            self.site.faults.reach("coordinator.probe.before").await;
            let answer = self.agents.probe(incident.priority, message_id, request, LOOK_WITHIN).await;
            self.count(&answer);
            match answer {
                Ok(answer) if answer.key == request.key => {
                    let input = Input::Probed { key: answer.key, verdict: answer.verdict };
                    return self.tell(incident.id, input, "resolution").await;
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
