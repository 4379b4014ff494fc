use quell_connect::fake::{FakeLoki, Mood};
use quell_connect::logs::{LokiLogs, LokiOptions};

use super::*;

const TENANT: &str = "fake";

fn source(fake: &FakeLoki) -> LokiLogs {
    with(fake, LokiOptions::default())
}

fn with(fake: &FakeLoki, options: LokiOptions) -> LokiLogs {
    LokiLogs::new(endpoint(access(&fake.url())), options).unwrap()
}

fn nanoseconds(milliseconds: i64) -> i128 {
    at(milliseconds).as_nanosecond()
}

#[tokio::test]
async fn lines_of_all_streams_come_in_the_order_of_time() {
    let fake = FakeLoki::start().await.unwrap();
    let orders = [("service_name", "orders"), ("detected_level", "error"), ("pod", "orders-1")];
    let other = [("service_name", "db"), ("detected_level", "unknown")];
    fake.add(TENANT, &orders, nanoseconds(0), "first");
    fake.add(TENANT, &other, nanoseconds(1), "{\"level\":\"warn\",\"msg\":\"second\",\"host\":\"db-1\"}");
    fake.add(TENANT, &orders, nanoseconds(600_000), "2026-01-01T00:00:00Z WARN last");
    fake.add(TENANT, &orders, nanoseconds(600_001), "too late");
    fake.add(TENANT, &orders, nanoseconds(-1), "too early");
    fake.add(TENANT, &[("job", "x")], nanoseconds(5), "of no service");
    let lines = ask(&source(&fake), &query()).await.unwrap();
    assert_eq!(messages(&lines), ["first", "second", "2026-01-01T00:00:00Z WARN last"]);
    let said: Vec<[&str; 3]> =
        lines.lines.iter().map(|line| [&*line.level, &*line.service, &*line.instance]).collect();
    assert_eq!(
        said,
        [["error", "orders", "orders-1"], ["warn", "db", "db-1"], ["error", "orders", "orders-1"]]
    );
    assert_eq!(lines.lines[2].at, at(600_000), "the server's time, not the text's");
    assert!(!lines.truncated);
}

#[tokio::test]
async fn service_and_text_select_and_stay_text() {
    let fake = FakeLoki::start().await.unwrap();
    fake.add(TENANT, &[("service_name", "orders")], nanoseconds(1), "Pool (exhausted) 100%");
    fake.add(TENANT, &[("service_name", "orders")], nanoseconds(2), "pool exhausted");
    fake.add(TENANT, &[("service_name", "db")], nanoseconds(3), "pool (exhausted) 100%");
    let asked = LogQuery {
        service: Some("orders".to_owned()),
        contains: Some("POOL (exhausted)".to_owned()),
        ..query()
    };
    let lines = ask(&source(&fake), &asked).await.unwrap();
    assert_eq!(messages(&lines), ["Pool (exhausted) 100%"]);
    assert!(
        lines.query.starts_with("{service_name=\"orders\"} |~ \"(?i)POOL \\\\(exhausted\\\\)\""),
        "{}",
        lines.query
    );
    for hostile in ["\"} |= \"", "a\"} or {b=\"c", "\\", "`x`", "{{}}", "\n} | json", "\u{0}\"", ".*"] {
        fake.add(TENANT, &[("service_name", hostile)], nanoseconds(9), hostile);
        let asked =
            LogQuery { service: Some(hostile.to_owned()), contains: Some(hostile.to_owned()), ..query() };
        assert_eq!(ask(&source(&fake), &asked).await.unwrap().lines.len(), 1, "{hostile:?}");
    }
}

#[tokio::test]
async fn many_lines_come_in_pages_and_the_newest_count() {
    let fake = FakeLoki::start().await.unwrap();
    for index in 0..2_500_i64 {
        let service = if index % 2 == 0 { "orders" } else { "db" };
        fake.add(TENANT, &[("service_name", service)], nanoseconds(index / 3), &format!("line {index}"));
    }
    let asked = LogQuery { lines_max: 2_200, ..query() };
    let lines = ask(&source(&fake), &asked).await.unwrap();
    assert_eq!((lines.lines.len(), lines.truncated), (2_200, true));
    let mut all = messages(&lines);
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 2_200, "each once");
    let asked = LogQuery { lines_max: 10_000, ..query() };
    let lines = ask(&source(&fake), &asked).await.unwrap();
    assert_eq!((lines.lines.len(), lines.truncated), (2_500, false));
}

#[tokio::test]
async fn more_of_one_instant_than_a_page_is_told() {
    let fake = FakeLoki::start().await.unwrap();
    for index in 0..1_500 {
        fake.add(TENANT, &[("service_name", "orders")], nanoseconds(5), &format!("line {index}"));
    }
    fake.add(TENANT, &[("service_name", "orders")], nanoseconds(1), "before it");
    let asked = LogQuery { lines_max: 5_000, ..query() };
    let lines = ask(&source(&fake), &asked).await.unwrap();
    assert_eq!((lines.lines.len(), lines.truncated), (1_001, true));
    assert_eq!(messages(&lines)[0], "before it");
}

#[tokio::test]
async fn tenants_are_named_where_there_are_several() {
    let fake = FakeLoki::start().await.unwrap();
    fake.has_several_tenants();
    fake.add("shop", &[("service_name", "orders")], nanoseconds(1), "of the shop");
    fake.add("bank", &[("service_name", "orders")], nanoseconds(1), "of the bank");
    let error = ask(&source(&fake), &query()).await.unwrap_err();
    assert_eq!(error.to_string(), "the source answered with status 401: no org id");
    let of_shop = access(&fake.url()).with_tenant(Some("shop")).unwrap();
    let shop = LokiLogs::new(endpoint(of_shop), LokiOptions::default()).unwrap();
    assert_eq!(messages(&ask(&shop, &query()).await.unwrap()), ["of the shop"]);
    assert!(access(&fake.url()).with_tenant(Some("a\nb")).is_err(), "a header cannot carry it");
}

#[tokio::test]
async fn a_selector_that_is_none_is_told_by_what_loki_says() {
    let fake = FakeLoki::start().await.unwrap();
    for (selector, said) in [("service_name", "syntax error"), ("service_name=\"\"", "at least one")] {
        let options = LokiOptions { selector: selector.to_owned(), ..LokiOptions::default() };
        let error = ask(&with(&fake, options), &query()).await.unwrap_err();
        assert!(matches!(&error, SourceError::Answered { status: 400, .. }), "{error}");
        assert!(error.to_string().contains(said), "{error}");
    }
}

#[tokio::test]
async fn what_was_recorded_is_read() {
    let fake = FakeLoki::start().await.unwrap();
    fake.feels(Mood::Saying(include_str!("../fixtures/loki-query_range.json").to_owned()));
    let (from, to) = ("2026-11-20T17:49:00Z".parse().unwrap(), "2026-11-20T17:50:00Z".parse().unwrap());
    let lines = ask(&source(&fake), &LogQuery { from, to, ..query() }).await.unwrap();
    assert_eq!(messages(&lines), ["payment timeout after 3000ms"]);
    assert_eq!((lines.lines[0].level.as_str(), lines.lines[0].service.as_str()), ("error", "checkout"));
    assert!(ask(&source(&fake), &query()).await.unwrap().lines.is_empty(), "of another time");
}

#[tokio::test]
async fn it_has_bad_days() {
    let fake = FakeLoki::start().await.unwrap();
    fake.add(TENANT, &[("service_name", "orders")], nanoseconds(1), "one");
    has_bad_days(&source(&fake), |mood| fake.feels(mood)).await;
    for odd in [
        "{\"data\":{\"resultType\":\"vector\",\"result\":[]}}",
        "{\"data\":{\"resultType\":\"streams\",\"result\":{}}}",
        "{\"status\":\"success\"}",
    ] {
        fake.feels(Mood::Saying(odd.to_owned()));
        assert!(matches!(ask(&source(&fake), &query()).await, Err(SourceError::Malformed { .. })), "{odd}");
    }
    let odd = "{\"data\":{\"resultType\":\"streams\",\"result\":[{\"stream\":{\"service_name\":5},\"values\":[[],[5,\"a\"],[\"x\",\"a\"],[\"1\"],[\"99999999999999999999999999999\",\"a\"]]}]}}";
    fake.feels(Mood::Saying(odd.to_owned()));
    assert!(
        ask(&source(&fake), &query()).await.unwrap().lines.is_empty(),
        "entries that are none are no lines"
    );
}

#[tokio::test]
async fn large_lines_are_asked_for_in_smaller_pages() {
    let fake = FakeLoki::start().await.unwrap();
    for index in 0..6 {
        let line = format!("{index} {}", "m".repeat(1 << 20));
        fake.add(TENANT, &[("service_name", "orders")], nanoseconds(index), &line);
    }
    let small = with(&fake, LokiOptions { page_bytes_max: 3 << 20, ..LokiOptions::default() });
    let lines = ask(&small, &LogQuery { lines_max: 20, ..query() }).await.unwrap();
    assert_eq!((lines.lines.len(), lines.truncated), (6, false));
    fake.feels(Mood::Endless(100));
    assert!(matches!(ask(&source(&fake), &query()).await, Err(SourceError::TooLarge { .. })));
}
