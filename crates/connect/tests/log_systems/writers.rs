//! Lines and documents of many loggers and collectors, each with what it says.

use quell_connect::fake::{FakeElasticsearch, FakeLoki, FakeSplunk, Mood};
use quell_connect::logs::{
    ElasticsearchLogs, ElasticsearchOptions, FileLogs, FileLogsOptions, LokiLogs, LokiOptions, SplunkLogs,
    SplunkOptions,
};
use quell_incident::evidence::LogLine;
use serde_json::{Value, json};

use super::*;

const TIME: &str = "2026-11-30T21:50:17Z";
/// Why a file's lines without any time are left out.
const NO_TIME: &str = "without a time";

fn day() -> LogQuery {
    let (from, to) = ("2026-11-30T00:00:00Z".parse().unwrap(), "2026-12-01T00:00:00Z".parse().unwrap());
    LogQuery { from, to, service: None, contains: None, lines_max: 1_000 }
}

async fn in_a_file(text: &str) -> LogLines {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cart.log");
    std::fs::write(&path, format!("{text}\n")).unwrap();
    let written: Timestamp = "2026-11-30T21:50:20Z".parse().unwrap();
    std::fs::File::options().append(true).open(&path).unwrap().set_modified(written.into()).unwrap();
    ask(&FileLogs::new(FileLogsOptions::new(vec![path])), &day()).await.unwrap()
}

async fn in_a_stream(labels: Value, text: &str) -> LogLines {
    let fake = FakeLoki::start().await.unwrap();
    let at: Timestamp = TIME.parse().unwrap();
    let result = json!([{"stream": labels, "values": [[at.as_nanosecond().to_string(), text]]}]);
    let answer = json!({"status": "success", "data": {"resultType": "streams", "result": result}});
    fake.feels(Mood::Saying(answer.to_string()));
    let source = LokiLogs::new(endpoint(access(&fake.url())), LokiOptions::default()).unwrap();
    ask(&source, &day()).await.unwrap()
}

/// Its level and a part of its message.
fn says(line: &LogLine, level: &str, part: &str, is_record: bool) -> bool {
    let level_fits = level.split('|').any(|level| line.level == level);
    level_fits && line.message.contains(part) && !(is_record && line.message.starts_with("{\""))
}

/// The level, a part of the message, and the line.
const LINES: &[(&str, &str, &str)] = &[
    (
        "error",
        "/shop/cart",
        "2026-11-30 21:50:17 10.0.0.5 GET /shop/cart - 443 - 10.1.2.3 Mozilla/5.0+(W) - 500 0 0 1234",
    ),
    (
        "error",
        "502",
        "https 2026-11-30T21:50:17.123456Z app/lb/1 10.0.0.1:1 10.0.0.2:80 0.1 0.2 0.3 502 502 34 366 \"GET https://a:443/ HTTP/1.1\" \"curl\"",
    ),
    (
        "error",
        "/x",
        "2026-11-30\t21:50:17\tFRA2\t1045\t10.0.0.1\tGET\td1.cloudfront.net\t/x\t502\t-\tMozilla",
    ),
    ("error", "pool exhausted", "Nov 30, 2026 9:50:17 PM com.example.Pool get\nSEVERE: pool exhausted"),
    ("warn", "slow", "Nov 30, 2026, 9:50:17\u{202f}PM com.example.Pool get\nWARNING: slow"),
    ("error", "pool exhausted", "21:50:17.123 [main] ERROR c.e.Pool - pool exhausted"),
    ("error", "pool exhausted", "[21:50:17 ERR] pool exhausted"),
    ("error", "pool exhausted", "[21:50:17.123] ERROR (42): pool exhausted"),
    ("error", "GenServer", "21:50:17.123 [error] GenServer terminating"),
    ("error", "WFLY", "21:50:17,123 ERROR [org.jboss.as] (Controller Boot Thread) WFLYCTL0013: failed"),
    ("error", "Executor", "26/11/30 21:50:17 ERROR Executor: Exception in task 0.0"),
    ("error", "InnoDB", "261130 21:50:17 [ERROR] InnoDB: Unable to lock ./ibdata1"),
    ("error", "Unable", "1796075417: Error: Unable to open log file"),
    ("error", "pool exhausted", "E261130 21:50:17.123456 42 1@server/x.go:1 ⋮ [n1] pool exhausted"),
    ("error", "Cannot", "[2026-11-30 21:50:17,123: ERROR/MainProcess] consumer: Cannot connect to redis"),
    (
        "error",
        "H12",
        "2026-11-30T21:50:17.123456+00:00 heroku[router]: at=error code=H12 desc=\"Request timeout\" method=GET path=\"/\" dyno=web.1 status=503",
    ),
    (
        "info",
        "path=\"/\"",
        "2026-11-30T21:50:17.123456+00:00 heroku[router]: at=info method=GET path=\"/\" dyno=web.1 status=200",
    ),
    ("error", "pool exhausted", "2026-11-30T21:50:17.123456+00:00 app[web.1]: ERROR pool exhausted"),
    ("error", "UPDOWN", "Nov 30 21:50:17 sw1 123: %LINK-3-UPDOWN: Interface Gi0/1, changed state to down"),
    ("warn", "Deny", "Nov 30 2026 21:50:17 fw1 : %ASA-4-106023: Deny tcp src outside"),
    (
        "error",
        "LINK_STATE",
        "Nov 30 2026 21:50:17 sw2 %%01IFNET/3/LINK_STATE(l)[1]:The line protocol went down.",
    ),
    (
        "fatal",
        "too many",
        "2026-11-30 21:50:17.123 UTC,\"u\",\"db\",42,\"10.0.0.1:5\",65.1,1,\"authentication\",2026-11-30 21:50:17 UTC,3/1,0,FATAL,53300,\"too many \"\"clients\"\" already\",,,,,,,,,\"\"",
    ),
    (
        "info",
        "checkpoint",
        "2026-11-30 21:50:17.123 UTC,,,42,,65.1,1,,2026-11-30 21:50:17 UTC,,0,LOG,00000,\"checkpoint starting: time\",,,,,,,,,\"\"",
    ),
    (
        "error",
        "pool exhausted",
        r#"{"timestamp":"2026-11-30T21:50:17.123456Z","level":"ERROR","fields":{"message":"pool exhausted","size":10},"target":"app::pool"}"#,
    ),
    (
        "error",
        "core: failed",
        r#"{"@level":"error","@message":"core: failed","@module":"core","@timestamp":"2026-11-30T21:50:17.123456Z"}"#,
    ),
    (
        "error",
        "pool exhausted",
        r#"{"time":"2026-11-30T21:50:17.1Z","level":"Error","category":"AppServiceConsoleLogs","properties":{"message":"pool exhausted"}}"#,
    ),
    (
        "error",
        "pool exhausted",
        r#"{"time":"2026-11-30T21:50:17Z","properties":{"log":"ERROR pool exhausted","pod":"cart-1","stream":"stderr"}}"#,
    ),
    (
        "error",
        "pool exhausted",
        r#"{"time":"2026-11-30T21:50:17.1Z","level":"Error","resultDescription":"pool exhausted"}"#,
    ),
    (
        "fatal",
        "too many",
        r#"{"timestamp":"2026-11-30 21:50:17.123 UTC","pid":42,"error_severity":"FATAL","message":"too many clients"}"#,
    ),
    (
        "error",
        "pool exhausted",
        r#"{"date":"2026-11-30T21:50:17.123Z","status":"error","message":"pool exhausted","service":"checkout"}"#,
    ),
    (
        "warn",
        "Back-off",
        r#"{"kind":"Event","type":"Warning","reason":"BackOff","message":"Back-off restarting","lastTimestamp":"2026-11-30T21:50:17Z"}"#,
    ),
    (
        "warn",
        "Back-off",
        r#"{"verb":"ADDED","event":{"type":"Warning","reason":"BackOff","message":"Back-off restarting","lastTimestamp":"2026-11-30T21:50:17Z"}}"#,
    ),
    (
        "error",
        "/cart",
        r#"{"time_iso8601":"2026-11-30T21:50:17+00:00","request_method":"GET","request_uri":"/cart","status":"502"}"#,
    ),
    (
        "error",
        "/cart",
        r#"{"time_local":"30/Nov/2026:21:50:17 +0000","request":"GET /cart HTTP/1.1","status":502}"#,
    ),
    (
        "error",
        "pool exhausted",
        r#"{"__REALTIME_TIMESTAMP":"1796075417123456","PRIORITY":"3","MESSAGE":"pool exhausted","_HOSTNAME":"vm1"}"#,
    ),
    (
        "error",
        "pool exhausted",
        r#"{"text":"x | ERROR | pool exhausted\n","record":{"level":{"name":"ERROR","no":40},"message":"pool exhausted","time":{"repr":"2026-11-30 21:50:17.123+00:00","timestamp":1796075417.123}}}"#,
    ),
    (
        "fatal",
        "shell",
        r#"{"output":"shell in a container","priority":"Critical","rule":"x","time":"2026-11-30T21:50:17.1Z"}"#,
    ),
    (
        "error",
        "pool exhausted",
        r#"{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"checkout"}}]},"scopeLogs":[{"scope":{},"logRecords":[{"timeUnixNano":"1796075417000000000","severityNumber":17,"body":{"stringValue":"pool exhausted"}}]}]}]}"#,
    ),
    (
        "error",
        "pool exhausted",
        r#"{"resource_logs":[{"resource":{},"scope_logs":[{"log_records":[{"time_unix_nano":"1796075417000000000","severity_text":"ERROR","body":{"kvlistValue":{"values":[{"key":"msg","value":{"stringValue":"pool exhausted"}}]}}}]}]}]}"#,
    ),
    (
        "error",
        "pool exhausted",
        r#"{"messageType":"DATA_MESSAGE","logGroup":"/aws/lambda/cart","logEvents":[{"id":"1","timestamp":1796075417000,"message":"[ERROR] pool exhausted"}]}"#,
    ),
    (
        "error",
        "pool exhausted",
        r#"{"records":[{"time":"2026-11-30T21:50:17Z","level":"Error","properties":{"message":"pool exhausted"}}]}"#,
    ),
    (
        "error",
        "pool exhausted",
        r#"{"time":"2026-11-30T21:50:17Z","req":{"method":"GET","url":"/x"},"res":{"statusCode":500},"msg":"pool exhausted"}"#,
    ),
    (
        "error",
        "/api",
        r#"{"stageTimestamp":"2026-11-30T21:50:17Z","verb":"get","requestURI":"/api","responseStatus":{"code":500}}"#,
    ),
    (
        "error",
        "pool exhausted",
        r#"checkout-1  | {"time":"2026-11-30T21:50:17Z","level":"error","msg":"pool exhausted"}"#,
    ),
    ("", "back to normal", "2026-11-30T21:50:17Z Error rate is back to normal"),
    ("", "is fine", "2026-11-30T21:50:17Z error budget is fine"),
    ("", "went well", "2026-11-30 21:50:17 retried, no ERROR came back, all went well"),
    (
        "info",
        "no error",
        r#"{"time":"2026-11-30T21:50:17Z","level":"info","msg":"no error","status":"error-free","type":"error-report"}"#,
    ),
    (
        "",
        "done",
        r#"{"time":"2026-11-30T21:50:17Z","msg":"done","type":"alert","priority":"high","status":"failure"}"#,
    ),
];

/// Lines that have no time at all: a stream knows when, and a file does not.
const LINES_WITHOUT_A_TIME: &[(&str, &str, &str)] = &[
    ("error", "pool exhausted", "fail: Shop.Pool[0]\n      pool exhausted"),
    ("fatal", "pool exhausted", "crit: Shop.Pool[0]\n      pool exhausted"),
    ("warn", "slow", "warn: Shop.Pool[0]\n      slow"),
    ("error", "pool exhausted", "ERROR:app.pool:pool exhausted"),
    ("error", "ASGI", "ERROR:    Exception in ASGI application"),
    ("error", "pool", "checkout-1  | ERROR pool exhausted"),
    ("error", "pool", "\u{1b}[31mERROR\u{1b}[0m pool exhausted"),
    ("", "back to normal", "Error rate is back to normal"),
    ("", "fine", "error budget is fine"),
    ("", "failed over", "2026 Success: failed over"),
];

#[tokio::test]
async fn lines_of_every_logger_are_read_in_files_and_in_streams() {
    let mut wrong = Vec::new();
    for (level, part, text) in LINES {
        let is_record = text.contains("{\"");
        let lines = in_a_file(text).await;
        let fits = lines.lines.len() == 1
            && says(&lines.lines[0], level, part, is_record)
            && lines.lines[0].at.to_string().starts_with("2026-11-30T21:50:17");
        if !fits {
            wrong.push(format!("in a file: {text}\n  {lines:?}"));
        }
        let lines = in_a_stream(json!({"service_name": "svc"}), text).await;
        if !(lines.lines.len() == 1 && says(&lines.lines[0], level, part, is_record)) {
            wrong.push(format!("in a stream: {text}\n  {lines:?}"));
        }
    }
    for (level, part, text) in LINES_WITHOUT_A_TIME {
        let lines = in_a_file(text).await;
        if !(lines.lines.is_empty() && lines.left_out[0].what == NO_TIME) {
            wrong.push(format!("in a file: {text}\n  {lines:?}"));
        }
        let lines = in_a_stream(json!({"service_name": "svc"}), text).await;
        let fits = lines.lines.len() == 1
            && says(&lines.lines[0], level, part, false)
            && !lines.lines[0].message.contains('\u{1b}');
        if !fits {
            wrong.push(format!("in a stream: {text}\n  {lines:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Level, service, instance (`*` where it does not matter) and the document, which has a time besides.
fn documents() -> Vec<([&'static str; 3], Value)> {
    vec![
        (
            ["error", "cart", "cart-1"],
            json!({"json": {"level": "error", "msg": "pool exhausted"}, "kubernetes": {"pod": {"name": "cart-1"}, "container": {"name": "cart"}}}),
        ),
        (
            ["error", "cart", "vm1"],
            json!({"body": "pool exhausted", "severity": {"text": "Error", "number": 17}, "resource": {"service.name": "cart", "host.name": "vm1"}}),
        ),
        (
            ["error", "cart", "vm1"],
            json!({"Body": "pool exhausted", "SeverityText": "Error", "SeverityNumber": 17, "Resource": {"service": {"name": "cart"}, "host": {"name": "vm1"}}}),
        ),
        (
            ["error", "cart", "vm1"],
            json!({"body": "pool exhausted", "severityText": "ERROR", "serviceName": "cart", "resource.attributes.host@name": "vm1"}),
        ),
        (
            ["error", "cart", "vm1"],
            json!({"body": "pool exhausted", "severity_text": "ERROR", "resource_attributes_service_name": "cart", "resource_host_name": "vm1"}),
        ),
        (
            ["error", "cart", "p"],
            json!({"body": "pool exhausted", "severityText": "ERROR", "resource.attributes": {"service.name": "cart", "k8s.pod.name": "p", "host.name": "vm1"}}),
        ),
        (
            ["error", "cart", ""],
            json!({"log": "ERROR pool exhausted\n", "container_name": "/cart", "container_id": "abc", "source": "stderr"}),
        ),
        (
            ["", "cart", "cart-1"],
            json!({"message": "pool exhausted", "source_type": "kubernetes_logs", "stream": "stderr", "kubernetes": {"pod_name": "cart-1", "container_name": "cart", "pod_labels": {"app": "cart"}, "pod_node_name": "w1"}}),
        ),
        (
            ["error", "cart", "vm1"],
            json!({"message": "pool exhausted", "program": "cart", "logsource": "vm1", "severity": 3, "severity_label": "Error", "priority": 11}),
        ),
        (
            ["error", "cart", "vm1"],
            json!({"message": " pool exhausted", "severity": "err", "syslogtag": "cart[42]:", "host": "vm1", "programname": "cart"}),
        ),
        (
            ["error", "cart", "vm1"],
            json!({"message": "pool exhausted", "severity": "err", "syslogtag": "cart[42]:", "fromhost": "vm1"}),
        ),
        (
            ["error", "disk", "win1"],
            json!({"message": "pool exhausted", "event": {"code": "7", "provider": "disk"}, "winlog": {"computer_name": "win1", "provider_name": "disk"}, "log": {"level": "error"}}),
        ),
        (
            ["error", "disk", "win1"],
            json!({"Message": "pool exhausted", "EventType": "ERROR", "SourceName": "disk", "Hostname": "win1"}),
        ),
        (
            ["error", "cart", ""],
            json!({"error": {"exception": [{"message": "pool exhausted", "type": "X"}], "log": {"message": "failed: pool exhausted", "level": "error"}}, "service": {"name": "cart"}}),
        ),
        (
            ["error", "cart", ""],
            json!({"error": {"exception": [{"message": "pool exhausted", "type": "X"}]}, "log.level": "error", "service": {"name": "cart"}}),
        ),
        (
            ["error", "nginx", ""],
            json!({"http": {"request": {"method": "GET"}, "response": {"status_code": 502}}, "url": {"original": "/x"}, "message": "pool exhausted", "service": {"type": "nginx"}}),
        ),
        (
            ["error", "cart", "vm1"],
            json!({"message": "pool exhausted", "syslog5424_app": "cart", "syslog5424_host": "vm1", "syslog5424_pri": "11"}),
        ),
        (
            ["error", "cart", ""],
            json!({"level": "ERROR", "loggerName": "c.e", "message": "pool exhausted", "contextMap": {"service": "cart"}}),
        ),
        (["error", "", ""], json!({"@message": "[ERROR] pool exhausted", "@log_group": "/aws/lambda/cart"})),
        (["error", "", ""], json!({"@level": "error", "@message": "pool exhausted", "@module": "core"})),
        (
            ["error", "", "vm1"],
            json!({"message": "pool exhausted", "log": {"level": "ERROR"}, "data_stream": {"dataset": "cart"}, "agent": {"name": "vm1"}}),
        ),
        (
            ["error", "", ""],
            json!({"LogLevel": "Error", "Category": "Shop.Pool", "Message": "pool exhausted"}),
        ),
        (["error", "", ""], json!({"message": {"body": "pool exhausted"}, "log_level": "ERROR"})),
        (
            ["error", "cart", "cart-1"],
            json!({"LogMessage": "pool exhausted", "LogLevel": "error", "ContainerName": "cart", "PodName": "cart-1"}),
        ),
        (
            ["error", "cart", ""],
            json!({"message": "pool exhausted", "level": "error", "dd": {"service": "cart", "env": "prod"}}),
        ),
        (
            ["error", "", ""],
            json!({"message": "pool exhausted", "level": "error", "source": "/var/log/app.log"}),
        ),
        (
            ["error", "", ""],
            json!({"message": "pool exhausted", "log": {"level": "error", "logger": "c.e.Pool"}, "resource": {"name": "x"}}),
        ),
        (
            ["error", "", ""],
            json!({"message": "pool exhausted", "event": {"severity": 7, "kind": "event"}, "log.level": "error"}),
        ),
        (
            ["error", "cart", ""],
            json!({"fields": {"message": "pool exhausted", "service": "cart"}, "level": "ERROR", "target": "app"}),
        ),
        (["fatal", "", ""], json!({"message": "pool exhausted", "severityLevel": 4})),
        (["error", "", ""], json!({"message": "pool exhausted", "level_value": 40000})),
    ]
}

#[tokio::test]
async fn documents_of_every_collector_are_read_by_a_server_that_obeys() {
    let mut wrong = Vec::new();
    for (wanted, mut document) in documents() {
        document["@timestamp"] = json!(TIME);
        let fake = FakeElasticsearch::start().await.unwrap();
        fake.add("logs-x", document.clone());
        let source =
            ElasticsearchLogs::new(endpoint(access(&fake.url())), ElasticsearchOptions::new("logs-*"))
                .unwrap();
        match ask(&source, &day()).await {
            Ok(LogLines { lines, .. }) if lines.len() == 1 => {
                let line = &lines[0];
                let said = [&*line.level, &*line.service, &*line.instance];
                if said != wanted || !line.message.contains("pool exhausted") {
                    wrong.push(format!("{document}\n  {line:?}"));
                }
            }
            other => wrong.push(format!("{document}\n  {other:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn an_event_of_windows_in_splunk_has_its_level() {
    let row = json!({"_time": TIME, "_raw": "LogName=System\nType=Error\nMessage=bad block", "host": "win1",
        "Type": "Error", "Message": "bad block"});
    let fake = FakeSplunk::start().await.unwrap();
    fake.feels(Mood::Saying(format!("{}\n{{\"lastrow\":true}}\n", json!({"result": row}))));
    let source = SplunkLogs::new(endpoint(access(&fake.url())), SplunkOptions::default()).unwrap();
    let lines = ask(&source, &day()).await.unwrap().lines;
    assert_eq!([&*lines[0].level, &*lines[0].instance, &*lines[0].message], ["error", "win1", "bad block"]);
}

#[tokio::test]
async fn a_file_of_several_days_without_dates_is_followed_back() {
    let text = "09:00:00 ERROR a\n23:00:00 ERROR b\n\tat x\n09:00:00 ERROR c\n21:50:17 ERROR d";
    let lines = in_a_file(text).await;
    let said: Vec<String> = lines.lines.iter().map(|line| line.at.to_string()).collect();
    assert_eq!(
        said,
        ["2026-11-30T09:00:00Z", "2026-11-30T21:50:17Z"],
        "those of the day before are not of this day"
    );
}
