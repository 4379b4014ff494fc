//! What goes over A2A: opening, approving, denying, following.

mod support;

use insta::assert_snapshot;
use quell_a2a::TaskState;
use serde_json::{Value, json};
use support::fixtures::{self, DATABASE, DISK, MEMORY};
use support::{Coordinator, Told, World};

fn world() -> World {
    World { incidents: vec![fixtures::memory(), fixtures::database(), fixtures::disk()], ..World::default() }
}

fn event(at: &str, kind: &str, text: &str) -> Value {
    json!({"at": at, "actor": "workflow", "type": kind, "text": text})
}

fn told(state: TaskState, status: &str, event: Value) -> Told {
    Told::Event {
        state,
        data: json!({"status": status, "phase": "x", "summary": event["text"], "event": event}),
    }
}

#[tokio::test]
async fn an_approval_shows_the_plan_and_asks() {
    let coordinator = Coordinator::start(world()).await;
    let ran = coordinator.quell_typing(&["incident", "approve", "3f2a9c"], "y\n").await;
    assert_snapshot!(ran.told(&coordinator), @r##"
    exit 0
    --- out
    003f2a9c  P0 Database connection timeout on db-server-01[2J: investigating, carries out: raise the connection pool
    --- error
    003f2a9c  P0 Database connection timeout on db-server-01[2J: investigating, waits for approval: raise the connection pool
      cause      connection_pool_exhausted, confidence 0.92: the connection pool of db-server-01 is exhausted
      answer     until 2026-05-01 12:15:00 UTC (in 5m); no answer is a no

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

    Approve exactly this plan? [y/N]
    "##);
    let digest = fixtures::plan().1;
    assert_eq!(coordinator.world().decisions, [json!({"decision": "approve", "plan_digest": digest})]);
}

#[tokio::test]
async fn anything_but_yes_is_no() {
    let coordinator = Coordinator::start(world()).await;
    for typed in ["\n", "n\n", "yep\n", ""] {
        let ran = coordinator.quell_typing(&["incident", "approve", "3f2a9c"], typed).await;
        assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{typed:?}");
        assert!(ran.error.contains("not approved; nothing was sent"), "{}", ran.error);
    }
    assert!(coordinator.world().decisions.is_empty());
}

#[tokio::test]
async fn without_a_terminal_nobody_is_asked() {
    let coordinator = Coordinator::start(world()).await;
    let ran = coordinator.quell(&["incident", "approve", "3f2a9c"]).await;
    assert_snapshot!(ran.told(&coordinator), @r##"
    exit 2
    --- out
    --- error
    error: standard input is not a terminal, so nobody can be asked
      run it on a terminal, or add --yes, best together with --digest
    "##);
    let digest = fixtures::plan().1;
    let ran = coordinator
        .quell(&["incident", "approve", "3f2a9c", "--yes", "--digest", &digest[..12], "-o", "json"])
        .await;
    assert_eq!((ran.code, &ran.json()["phase"]), (0, &json!("executing")), "{}", ran.error);
}

#[tokio::test]
async fn a_pinned_digest_must_be_the_plan_that_waits() {
    let coordinator = Coordinator::start(world()).await;
    let ran =
        coordinator.quell(&["incident", "approve", "3f2a9c", "--yes", "--digest", "000000000000"]).await;
    assert_snapshot!(ran.told(&coordinator), @r##"
    exit 3
    --- out
    --- error
    error: the plan that waits is aa7b4c514ca552fdfbb0b8dcaff3c2b9cb2bb2018d4b8d9bb26540181b0faade, not 000000000000
      look at it with quell incident show 003f2a9c, then decide again
    "##);
    assert_eq!(
        coordinator.quell(&["incident", "approve", "3f2a9c", "--yes", "--digest", "4be1"]).await.code,
        2
    );
    assert!(coordinator.world().decisions.is_empty());
}

/// What is approved is what was shown: a plan under a digest that is not its own is not shown for approval.
#[tokio::test]
async fn a_plan_that_is_not_its_digest_is_refused() {
    let coordinator = Coordinator::start(world()).await;
    let pointer = "/plan/plan/steps/0/call/arguments/pool_size";
    *coordinator.world().incident(DATABASE).unwrap().pointer_mut(pointer).unwrap() = json!(2000);
    let ran = coordinator.quell(&["incident", "approve", "3f2a9c", "--yes"]).await;
    assert_eq!(ran.code, 1);
    assert!(ran.error.starts_with("error: the plan does not have the digest"), "{}", ran.error);
    assert!(coordinator.world().decisions.is_empty());
    let shown = coordinator.quell(&["incident", "show", "3f2a9c"]).await;
    assert_eq!(shown.code, 0);
    assert!(shown.out.contains("PLAN  the plan does not have the digest"), "{}", shown.out);
}

#[tokio::test]
async fn nothing_to_approve() {
    let coordinator = Coordinator::start(world()).await;
    let ran = coordinator.quell(&["incident", "approve", MEMORY, "--yes"]).await;
    assert_snapshot!(ran.told(&coordinator), @r##"
    exit 3
    --- out
    --- error
    error: incident 007b44d1 does not wait for an approval: investigating, looking for the root cause
      quell incident show 007b44d1 tells more
    "##);
}

#[tokio::test]
async fn a_denial_carries_its_reason() {
    let coordinator = Coordinator::start(world()).await;
    assert_eq!(coordinator.quell(&["incident", "deny", "3f2a9c"]).await.code, 2, "a reason is needed");
    let ran =
        coordinator.quell(&["incident", "deny", "3f2a9c", "--why", "the database is being moved"]).await;
    assert_snapshot!(ran.told(&coordinator), @r##"
    exit 0
    --- out
    003f2a9c  P0 Database connection timeout on db-server-01[2J: investigating, a person must decide: ada denied the plan: the database is being moved
    --- error
    "##);
    let expected =
        json!({"decision": "deny", "plan_digest": fixtures::plan().1, "why": "the database is being moved"});
    assert_eq!(coordinator.world().decisions, [expected]);
}

#[tokio::test]
async fn templates_open_incidents() {
    let coordinator = Coordinator::start(World::default()).await;
    for template in ["database", "api", "memory", "disk", "ssl"] {
        let ran = coordinator.quell(&["incident", "create", "--template", template]).await;
        assert_eq!(ran.code, 0, "{}", ran.error);
    }
    let ran = coordinator.quell(&["incident", "list"]).await;
    assert_snapshot!(ran.out, @r##"
    ID        PRI  STATUS  OPENED   TITLE                                        NOW
    0000abc4  P2   open    30s ago  Certificate expiring soon on api-gateway-01  taken; waits a moment for what belongs to it
    0000abc3  P1   open    30s ago  Disk space critical on storage-node-01       taken; waits a moment for what belongs to it
    0000abc2  P2   open    30s ago  High memory usage on app-server-01           taken; waits a moment for what belongs to it
    0000abc1  P0   open    30s ago  API gateway 503 errors on api-gateway-01     taken; waits a moment for what belongs to it
    0000abc0  P0   open    30s ago  Database connection timeout on db-server-01  taken; waits a moment for what belongs to it
    "##);
}

#[tokio::test]
async fn the_same_message_opens_one_incident() {
    let coordinator = Coordinator::start(World::default()).await;
    let create = [
        "incident",
        "create",
        "--title",
        "Checkout is slow",
        "--severity",
        "high",
        "--message-id",
        "m-1",
        "-o",
        "json",
    ];
    let first = coordinator.quell(&create).await.json();
    assert_eq!((&first["title"], &first["priority"]), (&json!("Checkout is slow"), &json!("P1")));
    assert_eq!(coordinator.quell(&create).await.json()["id"], first["id"]);
    assert_eq!(coordinator.world().incidents.len(), 1);
    let other = coordinator.quell(&["incident", "create", "--title", "Other", "--message-id", "m-1"]).await;
    assert_eq!((other.code, other.out.as_str()), (2, ""));
    assert!(other.error.contains("was used for another content"), "{}", other.error);
}

#[tokio::test]
async fn watching_tells_what_happens_and_ends() {
    let mut world = world();
    world.script = [
        told(
            TaskState::Working,
            "investigating",
            event("2026-05-01T12:06:00Z", "approved", "ada approved the plan"),
        ),
        Told::Missed(event("2026-05-01T12:06:10Z", "step_ended", "step raise-pool done")),
        Told::Break,
        told(
            TaskState::Working,
            "resolved",
            event("2026-05-01T12:08:00Z", "resolved", "resolved by runbook database-pool"),
        ),
        told(
            TaskState::Completed,
            "closed",
            event("2026-05-01T12:18:00Z", "closed", "closed; it was resolved"),
        ),
    ]
    .into();
    let coordinator = Coordinator::start(world).await;
    let ran = coordinator.quell(&["incident", "watch", "3f2a9c"]).await;
    assert_snapshot!(ran.told(&coordinator), @r##"
    exit 0
    --- out
    003f2a9c  P0 Database connection timeout on db-server-01[2J: investigating, waits for approval: raise the connection pool
    12:05:00  alertmanager  opened by alertmanager: Database connection timeout
    12:05:10  diagnostic    root cause connection_pool_exhausted
    12:05:20  workflow      approval of the plan asked
    12:06:00  workflow      ada approved the plan
    12:06:10  workflow      step raise-pool done
    12:08:00  workflow      resolved by runbook database-pool
    12:18:00  workflow      closed; it was resolved
    --- error
    note: connection lost, trying again: the agent drains
    "##);
    assert_eq!(coordinator.world().subscriptions, 2);
}

#[tokio::test]
async fn watching_ends_where_it_is_told_to() {
    let mut world = world();
    world.script = [
        told(TaskState::Working, "resolved", event("2026-05-01T12:08:00Z", "resolved", "resolved by hand")),
        told(TaskState::Completed, "closed", event("2026-05-01T12:18:00Z", "closed", "closed")),
    ]
    .into();
    let coordinator = Coordinator::start(world).await;
    let ran = coordinator.quell(&["incident", "watch", "3f2a9c", "--until", "resolved", "-o", "json"]).await;
    assert_eq!(ran.code, 0, "{}", ran.error);
    let lines: Vec<Value> = ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<_> = lines.iter().map(|line| line["event"]["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["opened", "diagnosed", "approval_asked", "resolved"]);
    assert_eq!((&lines[3]["status"], &lines[3]["summary"]), (&json!("resolved"), &json!("resolved by hand")));

    let coordinator = Coordinator::start(self::world()).await;
    let ran = coordinator.quell(&["incident", "watch", "3f2a9c", "--until", "question"]).await;
    assert_eq!((ran.code, ran.error.as_str()), (0, ""), "it asks already");
}

#[tokio::test]
async fn watching_what_is_over_tells_its_timeline() {
    let coordinator = Coordinator::start(world()).await;
    let ran = coordinator.quell(&["incident", "watch", DISK]).await;
    assert_snapshot!(ran.told(&coordinator), @r##"
    exit 0
    --- out
    00c05e77  P1 Disk space critical on storage-node-01: closed, resolved by runbook disk-clean-up
    08:16:00  workflow      closed; it was resolved
    --- error
    "##);
}

#[tokio::test]
async fn watching_gives_up_in_time() {
    let coordinator = Coordinator::start(world()).await;
    let ran = coordinator.quell(&["incident", "watch", MEMORY, "--timeout", "1s"]).await;
    assert_eq!(ran.code, 1);
    assert!(ran.error.contains("error: not closed within 1 s: looking for the root cause"), "{}", ran.error);
}
