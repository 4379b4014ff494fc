use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use quell_connect::alertmanager::{AlertState, HeldAlert, Status, WebhookReceiver};
use quell_incident::IncidentId;
use quell_incident::alert::{AlertKey, Fingerprint, Labels};
use quell_incident::ids::SourceName;

use super::compare::{Findings, Limits, Listing, Memory, Own, compare, receivers_of};
use super::intervals::{Says, Told};
use super::reader::{AlertReader, Held};

fn at(seconds: i64) -> Timestamp {
    "2026-11-20T18:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_secs(seconds)
}

fn held(fingerprint: &str, began: i64) -> Held {
    let alert = HeldAlert {
        fingerprint: fingerprint.to_owned(),
        labels: [("alertname", "A")].into_iter().collect(),
        annotations: Labels::default(),
        starts_at: at(began),
        ends_at: Some(at(100_000)),
        generator_url: None,
        receivers: vec!["hook".to_owned()],
        state: AlertState::Firing,
        processed: true,
    };
    Held { alert, by: None, told: Told::Always { after: SignedDuration::ZERO } }
}

fn silenced(fingerprint: &str, words: &str) -> Held {
    let mut held = held(fingerprint, 0);
    held.alert.state = AlertState::Suppressed { by: vec!["silence 1".to_owned()] };
    held.by = Some(words.to_owned());
    held
}

fn own(fingerprint: &str, began: i64) -> Own {
    Own {
        key: AlertKey {
            source: SourceName::declared("alertmanager").unwrap(),
            fingerprint: Fingerprint::given(fingerprint).unwrap(),
        },
        incident_id: IncidentId(uuid::Uuid::from_u128(1)),
        starts_at: at(began),
        suppressed_by: None,
        polled: false,
        labels: Labels::default(),
    }
}

/// One round at an instant.
fn round(memory: &mut Memory, own: &[Own], there: &[Held], settled: bool, seconds: i64) -> Findings {
    let alerts: BTreeMap<_, _> =
        there.iter().map(|held| (held.alert.fingerprint.clone(), held.clone())).collect();
    let receivers = ["hook".to_owned()];
    let limits = Limits {
        missed_after: SignedDuration::from_secs(60),
        cleared_after: SignedDuration::from_secs(600),
        receivers: &receivers,
        polling: true,
    };
    compare(own, &Listing { alerts: &alerts, settled, at: at(seconds) }, &limits, memory)
}

fn unknown(there: Held, seconds: i64) -> usize {
    round(&mut Memory::default(), &[], &[there], false, seconds).unknown.len()
}

#[test]
fn what_fires_there_and_is_unknown_here_is_found_after_a_while() {
    assert_eq!(unknown(held("a", 0), 59), 0, "its webhook is under way");
    assert_eq!(unknown(held("a", 0), 60), 1);
    assert_eq!(unknown(silenced("a", "silence 1"), 60), 0, "nobody is told of it");
    let with = |change: fn(&mut HeldAlert)| {
        let mut held = held("a", 0);
        change(&mut held.alert);
        unknown(held, 60)
    };
    assert_eq!(with(|alert| alert.processed = false), 0, "not looked at yet");
    assert_eq!(with(|alert| alert.ends_at = Some(at(60))), 0, "it has ended");
    assert_eq!(with(|alert| alert.ends_at = None), 1);
    assert_eq!(with(|alert| alert.receivers = vec!["pager".to_owned()]), 0, "it is routed to others");
    let known = round(&mut Memory::default(), &[own("a", 0)], &[held("a", 0)], true, 60);
    assert_eq!(known, Findings::default());
}

#[test]
fn what_is_not_listed_any_more_has_ended_when_two_rounds_agree() {
    let (mut memory, mine) = (Memory::default(), [own("a", 0)]);
    round(&mut memory, &mine, &[held("a", 0)], true, 60);
    assert_eq!(round(&mut memory, &mine, &[], true, 120).ended, []);
    let ended = round(&mut memory, &mine, &[], true, 180).ended;
    assert_eq!((ended.len(), ended[0].at), (1, at(120)), "since it was first seen to be gone");
}

#[test]
fn what_ends_there_as_listed_is_as_good_as_gone() {
    let (mut memory, mine) = (Memory::default(), [own("a", 0)]);
    let mut over = held("a", 0);
    over.alert.ends_at = Some(at(30));
    round(&mut memory, &mine, &[held("a", 0)], true, 20);
    assert_eq!(round(&mut memory, &mine, std::slice::from_ref(&over), true, 60).ended, []);
    assert_eq!(round(&mut memory, &mine, &[over], true, 120).ended.len(), 1);
}

#[test]
fn what_does_not_count_clears_nothing() {
    let mine = [own("a", 0)];
    let cleared = |rounds: &[(&[Held], bool, i64)]| {
        let mut memory = Memory::default();
        rounds
            .iter()
            .map(|(there, settled, at)| round(&mut memory, &mine, there, *settled, *at).ended.len())
            .sum::<usize>()
    };
    let listed = [held("a", 0)];
    // A restart: it has not run long enough, and by then Prometheus has told it again.
    assert_eq!(cleared(&[(&listed, true, 1), (&[], false, 2), (&[], false, 3), (&listed, true, 4)]), 0);
    // Two readings that agree, with another one between.
    assert_eq!(cleared(&[(&listed, true, 1), (&[], true, 2), (&listed, true, 3), (&[], true, 4)]), 0);
    assert_eq!(cleared(&[(&listed, true, 1), (&[], true, 2), (&[], false, 3), (&[], true, 4)]), 0);
    // Never seen there, and young: it may not have arrived.
    assert_eq!(cleared(&[(&[], true, 100), (&[], true, 200), (&[], true, 300)]), 0);
    // Never seen there, and old: it was there before this process was.
    assert_eq!(cleared(&[(&[], true, 600), (&[], true, 660)]), 1);
}

#[test]
fn what_its_route_keeps_back_is_not_missed() {
    let told = |told: Told| Held { told, ..held("a", 0) };
    let span = SignedDuration::from_secs;
    let missed = |told: &Held, rounds: &[i64]| {
        let mut memory = Memory::default();
        let one = |seconds: &i64| {
            round(&mut memory, &[], std::slice::from_ref(told), false, *seconds).unknown.len()
        };
        rounds.iter().map(one).collect::<Vec<_>>()
    };
    let by = || vec!["nights".to_owned()];
    assert_eq!(missed(&told(Told::Muted { by: by() }), &[60, 6_000, 60_000]), [0, 0, 0]);
    assert_eq!(missed(&told(Told::Unsaid), &[60, 6_000, 60_000]), [0, 0, 0]);
    // A group that waits for ten minutes is not late before that.
    assert_eq!(missed(&told(Told::Always { after: span(600) }), &[60, 659, 660]), [0, 0, 1]);
    // What the groups say is as old as the last time that they were due: it has to be said for as long as they may wait.
    assert_eq!(missed(&told(Told::Open { after: span(300) }), &[6_000, 6_359, 6_360]), [0, 0, 1]);
    let mut memory = Memory::default();
    let open = told(Told::Open { after: span(300) });
    for (held, seconds) in
        [(&open, 6_000), (&told(Told::Muted { by: by() }), 6_100), (&open, 6_360), (&open, 6_719)]
    {
        let found = round(&mut memory, &[], std::slice::from_ref(held), false, seconds);
        assert_eq!(found.unknown.len(), 0, "{seconds}: it was kept back in between");
    }
    assert_eq!(round(&mut memory, &[], &[open], false, 6_720).unknown.len(), 1);
}

#[test]
fn an_interval_that_nobody_speaks_of_is_not_over() {
    let known = [Own { suppressed_by: Some("interval nights".to_owned()), ..own("a", 0) }];
    let unsaid = Held { told: Told::Unsaid, ..held("a", 0) };
    assert_eq!(round(&mut Memory::default(), &known, &[unsaid], true, 60).suppressions, []);
    let open = Held { told: Told::Open { after: SignedDuration::ZERO }, ..held("a", 0) };
    assert_eq!(round(&mut Memory::default(), &known, &[open], true, 60).suppressions.len(), 1);
}

#[test]
fn a_pair_of_alertmanagers_keeps_back_what_one_of_them_keeps_back() {
    let span = SignedDuration::from_secs;
    let muted = |by: &[&str]| Told::Muted { by: by.iter().map(|name| (*name).to_owned()).collect() };
    let open = |seconds| Told::Open { after: span(seconds) };
    let always = |seconds| Told::Always { after: span(seconds) };
    for (one, other, both) in [
        (muted(&["b"]), muted(&["a", "b"]), muted(&["a", "b"])),
        (muted(&["b"]), open(5), muted(&["b"])),
        (muted(&["b"]), Told::Unsaid, muted(&["b"])),
        (open(5), open(7), open(7)),
        (open(5), Told::Unsaid, open(5)),
        (always(5), always(7), always(7)),
        (always(5), Told::Unsaid, Told::Unsaid),
    ] {
        assert_eq!(one.clone().and(other.clone()), both);
        assert_eq!(other.and(one), both);
    }
}

#[test]
fn an_alertmanager_that_says_nothing_of_its_routes_is_asked_for_its_groups() {
    assert!(Says::needs_groups(None));
    let alert = held("a", 0).alert;
    assert_eq!(Says::default().told(&alert, &["hook".to_owned()]), Told::Unsaid);
    let group = |receiver: &str, muted_by: Option<&[&str]>| quell_connect::alertmanager::Grouped {
        fingerprint: "a".to_owned(),
        receiver: receiver.to_owned(),
        muted_by: muted_by.map(|named| named.iter().map(|name| (*name).to_owned()).collect()),
    };
    let says = |groups: Vec<_>| {
        let groups = Some(BTreeMap::from([("a".to_owned(), groups)]));
        Says { status: None, groups }.told(&alert, &["hook".to_owned()])
    };
    assert_eq!(says(vec![group("hook", None)]), Told::Unsaid);
    assert_eq!(says(vec![group("pager", Some(&[]))]), Told::Unsaid, "somebody else's");
    let nights = Told::Muted { by: vec!["nights".to_owned()] };
    assert_eq!(says(vec![group("hook", Some(&["nights"])), group("pager", Some(&[]))]), nights);
    let by_two_routes = says(vec![group("hook", Some(&["nights"])), group("hook", Some(&[]))]);
    assert!(matches!(by_two_routes, Told::Open { .. }), "{by_two_routes:?}");
}

#[test]
fn a_new_episode_begins_the_count_anew() {
    let mut memory = Memory::default();
    round(&mut memory, &[own("a", 0)], &[held("a", 0)], true, 1);
    assert_eq!(round(&mut memory, &[own("a", 0)], &[], true, 60).ended, []);
    assert_eq!(round(&mut memory, &[own("a", 90)], &[], true, 120).ended, []);
    assert_eq!(round(&mut memory, &[own("a", 90)], &[], true, 180).ended.len(), 1);
    memory.interrupted();
    assert_eq!(round(&mut memory, &[own("a", 90)], &[], true, 240).ended, [], "a round without an answer");
}

#[test]
fn what_was_read_from_prometheus_is_not_cleared_by_alertmanager() {
    let (mut memory, mine) = (Memory::default(), [Own { polled: true, ..own("a", 0) }]);
    for seconds in [600, 660, 720] {
        assert_eq!(round(&mut memory, &mine, &[], true, seconds).ended, []);
    }
}

#[test]
fn a_silence_is_told_once_and_its_end_once() {
    let mut memory = Memory::default();
    let words = |findings: Findings| -> Vec<_> {
        findings.suppressions.into_iter().map(|suppression| suppression.by).collect()
    };
    let by = Some("silence 1 of a person: maintenance".to_owned());
    let there = silenced("a", by.as_deref().unwrap());
    assert_eq!(
        words(round(&mut memory, &[own("a", 0)], std::slice::from_ref(&there), false, 1)),
        vec![by.clone()]
    );
    let known = [Own { suppressed_by: by, ..own("a", 0) }];
    assert_eq!(words(round(&mut memory, &known, &[there], true, 2)), []);
    let mut unprocessed = held("a", 0);
    unprocessed.alert.processed = false;
    assert_eq!(words(round(&mut memory, &known, &[unprocessed], true, 3)), [], "nobody has looked yet");
    assert_eq!(words(round(&mut memory, &known, &[], true, 4)), [], "what is not listed is not unsilenced");
    assert_eq!(words(round(&mut memory, &known, &[held("a", 0)], true, 5)), [None]);
}

#[test]
fn whose_alerts_are_ours() {
    let receiver = |name: &str, urls: &[&str]| WebhookReceiver {
        name: name.to_owned(),
        urls: urls.iter().map(|url| (*url).to_owned()).collect(),
    };
    let status = |webhooks: &[WebhookReceiver]| Status {
        started_at: at(0),
        resolve_timeout: SignedDuration::from_mins(5),
        webhooks: webhooks.to_vec(),
        routes: Err("not shown".to_owned()),
    };
    let chat = receiver("chat", &["http://chat/hook"]);
    let ours = receiver("quell", &["http://chat/hook", "http://q:5000/webhooks/alertmanager/?x=1"]);
    let hidden = receiver("hidden", &["<secret>"]);
    let of = |named: &[&str], webhooks: &[&WebhookReceiver]| {
        let named: Vec<_> = named.iter().map(|name| (*name).to_owned()).collect();
        let webhooks: Vec<_> = webhooks.iter().map(|one| (*one).clone()).collect();
        receivers_of(&named, &[&status(&webhooks), &status(&webhooks)])
    };
    assert_eq!(of(&["other"], &[&chat, &ours]), ["other"]);
    assert_eq!(of(&[], &[&chat, &ours, &hidden]), ["quell"]);
    assert_eq!(of(&[], &[&chat, &hidden]), ["chat", "hidden"]);
    assert!(of(&[], &[]).is_empty(), "an Alertmanager that tells nobody by webhook is not ours to take from");
}

/// An Alertmanager that holds so many alerts, and keeps what it is asked.
async fn holding(alerts: usize) -> (AlertReader, Arc<Mutex<Vec<String>>>) {
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = Arc::clone(&asked);
    let body: Vec<_> = (0..alerts)
        .map(|nth| {
            serde_json::json!({"fingerprint": nth.to_string(), "startsAt": at(0), "labels": {"alertname": "A"},
                "status": {"state": "active"}})
        })
        .collect();
    let body = serde_json::Value::from(body);
    let answer = move |request: axum::extract::Request| {
        // What it says of itself, and of its groups, are questions of their own.
        if request.uri().path() == "/api/v2/alerts" {
            kept.lock().unwrap().push(request.uri().query().unwrap_or_default().to_owned());
        }
        let body = axum::Json(body.clone());
        async move { body }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let routes = axum::Router::new().fallback(answer);
    tokio::spawn(async move { axum::serve(listener, routes).await });
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let access = quell_connect::Access::new(reqwest::Client::new(), &url).unwrap();
    let client = quell_connect::alertmanager::AlertmanagerClient::new(access);
    (AlertReader::new(vec![client]), asked)
}

const WITHIN: Duration = Duration::from_secs(20);

#[tokio::test]
async fn everyone_who_asks_at_once_shares_an_answer() {
    let (reader, asked) = holding(3).await;
    let all = futures::future::join_all((0..100).map(|_| reader.named(&["A"], WITHIN))).await;
    assert!(all.iter().all(|answer| answer.as_ref().unwrap().alerts.len() == 3));
    assert_eq!(asked.lock().unwrap().len(), 1, "few are held: everything is read, and by one question");
}

#[tokio::test]
async fn where_much_is_held_only_names_that_mean_themselves_are_asked_for() {
    let (reader, asked) = holding(600).await;
    reader.all(WITHIN).await.unwrap();
    for names in [&["A", "B_2"][..], &["A|B"], &["\"}"], &[]] {
        reader.named(names, WITHIN).await.unwrap();
    }
    let asked = asked.lock().unwrap();
    let filtered: Vec<_> = asked.iter().filter_map(|query| query.split("filter=").nth(1)).collect();
    assert_eq!(filtered, ["alertname%3D%7E%22A%7CB_2%22"], "{asked:?}");
}
