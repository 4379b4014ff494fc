//! The agent's own memory of what it was asked to do, crash-safe: each fact is on disk before anything follows from it.
//!
//! A key goes from unseen to running to ended; or it is sealed while unseen. A process that died between the intent and the outcome
//! finds the key as lost, and nobody ever starts it again: only a probe of the target can tell what became of it.

mod plans;
mod record;
mod state;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use quell_incident::contract::StepOutcome;
use quell_incident::ids::{Digest, FencingToken, StepName};
use quell_incident::plan::AgentIdentity;
use quell_incident::{IncidentId, Plan, StepKey, TargetName};
use quell_journal::{Journal, MissingMark, OpenReport, Options};
use tokio::sync::watch;

pub use plans::PlanFileError;
use plans::PlanFiles;
pub(crate) use record::About;
use record::Record;
pub(crate) use state::{Likeness, Running};
use state::{Phase, State};

/// Records read back before what is too old is forgotten again.
const REPLAYED_BEFORE_FORGETTING: u64 = 1000;

/// Limits of a ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LedgerSettings {
    /// How long a key, and a plan that has begun, are remembered after their last time.
    pub keep: SignedDuration,
    /// How long a plan that never began is remembered after its last moment to begin.
    pub keep_unused: SignedDuration,
    /// Keys remembered at the most; when it is full of young ones, nothing new is begun.
    pub keys_max: usize,
    /// Plans that have not begun, at the most: a further one takes the place of the oldest of them. Those that have begun are fewer than
    /// the keys.
    pub unused_plans_max: usize,
}

impl Default for LedgerSettings {
    fn default() -> Self {
        Self {
            keep: SignedDuration::from_hours(24 * 7),
            keep_unused: SignedDuration::from_mins(10),
            keys_max: 100_000,
            unused_plans_max: 1_000,
        }
    }
}

/// What goes wrong with the ledger.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Records are gone or were exchanged, and with them perhaps what was begun.
    #[error(
        "{0}; nothing was changed: put the folder back as it was, or move it away, which makes a new ledger: every plan and step \
         of the old one is refused then, and what was under way is to be settled by a person"
    )]
    Lost(quell_journal::Error),
    /// The journal under it failed.
    #[error("the ledger's journal failed")]
    Journal(#[source] quell_journal::Error),
    /// A record cannot be read: a newer program wrote it.
    #[error("record {sequence} of the ledger cannot be read: {why}; use the newer program")]
    Unreadable {
        /// Its number.
        sequence: u64,
        /// What is wrong with it.
        why: String,
    },
    /// A record has no JSON form.
    #[error("a record of the ledger has no JSON form")]
    Json(#[from] serde_json::Error),
    /// A plan that has not begun cannot be kept.
    #[error("a plan cannot be kept")]
    Plan(#[from] PlanFileError),
    /// Writing a plan ended in a defect, which is in the log.
    #[error("writing a plan did not end")]
    Thread,
    /// Others have taken the plan's place since the step was allowed.
    #[error("the step's plan is no longer kept: too many others were made since")]
    UnknownPlan,
    /// It is full of young keys.
    #[error(
        "the ledger is full: keys of the last days take all its room, and no other is taken before they are old"
    )]
    Full,
}

impl From<quell_journal::Error> for LedgerError {
    fn from(error: quell_journal::Error) -> Self {
        use quell_journal::Error;
        match error {
            Error::Contradicted(_)
            | Error::MarkMissing { .. }
            | Error::SegmentMissing { .. }
            | Error::ForeignFile { .. }
            | Error::Corrupt(_) => Self::Lost(error),
            error => Self::Journal(error),
        }
    }
}

/// The ledger.
pub struct Ledger {
    journal: Journal,
    plans: PlanFiles,
    state: Mutex<State>,
    identity: AgentIdentity,
}

/// What the ledger says when a key is to begin.
pub(crate) enum Begin {
    /// It is unseen: this is the one right to carry it out.
    Fresh(Ticket),
    /// It is running; wait for it.
    Running(Running),
    /// It has ended so.
    Ended(StepOutcome),
    /// It was begun in an earlier life, or its end could not be recorded.
    Lost,
    /// It never starts.
    Sealed,
    /// The same key came with other content before.
    OtherContent,
    /// The same try of the same step came under this key before.
    OtherKey(StepKey),
    /// There is no room for it.
    Full,
}

/// What the ledger says when a key is to be probed.
pub(crate) enum Asked {
    /// It was unseen or sealed before; it is sealed on disk now.
    Sealed,
    /// It is running; wait for it.
    Running(Running),
    /// It has ended so, having been begun then, if it was.
    Ended(StepOutcome, Option<Timestamp>),
    /// It was begun then, and its end is not known.
    Lost(Option<Timestamp>),
    /// The same key came with other content before.
    OtherContent,
    /// The same try of the same step came under this key before.
    OtherKey(StepKey),
}

/// The one right to carry out a key. Dropped without an end, the key is lost.
pub(crate) struct Ticket {
    ledger: Arc<Ledger>,
    key: StepKey,
    about: About,
    answer: watch::Sender<Option<StepOutcome>>,
    ended: bool,
}

impl Ledger {
    /// Opens the ledger in a folder, or makes one; `new_ledger_id` is a new one's id. Only one process can have it open.
    ///
    /// # Errors
    /// [`LedgerError`] when another process has it, or it is damaged: then nothing is guessed and nothing is begun.
    pub fn open(
        folder: &Path,
        instance: &str,
        new_ledger_id: uuid::Uuid,
        settings: LedgerSettings,
        now: Timestamp,
    ) -> Result<(Self, OpenReport), LedgerError> {
        Self::open_with(folder, instance, Options::new(new_ledger_id), settings, now)
    }

    /// The same with the journal's own options, such as another file system in tests.
    ///
    /// # Errors
    /// As [`Ledger::open`].
    pub fn open_with(
        folder: &Path,
        instance: &str,
        options: Options,
        settings: LedgerSettings,
        now: Timestamp,
    ) -> Result<(Self, OpenReport), LedgerError> {
        // Nobody else would notice that its end was cut off, and with it keys that must never be started again.
        let options = Options { missing_mark: MissingMark::Refuse, ..options };
        let disk = Arc::clone(&options.disk);
        let (journal, report) = Journal::open(folder, options)?;
        // After the journal, which alone knows whether another process has the folder.
        let plans = PlanFiles::open(disk, folder.join("plans"))?;
        let mut state = State::new(settings);
        for entry in journal.iter_from(1) {
            let entry = entry?;
            let record = Record::decode(entry.kind, &entry.payload)
                .map_err(|why| LedgerError::Unreadable { sequence: entry.sequence, why })?;
            state.replay(record);
            // What is old must not pile up in memory before the last record is read.
            if entry.sequence % REPLAYED_BEFORE_FORGETTING == 0 {
                state.forget(now);
            }
        }
        for (digest, plan) in plans.read()? {
            plans.remove(&state.unused_plan(digest, Arc::new(plan)));
        }
        plans.remove(&state.forget(now));
        let identity = AgentIdentity { instance: instance.to_owned(), ledger: journal.id().to_string() };
        Ok((Self { journal, plans, state: Mutex::new(state), identity }, report))
    }

    /// Who has this ledger.
    pub fn identity(&self) -> &AgentIdentity {
        &self.identity
    }

    /// Why it takes no more records, if it does not: for health checks.
    pub fn failure(&self) -> Option<quell_journal::Error> {
        self.journal.failure()
    }

    /// Whether there is room for more records: for health checks. Blocks.
    ///
    /// # Errors
    /// When the disk is full, or its folder cannot be written to.
    pub fn check_room(&self) -> Result<(), LedgerError> {
        Ok(self.journal.check_room()?)
    }

    /// How many keys and plans it remembers.
    pub fn sizes(&self) -> (usize, usize) {
        self.lock().sizes()
    }

    /// The plan of this digest, if it was made here and is still remembered.
    pub fn plan(&self, digest: &Digest) -> Option<Arc<Plan>> {
        self.lock().plan(digest)
    }

    /// Keeps a plan; only steps of plans that are kept are ever carried out.
    ///
    /// # Errors
    /// When it cannot be made durable: then the plan must not be shown.
    pub async fn record_plan(&self, plan: &Plan, now: Timestamp) -> Result<Digest, LedgerError> {
        let digest = plan.digest()?;
        self.forget(now).await?;
        if self.lock().plan(&digest).is_some() {
            return Ok(digest);
        }
        let (text, files) = (serde_json::to_vec(plan)?, self.plans.clone());
        self.on_disk(move || files.write(&digest, &text)).await??;
        let superfluous = self.lock().unused_plan(digest, Arc::new(plan.clone()));
        self.remove(superfluous).await?;
        Ok(digest)
    }

    /// Forgets what is old, in memory and on disk: above all plans that never began.
    ///
    /// # Errors
    /// [`LedgerError::Thread`]
    pub async fn forget(&self, now: Timestamp) -> Result<(), LedgerError> {
        let over = self.lock().forget(now);
        self.remove(over).await
    }

    async fn remove(&self, plans: Vec<Digest>) -> Result<(), LedgerError> {
        if plans.is_empty() {
            return Ok(());
        }
        let files = self.plans.clone();
        self.on_disk(move || files.remove(&plans)).await
    }

    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, LedgerError> {
        tokio::task::spawn_blocking(work).await.map_err(|_| LedgerError::Thread)
    }

    /// An open plan of the same runbook for the same targets that was made for another incident, if there is one.
    pub(crate) fn plan_like(
        &self,
        likeness: &Likeness,
        own: IncidentId,
        now: Timestamp,
    ) -> Option<Arc<Plan>> {
        self.lock().plan_like(likeness, own, now)
    }

    /// Whether it knows anything of a key.
    pub(crate) fn has_seen(&self, key: &StepKey) -> bool {
        self.lock().keys.contains_key(key)
    }

    /// The steps of a plan that were begun.
    pub(crate) fn begun_steps(&self, plan: &Digest) -> BTreeSet<StepName> {
        self.lock().begun_steps(plan)
    }

    /// Asks for the right to carry out a key. Whoever gets it is the only one.
    pub(crate) fn begin(self: &Arc<Self>, key: &StepKey, about: &About, now: Timestamp) -> Begin {
        let mut state = self.lock();
        if let Some(entry) = state.keys.get(key) {
            if entry.content != about.content {
                return Begin::OtherContent;
            }
            return match &entry.phase {
                Phase::Running(running) => Begin::Running(running.clone()),
                Phase::Lost => Begin::Lost,
                Phase::Ended(outcome) => Begin::Ended(outcome.clone()),
                Phase::Sealed { .. } => Begin::Sealed,
            };
        }
        if let Some(other) = state.other_key(key, &about.content) {
            return Begin::OtherKey(other);
        }
        if !state.has_room_for_key(now) {
            return Begin::Full;
        }
        let (answer, running) = watch::channel(None);
        let entry = state.entry(about.content, Phase::Running(running), now.max(about.not_after));
        state.remember(key.clone(), entry);
        let (ledger, key, about) = (Arc::clone(self), key.clone(), about.clone());
        Begin::Fresh(Ticket { ledger, key, about, answer, ended: false })
    }

    /// Takes note of a token: an error with the highest one when a higher one was seen before.
    pub(crate) fn see_token(&self, target: &TargetName, token: FencingToken) -> Result<(), FencingToken> {
        let mut state = self.lock();
        let highest = state.token(target);
        if token < highest {
            return Err(highest);
        }
        state.see_token(target, Some(token));
        Ok(())
    }

    /// Looks a key up for a probe. One that was not seen is sealed, on disk when this returns.
    pub(crate) async fn ask(
        &self,
        key: &StepKey,
        about: &About,
        now: Timestamp,
    ) -> Result<Asked, LedgerError> {
        {
            let mut state = self.lock();
            match state.keys.get(key) {
                Some(entry) if entry.content != about.content => return Ok(Asked::OtherContent),
                Some(entry) => match &entry.phase {
                    Phase::Running(running) => return Ok(Asked::Running(running.clone())),
                    Phase::Lost => return Ok(Asked::Lost(entry.began_at)),
                    Phase::Ended(outcome) => return Ok(Asked::Ended(outcome.clone(), entry.began_at)),
                    Phase::Sealed { durable: true } => return Ok(Asked::Sealed),
                    // A write of it failed, or is under way: it is written (again) below.
                    Phase::Sealed { durable: false } => {}
                },
                None => {
                    if let Some(other) = state.other_key(key, &about.content) {
                        return Ok(Asked::OtherKey(other));
                    }
                    if !state.has_room_for_key(now) {
                        return Err(LedgerError::Full);
                    }
                    let sealed = Phase::Sealed { durable: false };
                    let entry = state.entry(about.content, sealed, now.max(about.not_after));
                    // From here on an `execute` is refused, whatever becomes of the write.
                    state.remember(key.clone(), entry);
                }
            }
            state.see_token(&about.target, about.token);
        }
        self.write(&Record::Sealed { key: key.clone(), about: about.clone(), at: now }).await?;
        if let Some(entry) = self.lock().keys.get_mut(key) {
            entry.phase = Phase::Sealed { durable: true };
        }
        Ok(Asked::Sealed)
    }

    /// Makes durable that a token was seen, if it is higher than those before.
    pub(crate) async fn record_token(
        &self,
        target: &TargetName,
        token: FencingToken,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        let is_higher = {
            let mut state = self.lock();
            let is_higher = token > state.token(target);
            state.see_token(target, Some(token));
            is_higher
        };
        if is_higher {
            self.write(&Record::Token { target: target.clone(), token, at: now }).await?;
        }
        Ok(())
    }

    async fn write(&self, record: &Record) -> Result<(), LedgerError> {
        self.write_all(vec![record.encode()?]).await
    }

    /// All of them, or none.
    async fn write_all(&self, encoded: Vec<quell_journal::Record>) -> Result<(), LedgerError> {
        let ticket = match self.journal.submit(encoded.clone()) {
            Err(quell_journal::Error::Full { .. }) => {
                // Memory holds nothing that was promised and is not on disk, so it agrees with the durable head.
                self.journal.resume()?;
                self.journal.submit(encoded)?
            }
            other => other?,
        };
        ticket.await?;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change under the lock is whole at each point where it could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// The key that it is for.
    pub(crate) fn key(&self) -> &StepKey {
        &self.key
    }

    /// Waits for the end of this key.
    pub(crate) fn watch(&self) -> Running {
        self.answer.subscribe()
    }

    /// Makes the intent durable: only after this may anything be touched.
    pub(crate) async fn intend(
        &self,
        plan: Digest,
        step: &StepName,
        undo: bool,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        let (key, about) = (self.key.clone(), self.about.clone());
        let record = Record::Intent { key, about, plan, step: step.clone(), undo, at: now };
        // A plan's first step takes it into the journal. Until that is written no other plan may take its place in memory.
        let first = self.ledger.lock().beginning(&plan).ok_or(LedgerError::UnknownPlan)?;
        let planned =
            first.map(|whole| Record::Planned { digest: plan, plan: Box::new((*whole).clone()), at: now });
        let is_first = planned.is_some();
        let records = planned.iter().chain([&record]).map(Record::encode).collect::<Result<_, _>>();
        let written = match records {
            Ok(records) => self.ledger.write_all(records).await,
            Err(error) => Err(error.into()),
        };
        if let Err(error) = written {
            self.ledger.lock().did_not_begin(&plan);
            return Err(error);
        }
        {
            let mut state = self.ledger.lock();
            state.begun(plan, step, undo, now);
            if let Some(entry) = state.keys.get_mut(&self.key) {
                entry.began_at = Some(now);
            }
        }
        if is_first {
            // A failure here is no error: a file that stays is removed at the next start.
            let _ = self.ledger.remove(vec![plan]).await;
        }
        Ok(())
    }

    /// Records how the key ended, then tells whoever waits. When it cannot be recorded, the key is lost.
    pub(crate) async fn end(mut self, outcome: StepOutcome, now: Timestamp) -> Result<(), LedgerError> {
        let (key, about) = (self.key.clone(), self.about.clone());
        self.ledger.write(&Record::Outcome { key, about, outcome: outcome.clone(), at: now }).await?;
        self.ended = true;
        if let Some(entry) = self.ledger.lock().keys.get_mut(&self.key) {
            entry.phase = Phase::Ended(outcome.clone());
        }
        self.answer.send_replace(Some(outcome));
        Ok(())
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        if let Some(entry) = self.ledger.lock().keys.get_mut(&self.key) {
            entry.phase = Phase::Lost;
        }
    }
}

/// The outcome of a key that runs; `None` when its task was lost.
pub(crate) async fn ended(mut running: Running) -> Option<StepOutcome> {
    match running.wait_for(Option::is_some).await {
        Ok(outcome) => outcome.clone(),
        Err(_) => None,
    }
}
