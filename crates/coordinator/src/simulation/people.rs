//! People who answer, or do not, or too late, or with another plan's digest; who take over, give back, close, and pull the kill switch.

use std::sync::Arc;

use quell_incident::gate::{KillSwitch, Throw};
use quell_incident::ids::RunbookName;
use quell_incident::workflow::Input;
use quell_incident::{Digest, Incident, Phase};
use quell_store::IncidentStore as _;
use tokio::time::sleep;

use super::Doors;
use super::world::World;

/// Looks at what is under way every now and then, as long as anything may still go wrong; then the kill switch is released.
pub(super) async fn watch(world: Arc<World>, doors: Arc<Doors>) {
    while !world.is_calm() {
        sleep(world.draw(|dice| dice.seconds(2, 30))).await;
        if world.draw(|dice| dice.percent(4)) {
            pull_kill_switch(&world, &doors, true).await;
        } else if world.draw(|dice| dice.percent(40)) {
            pull_kill_switch(&world, &doors, false).await;
        }
        for id in world.disk.unfinished().await.unwrap() {
            let Ok(Some(incident)) = world.disk.incident(id).await else { continue };
            if let Some(input) = word_on(&incident, &world) {
                world.note(|| format!("{id} in {}: a person says {input:?}", incident.phase.name()));
                say(&doors, &incident, input).await;
            }
        }
    }
    while world.disk.site_gates().await.unwrap().kill_switch.is_some() {
        pull_kill_switch(&world, &doors, false).await;
        sleep(std::time::Duration::from_secs(1)).await;
    }
}

async fn say(doors: &Arc<Doors>, incident: &Incident, input: Input) {
    let Some(open) = doors.open() else { return };
    let id = incident.id;
    // Whoever asks may hang up; what they said goes on all the same.
    tokio::spawn(async move {
        // A refusal is an answer as well.
        let _ = open.site.change(id, &input, "ann").await;
    });
}

async fn pull_kill_switch(world: &Arc<World>, doors: &Doors, on: bool) {
    let Some(open) = doors.open() else { return };
    let gates = world.disk.site_gates().await.unwrap();
    if gates.kill_switch.is_some() == on {
        return;
    }
    let word = KillSwitch { by: "ann".to_owned(), why: "a test".to_owned(), at: world.now() };
    let throw = if on { Throw::Engage(word) } else { Throw::Release(word) };
    tokio::spawn(async move {
        // Another one may come first.
        let _ = open.site.store.set_kill_switch(gates.epoch, throw).await;
    });
}

fn word_on(incident: &Incident, world: &World) -> Option<Input> {
    let by = "ann".to_owned();
    let chance = world.draw(|dice| dice.between(0, 99));
    match &incident.phase {
        Phase::AwaitingApproval { proposal, .. } => match chance {
            0..=59 => Some(Input::Approve { by, digest: proposal.digest }),
            60..=64 => Some(Input::Approve { by, digest: Digest::of_bytes(b"another plan") }),
            65..=72 => Some(Input::Deny { by, why: "not now".to_owned(), digest: None }),
            _ => None,
        },
        Phase::Executing { .. } => match chance {
            0..=4 => Some(Input::TakeOver { by }),
            5..=9 => Some(Input::Deny { by, why: "stop".to_owned(), digest: None }),
            _ => None,
        },
        // Nobody declares anything over who has not looked at it.
        Phase::Escalated { .. } | Phase::TakenOver { .. }
            if world.now().duration_since(incident.updated_at).as_secs() < 20 =>
        {
            None
        }
        Phase::Escalated { unknown: Some(unknown), .. } | Phase::TakenOver { unknown: Some(unknown), .. }
            if chance < 40 =>
        {
            let happened = world.has_happened(&unknown.lock.target, &unknown.key);
            let key = (chance < 20).then(|| unknown.key.clone());
            Some(Input::Settle { by, key, happened, why: "looked at the target".to_owned() })
        }
        Phase::Escalated { .. } => match chance {
            0..=9 => Some(Input::Acknowledge { by }),
            10..=24 => Some(Input::DiagnoseAgain { by }),
            25..=34 => Some(Input::RunRunbook { by, runbook: RunbookName::declared("enlarge").unwrap() }),
            35..=39 => Some(Input::Resolve { by }),
            40..=42 => Some(Input::Close { by, why: "seen to".to_owned() }),
            _ => None,
        },
        Phase::TakenOver { .. } => match chance {
            0..=19 => Some(Input::HandBack { by }),
            20..=29 => Some(Input::Resolve { by }),
            _ => None,
        },
        Phase::Diagnosing(_) | Phase::Planning { .. } | Phase::Verifying { .. } => match chance {
            0..=1 => Some(Input::TakeOver { by }),
            2..=4 => Some(Input::Note { by, text: "hm".to_owned() }),
            _ => None,
        },
        Phase::Resolved { .. } => (chance < 3).then(|| Input::Reopen { by, why: "not over".to_owned() }),
        _ => None,
    }
}
