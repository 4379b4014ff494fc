//! How a connection stands, from what its requests do.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::budget::{ByteBudget, ByteShare};
use super::options::ServeOptions;
use super::seats::{Seat, Standing};

/// Requests that their sender gave up before they were answered, beyond those that were answered. More than that is taken for an attack.
const GIVEN_UP_MAX: u64 = 256;

/// What a request is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It has a body that is not here yet.
    Arriving,
    /// It is worked on, or its answer goes out.
    Working,
    /// Its answer waits for the reader.
    Unread,
}

/// The requests of one connection, counted by what they do.
#[derive(Debug)]
pub(super) struct Standings {
    pub(super) seat: Seat,
    counts: Mutex<Counts>,
}

#[derive(Debug)]
struct Counts {
    arriving: usize,
    working: usize,
    unread: usize,
    /// What was written to the socket is taken.
    is_read: bool,
    /// There was a request.
    spoke: bool,
    answered: u64,
    given_up: u64,
    standing: Standing,
    since: Instant,
}

/// What becomes of a connection that nothing is to be done for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// Looked at again then.
    Until(Instant),
    /// It never said what it wants, in all its time.
    HangUp,
    /// It wanted nothing for long.
    SayGoodbye,
}

impl Counts {
    fn of(&mut self, phase: Phase) -> &mut usize {
        match phase {
            Phase::Arriving => &mut self.arriving,
            Phase::Working => &mut self.working,
            Phase::Unread => &mut self.unread,
        }
    }

    fn standing(&self) -> Standing {
        match (self.working, self.unread, self.arriving) {
            (0, 0, 0) if self.spoke => Standing::Idle,
            (0, 0, 0) => Standing::New,
            (0, 0, _) => Standing::Arriving,
            (0, _, _) => Standing::Unread,
            _ if !self.is_read => Standing::Unread,
            _ => Standing::Working,
        }
    }
}

impl Standings {
    pub(super) fn new(seat: Seat) -> Arc<Self> {
        let counts = Counts {
            arriving: 0,
            working: 0,
            unread: 0,
            is_read: true,
            spoke: false,
            answered: 0,
            given_up: 0,
            standing: Standing::New,
            since: Instant::now(),
        };
        Arc::new(Self { seat, counts: Mutex::new(counts) })
    }

    fn change(&self, change: impl FnOnce(&mut Counts)) {
        let mut counts = self.lock();
        change(&mut counts);
        let standing = counts.standing();
        if standing != counts.standing {
            (counts.standing, counts.since) = (standing, Instant::now());
            self.seat.stand(standing);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether what was written to the socket last was taken.
    pub(super) fn is_read(&self, is_read: bool) {
        self.change(|counts| counts.is_read = is_read);
    }

    /// How long it may go on as it is.
    pub(super) fn patience(&self, options: &ServeOptions) -> Patience {
        let counts = self.lock();
        let (since, now) = (counts.since, Instant::now());
        match counts.standing {
            Standing::New if now >= since + options.head_within => Patience::HangUp,
            // It may be idle before that.
            Standing::New => Patience::Until((since + options.head_within).min(now + options.idle_within)),
            Standing::Idle if now >= since + options.idle_within => Patience::SayGoodbye,
            Standing::Idle => Patience::Until(since + options.idle_within),
            Standing::Arriving | Standing::Unread | Standing::Working => {
                Patience::Until(now + options.idle_within)
            }
        }
    }
}

/// A request under way, counted until this is dropped.
#[derive(Debug)]
pub(super) struct Counted {
    standings: Arc<Standings>,
    state: Mutex<(Phase, bool)>,
    fault: Mutex<Option<Fault>>,
    bytes: Mutex<Option<ByteShare>>,
}

/// Why a request could not be read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It does not arrive in time.
    TooSlow,
    /// There is no room for it beside the others.
    NoRoom,
}

impl Counted {
    pub(super) fn new(standings: &Arc<Standings>, phase: Phase) -> Self {
        standings.change(|counts| {
            counts.spoke = true;
            *counts.of(phase) += 1;
        });
        Self {
            standings: Arc::clone(standings),
            state: Mutex::new((phase, false)),
            fault: Mutex::default(),
            bytes: Mutex::default(),
        }
    }

    /// It cannot be read to its end.
    pub(super) fn fails(&self, fault: Fault) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
    }

    /// Why it could not be read to its end.
    pub(super) fn fault(&self) -> Option<Fault> {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes room for so many bytes of it, until it is answered; false if there is none.
    pub(super) fn keeps(&self, budget: &ByteBudget, bytes: usize) -> bool {
        let mut share = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        match share.as_mut() {
            Some(share) => share.grow_to(bytes),
            None => {
                *share = budget.take(bytes);
                share.is_some()
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, (Phase, bool)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn shift(&self, to: Phase) {
        let mut state = self.state();
        let from = std::mem::replace(&mut state.0, to);
        if from != to {
            self.standings.change(|counts| {
                *counts.of(from) -= 1;
                *counts.of(to) += 1;
            });
        }
    }

    /// It has an answer.
    pub(super) fn answered(&self) {
        self.state().1 = true;
        *self.bytes.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.shift(Phase::Working);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let (phase, answered) = *self.state();
        let mut is_flood = false;
        self.standings.change(|counts| {
            *counts.of(phase) -= 1;
            *if answered { &mut counts.answered } else { &mut counts.given_up } += 1;
            is_flood = counts.given_up > GIVEN_UP_MAX + counts.answered;
        });
        if is_flood {
            tracing::debug!("a connection is closed that gives up its requests as soon as it has made them");
            self.standings.seat.close.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::seats::{Places, Seats};
    use super::*;

    fn standings() -> Arc<Standings> {
        let seats = Seats::new(Places { all: 10, per_peer: 10, reserved: 0 });
        Standings::new(seats.enter([127, 0, 0, 1].into()).unwrap())
    }

    #[test]
    fn a_connection_stands_as_its_busiest_request() {
        let connection = standings();
        let stands = || connection.lock().standing;
        assert_eq!(stands(), Standing::New);
        let first = Counted::new(&connection, Phase::Arriving);
        assert_eq!(stands(), Standing::Arriving);
        let second = Counted::new(&connection, Phase::Working);
        assert_eq!(stands(), Standing::Working);
        connection.is_read(false);
        assert_eq!(stands(), Standing::Unread);
        connection.is_read(true);
        second.shift(Phase::Unread);
        assert_eq!(stands(), Standing::Unread);
        drop(second);
        assert_eq!(stands(), Standing::Arriving);
        first.shift(Phase::Working);
        drop(first);
        assert_eq!(stands(), Standing::Idle);
    }

    #[tokio::test(start_paused = true)]
    async fn patience_is_for_what_is_at_work() {
        let options = ServeOptions {
            head_within: Duration::from_secs(1),
            idle_within: Duration::from_secs(5),
            ..ServeOptions::default()
        };
        let connection = standings();
        let after = async |seconds| {
            tokio::time::advance(Duration::from_secs(seconds)).await;
            connection.patience(&options)
        };
        assert_eq!(after(0).await, Patience::Until(Instant::now() + options.head_within));
        assert_eq!(after(1).await, Patience::HangUp);
        let request = Counted::new(&connection, Phase::Working);
        assert!(matches!(after(1_000).await, Patience::Until(_)));
        drop(request);
        assert!(matches!(after(4).await, Patience::Until(_)));
        assert_eq!(after(1).await, Patience::SayGoodbye);
    }

    #[test]
    fn requests_that_are_given_up_at_once_end_the_connection() {
        let connection = standings();
        for _ in 0..GIVEN_UP_MAX {
            drop(Counted::new(&connection, Phase::Working));
        }
        // As many more as are answered are taken for what they are.
        Counted::new(&connection, Phase::Working).answered();
        drop(Counted::new(&connection, Phase::Working));
        assert!(!connection.seat.close.is_cancelled());
        drop(Counted::new(&connection, Phase::Working));
        assert!(connection.seat.close.is_cancelled());
    }
}
