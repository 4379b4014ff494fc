//! Received alerts on their way to correlation: while it keeps up, it gets them as they came, and not read back from the disk.
//!
//! Only a bounded number is held. Correlation takes them away; whoever asks for them again, and whoever is far behind, has them read
//! from the journal.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use quell_journal::{Error, Ticket};

use crate::append::{Received, ReceivedPosition};

/// What is held at the most, as the payloads' bytes in the journal; in memory it is about three times as much.
const BYTES_MAX: usize = 6 << 20;

pub(super) struct Handover(Mutex<Waiting>);

struct Waiting {
    /// In the journal's order, with the bytes of each.
    batches: VecDeque<(u64, Received, usize)>,
    bytes: usize,
    /// Every batch after this record up to `last` is here, unless `broken`.
    after: u64,
    /// The last batch that was submitted.
    last: u64,
    /// There was no room for one: it and those after it are only in the journal.
    broken: bool,
}

/// Where batches after a position are.
pub(super) enum Found {
    /// Here, all that are durable and were asked for.
    Here(Vec<(ReceivedPosition, Received)>),
    /// In the journal; those after this record are here again.
    InJournal(u64),
}

impl Handover {
    /// Nothing is held of what the journal has so far.
    pub(super) fn new(head: u64) -> Self {
        let (batches, bytes) = (VecDeque::new(), 0);
        Self(Mutex::new(Waiting { batches, bytes, after: head, last: head, broken: false }))
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Submits a batch and holds it, under one lock: what is held has the journal's order.
    pub(super) fn submit(
        &self,
        received: Received,
        bytes: usize,
        submit: impl FnOnce() -> Result<Ticket, Error>,
    ) -> Result<Ticket, Error> {
        let mut waiting = self.waiting();
        let ticket = submit()?;
        let sequence = ticket.first_sequence();
        waiting.last = sequence;
        waiting.broken |= waiting.bytes + bytes > BYTES_MAX;
        if !waiting.broken {
            waiting.bytes += bytes;
            waiting.batches.push_back((sequence, received, bytes));
        }
        Ok(ticket)
    }

    /// Takes batches after a position that are durable, which means up to `head`.
    pub(super) fn take(&self, after: u64, head: u64, batches_max: usize) -> Found {
        let mut waiting = self.waiting();
        if after < waiting.after {
            return Found::InJournal(waiting.after.min(head));
        }
        let mut taken = Vec::new();
        while let Some((sequence, ..)) = waiting.batches.front()
            && *sequence <= head
            && taken.len() < batches_max
        {
            let Some((sequence, received, bytes)) = waiting.batches.pop_front() else { break };
            waiting.bytes -= bytes;
            waiting.after = sequence;
            if sequence > after {
                taken.push((ReceivedPosition(sequence), received));
            }
        }
        if taken.is_empty() && waiting.broken && waiting.batches.is_empty() && batches_max > 0 {
            // What comes from now on is held again.
            waiting.broken = false;
            waiting.after = waiting.last;
            return Found::InJournal(waiting.last.min(head));
        }
        Found::Here(taken)
    }

    /// Up to here everything is part of incidents, and retention may drop it.
    pub(super) fn forget_up_to(&self, correlated: u64) {
        let mut waiting = self.waiting();
        while let Some((sequence, ..)) = waiting.batches.front()
            && *sequence <= correlated
        {
            if let Some((_, _, bytes)) = waiting.batches.pop_front() {
                waiting.bytes -= bytes;
            }
        }
        waiting.after = waiting.after.max(correlated);
    }

    /// What is not durable is given up: its numbers will be those of other records.
    pub(super) fn give_up(&self, head: u64) {
        let mut waiting = self.waiting();
        while let Some((sequence, ..)) = waiting.batches.back()
            && *sequence > head
        {
            if let Some((_, _, bytes)) = waiting.batches.pop_back() {
                waiting.bytes -= bytes;
            }
        }
        waiting.last = waiting.last.min(head);
        waiting.after = waiting.after.min(head);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;
    use quell_incident::ids::SourceName;
    use quell_journal::{Journal, Options, Record, SimulatedDisk};
    use uuid::Uuid;

    use super::*;

    fn journal() -> Journal {
        let disk = Arc::new(SimulatedDisk::new());
        let options = Options { disk, ..Options::new(Uuid::from_u128(1)) };
        Journal::open(std::path::Path::new("/journal"), options).unwrap().0
    }

    fn batch(number: u64) -> Received {
        Received {
            at: Timestamp::UNIX_EPOCH,
            source: SourceName::declared("am").unwrap(),
            alerts: Vec::new(),
            group_key: None,
            truncated_alerts: number,
            trace: None,
        }
    }

    fn numbers(found: Found) -> Result<Vec<(u64, u64)>, u64> {
        match found {
            Found::Here(batches) => {
                Ok(batches.iter().map(|(position, one)| (position.0, one.truncated_alerts)).collect())
            }
            Found::InJournal(enough) => Err(enough),
        }
    }

    #[test]
    fn batches_are_handed_over_once_and_in_order() {
        let (journal, handover) = (journal(), Handover::new(0));
        for number in 1..=4 {
            let submit = || journal.submit(vec![Record::new(1, "x")]);
            handover.submit(batch(number), 1, submit).unwrap().wait_blocking().unwrap();
        }
        assert_eq!(numbers(handover.take(0, 3, 2)), Ok(vec![(1, 1), (2, 2)]));
        assert_eq!(numbers(handover.take(2, 3, 9)), Ok(vec![(3, 3)]), "the fourth is not durable yet");
        assert_eq!(numbers(handover.take(3, 3, 9)), Ok(Vec::new()));
        assert_eq!(numbers(handover.take(0, 4, 9)), Err(3), "they were taken away");
        assert_eq!(numbers(handover.take(3, 4, 9)), Ok(vec![(4, 4)]));
    }

    #[test]
    fn what_found_no_room_is_in_the_journal_and_what_comes_later_is_held_again() {
        let (journal, handover) = (journal(), Handover::new(0));
        let submit = || journal.submit(vec![Record::new(1, "x")]);
        let half = BYTES_MAX / 2 + 1;
        handover.submit(batch(1), half, submit).unwrap().wait_blocking().unwrap();
        handover.submit(batch(2), half, submit).unwrap().wait_blocking().unwrap();
        // It would fit, but not in its order.
        handover.submit(batch(3), 1, submit).unwrap().wait_blocking().unwrap();
        assert_eq!(numbers(handover.take(0, 3, 9)), Ok(vec![(1, 1)]));
        assert_eq!(numbers(handover.take(1, 3, 9)), Err(3));
        handover.submit(batch(4), 1, submit).unwrap().wait_blocking().unwrap();
        assert_eq!(numbers(handover.take(2, 4, 9)), Err(3));
        assert_eq!(numbers(handover.take(3, 4, 9)), Ok(vec![(4, 4)]));
    }

    #[test]
    fn what_is_part_of_incidents_is_not_held() {
        let (journal, handover) = (journal(), Handover::new(0));
        let submit = || journal.submit(vec![Record::new(1, "x")]);
        for number in 1..=3 {
            handover.submit(batch(number), 1, submit).unwrap().wait_blocking().unwrap();
        }
        handover.forget_up_to(2);
        assert_eq!(numbers(handover.take(0, 3, 9)), Err(2));
        assert_eq!(numbers(handover.take(2, 3, 9)), Ok(vec![(3, 3)]));
    }

    #[test]
    fn what_was_given_up_is_not_handed_over() {
        let (journal, handover) = (journal(), Handover::new(0));
        let submit = || journal.submit(vec![Record::new(1, "x")]);
        for number in 1..=3 {
            handover.submit(batch(number), 1, submit).unwrap().wait_blocking().unwrap();
        }
        handover.give_up(2);
        assert_eq!(numbers(handover.take(0, 3, 9)), Ok(vec![(1, 1), (2, 2)]));
        assert_eq!(numbers(handover.take(2, 3, 9)), Ok(Vec::new()));
    }
}
