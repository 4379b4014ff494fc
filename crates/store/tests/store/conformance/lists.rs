//! Lists: order, pages, filters, totals.

use std::cmp::Reverse;
use std::sync::Arc;

use quell_incident::Event;
use quell_incident::severity::{Priority, Status};
use quell_incident::workflow::Input;
use quell_store::{IncidentStore, ListQuery, Row, StatusFilter};
use tokio::task::JoinSet;

use crate::fixtures::*;

const INCIDENTS: u64 = 1_000;

/// Opens an incident and brings it as far as its number says.
async fn bring<S: IncidentStore + ?Sized>(store: Arc<S>, number: u64) -> Row {
    let priority = Priority::ALL[(number % 4) as usize];
    // Several are created at one instant, and not in the order of their ids.
    let created_at = at((number * 37 % 211) as i64);
    let incident = store.append(open(number, priority, created_at)).await.unwrap();
    let resolve = Input::Resolve { by: "person-1".to_owned() };
    let now = match number % 5 {
        0 => incident,
        1 => store
            .append(decided(&incident, &Input::Deadline, created_at + jiff::SignedDuration::from_secs(60)))
            .await
            .unwrap(),
        2 => store.append(decided(&incident, &resolve, created_at)).await.unwrap(),
        _ => store.append(close(&incident)).await.unwrap(),
    };
    Row::of(&now)
}

pub(crate) async fn a_thousand_incidents<S: IncidentStore + ?Sized + 'static>(store: Arc<S>) {
    let mut writers = JoinSet::new();
    for writer in 0..32 {
        let store = Arc::clone(&store);
        writers.spawn(async move {
            let mut rows = Vec::new();
            for number in (writer..INCIDENTS).step_by(32) {
                rows.push(Box::pin(bring(Arc::clone(&store), number)).await);
            }
            rows
        });
    }
    let mut all: Vec<Row> = writers.join_all().await.into_iter().flatten().collect();
    all.sort_by_key(|row| (Reverse(row.created_at), Reverse(row.id)));

    let mut filters = vec![None, Some(StatusFilter::Active)];
    filters.extend(Status::ALL.iter().map(|status| Some(StatusFilter::Is(*status))));
    for status in filters {
        for priority in [None, Some(Priority::P0), Some(Priority::P3)] {
            for since in [None, Some(at(0)), Some(at(100)), Some(at(210)), Some(at(5_000))] {
                let expected: Vec<&Row> = all
                    .iter()
                    .filter(|row| status.is_none_or(|status| status.matches(row.status)))
                    .filter(|row| priority.is_none_or(|priority| priority == row.priority))
                    .filter(|row| since.is_none_or(|since| row.created_at >= since))
                    .collect();
                let query = ListQuery { status, priority, since, ..ListQuery::default() };
                let page = store.list(&query).await.unwrap();
                assert_eq!(page.rows.iter().collect::<Vec<_>>(), expected, "{query:?}");
                assert_eq!((page.total, page.next), (expected.len() as u64, None), "{query:?}");
            }
        }
    }
    assert_eq!(all.len() as u64, INCIDENTS);

    for limit in [1, 13, 200, 999, 1_000, 5_000] {
        let mut query = ListQuery { limit, status: Some(StatusFilter::Active), ..ListQuery::default() };
        let expected: Vec<&Row> = all.iter().filter(|row| row.status.is_active()).collect();
        let mut paged: Vec<Row> = Vec::new();
        loop {
            let page = store.list(&query).await.unwrap();
            assert_eq!(page.total, expected.len() as u64, "the total is that of all pages");
            assert!(page.rows.len() <= limit);
            paged.extend(page.rows);
            // A cursor crosses the API as text.
            query.cursor = page.next.map(|cursor| cursor.to_string().parse().unwrap());
            if query.cursor.is_none() {
                break;
            }
        }
        assert_eq!(paged.iter().collect::<Vec<_>>(), expected, "limit {limit}");
    }

    // What changes between two pages neither hides nor doubles the others.
    let mut query = ListQuery { limit: 300, ..ListQuery::default() };
    let first = store.list(&query).await.unwrap();
    query.cursor = first.next;
    opened(&*store, 100_000).await;
    let open = all.iter().rfind(|row| row.status == Status::Open).unwrap();
    let incident = store.incident(open.id).await.unwrap().unwrap();
    store.append(close(&incident)).await.unwrap();
    query.limit = 2_000;
    let rest = store.list(&query).await.unwrap();
    let ids: Vec<_> = first.rows.iter().chain(&rest.rows).map(|row| row.id).collect();
    assert_eq!(ids, all.iter().map(|row| row.id).collect::<Vec<_>>());
    assert_eq!(rest.total, INCIDENTS + 1);

    let none = store.list(&ListQuery { limit: 0, ..ListQuery::default() }).await.unwrap();
    assert_eq!((none.rows.len(), none.total, none.next), (0, INCIDENTS + 1, None));
}

pub(crate) async fn an_empty_list<S: IncidentStore + ?Sized>(store: Arc<S>) {
    let page = store.list(&ListQuery::default()).await.unwrap();
    assert_eq!((page.rows.len(), page.total, page.next), (0, 0, None));
}

pub(crate) async fn rows_are_cut<S: IncidentStore + ?Sized>(store: Arc<S>) {
    let mut append = open(1, Priority::P2, at(1));
    let Event::Opened { head, affected_systems, .. } = &mut append.envelopes[0].event else { panic!() };
    head.title = "\u{1}\u{1f525}".repeat(5_000);
    head.service = "ü".repeat(5_000);
    head.tags = (0..500).map(|n| format!("{n}\u{2}").repeat(50)).collect();
    *affected_systems = head.tags.clone();
    let incident = store.append(append).await.unwrap();
    let page = store.list(&ListQuery::default()).await.unwrap();
    assert_eq!(page.rows, [Row::of(&incident)]);
    let bytes = serde_json::to_vec(&page.rows[0]).unwrap().len();
    assert!(bytes < 4_096, "{bytes}");
    assert!(incident.title.starts_with(&page.rows[0].title));
    assert_eq!(store.incident(incident.id).await.unwrap().unwrap(), incident, "the incident itself is whole");
}

pub(crate) async fn unfinished_are_neither_closed_nor_merged<S: IncidentStore + ?Sized>(store: Arc<S>) {
    let mut wanted = Vec::new();
    for number in 0..20 {
        let row = Box::pin(bring(Arc::clone(&store), number)).await;
        if row.status != Status::Closed {
            wanted.push((row.priority, row.created_at, row.id));
        }
    }
    wanted.sort();
    let wanted: Vec<_> = wanted.into_iter().map(|(_, _, id)| id).collect();
    assert_eq!(wanted.len(), 12);
    assert_eq!(store.unfinished().await.unwrap(), wanted);
}

pub(crate) async fn the_newest_incident_of_an_alert<S: IncidentStore + ?Sized>(store: Arc<S>) {
    let key = alert_key(1);
    let old = store.append(open(1, Priority::P2, at(10))).await.unwrap();
    assert_eq!(store.incident_of_alert(&key).await.unwrap(), Some(old.id));
    let closed = store.append(close(&old)).await.unwrap();
    assert_eq!(store.incident_of_alert(&key).await.unwrap(), Some(old.id), "also when it is closed");
    // A newer one that the alert joins later.
    let newer = store.append(open(2, Priority::P2, at(20))).await.unwrap();
    assert_eq!(store.incident_of_alert(&key).await.unwrap(), Some(old.id));
    let fired = Event::AlertFired { alert: Box::new(alert(1, "warning", at(30))) };
    store.append(follow(&newer, [fired.clone()], at(30))).await.unwrap();
    assert_eq!(store.incident_of_alert(&key).await.unwrap(), Some(newer.id));
    // Firing again in the old one does not make that one newer.
    store.append(follow(&closed, [fired], at(40))).await.unwrap();
    assert_eq!(store.incident_of_alert(&key).await.unwrap(), Some(newer.id));
    assert_eq!(store.incident_of_alert(&alert_key(2)).await.unwrap(), Some(newer.id));
}
