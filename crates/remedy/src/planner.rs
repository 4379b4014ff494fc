//! From a diagnosis to a plan: a runbook is chosen, its targets are looked up, each step is tried dry.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use quell_incident::about::About;
use quell_incident::contract::{PlanAnswer, PlanRequest};
use quell_incident::plan::{AgentIdentity, PLAN_SCHEMA, Plan, Step, StepPreview, Undo};
use quell_incident::report::Subject;
use quell_incident::{Digest, Labels, RunbookName, TargetName};
use quell_tool::{ActionRegistry, CallContext, Preview};

use crate::book::Runbooks;
use crate::call;
use crate::inventory::Inventory;
use crate::runbook::{Runbook, RunbookStep, StepTarget, UndoRule};

/// What a plan is made with.
pub struct Planner<'a> {
    /// The runbooks to choose from.
    pub runbooks: &'a Runbooks,
    /// Where targets come from.
    pub inventory: &'a Inventory,
    /// The tools that say what a step would do.
    pub actions: &'a ActionRegistry,
    /// Who will carry the plan out.
    pub agent: &'a AgentIdentity,
    /// How long a plan may wait for its start.
    pub valid_for: SignedDuration,
    /// How long the dry run of one step may take.
    pub preview_timeout: Duration,
}

/// Labels that name a part of a service, in the order in which they are asked.
const PART_LABELS: [&str; 4] = ["part", "mountpoint", "database", "consumergroup"];

/// What the plan for a request would be made of, as far as it can be told without trying anything: its runbook, by name and digest,
/// and the targets of its steps.
pub(crate) fn outline(
    request: &PlanRequest,
    planner: &Planner<'_>,
) -> Option<(RunbookName, Digest, Vec<TargetName>)> {
    let (runbook, targets, _) = planner.choose(request).ok()?;
    Some((runbook.name.clone(), runbook.digest, targets))
}

/// Makes the plan for a request at `now`, or says why there is none. Nothing is changed by it.
pub async fn build_plan(request: &PlanRequest, planner: &Planner<'_>, now: Timestamp) -> PlanAnswer {
    match planner.choose(request) {
        Ok((runbook, targets, cause)) => match planner.plan(request, runbook, targets, cause, now).await {
            Ok(plan) => PlanAnswer::Plan { plan: Box::new(plan) },
            Err(why) => PlanAnswer::NoPlan { why },
        },
        Err(why) => PlanAnswer::NoPlan { why },
    }
}

type Chosen<'a> = (&'a Runbook, Vec<TargetName>, String);

impl<'a> Planner<'a> {
    /// The first runbook that fits, with the target of each of its steps.
    fn choose(&self, request: &PlanRequest) -> Result<Chosen<'a>, String> {
        let root_cause = request.report.as_ref().and_then(|report| report.root_cause.as_ref());
        let subject =
            root_cause.map_or_else(|| subject_of(&request.incident.labels), |cause| cause.subject.clone());
        if let Some(name) = &request.runbook {
            // A person's word wins over causes, confidence and what was tried before.
            let runbook = self.runbooks.get(name).ok_or_else(|| format!("there is no runbook `{name}`"))?;
            let targets = self.targets(runbook, &subject)?;
            let cause =
                root_cause.map_or_else(|| "chosen by a person".to_owned(), |cause| cause.cause.clone());
            return Ok((runbook, targets, cause));
        }
        let Some(root_cause) = root_cause else {
            let said = request.report.as_ref().and_then(|report| report.abstained.as_deref());
            return Err(match said {
                Some(why) => format!("the diagnosis names no cause: {why}"),
                None => "the diagnosis names no cause".to_owned(),
            });
        };
        let cause = &root_cause.cause;
        let mut passed_over = Vec::new();
        for runbook in self.runbooks.for_cause(cause) {
            let name = &runbook.name;
            if request.exclude.contains(name) {
                passed_over.push(format!("`{name}` was tried or is cooling down"));
            } else if root_cause.confidence < runbook.min_confidence {
                let (has, needs) = (root_cause.confidence, runbook.min_confidence);
                passed_over
                    .push(format!("`{name}` needs a confidence of {needs}, the diagnosis has {has:.2}"));
            } else {
                match self.targets(runbook, &subject) {
                    Ok(targets) => return Ok((runbook, targets, cause.clone())),
                    Err(why) => passed_over.push(format!("`{name}`: {why}")),
                }
            }
        }
        Err(if passed_over.is_empty() {
            format!("no runbook is for the cause `{cause}`")
        } else {
            format!("no runbook for the cause `{cause}` is left: {}", passed_over.join("; "))
        })
    }

    /// The target of each step, in order.
    fn targets(&self, runbook: &Runbook, subject: &Subject) -> Result<Vec<TargetName>, String> {
        let target = |step: &RunbookStep| match &step.target {
            StepTarget::Named(name) => Ok(name.clone()),
            StepTarget::Subject => self
                .inventory
                .find(subject)
                .map(|target| target.name.clone())
                .map_err(|error| error.to_string()),
        };
        runbook.steps.iter().map(target).collect()
    }

    async fn plan(
        &self,
        request: &PlanRequest,
        runbook: &Runbook,
        targets: Vec<TargetName>,
        cause: String,
        now: Timestamp,
    ) -> Result<Plan, String> {
        let mut steps: Vec<Step> = Vec::new();
        let mut unchanged = Vec::new();
        let mut touched = BTreeSet::new();
        let declared: BTreeMap<_, _> = targets
            .iter()
            .filter_map(|name| Some((name.clone(), self.inventory.get(name)?.declared())))
            .collect();
        for (step, target) in runbook.steps.iter().zip(targets) {
            let (mut planned, changes_nothing) = self.step(request, step, &target).await?;
            if !touched.insert(target) {
                let why = "earlier steps change the same target; this was read before them";
                add_limit(&mut planned.preview, why);
            } else if !steps.is_empty() {
                add_limit(&mut planned.preview, "the effect of the steps before it is not in this preview");
            }
            if changes_nothing {
                unchanged.push(planned.name.to_string());
            }
            steps.push(planned);
        }
        let mut summary = runbook.title.clone();
        if !unchanged.is_empty() {
            summary.push_str(&format!(" (already so, would change nothing: {})", unchanged.join(", ")));
        }
        Ok(Plan {
            schema: PLAN_SCHEMA.to_owned(),
            incident_id: request.incident.id,
            runbook: runbook.name.clone(),
            runbook_digest: runbook.digest,
            cause,
            summary,
            steps,
            declared,
            level: runbook.level,
            checks: runbook.checks.clone(),
            alert_look_back: runbook.alert_look_back,
            made_at: now,
            valid_until: now.checked_add(self.valid_for).unwrap_or(Timestamp::MAX),
            agent: self.agent.clone(),
        })
    }

    /// One step with its dry run, and whether that showed that it would change nothing.
    async fn step(
        &self,
        request: &PlanRequest,
        step: &RunbookStep,
        target: &TargetName,
    ) -> Result<(Step, bool), String> {
        let call = step.call_on(target);
        let name = &step.name;
        let failed = |why: String| format!("step {name} on {target} cannot be previewed: {why}");
        let tool_call = call::to_tool(&call, self.actions).map_err(|error| failed(error.to_string()))?;
        let context = CallContext::within(self.preview_timeout).for_incident(request.incident.id.to_string());
        let previewed = self.actions.preview(&tool_call, &context).await;
        let Preview { mut summary, changes, inverse, limits_of_preview } =
            previewed.map_err(|error| failed(error.to_string()))?;
        let is_reversible_change = step.undo == UndoRule::Inverse;
        let changes_nothing = is_reversible_change && changes.iter().all(|change| change.from == change.to);
        if changes_nothing {
            summary.push_str("; it is so already, nothing would change");
        }
        let inverse = inverse.and_then(|inverse| call::from_tool(inverse, target, self.actions));
        let undo = match (&step.undo, inverse) {
            (UndoRule::Inverse, Some(call)) => Undo::Inverse { call },
            (UndoRule::Inverse, None) if changes_nothing => {
                Undo::NotNeeded { why: "the dry run found nothing to change".to_owned() }
            }
            (UndoRule::Inverse, None) => {
                return Err(failed("the tool made no inverse, which the runbook asks for".to_owned()));
            }
            (UndoRule::NotNeeded(why), _) => Undo::NotNeeded { why: why.clone() },
            (UndoRule::Irreversible(why), _) => Undo::Irreversible { why: why.clone() },
        };
        let preview = StepPreview { summary, changes: call::changes(changes), limits: limits_of_preview };
        let planned = Step {
            name: step.name.clone(),
            title: step.title.clone(),
            target: target.clone(),
            call,
            preview,
            undo,
            timeout: step.timeout,
            idempotent: step.idempotent,
        };
        Ok((planned, changes_nothing))
    }
}

fn add_limit(preview: &mut StepPreview, why: &str) {
    match &mut preview.limits {
        Some(limits) => {
            limits.push_str("; ");
            limits.push_str(why);
        }
        None => preview.limits = Some(why.to_owned()),
    }
}

/// What an alert's labels say is at fault, for a runbook that a person chose without a diagnosis.
fn subject_of(labels: &Labels) -> Subject {
    // An exporter's own labels name nothing that could be acted on.
    let about = About::of(labels);
    let label = |name: &str| about.label(labels, name).unwrap_or_default();
    let part = PART_LABELS.iter().map(|name| label(name)).find(|text| !text.is_empty());
    Subject { service: about.service.clone(), instance: label("instance"), part: part.unwrap_or_default() }
}
