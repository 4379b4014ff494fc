//! Locks, cool-downs and the site's switches: what claims check and change.

use std::collections::BTreeMap;

use jiff::Timestamp;
use quell_incident::contract::TargetLock;
use quell_incident::gate::{CoolDown, LockState, SiteGates};
use quell_incident::ids::{FencingToken, IncidentId, RunbookName, TargetName};
use quell_incident::workflow::Claim;

use crate::error::StoreError;

/// What a cool-down is for: class, target, runbook.
pub(crate) type CoolDownKey = (String, TargetName, RunbookName);

/// The state that claims are checked against.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Ledger {
    pub(crate) site: SiteGates,
    /// Locks that are taken from now on get tokens above this one, also on targets of which nothing is known: records were lost, and
    /// an agent may have seen a token of theirs.
    pub(crate) tokens_above: FencingToken,
    locks: BTreeMap<TargetName, LockState>,
    cool_downs: BTreeMap<CoolDownKey, Timestamp>,
}

/// What claims change.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct LedgerChange {
    pub(crate) locks: BTreeMap<TargetName, LockState>,
    pub(crate) cool_downs: Vec<CoolDown>,
    /// Those that were over at the append's time, so that they do not gather.
    pub(crate) cool_downs_over: Vec<CoolDownKey>,
}

impl Ledger {
    pub(crate) fn locks(&self, targets: &[TargetName]) -> BTreeMap<TargetName, LockState> {
        targets.iter().map(|target| (target.clone(), self.lock(target))).collect()
    }

    pub(crate) fn cool_downs(&self, class: &str, targets: &[TargetName], now: Timestamp) -> Vec<CoolDown> {
        let wanted = self.cool_downs.iter().filter(|((of_class, target, _), until)| {
            of_class == class && targets.contains(target) && **until > now
        });
        let made = wanted.map(|((class, target, runbook), until)| CoolDown {
            class: class.clone(),
            target: target.clone(),
            runbook: runbook.clone(),
            until: *until,
        });
        made.collect()
    }

    /// All locks and cool-downs, to be written down, with the tokens that were given out.
    pub(crate) fn all(&self) -> (Vec<(TargetName, LockState)>, Vec<CoolDown>) {
        let locks = self.locks.iter().map(|(target, lock)| (target.clone(), lock.clone()));
        let cool_downs = self.cool_downs.iter().map(|((class, target, runbook), until)| CoolDown {
            class: class.clone(),
            target: target.clone(),
            runbook: runbook.clone(),
            until: *until,
        });
        (locks.collect(), cool_downs.collect())
    }

    fn lock(&self, target: &TargetName) -> LockState {
        raised(self.locks.get(target).cloned().unwrap_or_default(), self.tokens_above)
    }

    /// What the claims change, if every one can be made, each after those before it.
    pub(crate) fn decide(
        &self,
        claims: &[Claim],
        incident: IncidentId,
        at: Timestamp,
    ) -> Result<LedgerChange, StoreError> {
        let mut change = LedgerChange::default();
        for claim in claims {
            if let Some(why) = self.objection(&change, claim, incident) {
                return Err(StoreError::ClaimRefused { claim: in_words(claim), why });
            }
            self.note(&mut change, claim, incident, at);
        }
        Ok(change)
    }

    /// What the claims of a stored append have changed: they were checked when it was accepted.
    pub(crate) fn replay(&self, claims: &[Claim], incident: IncidentId, at: Timestamp) -> LedgerChange {
        let mut change = LedgerChange::default();
        for claim in claims {
            self.note(&mut change, claim, incident, at);
        }
        change
    }

    fn objection(&self, change: &LedgerChange, claim: &Claim, incident: IncidentId) -> Option<String> {
        match claim {
            Claim::Take(TargetLock { target, token }) => match self.lock_after(change, target) {
                LockState { holder: Some(holder), .. } => Some(format!("incident {holder} holds it")),
                LockState { token: last, .. } if *token != last.next() => {
                    Some(format!("its next token is {}", last.next()))
                }
                LockState { .. } => None,
            },
            Claim::Hold(TargetLock { target, token }) | Claim::Release(TargetLock { target, token }) => {
                match self.lock_after(change, target) {
                    LockState { holder: None, .. } => Some("nobody holds it".to_owned()),
                    LockState { holder: Some(holder), .. } if holder != incident => {
                        Some(format!("incident {holder} holds it"))
                    }
                    LockState { token: held, .. } if held != *token => {
                        Some(format!("it is held with token {held}"))
                    }
                    LockState { .. } => None,
                }
            }
            Claim::SiteEpoch(epoch) => {
                (*epoch != self.site.epoch).then(|| format!("the epoch is {}", self.site.epoch))
            }
            Claim::CoolDown(_) => None,
        }
    }

    fn lock_after(&self, change: &LedgerChange, target: &TargetName) -> LockState {
        let changed = change.locks.get(target).cloned();
        changed.map_or_else(|| self.lock(target), |lock| raised(lock, self.tokens_above))
    }

    fn note(&self, change: &mut LedgerChange, claim: &Claim, incident: IncidentId, at: Timestamp) {
        match claim {
            Claim::Take(TargetLock { target, token }) => {
                let taken = LockState { token: *token, holder: Some(incident) };
                change.locks.insert(target.clone(), taken);
            }
            Claim::Release(TargetLock { target, token }) => {
                change.locks.insert(target.clone(), LockState { token: *token, holder: None });
            }
            Claim::CoolDown(cool_down) => {
                if change.cool_downs.is_empty() {
                    let over = self.cool_downs.iter().filter(|(_, until)| **until <= at);
                    change.cool_downs_over = over.map(|(key, _)| key.clone()).collect();
                }
                change.cool_downs.push(cool_down.clone());
            }
            Claim::Hold(_) | Claim::SiteEpoch(_) => {}
        }
    }

    /// Makes a change that was decided on this very state. Doing it again makes no difference.
    pub(crate) fn apply(&mut self, change: &LedgerChange) {
        for (target, lock) in &change.locks {
            self.set_lock(target.clone(), lock.clone());
        }
        for over in &change.cool_downs_over {
            self.cool_downs.remove(over);
        }
        for cool_down in &change.cool_downs {
            self.set_cool_down(cool_down);
        }
    }

    pub(crate) fn set_lock(&mut self, target: TargetName, lock: LockState) {
        self.locks.insert(target, lock);
    }

    pub(crate) fn set_cool_down(&mut self, cool_down: &CoolDown) {
        self.cool_downs.insert(key_of(cool_down), cool_down.until);
    }
}

/// The lock as it is seen after a loss. One that is held keeps its token, since its holder works with it: if the lost records had
/// released it and given it to somebody else, the agent refuses that token, and is right.
pub(crate) fn raised(lock: LockState, tokens_above: FencingToken) -> LockState {
    match lock.holder {
        None => LockState { token: lock.token.max(tokens_above), ..lock },
        Some(_) => lock,
    }
}

pub(crate) fn key_of(cool_down: &CoolDown) -> CoolDownKey {
    (cool_down.class.clone(), cool_down.target.clone(), cool_down.runbook.clone())
}

fn in_words(claim: &Claim) -> String {
    match claim {
        Claim::Take(lock) => format!("taking the lock on {} with token {}", lock.target, lock.token),
        Claim::Hold(lock) => format!("holding the lock on {} with token {}", lock.target, lock.token),
        Claim::Release(lock) => format!("releasing the lock on {} with token {}", lock.target, lock.token),
        Claim::SiteEpoch(epoch) => format!("relying on epoch {epoch} of the site's switches"),
        Claim::CoolDown(cool) => format!("cooling {} down on {}", cool.runbook, cool.target),
    }
}

#[cfg(test)]
mod tests {
    use quell_incident::ids::GateEpoch;

    use super::*;

    fn lock(token: u64) -> TargetLock {
        TargetLock { target: TargetName::declared("db-1").unwrap(), token: FencingToken(token) }
    }

    fn incident(number: u128) -> IncidentId {
        IncidentId(uuid::Uuid::from_u128(number))
    }

    fn accepts(ledger: &mut Ledger, number: u128, claims: &[Claim]) -> bool {
        let decided = ledger.decide(claims, incident(number), Timestamp::UNIX_EPOCH);
        if let Ok(change) = &decided {
            ledger.apply(change);
        }
        decided.is_ok()
    }

    #[test]
    fn the_life_of_a_lock() {
        let mut ledger = Ledger::default();
        assert!(!accepts(&mut ledger, 1, &[Claim::Hold(lock(0))]), "nobody holds a lock with token 0");
        assert!(!accepts(&mut ledger, 1, &[Claim::Take(lock(2))]), "a token is skipped");
        assert!(accepts(&mut ledger, 1, &[Claim::Take(lock(1)), Claim::Hold(lock(1))]));
        assert!(!accepts(&mut ledger, 2, &[Claim::Take(lock(2))]), "it is held");
        assert!(!accepts(&mut ledger, 2, &[Claim::Release(lock(1))]), "by another");
        assert!(!accepts(&mut ledger, 1, &[Claim::Release(lock(2))]), "with another token");
        assert!(accepts(&mut ledger, 1, &[Claim::Release(lock(1))]));
        assert!(!accepts(&mut ledger, 1, &[Claim::Hold(lock(1))]), "it is released");
        assert!(!accepts(&mut ledger, 2, &[Claim::Take(lock(1))]), "a token is never used twice");
        assert!(accepts(
            &mut ledger,
            2,
            &[Claim::Take(lock(2)), Claim::Release(lock(2)), Claim::Take(lock(3))]
        ));
    }

    #[test]
    fn after_a_loss_tokens_go_on_above_it_once_a_lock_is_free() {
        let mut ledger = Ledger::default();
        assert!(accepts(&mut ledger, 1, &[Claim::Take(lock(1))]));
        ledger.tokens_above = FencingToken(100);
        assert!(accepts(&mut ledger, 1, &[Claim::Hold(lock(1)), Claim::Release(lock(1))]), "it was held");
        assert!(!accepts(&mut ledger, 2, &[Claim::Take(lock(2))]));
        let round = |token| [Claim::Take(lock(token)), Claim::Release(lock(token))];
        assert!(accepts(&mut ledger, 2, &[round(101), round(102)].concat()));
        assert_eq!(ledger.locks(&[lock(0).target])[&lock(0).target].token, FencingToken(102));
    }

    #[test]
    fn cool_downs_that_are_over_are_forgotten_with_the_next_one() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let cool = |class: &str, until| CoolDown {
            class: class.to_owned(),
            target: lock(0).target,
            runbook: RunbookName::declared("restart").unwrap(),
            until: at(until),
        };
        let mut ledger = Ledger::default();
        for (class, until, now) in [("A", 10, 0), ("B", 30, 5), ("C", 40, 20)] {
            let change = ledger.decide(&[Claim::CoolDown(cool(class, until))], incident(1), at(now)).unwrap();
            ledger.apply(&change);
        }
        assert_eq!(ledger.cool_downs.len(), 2);
        assert_eq!(ledger.cool_downs("B", &[lock(0).target], at(29)), vec![cool("B", 30)]);
        assert_eq!(ledger.cool_downs("B", &[lock(0).target], at(30)), Vec::new());
    }

    #[test]
    fn another_epoch_is_refused() {
        let mut ledger = Ledger::default();
        assert!(accepts(&mut ledger, 1, &[Claim::SiteEpoch(GateEpoch(0))]));
        assert!(!accepts(&mut ledger, 1, &[Claim::SiteEpoch(GateEpoch(1))]));
    }
}
