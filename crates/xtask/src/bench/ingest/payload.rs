//! The webhooks: as Alertmanager sends them, with labels and annotations of an ordinary length.

use std::fmt::Write as _;

use jiff::{SignedDuration, Timestamp};

/// A webhook of alerts `first..first + count`, which began at `at`. Alert n belongs to group n / `group`.
pub(super) fn payload(first: u64, count: u64, group: u64, at: Timestamp, resolved: bool) -> String {
    let of_group = first / group.max(1);
    let status = if resolved { "resolved" } else { "firing" };
    let ended = (at + SignedDuration::from_secs(1)).to_string();
    let ends_at = if resolved { ended.as_str() } else { "0001-01-01T00:00:00Z" };
    let mut text = String::with_capacity(400 + 700 * count as usize);
    // Writing to a string does not fail.
    let _ = write!(
        text,
        r#"{{"receiver":"incident-response-webhook","status":"{status}","version":"4","groupKey":"{{}}:{{alertname=\"HighLatency\", service=\"service-{of_group}\"}}","truncatedAlerts":0,"groupLabels":{{"alertname":"HighLatency","service":"service-{of_group}"}},"commonLabels":{{"alertname":"HighLatency","service":"service-{of_group}","severity":"warning"}},"commonAnnotations":{{}},"externalURL":"http://127.0.0.1:9093","alerts":["#
    );
    for number in first..first + count {
        let comma = if number == first { "" } else { "," };
        let _ = write!(
            text,
            r#"{comma}{{"status":"{status}","labels":{{"alertname":"HighLatency","component":"http","instance":"node-{number}:9090","job":"app-server","severity":"warning","service":"service-{of_group}"}},"annotations":{{"description":"The 99th percentile of node-{number} has been over one second for five minutes.","summary":"High latency on node-{number}"}},"startsAt":"{at}","endsAt":"{ends_at}","generatorURL":"http://127.0.0.1:9090/graph?g0.expr=histogram_quantile%280.99%29&g0.tab=1","fingerprint":"{number:016x}"}}"#
        );
    }
    text.push_str("]}");
    text
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::payload;

    #[test]
    fn every_alert_has_a_fingerprint_and_the_group_of_its_number() {
        let value: serde_json::Value =
            serde_json::from_str(&payload(40, 20, 30, Timestamp::UNIX_EPOCH, false)).unwrap();
        let alerts = value["alerts"].as_array().unwrap();
        assert_eq!(alerts.len(), 20);
        assert_eq!(alerts[19]["fingerprint"], format!("{:016x}", 59));
        assert_eq!(value["groupLabels"]["service"], "service-1");
    }
}
