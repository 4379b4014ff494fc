//! deploy/docker-compose.yml as a document.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{env_example, read, yaml};

/// The services that run a program of this project.
pub(crate) const OWN: [&str; 5] = ["simulator", "coordinator", "diagnostic", "resolution", "quell"];

pub(crate) struct Compose {
    pub(crate) document: Value,
    pub(crate) services: BTreeMap<String, Value>,
}

impl Compose {
    pub(crate) fn read() -> Self {
        let document = yaml(&read("deploy/docker-compose.yml"));
        let services: BTreeMap<_, _> = document["services"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, one)| (name.clone(), one.clone()))
            .collect();
        assert!(services["coordinator"].get("image").is_some(), "merge keys are resolved");
        Self { document, services }
    }
}

/// A file or volume, and where it is inside.
pub(crate) struct Mount {
    pub(crate) source: String,
    pub(crate) target: String,
    pub(crate) read_only: bool,
}

pub(crate) fn mounts(definition: &Value) -> Vec<Mount> {
    words(&definition["volumes"])
        .iter()
        .map(|line| {
            let parts: Vec<_> = line.split(':').collect();
            Mount {
                source: parts[0].to_owned(),
                target: parts[1].to_owned(),
                read_only: parts.get(2) == Some(&"ro"),
            }
        })
        .collect()
}

pub(crate) fn words(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().map(|word| word.as_str().unwrap().to_owned()).collect()
}

/// A container's variables when .env was filled in: every empty one with a text of its own.
pub(crate) fn environment(definition: &Value) -> BTreeMap<String, String> {
    let filled: BTreeMap<_, _> = env_example()
        .into_iter()
        .map(|(name, value)| {
            (name.clone(), if value.is_empty() { format!("filled-in-{name}") } else { value })
        })
        .collect();
    let resolve = |text: &str| match text.strip_prefix("${") {
        Some(rest) => filled[rest.split([':', '}']).next().unwrap()].clone(),
        None => text.to_owned(),
    };
    let variables = definition["environment"].as_object().into_iter().flatten();
    variables.map(|(name, value)| (name.clone(), resolve(value.as_str().unwrap()))).collect()
}
