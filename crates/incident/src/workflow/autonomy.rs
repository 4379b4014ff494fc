//! How far Quell may go by itself with a plan: the lowest level of all that has a say, with the reasons.
//!
//! What is declared decides: the coordinator's settings, what the inventory declares of the plan's targets, and the runbook. What
//! telemetry says (labels, affected systems, whatever joins) is only ever one more thing of which the lowest level counts, so it
//! lowers the level and cannot raise it. For the same reason an incident forgets no source and no service that it was told of.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::policy::Policy;
use crate::incident::Incident;
use crate::plan::Plan;
use crate::said::same_word;

/// How far Quell may go by itself, from least to most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Autonomy {
    /// Detect and diagnose only.
    Observe,
    /// Plan and dry run.
    Suggest,
    /// Execute after a person's approval.
    Approve,
    /// Execute.
    Auto,
}

impl fmt::Display for Autonomy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Observe => "observe",
            Self::Suggest => "suggest",
            Self::Approve => "approve",
            Self::Auto => "auto",
        })
    }
}

/// A level for what it matches; what it leaves out matches everything. Of the rows that match, the lowest level counts; but a row is an
/// exception to the later ones that name nothing that it does not name as well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AutonomyOverride {
    /// The source of an alert: it raises the level only when all alerts of the incident are of such sources.
    #[serde(default)]
    pub source: Option<String>,
    /// The service that the inventory declares of a target. A service that only telemetry names lowers the level and never raises it.
    #[serde(default)]
    pub service: Option<String>,
    /// A target of the inventory, by its name.
    #[serde(default)]
    pub target: Option<String>,
    /// The runbook.
    #[serde(default)]
    pub runbook: Option<String>,
    /// The level.
    pub level: Autonomy,
}

/// One thing that has a say in a level.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AutonomyReason {
    /// What it is, for people.
    pub what: String,
    /// As far as this alone would let Quell go.
    pub level: Autonomy,
}

/// How far Quell may go with a plan, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AutonomyDecision {
    /// The lowest of the reasons' levels.
    pub level: Autonomy,
    /// All that had a say.
    pub reasons: Vec<AutonomyReason>,
}

impl AutonomyDecision {
    /// The lowest of these.
    fn of(reasons: Vec<AutonomyReason>) -> Self {
        let level = reasons.iter().map(|reason| reason.level).min().unwrap_or(Autonomy::Observe);
        Self { level, reasons }
    }

    /// What the level rests on: the first of the reasons that say no more than it.
    pub fn because(&self) -> &str {
        let lowest = self.reasons.iter().find(|reason| reason.level == self.level);
        lowest.map_or("nothing has a say in it", |reason| &reason.what)
    }
}

/// What a level is looked up for. What is `None` is not named by anything, so a row that names it does not match.
#[derive(Clone, Copy, Default)]
struct Point<'a> {
    source: Option<&'a str>,
    service: Option<&'a str>,
    target: Option<&'a str>,
    runbook: Option<&'a str>,
}

impl AutonomyOverride {
    fn names(&self) -> [(&'static str, Option<&str>); 4] {
        [
            ("source", self.source.as_deref()),
            ("service", self.service.as_deref()),
            ("target", self.target.as_deref()),
            ("runbook", self.runbook.as_deref()),
        ]
    }

    fn matches(&self, point: &Point<'_>) -> bool {
        let is = [point.source, point.service, point.target, point.runbook];
        self.names().iter().zip(is).all(|((_, wanted), is)| wanted.is_none() || *wanted == is)
    }

    fn names_all_that(&self, other: &Self) -> bool {
        self.names()
            .iter()
            .zip(other.names())
            .all(|((_, own), (_, others))| own.is_some() || others.is_none())
    }

    fn reason(&self, of: &str) -> AutonomyReason {
        let named = self.names().into_iter().filter_map(|(what, name)| Some(format!("{what} {}", name?)));
        let named = named.collect::<Vec<_>>().join(", ");
        let named = if named.is_empty() { "everything".to_owned() } else { named };
        AutonomyReason { what: format!("{of}: the override for {named}"), level: self.level }
    }
}

/// The rows that count for a point: those that match it and that no earlier one is an exception to.
fn counting<'a>(rows: &'a [AutonomyOverride], point: &Point<'_>) -> Vec<&'a AutonomyOverride> {
    let mut counting: Vec<&AutonomyOverride> = Vec::new();
    for row in rows.iter().filter(|row| row.matches(point)) {
        // A row that is left out here would be an exception to none that the earlier one is not an exception to as well.
        if !counting.iter().any(|earlier| earlier.names_all_that(row)) {
            counting.push(row);
        }
    }
    counting
}

impl Policy {
    /// How far Quell may go with a plan of an incident, as both are now.
    pub fn autonomy_of(&self, incident: &Incident, plan: &Plan) -> AutonomyDecision {
        let sources = sources_of(incident);
        let mut reasons = self.declared_of(&sources, plan);
        let declared = reasons.iter().map(|reason| reason.level).min();
        let said = self.said_of(incident, &sources, plan).into_iter();
        reasons.extend(said.filter(|reason| Some(reason.level) < declared));
        // A person who runs a runbook without a diagnosed cause names no target: the labels of the alerts choose it.
        let diagnosed = incident.report.as_ref().is_some_and(|report| report.root_cause.is_some());
        if !diagnosed && declared > Some(Autonomy::Approve) {
            let what = "no cause was diagnosed, so the alerts chose the target".to_owned();
            reasons.push(AutonomyReason { what, level: Autonomy::Approve });
        }
        AutonomyDecision::of(reasons)
    }

    /// What is declared of each target and of the runbook.
    fn declared_of(&self, sources: &[Option<&str>], plan: &Plan) -> Vec<AutonomyReason> {
        let mut reasons = Vec::new();
        for target in plan.targets() {
            let declared = plan.declared.get(&target);
            let service = declared.and_then(|declared| declared.service.as_deref());
            let of = match service {
                Some(service) => format!("target {target} (service {service})"),
                None => format!("target {target}, which declares no service"),
            };
            let (target, runbook) = (Some(target.as_str()), Some(plan.runbook.as_str()));
            reasons.push(self.lowest_over(sources, &Point { source: None, service, target, runbook }, &of));
            let ceiling = declared.and_then(|declared| declared.level);
            let what = format!("{of}: its level in the inventory");
            reasons.extend(ceiling.map(|level| AutonomyReason { what, level }));
        }
        let what = format!("runbook {}: its level in its file", plan.runbook);
        reasons.extend(plan.level.map(|level| AutonomyReason { what, level }));
        reasons
    }

    /// What the overrides say of services that telemetry names, and of those that a target may be called by. Only what lowers is of
    /// interest.
    fn said_of(&self, incident: &Incident, sources: &[Option<&str>], plan: &Plan) -> Vec<AutonomyReason> {
        let mut reasons = Vec::new();
        for target in plan.targets() {
            let known_as =
                plan.declared.get(&target).map(|declared| &declared.known_as[..]).unwrap_or_default();
            let own = |service: &str| {
                same_word(target.as_str(), service) || known_as.iter().any(|word| same_word(word, service))
            };
            let (name, runbook) = (Some(target.as_str()), Some(plan.runbook.as_str()));
            let point = Point { source: None, service: None, target: name, runbook };
            let own = self.of_services(sources, &point, own, &format!("target {target} by another name"));
            let said =
                self.of_services(sources, &point, |service| incident.may_concern(service), "the alerts");
            for reason in own.into_iter().chain(said) {
                if !reasons.contains(&reason) {
                    reasons.push(reason);
                }
            }
        }
        reasons
    }

    /// How far Quell may go now with the plan in hand: as far as was decided when it was taken, or less if that is what holds now.
    pub(crate) fn autonomy_in_force(&self, incident: &Incident, plan: &Plan) -> AutonomyDecision {
        let now = self.autonomy_of(incident, plan);
        let taken = incident.proposal().map(|proposal| &proposal.autonomy);
        taken.filter(|taken| taken.level <= now.level).cloned().unwrap_or(now)
    }

    /// Whether a plan may be asked for. The targets are not known yet, so what could raise the level for one of them lets the plan be
    /// made, and the plan's own level is decided when it is there. Telemetry can only forbid it.
    pub fn may_plan(&self, incident: &Incident) -> bool {
        let sources = sources_of(incident);
        let level = |point: &Point<'_>| {
            let said = self.of_services(&sources, point, |service| incident.may_concern(service), "");
            let base = self.lowest_over(&sources, point, "");
            said.into_iter().chain([base]).map(|reason| reason.level).min()
        };
        let thinkable = self.autonomy_overrides.iter().map(|row| Point {
            source: None,
            service: row.service.as_deref(),
            target: row.target.as_deref(),
            runbook: row.runbook.as_deref(),
        });
        thinkable.chain([Point::default()]).any(|point| level(&point) > Some(Autonomy::Observe))
    }

    /// What decides for a point over all sources.
    fn lowest_over(&self, sources: &[Option<&str>], point: &Point<'_>, of: &str) -> AutonomyReason {
        let of_source = |source: &Option<&str>| {
            let point = Point { source: *source, ..*point };
            let lowest = counting(&self.autonomy_overrides, &point).into_iter().min_by_key(|row| row.level);
            lowest.map_or_else(
                || AutonomyReason { what: format!("{of}: coordinator.autonomy"), level: self.autonomy },
                |row| row.reason(of),
            )
        };
        let lowest = sources.iter().map(of_source).min_by_key(|reason| reason.level);
        lowest.unwrap_or_else(|| AutonomyReason { what: of.to_owned(), level: Autonomy::Observe })
    }

    /// The lowest row over all sources for each service of the rows that is named.
    fn of_services(
        &self,
        sources: &[Option<&str>],
        point: &Point<'_>,
        named: impl Fn(&str) -> bool,
        of: &str,
    ) -> Vec<AutonomyReason> {
        let services = self.autonomy_overrides.iter().filter_map(|row| row.service.as_deref());
        let services: BTreeSet<_> = services.filter(|service| named(service)).collect();
        let of_service = |service: &str| {
            let of_source = |source: &Option<&str>| {
                let point = Point { source: *source, service: Some(service), ..*point };
                let rows = counting(&self.autonomy_overrides, &point).into_iter();
                rows.filter(|row| row.service.is_some()).min_by_key(|row| row.level)
            };
            sources.iter().filter_map(of_source).min_by_key(|row| row.level)
        };
        services.into_iter().filter_map(of_service).map(|row| row.reason(of)).collect()
    }
}

/// The sources of all alerts that the incident ever had; one that has none has no source by name.
fn sources_of(incident: &Incident) -> Vec<Option<&str>> {
    let sources: Vec<_> = incident.said.sources().map(Some).collect();
    if sources.is_empty() { vec![None] } else { sources }
}
