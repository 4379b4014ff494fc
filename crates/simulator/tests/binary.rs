//! The binary: its addresses, its signals, its exit codes.

#![allow(clippy::unwrap_used, reason = "helpers outside test functions may fail like tests")]

use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

fn simulator(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quell-simulator"));
    for name in ["SIMULATOR_LISTEN", "SIMULATOR_TICK", "SIMULATOR_TOKEN", "METRICS_PORT", "RUST_LOG"] {
        command.env_remove(name);
    }
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn finish(mut child: Child) -> Output {
    let deadline = Instant::now() + Duration::from_secs(20);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("the simulator did not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().unwrap()
}

#[test]
fn it_listens_says_so_and_ends_by_a_signal() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("addresses.json");
    let arguments = ["--metrics-port", "0", "--tick", "50ms", "--address-file", file.to_str().unwrap()];
    for signal in ["-TERM", "-INT"] {
        let child = simulator(&arguments).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while !file.exists() {
            assert!(Instant::now() < deadline, "no addresses were written");
            std::thread::sleep(Duration::from_millis(5));
        }
        let addresses: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        std::fs::remove_file(&file).unwrap();
        assert!(Command::new("kill").arg(signal).arg(child.id().to_string()).status().unwrap().success());
        let output = finish(child);
        assert_eq!(output.status.code(), Some(0), "{signal}");
        let lines = String::from_utf8(output.stderr).unwrap();
        let said: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let listening = said.iter().filter(|line| line["message"] == "listening");
        let listening: Vec<_> = listening.map(|line| line["address"].clone()).collect();
        assert_eq!(Value::from(listening), addresses["addresses"]);
    }
}

#[test]
fn what_cannot_start_exits_with_a_reason() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let cases: [(&[&str], i32, &str); 4] = [
        (&["--metrics-port", &port], 1, "--metrics-port"),
        (&["--metrics-port", "0", "--listen", "0.0.0.0"], 1, "SIMULATOR_TOKEN"),
        (&["--tick", "soon"], 2, "--tick"),
        (&["--log", "=="], 2, "--log"),
    ];
    for (arguments, code, reason) in cases {
        let output = finish(simulator(arguments).spawn().unwrap());
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(reason), "{arguments:?}: {said}");
    }
}

#[test]
fn help_ends_with_examples() {
    let output = finish(simulator(&["--help"]).spawn().unwrap());
    let help = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0));
    let (_, examples) = help.split_once("Examples:").unwrap();
    assert!(examples.contains("quell-simulator") && !examples.contains("Options:"));
}
