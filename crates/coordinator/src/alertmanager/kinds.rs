//! Kinds of payloads that senders post, each with what is right for it.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use AlertStatus::{Firing, Resolved};
use serde_json::{Value, json};

use super::*;

const NOW: &str = "2026-11-20T18:00:00Z";
const PAST: &str = "2026-11-20T17:00:00Z";
const FUTURE: &str = "2026-11-20T19:00:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn read(body: &[u8], bare: bool) -> Result<Payload, String> {
    parse(body, &SourceName::declared("am").unwrap(), bare, now())
}

fn with(field: &str, value: Value) -> Value {
    let mut alert = json!({"labels": {"alertname": "A"}});
    alert[field] = value;
    alert
}

/// A payload in which an odd alert stands between two usual ones.
fn between(alert: Value) -> Payload {
    let usual = |name: &str| json!({"status": "firing", "labels": {"alertname": name}, "startsAt": PAST});
    let body = json!({"version": "4", "groupKey": "{}", "alerts": [usual("First"), alert, usual("Last")]});
    read(body.to_string().as_bytes(), false).unwrap()
}

#[test]
fn odd_beginnings() {
    for (value, expected) in [
        (json!(""), NOW),
        (json!("  "), NOW),
        (json!(null), NOW),
        (json!(0), NOW),
        (json!("0"), NOW),
        (json!("0001-01-01T00:00:00Z"), NOW),
        (json!("0001-01-01T00:00:00+00:00"), NOW),
        (json!("0000-00-00 00:00:00"), NOW),
        (json!(-62_135_596_800_i64), NOW),
        (json!("<no value>"), NOW),
        (json!("NaN"), NOW),
        (json!({}), NOW),
        (json!("9999-12-31T23:59:59Z"), NOW),
        (json!("9999-12-31T23:59:59.9999999+00:00"), NOW),
        (json!("2026-11-20T19:00:00Z"), NOW),
        (json!(1_795_194_000), PAST),
        (json!(1_795_194_000.0), PAST),
        (json!(1_795_194_000_000_i64), PAST),
        (json!(1_795_194_000_000_000_i64), PAST),
        (json!(1_795_194_000_000_000_000_i64), PAST),
        (json!("1795194000"), PAST),
        (json!("1795194000000"), PAST),
        (json!("1.795194e+09"), PAST),
        (json!("Fri, 20 Nov 2026 17:00:00 GMT"), PAST),
        (json!("Fri, 20 Nov 2026 18:00:00 +0100"), PAST),
        (json!("20 Nov 2026 17:00:00 +0000"), PAST),
        (json!("2026-11-20 17:00:00"), PAST),
        (json!("2026-11-20T17:00:00"), PAST),
        (json!("2026.11.20 17:00:00"), PAST),
        (json!("2026-11-20 17:00:00 +0000 UTC"), PAST),
        (json!("2026-11-20T18:00:00+0100"), PAST),
        (json!({"seconds": 1_795_194_000, "nanos": 0}), PAST),
    ] {
        let payload = between(with("startsAt", value.clone()));
        assert!(payload.rejected.is_empty(), "{value}: {:?}", payload.rejected);
        assert_eq!(payload.alerts[1].starts_at.to_string(), expected, "{value}");
    }
    // What is no time at all loses its own alert, by name, and no other.
    for value in [json!("yesterday"), json!(5), json!([1]), json!("2026-02-31T00:00:00Z"), json!(true)] {
        let payload = between(with("startsAt", value.clone()));
        assert_eq!((payload.alerts.len(), payload.rejected[0].index), (2, 1), "{value}");
        assert!(payload.rejected[0].why.contains("`startsAt`"), "{value}: {}", payload.rejected[0].why);
    }
}

#[test]
fn odd_statuses() {
    for (value, expected) in [
        (json!({"state": "firing"}), Firing),
        (json!({"state": "active", "silencedBy": [], "inhibitedBy": []}), Firing),
        (json!({"state": "suppressed", "silencedBy": ["x"]}), Firing),
        (json!({"state": "resolved"}), Resolved),
        (json!({"status": "Resolved"}), Resolved),
        (json!("FIRING"), Firing),
        (json!("RESOLVED"), Resolved),
        (json!(" resolved "), Resolved),
        (json!(true), Firing),
        (json!(false), Resolved),
        (json!("true"), Firing),
        (json!("OK"), Resolved),
        (json!("Normal"), Resolved),
        (json!("Alerting"), Firing),
        (json!("ALARM"), Firing),
        (json!(null), Firing),
        (json!(""), Firing),
    ] {
        let payload = between(with("status", value.clone()));
        assert_eq!(payload.alerts[1].status, expected, "{value}");
        let whole = json!({"status": value, "alerts": [{"labels": {"alertname": "A"}}]});
        let payload = read(whole.to_string().as_bytes(), false).unwrap();
        assert_eq!(payload.alerts[0].status, expected, "for all: {value}");
    }
    for (ends_at, expected) in [
        (json!(PAST), Resolved),
        (json!(FUTURE), Firing),
        (json!(1_795_194_000), Resolved),
        (json!("9999-12-31T23:59:59Z"), Firing),
        (json!("0001-01-01T00:00:00Z"), Firing),
        (json!(""), Firing),
    ] {
        assert_eq!(between(with("endsAt", ends_at.clone())).alerts[1].status, expected, "{ends_at}");
    }
    for value in [json!("pending"), json!(1), json!([]), json!({"a": 1}), json!("on")] {
        let payload = between(with("status", value.clone()));
        assert!(payload.rejected[0].why.starts_with("unknown status"), "{value}: {:?}", payload.rejected);
    }
}

/// .NET and Java write the last day of the year 9999 for an end that there is not.
#[test]
fn an_end_that_never_comes_is_none() {
    for ends_at in
        ["9999-12-31T23:59:59Z", "9999-12-31T23:59:59.9999999Z", "+1000000000-12-31T23:59:59.999999999Z"]
    {
        for (own, expected) in
            [(json!("firing"), Firing), (json!(null), Firing), (json!("resolved"), Resolved)]
        {
            let alert = json!({"status": own, "labels": {"alertname": "E1"}, "endsAt": ends_at});
            let read = &between(alert).alerts[1];
            assert_eq!((read.status, read.ends_at), (expected, None), "{ends_at}");
        }
    }
}

#[test]
fn bodies_that_are_not_quite_json() {
    let alert = r#"{"labels": {"alertname": "A"}, "annotations": {"value": "1"}}"#;
    for body in [
        r#"{"alerts": [{"labels": {"alertname": "A"}, "annotations": {"value": NaN}}]}"#.to_owned(),
        r#"{"alerts": [{"labels": {"alertname": "A"}, "annotations": {"value": 1}, "values": {"B": -Infinity}}]}"#.to_owned(),
        r#"{"alerts": [{"labels": {"alertname": "A"}, "annotations": {"value": +Inf}, "startsAt": NaN}]}"#.to_owned(),
        r#"{"alerts": [{"labels": {"alertname": "A"}, "annotations": {"value": 1e999}}]}"#.to_owned(),
        format!(r#"{{"alerts": [{alert},]}}"#),
        format!(r#"{{"alerts": [{alert}],}}"#),
        format!("{{\"alerts\": [{alert}]}}\0"),
        format!("\u{feff}{{\"alerts\": [{alert}]}}"),
        format!("\r\n {{\"alerts\": [{alert}]}} \r\n"),
        "{\"alerts\": [{\"labels\": {\"alertname\": \"A\"}, \"annotations\": {\"value\": \"a\nb\"}}]}".to_owned(),
        r#"{"alerts": [{"labels": {"alertname": "A"}, "annotations": {"value": "\d+"}}]}"#.to_owned(),
        format!(r#"payload={{"alerts": [{alert}]}}"#),
        "payload=%7B%22alerts%22%3A+%5B%7B%22labels%22%3A+%7B%22alertname%22%3A+%22A%22%7D%2C%22annotations%22%3A%7B%22value%22%3A1%7D%7D%5D%7D".to_owned(),
        json!(format!(r#"{{"alerts": [{alert}]}}"#)).to_string(),
    ] {
        let payload = read(body.as_bytes(), false).unwrap_or_else(|why| panic!("{body}: {why}"));
        assert_eq!((payload.alerts.len(), payload.rejected.len()), (1, 0), "{body}");
        assert_eq!(payload.alerts[0].name(), "A", "{body}");
        assert!(payload.alerts[0].annotations.get("value").is_some(), "{body}");
    }
    let body = format!(r#"{{"alerts": [{alert}]}}"#);
    for utf16 in [u16::to_le_bytes as fn(u16) -> [u8; 2], u16::to_be_bytes] {
        for text in [body.clone(), format!("\u{feff}{body}")] {
            let bytes: Vec<u8> = text.encode_utf16().flat_map(utf16).collect();
            assert_eq!(read(&bytes, false).unwrap().alerts.len(), 1, "{text}");
        }
    }
    for (body, said) in [
        (format!("{body}\n{body}\n"), "send each in a request of its own"),
        (format!("{body} trailing"), "where `t` stands"),
        (r#"{"alerts": [{"labels": {"alertname": A}}]}"#.to_owned(), "byte 37, where `A` stands"),
        (r#"{'alerts': []}"#.to_owned(), "byte 1, where `'` stands"),
        (r#"{"alerts": [{"labels": "#.to_owned(), "where its 23 bytes end"),
        (String::new(), "it is empty"),
        ("a=b&c=d".to_owned(), "a form"),
        ("<alerts/>".to_owned(), "XML"),
    ] {
        let why = read(body.as_bytes(), false).unwrap_err();
        assert!(why.starts_with("the body is not JSON") && why.contains(said), "{body}: {why}");
    }
}

#[test]
fn a_list_of_none() {
    for body in [
        json!({"alerts": null}),
        json!({"version": "4", "status": "firing", "groupKey": "{}", "receiver": "quell", "alerts": null}),
        json!({"alerts": []}),
        json!({"alerts": null, "labels": null}),
        json!({"alerts": null, "commonLabels": {}, "externalURL": "http://am.example:9093", "truncatedAlerts": 0}),
    ] {
        let payload = read(body.to_string().as_bytes(), false).unwrap();
        assert_eq!((payload.alerts.len(), payload.rejected.len()), (0, 0), "{body}");
    }
    // One alert with an empty list beside it is no empty list: it would be lost in silence.
    let one = json!({"labels": {"alertname": "A"}, "alerts": null}).to_string();
    assert!(is_bare(one.as_bytes()));
    assert_eq!(read(one.as_bytes(), true).unwrap().alerts.len(), 1);
    assert!(read(one.as_bytes(), false).unwrap_err().contains("/webhook/alert"));
    for body in [
        json!({}),
        json!({"version": "4"}),
        json!({"alerts": {}}),
        json!({"alerts": "none"}),
        json!({"Alerts": []}),
    ] {
        assert!(read(body.to_string().as_bytes(), false).unwrap_err().contains("no `alerts`"), "{body}");
    }
    let unknown = json!({"a": 1, "b": 2, "c": 3, "d": 4, "e": 5, "f": 6}).to_string();
    assert!(read(unknown.as_bytes(), false).unwrap_err().ends_with("it has `a`, `b`, `c`, `d`, `e`, 1 more"));
}

#[test]
fn what_other_tools_send_is_called_by_its_name() {
    for (name, body) in [
        (
            "Datadog",
            json!({"body": "x", "last_updated": "1", "event_type": "metric_alert_monitor", "title": "[Triggered] CPU", "date": "1", "org": {"id": "1", "name": "o"}, "id": "1"}),
        ),
        ("Datadog", json!({"id": "1", "title": "t", "alert_transition": "Triggered", "alert_type": "error"})),
        (
            "PagerDuty",
            json!({"event": {"id": "01", "event_type": "incident.triggered", "resource_type": "incident", "data": {"id": "P", "status": "triggered"}}}),
        ),
        ("PagerDuty", json!({"messages": [{"event": "incident.trigger", "incident": {}}]})),
        ("PagerDuty", json!({"routing_key": "r", "event_action": "trigger", "payload": {"summary": "s"}})),
        (
            "Opsgenie",
            json!({"action": "Create", "alert": {"alertId": "1", "message": "m"}, "source": {}, "integrationName": "w"}),
        ),
        (
            "Sentry",
            json!({"action": "triggered", "installation": {"uuid": "u"}, "data": {"event": {}, "triggered_rule": "r"}, "actor": {}}),
        ),
        ("Sentry", json!({"project": "p", "project_name": "p", "culprit": "c", "url": "u", "event": {}})),
        (
            "New Relic",
            json!({"id": "1", "issueUrl": "https://x", "title": "t", "priority": "HIGH", "state": "ACTIVATED"}),
        ),
        (
            "New Relic",
            json!({"account_id": 1, "condition_name": "c", "policy_name": "p", "current_state": "open"}),
        ),
        (
            "raw message delivery",
            json!({"Type": "Notification", "MessageId": "1", "TopicArn": "arn:aws:sns:x", "Message": "{\"AlarmName\": \"x\"}"}),
        ),
        (
            "open its `SubscribeURL`",
            json!({"Type": "SubscriptionConfirmation", "TopicArn": "arn:aws:sns:x", "SubscribeURL": "https://sns", "Token": "t"}),
        ),
        ("CloudWatch", json!({"AlarmName": "x", "NewStateValue": "ALARM"})),
        (
            "EventBridge",
            json!({"version": "0", "source": "aws.cloudwatch", "detail-type": "CloudWatch Alarm State Change", "detail": {}}),
        ),
        (
            "Azure Monitor's common",
            json!({"schemaId": "azureMonitorCommonAlertSchema", "data": {"essentials": {}}}),
        ),
        ("Azure Monitor", json!({"schemaId": "Microsoft.Insights/activityLogs", "data": {}})),
        ("Azure Monitor", json!({"schemaId": "AzureMonitorMetricAlert", "data": {}})),
        (
            "Google Cloud",
            json!({"version": "1.2", "incident": {"incident_id": "1", "policy_name": "p", "state": "open"}}),
        ),
        (
            "Zabbix",
            json!({"event_id": "1", "trigger_id": "2", "event_name": "n", "event_value": "1", "host": "h"}),
        ),
        ("Zabbix", json!({"zabbix_url": "https://z", "subject": "s"})),
        ("Uptime Kuma", json!({"heartbeat": {"status": 0}, "monitor": {"name": "m"}, "msg": "down"})),
        ("Uptime Kuma", json!({"heartbeat": null, "monitor": null, "msg": "test"})),
        ("Slack", json!({"text": "hello"})),
        ("Slack", json!({"channel": "#a", "attachments": [{"color": "danger"}]})),
        ("Slack", json!({"token": "t", "challenge": "c", "type": "url_verification"})),
        (
            "Microsoft Teams",
            json!({"@type": "MessageCard", "@context": "https://schema.org/extensions", "text": "t"}),
        ),
        (
            "Microsoft Teams",
            json!({"type": "message", "attachments": [{"contentType": "application/vnd.microsoft.card.adaptive"}]}),
        ),
        ("Discord", json!({"content": "c", "embeds": []})),
        ("legacy alerting", json!({"ruleName": "x", "evalMatches": [], "state": "alerting"})),
        ("Dynatrace", json!({"ProblemID": "1", "ProblemTitle": "t", "State": "OPEN"})),
        (
            "Pingdom",
            json!({"check_id": 1, "check_name": "c", "current_state": "DOWN", "previous_state": "UP"}),
        ),
        ("Splunk", json!({"sid": "s", "search_name": "n", "results_link": "l", "result": {}})),
        ("Graylog", json!({"event_definition_id": "1", "event": {}, "backlog": []})),
        ("API", json!({"status": "success", "data": {"alerts": []}})),
        ("`/api/v2/alerts`", json!([{"labels": {"alertname": "A"}, "startsAt": PAST}])),
        ("CloudEvents", json!({"specversion": "1.0", "type": "t", "data": {"alerts": []}})),
        ("GitHub", json!({"action": "opened", "repository": {}, "sender": {}})),
        ("Kubernetes", json!({"kind": "Event", "apiVersion": "v1", "reason": "BackOff"})),
        ("Datadog", json!({"event_type": "x", "org": {}, "alerts": null})),
    ] {
        for bare in [false, true] {
            let why = read(body.to_string().as_bytes(), bare).unwrap_err();
            assert!(why.contains("looks like") && why.contains(name) && why.contains("; "), "{body}: {why}");
            assert!(!is_bare(body.to_string().as_bytes()), "{body}");
        }
    }
}

/// What senders of the form itself write: versions of Alertmanager and Grafana, vmalert, Mimir, templates.
#[test]
fn payloads_of_the_form_itself() {
    let alert = json!({"status": "firing", "labels": {"alertname": "A", "instance": "a:1"}, "annotations": {}, "startsAt": PAST, "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "http://p/graph", "fingerprint": "0f"});
    let mut grafana = alert.clone();
    grafana["values"] = json!({"A": 1.5, "B": null});
    grafana["valueString"] = json!("[ var='A' ]");
    grafana["silenceURL"] = json!("http://g/silence");
    grafana["imageURL"] = json!("http://g/i.png");
    let mut no_data = grafana.clone();
    no_data["values"] = json!(null);
    for (what, body) in [
        (
            "Alertmanager 0.20",
            json!({"version": "4", "receiver": "q", "status": "firing", "groupKey": "{}", "alerts": [alert]}),
        ),
        (
            "Alertmanager 0.33",
            json!({"version": "4", "receiver": "q", "status": "firing", "groupKey": "{}", "truncatedAlerts": 0, "notificationReason": "x", "alerts": [alert]}),
        ),
        (
            "Grafana 8",
            json!({"version": "1", "orgId": 1, "state": "alerting", "title": "t", "message": "m", "status": "firing", "alerts": [grafana]}),
        ),
        (
            "Grafana 12",
            json!({"version": "1", "orgId": 1, "state": "alerting", "status": "firing", "appVersion": "12.0", "extra": null, "alerts": [no_data]}),
        ),
        (
            "Mimir",
            json!({"version": "4", "status": "firing", "groupKey": "{}", "externalURL": "http://m/alertmanager", "alerts": [alert]}),
        ),
        (
            "labels of Slack's words beside the list",
            json!({"text": "t", "event": {}, "incident": {}, "alerts": [alert]}),
        ),
        (
            "an API's alert",
            json!({"alerts": [{"status": {"state": "active"}, "labels": {"alertname": "A"}, "startsAt": PAST, "updatedAt": PAST, "receivers": [{"name": "q"}], "fingerprint": "0f"}]}),
        ),
        (
            "numbers for texts",
            json!({"version": 4, "groupKey": 7, "truncatedAlerts": "2", "alerts": [alert]}),
        ),
    ] {
        let payload = read(body.to_string().as_bytes(), false).unwrap_or_else(|why| panic!("{what}: {why}"));
        assert_eq!((payload.alerts.len(), payload.rejected.len()), (1, 0), "{what}");
        let read = &payload.alerts[0];
        assert_eq!((read.status, read.key.fingerprint.as_str()), (Firing, "0f"), "{what}");
        assert_eq!(read.starts_at.to_string(), PAST, "{what}");
    }
}
