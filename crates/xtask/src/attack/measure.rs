//! How a listener answers meanwhile, and how much memory its program takes.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};

use crate::http;

/// A pause between two requests, so that measuring is no attack of its own.
const PAUSE: Duration = Duration::from_millis(3);

/// What is asked of a listener while it is attacked, each time over a new connection.
#[derive(Clone, Copy)]
pub(super) enum Probe {
    /// One alert; it counts when it is on disk.
    Webhook,
    /// A page that has to be there.
    Page(&'static str),
}

impl Probe {
    fn ask(self, server: SocketAddr, number: usize) -> Result<u16> {
        let answer = match self {
            Self::Webhook => http::request(server, "POST", "/webhooks/alertmanager", Some(&webhook(number)))?,
            Self::Page(path) => http::request(server, "GET", path, None)?,
        };
        Ok(answer.status)
    }
}

fn webhook(number: usize) -> Value {
    // A few alerts that come again and again, as they do in life.
    let labels = json!({
        "alertname": format!("Attack{}", number % 5), "instance": "attacked:1", "component": "attack", "severity": "info"
    });
    json!({
        "version": "4", "groupKey": format!("{{}}:{{alertname=\"Attack{}\"}}", number % 5), "status": "firing",
        "receiver": "quell", "groupLabels": {"alertname": labels["alertname"]}, "commonLabels": labels,
        "commonAnnotations": {}, "externalURL": "http://localhost:9093", "truncatedAlerts": 0,
        "alerts": [{
            "status": "firing", "labels": labels, "annotations": {"summary": "it is attacked"},
            "startsAt": "2026-01-31T12:00:00Z", "endsAt": "0001-01-01T00:00:00Z",
            "generatorURL": "", "fingerprint": format!("{:016x}", number % 5)
        }]
    })
}

/// Answer times, and the memory of whoever answered.
#[derive(Default)]
pub(super) struct Measured {
    sorted: Vec<Duration>,
    /// How many requests were not answered by a success, and why the first one was not.
    pub(super) failed: usize,
    pub(super) failure: Option<String>,
    pub(super) memory_most: u64,
}

impl Measured {
    pub(super) fn count(&self) -> usize {
        self.sorted.len()
    }

    /// The time within which this part of the answers came.
    pub(super) fn quantile(&self, part: f64) -> Duration {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let index = ((self.sorted.len() as f64 * part).ceil() as usize).saturating_sub(1);
        self.sorted.get(index).copied().unwrap_or_default()
    }
}

/// Asks for so long, again and again.
pub(super) fn measure(
    server: SocketAddr,
    probe: Probe,
    time: Duration,
    memory: impl Fn() -> Option<u64>,
) -> Measured {
    let (began, mut measured) = (Instant::now(), Measured::default());
    let mut number = 0;
    while began.elapsed() < time {
        let asked = Instant::now();
        let answer = probe.ask(server, number);
        measured.sorted.push(asked.elapsed());
        let failure = match answer {
            Ok(200..300) => None,
            Ok(status) => Some(format!("it answered {status}")),
            Err(error) => Some(format!("{error:#}")),
        };
        if let Some(failure) = failure {
            measured.failed += 1;
            measured.failure.get_or_insert(failure);
        }
        measured.memory_most = measured.memory_most.max(memory().unwrap_or_default());
        number += 1;
        std::thread::sleep(PAUSE);
    }
    measured.sorted.sort_unstable();
    measured
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_the_time_within_which_that_part_came() {
        let sorted = (1..=200).map(Duration::from_millis).collect();
        let measured = Measured { sorted, ..Measured::default() };
        assert_eq!(measured.quantile(0.5), Duration::from_millis(100));
        assert_eq!(measured.quantile(0.99), Duration::from_millis(198));
        assert_eq!(measured.quantile(1.0), Duration::from_millis(200));
        assert_eq!(Measured::default().quantile(0.99), Duration::ZERO);
    }
}
