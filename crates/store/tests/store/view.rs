//! All that can be seen of a store, to compare one with another or with itself at another time.

use std::collections::BTreeMap;

use jiff::Timestamp;
use quell_incident::Incident;
use quell_incident::event::Envelope;
use quell_incident::gate::{CoolDown, LockState, SiteGates};
use quell_incident::ids::{FencingToken, IncidentId, TargetName};
use quell_store::{IncidentStore, ListQuery, MessageRecord, Received, ReceivedPosition, Row};

use crate::fixtures::{alert_key, message, target};

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct View {
    pub(crate) received: Vec<Received>,
    /// How many received batches are after the correlated mark.
    pub(crate) not_correlated: usize,
    pub(crate) incidents: BTreeMap<IncidentId, (Incident, Vec<Envelope>)>,
    pub(crate) rows: Vec<Row>,
    pub(crate) unfinished: Vec<IncidentId>,
    pub(crate) alerts: Vec<Option<IncidentId>>,
    pub(crate) messages: Vec<Option<MessageRecord>>,
    pub(crate) site: SiteGates,
    pub(crate) locks: BTreeMap<TargetName, LockState>,
    pub(crate) cool_downs: Vec<CoolDown>,
}

impl View {
    /// The same after one loss record that nobody has accepted: tokens of locks that are free have jumped.
    pub(crate) fn after_a_loss(mut self) -> Self {
        for lock in self.locks.values_mut().filter(|lock| lock.holder.is_none()) {
            lock.token = lock.token.max(FencingToken(1 << 40));
        }
        self
    }
}

/// Targets that tests lock.
pub(crate) const TARGETS: [&str; 3] = ["db-1", "db-2", "web-1"];
/// Numbers of alerts and messages that are asked for.
const NUMBERS: u64 = 20;

pub(crate) async fn of<S: IncidentStore + ?Sized>(store: &S) -> View {
    let received = received(store, ReceivedPosition::default()).await;
    let not_correlated = self::received(store, store.correlated().await.unwrap()).await.len();
    let mut query = ListQuery { limit: 7, ..ListQuery::default() };
    let mut rows: Vec<Row> = Vec::new();
    loop {
        let page = store.list(&query).await.unwrap();
        rows.extend(page.rows);
        query.cursor = page.next;
        if query.cursor.is_none() {
            assert_eq!(page.total, rows.len() as u64);
            break;
        }
    }
    let mut incidents = BTreeMap::new();
    for row in &rows {
        let incident = store.incident(row.id).await.unwrap().unwrap();
        incidents.insert(row.id, (Incident::clone(&incident), store.log(row.id).await.unwrap()));
    }
    let targets = TARGETS.map(target);
    let mut alerts = Vec::new();
    let mut messages = Vec::new();
    for number in 0..NUMBERS {
        alerts.push(store.incident_of_alert(&alert_key(number)).await.unwrap());
        messages.push(store.message(&message(number)).await.unwrap());
    }
    View {
        received: received.into_iter().map(|(_, received)| received).collect(),
        not_correlated,
        incidents,
        rows,
        unfinished: store.unfinished().await.unwrap(),
        alerts,
        messages,
        site: store.site_gates().await.unwrap(),
        locks: store.locks(&targets).await.unwrap(),
        cool_downs: store.cool_downs("HighMemoryUsage", &targets, Timestamp::MIN).await.unwrap(),
    }
}

pub(crate) async fn received<S: IncidentStore + ?Sized>(
    store: &S,
    mut after: ReceivedPosition,
) -> Vec<(ReceivedPosition, Received)> {
    let mut all = Vec::new();
    loop {
        let some = store.received_after(after, 3).await.unwrap();
        let Some((last, _)) = some.last() else { return all };
        assert!(*last > after);
        after = *last;
        all.extend(some);
    }
}
