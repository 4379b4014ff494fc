//! An incident that a person, a job or another agent opens without an alert.

use quell_incident::IncidentId;
use quell_incident::mapping::Head;
use quell_incident::severity::{Priority, Severity};
use quell_incident::workflow::Draft;
use serde::Deserialize;

/// What the JSON of a draft may call itself.
const DRAFT_SCHEMA: &str = "quell/incident-draft/v1";
/// A text field in bytes at the most.
pub(crate) const TEXT_BYTES_MAX: usize = 16 * 1024;
/// Tags or affected systems at the most.
const LIST_MAX: usize = 100;

/// The JSON of `POST /api/incidents` and of the A2A data part `quell/incident-draft/v1`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ManualDraft {
    /// `quell/incident-draft/v1`, optional over REST.
    #[serde(default)]
    pub schema: Option<String>,
    /// What it is, in one line.
    pub title: String,
    /// More of it.
    #[serde(default)]
    pub description: String,
    /// The alert's name that it is like; `ManualIncident` without one.
    #[serde(default)]
    pub alert_name: Option<String>,
    /// Without one it follows from the severity.
    #[serde(default)]
    pub priority: Option<Priority>,
    /// Medium without one.
    #[serde(default)]
    pub severity: Option<Severity>,
    /// The service.
    #[serde(default)]
    pub service: String,
    /// The component.
    #[serde(default)]
    pub component: String,
    /// Tags.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Hosts or instances.
    #[serde(default)]
    pub affected_systems: Vec<String>,
    /// An earlier incident that it goes on from.
    #[serde(default)]
    pub linked_to: Option<IncidentId>,
}

impl ManualDraft {
    /// The draft as the workflow takes it.
    ///
    /// # Errors
    /// A sentence that names the field.
    pub(crate) fn into_draft(self, origin: &str) -> Result<Draft, String> {
        if let Some(schema) = self.schema.as_deref().filter(|schema| *schema != DRAFT_SCHEMA) {
            let schema: String = schema.chars().take(80).collect();
            return Err(format!("`schema` is `{schema}`, expected `{DRAFT_SCHEMA}`"));
        }
        if self.title.trim().is_empty() {
            return Err("`title` is empty".to_owned());
        }
        let texts = [
            ("title", &self.title),
            ("description", &self.description),
            ("alert_name", self.alert_name.as_ref().unwrap_or(&self.title)),
            ("service", &self.service),
            ("component", &self.component),
        ];
        if let Some((field, _)) = texts.iter().find(|(_, text)| text.len() > TEXT_BYTES_MAX) {
            return Err(format!("`{field}` is longer than {TEXT_BYTES_MAX} bytes"));
        }
        for (field, list) in [("tags", &self.tags), ("affected_systems", &self.affected_systems)] {
            if list.len() > LIST_MAX || list.iter().any(|entry| entry.len() > TEXT_BYTES_MAX) {
                return Err(format!("`{field}` has more than {LIST_MAX} entries, or one that is too long"));
            }
        }
        let severity = self.severity.unwrap_or(Severity::Medium);
        let priority = self.priority.unwrap_or(match severity {
            Severity::Critical => Priority::P0,
            Severity::High => Priority::P1,
            Severity::Medium | Severity::Warning => Priority::P2,
            Severity::Info => Priority::P3,
        });
        let affected_systems =
            if self.affected_systems.is_empty() { vec!["unknown".to_owned()] } else { self.affected_systems };
        let head = Head {
            unknown_severity: None,
            description: if self.description.is_empty() { self.title.clone() } else { self.description },
            title: self.title,
            alert_name: self.alert_name.unwrap_or_else(|| "ManualIncident".to_owned()),
            severity,
            priority,
            tags: self.tags,
            component: self.component,
            service: self.service,
        };
        Ok(Draft {
            head,
            affected_systems,
            origin: origin.to_owned(),
            linked_to: self.linked_to,
            context: None,
            alert: None,
        })
    }
}
