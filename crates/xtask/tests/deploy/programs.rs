//! The programs of the project, asked what they know.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::root;

pub(crate) const NAMES: [&str; 5] =
    ["quell", "quell-coordinator", "quell-diagnostic", "quell-resolution", "quell-simulator"];

/// Where a program is. Cargo builds them if need be, so that it is never one of yesterday.
pub(crate) fn find(name: &str) -> PathBuf {
    static BUILT: OnceLock<BTreeMap<String, PathBuf>> = OnceLock::new();
    BUILT.get_or_init(build)[name].clone()
}

fn build() -> BTreeMap<String, PathBuf> {
    let mut command = Command::new(env!("CARGO"));
    command.args(["build", "--message-format=json"]).current_dir(root());
    for name in NAMES {
        command.args(["--bin", name]);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    let messages = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let built = messages.filter_map(|message| {
        let file = message["executable"].as_str()?;
        Some((message["target"]["name"].as_str()?.to_owned(), PathBuf::from(file)))
    });
    built.collect()
}

fn output(name: &str, arguments: &[&str], config: Option<&Path>) -> String {
    let mut command = Command::new(find(name));
    // No variable of this machine, and no quell.yaml of this folder.
    command
        .env_clear()
        .env("QUELL_DATA_DIR", "/nowhere")
        .current_dir(root().join("deploy/grafana"))
        .args(arguments);
    if let Some(config) = config {
        command.arg("--config").arg(config);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// In one line: where it is broken is a matter of the terminal.
pub(crate) fn help(name: &str) -> String {
    output(name, &["--help"], None).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A daemon's configuration as it would take effect.
pub(crate) fn effective(name: &str, config: Option<&Path>) -> String {
    output(name, &["--check"], config)
}

/// The ports that a configuration listens on.
pub(crate) fn ports_of(config: &Value) -> BTreeSet<u16> {
    ports_by_daemon(config).into_values().flatten().collect()
}

fn ports_by_daemon(config: &Value) -> BTreeMap<String, Vec<u16>> {
    let port = |setting: &Value| setting.as_str().unwrap().parse::<SocketAddr>().unwrap().port();
    let coordinator = &config["coordinator"];
    BTreeMap::from([
        ("coordinator".to_owned(), vec![port(&coordinator["listen"]), port(&coordinator["grpc_listen"])]),
        ("diagnostic".to_owned(), vec![port(&config["diagnostic"]["listen"])]),
        ("resolution".to_owned(), vec![port(&config["resolution"]["listen"])]),
    ])
}

/// Where everything listens when nobody says otherwise, as the programs say themselves.
pub(crate) fn default_ports() -> BTreeMap<String, Vec<u16>> {
    let mut ports = ports_by_daemon(&crate::yaml(&effective("quell-coordinator", None)));
    let help = help("quell-simulator");
    let option = help.split("--metrics-port").nth(1).unwrap();
    let default = option.split("[default:").nth(1).unwrap().split(']').next().unwrap();
    let first: u16 = default.trim().parse().unwrap();
    ports.insert("simulator".to_owned(), vec![first, first + 1, first + 2]);
    ports
}

/// A daemon with its defaults, in a folder of its own; killed when dropped.
pub(crate) struct Running {
    child: Child,
    addresses: Value,
    _folder: tempfile::TempDir,
}

impl Running {
    pub(crate) fn start(name: &str, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("addresses.json");
        let mut child = Command::new(find(name))
            .args(arguments)
            .arg("--address-file")
            .arg(&file)
            .env_clear()
            .env("QUELL_DATA_DIR", folder.path())
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let started = Instant::now();
        while !file.exists() {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("{name} ended: {status}");
            }
            if started.elapsed() > Duration::from_secs(60) {
                let _ = child.kill();
                panic!("{name} does not listen");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let addresses = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        Self { child, addresses, _folder: folder }
    }

    pub(crate) fn address(&self, name: &str) -> SocketAddr {
        self.addresses["addresses"][name].as_str().unwrap().parse().unwrap()
    }

    /// The status that a POST to its HTTP port is answered with.
    pub(crate) fn post(&self, path: &str, body: &str) -> u16 {
        let mut stream = TcpStream::connect(self.address("http")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let request = format!(
            "POST {path} HTTP/1.0\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split(' ').nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
