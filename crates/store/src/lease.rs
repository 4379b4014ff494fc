//! Shared work among coordinators: who may work on what.
//!
//! A coordinator lives as long as it [renews](crate::IncidentStore::renew) in time, and what it has claimed is its own for so
//! long. Whoever lived too slowly is told so by the store: an append that names a lost lease changes nothing.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use quell_incident::ids::IncidentId;
use uuid::Uuid;

use crate::error::StoreError;

/// One running coordinator. It takes a new id at every start, and whenever it is told that it has lost its leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CoordinatorId(pub Uuid);

impl fmt::Display for CoordinatorId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// What one coordinator at a time may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Work {
    /// Making incidents of received alerts.
    Correlation,
    /// Dropping what is over.
    Retention,
    /// Seeing to the duties of an incident.
    Incident(IncidentId),
}

impl fmt::Display for Work {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Correlation => formatter.write_str("correlation"),
            Self::Retention => formatter.write_str("retention"),
            Self::Incident(id) => write!(formatter, "incident {id}"),
        }
    }
}

/// That a coordinator may do some work, until it does not renew in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    /// Which work.
    pub work: Work,
    /// Who may do it.
    pub coordinator: CoordinatorId,
    /// Grows with each change of the work's holder: the fence.
    pub token: u64,
}

impl Lease {
    pub(crate) fn lost(&self) -> StoreError {
        StoreError::LeaseLost { coordinator: self.coordinator, work: Some(self.work) }
    }
}

/// The leases of coordinators within one process. Nothing of it outlives the process, and nobody else has the store's folder.
#[derive(Debug)]
pub(crate) struct Leases {
    now: Timestamp,
    last_token: u64,
    /// Until when each lives.
    coordinators: HashMap<CoordinatorId, Timestamp>,
    held: HashMap<Work, (CoordinatorId, u64)>,
}

impl Default for Leases {
    fn default() -> Self {
        Self { now: Timestamp::UNIX_EPOCH, last_token: 0, coordinators: HashMap::new(), held: HashMap::new() }
    }
}

impl Leases {
    /// Leases end by this clock; one that is never set ends none.
    pub(crate) fn set_now(&mut self, now: Timestamp) {
        self.now = now;
    }

    pub(crate) fn renew(&mut self, coordinator: CoordinatorId, for_: Duration) -> Result<(), StoreError> {
        if self.coordinators.contains_key(&coordinator) {
            self.check_alive(coordinator)?;
        }
        let until = self.now.checked_add(for_).unwrap_or(Timestamp::MAX);
        self.coordinators.insert(coordinator, until);
        Ok(())
    }

    pub(crate) fn claim(
        &mut self,
        coordinator: CoordinatorId,
        work: &[Work],
    ) -> Result<Vec<Lease>, StoreError> {
        self.check_alive(coordinator)?;
        let leases = work.iter().filter_map(|work| self.take(coordinator, *work));
        Ok(leases.collect())
    }

    /// Of unfinished incidents in their order, up to so many that nobody living holds.
    pub(crate) fn claim_unfinished(
        &mut self,
        coordinator: CoordinatorId,
        unfinished: impl IntoIterator<Item = IncidentId>,
        max: usize,
    ) -> Result<Vec<Lease>, StoreError> {
        self.check_alive(coordinator)?;
        let mut leases = Vec::new();
        for work in unfinished.into_iter().map(Work::Incident) {
            if leases.len() >= max {
                break;
            }
            if !self.is_held(work) {
                leases.extend(self.take(coordinator, work));
            }
        }
        Ok(leases)
    }

    pub(crate) fn give_back(&mut self, coordinator: CoordinatorId, work: &[Work]) {
        for work in work {
            if self.held.get(work).is_some_and(|(holder, _)| *holder == coordinator) {
                self.held.remove(work);
            }
        }
    }

    pub(crate) fn release(&mut self, coordinator: CoordinatorId) {
        self.coordinators.remove(&coordinator);
        self.held.retain(|_, (holder, _)| *holder != coordinator);
    }

    pub(crate) fn check(&self, fence: Option<&Lease>) -> Result<(), StoreError> {
        let Some(lease) = fence else { return Ok(()) };
        let held = self.held.get(&lease.work) == Some(&(lease.coordinator, lease.token));
        if held && self.is_alive(lease.coordinator) { Ok(()) } else { Err(lease.lost()) }
    }

    fn take(&mut self, coordinator: CoordinatorId, work: Work) -> Option<Lease> {
        let token = match self.held.get(&work) {
            Some((holder, token)) if *holder == coordinator => *token,
            Some((holder, _)) if self.is_alive(*holder) => return None,
            _ => {
                self.last_token += 1;
                self.held.insert(work, (coordinator, self.last_token));
                self.last_token
            }
        };
        Some(Lease { work, coordinator, token })
    }

    fn is_held(&self, work: Work) -> bool {
        self.held.get(&work).is_some_and(|(holder, _)| self.is_alive(*holder))
    }

    fn is_alive(&self, coordinator: CoordinatorId) -> bool {
        self.coordinators.get(&coordinator).is_some_and(|until| *until > self.now)
    }

    fn check_alive(&self, coordinator: CoordinatorId) -> Result<(), StoreError> {
        if self.is_alive(coordinator) {
            return Ok(());
        }
        Err(StoreError::LeaseLost { coordinator, work: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_coordinator_has_lost_everything_and_begins_under_a_new_id() {
        let [one, other] = [1, 2].map(|number| CoordinatorId(Uuid::from_u128(number)));
        let work = Work::Incident(IncidentId(Uuid::from_u128(7)));
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut leases = Leases::default();
        assert!(leases.claim(one, &[work]).is_err(), "it has never renewed");
        for coordinator in [one, other] {
            leases.renew(coordinator, Duration::from_secs(10)).unwrap();
        }
        let lease = leases.claim(one, &[work]).unwrap()[0];
        assert_eq!(leases.claim(other, &[work]).unwrap(), []);
        leases.set_now(at(9));
        leases.renew(other, Duration::from_secs(10)).unwrap();
        leases.check(Some(&lease)).unwrap();

        leases.set_now(at(10));
        assert!(leases.check(Some(&lease)).is_err(), "also before somebody else takes it");
        assert!(leases.renew(one, Duration::from_secs(10)).is_err());
        let taken = leases.claim(other, &[work]).unwrap()[0];
        assert!(taken.token > lease.token);
        assert!(leases.check(Some(&lease)).is_err());
        leases.release(other);
        assert!(leases.check(Some(&taken)).is_err());
    }
}
