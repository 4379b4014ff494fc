//! The promises of the registries, tried on the fakes.

#![allow(clippy::unwrap_used, reason = "a test may panic; the exemption does not reach its helpers")]

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use quell_tool::fake::{Behaviour, FakeRead, KeyValueTarget, SetValue};
use quell_tool::{
    ActionCall, ActionRegistry, CallContext, ExecutionGrant, ProbeVerdict, ReadRegistry, RegistryError,
    ToolError, TypedRead, TypedReadTool,
};
use serde_json::{Value, json};

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);
const LATER: Timestamp = Timestamp::constant(1_800_000_060, 0);

fn context() -> CallContext {
    CallContext::within(Duration::from_secs(5)).for_incident("incident-1")
}

fn set(key: &str, value: Value) -> ActionCall {
    let arguments = [("key".to_owned(), json!(key)), ("value".to_owned(), value)].into_iter().collect();
    ActionCall { action: SetValue::NAME.to_owned(), target: "db-server-01".to_owned(), arguments }
}

fn actions() -> (ActionRegistry, KeyValueTarget) {
    let target = KeyValueTarget::new();
    let mut registry = ActionRegistry::new();
    registry.register(Arc::new(SetValue::new(target.clone()))).unwrap();
    (registry, target)
}

fn reads(tool: FakeRead) -> ReadRegistry {
    let mut registry = ReadRegistry::new();
    registry.register(Arc::new(tool)).unwrap();
    registry
}

#[tokio::test]
async fn names_are_unique_and_listed_in_order() {
    let mut registry = reads(FakeRead::new("b"));
    registry.register(Arc::new(FakeRead::new("a"))).unwrap();
    assert_eq!(
        registry.register(Arc::new(FakeRead::new("b"))),
        Err(RegistryError::Duplicate { name: "b".to_owned() })
    );
    let names: Vec<_> = registry.list().into_iter().map(|spec| spec.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    assert!(registry.spec("a").is_some() && registry.spec("c").is_none());

    let (mut registry, target) = actions();
    let again = registry.register(Arc::new(SetValue::new(target)));
    assert_eq!(again, Err(RegistryError::Duplicate { name: SetValue::NAME.to_owned() }));
}

#[tokio::test]
async fn an_unknown_tool_is_not_found() {
    let error = ReadRegistry::new().call("nothing", json!({}), &context()).await.unwrap_err();
    assert_eq!(error.to_string(), "not found: tool `nothing`");
}

#[tokio::test]
async fn input_that_does_not_fit_never_reaches_the_tool() {
    let schema =
        json!({"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]});
    let tool = FakeRead::with_schema("look", schema).answer(json!("up"));
    let registry = reads(tool.clone());
    let error = registry.call("look", json!({"query": 5}), &context()).await.unwrap_err();
    assert_eq!(error.to_string(), "invalid input in `query`: must be of type string");
    assert!(tool.inputs().is_empty());
    assert_eq!(registry.call("look", json!({"query": "up"}), &context()).await, Ok(json!("up")));
    assert_eq!(tool.inputs(), [json!({"query": "up"})]);
}

#[tokio::test(start_paused = true)]
async fn a_read_that_hangs_ends_at_the_deadline() {
    let registry = reads(FakeRead::new("look").misbehave(Behaviour::Hang));
    assert_eq!(registry.call("look", json!({}), &context()).await, Err(ToolError::TimedOut));
}

#[tokio::test]
async fn a_read_that_panics_is_an_error() {
    let registry = reads(FakeRead::new("look").misbehave(Behaviour::Panic));
    let error = registry.call("look", json!({}), &context()).await.unwrap_err();
    assert_eq!(error, ToolError::Broken { why: "it panicked: scripted".to_owned() });
}

#[tokio::test]
async fn an_answer_is_bounded_and_redacted() {
    let registry =
        reads(FakeRead::new("look").answer(json!({"line": "password=hunter2"})).answer(json!("12345678")));
    let answer = registry.call("look", json!({}), &context()).await.unwrap();
    assert_eq!(answer, json!({"line": "password=***"}));
    let fitting = registry.call("look", json!({}), &context().with_output_bytes_max(10)).await;
    assert_eq!(fitting, Ok(json!("12345678")));
    let error = registry.call("look", json!({}), &context().with_output_bytes_max(9)).await.unwrap_err();
    assert_eq!(error, ToolError::OutputTooLarge { bytes_max: 9 });
}

struct Doubled;

#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Number {
    number: i64,
}

#[async_trait::async_trait]
impl TypedRead for Doubled {
    type Input = Number;
    type Output = i64;

    async fn read(&self, input: Number, _context: &CallContext) -> Result<i64, ToolError> {
        Ok(input.number * 2)
    }
}

#[tokio::test]
async fn a_typed_tool_has_the_schemas_of_its_types() {
    let mut registry = ReadRegistry::new();
    registry.register(Arc::new(TypedReadTool::new("double", "Double", "Doubles.", Doubled))).unwrap();
    let spec = registry.list()[0].clone();
    assert_eq!(spec.input_schema["required"], json!(["number"]));
    assert_eq!(spec.input_schema["additionalProperties"], json!(false));
    assert_eq!(spec.output_schema["type"], json!("integer"));
    assert_eq!(registry.call("double", json!({"number": 21}), &context()).await, Ok(json!(42)));
    assert!(registry.call("double", json!({"nmber": 21}), &context()).await.is_err());
}

#[tokio::test]
async fn a_preview_changes_nothing_and_its_inverse_restores() {
    let (registry, target) = actions();
    target.set("db-server-01", "pool_size", json!(10));
    let call = set("pool_size", json!(20));

    let preview = registry.preview(&call, &context()).await.unwrap();
    assert_eq!(target.get("db-server-01", "pool_size"), Some(json!(10)));
    assert_eq!((&preview.changes[0].from, &preview.changes[0].to), (&json!(10), &json!(20)));

    registry.execute(ExecutionGrant::issue("key-1", call.clone(), LATER), NOW, &context()).await.unwrap();
    assert_eq!(target.get("db-server-01", "pool_size"), Some(json!(20)));

    let inverse = preview.inverse.unwrap();
    registry.execute(ExecutionGrant::issue("key-2", inverse, LATER), NOW, &context()).await.unwrap();
    assert_eq!(target.get("db-server-01", "pool_size"), Some(json!(10)));
    let keys: Vec<_> = target.effects().into_iter().map(|effect| effect.key).collect();
    assert_eq!(keys, ["key-1", "key-2"]);
}

#[tokio::test]
async fn an_expired_grant_has_no_effect() {
    let (registry, target) = actions();
    let grant = ExecutionGrant::issue("key-1", set("pool_size", json!(20)), NOW);
    let error = registry.execute(grant, LATER, &context()).await.unwrap_err();
    assert_eq!(error.code(), "refused");
    assert!(target.effects().is_empty());
}

#[tokio::test]
async fn arguments_that_do_not_fit_have_no_effect() {
    let (registry, target) = actions();
    let mut call = set("pool_size", json!(20));
    call.arguments.insert("colour".to_owned(), json!("red"));
    assert_eq!(registry.check(&call).unwrap_err().code(), "invalid_input");
    let grant = ExecutionGrant::issue("key-1", call, LATER);
    assert_eq!(registry.execute(grant, NOW, &context()).await.unwrap_err().code(), "invalid_input");
    assert!(target.effects().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_action_whose_end_was_not_seen_is_in_doubt_and_the_probe_tells() {
    for (behaviour, took_effect) in [
        (Behaviour::Hang, false),
        (Behaviour::HangAfterEffect, true),
        (Behaviour::LoseReply, true),
        (Behaviour::Panic, false),
    ] {
        let (registry, target) = actions();
        let call = set("pool_size", json!(20));
        target.next_call(behaviour.clone());
        let grant = ExecutionGrant::issue("key-1", call.clone(), LATER);
        let error = registry.execute(grant, NOW, &context()).await.unwrap_err();
        assert_eq!(error.code(), "in_doubt", "{behaviour:?}");
        assert!(!error.is_retryable());
        let verdict = registry.probe(&call, NOW, &context()).await.unwrap();
        assert_eq!(matches!(verdict, ProbeVerdict::Done { .. }), took_effect, "{behaviour:?}: {verdict:?}");
        assert_eq!(target.effects().len(), usize::from(took_effect));
    }
}

#[tokio::test]
async fn a_deadline_that_has_passed_keeps_the_action_from_beginning() {
    let (registry, target) = actions();
    let grant = ExecutionGrant::issue("key-1", set("pool_size", json!(20)), LATER);
    let error = registry.execute(grant, NOW, &CallContext::within(Duration::ZERO)).await.unwrap_err();
    assert_eq!(error, ToolError::TimedOut);
    assert!(target.effects().is_empty());
}

#[tokio::test]
async fn a_failure_without_effect_keeps_its_name() {
    let (registry, target) = actions();
    target.next_call(Behaviour::Fail(ToolError::Unreachable { why: "connection refused".to_owned() }));
    let grant = ExecutionGrant::issue("key-1", set("pool_size", json!(20)), LATER);
    let error = registry.execute(grant, NOW, &context()).await.unwrap_err();
    assert!(error.is_retryable());
    assert!(target.effects().is_empty());
}

#[tokio::test]
async fn a_probe_may_say_that_it_cannot_tell() {
    let (registry, target) = actions();
    target.next_call(Behaviour::CannotTell);
    let verdict = registry.probe(&set("pool_size", json!(20)), NOW, &context()).await.unwrap();
    assert!(matches!(verdict, ProbeVerdict::CannotTell { .. }));
    assert_eq!(target.looks(), (0, 1));
}

#[tokio::test]
async fn the_report_of_an_effect_is_cut_not_lost() {
    let (registry, target) = actions();
    let grant = ExecutionGrant::issue("key-1", set("pool_size", json!("x".repeat(4000))), LATER);
    let effected = registry.execute(grant, NOW, &context().with_output_bytes_max(20)).await.unwrap();
    assert_eq!(effected.output, "pool_si\n[output cut]");
    assert!(effected.changes.is_empty());
    assert_eq!(target.effects().len(), 1);
}
