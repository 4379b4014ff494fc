//! What every part of the coordinator works with, and the one way in which an incident changes.

use std::sync::{Arc, PoisonError, RwLock};

use jiff::Timestamp;
use quell_incident::correlation::SettleRule;
use quell_incident::event::EVENT_VERSION;
use quell_incident::mapping::Mapping;
use quell_incident::workflow::{self, AlertBatch, Draft, Input, Policy, Refused};
use quell_incident::{Digest, Envelope, Event, Incident, IncidentId, Revision};
use quell_service::{Clock, FaultPoints, IdSource, config};
use quell_sign::SigningKey;
use quell_store::{Append, IncidentStore, Lease, MessageKey, Retention, StoreError};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tracing::{debug, info};

use crate::correlate::JoinSettings;
use crate::history::History;
use crate::metrics::Metrics;
use crate::windows::Windows;

/// How often a decision is made anew because another one came first.
const CONFLICTS_MAX: u32 = 20;

/// The settings that a reload replaces.
#[derive(Debug)]
pub(crate) struct Settings {
    /// What the workflow decides by.
    pub policy: Policy,
    /// The policy's digest, for the events.
    pub policy_digest: Digest,
    /// From alerts to incidents.
    pub mapping: Mapping,
    /// What makes alerts one incident.
    pub join: JoinSettings,
    /// What is concluded from a class's history.
    pub settle: SettleRule,
    /// Maintenance windows and freezes.
    pub windows: Windows,
    /// Comparing with Alertmanager.
    pub reconcile: config::Reconcile,
    /// Reading alerts from Prometheus itself.
    pub poll_prometheus: config::PollPrometheus,
    /// How long what is over is kept.
    pub retention: Retention,
}

/// What every part of the coordinator works with.
pub(crate) struct Site {
    /// The truth.
    pub store: Arc<dyn IncidentStore>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// New ids.
    pub ids: Arc<dyn IdSource>,
    /// Points at which tests let the process die.
    pub faults: FaultPoints,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// How incidents of each class ended.
    pub history: Arc<History>,
    /// Whose incidents these are.
    pub tenant: String,
    /// Signs what the resolution agent may do.
    pub permit_key: SigningKey,
    settings: RwLock<Arc<Settings>>,
    reloaded: Notify,
}

/// Who changes something, and by which right.
pub(crate) struct By<'a> {
    /// Who.
    actor: &'a str,
    /// What is done only while this lease is held; a person's word needs none.
    fence: Option<Lease>,
}

impl<'a> By<'a> {
    /// Work of this coordinator under a lease.
    pub(crate) fn lease(actor: &'a str, lease: Lease) -> Self {
        Self { actor, fence: Some(lease) }
    }
}

impl<'a> From<&'a str> for By<'a> {
    fn from(actor: &'a str) -> Self {
        Self { actor, fence: None }
    }
}

/// Why an input changed nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChangeError {
    /// There is no such incident.
    #[error("there is no incident {0}")]
    NotFound(IncidentId),
    /// The workflow says that it does not fit.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The store could not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Site {
    /// A site with these settings.
    pub(crate) fn new(
        store: Arc<dyn IncidentStore>,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn IdSource>,
        faults: FaultPoints,
        tenant: String,
        settings: Settings,
        permit_key: SigningKey,
    ) -> Self {
        let (settings, reloaded) = (RwLock::new(Arc::new(settings)), Notify::new());
        let (metrics, history) = (Arc::default(), Arc::default());
        Self { store, clock, ids, faults, metrics, history, tenant, permit_key, settings, reloaded }
    }

    /// The time now.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The settings in force.
    pub(crate) fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts other settings in force, for decisions from now on.
    pub(crate) fn replace_settings(&self, settings: Settings) {
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
        self.reloaded.notify_waiters();
    }

    /// Ends when other settings are in force than when it was called: called before [`Site::settings`], it misses none.
    pub(crate) fn reloaded(&self) -> Notified<'_> {
        self.reloaded.notified()
    }

    /// Opens an incident; returns it as it is on disk.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::MessageTaken`] when the same message opened one before.
    pub(crate) async fn open(
        &self,
        draft: Draft,
        by: impl Into<By<'_>>,
        message: Option<(MessageKey, Digest)>,
    ) -> Result<Arc<Incident>, StoreError> {
        let settings = self.settings();
        let id = IncidentId(self.ids.new_id());
        let events = workflow::open(draft, self.now(), &settings.policy);
        self.append(id, Revision(0), events, &by.into(), &settings, message).await
    }

    /// Opens an incident with the alerts that belong to it.
    ///
    /// # Errors
    /// [`StoreError`]; then there is no such incident.
    pub(crate) async fn open_with(
        &self,
        id: IncidentId,
        draft: Draft,
        batch: &AlertBatch,
        settle: Option<jiff::SignedDuration>,
        by: impl Into<By<'_>>,
    ) -> Result<Arc<Incident>, StoreError> {
        let settings = self.settings();
        let events = workflow::open_with(draft, batch, settle, self.now(), &settings.policy);
        self.append(id, Revision(0), events, &by.into(), &settings, None).await
    }

    /// Decides on an input and makes the decision durable. Nothing else changes an incident.
    ///
    /// # Errors
    /// [`ChangeError`]; then the input has changed nothing. That a question had expired when it was answered is recorded even so.
    pub(crate) async fn change(
        &self,
        id: IncidentId,
        input: &Input,
        by: impl Into<By<'_>>,
    ) -> Result<Arc<Incident>, ChangeError> {
        let by = by.into();
        let mut conflicts = 0;
        loop {
            let incident = self.store.incident(id).await?.ok_or(ChangeError::NotFound(id))?;
            let settings = self.settings();
            let now = self.now();
            let decided = workflow::decide(&incident, input, now, &settings.policy);
            let (events, refused) = match decided {
                Ok(events) => (events, None),
                Err(refused) => {
                    let recorded = refused.recorded_by();
                    let recorded =
                        recorded.map(|input| workflow::decide(&incident, &input, now, &settings.policy));
                    (recorded.and_then(Result::ok).unwrap_or_default(), Some(refused))
                }
            };
            let changed = match events.is_empty() {
                true => Ok(incident),
                false => self.append(id, incident.revision, events, &by, &settings, None).await,
            };
            match (changed, refused) {
                (Ok(incident), None) => return Ok(incident),
                (Ok(_), Some(refused)) => return Err(refused.into()),
                (Err(StoreError::Conflict { .. }), _) if conflicts < CONFLICTS_MAX => {
                    conflicts += 1;
                    debug!(incident_id = %id, "another change came first, deciding anew");
                }
                (Err(error), _) => return Err(error.into()),
            }
        }
    }

    async fn append(
        &self,
        id: IncidentId,
        expected: Revision,
        events: Vec<Event>,
        by: &By<'_>,
        settings: &Settings,
        message: Option<(MessageKey, Digest)>,
    ) -> Result<Arc<Incident>, StoreError> {
        let now = self.now();
        let claims = workflow::claims(&events);
        let said: Vec<_> =
            events.iter().map(|event| (event.kind(), quell_incident::view::describe(event))).collect();
        let envelope = |(revision, event)| Envelope {
            id: self.ids.new_id(),
            incident_id: id,
            revision,
            tenant: self.tenant.clone(),
            at: now,
            actor: by.actor.to_owned(),
            trace: Some(traceparent(id)),
            policy: settings.policy_digest,
            version: EVENT_VERSION,
            event,
        };
        let revisions = std::iter::successors(Some(expected.next()), |revision| Some(revision.next()));
        let envelopes: Vec<_> = revisions.zip(events).map(envelope).collect();
        self.faults.reach("coordinator.append.before").await;
        let append = Append { incident_id: id, expected, envelopes, claims, message, fence: by.fence };
        // The change wakes the worker, which may drop whoever made it before this line is reached again: what is said and counted of
        // it must not depend on that.
        let (store, metrics, faults) =
            (Arc::clone(&self.store), Arc::clone(&self.metrics), self.faults.clone());
        let history = Arc::clone(&self.history);
        let appending = tokio::spawn(async move {
            let events: Vec<_> = append.envelopes.iter().map(|envelope| envelope.event.clone()).collect();
            let incident = store.append(append).await?;
            faults.reach("coordinator.append.after").await;
            for (kind, text) in said {
                info!(incident_id = %id, event = kind, phase = incident.phase.name(), "{text}");
            }
            metrics.count(&incident, &events);
            history.changed(&incident, &events);
            Ok(incident)
        });
        appending.await.unwrap_or(Err(StoreError::Closed))
    }
}

/// The W3C trace context of an incident: its id is the trace, so that whatever is done for it is found by it.
pub(crate) fn traceparent(id: IncidentId) -> String {
    let trace = id.0.as_simple();
    let span = (id.0.as_u128() as u64) | 1;
    format!("00-{trace}-{span:016x}-01")
}
