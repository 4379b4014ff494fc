//! The tool.

use async_trait::async_trait;
use jiff::Timestamp;
use quell_tool::{
    ActionCall, ActionTool, CallContext, Change, Effect, Effected, ExecutionGrant, Preview, ProbeVerdict,
    ToolError, ToolSpec, schema_of,
};
use serde_json::{Map, Value, json};

use super::action::{Action, arguments_schema};
use super::api::{Api, ClientError, DeploymentTarget};

/// `deployment-system`: operates targets by their names in the inventory.
///
/// Guarantees: one request per execution, on a connection of its own, never repeated; an error other than
/// [`ToolError::InDoubt`] means that nothing happened. Caveats: a probe compares times of the target's clock with ours and does not
/// decide what lies within two seconds before the step began.
pub struct DeploymentSystem {
    spec: ToolSpec,
    api: Api,
}

impl DeploymentSystem {
    /// The tool's name.
    pub const NAME: &'static str = "deployment-system";

    /// The tool for these targets; it knows no others.
    ///
    /// # Errors
    /// [`ClientError`] when an endpoint or a token cannot be used.
    pub fn new(targets: Vec<DeploymentTarget>) -> Result<Self, ClientError> {
        let spec = ToolSpec {
            name: Self::NAME.to_owned(),
            title: "Deployment system".to_owned(),
            description:
                "Changes a target's configuration, restarts or scales it, cleans its disk, renews its \
                          certificate, ends its idle sessions or stops a job."
                    .to_owned(),
            input_schema: arguments_schema(),
            output_schema: schema_of::<Effected>(),
            effect: Effect::Action { idempotent: false, destructive: true },
        };
        Ok(Self { spec, api: Api::new(targets)? })
    }
}

#[async_trait]
impl ActionTool for DeploymentSystem {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    async fn preview(&self, call: &ActionCall, context: &CallContext) -> Result<Preview, ToolError> {
        let action = Action::of(call)?;
        let foreseen = self.api.state(&call.target, context).await?.foresee(&call.target, &action)?;
        let inverse = foreseen.inverse.map(|(action, parameters)| {
            let mut arguments = Map::new();
            arguments.insert("action".to_owned(), json!(action));
            arguments.insert("parameters".to_owned(), Value::Object(parameters));
            ActionCall { action: call.action.clone(), target: call.target.clone(), arguments }
        });
        Ok(Preview {
            summary: foreseen.summary,
            changes: foreseen.changes,
            inverse,
            limits_of_preview: foreseen.limits.map(str::to_owned),
        })
    }

    async fn execute(
        &self,
        call: &ActionCall,
        grant: &ExecutionGrant,
        _context: &CallContext,
    ) -> Result<Effected, ToolError> {
        let action = Action::of(call)?;
        let answer = self.api.send(&call.target, &action, grant).await?;
        let target = &call.target;
        let output = format!("from {} to {}", answer.from, answer.to);
        let changes = answer.pairs().into_iter().map(|(name, from, to)| {
            let what = name.map_or_else(|| target.clone(), |name| format!("{name} of {target}"));
            Change { what, from, to }
        });
        Ok(Effected { changes: changes.collect(), output })
    }

    async fn probe(
        &self,
        call: &ActionCall,
        started_at: Timestamp,
        context: &CallContext,
    ) -> Result<ProbeVerdict, ToolError> {
        let action = Action::of(call)?;
        Ok(self.api.state(&call.target, context).await?.shows(&call.target, &action, started_at))
    }
}
