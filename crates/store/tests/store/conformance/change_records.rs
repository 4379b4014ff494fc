//! What was changed on purpose at the site.

use std::sync::Arc;

use jiff::{Timestamp, ToSpan as _};
use quell_incident::surroundings::ChangeRecord;
use quell_store::{CHANGE_RECORDS_KEPT, ChangeQuery, IncidentStore, ReceivedChange};

fn at(minute: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000).unwrap() + minute.minutes()
}

fn change(service: &str, minute: i64, received: i64) -> ReceivedChange {
    let record = ChangeRecord {
        at: at(minute),
        kind: "deploy".to_owned(),
        service: service.to_owned(),
        version: "1 -> 2".to_owned(),
        by: "a pipeline".to_owned(),
        summary: String::new(),
        link: String::new(),
    };
    ReceivedChange { received_at: at(received), record }
}

pub(crate) async fn told_once_and_found_by_their_instants<S: IncidentStore + ?Sized>(store: Arc<S>) {
    let query = ChangeQuery { from: at(0), to: at(60), received_until: at(60), limit: 10 };
    assert_eq!(store.change_records(&query).await.unwrap(), []);
    assert_eq!(store.put_change_records(Vec::new()).await.unwrap(), 0);

    let told = vec![change("c", 30, 31), change("a", 10, 11), change("b", 10, 50), change("d", 61, 61)];
    assert_eq!(store.put_change_records(told).await.unwrap(), 4);
    // Told again later, it is the one that is known.
    assert_eq!(store.put_change_records(vec![change("a", 10, 62)]).await.unwrap(), 0);

    let services = async |query: ChangeQuery| -> Vec<(String, Timestamp)> {
        let found = store.change_records(&query).await.unwrap();
        found.into_iter().map(|change| (change.record.service, change.received_at)).collect()
    };
    let all = services(query).await;
    let mut tied: Vec<&str> = all[..2].iter().map(|(service, _)| service.as_str()).collect();
    tied.sort_unstable();
    assert_eq!(tied, ["a", "b"], "{all:?}");
    assert!(all.contains(&("a".to_owned(), at(11))), "the first telling counts: {all:?}");
    assert_eq!(all[2..], [("c".to_owned(), at(31))]);
    // What was told late was not known before.
    let early = services(ChangeQuery { received_until: at(40), ..query }).await;
    assert_eq!(early, [("a".to_owned(), at(11)), ("c".to_owned(), at(31))]);
    // The latest are those that are left when there are too many.
    assert_eq!(services(ChangeQuery { limit: 1, ..query }).await, [("c".to_owned(), at(31))]);
    assert_eq!(services(ChangeQuery { from: at(11), to: at(29), ..query }).await, []);

    // Much later the old ones are forgotten.
    let later = 30 + CHANGE_RECORDS_KEPT.as_mins();
    assert_eq!(store.put_change_records(vec![change("e", later, later)]).await.unwrap(), 1);
    let ever = ChangeQuery { from: at(-1), to: at(later), received_until: at(later), limit: 10 };
    let left: Vec<String> = services(ever).await.into_iter().map(|(service, _)| service).collect();
    assert_eq!(left, ["c", "d", "e"]);
}
