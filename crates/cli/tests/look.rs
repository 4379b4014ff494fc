//! What is shown: lists, one incident, agents, the kill switch; and what went wrong.

mod support;

use insta::assert_snapshot;
use serde_json::json;
use support::fixtures::{self, DATABASE, DISK, MEMORY};
use support::{Coordinator, World};

fn world() -> World {
    World {
        incidents: vec![fixtures::memory(), fixtures::database(), fixtures::disk()],
        kill_switch: json!({"engaged": false, "why": ""}),
        ..World::default()
    }
}

#[tokio::test]
async fn a_list() {
    let coordinator = Coordinator::start(world()).await;
    let ran = coordinator.quell(&["incident", "list"]).await;
    assert_snapshot!(ran.told(&coordinator), @r##"
    exit 0
    --- out
    ID        PRI  STATUS         OPENED   TITLE                                           NOW
    007b44d1  P2   investigating  30s ago  High memory usage on app-server-01              looking for the root cause
    003f2a9c  P0   investigating  5m ago   Database connection timeout on db-server-01[2J  waits for approval: raise the connection po…
    00c05e77  P1   closed         3d ago   Disk space critical on storage-node-01          resolved by runbook disk-clean-up
    --- error
    "##);
    let wide = coordinator.quell(&["incident", "list", "--wide", "--status", "closed"]).await;
    assert_snapshot!(wide.told(&coordinator), @r##"
    exit 0
    --- out
    ID                                    PRI  STATUS  OPENED  TITLE                                   NOW                                SEVERITY  SYSTEMS          SERVICE
    01969000-3333-7000-8000-000000c05e77  P1   closed  3d ago  Disk space critical on storage-node-01  resolved by runbook disk-clean-up  critical  storage-node-01
    --- error
    "##);
}

#[tokio::test]
async fn filters_reach_the_coordinator() {
    let coordinator = Coordinator::start(world()).await;
    let ids = async |arguments: &[&str]| -> Vec<String> {
        let mut all = vec!["incident", "list", "-o", "json"];
        all.extend(arguments);
        let ran = coordinator.quell(&all).await;
        assert_eq!(ran.code, 0, "{}", ran.error);
        ran.json().as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(&["--status", "Active"]).await, [MEMORY, DATABASE]);
    assert_eq!(ids(&["--priority", "p1"]).await, [DISK]);
    assert_eq!(ids(&["--since", "1h"]).await, [MEMORY, DATABASE]);
    assert_eq!(ids(&["--since", "2026-05-01T12:09:00Z"]).await, [MEMORY]);
    assert_eq!(ids(&["--limit", "1"]).await, [MEMORY]);
}

#[tokio::test]
async fn a_list_of_several_pages_is_read_to_its_end() {
    let coordinator = Coordinator::start(World { page_max: 1, ..world() }).await;
    let all = coordinator.quell(&["incident", "list", "-o", "json"]).await;
    assert_eq!(all.json().as_array().unwrap().len(), 3);
    let some = coordinator.quell(&["incident", "list", "-o", "json", "--limit", "2"]).await;
    assert_eq!(some.json().as_array().unwrap().len(), 2);
    assert_snapshot!(some.error, @r##"
    note: 2 of 3 incidents are shown; --limit 3 shows all
    "##);
}

#[tokio::test]
async fn an_empty_list_says_so_beside_the_output() {
    let coordinator = Coordinator::start(World::default()).await;
    let ran = coordinator.quell(&["incident", "list"]).await;
    assert_snapshot!(ran.told(&coordinator), @r##"
    exit 0
    --- out
    --- error
    no incidents
    "##);
}

#[tokio::test]
async fn one_incident() {
    let coordinator = Coordinator::start(world()).await;
    let ran = coordinator.quell(&["incident", "show", "3f2a9c"]).await;
    assert_snapshot!(ran.told(&coordinator), @r##"
    exit 0
    --- out
    Database connection timeout on db-server-01[2J
    P0 high  investigating (awaiting_approval)  waits for approval: raise the connection pool

      id         01969000-1111-7000-8000-0000003f2a9c
      alert      DatabaseConnectionTimeout (1 of 1 firing)
      affected   db-server-01
      component  database
      tags       database, timeout
      began      2026-05-01 12:04:30 UTC (5m ago)
      opened     2026-05-01 12:05:00 UTC (5m ago) by alertmanager
      changed    2026-05-01 12:05:20 UTC (4m ago)

      Clients of customer_db run into timeouts.

    QUESTION
      approve: raise the connection pool
      approvals  0 of 1
      answer     until 2026-05-01 12:15:00 UTC (in 5m); no answer is a no
      yes        quell incident approve 003f2a9c
      no         quell incident deny 003f2a9c --why ...

    CAUSE  connection_pool_exhausted, confidence 0.92
      the connection pool of db-server-01 is exhausted
      - connections wait longer than the timeout
          m1  0.71 timeouts per second, 0.01 before
              prometheus: db_connection_timeout_total[5m]  12:00:00 to 12:05:00
      suggests   update_config, restart_service
      not seen   loki ({host="db-server-01"}): connection refused

    ALTERNATIVES
      slow_queries, confidence 0.40 (not calibrated): queries are slow by themselves
          not the first because the queries were fast before

    PLAN aa7b4c514ca5  runbook database-pool, for connection_pool_exhausted
      raise the connection pool
      1. raise timeout and pool  on db-server-01, at most 2m
         runs       deployment-system update_config on db-server-01 connection_timeout=30 pool_size=20
         changes    connection_timeout 10 -> 30
                    pool_size 10 -> 20
         undo       deployment-system update_config on db-server-01 connection_timeout=10 pool_size=10
      2. restart order_service  on order_service, at most 1m; not tried twice
         runs       deployment-system restart_service on order_service
         changes    one process restarts
         not known  how long the restart takes
         undo       not needed: a restart leaves nothing behind
      must hold afterwards
         no timeouts: rate of db_connection_timeout_total{instance="db-server-01:9090"} < 0.5
      made       2026-05-01 12:05:18 UTC (4m ago)
      valid      until 2026-05-01 12:35:18 UTC (in 25m)
      by         resolution-1 (ledger ledger-1)
      digest     aa7b4c514ca552fdfbb0b8dcaff3c2b9cb2bb2018d4b8d9bb26540181b0faade

    TIMELINE
      2026-05-01 12:05:00 UTC  alertmanager  opened by alertmanager: Database connection timeout
      2026-05-01 12:05:10 UTC  diagnostic    root cause connection_pool_exhausted
      2026-05-01 12:05:20 UTC  workflow      approval of the plan asked
    --- error
    "##);
}

#[tokio::test]
async fn an_incident_that_is_over() {
    let coordinator = Coordinator::start(world()).await;
    let ran = coordinator.quell(&["incident", "show", "01969000-3333"]).await;
    assert_snapshot!(ran.told(&coordinator), @r##"
    exit 0
    --- out
    Disk space critical on storage-node-01
    P1 critical  closed (closed)  resolved by runbook disk-clean-up

      id         01969000-3333-7000-8000-000000c05e77
      alert      DiskSpaceCritical
      affected   storage-node-01
      component  disk
      tags       disk
      began      2026-05-01 12:09:30 UTC (30s ago)
      opened     2026-04-28 08:00:00 UTC (3d ago) by ada
      changed    2026-05-01 12:09:30 UTC (30s ago)
      resolved   2026-04-28 08:06:00 UTC (3d ago)
      closed     2026-04-28 08:16:00 UTC (3d ago)

      /data is full.

    ACTIONS
      2026-04-28 08:02:00 UTC  done       clean on storage-node-01: 500 -> 3000
      2026-04-28 08:03:00 UTC  failed     update_config on storage-node-01: keep_days 30 -> 7, size 1G -> 1G: read-only

    TIMELINE
      2026-04-28 08:16:00 UTC  workflow  closed; it was resolved

    POST-MORTEM
      # Disk space critical
      - resolved by runbook disk-clean-up
    --- error
    "##);
}

#[tokio::test]
async fn json_is_the_document_of_the_api() {
    let coordinator = Coordinator::start(world()).await;
    let ran = coordinator.quell(&["incident", "show", DATABASE, "-o", "json"]).await;
    assert_eq!(ran.json(), fixtures::database());
    assert!(!ran.out.contains('\u{1b}'));
}

#[tokio::test]
async fn ids_are_found_by_their_ends() {
    let coordinator = Coordinator::start(world()).await;
    for given in ["3f2a9c", "01969000-1", DATABASE, "3F2A9C"] {
        let ran = coordinator.quell(&["incident", "show", given, "-o", "json"]).await;
        assert_eq!(ran.json()["id"], DATABASE, "{given}");
    }
    let several = coordinator.quell(&["incident", "show", "01969000"]).await;
    assert_snapshot!(several.told(&coordinator), @r##"
    exit 2
    --- out
    --- error
    error: "01969000" fits 3 incidents
      give more of the id:
      01969000-2222-7000-8000-0000007b44d1  High memory usage on app-server-01
      01969000-1111-7000-8000-0000003f2a9c  Database connection timeout on db-server-01[2J
      01969000-3333-7000-8000-000000c05e77  Disk space critical on storage-node-01
    "##);
    let none = coordinator.quell(&["incident", "show", "ffff"]).await;
    assert_snapshot!(none.told(&coordinator), @r##"
    exit 3
    --- out
    --- error
    error: no incident has an id that begins or ends with "ffff"
      quell incident list shows what there is
    "##);
    let whole = coordinator.quell(&["incident", "show", "01969000-9999-7000-8000-000000000000"]).await;
    assert_snapshot!(whole.told(&coordinator), @r##"
    exit 3
    --- out
    --- error
    error: there is no incident 01969000-9999-7000-8000-000000000000
      quell incident list shows what there is
    "##);
    let nonsense = coordinator.quell(&["incident", "show", "../agents"]).await;
    assert_snapshot!(nonsense.told(&coordinator), @r##"
    exit 2
    --- out
    --- error
    error: "../agents" is not an incident's id
      an id is hexadecimal, such as 3f2a9c; quell incident list shows them
    "##);
}

#[tokio::test]
async fn agents() {
    let agents = json!([
        {"role": "diagnostic", "url": "127.0.0.1:50052", "reachable": true, "name": "quell-diagnostic", "version": "0.1.0",
         "skills": ["diagnose"], "error": null},
        {"role": "resolution", "url": "http://quell:hunter2@127.0.0.1:50053", "reachable": false, "name": null, "version": null, "skills": [],
         "error": "connection refused"},
    ]);
    let coordinator = Coordinator::start(World { agents, ..world() }).await;
    assert_snapshot!(coordinator.quell(&["agent", "list"]).await.told(&coordinator), @r##"
    exit 0
    --- out
    ROLE        NAME              VERSION  REACHABLE  URL                         SKILLS    ERROR
    diagnostic  quell-diagnostic  0.1.0    yes        127.0.0.1:50052             diagnose
    resolution                             no         http://***@127.0.0.1:50053            connection refused
    --- error
    "##);
}

#[tokio::test]
async fn kill_switch() {
    let coordinator = Coordinator::start(world()).await;
    assert_eq!(
        coordinator.quell(&["kill-switch", "status"]).await.out,
        "not engaged: plans may be carried out\n"
    );
    let on = coordinator.quell(&["kill-switch", "on", "--why", "database move"]).await;
    assert_eq!(on.out, "engaged: nothing is carried out (database move)\n");
    assert_eq!(coordinator.world().kill_switch, json!({"engaged": true, "why": "database move"}));
    assert_eq!(coordinator.quell(&["kill-switch", "on"]).await.code, 2, "a reason is needed");
    let off = coordinator.quell(&["kill-switch", "off", "-o", "json"]).await;
    assert_eq!(off.json(), json!({"engaged": false, "why": ""}));
    // Nobody releases what is not engaged, and nobody is told that it was done.
    let again = coordinator.quell(&["kill-switch", "off", "--why", "once more"]).await;
    assert_eq!(
        (again.code, again.out.as_str()),
        (
            0,
            "nothing was changed: the kill switch was not engaged, and what was said now is not noted\n\
             not engaged: plans may be carried out\n"
        )
    );
    let again = coordinator.quell(&["kill-switch", "off", "-o", "json"]).await;
    assert_eq!(again.json(), json!({"engaged": false, "why": "", "changed": false}));
    assert_eq!(coordinator.world().kill_switch, json!({"engaged": false, "why": ""}));
}

#[tokio::test]
async fn actions_of_the_api() {
    let coordinator = Coordinator::start(world()).await;
    let cases: [(&[&str], &str, serde_json::Value); 11] = [
        (&["ack", "3f2a9c"], "acknowledge", json!({})),
        (&["take-over", "3f2a9c"], "take-over", json!({})),
        (&["hand-back", "3f2a9c"], "hand-back", json!({})),
        (
            &["settle", "3f2a9c", "--happened", "--why", "seen"],
            "settle",
            json!({"happened": true, "why": "seen"}),
        ),
        (
            &["settle", "3f2a9c", "--not-happened", "--why", "seen", "--step", "a/1/b/c/1"],
            "settle",
            json!({"happened": false, "why": "seen", "step": "a/1/b/c/1"}),
        ),
        (&["diagnose", "3f2a9c"], "diagnose", json!({})),
        (&["run", "3f2a9c", "database-pool"], "run", json!({"runbook": "database-pool"})),
        (&["note", "3f2a9c", "the", "supplier", "knows"], "notes", json!({"text": "the supplier knows"})),
        (&["resolve", "3f2a9c"], "resolve", json!({})),
        (&["reopen", "3f2a9c", "--why", "it is back"], "reopen", json!({"why": "it is back"})),
        (&["close", "3f2a9c", "--why", "a test"], "close", json!({"why": "a test"})),
    ];
    for (arguments, verb, body) in cases {
        let mut all = vec!["incident"];
        all.extend(arguments);
        let ran = coordinator.quell(&all).await;
        assert_eq!(ran.code, 0, "{verb}: {}", ran.error);
        let path = format!("/api/incidents/{DATABASE}/{verb}");
        assert_eq!(coordinator.world().requests.last(), Some(&("POST".to_owned(), path, body)));
    }
    let closed = coordinator.quell(&["incident", "show", "3f2a9c", "-o", "json"]).await.json();
    assert_eq!((&closed["status"], &closed["acknowledged_by"]), (&json!("closed"), &json!(["ada"])));
    let again = coordinator.quell(&["incident", "ack", "3f2a9c"]).await;
    assert_snapshot!(again.told(&coordinator), @r##"
    exit 3
    --- out
    --- error
    error: the incident is closed; reopen it to go on
    "##);
}

#[tokio::test]
async fn a_token_is_asked_for_and_taken() {
    let coordinator = Coordinator::start(World { token: Some("s3cret".to_owned()), ..world() }).await;
    let without = coordinator.quell(&["incident", "list"]).await;
    assert_snapshot!(without.told(&coordinator), @r##"
    exit 1
    --- out
    --- error
    error: the coordinator at [URL] does not know you: a bearer token is needed
      give a token that it knows with --token or QUELL_TOKEN
    "##);
    let with = coordinator.quell(&["incident", "list", "--token", "s3cret", "-o", "json"]).await;
    assert_eq!(with.json().as_array().unwrap().len(), 3);
}

/// Colours are for terminals; `CLICOLOR_FORCE` stands for one here, and `NO_COLOR` wins over it.
#[tokio::test]
async fn colours_can_be_refused() {
    let coordinator = Coordinator::start(world()).await;
    let coloured = async |variables: &[(&str, &str)]| {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_quell"));
        command
            .args(["--url", &coordinator.url, "incident", "list"])
            .env_clear()
            .envs(variables.iter().copied());
        String::from_utf8(command.output().await.unwrap().stdout).unwrap().contains('\u{1b}')
    };
    assert!(coloured(&[("CLICOLOR_FORCE", "1")]).await);
    assert!(!coloured(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]).await);
    assert!(!coloured(&[]).await, "a pipe is no terminal");
}
