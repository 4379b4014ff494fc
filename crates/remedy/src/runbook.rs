//! Runbooks: what is done about a cause, step by step, as people wrote and reviewed it.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use quell_incident::ids::{Digest, RunbookName, StepName};
use quell_incident::plan::{ActionCall, Check, Comparison, Reduce, STEPS_MAX};
use quell_incident::workflow::Autonomy;
use quell_incident::{Labels, TargetName};
use quell_tool::{ActionRegistry, ToolError};
use serde::Deserialize;
use serde_json::{Map, Value};
use serde_saphyr::Spanned;

use crate::call;
use crate::inventory::Inventory;
use crate::yaml::{self, Faults, Mistakes, unknown};

/// Checks in one runbook at the most.
pub const CHECKS_MAX: usize = 50;
/// A step's timeout when the runbook gives none.
pub const STEP_TIMEOUT_DEFAULT: SignedDuration = SignedDuration::from_secs(120);
const STEP_TIMEOUT_MAX: SignedDuration = SignedDuration::from_hours(1);
const LOOK_BACK_MAX: SignedDuration = SignedDuration::from_hours(24);
/// How a runbook names the target that the report's subject selects.
const SUBJECT: &str = "$subject";

/// One runbook.
#[derive(Clone, Debug, PartialEq)]
pub struct Runbook {
    /// Its name.
    pub name: RunbookName,
    /// One sentence for people.
    pub title: String,
    /// The causes that it is for.
    pub causes: Vec<String>,
    /// Lower comes first among those for one cause.
    pub priority: u32,
    /// The report's confidence must be at least this.
    pub min_confidence: f64,
    /// It goes no further than this level, whatever the coordinator's settings allow.
    pub level: Option<Autonomy>,
    /// What is done, in order.
    pub steps: Vec<RunbookStep>,
    /// What must hold afterwards.
    pub checks: Vec<Check>,
    /// Range and `keep_firing_for` of the usual alert rule.
    pub alert_look_back: SignedDuration,
    /// The digest of its text.
    pub digest: Digest,
    /// The file that it was read from.
    pub file: String,
}

/// One step of a runbook.
#[derive(Clone, Debug, PartialEq)]
pub struct RunbookStep {
    /// Unique in the runbook.
    pub name: StepName,
    /// One sentence for people.
    pub title: String,
    /// The tool.
    pub tool: String,
    /// The action.
    pub action: String,
    /// What it acts on.
    pub target: StepTarget,
    /// The arguments.
    pub arguments: Map<String, Value>,
    /// How it is undone.
    pub undo: UndoRule,
    /// How long it may take.
    pub timeout: SignedDuration,
    /// Whether doing it twice does no more than doing it once.
    pub idempotent: bool,
}

/// What a step acts on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepTarget {
    /// A target of the inventory.
    Named(TargetName),
    /// `$subject`: the inventory entry that the report's subject selects.
    Subject,
}

/// How a step is undone.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UndoRule {
    /// By the inverse that the dry run captures.
    Inverse,
    /// It needs none, for this reason.
    NotNeeded(String),
    /// It cannot be, for this reason.
    Irreversible(String),
}

impl RunbookStep {
    /// The step's call on a target.
    pub fn call_on(&self, target: &TargetName) -> ActionCall {
        ActionCall {
            tool: self.tool.clone(),
            action: self.action.clone(),
            target: target.clone(),
            arguments: self.arguments.clone(),
        }
    }

    /// Whether this step, on whatever target it may be, is that call.
    pub fn declares(&self, call: &ActionCall) -> bool {
        let target_fits = match &self.target {
            StepTarget::Named(name) => *name == call.target,
            StepTarget::Subject => true,
        };
        target_fits && self.call_on(&call.target) == *call
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRunbook {
    name: RunbookName,
    title: String,
    #[serde(rename = "for")]
    applies: RawFor,
    #[serde(default = "priority_default")]
    priority: u32,
    #[serde(default)]
    min_confidence: Option<Spanned<f64>>,
    #[serde(default)]
    level: Option<Autonomy>,
    steps: Spanned<Vec<RawStep>>,
    verify: Spanned<Vec<RawCheck>>,
    alert_look_back: Spanned<SignedDuration>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFor {
    causes: Spanned<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStep {
    name: Spanned<StepName>,
    title: String,
    tool: Spanned<String>,
    action: Spanned<String>,
    target: Spanned<String>,
    #[serde(default)]
    arguments: Option<Spanned<Arguments>>,
    undo: Spanned<UndoRule>,
    #[serde(default)]
    timeout: Option<Spanned<SignedDuration>>,
    idempotent: bool,
}

#[derive(Deserialize)]
#[serde(transparent)]
struct Arguments(Map<String, Value>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCheck {
    name: Spanned<String>,
    metric: Spanned<String>,
    #[serde(default)]
    labels: Labels,
    reduce: Reduce,
    #[serde(default)]
    divide_by: Option<Spanned<String>>,
    holds_if: Comparison,
    value: Spanned<f64>,
}

fn priority_default() -> u32 {
    100
}

/// Reads one runbook and checks it against the tools and the inventory.
pub(crate) fn parse(
    file: &str,
    text: &str,
    inventory: &Inventory,
    actions: &ActionRegistry,
) -> Result<Runbook, Mistakes> {
    let raw: RawRunbook = yaml::read(file, text)?;
    let mut faults = Faults::new(file);
    check_head(&raw, &mut faults);
    check_steps(&raw.steps, inventory, actions, &mut faults);
    check_checks(&raw.verify, &mut faults);
    let mut steps = Vec::new();
    for step in raw.steps.value {
        let target = match step.target.value.as_str() {
            SUBJECT => StepTarget::Subject,
            name => match TargetName::declared(name) {
                Ok(name) => StepTarget::Named(name),
                // It is not in the inventory then, which was found above.
                Err(_) => continue,
            },
        };
        steps.push(RunbookStep {
            name: step.name.value,
            title: step.title,
            tool: step.tool.value,
            action: step.action.value,
            target,
            arguments: step.arguments.map(|given| given.value.0).unwrap_or_default(),
            undo: step.undo.value,
            timeout: step.timeout.map_or(STEP_TIMEOUT_DEFAULT, |given| given.value),
            idempotent: step.idempotent,
        });
    }
    let checks = raw.verify.value.into_iter().map(|check| Check {
        name: check.name.value,
        metric: check.metric.value,
        labels: check.labels,
        reduce: check.reduce,
        divide_by: check.divide_by.map(|given| given.value),
        holds_if: check.holds_if,
        value: check.value.value,
    });
    let runbook = Runbook {
        name: raw.name,
        title: raw.title,
        causes: raw.applies.causes.value,
        priority: raw.priority,
        min_confidence: raw.min_confidence.map_or(0.0, |given| given.value),
        level: raw.level,
        steps,
        checks: checks.collect(),
        alert_look_back: raw.alert_look_back.value,
        digest: Digest::of_bytes(text.as_bytes()),
        file: file.to_owned(),
    };
    faults.or(runbook)
}

fn check_head(raw: &RawRunbook, faults: &mut Faults<'_>) {
    let causes = &raw.applies.causes;
    if causes.value.is_empty() || causes.value.iter().any(String::is_empty) {
        faults.add(causes.referenced, "for.causes", "must name at least one cause");
    }
    if let Some(given) = &raw.min_confidence
        && !(0.0..=1.0).contains(&given.value)
    {
        faults.add(given.referenced, "min_confidence", "must be 0 to 1");
    }
    let look_back = &raw.alert_look_back;
    if look_back.value.is_negative() || look_back.value > LOOK_BACK_MAX {
        faults.add(look_back.referenced, "alert_look_back", "must be 0s to 24h");
    }
}

fn check_steps(
    steps: &Spanned<Vec<RawStep>>,
    inventory: &Inventory,
    actions: &ActionRegistry,
    faults: &mut Faults<'_>,
) {
    if steps.value.is_empty() || steps.value.len() > STEPS_MAX {
        faults.add(steps.referenced, "steps", format!("must be 1 to {STEPS_MAX} steps"));
    }
    let mut seen = BTreeSet::new();
    for step in &steps.value {
        let name = step.name.value.as_str();
        let field = |field: &str| format!("steps.{name}.{field}");
        if !seen.insert(name) {
            let why = format!("another step is called `{name}` already");
            faults.add(step.name.referenced, field("name"), why);
        }
        let target = step.target.value.as_str();
        if target != SUBJECT && !inventory.names().any(|known| known == target) {
            faults.add(step.target.referenced, field("target"), unknown("target", target, inventory.names()));
        }
        if let Some(timeout) = &step.timeout
            && (timeout.value <= SignedDuration::ZERO || timeout.value > STEP_TIMEOUT_MAX)
        {
            faults.add(timeout.referenced, field("timeout"), "must be more than 0s and at most 1h");
        }
        if let UndoRule::NotNeeded(why) | UndoRule::Irreversible(why) = &step.undo.value
            && why.trim().is_empty()
        {
            faults.add(step.undo.referenced, field("undo"), "must say why");
        }
        check_call(step, actions, faults, &field);
    }
}

fn check_call(
    step: &RawStep,
    actions: &ActionRegistry,
    faults: &mut Faults<'_>,
    field: &dyn Fn(&str) -> String,
) {
    let Some(spec) = actions.spec(&step.tool.value) else {
        let tools = actions.list();
        let known = tools.iter().map(|spec| spec.name.as_str());
        faults.add(step.tool.referenced, field("tool"), unknown("tool", &step.tool.value, known));
        return;
    };
    let known = call::actions_of(spec);
    if !known.contains(&step.action.value.as_str()) {
        let why = unknown("action", &step.action.value, known.into_iter());
        faults.add(step.action.referenced, field("action"), why);
        return;
    }
    // The arguments are the same on every target, so any declared name will do for the check.
    let Ok(target) = TargetName::declared("any") else { return };
    let call = ActionCall {
        tool: step.tool.value.clone(),
        action: step.action.value.clone(),
        target,
        arguments: step.arguments.as_ref().map(|given| given.value.0.clone()).unwrap_or_default(),
    };
    if let Err(error) = call::check_arguments(&call, actions) {
        let (name, why) = match error {
            ToolError::InvalidInput { field, why } if field != "." => (format!("arguments.{field}"), why),
            ToolError::InvalidInput { why, .. } => ("arguments".to_owned(), why),
            other => ("arguments".to_owned(), other.to_string()),
        };
        // Arguments that were left out have no place of their own.
        let at = step.arguments.as_ref().map_or(step.action.referenced, |given| given.referenced);
        faults.add(at, field(&name), why);
    }
}

fn check_checks(checks: &Spanned<Vec<RawCheck>>, faults: &mut Faults<'_>) {
    if checks.value.is_empty() || checks.value.len() > CHECKS_MAX {
        faults.add(checks.referenced, "verify", format!("must be 1 to {CHECKS_MAX} checks"));
    }
    let mut seen = BTreeSet::new();
    for check in &checks.value {
        let name = check.name.value.as_str();
        let field = |field: &str| format!("verify.{name}.{field}");
        if name.is_empty() || !seen.insert(name) {
            let why = format!("another check is called `{name}` already, or it has no name");
            faults.add(check.name.referenced, field("name"), why);
        }
        if !is_metric_name(&check.metric.value) {
            faults.add(check.metric.referenced, field("metric"), "is not the name of a metric");
        }
        if !check.value.value.is_finite() {
            faults.add(check.value.referenced, field("value"), "must be a finite number");
        }
        let divides = matches!(check.reduce, Reduce::RatioTo | Reduce::SumRatioTo);
        match &check.divide_by {
            None if divides => {
                let why = "is missing: a ratio needs the metric to divide by";
                faults.add(check.name.referenced, field("divide_by"), why);
            }
            Some(given) if !divides => {
                let why = "is of use with `ratio_to` and `sum_ratio_to` only";
                faults.add(given.referenced, field("divide_by"), why);
            }
            Some(given) if !is_metric_name(&given.value) => {
                faults.add(given.referenced, field("divide_by"), "is not the name of a metric");
            }
            _ => {}
        }
    }
}

fn is_metric_name(text: &str) -> bool {
    let first = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == ':');
    first
        && text.len() <= 200
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b':' | b'.'))
}
