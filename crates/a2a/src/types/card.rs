//! The agent card: its JSON is the protocol's own, with required fields present even when they are empty.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Metadata, SecurityRequirement, SecurityScheme};

/// The `protocol_binding` of an interface that speaks gRPC.
pub const GRPC_BINDING: &str = "GRPC";

/// What an agent is, can do, and asks of its callers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentCard {
    /// For people.
    #[serde(default)]
    pub name: String,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// Where and how the agent is reached, the preferred one first.
    #[serde(default)]
    pub supported_interfaces: Vec<AgentInterface>,
    /// Who runs the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<AgentProvider>,
    /// The agent's own version.
    #[serde(default)]
    pub version: String,
    /// Where its documentation is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub documentation_url: Option<String>,
    /// The optional parts of the protocol that it has.
    #[serde(default)]
    pub capabilities: AgentCapabilities,
    /// Ways to show who one is, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub security_schemes: BTreeMap<String, SecurityScheme>,
    /// One of these has to be met; empty asks for nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub security_requirements: Vec<SecurityRequirement>,
    /// MIME types that every skill reads unless it says otherwise.
    #[serde(default)]
    pub default_input_modes: Vec<String>,
    /// MIME types that every skill writes unless it says otherwise.
    #[serde(default)]
    pub default_output_modes: Vec<String>,
    /// What it is good at.
    #[serde(default)]
    pub skills: Vec<AgentSkill>,
    /// Detached signatures over the card.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signatures: Vec<AgentCardSignature>,
    /// Where its icon is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icon_url: Option<String>,
}

impl AgentCard {
    /// The first interface of the gRPC binding that speaks version 1.0.
    #[must_use]
    pub fn grpc_interface(&self) -> Option<&AgentInterface> {
        self.supported_interfaces.iter().find(|interface| {
            interface.protocol_binding == GRPC_BINDING
                && interface.protocol_version == crate::PROTOCOL_VERSION
        })
    }

    /// True when the agent has a skill of that id.
    #[must_use]
    pub fn has_skill(&self, skill_id: &str) -> bool {
        self.skills.iter().any(|skill| skill.id == skill_id)
    }

    /// The required fields that are missing, in the card's own spelling; empty for a card fit to be
    /// published.
    #[must_use]
    pub fn missing_fields(&self) -> Vec<String> {
        let mut missing = Vec::new();
        let mut need = |present: bool, field: &str| {
            if !present {
                missing.push(field.to_owned());
            }
        };
        need(!self.name.is_empty(), "name");
        need(!self.description.is_empty(), "description");
        need(!self.version.is_empty(), "version");
        need(!self.supported_interfaces.is_empty(), "supportedInterfaces");
        need(!self.default_input_modes.is_empty(), "defaultInputModes");
        need(!self.default_output_modes.is_empty(), "defaultOutputModes");
        need(!self.skills.is_empty(), "skills");
        for (index, interface) in self.supported_interfaces.iter().enumerate() {
            need(!interface.url.is_empty(), &format!("supportedInterfaces[{index}].url"));
            need(
                !interface.protocol_binding.is_empty(),
                &format!("supportedInterfaces[{index}].protocolBinding"),
            );
            need(
                !interface.protocol_version.is_empty(),
                &format!("supportedInterfaces[{index}].protocolVersion"),
            );
        }
        for (index, skill) in self.skills.iter().enumerate() {
            need(!skill.id.is_empty(), &format!("skills[{index}].id"));
            need(!skill.name.is_empty(), &format!("skills[{index}].name"));
            need(!skill.description.is_empty(), &format!("skills[{index}].description"));
            need(!skill.tags.is_empty(), &format!("skills[{index}].tags"));
        }
        missing
    }
}

/// One address and protocol under which the agent can be reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentInterface {
    /// For gRPC `host:port` without a scheme.
    #[serde(default)]
    pub url: String,
    /// [`GRPC_BINDING`], `JSONRPC`, `HTTP+JSON`, or a URI of one's own.
    #[serde(default)]
    pub protocol_binding: String,
    /// What callers put into their requests' tenant; empty for nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tenant: String,
    /// Major.Minor.
    #[serde(default)]
    pub protocol_version: String,
}

impl AgentInterface {
    /// A gRPC interface of version 1.0 at `host:port`.
    pub fn grpc(host_port: impl Into<String>) -> Self {
        Self {
            url: host_port.into(),
            protocol_binding: GRPC_BINDING.to_owned(),
            tenant: String::new(),
            protocol_version: crate::PROTOCOL_VERSION.to_owned(),
        }
    }
}

/// Who runs the agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentProvider {
    /// Their site.
    #[serde(default)]
    pub url: String,
    /// Their name.
    #[serde(default)]
    pub organization: String,
}

/// The optional parts of the protocol that an agent has; `None` is the same as no.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentCapabilities {
    /// Both streaming calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub streaming: Option<bool>,
    /// The four calls about push notifications.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub push_notifications: Option<bool>,
    /// Extensions of the protocol.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extensions: Vec<AgentExtension>,
    /// A further card behind authentication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extended_agent_card: Option<bool>,
}

/// An extension of the protocol.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentExtension {
    /// Its name.
    #[serde(default)]
    pub uri: String,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Callers that do not name it are refused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
    /// Its settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub params: Option<Metadata>,
}

/// One thing that an agent is good at.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentSkill {
    /// What callers put into their message's `skill`.
    #[serde(default)]
    pub id: String,
    /// For people.
    #[serde(default)]
    pub name: String,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// For searching.
    #[serde(default)]
    pub tags: Vec<String>,
    /// For people.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub examples: Vec<String>,
    /// MIME types it reads, in place of the card's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub input_modes: Vec<String>,
    /// MIME types it writes, in place of the card's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub output_modes: Vec<String>,
    /// What this skill asks for beyond the card.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub security_requirements: Vec<SecurityRequirement>,
}

/// A detached JWS over the canonical card; this crate carries it and does not check it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentCardSignature {
    /// The protected header, base64url.
    #[serde(default)]
    pub protected: String,
    /// The signature, base64url.
    #[serde(default)]
    pub signature: String,
    /// The unprotected header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<Metadata>,
}
