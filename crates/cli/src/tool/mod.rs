//! `quell tool`: the diagnostic agent's read-only tools, over its A2A skill `tool`.

mod agent;

use std::fs::File;
use std::io::{self, Read};

use serde_json::{Value, json};

use crate::args::{ToolCommand, ToolOptions};
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::output::{Look, Stream, Table, shorten};
use crate::view::{list, text};
use agent::DiagnosticAgent;

/// An input at the most, in bytes.
const INPUT_BYTES_MAX: u64 = 1 << 20;
const DESCRIPTION_CHARACTERS_MAX: usize = 100;

pub(crate) async fn run(context: &mut Context<'_>, options: ToolOptions, command: ToolCommand) -> Result<()> {
    let agent = DiagnosticAgent::at(&options.agent, context.global.token.clone(), options.timeout)?;
    match command {
        ToolCommand::List => {
            let tools = agent.ask("tools", None).await?;
            let tools = tools.get("tools").cloned().unwrap_or_else(|| json!([]));
            if context.output.is_json() {
                return Ok(context.output.json(&tools)?);
            }
            let mut table = Table::new(&["NAME", "WANTS", "DESCRIPTION"]);
            for tool in list(&tools, "") {
                let description = shorten(text(tool, "/description"), DESCRIPTION_CHARACTERS_MAX);
                table.row(Look::Plain, vec![text(tool, "/name").to_owned(), wants(tool), description]);
            }
            Ok(context.output.page(Stream::Out, &table.page())?)
        }
        ToolCommand::Call { name, input } => {
            let answer = agent.ask("answer", Some((&name, read_input(&input)?))).await?;
            // An answer is a document; a table could not hold it.
            Ok(context.output.json(&answer)?)
        }
    }
}

/// The names of the fields of a tool's input, those that may be left out in brackets.
fn wants(tool: &Value) -> String {
    let required: Vec<&str> = list(tool, "/inputSchema/required").iter().filter_map(Value::as_str).collect();
    let fields = tool.pointer("/inputSchema/properties").and_then(Value::as_object);
    let names = fields.into_iter().flatten().map(|(name, _)| match required.contains(&name.as_str()) {
        true => name.clone(),
        false => format!("[{name}]"),
    });
    names.collect::<Vec<_>>().join(" ")
}

fn read_input(given: &str) -> Result<Value> {
    let text = match given.strip_prefix('@') {
        Some(path) => {
            let failed = |error: io::Error| {
                Failure::usage(format!("the input file {path} cannot be read: {error}"))
                    .next("name a file with JSON after @")
            };
            read(File::open(path).map_err(failed)?).map_err(failed)?
        }
        None if given == "-" => read(io::stdin().lock())
            .map_err(|error| Failure::usage(format!("standard input cannot be read: {error}")))?,
        None => given.to_owned(),
    };
    if text.len() as u64 > INPUT_BYTES_MAX {
        return Err(Failure::usage(format!("the input is larger than {INPUT_BYTES_MAX} bytes")));
    }
    match serde_json::from_str(&text) {
        Ok(Value::Object(fields)) => Ok(Value::Object(fields)),
        Ok(_) => Err(Failure::usage("the input is JSON, but not an object")
            .next("write it like {\"name\": \"value\"}")),
        Err(error) => Err(Failure::usage(format!("the input is not JSON: {error}"))
            .next("in a shell, put it between single quotes: --input '{\"name\": \"value\"}'")),
    }
}

fn read(from: impl Read) -> io::Result<String> {
    let mut text = String::new();
    from.take(INPUT_BYTES_MAX + 1).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_objects() {
        assert_eq!(read_input("{\"a\": 1}").unwrap(), json!({"a": 1}));
        for wrong in ["", "5", "[]", "{", "@/nowhere/input.json"] {
            assert!(read_input(wrong).is_err(), "{wrong}");
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("input.json");
        std::fs::write(&path, "{\"b\": 2}").unwrap();
        assert_eq!(read_input(&format!("@{}", path.display())).unwrap(), json!({"b": 2}));
        std::fs::write(&path, " ".repeat((1 << 20) + 1)).unwrap();
        assert!(read_input(&format!("@{}", path.display())).is_err());
    }

    #[test]
    fn what_a_tool_wants_is_shown_in_short() {
        let schema = json!({"required": ["from"], "properties": {"from": {}, "service": {}}});
        assert_eq!(wants(&json!({"inputSchema": schema})), "from [service]");
        assert_eq!(wants(&json!({"inputSchema": {"type": "object"}})), "");
    }
}
