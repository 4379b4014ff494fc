//! `quell sim` against the real simulator on free ports.

#![allow(clippy::unwrap_used, reason = "helpers of tests, outside of the tests themselves")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use insta::assert_snapshot;
use jiff::Timestamp;
use quell_simulator::{Config, Handle, start};
use serde_json::{Value, json};
use support::{Coordinator, NOW, Ran, World, fixtures, quell};

struct Simulator {
    url: String,
    _handle: Handle,
}

impl Simulator {
    async fn start() -> Self {
        let now: Timestamp = NOW.parse().unwrap();
        let mut config = Config::new(Arc::new(move || now));
        config.metrics_port = 0;
        config.tick = Duration::from_secs(300);
        let handle = start(config).await.unwrap();
        Self { url: format!("http://{}", handle.addresses()[0]), _handle: handle }
    }

    async fn quell(&self, arguments: &[&str]) -> Ran {
        let mut all = vec!["sim", "--simulator-url", &self.url];
        all.extend(arguments);
        quell(&all, None).await
    }

    fn told(&self, ran: &Ran) -> String {
        let text = format!("exit {}\n--- out\n{}--- error\n{}", ran.code, ran.out, ran.error);
        text.replace(&self.url, "[SIMULATOR]")
    }
}

#[tokio::test]
async fn scenarios_are_listed_triggered_and_resolved() {
    let simulator = Simulator::start().await;
    let triggered = simulator.quell(&["trigger", "kafka_lag"]).await;
    assert_snapshot!(simulator.told(&triggered), @r##"
    exit 0
    --- out
    kafka_lag: Consumer lag of email-service, until the right action heals it
    --- error
    "##);
    let listed = simulator.quell(&["list"]).await;
    assert_snapshot!(simulator.told(&listed), @r##"
    exit 0
    --- out
    SCENARIO              STATE   SUGGESTED  LAST  TITLE
    database_timeout      -       60s              Database connection timeouts on db-server-01
    memory_leak           -       120s             Memory leak in order_service
    high_cpu              -       90s              Runaway job burns processor time in order_service
    api_503               -       90s              API gateway answers 503
    disk_full             -       60s              Data disk of storage-node-01 is nearly full
    certificate_expiry    -       120s             Certificate of api.example.com is about to expire
    kafka_lag             active  90s        now   Consumer lag of email-service
    postgres_connections  -       90s              Connections of postgres-01 are nearly used up
    --- error
    "##);
    let active = simulator.quell(&["list", "-o", "json"]).await.json();
    let active: Vec<&Value> = active.as_array().unwrap().iter().filter(|one| one["active"] == true).collect();
    assert_eq!(active.len(), 1);
    assert_eq!(simulator.quell(&["resolve"]).await.out, "ended by hand: kafka_lag\n");
    assert_eq!(simulator.quell(&["resolve"]).await.out, "nothing was broken\n");
}

#[tokio::test]
async fn a_duration_that_cannot_fire_the_alert_is_told() {
    let simulator = Simulator::start().await;
    let ran = simulator.quell(&["trigger", "database_timeout", "--duration", "60s"]).await;
    assert_snapshot!(simulator.told(&ran), @r##"
    exit 0
    --- out
    database_timeout: Database connection timeouts on db-server-01, until 2026-05-01 12:11:00 UTC at most
    --- error
    note: DatabaseConnectionTimeout cannot fire within 60 s: its rule looks back 60 s and must hold for 60 s, 120 s together (range + for), and scrapes and evaluations take their time; 145 s are enough, or no duration at all (with the shipped Prometheus settings)
    "##);
    let long = simulator.quell(&["trigger", "database_timeout", "--duration", "3m"]).await;
    assert_eq!((long.code, long.error.as_str()), (0, ""));
}

#[tokio::test]
async fn what_is_not_there_is_told_with_what_is() {
    let simulator = Simulator::start().await;
    let ran = simulator.quell(&["trigger", "flood"]).await;
    assert_snapshot!(simulator.told(&ran), @r##"
    exit 3
    --- out
    --- error
    error: no scenario is called "flood"; there are: database_timeout, memory_leak, high_cpu, api_503, disk_full, certificate_expiry, kafka_lag, postgres_connections
    "##);
    let without_terminal = simulator.quell(&[]).await;
    assert_snapshot!(simulator.told(&without_terminal), @r##"
    exit 2
    --- out
    --- error
    error: the menu needs a terminal
      name what to do: quell sim list, trigger, resolve or actions
    "##);
}

#[tokio::test]
async fn actions_tell_what_healed() {
    let simulator = Simulator::start().await;
    assert_eq!(simulator.quell(&["actions"]).await.out, "nothing was done yet\n");
    simulator.quell(&["trigger", "memory_leak"]).await;
    let restart = format!("{}/targets/order_service/restart", simulator.url);
    let answer = client().post(restart).send().await.unwrap();
    assert!(answer.status().is_success());
    let ran = simulator.quell(&["actions", "-o", "json"]).await;
    assert_eq!(ran.json()[0]["healed"], json!("memory_leak"));
    let table = simulator.quell(&["actions"]).await.out;
    assert!(table.lines().nth(1).unwrap().ends_with("memory_leak"), "{table}");
}

fn client() -> reqwest::Client {
    // Another test of this process may have chosen it before.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    reqwest::Client::builder().tls_certs_only([]).build().unwrap()
}

#[tokio::test]
async fn the_menu_is_driven_by_numbers() {
    let simulator = Simulator::start().await;
    let coordinator =
        Coordinator::start(World { incidents: vec![fixtures::memory()], ..World::default() }).await;
    // Disk for the suggested seconds, the menu's status, an unknown number, the incidents until Enter, resolve, quit.
    let typed = "5\n\n10\n42\n11\n\n9\n0\n";
    let ran = coordinator.quell_typing(&["sim", "--simulator-url", &simulator.url], typed).await;
    assert_snapshot!(simulator.told(&ran), @r##"
    exit 0
    --- out
    Simulated infrastructure at [SIMULATOR]
        BREAK                                              SUGGESTED
     1  Database connection timeouts on db-server-01       60 s       database_timeout
     2  Memory leak in order_service                       120 s      memory_leak
     3  Runaway job burns processor time in order_service  90 s       high_cpu
     4  API gateway answers 503                            90 s       api_503
     5  Data disk of storage-node-01 is nearly full        60 s       disk_full
     6  Certificate of api.example.com is about to expire  120 s      certificate_expiry
     7  Consumer lag of email-service                      90 s       kafka_lag
     8  Connections of postgres-01 are nearly used up      90 s       postgres_connections
     9  resolve: end every fault by hand
    10  status of the scenarios
    11  monitor active incidents
     0  quit

    choose (Enter shows the menu): for how many seconds? [60, 0: until it is healed] disk_full: Data disk of storage-node-01 is nearly full, until 2026-05-01 12:11:00 UTC at most

    choose (Enter shows the menu): SCENARIO              STATE   SUGGESTED  LAST              TITLE
    database_timeout      -       60s                          Database connection timeouts on db-server-01
    memory_leak           -       120s                         Memory leak in order_service
    high_cpu              -       90s                          Runaway job burns processor time in order_service
    api_503               -       90s                          API gateway answers 503
    disk_full             active  60s        now, ends in 60s  Data disk of storage-node-01 is nearly full
    certificate_expiry    -       120s                         Certificate of api.example.com is about to expire
    kafka_lag             -       90s                          Consumer lag of email-service
    postgres_connections  -       90s                          Connections of postgres-01 are nearly used up

    choose (Enter shows the menu): there is no "42": choose a number from 0 to 11

    choose (Enter shows the menu): active incidents; Enter goes back to the menu
    2026-05-01 12:10:00 UTC  1 active incident
    ID        PRI  STATUS         OPENED   TITLE                               NOW
    007b44d1  P2   investigating  30s ago  High memory usage on app-server-01  looking for the root cause

    choose (Enter shows the menu): ended by hand: disk_full

    choose (Enter shows the menu): --- error
    note: DiskSpaceCritical may not fire within 60 s: its rule must hold for 60 s, and scrapes and evaluations take their time; 85 s are enough, or no duration at all (with the shipped Prometheus settings)
    "##);
}

#[tokio::test]
async fn the_menu_goes_on_after_a_failure_and_ends_with_its_input() {
    let simulator = Simulator::start().await;
    let arguments =
        ["sim", "--simulator-url", &simulator.url, "--url", "http://127.0.0.1:1", "--assume-terminal"];
    let ran = quell(&arguments, Some("m\n1\nsoon\n0\n")).await;
    assert_eq!(ran.code, 0);
    assert!(
        ran.error.starts_with("error: the coordinator at http://127.0.0.1:1 cannot be reached"),
        "{}",
        ran.error
    );
    assert!(ran.out.contains("\"soon\" is not a number of seconds"), "{}", ran.out);
    assert!(
        ran.out.contains(
            "database_timeout: Database connection timeouts on db-server-01, until the right action"
        )
    );
}

#[tokio::test]
async fn a_simulator_that_is_not_there() {
    let ran = quell(&["sim", "list", "--simulator-url", "http://127.0.0.1:1"], None).await;
    assert_snapshot!(format!("exit {}\n{}", ran.code, ran.error), @r##"
    exit 1
    error: the simulator at http://127.0.0.1:1 cannot be reached: Connection refused (os error 111)
      start it with `quell-simulator`, or name another one with --simulator-url or SIMULATOR_URL
    "##);
}
