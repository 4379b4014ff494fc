//! The promise of an answer, for async and for blocking callers alike.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::error::Error;
use crate::format::Head;

/// Where a record begins. Stays valid until payloads are dropped from that segment; then `Journal::read_sequence` finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// First sequence of the segment file.
    pub segment: u64,
    /// Byte offset of the record's header in it.
    pub offset: u64,
}

/// The records of one request are durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppendAck {
    /// Sequence of the first record; the others follow without gaps.
    pub first_sequence: u64,
    /// Where each record begins, in the order given.
    pub positions: Vec<Position>,
    /// The chain with the request's last record included.
    pub head: Head,
}

/// The answer to one `submit`. It is a future; dropping it does not take the request back.
#[derive(Debug)]
#[must_use = "only the ticket's answer says whether the records are durable"]
pub struct Ticket {
    slot: Arc<Slot>,
    first_sequence: u64,
}

impl Ticket {
    pub(crate) fn new(slot: Arc<Slot>, first_sequence: u64) -> Self {
        Self { slot, first_sequence }
    }

    /// The sequence the first record gets, if the request succeeds.
    pub fn first_sequence(&self) -> u64 {
        self.first_sequence
    }

    /// Waits for the answer without blocking the thread.
    pub async fn wait(self) -> Result<AppendAck, Error> {
        self.await
    }

    /// Blocks the thread until the answer is there; not for async tasks.
    pub fn wait_blocking(self) -> Result<AppendAck, Error> {
        let mut state = self.slot.lock();
        loop {
            if let State::Done(answer) = &mut *state {
                return answer.take().unwrap_or(Err(Error::Closed));
            }
            state = self.slot.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Future for Ticket {
    type Output = Result<AppendAck, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self.slot.lock() {
            State::Done(answer) => Poll::Ready(answer.take().unwrap_or(Err(Error::Closed))),
            State::Waiting(waker) => {
                *waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// The place where the committer leaves the answer.
#[derive(Debug)]
pub(crate) struct Slot {
    state: Mutex<State>,
    done: Condvar,
}

#[derive(Debug)]
enum State {
    Waiting(Option<Waker>),
    Done(Option<Result<AppendAck, Error>>),
}

impl Slot {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State::Waiting(None)), done: Condvar::new() })
    }

    /// Leaves the answer; only the first one counts.
    pub(crate) fn answer(&self, answer: Result<AppendAck, Error>) {
        let mut state = self.lock();
        let State::Waiting(waker) = &mut *state else { return };
        let waker = waker.take();
        *state = State::Done(Some(answer));
        drop(state);
        self.done.notify_one();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
