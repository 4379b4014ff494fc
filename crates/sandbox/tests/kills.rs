//! Real processes under a killer: at random instants one of coordinator, diagnostic agent and resolution agent gets a SIGKILL and is
//! started again on its data, also while it is still starting. Whatever the instants were: every incident ends closed or with a
//! person, nothing was done twice, and no alert opened two incidents.
//!
//! `QUELL_KILL_SEED` replays the killer's choices; the instants at which they meet the site are the system's.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by a panic"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use quell_sandbox::processes::{ProcessOptions, Processes, told};
use quell_sandbox::{Part, until};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use reqwest::Method;
use serde_json::{Value, json};

/// How long an incident may take after the last kill.
const OVER_WITHIN: Duration = Duration::from_secs(60);
const KILLS_PER_INCIDENT: usize = 10;
/// Who is killed how often: those that keep something more than the one that keeps nothing.
const PARTS: [Part; 5] =
    [Part::Coordinator, Part::Coordinator, Part::Resolution, Part::Resolution, Part::Diagnostic];
/// Faults of different targets, with the alerts that they raise.
const FAULTS: [(&str, &[&str]); 6] = [
    ("database_timeout", &["DatabaseConnectionTimeout"]),
    ("kafka_lag", &["KafkaConsumerLagHigh"]),
    ("api_503", &["APIGateway503Errors"]),
    ("disk_full", &["DiskSpaceCritical", "DiskSpaceLow"]),
    ("certificate_expiry", &["CertificateExpiringSoon"]),
    ("postgres_connections", &["PostgreSQLConnectionsHigh"]),
];
/// What is left in peace, to see that the site is well after all of it.
const LAST: (&str, &[&str]) = ("memory_leak", &["HighMemoryUsage"]);

fn seed() -> u64 {
    #[allow(clippy::disallowed_methods, reason = "a person replays a run; nothing else depends on it")]
    let given = std::env::var("QUELL_KILL_SEED").ok();
    given.map_or_else(rand::random, |text| text.parse().expect("QUELL_KILL_SEED is a whole number"))
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

fn is_over(incident: &Value) -> bool {
    incident["status"] == "closed" || incident["phase"] == "escalated"
}

/// The incidents of one fault: those that were not there before.
struct Episode {
    alerts: &'static [&'static str],
    before: BTreeSet<String>,
    actions_before: usize,
}

impl Episode {
    async fn begin(site: &Processes, (fault, alerts): (&str, &'static [&'static str])) -> Self {
        let before = site.incidents().await.unwrap();
        let before = before.iter().map(|incident| text(incident, "id").to_owned()).collect();
        let actions_before = site.actions().await.unwrap().len();
        site.trigger(fault).await.unwrap();
        Self { alerts, before, actions_before }
    }

    /// Its incidents once each of its alerts belongs to one and all of them are over. A plan that waits for approval gets it: an agent
    /// that was killed has forgotten what was before the fault, so its next diagnosis is less sure and a person is asked.
    async fn over(&self, site: &Processes) -> Result<Vec<Value>, String> {
        let all = site.incidents().await.map_err(|error| error.to_string())?;
        let own: Vec<_> =
            all.into_iter().filter(|incident| !self.before.contains(text(incident, "id"))).collect();
        for asking in own.iter().filter(|incident| incident["phase"] == "awaiting_approval") {
            let approve = site.url(&format!("/api/incidents/{}/approve", text(asking, "id")));
            let digest = json!({"plan_digest": asking["question"]["plan_digest"]});
            // The coordinator may be down; then it is asked for again.
            let _ = site.asking().json(Method::POST, &approve, Some(&digest)).await;
        }
        let alerts: u64 = own.iter().filter_map(|incident| incident["alerts_total"].as_u64()).sum();
        if alerts >= self.alerts.len() as u64 && own.iter().all(is_over) { Ok(own) } else { Err(told(&own)) }
    }

    /// What must hold whatever was killed.
    async fn check(&self, site: &Processes, incidents: &[Value]) {
        // An alert that cleared and fires anew is another episode, and that is another incident's.
        let (mut alerts, mut episodes) = (BTreeSet::new(), BTreeSet::new());
        for incident in incidents {
            for fingerprint in incident["fingerprints"].as_array().unwrap().iter().filter_map(Value::as_str) {
                alerts.insert(fingerprint);
                let first = episodes.insert((fingerprint, text(incident, "started_at")));
                assert!(first, "two incidents of one episode: {}", told(incidents));
            }
        }
        assert_eq!(alerts.len(), self.alerts.len(), "not the alerts of the fault: {}", told(incidents));

        let actions = site.actions().await.unwrap();
        let mut done = BTreeMap::<String, usize>::new();
        for action in &actions {
            *done.entry(format!("key {}", text(action, "key"))).or_default() += 1;
        }
        for action in &actions[self.actions_before..] {
            let what = format!("{} {} {}", action["operation"], action["target"], action["arguments"]);
            *done.entry(what).or_default() += 1;
        }
        let twice: Vec<_> = done.iter().filter(|(_, count)| **count > 1).collect();
        assert!(twice.is_empty(), "done twice: {twice:?}\n{actions:#?}\n{}", told(incidents));

        // What was done is what the incidents say was done.
        let recorded =
            incidents.iter().flat_map(|incident| incident["remediation_actions"].as_array().unwrap());
        let recorded: BTreeSet<_> = recorded.map(|record| text(record, "key")).collect();
        for action in &actions[self.actions_before..] {
            assert!(recorded.contains(text(action, "key")), "no record of {action}\n{}", told(incidents));
        }
        for incident in incidents.iter().filter(|incident| incident["status"] == "closed") {
            assert!(!incident["resolution"].is_null(), "closed without an end: {}", told(incidents));
        }
    }
}

/// Kills until all is over or it has killed enough. Returns how often it did.
async fn kill_at_random(site: &mut Processes, episode: &Episode, random: &mut StdRng) -> usize {
    let mut kills = 0;
    while kills < KILLS_PER_INCIDENT {
        // The instant is the point of this test; there is nothing to wait for.
        let calm = Duration::from_millis(random.random_range(0..300));
        tokio::time::sleep(calm).await;
        if episode.over(site).await.is_ok() {
            break;
        }
        let part = PARTS[random.random_range(0..PARTS.len())];
        let down = Duration::from_millis(random.random_range(0..150));
        site.kill(part);
        tokio::time::sleep(down).await;
        site.launch(part).unwrap();
        kills += 1;
        println!("  {part:?} killed after {calm:?}, down for {down:?}");
    }
    site.ready().await.unwrap();
    kills
}

/// A person puts an end to what is left with them, and the infrastructure is well again.
async fn tidy_up(site: &Processes, incidents: &[Value]) {
    site.asking().json(Method::POST, &site.simulator_url("/resolve"), None).await.unwrap();
    for incident in incidents.iter().filter(|incident| incident["status"] != "closed") {
        let close = site.url(&format!("/api/incidents/{}/close", text(incident, "id")));
        site.asking().json(Method::POST, &close, Some(&json!({"why": "seen to by hand"}))).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_killed_and_whenever_nothing_is_done_twice() {
    let seed = seed();
    println!("QUELL_KILL_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut site = Processes::start(&ProcessOptions::default()).await.unwrap();
    let (mut kills, mut ends) = (0, BTreeMap::<String, usize>::new());
    for fault in FAULTS {
        let (started, episode) = (Instant::now(), Episode::begin(&site, fault).await);
        println!("{}", fault.0);
        kills += kill_at_random(&mut site, &episode, &mut random).await;
        let incidents = until(fault.0, OVER_WITHIN, async || episode.over(&site).await).await;
        let incidents = incidents.unwrap_or_else(|error| panic!("{error}"));
        episode.check(&site, &incidents).await;
        for incident in &incidents {
            let (phase, summary) = (text(incident, "phase"), text(incident, "summary"));
            println!("  {phase} after {:?}: {summary}", started.elapsed());
            *ends.entry(phase.to_owned()).or_default() += 1;
        }
        tidy_up(&site, &incidents).await;
    }
    println!("{kills} kills: {ends:?}");
    assert!(kills >= 2 * FAULTS.len(), "the killer hardly came to kill: {kills}");

    site.watched().await.unwrap();
    let episode = Episode::begin(&site, LAST).await;
    let incidents = until(LAST.0, OVER_WITHIN, async || episode.over(&site).await).await;
    let incidents = incidents.unwrap_or_else(|error| panic!("{error}"));
    episode.check(&site, &incidents).await;
    assert_eq!(incidents[0]["resolution"]["by"], "runbook", "{}", told(&incidents));
}
