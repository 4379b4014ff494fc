//! Prometheus as a source of alerts: what its rules hold just now, and what is needed to understand that.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use quell_incident::alert::Labels;
use quell_tool::CallContext;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::duration;
use crate::http::{Access, answered, fetch, parse};
use crate::source::SourceError;

/// One answer at the most, in bytes.
const BODY_BYTES_MAX: usize = 32 << 20;
/// The longest time that a rule waits, as far as it is looked at, in seconds: ten years.
const SECONDS_MAX: f64 = 10.0 * 365.0 * 86_400.0;

/// An alert of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleAlert {
    /// Its labels, without the external ones; telemetry's text.
    pub labels: Labels,
    /// Its annotations; telemetry's text.
    pub annotations: Labels,
    /// Since when its expression holds, which is before it fires where the rule has a `for`.
    pub active_at: Timestamp,
    /// Whether it fires; otherwise it is pending.
    pub firing: bool,
}

/// What an alerting rule waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RuleTimes {
    /// Its `for`: how long the expression holds before the alert fires.
    pub hold: SignedDuration,
    /// How often its group is evaluated.
    pub interval: SignedDuration,
}

/// What of Prometheus' configuration changes the alerts on their way to Alertmanager.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlertConfig {
    /// Labels that are added where an alert has none of that name.
    pub external_labels: Labels,
    /// Whether labels are rewritten before they are sent (`alert_relabel_configs`): then what is sent cannot be computed here.
    pub relabels: bool,
    /// How often rules are evaluated where their group does not say.
    pub evaluation_interval: SignedDuration,
}

/// Reads Prometheus' API, version 1.
#[derive(Clone)]
pub struct PrometheusClient {
    access: Access,
}

#[derive(Deserialize)]
struct Envelope<T> {
    status: String,
    #[serde(default)]
    error: Option<String>,
    #[serde(default = "Option::default")]
    data: Option<T>,
}

#[derive(Deserialize)]
struct Alerts {
    alerts: Option<Vec<WireAlert>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireAlert {
    #[serde(default)]
    labels: Labels,
    #[serde(default)]
    annotations: Option<Labels>,
    state: String,
    active_at: Timestamp,
}

#[derive(Deserialize)]
struct Rules {
    groups: Option<Vec<Group>>,
}

#[derive(Deserialize)]
struct Group {
    #[serde(default)]
    interval: f64,
    rules: Option<Vec<Rule>>,
}

#[derive(Deserialize)]
struct Rule {
    name: String,
    #[serde(default)]
    duration: f64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RuntimeInfo {
    start_time: Timestamp,
}

#[derive(Deserialize)]
struct ConfigText {
    yaml: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct File {
    global: Option<Global>,
    alerting: Option<Alerting>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Global {
    external_labels: Option<BTreeMap<String, String>>,
    evaluation_interval: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Alerting {
    alert_relabel_configs: Option<Vec<Relabel>>,
}

#[derive(Deserialize)]
struct Relabel {}

impl PrometheusClient {
    /// A client of the Prometheus at that address.
    pub fn new(access: Access) -> Self {
        Self { access }
    }

    /// The page on which people see its alerts.
    pub fn alerts_page(&self) -> String {
        let mut url = match self.access.url("alerts") {
            Ok(url) => url,
            Err(_) => return String::new(),
        };
        // Neither can fail for an address with a host.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url.into()
    }

    /// Every alert, pending or firing.
    ///
    /// # Errors
    /// [`SourceError`]: then nothing is known, and no alert may be taken for cleared.
    pub async fn alerts(&self, context: &CallContext) -> Result<Vec<RuleAlert>, SourceError> {
        let data: Alerts = self.get("api/v1/alerts", context).await?;
        let alerts =
            data.alerts.ok_or_else(|| SourceError::Malformed { why: "it has no alerts".to_owned() })?;
        let alert = |alert: WireAlert| RuleAlert {
            firing: alert.state == "firing",
            labels: alert.labels,
            annotations: alert.annotations.unwrap_or_default(),
            active_at: alert.active_at,
        };
        Ok(alerts.into_iter().map(alert).collect())
    }

    /// The times of the alerting rules by their names; the longest where several have one name.
    ///
    /// # Errors
    /// [`SourceError`]
    pub async fn rules(&self, context: &CallContext) -> Result<BTreeMap<String, RuleTimes>, SourceError> {
        let data: Rules = self.get("api/v1/rules?type=alert", context).await?;
        let mut rules: BTreeMap<String, RuleTimes> = BTreeMap::new();
        for group in data.groups.into_iter().flatten() {
            for rule in group.rules.into_iter().flatten() {
                let times = rules.entry(rule.name).or_default();
                times.hold = times.hold.max(seconds(rule.duration));
                times.interval = times.interval.max(seconds(group.interval));
            }
        }
        Ok(rules)
    }

    /// Since when it runs.
    ///
    /// # Errors
    /// [`SourceError`]
    pub async fn started_at(&self, context: &CallContext) -> Result<Timestamp, SourceError> {
        let info: RuntimeInfo = self.get("api/v1/status/runtimeinfo", context).await?;
        Ok(info.start_time)
    }

    /// What its configuration does to alerts that it sends.
    ///
    /// # Errors
    /// [`SourceError`]
    pub async fn alert_config(&self, context: &CallContext) -> Result<AlertConfig, SourceError> {
        let text: ConfigText = self.get("api/v1/status/config", context).await?;
        let malformed = |why: String| SourceError::Malformed { why: format!("its configuration: {why}") };
        let file: Option<File> =
            serde_saphyr::from_str(&text.yaml).map_err(|error| malformed(error.to_string()))?;
        let file = file.unwrap_or_default();
        let global = file.global.unwrap_or_default();
        let interval =
            global.evaluation_interval.as_deref().map_or(Some(SignedDuration::from_mins(1)), duration::parse);
        Ok(AlertConfig {
            external_labels: global.external_labels.into_iter().flatten().collect(),
            relabels: file
                .alerting
                .and_then(|alerting| alerting.alert_relabel_configs)
                .is_some_and(|configs| !configs.is_empty()),
            evaluation_interval: interval
                .ok_or_else(|| malformed("evaluation_interval is no duration".to_owned()))?,
        })
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, context: &CallContext) -> Result<T, SourceError> {
        let request = self.access.get(self.access.url(path)?);
        let (status, body) = fetch(request, BODY_BYTES_MAX, context.remaining()).await?;
        if !status.is_success() {
            return Err(answered(status, &body));
        }
        let envelope: Envelope<T> = parse(&body)?;
        if envelope.status != "success" {
            let why = envelope.error.unwrap_or_else(|| "no reason was given".to_owned());
            return Err(answered(status, why.as_bytes()));
        }
        envelope.data.ok_or_else(|| SourceError::Malformed { why: "it has no data".to_owned() })
    }
}

fn seconds(number: f64) -> SignedDuration {
    let number = if number.is_finite() { number.clamp(0.0, SECONDS_MAX) } else { 0.0 };
    SignedDuration::from_millis((number * 1_000.0) as i64)
}
