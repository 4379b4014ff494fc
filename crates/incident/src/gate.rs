//! Gates: what must be open at the instant that a step is started. Each is looked at in the same decision, against what was
//! observed just before ([`World`]). The list is `GATES`; a gate also has a word in [`Gate`], which events hold, what it looks at in
//! [`World`], and in `opens_at` the instant at which it opens by itself, if it has one.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::alert::AlertKey;
use crate::contract::{Verdict, VerificationReport};
use crate::ids::{FencingToken, GateEpoch, IncidentId, RunbookName, TargetName};
use crate::incident::Incident;
use crate::plan::Plan;
use crate::severity::Priority;
use crate::workflow::{Autonomy, Policy};

/// Suppressed alerts that a reason names at the most.
const SUPPRESSED_SAID_MAX: usize = 3;

/// What was observed just before a decision to start a step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct World {
    /// Every alert of the incident, read again at its source where there is one to ask.
    pub alerts: BTreeMap<AlertKey, AlertNow>,
    /// Switches for the whole site.
    pub site: SiteGates,
    /// The locks of the plan's targets.
    pub locks: BTreeMap<TargetName, LockState>,
    /// Cool-downs of the incident's alert class on the plan's targets that are not over.
    pub cool_downs: Vec<CoolDown>,
    /// The plan's checks, read before the first step; `None` when they were not read.
    pub baseline: Option<VerificationReport>,
    /// Maintenance windows and freezes that are open now and concern the incident.
    pub windows: Vec<OpenWindow>,
}

/// A window in which nothing is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenWindow {
    /// Which kind.
    pub kind: WindowKind,
    /// Its name.
    pub name: String,
    /// When it ends.
    pub until: Timestamp,
}

/// Why nothing is done in a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowKind {
    /// Somebody works on what the alerts are about.
    Maintenance,
    /// Nothing may be changed.
    Freeze {
        /// Unless the incident is P0.
        allow_p0: bool,
    },
}

/// What a source says of an alert now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AlertNow {
    /// It fires.
    Firing,
    /// It has cleared.
    Cleared(Timestamp),
    /// It fires and is silenced or inhibited.
    Suppressed(String),
    /// The source did not answer, and nothing else is known.
    Unknown(String),
}

/// Switches that stand for the whole site, changed together and counted by their epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteGates {
    /// Grows with every change; a step's append fails if it has changed since it was read.
    pub epoch: GateEpoch,
    /// Set while the kill switch is engaged: nothing starts, not even an undo.
    pub kill_switch: Option<KillSwitch>,
    /// Who released it last, while it is not engaged: letting everything go on is answered for like stopping it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released: Option<KillSwitch>,
}

impl SiteGates {
    /// The switches after somebody threw the kill switch.
    #[must_use]
    pub fn thrown(&self, throw: Throw) -> Self {
        let (kill_switch, released) = match throw {
            Throw::Engage(word) => (Some(word), None),
            Throw::Release(word) => (None, Some(word)),
        };
        Self { epoch: self.epoch.next(), kill_switch, released }
    }
}

/// What is done to the kill switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Throw {
    /// Nothing starts any more.
    Engage(KillSwitch),
    /// Plans may be carried out again.
    Release(KillSwitch),
}

/// Who threw the kill switch, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KillSwitch {
    /// The authenticated caller.
    pub by: String,
    /// Their words.
    pub why: String,
    /// When.
    pub at: Timestamp,
}

/// A target's lock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockState {
    /// The token of the last holding.
    pub token: FencingToken,
    /// Who holds it now.
    pub holder: Option<IncidentId>,
}

/// Within it the same runbook does not start again for this class of alert on this target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoolDown {
    /// The alert's name.
    pub class: String,
    /// The target.
    pub target: TargetName,
    /// The runbook that was used.
    pub runbook: RunbookName,
    /// When it is over.
    pub until: Timestamp,
}

/// The gates by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// How far Quell may go by itself for this source, service and runbook.
    Autonomy,
    /// Whether actions are switched on at all.
    Execution,
    /// The site's kill switch.
    KillSwitch,
    /// The alert, read again, still fires.
    AlertFiring,
    /// At least one alert fires that is neither silenced nor inhibited.
    Suppression,
    /// The plan is not too old.
    PlanAge,
    /// The runbook is not cooling down for this class and target.
    CoolDown,
    /// No other incident works on a target of the plan.
    TargetLock,
    /// The fault is still there: the plan's own checks do not all hold before the first step.
    Baseline,
    /// No maintenance window is open for the incident's alerts.
    Maintenance,
    /// No freeze holds.
    Freeze,
    /// No alert of the incident flaps, or a person decided.
    Flapping,
}

/// What a closed gate means for the incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// It may open by itself: wait and look again.
    Wait,
    /// It will not open by itself: a person decides.
    HandOver,
    /// The plan must be made anew.
    Replan,
}

/// A gate that is closed, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosedGate {
    /// Which.
    pub gate: Gate,
    /// Why, for people.
    pub why: String,
    /// When it opens, if that is known: it is waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

struct Look<'a> {
    incident: &'a Incident,
    plan: &'a Plan,
    world: &'a World,
    policy: &'a Policy,
    /// Whether a step of the plan was already started: age and baseline are for the first one.
    begun: bool,
    now: Timestamp,
}

type LookAt = fn(&Look<'_>) -> Option<String>;

/// Every gate, what a closed one means, and how it is looked at.
const GATES: &[(Gate, Closing, LookAt)] = &[
    (Gate::Autonomy, Closing::HandOver, autonomy),
    (Gate::Execution, Closing::HandOver, execution),
    (Gate::KillSwitch, Closing::Wait, kill_switch),
    (Gate::AlertFiring, Closing::Wait, alert_firing),
    (Gate::Suppression, Closing::Wait, suppression),
    (Gate::PlanAge, Closing::Replan, plan_age),
    (Gate::PlanAge, Closing::HandOver, begun_plan_age),
    (Gate::CoolDown, Closing::HandOver, cool_down),
    (Gate::TargetLock, Closing::Wait, target_lock),
    (Gate::Baseline, Closing::Wait, baseline),
    (Gate::Maintenance, Closing::Wait, maintenance),
    (Gate::Freeze, Closing::Wait, freeze),
    (Gate::Flapping, Closing::Wait, flapping),
];

/// Looks at every gate for a plan's next step; returns the closed ones in the order of the list with what they mean.
pub fn closed_gates(
    incident: &Incident,
    plan: &Plan,
    world: &World,
    policy: &Policy,
    begun: bool,
    now: Timestamp,
) -> Vec<(ClosedGate, Closing)> {
    let look = Look { incident, plan, world, policy, begun, now };
    GATES
        .iter()
        .filter_map(|(gate, closing, at)| {
            let (gate, until) = (*gate, opens_at(*gate, &look));
            at(&look).map(|why| (ClosedGate { gate, why, until }, *closing))
        })
        .collect()
}

/// The gates that also hold back an undo: only the kill switch and a lock that is lost.
pub fn closed_gates_of_undo(incident: &Incident, plan: &Plan, world: &World) -> Vec<ClosedGate> {
    let stopped = world.site.kill_switch.as_ref().map(|switch| ClosedGate {
        gate: Gate::KillSwitch,
        why: switched(switch),
        until: None,
    });
    let lost = plan.targets().into_iter().find(|target| holder_of(world, target) != Some(incident.id));
    let lost = lost
        .map(|target| (Gate::TargetLock, format!("the lock on {target} was lost")))
        .map(|(gate, why)| ClosedGate { gate, why, until: None });
    stopped.into_iter().chain(lost).collect()
}

fn autonomy(look: &Look<'_>) -> Option<String> {
    let autonomy = look.policy.autonomy_in_force(look.incident, look.plan);
    let then = match autonomy.level {
        Autonomy::Observe => "detect and diagnose only",
        Autonomy::Suggest => "here is the plan, a person carries it out",
        Autonomy::Approve | Autonomy::Auto => return None,
    };
    Some(format!("the autonomy level is {}: {then} ({})", autonomy.level, autonomy.because()))
}

fn execution(look: &Look<'_>) -> Option<String> {
    (!look.policy.execution_enabled).then(|| {
        "actions are switched off (agents.resolution.execute_real_commands and dry_run): here is the plan, and what it would do"
            .to_owned()
    })
}

fn switched(switch: &KillSwitch) -> String {
    format!("the kill switch was engaged by {}: {}", switch.by, switch.why)
}

fn kill_switch(look: &Look<'_>) -> Option<String> {
    look.world.site.kill_switch.as_ref().map(switched)
}

fn alert_firing(look: &Look<'_>) -> Option<String> {
    if look.incident.members.is_empty() {
        return None;
    }
    let firing =
        look.world.alerts.values().any(|now| matches!(now, AlertNow::Firing | AlertNow::Suppressed(_)));
    if firing {
        return None;
    }
    let unknown = look.world.alerts.values().find_map(|now| match now {
        AlertNow::Unknown(why) => Some(why.clone()),
        _ => None,
    });
    Some(unknown.map_or_else(
        || "no alert of the incident fires any more".to_owned(),
        |why| format!("whether the alert still fires is not known: {why}"),
    ))
}

/// One alert that fires and that nobody has silenced is enough: a critical alert usually inhibits the mild ones beside it.
fn suppression(look: &Look<'_>) -> Option<String> {
    if look.world.alerts.values().any(|now| matches!(now, AlertNow::Firing)) {
        return None;
    }
    let suppressed: Vec<_> = look
        .world
        .alerts
        .iter()
        .filter_map(|(key, now)| match now {
            AlertNow::Suppressed(by) => Some(format!("alert {key} is suppressed by {by}")),
            _ => None,
        })
        .collect();
    let more = suppressed.len().saturating_sub(SUPPRESSED_SAID_MAX);
    let said = suppressed.iter().take(SUPPRESSED_SAID_MAX).cloned().collect::<Vec<_>>().join("; ");
    match (suppressed.is_empty(), more) {
        (true, _) => None,
        (false, 0) => Some(said),
        (false, more) => Some(format!("{said}; and {more} more")),
    }
}

fn plan_age(look: &Look<'_>) -> Option<String> {
    (!look.begun && look.now > look.plan.valid_until)
        .then(|| format!("the plan was valid until {}", look.plan.valid_until))
}

/// What was done of it may be undone by a person; no further step is started on what was seen so long ago.
fn begun_plan_age(look: &Look<'_>) -> Option<String> {
    let until = look.plan.steps_until();
    (look.begun && look.now > until)
        .then(|| format!("the plan has begun, and no further step of it was to start after {until}"))
}

fn cool_down(look: &Look<'_>) -> Option<String> {
    // It keeps Quell from repeating itself; a person who chooses the runbook knows that it was used.
    let targets = look.plan.targets();
    look.world
        .cool_downs
        .iter()
        .find(|cool| {
            !look.begun
                && cool.until > look.now
                && cool.runbook == look.plan.runbook
                && cool.class == look.incident.alert_name
                && targets.contains(&cool.target)
                && look.incident.chosen_by.is_none()
        })
        .map(|cool| {
            format!(
                "{} was used on {} for {} and cools down until {}",
                cool.runbook, cool.target, cool.class, cool.until
            )
        })
}

fn holder_of(world: &World, target: &TargetName) -> Option<IncidentId> {
    world.locks.get(target).and_then(|lock| lock.holder)
}

fn target_lock(look: &Look<'_>) -> Option<String> {
    look.plan.targets().into_iter().find_map(|target| match (world_lock(look, &target), look.begun) {
        (None, _) => Some(format!("the lock on {target} was not read")),
        (Some(LockState { holder: Some(holder), .. }), _) if *holder != look.incident.id => {
            Some(format!("incident {holder} works on {target}"))
        }
        (Some(LockState { holder: None, .. }), true) => Some(format!("the lock on {target} was lost")),
        _ => None,
    })
}

fn world_lock<'a>(look: &'a Look<'_>, target: &TargetName) -> Option<&'a LockState> {
    look.world.locks.get(target)
}

/// When a gate that is closed by a window opens.
fn opens_at(gate: Gate, look: &Look<'_>) -> Option<Timestamp> {
    match gate {
        Gate::Maintenance => window(look, is_maintenance).map(|window| window.until),
        Gate::Freeze => window(look, is_freeze).map(|window| window.until),
        Gate::Flapping => look.incident.flapping.as_ref().map(|flapping| flapping.until),
        _ => None,
    }
}

/// The one that ends last.
fn window<'a>(look: &Look<'a>, of_kind: fn(WindowKind, &Incident) -> bool) -> Option<&'a OpenWindow> {
    let open = look.world.windows.iter().filter(|window| window.until > look.now);
    open.filter(|window| of_kind(window.kind, look.incident)).max_by_key(|window| window.until)
}

fn is_maintenance(kind: WindowKind, _: &Incident) -> bool {
    kind == WindowKind::Maintenance
}

fn is_freeze(kind: WindowKind, incident: &Incident) -> bool {
    match kind {
        WindowKind::Freeze { allow_p0 } => !(allow_p0 && incident.priority == Priority::P0),
        WindowKind::Maintenance => false,
    }
}

fn maintenance(look: &Look<'_>) -> Option<String> {
    let window = window(look, is_maintenance)?;
    Some(format!("the maintenance window {} is open until {}", window.name, window.until))
}

fn freeze(look: &Look<'_>) -> Option<String> {
    let window = window(look, is_freeze)?;
    Some(format!("the freeze {} holds until {}", window.name, window.until))
}

/// Nothing happens by itself while an alert flaps; what a person chose or approved does.
fn flapping(look: &Look<'_>) -> Option<String> {
    let flapping = look.incident.flapping.as_ref().filter(|flapping| flapping.until > look.now)?;
    let approved = look.incident.proposal().is_some_and(|proposal| !proposal.approvals.is_empty());
    (!approved && look.incident.chosen_by.is_none()).then(|| {
        format!(
            "alert {} flaps, {} changes; it is quiet at {}",
            flapping.key, flapping.transitions, flapping.until
        )
    })
}

fn baseline(look: &Look<'_>) -> Option<String> {
    if look.begun {
        return None;
    }
    match look.world.baseline.as_ref()?.verdict {
        Verdict::Passed => Some("the plan's checks already hold: the fault seems to be gone".to_owned()),
        Verdict::Failed | Verdict::Inconclusive => None,
    }
}
