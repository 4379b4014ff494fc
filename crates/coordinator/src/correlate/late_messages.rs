//! Messages in another order than they were sent: an end before its beginning, in one payload, over turns and over a restart.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use jiff::SignedDuration;
use quell_incident::alert::{Alert, AlertStatus};
use quell_incident::severity::Status;

use super::tests::{BEGIN, House, alert, firing};

/// An episode's seconds of beginning and end, after the test's beginning.
fn ended(number: usize, began: i64, ended: i64) -> Alert {
    Alert {
        starts_at: BEGIN + SignedDuration::from_secs(began),
        ends_at: Some(BEGIN + SignedDuration::from_secs(ended)),
        ..alert("Late", number, AlertStatus::Resolved)
    }
}

fn fires(number: usize, began: i64) -> Alert {
    Alert { starts_at: BEGIN + SignedDuration::from_secs(began), ..firing("Late", number) }
}

fn house() -> House {
    let house = House::new(|_| {});
    house.pass(SignedDuration::from_secs(100));
    house
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    OnePayload,
    OneTurn,
    Turns,
    Restarts,
}

const WAYS: [Way; 4] = [Way::OnePayload, Way::OneTurn, Way::Turns, Way::Restarts];

async fn told(messages: &[Alert], way: Way) -> House {
    let mut house = house();
    if way == Way::OnePayload {
        house.tell(None, messages.to_vec()).await;
        return house;
    }
    for message in messages {
        house.receive(None, 0, vec![message.clone()]).await;
        if way != Way::OneTurn {
            house.take().await;
            house.pass(SignedDuration::from_secs(20));
        }
        if way == Way::Restarts {
            house.restart().await;
        }
    }
    house.take().await;
    house
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_in_any_order_leave_open_what_fires_and_nothing_else() {
    // The messages in the order in which they come, incidents in all, alerts that fire at the end.
    let cases: [(&str, Vec<Alert>, usize, usize); 12] = [
        ("in order", vec![fires(1, 0), ended(1, 0, 10)], 1, 0),
        ("the end first", vec![ended(1, 0, 10), fires(1, 0)], 0, 0),
        (
            "the end first, and everything twice",
            vec![ended(1, 0, 10), ended(1, 0, 10), fires(1, 0), fires(1, 0)],
            0,
            0,
        ),
        ("the beginning again after the end", vec![fires(1, 0), ended(1, 0, 10), fires(1, 0)], 1, 0),
        ("an end of no time at all", vec![ended(1, 0, 0), fires(1, 0)], 0, 0),
        ("a later episode", vec![ended(1, 0, 10), fires(1, 20)], 1, 1),
        (
            "a later episode, and the earlier beginning",
            vec![ended(1, 0, 10), fires(1, 20), fires(1, 0)],
            1,
            1,
        ),
        (
            "the end of a later episode first",
            vec![fires(1, 0), ended(1, 0, 10), ended(1, 20, 30), fires(1, 20)],
            1,
            0,
        ),
        ("the end of an earlier episode last", vec![fires(1, 20), ended(1, 0, 10)], 1, 1),
        ("its end after the next beginning", vec![fires(1, 0), fires(1, 20), ended(1, 0, 10)], 1, 1),
        (
            "and then the end of that",
            vec![fires(1, 0), fires(1, 20), ended(1, 0, 10), ended(1, 20, 30)],
            1,
            0,
        ),
        ("another alert", vec![ended(1, 0, 10), fires(2, 0)], 1, 1),
    ];
    for (what, messages, incidents, firing) in cases {
        for way in WAYS {
            let found = told(&messages, way).await.incidents().await;
            let fires: usize = found.iter().map(|one| one.members.firing()).sum();
            assert_eq!((found.len(), fires), (incidents, firing), "{what}, {way:?}");
            assert_eq!(
                found.iter().filter(|one| one.status().is_active()).count(),
                firing,
                "{what}, {way:?}"
            );
            assert!(found.iter().all(|one| one.reopened == 0), "{what}, {way:?}");
        }
    }
}

/// A source that lost an alert and has it back says the same start again.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_while_the_same_beginning_is_no_late_message() {
    for (minutes, incidents) in [(4, 0), (6, 1)] {
        let mut house = house();
        house.tell(None, vec![ended(1, 0, 10)]).await;
        house.pass(SignedDuration::from_mins(minutes));
        house.tell(None, vec![fires(1, 0)]).await;
        assert_eq!(house.incidents().await.len(), incidents, "after {minutes} minutes");
    }
}

/// An end that is said to be before the beginning is that of an episode which is not named: this one goes on.
#[tokio::test(flavor = "multi_thread")]
async fn an_end_before_the_beginning_ends_nothing_that_comes() {
    let mut house = house();
    house.tell(None, vec![ended(1, 50, 10)]).await;
    house.tell(None, vec![fires(1, 50)]).await;
    assert_eq!(house.only().await.members.firing(), 1);
}

/// A late message still says how many alerts it left out.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_late_message_leaves_out_counts() {
    let mut house = house();
    let key = Some("{}:{alertname=\"Late\", cluster=\"eu\"}");
    house.receive(key, 3, vec![fires(1, 0), fires(2, 0)]).await;
    house.take().await;
    house.pass(SignedDuration::from_secs(20));
    house.receive(key, 3, vec![ended(1, 0, 10), ended(2, 0, 10)]).await;
    house.take().await;
    assert!(house.only().await.status().is_active(), "alerts that are not named may fire");
    house.receive(key, 0, vec![fires(1, 0)]).await;
    house.take().await;
    assert_eq!(house.only().await.status(), Status::Resolved);
}
