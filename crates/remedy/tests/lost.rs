//! A ledger that has lost records begins nothing: it could start a key a second time.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot be set up has failed")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::*;
use quell_incident::contract::{ProbeVerdict, StepOutcome};
use quell_remedy::{Agent, Ledger, LedgerError, LedgerSettings, NoFaults};
use quell_tool::fake::KeyValueTarget;
use serde_json::json;

fn segment(folder: &Path) -> PathBuf {
    folder.join("00000000000000000001.journal")
}

fn cut(folder: &Path) {
    let content = fs::read(segment(folder)).unwrap();
    fs::write(segment(folder), &content[..content.len() - 200]).unwrap();
}

type Damage = fn(&Path);

const LOSSES: [(&str, Damage); 6] = [
    ("cut", cut),
    ("cut and the mark removed", |folder| {
        cut(folder);
        fs::remove_file(folder.join("durable.mark")).unwrap();
    }),
    ("the mark removed", |folder| fs::remove_file(folder.join("durable.mark")).unwrap()),
    ("the mark overwritten", |folder| fs::write(folder.join("durable.mark"), b"rubbish").unwrap()),
    ("the segment removed", |folder| fs::remove_file(segment(folder)).unwrap()),
    ("a byte changed", |folder| {
        let mut content = fs::read(segment(folder)).unwrap();
        content[300] ^= 1;
        fs::write(segment(folder), content).unwrap();
    }),
];

#[tokio::test]
async fn every_loss_is_refused_with_the_way_out() {
    for (case, damage) in LOSSES {
        let folder = tempfile::tempdir().unwrap();
        let (target, clock) = (KeyValueTarget::new(), TestClock::new());
        target.set("alpha", "size", json!(10));
        let first = agent(folder.path(), &target, &clock);
        let plan = plan(&first, &plan_request("too_low", "beta-service")).await;
        first.execute(request(&plan, 0, "k1", 1, &clock)).await;
        drop(first);
        damage(folder.path());
        let id = uuid::Uuid::from_u128(8);
        let opened = Ledger::open(folder.path(), "agent-1", id, LedgerSettings::default(), clock.now());
        let Err(error @ LedgerError::Lost(_)) = opened.map(drop) else { panic!("{case}: it opened") };
        assert!(error.to_string().contains("move it away, which makes a new ledger"), "{case}: {error}");
    }
}

#[tokio::test]
async fn a_removed_ledger_is_a_new_one_that_carries_out_nothing_of_the_old() {
    let folder = tempfile::tempdir().unwrap();
    let (target, clock) = (KeyValueTarget::new(), TestClock::new());
    target.set("alpha", "size", json!(10));
    let first = agent(folder.path(), &target, &clock);
    let plan = plan(&first, &plan_request("too_low", "beta-service")).await;
    let sent = request(&plan, 0, "k1", 1, &clock);
    assert!(matches!(first.execute(sent.clone()).await.outcome, StepOutcome::Done { .. }));
    drop(first);
    let effects = target.effects().len();
    fs::remove_dir_all(folder.path()).unwrap();
    let id = uuid::Uuid::from_u128(8);
    let (ledger, report) =
        Ledger::open(folder.path(), "agent-1", id, LedgerSettings::default(), clock.now()).unwrap();
    assert!(report.created && ledger.identity().ledger == id.to_string());
    let now = clock.clone();
    let second = Agent::new(
        Arc::new(ledger),
        knowledge(&target, switched_on()),
        settles_at_once(),
        Arc::new(move || now.now()),
        Arc::new(NoFaults),
    );
    let outcome = second.execute(sent.clone()).await.outcome;
    assert!(
        matches!(outcome, StepOutcome::Unknown { .. }),
        "whether it happened is not known here: {outcome:?}"
    );
    let verdict = second.probe(sent).await.verdict;
    assert!(matches!(verdict, ProbeVerdict::CannotTell { .. }), "{verdict:?}");
    assert_eq!(target.effects().len(), effects, "nothing was done again");
}
