//! A real process made of this crate: what it prints, what it leaves, and the code that it ends with.

#![allow(clippy::unwrap_used, reason = "a test may panic; the exemption does not reach its helpers")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(60);

/// `examples/daemon.rs`, which cargo builds along with the tests.
fn daemon(arguments: &[&str]) -> Command {
    let tests: PathBuf = std::env::current_exe().unwrap();
    let program = tests.parent().and_then(|deps| deps.parent()).unwrap().join("examples").join("daemon");
    let mut command = Command::new(program);
    command.args(arguments).env_clear().stdin(Stdio::null()).kill_on_drop(true);
    command
}

async fn output(command: &mut Command) -> Output {
    timeout(DEADLINE, command.output()).await.unwrap().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn check_prints_the_configuration_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("quell.yaml"),
        "tenant: ${TENANT}\nticketing: {jira: {enabled: true, token: hunter2}}\n",
    )
    .unwrap();
    let output = output(
        daemon(&["--check", "--listen", "127.0.0.1:7000"]).current_dir(folder.path()).env("TENANT", "acme"),
    )
    .await;
    assert_eq!(output.status.code(), Some(0));
    let stdout = text(&output.stdout);
    assert!(stdout.starts_with("use_real_data: false\ntenant: acme\n"), "{stdout}");
    assert!(stdout.contains("  listen: 127.0.0.1:7000\n") && !stdout.contains("hunter2"), "{stdout}");
    insta::assert_snapshot!(text(&output.stderr), @"note: `ticketing.jira` is set, but this version of Quell does not use it yet");
}

#[tokio::test]
async fn a_configuration_that_cannot_be_used_ends_with_2() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("quell.yaml"), "diagnostic:\n  listn: x\n").unwrap();
    let refused = output(daemon(&[]).current_dir(folder.path())).await;
    assert_eq!(refused.status.code(), Some(2));
    assert!(refused.stdout.is_empty());
    insta::assert_snapshot!(text(&refused.stderr), @"quell-diagnostic: quell.yaml:2:3: unknown key `listn`; did you mean `listen`?");

    let refused =
        output(daemon(&["--log-level", "quell=loud"]).current_dir(tempfile::tempdir().unwrap().path())).await;
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).starts_with("quell-diagnostic: `quell=loud` is not a log level: "));
    let refused = output(&mut daemon(&["--no-such-flag"])).await;
    assert_eq!(refused.status.code(), Some(2));
}

#[tokio::test]
async fn a_port_in_use_ends_with_3() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = output(&mut daemon(&["--listen", &address, "--log-format", "human"])).await;
    assert_eq!(output.status.code(), Some(3));
    let stderr = text(&output.stderr);
    assert!(stderr.contains("the port is in use; stop what uses it, or set `diagnostic.listen`"), "{stderr}");
    assert!(output.stdout.is_empty());
}

#[tokio::test]
async fn a_daemon_serves_until_a_signal_ends_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("addresses.json");
    let mut child =
        daemon(&["--listen", "127.0.0.1:0", "--address-file", file.to_str().unwrap(), "--log-level", "info"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut messages = Vec::new();
    // Without a terminal every line is JSON.
    while messages.last().is_none_or(|message| message != "listening") {
        let line = timeout(DEADLINE, log.next_line()).await.unwrap().unwrap().unwrap();
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        messages.push(line["message"].as_str().unwrap().to_owned());
    }
    assert_eq!(messages, ["quell-diagnostic", "listening"]);

    let document: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let address: SocketAddr = document["addresses"]["http"].as_str().unwrap().parse().unwrap();
    let mut connection = TcpStream::connect(address).await.unwrap();
    connection.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut page = String::new();
    timeout(DEADLINE, connection.read_to_string(&mut page)).await.unwrap().unwrap();
    assert!(page.contains("quell_build_info{daemon=\"example\""), "{page}");

    let pid = child.id().unwrap().to_string();
    assert!(Command::new("sh").args(["-c", &format!("kill -TERM {pid}")]).status().await.unwrap().success());
    let mut stdout = String::new();
    child.stdout.take().unwrap().read_to_string(&mut stdout).await.unwrap();
    let status = timeout(DEADLINE, child.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(0));
    assert_eq!(stdout, "");
    assert!(!file.exists());
}
