//! What the agent says of itself.

use std::net::SocketAddr;

use quell_a2a::{
    AgentCapabilities, AgentCard, AgentInterface, AgentSkill, SecurityRequirement, SecurityScheme,
};

use crate::call::TOOL;
use crate::skill::DIAGNOSE;

pub(crate) fn card(address: SocketAddr, tokens_required: bool) -> AgentCard {
    let json_mode = vec!["application/json".to_owned()];
    let skill = AgentSkill {
        id: DIAGNOSE.to_owned(),
        name: "Diagnose".to_owned(),
        description: "Looks at metrics and logs around an incident and names its cause with the evidence, or says that it does not \
                      know. One data part `quell/diagnose/v1` in, one `quell/report/v1` out."
            .to_owned(),
        tags: vec!["diagnosis".to_owned(), "root-cause".to_owned()],
        ..AgentSkill::default()
    };
    let tool = AgentSkill {
        id: TOOL.to_owned(),
        name: "Call a tool".to_owned(),
        description: "Calls one of the agent's read-only tools. One data part `quell/tool-call/v1` in, with `tool` and its `input`; the \
                      tool's answer out. Without `tool`: the tools that there are, with their schemas."
            .to_owned(),
        tags: vec!["tools".to_owned()],
        ..AgentSkill::default()
    };
    let mut card = AgentCard {
        name: "quell-diagnostic".to_owned(),
        description: "Quell's diagnostic agent: reads telemetry, changes nothing, ranks root causes."
            .to_owned(),
        supported_interfaces: vec![AgentInterface::grpc(address.to_string())],
        version: env!("CARGO_PKG_VERSION").to_owned(),
        capabilities: AgentCapabilities { streaming: Some(true), ..AgentCapabilities::default() },
        default_input_modes: json_mode.clone(),
        default_output_modes: json_mode,
        skills: vec![skill, tool],
        ..AgentCard::default()
    };
    if tokens_required {
        let scheme = SecurityScheme::bearer("a token of the configuration with the scope `agent`");
        card.security_schemes.insert("bearer".to_owned(), scheme);
        card.security_requirements.push(SecurityRequirement::scheme("bearer"));
    }
    card
}
