//! The fold of what concerns alerts.

use std::sync::Arc;

use jiff::Timestamp;

use crate::alert::Alert;
use crate::event::Event;
use crate::incident::{ALERTS_MAX, AlertState, GROUPS_MAX, Incident, SAMPLE_MAX};
use crate::members::Member;

/// Whether the event could happen; the incident has changed if so.
pub(super) fn apply(incident: &mut Incident, event: &Event, at: Timestamp) -> bool {
    match event {
        Event::AlertFired { alert } => {
            fired(incident, &Arc::new((**alert).clone()));
            affects(incident, alert.about().name);
            true
        }
        Event::AlertsJoined { full, counted, group, services, affected, .. } => {
            full.iter().for_each(|alert| fired(incident, alert));
            match affected {
                Some(affected) => affected.iter().for_each(|system| affects(incident, system.clone())),
                None => full.iter().for_each(|alert| affects(incident, alert.about().name)),
            }
            counted.iter().for_each(|member| put(incident, member.clone()));
            services.iter().for_each(|service| incident.said.add_service(service));
            if let Some(group) = group
                && (incident.groups.len() < GROUPS_MAX || incident.groups.contains_key(group))
            {
                incident.groups.insert(group.clone(), at);
            }
            true
        }
        Event::AlertCleared { key, cleared_at } => cleared(incident, key, *cleared_at),
        Event::AlertsCleared { cleared: all } => all.iter().all(|one| cleared(incident, &one.key, one.at)),
        Event::AlertSuppressed { key, by } => {
            if let Some(state) = incident.alerts.get_mut(key) {
                state.suppressed_by.clone_from(by);
            }
            incident.members.suppress(key, by.as_deref())
        }
        Event::AlertsTruncated { group: None, .. } => {
            incident.truncated.clear();
            true
        }
        Event::AlertsTruncated { group: Some(group), more } => {
            if *more == 0 {
                incident.truncated.remove(group);
            } else if incident.truncated.len() < GROUPS_MAX || incident.truncated.contains_key(group) {
                incident.truncated.insert(group.clone(), *more);
            }
            true
        }
        Event::Flapping { flapping } => {
            incident.flapping = Some(flapping.clone());
            true
        }
        _ => false,
    }
}

fn put(incident: &mut Incident, member: Member) {
    incident.said.add_source(&member.key.source);
    if incident.members.len() >= ALERTS_MAX && incident.members.get(&member.key).is_none() {
        incident.alerts_not_kept += 1;
    } else {
        incident.members.put(member);
    }
}

fn fired(incident: &mut Incident, alert: &Arc<Alert>) {
    put(incident, Member::firing(alert.key.clone(), alert.starts_at));
    incident.said.add_alert(alert);
    if incident.alerts.len() >= SAMPLE_MAX && !incident.alerts.contains_key(&alert.key) {
        // One that fires says more than one that has cleared.
        let over = incident.alerts.iter().find(|(_, state)| state.cleared_at.is_some());
        let Some(over) = over.map(|(key, _)| key.clone()) else { return };
        incident.alerts.remove(&over);
    }
    let state = AlertState { alert: Arc::clone(alert), cleared_at: None, suppressed_by: None };
    incident.alerts.insert(alert.key.clone(), state);
}

fn affects(incident: &mut Incident, system: String) {
    if !system.is_empty()
        && !incident.affected_systems.contains(&system)
        && incident.affected_systems.len() < SAMPLE_MAX
    {
        incident.affected_systems.push(system);
    }
}

fn cleared(incident: &mut Incident, key: &crate::alert::AlertKey, at: Timestamp) -> bool {
    if let Some(state) = incident.alerts.get_mut(key) {
        state.cleared_at = Some(at);
    }
    incident.members.clear(key, at)
}
