//! Tools that only look.

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::context::CallContext;
use crate::error::ToolError;
use crate::schema::{parse_input, schema_of};
use crate::spec::{Effect, ToolSpec};

/// A tool that looks and changes nothing.
///
/// Assumptions: an implementation sends nothing to the target that could change it, whatever the input says. Whoever
/// implements this trait vouches for that; nothing downstream can check it again.
#[async_trait]
pub trait ReadTool: Send + Sync {
    /// What the tool says about itself; its effect is [`Effect::ReadOnly`].
    fn spec(&self) -> &ToolSpec;

    /// Looks. Call it through [`crate::ReadRegistry::call`], which has the limits.
    async fn call(&self, input: Value, context: &CallContext) -> Result<Value, ToolError>;
}

/// A read tool with typed input and output; [`TypedReadTool`] makes a [`ReadTool`] of it.
#[async_trait]
pub trait TypedRead: Send + Sync {
    /// The input; derive it with `#[serde(deny_unknown_fields)]`, so that a mistyped field is an error.
    type Input: DeserializeOwned + JsonSchema + Send;
    /// The answer.
    type Output: Serialize + JsonSchema + Send;

    /// Looks.
    async fn read(&self, input: Self::Input, context: &CallContext) -> Result<Self::Output, ToolError>;
}

/// A [`ReadTool`] whose schemas come from the types of a [`TypedRead`].
pub struct TypedReadTool<T> {
    spec: ToolSpec,
    inner: T,
}

impl<T: TypedRead> TypedReadTool<T> {
    /// A tool of this name that answers by `inner`.
    pub fn new(
        name: impl Into<String>,
        title: impl Into<String>,
        description: impl Into<String>,
        inner: T,
    ) -> Self {
        let spec = ToolSpec {
            name: name.into(),
            title: title.into(),
            description: description.into(),
            input_schema: schema_of::<T::Input>(),
            output_schema: schema_of::<T::Output>(),
            effect: Effect::ReadOnly,
        };
        Self { spec, inner }
    }
}

#[async_trait]
impl<T: TypedRead> ReadTool for TypedReadTool<T> {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    async fn call(&self, input: Value, context: &CallContext) -> Result<Value, ToolError> {
        let answer = self.inner.read(parse_input(input)?, context).await?;
        serde_json::to_value(answer)
            .map_err(|error| ToolError::Broken { why: format!("its answer is not JSON: {error}") })
    }
}
