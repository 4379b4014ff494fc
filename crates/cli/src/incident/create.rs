//! `quell incident create`.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::a2a::Responder;
use crate::args::{CreateArgs, Template};
use crate::context::Context;
use crate::failure::Result;

/// The schema name that the JSON of a draft carries.
const DRAFT_SCHEMA: &str = "quell/incident-draft/v1";

pub(crate) async fn run(context: &mut Context<'_>, arguments: CreateArgs) -> Result<()> {
    let message_id = match &arguments.message_id {
        Some(given) => given.clone(),
        None => Uuid::now_v7().to_string(),
    };
    let responder = Responder::find(context).await?;
    let id = responder.open(&message_id, draft(arguments)).await?;
    match super::fetch_one(context, &id).await {
        Ok(view) => super::answer(context, &view),
        // It is opened: what went wrong is only the look at it.
        Err(failure) => Err(failure.after(&format!("incident {id} is opened, but cannot be shown"))),
    }
}

/// The draft that the arguments make of their template, or of nothing.
fn draft(arguments: CreateArgs) -> Value {
    let mut draft = arguments.template.map_or_else(empty, template);
    let texts = [
        ("title", arguments.title),
        ("description", arguments.description),
        ("alert_name", arguments.alert_name),
        ("service", arguments.service),
        ("component", arguments.component),
    ];
    for (name, given) in texts {
        if let Some(given) = given {
            draft[name] = json!(given);
        }
    }
    if let Some(severity) = arguments.severity {
        let severity = severity.to_ascii_lowercase();
        draft["priority"] = json!(priority_of(&severity));
        draft["severity"] = json!(severity);
    }
    if let Some(priority) = arguments.priority {
        draft["priority"] = json!(priority.to_ascii_uppercase());
    }
    if !arguments.tags.is_empty() {
        draft["tags"] = json!(arguments.tags);
    }
    if !arguments.systems.is_empty() {
        draft["affected_systems"] = json!(arguments.systems);
    }
    if draft["description"] == "" {
        draft["description"] = draft["title"].clone();
    }
    draft
}

/// The priority that a severity stands for, as for an alert without a row of its own in the mapping.
fn priority_of(severity: &str) -> &'static str {
    match severity {
        "critical" => "P0",
        "high" => "P1",
        "medium" | "warning" => "P2",
        _ => "P3",
    }
}

fn empty() -> Value {
    json!({
        "schema": DRAFT_SCHEMA, "title": "", "description": "", "alert_name": "", "priority": "P2", "severity": "medium",
        "service": "", "component": "", "tags": [], "affected_systems": [],
    })
}

/// Drafts that stand for alerts of the simulated infrastructure, so that there is evidence to find.
fn template(template: Template) -> Value {
    match template {
        Template::Database => json!({
            "schema": DRAFT_SCHEMA,
            "title": "Database connection timeout on db-server-01",
            "description": "Clients of customer_db on db-server-01 run into connection timeouts.",
            "alert_name": "DatabaseConnectionTimeout", "priority": "P0", "severity": "high",
            "service": "", "component": "database",
            "tags": ["database", "connectivity", "timeout"], "affected_systems": ["db-server-01"],
        }),
        Template::Api => json!({
            "schema": DRAFT_SCHEMA,
            "title": "API gateway 503 errors on api-gateway-01",
            "description": "api-gateway-01 answers GET requests with 503.",
            "alert_name": "APIGateway503Errors", "priority": "P0", "severity": "critical",
            "service": "", "component": "api_gateway",
            "tags": ["api", "gateway", "503"], "affected_systems": ["api-gateway-01"],
        }),
        Template::Memory => json!({
            "schema": DRAFT_SCHEMA,
            "title": "High memory usage on app-server-01",
            "description": "order_service on app-server-01 uses more than 500 MB of memory.",
            "alert_name": "HighMemoryUsage", "priority": "P2", "severity": "warning",
            "service": "order_service", "component": "memory",
            "tags": ["memory", "resource"], "affected_systems": ["app-server-01"],
        }),
        Template::Disk => json!({
            "schema": DRAFT_SCHEMA,
            "title": "Disk space critical on storage-node-01",
            "description": "/data of storage-node-01 has less than a tenth of its space left.",
            "alert_name": "DiskSpaceCritical", "priority": "P1", "severity": "critical",
            "service": "", "component": "disk",
            "tags": ["disk", "storage", "space"], "affected_systems": ["storage-node-01"],
        }),
        Template::Ssl => json!({
            "schema": DRAFT_SCHEMA,
            "title": "Certificate expiring soon on api-gateway-01",
            "description": "The certificate of api-gateway-01 expires in less than seven days.",
            "alert_name": "CertificateExpiringSoon", "priority": "P2", "severity": "high",
            "service": "", "component": "certificate",
            "tags": ["ssl", "certificate", "expiry"], "affected_systems": ["api-gateway-01"],
        }),
    }
}

#[cfg(test)]
mod tests {
    use clap::{Parser as _, ValueEnum as _};
    use quell_incident::mapping::Mapping;

    use super::*;
    use crate::args::{Cli, Command, IncidentCommand};

    fn draft_of(arguments: &[&str]) -> Value {
        let cli = Cli::try_parse_from(["quell", "incident", "create"].iter().chain(arguments)).unwrap();
        match cli.command {
            Command::Incident { command: IncidentCommand::Create(arguments) } => draft(arguments),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn templates_agree_with_the_mapping_of_alerts() {
        let shipped = include_str!("../../../coordinator/src/alert-mapping.yaml");
        let rows = serde_saphyr::from_str::<Mapping>(shipped).unwrap().alerts;
        for one in Template::value_variants() {
            let draft = template(*one);
            let row = rows.iter().find(|row| draft["alert_name"] == row.alertname.as_str()).unwrap();
            assert_eq!(draft["severity"], json!(row.severity.unwrap()), "{one:?}");
            assert_eq!(draft["tags"], json!(row.tags), "{one:?}");
            if let Some(priority) = row.priority {
                assert_eq!(draft["priority"], json!(priority), "{one:?}");
            }
            let title = format!(
                "{} on {}",
                row.title.clone().unwrap(),
                draft["affected_systems"][0].as_str().unwrap()
            );
            assert_eq!(draft["title"], json!(title));
        }
    }

    #[test]
    fn what_is_given_replaces_parts_of_the_template() {
        let draft = draft_of(&["--template", "disk", "--system", "a", "--system", "b", "--severity", "INFO"]);
        assert_eq!(draft["affected_systems"], json!(["a", "b"]));
        assert_eq!((&draft["severity"], &draft["priority"]), (&json!("info"), &json!("P3")));
        assert_eq!(draft["tags"], json!(["disk", "storage", "space"]));
    }

    #[test]
    fn a_title_is_enough() {
        let draft = draft_of(&["--title", "Checkout is slow", "--priority", "p1"]);
        assert_eq!(draft["description"], "Checkout is slow");
        assert_eq!((&draft["severity"], &draft["priority"]), (&json!("medium"), &json!("P1")));
        assert!(Cli::try_parse_from(["quell", "incident", "create"]).is_err());
    }
}
