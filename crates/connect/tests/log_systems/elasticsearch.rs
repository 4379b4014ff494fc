use quell_connect::fake::{FakeElasticsearch, Mood};
use quell_connect::logs::{ElasticsearchLogs, ElasticsearchOptions};
use serde_json::{Value, json};

use super::*;

fn source(fake: &FakeElasticsearch) -> ElasticsearchLogs {
    with(endpoint(access(&fake.url())), "logs-*")
}

fn with(endpoint: Endpoint, pattern: &str) -> ElasticsearchLogs {
    ElasticsearchLogs::new(endpoint, ElasticsearchOptions::new(pattern)).unwrap()
}

fn document(milliseconds: i64, service: &str, message: &str) -> Value {
    json!({
        "@timestamp": at(milliseconds).to_string(),
        "message": message,
        "log": {"level": "ERROR"},
        "service": {"name": service},
        "host": {"name": "app-1"},
    })
}

#[tokio::test]
async fn documents_of_the_time_range_are_lines() {
    let fake = FakeElasticsearch::start().await.unwrap();
    fake.add("logs-app", document(-1, "orders", "too early"));
    fake.add("logs-app", document(0, "orders", "first"));
    fake.add(
        "logs-db",
        json!({"@timestamp": at(1_500).as_millisecond(), "message": "second", "level": "warning",
        "kubernetes": {"labels": {"app": "db"}}, "instance": "db-1"}),
    );
    fake.add("metrics-db", document(2_000, "orders", "of another index"));
    fake.add("logs-app", document(600_000, "orders", "last"));
    fake.add("logs-app", document(600_001, "orders", "too late"));
    let lines = ask(&source(&fake), &query()).await.unwrap();
    assert_eq!(messages(&lines), ["first", "second", "last"]);
    let said: Vec<[&str; 3]> =
        lines.lines.iter().map(|line| [&*line.level, &*line.service, &*line.instance]).collect();
    assert_eq!(said[..2], [["error", "orders", "app-1"], ["warn", "db", "db-1"]]);
    assert_eq!((lines.source.as_str(), lines.truncated), ("elasticsearch", false));
    assert!(lines.query.starts_with(&format!("POST {}/logs-*/_search {{", fake.url())), "{}", lines.query);
}

#[tokio::test]
async fn service_and_text_select_and_stay_text() {
    let fake = FakeElasticsearch::start().await.unwrap();
    fake.add("logs-app", document(1, "orders", "Pool exhausted: active=20"));
    fake.add("logs-app", document(2, "orders-v2", "pool exhausted: active=20"));
    fake.add("logs-app", document(3, "orders", "pool is fine, not exhausted"));
    let asked = LogQuery {
        service: Some("orders".to_owned()),
        contains: Some("POOL exhausted".to_owned()),
        ..query()
    };
    let lines = ask(&source(&fake), &asked).await.unwrap();
    assert_eq!(messages(&lines), ["Pool exhausted: active=20"]);
    for hostile in ["\"}}]}, {\"match_all\": {}}", "* OR 1:1", "a\\\" \u{0} \n /* */", "/.*/", "{}"] {
        fake.add("logs-app", document(9, hostile, "hostile"));
        let asked =
            LogQuery { service: Some(hostile.to_owned()), contains: Some("nothing".to_owned()), ..query() };
        assert!(ask(&source(&fake), &asked).await.unwrap().lines.is_empty(), "{hostile}");
        let sent = fake.asked().pop().unwrap();
        let (_, body) = sent.split_once("allow_no_indices=true ").unwrap();
        let body: Value = serde_json::from_str(body).unwrap();
        let phrase = &body["query"]["bool"]["filter"][1]["bool"]["should"][0]["match_phrase"]["service"];
        assert_eq!(phrase, hostile);
        assert_eq!(body["query"]["bool"]["filter"].as_array().unwrap().len(), 3);
    }
}

#[tokio::test]
async fn many_lines_come_in_pages_and_the_newest_count() {
    let fake = FakeElasticsearch::start().await.unwrap();
    // Many of one instant, so that a border between pages falls among them.
    for index in 0..2_500 {
        fake.add("logs-app", document(index / 700, "orders", &format!("line {index}")));
    }
    let asked = LogQuery { lines_max: 2_200, ..query() };
    let lines = ask(&source(&fake), &asked).await.unwrap();
    assert_eq!((lines.lines.len(), lines.truncated), (2_200, true));
    let mut all: Vec<&str> = messages(&lines);
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 2_200, "each once");
    assert_eq!(fake.asked().len(), 3);
    let asked = LogQuery { lines_max: 3_000, ..query() };
    let lines = ask(&source(&fake), &asked).await.unwrap();
    assert_eq!((lines.lines.len(), lines.truncated), (2_500, false));
    let asked = LogQuery { lines_max: 10_000, ..query() };
    assert_eq!(
        ask(&source(&fake), &asked).await.unwrap().lines.len(),
        2_500,
        "within the window of the server"
    );
}

#[tokio::test]
async fn credentials_are_shown_and_their_lack_is_told() {
    let fake = FakeElasticsearch::start().await.unwrap();
    fake.add("logs-app", document(1, "orders", "one"));
    fake.wants("ApiKey abc==");
    fake.wants("Basic ZWxhc3RpYzpwdw==");
    let plain = access(&fake.url());
    let error = ask(&with(endpoint(plain.clone()), "logs-*"), &query()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the source answered with status 401: missing authentication credentials for REST request"
    );
    for access in [
        plain.clone().with_scheme("ApiKey", "abc==".into()),
        plain.clone().with_basic("elastic", "pw".into()),
    ] {
        assert_eq!(ask(&with(endpoint(access), "logs-*"), &query()).await.unwrap().lines.len(), 1);
    }
    assert!(
        ask(&with(endpoint(plain.with_scheme("ApiKey", "a\nb".into())), "logs-*"), &query()).await.is_err()
    );
}

#[tokio::test]
async fn patterns_that_lead_elsewhere_are_refused() {
    for pattern in ["", "../x", "a/b", "_all/_settings", "logs-*?x", "logs-*,", ".kibana", "a b", "_search"] {
        let endpoint = endpoint(access("http://127.0.0.1/"));
        assert!(ElasticsearchLogs::new(endpoint, ElasticsearchOptions::new(pattern)).is_err(), "{pattern}");
    }
    let fake = FakeElasticsearch::start().await.unwrap();
    let none = ask(&with(endpoint(access(&fake.url())), "logs-*,named"), &query()).await.unwrap();
    assert!(none.lines.is_empty(), "no such index is no line");
}

#[tokio::test]
async fn parts_that_failed_are_missing() {
    let fake = FakeElasticsearch::start().await.unwrap();
    fake.add("logs-app", document(1, "orders", "one"));
    fake.fails_shards(1);
    assert!(ask(&source(&fake), &query()).await.unwrap().truncated);
    fake.fails_shards(3);
    assert!(matches!(ask(&source(&fake), &query()).await, Err(SourceError::Malformed { .. })));
}

#[tokio::test]
async fn documents_without_a_message_are_told_by_what_to_set() {
    let fake = FakeElasticsearch::start().await.unwrap();
    fake.add("logs-app", json!({"@timestamp": at(1).to_string(), "detail": "elsewhere"}));
    let error = ask(&source(&fake), &query()).await.unwrap_err().to_string();
    assert!(error.contains("none of 1 documents has one of the fields message, msg"), "{error}");
}

#[tokio::test]
async fn what_was_recorded_is_read() {
    let fake = FakeElasticsearch::start().await.unwrap();
    fake.feels(Mood::Saying(include_str!("../fixtures/quickwit-search-abs.json").to_owned()));
    let at: Timestamp = "2026-11-20T17:49:15Z".parse().unwrap();
    let asked = LogQuery { from: at, to: at, ..query() };
    let lines = ask(&source(&fake), &asked).await.unwrap();
    assert_eq!(messages(&lines), ["payment timeout after 3000ms"]);
    assert_eq!((lines.lines[0].level.as_str(), lines.lines[0].service.as_str()), ("error", "checkout"));
    assert!(
        ask(&source(&fake), &query()).await.unwrap().lines.is_empty(),
        "another clock's lines are not ours"
    );
}

/// The fake says the words of the server that was recorded.
#[tokio::test]
async fn date_math_is_refused_as_it_was_recorded() {
    let fake = FakeElasticsearch::start().await.unwrap();
    fake.add("logs-app", document(1, "orders", "one"));
    let url = format!("{}/logs-app/_search", fake.url());
    let body = json!({"query": {"range": {"@timestamp": {"gte": "now-15m"}}}});
    let answer = client().post(&url).json(&body).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 400);
    let answer: Value = answer.json().await.unwrap();
    let recorded: Value =
        serde_json::from_str(include_str!("../fixtures/quickwit-search-nowmath.json")).unwrap();
    assert_eq!(answer["error"]["reason"], recorded["error"]["reason"]);
    for wrong in
        ["{", "{\"quarry\": {}}", "{\"query\": {\"regexp_\": {}}}", "{\"size\": 10001}", "{\"query\": {}}"]
    {
        let answer = client().post(&url).body(wrong.to_owned()).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 400, "{wrong}");
    }
}

#[tokio::test]
async fn it_has_bad_days() {
    let fake = FakeElasticsearch::start().await.unwrap();
    fake.add("logs-app", document(1, "orders", "one"));
    has_bad_days(&source(&fake), |mood| fake.feels(mood)).await;
}

#[tokio::test]
async fn large_documents_are_asked_for_in_smaller_pages() {
    let fake = FakeElasticsearch::start().await.unwrap();
    for index in 0..6 {
        fake.add("logs-app", document(index, "orders", &format!("{index} {}", "m".repeat(1 << 20))));
    }
    let options = ElasticsearchOptions { page_bytes_max: 3 << 20, ..ElasticsearchOptions::new("logs-*") };
    let small = ElasticsearchLogs::new(endpoint(access(&fake.url())), options).unwrap();
    let lines = ask(&small, &LogQuery { lines_max: 20, ..query() }).await.unwrap();
    assert_eq!((lines.lines.len(), lines.truncated), (6, false));
    assert!(lines.lines.iter().all(|line| line.message.chars().count() == 2_000));
    fake.feels(Mood::Endless(100));
    assert!(matches!(ask(&source(&fake), &query()).await, Err(SourceError::TooLarge { .. })));
}

#[tokio::test]
async fn one_document_that_is_too_large_does_not_hide_the_others() {
    let fake = FakeElasticsearch::start().await.unwrap();
    for index in 0..30 {
        let megabytes = if index == 29 || index == 15 { 4 } else { 0 };
        fake.add("logs-app", document(index, "orders", &format!("{index} {}", "m".repeat(megabytes << 20))));
    }
    let options = ElasticsearchOptions { page_bytes_max: 3 << 20, ..ElasticsearchOptions::new("logs-*") };
    let small = ElasticsearchLogs::new(endpoint(access(&fake.url())), options).unwrap();
    let lines = ask(&small, &query()).await.unwrap();
    assert_eq!(lines.lines.len(), 28);
    assert_eq!(
        (lines.left_out[0].count, lines.left_out[0].what.as_str()),
        (2, "larger than an answer may be")
    );
}

/// The real one compares names sign by sign, so a list of names loses what is spelt otherwise.
#[tokio::test]
async fn the_fake_obeys_a_filter_of_fields_and_is_sent_none() {
    let fake = FakeElasticsearch::start().await.unwrap();
    let whole = json!({"@timestamp": at(1).to_string(), "Message": "m", "message": {"body": "b"}, "log.level": "error",
        "kubernetes": {"pod": {"name": "p", "uid": "u"}, "labels": {"app": "a"}}, "list": [{"a": 1, "b": 2}], "n": [1]});
    fake.add("logs-app", whole.clone());
    let url = format!("{}/logs-app/_search", fake.url());
    for (filter, wanted) in [
        (json!(true), whole.clone()),
        (json!([]), whole.clone()),
        (json!(["Message", "nothing"]), json!({"Message": "m"})),
        (json!("message"), json!({"message": {"body": "b"}})),
        (json!(["kubernetes.pod.name"]), json!({"kubernetes": {"pod": {"name": "p"}}})),
        (json!(["kubernetes"]), json!({"kubernetes": whole["kubernetes"]})),
        (json!(["*.name", "log.*"]), json!({"kubernetes": {"pod": {"name": "p"}}, "log.level": "error"})),
        (json!(["log"]), json!({"log.level": "error"})),
        (json!(["list.a", "n"]), json!({"list": [{"a": 1}], "n": [1]})),
        (
            json!({"includes": ["k*"], "excludes": ["*.uid", "kubernetes.labels"]}),
            json!({"kubernetes": {"pod": {"name": "p"}}}),
        ),
        (json!(["MESSAGE"]), json!({})),
    ] {
        let body = json!({"query": {"match_all": {}}, "_source": filter});
        let answer: Value = client().post(&url).json(&body).send().await.unwrap().json().await.unwrap();
        assert_eq!(answer["hits"]["hits"][0]["_source"], wanted, "{filter}");
    }
    let body = json!({"query": {"match_all": {}}, "_source": false});
    let answer: Value = client().post(&url).json(&body).send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["hits"]["hits"][0].get("_source"), None);
    let body = json!({"query": {"match_all": {}}, "_source": 5});
    assert_eq!(client().post(&url).json(&body).send().await.unwrap().status().as_u16(), 400);
    assert_eq!(messages(&ask(&source(&fake), &query()).await.unwrap()), ["m"]);
    assert!(!fake.asked().pop().unwrap().contains("_source"));
}

#[tokio::test]
async fn a_service_is_found_in_every_spelling_of_its_field() {
    let fake = FakeElasticsearch::start().await.unwrap();
    for (index, field) in ["serviceName", "ServiceName", "service_name", "Application"].iter().enumerate() {
        let milliseconds = i64::try_from(index).unwrap();
        fake.add(
            "logs-app",
            json!({"@timestamp": at(milliseconds).to_string(), "Message": "Pool exhausted", *field: "orders"}),
        );
    }
    let asked = LogQuery {
        service: Some("orders".to_owned()),
        contains: Some("pool exhausted".to_owned()),
        ..query()
    };
    assert_eq!(ask(&source(&fake), &asked).await.unwrap().lines.len(), 4);
}

#[tokio::test]
async fn documents_that_lack_something_are_counted_and_shown() {
    let fake = FakeElasticsearch::start().await.unwrap();
    fake.add("logs-audit", json!({"ts": at(1).to_string(), "msg": "x"}));
    let lines = ask(&source(&fake), &query()).await.unwrap();
    let told: Vec<String> = lines.left_out.iter().map(|left_out| left_out.told()).collect();
    assert!(lines.lines.is_empty());
    assert_eq!(told.len(), 1);
    assert!(
        told[0].starts_with("1 line without the field of the time that is searched by left out: {"),
        "{told:?}"
    );
    fake.add("logs-app", document(1, "orders", "one"));
    fake.add("logs-app", json!({"@timestamp": at(2).to_string(), "detail": "elsewhere"}));
    let lines = ask(&source(&fake), &query()).await.unwrap();
    assert_eq!(messages(&lines), ["one"]);
    assert_eq!((lines.left_out[0].count, lines.left_out[0].what.as_str()), (1, "without a message"));
}

#[tokio::test]
async fn an_index_without_the_field_that_is_sorted_by_does_not_hide_the_others() {
    let fake = FakeElasticsearch::start().await.unwrap();
    let reason = "No mapping found for [@timestamp] in order to sort on";
    fake.feels(Mood::Saying(
        json!({"_shards": {"total": 2, "successful": 1, "failed": 1, "failures": [{"reason": {"reason": reason}}]},
               "hits": {"hits": []}})
        .to_string(),
    ));
    let lines = ask(&source(&fake), &query()).await.unwrap();
    assert!(lines.truncated, "it says so again: then shards have failed");
    let asked = fake.asked();
    assert!(
        !asked[0].contains("unmapped_type") && asked[1].contains("\"unmapped_type\":\"date\""),
        "{asked:?}"
    );
}
