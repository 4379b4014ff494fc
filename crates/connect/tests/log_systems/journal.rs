use std::fs;
use std::path::PathBuf;

use quell_connect::logs::{JournalLogs, JournalLogsOptions};
use serde_json::json;
use tempfile::TempDir;

use super::*;

fn written(folder: &TempDir, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, content).unwrap();
    path
}

fn source(paths: &[PathBuf]) -> JournalLogs {
    JournalLogs::new(JournalLogsOptions::new(paths.to_vec()))
}

fn json_entry(milliseconds: i64, unit: &str, message: serde_json::Value) -> String {
    let entry = json!({
        "__CURSOR": "s=1", "__REALTIME_TIMESTAMP": at(milliseconds).as_microsecond().to_string(),
        "_SYSTEMD_UNIT": unit, "SYSLOG_IDENTIFIER": "ident", "_HOSTNAME": "app-1", "PRIORITY": "3", "MESSAGE": message,
    });
    format!("{entry}\n")
}

/// An entry of the export format; the message in its binary form.
fn export_entry(milliseconds: i64, message: &[u8]) -> Vec<u8> {
    let time = at(milliseconds).as_microsecond();
    let mut entry = format!(
        "__CURSOR=s=1\n__REALTIME_TIMESTAMP={time}\n_SYSTEMD_UNIT=orders.service\nPRIORITY=4\nMESSAGE\n"
    )
    .into_bytes();
    entry.extend((message.len() as u64).to_le_bytes());
    entry.extend(message);
    entry.extend(b"\n_HOSTNAME=app-2\n\n");
    entry
}

#[tokio::test]
async fn both_formats_are_read_together() {
    let folder = TempDir::new().unwrap();
    let json = [
        json_entry(-1, "orders.service", json!("too early")),
        json_entry(1, "orders.service", json!("first")),
        json_entry(3, "", json!([98, 255, 121])),
        json_entry(4, "init.scope", json!(null)),
    ];
    let json = written(&folder, "a.json", json.concat());
    let export = [export_entry(2, b"two\nlines \xff"), export_entry(700_000, b"too late")].concat();
    let export = written(&folder, "a.export", export);
    let lines = ask(&source(&[json, export]), &query()).await.unwrap();
    assert_eq!(messages(&lines), ["first", "two\nlines \u{fffd}", "b\u{fffd}y", ""]);
    let said: Vec<[&str; 3]> =
        lines.lines.iter().map(|line| [&*line.level, &*line.service, &*line.instance]).collect();
    assert_eq!(
        said[..3],
        [["error", "orders", "app-1"], ["warn", "orders", "app-2"], ["error", "ident", "app-1"]]
    );
    assert!(!lines.truncated);
}

#[tokio::test]
async fn what_is_cut_begins_with_a_whole_entry() {
    let folder = TempDir::new().unwrap();
    // A message that looks like an entry must not be taken for one where it can be told.
    let export: Vec<u8> =
        (0..500).flat_map(|index| export_entry(index, format!("line {index}").as_bytes())).collect();
    let path = written(&folder, "a.export", &export);
    let options = JournalLogsOptions { file_bytes_max: 5_000, ..JournalLogsOptions::new(vec![path]) };
    let lines = JournalLogs::new(options.clone()).lines(&query(), &context()).await.unwrap();
    assert!(lines.truncated && (20..60).contains(&lines.lines.len()), "{}", lines.lines.len());
    assert!(lines.lines.iter().all(|line| line.message.starts_with("line ")));
    assert_eq!(messages(&lines).last(), Some(&"line 499"));
    let recent = LogQuery { from: at(495), ..query() };
    assert!(!JournalLogs::new(options).lines(&recent, &context()).await.unwrap().truncated);
}

#[tokio::test]
async fn files_that_are_no_export_are_told() {
    let folder = TempDir::new().unwrap();
    let endless = [b"__CURSOR=1\nMESSAGE\n".as_slice(), &[255; 8], b"abc\n"].concat();
    for (name, content) in [
        ("text", b"Mar 01 09:00:00 host unit[1]: words\n\nmore".to_vec()),
        ("binary", vec![0, 159, 146, 150, 10, 10]),
        ("endless", endless),
        ("json", b"{\"half\": ".to_vec()),
    ] {
        let path = written(&folder, name, content);
        let answer = ask(&source(&[path]), &query()).await;
        match answer {
            Err(SourceError::Unreachable { why, .. }) => {
                assert!(why.contains("journalctl -o"), "{name}: {why}")
            }
            Ok(lines) => assert!(lines.lines.is_empty(), "{name}"),
            Err(error) => panic!("{name}: {error}"),
        }
    }
    let missing = folder.path().join("missing");
    assert!(ask(&source(std::slice::from_ref(&missing)), &query()).await.is_err());
    let empty = written(&folder, "empty", "");
    let lines = ask(&source(&[missing, empty]), &query()).await.unwrap();
    assert!(lines.lines.is_empty() && lines.truncated && lines.query.contains("cannot read"));
}

#[tokio::test]
async fn a_line_of_a_megabyte_is_cut() {
    let folder = TempDir::new().unwrap();
    let entries =
        [json_entry(1, "a.service", json!("m".repeat(1 << 20))), json_entry(2, "a.service", json!("after"))];
    let path = written(&folder, "a.json", entries.concat());
    let lines = ask(&source(&[path]), &query()).await.unwrap();
    assert_eq!((lines.lines[0].message.len(), lines.lines[1].message.as_str()), (2_000, "after"));
}
