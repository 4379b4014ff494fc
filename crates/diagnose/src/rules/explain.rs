//! What a rule reads, when it holds and how sure it then is, in sentences.

use std::collections::BTreeMap;

use serde::Serialize;

use super::file::{About, Combine};
use super::filter::Filter;
use super::{Rule, RuleSet, Signal};
use crate::rank::{CONFIDENCE_MIN, MARGIN_MIN, SILENT_FACTOR, UNSEEN_FACTOR};
use crate::series::SeriesKind;

/// A rule in a line.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RuleSummary {
    /// Its name.
    pub name: String,
    /// The cause that it speaks for.
    pub cause: String,
    /// Its base confidence.
    pub base_confidence: f64,
    /// The groups of evidence that it has.
    pub groups: Vec<String>,
    /// What it recommends.
    pub recommended_actions: Vec<String>,
    /// The file that it is in.
    pub file: String,
}

/// A rule for people.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RuleExplanation {
    /// The rule in a line.
    #[serde(flatten)]
    pub summary: RuleSummary,
    /// The sentence that it writes.
    pub root_cause: String,
    /// Values of an alert's label `component` that it has to do with.
    pub components: Vec<String>,
    /// One candidate for each value of these labels.
    pub per: Vec<String>,
    /// What it reads, by the name that its conditions use.
    pub reads: BTreeMap<String, String>,
    /// Its conditions.
    pub conditions: Vec<ConditionExplanation>,
    /// How the confidence comes about, one sentence after the other.
    pub arithmetic: Vec<String>,
}

/// One condition for people.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ConditionExplanation {
    /// The group of evidence that it belongs to.
    pub group: String,
    /// How much of the rule's confidence it carries.
    pub share: f64,
    /// The confidence that it gives by itself.
    pub strength: f64,
    /// The expression.
    #[serde(rename = "if")]
    pub holds_if: String,
    /// What is said when it holds.
    pub says: String,
}

impl RuleSet {
    /// All rules, a line each, by name.
    pub fn list(&self) -> Vec<RuleSummary> {
        self.rules.iter().map(summary).collect()
    }

    /// A rule in sentences; `None` when there is none of that name.
    pub fn explain(&self, name: &str) -> Option<RuleExplanation> {
        let rule = self.rules.iter().find(|rule| rule.name == name)?;
        let conditions = rule.conditions.iter().map(|one| ConditionExplanation {
            group: one.group.clone(),
            share: one.share,
            strength: rounded(strength(rule, one.share)),
            holds_if: one.condition.text().to_owned(),
            says: one.says.to_string(),
        });
        Some(RuleExplanation {
            summary: summary(rule),
            root_cause: rule.root_cause.to_string(),
            components: rule.components.clone(),
            per: rule.per.iter().map(|per| per.label.clone()).collect(),
            reads: rule.signals.iter().map(|(name, signal)| (name.clone(), in_words(signal))).collect(),
            conditions: conditions.collect(),
            arithmetic: arithmetic(rule),
        })
    }
}

fn summary(rule: &Rule) -> RuleSummary {
    RuleSummary {
        name: rule.name.clone(),
        cause: rule.cause.clone(),
        base_confidence: rule.base_confidence,
        groups: groups(rule).into_iter().map(|(group, _)| group.to_owned()).collect(),
        recommended_actions: rule.recommended_actions.clone(),
        file: rule.file.clone(),
    }
}

/// The groups with the largest share of each, the largest first.
fn groups(rule: &Rule) -> Vec<(&str, f64)> {
    let mut largest: BTreeMap<&str, f64> = BTreeMap::new();
    for one in &rule.conditions {
        let most = largest.entry(&one.group).or_default();
        *most = most.max(one.share);
    }
    let mut groups: Vec<_> = largest.into_iter().collect();
    groups.sort_by(|one, other| other.1.total_cmp(&one.1).then(one.0.cmp(other.0)));
    groups
}

fn strength(rule: &Rule, share: f64) -> f64 {
    1.0 - (1.0 - rule.base_confidence).powf(share)
}

fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

fn arithmetic(rule: &Rule) -> Vec<String> {
    let (base, groups) = (rule.base_confidence, groups(rule));
    let mut told = vec![format!(
        "its base confidence of {base:.2} is a prior: how often it is right when all its evidence is there"
    )];
    for (group, share) in &groups {
        let alone = strength(rule, *share);
        told.push(format!(
            "the group `{group}` carries {share:.2} of it at the most and gives 1 - (1 - {base:.2})^{share:.2} = {alone:.2} by itself"
        ));
    }
    if groups.len() > 1 {
        let factors: Vec<String> =
            groups.iter().map(|(_, share)| format!("(1 - {:.2})", strength(rule, *share))).collect();
        let whole: f64 = groups.iter().map(|(_, share)| share).sum();
        let together = strength(rule, whole);
        told.push(format!("all groups together give 1 - {} = {together:.2}", factors.join(" * ")));
        let others = i32::try_from(groups.len() - 1).unwrap_or(i32::MAX);
        if let Some((group, share)) = groups.first() {
            let alone = strength(rule, *share);
            told.push(format!(
                "a group whose source does not answer leaves {UNSEEN_FACTOR} of the confidence, one that was looked at and says \
                 nothing {SILENT_FACTOR}: `{group}` alone gives {:.2} or {:.2}",
                alone * UNSEEN_FACTOR.powi(others),
                alone * SILENT_FACTOR.powi(others)
            ));
        }
    }
    told.push(format!(
        "a root cause needs {CONFIDENCE_MIN:.2}, and {MARGIN_MIN:.2} more than any other cause that the alerts speak of"
    ));
    told
}

/// A signal for people.
fn in_words(signal: &Signal) -> String {
    match signal {
        Signal::Metric(one) => {
            let equal = one.labels.iter().map(|(name, value)| format!("{name}=\"{value}\""));
            let matching = one.matching.iter().map(|(name, fits)| format!("{name}=~\"{}\"", fits.as_str()));
            let excluding = one.excluding.iter().map(|(name, fits)| format!("{name}!~\"{}\"", fits.as_str()));
            let labels: Vec<String> = equal.chain(matching).chain(excluding).collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            let kind = if one.kind == SeriesKind::Counter { "counter" } else { "gauge" };
            let combine = match one.combine {
                Combine::Highest => "the highest",
                Combine::Lowest => "the lowest",
                Combine::Sum => "the sum",
            };
            let also: String = one.also.iter().map(|name| format!(" (or {name})")).collect();
            let over = one.over.as_ref().map_or_else(String::new, |over| {
                format!(", each over {} of the same {}", over.metric, over.on.join(", "))
            });
            format!("the metric {}{labels}{also}, a {kind}, {combine} of its series{over}", one.metric)
        }
        Signal::Log(one) => {
            let level = if one.level.is_empty() {
                String::new()
            } else {
                format!(" of level {}", one.level.join(" or "))
            };
            format!("log lines{level} {} that match {}", about(one.about), one.regex.as_str())
        }
        Signal::Item(one) => format!("{} {}", filter(&one.filter), about(one.about)),
    }
}

fn about(about: About) -> &'static str {
    match about {
        About::Subject => "about its subject",
        About::Dependencies => "about what its service calls",
        About::Any => "about anything",
    }
}

fn filter(filter: &Filter) -> String {
    let mut told: Vec<String> = Vec::new();
    let what = match filter {
        Filter::Event { kind, reason, message, warning } => {
            told.extend(kind.in_words("of the kind"));
            told.extend(reason.in_words("with the reason"));
            told.extend(
                message.as_ref().map(|pattern| format!("whose message matches {}", pattern.as_str())),
            );
            told.extend(warning.map(|yes| if yes { "that warn" } else { "that do not warn" }.to_owned()));
            "platform events"
        }
        Filter::Object { kind, state, last_exit, ready, restarts } => {
            told.extend(kind.in_words("of the kind"));
            told.extend(state.in_words("in the state"));
            told.extend(last_exit.in_words("that last ended by"));
            told.extend(
                ready.map(|yes| if yes { "that are ready" } else { "that are not ready" }.to_owned()),
            );
            told.extend((*restarts > 0).then(|| format!("with {restarts} restarts or more")));
            "platform objects"
        }
        Filter::Health { name, message } => {
            told.extend(name.as_ref().map(|pattern| format!("of names that match {}", pattern.as_str())));
            told.extend(message.as_ref().map(|pattern| format!("that fail with {}", pattern.as_str())));
            "health checks"
        }
        Filter::Change { kind, within } => {
            told.extend(kind.in_words("of the kind"));
            told.push(format!("within {} minutes before the fault", within.as_mins()));
            "changes"
        }
    };
    told.insert(0, what.to_owned());
    told.join(" ")
}
