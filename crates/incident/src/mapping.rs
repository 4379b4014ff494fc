//! From an alert to the head of an incident: which severity, priority and tags. The rows are configuration.

use serde::{Deserialize, Serialize};

use crate::alert::Alert;
use crate::severity::{Priority, Severity};

/// The mapping of alerts to incidents, as it stands in its YAML file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mapping {
    /// The first row that matches counts.
    pub alerts: Vec<MappingRow>,
}

/// One row: what it matches and what it sets. What it leaves out comes from the alert itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MappingRow {
    /// The alert's name.
    pub alertname: String,
    /// The title; the affected system is appended as `on <system>`. Without one the alert's name in words.
    #[serde(default)]
    pub title: Option<String>,
    /// The severity; without one the alert's label, else medium.
    #[serde(default)]
    pub severity: Option<Severity>,
    /// The priority; without one it follows from the alert's severity label.
    #[serde(default)]
    pub priority: Option<Priority>,
    /// Tags; without any the alert's component.
    #[serde(default)]
    pub tags: Vec<String>,
}

/// What an alert says of the incident that it opens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// `Database connection timeout on db-server-01`.
    pub title: String,
    /// The alert's description, else its summary, else its title.
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
    /// The label `service`, empty without one.
    pub service: String,
}

impl Mapping {
    /// What an alert says of the incident that it opens. All text in it is telemetry's, for people.
    pub fn head(&self, alert: &Alert) -> Head {
        let name = alert.name();
        let label = |wanted: &str| alert.labels.get(wanted).map(|text| text.for_people()).unwrap_or_default();
        let annotation = |wanted: &str| alert.annotations.get(wanted).map(|text| text.for_people());
        let row = self.row(&name);
        let (priority, severity) = urgency(row, &label("severity"));
        let component = label("component");
        let system = alert.affected_system();
        let what = row.and_then(|row| row.title.clone()).unwrap_or_else(|| name.clone());
        let title = if system == "unknown" { what } else { format!("{what} on {system}") };
        let tags = match row {
            Some(row) if !row.tags.is_empty() => row.tags.clone(),
            _ if component.is_empty() => Vec::new(),
            _ => vec![component.clone()],
        };
        Head {
            description: annotation("description")
                .or_else(|| annotation("summary"))
                .unwrap_or_else(|| title.clone()),
            title,
            severity,
            priority,
            alert_name: name,
            tags,
            component,
            service: label("service"),
        }
    }

    /// How urgent an alert is, as [`head`](Self::head) has it: of one that joins an incident nothing else of it is wanted.
    pub fn urgency(&self, alert: &Alert) -> (Priority, Severity) {
        let severity_label = alert.labels.get("severity").map(|text| text.for_people()).unwrap_or_default();
        urgency(self.row(&alert.name()), &severity_label)
    }

    fn row(&self, alert_name: &str) -> Option<&MappingRow> {
        self.alerts.iter().find(|row| row.alertname == alert_name)
    }
}

fn urgency(row: Option<&MappingRow>, severity_label: &str) -> (Priority, Severity) {
    let priority = row.and_then(|row| row.priority).unwrap_or_else(|| priority_of_label(severity_label));
    let severity = row.and_then(|row| row.severity);
    (priority, severity.unwrap_or_else(|| severity_label.parse().unwrap_or(Severity::Medium)))
}

/// The priority that a severity label stands for when no row says otherwise.
fn priority_of_label(label: &str) -> Priority {
    match label.trim().to_ascii_lowercase().as_str() {
        "critical" => Priority::P0,
        "high" => Priority::P1,
        "warning" | "medium" => Priority::P2,
        _ => Priority::P3,
    }
}
