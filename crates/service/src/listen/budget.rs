//! Bytes that may be held at the same time.

use std::sync::Arc;

use axum::body::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What is counted in one go: a semaphore counts no further than 2^29 on small machines.
const UNIT: usize = 1 << 10;

/// A limit of bytes that many share. A body that is larger than the whole limit takes the whole limit, so it is served when nothing else
/// is.
#[derive(Clone, Debug)]
pub struct ByteBudget {
    units: usize,
    free: Arc<Semaphore>,
}

/// A part of a budget; given back when it is dropped.
#[derive(Debug)]
pub struct ByteShare {
    budget: ByteBudget,
    permit: OwnedSemaphorePermit,
}

impl ByteBudget {
    /// So many bytes.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        let units = bytes.div_ceil(UNIT).clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        Self { units, free: Arc::new(Semaphore::new(units)) }
    }

    fn units(&self, bytes: usize) -> usize {
        bytes.div_ceil(UNIT).min(self.units)
    }

    /// Room for so many bytes, if there is any now.
    #[must_use]
    pub fn take(&self, bytes: usize) -> Option<ByteShare> {
        let units = u32::try_from(self.units(bytes)).ok()?;
        let permit = Arc::clone(&self.free).try_acquire_many_owned(units).ok()?;
        Some(ByteShare { budget: self.clone(), permit })
    }
}

impl ByteShare {
    /// Makes it as large as so many bytes in all; false if there is no room for that now. It never becomes smaller.
    #[must_use]
    pub fn grow_to(&mut self, bytes: usize) -> bool {
        let further = self.budget.units(bytes).saturating_sub(self.permit.num_permits());
        if further > 0 {
            let Ok(further) = u32::try_from(further) else { return false };
            let Ok(permit) = Arc::clone(&self.budget.free).try_acquire_many_owned(further) else {
                return false;
            };
            self.permit.merge(permit);
        }
        true
    }

    /// These bytes, which give the share back when the last copy of them is gone.
    #[must_use]
    pub fn hold(self, bytes: Vec<u8>) -> Bytes {
        Bytes::from_owner(Held { bytes, _share: self })
    }
}

struct Held {
    bytes: Vec<u8>,
    _share: ByteShare,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_given_back_with_what_they_hold() {
        let budget = ByteBudget::new(10 * UNIT);
        let mut share = budget.take(4 * UNIT).unwrap();
        assert!(share.grow_to(6 * UNIT) && share.grow_to(1));
        assert!(budget.take(5 * UNIT).is_none());
        let held = share.hold(vec![1, 2, 3]);
        let copy = held.slice(1..);
        drop(held);
        assert!(budget.take(5 * UNIT).is_none());
        assert_eq!(copy.as_ref(), [2, 3]);
        drop(copy);
        assert!(budget.take(10 * UNIT).is_some());
    }

    #[test]
    fn what_is_larger_than_all_of_it_is_served_alone() {
        let budget = ByteBudget::new(UNIT);
        let mut all = budget.take(100 * UNIT).unwrap();
        assert!(all.grow_to(200 * UNIT));
        assert!(budget.take(1).is_none());
        drop(all);
        assert!(budget.take(1).is_some());
    }
}
