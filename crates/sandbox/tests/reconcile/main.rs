//! Alertmanager as a peer: what webhooks missed is repaired, what is silenced is known and left alone, and nothing is cleared by an
//! Alertmanager that is away, has just started, or is one of two. The same story with a fake one and with the real one, where it is
//! installed; and alerts that are read from a real Prometheus.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by a panic"
)]

mod held_back;

use std::time::Duration;

use jiff::SignedDuration;
use quell_sandbox::fake_alertmanager::{FakeAlertmanager, Mood};
use quell_sandbox::pair::Programs;
use quell_sandbox::server::Server;
use quell_sandbox::{Asking, Options, Sandbox, until};
use quell_service::{Clock as _, SystemClock};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

const WITHIN: Duration = Duration::from_secs(90);
/// Nobody listens there: every webhook is lost.
const NOWHERE: &str = "http://127.0.0.1:1/webhooks/alertmanager";
/// What Alertmanager is configured with here, and what Quell adds to it.
const RESOLVE_TIMEOUT: SignedDuration = SignedDuration::from_secs(2);

fn programs() -> Option<Programs> {
    match Programs::find() {
        Ok(programs) => Some(programs),
        Err(missing) => {
            println!("skipped: real Prometheus and Alertmanager: {missing}");
            None
        }
    }
}

/// A coordinator without agents that compares often.
async fn coordinator(prometheus: &str, settings: &str) -> Sandbox {
    let own = format!(
        "infrastructure: {{monitoring: {{prometheus: {{{prometheus}}}}}}}\ncoordinator:\n  reconcile: {{interval: 100ms, \
         missed_after: 0s, clear_margin: 1s, cleared_after: 1h}}\n{settings}"
    );
    let options = Options::default().coordinator_alone().replacing("coordinator:\n", &own);
    // A closed incident is looked at no more, and what happened to it should be.
    let options = options.replacing("quiet_before_close: 500ms", "quiet_before_close: 10m");
    Sandbox::start(options).await.unwrap_or_else(|error| panic!("{error}"))
}

async fn incident(site: &Sandbox, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    site.incident(what, WITHIN, wanted).await.unwrap_or_else(|error| panic!("{error}"))
}

async fn metric(site: &Sandbox, line: &str) -> f64 {
    let page = Asking::new().unwrap().text(&site.url("/metrics")).await.unwrap();
    let value = page.lines().find_map(|other| other.strip_prefix(line));
    value.map_or(0.0, |value| value.trim().parse().unwrap())
}

/// Waits for a few more rounds with this result.
async fn rounds(site: &Sandbox, metric_name: &str, result: &str) {
    let line = format!("{metric_name}_total{{result=\"{result}\"}}");
    let before = metric(site, &line).await;
    let more = until(&line, WITHIN, async || {
        let now = metric(site, &line).await;
        if now >= before + 4.0 { Ok(()) } else { Err(now.to_string()) }
    });
    more.await.unwrap_or_else(|error| panic!("{error}"));
}

fn happened(incident: &Value, kind: &str) -> usize {
    incident["timeline"].as_array().unwrap().iter().filter(|entry| entry["type"] == kind).count()
}

fn told(incident: &Value) -> String {
    let timeline = incident["timeline"].as_array().unwrap();
    timeline.iter().map(|entry| format!("{}\n", entry["text"].as_str().unwrap())).collect()
}

/// An Alertmanager by its API.
struct Peer {
    url: String,
    asking: Asking,
}

impl Peer {
    fn at(url: String) -> Self {
        Self { url, asking: Asking::new().unwrap() }
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        let url = format!("{}/api/v2/{path}", self.url);
        let answer = self.asking.text_of(Method::POST, &url, Some(body)).await.unwrap();
        serde_json::from_str(&answer).unwrap_or_default()
    }

    /// An alert that fires for an hour, or ends now.
    async fn alert(&self, fires: bool) {
        let now = SystemClock.now();
        let ends_at = if fires { now + SignedDuration::from_hours(1) } else { now };
        let labels = json!({"alertname": "ManualThing", "instance": "host-1:9100", "severity": "warning"});
        let annotations = json!({"summary": "made by hand"});
        let alert = json!([{"labels": labels, "annotations": annotations, "endsAt": ends_at}]);
        self.post("alerts", &alert).await;
    }

    async fn silence(&self) -> String {
        let now = SystemClock.now();
        let silence = json!({
            "matchers": [{"name": "alertname", "value": "ManualThing", "isRegex": false}],
            "startsAt": now,
            "endsAt": now + SignedDuration::from_hours(1),
            "createdBy": "a person",
            "comment": "we move\nthe rack",
        });
        let made = self.post("silences", &silence).await;
        made["silenceID"].as_str().unwrap().to_owned()
    }

    async fn expire(&self, id: &str) {
        let url = format!("{}/api/v2/silence/{id}", self.url);
        self.asking.text_of(Method::DELETE, &url, None).await.unwrap();
    }
}

/// The whole story of an alert whose webhooks are all lost.
async fn story(peer: Peer, mut restart: impl AsyncFnMut()) {
    let site = coordinator(&format!("alert_manager_url: \"{}\"", peer.url), "").await;
    peer.alert(true).await;
    let opened =
        incident(&site, "the incident of the lost webhook", |one| one["alert_name"] == "ManualThing").await;
    assert_eq!((&opened["alerts_firing"], &opened["affected_systems"]), (&json!(1), &json!(["host-1"])));
    rounds(&site, "quell_reconcile_rounds", "complete").await;
    let opened = incident(&site, "the note", |one| one["alerts_total"] == 1).await;
    assert!(told(&opened).contains("its webhook did not come"), "{}", told(&opened));
    assert_eq!(happened(&opened, "alert_fired"), 1, "{}", told(&opened));
    assert_eq!(metric(&site, "quell_reconcile_repairs_total{kind=\"missed_firing\"}").await, 1.0);

    let id = peer.silence().await;
    incident(&site, "the silence to be known", |one| one["alerts_suppressed"] == 1).await;
    rounds(&site, "quell_reconcile_rounds", "complete").await;
    let silenced = incident(&site, "the silence to be known", |one| one["alerts_suppressed"] == 1).await;
    let by = silenced["suppressed"][0]["by"].as_str().unwrap();
    assert!(by.starts_with(&format!("silence {id} of a person until ")), "{by}");
    assert!(by.ends_with(": we move the rack"), "{by}");
    assert_eq!(happened(&silenced, "alert_suppressed"), 1, "{}", told(&silenced));
    peer.expire(&id).await;
    incident(&site, "the end of the silence", |one| one["alerts_suppressed"] == 0).await;

    // An Alertmanager that starts anew knows of nothing; it hears of what fires within its time.
    restart().await;
    rounds(&site, "quell_reconcile_rounds", "complete").await;
    peer.alert(true).await;
    tokio::time::timeout(WITHIN, async {
        let settled = SystemClock.now() + RESOLVE_TIMEOUT + SignedDuration::from_secs(2);
        while SystemClock.now() < settled {
            rounds(&site, "quell_reconcile_rounds", "complete").await;
        }
    })
    .await
    .unwrap();
    let still = incident(&site, "the incident after the restart", |one| one["alerts_total"] == 1).await;
    assert_eq!(
        (&still["alerts_firing"], happened(&still, "alert_cleared")),
        (&json!(1), 0),
        "{}",
        told(&still)
    );

    peer.alert(false).await;
    let over = incident(&site, "the end whose webhook was lost", |one| one["status"] == "resolved").await;
    assert!(told(&over).contains("Alertmanager does not list it any more"), "{}", told(&over));
    rounds(&site, "quell_reconcile_rounds", "complete").await;
    assert_eq!(metric(&site, "quell_reconcile_repairs_total{kind=\"missed_resolved\"}").await, 1.0);
    assert_eq!(site.get("/api/incidents").await.unwrap().as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_whose_webhooks_are_lost() {
    let fake = FakeAlertmanager::start(NOWHERE, RESOLVE_TIMEOUT).await.unwrap();
    story(Peer::at(fake.url()), async || fake.restart()).await;
}

fn alertmanager_file(webhook_url: &str) -> String {
    format!(
        "global: {{resolve_timeout: {}s}}\nroute: {{receiver: hook, group_by: [alertname], group_wait: 100ms, group_interval: 500ms}}\n\
         receivers: [{{name: hook, webhook_configs: [{{url: \"{webhook_url}\", send_resolved: true}}]}}]\n",
        RESOLVE_TIMEOUT.as_secs()
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_whose_webhooks_are_lost_with_the_real_alertmanager() {
    let Some(programs) = programs() else { return };
    let folder = TempDir::new().unwrap();
    let mut real = Server::alertmanager(&programs, folder.path(), &alertmanager_file(NOWHERE)).unwrap();
    real.start().await.unwrap_or_else(|error| panic!("{error}"));
    let url = real.url();
    story(Peer::at(url), async || real.start().await.unwrap_or_else(|error| panic!("{error}"))).await;
}

/// The fake one is as strict as the real one.
#[tokio::test(flavor = "multi_thread")]
async fn the_fake_refuses_what_the_real_one_refuses() {
    let Some(programs) = programs() else { return };
    let folder = TempDir::new().unwrap();
    let mut real = Server::alertmanager(&programs, folder.path(), &alertmanager_file(NOWHERE)).unwrap();
    real.start().await.unwrap_or_else(|error| panic!("{error}"));
    let fake = FakeAlertmanager::start(NOWHERE, RESOLVE_TIMEOUT).await.unwrap();
    let (early, late) = ("2020-01-01T00:00:00Z", "2200-01-01T00:00:00Z");
    let silence = |matchers: Value, starts: &str, ends: &str| json!({"matchers": matchers, "startsAt": starts, "endsAt": ends, "createdBy": "p", "comment": "c"});
    let matcher = |value: &str, regex: bool| json!([{"name": "a", "value": value, "isRegex": regex}]);
    let mut without_comment = silence(matcher("b", false), early, late);
    without_comment.as_object_mut().unwrap().remove("comment");
    let requests: Vec<(&str, &str, Option<Value>)> = vec![
        ("POST", "alerts", Some(json!([{"labels": {"a": "b"}}]))),
        ("POST", "alerts", Some(json!([{"labels": {}}]))),
        ("POST", "alerts", Some(json!([{"labels": {"a-b": "c"}}]))),
        ("POST", "alerts", Some(json!([{"annotations": {}}]))),
        ("POST", "alerts", Some(json!({}))),
        ("POST", "alerts", Some(json!([{"labels": {"a": "b"}, "startsAt": late, "endsAt": early}]))),
        ("GET", "alerts?silenced=false", None),
        ("GET", "alerts?filter=a", None),
        ("GET", "alerts?filter=a%3D~%22b%7Cc%22", None),
        ("GET", "alerts?filter=a%3D~%22(%22", None),
        ("POST", "silences", Some(silence(matcher("b", false), early, late))),
        ("POST", "silences", Some(silence(matcher("b", false), late, early))),
        ("POST", "silences", Some(silence(matcher("b", false), early, "2020-01-02T00:00:00Z"))),
        ("POST", "silences", Some(silence(matcher("", false), early, late))),
        ("POST", "silences", Some(silence(matcher("(", true), early, late))),
        ("POST", "silences", Some(silence(json!([]), early, late))),
        ("POST", "silences", Some(without_comment)),
        ("DELETE", "silence/nobody", None),
        ("DELETE", "silence/ba7c7770-4486-42be-8dbb-39ad47cea0db", None),
        ("GET", "silences", None),
        ("GET", "status", None),
        ("GET", "nothing", None),
    ];
    let client = reqwest::Client::new();
    for (method, path, body) in requests {
        let mut statuses = Vec::new();
        for base in [real.url(), fake.url()] {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let mut request = client.request(method, format!("{base}/api/v2/{path}"));
            if let Some(body) = &body {
                request = request.json(body);
            }
            statuses.push(request.send().await.unwrap().status());
        }
        assert_eq!(statuses[0], statuses[1], "{method} {path} {body:?}");
    }
}

/// Two of one cluster are one source: one answer is enough to open, all are needed to clear.
#[tokio::test(flavor = "multi_thread")]
async fn two_alertmanagers_of_which_one_has_bad_days() {
    let one = FakeAlertmanager::start(NOWHERE, RESOLVE_TIMEOUT).await.unwrap();
    let two = FakeAlertmanager::start(NOWHERE, RESOLVE_TIMEOUT).await.unwrap();
    let urls = format!("alert_manager_urls: [\"{}\", \"{}\"]", one.url(), two.url());
    let site = coordinator(&urls, "").await;
    let (first, second) = (Peer::at(one.url()), Peer::at(two.url()));
    two.feels(Mood::Unavailable);
    rounds(&site, "quell_reconcile_rounds", "partial").await;
    first.alert(true).await;
    incident(&site, "the incident", |incident| incident["alerts_firing"] == 1).await;

    // What one of them has silenced is silenced.
    two.feels(Mood::Well);
    second.alert(true).await;
    let id = second.silence().await;
    incident(&site, "the silence", |incident| incident["alerts_suppressed"] == 1).await;
    second.expire(&id).await;
    incident(&site, "its end", |incident| incident["alerts_suppressed"] == 0).await;

    first.alert(false).await;
    rounds(&site, "quell_reconcile_rounds", "complete").await;
    for (mood, result) in [(Mood::Unavailable, "partial"), (Mood::Nonsense, "partial")] {
        two.feels(mood);
        rounds(&site, "quell_reconcile_rounds", result).await;
    }
    one.feels(Mood::Unavailable);
    rounds(&site, "quell_reconcile_rounds", "unreachable").await;
    let line = format!("quell_alertmanager_reachable{{instance=\"{}\"}}", one.url().replace("http://", ""));
    assert_eq!(metric(&site, &line).await, 0.0);
    assert_eq!(site.get("/health").await.unwrap()["status"], "healthy");
    site.get("/ready").await.unwrap();
    let still = incident(&site, "the incident", |incident| incident["alerts_total"] == 1).await;
    assert_eq!(
        (&still["alerts_firing"], happened(&still, "alert_cleared")),
        (&json!(1), 0),
        "{}",
        told(&still)
    );

    one.feels(Mood::Well);
    two.feels(Mood::Well);
    rounds(&site, "quell_reconcile_rounds", "complete").await;
    assert_eq!(metric(&site, &line).await, 1.0);
    second.alert(false).await;
    incident(&site, "the end, which both agree on", |incident| incident["status"] == "resolved").await;
}

const PROMETHEUS: &str = "global: {scrape_interval: 500ms, evaluation_interval: 500ms, external_labels: {monitor: sandbox}}\nrule_files: \
                          [rules.yml]\n";

fn rules(holds: bool) -> String {
    format!(
        "groups:\n- name: sandbox\n  rules:\n  - alert: Always\n    expr: vector({}) > 0\n    for: 1s\n    labels: {{severity: warning, \
         instance: \"host-1:9100\"}}\n    annotations: {{summary: always}}\n",
        u8::from(holds)
    )
}

const POLLING: &str = "  poll_prometheus: {enabled: true, interval: 100ms}\n";

/// A site without an Alertmanager.
#[tokio::test(flavor = "multi_thread")]
async fn alerts_are_read_from_prometheus_alone() {
    let Some(programs) = programs() else { return };
    let folder = TempDir::new().unwrap();
    let mut prometheus = Server::prometheus(&programs, folder.path(), PROMETHEUS, &rules(true)).unwrap();
    prometheus.start().await.unwrap_or_else(|error| panic!("{error}"));
    let site = coordinator(&format!("url: \"{}\"", prometheus.url()), POLLING).await;
    let opened = incident(&site, "the incident", |one| one["alert_name"] == "Always").await;
    // With the external label, as Alertmanager would have it.
    let labels = [
        ("alertname", "Always"),
        ("instance", "host-1:9100"),
        ("monitor", "sandbox"),
        ("severity", "warning"),
    ];
    let labels: quell_incident::alert::Labels = labels.into_iter().collect();
    let fingerprint = quell_incident::alert::Fingerprint::of(&labels);
    assert_eq!(opened["fingerprints"], json!([fingerprint.as_str()]));

    // A start of Prometheus: for a while its list is empty, and then the alert is pending.
    prometheus.start().await.unwrap_or_else(|error| panic!("{error}"));
    rounds(&site, "quell_prometheus_polls", "complete").await;
    let again = until("the alert to fire again", WITHIN, async || {
        let url = format!("{}/api/v1/alerts", prometheus.url());
        let alerts = Asking::new().unwrap().get(&url).await.map_err(|error| error.to_string())?;
        if alerts["data"]["alerts"][0]["state"] == "firing" { Ok(()) } else { Err(alerts.to_string()) }
    });
    again.await.unwrap_or_else(|error| panic!("{error}"));
    rounds(&site, "quell_prometheus_polls", "complete").await;
    let still = incident(&site, "the incident", |one| one["alerts_firing"] == 1).await;
    assert_eq!(happened(&still, "alert_cleared"), 0, "{}", told(&still));

    prometheus.write("rules.yml", &rules(false)).unwrap();
    let reload = format!("{}/-/reload", prometheus.url());
    Asking::new().unwrap().text_of(Method::POST, &reload, None).await.unwrap();
    let over = incident(&site, "the end of the alert", |one| one["status"] == "resolved").await;
    assert!(told(&over).contains("Prometheus does not list it any more"), "{}", told(&over));
}

/// The same alert by both ways is one incident with one alert, whichever is first.
#[tokio::test(flavor = "multi_thread")]
async fn an_alert_by_webhook_and_by_reading_is_one() {
    let Some(programs) = programs() else { return };
    let folder = TempDir::new().unwrap();
    let mut alertmanager = Server::alertmanager(&programs, folder.path(), "").unwrap();
    let config = format!(
        "{PROMETHEUS}alerting: {{alertmanagers: [{{static_configs: [{{targets: [\"{}\"]}}]}}]}}\n",
        alertmanager.url().replace("http://", "")
    );
    let mut prometheus = Server::prometheus(&programs, folder.path(), &config, &rules(true)).unwrap();
    prometheus.start().await.unwrap_or_else(|error| panic!("{error}"));
    let urls = format!("url: \"{}\", alert_manager_url: \"{}\"", prometheus.url(), alertmanager.url());
    let site = coordinator(&urls, POLLING).await;
    // Alertmanager is down: only Prometheus tells of it.
    incident(&site, "the incident that was read", |one| one["alert_name"] == "Always").await;
    assert_eq!(metric(&site, "quell_reconcile_repairs_total{kind=\"polled_firing\"}").await, 1.0);
    // And now it comes by webhook as well; Prometheus repeats what it could not deliver with the next change.
    alertmanager.write("alertmanager.yml", &alertmanager_file(&site.url("/webhooks/alertmanager"))).unwrap();
    alertmanager.start().await.unwrap_or_else(|error| panic!("{error}"));
    prometheus.start().await.unwrap_or_else(|error| panic!("{error}"));
    let webhook = until("the webhook", WITHIN, async || {
        let came = metric(&site, "quell_alerts_received_total{kind=\"firing\"}").await;
        if came >= 1.0 { Ok(()) } else { Err("none came".to_owned()) }
    });
    webhook.await.unwrap_or_else(|error| panic!("{error}"));
    rounds(&site, "quell_prometheus_polls", "complete").await;
    rounds(&site, "quell_reconcile_rounds", "complete").await;
    let incidents = site.get("/api/incidents").await.unwrap();
    let incidents = incidents.as_array().unwrap();
    assert_eq!(incidents.len(), 1, "{incidents:#?}");
    assert_eq!((&incidents[0]["alerts_total"], &incidents[0]["alerts_firing"]), (&json!(1), &json!(1)));
}
