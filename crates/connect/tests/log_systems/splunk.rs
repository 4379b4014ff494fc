use quell_connect::fake::{FakeSplunk, Mood};
use quell_connect::logs::{SplunkLogs, SplunkOptions};

use super::*;

fn source(fake: &FakeSplunk) -> SplunkLogs {
    SplunkLogs::new(endpoint(access(&fake.url())), SplunkOptions::default()).unwrap()
}

#[tokio::test]
async fn events_of_the_time_range_are_lines() {
    let fake = FakeSplunk::start().await.unwrap();
    let orders = [("service", "orders"), ("host", "app-1"), ("level", "ERROR")];
    let event = |milliseconds, raw: &'static str| {
        let fields: Vec<(&str, &str)> = orders.iter().copied().chain([("_raw", raw)]).collect();
        fake.add(at(milliseconds), &fields);
    };
    event(-1, "too early");
    event(0, "first");
    event(600_000, "last");
    event(600_001, "too late");
    let lines = ask(&source(&fake), &query()).await.unwrap();
    assert_eq!(messages(&lines), ["first", "last"]);
    let line = &lines.lines[0];
    assert_eq!([&*line.level, &*line.service, &*line.instance], ["error", "orders", "app-1"]);
    assert_eq!((lines.source.as_str(), lines.truncated), ("splunk", false));
    assert!(
        lines.query.starts_with("search index=* | head 100 from 2026-03-01T09:00:00Z"),
        "{}",
        lines.query
    );
}

#[tokio::test]
async fn service_and_text_select_and_stay_text() {
    let fake = FakeSplunk::start().await.unwrap();
    fake.add(at(1), &[("service", "orders"), ("_raw", "Pool exhausted: active=20")]);
    fake.add(at(2), &[("service", "orders"), ("_raw", "active pool, not exhausted")]);
    fake.add(at(3), &[("service", "orders2"), ("_raw", "pool exhausted: active=20")]);
    let asked = LogQuery {
        service: Some("orders".to_owned()),
        contains: Some("pool EXHAUSTED: active".to_owned()),
        ..query()
    };
    assert_eq!(messages(&ask(&source(&fake), &asked).await.unwrap()), ["Pool exhausted: active=20"]);
    for hostile in
        ["\" | delete", "x\" OR index=_internal | head 1 | \"", "[search index=a]", "`macro`", "a\\", "$x$"]
    {
        fake.add(at(9), &[("service", hostile), ("_raw", hostile)]);
        let asked =
            LogQuery { service: Some(hostile.to_owned()), contains: Some(hostile.to_owned()), ..query() };
        let lines = ask(&source(&fake), &asked).await.unwrap();
        assert_eq!(messages(&lines), [hostile], "found and nothing else");
    }
}

#[tokio::test]
async fn the_newest_count_and_more_is_told() {
    let fake = FakeSplunk::start().await.unwrap();
    for index in 0..300 {
        fake.add(at(index), &[("_raw", &format!("line {index}"))]);
    }
    let lines = ask(&source(&fake), &query()).await.unwrap();
    assert_eq!((lines.lines.len(), lines.truncated), (100, true));
    assert_eq!((messages(&lines)[0], messages(&lines)[99]), ("line 200", "line 299"));
}

#[tokio::test]
async fn credentials_are_shown_and_their_lack_is_told() {
    let fake = FakeSplunk::start().await.unwrap();
    fake.wants("Bearer abc");
    fake.wants("Basic bWU6cHc=");
    let plain = access(&fake.url());
    let with = |access| SplunkLogs::new(endpoint(access), SplunkOptions::default()).unwrap();
    let error = ask(&with(plain.clone()), &query()).await.unwrap_err();
    assert_eq!(error.to_string(), "the source answered with status 401: call not properly authenticated");
    for access in [plain.clone().with_bearer("abc".into()), plain.with_basic("me", "pw".into())] {
        assert!(ask(&with(access), &query()).await.is_ok());
    }
}

#[tokio::test]
async fn what_splunk_says_in_the_middle_is_told() {
    let fake = FakeSplunk::start().await.unwrap();
    fake.add(at(1), &[("_raw", "one")]);
    fake.says("WARN", "some peers are slow");
    assert_eq!(ask(&source(&fake), &query()).await.unwrap().lines.len(), 1);
    fake.says("FATAL", "the search was cancelled, token=hunter2hunter2");
    let error = ask(&source(&fake), &query()).await.unwrap_err().to_string();
    assert!(error.contains("the search was cancelled") && !error.contains("hunter2"), "{error}");
    let wrong = SplunkOptions { search: "index=a (b".to_owned(), ..SplunkOptions::default() };
    let wrong = SplunkLogs::new(endpoint(access(&fake.url())), wrong).unwrap();
    let error = ask(&wrong, &query()).await.unwrap_err();
    assert!(matches!(error, SourceError::Answered { status: 400, .. }), "{error}");
    assert!(error.to_string().contains("Unable to parse the search"), "{error}");
}

#[tokio::test]
async fn it_has_bad_days() {
    let fake = FakeSplunk::start().await.unwrap();
    fake.add(at(1), &[("_raw", "one")]);
    has_bad_days(&source(&fake), |mood| fake.feels(mood)).await;
    let row = format!("{{\"result\":{{\"_time\":\"{}\",\"_raw\":\"one\"}}}}\n", at(1));
    fake.feels(Mood::Saying(row.clone()));
    assert!(ask(&source(&fake), &query()).await.unwrap().truncated, "the last row did not come");
    fake.feels(Mood::Saying(format!("{row}{{\"result\":\n")));
    assert!(matches!(ask(&source(&fake), &query()).await, Err(SourceError::Malformed { .. })));
}

#[tokio::test]
async fn what_is_too_much_is_cut() {
    let fake = FakeSplunk::start().await.unwrap();
    for index in 0..8 {
        let raw = format!("{index} {}", "m".repeat(1 << 20));
        fake.add(at(index), &[("_raw", &raw)]);
    }
    let options = SplunkOptions { answer_bytes_max: 5 << 20, ..SplunkOptions::default() };
    let source = SplunkLogs::new(endpoint(access(&fake.url())), options).unwrap();
    let lines = ask(&source, &query()).await.unwrap();
    assert!((3..8).contains(&lines.lines.len()) && lines.truncated, "{}", lines.lines.len());
    assert!(lines.lines.last().unwrap().message.starts_with("7 "), "the newest came first");
    fake.feels(Mood::Endless(100));
    let lines = ask(&source, &query()).await.unwrap();
    assert!(lines.lines.is_empty() && lines.truncated);
}
