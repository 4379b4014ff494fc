//! Lists of incidents: what is asked, and the short form of an incident that stands in a list.

use std::cmp::Reverse;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use quell_incident::ids::{Digest, IncidentId, Revision};
use quell_incident::incident::Outcome;
use quell_incident::severity::{Priority, Severity, Status, UnknownWord};
use quell_incident::{Incident, Phase, view};
use serde::{Deserialize, Serialize};

/// The most rows that one page has, whatever was asked for.
pub const LIST_LIMIT_MAX: usize = 10_000;
const LIST_LIMIT_DEFAULT: usize = 1_000;

/// A row's JSON is shorter than this, so that it stays in the index's pages.
pub(crate) const ROW_BYTES_MAX: usize = 4_000;
const ROW_NAMES_MAX: usize = 8;
/// A longer context stands in a row as its digest.
const CONTEXT_BYTES_MAX: usize = 128;

/// Which incidents are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListQuery {
    /// Only these; all without.
    pub status: Option<StatusFilter>,
    /// Only of this priority.
    pub priority: Option<Priority>,
    /// Only those created then or later.
    pub since: Option<Timestamp>,
    /// Rows in the page at the most; also at most [`LIST_LIMIT_MAX`].
    pub limit: usize,
    /// Only those after it: where the page before ended.
    pub cursor: Option<Cursor>,
}

impl Default for ListQuery {
    fn default() -> Self {
        Self { status: None, priority: None, since: None, limit: LIST_LIMIT_DEFAULT, cursor: None }
    }
}

impl ListQuery {
    pub(crate) fn limit(&self) -> usize {
        self.limit.min(LIST_LIMIT_MAX)
    }

    /// Whether a bucket of incidents with that status and priority is wanted.
    pub(crate) fn wants(&self, status: Status, priority: Priority) -> bool {
        self.status.is_none_or(|filter| filter.matches(status))
            && self.priority.is_none_or(|wanted| wanted == priority)
    }
}

/// Which status is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusFilter {
    /// Open or investigating.
    Active,
    /// Exactly this one.
    Is(Status),
}

impl StatusFilter {
    /// Whether an incident with that status is wanted.
    pub fn matches(self, status: Status) -> bool {
        match self {
            Self::Active => status.is_active(),
            Self::Is(wanted) => wanted == status,
        }
    }
}

impl FromStr for StatusFilter {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        if text.trim().eq_ignore_ascii_case("active") {
            return Ok(Self::Active);
        }
        text.parse().map(Self::Is)
    }
}

/// The place of an incident in lists: newest first by creation, then by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub(crate) created_at: Timestamp,
    pub(crate) id: IncidentId,
}

impl Cursor {
    pub(crate) fn of(incident: &Incident) -> Self {
        Self { created_at: incident.created_at, id: incident.id }
    }

    /// Smaller is earlier in the list.
    pub(crate) fn order(&self) -> (Reverse<Timestamp>, Reverse<IncidentId>) {
        (Reverse(self.created_at), Reverse(self.id))
    }
}

/// A text that is not a cursor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a cursor: pass on the one of the page before, or none")]
pub struct InvalidCursor(String);

impl fmt::Display for Cursor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}_{}", self.created_at.as_nanosecond(), self.id)
    }
}

impl FromStr for Cursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let parse = || {
            let (nanoseconds, id) = text.split_once('_')?;
            let created_at = Timestamp::from_nanosecond(nanoseconds.parse().ok()?).ok()?;
            Some(Self { created_at, id: id.parse().ok()? })
        };
        parse().ok_or_else(|| InvalidCursor(text.chars().take(100).collect()))
    }
}

/// A page of incidents.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// Newest first.
    pub rows: Vec<Row>,
    /// How many incidents match, over all pages.
    pub total: u64,
    /// Where the next page begins; none on the last one.
    pub next: Option<Cursor>,
}

/// An incident in a list. Texts are cut, names are the first few: the whole of it is in [`crate::IncidentStore::incident`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Its id.
    pub id: IncidentId,
    /// How many events it has had.
    pub revision: Revision,
    /// Its title.
    pub title: String,
    /// Its class of alert.
    pub alert_name: String,
    /// How urgent.
    pub priority: Priority,
    /// How bad.
    pub severity: Severity,
    /// Its public status.
    pub status: Status,
    /// Its phase by name.
    pub phase: String,
    /// One sentence on where it stands.
    pub summary: String,
    /// The service, empty when unknown.
    pub service: String,
    /// The component, empty when unknown.
    pub component: String,
    /// The first affected systems.
    pub affected_systems: Vec<String>,
    /// The first tags.
    pub tags: Vec<String>,
    /// What opened it.
    pub origin: String,
    /// The first fingerprints of its alerts.
    pub fingerprints: Vec<String>,
    /// How many alerts it has.
    pub alerts_total: u64,
    /// How many of them fire.
    pub alerts_firing: u64,
    /// How many plans were begun for it.
    pub attempts: u64,
    /// When the first alert began.
    pub started_at: Timestamp,
    /// When it was opened.
    pub created_at: Timestamp,
    /// When its last event was.
    pub updated_at: Timestamp,
    /// When it was last resolved.
    pub resolved_at: Option<Timestamp>,
    /// When it was closed.
    pub closed_at: Option<Timestamp>,
    /// How it was closed; none while it is not.
    pub closed_as: Option<ClosedAs>,
    /// The A2A context that it belongs to, as [`Row::context_of`] shortens it.
    pub context: String,
}

/// How an incident was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClosedAs {
    /// What was wrong is well again.
    Resolved,
    /// A person closed it.
    ByPerson,
    /// Whoever asked for it took it back.
    Withdrawn,
}

impl Row {
    /// The row of an incident.
    pub fn of(incident: &Incident) -> Self {
        // Texts are cut by characters; one that needs many bytes in JSON is cut harder.
        let fits = |row: &Self| serde_json::to_vec(row).is_ok_and(|json| json.len() < ROW_BYTES_MAX);
        let mut row = Self::cut(incident, 300, 100);
        for (text_max, name_max) in [(150, 40), (60, 16)] {
            if fits(&row) {
                break;
            }
            row = Self::cut(incident, text_max, name_max);
        }
        row
    }

    /// A context as rows have it: a long one as its digest, so that it is told apart from others all the same.
    pub fn context_of(text: &str) -> String {
        if text.len() <= CONTEXT_BYTES_MAX {
            text.to_owned()
        } else {
            Digest::of_bytes(text.as_bytes()).to_string()
        }
    }

    /// Its place in lists.
    pub fn cursor(&self) -> Cursor {
        Cursor { created_at: self.created_at, id: self.id }
    }

    fn cut(incident: &Incident, text_max: usize, name_max: usize) -> Self {
        let text = |text: &str| text.chars().take(text_max).collect::<String>();
        let name = |text: &str| text.chars().take(name_max).collect::<String>();
        let names = |all: &[String]| all.iter().take(ROW_NAMES_MAX).map(|one| name(one)).collect();
        let fingerprints = incident.alerts.keys().map(|key| name(key.fingerprint.as_str()));
        Self {
            id: incident.id,
            revision: incident.revision,
            title: text(&incident.title),
            alert_name: name(&incident.alert_name),
            priority: incident.priority,
            severity: incident.severity,
            status: incident.status(),
            phase: incident.phase.name().to_owned(),
            summary: text(&view::summary(incident)),
            service: name(&incident.service),
            component: name(&incident.component),
            affected_systems: names(&incident.affected_systems),
            tags: names(&incident.tags),
            origin: name(&incident.origin),
            fingerprints: fingerprints.take(ROW_NAMES_MAX).collect(),
            alerts_total: incident.members.len() as u64 + incident.alerts_not_kept,
            alerts_firing: incident.members.firing() as u64,
            attempts: incident.attempts.len() as u64,
            started_at: incident.started_at,
            created_at: incident.created_at,
            updated_at: incident.updated_at,
            resolved_at: incident.resolved_at,
            closed_at: incident.closed_at,
            closed_as: closed_as(incident),
            context: context(incident),
        }
    }
}

/// The caller's own, or else that of the first incident.
fn context(incident: &Incident) -> String {
    let own = || incident.linked_to.unwrap_or(incident.id).to_string();
    incident.context.as_deref().map_or_else(own, Row::context_of)
}

fn closed_as(incident: &Incident) -> Option<ClosedAs> {
    let Phase::Closed { outcome } = &incident.phase else { return None };
    Some(match outcome {
        Outcome::Resolved { .. } => ClosedAs::Resolved,
        Outcome::ClosedByPerson { .. } => ClosedAs::ByPerson,
        Outcome::Withdrawn { .. } => ClosedAs::Withdrawn,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_being_written() {
        let id = IncidentId(uuid::Uuid::from_u128(7));
        for created_at in [Timestamp::MIN, Timestamp::UNIX_EPOCH, Timestamp::MAX] {
            let cursor = Cursor { created_at, id };
            assert_eq!(cursor.to_string().parse::<Cursor>(), Ok(cursor));
        }
        for bad in ["", "_", "12", "x_00000000-0000-0000-0000-000000000007", "1_x"] {
            assert!(bad.parse::<Cursor>().is_err(), "{bad}");
        }
    }

    #[test]
    fn active_is_open_or_investigating() {
        let active: StatusFilter = " Active".parse().unwrap();
        let matching: Vec<_> = Status::ALL.iter().filter(|status| active.matches(**status)).collect();
        assert_eq!(matching, [&Status::Open, &Status::Investigating]);
        assert_eq!("closed".parse(), Ok(StatusFilter::Is(Status::Closed)));
        assert!("shut".parse::<StatusFilter>().is_err());
    }
}
