//! Which action ends which fault.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use quell_simulator::world::{Ending, Operation, RUNAWAY_JOB, Refusal, Scenario, TARGET_NAMES};
use serde_json::json;

use super::lab::*;

/// Something of every operation on every target that has it, with arguments that heal and some that do not.
fn everything_that_can_be_done() -> Vec<(&'static str, Operation)> {
    let lab = Lab::new(TICKS[0]);
    let mut all = Vec::new();
    for target in TARGET_NAMES {
        for name in lab.world.kind(target).unwrap().operations() {
            match *name {
                "config" if target == "db-server-01" => {
                    all.push((target, settings(json!({ "connection_timeout": 30, "pool_size": 20 }))));
                    all.push((target, settings(json!({ "pool_size": 40 }))));
                }
                "config" => all.push((target, settings(json!({ "worker_threads": 16 })))),
                "restart" => all.push((target, Operation::Restart)),
                "replicas" => {
                    all.extend([0, 3, 4, 5, 6, 20].map(|count| (target, Operation::Replicas(count))))
                }
                "clean" => all.extend(["/data", "/data/", "/var/log"].map(|path| (target, clean(path)))),
                "renew" => all.push((target, Operation::Renew)),
                "end-idle-sessions" => all.push((target, Operation::EndIdleSessions)),
                "stop-job" if target == "order_service" => {
                    all.extend([RUNAWAY_JOB, "cache-warmer"].map(|job| (target, stop_job(job))));
                }
                "stop-job" => {}
                other => panic!("{other} is not covered"),
            }
        }
    }
    all
}

#[test]
fn only_the_right_action_heals() {
    for scenario in Scenario::ALL {
        let heals = |target: &str, operation: &Operation| match (scenario, target, operation) {
            (Scenario::MemoryLeak, "order_service", Operation::Restart)
            | (Scenario::Api503, "catalog_service", Operation::Restart)
            | (Scenario::CertificateExpiry, "api.example.com", Operation::Renew)
            | (Scenario::PostgresConnections, "postgres-01", Operation::EndIdleSessions) => true,
            (Scenario::HighCpu, "order_service", Operation::Replicas(count))
            | (Scenario::Api503, "api-gateway-01", Operation::Replicas(count)) => *count >= 4,
            (Scenario::HighCpu, "order_service", Operation::StopJob(job)) => job == RUNAWAY_JOB,
            (Scenario::KafkaLag, "email-service", Operation::Replicas(count)) => *count >= 6,
            (Scenario::DiskFull, "storage-node-01", Operation::Clean(path)) => path.starts_with("/data"),
            _ => false,
        };
        for (target, operation) in everything_that_can_be_done() {
            let mut lab = Lab::broken(scenario);
            let done = match lab.act(target, &operation) {
                Ok(action) => action,
                // The runaway job only runs while it is the fault.
                Err(Refusal::Invalid(_)) => {
                    assert!(scenario != Scenario::HighCpu && operation == stop_job(RUNAWAY_JOB));
                    continue;
                }
                Err(refusal) => panic!("{refusal}"),
            };
            let expected = heals(target, &operation);
            assert_eq!(done.healed, expected.then_some(scenario), "{scenario:?}: {operation:?} on {target}");
            assert_eq!(lab.world.is_active(scenario), !expected);
            let status = &lab.world.scenarios()[scenario as usize];
            assert_eq!(status.healed_by, expected.then_some(done.id));
            assert_eq!(status.ended, expected.then_some(Ending::Healed));
            // Lag drains within a few ticks, everything else is normal at the next.
            lab.run(if scenario == Scenario::KafkaLag { 20 } else { 5 });
            let left = symptoms(&mut lab);
            assert_eq!(left.contains(&scenario), !expected, "{scenario:?}: {operation:?} on {target}");
        }
    }
}

#[test]
fn the_database_needs_both_settings_and_then_the_restart() {
    let timeout = || settings(json!({ "connection_timeout": 30 }));
    let pool = || settings(json!({ "pool_size": 20 }));
    let both = || settings(json!({ "connection_timeout": 45, "pool_size": 50 }));
    let restart = || ("order_service", Operation::Restart);
    let db = |operation| ("db-server-01", operation);
    let cases = [
        (vec![db(timeout()), db(pool()), restart()], true),
        (vec![db(both()), restart()], true),
        (vec![restart(), db(both())], false),
        (vec![db(timeout()), restart()], false),
        (vec![db(pool()), restart()], false),
        (vec![db(both()), ("db-server-01", Operation::Restart)], false),
        (vec![db(both()), ("catalog_service", Operation::Restart)], false),
        (vec![db(both()), db(settings(json!({ "pool_size": 19 }))), restart()], false),
        (vec![restart(), db(timeout()), restart(), db(pool()), restart()], true),
    ];
    for (actions, heals) in cases {
        let mut lab = Lab::broken(Scenario::DatabaseTimeout);
        for (target, operation) in &actions {
            lab.act(target, operation).unwrap();
            lab.tick();
        }
        assert_eq!(lab.world.is_active(Scenario::DatabaseTimeout), !heals, "{actions:?}");
        assert_eq!(symptoms(&mut lab).is_empty(), heals, "{actions:?}");
    }
}

#[test]
fn the_pool_messages_change_only_when_the_service_has_read_its_settings() {
    let mut lab = Lab::broken(Scenario::DatabaseTimeout);
    let newest = |lab: &Lab| {
        let mut lines = lab.world.logs().iter().rev();
        lines.find(|line| line.message.starts_with("connection timeout")).unwrap().message.clone()
    };
    assert!(
        newest(&lab)
            .starts_with("connection timeout after 10000 ms acquiring connection from pool (size=10 ")
    );
    lab.act("db-server-01", &settings(json!({ "pool_size": 15 }))).unwrap();
    lab.tick();
    assert!(newest(&lab).contains("size=10 "));
    lab.act("order_service", &Operation::Restart).unwrap();
    lab.tick();
    assert!(newest(&lab).contains("size=15 "));
}

#[test]
fn one_restart_can_heal_two_faults() {
    let mut lab = Lab::broken(Scenario::DatabaseTimeout);
    lab.world.trigger(lab.now, Scenario::MemoryLeak, None);
    let first = lab.act("order_service", &Operation::Restart).unwrap();
    assert_eq!(first.healed_all, [Scenario::MemoryLeak]);
    lab.world.trigger(lab.now, Scenario::MemoryLeak, None);
    lab.act("db-server-01", &settings(json!({ "connection_timeout": 30, "pool_size": 20 }))).unwrap();
    let second = lab.act("order_service", &Operation::Restart).unwrap();
    assert_eq!(second.healed_all, [Scenario::DatabaseTimeout, Scenario::MemoryLeak]);
    assert_eq!(second.healed, Some(Scenario::DatabaseTimeout));
    assert_eq!(symptoms(&mut lab), BTreeSet::new());
}

#[test]
fn a_restart_begins_memory_and_processor_time_anew() {
    let mut lab = Lab::new(TICKS[0]);
    lab.run(600);
    let (cpu, timeouts) = (lab.value(CPU), lab.value(TIMEOUTS));
    let done = lab.act("order_service", &Operation::Restart).unwrap();
    assert_eq!(lab.value(CPU), 0.0);
    assert!(cpu > 1.0 && lab.value(TIMEOUTS) == timeouts, "only its own counters begin anew");
    assert_eq!(done.to, json!({ "started_at": lab.now }));
    assert_ne!(done.from, done.to);
}

#[test]
fn expired_faults_give_nobody_the_credit() {
    for scenario in Scenario::ALL {
        let mut lab = Lab::new(TICKS[0]);
        let status = lab.world.trigger(lab.now, scenario, Some(62.0)).clone();
        assert_eq!(status.until, Some(lab.now + SignedDuration::from_secs(62)));
        lab.run(60);
        assert!(lab.world.is_active(scenario));
        // Between the end and the next tick.
        lab.now += SignedDuration::from_secs(3);
        for (target, operation) in everything_that_can_be_done() {
            if let Ok(action) = lab.act(target, &operation) {
                assert_eq!(action.healed, None, "{scenario:?}");
            }
        }
        let status = &lab.world.scenarios()[scenario as usize];
        assert_eq!((status.active, status.ended, status.healed_by), (false, Some(Ending::Expired), None));
        assert_eq!(status.ended_at, status.until);
        lab.run(30);
        assert_eq!(symptoms(&mut lab), BTreeSet::new(), "{scenario:?}");
    }
}

#[test]
fn a_reset_ends_everything_and_is_counted() {
    let mut lab = Lab::new(TICKS[0]);
    for scenario in Scenario::ALL {
        lab.world.trigger(lab.now, scenario, None);
    }
    lab.run(60);
    assert_eq!(lab.world.resolve_all(lab.now), Scenario::ALL);
    assert_eq!(lab.world.resets(), 1);
    assert!(lab.world.scenarios().iter().all(|status| status.ended == Some(Ending::Reset)));
    assert_eq!(lab.world.actions().iter().count(), 0);
    lab.run(30);
    assert_eq!(symptoms(&mut lab), BTreeSet::new());
}

#[test]
fn a_healed_fault_can_be_triggered_again_and_is_a_fault_again() {
    let repairs = [
        (
            Scenario::DatabaseTimeout,
            vec![
                ("db-server-01", settings(json!({ "connection_timeout": 30, "pool_size": 20 }))),
                ("order_service", Operation::Restart),
            ],
        ),
        (Scenario::HighCpu, vec![("order_service", Operation::Replicas(8))]),
        (Scenario::Api503, vec![("api-gateway-01", Operation::Replicas(4))]),
        (Scenario::KafkaLag, vec![("email-service", Operation::Replicas(6))]),
        (Scenario::DiskFull, vec![("storage-node-01", clean("/data"))]),
        (Scenario::PostgresConnections, vec![("postgres-01", Operation::EndIdleSessions)]),
        (Scenario::CertificateExpiry, vec![("api.example.com", Operation::Renew)]),
    ];
    for (scenario, repair) in repairs {
        let mut lab = Lab::broken(scenario);
        for round in 0..2 {
            for (target, operation) in &repair {
                lab.act(target, operation).unwrap();
            }
            assert!(!lab.world.is_active(scenario), "{scenario:?} in round {round}");
            lab.run(30);
            assert_eq!(symptoms(&mut lab), BTreeSet::new());
            lab.world.trigger(lab.now, scenario, None);
            // What was right before is no longer.
            if scenario == Scenario::DatabaseTimeout {
                lab.act("order_service", &Operation::Restart).unwrap();
            }
            assert_eq!(symptoms(&mut lab), BTreeSet::from([scenario]), "round {round}");
        }
    }
}

#[test]
fn triggering_an_active_fault_only_restarts_its_clock() {
    let mut lab = Lab::new(TICKS[0]);
    lab.world.trigger(lab.now, Scenario::DatabaseTimeout, Some(60.0));
    lab.act("db-server-01", &settings(json!({ "pool_size": 20 }))).unwrap();
    lab.run(30);
    let status = lab.world.trigger(lab.now, Scenario::DatabaseTimeout, None).clone();
    assert_eq!((status.triggered_at, status.until), (Some(lab.now), None));
    assert_eq!(lab.world.target("db-server-01").unwrap()["config"]["pool_size"], 20);
    lab.run(120);
    assert!(lab.world.is_active(Scenario::DatabaseTimeout));
}

#[test]
fn a_trigger_undoes_what_an_earlier_repair_had_made_large_enough_and_says_so() {
    let large = settings(json!({ "connection_timeout": 60, "pool_size": 60 }));
    let cases = [
        (
            Scenario::DatabaseTimeout,
            "db-server-01",
            large,
            "/config/pool_size",
            json!(10),
            "configuration reset",
        ),
        (Scenario::HighCpu, "order_service", Operation::Replicas(8), "/replicas", json!(2), "scaled to 2"),
        (
            Scenario::HighCpu,
            "order_service",
            stop_job("cache-warmer"),
            "/jobs/1/name",
            json!(RUNAWAY_JOB),
            "started",
        ),
        (Scenario::Api503, "api-gateway-01", Operation::Replicas(8), "/replicas", json!(2), "scaled to 2"),
        (Scenario::Api503, "search_service", Operation::Restart, "/ready_replicas", json!(2), "scaled to 2"),
        (
            Scenario::KafkaLag,
            "email-service",
            Operation::Replicas(8),
            "/replicas",
            json!(1),
            "scale-down to 1",
        ),
    ];
    for (scenario, target, operation, field, expected, said) in cases {
        let mut lab = Lab::new(TICKS[0]);
        lab.act(target, &operation).unwrap();
        let position = lab.world.logs().written();
        lab.world.trigger(lab.now, scenario, None);
        assert_eq!(lab.world.target(target).unwrap().pointer(field), Some(&expected), "{scenario:?}");
        assert!(lab.world.logs().after(position).any(|line| line.message.contains(said)), "{scenario:?}");
    }
    let lab = Lab::broken(Scenario::Api503);
    let ready = |target| lab.world.target(target).unwrap()["ready_replicas"].clone();
    assert_eq!((ready("catalog_service"), ready("search_service")), (json!(0), json!(2)));
}
