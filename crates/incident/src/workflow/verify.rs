//! Whether it helped. No data never passes, late alone is no reason to undo, and what ended by itself is nobody's merit.

use jiff::Timestamp;

use super::{Looking, Refused};
use crate::contract::{Verdict, VerificationReport};
use crate::event::Event;
use crate::incident::{How, Incident, Phase, Proposal, Why};

impl Looking<'_> {
    pub(super) fn checks(&self, report: &VerificationReport) -> Result<Vec<Event>, Refused> {
        let Phase::Verifying { since, patience_until, last, .. } = &self.incident.phase else {
            return Err(Refused::stale("a reading of the checks", self.incident));
        };
        if report.read_at < *since {
            return Err(Refused::stale("a reading of the checks from before the last step", self.incident));
        }
        let news = last.as_ref().is_none_or(|last| last.verdict != report.verdict);
        let mut events = if news { vec![Event::ChecksRead { report: report.clone() }] } else { Vec::new() };
        match report.verdict {
            Verdict::Passed if self.incident.cleared() || self.incident.alerts.is_empty() => {
                events.extend(self.resolve_as(credit(self.incident, None)));
            }
            Verdict::Failed if self.now >= *patience_until => {
                events.push(self.start_undo(format!("the checks still fail: {}", failing(report))));
            }
            _ => {}
        }
        Ok(events)
    }

    /// The alert has cleared while verifying: enough if the checks pass as well.
    pub(super) fn verified(
        &self,
        last: Option<&VerificationReport>,
        cleared_at: Option<Timestamp>,
    ) -> Vec<Event> {
        match last {
            Some(report) if report.verdict == Verdict::Passed => {
                self.resolve_as(credit(self.incident, cleared_at))
            }
            _ => Vec::new(),
        }
    }

    pub(super) fn verification_is_late(&self, last: Option<&VerificationReport>) -> Vec<Event> {
        let because = match last {
            Some(report) if report.verdict == Verdict::Failed => {
                return vec![self.start_undo(format!("the checks still fail: {}", failing(report)))];
            }
            Some(report) if report.verdict == Verdict::Passed => {
                "the checks hold, but the alert did not clear in time; what was done is left in place"
                    .to_owned()
            }
            Some(report) => format!("the checks could not be read: {}", failing(report)),
            None => "the checks were not read in time".to_owned(),
        };
        self.escalate(Why::NotVerified { because }, None)
    }
}

fn failing(report: &VerificationReport) -> String {
    let not_passed = report.checks.iter().filter(|check| check.verdict != Verdict::Passed);
    not_passed.map(|check| check.statement.as_str()).collect::<Vec<_>>().join("; ")
}

/// Whose merit it is. A fault that ended before the first step began, or on which the steps changed nothing, ended by itself.
fn credit(incident: &Incident, last_cleared_at: Option<Timestamp>) -> How {
    let Phase::Verifying { proposal, .. } = &incident.phase else { return How::Itself };
    let last_clear =
        incident.alerts.values().filter_map(|state| state.cleared_at).chain(last_cleared_at).max();
    let cleared_before = match (last_clear, proposal.begun_at) {
        (Some(cleared), Some(begun)) => cleared <= begun,
        _ => false,
    };
    if cleared_before || !changed_something(incident, proposal) {
        return How::Itself;
    }
    How::Runbook { runbook: proposal.plan.runbook.clone() }
}

fn changed_something(incident: &Incident, proposal: &Proposal) -> bool {
    let begun = proposal.begun_at.unwrap_or(Timestamp::MAX);
    incident
        .actions
        .iter()
        .filter(|action| !action.undo && action.started_at >= begun && action.success() == Some(true))
        // An action that reports no change in particular (a restart of something without a readable state) counts as one.
        .any(|action| {
            action.changes.is_empty() || action.changes.iter().any(|change| change.from != change.to)
        })
}
