//! Sources that cost next to nothing: what the real simulator answered during a fault, from memory.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::START_WITHIN;
use crate::child::Process;
use crate::http;
use crate::interrupt::Interrupt;

/// A fault whose cause can be told from one look, so that a source that stands still is enough.
const SCENARIO: &str = "disk_full";
const TARGET: &str = "storage-node-01";
/// How long it writes log lines before it is recorded.
const LASTS: Duration = Duration::from_secs(3);

/// Answers by path.
pub(super) type Recorded = BTreeMap<String, String>;

/// Lets the real simulator run through the fault, and takes down what it answers.
pub(super) fn record(
    binaries: &BTreeMap<String, PathBuf>,
    folder: &Path,
    interrupt: &Interrupt,
) -> Result<Recorded> {
    let file = folder.join("recorded.json");
    let arguments = ["--metrics-port", "0", "--tick", "200ms", "--address-file", &file.display().to_string()]
        .map(str::to_owned);
    let mut simulator = Process::start("quell-simulator", &binaries["quell-simulator"], &arguments, folder)?;
    let text = simulator
        .wait_for("address file", START_WITHIN, interrupt, || std::fs::read_to_string(&file).ok())?;
    let addresses: Value = serde_json::from_str(&text)?;
    let address = |index: usize| -> Result<SocketAddr> {
        Ok(addresses["addresses"][index]
            .as_str()
            .context("the simulator names too few addresses")?
            .parse()?)
    };
    let control = address(0)?;
    http::json(control, "POST", &format!("/trigger/{SCENARIO}"), None)?;
    interrupt.pause(LASTS)?;
    let mut recorded = Recorded::new();
    for index in 0..3 {
        let page = http::request(address(index)?, "GET", "/metrics", None)?;
        recorded.insert(format!("/metrics/{index}"), page.body);
    }
    for path in ["/logs".to_owned(), format!("/targets/{TARGET}")] {
        recorded.insert(path.clone(), http::json(control, "GET", &path, None)?.to_string());
    }
    Ok(recorded)
}

/// Answers until it is dropped; its threads end with their connections.
pub(super) struct Server {
    pub(super) address: SocketAddr,
}

/// Serves what was recorded, to any number of connections.
pub(super) fn serve(recorded: Recorded) -> Result<Server> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no free port on 127.0.0.1")?;
    let server = Server { address: listener.local_addr()? };
    let recorded = Arc::new(recorded);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let recorded = Arc::clone(&recorded);
            std::thread::spawn(move || answer(&stream, &recorded));
        }
    });
    Ok(server)
}

/// Answers one request after another until the other side has enough. Only GET comes, so nothing has a body.
fn answer(stream: &TcpStream, recorded: &Recorded) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut lines = BufReader::new(stream).lines();
    loop {
        let request = lines.next()?.ok()?;
        while !lines.next()?.ok()?.is_empty() {}
        let path = request.split(' ').nth(1)?.split('?').next()?;
        let (status, body) = match recorded.get(path) {
            Some(body) => ("200 OK", body.as_str()),
            None => ("404 Not Found", ""),
        };
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len());
        let mut out = stream;
        out.write_all([head.as_bytes(), body.as_bytes()].concat().as_slice()).ok()?;
    }
}
