//! A real Prometheus and a real Alertmanager with the shipped files, made faster: the loop through them from a fault to a closed
//! incident, a silence that holds a plan back, and that the simulator's own alerts are the same ones.
//!
//! Where the two programs are not installed (Debian: `prometheus` and `prometheus-alertmanager`) the tests say so and return.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by a panic"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Json;
use axum::routing::post;
use jiff::SignedDuration;
use quell_sandbox::pair::{Pair, Programs};
use quell_sandbox::processes::{ProcessOptions, Processes, told};
use quell_sandbox::{Asking, until};
use quell_service::{Clock as _, SystemClock};
use reqwest::Method;
use serde_json::{Value, json};

const WITHIN: Duration = Duration::from_secs(60);
/// What Alertmanager writes for an alert that has not ended.
const NOT_ENDED: &str = "0001-01-01T00:00:00Z";

/// The two programs, or a word on what is missing.
fn programs() -> Option<Programs> {
    match Programs::find() {
        Ok(programs) => Some(programs),
        Err(missing) => {
            println!("skipped: real Prometheus and Alertmanager: {missing}");
            None
        }
    }
}

async fn site(programs: Programs) -> Processes {
    let options = ProcessOptions {
        pair: Some(programs),
        also: None,
        // Scrape, evaluation and group intervals of the pair, and its look-back of eight seconds.
        replacements: vec![("settle: 200ms", "settle: 200ms, alert_pipeline_delay: 10s")],
    };
    Processes::start(&options).await.unwrap_or_else(|error| panic!("{error}"))
}

/// Waits until an incident is as wanted.
async fn incident(site: &Processes, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    site.incident(what, WITHIN, wanted).await.unwrap_or_else(|error| panic!("{error}"))
}

fn closed(incident: &Value) -> bool {
    incident["status"] == "closed"
}

/// The value of a line of an exposition.
fn sample(page: &str, line: &str) -> f64 {
    let value = page.lines().find_map(|other| other.strip_prefix(line));
    value.map_or(0.0, |value| value.trim().parse().unwrap())
}

async fn of_coordinator(site: &Processes, line: &str) -> f64 {
    sample(&site.asking().text(&site.url("/metrics")).await.unwrap(), line)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_is_healed_and_verified_through_the_real_pair() {
    let Some(programs) = programs() else { return };
    let site = site(programs).await;
    site.trigger("database_timeout").await.unwrap();
    let incident = incident(&site, "the incident to be closed", closed).await;
    let story = told(std::slice::from_ref(&incident));
    println!("{story}");
    assert_eq!(incident["alert_name"], "DatabaseConnectionTimeout", "{story}");
    assert_eq!(incident["diagnostics"]["root_cause"], "connection_pool_exhausted", "{story}");
    assert_eq!(incident["resolution"]["by"], "runbook", "{story}");
    // The evidence is Prometheus'.
    let metrics = incident["diagnostics"]["metrics"].as_object().unwrap();
    assert!(!metrics.is_empty(), "{story}");
    assert!(metrics.values().all(|evidence| evidence["source"] == "prometheus"), "{metrics:#?}");
    // The incident was closed after Alertmanager had said that the alert is over, and not before.
    assert_eq!(incident["alerts_firing"], 0, "{story}");
    for status in ["firing", "resolved"] {
        let line = format!("quell_alerts_received_total{{kind=\"{status}\"}}");
        assert!(of_coordinator(&site, &line).await >= 1.0, "no webhook was {status}: {story}");
    }
    let healed = site.asking().get(&site.simulator_url("/scenarios")).await.unwrap();
    let healed = healed.as_array().unwrap().iter().find(|row| row["name"] == "database_timeout").unwrap();
    assert_eq!(healed["ended"], "healed", "{healed}");
}

/// Nobody acts on an alert that somebody has silenced, until the silence is over.
#[tokio::test(flavor = "multi_thread")]
async fn a_silence_holds_a_plan_back() {
    let Some(programs) = programs() else { return };
    let site = site(programs).await;
    let alertmanager = format!("http://{}", site.pair().unwrap().alertmanager());
    let switch = async |engaged: bool| {
        let body = json!({"engaged": engaged, "why": "until the silence is there"});
        site.asking().json(Method::PUT, &site.url("/api/kill-switch"), Some(&body)).await.unwrap();
    };
    let held_by =
        |incident: &Value, word: &str| incident["summary"].as_str().is_some_and(|text| text.contains(word));

    // The kill switch keeps the plan until the silence is there: a silenced alert would open no incident.
    switch(true).await;
    site.trigger("database_timeout").await.unwrap();
    incident(&site, "a plan that is held", |one| one["phase"] == "held" && held_by(one, "kill switch")).await;
    let now = SystemClock.now();
    let silence = json!({
        "matchers": [{"name": "alertname", "value": "DatabaseConnectionTimeout", "isRegex": false}],
        "startsAt": now,
        "endsAt": now + SignedDuration::from_mins(10),
        "createdBy": "a person",
        "comment": "maintenance",
    });
    let silences = format!("{alertmanager}/api/v2/silences");
    let made = site.asking().json(Method::POST, &silences, Some(&silence)).await.unwrap();
    let id = made["silenceID"].as_str().unwrap();
    incident(&site, "a plan that is held by the silence", |one| held_by(one, &format!("silence {id}"))).await;
    switch(false).await;
    let only_silenced = |one: &Value| held_by(one, "suppressed") && !held_by(one, "kill switch");
    let held = incident(&site, "a plan that is held by the silence alone", only_silenced).await;
    assert_eq!(held["phase"], "held", "{held:#}");

    // Meanwhile another fault is healed from its beginning to its end.
    site.trigger("kafka_lag").await.unwrap();
    let other = |one: &Value| one["alert_name"] == "KafkaConsumerLagHigh" && closed(one);
    let other = incident(&site, "the other incident to be closed", other).await;
    assert_eq!(other["resolution"]["by"], "runbook", "{}", told(std::slice::from_ref(&other)));
    incident(&site, "the plan to be still held", only_silenced).await;
    let actions = site.actions().await.unwrap();
    assert!(
        !actions.is_empty() && actions.iter().all(|action| action["target"] == "email-service"),
        "{actions:#?}"
    );

    let url = format!("{alertmanager}/api/v2/silence/{id}");
    site.asking().json(Method::DELETE, &url, None).await.unwrap();
    let over = |one: &Value| one["alert_name"] == "DatabaseConnectionTimeout" && closed(one);
    let over = incident(&site, "the incident to be closed", over).await;
    let story = told(std::slice::from_ref(&over));
    println!("{story}");
    assert_eq!(over["resolution"]["by"], "runbook", "{story}");
    assert!(site.actions().await.unwrap().iter().any(|action| action["target"] == "db-server-01"));
}

/// A person agrees to a plan, and then its alert is silenced: nothing is done, and the incident says why, until the silence is over.
#[tokio::test(flavor = "multi_thread")]
async fn a_silence_holds_back_what_was_approved() {
    let Some(programs) = programs() else { return };
    let options = ProcessOptions {
        pair: Some(programs),
        also: None,
        replacements: vec![
            ("settle: 200ms", "settle: 200ms, alert_pipeline_delay: 10s"),
            ("require_approval: false", "require_approval: true"),
            ("  autonomy: auto\n", "  autonomy: auto\n  reconcile: {interval: 200ms}\n"),
        ],
    };
    let site = Processes::start(&options).await.unwrap_or_else(|error| panic!("{error}"));
    site.trigger("database_timeout").await.unwrap();
    let asked = incident(&site, "a plan to approve", |one| one["phase"] == "awaiting_approval").await;
    let now = SystemClock.now();
    let silence = json!({
        "matchers": [{"name": "alertname", "value": "DatabaseConnectionTimeout", "isRegex": false}],
        "startsAt": now,
        "endsAt": now + SignedDuration::from_mins(10),
        "createdBy": "a person",
        "comment": "maintenance",
    });
    let alertmanager = format!("http://{}", site.pair().unwrap().alertmanager());
    let silences = format!("{alertmanager}/api/v2/silences");
    let made = site.asking().json(Method::POST, &silences, Some(&silence)).await.unwrap();
    incident(&site, "the silence to be shown", |one| one["alerts_suppressed"] == 1).await;
    let approve = site.url(&format!("/api/incidents/{}/approve", text(&asked["id"])));
    let word = json!({"plan_digest": asked["question"]["plan_digest"]});
    site.asking().json(Method::POST, &approve, Some(&word)).await.unwrap();
    let held =
        |one: &Value| one["phase"] == "executing" && text(&one["summary"]).contains("of a person until");
    let waiting = incident(&site, "the approved plan to be held by the silence", held).await;
    assert!(text(&waiting["summary"]).contains(": maintenance"), "{}", waiting["summary"]);
    assert!(site.actions().await.unwrap().is_empty());

    let url = format!("{alertmanager}/api/v2/silence/{}", text(&made["silenceID"]));
    site.asking().json(Method::DELETE, &url, None).await.unwrap();
    let over = incident(&site, "the incident to be closed", closed).await;
    let story = told(std::slice::from_ref(&over));
    assert_eq!(over["resolution"]["by"], "runbook", "{story}");
    let times = |kind: &str| {
        over["timeline"].as_array().unwrap().iter().filter(|entry| entry["type"] == kind).count()
    };
    assert_eq!(times("alert_suppressed"), 2, "silenced once, and no longer: {story}");
    let begun = |kind: &str| {
        let timeline = over["timeline"].as_array().unwrap();
        timeline.iter().rposition(|entry| entry["type"] == kind)
    };
    assert!(begun("step_started") > begun("alert_suppressed"), "{story}");
}

/// A webhook's receiver that keeps what it gets.
#[derive(Clone, Default)]
struct Receiver(Arc<Mutex<Vec<Value>>>);

impl Receiver {
    async fn start(&self) -> SocketAddr {
        let kept = Arc::clone(&self.0);
        let take = async move |Json(payload): Json<Value>| {
            kept.lock().unwrap().push(payload);
            Json(json!({}))
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, axum::Router::new().route("/", post(take))).await });
        address
    }

    fn payloads(&self) -> Vec<Value> {
        self.0.lock().unwrap().clone()
    }

    /// The last status of each alert.
    fn states(&self) -> BTreeMap<String, String> {
        let payloads = self.payloads();
        let alerts = payloads.iter().flat_map(|payload| payload["alerts"].as_array().unwrap());
        alerts.map(|alert| (text(&alert["fingerprint"]), text(&alert["status"]))).collect()
    }

    /// All that is told, in a form in which both ways have to be equal.
    fn told(&self) -> Told {
        let mut told = Told::default();
        for payload in self.payloads() {
            let of_payload =
                ["receiver", "version", "truncatedAlerts"].map(|field| format!("{field} {}", payload[field]));
            told.forms.extend(of_payload);
            told.forms.insert(format!("payload {:?}", fields(&payload)));
            told.forms.insert(format!("annotations in common {:?}", fields(&payload["commonAnnotations"])));
            told.groups.insert(payload["groupLabels"].to_string());
            let group = format!("group {}", payload["groupLabels"]);
            said(&mut told.statuses, group, &payload["status"]);
            for alert in payload["alerts"].as_array().unwrap() {
                told.forms.insert(format!("alert {:?}", fields(alert)));
                told.forms.insert(format!("annotations {:?}", fields(&alert["annotations"])));
                told.alerts.insert(format!(
                    "{} {} {}",
                    alert["fingerprint"], alert["labels"], alert["annotations"]["summary"]
                ));
                let ended = alert["endsAt"] != NOT_ENDED;
                assert_eq!(ended, alert["status"] == "resolved", "{alert:#}");
                said(&mut told.statuses, format!("alert {}", alert["fingerprint"]), &alert["status"]);
            }
        }
        told
    }
}

#[derive(Debug, Default, PartialEq)]
struct Told {
    /// Fingerprint, labels and summary of every alert.
    alerts: BTreeSet<String>,
    /// Labels of every group.
    groups: BTreeSet<String>,
    /// How the status of every alert and group went on; saying it again is no news.
    statuses: BTreeMap<String, Vec<String>>,
    /// Which fields there are, and what is always the same.
    forms: BTreeSet<String>,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn fields(object: &Value) -> BTreeSet<&String> {
    object.as_object().unwrap().keys().collect()
}

fn said(statuses: &mut BTreeMap<String, Vec<String>>, of: String, status: &Value) {
    let all = statuses.entry(of).or_default();
    let status = text(status);
    if all.last() != Some(&status) {
        all.push(status);
    }
}

/// The same world raises the same alerts by both ways: every fault at once, and then its end.
#[tokio::test(flavor = "multi_thread")]
async fn the_simulator_raises_what_the_real_pair_raises() {
    let Some(programs) = programs() else { return };
    let (real, own) = (Receiver::default(), Receiver::default());
    let (real_url, own_url) =
        (format!("http://{}/", real.start().await), format!("http://{}/", own.start().await));
    let mut config = quell_simulator::Config::new(Arc::new(|| SystemClock.now()));
    config.metrics_port = 0;
    config.tick = Duration::from_millis(100);
    config.alerts = Some(quell_simulator::AlertsConfig {
        // It is the look-back as well, and as long as the pair's.
        hold: Duration::from_secs(8),
        interval: Duration::from_millis(500),
        ..quell_simulator::AlertsConfig::new(own_url)
    });
    let simulator = quell_simulator::start(config).await.unwrap();
    let folder = tempfile::TempDir::new().unwrap();
    let pair = Pair::start(&programs, folder.path(), simulator.addresses(), None, &real_url).await;
    let _pair = pair.unwrap_or_else(|error| panic!("{error}"));

    let control = format!("http://{}", simulator.addresses()[0]);
    let asking = Asking::new().unwrap();
    let scenarios = asking.get(&format!("{control}/scenarios")).await.unwrap();
    let scenarios = scenarios.as_array().unwrap();
    assert_eq!(scenarios.len(), 8);
    for scenario in scenarios {
        let url = format!("{control}/trigger/{}", text(&scenario["name"]));
        asking.json(Method::POST, &url, Some(&json!({}))).await.unwrap();
    }
    let both = async |what: &str, status: &str, count: usize| {
        let done = until(what, WITHIN, async || {
            let (real, own) = (real.states(), own.states());
            let all = |states: &BTreeMap<String, String>| {
                states.len() >= count && states.values().all(|now| now == status)
            };
            if all(&real) && all(&own) { Ok(real.len()) } else { Err(format!("{real:#?}\n{own:#?}")) }
        });
        done.await.unwrap_or_else(|error| panic!("{error}"))
    };
    // A full disk raises two.
    both("every alert to fire", "firing", scenarios.len() + 1).await;
    asking.json(Method::POST, &format!("{control}/resolve"), None).await.unwrap();
    let count = both("every alert to end", "resolved", scenarios.len() + 1).await;

    let (real, own) = (real.told(), own.told());
    assert_eq!(count, scenarios.len() + 1, "{real:#?}");
    assert!(real.statuses.values().all(|all| all == &["firing", "resolved"]), "{real:#?}");
    assert_eq!(real.alerts, own.alerts);
    assert_eq!(real.groups, own.groups);
    assert_eq!(real.statuses, own.statuses);
    assert_eq!(real.forms, own.forms);
    simulator.stop().await;
}
