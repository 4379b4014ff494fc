//! From an alert to the head of an incident: which severity, priority and tags. The rows are configuration.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::about::{About, SiteLabels};
use crate::alert::{Alert, AlertStatus};
use crate::severity::{Priority, Severity};
use crate::urgency::{self, Meaning, OF_NO_WORD, OF_UNKNOWN_WORD, OfAlerting, Told};

/// Labels that say whose an alert is.
const TEAM_LABELS: [&str; 3] = ["team", "owner", "squad"];
/// Annotations that describe an alert, the most telling first.
const DESCRIPTIONS: [&str; 5] = ["description", "message", "summary", "title", "text"];
/// Annotations that say it in short, the shortest first.
const SUMMARIES: [&str; 5] = ["summary", "title", "message", "description", "text"];
/// Labels that name the rule of an alert, for one that has no name of its own.
const RULE_LABELS: [&str; 4] = ["rulename", "rule_name", "alert_name", "alertName"];
/// How much of a sentence becomes a title.
const TITLE_CHARACTERS_MAX: usize = 200;
/// Where the rules of Prometheus' exporters repeat all labels in the description, for whoever has nothing but the text.
const REPEATED_LABELS: &str = "LABELS = map[";

/// The mapping of alerts to incidents, as it stands in its YAML file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mapping {
    /// The first row that matches counts.
    pub alerts: Vec<MappingRow>,
    /// What the configuration says besides.
    #[serde(skip)]
    pub site: SiteWords,
}

/// What a site says of its alerts' labels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SiteWords {
    /// A site's own severity words, in lower case, by what they mean.
    pub severities: BTreeMap<String, Meaning>,
    /// A site's own labels of subjects, and exporters.
    pub labels: SiteLabels,
}

/// One row: what it matches and what it sets. What it leaves out comes from the alert itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MappingRow {
    /// The alert's name.
    pub alertname: String,
    /// The title; the affected system is appended as `on <system>`. Without one the alert's name.
    #[serde(default)]
    pub title: Option<String>,
    /// The severity; without one the alert's label, else medium.
    #[serde(default)]
    pub severity: Option<Severity>,
    /// The priority; without one it follows from the alert's severity label.
    #[serde(default)]
    pub priority: Option<Priority>,
    /// Tags; without any they follow from the alert's labels.
    #[serde(default)]
    pub tags: Vec<String>,
}

/// What an alert says of the incident that it opens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// `Database connection timeout on db-server-01`.
    pub title: String,
    /// The alert's description or message, else its summary, else its title.
    pub description: String,
    /// The alert's name.
    pub alert_name: String,
    /// How bad.
    pub severity: Severity,
    /// How urgent.
    pub priority: Priority,
    /// Tags in the mapping's order.
    pub tags: Vec<String>,
    /// The label `component`, empty without one.
    pub component: String,
    /// The service that the labels name, empty without one.
    pub service: String,
    /// The severity word of the alert that nobody knows, where the severity is only assumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown_severity: Option<String>,
}

impl Mapping {
    /// What an alert says of the incident that it opens. All text in it is telemetry's, for people.
    pub fn head(&self, alert: &Alert) -> Head {
        let about = self.about(alert);
        let name = alert.name();
        let row = self.row(&name);
        let told = self.told(alert);
        let (priority, severity) = urgency(row, &told);
        let titled = row.and_then(|row| row.title.clone());
        let subject = if titled.is_some() { about.name.clone() } else { about.words() };
        let what = titled.unwrap_or_else(|| what_fires(alert, &name));
        // A sentence of its own may name it already.
        let is_said = !about.name.is_empty() && what.contains(&about.name);
        let title = if subject.is_empty() || is_said { what } else { format!("{what} on {subject}") };
        let decided = row.is_some_and(|row| row.priority.is_some() && row.severity.is_some());
        Head {
            description: description(alert).unwrap_or_else(|| title.clone()),
            title,
            severity,
            priority,
            tags: match row {
                Some(row) if !row.tags.is_empty() => row.tags.clone(),
                _ => tags(alert, &about),
            },
            alert_name: name,
            component: about.component.clone(),
            service: about.service.clone(),
            unknown_severity: match told {
                Told::Unknown(word) if !decided => Some(word),
                _ => None,
            },
        }
    }

    /// What an alert is about.
    pub fn about(&self, alert: &Alert) -> About {
        About::with(&alert.labels, &self.site.labels)
    }

    /// What an incident is said to affect when this alert opens it: one system, or none when no label says.
    pub fn affected_systems(&self, alert: &Alert) -> Vec<String> {
        let name = self.about(alert).name;
        if name.is_empty() { Vec::new() } else { vec![name] }
    }

    /// How urgent an alert is, as [`head`](Self::head) has it: of one that joins an incident nothing else of it is wanted.
    pub fn urgency(&self, alert: &Alert) -> (Priority, Severity) {
        urgency(self.row(&alert.name()), &self.told(alert))
    }

    /// The word of an alert's severity that is not known, if it has one and no row decides without it.
    pub fn unknown_severity(&self, alert: &Alert) -> Option<String> {
        let row = self.row(&alert.name());
        match self.told(alert) {
            Told::Unknown(word) if row.is_none_or(|row| row.priority.is_none() || row.severity.is_none()) => {
                Some(word)
            }
            _ => None,
        }
    }

    /// Whether an alert is of the alerting itself and opens no incident while it fires: a watchdog, or an inhibitor. A row for it says
    /// otherwise; so does a severity that is worse than `info` where the name alone is not certain, for an alert that somebody calls
    /// `Heartbeat` and `critical` says that a heartbeat is missing.
    pub fn is_heartbeat(&self, alert: &Alert) -> bool {
        let Some(kind) = of_alerting(alert) else { return false };
        let names_it_alone = kind != OfAlerting::Watchdog;
        self.row(&alert.name()).is_none() && (names_it_alone || !self.is_alarm(alert))
    }

    /// Whether an alert says that the alerting works: a watchdog that fires. Its end says the opposite, and an inhibitor says neither.
    pub fn is_beat(&self, alert: &Alert) -> bool {
        alert.status == AlertStatus::Firing
            && self.is_heartbeat(alert)
            && of_alerting(alert) != Some(OfAlerting::Inhibitor)
    }

    /// Whether an alert's own severity is known and worse than `info`.
    fn is_alarm(&self, alert: &Alert) -> bool {
        matches!(self.told(alert), Told::Known(Meaning::Urgent(_, severity)) if severity < Severity::Info)
    }

    /// Whether an alert says itself that nobody needs to be troubled: its incident is kept, and nobody is asked anything.
    pub fn troubles_nobody(&self, alert: &Alert) -> bool {
        self.told(alert) == Told::Known(Meaning::Nobody) && self.row(&alert.name()).is_none()
    }

    fn told(&self, alert: &Alert) -> Told {
        urgency::told(&alert.labels, |word| self.site.severities.get(&word.to_lowercase()).copied())
    }

    fn row(&self, alert_name: &str) -> Option<&MappingRow> {
        self.alerts.iter().find(|row| row.alertname == alert_name)
    }
}

fn urgency(row: Option<&MappingRow>, told: &Told) -> (Priority, Severity) {
    let (priority, severity) = match told {
        Told::Known(Meaning::Urgent(priority, severity)) => (*priority, *severity),
        Told::Known(Meaning::Nobody) => (Priority::P3, Severity::Info),
        Told::Unknown(_) => OF_UNKNOWN_WORD,
        Told::Nothing => OF_NO_WORD,
    };
    (
        row.and_then(|row| row.priority).unwrap_or(priority),
        row.and_then(|row| row.severity).unwrap_or(severity),
    )
}

/// What an alert is to the alerting itself, by its name or by a severity that says so. A name that tells of a failure is the news that a
/// heartbeat is missing, whatever its severity says.
fn of_alerting(alert: &Alert) -> Option<OfAlerting> {
    let name = alert.name();
    let by_severity = || {
        let says_so = urgency::says_heartbeat(&alert.labels) && !urgency::tells_of_failure(&name);
        says_so.then_some(OfAlerting::Watchdog)
    };
    urgency::of_alerting(&name).or_else(by_severity)
}

/// The alert's name, or the rule that Grafana could not evaluate. One without a name is called by its rule, or by what its sender says
/// of it in a line.
fn what_fires(alert: &Alert, name: &str) -> String {
    let rule = || RULE_LABELS.iter().find_map(|label| alert.labels.get(label)).map(|rule| rule.for_people());
    match name {
        "DatasourceNoData" => rule().map_or_else(|| name.to_owned(), |rule| format!("{rule}: no data")),
        "DatasourceError" => {
            rule().map_or_else(|| name.to_owned(), |rule| format!("{rule}: its data source failed"))
        }
        _ if alert.labels.get("alertname").is_some_and(|own| !own.for_people().trim().is_empty()) => {
            name.to_owned()
        }
        _ => rule().or_else(|| summary(alert)).unwrap_or_else(|| "unnamed".to_owned()),
    }
}

/// The first line of what the alert's annotations say in short.
fn summary(alert: &Alert) -> Option<String> {
    SUMMARIES.iter().find_map(|name| {
        let text = alert.annotations.get(name)?.in_full();
        let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
        let line: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let words: Vec<&str> = line.split_whitespace().collect();
        let short: String = words.join(" ").chars().take(TITLE_CHARACTERS_MAX).collect();
        let short = short.trim_end_matches(['.', ' ']).to_owned();
        (!short.is_empty()).then_some(short)
    })
}

/// What the alert says of itself, on one line.
fn description(alert: &Alert) -> Option<String> {
    let text = DESCRIPTIONS.iter().find_map(|name| alert.annotations.get(name))?.for_people();
    let told = match text.split_once(REPEATED_LABELS) {
        Some((told, _)) if !told.trim().is_empty() => told,
        _ => &text,
    };
    Some(told.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// What the labels say for lists: the kind of what is broken, its component and service, whose it is.
fn tags(alert: &Alert, about: &About) -> Vec<String> {
    let label = |name: &str| about.label(&alert.labels, name).unwrap_or_default();
    let team = TEAM_LABELS.iter().map(|name| label(name)).find(|team| !team.is_empty()).unwrap_or_default();
    let mut tags = Vec::new();
    for tag in [
        about.component.clone(),
        about.service.clone(),
        about.kind.word().to_owned(),
        label("namespace"),
        team,
    ] {
        if !tag.is_empty() && !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    tags
}
