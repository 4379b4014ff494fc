//! The protocol's data in plain Rust: no generated type shows here, and data is [`serde_json::Value`].

mod call;
mod card;
mod security;
mod task;
mod weight;

pub use call::{ListTasks, SendConfiguration, SendReply, SendRequest, StreamEvent, TaskPage};
pub use card::{
    AgentCapabilities, AgentCard, AgentCardSignature, AgentExtension, AgentInterface, AgentProvider,
    AgentSkill, GRPC_BINDING,
};
pub use security::{
    ApiKeySecurityScheme, AuthorizationCodeOAuthFlow, ClientCredentialsOAuthFlow, DeviceCodeOAuthFlow,
    HttpAuthSecurityScheme, LegacyOAuthFlow, MutualTlsSecurityScheme, OAuth2SecurityScheme, OAuthFlows,
    OpenIdConnectSecurityScheme, SecurityRequirement, SecurityScheme, StringList,
};
pub use task::{Artifact, Message, Part, PartContent, Role, Task, TaskState, TaskStatus};

/// A JSON object, as the protocol's `metadata` fields hold it.
pub type Metadata = serde_json::Map<String, serde_json::Value>;
