//! Similar past incidents: what is cited, in which order, and that nothing else decides it.

use std::collections::BTreeSet;

use proptest::prelude::*;
use quell_diagnose::similar::{CITED_MAX, Fingerprint, LIKENESS_MIN, PAST_MAX, Past, Shared, similar};

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn fingerprint(alerts: &[&str], services: &[&str], templates: &[&str]) -> Fingerprint {
    Fingerprint {
        alerts: names(alerts),
        services: names(services),
        templates: names(templates),
        ..Fingerprint::default()
    }
}

fn past(incident: &str, fingerprint: Fingerprint, cause: &str, helped: &[&str]) -> Past {
    let helped = helped.iter().map(|step| (*step).to_owned()).collect();
    Past { incident: incident.to_owned(), fingerprint, cause: Some(cause.to_owned()), helped }
}

#[test]
fn the_most_alike_are_cited_with_what_was_wrong_and_what_helped() {
    let pool = fingerprint(&["HighLatency"], &["orders"], &["connection timeout after <n> ms"]);
    let mut history = vec![
        past("1", pool.clone(), "connection_pool_exhausted", &["update_config"]),
        past("2", fingerprint(&["DiskFull"], &["logs"], &["no space left"]), "disk_full", &["clean_up"]),
        past(
            "3",
            fingerprint(&["HighLatency"], &["orders"], &["slow query"]),
            "missing_index",
            &["add_index"],
        ),
        past("4", fingerprint(&[], &[], &[]), "unknown", &[]),
    ];
    let cited = similar(&pool, &history, 5);
    let ids: Vec<&str> = cited.iter().map(|one| one.incident.as_str()).collect();
    assert_eq!(ids, ["1", "3"]);
    assert!((cited[0].likeness - 1.0).abs() < 1e-9);
    assert_eq!(cited[0].cause.as_deref(), Some("connection_pool_exhausted"));
    assert_eq!(cited[0].helped, ["update_config"]);
    // What only that one has says most.
    assert_eq!(
        cited[0].shared[0],
        Shared { aspect: "template", name: "connection timeout after <n> ms".to_owned() }
    );
    assert!(cited[1].likeness < 0.7 && cited[1].likeness >= LIKENESS_MIN, "{}", cited[1].likeness);
    // Of two that are as alike the later one is fresher.
    history.push(past("5", pool.clone(), "connection_pool_exhausted", &["restart_service"]));
    assert_eq!(similar(&pool, &history, 1)[0].incident, "5");
    assert_eq!(similar(&Fingerprint::default(), &history, 5), []);
}

#[test]
fn what_fires_every_time_makes_no_incidents_alike() {
    let noisy = |own: &str| fingerprint(&["Watchdog", own], &["gateway"], &[own]);
    let history: Vec<Past> =
        (0..50).map(|number| past(&number.to_string(), noisy(&format!("own-{number}")), "", &[])).collect();
    let cited = similar(&noisy("own-7"), &history, 5);
    assert_eq!(cited[0].incident, "7");
    let likeness = |number: usize| cited.get(number).map_or(0.0, |one| one.likeness);
    assert!(likeness(1) < 0.5, "{}", likeness(1));
}

#[test]
fn it_is_bounded() {
    let long = |salt: usize| Fingerprint {
        templates: (0..2_000).map(|number| format!("template {salt} {number}")).collect(),
        alerts: names(&["Same"]),
        ..Fingerprint::default()
    };
    let mut history = vec![past("forgotten", fingerprint(&["Rare"], &[], &[]), "", &[])];
    history.extend((0..PAST_MAX).map(|number| past(&number.to_string(), long(number % 3), "", &[])));
    let cited = similar(&long(1), &history, 1_000);
    assert_eq!(cited.len(), CITED_MAX);
    assert!(cited.iter().all(|one| one.shared.len() <= 8));
    assert!(similar(&fingerprint(&["Rare"], &[], &[]), &history, 5).is_empty());
}

fn any_fingerprint() -> impl Strategy<Value = Fingerprint> {
    let some = || proptest::collection::btree_set("[a-e]", 0..4);
    (some(), some(), some(), some(), some()).prop_map(|(alerts, services, metrics, templates, evidence)| {
        Fingerprint { alerts, services, metrics, templates, evidence }
    })
}

proptest! {
    #[test]
    fn likeness_is_a_share_and_an_incident_is_most_like_itself(
        now in any_fingerprint(),
        others in proptest::collection::vec(any_fingerprint(), 0..20),
    ) {
        let mut history: Vec<Past> = others
            .into_iter()
            .enumerate()
            .map(|(number, fingerprint)| past(&number.to_string(), fingerprint, "", &[]))
            .collect();
        history.push(past("itself", now.clone(), "", &[]));
        let cited = similar(&now, &history, CITED_MAX);
        prop_assert!(cited.iter().all(|one| (LIKENESS_MIN..=1.0 + 1e-9).contains(&one.likeness)));
        prop_assert!(cited.is_sorted_by(|one, other| one.likeness >= other.likeness));
        if now != Fingerprint::default() {
            prop_assert_eq!(&cited[0].incident, "itself");
        } else {
            prop_assert!(cited.is_empty());
        }
        let kept = serde_json::to_string(&history).unwrap();
        let read: Vec<Past> = serde_json::from_str(&kept).unwrap();
        prop_assert_eq!(similar(&now, &read, CITED_MAX), cited);
    }
}
