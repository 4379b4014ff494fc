//! The attacks, one after another.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::http2::Connection;
use super::measure::Probe;
use super::sockets::{BETWEEN, Ongoing, bodies, come_and_go, drip, open, say};
use super::{Field, Target};
use crate::http;

/// Webhooks while sockets are all that is thrown.
const P99_MAX: Duration = Duration::from_millis(100);
/// Where the attack is work by itself, which has to be done on the same processors.
const P99_AT_WORK_MAX: Duration = Duration::from_secs(1);
/// What drips, or is not read, is cut off in this time.
const CUT_WITHIN: Duration = Duration::from_secs(15);
const DRIPS: usize = 1_000;
const HALF_CALLS: usize = 512;
const STREAMS: usize = 128;
const LARGE_BODY: usize = 10 << 20;
const OVERSIZE_HEAD: usize = 1 << 20;
/// How many answers are asked for and not read.
const UNREAD: usize = 100;
const NO_WINDOW: u32 = 0;
const GET_TASK: &str = "/lf.a2a.v1.A2AService/GetTask";

/// All of them. What falls short is in the rows; an error means that it could not be tried.
pub(super) fn all(field: &mut Field) -> Result<()> {
    let targets = targets(field)?;
    let [webhooks, grpc, ..] = targets;
    field.quiet("nothing", webhooks, P99_MAX)?;
    for target in targets {
        silent(field, target)?;
    }
    dripped(field, webhooks)?;
    half_calls(field, grpc)?;
    come_and_gone(field, webhooks)?;
    resets(field, webhooks)?;
    resets(field, grpc)?;
    unread(field, webhooks)?;
    large(field, webhooks)?;
    foreign(field, webhooks)?;
    field.quiet("nothing any more", webhooks, P99_MAX)
}

fn targets(field: &Field) -> Result<[Target; 5]> {
    let page = Probe::Page("/live");
    let of = |program, port, probe| -> Result<Target> {
        let server = field.site.listener(program, port);
        let server = server.with_context(|| format!("{program} does not say where its {port} is"))?;
        Ok(Target { program, port, server, probe })
    };
    Ok([
        of("quell-coordinator", "http", Probe::Webhook)?,
        of("quell-coordinator", "grpc", page)?,
        of("quell-diagnostic", "grpc", page)?,
        of("quell-resolution", "grpc", page)?,
        of("quell-simulator", "control", page)?,
    ])
}

fn silent(field: &mut Field, target: Target) -> Result<()> {
    let sockets = field.sockets;
    let name = format!("{sockets} silent sockets");
    field.under(&name, target, P99_MAX, |server| open(server, sockets, b""), |_| Vec::new())
}

fn dripped(field: &mut Field, target: Target) -> Result<()> {
    let heads = |server| Ok(drip(open(server, DRIPS, b"GET /api/incidents HTTP/1.1\r\nx: ")?, b'x'));
    field.under("1000 heads, a byte now and then", target, P99_MAX, heads, |drip| cut(&drip, "heads"))?;
    let head =
        b"POST /webhooks/alertmanager HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                 content-length: 100000\r\n\r\n";
    let bodies = |server| Ok(drip(open(server, DRIPS, head)?, b' '));
    field.under("1000 bodies, a byte now and then", target, P99_MAX, bodies, |drip| cut(&drip, "bodies"))
}

/// Waits until none of them is taken any more.
fn cut(drip: &Ongoing, what: &str) -> Vec<String> {
    let began = Instant::now();
    while drip.count() > 0 && began.elapsed() < CUT_WITHIN {
        std::thread::sleep(Duration::from_millis(100));
    }
    match drip.count() {
        0 => Vec::new(),
        left => vec![format!("{left} {what} still drip after {} s", CUT_WITHIN.as_secs())],
    }
}

/// Calls whose message never comes, without an end of the call; and a whole one among them.
fn half_calls(field: &mut Field, target: Target) -> Result<()> {
    let begin = |server| {
        let mut connections = Vec::new();
        for _ in 0..HALF_CALLS / STREAMS {
            let mut connection = Connection::open(server, 1 << 16)?;
            for _ in 0..STREAMS {
                connection.begin_call(GET_TASK)?;
            }
            connections.push(connection);
        }
        Ok(connections)
    };
    let look = |connections: Vec<Connection>| {
        let mut problems = Vec::new();
        if let Err(error) = whole_call(target.server) {
            problems.push(format!("a whole call among them was not answered: {error:#}"));
        }
        let began = Instant::now();
        for connection in connections {
            if !connection.cut_off(STREAMS, CUT_WITHIN.saturating_sub(began.elapsed())) {
                problems.push(format!("calls are still open after {} s", CUT_WITHIN.as_secs()));
            }
        }
        problems
    };
    field.under("512 calls without a message", target, P99_MAX, begin, look)
}

fn whole_call(server: SocketAddr) -> Result<()> {
    let mut connection = Connection::open(server, 1 << 16)?;
    let stream = connection.begin_call(GET_TASK)?;
    // Field 2, the id: `x`.
    connection.end_call(stream, &[0x12, 1, b'x'])?;
    connection.answered(stream)
}

fn come_and_gone(field: &mut Field, target: Target) -> Result<()> {
    let begin = |server| Ok(come_and_go(server));
    field.under("connections made and dropped at once", target, P99_AT_WORK_MAX, begin, |_| Vec::new())
}

/// Streams that are reset as soon as they are begun.
fn resets(field: &mut Field, target: Target) -> Result<()> {
    let begin = |server| {
        Ok(Ongoing::start(move |stop, count| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                std::thread::sleep(BETWEEN);
                let Ok(mut connection) = Connection::open(server, 1 << 16) else { continue };
                let flood = |connection: &mut Connection| -> Result<()> {
                    let stream = connection.begin("GET", "/api/incidents", &[], true)?;
                    connection.reset(stream)
                };
                while !stop.load(std::sync::atomic::Ordering::Relaxed) && flood(&mut connection).is_ok() {
                    count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                }
            }
        }))
    };
    field.under("streams begun and reset at once", target, P99_AT_WORK_MAX, begin, |_| Vec::new())
}

/// Large answers that nobody reads: each on its own connection, and all on one.
fn unread(field: &mut Field, target: Target) -> Result<()> {
    let path = large_incident(target.server)?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {}\r\n\r\n", target.server);
    let begin = |server| open(server, UNREAD, request.as_bytes());
    field.under("100 large answers not read, HTTP/1", target, P99_AT_WORK_MAX, begin, |_| Vec::new())?;
    let begin = |server| {
        let mut connection = Connection::open(server, NO_WINDOW)?;
        for _ in 0..UNREAD {
            connection.begin("GET", &path, &[], true)?;
        }
        Ok(connection)
    };
    let look = |connection: Connection| match connection.cut_off(1, CUT_WITHIN) {
        true => Vec::new(),
        false => vec![format!("none of them is cut off after {} s", CUT_WITHIN.as_secs())],
    };
    field.under("100 large answers not read, HTTP/2", target, P99_AT_WORK_MAX, begin, look)
}

/// Opens an incident that has much to tell, and returns its path.
fn large_incident(server: SocketAddr) -> Result<String> {
    let text = "x".repeat(8 << 10);
    let labels = json!({"alertname": "AttackLarge", "severity": "info"});
    let alerts: Vec<Value> = (0..100)
        .map(|number| {
            json!({
                "status": "firing", "annotations": {"description": text, "summary": "it is large"},
                "labels": {"alertname": "AttackLarge", "severity": "info", "instance": format!("large:{number}")},
                "startsAt": "2026-01-31T12:00:00Z", "endsAt": "0001-01-01T00:00:00Z",
                "generatorURL": "", "fingerprint": format!("{:016x}", 1_000 + number)
            })
        })
        .collect();
    let payload = json!({
        "version": "4", "groupKey": "{}:{alertname=\"AttackLarge\"}", "status": "firing", "receiver": "quell",
        "groupLabels": {"alertname": "AttackLarge"}, "commonLabels": labels, "commonAnnotations": {},
        "externalURL": "http://localhost:9093", "truncatedAlerts": 0, "alerts": alerts
    });
    http::json(server, "POST", "/webhooks/alertmanager", Some(&payload))?;
    let began = Instant::now();
    loop {
        let incidents = http::json(server, "GET", "/api/incidents", None)?;
        let large = incidents.as_array().into_iter().flatten();
        let mut large = large.filter(|incident| incident["alert_name"] == "AttackLarge");
        if let Some(id) = large.find_map(|incident| incident["id"].as_str()) {
            return Ok(format!("/api/incidents/{id}"));
        }
        anyhow::ensure!(began.elapsed() < CUT_WITHIN, "no incident was opened for a webhook");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Bodies as large as they may be, many at the same time; and heads and bodies that are larger.
fn large(field: &mut Field, target: Target) -> Result<()> {
    let begin = |server| Ok(bodies(server, UNREAD, LARGE_BODY));
    let look = |senders: Vec<Ongoing>| {
        let began = Instant::now();
        let answers = || senders.iter().map(Ongoing::count).sum::<usize>();
        while answers() < UNREAD && began.elapsed() < CUT_WITHIN {
            std::thread::sleep(Duration::from_millis(50));
        }
        match answers() {
            UNREAD => Vec::new(),
            answers => vec![format!("{} of {UNREAD} senders got no answer", UNREAD - answers)],
        }
    };
    field.under("100 bodies of 10 MiB at once", target, P99_AT_WORK_MAX, begin, look)?;
    let begin = |server| {
        let head =
            format!("GET /live HTTP/1.1\r\nhost: {server}\r\nx: {}\r\n\r\n", "x".repeat(OVERSIZE_HEAD));
        let body = " ".repeat(LARGE_BODY + 1);
        let body = format!(
            "POST /webhooks/alertmanager HTTP/1.1\r\nhost: {server}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut problems = Vec::new();
        // The end of a connection is an answer as well to a head that does not end.
        if let Some(status) = say(server, head.as_bytes()).filter(|status| *status != 431) {
            problems.push(format!("a head of 1 MiB was answered {status}, expected is 431"));
        }
        match say(server, body.as_bytes()) {
            Some(413) => {}
            status => {
                problems.push(format!("a body beyond the limit was answered {status:?}, expected is 413"))
            }
        }
        Ok(problems)
    };
    field.under("heads and bodies beyond the limits", target, P99_AT_WORK_MAX, begin, |problems| problems)
}

/// What a web page of another origin would send.
fn foreign(field: &mut Field, target: Target) -> Result<()> {
    let begin = |server: SocketAddr| {
        let body = "{\"title\":\"x\",\"severity\":\"low\"}";
        let post = |host: &str, headers: &str| {
            format!(
                "POST /api/incidents HTTP/1.1\r\nhost: {host}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            )
        };
        let json = "content-type: application/json\r\n";
        let own = server.to_string();
        let requests = [
            ("another Host", post("evil.example", json)),
            ("another Origin", post(&own, &format!("{json}origin: http://evil.example\r\n"))),
            ("Sec-Fetch-Site: cross-site", post(&own, &format!("{json}sec-fetch-site: cross-site\r\n"))),
            ("text where JSON is meant", post(&own, "content-type: text/plain\r\n")),
            (
                "reading by another Host",
                "GET /api/incidents HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n".to_owned(),
            ),
        ];
        let answered = requests.map(|(what, request)| (what, say(server, request.as_bytes())));
        let refused = |status: &Option<u16>| status.is_some_and(|status| (400..500).contains(&status));
        let let_in = answered.into_iter().filter(|(_, status)| !refused(status));
        Ok(let_in
            .map(|(what, status)| format!("{what} was answered {status:?}, expected is a 4xx"))
            .collect())
    };
    field.under("requests of another origin", target, P99_MAX, begin, |problems: Vec<String>| problems)
}
