//! What Alertmanager keeps back on purpose opens no incident: mute and active time intervals, silences, inhibition, another receiver; with
//! every real Alertmanager that is there, alone and as a pair. All webhooks are lost, so that only the comparison could open one.

use std::net::SocketAddr;

use quell_child::free_addresses;

use super::*;

/// Told by the groups since 0.28 which intervals mute them; before, nobody says.
const CONFIG: &str = r#"
global: {resolve_timeout: 5m}
route:
  receiver: hook
  group_by: [alertname]
  group_wait: 100ms
  group_interval: 2s
  repeat_interval: 1h
  routes:
    - matchers: ['alertname="Muted"']
      mute_time_intervals: [always]
    - match: {alertname: MutedByOldMatch}
      mute_time_intervals: [always]
    - match_re: {alertname: "MutedBy(Expression|Nothing)"}
      mute_time_intervals: [always]
    - matchers: ['{alertname=~"Nested.*",severity!="none"}']
      routes:
        - matchers: [severity="warning"]
          mute_time_intervals: [always]
          continue: true
        - matchers: [severity=warning]
          receiver: others
    - matchers: ['alertname="NotActive"']
      active_time_intervals: [never]
    - matchers: ['alertname="LetThrough"']
      mute_time_intervals: [never]
    - matchers: ['alertname="TwoWays"']
      mute_time_intervals: [always]
      continue: true
    - matchers: ['alertname="TwoWays"']
    - matchers: ['alertname="Elsewhere"']
      receiver: others
inhibit_rules:
  - source_matchers: ['alertname="Elsewhere"']
    target_matchers: ['alertname="Inhibited"']
receivers:
  - name: others
  - name: hook
    webhook_configs: [{url: "http://127.0.0.1:1/webhooks/alertmanager", send_resolved: true}]
time_intervals:
  - name: always
    time_intervals: [{times: [{start_time: "00:00", end_time: "24:00"}]}]
  - name: never
    time_intervals: [{years: ["1990"]}]
"#;

/// Alerts that nobody of ours is told of, and alerts whose webhooks were lost.
const KEPT_BACK: [&str; 8] = [
    "Muted",
    "MutedByOldMatch",
    "MutedByExpression",
    "NestedMuted",
    "NotActive",
    "Silenced",
    "Inhibited",
    "Elsewhere",
];
const LOST: [&str; 2] = ["Plain", "TwoWays"];
/// Groups that are muted: each alert is one, and of `TwoWays` one of two.
const MUTED_GROUPS: usize = 6;
/// Its route has an interval that lets it through, which only newer Alertmanagers say.
const LET_THROUGH: &str = "LetThrough";

async fn fire(peers: &[Peer]) {
    let now = SystemClock.now();
    let silence = json!({
        "matchers": [{"name": "alertname", "value": "Silenced", "isRegex": false}],
        "startsAt": now, "endsAt": now + SignedDuration::from_hours(1), "createdBy": "a person", "comment": "known",
    });
    peers[0].post("silences", &silence).await;
    let alerts: Vec<_> = KEPT_BACK
        .into_iter()
        .chain(LOST)
        .chain([LET_THROUGH])
        .map(|name| json!({"labels": {"alertname": name, "severity": "warning"}, "endsAt": now + SignedDuration::from_hours(1)}))
        .collect();
    // Prometheus sends every alert to each Alertmanager of a cluster.
    for peer in peers {
        peer.post("alerts", &Value::from(alerts.clone())).await;
    }
}

async fn names(site: &Sandbox) -> Vec<String> {
    let incidents = site.get("/api/incidents").await.unwrap();
    let mut names: Vec<_> = incidents
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["alert_name"].as_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

/// The story, with Alertmanagers of one version that run at these addresses.
async fn only_lost_ones_open_incidents(urls: &[String], tells_of_intervals: bool) {
    let listed = urls.iter().map(|url| format!("\"{url}\"")).collect::<Vec<_>>().join(", ");
    let peers: Vec<_> = urls.iter().map(|url| Peer::at(url.clone())).collect();
    // A silence is known to all before anything is compared.
    fire(&peers).await;
    let silenced = until("the silence and the inhibition to be known everywhere", WITHIN, async || {
        for peer in &peers {
            let url = format!("{}/api/v2/alerts?active=true&silenced=true&inhibited=true", peer.url);
            let alerts = peer.asking.get(&url).await.map_err(|error| error.to_string())?;
            let alerts = alerts.as_array().cloned().unwrap_or_default();
            let suppressed = alerts.iter().filter(|one| one["status"]["state"] == "suppressed").count();
            if suppressed != 2 {
                return Err(format!("{alerts:#?}"));
            }
            // What the groups say is as of the last time that they were due: with the coordinator's patience of nothing but that they
            // have to have been due once.
            let groups = peer.asking.get(&format!("{}/api/v2/alerts/groups", peer.url)).await;
            let groups = groups.map_err(|error| error.to_string())?;
            let muted = groups.as_array().into_iter().flatten().filter(|group| {
                group["alerts"][0]["status"]["mutedBy"].as_array().is_some_and(|by| !by.is_empty())
            });
            if tells_of_intervals && muted.count() != MUTED_GROUPS {
                return Err(format!("{groups:#?}"));
            }
        }
        Ok(())
    });
    silenced.await.unwrap_or_else(|error| panic!("{error}"));
    let site = coordinator(&format!("alert_manager_urls: [{listed}]"), "").await;
    let mut wanted: Vec<String> = LOST.iter().map(|name| (*name).to_owned()).collect();
    if tells_of_intervals {
        wanted.push(LET_THROUGH.to_owned());
    }
    wanted.sort();
    let opened = until("the incidents of the lost webhooks", WITHIN, async || {
        let names = names(&site).await;
        if wanted.iter().all(|name| names.contains(name)) { Ok(()) } else { Err(format!("{names:?}")) }
    });
    opened.await.unwrap_or_else(|error| panic!("{error}"));
    for _ in 0..3 {
        rounds(&site, "quell_reconcile_rounds", "complete").await;
    }
    assert_eq!(names(&site).await, wanted);
}

/// Every Alertmanager that is there, and whether it says which groups are muted.
fn versions() -> Vec<(Programs, bool)> {
    let found = Programs::alertmanagers();
    if found.is_empty() {
        println!("skipped: what a real Alertmanager keeps back: there is none");
    }
    if found.len() == 1 {
        println!(
            "skipped: what Alertmanager 0.28 keeps back: only one version is there; `cargo xtask test` fetches it on Debian 12"
        );
    }
    found
        .into_iter()
        .map(|programs| {
            let output =
                std::process::Command::new(programs.alertmanager()).arg("--version").output().unwrap();
            let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            let version = said.split("version 0.").nth(1).unwrap_or_default();
            let minor: u32 = version.split('.').next().unwrap_or_default().parse().unwrap_or(0);
            assert!(minor > 0, "{said}");
            (programs, minor >= 28)
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_alertmanager_keeps_back_opens_no_incident() {
    for (programs, tells) in versions() {
        let folder = TempDir::new().unwrap();
        let mut server = Server::alertmanager(&programs, folder.path(), CONFIG).unwrap();
        server.start().await.unwrap_or_else(|error| panic!("{error}"));
        only_lost_ones_open_incidents(&[server.url()], tells).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_pair_of_alertmanagers_keeps_back_opens_no_incident() {
    for (programs, tells) in versions() {
        let gossip: [SocketAddr; 2] = free_addresses().unwrap();
        let folders = [TempDir::new().unwrap(), TempDir::new().unwrap()];
        let mut servers: Vec<_> = folders
            .iter()
            .zip([(gossip[0], gossip[1]), (gossip[1], gossip[0])])
            .map(|(folder, (own, peer))| {
                Server::alertmanager(&programs, folder.path(), CONFIG).unwrap().in_cluster(own, peer)
            })
            .collect();
        for server in &mut servers {
            server.start().await.unwrap_or_else(|error| panic!("{error}"));
        }
        let urls: Vec<_> = servers.iter().map(Server::url).collect();
        only_lost_ones_open_incidents(&urls, tells).await;
    }
}
