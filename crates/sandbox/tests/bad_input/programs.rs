//! The real programs: what is wrong with a configuration, an address or a data folder, and the exit code that says so.

use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::common::program;

pub(crate) const COORDINATOR: &str = "quell-coordinator";
const DAEMONS: [&str; 3] = [COORDINATOR, "quell-diagnostic", "quell-resolution"];

pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) error: String,
}

fn daemon(name: &str, folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program(name));
    command.args(arguments).current_dir(folder).env_clear().stdin(Stdio::null()).kill_on_drop(true);
    command
}

pub(crate) async fn run(name: &str, folder: &Path, arguments: &[&str]) -> Ran {
    let ran = daemon(name, folder, arguments).output();
    let ran = tokio::time::timeout(Duration::from_secs(10), ran).await;
    let ran = ran.unwrap_or_else(|_| panic!("{name} {arguments:?} goes on")).unwrap();
    Ran {
        code: ran.status.code(),
        out: String::from_utf8(ran.stdout).unwrap(),
        error: String::from_utf8(ran.stderr).unwrap(),
    }
}

#[tokio::test]
async fn a_configuration_that_cannot_be_used_is_told_why() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("quell.yaml");
    for (text, words) in [
        ("coordinator: {listn: 127.0.0.1:0}", vec!["unknown key `listn`", "`listen`", "quell.yaml:1:15"]),
        ("cordinator: {}", vec!["unknown key `cordinator`", "`coordinator`"]),
        ("coordinator:\n  workflow: {setle: 5s}", vec!["unknown key `setle`", "`settle`", "quell.yaml:2:"]),
        ("coordinator: {listen: here}", vec!["here", "127.0.0.1:5000"]),
        ("coordinator: {listen: 127.0.0.1:99999}", vec!["127.0.0.1:99999"]),
        ("coordinator: {workflow: {settle: soon}}", vec!["soon", "5s"]),
        ("coordinator: {workflow: {settle: -5s}}", vec!["-5s"]),
        (
            "coordinator: {workflow: {confidence_min: 7}}",
            vec!["coordinator.workflow.confidence_min", "0 to 1"],
        ),
        ("coordinator: {autonomy: full}", vec!["full", "observe", "auto"]),
        ("coordinator: {body_bytes_max: 10}", vec!["coordinator.body_bytes_max", "1024"]),
        ("coordinator: {diagnostic_url: 'ftp://x'}", vec!["ftp://x", "http://"]),
        ("coordinator: {data_dir: '${NOT_SET_ANYWHERE}'}", vec!["NOT_SET_ANYWHERE", "not set"]),
        ("coordinator: [", vec!["quell.yaml"]),
        ("- a\n- b", vec!["quell.yaml"]),
        ("coordinator: {listen: 0.0.0.0:0}", vec!["coordinator.listen", "coordinator.tokens", "127.0.0.1"]),
        ("coordinator: {grpc_listen: '[::]:0'}", vec!["coordinator.grpc_listen", "coordinator.tokens"]),
        (
            "coordinator: {tokens: [{name: a, token: secret-1, scopes: []}]}",
            vec!["coordinator.tokens[0].scopes", "webhook, read"],
        ),
        (
            "coordinator: {tokens: [{name: a, token: short, scopes: [read]}]}",
            vec!["coordinator.tokens[0].token"],
        ),
        ("coordinator: {tokens: [{name: a, token: secret-1, scopes: [all]}]}", vec!["all", "webhook"]),
        // What only a start used to find.
        (
            "coordinator: {freezes: [{name: nights, starts_at: tomorrow}]}",
            vec!["coordinator.freezes[0]", "nights"],
        ),
        ("coordinator: {diagnostic_url: 'http://127.0.0.1:99999'}", vec!["99999"]),
    ] {
        std::fs::write(&file, text).unwrap();
        let ran = run(COORDINATOR, folder.path(), &["--config", "quell.yaml", "--check"]).await;
        assert_eq!(ran.code, Some(2), "{text}: {} {}", ran.out, ran.error);
        for word in words {
            assert!(ran.error.contains(word), "{text}: {word:?} is not in {:?}", ran.error);
        }
        assert!(!ran.error.contains("secret-1") && !ran.error.contains("panicked"), "{text}: {}", ran.error);
        assert_eq!(ran.out, "", "{text}");
    }
    let ran = run(COORDINATOR, folder.path(), &["--config", "nowhere.yaml", "--check"]).await;
    assert_eq!(ran.code, Some(2), "{}", ran.error);
    assert!(ran.error.contains("nowhere.yaml"), "{}", ran.error);
    std::fs::write(
        &file,
        "coordinator: {alert_mapping_file: missing.yaml, listen: 127.0.0.1:0, grpc_listen: 127.0.0.1:0}",
    )
    .unwrap();
    let ran = run(COORDINATOR, folder.path(), &["--data-dir", "data"]).await;
    assert_eq!(ran.code, Some(2), "{}", ran.error);
    assert!(ran.error.contains("missing.yaml"), "{}", ran.error);
    let ran = run(COORDINATOR, folder.path(), &["--lisen", "127.0.0.1:0"]).await;
    assert_eq!(ran.code, Some(2), "{}", ran.error);
    assert!(ran.error.contains("--listen"), "{}", ran.error);
}

#[tokio::test]
async fn a_sound_configuration_is_shown_without_its_secrets() {
    let folder = TempDir::new().unwrap();
    std::fs::write(
        folder.path().join("quell.yaml"),
        "coordinator: {data_dir: ./d, tokens: [{name: a, token: secret-1, scopes: [read]}], workflow: {settle: 7s}}\nresolution: \
         {data_dir: ./r}\n",
    )
    .unwrap();
    for name in DAEMONS {
        let ran = run(name, folder.path(), &["--check"]).await;
        assert_eq!(ran.code, Some(0), "{name}: {}", ran.error);
        assert!(ran.out.contains("settle: 7s") && ran.out.contains("<hidden>"), "{name}: {}", ran.out);
        assert!(!ran.out.contains("secret-1"), "{name}");
    }
    let left: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["quell.yaml"], "a check makes nothing");
}

#[tokio::test]
async fn an_address_in_use_names_its_setting() {
    let folder = TempDir::new().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let (taken, free) = (taken.local_addr().unwrap().to_string(), taken);
    for (name, arguments, setting) in [
        (COORDINATOR, vec!["--listen", &taken, "--grpc-listen", "127.0.0.1:0"], "coordinator.listen"),
        (COORDINATOR, vec!["--listen", "127.0.0.1:0", "--grpc-listen", &taken], "coordinator.grpc_listen"),
        ("quell-diagnostic", vec!["--listen", &taken], "diagnostic.listen"),
        ("quell-resolution", vec!["--listen", &taken], "resolution.listen"),
    ] {
        let mut arguments = arguments.clone();
        if name != "quell-diagnostic" {
            arguments.extend(["--data-dir", "data"]);
        }
        let ran = run(name, folder.path(), &arguments).await;
        assert_eq!(ran.code, Some(3), "{name} {arguments:?}: {}", ran.error);
        assert!(ran.error.contains(&taken) && ran.error.contains(setting), "{name}: {}", ran.error);
        assert!(ran.error.contains("in use"), "{name}: {}", ran.error);
    }
    drop(free);
}

#[tokio::test]
async fn a_data_folder_in_use_or_unusable_is_named() {
    let folder = TempDir::new().unwrap();
    for (name, listens) in [
        (COORDINATOR, vec!["--listen", "127.0.0.1:0", "--grpc-listen", "127.0.0.1:0"]),
        ("quell-resolution", vec!["--listen", "127.0.0.1:0"]),
    ] {
        let data = folder.path().join(name);
        let data = data.to_str().unwrap();
        let mut arguments = listens.clone();
        arguments.extend(["--data-dir", data, "--log-format", "json"]);
        let mut first = daemon(name, folder.path(), &arguments).stderr(Stdio::piped()).spawn().unwrap();
        // Standard error stays open: a daemon whose log nobody reads would stop at a full pipe.
        let mut log = BufReader::new(first.stderr.take().unwrap()).lines();
        let started = async { while !log.next_line().await.unwrap().unwrap().contains("\"listening\"") {} };
        tokio::time::timeout(Duration::from_secs(10), started).await.unwrap();

        let second = run(name, folder.path(), &arguments).await;
        assert_eq!(second.code, Some(4), "{name}: {}", second.error);
        assert!(second.error.contains(data), "{name} does not name {data}: {}", second.error);
        first.kill().await.unwrap();

        // The lock ends with its process.
        let mut again = arguments.clone();
        let file = folder.path().join(format!("{name}.json"));
        again.extend(["--address-file", file.to_str().unwrap()]);
        let mut third = daemon(name, folder.path(), &again).stderr(Stdio::null()).spawn().unwrap();
        let waited = tokio::time::timeout(Duration::from_secs(10), async {
            while !file.exists() {
                assert_eq!(third.try_wait().unwrap(), None, "{name} ended");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        waited.await.unwrap();
        third.kill().await.unwrap();

        let plain = folder.path().join("plain");
        std::fs::write(&plain, "a file").unwrap();
        let mut wrong = listens.clone();
        wrong.extend(["--data-dir", plain.to_str().unwrap()]);
        let ran = run(name, folder.path(), &wrong).await;
        assert_eq!(ran.code, Some(5), "{name}: {}", ran.error);
        assert!(ran.error.contains(plain.to_str().unwrap()), "{name}: {}", ran.error);
    }
}
