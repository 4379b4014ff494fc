//! Reading checks from samples: what passes, what fails, and what proves nothing.
#![allow(clippy::unwrap_used, reason = "a test ends by it")]

mod common;

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use quell_incident::alert::Labels;
use quell_incident::contract::{Verdict, VerifyRequest};
use quell_incident::evidence::{Point, Series, SeriesSet};
use quell_incident::plan::{Check, Comparison, Reduce};
use quell_remedy::{QUERY_METRICS, evaluate, verify};
use quell_tool::fake::{Behaviour, FakeRead};
use quell_tool::{ReadRegistry, ToolError};
use serde_json::json;

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

fn check(reduce: Reduce, holds_if: Comparison, value: f64) -> Check {
    let divides = matches!(reduce, Reduce::RatioTo | Reduce::SumRatioTo);
    Check {
        name: "check".to_owned(),
        metric: "metric_a".to_owned(),
        labels: Labels::default(),
        reduce,
        divide_by: divides.then(|| "metric_b".to_owned()),
        holds_if,
        value,
    }
}

/// A series by its label and its samples as (seconds before now, value).
fn series(label: &str, samples: &[(i64, f64)]) -> Series {
    let points = samples
        .iter()
        .map(|(ago, value)| Point { at: NOW - SignedDuration::from_secs(*ago), value: *value })
        .collect();
    Series { metric: "metric_a".to_owned(), labels: [("which", label)].into_iter().collect(), points }
}

fn ago(seconds: i64) -> Option<Timestamp> {
    Some(NOW - SignedDuration::from_secs(seconds))
}

#[track_caller]
fn judged(check: &Check, main: &[Series], since: Option<Timestamp>, expected: (Verdict, Option<f64>)) {
    judged_by(check, main, None, since, expected);
}

#[track_caller]
fn judged_by(
    check: &Check,
    main: &[Series],
    divide_by: Option<&[Series]>,
    since: Option<Timestamp>,
    expected: (Verdict, Option<f64>),
) {
    let result = evaluate(check, main, divide_by, since, NOW);
    let value = result.value.map(|value| (value * 1000.0).round() / 1000.0);
    assert_eq!((result.verdict, value), expected, "{}", result.statement);
}

#[test]
fn no_data_never_passes() {
    for reduce in
        [Reduce::Last, Reduce::Rate, Reduce::RatioTo, Reduce::SecondsUntil, Reduce::Sum, Reduce::SumRatioTo]
    {
        let check = check(reduce, Comparison::Less, f64::MAX);
        for main in [vec![], vec![series("a", &[])], vec![series("a", &[(1, f64::NAN)])]] {
            judged_by(&check, &main, Some(&main), None, (Verdict::Inconclusive, None));
        }
    }
}

#[test]
fn old_samples_prove_nothing() {
    let low = check(Reduce::Last, Comparison::Less, 5.0);
    let main = [series("a", &[(200, 1.0), (121, 1.0)])];
    judged(&low, &main, None, (Verdict::Inconclusive, None));
    judged(&low, &main, ago(3600), (Verdict::Inconclusive, None));
    let main = [series("a", &[(40, 1.0), (31, 1.0)])];
    judged(&low, &main, None, (Verdict::Passed, Some(1.0)));
    judged(&low, &main, ago(30), (Verdict::Inconclusive, None));
    judged(&low, &main, ago(31), (Verdict::Passed, Some(1.0)));
    // A clock that goes ahead is no news from the present.
    judged(&low, &[series("a", &[(-60, 1.0)])], None, (Verdict::Inconclusive, None));
}

#[test]
fn the_series_that_is_furthest_from_holding_decides() {
    let main = [series("a", &[(9, 1.0)]), series("b", &[(9, 7.0)]), series("c", &[(9, 3.0)])];
    judged(&check(Reduce::Last, Comparison::Less, 8.0), &main, None, (Verdict::Passed, Some(7.0)));
    judged(&check(Reduce::Last, Comparison::Less, 7.0), &main, None, (Verdict::Failed, Some(7.0)));
    judged(&check(Reduce::Last, Comparison::AtMost, 7.0), &main, None, (Verdict::Passed, Some(7.0)));
    judged(&check(Reduce::Last, Comparison::Greater, 1.0), &main, None, (Verdict::Failed, Some(1.0)));
    judged(&check(Reduce::Last, Comparison::AtLeast, 1.0), &main, None, (Verdict::Passed, Some(1.0)));
    judged(&check(Reduce::Sum, Comparison::Less, 11.5), &main, None, (Verdict::Passed, Some(11.0)));
}

#[test]
fn a_rate_needs_two_samples_since_the_fix() {
    let low = check(Reduce::Rate, Comparison::Less, 0.5);
    let main = [series("a", &[(60, 0.0), (20, 100.0), (10, 100.0)])];
    judged(&low, &main, None, (Verdict::Failed, Some(2.0)));
    judged(&low, &main, ago(30), (Verdict::Passed, Some(0.0)));
    judged(&low, &main, ago(15), (Verdict::Inconclusive, None));
    // One series that is bad is enough to fail; one that cannot be read is enough not to pass.
    let with_bad = [series("a", &[(10, 1.0)]), series("b", &[(20, 0.0), (10, 100.0)])];
    judged(&low, &with_bad, None, (Verdict::Failed, Some(10.0)));
    let with_unread = [series("a", &[(10, 1.0)]), series("b", &[(20, 5.0), (10, 6.0)])];
    judged(&low, &with_unread, None, (Verdict::Inconclusive, Some(0.1)));
    // The same instant twice is one sample.
    judged(&low, &[series("a", &[(10, 1.0), (10, 1.0)])], None, (Verdict::Inconclusive, None));
}

#[test]
fn a_counter_that_begins_anew_has_grown_from_zero() {
    let low = check(Reduce::Rate, Comparison::Less, 0.5);
    let main = [series("a", &[(30, 1000.0), (20, 1002.0), (10, 1.0), (0, 4.0)])];
    judged(&low, &main, None, (Verdict::Passed, Some(0.2)));
}

#[test]
fn ratios_are_of_the_same_labels() {
    let free = check(Reduce::RatioTo, Comparison::Greater, 0.2);
    let main = [series("a", &[(5, 30.0)]), series("b", &[(5, 10.0)])];
    let sizes = [series("b", &[(5, 100.0)]), series("a", &[(5, 100.0)])];
    judged_by(&free, &main, Some(&sizes), None, (Verdict::Failed, Some(0.1)));
    judged_by(&free, &main[..1], Some(&sizes), None, (Verdict::Passed, Some(0.3)));
    judged_by(&free, &main[..1], Some(&[series("a", &[(5, 0.0)])]), None, (Verdict::Inconclusive, None));
    judged_by(&free, &main, Some(&[]), None, (Verdict::Inconclusive, None));
    judged_by(&free, &main[..1], Some(&sizes[..1]), ago(5), (Verdict::Passed, Some(0.3)));
    let used = check(Reduce::SumRatioTo, Comparison::Less, 0.5);
    judged_by(&used, &main, Some(&sizes[..1]), None, (Verdict::Passed, Some(0.4)));
    judged_by(&used, &main, Some(&[series("a", &[(500, 100.0)])]), None, (Verdict::Inconclusive, None));
}

#[test]
fn a_series_that_vanished_never_lets_a_check_pass() {
    let main = [series("a", &[(9, 1.0)]), series("b", &[(150, 9.0)])];
    let low = check(Reduce::Last, Comparison::Less, 5.0);
    judged(&low, &main, ago(100), (Verdict::Inconclusive, Some(1.0)));
    judged(&low, &main[..1], ago(100), (Verdict::Passed, Some(1.0)));
    // One that is bad is still bad.
    let lower = check(Reduce::Last, Comparison::Less, 0.5);
    judged(&lower, &main, ago(100), (Verdict::Failed, Some(1.0)));
    let sum = check(Reduce::Sum, Comparison::Less, 5.0);
    judged(&sum, &main, ago(100), (Verdict::Inconclusive, Some(1.0)));
    let above = check(Reduce::Sum, Comparison::Greater, 5.0);
    judged(&above, &main, ago(100), (Verdict::Inconclusive, Some(1.0)));
    let used = check(Reduce::SumRatioTo, Comparison::Less, 5.0);
    judged_by(&used, &main[..1], Some(&main), ago(100), (Verdict::Inconclusive, Some(1.0)));
}

#[test]
fn a_time_to_come_is_counted_from_now() {
    let lasts = check(Reduce::SecondsUntil, Comparison::Greater, 86_400.0);
    let expires = 1_800_000_000.0 + 100_000.0;
    judged(&lasts, &[series("a", &[(5, expires)])], None, (Verdict::Passed, Some(100_000.0)));
    judged(&lasts, &[series("a", &[(5, expires - 20_000.0)])], None, (Verdict::Failed, Some(80_000.0)));
}

#[test]
fn a_statement_says_what_was_read_against_which_bound() {
    let low = check(Reduce::Rate, Comparison::Less, 0.5);
    let result = evaluate(&low, &[series("a", &[(20, 0.0), (10, 1.0)])], None, None, NOW);
    assert_eq!(result.statement, "the rate of `metric_a` per second is 0.100000, wanted < 0.5");
    let result = evaluate(&low, &[], None, ago(20), NOW);
    assert_eq!(
        result.statement,
        "no sample of `metric_a` since 2027-01-15T07:59:40Z in the last two minutes"
    );
}

fn request(checks: Vec<Check>) -> VerifyRequest {
    VerifyRequest {
        schema: "quell/verify/v1".to_owned(),
        incident_id: common::incident().id,
        checks,
        since: ago(60),
    }
}

fn registry(tool: FakeRead) -> ReadRegistry {
    let mut tools = ReadRegistry::new();
    tools.register(Arc::new(tool)).unwrap();
    tools
}

fn set(series: Series, truncated: bool) -> serde_json::Value {
    let set = SeriesSet {
        source: "fake".to_owned(),
        query: "metric_a[1m]".to_owned(),
        series: vec![series],
        truncated,
    };
    serde_json::to_value(set).unwrap()
}

#[tokio::test]
async fn checks_are_read_by_the_tool_and_judged_together() {
    let (good, bad) = (series("a", &[(5, 1.0)]), series("a", &[(5, 9.0)]));
    let low = || check(Reduce::Last, Comparison::Less, 5.0);
    for (answers, expected) in [
        (vec![set(good.clone(), false), set(good.clone(), false)], Verdict::Passed),
        (vec![set(good.clone(), false), set(bad, false)], Verdict::Failed),
        (vec![set(good.clone(), false), set(good.clone(), true)], Verdict::Inconclusive),
        (vec![set(good.clone(), false), json!({"series": "?"})], Verdict::Inconclusive),
    ] {
        let mut tool = FakeRead::new(QUERY_METRICS);
        for answer in answers {
            tool = tool.answer(answer);
        }
        let report = verify(&request(vec![low(), low()]), &registry(tool.clone()), NOW).await;
        assert_eq!(report.verdict, expected, "{report:?}");
        assert_eq!(report.read_at, NOW);
        assert_eq!(report.checks[0].query, "metric_a[1m]");
        assert_eq!(
            tool.inputs()[0],
            json!({"metric": "metric_a", "labels": {}, "from": "2027-01-15T07:57:00Z", "to": "2027-01-15T08:00:05Z"})
        );
    }
}

#[tokio::test]
async fn a_source_that_does_not_answer_passes_nothing() {
    let low = check(Reduce::Last, Comparison::Less, 5.0);
    let down = ToolError::Unreachable { why: "connection refused".to_owned() };
    let tool = FakeRead::new(QUERY_METRICS).misbehave(Behaviour::Fail(down));
    let report = verify(&request(vec![low]), &registry(tool), NOW).await;
    assert_eq!(report.verdict, Verdict::Inconclusive);
    assert_eq!(report.checks[0].statement, "cannot reach the target: connection refused");
    let none = verify(&request(Vec::new()), &ReadRegistry::new(), NOW).await;
    assert_eq!(none.verdict, Verdict::Inconclusive);
}
