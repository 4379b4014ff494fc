//! What the agent says of itself.

use std::net::SocketAddr;

use quell_a2a::{
    AgentCapabilities, AgentCard, AgentExtension, AgentInterface, AgentSkill, SecurityRequirement,
    SecurityScheme,
};
use quell_incident::plan::AgentIdentity;
use serde_json::json;

/// The extension by which the agent says that it keeps a ledger, and which.
pub const LEDGER_EXTENSION: &str = "urn:quell:ledger:v1";

const SKILLS: [(&str, &str, &str); 6] = [
    ("plan", "Plan", "Turns a report into a plan: a runbook's steps, each with its dry run and its undo."),
    ("execute", "Execute", "Carries out one step of a plan that this agent made, once per key."),
    ("undo", "Undo", "Carries out the inverse of one step, once per key."),
    ("probe", "Probe", "Says what became of a step; a key that was never seen is sealed."),
    ("verify", "Verify", "Reads the checks of a plan from metrics."),
    ("introduce", "Introduce", "Says whether the permits of a coordinator with this key count here."),
];

pub(crate) fn card(address: SocketAddr, identity: &AgentIdentity, tokens_required: bool) -> AgentCard {
    let json_mode = vec!["application/json".to_owned()];
    let ledger = AgentExtension {
        uri: LEDGER_EXTENSION.to_owned(),
        description: "keeps a durable ledger of step keys: each is begun once".to_owned(),
        required: false,
        params: json!({"instance": identity.instance, "ledger": identity.ledger}).as_object().cloned(),
    };
    let skills = SKILLS.into_iter().map(|(id, name, description)| AgentSkill {
        id: id.to_owned(),
        name: name.to_owned(),
        description: description.to_owned(),
        tags: vec!["remediation".to_owned(), id.to_owned()],
        ..AgentSkill::default()
    });
    let mut card = AgentCard {
        name: "quell-resolution".to_owned(),
        description: "Quell's resolution agent: plans, executes, undoes and verifies remediation.".to_owned(),
        supported_interfaces: vec![AgentInterface::grpc(address.to_string())],
        version: env!("CARGO_PKG_VERSION").to_owned(),
        capabilities: AgentCapabilities {
            streaming: Some(true),
            extensions: vec![ledger],
            ..AgentCapabilities::default()
        },
        default_input_modes: json_mode.clone(),
        default_output_modes: json_mode,
        skills: skills.collect(),
        ..AgentCard::default()
    };
    if tokens_required {
        let scheme = SecurityScheme::bearer("a token of the configuration with the scope `agent`");
        card.security_schemes.insert("bearer".to_owned(), scheme);
        card.security_requirements.push(SecurityRequirement::scheme("bearer"));
    }
    card
}
