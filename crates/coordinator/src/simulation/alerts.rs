//! Faults that come and go, and an Alertmanager pair that tells of them: again and again until it is answered, at times twice, late or
//! in another order.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::SignedDuration;
use quell_connect::alertmanager::{AlertState as Listed, HeldAlert};
use quell_incident::ids::{SourceName, TargetName};
use quell_incident::{Alert, AlertKey, AlertStatus, Fingerprint, Labels};
use quell_store::Received;
use tokio::time::{Instant, sleep};

use super::Doors;
use super::world::World;
use crate::observe::ReadAlerts;
use crate::reconcile::{Answer, Held, NoAnswer, Reading, Told};

/// The configured source of all alerts here.
pub(super) const SOURCE: &str = "alertmanager";
/// How long the second Alertmanager still tells of what it has: less than a late message is taken for one.
const COPY_WITHIN: Duration = Duration::from_secs(150);
/// How long a sender waits for an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The alerts of a target's fault, of which there may be two.
fn alert(target: &TargetName, name: &str, severity: &str, world: &World) -> Alert {
    let labels: Labels =
        [("alertname", name), ("instance", target.as_str()), ("severity", severity), ("service", "shop")]
            .into_iter()
            .collect();
    Alert {
        key: AlertKey {
            source: SourceName::declared(SOURCE).unwrap(),
            fingerprint: Fingerprint::of(&labels),
        },
        status: AlertStatus::Firing,
        labels,
        annotations: Labels::default(),
        starts_at: world.now(),
        ends_at: None,
        generator_url: None,
    }
}

/// Breaks a target a few times; each fault ends by the right runbook, or by itself after a while, or not at all.
pub(super) async fn break_again_and_again(world: Arc<World>, doors: Arc<Doors>, target: TargetName) {
    let faults = world.draw(|dice| dice.between(1, 3));
    for _ in 0..faults {
        sleep(world.draw(|dice| dice.seconds(0, 120))).await;
        if world.is_calm() {
            return;
        }
        let cure = world.draw(|dice| if dice.percent(70) { "restart" } else { "enlarge" });
        world.note(|| format!("{target} breaks, {cure} helps"));
        let number = world.with_target(&target, |broken| {
            broken.cure = Some(cure.to_owned());
            broken.faults += 1;
            broken.faults
        });
        let heals = world.draw(|dice| dice.percent(40).then(|| dice.seconds(1, 300)));
        if let Some(after) = heals {
            let (world, target) = (Arc::clone(&world), target.clone());
            tokio::spawn(async move {
                sleep(after).await;
                world.with_target(&target, |healed| {
                    if Some(healed.faults) == number {
                        healed.cure = None;
                    }
                });
            });
        }
        tell(&world, &doors, &target).await;
    }
}

/// Tells of a fault from its beginning to its end.
async fn tell(world: &Arc<World>, doors: &Arc<Doors>, target: &TargetName) {
    sleep(world.draw(|dice| dice.seconds(0, 5))).await;
    let severity = world.draw(|dice| ["critical", "warning", "info"][dice.between(0, 2) as usize]);
    let mut firing = vec![alert(target, "Slow", severity, world)];
    if world.draw(|dice| dice.percent(35)) {
        firing.push(alert(target, "Errors", "warning", world));
    }
    deliver_all(world, doors, &firing).await;
    let repeat = world.draw(|dice| dice.seconds(60, 240));
    let mut told = Instant::now();
    while world.is_broken(target) {
        sleep(Duration::from_secs(1)).await;
        if told.elapsed() >= repeat {
            deliver_all(world, doors, &firing).await;
            told = Instant::now();
        }
    }
    // The rule's range, the evaluation and the group interval.
    sleep(world.draw(|dice| dice.seconds(1, 20))).await;
    for alert in &mut firing {
        alert.status = AlertStatus::Resolved;
        alert.ends_at = Some(world.now());
    }
    deliver_all(world, doors, &firing).await;
}

/// Delivers alerts together or one by one; the second Alertmanager may do the same, in its own time.
async fn deliver_all(world: &Arc<World>, doors: &Arc<Doors>, alerts: &[Alert]) {
    if world.mishap(30) {
        let (world, doors, alerts) = (Arc::clone(world), Arc::clone(doors), alerts.to_vec());
        tokio::spawn(async move {
            let begun = Instant::now();
            sleep(world.draw(|dice| dice.seconds(0, 60))).await;
            while begun.elapsed() < COPY_WITHIN && !deliver(&world, &doors, &alerts).await {
                sleep(Duration::from_secs(3)).await;
            }
        });
    }
    let together = world.draw(|dice| dice.percent(60));
    for batch in alerts.chunks(if together { alerts.len() } else { 1 }) {
        world.under_way(true);
        while !deliver(world, doors, batch).await {
            sleep(world.draw(|dice| dice.seconds(1, 5))).await;
        }
        world.under_way(false);
    }
}

/// Whether it was answered with success, and the answer arrived.
async fn deliver(world: &Arc<World>, doors: &Doors, alerts: &[Alert]) -> bool {
    let received = Received {
        at: world.now(),
        source: SourceName::declared(SOURCE).unwrap(),
        alerts: alerts.to_vec(),
        group_key: None,
        truncated_alerts: 0,
        trace: None,
    };
    let Some(open) = doors.open() else { return false };
    let answered = tokio::time::timeout(ANSWER_WITHIN, open.receive(received)).await;
    if !matches!(answered, Ok(Ok(_))) {
        return false;
    }
    for alert in alerts {
        world.note(|| format!("acknowledged: {:?} {} since {}", alert.status, alert.key, alert.starts_at));
        world.acknowledge(alert.clone());
    }
    // It was taken, and its sender does not know it.
    !world.mishap(5)
}

/// What the Alertmanager says when it is asked.
pub(super) struct Alertmanager {
    pub(super) world: Arc<World>,
}

#[async_trait]
impl ReadAlerts for Alertmanager {
    async fn named(&self, _names: &[&str], _within: Duration) -> Answer {
        self.world.linger().await;
        if self.world.mishap(10) {
            return Err(NoAnswer("no answer within the time allowed".to_owned()));
        }
        let broken: Vec<_> =
            self.world.targets().into_iter().filter(|target| self.world.is_broken(target)).collect();
        let mut reading = Reading::default();
        // The newest message of each alert is the last one.
        for told in self.world.acknowledged() {
            let alert = told.alert;
            let fires = broken.iter().any(|target| alert.about().name == target.as_str());
            let state = match fires {
                true if self.world.mishap(5) => {
                    Listed::Suppressed { by: vec!["silence of a test".to_owned()] }
                }
                true => Listed::Firing,
                false => Listed::Cleared,
            };
            let fingerprint = alert.key.fingerprint.to_string();
            let held = HeldAlert {
                fingerprint: fingerprint.clone(),
                labels: alert.labels,
                annotations: alert.annotations,
                starts_at: alert.starts_at,
                ends_at: alert.ends_at,
                generator_url: None,
                receivers: Vec::new(),
                state,
                processed: true,
            };
            reading.alerts.insert(
                fingerprint,
                Held { alert: held, by: None, told: Told::Always { after: SignedDuration::ZERO } },
            );
        }
        Ok(Arc::new(reading))
    }
}
