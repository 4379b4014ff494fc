//! What the diagnostic agent asks, beyond the systems of the site by their addresses.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema::Optional;
use super::values::{BaseUrl, Period, Secret, optional};

/// A dependency and how it says that it is well.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HealthCheckEntry {
    /// Its name, which is a service's.
    pub name: String,
    /// The address that is asked for its health.
    pub url: BaseUrl,
    /// The HTTP status of a healthy answer.
    #[serde(default = "healthy_status")]
    pub expected_status: u16,
    /// How long an answer may take.
    #[serde(default = "health_timeout")]
    pub timeout: Period,
    /// A bearer token, if it wants one.
    #[serde(default, deserialize_with = "optional", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Optional<Secret>")]
    pub token: Option<Secret>,
}

fn healthy_status() -> u16 {
    200
}

fn health_timeout() -> Period {
    Period::seconds(5)
}

/// A language model that reads the finished evidence, behind an endpoint like OpenAI's; off without an address.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LanguageModelSettings {
    /// The base address, such as `https://host/v1`.
    #[serde(deserialize_with = "optional")]
    #[schemars(with = "Optional<BaseUrl>")]
    pub url: Option<BaseUrl>,
    /// The model's name at that endpoint; needed where `url` is set.
    pub model: String,
    /// The key, if it wants one.
    #[serde(deserialize_with = "optional", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Optional<Secret>")]
    pub api_key: Option<Secret>,
    /// How long a diagnosis waits for it.
    pub timeout: Period,
    /// How many questions it may be asked in an hour.
    pub questions_per_hour: u32,
    /// How many tokens an answer has at the most.
    pub answer_tokens: u32,
}

impl Default for LanguageModelSettings {
    fn default() -> Self {
        Self {
            url: None,
            model: String::new(),
            api_key: None,
            timeout: Period::seconds(20),
            questions_per_hour: 20,
            answer_tokens: 800,
        }
    }
}

/// Where each kind of evidence comes from. What is left out follows `use_real_data`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SourceChoices {
    /// Where metrics come from.
    pub metrics: Option<SourceChoice>,
    /// Where logs come from.
    pub logs: Option<SourceChoice>,
}

/// The simulator, or the configured systems.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SourceChoice {
    /// The simulated infrastructure.
    Simulator,
    /// The systems that are configured.
    Configured,
}

/// Where the parts of a line stand in a structured record; of each list the first name that a record has counts. An empty list stands
/// for the usual names.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogFields {
    /// The names of the time at which a line was written.
    pub time: Vec<String>,
    /// The names of its message.
    pub message: Vec<String>,
    /// The names of its level.
    pub level: Vec<String>,
    /// The names of the service that wrote it.
    pub service: Vec<String>,
    /// The names of the host, instance or pod that wrote it.
    pub instance: Vec<String>,
}

impl LogFields {
    /// Whether the usual names count everywhere.
    pub fn is_usual(&self) -> bool {
        *self == Self::default()
    }
}
