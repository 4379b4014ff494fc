//! The settler: one thread that takes the journal's answers in the journal's order and makes them seen.

use std::sync::mpsc;

use super::index::Work;
use super::shared::{Settled, Shared, Submitted, ToSettle};
use super::state::{Change, Known};
use crate::store::Changed;

/// Settles until nobody can submit any more.
pub(super) fn run(shared: &Shared, to_settle: &mpsc::Receiver<ToSettle>) {
    while let Ok(next) = to_settle.recv() {
        match next {
            ToSettle::Submitted(submitted) => settle(shared, submitted),
            ToSettle::GiveUp(generation) => give_up(shared, generation),
        }
    }
}

fn settle(shared: &Shared, submitted: Submitted) {
    let Submitted { ticket, generation, change, answer } = submitted;
    let result = match ticket.wait_blocking() {
        Ok(ack) => match ack.positions.first() {
            Some(&position) => {
                let (sequence, chain_hash) = (ack.first_sequence, ack.head.chain_hash);
                make_seen(shared, Work { sequence, chain_hash, position, change });
                Ok(())
            }
            // Not possible: the request had one record.
            None => Err(quell_journal::Error::EmptyRequest),
        },
        Err(error @ quell_journal::Error::Full { .. }) => {
            give_up(shared, generation);
            Err(error)
        }
        Err(error) => {
            fail(shared, &error);
            Err(error)
        }
    };
    // Whoever asked may have gone.
    let _ = answer.send(result);
}

fn make_seen(shared: &Shared, work: Work) {
    let changed = match &work.change {
        Change::Appended(appended) => match &appended.known {
            Known::Readable(incident) => {
                Some(Changed { incident_id: incident.id, revision: incident.revision })
            }
            Known::LeftAlone(_) => None,
        },
        Change::Switched(_) | Change::Correlated(_) | Change::Retained(_) | Change::Lost(_) => None,
    };
    let sequence = work.sequence;
    match &work.change {
        Change::Appended(appended) => shared.alerts.note(appended),
        Change::Correlated(up_to) => shared.handover.forget_up_to(up_to.0),
        Change::Retained(retained) => shared.handover.forget_up_to(retained.correlated.0),
        Change::Switched(_) | Change::Lost(_) => {}
    }
    shared.change_durable(|state| state.apply(sequence, &work.change));
    shared.work.push(work);
    shared.settled.send_modify(|settled| settled.sequence = sequence);
    if let Some(changed) = changed {
        // Nobody may be listening.
        let _ = shared.changed.send(changed);
    }
}

/// Sets the state of decisions back to the durable one and lets the journal go on. Everything that was submitted before the
/// present message is settled, and the journal takes nothing meanwhile, so the durable state is all there is.
fn give_up(shared: &Shared, generation: u64) {
    let mut decisions = shared.decisions();
    if decisions.generation != generation || decisions.failed.is_some() {
        return;
    }
    decisions.state = shared.durable().clone();
    // Nothing is submitted until the journal goes on.
    shared.handover.give_up(shared.journal.last().sequence);
    // First the journal: whoever hears of this stall has then read the old generation, and cannot have what was decided in the
    // new one given up. Nothing is decided in between, as the mutex is held. Alerts that come in between and meet the next stall
    // ask with the old generation too, for nothing: the next request asks again.
    if let Err(error) = shared.journal.resume() {
        decisions.failed = Some(error);
    }
    let generation = shared.next_generation(&mut decisions);
    let failed = decisions.failed.is_some();
    drop(decisions);
    tracing::error!("no space left: what was being written is given up, nothing of it is stored");
    shared.settled.send_modify(|settled| *settled = Settled { generation, failed, ..*settled });
}

fn fail(shared: &Shared, error: &quell_journal::Error) {
    let mut decisions = shared.decisions();
    if decisions.failed.is_none() {
        tracing::error!(%error, "the store takes no more changes");
        decisions.state = shared.durable().clone();
        decisions.failed = Some(error.clone());
    }
    drop(decisions);
    shared.settled.send_modify(|settled| settled.failed = true);
}
