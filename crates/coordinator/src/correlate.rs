//! From received alerts to incidents. One task takes them in the order in which they became durable; the position is kept, so that a
//! restart goes on where it ended. Taking an alert twice changes nothing, so the position may lag behind a crash.
//!
//! An alert that is not known joins an incident under way whose alerts have the same values of the configured labels: two alerts on one
//! disk are one incident, diagnosed once.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use quell_incident::alert::{Alert, AlertStatus};
use quell_incident::incident::ALERTS_MAX;
use quell_incident::severity::Status;
use quell_incident::workflow::{self, Draft, Input};
use quell_incident::{Incident, IncidentId};
use quell_store::{ReceivedPosition, StoreError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info};

use crate::site::{ChangeError, Site};

/// Received batches that are read at once.
const BATCHES_MAX: usize = 64;
/// Keys of incidents under way before those that are over are forgotten.
const KEYS_MAX: usize = 50_000;
/// After an error of the store.
const PAUSE: Duration = Duration::from_millis(500);

/// Where correlation stands, for those who wait for it.
#[derive(Clone, Debug)]
pub(crate) struct Correlated(watch::Receiver<ReceivedPosition>);

impl Correlated {
    /// Waits until what was received at this position is part of incidents.
    pub(crate) async fn reached(&mut self, position: ReceivedPosition) -> bool {
        self.0.wait_for(|reached| *reached >= position).await.is_ok()
    }
}

/// Starts at the stored position; `received` is told after each receipt.
pub(crate) async fn start(
    site: Arc<Site>,
    received: Arc<tokio::sync::Notify>,
    stop: CancellationToken,
    tasks: &tokio_util::task::TaskTracker,
) -> Result<Correlated, StoreError> {
    let position = site.store.correlated().await?;
    let mut under_way = UnderWay::default();
    for id in site.store.unfinished().await? {
        if let Some(incident) = incident(&site, id).await? {
            incident.alerts.values().for_each(|state| under_way.add(&site, &state.alert, id));
        }
    }
    let (reached, watching) = watch::channel(position);
    tasks.spawn(async move {
        let work = run(&site, under_way, &received, &reached);
        stop.run_until_cancelled(work).await;
    });
    Ok(Correlated(watching))
}

async fn run(
    site: &Site,
    mut under_way: UnderWay,
    received: &tokio::sync::Notify,
    reached: &watch::Sender<ReceivedPosition>,
) {
    loop {
        let position = *reached.borrow();
        match take_batches(site, &mut under_way, position, reached).await {
            Ok(true) => {}
            Ok(false) => received.notified().await,
            Err(error) => {
                error!(%error, "correlation waits for the store");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Whether there was anything to take.
async fn take_batches(
    site: &Site,
    under_way: &mut UnderWay,
    after: ReceivedPosition,
    reached: &watch::Sender<ReceivedPosition>,
) -> Result<bool, StoreError> {
    let batches = site.store.received_after(after, BATCHES_MAX).await?;
    let Some((last, _)) = batches.last() else { return Ok(false) };
    let last = *last;
    for (position, batch) in &batches {
        for alert in &batch.alerts {
            take(site, under_way, alert).await?;
        }
        reached.send_replace(*position);
    }
    site.faults.reach("coordinator.correlated.before").await;
    site.store.set_correlated(last).await?;
    Ok(true)
}

/// Takes one alert: it opens an incident, changes one, or changes nothing.
async fn take(site: &Site, under_way: &mut UnderWay, alert: &Alert) -> Result<(), StoreError> {
    let known = match site.store.incident_of_alert(&alert.key).await? {
        Some(id) => incident(site, id).await?,
        None => None,
    };
    let source = alert.key.source.as_str();
    match (known, alert.status) {
        (None, AlertStatus::Firing) => open_or_join(site, under_way, alert, None).await?,
        (None, AlertStatus::Resolved) => {
            debug!(alert = %alert.key, "the end of an alert that is not known");
        }
        (Some(incident), AlertStatus::Firing) if incident.status() == Status::Closed => {
            if workflow::begins_anew(&incident, alert, site.now()) {
                open_or_join(site, under_way, alert, Some(&incident)).await?;
            }
        }
        (Some(incident), AlertStatus::Firing) => {
            let firing = Input::AlertFiring(Box::new(alert.clone()));
            if !change(site, incident.id, firing, source).await? {
                // It was closed in the meantime.
                open_or_join(site, under_way, alert, Some(&incident)).await?;
            }
        }
        (Some(incident), AlertStatus::Resolved) => {
            let now = site.now();
            let at = alert.ends_at.unwrap_or(now).min(now);
            change(site, incident.id, Input::AlertCleared { key: alert.key.clone(), at }, source).await?;
        }
    }
    Ok(())
}

/// Incidents under way by the values of the labels that alerts join by. It may name incidents that are over: they are looked at before
/// anything joins them.
#[derive(Default)]
struct UnderWay(HashMap<Vec<String>, IncidentId>);

impl UnderWay {
    /// The source and the labels' values; `None` when one is missing, or when nothing is to be joined by.
    fn key(site: &Site, alert: &Alert) -> Option<Vec<String>> {
        let settings = site.settings();
        if settings.correlate_by.is_empty() {
            return None;
        }
        let values =
            settings.correlate_by.iter().map(|name| alert.labels.get(name).map(|value| value.for_people()));
        std::iter::once(Some(alert.key.source.to_string())).chain(values).collect()
    }

    fn add(&mut self, site: &Site, alert: &Alert, id: IncidentId) {
        if let Some(key) = Self::key(site, alert) {
            self.0.insert(key, id);
        }
    }

    /// Forgets what is over, when it has become much.
    async fn prune(&mut self, site: &Site) -> Result<(), StoreError> {
        if self.0.len() > KEYS_MAX {
            let unfinished: std::collections::HashSet<_> =
                site.store.unfinished().await?.into_iter().collect();
            self.0.retain(|_, id| unfinished.contains(id));
        }
        Ok(())
    }
}

async fn open_or_join(
    site: &Site,
    under_way: &mut UnderWay,
    alert: &Alert,
    earlier: Option<&Incident>,
) -> Result<(), StoreError> {
    let source = alert.key.source.as_str();
    let key = UnderWay::key(site, alert);
    if let Some(id) = key.as_ref().and_then(|key| under_way.0.get(key)).copied()
        && let Some(joined) = incident(site, id).await?
        && joined.status().is_active()
        && joined.alerts.len() < ALERTS_MAX
        // An alert is looked for in the newest incident that it fired in: in an older one its end would not be found.
        && earlier.is_none_or(|earlier| (joined.created_at, joined.id) > (earlier.created_at, earlier.id))
    {
        let head = site.settings().mapping.head(alert);
        // First, so that a crash between the two does not lose it: the alert is taken again then.
        let urgency = Input::AlertUrgency { priority: head.priority, severity: head.severity };
        change(site, id, urgency, source).await?;
        if change(site, id, Input::AlertFiring(Box::new(alert.clone())), source).await? {
            return Ok(());
        }
    }
    let opened = site.open(draft(site, alert, earlier.map(|earlier| earlier.id)), source, None).await?;
    if let Some(key) = key {
        under_way.0.insert(key, opened.id);
        under_way.prune(site).await?;
    }
    Ok(())
}

/// An incident that this program cannot read is left alone, and its alert opens another one rather than none.
async fn incident(site: &Site, id: IncidentId) -> Result<Option<Arc<Incident>>, StoreError> {
    match site.store.incident(id).await {
        Err(error @ (StoreError::UnknownEvent { .. } | StoreError::Damaged { .. })) => {
            error!(incident_id = %id, %error, "the incident is left alone");
            Ok(None)
        }
        other => other,
    }
}

fn draft(site: &Site, alert: &Alert, linked_to: Option<IncidentId>) -> Draft {
    Draft {
        head: site.settings().mapping.head(alert),
        affected_systems: vec![alert.affected_system()],
        origin: alert.key.source.to_string(),
        linked_to,
        alert: Some(alert.clone()),
    }
}

/// Whether the incident took it. What would fail again and again is logged and left: one incident must not hold up all others.
async fn change(site: &Site, id: IncidentId, input: Input, actor: &str) -> Result<bool, StoreError> {
    match site.change(id, &input, actor).await {
        Ok(_) => Ok(true),
        Err(ChangeError::Store(
            error @ (StoreError::UnknownEvent { .. }
            | StoreError::Damaged { .. }
            | StoreError::Illegal(_)
            | StoreError::Unsound { .. }
            | StoreError::TooLarge { .. }),
        )) => {
            error!(incident_id = %id, %error, "an alert's message could not be added to the incident");
            Ok(false)
        }
        Err(ChangeError::Store(error)) => Err(error),
        Err(error) => {
            info!(incident_id = %id, %error, "an alert's message changed nothing");
            Ok(false)
        }
    }
}
