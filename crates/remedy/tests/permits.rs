//! Nothing is done, sealed or remembered without the coordinator's permit for exactly that.
#![allow(clippy::unwrap_used, reason = "a test ends by it")]

mod common;

use std::path::Path;
use std::sync::Arc;

use common::*;
use jiff::{SignedDuration, Timestamp};
use quell_incident::contract::{ProbeVerdict, StepOutcome, StepRequest};
use quell_incident::ids::FencingToken;
use quell_incident::incident::Approval;
use quell_incident::{Digest, IncidentId, Permit, PermittedSkill, Plan, SignedPermit, TargetName};
use quell_remedy::{Agent, CoordinatorKeys, GuardSettings, Knowledge};
use quell_sign::SigningKey;
use quell_tool::fake::KeyValueTarget;

struct Site {
    folder: tempfile::TempDir,
    target: KeyValueTarget,
    clock: TestClock,
    agent: Arc<Agent>,
    plan: Plan,
}

async fn site() -> Site {
    let (folder, target, clock) = (tempfile::tempdir().unwrap(), KeyValueTarget::new(), TestClock::new());
    let agent = agent(&folder.path().join("ledger"), &target, &clock);
    let plan = plan(&agent, &plan_request("too_low", "beta-service")).await;
    Site { folder, target, clock, agent, plan }
}

impl Site {
    fn request(&self, step: usize, name: &str) -> StepRequest {
        request(&self.plan, step, name, 1, &self.clock)
    }

    fn permit(&self, step: usize, name: &str) -> Permit {
        self.request(step, name).permit.unwrap().permit
    }

    /// What the agent says to a step, and to the same as a question.
    async fn says(&self, request: StepRequest) -> (StepOutcome, ProbeVerdict) {
        let probed = self.agent.probe(request.clone()).await.verdict;
        (self.agent.execute(request).await.outcome, probed)
    }
}

fn other_key() -> SigningKey {
    SigningKey::from_seed(&[8; 32]).unwrap()
}

fn approval(of: Digest) -> Approval {
    Approval { by: "mei".to_owned(), digest: of, at: Timestamp::UNIX_EPOCH }
}

/// Another value in every field of a permit.
fn changed(permit: &Permit) -> Vec<(&'static str, Permit)> {
    let change = |field, change: &dyn Fn(&mut Permit)| {
        let mut changed = permit.clone();
        change(&mut changed);
        (field, changed)
    };
    vec![
        change("schema", &|permit| permit.schema = "quell/permit/v2".to_owned()),
        change("skill", &|permit| permit.skill = PermittedSkill::Undo),
        change("undo", &|permit| permit.undo = true),
        change("incident_id", &|permit| permit.incident_id = IncidentId(uuid::Uuid::from_u128(9))),
        change("plan_digest", &|permit| permit.plan_digest = Digest::of_bytes(b"another plan")),
        change("step", &|permit| permit.step = "second".parse().unwrap()),
        change("step_digest", &|permit| permit.step_digest = Digest::of_bytes(b"another step")),
        change("key", &|permit| permit.key = key(&permit.key.as_str().replacen("/1/", "/2/", 1))),
        change("lock.target", &|permit| permit.lock.target = TargetName::declared("beta").unwrap()),
        change("lock.token", &|permit| permit.lock.token = FencingToken(u64::MAX)),
        change("agent", &|permit| permit.agent.instance = "agent-2".to_owned()),
        change("agent", &|permit| permit.agent.ledger = "another".to_owned()),
        change("not_after", &|permit| permit.not_after += SignedDuration::from_secs(1)),
    ]
}

#[tokio::test]
async fn a_permit_for_anything_else_does_nothing_and_leaves_no_trace() {
    let site = site().await;
    let before = site.agent.ledger().sizes();
    let mut refused = Vec::new();
    for (field, permit) in changed(&site.permit(0, "k1")) {
        refused.push((field, signed(site.request(0, "k1"), permit, &permit_key())));
    }
    // The request is another one, and the permit is what it was.
    let permitted_for = site.request(0, "k1");
    let elsewhere = |change: &dyn Fn(&mut StepRequest)| {
        let mut request = permitted_for.clone();
        change(&mut request);
        request
    };
    refused.push(("incident_id", elsewhere(&|one| one.incident_id = IncidentId(uuid::Uuid::from_u128(9)))));
    refused.push(("plan_digest", elsewhere(&|one| one.plan_digest = Digest::of_bytes(b"another"))));
    refused.push(("step", elsewhere(&|one| one.step = site.plan.steps[1].clone())));
    // Of the same name, and another content.
    refused.push(("step_digest", elsewhere(&|one| one.step.title = "Something else".to_owned())));
    refused.push(("step_digest", elsewhere(&|one| one.step.call = site.plan.steps[1].call.clone())));
    refused.push(("key", elsewhere(&|one| one.key = site.request(0, "k2").key)));
    refused.push(("lock.token", elsewhere(&|one| one.lock.token = FencingToken(u64::MAX))));
    refused.push(("not_after", elsewhere(&|one| one.not_after += SignedDuration::from_secs(1))));
    for (field, request) in refused {
        let (outcome, verdict) = site.says(request).await;
        let wanted = format!("they differ in `{field}`");
        assert!(
            matches!(&outcome, StepOutcome::Refused { why } if why.contains(&wanted)),
            "{field}: {outcome:?}"
        );
        // To a question it is a permit for another skill, whatever else is wrong.
        assert!(matches!(&verdict, ProbeVerdict::CannotTell { .. }), "{field}: {verdict:?}");
    }
    assert_eq!(site.agent.ledger().sizes(), before, "something was sealed or remembered");
    assert!(site.target.effects().is_empty());
    // And none of the tokens was believed: the right holder, with the lowest one, still acts.
    let outcome = site.agent.execute(site.request(0, "k1")).await.outcome;
    assert!(matches!(outcome, StepOutcome::Done { .. }), "{outcome:?}");
}

#[tokio::test]
async fn a_signature_is_of_the_coordinators_key_over_every_byte() {
    let site = site().await;
    let fitting = site.request(0, "k1");
    let with = |change: &dyn Fn(&mut SignedPermit)| {
        let mut request = fitting.clone();
        change(request.permit.as_mut().unwrap());
        request
    };
    let mut refused: Vec<_> = changed(&site.permit(0, "k1"))
        .into_iter()
        .map(|(field, permit)| (field, with(&|signed| signed.permit = permit.clone()), "signature"))
        .collect();
    refused.extend([
        (
            "approvals",
            with(&|one| one.permit.approvals.push(approval(site.plan.digest().unwrap()))),
            "signature",
        ),
        ("none", with(&|one| one.signature = String::new()), "signature"),
        ("no key", with(&|one| one.public_key = "00".to_owned()), "signature"),
        ("its key", with(&|one| one.public_key = other_key().public().to_string()), "signature"),
        (
            "another key",
            signed(fitting.clone(), site.permit(0, "k1"), &other_key()),
            "coordinator_public_keys",
        ),
        ("no permit", StepRequest { permit: None, ..fitting.clone() }, "carries no permit"),
    ]);
    for at in 0..64 {
        let mut signature: Vec<u8> = fitting.permit.as_ref().unwrap().signature.clone().into_bytes();
        signature[at * 2] = if signature[at * 2] == b'0' { b'1' } else { b'0' };
        let signature = String::from_utf8(signature).unwrap();
        refused.push(("a bit", with(&|one| one.signature.clone_from(&signature)), "signature"));
    }
    for (what, request, wanted) in refused {
        let (outcome, verdict) = site.says(request).await;
        assert!(
            matches!(&outcome, StepOutcome::Refused { why } if why.contains(wanted)),
            "{what}: {outcome:?}"
        );
        // A permit to execute, however it is signed, is none to probe.
        assert!(
            matches!(&verdict, ProbeVerdict::CannotTell { why } if why.contains(wanted) || why.contains("`skill`")),
            "{what}: {verdict:?}"
        );
    }
    let question = asking(site.request(0, "k1"));
    let permit = question.permit.clone().unwrap().permit;
    let (_, verdict) = site.says(signed(question, permit, &other_key())).await;
    assert!(
        matches!(&verdict, ProbeVerdict::CannotTell { why } if why.contains("coordinator_public_keys")),
        "{verdict:?}"
    );
    assert_eq!(site.agent.ledger().sizes().0, 0);
    assert!(site.target.effects().is_empty());
}

#[tokio::test]
async fn a_permit_is_worth_nothing_after_its_time() {
    let site = site().await;
    let (step, question) = (site.request(0, "k1"), asking(site.request(0, "k2")));
    let mut permit = question.permit.clone().unwrap().permit;
    permit.not_after = site.clock.now() + SignedDuration::from_secs(90);
    let question = signed(question, permit, &permit_key());
    site.clock.advance(91);
    let outcome = site.agent.execute(step).await.outcome;
    assert!(
        matches!(&outcome, StepOutcome::Refused { why } if why.contains("not to begin after")),
        "{outcome:?}"
    );
    let verdict = site.agent.probe(question).await.verdict;
    assert!(
        matches!(&verdict, ProbeVerdict::CannotTell { why } if why.contains("not to begin after")),
        "{verdict:?}"
    );
}

#[tokio::test]
async fn a_replay_does_nothing_twice() {
    let site = site().await;
    let step = site.request(0, "k1");
    let first = site.agent.execute(step.clone()).await.outcome;
    for _ in 0..5 {
        assert_eq!(site.agent.execute(step.clone()).await.outcome, first);
    }
    // Who overheard a permit and has none for another key gets nowhere with it, and what is known of the key stays.
    let other = StepRequest { key: site.request(0, "k2").key, ..step.clone() };
    assert!(matches!(site.agent.execute(other).await.outcome, StepOutcome::Refused { .. }));
    let forged = signed(step.clone(), site.permit(0, "k1"), &other_key());
    assert!(matches!(site.agent.execute(forged).await.outcome, StepOutcome::Unknown { .. }));
    assert_eq!(site.agent.execute(step).await.outcome, first);
    assert_eq!(site.target.effects().len(), 1);
}

#[tokio::test]
async fn where_a_person_must_approve_the_permit_names_one_who_approved_exactly_this_plan() {
    let site = site().await;
    let guard = GuardSettings { require_approval: true, ..switched_on() };
    site.agent.replace_knowledge(knowledge(&site.target, guard));
    let digest = site.plan.digest().unwrap();
    let nobody = Approval { by: " ".to_owned(), ..approval(digest) };
    let with = |name: &str, undo: bool, approvals: Vec<Approval>| {
        let request = site.request(0, name);
        let request = if undo { undo_of(request) } else { request };
        let permit = Permit { approvals, ..request.permit.clone().unwrap().permit };
        signed(request, permit, &permit_key())
    };
    let missing = [vec![], vec![nobody], vec![approval(Digest::of_bytes(b"another plan"))]];
    for (number, approvals) in missing.into_iter().enumerate() {
        let outcome = site.agent.execute(with(&format!("k{number}"), false, approvals)).await.outcome;
        let wanted = "agents.resolution.require_approval is true here";
        assert!(matches!(&outcome, StepOutcome::Refused { why } if why.contains(wanted)), "{outcome:?}");
    }
    assert!(site.target.effects().is_empty());
    let outcome = site.agent.execute(with("ok", false, vec![approval(digest)])).await.outcome;
    assert!(matches!(outcome, StepOutcome::Done { .. }), "{outcome:?}");
    assert!(matches!(site.agent.execute(with("u", true, vec![])).await.outcome, StepOutcome::Refused { .. }));
    let outcome = site.agent.execute(with("u2", true, vec![approval(digest)])).await.outcome;
    assert!(matches!(outcome, StepOutcome::Done { .. }), "{outcome:?}");
}

#[tokio::test]
async fn a_plan_that_has_begun_still_grows_old() {
    let site = site().await;
    assert!(matches!(site.agent.execute(site.request(0, "k1")).await.outcome, StepOutcome::Done { .. }));
    let left = site.plan.steps_until().duration_since(site.clock.now()).as_secs();
    site.clock.advance(left + 1);
    let outcome = site.agent.execute(site.request(1, "k2")).await.outcome;
    assert!(
        matches!(&outcome, StepOutcome::Refused { why } if why.contains("has begun, and no further")),
        "{outcome:?}"
    );
    // What was done is taken back however old it is.
    let outcome = site.agent.execute(undo_of(site.request(0, "k3"))).await.outcome;
    assert!(matches!(outcome, StepOutcome::Done { .. }), "{outcome:?}");
}

#[tokio::test]
async fn a_probe_of_a_plan_that_is_not_known_here_poisons_no_target() {
    let site = site().await;
    // As a coordinator would sign it whose plan this agent has forgotten, with the largest token.
    let mut plan = site.plan.clone();
    plan.summary.push('!');
    let unknown = asking(request(&plan, 0, "k1", u64::MAX, &site.clock));
    assert_eq!(site.agent.probe(unknown).await.verdict, ProbeVerdict::NotDone);
    let outcome = site.agent.execute(site.request(0, "k2")).await.outcome;
    assert!(matches!(outcome, StepOutcome::Done { .. }), "{outcome:?}");
}

fn pinned(site: &Site, file: &Path) -> Knowledge {
    Knowledge {
        coordinator: CoordinatorKeys::pinned(file).unwrap(),
        ..knowledge(&site.target, switched_on())
    }
}

#[tokio::test]
async fn the_first_coordinator_is_pinned_over_restarts_and_another_is_refused_by_the_name_of_what_to_change()
{
    let site = site().await;
    let file = site.folder.path().join("coordinator.pub");
    site.agent.replace_knowledge(pinned(&site, &file));
    // Somebody who has no plan of this agent is not a first coordinator.
    let mut invented = site.plan.clone();
    invented.incident_id = IncidentId(uuid::Uuid::from_u128(9));
    let strange = request(&invented, 0, "x", 1, &site.clock);
    let permit = strange.permit.clone().unwrap().permit;
    let outcome = site.agent.execute(signed(strange, permit, &other_key())).await.outcome;
    assert!(matches!(&outcome, StepOutcome::Refused { why } if why.contains("no plan")), "{outcome:?}");
    assert!(!file.exists());

    let outcome = site.agent.execute(site.request(0, "k1")).await.outcome;
    assert!(matches!(outcome, StepOutcome::Done { .. }), "{outcome:?}");
    let written = std::fs::read_to_string(&file).unwrap();
    assert!(written.contains(&permit_key().public().to_string()), "{written}");
    for life in 0..2 {
        let foreign = site.request(1, &format!("f{life}"));
        let permit = foreign.permit.clone().unwrap().permit;
        let outcome = site.agent.execute(signed(foreign, permit, &other_key())).await.outcome;
        let StepOutcome::Refused { why } = &outcome else { panic!("{outcome:?}") };
        for part in ["agents.resolution.coordinator_public_keys", "coordinator.pub", "restart"] {
            assert!(why.contains(part), "{why}");
        }
        let outcome = site.agent.execute(site.request(1, &format!("k{life}"))).await.outcome;
        assert!(matches!(outcome, StepOutcome::Done { .. }), "{outcome:?}");
        // The next life reads the file.
        site.agent.replace_knowledge(pinned(&site, &file));
    }
    std::fs::write(&file, "torn").unwrap();
    assert!(CoordinatorKeys::pinned(&file).is_err());
}

#[tokio::test]
async fn a_key_is_exchanged_by_listing_the_new_one_beside_the_old_one() {
    let site = site().await;
    let (old, new) = (permit_key().public(), other_key().public());
    let by = |key: &SigningKey, name: &str| {
        let request = site.request(1, name);
        let permit = request.permit.clone().unwrap().permit;
        signed(request, permit, key)
    };
    for (number, (keys, old_counts, new_counts)) in
        [(vec![old], true, false), (vec![old, new], true, true), (vec![new], false, true)]
            .into_iter()
            .enumerate()
    {
        let coordinator = CoordinatorKeys::listed(keys);
        site.agent.replace_knowledge(Knowledge { coordinator, ..knowledge(&site.target, switched_on()) });
        for (key, counts) in [(permit_key(), old_counts), (other_key(), new_counts)] {
            let name = format!("{number}-{counts}-{}", key.public());
            let outcome = site.agent.execute(by(&key, &name)).await.outcome;
            assert_eq!(matches!(outcome, StepOutcome::Done { .. }), counts, "{outcome:?}");
        }
    }
}
