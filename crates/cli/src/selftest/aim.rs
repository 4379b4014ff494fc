//! Where a kill is aimed: at a step, an undo or a probe that is under way, which are short and rarely met by chance.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rand::Rng as _;
use rand::rngs::StdRng;
use serde_json::Value;

use super::site::{Part, Site};
use super::tally::text;

/// How long is waited for what is aimed at; then the kill comes all the same.
const AIM_WITHIN: Duration = Duration::from_secs(8);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How far into what is aimed at: an operation of the simulator takes as long.
const INTO_MILLISECONDS: std::ops::Range<u64> = 0..350;

/// What a kill is to meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aim {
    /// Whatever there is.
    Anything,
    Step,
    /// A step that was under way at an earlier kill and is not settled: its target is probed.
    Probe,
    Undo,
}

impl Aim {
    /// In the first kills of a round each, then any of them.
    pub(super) fn of(kill: u32, random: &mut StdRng) -> Self {
        let aims = [Self::Step, Self::Probe, Self::Undo, Self::Anything];
        let any = random.random_range(0..aims.len());
        aims.get(kill as usize).copied().unwrap_or(aims[any])
    }

    /// Who is killed: what was started is known to the resolution agent, and what is to come to the coordinator.
    pub(super) fn victim(self, victims: &[Part], random: &mut StdRng) -> Part {
        let any = victims[random.random_range(0..victims.len())];
        match self {
            Self::Anything => any,
            Self::Step => Part::Resolution,
            Self::Probe | Self::Undo if random.random_bool(0.5) => Part::Resolution,
            Self::Probe | Self::Undo => Part::Coordinator(0),
        }
    }
}

/// What is under way, by its keys.
#[derive(Debug, Default)]
pub(super) struct UnderWay {
    steps: BTreeSet<String>,
    undos: BTreeSet<String>,
    probes: BTreeSet<String>,
}

impl UnderWay {
    /// What the incidents say; `doubtful` was under way at an earlier kill.
    fn of(incidents: &[Value], doubtful: &BTreeSet<String>) -> Self {
        let mut under_way = Self::default();
        for incident in incidents {
            if incident["phase"] != "executing" && incident["phase"] != "undoing" {
                continue;
            }
            let records = incident["remediation_actions"].as_array().into_iter().flatten();
            for record in records.filter(|record| record["ended_at"].is_null()) {
                let key = text(record, "key");
                let keys = match (doubtful.contains(&key), record["undo"] == true) {
                    (true, _) => &mut under_way.probes,
                    (false, true) => &mut under_way.undos,
                    (false, false) => &mut under_way.steps,
                };
                keys.insert(key);
            }
        }
        under_way
    }

    fn has(&self, aim: Aim) -> bool {
        match aim {
            Aim::Anything => true,
            Aim::Step => !self.steps.is_empty(),
            Aim::Probe => !self.probes.is_empty(),
            Aim::Undo => !self.undos.is_empty(),
        }
    }

    /// What a kill meets now.
    pub(super) fn hits(&self) -> impl Iterator<Item = &'static str> {
        let kinds = [("steps", &self.steps), ("undos", &self.undos), ("probes", &self.probes)];
        kinds.into_iter().filter(|(_, keys)| !keys.is_empty()).map(|(name, _)| name)
    }

    /// Whoever knew of these may be dead now.
    pub(super) fn into_doubtful(self, doubtful: &mut BTreeSet<String>) {
        doubtful.extend(self.steps);
        doubtful.extend(self.undos);
    }
}

/// Waits for what is aimed at and some way into it; says what is under way then.
pub(super) async fn take(
    site: &Site,
    since: &str,
    aim: Aim,
    doubtful: &BTreeSet<String>,
    random: &mut StdRng,
) -> UnderWay {
    let begun = Instant::now();
    while aim != Aim::Anything && begun.elapsed() < AIM_WITHIN && !look(site, since, doubtful).await.has(aim)
    {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    // The instant is the point; there is nothing to wait for.
    tokio::time::sleep(Duration::from_millis(random.random_range(INTO_MILLISECONDS))).await;
    look(site, since, doubtful).await
}

/// Nothing is known to be under way while no coordinator answers.
async fn look(site: &Site, since: &str, doubtful: &BTreeSet<String>) -> UnderWay {
    UnderWay::of(&site.incidents(since).await.unwrap_or_default(), doubtful)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_under_way_is_told_apart() {
        let record =
            |key: &str, undo, ended_at: Value| json!({"key": key, "undo": undo, "ended_at": ended_at});
        let incidents = [
            json!({"phase": "executing", "remediation_actions": [
                record("a", false, json!("2026-01-31T12:00:00Z")), record("b", false, Value::Null),
            ]}),
            json!({"phase": "undoing", "remediation_actions": [record("c/undo", true, Value::Null)]}),
            json!({"phase": "executing", "remediation_actions": [record("d", false, Value::Null)]}),
            json!({"phase": "escalated", "remediation_actions": [record("e", false, Value::Null)]}),
        ];
        let mut doubtful = BTreeSet::from(["d".to_owned()]);
        let under_way = UnderWay::of(&incidents, &doubtful);
        assert_eq!(under_way.hits().collect::<Vec<_>>(), ["steps", "undos", "probes"]);
        assert!([Aim::Step, Aim::Undo, Aim::Probe, Aim::Anything].into_iter().all(|aim| under_way.has(aim)));
        assert!(!UnderWay::default().has(Aim::Step) && UnderWay::default().has(Aim::Anything));
        under_way.into_doubtful(&mut doubtful);
        assert_eq!(doubtful, ["b", "c/undo", "d"].map(str::to_owned).into());
    }
}
