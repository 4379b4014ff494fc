//! What must hold at the end of every history.

use std::collections::{BTreeMap, BTreeSet};

use quell_incident::ids::StepKey;
use quell_incident::{AlertKey, AlertStatus, Event, Incident, Phase, workflow};
use quell_store::{IncidentStore as _, ListQuery, Row};

use super::world::World;
use crate::{respond, tasks};

/// Whether nothing more is to come without a person: closed, or with one.
pub(super) fn is_at_rest(incident: &Incident) -> bool {
    matches!(incident.phase, Phase::Closed { .. } | Phase::Escalated { .. } | Phase::TakenOver { .. })
}

/// Every incident, in the order of their ids.
pub(super) async fn incidents(world: &World) -> Vec<std::sync::Arc<Incident>> {
    let mut ids = Vec::new();
    let mut query = ListQuery::default();
    loop {
        let page = world.disk.list(&query).await.unwrap();
        for row in &page.rows {
            ids.push(row.id);
            // A list of tasks is filtered by the rows alone.
            let incident = world.disk.incident(row.id).await.unwrap().unwrap();
            if incident.revision == row.revision {
                assert_eq!(tasks::state_of_row(row), respond::state_of(&incident), "{}", row.phase);
                assert_eq!(row.context, Row::context_of(&respond::context_of(&incident)));
            }
        }
        match page.next {
            Some(next) => query.cursor = Some(next),
            None => break,
        }
    }
    ids.sort();
    let mut all = Vec::new();
    for id in ids {
        all.extend(world.disk.incident(id).await.unwrap());
    }
    all
}

/// Looks at everything that is left.
pub(super) async fn look(world: &World) {
    let all = incidents(world).await;
    for incident in &all {
        if !is_at_rest(incident) {
            let deadline = workflow::next_deadline(incident);
            world.violated(format!(
                "{} is stuck in {} with deadline {deadline:?}",
                incident.id,
                incident.phase.name()
            ));
        }
    }
    logs(world, &all).await;
    locks(world, &all).await;
    targets(world);
    alerts(world, &all).await;
}

/// Every log is the incident, and no key was started twice.
async fn logs(world: &World, all: &[std::sync::Arc<Incident>]) {
    let mut started = BTreeSet::<StepKey>::new();
    for incident in all {
        let log = world.disk.log(incident.id).await.unwrap();
        match workflow::replay(&log) {
            Ok(replayed) if replayed == **incident => {}
            Ok(_) => world.violated(format!("the log of {} is another incident", incident.id)),
            Err(error) => world.violated(format!("the log of {} does not replay: {error}", incident.id)),
        }
        let mut unknown = None;
        for envelope in log {
            match envelope.event {
                Event::StepStarted { key, .. } if !started.insert(key.clone()) => {
                    world.violated(format!("{key} was started twice"));
                }
                Event::Escalated { unknown: Some(step), .. } => unknown = Some(step.key),
                Event::StepSettled { key, .. } if unknown.as_ref() == Some(&key) => unknown = None,
                Event::LocksReleased { .. } => {
                    if let Some(key) = &unknown {
                        world.violated(format!("locks were released although nobody settled {key}"));
                    }
                }
                _ => {}
            }
        }
    }
}

/// A lock is held by an incident that has a step whose effect is unknown, and by no other that is at rest.
async fn locks(world: &World, all: &[std::sync::Arc<Incident>]) {
    let locks = world.disk.locks(&world.targets()).await.unwrap();
    for (target, lock) in locks {
        let Some(holder) = lock.holder else { continue };
        let Some(incident) = all.iter().find(|incident| incident.id == holder) else {
            world.violated(format!("{target} is locked by {holder}, which is no incident"));
            continue;
        };
        if incident.unknown_step().is_none() {
            world.violated(format!("{target} is still locked by {holder} in {}", incident.phase.name()));
        }
    }
}

/// Nothing was done twice: neither under one key, nor the same step of one plan.
fn targets(world: &World) {
    for name in world.targets() {
        let actions = world.with_target(&name, |target| target.actions.clone()).unwrap_or_default();
        let mut done = BTreeMap::<String, u64>::new();
        for action in actions {
            *done.entry(action.key.to_string()).or_default() += 1;
            let step = format!("step {} of plan {} undo {}", action.step, action.plan.short(), action.undo);
            *done.entry(step).or_default() += 1;
        }
        for (what, count) in done.into_iter().filter(|(_, count)| *count > 1) {
            world.violated(format!("{what} was done {count} times on {name}"));
        }
    }
}

/// Every acknowledged alert is in an incident, and its end as well.
async fn alerts(world: &World, all: &[std::sync::Arc<Incident>]) {
    let mut fired = BTreeSet::new();
    for incident in all {
        for envelope in world.disk.log(incident.id).await.unwrap() {
            match envelope.event {
                Event::AlertFired { alert } => {
                    fired.insert((alert.key.clone(), alert.starts_at));
                }
                Event::AlertsJoined { full, counted, .. } => {
                    fired.extend(full.iter().map(|alert| (alert.key.clone(), alert.starts_at)));
                    fired.extend(counted.iter().map(|one| (AlertKey::clone(&one.key), one.starts_at)));
                }
                _ => {}
            }
        }
    }
    let mut last = BTreeMap::new();
    for told in world.acknowledged() {
        let alert = told.alert;
        let episode = (alert.key.clone(), alert.starts_at);
        if !fired.contains(&episode) {
            world.violated(format!("{:?} {} since {} was lost", alert.status, alert.key, alert.starts_at));
        }
        let ended = alert.status == AlertStatus::Resolved;
        let entry = last.entry(alert.key).or_insert((alert.starts_at, ended));
        *entry = (*entry).max((alert.starts_at, ended));
    }
    for (key, (starts_at, ended)) in last {
        let newest = world.disk.incident_of_alert(&key).await.unwrap();
        let newest = newest.and_then(|id| all.iter().find(|incident| incident.id == id));
        let Some(state) = newest.and_then(|incident| incident.members.get(&key)) else {
            world.violated(format!("{key} belongs to no incident"));
            continue;
        };
        if ended && state.cleared_at.is_none() {
            world.violated(format!("the end of {key} since {starts_at} was lost"));
        }
        if !ended && state.cleared_at.is_some() {
            world.violated(format!("{key} fires since {starts_at} and is taken for cleared"));
        }
    }
}
