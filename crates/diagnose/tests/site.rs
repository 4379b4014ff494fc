//! What a site's resolved incidents teach: when it counts, what it changes, and that a diagnosis stays reproducible with it.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod world;

use jiff::Timestamp;
use quell_diagnose::learned::{
    LEARNED_SCHEMA, Learned, ModelError, Resolved, SWITCH_INCIDENTS, SiteRanking, Switch,
};
use quell_diagnose::{Aids, Case, RuleSet};
use quell_incident::Report;
use serde_json::{Value, json};
use world::{Scenario, evidence, evidence_of, request, request_for};

/// A report whose rules are surer of the first cause; every one of them has metrics, and `quiet` has a log line as well.
fn report(causes: &[(&str, f64)]) -> Report {
    let at = Timestamp::UNIX_EPOCH;
    let hypothesis = |(cause, confidence): &(&str, f64)| {
        let evidence = if *cause == "quiet" { json!(["m1", "l1"]) } else { json!(["m1"]) };
        json!({
            "cause": cause, "subject": {"service": "cart"}, "statement": format!("it is {cause}"), "confidence": confidence,
            "calibrated": false, "claims": [{"by": format!("{cause}-rule"), "statement": "so", "evidence": evidence}],
            "recommended_actions": [],
        })
    };
    let mut hypotheses: Vec<Value> = causes.iter().map(hypothesis).collect();
    let evidence = |id: &str, kind: &str, data: Value| json!({"id": id, "kind": kind, "source": "s", "query": "q", "from": at, "to": at, "summary": "", "data": data});
    let root = hypotheses.remove(0);
    let lines = json!({"template": "t", "count": 1, "before": 0, "samples": []});
    let points = json!({"metric": "m", "labels": {}, "points": []});
    serde_json::from_value(json!({
        "schema": "quell/report/v1", "incident_id": "00000000-0000-0000-0000-000000000000", "reference_time": at,
        "root_cause": root, "alternatives": hypotheses, "unavailable": [], "engine": "test",
        "evidence": [evidence("m1", "metric", points), evidence("l1", "log", lines)],
    }))
    .unwrap()
}

/// Incidents in which the rules always name `loud` first, and the cause is this one.
fn resolved(count: usize, cause: impl Fn(usize) -> &'static str) -> Vec<Resolved> {
    let one = |number: usize| {
        // Not always equally sure.
        let sure = 0.6 + 0.02 * (number % 7) as f64;
        Resolved {
            report: report(&[("loud", sure), ("quiet", 0.95 - sure)]),
            cause: cause(number).to_owned(),
        }
    };
    (0..count).map(one).collect()
}

#[test]
fn too_few_incidents_teach_nothing() {
    let few = resolved(Learned::INCIDENTS_MIN - 1, |_| "quiet");
    assert!(matches!(SiteRanking::learn(&few), Err(ModelError::TooFew { usable: 19 })));
    // And a cause that no rule names cannot be ranked.
    let unknown = resolved(60, |_| "unheard_of");
    assert!(matches!(SiteRanking::learn(&unknown), Err(ModelError::TooFew { usable: 0 })));
}

#[test]
fn it_counts_only_while_it_is_better_than_the_rules_over_the_last_incidents() {
    // The rules are nearly always wrong here.
    let wrong =
        SiteRanking::learn(&resolved(60, |number| if number % 10 == 0 { "loud" } else { "quiet" })).unwrap();
    assert!(wrong.switch.is_on(), "{:?}", wrong.switch);
    // They are right, and as sure as they should be: nothing is to be gained.
    let right: Vec<Resolved> = (0..60)
        .map(|_| Resolved { report: report(&[("loud", 0.999), ("quiet", 0.001)]), cause: "loud".to_owned() })
        .collect();
    let right = SiteRanking::learn(&right).unwrap();
    assert!(matches!(right.switch, Switch::Off { .. }), "{:?}", right.switch);
    // What was learned long ago does not hold any more: the last incidents decide.
    let turned =
        SiteRanking::learn(&resolved(
            200,
            |number| if number < 200 - SWITCH_INCIDENTS { "quiet" } else { "loud" },
        ));
    assert!(!turned.unwrap().switch.is_on());
}

#[test]
fn what_is_read_back_is_checked() {
    let ranking = SiteRanking::learn(&resolved(60, |_| "quiet")).unwrap();
    let learned = Learned { schema: LEARNED_SCHEMA.to_owned(), calibration: None, ranking: Some(ranking) };
    let text = serde_json::to_string(&learned).unwrap();
    assert_eq!(Learned::read(&text).unwrap(), learned);
    for (from, to, word) in [
        ("quell/learned/v1", "quell/learned/v9", "quell/learned/v9"),
        ("\"none\":", "\"nothing\":", "nothing"),
        ("\"none\":0.", "\"none\":7.", "none"),
        ("\"weights\":[", "\"weights\":[1.0,", "weights"),
        ("{\"schema\"", "[{\"schema\"", "expected"),
    ] {
        assert!(text.contains(from), "{from}: {text}");
        let error = Learned::read(&text.replacen(from, to, 1)).unwrap_err();
        assert!(error.contains(word), "{word}: {error}");
    }
    // A calibration alone is taken as well.
    let calibration = serde_json::to_string(&quell_diagnose::localise::Calibration::prior()).unwrap();
    assert!(Learned::read(&calibration).unwrap().calibration.is_some());
}

#[test]
fn between_causes_that_the_rules_cannot_tell_apart_the_site_decides_and_says_so() {
    let rules = RuleSet::load(&[]).unwrap();
    let labels = [("instance", "app-server-01:9090"), ("service", "order_service")];
    let request_both = request_for("SomethingIsWrong", &labels);
    let case = |seed: u64, aids: Aids| {
        Case::new(request_both.clone(), evidence_of(&[Scenario::MemoryLeak, Scenario::HighCpu], seed), aids)
    };
    let leak = Scenario::MemoryLeak.cause().unwrap();
    let known: Vec<Resolved> =
        (0..40).map(|seed| case(seed, Aids::default()).known(&rules, leak).0).collect();
    assert!(known.iter().all(|one| one.report.root_cause.is_none()));
    let on = SiteRanking::learn(&known).unwrap();
    assert!(on.switch.is_on(), "{:?}", on.switch);

    let with = |ranking: &SiteRanking| Aids { ranking: Some(ranking.clone()), ..Aids::default() };
    let decided = case(99, with(&on));
    let report = decided.diagnose(&rules);
    let opinion = report.second_opinion.clone().unwrap();
    assert!(opinion.counts && opinion.why.contains("40 resolved incidents"), "{opinion:?}");
    let first = report.root_cause.as_ref().unwrap();
    assert_eq!((first.cause.as_str(), first.calibrated), (leak, true));
    assert_eq!(report.abstained, None);
    assert!(
        report.alternatives[0].not_first_because.as_ref().unwrap().contains("resolved incidents give it")
    );

    // The same case says the same, byte for byte, wherever it is read.
    let again = Case::unpack(&decided.pack().unwrap()).unwrap().diagnose(&rules);
    assert_eq!(serde_json::to_vec(&again).unwrap(), serde_json::to_vec(&report).unwrap());

    // While it does not count it speaks beside the rules and changes nothing.
    let mut off = on.clone();
    off.switch = Switch::Off { rules: 0.1, model: 0.2 };
    let mut beside = case(99, with(&off)).diagnose(&rules);
    assert!(!beside.second_opinion.take().unwrap().counts);
    assert_eq!(beside, case(99, Aids::default()).diagnose(&rules));

    // What has nothing to do with the alert is not put first, whatever was learned.
    let elsewhere = request(Scenario::CertificateExpiry);
    let unrelated = Case::new(elsewhere, evidence(Scenario::MemoryLeak, 99), with(&on)).diagnose(&rules);
    assert_eq!(unrelated.root_cause, None, "{unrelated:#?}");
}
