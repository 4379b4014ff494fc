//! How much memory an incident takes, by estimate: so that what is kept at hand is bounded by size and not by number.

use quell_incident::Incident;

/// The incident itself with its texts, its report and its plan.
const INCIDENT_BYTES: usize = 4 << 10;
/// An alert that is kept in full: labels and annotations.
const ALERT_BYTES: usize = 4 << 10;
/// An alert in its shortest form.
const MEMBER_BYTES: usize = 240;

/// About as many bytes as it takes, measured on alerts with a dozen labels.
pub(crate) fn estimated_bytes(incident: &Incident) -> usize {
    INCIDENT_BYTES + ALERT_BYTES * incident.alerts.len() + MEMBER_BYTES * incident.members.len()
}
