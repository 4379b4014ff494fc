//! A value that tasks wait for. Tokio's `watch` wakes those who wait in an order that is drawn anew in every run.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The value, and those who wait for it, woken in the order in which they came.
#[derive(Debug)]
pub(super) struct Told<T> {
    value: Mutex<T>,
    changed: Notify,
}

impl<T: Clone> Told<T> {
    pub(super) fn of(value: T) -> Self {
        Self { value: Mutex::new(value), changed: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, T> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self) -> T {
        self.lock().clone()
    }

    pub(super) fn set(&self, value: T) {
        *self.lock() = value;
        self.changed.notify_waiters();
    }

    /// Waits until it is as wanted, and returns it.
    pub(super) async fn wait_for(&self, wanted: impl Fn(&T) -> bool) -> T {
        loop {
            // Made before the look, so that a change after it is not missed.
            let changed = self.changed.notified();
            let value = self.get();
            if wanted(&value) {
                return value;
            }
            changed.await;
        }
    }
}
