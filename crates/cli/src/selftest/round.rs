//! One round: three faults and a load of alerts, kills at random instants and at steps under way, then calm until everything is over,
//! with further faults while fewer than three steps were started, then the count.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::aim::{self, Aim};
use super::load::Load;
use super::site::{Part, Site};
use super::tally::{Tally, text};
use crate::clock::Clock;
use crate::failure::{Failure, Result};

/// Kills in one round.
const KILLS: std::ops::RangeInclusive<u32> = 3..=6;
/// How long after its last kill everything may take until it is closed or with a person.
const OVER_WITHIN: Duration = Duration::from_secs(120);
/// How long a coordinator that is stopped stands still at the most: past its lease.
const STOPPED_MILLISECONDS_MAX: u64 = 15_000;
/// Between two looks at what is left.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// What the load's alerts are called.
const LOAD: &str = "SelftestLoad";
/// Steps of a round. A fault whose diagnosis met a kill may end with a person and without a step; then there is another one.
const STEPS_MIN: usize = 3;
/// How often a round has a plan whose second step is refused, so that the first one is undone.
const UNDO_PART: f64 = 0.85;
/// The target of that second step.
const REFUSED: &str = "order_service";
/// The fault whose plan has two steps, the first of which has an inverse.
const TWO_STEPS: Fault = ("database_timeout", "DatabaseConnectionTimeout");
/// Faults of different targets, with an alert that each raises.
const FAULTS: [Fault; 6] = [
    ("kafka_lag", "KafkaConsumerLagHigh"),
    ("api_503", "APIGateway503Errors"),
    ("disk_full", "DiskSpaceCritical"),
    ("certificate_expiry", "CertificateExpiringSoon"),
    ("postgres_connections", "PostgreSQLConnectionsHigh"),
    ("memory_leak", "HighMemoryUsage"),
];

/// Runs a round and counts; returns a sentence on it.
///
/// # Errors
/// When the site does not come up again, or refuses what it must take.
pub(crate) async fn run(
    site: &mut Site,
    number: u64,
    random: &mut StdRng,
    clock: Clock,
    tally: &mut Tally,
) -> Result<String> {
    let begun = Instant::now();
    let since = clock.now().to_string();
    let actions_before = site.actions().await?.len();
    let (faults, mut further) = faults(random);
    for (fault, _) in &faults {
        site.trigger(fault).await?;
    }
    if random.random_bool(UNDO_PART) {
        site.refuse_next(REFUSED).await?;
    }
    let load = Load::start(number, site.coordinators(), random, clock)?;
    let kills = kill(site, &since, random, tally).await?;
    let (acknowledged, webhooks) = load.end().await?;
    tally.webhooks += webhooks;
    let mut alerts: Vec<_> = faults.iter().map(|(_, alert)| *alert).collect();
    let mut incidents = calm(site, &since, &alerts, tally).await?;
    while steps_started(&incidents) < STEPS_MIN
        && let Some((fault, alert)) = further.pop()
    {
        site.trigger(fault).await?;
        alerts.push(alert);
        incidents = calm(site, &since, &alerts, tally).await?;
    }
    tally.rounds_with_few_steps += u64::from(steps_started(&incidents) < STEPS_MIN);
    let actions = site.actions().await?;
    let actions = actions.get(actions_before..).unwrap_or_default();
    tally.alerts(&acknowledged, &incidents);
    tally.steps(&incidents, actions);
    tidy_up(site, &since).await?;
    Ok(format!(
        "{}, {kills} kills, {} alerts in {webhooks} webhooks, {} incidents, {} steps, {} actions, {:.0} s",
        alerts.join(", "),
        acknowledged.len(),
        incidents.len(),
        steps_started(&incidents),
        actions.len(),
        begun.elapsed().as_secs_f64()
    ))
}

/// A fault, and the alert that it raises.
type Fault = (&'static str, &'static str);

/// Three faults, and all the others.
fn faults(random: &mut StdRng) -> ([Fault; 3], Vec<Fault>) {
    let mut faults = FAULTS;
    faults.shuffle(random);
    let [first, second, further @ ..] = faults;
    ([TWO_STEPS, first, second], further.to_vec())
}

fn steps_started(incidents: &[Value]) -> usize {
    incidents.iter().filter_map(|incident| Some(incident["remediation_actions"].as_array()?.len())).sum()
}

/// Kills parts one after another and starts them again; one of several coordinators may also be stopped and go on.
async fn kill(site: &mut Site, since: &str, random: &mut StdRng, tally: &mut Tally) -> Result<u32> {
    let victims = site.victims();
    let kills = random.random_range(KILLS);
    let mut doubtful = BTreeSet::new();
    for number in 0..kills {
        let aim = Aim::of(number, random);
        let part = aim.victim(&victims, random);
        if aim == Aim::Anything {
            tokio::time::sleep(Duration::from_millis(random.random_range(0..1_200))).await;
        }
        let under_way = aim::take(site, since, aim, &doubtful, random).await;
        let down = Duration::from_millis(random.random_range(0..200));
        if matches!(part, Part::Resolution | Part::Coordinator(_)) {
            for what in under_way.hits() {
                *tally.hits.entry(what).or_default() += 1;
            }
            under_way.into_doubtful(&mut doubtful);
        }
        let several = site.coordinators().len() > 1;
        if several && matches!(part, Part::Coordinator(_)) && random.random_bool(0.4) {
            let span = Duration::from_millis(random.random_range(100..STOPPED_MILLISECONDS_MAX));
            site.signal(part, Signal::STOP);
            tokio::time::sleep(span).await;
            site.signal(part, Signal::CONT);
            *tally.kills.entry("quell-coordinator, stopped,").or_default() += 1;
            continue;
        }
        site.kill(part);
        tokio::time::sleep(down).await;
        site.launch(part)?;
        *tally.kills.entry(part.kind()).or_default() += 1;
    }
    site.ready().await?;
    Ok(kills)
}

fn is_closed(incident: &Value) -> bool {
    incident["status"] == "closed"
}

/// Closed, or with a person. The load's alerts have all ended, so their incidents have to be closed.
fn is_over(incident: &Value) -> bool {
    is_closed(incident) || (incident["phase"] == "escalated" && incident["alert_name"] != LOAD)
}

/// Whether an alert of this name is part of the incident, be it the one that opened it or one that joined: of the two alerts of a full
/// disk either may be delivered first.
fn has_alert(incident: &Value, alert: &str) -> bool {
    incident["alert_names"].as_array().is_some_and(|names| names.iter().any(|name| name == alert))
}

/// Waits until all incidents of the round are over and the faults' alerts are among them; what waits for approval gets it. What is not
/// over in time is stuck.
async fn calm(site: &mut Site, since: &str, alerts: &[&str], tally: &mut Tally) -> Result<Vec<Value>> {
    let begun = Instant::now();
    loop {
        site.ready().await?;
        let incidents = match site.incidents(since).await {
            Ok(incidents) => incidents,
            Err(failure) if begun.elapsed() > OVER_WITHIN => return Err(failure),
            // A coordinator may be about to end, since its database was away.
            Err(_) => {
                tokio::time::sleep(LOOK_EVERY).await;
                continue;
            }
        };
        for asking in incidents.iter().filter(|incident| incident["phase"] == "awaiting_approval") {
            let digest = json!({"plan_digest": asking["question"]["plan_digest"]});
            // The plan may be another one by now; then it is asked again.
            let _ = site.say(&text(asking, "id"), "approve", &digest).await;
        }
        let not_told = |alert: &&&str| !incidents.iter().any(|incident| has_alert(incident, alert));
        let missing: Vec<_> = alerts.iter().filter(not_told).collect();
        if missing.is_empty() && incidents.iter().all(is_over) {
            return Ok(incidents);
        }
        if begun.elapsed() > OVER_WITHIN {
            for alert in missing {
                tally.lost += 1;
                tally.found(format!("lost: {alert} fires and is in no incident"));
            }
            for incident in incidents.iter().filter(|incident| !is_over(incident)) {
                tally.stuck += 1;
                let (id, phase) = (text(incident, "id"), text(incident, "phase"));
                tally.found(format!("stuck: {id} in {phase}: {}", text(incident, "summary")));
            }
            return Ok(incidents);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The infrastructure is well again, its alerts have ended, and a person closes what is left with them. Only then may the same alert
/// begin anew: as long as it fires, it is what that person closed.
async fn tidy_up(site: &mut Site, since: &str) -> Result<()> {
    site.heal().await?;
    let begun = Instant::now();
    loop {
        let incidents = match site.incidents(since).await {
            Ok(incidents) => incidents,
            Err(failure) if begun.elapsed() > OVER_WITHIN => return Err(failure),
            Err(_) => {
                site.ready().await?;
                tokio::time::sleep(LOOK_EVERY).await;
                continue;
            }
        };
        let fires = incidents.iter().any(|incident| incident["alerts_firing"] != 0);
        let late = begun.elapsed() > OVER_WITHIN;
        if late && fires {
            return Err(Failure::failed("an alert of the simulator does not end although all is well"));
        }
        let left: Vec<_> = incidents.iter().filter(|incident| !is_closed(incident)).collect();
        if left.is_empty() && !fires {
            return Ok(());
        }
        // What is resolved closes by itself.
        let escalated = left.iter().filter(|incident| incident["phase"] == "escalated" || late);
        for incident in escalated.filter(|_| !fires) {
            let why = json!({"why": "the self-test is over"});
            // It may have been closed meanwhile.
            let _ = site.say(&text(incident, "id"), "close", &why).await;
        }
        if late {
            return Ok(());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
