//! The ledger in memory: the fold of its records, and what is running now.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use quell_incident::contract::StepOutcome;
use quell_incident::ids::{Digest, FencingToken, StepName};
use quell_incident::{IncidentId, Plan, StepKey, TargetName};
use tokio::sync::watch;

use super::LedgerSettings;
use super::record::Record;

/// The answer to come of a key that is running; the sender is dropped without one when its task is lost.
pub(crate) type Running = watch::Receiver<Option<StepOutcome>>;

/// What is known of a key.
#[derive(Clone, Debug)]
pub(crate) enum Phase {
    /// It is being decided or carried out by this process.
    Running(Running),
    /// It was begun, and its end was not recorded.
    Lost,
    /// It has ended so.
    Ended(StepOutcome),
    /// It never starts; `durable` once that is on disk.
    Sealed { durable: bool },
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) content: Digest,
    pub(crate) phase: Phase,
    /// When the intent was written.
    pub(crate) began_at: Option<Timestamp>,
    keep_until: Timestamp,
}

struct Planned {
    plan: Arc<Plan>,
    /// The steps that were begun.
    begun: BTreeSet<StepName>,
    /// Whether it stands in the journal, as those do that have begun, or in a file of its own.
    in_journal: bool,
    /// How many of its steps are being written into the journal.
    beginning: u32,
    keep_until: Timestamp,
}

/// What makes two plans the same for people: one runbook, as it is written, on the same targets.
pub(crate) type Likeness = (Digest, Vec<TargetName>);

pub(crate) struct State {
    pub(crate) keys: HashMap<StepKey, Entry>,
    /// The key under which each try of each step (its content) came: a try is begun under one key.
    tries: HashMap<(Digest, u32), StepKey>,
    tokens: HashMap<TargetName, FencingToken>,
    plans: HashMap<Digest, Planned>,
    /// Those that have not begun and of which no step is beginning, from the oldest to the youngest.
    unused: BTreeSet<(Timestamp, Digest)>,
    /// The youngest of each kind.
    alike: HashMap<Likeness, Arc<Plan>>,
    settings: LedgerSettings,
}

impl State {
    pub(crate) fn new(settings: LedgerSettings) -> Self {
        Self {
            keys: HashMap::new(),
            tries: HashMap::new(),
            tokens: HashMap::new(),
            plans: HashMap::new(),
            unused: BTreeSet::new(),
            alike: HashMap::new(),
            settings,
        }
    }

    /// Takes up a record that was read back. A key with an intent and no outcome is left as lost.
    pub(crate) fn replay(&mut self, record: Record) {
        match record {
            Record::Planned { digest, plan, at } => self.in_journal(digest, Arc::new(*plan), at),
            Record::Intent { key, about, plan, step, undo, at } => {
                self.see_token(&about.target, about.token);
                self.begun(plan, &step, undo, at);
                let entry = self.entry(about.content, Phase::Lost, at.max(about.not_after));
                self.remember(key, Entry { began_at: Some(at), ..entry });
            }
            Record::Outcome { key, about, outcome, at } => {
                self.see_token(&about.target, about.token);
                let began_at = self.keys.get(&key).and_then(|entry| entry.began_at);
                let entry = self.entry(about.content, Phase::Ended(outcome), at.max(about.not_after));
                self.remember(key, Entry { began_at, ..entry });
            }
            Record::Sealed { key, about, at } => {
                self.see_token(&about.target, about.token);
                let sealed = Phase::Sealed { durable: true };
                let entry = self.entry(about.content, sealed, at.max(about.not_after));
                self.remember(key, entry);
            }
            Record::Token { target, token, .. } => self.see_token(&target, Some(token)),
        }
    }

    pub(crate) fn remember(&mut self, key: StepKey, entry: Entry) {
        if let Some(number) = key.try_number() {
            self.tries.entry((entry.content, number)).or_insert_with(|| key.clone());
        }
        self.keys.insert(key, entry);
    }

    /// Another key under which the same try of the same step came before.
    pub(crate) fn other_key(&self, key: &StepKey, content: &Digest) -> Option<StepKey> {
        let number = key.try_number()?;
        self.tries.get(&(*content, number)).filter(|known| *known != key).cloned()
    }

    pub(crate) fn entry(&self, content: Digest, phase: Phase, last_at: Timestamp) -> Entry {
        Entry { content, phase, began_at: None, keep_until: later(last_at, self.settings.keep) }
    }

    fn in_journal(&mut self, digest: Digest, plan: Arc<Plan>, at: Timestamp) {
        let keep_until = later(at.max(plan.valid_until), self.settings.keep);
        let planned = Planned { plan, begun: BTreeSet::new(), in_journal: true, beginning: 0, keep_until };
        // Two steps that were the first at once have both brought it.
        self.plans.entry(digest).or_insert(planned);
    }

    /// Takes up a plan that has not begun; returns those that it takes the place of.
    pub(crate) fn unused_plan(&mut self, digest: Digest, plan: Arc<Plan>) -> Vec<Digest> {
        if let Some(known) = self.plans.get(&digest) {
            // Of one that has begun a file was left behind.
            return if known.in_journal { vec![digest] } else { Vec::new() };
        }
        self.alike.insert(likeness(&plan), Arc::clone(&plan));
        self.unused.insert((plan.made_at, digest));
        let keep_until = later(plan.valid_until, self.settings.keep_unused);
        let planned = Planned { plan, begun: BTreeSet::new(), in_journal: false, beginning: 0, keep_until };
        self.plans.insert(digest, planned);
        let superfluous = self.unused.len().saturating_sub(self.settings.unused_plans_max);
        let oldest: Vec<_> = (0..superfluous).filter_map(|_| self.unused.pop_first()).collect();
        oldest
            .into_iter()
            .map(|(_, digest)| {
                if let Some(gone) = self.plans.remove(&digest) {
                    self.not_alike(&gone.plan);
                }
                digest
            })
            .collect()
    }

    /// Nobody is told any more that this plan is open.
    fn not_alike(&mut self, gone: &Arc<Plan>) {
        let likeness = likeness(gone);
        if self.alike.get(&likeness).is_some_and(|plan| Arc::ptr_eq(plan, gone)) {
            self.alike.remove(&likeness);
        }
    }

    /// A step of the plan is about to be written: from now on no other plan takes its place. Returns the plan if it is not in the journal
    /// yet and has to be written first; `None` when there is no such plan.
    pub(crate) fn beginning(&mut self, digest: &Digest) -> Option<Option<Arc<Plan>>> {
        let planned = self.plans.get_mut(digest)?;
        planned.beginning += 1;
        if planned.in_journal {
            return Some(None);
        }
        self.unused.remove(&(planned.plan.made_at, *digest));
        Some(Some(Arc::clone(&planned.plan)))
    }

    /// The step could not be written.
    pub(crate) fn did_not_begin(&mut self, digest: &Digest) {
        let Some(planned) = self.plans.get_mut(digest) else { return };
        planned.beginning = planned.beginning.saturating_sub(1);
        if planned.beginning == 0 && !planned.in_journal {
            self.unused.insert((planned.plan.made_at, *digest));
        }
    }

    /// An open plan like it that was made for another incident.
    pub(crate) fn plan_like(
        &self,
        likeness: &Likeness,
        own: IncidentId,
        now: Timestamp,
    ) -> Option<Arc<Plan>> {
        let open = self.alike.get(likeness).filter(|plan| plan.valid_until >= now);
        open.filter(|plan| plan.incident_id != own).cloned()
    }

    pub(crate) fn plan(&self, digest: &Digest) -> Option<Arc<Plan>> {
        self.plans.get(digest).map(|planned| Arc::clone(&planned.plan))
    }

    pub(crate) fn begun(&mut self, plan: Digest, step: &StepName, undo: bool, at: Timestamp) {
        let keep = self.settings.keep;
        let Some(planned) = self.plans.get_mut(&plan) else { return };
        planned.beginning = planned.beginning.saturating_sub(1);
        if !planned.in_journal {
            planned.in_journal = true;
            self.unused.remove(&(planned.plan.made_at, plan));
        }
        planned.keep_until = planned.keep_until.max(later(at.max(planned.plan.valid_until), keep));
        if !undo {
            planned.begun.insert(step.clone());
        }
    }

    pub(crate) fn begun_steps(&self, plan: &Digest) -> BTreeSet<StepName> {
        self.plans.get(plan).map(|planned| planned.begun.clone()).unwrap_or_default()
    }

    pub(crate) fn token(&self, target: &TargetName) -> FencingToken {
        self.tokens.get(target).copied().unwrap_or_default()
    }

    pub(crate) fn see_token(&mut self, target: &TargetName, token: Option<FencingToken>) {
        let Some(token) = token else { return };
        let seen = self.tokens.entry(target.clone()).or_default();
        *seen = (*seen).max(token);
    }

    pub(crate) fn sizes(&self) -> (usize, usize) {
        (self.keys.len(), self.plans.len())
    }

    /// Whether there is room for another key, after forgetting what is old enough.
    pub(crate) fn has_room_for_key(&mut self, now: Timestamp) -> bool {
        if self.keys.len() >= self.settings.keys_max {
            self.forget_keys(now);
        }
        self.keys.len() < self.settings.keys_max
    }

    /// Forgets keys and plans whose time is over. A forgotten key cannot start again: its not-after has long passed.
    /// Returns the plans that have files.
    pub(crate) fn forget(&mut self, now: Timestamp) -> Vec<Digest> {
        self.forget_keys(now);
        self.alike.retain(|_, plan| plan.valid_until >= now);
        let mut over = Vec::new();
        let unused = &mut self.unused;
        self.plans.retain(|digest, planned| {
            let stays = planned.keep_until > now || planned.beginning > 0;
            if !stays && !planned.in_journal {
                unused.remove(&(planned.plan.made_at, *digest));
                over.push(*digest);
            }
            stays
        });
        over
    }

    fn forget_keys(&mut self, now: Timestamp) {
        self.keys.retain(|_, entry| matches!(entry.phase, Phase::Running(_)) || entry.keep_until > now);
        self.tries.retain(|_, key| self.keys.contains_key(key));
    }
}

fn likeness(plan: &Plan) -> Likeness {
    (plan.runbook_digest, plan.steps.iter().map(|step| step.target.clone()).collect())
}

fn later(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}
