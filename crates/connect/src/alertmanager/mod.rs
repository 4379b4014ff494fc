//! Alertmanager: what it holds of alerts and silences just now, and what it is.

mod routes;
mod status;

use std::time::Duration;

use jiff::Timestamp;
use quell_incident::alert::Labels;
use quell_tool::CallContext;
use reqwest::Url;
use serde::Deserialize;
use serde::de::DeserializeOwned;

pub use routes::{Route, Routes};
pub use status::{Status, WebhookReceiver};

use crate::http::{Access, answered, fetch, parse};
use crate::source::SourceError;

/// The list of alerts at the most, in bytes: about 50,000 alerts.
const ALERTS_BYTES_MAX: usize = 64 << 20;
/// The list of silences at the most, in bytes; expired ones are listed for days.
const SILENCES_BYTES_MAX: usize = 16 << 20;
/// The status, which has the configuration in it, at the most, in bytes.
const STATUS_BYTES_MAX: usize = 4 << 20;
/// Silences and inhibiting alerts named for one alert at the most.
const BY_MAX: usize = 20;
/// What stands before the name of a time interval that mutes an alert.
pub const INTERVAL: &str = "interval ";
/// Names that one filter has at the most.
const NAMES_MAX: usize = 20;

/// What Alertmanager holds of an alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AlertState {
    /// It fires and people are told.
    Firing,
    /// It fires and nobody is told.
    Suppressed {
        /// `silence <id>`, `alert <fingerprint>` or `interval <name>`, sorted.
        by: Vec<String>,
    },
    /// Alertmanager does not have it, or no more.
    Cleared,
}

/// One alert that Alertmanager holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldAlert {
    /// Its fingerprint.
    pub fingerprint: String,
    /// Its labels; telemetry's text.
    pub labels: Labels,
    /// Its annotations; telemetry's text.
    pub annotations: Labels,
    /// When this episode began.
    pub starts_at: Timestamp,
    /// Until when it counts as firing if nothing more is heard of it; in the past: it has ended.
    pub ends_at: Option<Timestamp>,
    /// Where its sender shows its rule.
    pub generator_url: Option<String>,
    /// The receivers that it is routed to.
    pub receivers: Vec<String>,
    /// Firing or suppressed.
    pub state: AlertState,
    /// Whether Alertmanager has looked at it at all since it was received.
    pub processed: bool,
}

/// An alert as it stands in one group of notifications: by each route that it takes it is in one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grouped {
    /// Its fingerprint.
    pub fingerprint: String,
    /// Who is told of the group.
    pub receiver: String,
    /// The time intervals that keep the route quiet, as of the last time that the group was due to be told. Empty: none does. `None`:
    /// this Alertmanager does not say, as those before 0.28.
    pub muted_by: Option<Vec<String>>,
}

/// A silence that is in force. What people wrote is text like telemetry's: it is shown, bounded, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silence {
    /// Its id.
    pub id: String,
    /// Who made it, as they said.
    pub created_by: String,
    /// Why, as they said.
    pub comment: String,
    /// When it ends.
    pub ends_at: Timestamp,
}

/// Reads Alertmanager's API, version 2.
#[derive(Clone)]
pub struct AlertmanagerClient {
    access: Access,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireAlert {
    fingerprint: String,
    #[serde(default)]
    labels: Labels,
    #[serde(default)]
    annotations: Option<Labels>,
    starts_at: Timestamp,
    #[serde(default)]
    ends_at: Option<Timestamp>,
    #[serde(default)]
    updated_at: Option<Timestamp>,
    #[serde(default, rename = "generatorURL")]
    generator_url: Option<String>,
    #[serde(default)]
    receivers: Option<Vec<WireReceiver>>,
    status: WireStatus,
}

#[derive(Deserialize)]
struct WireReceiver {
    name: String,
}

#[derive(Deserialize)]
struct WireStatus {
    state: String,
    #[serde(default, rename = "silencedBy")]
    silenced_by: Option<Vec<String>>,
    #[serde(default, rename = "inhibitedBy")]
    inhibited_by: Option<Vec<String>>,
    // Since 0.28: muted by a time interval of the route. Only groups have it; in the list of alerts it stays empty.
    #[serde(default, rename = "mutedBy")]
    muted_by: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct WireGroup {
    receiver: WireReceiver,
    #[serde(default)]
    alerts: Option<Vec<WireGrouped>>,
}

#[derive(Deserialize)]
struct WireGrouped {
    fingerprint: String,
    status: WireStatus,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireSilence {
    id: String,
    status: WireSilenceStatus,
    #[serde(default)]
    created_by: String,
    #[serde(default)]
    comment: String,
    ends_at: Timestamp,
}

#[derive(Deserialize)]
struct WireSilenceStatus {
    state: String,
}

impl AlertmanagerClient {
    /// A client of the Alertmanager at that address.
    pub fn new(access: Access) -> Self {
        Self { access }
    }

    /// Its host and port, for people and for the label of a metric.
    pub fn place(&self) -> String {
        self.access.place()
    }

    /// Every alert that is held, also the silenced and inhibited ones.
    ///
    /// # Errors
    /// [`SourceError`]: then nothing is known, and no alert may be taken for cleared.
    pub async fn alerts(&self, context: &CallContext) -> Result<Vec<HeldAlert>, SourceError> {
        self.alerts_named(&[], context).await
    }

    /// The same of alerts with one of these names, or of all without names. The names have to be [plain](is_plain), and few.
    ///
    /// # Errors
    /// As [`AlertmanagerClient::alerts`]; [`SourceError::Invalid`] for names that are not plain or too many.
    pub async fn alerts_named(
        &self,
        names: &[&str],
        context: &CallContext,
    ) -> Result<Vec<HeldAlert>, SourceError> {
        let request = self.access.get(self.access.url("api/v2/alerts")?).query(&question(names)?);
        let alerts: Vec<WireAlert> = get(request, ALERTS_BYTES_MAX, context.remaining()).await?;
        Ok(alerts.into_iter().map(held).collect())
    }

    /// In which groups alerts with one of these names stand, or all without names. Only here it shows which are muted by time intervals:
    /// the list of alerts leaves that empty. What was not dispatched yet stands in none.
    ///
    /// # Errors
    /// As [`AlertmanagerClient::alerts_named`].
    pub async fn groups_named(
        &self,
        names: &[&str],
        context: &CallContext,
    ) -> Result<Vec<Grouped>, SourceError> {
        let mut query = question(names)?;
        // Versions that do not know it leave it alone.
        query.push(("muted", "true".to_owned()));
        let request = self.access.get(self.access.url("api/v2/alerts/groups")?).query(&query);
        let groups: Vec<WireGroup> = get(request, ALERTS_BYTES_MAX, context.remaining()).await?;
        let grouped = groups.into_iter().flat_map(|WireGroup { receiver, alerts }| {
            alerts.into_iter().flatten().map(move |alert| Grouped {
                fingerprint: alert.fingerprint,
                receiver: receiver.name.clone(),
                muted_by: alert.status.muted_by,
            })
        });
        Ok(grouped.collect())
    }

    /// The silences in force.
    ///
    /// # Errors
    /// [`SourceError`]
    pub async fn silences(&self, context: &CallContext) -> Result<Vec<Silence>, SourceError> {
        let request = self.access.get(self.access.url("api/v2/silences")?);
        let silences: Vec<WireSilence> = get(request, SILENCES_BYTES_MAX, context.remaining()).await?;
        let active = silences.into_iter().filter(|silence| silence.status.state == "active");
        Ok(active
            .map(|silence| Silence {
                id: silence.id,
                created_by: silence.created_by,
                comment: silence.comment,
                ends_at: silence.ends_at,
            })
            .collect())
    }

    /// Since when it runs, and what of its configuration matters to those who compare with it.
    ///
    /// # Errors
    /// [`SourceError`]
    pub async fn status(&self, context: &CallContext) -> Result<Status, SourceError> {
        let request = self.access.get(self.access.url("api/v2/status")?);
        let status: status::Wire = get(request, STATUS_BYTES_MAX, context.remaining()).await?;
        status.read()
    }
}

impl Access {
    /// Host and port, without anything that could be a secret.
    pub(crate) fn place(&self) -> String {
        let url = self.url("").ok();
        url.as_ref().and_then(place_of).unwrap_or_default()
    }
}

fn place_of(url: &Url) -> Option<String> {
    let host = url.host_str()?;
    Some(url.port_or_known_default().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}

/// What is asked of alerts with one of these names, or of all: also those that nobody is told of.
fn question(names: &[&str]) -> Result<Vec<(&'static str, String)>, SourceError> {
    let mut query: Vec<_> =
        ["active", "silenced", "inhibited"].into_iter().map(|kind| (kind, "true".to_owned())).collect();
    if !names.is_empty() {
        if names.len() > NAMES_MAX || !names.iter().all(|name| is_plain(name)) {
            let why = format!("a filter takes at most {NAMES_MAX} names of letters, digits and `_`");
            return Err(SourceError::Invalid { why });
        }
        query.push(("filter", format!("alertname=~\"{}\"", names.join("|"))));
    }
    Ok(query)
}

/// Whether an alert's name can be in a filter as it is. Names come from telemetry, and in a filter anything else would have a meaning.
pub fn is_plain(name: &str) -> bool {
    (1..=200).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// The JSON of an answer.
async fn get<T: DeserializeOwned>(
    request: reqwest::RequestBuilder,
    bytes_max: usize,
    within: Duration,
) -> Result<T, SourceError> {
    let (status, body) = fetch(request, bytes_max, within).await?;
    if status.is_success() { parse(&body) } else { Err(answered(status, &body)) }
}

fn held(alert: WireAlert) -> HeldAlert {
    HeldAlert {
        state: state(&alert.status),
        processed: alert.status.state != "unprocessed",
        fingerprint: alert.fingerprint,
        labels: alert.labels,
        annotations: alert.annotations.unwrap_or_default(),
        // To an alert that is posted with an end and no start Alertmanager gives its end as its start, which is still to come.
        starts_at: alert.updated_at.map_or(alert.starts_at, |updated_at| alert.starts_at.min(updated_at)),
        ends_at: alert.ends_at,
        generator_url: alert.generator_url,
        receivers: alert.receivers.into_iter().flatten().map(|receiver| receiver.name).collect(),
    }
}

fn state(status: &WireStatus) -> AlertState {
    let named = |kind: &'static str, ids: &Option<Vec<String>>| {
        let mut named: Vec<_> = ids
            .iter()
            .flatten()
            .map(|id| format!("{kind}{}", id.chars().take(64).collect::<String>()))
            .collect();
        // Alertmanager's order changes from one answer to the next, and what is said of an alert should not.
        named.sort();
        named
    };
    let by: Vec<String> = [
        named("silence ", &status.silenced_by),
        named("alert ", &status.inhibited_by),
        named(INTERVAL, &status.muted_by),
    ]
    .into_iter()
    .flatten()
    .take(BY_MAX)
    .collect();
    // `unprocessed` is an alert that was just received: it fires, and who is told is not decided yet.
    if status.state == "suppressed" || !by.is_empty() {
        AlertState::Suppressed { by }
    } else {
        AlertState::Firing
    }
}
