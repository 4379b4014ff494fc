//! Alertmanager's webhook, version 4.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use super::rules::{Labels, Rule};

/// What Alertmanager writes for an alert that has not ended.
const NOT_ENDED: &str = "0001-01-01T00:00:00Z";
const RECEIVER: &str = "incident-response-webhook";
const GROUP_BY: [&str; 3] = ["alertname", "cluster", "service"];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    Firing,
    Resolved,
}

/// An alert that fires, or has just stopped to.
#[derive(Clone, Debug)]
pub(crate) struct Alert {
    pub(crate) rule: &'static Rule,
    pub(crate) labels: Labels,
    pub(crate) annotations: Labels,
    pub(crate) starts_at: Timestamp,
    pub(crate) ends_at: Option<Timestamp>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Payload {
    receiver: &'static str,
    pub(crate) status: Status,
    alerts: Vec<PayloadAlert>,
    group_labels: Labels,
    common_labels: Labels,
    common_annotations: Labels,
    #[serde(rename = "externalURL")]
    external_url: String,
    version: &'static str,
    pub(crate) group_key: String,
    truncated_alerts: u32,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PayloadAlert {
    status: Status,
    labels: Labels,
    annotations: Labels,
    starts_at: Timestamp,
    ends_at: String,
    #[serde(rename = "generatorURL")]
    generator_url: String,
    fingerprint: String,
}

/// The labels that alerts are grouped by, as far as an alert has them.
pub(crate) fn group_labels(labels: &Labels) -> Labels {
    let own = |name: &str| labels.get(name).map(|value| (name.to_owned(), value.clone()));
    GROUP_BY.into_iter().filter_map(own).collect()
}

/// One message for a group, which is not empty. It fires while any of its alerts does.
pub(crate) fn payload(group_labels: Labels, alerts: &[Alert], external_url: &str) -> Payload {
    let status = |alert: &Alert| if alert.ends_at.is_some() { Status::Resolved } else { Status::Firing };
    let firing = alerts.iter().any(|alert| status(alert) == Status::Firing);
    let listed = group_labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect::<Vec<_>>();
    Payload {
        receiver: RECEIVER,
        status: if firing { Status::Firing } else { Status::Resolved },
        alerts: alerts
            .iter()
            .map(|alert| PayloadAlert {
                status: status(alert),
                fingerprint: fingerprint(&alert.labels),
                labels: alert.labels.clone(),
                annotations: alert.annotations.clone(),
                starts_at: alert.starts_at,
                ends_at: alert.ends_at.map_or_else(|| NOT_ENDED.to_owned(), |at| at.to_string()),
                generator_url: format!(
                    "{external_url}/graph?g0.expr={}&g0.tab=1",
                    query(alert.rule.expression)
                ),
            })
            .collect(),
        common_labels: common(alerts.iter().map(|alert| &alert.labels)),
        common_annotations: common(alerts.iter().map(|alert| &alert.annotations)),
        external_url: external_url.to_owned(),
        version: "4",
        group_key: format!("{{}}:{{{}}}", listed.join(", ")),
        group_labels,
        truncated_alerts: 0,
    }
}

fn common<'a>(mut all: impl Iterator<Item = &'a Labels>) -> Labels {
    let mut shared = all.next().cloned().unwrap_or_default();
    for labels in all {
        shared.retain(|name, value| labels.get(name) == Some(value));
    }
    shared
}

/// The identity of a label set as Prometheus computes it: FNV-1a, 64 bits, over the sorted names and values, each
/// followed by a byte that no UTF-8 text contains.
pub(crate) fn fingerprint(labels: &BTreeMap<String, String>) -> String {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for (name, value) in labels {
        for byte in name.bytes().chain([0xff]).chain(value.bytes()).chain([0xff]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    format!("{hash:016x}")
}

/// A text as the value of a query parameter.
fn query(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                encoded.push(char::from(byte))
            }
            b' ' => encoded.push('+'),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    /// Labels and fingerprint were recorded from a real Alertmanager.
    #[test]
    fn fingerprint_is_that_of_prometheus() {
        let recorded = labels(&[
            ("alertname", "HighErrorRatio"),
            ("cluster", "test"),
            ("env", "test"),
            ("instance", "127.0.0.1:19100"),
            ("job", "demo"),
            ("service", "checkout"),
            ("severity", "critical"),
            ("team", "payments"),
        ]);
        assert_eq!(fingerprint(&recorded), "1599681a69b07994");
    }

    #[test]
    fn expressions_are_escaped_as_go_does() {
        assert_eq!(query("demo_error_ratio > 0.05"), "demo_error_ratio+%3E+0.05");
        assert_eq!(query("a{b=\"c\"}[1m]"), "a%7Bb%3D%22c%22%7D%5B1m%5D");
    }

    #[test]
    fn only_what_all_alerts_share_is_common() {
        let (one, two) = (labels(&[("a", "1"), ("b", "1")]), labels(&[("a", "1"), ("b", "2")]));
        assert_eq!(common([&one, &two].into_iter()), labels(&[("a", "1")]));
        assert_eq!(common(std::iter::empty()), Labels::new());
    }

    #[test]
    fn a_group_has_only_the_labels_that_its_alerts_have() {
        let alert = labels(&[("alertname", "X"), ("service", "s"), ("instance", "i")]);
        assert_eq!(group_labels(&alert), labels(&[("alertname", "X"), ("service", "s")]));
    }
}
