//! The learned model: what it learns, what it says, and that nothing kept of it can do harm.

use std::collections::BTreeMap;

use proptest::prelude::*;
use quell_diagnose::learned::{Candidate, EXAMPLES_MIN, Example, Kind, Model, ModelError, REASONS_MAX};
use serde_json::{Value, json};

const KINDS: [Kind; 3] = [Kind::Regression, Kind::Forest, Kind::Mixture];

fn candidate(name: &str, features: &[(&str, f64)]) -> Candidate {
    let features = features.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
    Candidate { name: name.to_owned(), features }
}

/// The one at fault has the most errors, and what else there is of it says what kind of fault it was; noise is everywhere.
fn example(number: usize) -> Example {
    let noise = |salt: usize| ((number * 7_919 + salt * 104_729) % 101) as f64 / 25.0;
    let at_fault = number % 4;
    let fault = if number.is_multiple_of(3) { "memory" } else { "cpu" };
    let candidates = (0..4).map(|place| {
        let own = place == at_fault;
        let mut features = vec![("noise", noise(place)), ("errors", noise(place + 5) / 2.0)];
        if own {
            features[1].1 += 5.0;
            features.push((fault, 3.0));
        }
        candidate(&format!("service-{place}"), &features)
    });
    Example {
        candidates: candidates.collect(),
        cause: format!("service-{at_fault}"),
        fault: Some(fault.to_owned()),
    }
}

fn examples(count: usize) -> Vec<Example> {
    (0..count).map(example).collect()
}

#[test]
fn what_was_seen_before_is_found_again_and_explained() {
    for kind in KINDS {
        let model = Model::train(&examples(60), kind, 7).unwrap();
        assert_eq!((model.kind(), model.examples()), (kind, 60));
        let mut squares = 0.0;
        for number in 1_000..1_060 {
            let seen = example(number);
            let said = model.predict(&seen.candidates);
            assert_eq!(said.ranked[0].name, seen.cause, "{kind:?} {number}");
            assert_eq!(said.fault.unwrap().name, seen.fault.unwrap(), "{kind:?} {number}");
            squares += (1.0 - said.ranked[0].confidence).powi(2);
            let sum: f64 = said.ranked.iter().map(|one| one.confidence).sum();
            assert!((sum - 1.0).abs() < 1e-9, "{sum}");
            let reasons = &said.ranked[0].reasons;
            assert!(reasons.len() <= REASONS_MAX);
            assert_ne!(reasons[0].feature, "noise", "{kind:?} {reasons:?}");
            assert!(reasons[0].weight > 0.0, "{kind:?} {reasons:?}");
        }
        assert!(squares / 60.0 < 0.1, "{kind:?} {squares}");
    }
}

#[test]
fn the_same_examples_give_the_same_model() {
    for kind in KINDS {
        let kept = |seed: u64| Model::train(&examples(40), kind, seed).unwrap().write();
        assert_eq!(kept(3), kept(3));
        assert_eq!(kept(3) == kept(4), kind == Kind::Regression);
    }
}

#[test]
fn too_few_usable_incidents_teach_nothing() {
    let mut few = examples(EXAMPLES_MIN);
    assert!(Model::train(&few, Kind::Regression, 1).is_ok());
    few[0].cause = "elsewhere".to_owned();
    few[1].candidates.truncate(1);
    let usable = EXAMPLES_MIN - 2;
    assert_eq!(Model::train(&few, Kind::Forest, 1), Err(ModelError::TooFew { usable }));
    assert_eq!(Kind::for_examples(EXAMPLES_MIN), Kind::Regression);
    assert_eq!(Kind::for_examples(100), Kind::Mixture);
}

#[test]
fn a_model_survives_being_kept() {
    for kind in KINDS {
        let model = Model::train(&examples(30), kind, 1).unwrap();
        let read = Model::read(&model.write()).unwrap();
        assert_eq!(read, model);
        let candidates = example(500).candidates;
        assert_eq!(read.predict(&candidates), model.predict(&candidates));
    }
}

#[test]
fn what_it_does_not_know_is_no_reason_to_fail() {
    for kind in KINDS {
        let mut strange = examples(30);
        for (number, example) in strange.iter_mut().enumerate() {
            let values = [f64::NAN, f64::INFINITY, f64::MAX, -f64::MAX, 0.0];
            let value = values[number % values.len()];
            example.candidates[0].features.insert("strange".to_owned(), value);
            example.candidates[1].features.insert("n".repeat(10_000), 1.0);
        }
        let model = Model::train(&strange, kind, 1).unwrap();
        assert!(Model::read(&model.write()).is_ok());
        assert!(model.predict(&[]).ranked.is_empty());
        let unknown = [candidate("y", &[("never seen", 5.0)]), candidate("x", &[("never seen", 7.0)])];
        let said = model.predict(&unknown);
        assert_eq!(said.ranked[0].name, "x", "equal ones by name");
        assert!((said.ranked[0].confidence - 0.5).abs() < 1e-9);
        assert_eq!(model.predict(&vec![candidate("a", &[("errors", f64::NAN)]); 10_000]).ranked.len(), 200);
    }
}

#[test]
fn a_hostile_model_is_refused() {
    // The model with one thing replaced.
    let broken = |kind: Kind, pointer: &str, value: &Value| {
        let kept = Model::train(&examples(30), kind, 1).unwrap().write();
        let mut document: Value = serde_json::from_str(&kept).unwrap();
        *document.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = value.clone();
        Model::read(&document.to_string())
    };
    for (kind, pointer, value) in [
        (Kind::Regression, "/schema", json!("quell.learned/0")),
        (Kind::Regression, "/columns", json!([])),
        (Kind::Regression, "/columns/0", json!("n".repeat(1_000))),
        (Kind::Regression, "/faults", json!(["one"])),
        (Kind::Regression, "/cause/regression/weights", json!([1.0])),
        (Kind::Regression, "/cause/regression/weights/0", json!(1e300)),
        (Kind::Regression, "/fault/regression/0/means", json!([])),
        (Kind::Regression, "/cause", json!({"oracle": {}})),
        (Kind::Forest, "/cause/forest/trees/0", json!([])),
        (Kind::Forest, "/cause/forest/trees", json!(vec![json!([]); 1_001])),
        (Kind::Forest, "/cause/forest/trees/0/0/split/low", json!(0)),
        (Kind::Forest, "/cause/forest/trees/0/0/split/high", json!(1_000_000)),
        (Kind::Forest, "/cause/forest/trees/0/0/split/column", json!(1_000_000)),
        (Kind::Forest, "/cause/forest/trees/0/0/shares", json!([0.5, 1.5])),
        (Kind::Forest, "/cause/forest/trees/0/0/shares", json!([0.5])),
        (Kind::Forest, "/fault/forest/trees/0/0/shares", json!([])),
        (Kind::Mixture, "/cause/mixture/weights", json!([0.5, 0.5, 0.5])),
        (Kind::Mixture, "/cause/mixture/weights", json!([2.0, -1.0, 0.0])),
        (Kind::Mixture, "/cause/mixture/regression/weights/0", json!(1e300)),
        (Kind::Mixture, "/cause/mixture/forest/trees/0", json!([])),
        (Kind::Mixture, "/cause/mixture/services/names", json!(["z", "a"])),
        (Kind::Mixture, "/cause/mixture/services/columns", json!([])),
        (Kind::Mixture, "/cause/mixture/services/forest/trees/0/0/shares", json!([0.5])),
    ] {
        let refused = broken(kind, pointer, &value);
        assert!(matches!(refused, Err(ModelError::Unusable { .. })), "{pointer} {refused:?}");
    }
    for text in ["", "null", "{}", "[1e999]", &"[".repeat(100_000)] {
        assert!(Model::read(text).is_err());
    }
}

fn feature_map() -> impl Strategy<Value = BTreeMap<String, f64>> {
    proptest::collection::btree_map("[a-d]", any::<f64>(), 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn any_examples_give_a_model_that_answers(
        rows in proptest::collection::vec(proptest::collection::vec(feature_map(), 2..5), 25),
        seed: u64,
    ) {
        let examples: Vec<Example> = rows
            .into_iter()
            .enumerate()
            .map(|(number, rows)| Example {
                candidates: rows
                    .into_iter()
                    .enumerate()
                    .map(|(place, features)| Candidate { name: place.to_string(), features })
                    .collect(),
                cause: (number % 2).to_string(),
                fault: Some((number % 3).to_string()),
            })
            .collect();
        for kind in KINDS {
            let model = Model::train(&examples, kind, seed).unwrap();
            prop_assert_eq!(Model::read(&model.write()), Ok(model.clone()));
            let said = model.predict(&examples[0].candidates);
            let sum: f64 = said.ranked.iter().map(|one| one.confidence).sum();
            prop_assert!((sum - 1.0).abs() < 1e-6, "{:?} {}", kind, sum);
            let fault = said.fault.unwrap();
            prop_assert!((0.0..=1.0).contains(&fault.confidence), "{:?} {:?}", kind, fault);
        }
    }
}
