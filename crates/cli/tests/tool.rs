//! `quell tool` against an agent with the skill `tool`.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::process::{Output, Stdio};
use std::sync::Arc;

use async_trait::async_trait;
use quell_a2a::{
    A2aError, Access, AgentCapabilities, AgentCard, AgentInterface, AgentSkill, Caller, Message, Outcome,
    ServerOptions, Skill, SkillError, TaskManager, TaskOptions, Work,
};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

/// Two tools: one that echoes, and one that fails.
struct Tools;

#[async_trait]
impl Skill for Tools {
    fn id(&self) -> &str {
        "tool"
    }

    fn check(&self, message: &Message) -> Result<(), A2aError> {
        let data = message.data().cloned().unwrap_or_default();
        assert_eq!(data["schema"], "quell/tool-call/v1");
        match data["tool"].as_str() {
            None | Some("echo" | "broken") => Ok(()),
            Some(_) => {
                Err(A2aError::invalid("parts[0].data.tool", "there is no such tool; there are broken, echo"))
            }
        }
    }

    async fn run(&self, work: Work) -> Result<Outcome, SkillError> {
        let data = work.data().cloned().unwrap_or_default();
        match data["tool"].as_str() {
            Some("echo") => Ok(Outcome::data("answer", data["input"].clone())),
            Some(_) => Err(SkillError::failed("broken: cannot reach the target: connection refused")),
            None => {
                let schema =
                    json!({"type": "object", "required": ["text"], "properties": {"text": {}, "times": {}}});
                let tool = |name: &str| json!({"name": name, "description": "Says it again.\u{1b}[31m", "inputSchema": schema});
                Ok(Outcome::data("tools", json!({"tools": [tool("broken"), tool("echo")]})))
            }
        }
    }
}

async fn agent() -> String {
    let now = || jiff::Timestamp::from_second(1_800_000_000).unwrap();
    let options = TaskOptions::new(|| uuid::Uuid::now_v7().to_string(), now);
    let manager = TaskManager::new(vec![Arc::new(Tools)], options).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mode = vec!["application/json".to_owned()];
    let skill = AgentSkill {
        id: "tool".to_owned(),
        name: "Call a tool".to_owned(),
        description: "Calls a tool.".to_owned(),
        tags: vec!["tools".to_owned()],
        ..AgentSkill::default()
    };
    let card = AgentCard {
        name: "agent".to_owned(),
        description: "An agent.".to_owned(),
        supported_interfaces: vec![AgentInterface::grpc(address.to_string())],
        version: "1".to_owned(),
        capabilities: AgentCapabilities { streaming: Some(true), ..AgentCapabilities::default() },
        default_input_modes: mode.clone(),
        default_output_modes: mode,
        skills: vec![skill],
        ..AgentCard::default()
    };
    let server = ServerOptions::new(Access::Loopback(Caller::local()), now());
    let router = quell_a2a::router(Arc::new(manager), card, server).unwrap();
    tokio::spawn(quell_service::serve(listener, router, std::future::pending()));
    address.to_string()
}

async fn quell(agent: &str, arguments: &[&str], input: &str) -> Output {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_quell"));
    command.arg("tool").args(arguments).args(["--agent", agent]).env_clear();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).await.unwrap();
    child.wait_with_output().await.unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn error(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn tools_are_listed_by_what_they_want() {
    let agent = agent().await;
    let listed = quell(&agent, &["list"], "").await;
    assert_eq!(
        out(&listed),
        "NAME    WANTS         DESCRIPTION\nbroken  text [times]  Says it again.[31m\necho    text [times]  Says it again.[31m\n"
    );
    let listed = quell(&agent, &["list", "-o", "json"], "").await;
    let tools: Value = serde_json::from_str(&out(&listed)).unwrap();
    assert_eq!((tools.as_array().unwrap().len(), &tools[1]["name"]), (2, &json!("echo")));
}

#[tokio::test(flavor = "multi_thread")]
async fn inputs_come_from_the_command_a_file_or_a_pipe() {
    let agent = agent().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("input.json");
    std::fs::write(&path, "{\"text\": \"of a file\"}").unwrap();
    let file = format!("@{}", path.display());
    for (input, piped, expected) in [
        ("{\"text\": \"typed\"}", "", json!({"text": "typed"})),
        (file.as_str(), "", json!({"text": "of a file"})),
        ("-", "{\"text\": \"piped\"}", json!({"text": "piped"})),
    ] {
        let answer = quell(&agent, &["call", "echo", "--input", input], piped).await;
        assert_eq!(serde_json::from_str::<Value>(&out(&answer)).unwrap(), expected, "{}", error(&answer));
        assert!(answer.status.success());
    }
    let answer = quell(&agent, &["call", "echo"], "").await;
    assert_eq!(out(&answer), "{}\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_say_what_to_do() {
    let agent = agent().await;
    for (arguments, code, says) in [
        (
            vec!["call", "other"],
            2,
            "error: tool: there is no such tool; there are broken, echo\n  quell tool list shows",
        ),
        (vec!["call", "broken"], 1, "error: broken: cannot reach the target: connection refused"),
        (vec!["call", "echo", "--input", "{text: 1}"], 2, "error: the input is not JSON"),
        (vec!["call", "echo", "--input", "[]"], 2, "error: the input is JSON, but not an object"),
        (
            vec!["call", "echo", "--input", "@/nowhere/x"],
            2,
            "error: the input file /nowhere/x cannot be read",
        ),
    ] {
        let output = quell(&agent, &arguments, "").await;
        assert_eq!(output.status.code(), Some(code), "{}", error(&output));
        assert!(error(&output).starts_with(says), "{}", error(&output));
    }
    let gone = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().to_string()
    };
    let output = quell(&gone, &["list"], "").await;
    assert_eq!(output.status.code(), Some(1));
    assert!(
        error(&output).contains("cannot be reached") && error(&output).contains("--agent"),
        "{}",
        error(&output)
    );
    let output = quell("https://a", &["list"], "").await;
    assert_eq!(output.status.code(), Some(2), "{}", error(&output));
}

/// An address may have a password or a token in it, and errors are pasted into tickets.
#[tokio::test(flavor = "multi_thread")]
async fn errors_do_not_show_what_is_secret_in_the_agent_s_address() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = listener.local_addr().unwrap().to_string();
    drop(listener);
    for (address, shown) in [
        (format!("http://a:ASECRET@{gone}"), format!("http://***@{gone}")),
        (format!("http://a:ASECRET@{gone}/?token=QSECRET"), format!("http://***@{gone}/?token=***")),
        (format!("a:ASECRET@{gone}"), format!("***@{gone}")),
        (format!("https://a:ASECRET@{gone}/?token=QSECRET"), gone.clone()),
        ("http://a:ASECRET@:x/?token=QSECRET".to_owned(), String::new()),
    ] {
        let output = quell(&address, &["list"], "").await;
        assert!(!output.status.success(), "{address}");
        let told = error(&output) + &out(&output);
        assert!(told.contains(&shown) && !told.contains("SECRET"), "{address}: {told}");
    }
}
