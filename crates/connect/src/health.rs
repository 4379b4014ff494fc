//! How dependencies are: one request to each, and whether the answer has the expected status. The tool `health-check`.
//!
//! A check is asked once and always: repeating it would hide just what it is to find.

use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use jiff::Timestamp;
use quell_incident::surroundings::{HealthCheck, HealthSet};
use quell_tool::{CallContext, Effect, ReadTool, ToolError, ToolSpec, parse_input};
use reqwest::{Client, StatusCode, Url};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::http::{shown, unreachable};
use crate::source::{Now, SourceError};

/// Dependencies at the most.
const TARGETS_MAX: usize = 200;
const CHECKS_AT_ONCE: usize = 16;

/// A dependency and how it says that it is well.
#[derive(Clone, Debug)]
pub struct HealthTarget {
    /// Its name, which is a service's.
    pub name: String,
    /// What is asked.
    pub url: String,
    /// The status of a healthy answer.
    pub expected_status: u16,
    /// How long an answer may take.
    pub timeout: Duration,
    /// A bearer token, if it wants one.
    pub token: Option<SecretString>,
}

/// Checks over HTTP, and the tool that makes them.
pub struct HealthChecks {
    client: Client,
    targets: Vec<Target>,
    now: Now,
    spec: ToolSpec,
}

struct Target {
    url: Url,
    expected: StatusCode,
    settings: HealthTarget,
}

impl HealthChecks {
    /// The name that the tool is registered under.
    pub const NAME: &'static str = "health-check";
    /// What it is called in evidence.
    pub const SOURCE: &'static str = "http-health";

    /// Checks of these dependencies, by a client that follows no redirects.
    ///
    /// # Errors
    /// [`SourceError::Invalid`] names the dependency whose settings cannot be used.
    pub fn new(client: Client, now: Now, targets: Vec<HealthTarget>) -> Result<Self, SourceError> {
        if targets.len() > TARGETS_MAX {
            return Err(SourceError::Invalid { why: format!("more than {TARGETS_MAX} dependencies") });
        }
        let targets: Vec<Target> = targets.into_iter().map(target).collect::<Result<_, _>>()?;
        let names: Vec<&str> = targets.iter().map(|target| target.settings.name.as_str()).collect();
        let spec = spec(&names);
        Ok(Self { client, targets, now, spec })
    }

    /// Asks those of these names, or all.
    ///
    /// # Errors
    /// [`SourceError::Invalid`] for a name that is not configured. A dependency that does not answer is not healthy, and no error.
    pub async fn check(
        &self,
        names: Option<&[String]>,
        context: &CallContext,
    ) -> Result<HealthSet, SourceError> {
        let known = |name: &&String| !self.targets.iter().any(|target| target.settings.name == **name);
        if let Some(unknown) = names.into_iter().flatten().find(known) {
            let why = format!("no dependency is called `{}`", unknown.escape_debug());
            return Err(SourceError::Invalid { why });
        }
        let asked: Vec<&Target> = self
            .targets
            .iter()
            .filter(|target| names.is_none_or(|names| names.contains(&target.settings.name)))
            .collect();
        let words: Vec<String> = asked
            .iter()
            .map(|target| format!("GET {} expects {}", shown(&target.url), target.expected.as_u16()))
            .collect();
        let asks: Vec<_> = asked.into_iter().map(|target| self.ask(target, context)).collect();
        let checks = futures::stream::iter(asks).buffered(CHECKS_AT_ONCE).collect().await;
        Ok(HealthSet { source: Self::SOURCE.to_owned(), query: words.join("; "), checks })
    }

    async fn ask(&self, target: &Target, context: &CallContext) -> HealthCheck {
        let (at, began): (Timestamp, _) = ((self.now)(), Instant::now());
        let within = target.settings.timeout.min(context.remaining());
        let mut request = self.client.get(target.url.clone());
        if let Some(token) = &target.settings.token {
            request = request.bearer_auth(token.expose_secret());
        }
        let (healthy, message) = match tokio::time::timeout(within, request.send()).await {
            Ok(Ok(answer)) if answer.status() == target.expected => (true, answer.status().to_string()),
            Ok(Ok(answer)) => {
                (false, format!("{}, where {} is expected", answer.status(), target.expected.as_u16()))
            }
            Ok(Err(error)) => (false, unreachable(error).to_string()),
            Err(_elapsed) => (false, format!("no answer within {} s", within.as_secs_f64())),
        };
        let seconds = began.elapsed().as_secs_f64();
        HealthCheck { at, name: target.settings.name.clone(), healthy, seconds, message }
    }
}

fn target(settings: HealthTarget) -> Result<Target, SourceError> {
    let invalid =
        |why: String| SourceError::Invalid { why: format!("`{}`: {why}", settings.name.escape_debug()) };
    if settings.name.trim().is_empty() {
        return Err(invalid("a dependency needs a name".to_owned()));
    }
    if settings.timeout.is_zero() {
        return Err(invalid("its time-out must be above zero".to_owned()));
    }
    let url = Url::parse(&settings.url).map_err(|error| invalid(format!("its address is none: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(invalid("its address must be of http or https".to_owned()));
    }
    let expected = StatusCode::from_u16(settings.expected_status)
        .map_err(|_| invalid(format!("{} is not a status", settings.expected_status)))?;
    Ok(Target { url, expected, settings })
}

fn spec(names: &[&str]) -> ToolSpec {
    ToolSpec {
        name: HealthChecks::NAME.to_owned(),
        title: "Health check".to_owned(),
        description: "Whether dependencies answer as they should, and how fast.".to_owned(),
        input_schema: json!({
            "type": "object",
            "additionalProperties": false,
            "properties": {
                "names": {
                    "type": ["array", "null"],
                    "items": {"type": "string", "enum": names},
                    "description": "these dependencies only; all unless it is given"
                }
            }
        }),
        output_schema: json!({
            "type": "object",
            "required": ["source", "query", "checks"],
            "properties": {
                "source": {"type": "string"},
                "query": {"type": "string"},
                "checks": {"type": "array", "items": {
                    "type": "object",
                    "properties": {
                        "at": {"type": "string"},
                        "name": {"type": "string"},
                        "healthy": {"type": "boolean"},
                        "seconds": {"type": "number"},
                        "message": {"type": "string"}
                    }
                }}
            }
        }),
        effect: Effect::ReadOnly,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    #[serde(default)]
    names: Option<Vec<String>>,
}

#[async_trait]
impl ReadTool for HealthChecks {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    async fn call(&self, input: Value, context: &CallContext) -> Result<Value, ToolError> {
        let input: Input = parse_input(input)?;
        let answer = self.check(input.names.as_deref(), context).await?;
        serde_json::to_value(answer).map_err(|error| ToolError::Broken { why: error.to_string() })
    }
}
