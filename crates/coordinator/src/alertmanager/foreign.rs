//! Payloads of other tools, told from each other by the names of their fields: whoever entered our address in another tool is to read
//! which tool it was and what to set there.

use serde_json::Value;

/// What it is, and what to do.
type Told = (&'static str, &'static str);

const BY_PROMETHEUS: &str = "send the alerts by an Alertmanager's or Grafana's webhook";
/// For a sender that can write a payload of its own.
const OWN_PAYLOAD: &str = "let it write a payload of its own, \
    `{\"alerts\": [{\"status\": \"firing\", \"labels\": {\"alertname\": \"...\"}}]}`";
const NOT_AN_ALERT: &str = "it is no alert; send the alerts by an Alertmanager's or Grafana's webhook";

/// Fields that all have to be there, and whose they are then. The first that fits counts: those with more to tell them by stand first.
/// `a/b` is the field `b` within `a`.
const TOOLS: &[(&[&str], Told)] = &[
    (
        &["SubscribeURL", "TopicArn"],
        (
            "Amazon SNS's request to confirm a subscription, an Amazon SNS envelope",
            "open its `SubscribeURL` once, and turn raw message delivery on for this subscription, so that the alerts come without an envelope",
        ),
    ),
    (&["TopicArn"], ("an Amazon SNS envelope", SNS)),
    (&["Type", "MessageId"], ("an Amazon SNS envelope", SNS)),
    (&["AlarmName"], ("a CloudWatch alarm", BY_PROMETHEUS)),
    (&["AlarmArn"], ("a CloudWatch alarm", BY_PROMETHEUS)),
    (&["detail-type", "source"], ("an Amazon EventBridge event, as of a CloudWatch alarm", OWN_PAYLOAD)),
    (&["specversion"], ("a CloudEvents envelope", "send what is in it")),
    (&["evalMatches"], ("the form of Grafana's legacy alerting", GRAFANA)),
    (&["ruleUrl"], ("the form of Grafana's legacy alerting", GRAFANA)),
    (&["incident/policy_name"], ("a notification of Google Cloud Monitoring", BY_PROMETHEUS)),
    (&["incident/condition_name"], ("a notification of Google Cloud Monitoring", BY_PROMETHEUS)),
    (&["event/event_type", "event/data"], ("a PagerDuty webhook (v3)", PAGERDUTY)),
    (&["routing_key", "event_action"], ("an event for PagerDuty's Events API", PAGERDUTY)),
    (&["service_key", "event_type"], ("an event for PagerDuty's Events API", PAGERDUTY)),
    (&["messages/0/event"], ("a PagerDuty webhook (v2)", PAGERDUTY)),
    (&["alert/alertId", "action"], ("an Opsgenie webhook", OPSGENIE)),
    (&["alert/tinyId"], ("an Opsgenie webhook", OPSGENIE)),
    (&["integrationId", "integrationName"], ("an Opsgenie webhook", OPSGENIE)),
    (&["installation", "actor", "data"], ("a Sentry webhook", SENTRY)),
    (&["data/issue", "action"], ("a Sentry webhook", SENTRY)),
    (&["data/event", "data/triggered_rule"], ("a Sentry webhook", SENTRY)),
    (&["project_name", "culprit"], ("a Sentry webhook (legacy)", SENTRY)),
    (&["issueUrl"], ("a New Relic notification", OWN_PAYLOAD)),
    (&["condition_name", "policy_name"], ("a New Relic notification (legacy)", OWN_PAYLOAD)),
    (&["impactedEntities"], ("a New Relic notification", OWN_PAYLOAD)),
    (&["heartbeat", "monitor"], ("an Uptime Kuma notification", OWN_PAYLOAD)),
    (&["event_type", "alert_type"], ("a Datadog event", OWN_PAYLOAD)),
    (&["event_type", "last_updated"], ("a Datadog event", OWN_PAYLOAD)),
    (&["event_type", "org"], ("a Datadog event", OWN_PAYLOAD)),
    (&["alert_transition"], ("a Datadog event", OWN_PAYLOAD)),
    (&["alert_id", "alert_metric"], ("a Datadog event", OWN_PAYLOAD)),
    (&["ProblemID", "ProblemTitle"], ("a Dynatrace problem", OWN_PAYLOAD)),
    (&["check_id", "current_state"], ("a Pingdom alert", BY_PROMETHEUS)),
    (&["search_name", "results_link"], ("a Splunk alert", BY_PROMETHEUS)),
    (&["event_definition_id"], ("a Graylog event", OWN_PAYLOAD)),
    (&["message_type", "entity_id"], ("an event for Splunk On-Call (VictorOps)", BY_PROMETHEUS)),
    (&["alert_group_id", "alert_payload"], ("a Grafana OnCall webhook", GRAFANA)),
    (&["attachments", "channel"], ("a Slack message", SLACK)),
    (&["@type", "@context"], ("a Microsoft Teams message card", SLACK)),
    (&["attachments/0/contentType"], ("a Microsoft Teams message", SLACK)),
    (&["attachments"], ("a Slack message", SLACK)),
    (&["challenge", "token"], ("a request of Slack to verify an address", SLACK)),
    (&["embeds"], ("a Discord message", SLACK)),
    (&["object_kind"], ("a GitLab webhook", NOT_AN_ALERT)),
    (&["repository", "sender"], ("a GitHub webhook", NOT_AN_ALERT)),
    (&["resourceMetrics"], ("OpenTelemetry data", NOT_AN_ALERT)),
    (&["resourceLogs"], ("OpenTelemetry data", NOT_AN_ALERT)),
    (&["streams"], ("log lines for Loki", NOT_AN_ALERT)),
];

const SNS: &str = "turn raw message delivery on for this subscription, so that the alerts come without it";
const GRAFANA: &str = "use a webhook contact point of Grafana's own alerting";
const PAGERDUTY: &str =
    "send the alerts from where PagerDuty has them, by an Alertmanager's or Grafana's webhook";
const OPSGENIE: &str =
    "send the alerts from where Opsgenie has them, by an Alertmanager's or Grafana's webhook";
const SENTRY: &str = "post the alert as `{\"labels\": {\"alertname\": \"...\"}}` to `/webhook/alert`, by a script between the two";
const SLACK: &str = "it is made for people's chat; choose the sender's webhook in the form of Alertmanager";

/// What a body is that has no list of alerts, when that can be told.
pub(super) fn looks_like(value: &Value) -> Option<Told> {
    if let Value::Array(items) = value {
        let of_the_api = items.iter().any(|item| item.get("labels").is_some());
        let what = if of_the_api {
            "a list; it has the form of Alertmanager's API (`/api/v2/alerts`)"
        } else {
            "a list"
        };
        return Some((what, "a webhook payload is an object with the list `alerts`"));
    }
    let fields = value.as_object()?;
    let schema = fields.get("schemaId").and_then(Value::as_str).unwrap_or_default().to_ascii_lowercase();
    if schema.starts_with("azuremonitorcommon") {
        return Some(("Azure Monitor's common alert schema", BY_PROMETHEUS));
    } else if schema.starts_with("azuremonitor") || schema.starts_with("microsoft.insights") {
        return Some(("an alert of Azure Monitor in its older schema", BY_PROMETHEUS));
    }
    let tool = TOOLS.iter().find(|(names, _)| names.iter().all(|name| at(value, name).is_some()));
    if let Some((_, told)) = tool {
        return Some(*told);
    }
    let zabbix = |name: &String| {
        let name = name.to_ascii_lowercase();
        name.starts_with("zabbix")
            || matches!(
                name.as_str(),
                "triggerid"
                    | "trigger_id"
                    | "eventid"
                    | "event_nseverity"
                    | "event_update_status"
                    | "trigger_severity"
            )
    };
    let text = |name: &str| fields.get(name).is_some_and(Value::is_string);
    Some(match () {
        () if fields.keys().any(zabbix) => ("a Zabbix event", OWN_PAYLOAD),
        () if fields.get("incident").is_some_and(Value::is_object) => {
            ("a notification of Google Cloud Monitoring, or of another tool for incidents", BY_PROMETHEUS)
        }
        () if text("status") && fields.get("data").is_some() => {
            ("an answer of Prometheus' or Alertmanager's API", BY_PROMETHEUS)
        }
        () if fields.contains_key("kind") && fields.contains_key("apiVersion") => {
            ("a Kubernetes object", NOT_AN_ALERT)
        }
        () if fields.contains_key("event") => ("an event of another incident tool", BY_PROMETHEUS),
        () if text("text") || fields.contains_key("blocks") => ("a Slack message", SLACK),
        () => return None,
    })
}

/// A field, also one within another.
fn at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('/').try_fold(value, |value, name| match name.parse::<usize>() {
        Ok(index) => value.get(index),
        Err(_) => value.get(name),
    })
}

/// The names of the fields that came instead, a few of them.
pub(super) fn names(value: &Value) -> String {
    const NAMES_MAX: usize = 5;
    let Some(fields) = value.as_object().filter(|fields| !fields.is_empty()) else { return String::new() };
    let mut names: Vec<String> = fields
        .keys()
        .take(NAMES_MAX)
        .map(|name| format!("`{}`", name.chars().take(40).collect::<String>()))
        .collect();
    if fields.len() > NAMES_MAX {
        names.push(format!("{} more", fields.len() - NAMES_MAX));
    }
    format!("; it has {}", names.join(", "))
}
