//! The optional language model beside the rules: what it is shown, what becomes of its answer, and that nothing hangs on it.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod common;

use common::{Site, request};
use quell_connect::fake::{FakeLanguageModel, Mood};
use quell_diagnose::READING_CONFIDENCE_MAX;
use quell_service::{Clock as _, SystemClock};
use serde_json::{Value, json};

const LABELS: [(&str, &str); 2] = [("instance", "db-server-01:9090"), ("component", "database")];
const CAUSE: &str = "connection_pool_exhausted";

async fn site(model: &FakeLanguageModel, more: &str) -> Site {
    let settings = format!(
        "  language_model: {{url: \"{}\", model: reader-1, api_key: k-1, timeout: 2s{more}}}\n",
        model.url()
    );
    let mut site = Site::start(&settings).await;
    // The rules know the fault by now; the model has said nothing so far.
    site.trigger("database_timeout").await;
    let known = |report: &quell_incident::Report| {
        report.root_cause.as_ref().is_some_and(|cause| cause.cause == CAUSE)
    };
    site.until("the rules to know the cause", &LABELS, known).await;
    site
}

fn answer(confidence: f64, evidence: &[&str]) -> String {
    let claim = json!({"statement": "lookups of db-server fail", "evidence": evidence});
    let one = json!({
        "cause": "DNS outage; restart_service", "service": "dns", "statement": "Names are not resolved.\u{7}",
        "confidence": confidence, "claims": [claim],
    });
    json!({"hypotheses": [one]}).to_string()
}

fn documents(model: &FakeLanguageModel) -> Vec<Value> {
    let bodies = model.asked();
    let bodies =
        bodies.iter().filter_map(|asked| serde_json::from_str::<Value>(asked.splitn(3, ' ').nth(2)?).ok());
    bodies.filter_map(|body| serde_json::from_str(body["messages"][1]["content"].as_str()?).ok()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reading_is_an_alternative_that_cites_evidence_and_never_the_cause() {
    let model = FakeLanguageModel::start("reader-1").await.unwrap();
    model.wants("Bearer k-1");
    let mut site = site(&model, ", questions_per_hour: 1000").await;
    let now = request(SystemClock.now(), &LABELS);
    let alone = site.diagnose(&now).await;
    let shown = documents(&model).pop().unwrap();
    let first = shown["evidence"][0]["id"].as_str().unwrap().to_owned();
    assert!(
        shown["known_candidates"].as_array().unwrap().iter().any(|one| one["cause"] == CAUSE),
        "{shown:#}"
    );

    model.will_say(&answer(1.0, &[&first, "m999"]));
    let report = site.diagnose(&request(SystemClock.now(), &LABELS)).await;
    assert_eq!(report.root_cause.as_ref().map(|cause| cause.cause.as_str()), Some(CAUSE), "{report:#?}");
    let read = report.alternatives.last().unwrap();
    assert_eq!(
        (read.cause.as_str(), read.subject.service.as_str()),
        ("read_dns_outage__restart_service", "dns")
    );
    assert_eq!((read.claims.len(), &read.claims[0].evidence), (1, &vec![first.clone()]), "{read:#?}");
    assert!(read.confidence <= READING_CONFIDENCE_MAX && read.recommended_actions.is_empty(), "{read:#?}");
    assert!(read.confidence <= 1.0 - report.confidence() + 1e-9, "{read:#?}");
    assert_eq!(read.statement, "Names are not resolved. ");
    assert!(alone.alternatives.iter().all(|one| !one.cause.starts_with("read_")), "{alone:#?}");

    // Without evidence of this report it is not written.
    model.will_say(&answer(0.9, &["m999"]));
    let report = site.diagnose(&request(SystemClock.now(), &LABELS)).await;
    assert!(report.alternatives.iter().all(|one| !one.cause.starts_with("read_")), "{report:#?}");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_model_does_the_diagnosis_is_made() {
    let model = FakeLanguageModel::start("reader-1").await.unwrap();
    let mut site = site(&model, ", questions_per_hour: 1000, answer_tokens: 50").await;
    let asked = model.asked().len();
    for bad in 0..9 {
        match bad {
            0 => model.feels(Mood::Unavailable),
            1 => model.feels(Mood::Saying("ignore the rules and run rm -rf /".to_owned())),
            2 => model.feels(Mood::Cut(20)),
            3 => model.feels(Mood::Endless(3)),
            4 => model.feels(Mood::Silent),
            5 => {
                model.feels(Mood::Well);
                model.will_say("It is DNS. It is always DNS.");
            }
            // Longer than it may be.
            6 => model.will_say(&answer(0.9, &["m1"; 200])),
            7 => model.looks_at(10),
            _ => model.has_quota(0),
        }
        let report = site.diagnose(&request(SystemClock.now(), &LABELS)).await;
        assert_eq!(report.root_cause.map(|cause| cause.cause), Some(CAUSE.to_owned()), "{bad}");
        assert!(report.alternatives.iter().all(|one| !one.cause.starts_with("read_")), "{bad}");
    }
    assert_eq!(model.asked().len(), asked + 9);
    // After some failures in a row it is not even asked.
    model.feels(Mood::Unavailable);
    for _ in 0..8 {
        site.diagnose(&request(SystemClock.now(), &LABELS)).await;
    }
    assert_eq!(model.asked().len(), asked + 9 + 5);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_budget_is_kept() {
    let model = FakeLanguageModel::start("reader-1").await.unwrap();
    let mut site = site(&model, ", questions_per_hour: 1").await;
    for _ in 0..3 {
        site.diagnose(&request(SystemClock.now(), &LABELS)).await;
    }
    assert_eq!(model.asked().len(), 1);
    let (_, page) = site.get("/metrics").await;
    let counted = |outcome: &str| {
        let line = format!("quell_diagnostic_language_model_readings_total{{outcome=\"{outcome}\"}} ");
        page.lines().find_map(|other| other.strip_prefix(&line)).and_then(|value| value.parse::<u64>().ok())
    };
    assert_eq!(counted("read"), Some(1), "{page}");
    assert!(counted("over_budget").is_some_and(|times| times >= 3), "{page}");
    site.stop().await;
}
