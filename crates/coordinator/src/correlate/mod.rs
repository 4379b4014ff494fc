//! From received alerts to incidents. One task takes them in the order in which they became durable, many at a time; the position is
//! kept, so that a restart goes on where it ended. Taking an alert twice changes nothing, so the position may lag behind a crash.
//!
//! A turn has three parts: what the messages may concern is read, [`plan`] decides without waiting for anything, and [`carry_out`]
//! makes it durable, incidents beside each other and each one's changes in order. Where an alert belongs: to the incident that knows
//! it; else to the one of its group; else to one under way that has the same values of a rule's labels; else to a new one.

mod carry_out;
#[cfg(test)]
mod field_cases;
#[cfg(test)]
mod late_messages;
mod memory;
mod plan;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use quell_incident::alert::AlertStatus;
use quell_incident::correlation::{GroupId, GroupKey, learned_settle};
use quell_incident::workflow::LATE_MESSAGE_WITHIN;
use quell_incident::{Incident, IncidentId};
use quell_store::{Lease, Received, ReceivedPosition, StoreError, Work};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

pub(crate) use memory::JoinSettings;
pub(crate) use plan::ended_at;

use self::memory::Memory;
use self::plan::{Message, Planner, View};
use crate::site::{Settings, Site};
use crate::tenure::{Tenure, Term};

/// Received batches that are read at once; the store also bounds their bytes.
const BATCHES_MAX: usize = 4_096;
/// After a turn correlation pauses for as long as that took, and at the most this: more alerts then share the next turn, and who
/// receives them comes first. When it is behind it goes on at once.
const BREATH_MAX: Duration = Duration::from_millis(50);
/// So many alerts in one turn are many.
const ALERTS_BEHIND_MIN: usize = 4_000;
/// How many of the last records are looked through after a restart for what was received.
const LOOK_BACK: u64 = 10_000;
/// How often messages are taken again because the incident they went to was over meanwhile.
const AGAIN_MAX: usize = 5;
/// What a storm left is given back once nothing has come for so long.
const GIVE_BACK_AFTER: Duration = Duration::from_secs(30);
/// How often alerts are looked for that another coordinator received, and whether nobody correlates any more.
const LOOK_EVERY: Duration = Duration::from_millis(250);
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

/// Starts at the stored position; `received` is told after each receipt here. Of several coordinators one does this at a time.
pub(crate) async fn start(
    site: Arc<Site>,
    received: Arc<tokio::sync::Notify>,
    tenure: Tenure,
    stop: CancellationToken,
    tasks: &tokio_util::task::TaskTracker,
) -> Result<Correlated, StoreError> {
    let (reached, watching) = watch::channel(site.store.correlated().await?);
    tasks.spawn(async move {
        let terms = async {
            while let Some(term) = tenure.begun().await {
                term.over.run_until_cancelled(during(&site, &term, &received, &reached)).await;
            }
        };
        stop.run_until_cancelled(terms).await;
    });
    Ok(Correlated(watching))
}

/// One term: waits until nobody else correlates, and then does.
async fn during(
    site: &Site,
    term: &Term,
    received: &tokio::sync::Notify,
    reached: &watch::Sender<ReceivedPosition>,
) {
    loop {
        match correlate(site, term, received, reached).await {
            Ok(()) => tokio::time::sleep(LOOK_EVERY).await,
            Err(error @ StoreError::LeaseLost { .. }) => {
                warn!(%error, "another coordinator correlates");
                return term.over.cancel();
            }
            Err(error) => {
                error!(%error, "correlation waits for the store");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Ends only with an error, or when somebody else correlates.
async fn correlate(
    site: &Site,
    term: &Term,
    received: &tokio::sync::Notify,
    reached: &watch::Sender<ReceivedPosition>,
) -> Result<(), StoreError> {
    let claimed = site.store.claim(term.coordinator, &[Work::Correlation]).await?;
    // What a predecessor did is known by now, and whoever waits for it here is told.
    reached.send_replace(site.store.correlated().await?);
    let Some(lease) = claimed.first() else { return Ok(()) };
    site.history.learn(site.store.as_ref()).await?;
    let mut memory = Memory::default();
    let settings = site.settings();
    for id in site.store.unfinished().await? {
        if let Some(incident) = incident(site, id).await? {
            memory.learn(&incident, &settings.join);
        }
    }
    let position = *reached.borrow();
    remember_ends(site, &mut memory, position).await;
    loop {
        let position = *reached.borrow();
        let begun = Instant::now();
        let alerts = take_batches(site, lease, &mut memory, position, reached).await?;
        if (1..ALERTS_BEHIND_MIN).contains(&alerts) {
            tokio::time::sleep(begun.elapsed().min(BREATH_MAX)).await;
        } else if alerts == 0 && site.store.is_shared() {
            // Other coordinators receive as well, and nothing tells of that.
            let _ = tokio::time::timeout(LOOK_EVERY, received.notified()).await;
        } else if alerts == 0 && memory.is_worth_giving_back() {
            if tokio::time::timeout(GIVE_BACK_AFTER, received.notified()).await.is_err() {
                forget(site, &mut memory).await?;
            }
        } else if alerts == 0 {
            received.notified().await;
        }
    }
}

/// What was heard just before a restart of episodes that no incident knows: without it their late beginnings would open incidents that
/// nothing ends. It is read once more from what was received, as far as that is short and recent.
async fn remember_ends(site: &Site, memory: &mut Memory, up_to: ReceivedPosition) {
    let settings = site.settings();
    let since = site.now().saturating_sub(LATE_MESSAGE_WITHIN).unwrap_or(Timestamp::MIN);
    let mut after = ReceivedPosition(up_to.0.saturating_sub(LOOK_BACK));
    loop {
        let batches = match site.store.received_after(after, BATCHES_MAX).await {
            Ok(batches) => batches,
            Err(error) => {
                return warn!(%error, "which alerts ended just before the restart is not known");
            }
        };
        let Some((last, _)) = batches.last() else { return };
        after = *last;
        let known = batches.into_iter().filter(|(position, _)| *position <= up_to);
        for received in known.map(|(_, received)| received).filter(|received| received.at >= since) {
            for alert in received.alerts.iter().filter(|alert| !settings.mapping.is_heartbeat(alert)) {
                match alert.status {
                    AlertStatus::Firing => memory.fires(alert, received.at),
                    AlertStatus::Resolved => memory.ends(alert, ended_at(alert, received.at), received.at),
                };
            }
        }
        if after >= up_to {
            return;
        }
    }
}

/// Forgets what is of no more use, and gives its memory back.
async fn forget(site: &Site, memory: &mut Memory) -> Result<(), StoreError> {
    let unfinished: HashSet<_> = site.store.unfinished().await?.into_iter().collect();
    memory.forget(&unfinished, &site.settings().join, site.now());
    Ok(())
}

/// How many alerts there were to take. The position is only moved on when everything before it is part of incidents.
async fn take_batches(
    site: &Site,
    lease: &Lease,
    memory: &mut Memory,
    after: ReceivedPosition,
    reached: &watch::Sender<ReceivedPosition>,
) -> Result<usize, StoreError> {
    let batches = site.store.received_after(after, BATCHES_MAX).await?;
    let Some((last, _)) = batches.last() else { return Ok(0) };
    let last = *last;
    let mut messages = Vec::with_capacity(batches.iter().map(|(_, received)| received.alerts.len()).sum());
    batches.into_iter().for_each(|(_, received)| messages_of(received, &site.settings(), &mut messages));
    let alerts = messages.len();
    take_all(site, lease, memory, messages).await?;
    site.metrics.correlated(alerts as u64);
    reached.send_replace(last);
    site.faults.reach("coordinator.correlated.before").await;
    site.store.set_correlated(last, Some(lease)).await?;
    if memory.is_large() {
        forget(site, memory).await?;
    }
    // An empty message was something to take as well.
    Ok(alerts.max(1))
}

fn messages_of(received: Received, settings: &Settings, messages: &mut Vec<Message>) {
    let Received { at, source, alerts, group_key, truncated_alerts: truncated, .. } = received;
    let of_message = GroupId::of_message(&source, group_key.as_deref());
    let mut group_key = group_key.as_deref().and_then(GroupKey::of);
    messages.extend(alerts.into_iter().map(|alert| {
        let about = settings.mapping.about(&alert);
        Message {
            group: group_key.as_mut().and_then(|key| key.group_of(&alert, &about)),
            about: Arc::new(about),
            alert: Arc::new(alert),
            of_message: of_message.clone(),
            truncated,
            at,
        }
    }));
}

/// Takes messages together. Those whose incident was over when it was told of them are taken again.
async fn take_all(
    site: &Site,
    lease: &Lease,
    memory: &mut Memory,
    mut messages: Vec<Message>,
) -> Result<(), StoreError> {
    for _ in 0..AGAIN_MAX {
        let settings = site.settings();
        let view = view(site, memory, &settings, &messages).await?;
        let now = site.now();
        let mut planner = Planner {
            settings: &settings,
            view: &view,
            memory: &mut *memory,
            now,
            new_id: &|| IncidentId(site.ids.new_id()),
            settle: &|class, priority| learned_settle(&site.history.ends(class), priority, &settings.settle),
            went: HashMap::new(),
            works: Vec::new(),
            places: HashMap::new(),
            late: Vec::new(),
        };
        for (place, message) in messages.iter().enumerate() {
            planner.take(place, message);
        }
        let (works, late) = (std::mem::take(&mut planner.works), std::mem::take(&mut planner.late));
        if let Some(first) = late.first() {
            info!(messages = late.len(), %first, "messages of episodes that are over came late and change nothing");
        }
        let refused: HashSet<_> = carry_out::all(site, lease, works).await?.into_iter().collect();
        if refused.is_empty() {
            return Ok(());
        }
        let mut place = 0..;
        messages.retain(|_| place.next().is_some_and(|place| refused.contains(&place)));
    }
    error!(messages = messages.len(), "alerts found no incident that takes them; the next message opens one");
    Ok(())
}

/// Reads what messages may concern.
async fn view(
    site: &Site,
    memory: &Memory,
    settings: &Settings,
    messages: &[Message],
) -> Result<View, StoreError> {
    // In an order that follows from the messages alone: the same history reads the same.
    let keys: BTreeSet<_> = messages.iter().map(|message| &message.alert.key).collect();
    let keys: Vec<_> = keys.into_iter().cloned().collect();
    let ids = site.store.incidents_of_alerts(&keys).await?;
    let of_alert: BTreeMap<_, _> =
        keys.into_iter().zip(ids).filter_map(|(key, id)| id.map(|id| (key, id))).collect();
    let candidates = messages.iter().flat_map(|message| {
        memory.candidates(
            (&message.alert, &message.about),
            message.group.as_ref(),
            message.at,
            &settings.join,
        )
    });
    let wanted: BTreeSet<_> = candidates.map(|(id, _)| id).chain(of_alert.values().copied()).collect();
    let mut incidents = HashMap::with_capacity(wanted.len());
    for id in wanted {
        if let Some(incident) = incident(site, id).await? {
            incidents.insert(id, incident);
        }
    }
    Ok(View { of_alert, incidents })
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
