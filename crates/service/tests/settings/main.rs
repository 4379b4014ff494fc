//! The reference of all settings and the schema of the configuration file: that they say what the code does.

#![allow(clippy::unwrap_used, reason = "a test may panic; the exemption does not reach its helpers")]

mod fit;
mod reference;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use quell_service::config::{VARIABLES, schema};
use quell_service::{Config, Environment, Loading};
use serde_json::Value;

use fit::fits;
use reference::{Reference, yaml};

fn schema_value() -> Value {
    schema().to_value()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn load(text: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
    let loading =
        Loading { daemon: None, file: None, environment: Environment::of(variables.iter().copied()) };
    loading.load_text(text, |_| ()).map_err(|error| error.to_string())
}

fn default() -> Value {
    serde_json::to_value(Config::default()).unwrap()
}

#[test]
fn settings_reference() {
    const REWRITE: &str = "INSTA_UPDATE=always cargo test -p quell-service --test settings";
    let written = Reference::new(&schema_value(), &default()).render();
    let file = root().join("docs/settings.md");
    // The variable that also rewrites the snapshots.
    if matches!(Environment::of_process().get("INSTA_UPDATE"), Some("always" | "force")) {
        std::fs::write(&file, &written).unwrap();
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    let differs =
        written.lines().zip(found.lines().chain(std::iter::repeat(""))).find(|(new, old)| new != old);
    assert!(
        written == found,
        "docs/settings.md does not say what the code says; write it anew with\n  {REWRITE}\nThe first line that differs: {differs:#?}"
    );
}

#[test]
fn every_default_stands_as_it_would_in_the_file() {
    let (schema, default) = (schema_value(), default());
    let mut checked = 0;
    for setting in Reference::new(&schema, &default).settings() {
        if setting.path.contains("[]") || setting.default.as_ref().is_none_or(Value::is_null) {
            continue;
        }
        let written = yaml(setting.default.as_ref().unwrap());
        let names: Vec<_> = setting.path.split('.').collect();
        let text =
            format!("{}{}", names.iter().map(|name| format!("{{{name}: ")).collect::<String>(), written)
                + &"}".repeat(names.len());
        assert_eq!(load(&text, &[]).as_ref(), Ok(&Config::default()), "{text}");
        checked += 1;
    }
    assert!(checked > 100, "{checked}");
}

#[test]
fn every_setting_is_said_in_a_sentence() {
    let schema = schema_value();
    let objects: Vec<_> = std::iter::once(&schema)
        .chain(schema["definitions"].as_object().unwrap().values())
        .filter(|object| object.get("properties").is_some())
        .collect();
    assert!(objects.len() > 30, "{}", objects.len());
    for object in objects {
        assert_eq!(object["additionalProperties"], false, "{object:#}");
        for (name, setting) in object["properties"].as_object().unwrap() {
            let said = setting["description"].as_str().unwrap_or_default();
            let bare = |text: &str| {
                let text = text.to_lowercase().replace(['_', '.'], " ");
                text.split_whitespace()
                    .filter(|word| !["a", "an", "the"].contains(word))
                    .map(str::to_owned)
                    .collect::<Vec<_>>()
            };
            assert!(said.split_whitespace().count() > 2 && said.ends_with('.'), "{name}: {said:?}");
            assert_ne!(bare(said), bare(name), "{said:?} says nothing but its name");
            assert!(!said.contains("[`"), "{name}: a link to code leads nowhere: {said}");
        }
    }
}

#[test]
fn variables_set_what_they_say() {
    fn leaves(value: &Value, path: &str, found: &mut BTreeSet<(String, String)>) {
        match value.as_object().filter(|section| !section.is_empty()) {
            Some(section) => section.iter().for_each(|(name, below)| {
                leaves(below, format!("{path}.{name}").trim_start_matches('.'), found);
            }),
            None => drop(found.insert((path.to_owned(), value.to_string()))),
        }
    }
    let of = |config: &Config| {
        let mut found = BTreeSet::new();
        leaves(&serde_json::to_value(config).unwrap(), "", &mut found);
        found
    };
    let (schema, default) = (schema_value(), default());
    let reference = Reference::new(&schema, &default);
    let known: BTreeSet<_> = reference.settings().iter().map(|setting| setting.path.as_str()).collect();
    let before = of(&Config::default());
    let values = ["yes", "no", "7000", "127.0.0.9", "127.0.0.1:7001", "http://elsewhere:7002", "observe"];
    for variable in VARIABLES {
        let changed = values.iter().find_map(|value| {
            let after = of(&load("", &[(variable.name, value)]).ok()?);
            let paths: BTreeSet<_> = after.difference(&before).map(|(path, _)| path.clone()).collect();
            (!paths.is_empty()).then_some(paths)
        });
        let said: BTreeSet<_> = variable.settings.iter().map(|path| (*path).to_owned()).collect();
        assert_eq!(changed, Some(said), "{}", variable.name);
        assert!(variable.settings.iter().all(|path| known.contains(path)), "{}", variable.name);
    }
}

#[test]
fn the_schema_takes_the_defaults_and_every_configuration_of_this_repository() {
    let schema = schema_value();
    assert_eq!(fits(&schema, &default()), Ok(()));
    assert!(!schema.to_string().contains(quell_service::config::HIDDEN));
    let mut taken = Vec::new();
    for folder in ["deploy", "examples"] {
        for entry in walk(&root().join(folder)) {
            if !entry.extension().is_some_and(|kind| kind == "yaml" || kind == "yml") {
                continue;
            }
            let Ok(document) = serde_saphyr::from_str::<Value>(&std::fs::read_to_string(&entry).unwrap())
            else {
                continue;
            };
            let keys = document.as_object().into_iter().flatten().map(|(key, _)| key);
            // A configuration is what has a section of one, also with a slip of the pen beside it.
            if keys.into_iter().any(|key| schema["properties"].get(key).is_some()) {
                assert_eq!(fits(&schema, &document), Ok(()), "{}", entry.display());
                taken.push(entry.strip_prefix(root()).unwrap().display().to_string());
            }
        }
    }
    taken.sort();
    assert_eq!(taken, ["deploy/quell.yaml", "examples/quell.yaml"]);
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[test]
fn the_schema_takes_whatever_the_reader_takes() {
    let schema = schema_value();
    let variables = [("N", "4096"), ("T", "true"), ("A", "auto"), ("U", "http://u")];
    let both = |text: &str| {
        let document: Value = serde_saphyr::from_str(text).unwrap();
        (load(text, &variables), fits(&schema, &document))
    };
    for text in [
        "coordinator:",
        "coordinator: {workflow: }",
        "infrastructure: {logging: ~}",
        "tenant: 5",
        "tenant: true",
        "simulator: {token: 12345678}",
        "simulator: {token: ''}",
        "simulator: {token: ~}",
        "simulator: {url: ' HTTP://h '}",
        "simulator: {url: '${U}'}",
        "simulator: {url: '${NONE:-http://h}/x'}",
        "ticketing: {jira: {url: ''}}",
        "ticketing: {jira: {url: ~}}",
        "ticketing: {jira: {username: 1000}}",
        "coordinator: {body_bytes_max: '4096'}",
        "coordinator: {body_bytes_max: 4_096}",
        "coordinator: {body_bytes_max: '${N}'}",
        "use_real_data: 'false'",
        "use_real_data: FALSE",
        "use_real_data: '${T}'",
        "coordinator: {autonomy: '${A}'}",
        "coordinator: {workflow: {settle: 5}}",
        "coordinator: {workflow: {settle: 0.5}}",
        "coordinator: {workflow: {settle: ' 5m '}}",
        "coordinator: {workflow: {settle: 5 minutes}}",
        "coordinator: {workflow: {confidence_min: 1}}",
        "coordinator: {workflow: {confidence_min: '.5'}}",
        "coordinator: {correlation: {rules: [{name: a, labels: [b], window: 300}]}}",
        "coordinator: {correlation: {rules: [{name: a, labels: [b], window: ''}]}}",
        "coordinator: {correlation: {rules: [{name: a, labels: [1, true]}]}}",
        "coordinator: {maintenance: [{name: a, schedule: ~, matchers: {a: 5, b: true}}]}",
        "coordinator: {maintenance: [{name: a, starts_at: 5, ends_at: '', matchers: ~}]}",
        "coordinator: {maintenance: [{name: a, schedule: {time: 22:00, duration: 3600, zone: UTC, weekdays: [monday]}}]}",
        "coordinator: {allowed_hosts: [a, 5, ' A.example. ']}",
        "coordinator: {allowed_hosts: ~}",
        "coordinator: {listen: 'localhost:5000', grpc_listen: ' [::1]:5001 '}",
        "coordinator: {tokens: [{name: a, token: 12345678, scopes: [read, agent]}]}",
        "diagnostic: {sources: {logs: ~, metrics: configured}, log_files: [5, '']}",
        "diagnostic: {depends_on: {a: ~, 5: [a]}}",
        "diagnostic: {health_checks: [{name: a, url: http://a, expected_status: '200', timeout: 3}]}",
        "resolution: {allowed_targets: ~, data_dir: 5}",
        "resolution: {allowed_targets: [5]}",
        "infrastructure: {logging: {time_zone: 5, loki: {fields: {time: ~}}}}",
    ] {
        let (read, fit) = both(text);
        assert!(read.is_ok() && fit.is_ok(), "{text}: read {:?}, schema {fit:?}", read.err());
    }
    for text in [
        "- a",
        "tenat: a",
        "tenant: ~",
        "coordinator: []",
        "coordinator: {listn: 127.0.0.1:1}",
        "coordinator: {listen: '5000'}",
        "coordinator: {autonomy: full}",
        "coordinator: {autonomy: ~}",
        "coordinator: {workflow: {settle: soon}}",
        "coordinator: {workflow: {settle: true}}",
        "coordinator: {workflow: {settle: -5}}",
        "coordinator: {body_bytes_max: many}",
        "coordinator: {tokens: [{name: a, tken: b, scopes: []}]}",
        "coordinator: {tokens: [{name: a, token: long-enough}]}",
        "coordinator: {tokens: [{name: a, token: long-enough, scopes: [root]}]}",
        "coordinator: {allowed_hosts: ['a:80']}",
        "coordinator: {maintenance: [{name: a, schedule: {time: 22:00, duration: 1h, zone: UTC, weekdays: [Monday]}}]}",
        "use_real_data: 0",
        "use_real_data: 'no'",
        "simulator: {url: localhost}",
        "simulator: {url: ~}",
        "simulator: {metrics_urls: http://h}",
        "diagnostic: {depends_on: {a: b}}",
        "resolution: {allowed_targets: ''}",
    ] {
        let (read, fit) = both(text);
        assert!(read.is_err() && fit.is_err(), "{text}: read {:?}, schema {fit:?}", read.err());
    }
}
