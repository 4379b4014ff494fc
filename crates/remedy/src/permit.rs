//! Whether the coordinator permits what is asked for. A caller's token lets it reach the agent; only a permit lets it act.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use quell_incident::contract::StepRequest;
use quell_incident::permit::PermittedSkill;
use quell_sign::{KeyError, PERMITS, PublicKey};

use crate::guard::Forbidden;

/// Whose permits count.
pub struct CoordinatorKeys(Keys);

enum Keys {
    /// Those that are configured.
    Listed(BTreeSet<PublicKey>),
    /// That of the coordinator that came first.
    Pinned { file: PathBuf, key: Mutex<Option<PublicKey>> },
}

impl CoordinatorKeys {
    /// These and no others.
    pub fn listed(keys: impl IntoIterator<Item = PublicKey>) -> Self {
        Self(Keys::Listed(keys.into_iter().collect()))
    }

    /// The one in this file; where there is no file, the first that comes is taken for good and written there.
    ///
    /// # Errors
    /// [`KeyError`] when what is there is no key.
    pub fn pinned(file: &Path) -> Result<Self, KeyError> {
        let exists = file.try_exists();
        let exists =
            exists.map_err(|source| KeyError::Io { action: "read", path: file.to_owned(), source })?;
        let key = exists.then(|| PublicKey::read(file, &PERMITS)).transpose()?;
        Ok(Self(Keys::Pinned { file: file.to_owned(), key: Mutex::new(key) }))
    }

    /// Whether the next coordinator that comes is believed.
    pub fn trusts_the_first(&self) -> bool {
        match &self.0 {
            Keys::Listed(_) => false,
            Keys::Pinned { key, .. } => key.lock().unwrap_or_else(PoisonError::into_inner).is_none(),
        }
    }

    /// Where the key of the coordinator that came first is kept, and that key once it came; none where keys are listed.
    pub fn pin(&self) -> Option<(&Path, Option<PublicKey>)> {
        match &self.0 {
            Keys::Listed(_) => None,
            Keys::Pinned { file, key } => Some((file, *key.lock().unwrap_or_else(PoisonError::into_inner))),
        }
    }

    /// Takes a key whose holder says that it is the coordinator's: one of those that count, or the first one, which is on disk when this
    /// returns.
    ///
    /// # Errors
    /// [`Forbidden::ForeignKey`], which says what to change, and [`Forbidden::Unpinned`].
    pub fn meet(&self, given: PublicKey) -> Result<(), Forbidden> {
        let foreign = |change: String| Forbidden::ForeignKey { given: given.to_string(), change };
        match &self.0 {
            Keys::Listed(keys) if keys.contains(&given) => Ok(()),
            Keys::Listed(_) => Err(foreign(format!(
                "none of the {} in agents.resolution.coordinator_public_keys; if it is the coordinator's new key, add it there",
                self.len()
            ))),
            Keys::Pinned { file, key } => {
                // Held over the write: of two that come first at once, one is first.
                let mut pinned = key.lock().unwrap_or_else(PoisonError::into_inner);
                if pinned.is_none() {
                    let unpinned = |why: KeyError| Forbidden::Unpinned { why: in_words(&why) };
                    let kept = given.write_unless_there(file, &PERMITS).map_err(unpinned)?;
                    *pinned = Some(kept);
                    if kept == given {
                        tracing::warn!(
                            public_key = %kept, file = %file.display(),
                            "this coordinator's key is trusted from now on, as it came first; compare it with \
                             `quell-coordinator --print-public-key`, or set agents.resolution.coordinator_public_keys"
                        );
                    }
                }
                match *pinned {
                    Some(known) if known == given => Ok(()),
                    known => Err(foreign(format!(
                        "but {}, which came first; if it is the coordinator's new key, set agents.resolution.coordinator_public_keys, or \
                         take {} away and restart this agent",
                        known.map(|key| key.to_string()).unwrap_or_default(),
                        file.display()
                    ))),
                }
            }
        }
    }

    fn len(&self) -> usize {
        match &self.0 {
            Keys::Listed(keys) => keys.len(),
            Keys::Pinned { .. } => 1,
        }
    }

    /// Checks the permit of a request by signature and by every field. What this refuses nobody with a key asked for: it leaves no trace in
    /// the ledger. A first key is pinned only for a plan that is known here.
    ///
    /// # Errors
    /// The first reason to forbid it.
    pub(crate) fn check(
        &self,
        request: &StepRequest,
        skill: PermittedSkill,
        plan_is_known: bool,
    ) -> Result<(), Forbidden> {
        let signed = request.permit.as_ref().ok_or(Forbidden::NoPermit)?;
        let key: PublicKey = signed.public_key.parse().map_err(|_| Forbidden::BadSignature)?;
        let bytes = signed.permit.signed_bytes().map_err(|_| Forbidden::BadSignature)?;
        if !key.has_signed(&bytes, &signed.signature) {
            return Err(Forbidden::BadSignature);
        }
        if let Some(field) = signed.permit.differs_in(request, skill) {
            return Err(Forbidden::OtherPermit { field });
        }
        let step = &request.step.name;
        if request.key.numbers(request.incident_id, &request.plan_digest, step, request.undo).is_none() {
            return Err(Forbidden::OtherPermit { field: "key" });
        }
        if !plan_is_known && self.trusts_the_first() {
            return Err(Forbidden::UnknownPlan { digest: request.plan_digest.short() });
        }
        self.meet(key)
    }
}

/// An error with all its causes, on one line.
fn in_words(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |words, cause| format!("{words}: {cause}"))
}
