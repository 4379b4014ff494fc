//! What is refused, logged and kept.

use quell_simulator::world::{ACTIONS_MAX, LOG_LINES_MAX, Level, Operation, RUNAWAY_JOB, Refusal, Scenario};
use serde_json::json;

use super::lab::*;

#[test]
fn what_does_not_fit_changes_nothing_and_is_not_recorded() {
    let invalid = [
        ("db-server-01", settings(json!({}))),
        ("db-server-01", settings(json!({ "pool_size": "20" }))),
        ("db-server-01", settings(json!({ "pool_size": 0 }))),
        ("db-server-01", settings(json!({ "pool_size": 20.5 }))),
        ("db-server-01", settings(json!({ "connection_timeout": 30, "colour": 1 }))),
        ("order_service", settings(json!({ "log_level": "x".repeat(300) }))),
        ("order_service", Operation::Replicas(21)),
        ("order_service", stop_job("no-such-job")),
        ("storage-node-01", clean("/")),
        ("storage-node-01", clean("/data/../var/log")),
    ];
    let mut lab = Lab::new(TICKS[0]);
    let before = lab.world.targets();
    for (target, operation) in invalid {
        let refusal = lab.act(target, &operation).unwrap_err();
        assert!(matches!(refusal, Refusal::Invalid(_)), "{operation:?} on {target}: {refusal}");
    }
    let refusal = lab.act("nobody", &Operation::Restart).unwrap_err();
    assert_eq!(refusal, Refusal::UnknownTarget { name: "nobody".to_owned() });
    let refusal = lab.act("postgres-01", &Operation::Restart).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "target postgres-01 is a postgres and has no operation \"restart\"; it has: end-idle-sessions"
    );
    assert_eq!(lab.world.targets(), before);
    assert_eq!(lab.world.actions().iter().count(), 0);
}

#[test]
fn each_fault_speaks_in_every_tick_and_is_silent_afterwards() {
    let words = [
        (Scenario::DatabaseTimeout, "acquiring connection from pool", Level::Error),
        (Scenario::MemoryLeak, "GC pause", Level::Warn),
        (Scenario::HighCpu, RUNAWAY_JOB, Level::Warn),
        (Scenario::Api503, "upstream connect error", Level::Error),
        (Scenario::DiskFull, "No space left on device", Level::Error),
        (Scenario::CertificateExpiry, "certificate expires in 2 days 23 hours", Level::Warn),
        (Scenario::KafkaLag, "consumer lag", Level::Warn),
        (Scenario::PostgresConnections, "remaining connection slots are reserved", Level::Error),
    ];
    for (scenario, words, level) in words {
        let mut lab = Lab::new(TICKS[1]);
        let said = |lab: &Lab, position| {
            lab.world
                .logs()
                .after(position)
                .filter(|line| line.level == level && line.message.contains(words))
                .count()
        };
        lab.run(30);
        assert_eq!(said(&lab, 0), 0, "{scenario:?} is silent while all is well");
        lab.world.trigger(lab.now, scenario, None);
        for _ in 0..20 {
            let position = lab.world.logs().written();
            lab.tick();
            assert_eq!(said(&lab, position), 1, "{scenario:?}");
        }
        lab.world.resolve_all(lab.now);
        let position = lab.world.logs().written();
        lab.run(30);
        assert_eq!(said(&lab, position), 0, "{scenario:?}");
    }
}

#[test]
fn noise_comes_about_once_a_second_with_harmless_errors() {
    for tick in TICKS {
        let mut lab = Lab::new(tick);
        lab.run(1_200);
        assert!((900..1_500).contains(&lab.world.logs().written()), "{} lines", lab.world.logs().written());
        for level in [Level::Info, Level::Warn, Level::Error] {
            assert!(lab.world.logs().iter().any(|line| line.level == level), "{level:?}");
        }
    }
}

#[test]
fn records_are_bounded() {
    let mut lab = Lab::new(TICKS[0]);
    for _ in 0..ACTIONS_MAX + 5 {
        lab.act("search_service", &Operation::Restart).unwrap();
    }
    assert_eq!(lab.world.actions().iter().count(), ACTIONS_MAX);
    assert_eq!(lab.world.actions().iter().next().unwrap().id, 6);
    for _ in 0..ACTIONS_MAX {
        lab.act("search_service", &Operation::Restart).unwrap();
    }
    assert_eq!(lab.world.logs().iter().count(), LOG_LINES_MAX);
    assert_eq!(lab.world.logs().after(lab.world.logs().written() - 3).count(), 3);
}

#[test]
fn the_same_seed_and_calls_give_the_same_world() {
    let run = || {
        let mut lab = Lab::broken(Scenario::MemoryLeak);
        lab.run(60);
        lab.act("order_service", &Operation::Restart).unwrap();
        lab.run(60);
        format!("{:?}", lab.world)
    };
    assert_eq!(run(), run());
}
