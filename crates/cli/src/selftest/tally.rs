//! What is counted.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

/// Findings that are told one by one; more of them are only counted.
const FINDINGS_MAX: usize = 20;

/// An alert's episode: its fingerprint and when it began.
pub(crate) type Episode = (String, String);

/// The counts of all rounds.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) webhooks: u64,
    pub(crate) acknowledged: u64,
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
    pub(crate) stuck: u64,
    pub(crate) twice: u64,
    pub(crate) incidents: u64,
    pub(crate) actions: u64,
    pub(crate) kills: BTreeMap<&'static str, u64>,
    /// Kills that met something under way, by what.
    pub(crate) hits: BTreeMap<&'static str, u64>,
    /// Steps that were started, undos among them.
    pub(crate) steps_started: u64,
    /// Rounds in which all faults together did not make as many steps as a round is to have.
    pub(crate) rounds_with_few_steps: u64,
    found: BTreeSet<String>,
}

impl Tally {
    /// Notes what was found, for people.
    pub(crate) fn found(&mut self, what: String) {
        if self.found.len() < FINDINGS_MAX {
            self.found.insert(what);
        }
    }

    pub(crate) fn findings(&self) -> impl Iterator<Item = &str> {
        self.found.iter().map(String::as_str)
    }

    pub(crate) fn is_sound(&self) -> bool {
        [self.lost, self.duplicated, self.stuck, self.twice] == [0; 4]
    }

    /// For people: a name and a number in each line.
    pub(crate) fn rows(&self) -> Vec<(String, u64)> {
        let mut rows = vec![("alerts acknowledged".to_owned(), self.acknowledged)];
        rows.extend(self.kills.iter().map(|(part, count)| (format!("{part} killed"), *count)));
        rows.extend(self.hits.iter().map(|(what, count)| (format!("kills during {what}"), *count)));
        rows.push(("steps started".to_owned(), self.steps_started));
        if self.rounds_with_few_steps > 0 {
            rows.push(("rounds with few steps".to_owned(), self.rounds_with_few_steps));
        }
        let rest = [
            ("incidents", self.incidents),
            ("actions", self.actions),
            ("alerts lost", self.lost),
            ("alerts duplicated", self.duplicated),
            ("incidents stuck", self.stuck),
            ("steps started twice", self.twice),
        ];
        rows.extend(rest.map(|(name, count)| (name.to_owned(), count)));
        rows
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({
            "webhooks": self.webhooks,
            "acknowledged": self.acknowledged,
            "incidents": self.incidents,
            "actions": self.actions,
            "kills": self.kills,
            "hits": self.hits,
            "steps_started": self.steps_started,
            "rounds_with_few_steps": self.rounds_with_few_steps,
            "lost": self.lost,
            "duplicated": self.duplicated,
            "stuck": self.stuck,
            "twice": self.twice,
            "findings": self.found,
        })
    }

    /// Compares what was acknowledged with the incidents of the round.
    pub(crate) fn alerts(&mut self, acknowledged: &BTreeSet<Episode>, incidents: &[Value]) {
        let mut belongs = BTreeMap::<Episode, Vec<String>>::new();
        for incident in incidents {
            let id = text(incident, "id");
            for fingerprint in incident["fingerprints"].as_array().into_iter().flatten() {
                let fingerprint = fingerprint.as_str().unwrap_or_default().to_owned();
                let episode = (fingerprint, text(incident, "started_at"));
                belongs.entry(episode).or_default().push(id.clone());
            }
        }
        let known: BTreeSet<_> = belongs.keys().map(|(fingerprint, _)| fingerprint.as_str()).collect();
        let lost: Vec<_> =
            acknowledged.iter().filter(|(fingerprint, _)| !known.contains(fingerprint.as_str())).collect();
        let doubled: Vec<_> = belongs.iter().filter(|(_, ids)| ids.len() > 1).collect();
        self.acknowledged += acknowledged.len() as u64;
        self.incidents += incidents.len() as u64;
        self.lost += lost.len() as u64;
        self.duplicated += doubled.len() as u64;
        for (fingerprint, began) in lost {
            self.found(format!(
                "lost: alert {fingerprint} since {began} was acknowledged and is in no incident"
            ));
        }
        for ((fingerprint, began), ids) in doubled {
            self.found(format!("duplicated: alert {fingerprint} since {began} is in {}", ids.join(" and ")));
        }
    }

    /// Counts what was started, or done, more than once: under one key, or as the same step of one plan.
    pub(crate) fn steps(&mut self, incidents: &[Value], actions: &[Value]) {
        let mut started = BTreeMap::<String, u64>::new();
        for record in incidents.iter().filter_map(|one| one["remediation_actions"].as_array()).flatten() {
            self.steps_started += 1;
            *started.entry(format!("started: key {}", text(record, "key"))).or_default() += 1;
        }
        for action in actions {
            let key = text(action, "key");
            *started.entry(format!("done: step {}", step_of(&key))).or_default() += 1;
            *started.entry(format!("done: key {key}")).or_default() += 1;
        }
        self.actions += actions.len() as u64;
        for (what, count) in started.into_iter().filter(|(_, count)| *count > 1) {
            // A key that was done twice is also a step that was.
            self.twice += u64::from(!what.starts_with("done: step"));
            self.twice += u64::from(what.starts_with("done: step"));
            self.found(format!("twice: {what}, {count} times"));
        }
    }
}

/// A field's text, empty without one.
pub(crate) fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_default().to_owned()
}

/// The key `incident/attempt/plan/step/try[/undo]` without its try: a try comes after a probe said that the one before did not happen.
fn step_of(key: &str) -> String {
    let (key, undo) = key.strip_suffix("/undo").map_or((key, ""), |key| (key, "/undo"));
    let step = key.rsplit_once('/').map_or(key, |(step, _)| step);
    format!("{step}{undo}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn incident(id: &str, fingerprints: &[&str], keys: &[&str]) -> Value {
        let records: Vec<_> = keys.iter().map(|key| json!({"key": key})).collect();
        json!({"id": id, "started_at": "2026-01-31T12:00:00Z", "fingerprints": fingerprints, "remediation_actions": records})
    }

    fn episode(fingerprint: &str) -> Episode {
        (fingerprint.to_owned(), "2026-01-31T12:00:00Z".to_owned())
    }

    #[test]
    fn what_is_well_counts_nothing() {
        let mut tally = Tally::default();
        let incidents = [incident("1", &["a", "b"], &["1/1/p/s/1", "1/1/p/s/2"]), incident("2", &["c"], &[])];
        tally.alerts(&[episode("a"), episode("c")].into(), &incidents);
        tally.steps(&incidents, &[json!({"key": "1/1/p/s/2"}), json!({"key": "1/1/p/s/2/undo"})]);
        assert!(tally.is_sound(), "{tally:?}");
        assert_eq!((tally.acknowledged, tally.incidents, tally.actions), (2, 2, 2));
    }

    #[test]
    fn each_kind_of_damage_is_seen() {
        let mut tally = Tally::default();
        let incidents = [incident("1", &["a"], &["k", "k"]), incident("2", &["a"], &[])];
        tally.alerts(&[episode("a"), episode("z")].into(), &incidents);
        tally.steps(&incidents, &[]);
        assert_eq!((tally.lost, tally.duplicated, tally.twice), (1, 1, 1));
        tally.steps(&[], &[json!({"key": "1/1/p/s/1"}), json!({"key": "1/1/p/s/2"})]);
        assert_eq!(tally.twice, 2, "two tries of one step both happened");
        assert_eq!(tally.findings().count(), 4, "{tally:?}");
        assert!(!tally.is_sound());
    }
}
