//! Loading runbooks: what is shipped, what replaces it, and how mistakes are named.
#![allow(clippy::unwrap_used, reason = "a test ends by it")]

mod common;

use std::sync::Arc;

use async_trait::async_trait;
use common::{INVENTORY, OTHER, RAISE, tools};
use jiff::Timestamp;
use quell_remedy::{Inventory, LoadError, Runbooks, UndoRule};
use quell_tool::fake::KeyValueTarget;
use quell_tool::{
    ActionCall, ActionRegistry, ActionTool, CallContext, Effect, Effected, ExecutionGrant, Preview,
    ProbeVerdict, ToolError, ToolSpec,
};
use serde_json::json;

/// A tool of several actions that only has a schema.
struct Described(ToolSpec);

#[async_trait]
impl ActionTool for Described {
    fn spec(&self) -> &ToolSpec {
        &self.0
    }

    async fn preview(&self, call: &ActionCall, _context: &CallContext) -> Result<Preview, ToolError> {
        Err(ToolError::NotFound { what: call.target.clone() })
    }

    async fn execute(
        &self,
        call: &ActionCall,
        _grant: &ExecutionGrant,
        _context: &CallContext,
    ) -> Result<Effected, ToolError> {
        Err(ToolError::NotFound { what: call.target.clone() })
    }

    async fn probe(
        &self,
        call: &ActionCall,
        _started_at: Timestamp,
        _context: &CallContext,
    ) -> Result<ProbeVerdict, ToolError> {
        Err(ToolError::NotFound { what: call.target.clone() })
    }
}

fn deployment_system() -> ActionRegistry {
    let one = |action: &str, parameters: serde_json::Value| json!({"properties": {"action": {"const": action}, "parameters": parameters}});
    let none = json!({"type": "object", "additionalProperties": false});
    let number = json!({"type": "object", "required": ["replicas"], "additionalProperties": false,
        "properties": {"replicas": {"type": "integer", "minimum": 0}}});
    let spec = ToolSpec {
        name: "deployment-system".to_owned(),
        title: "Deployment system".to_owned(),
        description: "Operates targets.".to_owned(),
        input_schema: json!({
            "type": "object",
            "required": ["action"],
            "properties": {
                "action": {"enum": ["update_config", "restart_service", "scale", "clean_disk", "renew_certificate", "end_idle_sessions", "stop_job"]},
                "parameters": {"type": "object"},
            },
            "additionalProperties": false,
            "oneOf": [
                one("update_config", json!({"type": "object", "minProperties": 1})),
                one("restart_service", none.clone()),
                one("scale", number),
                one("clean_disk", json!({"type": "object", "required": ["path"]})),
                one("renew_certificate", none.clone()),
                one("end_idle_sessions", none),
                one("stop_job", json!({"type": "object", "required": ["job"]})),
            ],
        }),
        output_schema: json!({}),
        effect: Effect::Action { idempotent: false, destructive: true },
    };
    let mut actions = ActionRegistry::new();
    actions.register(Arc::new(Described(spec))).unwrap();
    actions
}

#[test]
fn all_shipped_runbooks_load_and_cover_the_eight_causes() {
    let actions = deployment_system();
    let inventory = Inventory::shipped("http://127.0.0.1:8000").unwrap();
    let runbooks = Runbooks::from_texts(Runbooks::shipped_texts(), &inventory, &actions).unwrap();
    assert!(runbooks.iter().count() >= 10);
    let first: Vec<_> = [
        "connection_pool_exhausted",
        "memory_leak",
        "runaway_cpu",
        "upstream_unavailable",
        "disk_filled_by_logs",
        "certificate_expiring",
        "consumer_group_too_small",
        "idle_sessions_exhaust_connections",
    ]
    .map(|cause| {
        let names: Vec<_> =
            runbooks.for_cause(cause).iter().map(|runbook| runbook.name.to_string()).collect();
        format!("{cause}: {}", names.join(", "))
    })
    .to_vec();
    insta::assert_snapshot!(first.join("\n"), @r"
    connection_pool_exhausted: database-raise-limits
    memory_leak: memory-restart-service
    runaway_cpu: cpu-scale-out, cpu-stop-runaway-job
    upstream_unavailable: api-503-restart-upstream, api-503-scale-gateway
    disk_filled_by_logs: disk-clean-logs, disk-clean-system-logs
    certificate_expiring: certificate-renew
    consumer_group_too_small: kafka-scale-consumers, kafka-restart-consumers
    idle_sessions_exhaust_connections: postgres-end-idle-sessions
    ");
    for runbook in runbooks.iter() {
        // A scale or a setting can be taken back; nothing else pretends that it can.
        for step in &runbook.steps {
            let takes_back = step.action == "scale" || step.action == "update_config";
            assert_eq!(step.undo == UndoRule::Inverse, takes_back, "{}/{}", runbook.name, step.name);
        }
    }
}

#[test]
fn a_folder_adds_runbooks_and_replaces_those_of_the_same_name() {
    let folder = tempfile::tempdir().unwrap();
    let own = include_str!("../runbooks/kafka-scale-consumers.yaml").replace("replicas: 6", "replicas: 9");
    std::fs::write(folder.path().join("mine.yaml"), own).unwrap();
    std::fs::write(folder.path().join("notes.txt"), "not a runbook").unwrap();
    let actions = deployment_system();
    let inventory = Inventory::shipped("http://127.0.0.1:8000").unwrap();
    let shipped = Runbooks::load(None, &inventory, &actions).unwrap();
    let runbooks = Runbooks::load(Some(folder.path()), &inventory, &actions).unwrap();
    let name = common::runbook("kafka-scale-consumers");
    let replaced = runbooks.get(&name).unwrap();
    assert_eq!(replaced.steps[0].arguments["replicas"], 9);
    assert_ne!(replaced.digest, shipped.get(&name).unwrap().digest);
    assert_eq!(runbooks.iter().count(), shipped.iter().count());
    assert_eq!(runbooks.left_out(), ["kafka-scale-consumers.yaml"]);
    assert!(shipped.left_out().is_empty());
}

#[test]
fn shipped_runbooks_for_targets_that_a_site_lacks_are_left_out() {
    let inventory = Inventory::from_yaml("i.yaml", INVENTORY, Some("http://h")).unwrap();
    let runbooks = Runbooks::load(None, &inventory, &deployment_system()).unwrap();
    let names: Vec<_> = runbooks.iter().map(|runbook| runbook.name.to_string()).collect();
    assert_eq!(names, ["api-503-restart-upstream", "memory-restart-service"]);
    assert_eq!(runbooks.left_out().len(), 10);
}

#[test]
fn all_mistakes_of_a_folder_are_named_and_nothing_is_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    std::fs::write(file("a.yaml"), RAISE.replace("priority: 10", "prioritty: 10")).unwrap();
    std::fs::write(file("b.yaml"), OTHER).unwrap();
    std::fs::write(file("c.yaml"), OTHER).unwrap();
    let actions = tools(&KeyValueTarget::new());
    let inventory = Inventory::from_yaml("i.yaml", INVENTORY, Some("http://h")).unwrap();
    let Err(LoadError::Mistakes(mistakes)) = Runbooks::load(Some(folder.path()), &inventory, &actions) else {
        panic!("loaded");
    };
    let found: Vec<_> = mistakes.0.iter().map(|mistake| (mistake.line, mistake.field.as_str())).collect();
    assert_eq!(found, [(5, "prioritty"), (2, "name")]);
    let missing = Runbooks::load(Some(&file("none")), &inventory, &actions);
    assert!(matches!(missing, Err(LoadError::Unreadable { .. })));
}

#[test]
fn each_mistake_says_where_it_is_and_what_would_be_right() {
    let actions = tools(&KeyValueTarget::new());
    let inventory = Inventory::from_yaml("i.yaml", INVENTORY, Some("http://h")).unwrap();
    let mistakes_of = |from: &str, to: &str| {
        assert!(RAISE.contains(from), "{from}");
        let text = RAISE.replacen(from, to, 1);
        Runbooks::from_texts(&[("r.yaml", &text)], &inventory, &actions).unwrap_err().to_string()
    };
    let all: Vec<_> = [
        ("priority: 10", "prioritty: 10"),
        ("title: Raise two values\n", ""),
        ("for: {causes: [too_low]}", "for: {causes: []}"),
        ("min_confidence: 0.5", "min_confidence: 5"),
        ("name: second", "name: first"),
        ("tool: set-value", "tool: set-valeu"),
        ("action: set-value", "action: unset"),
        ("target: alpha", "target: alfa"),
        ("target: alpha", "target: '{{ instance }}'"),
        ("{key: size, value: 20}", "{kee: size, value: 20}"),
        ("undo: inverse", "undo: inverted"),
        ("undo: inverse", "undo: {irreversible: ''}"),
        ("timeout: 30s", "timeout: 2h"),
        ("timeout: 30s", "timeout: soon"),
        ("timeout: 30s\n    idempotent: true", "timeout: 30s"),
        ("metric: errors_total", "metric: errors total"),
        ("reduce: rate", "reduce: ratio_to"),
        ("reduce: rate", "reduce: rate, divide_by: x"),
        ("holds_if: '<'", "holds_if: '!='"),
        ("alert_look_back: 1m", "alert_look_back: -1m"),
    ]
    .map(|(from, to)| mistakes_of(from, to))
    .to_vec();
    insta::assert_snapshot!(all.join("\n"), @r#"
    r.yaml:5:1: `prioritty`: unknown key `prioritty`; did you mean `priority`?
    r.yaml:26:1: `title`: is missing; it has no default
    r.yaml:4:15: `for.causes`: must name at least one cause
    r.yaml:6:17: `min_confidence`: must be 0 to 1
    r.yaml:17:11: `steps.first.name`: another step is called `first` already
    r.yaml:10:11: `steps.first.tool`: unknown tool `set-valeu`; did you mean `set-value`?
    r.yaml:11:13: `steps.first.action`: unknown action `unset`; known are: set-value
    r.yaml:12:13: `steps.first.target`: unknown target `alfa`; did you mean `alpha`?
    r.yaml:12:13: `steps.first.target`: unknown target `{{ instance }}`; known are: alpha, beta
    r.yaml:13:16: `steps.first.arguments.key`: is required
    r.yaml:14:11: `undo`: unknown value `inverted`; did you mean `inverse`?
    r.yaml:14:11: `steps.first.undo`: must say why
    r.yaml:15:14: `steps.first.timeout`: must be more than 0s and at most 1h
    r.yaml:15:14: `timeout`: failed to parse input in the "friendly" duration format: expected duration to start with a unit value (a decimal integer) after an optional sign, but no integer was found
    r.yaml:15:5: `idempotent`: is missing; it has no default
    r.yaml:26:30: `verify.low-rate.metric`: is not the name of a metric
    r.yaml:26:12: `verify.low-rate.divide_by`: is missing: a ratio needs the metric to divide by
    r.yaml:26:69: `verify.low-rate.divide_by`: is of use with `ratio_to` and `sum_ratio_to` only
    r.yaml:26:68: `holds_if`: unknown value `!=`; did you mean `<=`?
    r.yaml:27:18: `alert_look_back`: must be 0s to 24h
    "#);
}
