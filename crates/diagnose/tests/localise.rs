//! Each engine on a small system with one fault, and what none of them may hang on.

use proptest::prelude::*;
use quell_diagnose::localise::{
    Alerting, Calibration, Discount, Fault, Localisation, Observed, Phase, Quantity, Record, Rule, Sample,
    ServiceSeries, Span, Symptom, localise,
};

/// web calls cart and pay; cart calls db.
const SERVICES: [&str; 4] = ["web", "cart", "pay", "db"];
const WEB: usize = 0;
const CART: usize = 1;
const PAY: usize = 2;
const DB: usize = 3;

fn system() -> Observed {
    Observed {
        services: SERVICES.map(str::to_owned).to_vec(),
        calls: vec![(WEB, CART), (WEB, PAY), (CART, DB)],
        step_seconds: 60.0,
        ..Observed::default()
    }
}

/// A series that is at its normal with a little noise, and then somewhere else.
fn series(service: usize, metric: &str, normal: f64, now: &[f64]) -> ServiceSeries {
    let noise = [0.0, 0.02, -0.02, 0.01, -0.01, 0.03, -0.03, 0.0];
    let usual: Vec<f64> = (0..24).map(|i| normal * (1.0 + noise[i % noise.len()])).collect();
    ServiceSeries {
        service,
        metric: metric.to_owned(),
        quantity: Quantity::of(metric),
        before: usual[22..].to_vec(),
        normal: usual,
        fault: now
            .iter()
            .enumerate()
            .map(|(i, value)| Sample { at: 60.0 * i as f64, value: *value })
            .collect(),
    }
}

fn calm(observed: &mut Observed) {
    for service in 0..SERVICES.len() {
        observed.series.push(series(service, "workload", 5.0, &[5.0, 5.1, 4.9, 5.0]));
    }
}

fn found(observed: &Observed) -> Localisation {
    localise(observed, &Calibration::prior())
}

/// Service, fault and the rule of the strongest finding.
fn first(found: &Localisation) -> Option<(usize, Fault, Rule)> {
    let first = found.candidates.first()?;
    Some((first.service, first.fault, first.findings.first()?.rule))
}

#[test]
fn nothing_is_said_of_a_calm_system() {
    assert!(found(&Observed::default()).candidates.is_empty());
    let mut observed = system();
    calm(&mut observed);
    observed.series.push(series(CART, "cpu_usage_percent", 85.0, &[85.0, 86.0, 84.0, 85.0]));
    observed.series.push(series(CART, "latency", 0.2, &[0.2, 0.21, 0.2, 0.2]));
    let found = found(&observed);
    assert!(found.candidates.is_empty(), "{found:#?}");
    assert_eq!(found.confidence(), 0.0);
    assert_eq!(found.none_of_these(), 1.0);
}

#[test]
fn cpu_near_its_limit_is_told_by_level_and_change() {
    let mut observed = system();
    calm(&mut observed);
    observed.series.push(series(CART, "cpu_usage_percent", 10.0, &[12.0, 97.0, 99.0, 98.0]));
    // Always hot, and a little hotter: no saturation.
    observed.series.push(series(PAY, "cpu_usage_percent", 80.0, &[84.0, 85.0, 85.0, 84.0]));
    let found = found(&observed);
    assert_eq!(first(&found), Some((CART, Fault::CpuSaturation, Rule::CpuNearLimit)));
    assert!(found.confidence() > 0.8, "{}", found.confidence());
    assert_eq!(found.candidates.len(), 1);
}

#[test]
fn memory_disk_and_restarts() {
    for (metric, normal, now, rule) in [
        ("memory_usage", 50.0, [60.0, 96.0, 97.0, 97.0], Rule::MemoryNearLimit),
        ("mem", 200.0, [200.0, 700.0, 800.0, 900.0], Rule::MemoryAboveNormal),
        ("disk_usage_percent", 70.0, [90.0, 97.0, 98.0, 99.0], Rule::DiskNearlyFull),
        ("restarts_total", 2.0, [2.0, 3.0, 3.0, 3.0], Rule::Restarted),
    ] {
        let mut observed = system();
        calm(&mut observed);
        observed.series.push(series(DB, metric, normal, &now));
        assert_eq!(
            first(&found(&observed)).map(|(service, _, rule)| (service, rule)),
            Some((DB, rule)),
            "{metric}"
        );
    }
}

#[test]
fn latency_is_the_callees_that_explains_it() {
    let mut observed = system();
    calm(&mut observed);
    observed.series.push(series(WEB, "latency", 0.20, &[0.2, 0.7, 0.7, 0.7]));
    observed.series.push(series(CART, "latency", 0.10, &[0.1, 0.6, 0.6, 0.6]));
    observed.series.push(series(DB, "latency", 0.01, &[0.01, 0.5, 0.5, 0.5]));
    observed.series.push(series(PAY, "latency", 0.05, &[0.05, 0.05, 0.05, 0.05]));
    observed.alerting = Some(Alerting { service: WEB, symptom: Some(Symptom::Latency) });
    let found = found(&observed);
    assert_eq!(first(&found), Some((DB, Fault::Latency, Rule::SlowAnswers)));
    let cart = found.candidates.iter().find(|one| one.service == CART).unwrap();
    let passed_on =
        |discount: &Discount| matches!(discount, Discount::PassedOn { callee, .. } if *callee == DB);
    assert!(cart.findings[0].discounts.iter().any(passed_on), "{cart:#?}");
    assert!(cart.because.contains("db shows the same"), "{}", cart.because);
}

#[test]
fn a_service_that_the_alert_does_not_depend_on_counts_less() {
    let mut observed = system();
    calm(&mut observed);
    observed.series.push(series(WEB, "latency", 0.2, &[0.2, 0.9, 0.9, 0.9]));
    observed.series.push(series(PAY, "cpu_usage_percent", 10.0, &[10.0, 98.0, 99.0, 98.0]));
    let near = found(&observed);
    assert_eq!(near.candidates[0].service, PAY);
    observed.alerting = Some(Alerting { service: CART, symptom: None });
    let far = found(&observed);
    let pay = far.candidates.iter().find(|one| one.service == PAY).unwrap();
    assert!(pay.strength < 0.5 * near.candidates[0].strength);
    assert!(pay.findings[0].discounts.contains(&Discount::NotReached));
}

#[test]
fn failing_requests_are_counted() {
    let mut observed = system();
    calm(&mut observed);
    // Three percent of three hundred are nine.
    observed.series.push(series(CART, "availability", 100.0, &[100.0, 97.0, 97.0, 97.0]));
    assert_eq!(first(&found(&observed)), Some((CART, Fault::ErrorRate, Rule::FailingRequests)));
    // Of six requests one may fail.
    let last = observed.series.len() - 1;
    observed.series.retain(|one| one.metric != "workload" || one.service != CART);
    observed.series[last - 1].fault.iter_mut().for_each(|sample| sample.value = sample.value.max(83.0));
    observed.series.push(series(CART, "workload", 0.1, &[0.1, 0.1, 0.1, 0.1]));
    assert_eq!(first(&found(&observed)), None);
}

#[test]
fn calls_that_are_missing_are_the_callers_when_nobody_complains() {
    let mut observed = system();
    observed.series.push(series(WEB, "workload", 5.0, &[5.0, 5.0, 5.1, 5.0]));
    observed.series.push(series(CART, "workload", 5.0, &[5.0, 0.1, 0.0, 0.1]));
    observed.series.push(series(PAY, "workload", 3.0, &[3.0, 0.0, 0.0, 0.1]));
    let found = found(&observed);
    assert_eq!(first(&found), Some((WEB, Fault::BehaviourChange, Rule::CallsMissing)));
}

#[test]
fn callers_that_wait_for_nobody_wait_for_the_network() {
    let mut observed = system();
    calm(&mut observed);
    observed.series.push(series(WEB, "srv_lat_90", 0.30, &[0.3, 0.9, 0.9, 0.9]));
    observed.series.push(series(WEB, "cli_lat_90", 0.10, &[0.1, 0.6, 0.6, 0.6]));
    observed.series.push(series(CART, "srv_lat_90", 0.05, &[0.05, 0.05, 0.05, 0.05]));
    observed.series.push(series(PAY, "srv_lat_90", 0.05, &[0.05, 0.05, 0.05, 0.05]));
    let found = found(&observed);
    let (service, fault, rule) = first(&found).unwrap();
    assert!([CART, PAY].contains(&service), "{service}");
    assert_eq!((fault, rule), (Fault::NetworkDelay, Rule::WaitOfCallers));
    // Two are as likely: nobody is sure.
    assert!(found.confidence() < 0.5, "{}", found.confidence());
}

/// One request through web, cart and db in each trace; the gap is lost between web and cart.
fn traces(observed: &mut Observed, phase: Phase, count: u64, gap: f64) {
    for trace in 0..count {
        let id = |place: u64| 10 * trace + place;
        let mut span = |service, place, parent: Option<u64>, operation: &str, milliseconds| {
            let parent = parent.map(id);
            let operation = operation.to_owned();
            observed.spans.push(Span {
                service,
                phase,
                trace,
                id: id(place),
                parent,
                operation,
                milliseconds,
            });
        };
        span(WEB, 0, None, "GET /", 30.0 + gap);
        span(WEB, 1, Some(0), "HTTP GET", 20.0 + gap);
        span(CART, 2, Some(1), "GET /cart", 18.0);
        span(CART, 3, Some(2), "query", 8.0);
        span(DB, 4, Some(3), "SELECT", 7.0);
        span(WEB, 5, Some(0), "HTTP POST", 6.0);
        span(PAY, 6, Some(5), "POST /pay", 5.0);
    }
}

#[test]
fn what_is_lost_between_two_ends_of_calls_is_the_networks() {
    let mut observed = system();
    traces(&mut observed, Phase::Normal, 40, 0.0);
    traces(&mut observed, Phase::Fault, 20, 500.0);
    let found = found(&observed);
    assert_eq!(first(&found), Some((CART, Fault::NetworkDelay, Rule::CallGap)));
    assert!(found.confidence() > 0.7);
}

fn record(service: usize, phase: Phase, trace: u64, is_error: bool, message: &str) -> Record {
    Record { service, phase, trace: Some(trace), is_error, message: message.to_owned() }
}

#[test]
fn lines_that_belong_to_requests_and_are_missing_are_found_under_any_load() {
    let mut observed = system();
    traces(&mut observed, Phase::Normal, 20, 0.0);
    // Three times the load.
    traces(&mut observed, Phase::Fault, 60, 0.0);
    for trace in 0..20 {
        observed.records.push(record(CART, Phase::Normal, trace, false, "cart 17 is priced"));
        observed.records.push(record(DB, Phase::Normal, trace, false, "query took 5 ms"));
    }
    for trace in 0..60 {
        observed.records.push(record(DB, Phase::Fault, trace, false, "query took 6 ms"));
    }
    let found = found(&observed);
    assert_eq!(first(&found), Some((CART, Fault::BehaviourChange, Rule::StepsMissing)));
    assert_eq!(found.candidates.len(), 1, "{found:#?}");
}

#[test]
fn requests_that_break_off_are_found_though_none_of_them_lacks_a_line() {
    let mut observed = system();
    traces(&mut observed, Phase::Normal, 20, 0.0);
    traces(&mut observed, Phase::Fault, 20, 0.0);
    let mut add = |phase, trace, times, message: &str| {
        (0..times).for_each(|_| observed.records.push(record(CART, phase, trace, false, message)));
    };
    for trace in 0..20 {
        let trains = 1 + trace % 3;
        add(Phase::Normal, trace, 2 * trains, "a seat is asked for");
        add(Phase::Normal, trace, 2 * trains, "a price is computed");
        add(Phase::Fault, trace, 2 * trains, "a seat is asked for");
        // A third of the requests are still as they were.
        add(Phase::Fault, trace, if trace % 3 == 0 { 2 * trains } else { trains }, "a price is computed");
    }
    let found = found(&observed);
    assert_eq!(first(&found), Some((CART, Fault::BehaviourChange, Rule::StepsMissing)));
    let statement = &found.candidates[0].findings[0].statement;
    let expected = "13 of 20 requests break off between what always goes together: a seat is asked for; a price is computed";
    assert_eq!(statement, expected);
    assert!(found.confidence() > 0.7, "{}", found.confidence());
}

#[test]
fn new_errors_are_of_the_service_that_they_name() {
    let mut observed = system();
    observed.services[DB] = "orders-db".to_owned();
    traces(&mut observed, Phase::Normal, 20, 0.0);
    traces(&mut observed, Phase::Fault, 20, 0.0);
    for trace in 0..20 {
        let message = format!("no connection to orders-db after {trace} ms");
        observed.records.push(record(CART, Phase::Fault, trace, true, &message));
    }
    let named = found(&observed);
    assert_eq!(first(&named), Some((DB, Fault::Unreachable, Rule::NamedInErrors)));
    for record in &mut observed.records {
        record.message = "cannot price the cart".to_owned();
    }
    let own = found(&observed);
    assert_eq!(first(&own), Some((CART, Fault::BehaviourChange, Rule::NewErrors)));
    assert!(own.confidence() > named.confidence());
}

#[test]
fn groups_of_evidence_that_agree_are_surer_and_one_group_counts_once() {
    let mut observed = system();
    calm(&mut observed);
    observed.series.push(series(CART, "cpu_usage_percent", 10.0, &[12.0, 90.0, 95.0, 93.0]));
    let one = found(&observed);
    observed.series.push(series(CART, "cpu_rate", 10.0, &[12.0, 90.0, 95.0, 93.0]));
    let same = found(&observed);
    assert!((one.confidence() - same.confidence()).abs() < 1e-9);
    observed.series.push(series(CART, "latency", 0.1, &[0.1, 0.9, 0.9, 0.9]));
    let two = found(&observed);
    assert!(two.confidence() > one.confidence());
    assert_eq!(two.features.groups, 2);
    let total: f64 = two.candidates.iter().map(|candidate| candidate.confidence).sum();
    assert!(total + two.none_of_these() <= 1.0 + 1e-9);
}

/// A system with several faults at once, so that there is an order to be kept.
fn busy(values: &[f64]) -> Observed {
    let mut observed = system();
    calm(&mut observed);
    let mut at = values.iter().copied().cycle();
    for (service, metric) in [
        (WEB, "latency"),
        (CART, "latency"),
        (CART, "cpu_usage_percent"),
        (PAY, "availability"),
        (DB, "memory_usage"),
        (DB, "queue_depth"),
    ] {
        let now: Vec<f64> = at.by_ref().take(5).collect();
        observed.series.push(series(service, metric, 10.0, &now));
    }
    traces(&mut observed, Phase::Normal, 12, 0.0);
    traces(&mut observed, Phase::Fault, 9, values.first().copied().unwrap_or_default());
    for trace in 0..9 {
        observed.records.push(record(PAY, Phase::Fault, trace, trace % 2 == 0, "it failed"));
        observed.records.push(record(CART, Phase::Normal, trace, false, "cart 5 is priced"));
    }
    observed
}

/// The names in their order, with confidences.
fn told(observed: &Observed, found: &Localisation) -> Vec<(String, f64, Fault)> {
    let name = |service: usize| observed.services[service].clone();
    found.candidates.iter().map(|one| (name(one.service), one.confidence, one.fault)).collect()
}

fn wild() -> impl Strategy<Value = f64> {
    prop_oneof![
        0.0..200.0f64,
        Just(f64::NAN),
        Just(f64::INFINITY),
        Just(f64::NEG_INFINITY),
        Just(f64::MAX),
        Just(f64::MIN_POSITIVE),
        Just(-0.0),
        -1e9..1e9f64,
    ]
}

proptest! {
    #[test]
    fn any_values_give_finite_confidences_and_the_same_answer_twice(
        values in proptest::collection::vec(wild(), 1..40),
    ) {
        let mut observed = busy(&values);
        for (one, value) in observed.series.iter_mut().zip(&values) {
            one.normal.push(*value);
            one.before.push(*value);
        }
        let found = found(&observed);
        prop_assert_eq!(format!("{found:?}"), format!("{:?}", localise(&observed, &Calibration::prior())));
        for candidate in &found.candidates {
            prop_assert!((0.0..=1.0).contains(&candidate.confidence), "{}", candidate.confidence);
            prop_assert!(!candidate.findings.is_empty());
        }
        prop_assert!(found.none_of_these() >= 0.0);
    }

    #[test]
    fn the_order_of_services_series_and_lines_does_not_matter(
        values in proptest::collection::vec(0.0..200.0f64, 8..40),
        order in Just(vec![0usize, 1, 2, 3]).prop_shuffle(),
        seed in any::<u64>(),
    ) {
        let observed = busy(&values);
        let mut other = observed.clone();
        // Service `i` is now at the place `order[i]`.
        for (service, place) in order.iter().enumerate() {
            other.services[*place] = observed.services[service].clone();
        }
        other.series.iter_mut().for_each(|one| one.service = order[one.service]);
        other.records.iter_mut().for_each(|one| one.service = order[one.service]);
        other.spans.iter_mut().for_each(|one| one.service = order[one.service]);
        other.calls.iter_mut().for_each(|(from, to)| (*from, *to) = (order[*from], order[*to]));
        let turn = |length: usize| (seed as usize) % length.max(1);
        let (series, records, calls) = (turn(other.series.len()), turn(other.records.len()), turn(other.calls.len()));
        other.series.rotate_left(series);
        other.records.rotate_left(records);
        other.records.reverse();
        other.spans.reverse();
        other.calls.rotate_left(calls);
        let (one, two) = (told(&observed, &found(&observed)), told(&other, &found(&other)));
        prop_assert_eq!(one.len(), two.len());
        for (one, two) in one.iter().zip(&two) {
            prop_assert_eq!(&one.0, &two.0);
            prop_assert_eq!(one.2, two.2);
            prop_assert!((one.1 - two.1).abs() < 1e-9);
        }
    }
}
