//! The actions, their parameters, and how each is sent.

use quell_tool::{ActionCall, ToolError, check_schema, parse_input};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// The actions of `deployment-system`.
pub const ACTIONS: [&str; 7] = [
    "update_config",
    "restart_service",
    "scale",
    "clean_disk",
    "renew_certificate",
    "end_idle_sessions",
    "stop_job",
];

const REPLICAS_MAX: u32 = 1_000;

/// One action with its parameters.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Action {
    UpdateConfig(Map<String, Value>),
    RestartService,
    Scale { replicas: u32 },
    CleanDisk { path: String },
    RenewCertificate,
    EndIdleSessions,
    StopJob { job: String },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Arguments {
    action: String,
    #[serde(default)]
    parameters: Map<String, Value>,
}

#[derive(Deserialize)]
struct Scale {
    replicas: u32,
}

#[derive(Deserialize)]
struct CleanDisk {
    path: String,
}

#[derive(Deserialize)]
struct StopJob {
    job: String,
}

impl Action {
    /// The action that a call names; the error names the parameter that does not fit.
    pub(super) fn of(call: &ActionCall) -> Result<Self, ToolError> {
        let Arguments { action, parameters } = call.parse_arguments()?;
        let schema = parameters_schema(&action)
            .ok_or_else(|| ToolError::invalid("action", format!("must be one of {}", ACTIONS.join(", "))))?;
        let within = |error: ToolError| match error {
            ToolError::InvalidInput { field, why } if field != "." => {
                ToolError::invalid(format!("parameters.{field}"), why)
            }
            ToolError::InvalidInput { why, .. } => ToolError::invalid("parameters", why),
            other => other,
        };
        let given = Value::Object(parameters.clone());
        check_schema(&schema, &given).map_err(within)?;
        Ok(match action.as_str() {
            "update_config" => {
                if parameters.is_empty() {
                    return Err(ToolError::invalid("parameters", "must name at least one setting"));
                }
                Self::UpdateConfig(parameters)
            }
            "restart_service" => Self::RestartService,
            "scale" => {
                let Scale { replicas } = parse_input(given).map_err(within)?;
                Self::Scale { replicas }
            }
            "clean_disk" => {
                let CleanDisk { path } = parse_input(given).map_err(within)?;
                Self::CleanDisk { path }
            }
            "renew_certificate" => Self::RenewCertificate,
            "end_idle_sessions" => Self::EndIdleSessions,
            "stop_job" => {
                let StopJob { job } = parse_input(given).map_err(within)?;
                Self::StopJob { job }
            }
            // One that has a schema and no arm above.
            _ => return Err(ToolError::invalid("action", "is not one that this version carries out")),
        })
    }

    /// Method, last segment of the path, and body.
    pub(super) fn request(&self) -> (Method, &'static str, Value) {
        match self {
            Self::UpdateConfig(settings) => (Method::PATCH, "config", Value::Object(settings.clone())),
            Self::RestartService => (Method::POST, "restart", json!({})),
            Self::Scale { replicas } => (Method::PUT, "replicas", json!({"replicas": replicas})),
            Self::CleanDisk { path } => (Method::POST, "clean", json!({"path": path})),
            Self::RenewCertificate => (Method::POST, "renew", json!({})),
            Self::EndIdleSessions => (Method::POST, "end-idle-sessions", json!({})),
            Self::StopJob { job } => (Method::POST, "stop-job", json!({"job": job})),
        }
    }
}

/// The schema of the tool's arguments: `action`, and `parameters` that depend on it.
pub(super) fn arguments_schema() -> Value {
    let alternatives: Vec<_> = ACTIONS
        .iter()
        .filter_map(|action| {
            let parameters = parameters_schema(action)?;
            Some(json!({"properties": {"action": {"const": action}, "parameters": parameters}}))
        })
        .collect();
    json!({
        "type": "object",
        "required": ["action"],
        "additionalProperties": false,
        "properties": {
            "action": {"type": "string", "enum": ACTIONS, "description": "What to do."},
            "parameters": {"type": "object", "description": "What the action needs to know."},
        },
        "oneOf": alternatives,
    })
}

fn parameters_schema(action: &str) -> Option<Value> {
    let object = |required: &[&str], properties: Value| json!({"type": "object", "required": required, "properties": properties, "additionalProperties": false});
    let text = json!({"type": "string", "minLength": 1, "maxLength": 256});
    Some(match action {
        "update_config" => json!({
            "type": "object",
            "description": "Settings and their new values.",
            "additionalProperties": {"type": ["string", "number", "boolean"]},
        }),
        "scale" => object(
            &["replicas"],
            json!({"replicas": {"type": "integer", "minimum": 0, "maximum": REPLICAS_MAX}}),
        ),
        "clean_disk" => object(&["path"], json!({"path": text})),
        "stop_job" => object(&["job"], json!({"job": text})),
        "restart_service" | "renew_certificate" | "end_idle_sessions" => object(&[], json!({})),
        _ => return None,
    })
}
