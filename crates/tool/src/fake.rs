//! Fakes for tests: a target that holds values and remembers every effect, and a read tool with prepared answers.
//!
//! They keep the contract of the real tools (preview and probe change nothing, an effect in doubt is said to be so),
//! and they can be told to misbehave the way real targets do.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::action::{ActionCall, ActionTool, Change, Effected, ExecutionGrant, Preview, ProbeVerdict};
use crate::context::CallContext;
use crate::error::ToolError;
use crate::read::ReadTool;
use crate::schema::schema_of;
use crate::spec::{Effect, ToolSpec};

/// How the next call goes.
#[derive(Debug, Clone, PartialEq)]
pub enum Behaviour {
    /// As it should.
    Normal,
    /// It fails with this error, without any effect.
    Fail(ToolError),
    /// The effect takes place, then the connection breaks: [`ToolError::InDoubt`].
    LoseReply,
    /// It never answers and has no effect.
    Hang,
    /// The effect takes place and the answer never comes.
    HangAfterEffect,
    /// The tool panics before any effect.
    Panic,
    /// A probe cannot tell.
    CannotTell,
}

/// One effect on a [`KeyValueTarget`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedEffect {
    /// The idempotency key of the grant.
    pub key: String,
    /// What was executed.
    pub call: ActionCall,
}

#[derive(Default)]
struct State {
    values: BTreeMap<(String, String), Value>,
    effects: Vec<RecordedEffect>,
    previews: usize,
    probes: usize,
    script: VecDeque<Behaviour>,
}

/// A stateful target: named targets that hold values by key, and the list of every effect that took place.
///
/// Clones share the state, so that a test keeps one and gives the other to the tool.
#[derive(Clone, Default)]
pub struct KeyValueTarget {
    state: Arc<Mutex<State>>,
}

impl KeyValueTarget {
    /// A target without values.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a value from outside, as a person or another system would.
    pub fn set(&self, target: &str, key: &str, value: Value) {
        self.lock().values.insert((target.to_owned(), key.to_owned()), value);
    }

    /// The value at present.
    pub fn get(&self, target: &str, key: &str) -> Option<Value> {
        self.lock().values.get(&(target.to_owned(), key.to_owned())).cloned()
    }

    /// Every effect so far, in order.
    pub fn effects(&self) -> Vec<RecordedEffect> {
        self.lock().effects.clone()
    }

    /// How many previews and how many probes were made.
    pub fn looks(&self) -> (usize, usize) {
        let state = self.lock();
        (state.previews, state.probes)
    }

    /// Says how the next call goes; several queue up. Without one, calls are [`Behaviour::Normal`].
    pub fn next_call(&self, behaviour: Behaviour) {
        self.lock().script.push_back(behaviour);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A scripted panic happens outside the lock; if a test panics inside, the state is whole all the same.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_behaviour(&self) -> Behaviour {
        self.lock().script.pop_front().unwrap_or(Behaviour::Normal)
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SetArguments {
    key: String,
    /// Null removes the key.
    #[serde(default)]
    value: Value,
}

/// The action `set-value` on a [`KeyValueTarget`]: arguments `key` and `value`.
pub struct SetValue {
    spec: ToolSpec,
    target: KeyValueTarget,
}

impl SetValue {
    /// The name under which it registers unless another is given.
    pub const NAME: &'static str = "set-value";

    /// The tool for `target`.
    pub fn new(target: KeyValueTarget) -> Self {
        Self::named(Self::NAME, target)
    }

    /// The tool under another name, to stand in for a real one.
    pub fn named(name: &str, target: KeyValueTarget) -> Self {
        let spec = ToolSpec {
            name: name.to_owned(),
            title: "Set a value".to_owned(),
            description: "Sets a value of a fake target; null removes it.".to_owned(),
            input_schema: schema_of::<SetArguments>(),
            output_schema: schema_of::<Effected>(),
            effect: Effect::Action { idempotent: true, destructive: false },
        };
        Self { spec, target }
    }

    fn change(&self, call: &ActionCall) -> Result<(SetArguments, Change), ToolError> {
        let arguments: SetArguments = call.parse_arguments()?;
        let from = self.target.get(&call.target, &arguments.key).unwrap_or(Value::Null);
        let what = format!("{} of {}", arguments.key, call.target);
        let to = arguments.value.clone();
        Ok((arguments, Change { what, from, to }))
    }
}

#[async_trait]
impl ActionTool for SetValue {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    async fn preview(&self, call: &ActionCall, _context: &CallContext) -> Result<Preview, ToolError> {
        self.target.lock().previews += 1;
        before_effect(&self.target.take_behaviour()).await?;
        let (arguments, change) = self.change(call)?;
        let mut restoring = Map::new();
        restoring.insert("key".to_owned(), json!(arguments.key));
        restoring.insert("value".to_owned(), change.from.clone());
        Ok(Preview {
            summary: format!("set {}", change.what),
            inverse: Some(ActionCall { arguments: restoring, ..call.clone() }),
            changes: vec![change],
            limits_of_preview: None,
        })
    }

    async fn execute(
        &self,
        call: &ActionCall,
        grant: &ExecutionGrant,
        _context: &CallContext,
    ) -> Result<Effected, ToolError> {
        let behaviour = self.target.take_behaviour();
        before_effect(&behaviour).await?;
        let (arguments, change) = self.change(call)?;
        {
            let mut state = self.target.lock();
            let at = (call.target.clone(), arguments.key);
            match arguments.value {
                Value::Null => state.values.remove(&at),
                value => state.values.insert(at, value),
            };
            state.effects.push(RecordedEffect { key: grant.key().to_owned(), call: call.clone() });
        }
        match behaviour {
            Behaviour::LoseReply => Err(ToolError::InDoubt { why: "the connection broke".to_owned() }),
            Behaviour::HangAfterEffect => std::future::pending().await,
            _ => Ok(Effected { output: format!("{} is set", change.what), changes: vec![change] }),
        }
    }

    async fn probe(
        &self,
        call: &ActionCall,
        _started_at: Timestamp,
        _context: &CallContext,
    ) -> Result<ProbeVerdict, ToolError> {
        self.target.lock().probes += 1;
        let behaviour = self.target.take_behaviour();
        before_effect(&behaviour).await?;
        if behaviour == Behaviour::CannotTell {
            return Ok(ProbeVerdict::CannotTell { why: "the target keeps no record".to_owned() });
        }
        let (arguments, change) = self.change(call)?;
        // The effect of setting a value is that value: whoever set it, there is nothing left to do.
        Ok(if change.from == arguments.value {
            ProbeVerdict::Done { changes: vec![change] }
        } else {
            ProbeVerdict::NotDone
        })
    }
}

async fn before_effect(behaviour: &Behaviour) -> Result<(), ToolError> {
    match behaviour {
        Behaviour::Fail(error) => Err(error.clone()),
        Behaviour::Hang => std::future::pending().await,
        Behaviour::Panic => scripted_panic(),
        Behaviour::Normal | Behaviour::LoseReply | Behaviour::HangAfterEffect | Behaviour::CannotTell => {
            Ok(())
        }
    }
}

/// Panics because a test asked for it, to see that callers survive a tool that does.
fn scripted_panic() -> ! {
    std::panic::panic_any("scripted".to_owned())
}

/// A read tool that gives prepared answers in order and remembers what it was asked.
#[derive(Clone)]
pub struct FakeRead {
    spec: ToolSpec,
    answers: Arc<Mutex<VecDeque<Result<Value, Behaviour>>>>,
    inputs: Arc<Mutex<Vec<Value>>>,
}

impl FakeRead {
    /// A tool that takes any object and has no answers yet.
    pub fn new(name: &str) -> Self {
        Self::with_schema(name, json!({"type": "object"}))
    }

    /// A tool with this input schema.
    pub fn with_schema(name: &str, input_schema: Value) -> Self {
        let spec = ToolSpec {
            name: name.to_owned(),
            title: name.to_owned(),
            description: "Answers as prepared.".to_owned(),
            input_schema,
            output_schema: json!({}),
            effect: Effect::ReadOnly,
        };
        Self { spec, answers: Arc::default(), inputs: Arc::default() }
    }

    /// Queues an answer; the last one is given again and again.
    pub fn answer(self, answer: Value) -> Self {
        locked(&self.answers).push_back(Ok(answer));
        self
    }

    /// Queues a misbehaviour.
    pub fn misbehave(self, behaviour: Behaviour) -> Self {
        locked(&self.answers).push_back(Err(behaviour));
        self
    }

    /// What it was asked so far.
    pub fn inputs(&self) -> Vec<Value> {
        locked(&self.inputs).clone()
    }
}

#[async_trait]
impl ReadTool for FakeRead {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    async fn call(&self, input: Value, _context: &CallContext) -> Result<Value, ToolError> {
        locked(&self.inputs).push(input);
        let next = {
            let mut answers = locked(&self.answers);
            if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() }
        };
        match next {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(behaviour)) => {
                before_effect(&behaviour).await?;
                Ok(Value::Null)
            }
            None => Err(ToolError::NotFound { what: "a prepared answer".to_owned() }),
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
