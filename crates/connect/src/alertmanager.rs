//! Alertmanager: what it holds of an alert just now.

use std::collections::BTreeMap;

use jiff::Timestamp;
use quell_incident::alert::{AlertKey, Labels};
use quell_tool::CallContext;
use serde::Deserialize;

use crate::http::{Access, answered, fetch, parse};
use crate::source::SourceError;

/// The answer of Alertmanager at the most, in bytes: about 50,000 alerts.
const BODY_BYTES_MAX: usize = 64 << 20;
/// Silences and inhibiting alerts named for one alert at the most.
const BY_MAX: usize = 20;

/// What Alertmanager holds of an alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AlertState {
    /// It fires and people are told.
    Firing,
    /// It fires and nobody is told.
    Suppressed {
        /// `silence <id>` or `alert <fingerprint>`.
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
    /// When this episode began.
    pub starts_at: Timestamp,
    /// Firing or suppressed.
    pub state: AlertState,
}

/// Reads `/api/v2/alerts`.
#[derive(Clone)]
pub struct AlertmanagerClient {
    access: Access,
}

#[derive(Deserialize)]
struct WireAlert {
    fingerprint: String,
    #[serde(default)]
    labels: Labels,
    #[serde(rename = "startsAt")]
    starts_at: Timestamp,
    status: WireStatus,
}

#[derive(Deserialize)]
struct WireStatus {
    state: String,
    #[serde(default, rename = "silencedBy")]
    silenced_by: Option<Vec<String>>,
    #[serde(default, rename = "inhibitedBy")]
    inhibited_by: Option<Vec<String>>,
    // Since 0.28: muted by a time interval of the route.
    #[serde(default, rename = "mutedBy")]
    muted_by: Option<Vec<String>>,
}

impl AlertmanagerClient {
    /// A client of the Alertmanager at that address.
    pub fn new(access: Access) -> Self {
        Self { access }
    }

    /// Every alert that is held, also the silenced and inhibited ones.
    ///
    /// # Errors
    /// [`SourceError`]: then nothing is known, and no alert may be taken for cleared.
    pub async fn alerts(&self, context: &CallContext) -> Result<Vec<HeldAlert>, SourceError> {
        let url = self.access.url("api/v2/alerts")?;
        let request =
            self.access.get(url).query(&[("active", "true"), ("silenced", "true"), ("inhibited", "true")]);
        let (status, body) = fetch(request, BODY_BYTES_MAX, context.remaining()).await?;
        if !status.is_success() {
            return Err(answered(status, &body));
        }
        let alerts: Vec<WireAlert> = parse(&body)?;
        Ok(alerts
            .into_iter()
            .map(|alert| HeldAlert {
                state: state(&alert.status),
                fingerprint: alert.fingerprint,
                labels: alert.labels,
                starts_at: alert.starts_at,
            })
            .collect())
    }

    /// The state of each of these alerts, in their order.
    ///
    /// # Errors
    /// As [`AlertmanagerClient::alerts`].
    pub async fn states(
        &self,
        keys: &[AlertKey],
        context: &CallContext,
    ) -> Result<Vec<(AlertKey, AlertState)>, SourceError> {
        let held: BTreeMap<String, AlertState> =
            self.alerts(context).await?.into_iter().map(|alert| (alert.fingerprint, alert.state)).collect();
        let state =
            |key: &AlertKey| held.get(key.fingerprint.as_str()).cloned().unwrap_or(AlertState::Cleared);
        Ok(keys.iter().map(|key| (key.clone(), state(key))).collect())
    }
}

fn state(status: &WireStatus) -> AlertState {
    let named = |kind: &'static str, ids: &Option<Vec<String>>| {
        ids.iter()
            .flatten()
            .map(move |id| format!("{kind} {}", id.chars().take(64).collect::<String>()))
            .collect()
    };
    let by: Vec<String> = [
        named("silence", &status.silenced_by),
        named("alert", &status.inhibited_by),
        named("interval", &status.muted_by),
    ]
    .into_iter()
    .flat_map(|ids: Vec<String>| ids)
    .take(BY_MAX)
    .collect();
    // `unprocessed` is an alert that was just received: it fires, and who is told is not decided yet.
    if status.state == "suppressed" || !by.is_empty() {
        AlertState::Suppressed { by }
    } else {
        AlertState::Firing
    }
}
