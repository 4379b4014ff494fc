//! Shapes of logs that are met in the field: each has a line, with its level and its text.

use quell_connect::fake::{FakeElasticsearch, FakeLoki, FakeSplunk, Mood};
use quell_connect::logs::{
    ElasticsearchLogs, ElasticsearchOptions, FileLogs, FileLogsOptions, LokiLogs, LokiOptions, SplunkLogs,
    SplunkOptions,
};
use serde_json::{Value, json};

use super::*;

fn cases(text: &str) -> serde_json::Map<String, Value> {
    serde_json::from_str(text).unwrap()
}

fn day() -> LogQuery {
    let (from, to) = ("2026-11-30T00:00:00Z".parse().unwrap(), "2026-12-01T00:00:00Z".parse().unwrap());
    LogQuery { from, to, service: None, contains: None, lines_max: 1_000 }
}

#[tokio::test]
async fn documents_of_every_shipper_are_lines() {
    let documents = cases(include_str!("../fixtures/field-elasticsearch-documents.json"));
    for (name, service, instance) in [
        ("logs-ecs", "checkout", "vm1"),
        ("fb-plain", "checkout", "checkout-6c9f-x2x4z"),
        ("fb-json", "checkout", "checkout-6c9f-x2x4z"),
        ("fb-merged", "checkout", "checkout-6c9f-x2x4z"),
        ("otel", "checkout", "checkout-1"),
        ("event-original", "checkout", "vm1"),
        ("error-message", "checkout", "vm1"),
        ("gelf", "checkout", "vm1"),
        ("journald", "checkout", "vm1"),
        ("dotnet", "", ""),
        ("serilog", "", ""),
        ("serilog-es", "checkout", ""),
        ("msg-object", "", ""),
        ("mixed-good", "checkout", "vm1"),
    ] {
        let fake = FakeElasticsearch::start().await.unwrap();
        for document in documents[name].as_array().unwrap() {
            fake.add("logs-x", document.clone());
        }
        let source =
            ElasticsearchLogs::new(endpoint(access(&fake.url())), ElasticsearchOptions::new("logs-*"))
                .unwrap();
        let lines = ask(&source, &day()).await.unwrap();
        assert_eq!(lines.lines.len(), 1, "{name}: {lines:?}");
        let line = &lines.lines[0];
        assert!(line.message.contains("pool exhausted"), "{name}: {}", line.message);
        assert_eq!([&*line.level, &*line.service, &*line.instance], ["error", service, instance], "{name}");
    }
}

#[tokio::test]
async fn levels_of_documents_have_many_spellings() {
    let documents = cases(include_str!("../fixtures/field-elasticsearch-documents.json"));
    let fake = FakeElasticsearch::start().await.unwrap();
    for document in documents["level-words"].as_array().unwrap() {
        fake.add("logs-x", document.clone());
    }
    let source =
        ElasticsearchLogs::new(endpoint(access(&fake.url())), ElasticsearchOptions::new("logs-*")).unwrap();
    let lines = ask(&source, &day()).await.unwrap();
    let said: Vec<[&str; 2]> = lines.lines.iter().map(|line| [&*line.message, &*line.level]).collect();
    assert_eq!(
        said,
        [
            ["mE", "error"],
            ["mW", "warn"],
            ["mERR", "error"],
            ["mSEVERE", "error"],
            ["malert", "fatal"],
            ["memergency", "fatal"],
            ["mVerbose", "trace"],
            ["mF", "fatal"],
            ["mcritical", "fatal"],
            ["mNOTICE", "info"],
        ]
    );
}

#[tokio::test]
async fn lines_of_every_stream_have_their_level() {
    let streams = cases(include_str!("../fixtures/field-loki-streams.json"));
    let result: Vec<Value> = streams["streams"]
        .as_array()
        .unwrap()
        .iter()
        .map(|stream| json!({"stream": stream["labels"], "values": stream["values"]}))
        .collect();
    let fake = FakeLoki::start().await.unwrap();
    let answer = json!({"status": "success", "data": {"resultType": "streams", "result": result}});
    fake.feels(Mood::Saying(answer.to_string()));
    let source = LokiLogs::new(endpoint(access(&fake.url())), LokiOptions::default()).unwrap();
    let lines = ask(&source, &day()).await.unwrap();
    let said: Vec<[&str; 3]> =
        lines.lines.iter().map(|line| [&*line.service, &*line.level, &*line.instance]).collect();
    assert_eq!(
        said,
        [
            ["checkout", "error", "checkout-6c9f-x2x4z"],
            ["checkout", "error", "checkout-1"],
            ["logfmt", "error", ""],
            ["logfmt", "warn", ""],
            ["klog", "error", ""],
            ["klog", "warn", ""],
            ["klog", "info", ""],
            ["dotnet", "error", ""],
            ["dotnet", "error", ""],
            ["dotnet", "error", ""],
            ["pino", "error", "h"],
            ["mongo", "error", ""],
            ["nginx", "error", ""],
            ["nginx", "error", ""],
            ["java", "info", ""],
            ["java", "error", ""],
            ["gcp", "error", ""],
            ["ansi", "error", ""],
            ["ansi", "error", ""],
            ["envoy", "fatal", ""],
            ["postgres", "fatal", ""],
            ["postgres", "info", ""],
        ]
    );
    assert!(lines.left_out.is_empty());
}

#[tokio::test]
async fn rows_with_any_zone_are_lines() {
    let rows = cases(include_str!("../fixtures/field-splunk-rows.json"));
    let rows: Vec<Value> = rows["rows"].as_array().unwrap().clone();
    let said = |rows: &[Value]| -> String {
        let rows = rows.iter().map(|row| format!("{}\n", json!({"result": row})));
        rows.chain(["{\"lastrow\":true}\n".to_owned()]).collect()
    };
    let fake = FakeSplunk::start().await.unwrap();
    fake.feels(Mood::Saying(said(&rows)));
    let source = SplunkLogs::new(endpoint(access(&fake.url())), SplunkOptions::default()).unwrap();
    let lines = ask(&source, &day()).await.unwrap();
    assert_eq!(lines.lines.len(), rows.len(), "{lines:?}");
    assert!(lines.lines.iter().all(|line| line.level == "error" && line.instance == "vm1"), "{lines:?}");
    let times: Vec<String> = lines.lines.iter().map(|line| line.at.to_string()).collect();
    let wanted = ["15:54:49", "15:54:59", "15:55:09", "15:55:19", "15:55:29", "15:55:39"];
    assert!(times.iter().zip(wanted).all(|(at, wanted)| at.contains(wanted)), "{times:?}");
    // What has no time that can be read is counted, and never silence.
    fake.feels(Mood::Saying(said(&[json!({"_time": "yesterday", "_raw": "ERROR x"})])));
    let lines = ask(&source, &day()).await.unwrap();
    assert_eq!((lines.lines.len(), lines.left_out[0].count), (0, 1));
    assert!(lines.left_out[0].told().starts_with("1 line without a time left out: "), "{:?}", lines.left_out);
}

#[tokio::test]
async fn files_of_every_program_are_lines() {
    let files = cases(include_str!("../fixtures/field-log-file-lines.json"));
    let folder = tempfile::tempdir().unwrap();
    let written = |text: &str| {
        let forms = [
            ("{T}", "2026-11-30T14:00:00"),
            ("{S}", "Nov 30 14:00:00"),
            ("{K}", "1130 14:00:00.123456"),
            ("{N}", "30/Nov/2026:14:00:00"),
            ("{X}", "2026/11/30 14:00:00"),
            ("{R}", "30 Nov 2026 14:00:00.123"),
            ("{P}", "2026-11-30 14:00:00.123"),
            ("{C}", "2026-11-30 14:00:00,123"),
            ("{E}", "1796047200.123"),
            ("{NS}", "1796047200123000000"),
        ];
        forms.iter().fold(text.to_owned(), |text, (form, time)| text.replace(form, time))
    };
    let mut wanted: Vec<(&str, Vec<[&str; 3]>)> = vec![
        ("iso.log", vec![["error", "iso", ""]]),
        ("logfmt.log", vec![["error", "logfmt", ""], ["error", "logfmt", ""]]),
        ("syslog.log", vec![["", "checkout", "vm1"], ["", "kernel", "vm1"]]),
        ("rfc5424.log", vec![["error", "checkout", "vm1"]]),
        ("redis.log", vec![["warn", "redis", ""]]),
        ("gc.log", vec![["info", "gc", ""]]),
        ("envoy.log", vec![["fatal", "envoy", ""]]),
        ("pglog.log", vec![["fatal", "pglog", ""]]),
        ("haproxy.log", vec![["error", "haproxy", "lb1"]]),
        ("winston.log", vec![["error", "checkout", ""]]),
        ("bunyan.log", vec![["error", "checkout", "vm1"]]),
    ];
    for name in [
        "klog",
        "nginx-access",
        "nginx-error",
        "cri",
        "docker",
        "mongo",
        "clef",
        "dotnet",
        "mysql",
        "python",
        "zap",
        "otlpjson",
    ] {
        let file = files.keys().find(|file| file.strip_suffix(".log") == Some(name)).unwrap();
        wanted.push((file, vec![["error", name, ""]]));
    }
    assert_eq!(wanted.len(), files.len(), "each has its right value");
    for (file, wanted) in wanted {
        let path = folder.path().join(file);
        let lines = files[file]
            .as_array()
            .unwrap()
            .iter()
            .map(|line| format!("{}\n", written(line.as_str().unwrap())));
        std::fs::write(&path, lines.collect::<String>()).unwrap();
        let lines = ask(&FileLogs::new(FileLogsOptions::new(vec![path])), &day()).await.unwrap();
        let said: Vec<[&str; 3]> =
            lines.lines.iter().map(|line| [&*line.level, &*line.service, &*line.instance]).collect();
        assert_eq!(said, wanted, "{file}");
        let at = lines.lines.iter().all(|line| line.at.to_string().starts_with("2026-11-30T14:00:00"));
        assert!(at && lines.left_out.is_empty(), "{file}: {lines:?}");
    }
}
