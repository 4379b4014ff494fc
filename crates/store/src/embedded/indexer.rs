//! The indexer: one thread that brings durable changes into the index, as many at once as wait.

use std::time::{Duration, Instant};

use super::index::{self, Trouble, Work};
use super::replay::{self, Obstacle};
use super::shared::{Next, Shared};

/// A batch is atomic, and readers of lists wait for it: it is kept short.
const BATCH_CHANGES_MAX: usize = 256;
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);
/// What a reader found odd is not a reason to make the index anew again so soon: it may have read the old one, and what making
/// it anew does not cure must not keep the disk busy.
const SUSPICION_PAUSE: Duration = Duration::from_secs(60);

/// How often is looked for incidents that may rest, at the most.
const LET_REST_EVERY_MIN: Duration = Duration::from_millis(10);

/// Indexes until the queue is closed and empty.
pub(super) fn run(shared: &Shared) {
    let mut rebuilt_at: Option<Instant> = None;
    let let_rest_every = (shared.rests_after / 2).max(LET_REST_EVERY_MIN);
    let mut let_rest_at = Instant::now();
    loop {
        if let_rest_at.elapsed() >= let_rest_every {
            let_rest(shared);
            let_rest_at = Instant::now();
        }
        let (result, work) = match shared.work.next(BATCH_CHANGES_MAX, let_rest_every) {
            Next::Nothing => continue,
            Next::End => return note_end(shared),
            Next::Rebuild(_) if rebuilt_at.is_some_and(|at| at.elapsed() < SUSPICION_PAUSE) => continue,
            Next::Rebuild(trouble) => (Err(trouble), Vec::new()),
            Next::Apply(work) => (apply(shared, &work), work),
        };
        let indexed = match result {
            Ok(indexed) => indexed,
            Err(trouble) => {
                let Some(indexed) = rebuild(shared, &trouble) else { return };
                rebuilt_at = Some(Instant::now());
                indexed
            }
        };
        shared.decisions().state.forget_up_to(indexed);
        shared.change_durable(|state| state.forget_up_to(indexed));
        shared.alerts.forget(&work, &shared.durable());
        shared.indexed.send_modify(|so_far| *so_far = indexed.max(*so_far));
    }
}

/// Lets incidents rest that nothing has happened to for a while, if all that are held take much.
fn let_rest(shared: &Shared) {
    let Some(since) = Instant::now().checked_sub(shared.rests_after) else { return };
    let bytes_max = shared.held_bytes_max;
    let indexed = *shared.indexed.borrow();
    // The two states are locked one after the other, and what rests is freed after both.
    let decided = shared.decisions().state.let_rest(bytes_max, indexed, since);
    let durable = shared.change_durable(|state| state.let_rest(bytes_max, indexed, since));
    let incidents = durable.len();
    drop((decided, durable));
    if incidents > 0 {
        tracing::debug!(incidents, "unfinished incidents rest: they are read again when something happens");
    }
}

fn apply(shared: &Shared, work: &[Work]) -> Result<u64, Trouble> {
    let Some(index) = shared.index() else { return Err("it is gone".into()) };
    // An index that was made anew has all that was durable by then.
    let applied = index.applied().sequence;
    let new = work.partition_point(|work| work.sequence <= applied);
    let done = replay::guarded(|| {
        index.apply(work.get(new..).unwrap_or_default(), shared.journal.last())?;
        Ok(index.applied().sequence)
    });
    done.map_err(|obstacle| match obstacle {
        Obstacle::Index(trouble) => trouble,
        Obstacle::Journal(error) => error.into(),
    })
}

/// What was received last is no change of the index, and its end is to be noticed all the same.
fn note_end(shared: &Shared) {
    let Some(index) = shared.index() else { return };
    if let Err(error) = index.note_head(shared.journal.last()) {
        tracing::warn!(error = index::in_words(&error), "the index did not note where the journal ends");
    }
}

/// Makes the index anew, until that works; none when the store is closed before.
fn rebuild(shared: &Shared, trouble: &Trouble) -> Option<u64> {
    if trouble.is::<super::retained::Bloated>() {
        tracing::info!(why = %trouble, "the index is rebuilt from the journal");
    } else {
        tracing::error!(error = index::in_words(trouble), "the index is rebuilt from the journal");
    }
    shared.set_index(None);
    // Whoever waits for the index looks again and finds it gone.
    shared.indexed.send_modify(|_| {});
    let mut retry = RETRY_FIRST;
    loop {
        match made_anew(shared, trouble) {
            Ok(indexed) => {
                tracing::info!("the index is rebuilt");
                return Some(indexed);
            }
            Err(error) => {
                tracing::error!(
                    error = index::in_words(&error),
                    retry_seconds = retry.as_secs(),
                    "the index cannot be rebuilt"
                );
                if shared.work.closed_within(retry) {
                    return None;
                }
                retry = (retry * 2).min(RETRY_MAX);
            }
        }
    }
}

fn made_anew(shared: &Shared, trouble: &Trouble) -> Result<u64, Trouble> {
    let folder = &shared.index_folder;
    if folder.exists() {
        // On a full disk there is no room for a second one.
        let no_room = matches!(trouble.downcast_ref(), Some(sled::Error::Io(_)));
        if no_room || trouble.is::<super::retained::Bloated>() {
            std::fs::remove_dir_all(folder)?;
        } else {
            replay::put_aside(folder)?;
        }
    }
    let opened = replay::open(folder, shared.index_cache_bytes, &shared.journal, None)?;
    // The state in memory was never wrong: only the index is taken.
    let indexed = opened.index.applied().sequence;
    shared.set_index(Some(opened.index));
    Ok(indexed)
}
