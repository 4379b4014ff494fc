//! Storms, replays, windows of time: over the embedded store, with a clock that stands still.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use quell_incident::alert::{Alert, AlertKey, AlertStatus, Fingerprint, Labels};
use quell_incident::ids::SourceName;
use quell_incident::incident::SAMPLE_MAX;
use quell_incident::severity::Status;
use quell_incident::workflow::{ALERTS_PER_EVENT_MAX, Input};
use quell_incident::{Envelope, Event};
use quell_service::{Config, CountingIds, FaultPoints, ManualClock};
use quell_sign::SigningKey;
use quell_store::{CoordinatorId, EmbeddedStore, ListQuery};

use super::*;

pub(super) const BEGIN: Timestamp = Timestamp::constant(1_800_000_000, 0);

pub(super) struct House {
    site: Site,
    clock: ManualClock,
    memory: Memory,
    position: watch::Sender<ReceivedPosition>,
    _folder: tempfile::TempDir,
}

pub(super) fn alert(name: &str, number: usize, status: AlertStatus) -> Alert {
    let mut labels: Labels =
        [("alertname", name), ("cluster", "eu"), ("severity", "warning")].into_iter().collect();
    labels.insert("instance", format!("host-{number}:9100"));
    labels.insert("pod", format!("pod-{number}"));
    Alert {
        key: AlertKey {
            source: SourceName::declared("alertmanager").unwrap(),
            fingerprint: Fingerprint::of(&labels),
        },
        status,
        labels,
        annotations: Labels::default(),
        starts_at: BEGIN,
        ends_at: (status == AlertStatus::Resolved).then_some(BEGIN),
        generator_url: None,
    }
}

pub(super) fn firing(name: &str, number: usize) -> Alert {
    alert(name, number, AlertStatus::Firing)
}

fn group_key(name: &str) -> String {
    format!("{{}}:{{alertname=\"{name}\", cluster=\"eu\"}}")
}

impl House {
    pub(super) fn new(change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::TempDir::new().unwrap();
        let clock = ManualClock::at(BEGIN);
        let shared: Arc<dyn quell_service::Clock> = Arc::new(clock.clone());
        let ids = Arc::new(CountingIds::new(Arc::clone(&shared)));
        let options = quell_store::Options::new(uuid::Uuid::from_u128(1));
        let store = Arc::new(EmbeddedStore::open(folder.path(), options).unwrap());
        let mut config = Config::default();
        change(&mut config);
        let settings = crate::settings::of(&config).unwrap();
        let (faults, tenant) = (FaultPoints::disabled(), "default".to_owned());
        let site = Site::new(store, shared, ids, faults, tenant, settings, SigningKey::generate().unwrap());
        let position = watch::channel(ReceivedPosition::default()).0;
        Self { site, clock, memory: Memory::default(), position, _folder: folder }
    }

    pub(super) async fn receive(&self, group: Option<&str>, truncated_alerts: u64, alerts: Vec<Alert>) {
        let received = Received {
            at: self.site.now(),
            source: SourceName::declared("alertmanager").unwrap(),
            alerts,
            group_key: group.map(str::to_owned),
            truncated_alerts,
            trace: None,
        };
        self.site.store.receive(received).await.unwrap();
    }

    /// Takes everything that was received.
    pub(super) async fn take(&mut self) {
        let coordinator = CoordinatorId(uuid::Uuid::from_u128(9));
        self.site.store.renew(coordinator, Duration::from_secs(3_600)).await.unwrap();
        let lease = self.site.store.claim(coordinator, &[quell_store::Work::Correlation]).await.unwrap()[0];
        loop {
            let after = *self.position.borrow();
            if take_batches(&self.site, &lease, &mut self.memory, after, &self.position).await.unwrap() == 0 {
                return;
            }
        }
    }

    /// What a restart leaves of the memory.
    pub(super) async fn restart(&mut self) {
        self.memory = Memory::default();
        for id in self.site.store.unfinished().await.unwrap() {
            let incident = self.site.store.incident(id).await.unwrap().unwrap();
            self.memory.learn(&incident, &self.site.settings().join);
        }
        let position = *self.position.borrow();
        remember_ends(&self.site, &mut self.memory, position).await;
    }

    pub(super) async fn tell(&mut self, group: Option<&str>, alerts: Vec<Alert>) {
        self.receive(group, 0, alerts).await;
        self.take().await;
    }

    pub(super) async fn incidents(&self) -> Vec<Arc<Incident>> {
        let query = ListQuery { limit: 10_000, ..ListQuery::default() };
        let mut found = Vec::new();
        for row in self.site.store.list(&query).await.unwrap().rows {
            found.push(self.site.store.incident(row.id).await.unwrap().unwrap());
        }
        found
    }

    pub(super) async fn only(&self) -> Arc<Incident> {
        let found = self.incidents().await;
        assert_eq!(found.len(), 1, "{:?}", found.iter().map(|one| &one.title).collect::<Vec<_>>());
        Arc::clone(&found[0])
    }

    pub(super) async fn log(&self, id: IncidentId) -> Vec<Envelope> {
        self.site.store.log(id).await.unwrap()
    }
}

/// What a storm came to: incidents by the name of their alerts, events, bytes of events, appends.
#[derive(Debug)]
struct Storm {
    incidents: BTreeMap<String, usize>,
    events: usize,
    bytes: usize,
    appends: usize,
}

async fn storm(alerts: usize) -> Storm {
    let mut house = House::new(|_| {});
    let mut changes = house.site.store.changes();
    let others: Vec<_> = (0..20).map(|number| format!("Other{number}")).collect();
    let (per_message, mut sent) = (20, 0);
    let mut appends = 0;
    for turn in 0..10 {
        while sent < alerts * (turn + 1) / 10 {
            let storm = (sent..sent + per_message).map(|number| firing("Storm", number)).collect();
            house.receive(Some(&group_key("Storm")), 0, storm).await;
            sent += per_message;
        }
        // Two of the other groups in each second, on hosts of the storm.
        for (number, other) in others.iter().enumerate().skip(turn * 2).take(2) {
            let two = vec![firing(other, number), firing(other, number + 1)];
            house.receive(Some(&group_key(other)), 0, two).await;
        }
        house.take().await;
        house.clock.advance(SignedDuration::from_secs(1));
        while changes.try_recv().is_ok() {
            appends += 1;
        }
    }
    let mut found = Storm { incidents: BTreeMap::new(), events: 0, bytes: 0, appends };
    let mut members = BTreeSet::new();
    for incident in house.incidents().await {
        let names: BTreeSet<_> = incident.alerts.values().map(|state| state.alert.name()).collect();
        assert_eq!(names.len(), 1, "joined wrongly: {names:?}");
        assert!(incident.alerts.len() <= SAMPLE_MAX);
        let name = names.into_iter().next().unwrap();
        *found.incidents.entry(name.clone()).or_default() += 1;
        let of_name: BTreeSet<_> = match name.as_str() {
            "Storm" => (0..alerts).map(|number| firing("Storm", number).key).collect(),
            other => (0..21).map(|number| firing(other, number).key).collect(),
        };
        for member in incident.members.iter() {
            assert!(of_name.contains(&member.key), "joined wrongly: {:?} in {name}", member.key);
            assert!(members.insert(AlertKey::clone(&member.key)), "{:?} is in two incidents", member.key);
        }
        let log = house.log(incident.id).await;
        found.events += log.len();
        found.bytes += log.iter().map(|event| event.encode().unwrap().len()).sum::<usize>();
        assert_eq!(quell_incident::workflow::replay(&log).unwrap(), *incident);
    }
    assert_eq!(members.len(), alerts + 40, "alerts are lost");
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_is_a_handful_of_incidents_and_grows_linearly() {
    let mut storms = Vec::new();
    for alerts in [2_500, 5_000, 10_000] {
        let found = storm(alerts).await;
        assert_eq!(found.incidents.len(), 21, "{found:?}");
        assert!(found.incidents["Storm"] <= 3, "{found:?}");
        assert!(found.incidents.iter().all(|(name, count)| name == "Storm" || *count == 1), "{found:?}");
        // Each second is one append of the storm and one of each other group that began in it.
        assert!(found.appends <= 10 + 20 + alerts / 500, "{found:?}");
        assert!(found.events <= 100 + alerts / 100, "{found:?}");
        storms.push(found);
    }
    for pair in storms.windows(2) {
        let twice = pair[0].bytes * 2;
        assert!(pair[1].bytes <= twice + twice / 10, "twice the alerts, more than twice the bytes: {pair:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_clears_exactly_and_not_before() {
    let mut house = House::new(|_| {});
    let key = group_key("Storm");
    let numbers: Vec<_> = (0..1_200).collect();
    house.tell(Some(&key), numbers.iter().map(|number| firing("Storm", *number)).collect()).await;
    let end = |number: usize| Alert {
        ends_at: Some(BEGIN + SignedDuration::from_secs(60)),
        ..alert("Storm", number, AlertStatus::Resolved)
    };
    house.clock.advance(SignedDuration::from_secs(61));
    house.tell(Some(&key), numbers[1..].iter().map(|number| end(*number)).collect()).await;
    let incident = house.only().await;
    assert_eq!((incident.members.len(), incident.members.firing()), (1_200, 1));
    assert!(incident.status().is_active());
    house.tell(Some(&key), vec![end(0)]).await;
    assert_eq!(house.only().await.status(), Status::Resolved);
    let log = house.log(incident.id).await;
    let joined = |event: &Envelope| match &event.event {
        Event::AlertsJoined { full, counted, .. } => full.len() + counted.len(),
        _ => 0,
    };
    assert!(log.iter().all(|event| joined(event) <= ALERTS_PER_EVENT_MAX));
    assert!(log.len() < 12, "{} events", log.len());
}

/// Messages of one history, taken in one order; then again and again in any order: nothing changes.
/// An alert's times are by another machine's clock, and this one's may be behind it, or be set back.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_behind_loses_no_end() {
    let mut house = House::new(|_| {});
    house.clock.set(BEGIN - SignedDuration::from_hours(1));
    let of = |number: usize, seconds: i64| Alert {
        ends_at: Some(BEGIN + SignedDuration::from_secs(seconds)),
        ..alert("Short", number, AlertStatus::Resolved)
    };
    house.tell(None, vec![firing("Short", 1), firing("Short", 2)]).await;
    house.tell(None, vec![of(1, 30)]).await;
    house.clock.set(BEGIN + SignedDuration::from_hours(1));
    house.tell(None, vec![of(2, 30)]).await;
    for incident in house.incidents().await {
        assert!(incident.cleared(), "{:?}", incident.members);
        for member in incident.members.iter() {
            let ended = member.cleared_at.unwrap();
            assert!(ended >= BEGIN && ended <= BEGIN + SignedDuration::from_secs(30), "{ended}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replays_in_any_order_change_nothing() {
    let mut house = House::new(|_| {});
    let mut messages = Vec::new();
    for number in 0..40 {
        let name = ["A", "B", "C"][number % 3];
        messages.push((group_key(name), firing(name, number)));
    }
    for number in (0..40).step_by(4) {
        let name = ["A", "B", "C"][number % 3];
        let ends_at = Some(BEGIN + SignedDuration::from_secs(30));
        messages.push((group_key(name), Alert { ends_at, ..alert(name, number, AlertStatus::Resolved) }));
    }
    house.clock.advance(SignedDuration::from_secs(60));
    for (key, message) in &messages {
        house.receive(Some(key), 0, vec![message.clone()]).await;
    }
    house.take().await;
    let before = house.incidents().await;
    assert_eq!(before.len(), 3);
    let mut random = 7_u64;
    for round in 0..20 {
        for _ in 0..messages.len() {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (key, message) = &messages[(random >> 33) as usize % messages.len()];
            // The second Alertmanager of a pair saw it begin a moment later.
            let mut message = message.clone();
            if message.status == AlertStatus::Firing && random.is_multiple_of(5) && round > 10 {
                let cleared =
                    before.iter().any(|one| one.members.get(&message.key).is_some_and(|m| !m.fires()));
                if !cleared {
                    message.starts_at += SignedDuration::from_millis(700);
                }
            }
            house.receive(Some(key), 0, vec![message]).await;
        }
        house.take().await;
        if round == 5 {
            house.restart().await;
        }
        // The position is lost, as by a crash before it was written.
        if round % 7 == 6 {
            house.position.send_replace(ReceivedPosition::default());
            house.take().await;
        }
        assert_eq!(house.incidents().await, before, "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_alerts_that_nothing_joins_are_two_incidents() {
    for group in [
        None,
        Some("{}"),
        Some("{}:{}"),
        Some("{}:{alertname=\"TestIncident\"}"),
        Some("{}:{cluster=\"eu\"}"),
    ] {
        for together in [true, false] {
            let mut house = House::new(|_| {});
            let both = vec![firing("TestIncident", 1), firing("EmailServiceDown", 2)];
            if together {
                house.tell(group, both).await;
            } else {
                for one in both {
                    house.tell(group, vec![one]).await;
                }
            }
            assert_eq!(house.incidents().await.len(), 2, "{group:?}, together: {together}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_one_within_its_window_also_over_a_restart() {
    let mut house = House::new(|_| {});
    let key = group_key("A");
    house.tell(Some(&key), vec![firing("A", 1)]).await;
    house.clock.advance(SignedDuration::from_mins(4));
    house.restart().await;
    house.tell(Some(&key), vec![firing("A", 2)]).await;
    let incident = house.only().await;
    let log = house.log(incident.id).await;
    let words = quell_incident::view::describe(&log.last().unwrap().event);
    assert_eq!(words, "alert A fires on pod-2; joined by group key");
    house.clock.advance(SignedDuration::from_mins(6));
    house.tell(Some(&key), vec![firing("A", 3)]).await;
    assert_eq!(house.incidents().await.len(), 2, "the group was quiet for longer than its window");
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_join_by_labels_within_their_window_and_for_their_sources() {
    let rules = |config: &mut Config| {
        config.coordinator.correlate_by = Vec::new();
        config.coordinator.correlation.rules = vec![quell_service::config::CorrelationRule {
            name: "pod".to_owned(),
            labels: vec!["pod".to_owned(), "cluster".to_owned()],
            window: Some(quell_service::config::Period::seconds(60)),
            sources: vec!["alertmanager".to_owned(), "other".to_owned()],
        }];
    };
    let mut house = House::new(rules);
    house.tell(None, vec![firing("A", 1)]).await;
    let mut other = firing("B", 1);
    other.key.source = SourceName::declared("other").unwrap();
    house.tell(None, vec![other]).await;
    let log = house.log(house.only().await.id).await;
    assert!(quell_incident::view::describe(&log.last().unwrap().event).ends_with("joined by rule pod"));
    let mut third = firing("B", 1);
    third.key.source = SourceName::declared("third").unwrap();
    house.tell(None, vec![third]).await;
    assert_eq!(house.incidents().await.len(), 2, "a source that the rule does not name");
    house.clock.advance(SignedDuration::from_secs(61));
    house.tell(None, vec![firing("C", 1)]).await;
    assert_eq!(house.incidents().await.len(), 3, "after the window");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_resolved_is_joined_by_nothing_and_reopened_by_its_own_alert() {
    let mut house = House::new(|_| {});
    let key = group_key("A");
    house.tell(Some(&key), vec![firing("A", 1)]).await;
    let first = house.only().await.id;
    house.clock.advance(SignedDuration::from_secs(10));
    // An end that is announced for later has come.
    let ends_at = Some(BEGIN + SignedDuration::from_hours(1));
    house.tell(Some(&key), vec![Alert { ends_at, ..alert("A", 1, AlertStatus::Resolved) }]).await;
    assert_eq!(house.only().await.status(), Status::Resolved);
    house.tell(Some(&key), vec![firing("A", 2)]).await;
    assert_eq!(house.incidents().await.len(), 2);
    house.clock.advance(SignedDuration::from_secs(10));
    let again = |house: &House| Alert { starts_at: house.clock_now(), ..firing("A", 1) };
    house.tell(Some(&key), vec![again(&house)]).await;
    let reopened = house.site.store.incident(first).await.unwrap().unwrap();
    assert_eq!((reopened.reopened, reopened.status()), (1, Status::Investigating));
    house.clock.advance(SignedDuration::from_secs(10));
    let ends_at = Some(house.clock_now());
    house.tell(Some(&key), vec![Alert { ends_at, ..alert("A", 1, AlertStatus::Resolved) }]).await;
    house.clock.advance(SignedDuration::from_mins(11));
    house.site.change(first, &Input::Deadline, "workflow").await.unwrap();
    house.tell(Some(&key), vec![again(&house)]).await;
    let found = house.incidents().await;
    assert_eq!(found.iter().filter(|one| one.linked_to == Some(first)).count(), 1, "linked after the window");
}

impl House {
    pub(super) fn pass(&self, span: SignedDuration) {
        self.clock.advance(span);
    }

    pub(super) fn clock_now(&self) -> Timestamp {
        self.site.now()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_that_were_left_out_keep_it_from_being_cleared() {
    let mut house = House::new(|_| {});
    let key = group_key("A");
    house.receive(Some(&key), 7, vec![firing("A", 1)]).await;
    house.take().await;
    let view = quell_incident::view::to_json(&*house.only().await);
    assert_eq!(view["alerts_truncated"], 7);
    house.clock.advance(SignedDuration::from_secs(10));
    let ends_at = Some(house.clock_now());
    let end = Alert { ends_at, ..alert("A", 1, AlertStatus::Resolved) };
    house.receive(Some(&key), 6, vec![end.clone()]).await;
    house.take().await;
    let incident = house.only().await;
    assert!(incident.status().is_active() && incident.members.firing() == 0);
    let listed = house.site.change(incident.id, &Input::AlertsListed, "alertmanager").await.unwrap();
    assert_eq!(listed.status(), Status::Resolved);
    // A later message that carries everything says the same.
    let mut house = House::new(|_| {});
    house.receive(Some(&key), 7, vec![firing("A", 1)]).await;
    house.take().await;
    house.clock.advance(SignedDuration::from_secs(10));
    house.tell(Some(&key), vec![end]).await;
    assert_eq!(house.only().await.status(), Status::Resolved);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_that_flaps_is_marked() {
    let mut house = House::new(|_| {});
    for _ in 0..3 {
        let starts_at = house.clock_now();
        house.tell(None, vec![Alert { starts_at, ..firing("A", 1) }]).await;
        assert!(house.only().await.flapping.is_none());
        house.clock.advance(SignedDuration::from_mins(2));
        let ends_at = Some(house.clock_now());
        house.tell(None, vec![Alert { starts_at, ends_at, ..alert("A", 1, AlertStatus::Resolved) }]).await;
        house.clock.advance(SignedDuration::from_mins(2));
    }
    let flapping = house.only().await.flapping.clone().unwrap();
    assert_eq!(flapping.transitions, 6);
    let quiet = BEGIN + SignedDuration::from_mins(10) + SignedDuration::from_mins(15);
    assert_eq!(flapping.until, quiet);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_class_that_heals_by_itself_is_given_the_time_also_after_a_restart() {
    let mut house = House::new(|config| config.coordinator.correlate_by = Vec::new());
    for number in 0..5 {
        let starts_at = house.clock_now();
        house.tell(None, vec![Alert { starts_at, ..firing("A", number) }]).await;
        house.clock.advance(SignedDuration::from_secs(40));
        let ends_at = Some(house.clock_now());
        house
            .tell(None, vec![Alert { starts_at, ends_at, ..alert("A", number, AlertStatus::Resolved) }])
            .await;
        let id = house.incidents().await[0].id;
        house.clock.advance(SignedDuration::from_mins(11));
        house.site.change(id, &Input::Deadline, "workflow").await.unwrap();
    }
    for restarted in [false, true] {
        if restarted {
            house.site.history = Arc::default();
            house.site.history.learn(house.site.store.as_ref()).await.unwrap();
        }
        let now = house.clock_now();
        house.tell(None, vec![Alert { starts_at: now, ..firing("A", 100 + usize::from(restarted)) }]).await;
        let opened = Arc::clone(&house.incidents().await[0]);
        let until = quell_incident::workflow::next_deadline(&opened).unwrap();
        assert_eq!(until.duration_since(now).as_secs(), 40, "restarted: {restarted}");
        let mut urgent = firing("A", 200 + usize::from(restarted));
        urgent.labels.insert("severity", "critical");
        house.tell(None, vec![urgent]).await;
        let opened = Arc::clone(&house.incidents().await[0]);
        let until = quell_incident::workflow::next_deadline(&opened).unwrap();
        assert_eq!(until, now, "P0 never waits");
        house.clock.advance(SignedDuration::from_secs(1));
    }
}

/// A site had a row for its dead man's switch, and has taken it away: the incident that is open by then ends with its alert.
#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_watchdog_clears_the_incident_that_is_open_for_it() {
    let mut house = House::new(|_| {});
    let name = "DeadMansSwitch";
    house.tell(None, vec![firing(name, 1), alert(name, 1, AlertStatus::Resolved)]).await;
    assert!(house.incidents().await.is_empty());
    let mut settings = crate::settings::of(&Config::default()).unwrap();
    let row = serde_json::json!({"alertname": name, "title": "The watchdog"});
    settings.mapping.alerts.push(serde_json::from_value(row).unwrap());
    house.site.replace_settings(settings);
    house.tell(None, vec![firing(name, 1)]).await;
    assert!(house.only().await.status().is_active());
    house.site.replace_settings(crate::settings::of(&Config::default()).unwrap());
    house.clock.advance(SignedDuration::from_mins(1));
    let ends_at = Some(house.clock_now());
    house.tell(None, vec![Alert { ends_at, ..alert(name, 1, AlertStatus::Resolved) }]).await;
    assert_eq!(house.only().await.status(), Status::Resolved);
    house.tell(None, vec![firing(name, 2)]).await;
    house.only().await;
}
