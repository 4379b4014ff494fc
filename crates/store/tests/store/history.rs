//! Random histories: whatever is asked in whatever order, a store answers as the one in memory does, also when it is closed and
//! opened in between.

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use quell_incident::Incident;
use quell_incident::ids::{Digest, GateEpoch, Revision};
use quell_incident::severity::Priority;
use quell_incident::workflow::Claim;
use quell_incident::{
    Event,
    gate::{KillSwitch, Throw},
};
use quell_store::{
    Append, EmbeddedStore, IncidentStore, MemoryStore, PostgresStore, ReceivedPosition, StoreError,
};

use crate::embedded::reopened;
use crate::fixtures::*;
use crate::{postgres, view};

#[derive(Clone, Debug)]
enum Op {
    Open { number: u64, priority: usize, created: i64, message: Option<u64> },
    Note { number: u64 },
    Stale { number: u64 },
    Illegal { number: u64 },
    Take { number: u64, target: usize, token: u64 },
    Hold { number: u64, target: usize, token: u64 },
    Release { number: u64, target: usize, token: u64 },
    CoolDown { number: u64, target: usize, until: i64 },
    Epoch { number: u64, epoch: u64 },
    Fire { number: u64, alert: u64 },
    Close { number: u64 },
    Receive { number: u64 },
    Correlate { back: usize },
    Switch { epoch: u64, on: bool },
    Reopen { without_index: bool },
}

fn op() -> impl Strategy<Value = Op> {
    let number = 0..6u64;
    let lock = (0..6u64, 0..3usize, 0..4u64);
    prop_oneof![
        4 => (number.clone(), 0..4usize, 0..9i64, prop::option::of(0..4u64))
            .prop_map(|(number, priority, created, message)| Op::Open { number, priority, created, message }),
        4 => number.clone().prop_map(|number| Op::Note { number }),
        1 => number.clone().prop_map(|number| Op::Stale { number }),
        1 => number.clone().prop_map(|number| Op::Illegal { number }),
        4 => lock.clone().prop_map(|(number, target, token)| Op::Take { number, target, token }),
        2 => lock.clone().prop_map(|(number, target, token)| Op::Hold { number, target, token }),
        3 => lock.prop_map(|(number, target, token)| Op::Release { number, target, token }),
        2 => (number.clone(), 0..3usize, 0..60i64)
            .prop_map(|(number, target, until)| Op::CoolDown { number, target, until }),
        1 => (number.clone(), 0..3u64).prop_map(|(number, epoch)| Op::Epoch { number, epoch }),
        3 => (number.clone(), 0..6u64).prop_map(|(number, alert)| Op::Fire { number, alert }),
        2 => number.clone().prop_map(|number| Op::Close { number }),
        3 => number.prop_map(|number| Op::Receive { number }),
        1 => (0..4usize).prop_map(|back| Op::Correlate { back }),
        1 => (0..3u64, any::<bool>()).prop_map(|(epoch, on)| Op::Switch { epoch, on }),
        2 => any::<bool>().prop_map(|without_index| Op::Reopen { without_index }),
    ]
}

/// The append that an operation means for the incident as it stands.
fn append_of(op: &Op, incident: &Incident) -> Append {
    let target = |index: &usize| view::TARGETS[*index];
    match op {
        Op::Stale { .. } => Append { expected: Revision(incident.revision.0 - 1), ..note(incident, "stale") },
        Op::Illegal { .. } => {
            let mut append = follow(incident, [Event::Undone { left: Vec::new() }], incident.updated_at);
            append.claims.push(Claim::Take(lock("db-1", 1)));
            append
        }
        Op::Take { target: index, token, .. } => {
            claim(incident, vec![Claim::Take(lock(target(index), *token))])
        }
        Op::Hold { target: index, token, .. } => {
            claim(incident, vec![Claim::Hold(lock(target(index), *token))])
        }
        Op::Release { target: index, token, .. } => {
            claim(incident, vec![Claim::Release(lock(target(index), *token))])
        }
        Op::CoolDown { target: index, until, .. } => {
            let cool_down = cool_down("HighMemoryUsage", target(index), "restart", at(*until));
            follow(incident, [Event::CoolDownSet { cool_down }], incident.updated_at)
        }
        Op::Epoch { epoch, .. } => claim(incident, vec![Claim::SiteEpoch(GateEpoch(*epoch))]),
        Op::Fire { alert: number, .. } => {
            let fired = Event::AlertFired { alert: Box::new(alert(*number, "warning", at(3))) };
            follow(incident, [fired], incident.updated_at)
        }
        Op::Close { .. } if incident.closed_at.is_none() => close(incident),
        _ => note(incident, "noted"),
    }
}

/// What is compared with the store in memory, and can be closed and opened.
enum Backend {
    Embedded(tempfile::TempDir, EmbeddedStore),
    Postgres(String, PostgresStore),
}

impl Backend {
    fn embedded() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = reopened(folder.path());
        Self::Embedded(folder, store)
    }

    async fn postgres(url: String) -> Self {
        let store = PostgresStore::open(&url, uuid::Uuid::from_u128(77)).await.unwrap();
        Self::Postgres(url, store)
    }

    fn store(&self) -> &dyn IncidentStore {
        match self {
            Self::Embedded(_, store) => store,
            Self::Postgres(_, store) => store,
        }
    }

    async fn reopen(self, without_index: bool) -> Self {
        match self {
            Self::Embedded(folder, store) => {
                drop(store);
                if without_index {
                    std::fs::remove_dir_all(folder.path().join("index")).unwrap();
                }
                let store = reopened(folder.path());
                Self::Embedded(folder, store)
            }
            Self::Postgres(url, store) => {
                drop(store);
                Self::postgres(url).await
            }
        }
    }
}

async fn append(memory: &MemoryStore, other: &Backend, append: Append) -> Result<(), TestCaseError> {
    let one = memory.append(append.clone()).await;
    let other = other.store().append(append).await;
    match (one, other) {
        (Ok(one), Ok(other)) => prop_assert_eq!(one, other),
        (Err(one), Err(other)) => prop_assert_eq!(one.to_string(), other.to_string()),
        (one, other) => prop_assert!(false, "memory answers {one:?}, the other {other:?}"),
    }
    Ok(())
}

fn outcome<T>(result: Result<T, StoreError>) -> Result<T, String> {
    result.map_err(|error| name_of(&error))
}

async fn same_answers(ops: Vec<Op>, mut other: Backend) -> Result<(), TestCaseError> {
    let memory = MemoryStore::new();
    for op in &ops {
        match op {
            Op::Open { number, priority, created, message: key } => {
                let mut new = open(*number, Priority::ALL[*priority], at(*created));
                if let Some(key) = key {
                    new = new.answering(message(*key), Digest::of_bytes(&[(*number % 2) as u8]));
                }
                append(&memory, &other, new).await?;
            }
            Op::Receive { number } => {
                memory.receive(received(*number)).await.unwrap();
                other.store().receive(received(*number)).await.unwrap();
            }
            Op::Correlate { back } => {
                // The same batch stands at another position in each store.
                let start = ReceivedPosition::default();
                let of_memory = view::received(&memory, start).await;
                let of_other = view::received(other.store(), start).await;
                prop_assert_eq!(of_memory.len(), of_other.len());
                let Some(index) = of_memory.len().checked_sub(back + 1) else { continue };
                memory.set_correlated(of_memory[index].0, None).await.unwrap();
                other.store().set_correlated(of_other[index].0, None).await.unwrap();
            }
            Op::Switch { epoch, on } => {
                let word = KillSwitch { by: "person-1".to_owned(), why: "x".to_owned(), at: at(0) };
                let throw = if *on { Throw::Engage(word) } else { Throw::Release(word) };
                let one = memory.set_kill_switch(GateEpoch(*epoch), throw.clone()).await;
                let two = other.store().set_kill_switch(GateEpoch(*epoch), throw).await;
                prop_assert_eq!(outcome(one), outcome(two));
            }
            Op::Reopen { without_index } => {
                other = other.reopen(*without_index).await;
                prop_assert_eq!(view::of(&memory).await, view::of(other.store()).await);
            }
            Op::Note { number }
            | Op::Stale { number }
            | Op::Illegal { number }
            | Op::Take { number, .. }
            | Op::Hold { number, .. }
            | Op::Release { number, .. }
            | Op::CoolDown { number, .. }
            | Op::Epoch { number, .. }
            | Op::Fire { number, .. }
            | Op::Close { number } => {
                if let Some(incident) = memory.incident(incident_id(*number)).await.unwrap() {
                    append(&memory, &other, append_of(op, &incident)).await?;
                }
            }
        }
    }
    prop_assert_eq!(view::of(&memory).await, view::of(other.store()).await);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_embedded_store_answers_as_the_one_in_memory(ops in prop::collection::vec(op(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(Box::pin(same_answers(ops, Backend::embedded())))?;
    }
}

#[test]
fn the_postgres_store_answers_as_the_one_in_memory() {
    let Some(cluster) = postgres::cluster() else { return };
    cluster.create_database("histories").unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let config = ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() };
    let histories = std::cell::Cell::new(0);
    let ran = TestRunner::new(config).run(&prop::collection::vec(op(), 1..60), |ops| {
        histories.set(histories.get() + 1);
        let schema = format!("history_{}", histories.get());
        runtime.block_on(Box::pin(async {
            let url = postgres::fresh_schema(&cluster, "histories", &schema).await;
            same_answers(ops, Backend::postgres(url).await).await
        }))
    });
    ran.unwrap();
}
