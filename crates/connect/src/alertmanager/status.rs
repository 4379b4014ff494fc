//! What Alertmanager says of itself: since when it runs, and the parts of its configuration that tell what its silence means.

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::routes::{Routes, WireRoute};
use crate::duration;
use crate::source::SourceError;

/// What Alertmanager assumes where its configuration says nothing.
const RESOLVE_TIMEOUT: SignedDuration = SignedDuration::from_mins(5);

/// What Alertmanager says of itself.
#[derive(Clone, Debug)]
pub struct Status {
    /// Since when this process runs. What it held before is forgotten, but for silences and what it has told whom.
    pub started_at: Timestamp,
    /// How long an alert that says nothing of its end counts as firing after it was last heard of.
    pub resolve_timeout: SignedDuration,
    /// Receivers with a webhook.
    pub webhooks: Vec<WebhookReceiver>,
    /// By which routes alerts go to whom; or why that cannot be read, such as a syntax of a newer version.
    pub routes: Result<Routes, String>,
}

/// A receiver with at least one webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookReceiver {
    /// Its name.
    pub name: String,
    /// Its addresses; newer versions show `<secret>` instead.
    pub urls: Vec<String>,
}

#[derive(Deserialize)]
pub(super) struct Wire {
    // A point in time, whatever its name says.
    uptime: Timestamp,
    config: WireConfig,
}

#[derive(Deserialize)]
struct WireConfig {
    #[serde(default)]
    original: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct File {
    global: Option<Global>,
    receivers: Option<Vec<Receiver>>,
    route: Option<WireRoute>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Global {
    resolve_timeout: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Receiver {
    name: String,
    webhook_configs: Option<Vec<Webhook>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Webhook {
    url: Option<String>,
    url_file: Option<String>,
}

impl Wire {
    pub(super) fn read(self) -> Result<Status, SourceError> {
        let malformed = |why: String| SourceError::Malformed { why: format!("its configuration: {why}") };
        let file: Option<File> =
            serde_saphyr::from_str(&self.config.original).map_err(|error| malformed(error.to_string()))?;
        let file = file.unwrap_or_default();
        let resolve_timeout = match file.global.and_then(|global| global.resolve_timeout) {
            Some(text) => duration::parse(&text)
                .ok_or_else(|| malformed(format!("resolve_timeout `{text}` is no duration")))?,
            None => RESOLVE_TIMEOUT,
        };
        let webhooks = file.receivers.into_iter().flatten().filter_map(|receiver| {
            let urls: Vec<_> = receiver
                .webhook_configs?
                .into_iter()
                .filter_map(|webhook| webhook.url.or_else(|| webhook.url_file.map(|_| "<secret>".to_owned())))
                .collect();
            (!urls.is_empty()).then_some(WebhookReceiver { name: receiver.name, urls })
        });
        let webhooks = webhooks.collect();
        let routes = file.route.ok_or_else(|| "it shows no routes".to_owned()).and_then(Routes::read);
        Ok(Status { started_at: self.uptime, resolve_timeout, webhooks, routes })
    }
}
